"""Fuzz one target, guided by coverage, until it fails or has run often enough.

    python -m tests.fuzz ris -runs=100000 -max_len=4096

Options after the target are libFuzzer's. What the run learns is kept in the folder that is given
as a further argument; the seeds in tests/fuzz/corpus are only read. A failing input is written to
the working directory as failed-TARGET, and belongs into the corpus once it is mended.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import atheris


def main() -> None:
    """Run libFuzzer over the target that the first argument names."""
    with atheris.instrument_imports(include=["studytag"]):
        from tests.fuzz.targets import CORPUS, TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [libFuzzer's options]")
    logging.disable(logging.CRITICAL)  # warnings about every input would drown libFuzzer's lines
    name, options = sys.argv[1], sys.argv[2:]
    folders = [option for option in options if not option.startswith("-")]
    # libFuzzer writes what it finds to the first folder.
    found = [] if folders else [tempfile.mkdtemp(prefix=f"studytag-fuzz-{name}-")]
    limits = ["-timeout=5", "-rss_limit_mb=2048"]
    target = partial(_note_failure, name, TARGETS[name])
    atheris.Setup([sys.argv[0], *limits, *options, *found, str(CORPUS / name)], target)
    atheris.Fuzz()


def _note_failure(name: str, target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target; libFuzzer's own copy of a failing input is lost where threads are at work."""
    try:
        target(data)
    except BaseException:
        Path(f"failed-{name}").write_bytes(data)
        raise


if __name__ == "__main__":
    main()
