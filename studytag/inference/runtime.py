"""What the machine offers, and onnxruntime set up for it: one core for each document."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Collection
from pathlib import Path

import onnxruntime as ort

INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Processor flags (x86 twice, then ARM) of instructions that multiply and add int8 in one go.
Without them an int8 graph gains little over float32."""

FUSIONS_OFF = ["SkipLayerNormFusion"]
"""onnxruntime 1.32 runs its fused skip + layer norm slower than the two on their own: on 6 layers
of 384 at 300 tokens, turning it off took int8 from 38 to 35 ms, float32 from 64 to 62."""

FILES = Path("/")
"""Where /proc and /sys are looked for."""


def available_cores(files: Path = FILES) -> int:
    """Cores this process may keep busy: its CPU affinity, within its container's quota.

    A quota of one and a half cores counts as two, so that it can be used up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min(cores or 1, _quota(files))))


def _quota(files: Path) -> float:
    """The smallest CPU quota of this process's control groups, in cores; infinite without one."""
    root = files / "sys/fs/cgroup"
    folders = {root, root / "cpu"}
    for line in _read(files / "proc/self/cgroup").splitlines():
        own = Path(line.split(":", 2)[-1].lstrip("/"))
        folders |= {base / part for base in (root, root / "cpu") for part in (own, *own.parents)}
    quotas = [math.inf]
    for folder in folders:
        entries = _read(folder / "cpu.max").split() or [  # version 2, else version 1
            *_read(folder / "cpu.cfs_quota_us").split(),
            *_read(folder / "cpu.cfs_period_us").split(),
        ]
        if len(entries) == 2 and entries[0].isdigit():  # "max" and -1 mean unlimited
            quotas.append(int(entries[0]) / int(entries[1]))
    return min(quotas)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def has_fast_int8(files: Path = FILES) -> bool:
    """Whether the processor is known to have instructions for int8 products (VNNI, dotprod)."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"  # every Apple silicon has dotprod
    for line in _read(files / "proc/cpuinfo").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not INT8_FLAGS.isdisjoint(flags.split())
    return False


def choose_variant(offered: Collection[str], fast_int8: bool) -> tuple[str, str]:
    """What `variant="auto"` means here: the variant's name, and why.

    Args:
        offered: Variants of the bundle, at least one.
        fast_int8: Whether int8 pays on this processor.
    """
    if "quantized" not in offered:
        return next(iter(offered)), "the bundle has no quantized variant"
    if fast_int8 or "fp32" not in offered:
        return "quantized", "the processor has int8 instructions (VNNI or dotprod)"
    return "fp32", "the processor has no int8 instructions (VNNI or dotprod)"


def open_session(graph: Path, threads: int = 1) -> ort.InferenceSession:
    """Load a graph so that each run keeps to `threads` threads, the calling one among them.

    Many documents are done soonest side by side, each on its own core (1.2 times as fast on two
    cores, bench/inference.py); a single one is done sooner by several. The arena is kept, because
    its blocks are used again whatever their shape. Memory patterns are not: one would be stored for
    each length ever seen, up to `max_length` of them (after 100 documents of 20 to 512 tokens the
    process held 170 MB with them, 135 MB without, at equal speed).
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors, which are raised besides
    return ort.InferenceSession(
        str(graph),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=FUSIONS_OFF,
    )
