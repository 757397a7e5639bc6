"""Files of articles: read any of the usual formats, write most of them, one row at a time.

for row in read_rows("articles.nbib"):
    ...
with open_writer("tagged.ris") as writer:
    writer.write(tagged(row, {"studytag_labels": ["RCT"]}))
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from studytag.errors import InputError
from studytag.files import parquet
from studytag.files.atomic import (
    atomic_folder,
    atomic_path,
    output_in_use,
    repair_folder,
    replace_folder,
    write_json_atomically,
    write_text_atomically,
)
from studytag.files.estimate import estimated_rows
from studytag.files.notices import each_notice_once, notice
from studytag.files.options import PREFIX, ReadOptions, WriteOptions, check_prefix, is_tag
from studytag.files.registry import FORMATS, SUFFIXES, Format, RowWriter, sniff, sniff_table
from studytag.files.rows import (
    ERROR_COLUMN,
    SourceRow,
    UnreadRow,
    refuse_many_columns,
    tagged,
)
from studytag.files.streams import first_bytes
from studytag.records import Row

__all__ = [
    "ERROR_COLUMN",
    "FORMATS",
    "PREFIX",
    "Format",
    "RowWriter",
    "SourceRow",
    "UnreadRow",
    "WriteOptions",
    "atomic_folder",
    "atomic_path",
    "check_prefix",
    "count_rows",
    "each_notice_once",
    "estimate_rows",
    "format_name",
    "is_tag",
    "open_writer",
    "output_in_use",
    "read_rows",
    "refuse_many_columns",
    "repair_folder",
    "replace_folder",
    "source_files",
    "tagged",
    "target_name",
    "write_json_atomically",
    "write_text_atomically",
]

logger = logging.getLogger(__name__)

_WRITABLE = tuple(format.name for format in FORMATS.values() if format.write)


def read_rows(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    encoding: str | None = None,
    refuse_ignored_text: bool = False,
    errors: Literal["raise", "return"] = "raise",
    quiet: bool = False,
    on_columns: Callable[[Row], None] | None = None,
) -> Iterator[Row]:
    """Read a file of articles row by row, in constant memory (JSON documents, BibTeX: at once).

    Every row has the file's own columns in the file's order, and pmid, title, abstract, year,
    journal, pub_types, mesh_terms, labels, known, split under these names, whatever the tool that
    wrote the file calls them: the first source that holds something is used, row by row, and the
    log says which columns feed which. pmid is text, year a number, list columns are lists, a
    missing cell is None. Title and abstract come without HTML; a year such as `in press` is None.
    The rows remember what they were read from (`row | {...}` does too), so that `open_writer`
    gives every field back as it was.

    Args:
        path: Any format of `FORMATS`; text formats also gzipped.
        format: Its name, where neither the suffix nor the content say it.
        encoding: Of text, where it is not UTF-8 and not found out rightly.
        refuse_ignored_text: Raise at the end of a file none of whose rows has an abstract while a
            column that reads like one was ignored, instead of warning.
        errors: `raise` at a row that cannot be read (a line that is no JSON, too many cells), or
            `return` an `UnreadRow` in its place. What spoils the whole file always raises.
        quiet: Do not log how the columns are understood.
        on_columns: Told the columns of a table, as a row without values, before its first row: a
            table may have no row.

    Raises:
        InputError: at once where the file is missing, empty or of an unknown format; while
            reading where its content is wrong.
    """
    source = Path(path)
    if format is not None:
        _named(source, format)
    _check_readable(source)
    found = _format_of(source, format, sniffing=True)
    if encoding is not None and not found.text:
        raise InputError(f"{path}: an encoding is only for text, which {found.title} is not")
    returned = errors == "return"
    options = ReadOptions(encoding, refuse_ignored_text, returned, quiet, on_columns)
    return found.read(source, options)


def source_files(
    source: Path, check: bool = True, format: str | None = None, companion: str | None = None
) -> list[Path]:
    """The files to read: `source` itself, or in a folder all that are readable, by name.

    Every file of the folder that is not read is named in a warning.

    Args:
        source: A file or a folder.
        check: Whether to look into each file, rather than when it is read.
        format: Of every file: none is left out for its suffix or content then.
        companion: The name of a file of the folder that belongs to the others and is no source.

    Raises:
        InputError: one is missing, empty or of an unknown format, or the folder holds none.
    """
    if not source.is_dir():
        count_rows(source, format)
        return [source]
    entries = sorted(
        entry
        for entry in source.iterdir()
        if not entry.name.startswith(".") and entry.name != companion
    )
    # Beside a workbook that is open, Excel keeps one called ~$ that holds the user's name.
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith("~$")]
    readable = files if format else [entry for entry in files if _holds_articles(entry)]
    found = set(readable)
    if skipped := [entry.name for entry in entries if entry not in found]:
        logger.warning("%s: not read: %s", source, ", ".join(skipped))
    if not readable:
        raise InputError(
            f"{source}: no file to read in this folder; known are {', '.join(SUFFIXES)}"
        )
    for file in readable if check else ():
        count_rows(file, format)
    return readable


def format_name(path: Path, format: str | None = None) -> str:
    """The name of a file's format, by its content or else its suffix.

    Raises:
        InputError: it is unknown, or the file cannot be read.
    """
    if format is not None:
        return _named(path, format).name
    _check_readable(path)
    return _format_of(path, None, sniffing=True).name


def target_name(path: Path, format: str | None = None) -> str:
    """The name of the format that `open_writer` would write.

    Raises:
        InputError: it is unknown.
    """
    return _format_of(path, format).name


def count_rows(path: str | os.PathLike[str], format: str | None = None) -> int | None:
    """The number of rows where the file tells it (parquet), else None: counting means reading.

    Raises:
        InputError: as `read_rows`.
    """
    source = Path(path)
    if format is not None:
        _named(source, format)
    _check_readable(source)
    found = _format_of(source, format, sniffing=True)
    return parquet.count(source) if found.name == "parquet" else None


def estimate_rows(path: str | os.PathLike[str], format: str | None = None) -> int | None:
    """About how many rows a file has, by its first megabytes; exact for parquet, None unknown.

    Raises:
        InputError: as `read_rows`.
    """
    source = Path(path)
    exact = count_rows(source, format)
    return exact if exact is not None else estimated_rows(source, format_name(source, format))


@contextmanager
def open_writer(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    prefix: str = PREFIX,
    indicators: Sequence[str] = (),
    excel: bool = False,
    mixed_as_text: bool = False,
) -> Iterator[RowWriter]:
    """Write rows to a file that appears when the block ends, complete, or not at all.

    Rows that were read from the same format keep every field, tag and cell as it was, and their
    order; what was added stands behind them. Rows of other formats keep every column: what a
    format has no place for stands as JSON in a note of the record. Predicted (else given) labels
    are keywords such as `studytag: RCT` in RIS, MEDLINE, EndNote and BibTeX; probabilities are
    only in tables.

    Args:
        path: A format of `FORMATS` that is written; text formats also gzipped (.gz).
        format: Its name, where the suffix does not say it.
        prefix: Stands before a label that becomes a keyword. Under another prefix than ours, only
            the labels of the row and those with a probability are taken for tags of an earlier run.
        indicators: Labels that get a column of 0 and 1 (`tag_studytag_RCT`) in tables.
        excel: Write CSV as Excel opens it best: with a byte-order mark, and with an apostrophe
            before text that Excel would compute.
        mixed_as_text: A parquet column whose values no type has in common becomes text, what is no
            text as JSON, instead of an error.

    Raises:
        InputError: the format is unknown or only read, the place cannot be written, or the prefix
            is blank.
    """
    target = Path(path)
    found = _format_of(target, format)
    if found.write is None:
        raise InputError(f"{path}: {found.name} is only read; write one of {', '.join(_WRITABLE)}")
    options = WriteOptions(prefix, tuple(indicators), excel, mixed_as_text)
    with atomic_path(target) as temporary:
        try:
            with found.write(temporary, target, options) as writer:
                yield writer
        except UnicodeEncodeError as error:
            surrogate = ascii(error.object[error.start])[1:-1]
            raise InputError(
                f"{path}: {surrogate} is an unpaired surrogate, which no file can hold; remove it"
            ) from error


def _format_of(path: Path, format: str | None, sniffing: bool = False) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if gzipped else suffixes[-1:])
    known = _named(path, format) if format else SUFFIXES.get(suffix)
    if sniffing and format is None:
        known = _sniffed(path, suffix, known)
    if known is None:
        raise InputError(
            f"{path}: unknown suffix {suffix!r}; known are {', '.join(SUFFIXES)} "
            f"(text also with .gz)"
        )
    if gzipped and not known.text:
        raise InputError(
            f"{path}: {known.title} packs itself; unpack it and drop .gz from the name"
        )
    return known


def _sniffed(path: Path, suffix: str, known: Format | None) -> Format | None:
    """The format that the content says, rather than the suffix."""
    name = sniff(path) or (sniff_table(path) if known is None else None)
    if name is None or (known and known.name == name):
        return known
    if known and name != "endnote_xml":
        notice("%s: named %s, but read as %s: so it begins", path, suffix, name)
    return FORMATS[name]


def _named(path: Path, format: str) -> Format:
    if format not in FORMATS:
        raise InputError(f"{path}: unknown format {format!r}; known are {', '.join(FORMATS)}")
    return FORMATS[format]


def _holds_articles(file: Path) -> bool:
    """Whether a file of a folder is to be read: by its suffix, or else its content."""
    name = file.name.lower().removesuffix(".gz")
    known = next((SUFFIXES[suffix] for suffix in SUFFIXES if name.endswith(suffix)), None)
    if known and known.name != "json":
        return True
    if not file.stat().st_size:
        return known is not None
    if known and not re.search(rb"(title|abstract)\"\s*:", first_bytes(file, 2**16), re.I):
        return False  # a manifest, settings
    try:
        return sniff(file) is not None or (known is None and sniff_table(file) is not None)
    except InputError:
        return True  # said when it is read


def _check_readable(path: Path) -> None:
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file; check the path")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not path.is_file():
        raise InputError(f"{path}: is not a file; name a file of articles")
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty; give a file with articles")
