"""Tagged rows into a file: what each is given, and what happens to one that does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from studytag.errors import CellTooLongError, InputError
from studytag.files import ERROR_COLUMN, RowWriter, SourceRow, UnreadRow, tagged
from studytag.files.delimited import cell_text
from studytag.files.rows import TableLayout, blank_row
from studytag.inference.columns import added_columns
from studytag.inference.predictor import Outcome
from studytag.inference.run import Run
from studytag.records import ARTICLE_COLUMNS, Row, place_of


def write_rows(
    run: Run,
    writer: RowWriter,
    pairs: Iterable[tuple[Row, Outcome]],
    names: Sequence[str],
    blanks: Iterable[Row],
) -> None:
    """Write every row with its outcome; where there is none, a table's columns all the same.

    Args:
        run: Counts the rows, and tells its listener.
        writer: Where to write.
        pairs: The rows and their outcomes.
        names: Columns that every row gets, if only empty ones.
        blanks: Rows without values that have the input's columns, where reading it told them.

    Raises:
        InputError: the writer takes a row in no form.
    """
    blank: Row | None = None
    waiting: list[Row] = []  # unreadable rows before the first that tells the file's columns
    for number, (row, outcome) in enumerate(pairs, 1):
        if isinstance(row, UnreadRow):  # some of its cells may have been tagged: they mean nothing
            outcome = InputError(row.reason)
        error = _error(run, number, row, outcome)
        columns = added_columns(run.labels, outcome, error)
        if isinstance(row, UnreadRow) and not row:
            if blank is None:
                waiting.append(columns)
            else:
                writer.write(blank | columns)
        else:
            if missing := [name for name in names if name not in row]:
                row = row | dict.fromkeys(missing)
            if blank is None:
                layout = row.origin.layout if isinstance(row, SourceRow) else None
                nothing = dict.fromkeys(row)
                blank = blank_row(layout, row) if isinstance(layout, TableLayout) else nothing
                for held in waiting:
                    writer.write(blank | held)
                waiting.clear()
            error = _write_row(writer, number, row, columns)
        run.rows = number
        run.failed += error is not None
        if number > run.kept:
            run.listener.row(number, error)
    for held in waiting:
        writer.write(held)
    _begin_without_rows(run, writer, blanks)


def _begin_without_rows(run: Run, writer: RowWriter, blanks: Iterable[Row]) -> None:
    if not run.rows:
        columns = next(iter(blanks), dict.fromkeys(ARTICLE_COLUMNS))
        writer.begin(tagged(columns, added_columns(run.labels, None, None)))


def _write_row(writer: RowWriter, number: int, row: Row, columns: Row) -> str | None:
    """Write a row; what the output cannot hold as it is becomes text, is cut, or is left out.

    Returns:
        The row's error, also where it is that of writing.
    """
    error: str | None = columns[ERROR_COLUMN]
    try:
        writer.write(tagged(row, columns))
        return error
    except (InputError, UnicodeEncodeError) as refusal:
        fitting, reason = _fitting(row, refusal)
        left_out = f"left out, since the output cannot hold it ({' '.join(str(refusal).split())})"
        for values, why in ((fitting, reason), (dict.fromkeys(row), left_out)):
            told = error or f"{place_of(number, row)}: {why}"
            if isinstance(refusal, CellTooLongError):
                told = refusal.cut(told)
            try:
                writer.write(tagged(row | values, columns | {ERROR_COLUMN: told}))
                return told
            except (InputError, UnicodeEncodeError):
                continue
        raise


def _fitting(row: Row, refusal: Exception) -> tuple[Row, str]:
    """Cells in a form that every output can hold, and what was done to them."""
    fitting: Row = {}
    for name, value in row.items():
        if isinstance(refusal, CellTooLongError):
            text = cell_text(value)
            if (cut := refusal.cut(text)) != text:
                fitting[name] = cut
            continue
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            fitting[name] = json.dumps(value, default=str)  # surrogates as \ud800, NaN by its name
    if isinstance(refusal, CellTooLongError):
        done = f"cut after {refusal.longest} characters, the most that a cell of the output takes"
    else:
        done = "written as text, since the output cannot hold the value"
    return fitting, f"{done}: {', '.join(fitting)}"


def _error(run: Run, number: int, row: Row, outcome: Outcome) -> str | None:
    if isinstance(row, UnreadRow):
        return row.reason.removeprefix(f"{run.source}: ")
    return f"{place_of(number, row)}: {outcome}" if isinstance(outcome, InputError) else None
