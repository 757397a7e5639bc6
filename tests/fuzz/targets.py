"""What is fuzzed: from bytes to nothing, where only a `StudytagError` may come out.

Anything else that is raised is a defect: it would reach a user as a traceback, or end a run over
millions of rows at one bad one.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from studytag.data.labelling import load_rules
from studytag.errors import StudytagError
from studytag.files import open_writer, read_rows
from studytag.files.registry import FORMATS
from studytag.training.config import read_config

Target = Callable[[bytes], None]

ROWS = 50
"""Of a file, at most so many are read, and written again."""

ARTICLE = {
    "title": "A randomised trial in mice",
    "abstract": "We treated mice in vitro.",
    "pub_types": ["Randomized Controlled Trial"],
    "mesh_terms": ["Animals", "Cells", "Cultured"],
    "year": 2020,
}

_MEMORY = Path("/dev/shm")
_folder = Path(tempfile.mkdtemp(prefix="studytag-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


def _read(name: str, format: str | None, data: bytes) -> None:
    """Read a file, and write what was read in three formats."""
    path = _folder / name
    path.write_bytes(data)
    try:
        rows = list(islice(read_rows(path, format=format), ROWS))
    except StudytagError:
        return
    for format_suffix in (".jsonl", ".csv", ".ris"):
        output = _folder / f"output{format_suffix}"
        try:
            with open_writer(output) as writer:
                for row in rows:
                    writer.write(row)
        except StudytagError:
            output.unlink(missing_ok=True)


def _rules(data: bytes) -> None:
    path = _folder / "rules.yaml"
    path.write_bytes(data)
    try:
        load_rules(path).apply(dict(ARTICLE))
    except StudytagError:
        return


def _options(data: bytes) -> None:
    path = _folder / "options.yaml"
    path.write_bytes(data)
    try:
        read_config(path)
    except StudytagError:
        return


TARGETS: dict[str, Target] = {
    **{name: partial(_read, "input", name) for name in FORMATS},
    "sniffed": partial(_read, "input.txt", None),
    "gzip": partial(_read, "input.csv.gz", None),
    "rules": _rules,
    "options": _options,
}
"""By name. The corpus of a target is the folder of its name in `corpus/`."""
