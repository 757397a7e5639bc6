"""The formats: their names and suffixes, how their content is recognised, who reads and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TextIO

from studytag.errors import InputError
from studytag.files import (
    bibtex,
    bibtex_writer,
    delimited,
    endnote_xml,
    jsonl,
    parquet,
    parquet_writer,
    pubmed_xml,
    scanners,
    tagged,
    xlsx,
)
from studytag.files.headers import find_header
from studytag.files.options import ReadOptions, WriteOptions
from studytag.files.streams import first_bytes, open_text_sink
from studytag.files.tagged import TaggedFormat
from studytag.files.tagged_writer import TaggedWriter
from studytag.records import Row


class RowWriter(Protocol):
    """What `open_writer` yields."""

    def begin(self, row: Row) -> None:
        """Take the columns of a row, for a table that may get no row; it is not written."""

    def write(self, row: Row) -> None:
        """Add a row.

        Raises:
            InputError: it does not go with the rows before it.
        """


Reader = Callable[[Path, ReadOptions], Iterator[Row]]
Writer = Callable[[Path, Path, WriteOptions], AbstractContextManager[RowWriter]]


@dataclass(frozen=True)
class Format:
    """A format of files of articles.

    Attributes:
        name: What `format=` takes.
        title: What people call it.
        suffixes: Of its files, in lower case.
        read: Reads a file row by row.
        write: Opens a writer on a temporary path, given the final one; None where it is only read.
        text: Whether it is text, which may be gzipped and in any encoding.
        table: Whether its columns stand before its rows, so that they must be known first.
        uniform: Whether all rows of a file have the same columns.
        most_rows: That a file takes; None where there is no limit.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    read: Reader
    write: Writer | None = None
    text: bool = True
    table: bool = False
    uniform: bool = False
    most_rows: int | None = None


_LINES = frozenset("keywords authors editors urls pub_types mesh_terms doi isbn issn".split())
_RIS = TaggedFormat(
    "ris",
    scanners.ris,
    "no record in it; a RIS record begins with 'TY  - ' and ends with 'ER  - '",
    separate=_LINES,
)
_NBIB = TaggedFormat(
    "nbib",
    scanners.nbib,
    "no record in it; save it from PubMed in PubMed format",
    always=("pub_types", "mesh_terms"),
)
_ENW = TaggedFormat(
    "enw", scanners.endnote, "no record in it; a record begins with '%0 '", separate=_LINES
)
_CIW = TaggedFormat(
    "ciw",
    scanners.web_of_science,
    "no record in it; export it from Web of Science as plain text",
    separate=frozenset(("authors", "editors", "author_address")),
)
_OVID = TaggedFormat(
    "ovid",
    scanners.ovid,
    "no record in it; a record begins with '<1>'",
    separate=frozenset(("authors", "keywords", "mesh_terms")),
    by_label=True,
    tags="nbib",
)


def _text(
    make: Callable[[TextIO, Path, WriteOptions], RowWriter],
) -> Writer:
    @contextmanager
    def opened(path: Path, target: Path, options: WriteOptions) -> Iterator[RowWriter]:
        with open_text_sink(path, gzipped=target.suffix.lower() == ".gz") as stream:
            writer = make(stream, target, options)
            yield writer
            finish = getattr(writer, "finish", None)
            if finish:
                finish()

    return opened


def _tagged(format: TaggedFormat) -> tuple[Reader, Writer]:
    return (
        partial(tagged.read, format=format),
        _text(lambda stream, target, options: TaggedWriter(stream, format, options)),
    )


def _delimited(name: str) -> tuple[Reader, Writer]:
    return (
        partial(delimited.read, format=name),
        _text(partial(delimited.DelimitedWriter, format=name)),
    )


def _table(
    name: str,
    title: str,
    suffixes: tuple[str, ...],
    read: Reader,
    write: Writer,
    text: bool = True,
    most_rows: int | None = None,
) -> Format:
    return Format(name, title, suffixes, read, write, text, True, True, most_rows)


_ALL = (
    _table("parquet", "parquet", (".parquet",), parquet.read, parquet_writer.open_writer, False),
    _table("csv", "CSV", (".csv",), *_delimited("csv")),
    _table("tsv", "TSV", (".tsv", ".tab"), *_delimited("tsv")),
    _table("xlsx", "Excel", (".xlsx", ".xlsm"), xlsx.read, xlsx.open_writer, False, xlsx.MOST_ROWS),
    Format("jsonl", "JSONL", (".jsonl", ".ndjson"), jsonl.read, _text(jsonl.JsonlWriter)),
    Format("json", "JSON (CSL)", (".json",), jsonl.read_document),
    Format("ris", "RIS", (".ris",), *_tagged(_RIS)),
    Format("nbib", "MEDLINE", (".nbib", ".medline"), *_tagged(_NBIB)),
    Format("enw", "EndNote tagged", (".enw",), *_tagged(_ENW)),
    Format("ciw", "Web of Science", (".ciw",), partial(tagged.read, format=_CIW)),
    Format("ovid", "Ovid", (".ovid", ".cgi"), partial(tagged.read, format=_OVID)),
    Format("bibtex", "BibTeX", (".bib", ".bibtex"), bibtex.read, _text(bibtex_writer.BibtexWriter)),
    Format("xml", "PubMed XML", (".xml",), pubmed_xml.read, uniform=True),
    Format("endnote_xml", "EndNote XML", (), endnote_xml.read),
)

FORMATS: Mapping[str, Format] = {format.name: format for format in _ALL}
"""Every format by its name."""

SUFFIXES: Mapping[str, Format] = {suffix: format for format in _ALL for suffix in format.suffixes}
"""Every format by the suffixes of its files."""

_ROOT = re.compile(r"<(?![?!])\s*([A-Za-z_][\w:.-]*)(?:\s[^<>]*)?>\s*(?:<(?![?!/])([\w:.-]+))?")
_FIRST_LINES = (
    (re.compile(r"<\d+>\s*$"), "ovid"),
    (re.compile(r"%[0-9A-Z@] "), "enw"),
    (re.compile(r"(FN (Clarivate|Thomson|ISI)|PT [JBSP]\s*$)"), "ciw"),
    (re.compile(r"@\s*[A-Za-z]+\s*[{(]"), "bibtex"),
)
_TAG_LINES = (
    (re.compile(r"\s*TY\s{1,2}-"), "ris"),
    (re.compile(r"PMID-"), "nbib"),
    (re.compile(r"\s*ER\s{1,2}-"), "ris"),
)
_CERTAIN_LINES = (  # Cochrane writes some lines before each record
    (re.compile(r"TY  - [A-Z]{3,}\s*$"), "ris"),
    (re.compile(r"PMID- [0-9]{1,8}\s*$"), "nbib"),
)
_TAG_LINE = re.compile(r"\s*[A-Z][A-Z0-9]{1,3} {0,2}-")
_SKIPPED = re.compile(r"[\[(]?\d*[.:)\]]?")


def sniff(path: Path) -> str | None:
    """The format that the beginning of a file says it is in; None where it says nothing clear.

    Raises:
        InputError: it is a workbook of old Excel.
    """
    beginning = first_bytes(path, 2**15)
    if beginning.startswith(b"PAR1"):
        return "parquet"
    if beginning.startswith(b"PK\x03\x04"):
        return "xlsx" if b"xl/" in beginning or b"[Content_Types].xml" in beginning else None
    if beginning.startswith(b"\xd0\xcf\x11\xe0"):
        raise InputError(f"{path}: a workbook of old Excel; save it as .xlsx or CSV")
    text = _decoded(beginning).lstrip("\ufeff \t\r\n\0")
    if text.startswith("<") and not re.match(r"<\d+>", text):
        return _sniff_xml(text)
    if text[:1] in ("[", "{"):
        return _sniff_json(text)
    return _sniff_lines(text)


def _decoded(beginning: bytes) -> str:
    if beginning[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return beginning.decode("utf-16", "replace")
    return beginning.decode("utf-8", "replace").replace("\0", "")


def _sniff_xml(text: str) -> str | None:
    if match := _ROOT.search(text):
        if match.group(1) in pubmed_xml.ROOTS:
            return "xml"
        if match.group(1) in ("xml", "records") and match.group(2) in ("records", "record"):
            return "endnote_xml"
    return None


def _sniff_json(text: str) -> str | None:
    if text[0] == "[":
        return "json" if re.match(r"\[\s*[{\]]", text) else None
    first, *others = text.splitlines()
    try:
        document = json.loads(first)
    except (ValueError, RecursionError):
        return "json" if re.match(r"\{\s*\"", text) and first.strip() == "{" else None
    if any(map(str.strip, others)):
        return "jsonl"
    # A document on one line holds a list of records; a line of JSONL is one.
    records = jsonl.records_in(document)
    if records is None or jsonl.cells_by(records):
        return None
    many = records and records != [document] and all(isinstance(each, dict) for each in records)
    return "json" if many else "jsonl"


def _sniff_lines(text: str) -> str | None:
    lines = [
        line for line in re.split(r"\r\n|\r|\n", text) if not _SKIPPED.fullmatch(line.strip())
    ][:200]
    if not lines:
        return None
    for pattern, name in _FIRST_LINES:
        if pattern.match(lines[0]):
            return name
    begins = _TAG_LINE.match(lines[0])
    for pattern, name in _TAG_LINES if begins else _CERTAIN_LINES:
        if any(map(pattern.match, lines if begins else lines[:20])):
            return name
    return None


def sniff_table(path: Path) -> str | None:
    """Csv or tsv where the beginning of a file has a header that names titles or abstracts."""
    text = _decoded(first_bytes(path, 2**15))
    beginning = text.splitlines(keepends=True)[:40]
    for delimiter in "\t,;|":
        header = find_header(delimited.first_rows(beginning, delimiter))
        if header and len(header.fields) > 1:
            return "tsv" if delimiter == "\t" else "csv"
    return None
