"""JSON: one object per line, or (read only) a document with a list of objects, as CSL-JSON is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from studytag.errors import InputError
from studytag.files.fields import MODEL_FIELDS, column_key
from studytag.files.options import ReadOptions, WriteOptions, with_tags
from studytag.files.rows import Layout, Origin, UnreadRow, origin_of, table_columns
from studytag.files.streams import TextSource, whole_text
from studytag.files.tables import Table
from studytag.files.values import missing
from studytag.files.watch import TextWatch
from studytag.records import Row

_LAYOUTS = 1000
_DEEPEST = 100
_OWN_LISTS = ("references", "articles", "papers", "documents", "docs")
"""Names of lists that a paper may have too."""

_LISTS = (
    *("items", "results", "data", "records", "result", "message", "resultList", "response"),
    *_OWN_LISTS,
)


class _Tables:
    """The tables of objects with the same names; objects may all have different ones."""

    def __init__(self, path: Path, watch: TextWatch, format: str) -> None:
        self._path = path
        self._watch = watch
        self._format = format
        self._tables: dict[tuple[str, ...], Table] = {}

    def row(self, values: dict[str, Any], where: str) -> Row:
        if _is_deep(values):
            raise InputError(f"{where}: nests deeper than {_DEEPEST}; flatten it")
        names = tuple(values)
        table = self._tables.get(names)
        if table is None:
            if len(self._tables) >= _LAYOUTS:
                self._tables.clear()
            table = Table(self._path, names, self._watch, self._format, partial=True)
            self._tables[names] = table
        return table.row(tuple(values.values()), where)


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The objects of the file; empty lines are passed over.

    Raises:
        InputError: a line is not JSON, not an object, or holds an unpaired surrogate.
    """
    watch = TextWatch(path, options)
    tables = _Tables(path, watch, "jsonl")
    for number, line in enumerate(TextSource(path, options.encoding).lines(), 1):
        if line.strip():
            where = f"{path}: line {number}"
            try:
                row = tables.row(_object(line, where), where)
            except InputError as error:
                if not options.return_errors:
                    raise
                row = _unread(line, str(error), "jsonl")
            yield row
    watch.finish()


def read_document(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The objects of a JSON list, or of the first list of objects in a JSON object.

    Raises:
        InputError: it is not JSON, or holds no list of objects.
    """
    watch = TextWatch(path, options)
    tables = _Tables(path, watch, "json")
    text = whole_text(path, options.encoding)
    try:
        document = _parsed(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, line {error.lineno}" if error.doc else error.msg
        raise InputError(f"{path}: not JSON ({reason}); export it again") from error
    surrogates = "\\ud" in text.lower()
    for number, value in enumerate(_records(document, path), 1):
        where = f"{path}: record {number}"
        try:
            if not isinstance(value, dict):
                raise InputError(f"{where}: a {type(value).__name__} where an object is needed")
            if surrogates:
                _check_surrogates(value, where)
            row = tables.row(value, where)
        except InputError as error:
            if not options.return_errors:
                raise
            row = _unread(json.dumps(value), str(error), "json")
        yield row
    watch.finish()


def _unread(text: str, reason: str, format: str) -> UnreadRow:
    """A row whose error also tells how the text that cannot be read begins."""
    shown = " ".join(text.split())
    return UnreadRow({}, Origin(Layout(format), None, {}), f"{reason}; it begins: {shown:.200}")


def _parsed(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        JSONDecodeError: it is none, or an object has a name twice: json would keep one value.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError("cannot be read", "", 0) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise json.JSONDecodeError(f"an object has the name {twice!r} twice", "", 0)
    return values


def _is_deep(value: Any) -> bool:
    """Whether lists and objects nest too deep for the writers, which go into them one by one."""
    inner = [value]
    for _ in range(_DEEPEST + 1):
        inner = [
            item
            for each in inner
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
        ]
        if not inner:
            return False
    return True


def records_in(document: Any) -> list[Any] | None:
    """The records of a JSON document: it is their list, holds it, or is one; None of another.

    A paper may have a list too, as that of its references.
    """
    while isinstance(document, dict):
        names = {name.lower() for name in document}
        lists = [name for name in _LISTS if isinstance(document.get(name), list | dict)]
        if "abstract" in names or ("title" in names and set(lists) <= set(_OWN_LISTS)):
            return [document]
        document = document[lists[0]] if lists else None
    return document if isinstance(document, list) else None


def _records(document: Any, path: Path) -> list[Any]:
    records = records_in(document)
    if records is None:
        raise InputError(f"{path}: holds no list of records; export it as CSL-JSON or RIS")
    if parts := cells_by(records):
        raise InputError(
            f"{path}: a table by its {parts}, not a list of records; write it as one, in pandas "
            "with to_json(orient='records')"
        )
    return records


def cells_by(records: list[Any]) -> str | None:
    """What the parts of a JSON document are if they are no records: `rows` or `columns` of cells.

    So pandas' `to_json` writes a table, unless it is asked for records.
    """
    if records and all(isinstance(each, list) for each in records):
        return "rows"
    (first, *others) = records or [None]
    if others or not isinstance(first, dict):
        return None
    texts = [value for name, value in first.items() if column_key(name) in MODEL_FIELDS]
    return "columns" if any(map(_is_column, texts)) else None


def _is_column(value: Any) -> bool:
    """Whether a title or abstract holds a cell for each row: by a list, words tell their places."""
    return isinstance(value, dict) and not any(isinstance(cell, list) for cell in value.values())


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = _parsed(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}); write one object per line") from error
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: a {type(value).__name__} where an object is needed; "
            'write one object per line: {"title": ..., "abstract": ...}'
        )
    if "\\ud" in line.lower():
        _check_surrogates(value, where)
    return value


def _check_surrogates(value: dict[str, Any], where: str) -> None:
    r"""Refuse text cut in the middle of a `\ud83d\ude00` pair: no file or tokenizer can take it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        surrogate = ascii(error.object[error.start])[1:-1]
        raise InputError(f"{where}: {surrogate} is an unpaired surrogate; remove it") from error


class JsonlWriter:
    """Writes rows as lines of JSON; missing values are null, other foreign values their text.

    Args:
        stream: Where the text goes.
        target: The file's final name, for messages.
        options: How to write.
    """

    def __init__(self, stream: TextIO, target: Path, options: WriteOptions) -> None:
        self._stream = stream
        self._target = target
        self._options = options
        self._rows = 0

    def begin(self, row: Row) -> None:
        """Lines need no columns."""

    def write(self, row: Row) -> None:
        """Add a row.

        Raises:
            InputError: it holds a number that JSON cannot say (NaN in a list, infinity).
        """
        self._rows += 1
        verbatim = bool(origin_of(row, "jsonl") or origin_of(row, "json"))
        columns = table_columns(row, verbatim=verbatim)
        columns = with_tags(columns, self._options, verbatim=verbatim)
        cells = {name: None if missing(value) else value for name, value in columns.items()}
        try:
            line = json.dumps(cells, ensure_ascii=False, allow_nan=False, default=_plain)
        except ValueError as error:
            raise InputError(f"{self._target}: row {self._rows}: {error}; remove it") from error
        self._stream.write(line + "\n")


def _plain(value: Any) -> Any:
    """What JSON makes of numpy's numbers and arrays, dates and the like."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
