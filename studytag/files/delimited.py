"""Tables of comma-, semicolon- or tab-separated text."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from studytag.errors import InputError
from studytag.files.apostrophes import APOSTROPHES, Unguarded, guarded
from studytag.files.dialects import has_bare_quotes, has_row_names, lacks_empty_cells
from studytag.files.fields import MODEL_FIELDS
from studytag.files.headers import find_header, known_field
from studytag.files.notices import notice
from studytag.files.options import ReadOptions, WriteOptions, with_tags
from studytag.files.rows import SourceRow, TableLayout, origin_of, table_columns
from studytag.files.streams import TextSource
from studytag.files.tables import STATED_LISTS, Table
from studytag.files.values import join_list, missing
from studytag.files.watch import TextWatch
from studytag.records import Row, clean

# Python's own limit of 131,072 refuses supplements pasted into a cell; this one is far above any
# article, yet stops a quote that is never closed from swallowing the rest of a large file.
_MAX_CELL = 2**24
_MOST_CELLS = 2**20
_LARGEST_ROW = 2**25
_HEADER_LINES = 40
_DELIMITERS = {"csv": ",;\t|", "tsv": "\t,;|"}


def read(path: Path, options: ReadOptions, format: str = "csv") -> Iterator[Row]:
    """The rows under the header line; the delimiter is the one that makes a header of it.

    Lines before the header are passed over with a warning, and kept for the way back. Empty cells
    are None, in list columns the empty list, but for `labels` and `known`, whose is `[]`.

    Args:
        path: The file.
        options: How to read.
        format: csv or tsv: which delimiter to try first.

    Raises:
        InputError: no usable header, wrong quoting, or a row with too many or too few cells.
    """
    csv.field_size_limit(_MAX_CELL)
    source = TextSource(path, options.encoding)
    watch = TextWatch(path, options)
    lines = _RowLines(path, source.lines(), _DELIMITERS[format])
    beginning = list(islice(lines, _HEADER_LINES))
    layout = _find_header(path, beginning, _DELIMITERS[format])
    lines.begin(beginning[layout.first :])
    bare = layout.delimiter == "\t" and has_bare_quotes(
        islice(source.lines(), layout.first, None), layout.delimiter
    )
    # strict: the lenient reader takes an unclosed quote for the start of one enormous last cell.
    reader = csv.reader(
        lines,
        delimiter=layout.delimiter,
        strict=True,
        skipinitialspace=layout.spaced,
        quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL,
    )
    line = layout.first + 1
    try:
        header = next((cells for cells in reader if any(cells)), [])
        unguarded = Unguarded([*_heading_of_rows(beginning[layout.first :], layout), *header])
        table = Table(
            path,
            unguarded.header,
            watch,
            format,
            preamble=tuple(beginning[: layout.first]),
            delimiter=layout.delimiter,
            newline=source.newline,
            bom=source.bom,
            bare=bare,
        )
    except csv.Error as error:
        raise _quoting(path, line, error) from error
    width = len(table.layout.header)
    records = _records(reader, lines, layout.first, unguarded)
    for record in _filled(records, width, table.reach):
        if record.error:
            failure = _quoting(path, record.line, record.error)
            # A quote that is never closed has swallowed who knows how many rows.
            if not options.return_errors or "expected after" not in str(record.error):
                raise failure from record.error
            yield table.unread((), f"{failure}; it reads: {record.text}")
        elif record.cells:
            yield _row(table, record.cells, f"{path}: line {record.line}", options.return_errors)
    watch.finish()


class _Record(NamedTuple):
    """A row of cells, or why it is none.

    Attributes:
        line: Number of its first line.
        cells: As they were parsed; of a blank line none.
        ended: Whether it ends as Excel ends rows: with a carriage return and a line feed.
        error: Of its quotes.
        text: Its lines, where there is an error.
    """

    line: int
    cells: list[str]
    ended: bool = False
    error: csv.Error | None = None
    text: str = ""


def _records(reader: Any, lines: _RowLines, first: int, unguarded: Unguarded) -> Iterator[_Record]:
    while True:
        line = first + reader.line_num + 1
        lines.begin()
        try:
            yield _Record(line, unguarded.cells(next(reader)), lines.ended())
        except StopIteration:
            return
        except csv.Error as error:
            yield _Record(line, [], error=error, text=lines.row())


def _filled(records: Iterator[_Record], width: int, needed: int) -> Iterator[_Record]:
    """The rows, with the empty cells that Excel leaves out at their end."""
    record, before = next(records, None), width
    while record:
        length = len(record.cells)
        short = record.ended and needed <= length < width
        following = next(records, None) if short else None
        after = [len(following.cells)] if following else []
        if short and lacks_empty_cells(length, width, [before, *after]):
            record = record._replace(cells=[*record.cells, *[""] * (width - length)])
        yield record
        record, before = following if short else next(records, None), length


def _heading_of_rows(beginning: list[str], layout: _Layout) -> list[str]:
    """The heading of a column that holds the names of rows and has none: `[""]`, else nothing."""
    rows = [cells for _, cells in first_rows(beginning, layout.delimiter) if cells]
    quoted = layout.delimiter == "\t" or all(line.startswith('"') for line in beginning[:2])
    return [""] if rows and has_row_names(rows[: max(len(rows) - 1, 3)], quoted) else []


class _RowLines:
    """Lines, with a limit on those of one row; they are kept until the next row begins.

    The lines in which the header is looked for count as one row.
    """

    def __init__(self, path: Path, lines: Iterator[str], delimiters: str) -> None:
        self._path = path
        self._lines = lines
        self._delimiters = delimiters
        self.begin()

    def begin(self, first: Sequence[str] = ()) -> None:
        """A row begins, with lines that were read before."""
        if first:  # a chain of chains, one for each row, would overflow the stack
            self._lines = chain(first, self._lines)
        self._row: list[str] = []
        self._cells = 0
        self._characters = 0

    def row(self) -> str:
        """The row so far, in one line."""
        return json.dumps("".join(self._row).rstrip("\r\n"), ensure_ascii=False)

    def ended(self) -> bool:
        """Whether the last line ends with a carriage return and a line feed."""
        return self._row[-1].endswith("\r\n")

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._row.append(line)
        self._characters += len(line)
        self._cells += max(map(line.count, self._delimiters))
        if self._cells > _MOST_CELLS or self._characters > _LARGEST_ROW:
            raise InputError(
                f"{self._path}: a row of more than {_MOST_CELLS >> 20} million cells or "
                f"{_LARGEST_ROW >> 20} million characters, or a quote that is never closed; give a "
                "table with articles"
            )
        return line


@dataclass(frozen=True)
class _Layout:
    first: int = 0  # lines before it
    delimiter: str = ","
    spaced: bool = False


def _find_header(path: Path, beginning: list[str], delimiters: str) -> _Layout:
    """The header line, under the delimiter that makes most known columns of it."""
    first = beginning[0].strip().strip('"').lower() if beginning else ""
    declared = first[4:5] if first.startswith("sep=") and len(first) == 5 else None
    if first.startswith("sep=") and len(beginning[0].strip("\r\n")) == 5:
        declared = beginning[0][4]
    best, header = 0, _Layout(1 if declared else 0, declared or delimiters[0])
    for delimiter in declared or delimiters:
        rows = list(first_rows(beginning, delimiter))
        found = find_header(rows)
        if found and len(found.fields) > best:
            spaced = f'{delimiter} "' in beginning[found.number]
            best, header = len(found.fields), _Layout(found.number, delimiter, spaced)
        _refuse_one_field_a_line(path, rows)
    if header.first > (1 if declared else 0):
        skipped = [line.strip() for line in beginning[: header.first] if line.strip(' \r\n,;\t"')]
        if skipped:
            notice(
                "%s: %d lines before the header are not read: %.60r ...",
                *(path, len(skipped), skipped[0]),
            )
    return header


def first_rows(beginning: list[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The first rows with the number of lines before each."""
    reader = csv.reader(iter(beginning), delimiter=delimiter, skipinitialspace=True)
    start = 0
    try:
        for cells in reader:
            yield start, cells
            start = reader.line_num
    except csv.Error:
        return


def _refuse_one_field_a_line(path: Path, rows: Sequence[tuple[int, list[str]]]) -> None:
    names = [known_field(cells[0]) for _, cells in rows if len(cells) > 1]
    known = [name for name in names if name is not None]
    if {*MODEL_FIELDS} < {*known} and 2 * len(known) > len(names):
        raise InputError(
            f"{path}: each line holds a field, not a record; "
            f"export it again with one record a line, or as RIS"
        )


def _quoting(path: Path, line: int, error: csv.Error) -> InputError:
    return InputError(
        f"{path}: line {line}: {error}; close every quote, and double one inside a cell"
    )


def _row(table: Table, cells: list[str], where: str, return_errors: bool) -> Row:
    width = len(table.layout.header)
    try:
        if cells == list(table.layout.header):
            raise InputError(
                f"{where}: repeats the header, as in files that were joined; remove it"
            )
        fitting = _fitting(cells, width, where)
    except InputError as error:
        if not return_errors:
            raise
        rest = f" (beyond them: {json.dumps(cells[width:], ensure_ascii=False)})"
        return table.unread(cells, str(error) + (rest if cells[width:] else ""))
    return table.row_or_error(fitting, where, return_errors)


def _fitting(cells: list[str], width: int, where: str) -> list[str]:
    if len(cells) > width and not any(cells[width:]):
        return cells[:width]
    if len(cells) != width:
        held = "the delimiter" if len(cells) > width else "line ends, or add the empty cells"
        raise InputError(
            f"{where}: {len(cells)} cells under {width} columns; quote cells that contain {held}"
        )
    return cells


class DelimitedWriter:
    """Writes rows under the columns of the first one.

    Rows that were read from delimited text keep their header and cells as they were, and a CSV
    file its delimiter, byte-order mark, line ends, and the lines before its header.

    Args:
        stream: Where the text goes.
        target: The file's final name, for messages.
        options: How to write.
        format: csv or tsv.
    """

    def __init__(
        self, stream: TextIO, target: Path, options: WriteOptions, format: str = "csv"
    ) -> None:
        self._stream = stream
        self._target = target
        self._options = options
        self._format = format
        self._layout = TableLayout(format, delimiter=_DELIMITERS[format][0])
        self._names: dict[str, None] | None = None
        self._rows = 0
        self._plain: Any = None
        self._quoted: Any = None

    def begin(self, row: Row) -> None:
        """Write the header for rows with the columns of `row`, unless it is written."""
        if self._names is None:
            self._begin(row, self._columns(row))

    def write(self, row: Row) -> None:
        """Add a row; columns it lacks stay empty.

        Raises:
            InputError: it has a column that the first row did not have.
        """
        columns = self._columns(row)
        if self._names is None:
            self._begin(row, columns)
        names = self._names or {}
        for name in columns:
            if name not in names:
                raise InputError(
                    f"{self._target}: row {self._rows + 1}: column {name!r} is not in the first "
                    f"row; give every row the same columns, or write .jsonl"
                )
        values = [columns.get(name) for name in names]
        cells = [cell_text(value, name) for name, value in zip(names, values, strict=True)]
        if self._options.excel:
            cells = guarded(cells, list(names), [isinstance(value, str) for value in values])
        self._write_cells(cells)
        self._rows += 1

    def _columns(self, row: Row) -> Row:
        verbatim = _is_delimited(row)
        columns = table_columns(row, verbatim=verbatim)
        return with_tags(columns, self._options, verbatim=verbatim)

    def _begin(self, row: Row, columns: Row) -> None:
        self._names = dict.fromkeys(columns)
        header = list(self._names)
        if isinstance(row, SourceRow) and _is_delimited(row):
            layout = row.origin.layout
            assert isinstance(layout, TableLayout)
            written = dict(zip(layout.names, layout.header, strict=True))
            header = [written.get(name, name) for name in header]
            if layout.format == self._format:
                self._layout = layout
        if self._options.excel:
            header.append(APOSTROPHES)
        if self._options.excel or self._layout.bom:
            self._stream.write("\ufeff")
        self._stream.writelines(self._layout.preamble)
        self._plain, self._quoted = (
            csv.writer(
                self._stream,
                delimiter=self._layout.delimiter,
                lineterminator=self._layout.newline,
                quoting=quoting,
            )
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        self._write_cells(header)

    def _write_cells(self, cells: list[str]) -> None:
        if self._layout.bare and not self._options.excel:
            plain = (clean(cell) if re.search(r"[\t\r\n]", cell) else cell for cell in cells)
            self._stream.write(self._layout.delimiter.join(plain) + self._layout.newline)
            return
        # A carriage return without quotes would be read as the end of the row; a single empty
        # cell as an empty line.
        quote_all = any("\r" in cell for cell in cells) or cells in ([""], [])
        (self._quoted if quote_all else self._plain).writerow(cells)


def _is_delimited(row: Row) -> bool:
    return origin_of(row, "csv") is not None or origin_of(row, "tsv") is not None


def cell_text(value: Any, name: str = "") -> str:
    """A value as the text of a cell: lists joined by semicolons, objects as JSON.

    In the columns `labels` and `known` an empty list is `[]`: a blank cell says nothing.
    """
    if isinstance(value, str):
        return value
    if missing(value):
        return ""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if isinstance(value, dict) or (
        isinstance(value, list | tuple) and any(isinstance(item, dict | list) for item in value)
    ):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, list | tuple):
        return "[]" if not value and name in STATED_LISTS else join_list(value)
    return str(value)
