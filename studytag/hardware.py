"""What the machine offers: cores within the container's quota, int8 instructions."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Processor flags (x86 twice, then ARM) of instructions that multiply and add int8 in one go.
With them int8 is 2.4 times as fast as float32; without, 1.4 to 1.5 times on AMD Zen 3
(docs/results.md)."""

ROOT = Path("/")
"""Where /proc and /sys are looked for."""


def available_cores(root: Path = ROOT) -> int:
    """Cores this process may keep busy: its CPU affinity, within its container's quota.

    A quota of one and a half cores counts as two, so that it can be used up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min(cores or 1, cpu_quota(root))))


def cpu_quota(root: Path = ROOT) -> float:
    """The smallest CPU quota of this process's control groups, in cores; infinite without one."""
    top = root / "sys/fs/cgroup"
    folders = {top, top / "cpu"}
    for line in _read(root / "proc/self/cgroup").splitlines():
        group = Path(line.split(":", 2)[-1].lstrip("/"))
        folders |= {base / part for base in (top, top / "cpu") for part in (group, *group.parents)}
    quotas = [math.inf]
    for folder in folders:
        entries = _read(folder / "cpu.max").split() or [  # version 2, else version 1
            *_read(folder / "cpu.cfs_quota_us").split(),
            *_read(folder / "cpu.cfs_period_us").split(),
        ]
        if len(entries) == 2 and entries[0].isdigit():  # "max" and -1 mean unlimited
            quotas.append(int(entries[0]) / int(entries[1]))
    return min(quotas)


def has_fast_int8(root: Path = ROOT) -> bool | None:
    """Whether the processor has instructions for int8 products (VNNI, dotprod).

    Returns:
        None where the system does not tell (Windows, unusual containers).
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"  # every Apple silicon has dotprod
    flags = processor_flags(root)
    return None if flags is None else not INT8_FLAGS.isdisjoint(flags)


def processor_name(root: Path = ROOT) -> str:
    """What the processor calls itself, which tells neither clock rate nor the number of cores.

    Family and model are part of it on x86: cloud machines give many processors the same name.
    """
    listing: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        listing.setdefault(key.strip(), value.strip())
    name = listing.get("model name") or platform.processor() or platform.machine()
    kind = [f"{key} {listing[key]}" for key in ("cpu family", "model") if key in listing]
    return f"{name} ({', '.join(kind)})" if kind else name


def processor_flags(root: Path = ROOT) -> frozenset[str] | None:
    """The processor's instruction sets as Linux names them; None elsewhere."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(flags.split())
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
