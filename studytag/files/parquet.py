"""Parquet tables, read in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
                columns = [column.to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    where = f"{path}: row {number}"
                    yield table.row_or_error(cells, where, options.return_errors)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: damaged parquet after row {number}; write or download it again"
        ) from error
    watch.finish()


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
