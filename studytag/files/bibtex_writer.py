"""BibTeX written; entries that were read from it stay as they were."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TextIO

from studytag.files.bibtex import COLUMNS_FIELD, NEEDS_CARE, own_columns
from studytag.files.bibtex_blocks import split_parts
from studytag.files.fields import column_field, written_tag
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
from studytag.files.tagged_writer import item_text, split_names, type_code, with_pages, with_year
from studytag.files.values import split_list
from studytag.records import PREDICTED_COLUMN, Row, clean

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\lbrace{}",
    "}": r"\rbrace{}",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "&": r"\&",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "-": r"-{}",
    "'": r"'{}",
    "`": r"`{}",
    ",": r",{}",
    "<": r"<{}",
    ">": r">{}",
}

_KINDS = {
    "JOUR": "article",
    "BOOK": "book",
    "CHAP": "incollection",
    "CONF": "inproceedings",
    "THES": "phdthesis",
    "RPRT": "techreport",
    "CPAPER": "inproceedings",
    "EJOUR": "article",
    "EBOOK": "book",
    "EDBOOK": "book",
    "MGZN": "article",
    "NEWS": "article",
    "DATA": "dataset",
    "PAT": "patent",
    "UNPB": "unpublished",
    "GEN": "misc",
    "ELEC": "online",
}
"""Types of entries by RIS's codes."""

_OWN_TYPES = frozenset(
    "article book booklet collection conference dataset electronic inbook incollection "
    "inproceedings inreference manual mastersthesis misc online patent periodical phdthesis "
    "proceedings reference report software suppbook techreport thesis unpublished www".split()
)
"""Types that BibTeX and biblatex have."""

_KEY = re.compile(r"[^\s\"#%'(),={}~\\@]+")
"""What BibTeX takes for a key; any other text of a column ID stands in our field."""


class BibtexWriter:
    """Writes rows as entries; labels, predicted or else given, become keywords.

    Args:
        stream: Where the text goes.
        target: The file's final name, for messages.
        options: How to write.
    """

    def __init__(self, stream: TextIO, target: Path, options: WriteOptions) -> None:
        self._stream = stream
        self._options = options
        self._keys: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last of each key that is wanted again and again
        self._rows = 0

    def begin(self, row: Row) -> None:
        """Entries need no columns."""

    def write(self, row: Row) -> None:
        """Add an entry."""
        self._rows += 1
        origin = origin_of(row, "bibtex")
        text = self._as_it_was(row, origin) if origin else self._composed(row)
        newline = origin.layout.newline if origin else "\n"
        if origin:
            self._keys.add(str(row.get("ID")))
        if self._rows == 1 and origin and origin.layout.bom:
            self._stream.write("\ufeff")
        self._stream.write(f"{text}\n\n".replace("\n", newline))

    def _composed(self, row: Row) -> str:
        ours = tag_columns(row)
        items = {
            name: value
            for name, value in written_items(row)
            if not empty(value) and name not in ours
        }
        key = str(items.get("ID", ""))
        if _KEY.fullmatch(key) and key not in self._keys:
            del items["ID"]
            self._keys.add(key)
        else:
            key = self._key(row)
        given = next(filter(_is_type, items), "")
        kind = _entry_type(clean(str(items.get(given, "article"))))
        if kind:
            items.pop(given, None)
        fields, left = self._fields(with_pages(items))
        labels = row.get(PREDICTED_COLUMN, row.get("labels"))
        words = fields.pop("keywords", [])
        fields["keywords"] = self._keywords(words, labels, known_labels(row))
        if not empty(row.get(ERROR_COLUMN)):
            left[ERROR_COLUMN] = row[ERROR_COLUMN]
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        if left:
            lines.append(f"  {COLUMNS_FIELD} = {{{_json(left)}}}")
        return f"@{kind or 'article'}{{{key},\n" + ",\n".join(lines) + "\n}"

    def _key(self, row: Row) -> str:
        pmid = re.sub(r"[^A-Za-z0-9]", "", str(row.get("pmid") or ""))
        key = base = f"pmid{pmid}" if pmid else f"record{self._rows}"
        number = self._numbers.get(base, 1)
        while key in self._keys:
            number += 1
            key = f"{base}-{number}"
        self._numbers[base] = number
        self._keys.add(key)
        return key

    def _fields(self, items: Row) -> tuple[dict[str, Any], Row]:
        """The fields of columns, of keywords the column itself, and the columns without a field."""
        fields: dict[str, Any] = {}
        left: Row = {}
        for name, value in items.items():
            found = column_field(name)
            tag = written_tag("bib", found[0]) if found else None
            if found is None or tag is None or tag in fields:
                left[name] = value
                continue
            if tag == "keywords":
                fields[tag] = value
                continue
            if tag == "date":
                value = with_year(value, items.get("year"))
            values = value if isinstance(value, list | tuple) else [value]
            if found[0].name in ("authors", "editors"):
                names = split_names(value) if isinstance(value, str) else values
                fields[tag] = " and ".join(_braced(item_text(item), r"\sand\s") for item in names)
            elif len(values) > 1 and found[0].name != "notes":
                left[name] = value
            else:
                fields[tag] = escape("; ".join(item_text(item) for item in values))
        return fields, left

    def _keywords(self, keywords: Any, labels: Any, known: set[str]) -> str:
        if isinstance(keywords, str):
            words = split_list(keywords)
        else:
            words = list(keywords) if isinstance(keywords, list | tuple) else [keywords]
        if labels is not None:
            words = [word for word in words if not is_tag(str(word), self._options.prefix, known)]
            given = split_list(labels) if isinstance(labels, str) else labels
            words += [self._options.prefix + label for label in given]
        words = [clean(str(word)) for word in words]
        between = "; " if any("," in word for word in words) else ", "
        text = between.join(_braced(word, ";") for word in words)
        # Braces around a whole value are Web of Science's, and hold no keyword together.
        return f"{text};" if len(words) == 1 and re.search("[,;]", words[0]) else text

    def _as_it_was(self, row: Row, origin: Origin) -> str:
        """The entry as it stood; fields that changed are taken out and written anew."""
        before, entry, after = origin.record
        ours = tag_columns(row)
        changes = {
            name: row.get(name)
            for name in {**origin.as_read, **row}
            if name not in ours
            and (name not in row or changed(row, origin, name))
            and not (empty(row.get(name)) and empty(origin.as_read.get(name)))
        }
        labels = row.get(PREDICTED_COLUMN, changes.get("labels"))
        if labels is not None or "keywords" in changes:
            changes = {"keywords": None} | changes | {"keywords": row.get("keywords")}  # the first
        fields, left = self._fields({n: v for n, v in changes.items() if not empty(v)})
        words = fields.pop("keywords", [])
        if words or "keywords" in changes:
            fields["keywords"] = self._keywords(words, labels, known_labels(row))
        if not empty(row.get(ERROR_COLUMN)):
            left[ERROR_COLUMN] = row[ERROR_COLUMN]
        head, parts, tail = split_parts(entry)
        noted = own_columns(next((v for n, v in parts if n == COLUMNS_FIELD), "").partition("=")[2])
        noted.pop(COLUMNS_FIELD, None)
        kept_notes = {n: v for n, v in noted.items() if n not in changes and n != ERROR_COLUMN}
        if kept_notes | left != noted:
            changes[COLUMNS_FIELD] = None
            if kept_notes | left:
                fields[COLUMNS_FIELD] = _json(kept_notes | left)
        # A field that has a column of its own beside the changed one stays.
        gone = {
            tag
            for name in changes
            for tag in _tags_of(name)
            if tag == name.lower() or empty(origin.as_read.get(tag))
        }
        kept = [text for name, text in parts if name not in gone]
        fields = {name: value for name, value in fields.items() if value}
        if fields or len(kept) < len(parts):
            added = [f"\n  {name} = {{{value}}}" for name, value in fields.items()]
            kept = [*(text for text in kept if text.strip()), *added]
            kept[-1] = kept[-1].rstrip() + "\n"
        return f"{before}{head}{','.join(kept)}{tail}{after}"


def _is_type(name: str) -> bool:
    found = column_field(name)
    return found is not None and found[0].name == "type_of_reference"


def _entry_type(kind: str) -> str | None:
    """The type of an entry that BibTeX knows: Zotero passes over an entry of another one."""
    return kind if kind.lower() in _OWN_TYPES else _KINDS.get(type_code(kind) or "")


def _tags_of(name: str) -> list[str]:
    found = column_field(name)
    return [*(found[0].bib.split() if found else ()), name.lower()]


def escape(text: str) -> str:
    """Text as LaTeX that `plain_text` reads as the same."""
    if not re.search(r"[\\{}$%&#_~]", text) and not NEEDS_CARE.search(text):
        return text
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _braced(text: str, separator: str) -> str:
    """An item of several as LaTeX, in braces where it holds what would separate it."""
    latex = escape(text)
    return f"{{{latex}}}" if re.search(separator, text) else latex


def _json(columns: Row) -> str:
    """Columns as JSON whose braces are escaped, since BibTeX counts them."""

    def plain(other: Any) -> Any:
        return other.tolist() if hasattr(other, "tolist") else str(other)

    pairs = [
        [name, item_text(value) if isinstance(value, dict) else value]
        for name, value in columns.items()
    ]
    text = json.dumps(pairs, default=plain)
    return text.replace("{", "\\u007b").replace("}", "\\u007d").replace("@", "\\u0040")
