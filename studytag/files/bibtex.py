"""BibTeX and BibLaTeX; entries are written back as they were. LaTeX is read by pylatexenc."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from studytag.errors import InputError, import_extra
from studytag.files.bibtex_blocks import Entry, read_value, split_entries, split_parts
from studytag.files.fields import (
    BY_NAME,
    CANONICAL,
    MODEL_FIELDS,
    Field,
    column_field,
    tag_field,
    written_tag,
)
from studytag.files.options import ReadOptions, WriteOptions
from studytag.files.rows import (
    ERROR_COLUMN,
    Layout,
    Origin,
    SourceRow,
    changed,
    empty,
    is_probability,
    origin_of,
    written_items,
)
from studytag.files.streams import TextSource, whole_text
from studytag.files.tagged_writer import item_text
from studytag.files.values import (
    first_year,
    model_text,
    named_pmid,
    noted_pmid,
    split_list,
    to_pmid,
)
from studytag.files.watch import TextWatch
from studytag.records import PREDICTED_COLUMN, Row, clean

_COLUMNS_FIELD = "studytag_columns"
_PLAIN_TEXT = re.compile(r"[{}]")
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
_NEEDS_CARE = re.compile(r"--|''|``|,,|<<|>>|[!?]`")
_LATEX = re.compile(r"[\\$]|" + _NEEDS_CARE.pattern)


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The entries of the file, LaTeX made text; all rows have the same columns.

    Raises:
        InputError: an entry cannot be parsed, the file is too large to be read at once, or it has
            no entry.
    """
    text = whole_text(path, options.encoding).replace("\r\n", "\n")
    blocks, strings, after = split_entries(path, text)
    macros: dict[str, str] = {}
    for string in strings:
        for name, part in split_parts(string)[1]:
            if name:
                macros[name] = read_value(part.partition("=")[2], macros)
    entries = [
        (
            (block.before, block.text, "" if block is not blocks[-1] else after),
            _fields(block, macros),
        )
        for block in blocks
    ]
    if not entries:
        raise InputError(f"{path}: no entry in it; an entry begins with '@article{{key,'")
    watch = TextWatch(path, options, "field")
    views = [_view(fields) for _, fields in entries]
    columns = {name: None for view, _ in views for name in view}
    lists = {name for view, _ in views for name, value in view.items() if isinstance(value, list)}
    source = TextSource(path, options.encoding)
    layout = Layout("bibtex", source.newline, source.bom)
    for (raw_text, _), (view, raw) in zip(entries, views, strict=True):
        row = {name: view.get(name, [] if name in lists else None) for name in columns}
        watch.row(row, ((name, value) for name, value in row.items() if name not in CANONICAL))
        yield SourceRow(row, Origin(layout, raw_text, dict(row), raw))
    watch.finish()


def _fields(entry: Entry, macros: dict[str, str]) -> dict[str, str]:
    """The values of the fields of an entry; a field that is there twice keeps both."""
    fields = {"ENTRYTYPE": entry.kind}
    for name, part in split_parts(entry.text)[1]:
        if not name:
            if part.strip():
                fields.setdefault("ID", part.strip())
            continue
        text = part.partition("=")[2]
        value = text.strip() if name == _COLUMNS_FIELD else read_value(text, macros)
        fields[name if name not in fields else f"{name}_2"] = value
    return fields


def plain_text(latex: str) -> str:
    """LaTeX as text: commands and braces resolved; a percent sign is one, not a comment."""
    if not _LATEX.search(latex):
        return clean(_PLAIN_TEXT.sub("", latex))
    latex2text = import_extra("pylatexenc.latex2text", "files")
    try:
        safe = re.sub(r"(?<!\\)%", r"\\%", latex)
        text = latex2text.LatexNodes2Text(math_mode="text", keep_comments=True).latex_to_text(safe)
    except Exception:  # whatever it cannot parse is still text
        text = _PLAIN_TEXT.sub("", latex)
    return clean(text)


def _view(fields: dict[str, str]) -> tuple[Row, dict[str, Any]]:
    row: Row = dict.fromkeys(("pmid", "title", "abstract", "year", "journal"))
    ranked: dict[str, list[tuple[int, str]]] = {}
    for tag in fields:
        found = tag_field("bib", tag.lower()) or _model_field(tag)
        ranked.setdefault(found[0].name if found else tag, []).append(
            (found[1] if found else 0, tag)
        )
    extra: dict[str, Any] = {}
    for name, candidates in ranked.items():
        chosen = None
        for _, tag in sorted(candidates):
            if tag == _COLUMNS_FIELD:
                extra = _own_columns(fields[tag])
                continue
            value = plain_text(fields[tag])
            if name in BY_NAME and chosen is None and value:
                chosen = tag
                row[name] = _items(name, fields[tag], value)
            elif name not in BY_NAME or value:
                row[tag] = value or None
    row["type_of_reference"] = row.pop("ENTRYTYPE", None)
    return _completed(row, extra)


def _model_field(tag: str) -> tuple[Field, int] | None:
    """Title or abstract under a name that tools give to columns."""
    found = column_field(tag)
    return (found[0], found[1] + 100) if found and found[0].name in MODEL_FIELDS else None


def _completed(row: Row, extra: Row) -> tuple[Row, dict[str, Any]]:
    raw = {}
    for name in ("title", "abstract"):
        text = row[name]
        row[name] = model_text(text)
        if row[name] != text:
            raw[name] = text
    said = row["year"]
    row["year"] = first_year(said, row.get("date"))
    if said and said != str(row["year"]):
        raw["year"] = said
    addresses = [str(row.get(name) or "") for name in ("urls", "eprint")]
    if row["pmid"]:
        row["pmid"] = to_pmid(row["pmid"])
    else:
        found = (*map(named_pmid, addresses), *map(noted_pmid, row.get("notes") or ()))
        row["pmid"] = next(filter(None, found), None)
    row |= {name: value for name, value in extra.items() if not row.get(name)}
    return row, raw


def _items(name: str, latex: str, text: str) -> Any:
    if not BY_NAME[name].many:
        return text
    if name in ("authors", "editors"):
        names = re.split(r"\s+and\s+", clean(latex))
        return [item for item in map(plain_text, names) if item]
    if name == "keywords":
        return (
            split_list(text) if ";" in text else [k.strip() for k in text.split(",") if k.strip()]
        )
    return [text]


def _own_columns(text: str) -> Row:
    try:
        pairs = json.loads(text.strip()[1:-1])
        return {str(name): value for name, value in pairs}
    except (ValueError, TypeError):
        return {_COLUMNS_FIELD: text}


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
        self._rows = 0

    def write(self, row: Row) -> None:
        """Add an entry."""
        self._rows += 1
        origin = origin_of(row, "bibtex")
        text = self._as_it_was(row, origin) if origin else self._composed(row)
        newline = origin.layout.newline if origin else "\n"
        if self._rows == 1 and origin and origin.layout.bom:
            self._stream.write("\ufeff")
        self._stream.write(f"{text}\n\n".replace("\n", newline))

    def _composed(self, row: Row) -> str:
        items = {
            name: value
            for name, value in written_items(row)
            if not empty(value) and not _ours(name, row)
        }
        key = clean(str(items.pop("ID", ""))) or self._key(row)
        kind = clean(str(items.pop("type_of_reference", ""))) or "article"
        if not re.fullmatch(r"[A-Za-z]+", kind):
            items["type_of_reference"] = kind
            kind = "article"
        fields, left = self._fields(items)
        labels = row.get(PREDICTED_COLUMN, row.get("labels"))
        fields["keywords"] = self._keywords(items.get("keywords", []), labels)
        if not empty(row.get(ERROR_COLUMN)):
            left[ERROR_COLUMN] = row[ERROR_COLUMN]
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        if left:
            lines.append(f"  {_COLUMNS_FIELD} = {{{_json(left)}}}")
        return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}"

    def _key(self, row: Row) -> str:
        pmid = re.sub(r"[^A-Za-z0-9]", "", str(row.get("pmid") or ""))
        key = base = f"pmid{pmid}" if pmid else f"record{self._rows}"
        number = 1
        while key in self._keys:
            number += 1
            key = f"{base}-{number}"
        self._keys.add(key)
        return key

    def _fields(self, items: Row) -> tuple[dict[str, str], Row]:
        fields: dict[str, str] = {}
        left: Row = {}
        for name, value in items.items():
            found = column_field(name)
            tag = written_tag("bib", found[0]) if found else None
            if tag == "keywords":
                continue
            if found is None or tag is None or tag in fields:
                left[name] = value
                continue
            values = value if isinstance(value, list | tuple) else [value]
            if found[0].name in ("authors", "editors"):
                names = split_list(value) if isinstance(value, str) else values
                fields[tag] = " and ".join(escape(item_text(item)) for item in names)
            elif len(values) > 1 and found[0].name != "notes":
                left[name] = value
            else:
                fields[tag] = escape("; ".join(item_text(item) for item in values))
        return fields, left

    def _keywords(self, keywords: Any, labels: Any) -> str:
        if isinstance(keywords, str):
            words = split_list(keywords)
        else:
            words = list(keywords) if isinstance(keywords, list | tuple) else [keywords]
        if labels is not None:
            words = [word for word in words if not str(word).startswith(self._options.prefix)]
            given = split_list(labels) if isinstance(labels, str) else labels
            words += [self._options.prefix + label for label in given]
        between = "; " if any("," in str(word) for word in words) else ", "
        return between.join(escape(clean(str(word))) for word in words)

    def _as_it_was(self, row: Row, origin: Origin) -> str:
        """The entry as it stood; fields that changed are taken out and written anew."""
        before, entry, after = origin.record
        changes = {
            name: row.get(name)
            for name in {**origin.as_read, **row}
            if not _ours(name, row)
            and (name not in row or changed(row, origin, name))
            and not (empty(row.get(name)) and empty(origin.as_read.get(name)))
        }
        labels = row.get(PREDICTED_COLUMN, changes.get("labels"))
        if labels is not None or "keywords" in changes:
            changes["keywords"] = row.get("keywords") or []
        fields, left = self._fields({n: v for n, v in changes.items() if not empty(v)})
        if "keywords" in changes:
            fields["keywords"] = self._keywords(changes["keywords"], labels)
        if not empty(row.get(ERROR_COLUMN)):
            left[ERROR_COLUMN] = row[ERROR_COLUMN]
        head, parts, tail = split_parts(entry)
        noted = _own_columns(
            next((v for n, v in parts if n == _COLUMNS_FIELD), "").partition("=")[2]
        )
        noted.pop(_COLUMNS_FIELD, None)
        kept_notes = {n: v for n, v in noted.items() if n not in changes and n != ERROR_COLUMN}
        if kept_notes | left != noted:
            changes[_COLUMNS_FIELD] = None
            if kept_notes | left:
                fields[_COLUMNS_FIELD] = _json(kept_notes | left)
        gone = {tag for name in changes for tag in _tags_of(name)}
        kept = [text for name, text in parts if name not in gone]
        fields = {name: value for name, value in fields.items() if value}
        if fields or len(kept) < len(parts):
            added = [f"\n  {name} = {{{value}}}" for name, value in fields.items()]
            kept = [*(text for text in kept if text.strip()), *added]
            kept[-1] = kept[-1].rstrip() + "\n"
        return f"{before}{head}{','.join(kept)}{tail}{after}"


def _tags_of(name: str) -> list[str]:
    found = column_field(name)
    return [*(found[0].bib.split() if found else ()), name.lower()]


def escape(text: str) -> str:
    """Text as LaTeX that `plain_text` reads as the same."""
    if not re.search(r"[\\{}$%&#_~]", text) and not _NEEDS_CARE.search(text):
        return text
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


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


def _ours(name: str, row: Row) -> bool:
    return name in (PREDICTED_COLUMN, ERROR_COLUMN) or is_probability(name, row)
