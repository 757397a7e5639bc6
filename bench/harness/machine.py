"""The machine that measures, its rate of matrix products, and contenders that take turns on it."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

from studytag.hardware import available_cores, processor_flags, processor_name

INT8_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
"""Instructions that decide the speed of int8 and bf16."""

SHAPE = (512, 3072, 768)
"""Rows, inner size and columns of the product that is timed: a feed-forward layer's."""


def describe_machine() -> str:
    """The processor's name, and which of `INT8_FLAGS` it has."""
    name = processor_name()
    flags = processor_flags() or frozenset()
    present = [flag for flag in INT8_FLAGS if flag in flags]
    return f"{name} ({', '.join(present)})" if present else name


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bf16: emulated, it is 20 to 50 times slower than float32."""
    return not (processor_flags() or frozenset()).isdisjoint({"avx512_bf16", "amx_bf16"})


def processor_slug() -> str:
    """The processor's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", processor_name().lower()).strip("-")


def occasion() -> dict[str, str]:
    """Date and machine, for raw measurements."""
    return {"date": date.today().isoformat(), "machine": describe_machine()}


def measured_now() -> str:
    """Date and machine in one line."""
    return ", ".join(occasion().values())


def peak_memory() -> float:
    """The largest resident set of this process so far, in MiB (Linux only).

    Not getrusage: its maximum is inherited from the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def installed_size() -> float:
    """Of all packages that this process has imported, on disk, in MiB."""
    imported = {name.partition(".")[0] for name in sys.modules}
    owners = packages_distributions().items()
    names = {owner for package, own in owners if package in imported for owner in own}
    files = [Path(str(file.locate())) for name in names for file in distribution(name).files or ()]
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20


def run_command(*command: str, capture: bool = False) -> str:
    """Run a command in the repository, on the calling thread's cores; its output, if captured."""
    output, folder = subprocess.PIPE if capture else None, Path(__file__).parents[2]
    done = subprocess.run(command, check=True, cwd=folder, stdout=output, text=True)
    return done.stdout or ""


def interleaved(
    tasks: Mapping[str, Callable[[int], object]],
    rounds: int,
    before_round: Callable[[], object] = lambda: None,
    clock: Callable[[], Any] = time.perf_counter,
) -> dict[str, list[Any]]:
    """Seconds by `clock` that each warm task, given the number of the round, takes in each round.

    Their order changes from round to round; `before_round` is not timed.
    """
    order = random.Random(0)
    seconds: dict[str, list[Any]] = {name: [] for name in tasks}
    for number in range(rounds):
        before_round()
        for name in order.sample(list(tasks), len(tasks)):
            started = clock()
            tasks[name](number)
            seconds[name].append(clock() - started)
    return seconds


def product_rates(
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Billions of operations a second of one matrix product on each core, by library.

    No library is the fastest on every processor: MKL's float32 product runs at a quarter of
    OpenBLAS's on AMD, so the best of them is the machine's rate. An operation is a multiplication
    or an addition; the best of five tries counts. By processor time the rate is that of one core.

    Returns:
        `fp32` and `int8`, each by name of the library.
    """
    import torch
    from threadpoolctl import threadpool_limits

    cores, threads = available_cores(), torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):

        def rate(product: Callable[[], object]) -> float:
            def everywhere(_: int) -> None:
                for done in [pool.submit(product) for _ in range(4 * cores)]:
                    done.result()

            (seconds,) = interleaved({"": everywhere}, 5, clock=clock).values()
            return 8.0 * cores * math.prod(SHAPE) / float(min(seconds)) / 1e9

        products = _products(*SHAPE).items()
        rates = {kind: {name: rate(run) for name, run in own.items()} for kind, own in products}
    torch.set_num_threads(threads)
    return rates


def _products(rows: int, inner: int, columns: int) -> dict[str, dict[str, Callable[[], object]]]:
    """One product in each precision and library."""
    import torch

    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    left_array, right_array = left.numpy(), right.numpy()
    products: dict[str, dict[str, Callable[[], object]]] = {
        "fp32": {
            "NumPy": lambda: left_array @ right_array,
            "PyTorch": lambda: torch.mm(left, right),
        },
        "int8": {},
    }
    backends: Any = torch.backends
    if backends.mkldnn.is_available():
        onednn_left, weight = left.to_mkldnn(), right.t().contiguous().to_mkldnn()
        operators: Any = torch._C._nn
        products["fp32"]["oneDNN"] = lambda: operators.mkldnn_linear(onednn_left, weight, None)
    modules: Any = torch.ao.nn.quantized
    names = {"onednn": "oneDNN", "fbgemm": "FBGEMM"}
    for engine in names:
        if engine in backends.quantized.supported_engines:
            backends.quantized.engine = engine
            linear = modules.Linear(inner, columns)
            quantised = torch.quantize_per_tensor(left, 0.02, 64, torch.quint8)
            products["int8"][names[engine]] = partial(linear, quantised)
    return products
