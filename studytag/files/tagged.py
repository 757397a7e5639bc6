"""Records of tagged lines (RIS, MEDLINE, EndNote, Web of Science, Ovid): from lines to rows.

Each format tells how its lines form records; what the tags mean stands in `fields`. The lines are
kept, so that a record is written back as it was. That is why no library reads these formats here:
those that exist give fields without their lines, and refuse or misread what real tools write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.files.fields import Field, column_field, tag_field
from studytag.files.options import ReadOptions
from studytag.files.rows import ERROR_COLUMN, Layout, Origin, SourceRow, refuse_many_columns
from studytag.files.streams import TextSource
from studytag.files.values import (
    NO_TITLE,
    first_year,
    model_text,
    named_pmid,
    noted_pmid,
    plain_number,
    split_list,
    to_pmid,
)
from studytag.files.watch import TextWatch
from studytag.records import ARTICLE_COLUMNS, Row, clean

COLUMNS_NOTE = "studytag columns: "
"""Begins the note that holds, as JSON, the columns for which a format has no tag."""

ERROR_NOTE = f"{ERROR_COLUMN}: "
"""Begins the note that says why a record could not be tagged."""

_PUBMED = re.compile(r"pubmed|medline|\bnlm\b|national library of medicine", re.I)
_PMID_TAGS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "U1", "L1", "L2", "L3", "M1", "M2")
_MOST_LINES = 2**17
_LAST_DATES = ("Y1", "YR", "DEP", "EDAT")
_VENDORS = {"C5": "embase", "C2": "scopus"}


@dataclass
class Record:
    """A record as it stands in its file.

    Attributes:
        path: Of the file.
        line: Number of its first line.
        lines: Its lines, without their ends.
        fields: Tag, first line and the line after the last of each field.
        values: The value lines of each field.
    """

    path: Path
    line: int
    lines: list[str] = field(default_factory=list)
    fields: list[tuple[str, int, int]] = field(default_factory=list)
    values: list[list[str]] = field(default_factory=list)

    def add(self, tag: str, line: str, value: str) -> None:
        """Add a line that begins a field."""
        self._refuse_long()
        self.fields.append((tag, len(self.lines), len(self.lines) + 1))
        self.values.append([value])
        self.lines.append(line)

    def go_on(self, line: str, value: str) -> None:
        """Add a line that continues the last field."""
        self._refuse_long()
        tag, first, stop = self.fields[-1]
        self.values[-1] += [""] * (len(self.lines) - stop)  # blank lines
        self.lines.append(line)
        self.fields[-1] = (tag, first, len(self.lines))
        self.values[-1].append(value)

    def _refuse_long(self) -> None:
        if len(self.lines) >= _MOST_LINES:
            raise InputError(
                f"{self.path}: line {self.line}: a record of more than {_MOST_LINES:,} lines, or "
                "none of the format; give a file of records"
            )


@dataclass(frozen=True)
class TaggedFormat:
    """A format of tagged lines.

    Attributes:
        name: Of the format.
        scan: Groups the lines of a file to records.
        nothing: What to say of a file without any record.
        separate: Fields whose every line is a value of its own.
        always: Columns that every row has.
        by_label: Whether tags are names such as `Title`.
        tags: The format whose tags these are, if not its own.
    """

    name: str
    scan: Callable[[Path, Iterator[str]], Iterator[Record]]
    nothing: str
    separate: frozenset[str] = frozenset()
    always: tuple[str, ...] = ()
    by_label: bool = False
    tags: str | None = None

    def field(self, tag: str) -> tuple[Field, int] | None:
        """The field of a tag and how good a source it is."""
        if self.by_label and len(tag) > 2:
            return column_field(tag)
        return tag_field(self.tags or self.name, tag)


def read(path: Path, options: ReadOptions, format: TaggedFormat) -> Iterator[Row]:
    """The records of a file as rows that all have the same columns.

    pmid, title, abstract, year and journal come first, then the other fields under the names of
    `fields.FIELDS`; a tag that is not there keeps its own name. The file is read twice: first to
    learn which columns there are.

    Raises:
        InputError: the file holds no record, or a record is not complete.
    """
    source = TextSource(path, options.encoding)
    columns: dict[str, bool] = {}
    feeds: dict[str, dict[str, None]] = {}
    for record in format.scan(path, source.lines()):
        view = _View(record, format)
        for name, value in view.row.items():
            columns[name] = columns.get(name, False) or isinstance(value, list)
        refuse_many_columns(path, len(columns))
        for name, tag in view.feeds.items():
            feeds.setdefault(name, {})[tag] = None
    if not columns:
        raise InputError(f"{path}: {format.nothing}")
    watch = TextWatch(path, options, "tag")
    watch.feeds({name: list(tags) for name, tags in feeds.items()})
    layout = Layout(format.name, source.newline, source.bom)
    for record in format.scan(path, source.lines()):
        view = _View(record, format)
        values = {name: _typed(view.row.get(name), many) for name, many in columns.items()}
        watch.row(values, view.ignored())
        yield SourceRow(values, Origin(layout, record, dict(values), view.raw))
    watch.finish()


def _typed(value: Any, many: bool) -> Any:
    if many and not isinstance(value, list):
        return [] if value is None else [value]
    return value


class _View:
    """What the model and tables see of a record.

    Attributes:
        row: The columns.
        raw: Original values of those that were cleaned.
        feeds: The tag that each model field was read from.
    """

    def __init__(self, record: Record, format: TaggedFormat) -> None:
        self._format = format
        self.raw: dict[str, Any] = {}
        self.feeds: dict[str, str] = {}
        self._extra: dict[str, Any] = {}
        self._tags: dict[str, tuple[Field | None, int]] = {}
        self._values = self._collect(record)
        self.row: dict[str, Any] = dict.fromkeys(ARTICLE_COLUMNS)
        for name in format.always:
            self.row[name] = []
        self._choose()
        self.row["journal"] = self.row["journal"] or self.row.get("journal_abbreviation")
        self._dates()
        self.row["pmid"] = self._pmid()
        if format.name == "nbib":
            self._medline()
        self.row |= {name: value for name, value in self._extra.items() if not self.row.get(name)}

    def ignored(self) -> Iterator[tuple[str, Any]]:
        """The tags whose meaning is not known, and notes: what may be an unread abstract."""
        for tag, (known, _) in self._tags.items():
            if known is None or known.name == "notes":
                yield from ((tag, value) for value in self._values[tag])

    def _collect(self, record: Record) -> dict[str, list[str]]:
        """The values of each tag, white space made single spaces."""
        collected: dict[str, list[str]] = {}
        for (tag, _, _), lines in zip(record.fields, record.values, strict=True):
            found = self._format.field(tag)
            name = found[0].name if found else tag
            if name == "notes" and self._note(lines):
                continue
            self._tags.setdefault(tag, found or (None, 0))
            texts = lines if name in self._format.separate else [" ".join(lines)]
            collected.setdefault(tag, []).extend(filter(None, map(clean, texts)))
        return collected

    def _note(self, lines: list[str]) -> bool:
        """Take one of our own notes apart."""
        text = lines[0].strip()
        if text.startswith(COLUMNS_NOTE):
            try:
                columns = json.loads(text.removeprefix(COLUMNS_NOTE))
            except ValueError:
                return False
            if isinstance(columns, dict):
                self._extra |= columns
                return True
        if text.startswith(ERROR_NOTE):
            self._extra[ERROR_COLUMN] = text.removeprefix(ERROR_NOTE)
            return True
        return False

    def _choose(self) -> None:
        """Give each field its best tag with text; other tags with text keep their own names."""
        ranked: dict[str, list[tuple[int, int, str]]] = {}
        for order, (tag, (known, rank)) in enumerate(self._tags.items()):
            ranked.setdefault(known.name if known else tag, []).append((rank, order, tag))
        for name, candidates in ranked.items():
            chosen = None
            for _, _, tag in sorted(candidates):
                known, values = self._tags[tag][0], self._values[tag]
                if not values or values == [NO_TITLE]:
                    if known is None:
                        self.row.setdefault(name, None)
                elif chosen is None and known is not None:
                    chosen = tag
                    self._take(known, tag, values)
                else:
                    self.row[tag] = values if len(values) > 1 else values[0]

    def _take(self, known: Field, tag: str, values: list[str]) -> None:
        name = known.name
        if name in ("title", "abstract", "journal"):
            self.feeds[name] = tag
            text = " ".join(values)
            if tag == "OAB" and len(values) > 1:
                self.row[tag] = values
                text = self._in_english(values)
            self.row[name] = model_text(text)
            if self.row[name] != text:
                self.raw[name] = text
        elif known.many and (self._format.name == "ciw" or self._format.by_label):
            splits = name in ("keywords", "pub_types", "mesh_terms")
            self.row[name] = split_list("; ".join(values)) if splits else values
        else:
            self.row[name] = values if known.many or len(values) > 1 else values[0]

    def _in_english(self, abstracts: list[str]) -> str:
        languages = self._values.get("OABL", [])
        pairs = zip(languages, abstracts, strict=False)
        english = (text for language, text in pairs if language.lower() in ("eng", "en"))
        return next(english, abstracts[0])

    def _dates(self) -> None:
        """The year; a date that says more than the year stays beside it."""
        said = self.row.get("year")
        text = said[0] if isinstance(said, list) else said
        date = self.row.get("date")
        dates = date if isinstance(date, list) else [date]
        others = [first for tag in _LAST_DATES for first in self._values.get(tag, [])[:1]]
        self.row["year"] = first_year(text, *dates, *others)
        if text and text != str(self.row["year"]):
            name = "date" if not date else "year_text"
            self.row[name] = text

    def _pmid(self) -> str | None:
        said = self.row.get("pmid")
        if said:
            return to_pmid(said[0] if isinstance(said, list) else said)
        database = " ".join(
            _text(self.row.get(name)) for name in ("name_of_database", "database_provider")
        )
        accession = _text(self.row.get("accession_number"))
        in_pubmed = bool(_PUBMED.search(database))
        if in_pubmed and (number := plain_number(accession)):
            self.row["accession_number"] = None
            return number
        if found := named_pmid(accession):
            return found
        for tag in _PMID_TAGS:
            for value in self._values.get(tag, ()):
                if found := named_pmid(value) or self._vendor_pmid(tag, value, database):
                    return found
        for name in ("urls", "call_number", "label", "id"):
            if found := named_pmid(_text(self.row.get(name))):
                return found
        return next(filter(None, map(noted_pmid, self.row.get("notes") or ())), None)

    def _vendor_pmid(self, tag: str, value: str, database: str) -> str | None:
        """Embase and Scopus give the pmid as a mere number, in a tag of their own."""
        number = plain_number(value)
        if number is None or len(number) < 5:
            return None
        if _PUBMED.search(database):
            return number
        vendor = _VENDORS.get(tag)
        if vendor is None:
            return None
        said = f"{database} {_text(self.row.get('urls'))}".lower()
        return number if vendor in said or not database.strip() else None

    def _medline(self) -> None:
        headings = self.row.get("mesh_terms") or []
        names = (heading.partition("/")[0].strip().lstrip("*") for heading in headings)
        self.row["mesh_terms"] = list(dict.fromkeys(name for name in names if name))
        if self.row["mesh_terms"] != headings:
            self.row["mesh_indexing"] = headings
        for tag in ("LID", "AID"):
            for value in self._values.get(tag, ()):
                if value.endswith("[doi]") and not self.row.get("doi"):
                    self.row["doi"] = value.removesuffix("[doi]").strip()


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
