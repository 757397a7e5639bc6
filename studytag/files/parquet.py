"""Parquet tables."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studytag.errors import InputError, missing_dependency
from studytag.files.columns import missing, table_columns, tidy
from studytag.records import Row, table_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_READ_ROWS = 1024
_GROUP_ROWS = 10_000


def read(path: Path) -> Iterator[Row]:
    """The rows of the table, read in batches.

    Raises:
        InputError: the file is not complete parquet, or has neither title nor abstract.
    """
    arrow = _pyarrow()
    number = 0
    try:
        with _open(path) as file:
            names = table_columns(path, file.schema_arrow.names)
            # One thread: decoding is far faster than any model, which wants the cores.
            for batch in file.iter_batches(batch_size=_READ_ROWS, use_threads=False):
                for row in batch.rename_columns(names).to_pylist():
                    number += 1
                    yield tidy(row, f"{path}: row {number}")
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: damaged parquet after row {number}; write or download it again"
        ) from error


def count(path: Path) -> int:
    """The number of rows, from the file's footer.

    Raises:
        InputError: the file is not parquet.
    """
    with _open(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def open_writer(path: Path, target: Path) -> Iterator[ParquetWriter]:
    """Write rows to `path`; `target` is the final name, for messages."""
    writer = ParquetWriter(path, target)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()


class ParquetWriter:
    """Writes rows in groups of 10,000, under the columns and types of the first group.

    The table's own columns have their types from `table_schema`, other types are inferred; a
    column without any value so far is taken for text.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self._pa = _pyarrow()
        self._misfits = (self._pa.ArrowException, ValueError, TypeError, OverflowError)
        self._path = path
        self._target = target
        self._buffer: list[Row] = []
        self._written = 0
        self._file: pq.ParquetWriter | None = None

    def write(self, row: Row) -> None:
        """Add a row; columns it lacks are null.

        Raises:
            InputError: a value does not fit its column (also found later, when the group is
                written), or the column is not in the first group.
        """
        self._buffer.append(row)
        if len(self._buffer) == _GROUP_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is buffered; without any row, a table of no rows.

        Raises:
            InputError: as `write`.
        """
        if self._buffer or self._file is None:
            self._flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetWriter(self._path, self._schema(), compression="zstd")
        schema = self._file.schema
        self._refuse_new_columns(set(schema.names))
        columns = [self._column(field.name, field.type) for field in schema]
        self._file.write_table(self._pa.Table.from_arrays(columns, schema=schema))
        self._written += len(self._buffer)
        self._buffer = []

    def _schema(self) -> pa.Schema:
        table = table_schema()
        if not self._buffer:
            return table
        names = dict.fromkeys(name for row in self._buffer for name in row)
        fields = [
            table.field(name) if name in table.names else self._pa.field(name, self._infer(name))
            for name in names
        ]
        return self._pa.schema(fields)

    def _infer(self, name: str) -> pa.DataType:
        types = self._pa.types
        found = self._column(name, None).type
        if types.is_null(found):
            return self._pa.string()
        if types.is_list(found) and types.is_null(found.value_type):
            return self._pa.list_(self._pa.string())
        return found

    def _column(self, name: str, type_: pa.DataType | None) -> pa.Array:
        values = [row.get(name) for row in self._buffer]
        values = [None if missing(value) else value for value in values]
        try:
            return self._array(values, type_)
        except self._misfits as error:
            raise self._misfit(name, values, type_) from error

    def _array(self, values: list[Any], type_: pa.DataType | None) -> pa.Array:
        array = self._pa.array(values, type=type_)
        # Arrow takes a text for a list of its letters: "RCT" would become R, C, T.
        if self._pa.types.is_list(array.type) and any(isinstance(v, str) for v in values):
            raise TypeError("text in a column of lists")
        return array

    def _misfit(self, name: str, values: list[Any], type_: pa.DataType | None) -> InputError:
        """The error that names the first value which does not go with the values before it."""
        lengths = range(1, len(values) + 1)
        row = bisect_left(lengths, True, key=lambda n: not self._fits(values[:n], type_))
        expected = f", which is not {type_}" if type_ else ", unlike the rows before it"
        return InputError(
            f"{self._target}: row {self._written + row + 1}: column {name!r} holds "
            f"{values[row]!r:.60}{expected}; give the column one type"
        )

    def _fits(self, values: list[Any], type_: pa.DataType | None) -> bool:
        try:
            self._array(values, type_)
        except self._misfits:
            return False
        return True

    def _refuse_new_columns(self, names: set[str]) -> None:
        for number, row in enumerate(self._buffer, self._written + 1):
            for name in row:
                if name not in names:
                    raise InputError(
                        f"{self._target}: row {number}: column {name!r} is not in the first "
                        f"{_GROUP_ROWS} rows; give every row the same columns, or write .jsonl"
                    )


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_dependency("pyarrow", "files") from error
    return pyarrow


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    arrow = _pyarrow()
    try:
        file = arrow.parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not parquet, or cut off; write or download it again") from error
    with file:
        yield file
