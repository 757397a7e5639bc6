"""Tables of comma- or tab-separated text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from studytag.errors import InputError
from studytag.files.columns import missing, table_columns, tidy
from studytag.files.streams import text_lines
from studytag.records import LIST_COLUMNS, Row

# Python's own limit of 131,072 refuses supplements pasted into a cell; this one is far above any
# article, yet stops a quote that is never closed from swallowing the rest of a large file.
_MAX_CELL = 2**24


def read(path: Path, delimiter: str) -> Iterator[Row]:
    """The rows under the header line; empty cells are None, in list columns the empty list.

    Raises:
        InputError: not UTF-8, no usable header, wrong quoting, a row with too many or too few
            cells, or a year that is not a number.
    """
    csv.field_size_limit(_MAX_CELL)
    # strict: the lenient reader takes an unclosed quote for the start of one enormous last cell.
    reader = csv.reader(text_lines(path), delimiter=delimiter, strict=True)
    line = 1
    try:
        names = table_columns(path, next((cells for cells in reader if cells), []))
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield _row(names, cells, f"{path}: line {line}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: line {line}: {error}; close every quote, and double one inside a cell"
        ) from error


def _row(names: list[str], cells: list[str], where: str) -> Row:
    if len(cells) != len(names):
        raise InputError(
            f"{where}: {len(cells)} cells under {len(names)} columns; "
            f"quote cells that contain the delimiter"
        )
    pairs = zip(names, cells, strict=True)
    return tidy(
        {name: cell if name in LIST_COLUMNS else cell or None for name, cell in pairs}, where
    )


class DelimitedWriter:
    """Writes rows under the columns of the first one.

    Args:
        stream: Where the text goes.
        target: The file's final name, for messages.
        delimiter: Stands between cells.
    """

    def __init__(self, stream: TextIO, target: Path, delimiter: str) -> None:
        self._target = target
        self._writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        self._names: dict[str, None] | None = None
        self._rows = 0

    def write(self, row: Row) -> None:
        """Add a row; columns it lacks stay empty.

        Raises:
            InputError: it has a column that the first row did not have.
        """
        self._rows += 1
        if self._names is None:
            self._names = dict.fromkeys(row)
            self._writer.writerow(self._names)
        for name in row:
            if name not in self._names:
                raise InputError(
                    f"{self._target}: row {self._rows}: column {name!r} is not in the first row; "
                    f"give every row the same columns, or write .jsonl"
                )
        self._writer.writerow([_cell(row.get(name)) for name in self._names])


def _cell(value: Any) -> str:
    if missing(value):
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, list | tuple):
        return "; ".join(str(item) for item in value if not missing(item))
    # A lone carriage return would be written without quotes and read back as the end of the row.
    return str(value).replace("\r\n", "\n").replace("\r", "\n")
