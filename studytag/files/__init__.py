"""Files of articles: read any of the usual formats, write most of them, one row at a time.

for row in read_rows("articles.nbib"):
    ...
with open_writer("tagged.parquet") as writer:
    writer.write(row)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from studytag.errors import InputError
from studytag.files import delimited, jsonl, nbib, parquet, pubmed_xml, ris
from studytag.files.atomic import (
    atomic_folder,
    atomic_path,
    repair_folder,
    replace_folder,
    write_json_atomically,
    write_text_atomically,
)
from studytag.files.streams import open_text_sink
from studytag.records import Row

__all__ = [
    "RowWriter",
    "atomic_folder",
    "atomic_path",
    "count_rows",
    "open_writer",
    "read_rows",
    "repair_folder",
    "replace_folder",
    "source_files",
    "write_json_atomically",
    "write_text_atomically",
]

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".ris": "ris",
    ".nbib": "nbib",
    ".medline": "nbib",
    ".xml": "xml",
}

_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "parquet": parquet.read,
    "csv": partial(delimited.read, delimiter=","),
    "tsv": partial(delimited.read, delimiter="\t"),
    "jsonl": jsonl.read,
    "ris": ris.read,
    "nbib": nbib.read,
    "xml": pubmed_xml.read,
}

_WRITABLE = ("parquet", "csv", "tsv", "jsonl", "ris")


class RowWriter(Protocol):
    """What `open_writer` yields."""

    def write(self, row: Row) -> None:
        """Add a row.

        Raises:
            InputError: it does not go with the rows before it.
        """


def read_rows(path: str | os.PathLike[str], format: str | None = None) -> Iterator[Row]:
    """Read a file of articles row by row, in constant memory.

    Every row has the file's own columns in the file's order. In CSV, TSV, JSONL and parquet,
    columns called `Title`, `AB`, `PMID` and the like are renamed to title, abstract, pmid.
    pmid is text, year a number, list columns are lists, a missing cell is None. An empty cell of
    a list column in CSV or TSV is the empty list; so is what a PubMed record has none of.

    Args:
        path: parquet, CSV, TSV, JSONL, RIS, MEDLINE (.nbib) or PubMed XML; all but parquet also
            gzipped (.gz).
        format: parquet, csv, tsv, jsonl, ris, nbib or xml, where the suffix does not say it.

    Raises:
        InputError: at once where the file is missing, empty or of an unknown format; while
            reading where its content is wrong.
    """
    source = Path(path)
    reader = _READERS[_format_of(source, format)]
    _check_readable(source)
    return reader(source)


def source_files(source: Path) -> list[Path]:
    """The files to read: `source` itself, or in a folder all that are readable, by name.

    Raises:
        InputError: one is missing, empty or of an unknown format, or the folder holds none.
    """
    found = sorted(filter(_readable, source.iterdir())) if source.is_dir() else [source]
    if not found:
        raise InputError(
            f"{source}: no file to read in this folder; known are {', '.join(_FORMATS)}"
        )
    for file in found:
        count_rows(file)
    return found


def count_rows(path: str | os.PathLike[str], format: str | None = None) -> int | None:
    """The number of rows where the file tells it (parquet), else None: counting means reading.

    Raises:
        InputError: as `read_rows`.
    """
    source = Path(path)
    name = _format_of(source, format)
    _check_readable(source)
    return parquet.count(source) if name == "parquet" else None


@contextmanager
def open_writer(path: str | os.PathLike[str], format: str | None = None) -> Iterator[RowWriter]:
    """Write rows to a file that appears when the block ends, complete, or not at all.

    Args:
        path: parquet, CSV, TSV, JSONL or RIS; all but parquet also gzipped (.gz).
        format: parquet, csv, tsv, jsonl or ris, where the suffix does not say it.

    Raises:
        InputError: the format is unknown or only read, or the place cannot be written.
    """
    target = Path(path)
    name = _format_of(target, format)
    if name not in _WRITABLE:
        raise InputError(f"{path}: {name} is only read; write one of {', '.join(_WRITABLE)}")
    with atomic_path(target) as temporary:
        if name == "parquet":
            with parquet.open_writer(temporary, target) as writer:
                yield writer
        else:
            with open_text_sink(temporary, gzipped=target.suffix.lower() == ".gz") as stream:
                if name == "jsonl":
                    yield jsonl.JsonlWriter(stream, target)
                elif name == "ris":
                    yield ris.RisWriter(stream)
                else:
                    delimiter = "," if name == "csv" else "\t"
                    yield delimited.DelimitedWriter(stream, target, delimiter)


def _format_of(path: Path, format: str | None) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if gzipped else suffixes[-1:])
    name = format or _FORMATS.get(suffix)
    if name is None:
        raise InputError(
            f"{path}: unknown suffix {suffix!r}; known are {', '.join(_FORMATS)} "
            f"(all but .parquet also with .gz)"
        )
    if name not in _READERS:
        raise InputError(f"{path}: unknown format {name!r}; known are {', '.join(_READERS)}")
    if name == "parquet" and gzipped:
        raise InputError(f"{path}: parquet packs itself; unpack it and drop .gz from the name")
    return name


def _readable(file: Path) -> bool:
    name = file.name.lower()
    return name.removesuffix(".gz").endswith(tuple(_FORMATS)) and not name.startswith(".")


def _check_readable(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise InputError(f"{path}: is not a file; name a file of articles")
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty; give a file with articles")
