"""What is fuzzed: from bytes to nothing, where only a `StudytagError` may come out.

Anything else that is raised is a defect: it would reach a user as a traceback, or end a run over
millions of rows at one bad one.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache, partial
from itertools import islice
from pathlib import Path
from zlib import crc32

from studytag.data.rule_file import load_rules
from studytag.errors import StudytagError
from studytag.files import open_writer, read_rows
from studytag.files.registry import FORMATS
from studytag.training.config import read_config
from studytag.training.options import parse_config
from tests.fuzz import manifest

Target = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"

SHEET = "xl/worksheets/sheet1.xml"
"""Inside a workbook."""

ROWS = 50
"""Of a file, at most so many are read, and written again."""

WRITTEN = (".jsonl", ".csv", ".ris")

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
    """Read a file, and write what was read in one of three formats: which, its bytes decide."""
    path = _folder / name
    path.write_bytes(data)
    try:
        rows = list(islice(read_rows(path, format=format), ROWS))
    except StudytagError:
        return
    if not rows:
        return
    output = _folder / f"output{WRITTEN[crc32(data) % len(WRITTEN)]}"
    try:
        with open_writer(output) as writer:
            for row in rows:
                writer.write(row)
    except StudytagError:
        output.unlink(missing_ok=True)


def _sheet(data: bytes) -> None:
    """A workbook with this sheet: its checksums would stop bytes that are altered in the whole."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as workbook:
        for name, part in _workbook().items():
            workbook.writestr(name, data if name == SHEET else part)
    _read("input.xlsx", "xlsx", content.getvalue())


@cache
def _workbook() -> dict[str, bytes]:
    with zipfile.ZipFile(CORPUS / "xlsx" / "seed.xlsx") as workbook:
        return {name: workbook.read(name) for name in workbook.namelist()}


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


def _flags(data: bytes) -> None:
    """Command-line options of a training, one a line; a process cannot be given a null byte."""
    arguments = data.replace(b"\0", b"").decode("utf-8", "surrogateescape").split("\n")
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            parse_config(arguments)
    except (StudytagError, SystemExit):
        return


TARGETS: dict[str, Target] = {
    **{name: partial(_read, "input", name) for name in FORMATS},
    "sniffed": partial(_read, "input.txt", None),
    "gzip": partial(_read, "input.csv.gz", None),
    "sheet": _sheet,
    "rules": _rules,
    "options": _options,
    "flags": _flags,
    "manifest": partial(manifest.check, _folder),
}
"""By name. The corpus of a target is the folder of its name in `corpus/`."""

if sys.version_info >= (3, 11):  # as the service needs
    from tests.fuzz import service

    TARGETS["service"] = partial(service.check, _folder)
