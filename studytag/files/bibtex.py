"""BibTeX and BibLaTeX read; the LaTeX in them is resolved by pylatexenc."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from studytag.errors import InputError, import_extra
from studytag.files.bibtex_blocks import (
    Entry,
    read_value,
    split_entries,
    split_outside,
    split_parts,
)
from studytag.files.fields import (
    BY_NAME,
    CANONICAL,
    MODEL_FIELDS,
    Field,
    column_field,
    tag_field,
)
from studytag.files.options import ReadOptions
from studytag.files.rows import (
    Layout,
    Origin,
    SourceRow,
    refuse_many_columns,
)
from studytag.files.streams import TextSource, whole_text
from studytag.files.values import (
    first_year,
    model_text,
    named_pmid,
    noted_pmid,
    to_pmid,
)
from studytag.files.watch import TextWatch
from studytag.records import ARTICLE_COLUMNS, Row, clean

COLUMNS_FIELD = "studytag_columns"
"""Holds the columns that BibTeX has no field for."""

_PLAIN_TEXT = re.compile(r"[{}]")
NEEDS_CARE = re.compile(r"--|''|``|,,|<<|>>|[!?]`")
"""Signs that LaTeX makes one of."""

_LONE_ACCENT = re.compile(r"(?<!\\)\\([~^])\{\s*\}")
_ACCENTS = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SYMBOLS = {
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textasciicircum": "^",
    "textbraceleft": "{",
    "textbraceright": "}",
    "textunderscore": "_",
    "textminus": "−",
    "S": "§",
    "P": "¶",
    "euro": "€",
    "pounds": "£",
    **dict.fromkeys("par newline linebreak newpage".split(), " "),
    **dict.fromkeys("relax noindent indent protect centering raggedright displaystyle".split(), ""),
    **dict.fromkeys("it bf em rm sl sc sf tt itshape bfseries slshape scshape upshape".split(), ""),
    **dict.fromkeys("rmfamily sffamily ttfamily normalfont small large normalsize".split(), ""),
}
_LATEX = re.compile(r"[\\$]|" + NEEDS_CARE.pattern)


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
    refuse_many_columns(path, len(columns))
    lists = {name for view, _ in views for name, value in view.items() if isinstance(value, list)}
    source = TextSource(path, options.encoding)
    layout = Layout("bibtex", source.newline, source.bom)
    for (raw_text, _), (view, raw) in zip(entries, views, strict=True):
        row = {name: view.get(name, [] if name in lists else None) for name in columns}
        watch.row(row, ((name, value) for name, value in row.items() if name not in CANONICAL))
        yield SourceRow(row, Origin(layout, raw_text, dict(row), raw))
    watch.finish()


def _fields(entry: Entry, macros: dict[str, str]) -> dict[str, list[str]]:
    """The values of each field of an entry: a field may be there twice."""
    fields = {"ENTRYTYPE": [entry.kind]}
    for name, part in split_parts(entry.text)[1]:
        if not name:
            if part.strip():
                fields.setdefault("ID", [part.strip()])
            continue
        text = part.partition("=")[2]
        value = text.strip() if name == COLUMNS_FIELD else read_value(text, macros)
        fields.setdefault(name, []).append(value)
    return fields


def plain_text(latex: str) -> str:
    """LaTeX as text: commands and braces resolved; a percent sign is one, not a comment."""
    if not _LATEX.search(latex):
        return clean(_PLAIN_TEXT.sub("", latex))
    latex2text = import_extra("pylatexenc.latex2text", "files")
    # One for each text: it keeps what it is in the midst of, and threads read at the same time.
    converter = latex2text.LatexNodes2Text(_context(), math_mode="text", keep_comments=True)
    try:
        safe = re.sub(r"(?<!\\)%", r"\\%", latex)
        safe = _LONE_ACCENT.sub(lambda match: _ACCENTS[match.group(1)], safe)
        text = converter.latex_to_text(safe)
    except Exception:  # whatever it cannot parse is still text
        text = _PLAIN_TEXT.sub("", latex)
    return clean(text)


@cache
def _context() -> Any:
    """What commands mean: pylatexenc leaves out without a word each that it does not know."""
    latex2text = import_extra("pylatexenc.latex2text", "files")
    context = latex2text.get_default_latex_context_db()
    symbols = [latex2text.MacroTextSpec(name, symbol) for name, symbol in _SYMBOLS.items()]
    context.add_context_category("studytag", macros=symbols, prepend=True)
    context.set_unknown_macro_spec(latex2text.MacroTextSpec("", simplify_repl=_unknown_command))
    return context


def _unknown_command(node: Any, l2tobj: Any) -> str:
    """What a command stands before, or itself where it is a sign of its own."""
    parts = [part for part in getattr(node.nodeargd, "argnlist", None) or () if part is not None]
    end = node.pos + node.len
    following = node.parsing_state.s[end : end + 2]
    if parts or (following[:1] == "{" and following != "{}"):
        return str(l2tobj.nodelist_to_text(parts))
    return f"\\{node.macroname}{node.macro_post_space}"


def _view(fields: dict[str, list[str]]) -> tuple[Row, dict[str, Any]]:
    row: Row = dict.fromkeys(ARTICLE_COLUMNS)
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
            values = fields[tag]
            if tag == COLUMNS_FIELD:
                extra = own_columns(values[0])
                continue
            if name in BY_NAME and BY_NAME[name].many and chosen is None:
                if items := [item for value in values for item in _items(name, value)]:
                    chosen = tag
                    row[name] = items
                    continue
            for number, text in enumerate(map(plain_text, values), 1):
                if name in BY_NAME and chosen is None and text:
                    chosen = tag
                    row[name] = text
                elif name not in BY_NAME or text:
                    row[tag if number == 1 else f"{tag}_{number}"] = text or None
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
    ours = ("ID", "type_of_reference")  # which every entry has
    row |= {name: value for name, value in extra.items() if name in ours or not row.get(name)}
    return row, raw


def _items(name: str, latex: str) -> list[str]:
    """The items of a field of many, of which braces make one out of what would be several."""
    parts = [latex]
    if name in ("authors", "editors"):
        parts = split_outside(latex, r"(?<!\s)\s+and\s+")
    elif name == "keywords":
        latex = latex.strip()
        if len(split_outside(latex, "[^{}]")) == 1:  # Web of Science puts two around every value
            latex = latex[1:-1]
        parts = split_outside(latex, ";")
        parts = parts if len(parts) > 1 else split_outside(latex, ",")
    return [text for text in map(plain_text, parts) if text]


def own_columns(text: str) -> Row:
    """The columns that a field of ours holds as JSON."""
    try:
        pairs = json.loads(text.strip()[1:-1])
        return {str(name): value for name, value in pairs}
    except (ValueError, TypeError):
        return {COLUMNS_FIELD: text}
