"""Rows as tagged records: those of the same format as they were, others by their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from studytag.files.fields import (
    BY_NAME,
    CORRECTION_TAGS,
    FIELDS,
    Field,
    column_field,
    tag_names,
    written_tag,
)
from studytag.files.options import WriteOptions, is_tag
from studytag.files.rows import (
    ERROR_COLUMN,
    Origin,
    changed,
    empty,
    known_labels,
    origin_of,
    tag_columns,
    written_items,
)
from studytag.files.tagged import COLUMNS_NOTE, ERROR_NOTE, Record, TaggedFormat
from studytag.files.values import first_year, json_list, plain_number, split_list, to_year
from studytag.records import PREDICTED_COLUMN, Row, clean

_WHOLE_TEXT = frozenset(("urls", "notes", "author_address"))  # which hold semicolons
_SPLIT_TEXT = {field.name for field in FIELDS if field.many} - _WHOLE_TEXT | {"language"}
_RIS_TYPES = {
    "JOUR": (
        "journal article",
        "article",
        "article-journal",
        "journalarticle",
        "journal",
        "journal-article",
    ),
    "BOOK": ("book", "whole book"),
    "CHAP": ("book section", "booksection", "incollection", "inbook", "chapter", "book-chapter"),
    "CONF": (
        "conference proceedings",
        "conferencepaper",
        "inproceedings",
        "paper-conference",
        "proceedings-article",
    ),
    "THES": ("thesis", "phdthesis", "mastersthesis"),
    "RPRT": ("report", "techreport"),
    "CPAPER": ("conference paper",),
    "EJOUR": ("electronic article",),
    "EBOOK": ("electronic book",),
    "EDBOOK": ("edited book",),
    "MGZN": ("magazine article", "magazinearticle", "article-magazine"),
    "NEWS": ("newspaper article", "newspaperarticle", "article-newspaper"),
    "DATA": ("dataset",),
    "PAT": ("patent",),
    "UNPB": ("unpublished work", "unpublished", "manuscript"),
    "GEN": ("generic", "misc", "document"),
    "ELEC": ("web page", "webpage", "online"),
}
"""What programs call the types of references, by their codes in RIS."""

_CODES = {name: code for code, names in _RIS_TYPES.items() for name in (code.lower(), *names)}
_NAMES = (
    (r"\s+and\s+", re.compile(r"[^,]+, [^,]+")),
    (r",\s+", re.compile(r"[^\W\d_][^,]* [A-Z]{1,3}(?: (?:Jr|Sr|[1-4](?:st|nd|rd|th)))?")),
)
_DEFAULT_TYPE = {"ris": "JOUR", "enw": "Journal Article"}
_TYPE_TAG = {"ris": "TY", "enw": "0"}
_NOTE_TAG = {"ris": "N1", "nbib": "GN", "enw": "Z"}
_KEYWORD_TAG = {"ris": "KW", "nbib": "OT", "enw": "K"}

Lines = list[tuple[str, str]]


class TaggedWriter:
    """Writes rows as tagged records; labels, predicted or else given, become keywords.

    A record that was read from the same format keeps its lines as they were, without the keywords
    of an earlier prediction. Columns that have no tag stand as JSON in one note.

    Args:
        stream: Where the text goes.
        format: The format.
        options: How to write.
    """

    def __init__(self, stream: TextIO, format: TaggedFormat, options: WriteOptions) -> None:
        self._stream = stream
        self._format = format
        self._name = format.name
        self._options = options
        self._first = True

    def begin(self, row: Row) -> None:
        """Records need no columns."""

    def write(self, row: Row) -> None:
        """Add a record."""
        origin = origin_of(row, self._name)
        if origin:
            lines = self._as_it_was(row, origin)
        else:
            lines = [self._line(tag, value) for tag, value in self._composed(row)]
            if self._name == "ris":
                lines.append("ER  - ")
        newline = origin.layout.newline if origin else "\n"
        if self._first:
            self._stream.write("\ufeff" if origin and origin.layout.bom else "")
        self._first = False
        self._stream.write("".join(line + newline for line in (*lines, "")))

    def _line(self, tag: str, value: str) -> str:
        if self._name == "enw":
            return f"%{tag} {value}"
        return f"{tag:4}- {value}"

    def _composed(self, row: Row) -> Lines:
        """The lines of a row of another format."""
        ours = tag_columns(row)
        items = {
            name: value
            for name, value in written_items(row)
            if not empty(value) and name not in ours
        }
        lines, left = self._fields(items if self._name == "ris" else with_pages(items))
        keywords = {value for tag, value in lines if tag == _KEYWORD_TAG[self._name]}
        if self._name != "nbib":
            mesh = _texts(BY_NAME["mesh_terms"], items.get("mesh_terms", []))
            lines += [(_KEYWORD_TAG[self._name], text) for text in mesh if text not in keywords]
        labels = row.get(PREDICTED_COLUMN, row.get("labels"))
        if labels is not None:
            known = known_labels(row)
            lines = [line for line in lines if not self._is_former(*line, known)]
        lines += self._tags(labels)
        lines += self._error(row.get(ERROR_COLUMN))
        if left:
            lines.append((_NOTE_TAG[self._name], COLUMNS_NOTE + _json(left)))
        if self._name in _TYPE_TAG:
            lines.sort(key=lambda line: line[0] != _TYPE_TAG[self._name])
            if not lines or lines[0][0] != _TYPE_TAG[self._name]:
                lines.insert(0, (_TYPE_TAG[self._name], _DEFAULT_TYPE[self._name]))
        elif self._name == "nbib":
            lines.sort(key=lambda line: line[0] != "PMID")
            if not lines or lines[0][0] != "PMID":
                lines.insert(0, ("PMID", ""))
        return lines

    def _fields(self, items: Mapping[str, Any]) -> tuple[Lines, dict[str, Any]]:
        """The lines of columns with a tag, and the columns without."""
        best: dict[str, tuple[int, str]] = {}
        for name in items:
            found = column_field(name)
            if found and (found[0].name not in best or found[1] < best[found[0].name][0]):
                best[found[0].name] = found[1], name
        chosen = {name: BY_NAME[field] for field, (_, name) in best.items()}
        present = {field: items[name] for field, (_, name) in best.items()}
        lines: Lines = []
        left: dict[str, Any] = {}
        for name, value in items.items():
            field = chosen.get(name)
            if field is None:
                left[name] = value
                continue
            written = self._written(field, value, present)
            lines += written or []
            if written is None:
                left[name] = value
        return lines, left

    def _written(self, field: Field, value: Any, present: Row) -> Lines | None:
        """The lines of a field; None where the format has no place for it."""
        special = getattr(self, f"_write_{field.name}", None)
        if special:
            return special(value, present)  # type: ignore[no-any-return]
        tag = written_tag(self._name, field)
        if tag is None:
            return None
        return [(tag, text) for text in _texts(field, value)]

    def _write_mesh_terms(self, value: Any, present: Row) -> Lines | None:
        if self._name != "nbib":
            return None  # only MEDLINE tells headings from keywords
        if "mesh_indexing" in present:
            return []  # the headings say it, with their qualifiers
        return [("MH", text) for text in _texts(BY_NAME["mesh_terms"], value)]

    def _write_comments_corrections(self, value: Any, present: Row) -> Lines | None:
        texts = _texts(BY_NAME["comments_corrections"], value)
        pairs = [text.partition(": ")[::2] for text in texts]
        if self._name != "nbib" or any(kind not in CORRECTION_TAGS for kind, _ in pairs):
            return None
        return [(CORRECTION_TAGS[kind], text) for kind, text in pairs]

    def _write_type_of_reference(self, value: Any, present: Row) -> Lines | None:
        if self._name not in _TYPE_TAG:
            return None
        code = type_code(clean(str(value)))
        if code is None:
            return None
        return [
            (_TYPE_TAG[self._name], code if self._name == "ris" else _RIS_TYPES[code][0].title())
        ]

    def _write_pmid(self, value: Any, present: Row) -> Lines | None:
        text = clean(str(value))
        if self._name == "nbib":
            return [("PMID", text)]
        number = plain_number(text)
        if number is None or number != text:
            return None
        if {"accession_number", "name_of_database", "database_provider"} & present.keys():
            tag = "UR" if self._name == "ris" else "U"
            return [(tag, f"https://pubmed.ncbi.nlm.nih.gov/{number}/")]
        tags = ("AN", "DB") if self._name == "ris" else ("M", "~")
        return [(tags[0], number), (tags[1], "PubMed")]

    def _write_year(self, value: Any, present: Row) -> Lines | None:
        tag = {"ris": "PY", "nbib": "DP", "enw": "D"}[self._name]
        if self._name == "nbib" and "date" in present:
            return []  # the date says it
        return [(tag, clean(str(value)))]

    def _write_date(self, value: Any, present: Row) -> Lines | None:
        tag = written_tag(self._name, BY_NAME["date"]) or ""
        texts = _texts(BY_NAME["date"], value)
        if self._name == "nbib":
            texts = with_year(texts, present.get("year"))
        return [(tag, text) for text in texts]

    def _write_doi(self, value: Any, present: Row) -> Lines | None:
        field = BY_NAME["doi"]
        if self._name == "nbib":
            return [("LID", f"{text} [doi]") for text in _texts(field, value)]
        return [(written_tag(self._name, field) or "", text) for text in _texts(field, value)]

    def _write_pages(self, value: Any, present: Row) -> Lines | None:
        if self._name == "ris":
            return None if "start_page" in present else [("SP", clean(str(value)))]
        return [({"nbib": "PG", "enw": "P"}[self._name], clean(str(value)))]

    def _is_former(self, tag: str, value: str, known: set[str]) -> bool:
        return tag == _KEYWORD_TAG[self._name] and is_tag(value, self._options.prefix, known)

    def _tags(self, labels: Any) -> Lines:
        texts = _texts(BY_NAME["labels"], labels) if labels is not None else []
        return [(_KEYWORD_TAG[self._name], self._options.prefix + text) for text in texts]

    def _error(self, error: Any) -> Lines:
        return [] if empty(error) else [(_NOTE_TAG[self._name], ERROR_NOTE + clean(str(error)))]

    def _as_it_was(self, row: Row, origin: Origin) -> list[str]:
        """The lines of the record, changed only where the row was."""
        record: Record = origin.record
        ours = tag_columns(row)
        changes = {
            name: row.get(name)
            for name in {**origin.as_read, **row}
            if name not in ours
            and (name not in row or changed(row, origin, name))
            and not (empty(row.get(name)) and empty(origin.as_read.get(name)))
        }
        gone = {name for name in changes if not empty(origin.as_read.get(name))}
        retagged = PREDICTED_COLUMN in row or "labels" in changes
        noted = _noted(record)
        kept = [
            line
            for line in self._kept_lines(
                record, gone, known_labels(row) if retagged else None, ERROR_COLUMN in row
            )
            if not (gone & noted.keys() and COLUMNS_NOTE in line)
        ]
        added = {name: value for name, value in changes.items() if not empty(value)}
        lines, left = self._fields(added)
        if gone & noted.keys():
            left = {n: v for n, v in noted.items() if n not in gone} | left
        labels = row.get(PREDICTED_COLUMN, row.get("labels")) if retagged else None
        lines += self._tags(labels) + self._error(row.get(ERROR_COLUMN))
        if left:
            lines.append((_NOTE_TAG[self._name], COLUMNS_NOTE + _json(left)))
        end = len(kept)
        if self._name == "ris" and kept and kept[-1].strip().startswith("ER"):
            end -= 1
        kept[end:end] = [self._line(tag, value) for tag, value in lines]
        if self._name == "ris" and end == len(kept) - len(lines):
            kept.append("ER  - ")
        return kept

    def _kept_lines(
        self, record: Record, gone: set[str], known: set[str] | None, new_error: bool
    ) -> Iterator[str]:
        position = 0
        for (tag, first, stop), values in zip(record.fields, record.values, strict=True):
            yield from record.lines[position:first]
            position = stop
            if gone & tag_names(self._name, tag):
                continue
            lines = record.lines[first:stop]
            if new_error and values[0].strip().startswith(ERROR_NOTE):
                continue
            if known is not None and tag == _KEYWORD_TAG[self._name]:
                yield from self._kept_keywords(tag, lines, values, known)
            else:
                yield from lines
        yield from record.lines[position:]

    def _kept_keywords(
        self, tag: str, lines: list[str], values: list[str], known: set[str]
    ) -> list[str]:
        """The lines of a keyword field without our former tags."""
        former = [self._is_former(tag, value.strip(), known) for value in values]
        if not any(former):
            return lines
        kept = [line for line, drop in zip(lines, former, strict=True) if not drop]
        if kept and former[0]:
            first = next(value for value, drop in zip(values, former, strict=True) if not drop)
            kept[0] = self._line(tag, first)
        return kept


def _noted(record: Record) -> dict[str, Any]:
    """The columns that stand in our note of a record."""
    for values in record.values:
        text = values[0].strip()
        if text.startswith(COLUMNS_NOTE):
            try:
                columns = json.loads(text.removeprefix(COLUMNS_NOTE))
            except ValueError:
                continue
            if isinstance(columns, dict):
                return columns
    return {}


def _texts(field: Field, value: Any) -> list[str]:
    if isinstance(value, str) and field.name in ("authors", "editors"):
        items: list[Any] = split_names(value)
    elif isinstance(value, str):
        ours = json_list(value) if field.many else None  # as tables hold lists
        items = split_list(value) if field.name in _SPLIT_TEXT else ours or [value]
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        items = [value]
    return [text for text in map(item_text, items) if text]


def type_code(kind: str) -> str | None:
    """RIS's code for a type of reference, whatever programs call it; None of another one."""
    return _CODES.get(kind.lower())


def with_pages(items: Row) -> Row:
    """Columns with the first and the last page in one, for formats that have no place for two."""
    names = {found[0].name: name for name in items if (found := column_field(name))}
    ends = [names[name] for name in ("start_page", "end_page") if name in names]
    texts = [clean(str(items[name])) for name in ends if isinstance(items[name], str | int)]
    if "pages" in names or "start_page" not in names or len(texts) < len(ends) or "-" in texts[0]:
        return items
    rest = {name: value for name, value in items.items() if name not in ends}
    return rest | {"pages": "-".join(dict.fromkeys(texts))}


def with_year(dates: Any, year: Any) -> list[str]:
    """Dates of which the first tells the year, for formats that read it from them."""
    texts = _texts(BY_NAME["date"], dates)
    if texts and to_year(year) not in (None, first_year(*texts)):
        texts[0] = clean(f"{year} {texts[0]}")  # as MEDLINE writes dates
    return texts


def split_names(text: str) -> list[str]:
    """The people of one cell: `Roe, J; Doe, K`, Rayyan's `and`, or `Roe J, Doe K` of PubMed."""
    if ";" not in text and not text.startswith("["):
        for separator, name in _NAMES:
            names = re.split(separator, clean(text).removesuffix("."))
            if len(names) > 1 and all(map(name.fullmatch, names)):
                return names
    return split_list(text)


def item_text(item: Any) -> str:
    """An item on one line; a name in parts as `Family, Given`."""
    if isinstance(item, dict):
        family = item.get("family") or item.get("lastName") or item.get("literal")
        given = item.get("given") or item.get("firstName")
        if family:
            return clean(f"{family}, {given}" if given else str(family))
        author = item.get("author")
        parts = author if isinstance(author, dict) else item
        for name in ("name", "display_name"):
            if isinstance(parts.get(name), str):
                return clean(parts[name])
        return clean(_json(item))
    return clean(str(item))


def _json(value: Any) -> str:
    def plain(other: Any) -> Any:
        return other.tolist() if hasattr(other, "tolist") else str(other)

    return json.dumps(value, ensure_ascii=False, default=plain)
