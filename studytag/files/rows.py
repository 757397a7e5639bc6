"""A row that remembers what it was read from, so that it can be written back unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.files.values import missing, to_list
from studytag.records import PREDICTED_COLUMN, Row

ERROR_COLUMN = "studytag_error"
"""Where a tagged file says why a row could not be tagged."""

INDICATOR_PREFIX = "tag_studytag_"
"""Begins the names of columns of 0 and 1, one a label, as ASReview reads them."""

PROBABILITY_PREFIX = "p_"

MOST_COLUMNS = 2**14
"""Of a table, as of a sheet of Excel."""


@dataclass(frozen=True)
class Layout:
    """How a file is laid out; shared by all its rows.

    Attributes:
        format: Name of the format, which a writer compares with its own.
        newline: Ends its lines.
        bom: Whether it begins with a byte-order mark.
    """

    format: str
    newline: str = "\n"
    bom: bool = False


@dataclass(frozen=True)
class TableLayout(Layout):
    """How a table is laid out.

    Attributes:
        header: The column names as they stand in the file, also empty and repeated ones.
        names: The same made unique.
        views: The names that the rows have: `title` where the file says `Document Title`.
        preamble: What stands before the header: lines of text, or rows of cells.
        delimiter: Stands between the cells of delimited text.
        bare: Whether its quotes are letters like others.
        schema: The arrow schema of a parquet file.
    """

    header: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    preamble: tuple[Any, ...] = ()
    delimiter: str = ","
    bare: bool = False
    schema: Any = None


@dataclass(slots=True)
class Origin:
    """What a row was read from.

    Attributes:
        layout: Of its file.
        record: The cells of a table's row, or the lines of a tagged record.
        as_read: The row's values when it was read: what differs now has been changed since.
        raw: Original values of the columns whose values were cleaned for the model.
        elsewhere: Columns of a table whose value was taken from another one, since they are empty.
    """

    layout: Layout
    record: Any
    as_read: Mapping[str, Any]
    raw: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


class SourceRow(dict[str, Any]):
    """A row with its origin; `row | columns` keeps it.

    Attributes:
        origin: What the row was read from.
    """

    __slots__ = ("origin",)

    def __init__(self, values: Mapping[str, Any], origin: Origin) -> None:
        super().__init__(values)
        self.origin = origin

    def __or__(self, other: Any) -> SourceRow:  # type: ignore[override]
        return SourceRow(dict.__or__(self, dict(other)), self.origin)

    def copy(self) -> SourceRow:
        """A shallow copy with the same origin."""
        return SourceRow(self, self.origin)

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceRow, (dict(self), self.origin)


class UnreadRow(SourceRow):
    """Stands for a row that cannot be read, with those of its cells that can be recognised.

    Attributes:
        reason: Why, with file and line.
    """

    __slots__ = ("reason",)

    def __init__(self, values: Mapping[str, Any], origin: Origin, reason: str) -> None:
        super().__init__(values, origin)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return UnreadRow, (dict(self), self.origin, self.reason)


def blank_row(layout: TableLayout, names: Iterable[str]) -> SourceRow:
    """A row of a table under `names`, as if it had been read with nothing in any cell."""
    nothing = dict.fromkeys(layout.views)
    return SourceRow(dict.fromkeys(names), Origin(layout, (None,) * len(nothing), nothing))


def origin_of(row: Row, format: str | None = None) -> Origin | None:
    """The origin of a row, if it has one and (where a format is given) is of that format."""
    origin = row.origin if isinstance(row, SourceRow) else None
    return origin if origin and (format is None or origin.layout.format == format) else None


def changed(row: Row, origin: Origin, name: str) -> bool:
    """Whether a column is new, or holds something else than when it was read."""
    if name not in origin.as_read:
        return True
    now, then = row[name], origin.as_read[name]
    return now is not then and not _same(now, then)


def written_items(row: Row) -> Iterator[tuple[str, Any]]:
    """The columns of a row with the values to write: original text where it was not changed."""
    origin = origin_of(row)
    for name, value in row.items():
        if origin and name in origin.raw and not changed(row, origin, name):
            yield name, origin.raw[name]
        else:
            yield name, value


def table_columns(row: Row, *, verbatim: bool = False) -> dict[str, Any]:
    """The columns of a row as another table gets them: its file's own names and values.

    A column that was only derived from others, such as a year out of a date, is left out.

    Args:
        row: The row.
        verbatim: Leave cells as they were instead of giving years and lists their types.
    """
    origin = origin_of(row)
    if origin is None:
        return dict(row)
    if not isinstance(origin.layout, TableLayout):
        return dict(written_items(row))
    layout = origin.layout
    cells = {
        view: (name, cell)
        for name, view, cell in zip(layout.names, layout.views, origin.record, strict=True)
    }
    columns = {}
    for view, value in row.items():  # in whose order: replaced tags stand behind all else
        name, cell = cells.get(view, (view, None))
        if changed(row, origin, view):
            columns[name] = value
        elif view in cells:
            as_it_was = verbatim or view in origin.raw or view in origin.elsewhere
            columns[name] = cell if as_it_was else value
    return columns


def tagged(row: Row, columns: Row) -> Row:
    """`row` with the columns of a prediction behind its own, without those of an earlier one."""
    kept = row.copy()
    for name in {*tag_columns(row), *columns}:
        kept.pop(name, None)
    return kept | columns


def tag_columns(row: Row) -> set[str]:
    """The columns of a row that tagging added: tags, probabilities, error, and those of 0 and 1."""
    indicators = (name for name in row if name.startswith(INDICATOR_PREFIX))
    return {PREDICTED_COLUMN, ERROR_COLUMN, *probability_columns(row), *indicators}


def probability_columns(row: Row) -> list[str]:
    """The columns of probabilities that tagging added to a row.

    A table may have a `p_value` of its own, and its tags may be of a model with other labels. So
    only what we write counts: `studytag_labels`, nothing but `p_` columns, `studytag_error`.
    """
    names = list(row)
    try:
        block = names[names.index(PREDICTED_COLUMN) + 1 : names.index(ERROR_COLUMN)]
    except ValueError:
        return []
    return block if all(name.startswith(PROBABILITY_PREFIX) for name in block) else []


def known_labels(row: Row) -> set[str]:
    """The labels that a row is known to be tagged with, or to lack."""
    labels = row.get(PREDICTED_COLUMN, row.get("labels"))
    probable = (name.removeprefix(PROBABILITY_PREFIX) for name in probability_columns(row))
    return {*(to_list(labels) or ()), *probable}


def refuse_many_columns(
    path: Path, count: int, remedy: str = "give a file whose records have the same fields"
) -> None:
    """Refuse more columns than any sheet has: every row would get them all.

    Raises:
        InputError: there are more than `MOST_COLUMNS`.
    """
    if count > MOST_COLUMNS:
        raise InputError(f"{path}: more than {MOST_COLUMNS:,} columns; {remedy}")


def empty(value: Any) -> bool:
    """Whether there is nothing to write of a value."""
    return missing(value) or (isinstance(value, str | list | tuple | dict) and len(value) == 0)


def _same(one: Any, other: Any) -> bool:
    if missing(one) and missing(other):
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except ValueError:  # arrays compare element by element
        return False
