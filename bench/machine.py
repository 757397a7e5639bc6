"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from studytag.inference.runtime import available_cores


def processor_flags() -> set[str]:
    """The processor's flags, where Linux tells."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def describe_machine() -> str:
    """The processor's name, and the instructions that decide int8 speed, if it tells."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return platform.processor() or platform.machine()
    lines = dict(
        (part.strip() for part in line.split(":", 1))
        for line in listing.read_text().splitlines()
        if ":" in line
    )
    flags = processor_flags()
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{lines.get('model name', platform.machine())} ({', '.join(known)})"


def run_command(*command: str, cores: set[int] | None = None) -> None:
    """Run a command, on these cores only; CalledProcessError if it fails."""
    bound = None if cores is None else lambda: os.sched_setaffinity(0, cores)
    subprocess.run(command, check=True, preexec_fn=bound)


def on_own_cores(tasks: Sequence[Callable[[set[int]], None]], at_once: int) -> None:
    """Do the tasks, so many at once, each given a share of the cores that no other has meanwhile.

    Two trainings on a core each get more done than one after the other on both: nobody waits.
    """
    free: SimpleQueue[set[int]] = SimpleQueue()
    for share in np.array_split(sorted(os.sched_getaffinity(0)), at_once):
        free.put({int(core) for core in share})

    def do(task: Callable[[set[int]], None]) -> None:
        cores = free.get()
        try:
            task(cores)
        finally:
            free.put(cores)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(do, tasks))


def peak_memory() -> float:
    """The largest resident set of this process so far, in MiB (Linux only).

    Not getrusage: its maximum is inherited from the process that started this one.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def gemm_peaks(rows: int = 512, inner: int = 3072, columns: int = 768) -> dict[str, float]:
    """Billions of operations a second of matrix products, one on each core at a time, by PyTorch.

    That is MKL in float32 and oneDNN in int8, in the shape of a feed-forward layer: what the
    processor gives to code that has nothing else to do. An operation is a multiplication or an
    addition; the best of five tries counts.
    """
    import torch

    float32 = torch.randn(rows, inner), torch.randn(inner, columns)
    int8 = tuple((matrix * 50).clamp(-127, 127).to(torch.int8) for matrix in float32)
    products = {"fp32": lambda: torch.mm(*float32), "int8": lambda: torch._int_mm(*int8)}
    cores, threads = available_cores(), torch.get_num_threads()
    peaks = {}
    torch.set_num_threads(1)
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for kind, product in products.items():
            seconds = []
            for _ in range(5):
                started = time.perf_counter()
                for done in [pool.submit(product) for _ in range(4 * cores)]:
                    done.result()
                seconds.append((time.perf_counter() - started) / (4 * cores))
            peaks[kind] = 2 * rows * inner * columns / min(seconds) / 1e9
    torch.set_num_threads(threads)
    return peaks
