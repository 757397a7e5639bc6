"""Parquet tables, read in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studytag.errors import InputError, import_extra
from studytag.files.options import ReadOptions
from studytag.files.tables import Table
from studytag.files.watch import TextWatch
from studytag.records import Row

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_READ_ROWS = 1024
_READ_BYTES = 1 << 22


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The rows of the table, read in batches.

    Raises:
        InputError: the file is not complete parquet, or has neither title nor abstract.
    """
    arrow = _pyarrow()
    watch = TextWatch(path, options)
    number = 0
    try:
        with _open(path) as file:
            schema = file.schema_arrow
            table = Table(path, schema.names, watch, "parquet", schema=schema)
            # One thread: decoding is far faster than any model, which wants the cores.
            size = _batch_rows(file.metadata)
            for batch in file.iter_batches(batch_size=size, use_threads=False):
                columns = [_values(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    where = f"{path}: row {number}"
                    yield _row(table, cells, where, options.return_errors)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: damaged parquet after row {number}; write or download it again"
        ) from error
    watch.finish()


@dataclass(frozen=True)
class _Unreadable:
    """A value that Python cannot hold, such as a date in the year 290,000."""

    reason: str


def _values(column: Any) -> list[Any]:
    """The values of a column; `_Unreadable` in place of those that Python cannot hold."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return _Unreadable(f"{scalar.type}: {error}")


def _row(table: Table, cells: tuple[Any, ...], where: str, return_errors: bool) -> Row:
    for name, cell in zip(table.layout.names, cells, strict=True):
        if isinstance(cell, _Unreadable):
            reason = f"{where}: column {name!r} holds no value that can be read ({cell.reason})"
            if not return_errors:
                raise InputError(reason)
            kept = [None if isinstance(each, _Unreadable) else each for each in cells]
            return table.unread(kept, reason)
    return table.row_or_error(cells, where, return_errors)


def _batch_rows(metadata: Any) -> int:
    """How many rows to read at once: few where they are large."""
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)  # unpacked
    return max(min(_READ_BYTES * int(metadata.num_rows) // max(int(size), 1), _READ_ROWS), 1)


def count(path: Path) -> int:
    """The number of rows, from the file's footer.

    Raises:
        InputError: the file is not parquet.
    """
    with _open(path) as file:
        return int(file.metadata.num_rows)


def _pyarrow() -> Any:
    import_extra("pyarrow.parquet", "files")
    return import_extra("pyarrow", "files")


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    arrow = _pyarrow()
    try:
        # Buffered: page by page, where otherwise a row group would be read whole.
        file = arrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not parquet, or cut off; write or download it again") from error
    with file:
        yield file
