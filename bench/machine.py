"""What a measurement was made on."""

from __future__ import annotations

import platform
from pathlib import Path


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
    flags = lines.get("flags", "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{lines.get('model name', platform.machine())} ({', '.join(known)})"
