"""Excel workbooks, read and written a row at a time by openpyxl."""

from __future__ import annotations

import json
import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, time
from itertools import chain, islice
from pathlib import Path
from typing import Any

from studytag.errors import CellTooLongError, InputError, import_extra
from studytag.files.delimited import cell_text
from studytag.files.headers import Header, find_header
from studytag.files.notices import notice
from studytag.files.options import ReadOptions, WriteOptions, with_tags
from studytag.files.rows import TableLayout, origin_of, table_columns
from studytag.files.tables import Table
from studytag.files.values import missing
from studytag.files.watch import TextWatch
from studytag.records import Row

MOST_ROWS = 1_048_575
"""Of a sheet, beside its header."""

_LARGEST = 2**31
_RATIO = 200
_HEADER_ROWS = 40
_LONGEST_CELL = 32_767
_FIRST_YEAR = 1900
_DAMAGED = (
    *(ValueError, TypeError, LookupError, SyntaxError, EOFError, OSError),
    *(zlib.error, zipfile.BadZipFile, struct.error, RuntimeError),
)
"""What openpyxl, its parser and zipfile raise of a workbook that is damaged or encrypted.

A RuntimeError is zipfile's for a password or a method of compression that it does not know.
"""

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_TO_ESCAPE = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)|\r")


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The rows of the sheet whose header names title and abstract best; other sheets are named.

    Raises:
        InputError: not a workbook, or no sheet has a header.
    """
    excel = import_extra("openpyxl", "files")
    _refuse_bomb(path)
    watch = TextWatch(path, options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and extensions that openpyxl leaves out
            book = excel.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        raise InputError(f"{path}: not an Excel workbook, or damaged; save it again") from error
    try:
        yield from _sheet_rows(path, book, watch, options.return_errors)
    finally:
        book.close()
    watch.finish()


def _sheet_rows(path: Path, book: Any, watch: TextWatch, return_errors: bool) -> Iterator[Row]:
    sheets = book.worksheets
    if not sheets:
        raise InputError(
            f"{path}: no sheet in it that can be read; "
            "save it as an Excel workbook (.xlsx) that is not Strict Open XML"
        )
    headers = [_header(path, sheet) for sheet in sheets]
    sheet, best = max(zip(sheets, headers, strict=True), key=_rank)
    if best is None:
        names = [cell_text(cell) for row in islice(_cells(path, sheets[0]), 1) for cell in row]
        Table(path, names, watch, "xlsx")  # tells which columns it found
        return
    skipped = best.number
    if others := [other.title for other in sheets if other is not sheet]:
        notice("%s: only sheet %r is read, not %s", path, sheet.title, ", ".join(others))
    if skipped:
        notice("%s: %d rows before the header are not read", path, skipped)
    with _damage_refused(path, sheet):
        if _has_formula(path):
            _warn_of_formulas(path, sheet)
    rows = _cells(path, sheet)
    preamble = tuple(islice(rows, skipped))
    header = _trimmed(next(rows))
    table = Table(path, [cell_text(cell) for cell in header], watch, "xlsx", preamble=preamble)
    width = len(header)
    for number, cells in enumerate(rows, skipped + 2):
        if any(cell != "" for cell in cells):
            where = f"{path}: row {number}"
            beyond = [cell for cell in cells[width:] if cell != ""]
            if beyond:
                reason = (
                    f"{where}: has cells beyond the {width} columns of the header; name the column"
                )
                if not return_errors:
                    raise InputError(reason)
                texts = json.dumps([cell_text(cell) for cell in beyond], ensure_ascii=False)
                yield table.unread(cells, f"{reason} (beyond them: {texts})")
                continue
            padded = islice(chain(cells, ("" for _ in range(width))), width)
            yield table.row_or_error(tuple(padded), where, return_errors)


def _header(path: Path, sheet: Any) -> Header | None:
    rows = islice(_cells(path, sheet), _HEADER_ROWS)
    return find_header(enumerate([cell_text(cell) for cell in cells] for cells in rows))


def _rank(candidate: tuple[Any, Header | None]) -> tuple[int, bool]:
    """How likely articles stand in a sheet: a lone "Title" may be that of a sheet of notes.

    A hidden sheet holds what was put aside.
    """
    sheet, header = candidate
    return min(len(header.fields), 2) if header else 0, sheet.sheet_state == "visible"


def _has_formula(path: Path) -> bool:
    with zipfile.ZipFile(path) as packed:
        for name in packed.namelist():
            if name.startswith("xl/worksheets/"):
                with packed.open(name) as stream:
                    end = b""
                    while block := stream.read(2**20):
                        if re.search(rb"<f[\s/>]", end + block):
                            return True
                        end = block[-2:]
    return False


def _warn_of_formulas(path: Path, sheet: Any) -> None:
    """Name the first formula without a value: programs other than Excel often store none."""
    formulas = import_extra("openpyxl", "files").load_workbook(path, read_only=True)
    try:
        other = formulas[sheet.title]
        for each in (sheet, other):
            each.reset_dimensions()
        for cells, stored in zip(other.iter_rows(), sheet.iter_rows(), strict=True):
            for cell, value in zip(cells, stored, strict=True):
                # Where the formula gives an empty text, that is stored.
                if cell.data_type == "f" and value.value is None and value.data_type == "n":
                    notice(
                        "%s: sheet %r: cell %s and maybe others hold formulas without their values "
                        "and are read as empty; save the workbook in Excel or LibreOffice",
                        *(path, sheet.title, cell.coordinate),
                    )
                    return
    finally:
        formulas.close()


def _cells(path: Path, sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # some tools write wrong ones
    with _damage_refused(path, sheet):
        for number, cells in enumerate(sheet.iter_rows(values_only=True)):
            if number > MOST_ROWS:  # a row may say that it is the thousand millionth
                raise InputError(f"{path}: sheet {sheet.title!r} has more rows than Excel takes")
            yield tuple(_value(cell) for cell in cells)


@contextmanager
def _damage_refused(path: Path, sheet: Any) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"{path}: sheet {sheet.title!r} is damaged; save the workbook again"
        ) from error


def _trimmed(cells: tuple[Any, ...]) -> tuple[Any, ...]:
    width = max((place for place, cell in enumerate(cells, 1) if cell != ""), default=0)
    return cells[:width]


def _value(cell: Any) -> Any:
    if isinstance(cell, str):
        return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), cell)
    return "" if cell is None else cell


def _is_excel(value: Any) -> bool:
    """Whether a cell of Excel can hold a value that is no text: it knows numbers to 15 digits."""
    if isinstance(value, datetime | time):
        return value.tzinfo is None and getattr(value, "year", 2000) >= _FIRST_YEAR
    if isinstance(value, date):
        return value.year >= _FIRST_YEAR
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 10**15)


def _refuse_bomb(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(info.file_size for info in packed.infolist())
    except _DAMAGED as error:
        raise InputError(f"{path}: not an Excel workbook, or damaged; save it again") from error
    if size > _LARGEST or (size > 2**27 and size > _RATIO * path.stat().st_size):
        raise InputError(
            f"{path}: unpacks to {size >> 20} MB; no articles are that large: save it as CSV"
        )


@contextmanager
def open_writer(path: Path, target: Path, options: WriteOptions) -> Iterator[XlsxWriter]:
    """Write rows to `path`; `target` is the final name, for messages."""
    writer = XlsxWriter(target, options)
    try:
        yield writer
        writer.save(path)
    finally:
        writer.close()


class XlsxWriter:
    """Writes rows to the one sheet of a workbook, under the columns of the first row.

    Text stays text, also where it looks like a formula.

    Args:
        target: The file's final name, for messages.
        options: How to write.
    """

    def __init__(self, target: Path, options: WriteOptions) -> None:
        excel = import_extra("openpyxl", "files")
        self._cell_type = import_extra("openpyxl.cell", "files").WriteOnlyCell
        self._book = excel.Workbook(write_only=True)
        self._sheet = self._book.create_sheet("studytag")
        self._target = target
        self._options = options
        self._names: dict[str, None] | None = None
        self._rows = 0

    def begin(self, row: Row) -> None:
        """Write the header for rows with the columns of `row`, unless it is written."""
        self._begun(row, self._columns(row))

    def write(self, row: Row) -> None:
        """Add a row; columns it lacks stay empty.

        Raises:
            InputError: it has a column that the first row did not have, or a text is too long for
                a cell of Excel.
        """
        columns = self._columns(row)
        names = self._begun(row, columns)
        for name in columns:
            if name not in names:
                raise InputError(
                    f"{self._target}: row {self._rows + 1}: column {name!r} is not in the first "
                    f"row; give every row the same columns, or write .jsonl"
                )
        if self._rows >= MOST_ROWS:
            raise InputError(f"{self._target}: more rows than a sheet has; write .csv")
        self._sheet.append([self._cell(name, columns.get(name)) for name in names])
        self._rows += 1

    def _columns(self, row: Row) -> Row:
        verbatim = origin_of(row, "xlsx") is not None
        columns = table_columns(row, verbatim=verbatim)
        return with_tags(columns, self._options, verbatim=verbatim)

    def _begun(self, row: Row, columns: Row) -> dict[str, None]:
        """The columns of the sheet, under whose header its rows go."""
        if self._names is not None:
            return self._names
        self._names = dict.fromkeys(columns)
        header = list(self._names)
        origin = origin_of(row, "xlsx")
        if origin and isinstance(origin.layout, TableLayout):
            layout = origin.layout
            written = dict(zip(layout.names, layout.header, strict=True))
            header = [written.get(name, name) for name in header]
            for cells in layout.preamble:
                self._sheet.append([self._cell("", cell) for cell in cells])
        self._sheet.append([self._cell(name, name) for name in header])
        return self._names

    def save(self, path: Path) -> None:
        """Write the workbook."""
        self._book.save(path)

    def close(self) -> None:
        """Close what openpyxl keeps open of a sheet that is not saved."""
        with suppress(Exception):
            self._sheet.close()

    def _cell(self, name: str, value: Any) -> Any:
        if missing(value) or value == "":
            return None
        if hasattr(value, "tolist"):
            value = value.tolist()
        if _is_excel(value):
            return value
        text = cell_text(value, name)
        escaped = _escaped(text)
        if len(escaped) > _LONGEST_CELL:
            raise CellTooLongError(
                f"{self._target}: row {self._rows + 1}: column {name!r} holds {len(escaped)} "
                f"characters, a cell of Excel at most {_LONGEST_CELL}; write .csv",
                _LONGEST_CELL,
                _cut,
            )
        cell = self._cell_type(self._sheet, value="")
        cell.value = escaped
        cell.data_type = "s"  # also where it begins with "="
        return cell


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: f"_x{ord(match.group()):04X}_", text)


def _cut(text: str) -> str:
    """As much of a text as a cell takes, of which an escaped character takes seven."""
    text = text[:_LONGEST_CELL]
    while (over := len(_escaped(text)) - _LONGEST_CELL) > 0:
        text = text[: -max(over // 7, 1)]
    return text
