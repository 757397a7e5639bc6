"""Fuzz one target, guided by coverage, until it fails or has run often enough.

    python -m tests.fuzz ris -runs=100000 -max_len=4096

Options after the target are libFuzzer's. What the run learns is kept in the folder that is given
as a further argument; the seeds in tests/fuzz/corpus are only read. A failing input is written to
the working directory, and belongs into the corpus once it is mended.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run libFuzzer over the target that the first argument names."""
    with atheris.instrument_imports(include=["studytag"]):
        from tests.fuzz.targets import TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [libFuzzer's options]")
    name, options = sys.argv[1], sys.argv[2:]
    folders = [option for option in options if not option.startswith("-")]
    # libFuzzer writes what it finds to the first folder.
    found = [] if folders else [tempfile.mkdtemp(prefix=f"studytag-fuzz-{name}-")]
    limits = ["-timeout=5", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, *options, *found, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
