"""RIS, which reference managers and screening tools exchange."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from studytag.errors import InputError, missing_dependency
from studytag.files.columns import first_year, missing, split_list
from studytag.files.streams import text_lines
from studytag.records import PREDICTED_COLUMN, Row, clean

_LABEL = "studytag: "
_TAG_LINE = re.compile(r"[A-Z][A-Z0-9]  -")
_OTHER_TAG = re.compile(r"[A-Z][A-Z0-9]")
_LISTS = frozenset(
    "authors first_authors secondary_authors tertiary_authors subsidiary_authors "
    "keywords notes urls".split()
)
# Where a column is found, in this order, under rispy's names; it is written to the first.
_SOURCES = {
    "title": ("title", "primary_title"),
    "abstract": ("abstract", "notes_abstract"),
    "journal": (
        *("secondary_title", "alternate_title3", "journal_name"),
        *("alternate_title2", "alternate_title1"),
    ),
}


def read(path: Path) -> Iterator[Row]:
    """The records of the file, all with the same columns.

    title, abstract, year, journal and pmid come first, then rispy's names of the other fields
    (a tag that rispy does not know keeps its two letters). The file is read twice: first to
    check it and to learn which columns there are.

    Raises:
        InputError: the file holds no record, or a record has no end.
    """
    columns = dict.fromkeys(name for row in _rows(path) for name in row)
    if not columns:
        raise InputError(
            f"{path}: no record in it; a RIS record begins with 'TY  - ' and ends with 'ER  - '"
        )
    for row in _rows(path):
        yield {name: row.get(name) for name in columns}


def _rows(path: Path) -> Iterator[Row]:
    # Repeated tags are kept as lists: by default rispy drops all but the first.
    parser = _rispy().RisParser(enforce_list_tags=False)
    for lines in _records(path):
        yield _row(parser.parse_lines(iter(lines))[0])


def _records(path: Path) -> Iterator[list[str]]:
    """The tagged lines of each record, every continuation line joined to the line it continues."""
    record: list[str] = []
    number = 0
    for number, line in enumerate(text_lines(path), 1):
        text = line.strip()
        if text.startswith("TY  -"):
            _refuse_open(record, path, number)
            record = [text]
        elif not record or not text:
            continue  # numbers and blank lines between records
        elif text.startswith("ER  -"):
            yield [*record, text]
            record = []
        elif _TAG_LINE.match(text):
            record.append(text)
        else:
            record[-1] += f" {text}"
    _refuse_open(record, path, number)


def _refuse_open(record: list[str], path: Path, number: int) -> None:
    if record:
        raise InputError(
            f"{path}: line {number}: the record before has no end; close it with a line 'ER  - '"
        )


def _row(record: dict[str, Any]) -> Row:
    unknown = record.pop("unknown_tag", {})
    fields = record | unknown
    row: Row = {name: _take(fields, sources) for name, sources in _SOURCES.items()}
    rest: Row = {
        name: _list(value) if name in _LISTS else _line(value) or None
        for name, value in fields.items()
    }
    date = rest.pop("year", None)
    row["year"] = first_year(date, rest.get("publication_year"), rest.get("date"))
    if date and not date.isdigit():
        rest.setdefault("date", date)  # `PY  - 2020/05/12/` says more than the year
    # PubMed's own numbers have at most 8 digits; other databases write other numbers here.
    pubmed = re.fullmatch(r"[0-9]{1,8}", rest.get("accession_number") or "")
    row["pmid"] = rest.pop("accession_number") if pubmed else None
    return row | rest


def _take(fields: dict[str, Any], sources: tuple[str, ...]) -> str | None:
    """Move the first source with text out of `fields`; paragraphs in repeated tags are joined."""
    source = next((name for name in sources if fields.get(name)), None)
    if source is None:
        return None
    value = fields.pop(source)
    return clean(" ".join(value) if isinstance(value, list) else value) or None


class RisWriter:
    """Writes rows as RIS records; labels, predicted or else given, become keywords `studytag: RCT`.

    MeSH headings become keywords too. Columns that RIS has no tag for are left out.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        rispy = _rispy()
        self._stream = stream
        self._names = frozenset(rispy.config.TAG_KEY_MAPPING.values()) - {"unknown_tag"}
        self._writer = rispy.RisWriter()
        self._writer.set_header = lambda count: ""  # no numbers between the records

    def write(self, row: Row) -> None:
        """Add a record."""
        cells = {name: value for name, value in row.items() if not missing(value) and value != ""}
        fields: dict[str, Any] = {}
        unknown: dict[str, list[str]] = {}
        for name, value in cells.items():
            field = _field(name)
            if field in _LISTS:
                fields[field] = _list(value)
            elif field in self._names:
                fields.setdefault(field, _line(value))
            elif _OTHER_TAG.fullmatch(field):
                unknown[field] = [_line(value)]
        fields["keywords"] = _keywords(cells)
        self._writer.format_lines(self._stream, [fields | {"unknown_tag": unknown}])
        self._stream.write("\n")


def _field(column: str) -> str:
    if column == "pmid":
        return "accession_number"
    return _SOURCES.get(column, (column,))[0]


def _keywords(cells: Row) -> list[str]:
    keywords = _list(cells.get("keywords", []))
    labels = cells.get(PREDICTED_COLUMN, cells.get("labels"))
    if labels is not None:  # those of an earlier run give way to these
        keywords = [word for word in keywords if not word.startswith(_LABEL)]
    keywords += _list(cells.get("mesh_terms", []))
    keywords += [_LABEL + label for label in _list(labels or [])]
    return list(dict.fromkeys(keywords))


def _list(value: Any) -> list[str]:
    items = split_list(value) if isinstance(value, str) else value
    return [clean(str(item)) for item in items]


def _line(value: Any) -> str:
    return "; ".join(_list(value)) if isinstance(value, list | tuple) else clean(str(value))


def _rispy() -> Any:
    try:
        import rispy
        import rispy.config
    except ImportError as error:
        raise missing_dependency("rispy", "files") from error
    return rispy
