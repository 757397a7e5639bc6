"""Parquet tables, written in groups of bounded size, under types that widen as values need it."""

from __future__ import annotations

import json
import logging
import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studytag.errors import InputError, import_extra
from studytag.files.fields import column_field
from studytag.files.options import WriteOptions, with_tags
from studytag.files.rows import origin_of, probability_columns, table_columns
from studytag.files.values import missing
from studytag.records import PREDICTED_COLUMN, Row, table_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

logger = logging.getLogger(__name__)

_GROUP_ROWS = 10_000
_GROUP_BYTES = 1 << 24
_MOST_NAMES = 256


@contextmanager
def open_writer(path: Path, target: Path, options: WriteOptions) -> Iterator[ParquetWriter]:
    """Write rows to `path`; `target` is the final name, for messages."""
    writer = ParquetWriter(path, target, options)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()


class ParquetWriter:
    """Writes rows in groups of 10,000, or of 16 MiB, under the columns of the first group.

    A column has the type of the parquet file that it was read from, or of `table_schema`, else of
    its values. Where later values need a wider type (a fraction in a column of whole numbers), the
    groups before wait in a part of their own, and all are written again at the end; nothing is
    rounded or turned into text to make it fit.

    Args:
        path: Where to write.
        target: The file's final name, for messages.
        options: How to write.
    """

    def __init__(self, path: Path, target: Path, options: WriteOptions) -> None:
        self._pa = import_extra("pyarrow", "files")
        self._misfits = (self._pa.ArrowException, ValueError, TypeError, OverflowError)
        self._path = path
        self._target = target
        self._options = options
        self._buffer: list[Row] = []
        self._size = 0
        self._first_rows = 0
        self._input_schema: Any = None
        self._written = 0
        self._unknown: set[str] = set()
        self._blank: Row | None = None
        self._texts: set[str] = set()  # columns whose values no type has in common
        self._file: pq.ParquetWriter | None = None
        self._narrow: list[Path] = []  # parts under narrower types

    def begin(self, row: Row) -> None:
        """Take the columns of `row`, for a table that may get no row."""
        self._note_schema(row)
        self._blank = self._columns(row)

    def write(self, row: Row) -> None:
        """Add a row; columns it lacks are null.

        Raises:
            InputError: a value does not fit its column (also found later, when the group is
                written), or the column is not in the first group.
        """
        if self._file is None and not self._buffer:
            self._note_schema(row)
        columns = self._columns(row)
        self._buffer.append(columns)
        self._size += sum(map(_size, columns.values()))
        if len(self._buffer) >= _GROUP_ROWS or self._size >= _GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is buffered; without any row, a table of no rows.

        Raises:
            InputError: as `write`.
        """
        if self._buffer or self._file is None:
            self._flush()
        if self._narrow and self._file is not None:
            schema = self._file.schema
            self._set_aside()
            self._unite(schema)

    def close(self) -> None:
        """Close the file, and remove the parts that it was made of."""
        if self._file is not None:
            self._file.close()
        for part in self._narrow:
            part.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._file is None:
            schema = self._schema()
        else:
            schema = self._file.schema
            self._refuse_new_columns(set(schema.names))
            schema = self._widened(schema)
        columns = [self._column(field.name, field.type) for field in schema]
        if self._file is None:
            self._file = self._open(self._path, schema)
        elif not schema.equals(self._file.schema):
            self._set_aside()
            self._file = self._open(self._path, schema)
        self._file.write_table(self._pa.Table.from_arrays(columns, schema=schema))
        self._written += len(self._buffer)
        self._first_rows = self._first_rows or self._written
        self._buffer = []
        self._size = 0

    def _open(self, path: Path, schema: pa.Schema) -> pq.ParquetWriter:
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")

    def _columns(self, row: Row) -> Row:
        verbatim = bool(origin_of(row, "parquet"))
        columns = table_columns(row, verbatim=verbatim)
        return with_tags(columns, self._options, verbatim=verbatim)

    def _rows_with_columns(self) -> list[Row]:
        """What tells the columns of the first group: its rows, or the row that it began with."""
        return self._buffer or ([] if self._blank is None else [self._blank])

    def _note_schema(self, row: Row) -> None:
        if origin := origin_of(row, "parquet"):
            self._input_schema = getattr(origin.layout, "schema", None)

    def _schema(self) -> pa.Schema:
        rows = self._rows_with_columns()
        if not rows:
            return table_schema()
        names = dict.fromkeys(name for row in rows for name in row)
        return self._pa.schema([self._pa.field(name, self._type(name)) for name in names])

    def _type(self, name: str) -> pa.DataType:
        """The type of a column, by the first group."""
        values = self._values(name)
        known = self._input_schema
        if known is not None and (place := known.get_field_index(name)) >= 0:  # -1 also of two
            type_ = known.field(place).type
            if self._fits(values, type_):
                return type_
        table = table_schema()
        if name in table.names:
            type_ = table.field(name).type
            if self._is_text_year(name, values) or self._made_text(name, values, type_):
                return self._pa.string()
            return type_
        if self._is_text_year(name, values):
            return self._pa.string()
        types = self._pa.types
        if self._made_text(name, values, None):
            return self._pa.string()
        found = self._column(name, None).type
        if types.is_null(found) or (types.is_list(found) and types.is_null(found.value_type)):
            self._unknown.add(name)
            return self._type_without_values(name, found)
        return found

    def _type_without_values(self, name: str, found: pa.DataType) -> pa.DataType:
        """Text or lists of texts; of tags what they always are, also where no row got any."""
        if name == PREDICTED_COLUMN or self._pa.types.is_list(found):
            return self._pa.list_(self._pa.string())
        probability = name in probability_columns(self._rows_with_columns()[0])
        return self._pa.float64() if probability else self._pa.string()

    def _widened(self, schema: pa.Schema) -> pa.Schema:
        """`schema` with the types that the buffered rows need, where there are such."""
        for position, field in enumerate(schema):
            values = self._values(field.name)
            if not self._fits(values, field.type):
                type_ = self._wider(field.name, field.type, values)
                schema = schema.set(position, field.with_type(type_))
            elif any(not missing(value) and value != [] for value in values):
                self._unknown.discard(field.name)
        return schema

    def _wider(self, name: str, type_: pa.DataType, values: list[Any]) -> pa.DataType:
        if self._is_text_year(name, values):
            return self._pa.string()
        try:
            found = self._array(values, None).type
            if name in self._unknown:
                self._unknown.discard(name)
                return found
            fields = [self._pa.schema([(name, kind)]) for kind in (type_, found)]
            both = self._pa.unify_schemas(fields, promote_options="permissive").field(name).type
            self._refuse_many_names(both.num_fields)
            return both
        except self._misfits as error:
            if self._made_text(name, values, type_):
                return self._pa.string()
            raise self._misfit(name, values, type_) from error

    def _made_text(self, name: str, values: list[Any], type_: pa.DataType | None) -> bool:
        """Make text of a column whose values do not fit the type, where that is wanted."""
        if not self._options.mixed_as_text or self._fits(values, type_):
            return False
        self._texts.add(name)
        logger.warning(
            "%s: column %r holds values of different types; it becomes text", self._target, name
        )
        return True

    def _set_aside(self) -> None:
        """Make a part of the file so far."""
        assert self._file is not None
        self._file.close()
        part = self._path.with_name(f"{self._path.name}.narrow{len(self._narrow)}")
        self._narrow.append(part)
        os.replace(self._path, part)

    def _unite(self, schema: pa.Schema) -> None:
        """Write the groups of all parts under the widest types."""
        import pyarrow.parquet as pq

        self._file = self._open(self._path, schema)
        for part in self._narrow:
            with pq.ParquetFile(part) as before:
                for group in range(before.num_row_groups):
                    table = before.read_row_group(group)
                    self._file.write_table(self._cast(table, schema))
            part.unlink()

    def _cast(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        columns = []
        for field in schema:
            column = table.column(field.name)
            if field.name in self._texts:
                texts = [_text(_without_nulls(value)) for value in column.to_pylist()]
                column = self._pa.array(texts, type=field.type)
            # Older arrow does not cast a struct to a wider one.
            nested = self._pa.types.is_nested(field.type)
            try:
                if nested or column.null_count == len(column):
                    column = self._array(column.to_pylist(), field.type)
                columns.append(column.cast(field.type))
            except self._misfits as error:
                raise InputError(
                    f"{self._target}: column {field.name!r} holds values that no type has in "
                    f"common; give the column one type"
                ) from error
        return self._pa.Table.from_arrays(columns, schema=schema)

    def _is_text_year(self, name: str, values: list[Any]) -> bool:
        """Years such as `in press` or 2020.5 make the column text, and so come back."""
        found = column_field(name)
        if found is None or found[0].name != "year":
            return False
        whole = (not isinstance(value, float) or value.is_integer() for value in values)
        if all(whole) and not any(isinstance(value, str) for value in values):
            return False
        for row in self._buffer:
            if not missing(row.get(name)):
                row[name] = str(row[name])
        return True

    def _values(self, name: str) -> list[Any]:
        values = [row.get(name) for row in self._buffer]
        if name in self._texts:
            return [_text(value) for value in values]
        return values

    def _column(self, name: str, type_: pa.DataType | None) -> pa.Array:
        values = self._values(name)
        found = column_field(name)
        if found and found[0].name == "year" and type_ == self._pa.string():
            values = [None if missing(value) else str(value) for value in values]
        try:
            return self._array(values, type_)
        except self._misfits as error:
            raise self._misfit(name, values, type_) from error

    def _array(self, values: list[Any], type_: pa.DataType | None) -> pa.Array:
        types = self._pa.types
        if type_ is None or not types.is_floating(type_):  # which alone tell NaN from null
            values = [None if missing(value) else value for value in values]
        if type_ is None:
            names = {name for value in values if isinstance(value, dict) for name in value}
            self._refuse_many_names(len(names))
        array = self._pa.array(values, type=type_)
        if _has_no_field(array.type):
            raise TypeError("an object without entries, for which parquet has no type")
        if not types.is_string(array.type) and not all(map(_kept, values, array.to_pylist())):
            raise TypeError("a value that the type does not hold whole")
        return array

    def _refuse_many_names(self, count: int) -> None:
        if count > _MOST_NAMES:  # every row would get them all
            raise TypeError(f"objects with more than {_MOST_NAMES} different names")

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
                        f"{self._first_rows} rows; give every row the same columns, or write .jsonl"
                    )


def _has_no_field(type_: Any) -> bool:
    """Whether a type is, or holds, a struct of nothing."""
    inner = [type_.field(index).type for index in range(type_.num_fields)]
    return (str(type_).startswith("struct<") and not inner) or any(map(_has_no_field, inner))


def _kept(value: Any, back: Any) -> bool:
    """Whether arrow gives a value back whole.

    Without a word it drops the entries that a struct does not have, makes whole numbers of
    fractions, and takes a text for a list of its letters: "RCT" would become R, C, T.
    """
    if missing(value) or hasattr(value, "tolist"):
        return True
    if isinstance(value, dict) and isinstance(back, dict):
        return all(_kept(item, back.get(name)) for name, item in value.items())
    if isinstance(value, list | tuple) and isinstance(back, list | tuple):
        return all(map(_kept, value, back))
    if isinstance(value, str | bool | int | float):
        return isinstance(value, bool) == isinstance(back, bool) and bool(value == back)
    return True


def _without_nulls(value: Any) -> Any:
    """An object without the names that arrow gave it since others of the column have them."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str | None:
    """A value in a column of text: what is no text as JSON."""
    if value is None or isinstance(value, str):
        return value
    return None if missing(value) else json.dumps(value, ensure_ascii=False, default=str)


def _size(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return 8 + sum(map(_size, value))
    if isinstance(value, dict):
        return 8 + sum(map(_size, value.values()))
    return 8
