"""What a caller may give as records: one or many, and tables whose columns are read by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from studytag.errors import InputError
from studytag.records import Row

Record = Mapping[str, Any] | str
"""An article: a mapping with `title` and/or `abstract`, or a ready-made text."""

Records = Record | Iterable[Record] | Any
"""One record, any iterable of them, or a table: a pandas or polars DataFrame, an Arrow table."""

_FIELDS = ("title", "abstract")


def iterate_records(records: Records) -> Iterator[Record]:
    """The records one by one.

    A string or a mapping is one record; so is a pandas Series that is a row of a table. A table is
    read by its columns `title` and `abstract`. Anything else must be an iterable of records.

    Raises:
        InputError: a table has neither column, has one twice, or is not in memory, or `records` is
            nothing that holds articles.
    """
    if isinstance(records, str | Mapping):
        return iter([records])
    if isinstance(records, bytes | bytearray):
        raise InputError("records are bytes; decode them first: text.decode('utf-8')")
    names = _column_names(records)
    if names is not None:
        return _table_rows(records, names)
    if _is_table_row(records):
        row: Any = records
        text_columns("the row", [str(name) for name in row.index])  # a dict would keep the last
        return iter([row.to_dict()])
    dimensions = getattr(records, "ndim", 1)
    if dimensions != 1:
        raise InputError(
            f"records are an array of {dimensions} dimensions; give a list of texts or mappings"
        )
    try:
        return iter(records)
    except TypeError as error:
        raise InputError(
            f"records are a {type(records).__name__}; give one article (a text, or a mapping with "
            "'title' and 'abstract') or an iterable of them"
        ) from error


def text_columns(table: str, names: Sequence[str]) -> list[str]:
    """Those of a table's columns that the model reads.

    Args:
        table: Begins the message.
        names: The table's columns.

    Raises:
        InputError: there are none, or one is there twice.
    """
    used = [name for name in _FIELDS if name in names]
    for name in used:
        if names.count(name) > 1:
            raise InputError(f"{table} has the column {name!r} more than once; rename the others")
    if not used:
        raise InputError(
            f"{table} has neither a column 'title' nor 'abstract', but {', '.join(names[:20])}; "
            "rename a column"
        )
    return used


def _column_names(records: Any) -> list[str] | None:
    """The column names of a table (pandas, polars, Arrow, a NumPy record array); else None.

    A method of that name, which the results of SQLAlchemy have, makes no table.
    """
    dtype = getattr(records, "dtype", None)
    for holder, attribute in ((records, "column_names"), (dtype, "names"), (records, "columns")):
        names = getattr(holder, attribute, None)
        if names is not None and not callable(names):
            return [str(name) for name in names]
    return None


def _table_rows(table: Any, names: list[str]) -> Iterator[Record]:
    """The rows of a table as mappings, column by column, so that no row object is made twice."""
    used = text_columns("the table", names)
    columns = [_cells(table, name) for name in used]
    return (dict(zip(used, cells, strict=True)) for cells in zip(*columns, strict=True))


def _cells(table: Any, name: str) -> Iterator[Any]:
    """The cells of a column, Arrow's scalars unwrapped.

    Raises:
        InputError: it has none: a query, as of Polars, DuckDB or Spark, only describes its rows.
    """
    try:
        column = table[name]
        if isinstance(column, Iterable):
            return map(_plain, column)
    except TypeError:  # also of an `__iter__` that is there to say that there is none
        pass
    raise InputError(
        f"the rows of a {type(table).__name__} are not in memory; give a DataFrame or an Arrow "
        "table that is made of it"
    )


def _is_table_row(records: Any) -> bool:
    """Whether this is a pandas Series taken from a table: iterating it would give its cells."""
    index = getattr(records, "index", None)
    if index is None or callable(index) or not hasattr(records, "to_dict"):
        return False
    return any(name in index for name in _FIELDS)


def _plain(value: Any) -> Any:
    return value.as_py() if hasattr(value, "as_py") else value


def remember(rows: Iterable[Row], waiting: deque[Row]) -> Iterator[Row]:
    """Pass rows on to a predictor, keeping each in `waiting` until its prediction arrives."""
    for row in rows:
        waiting.append(row)
        yield row
