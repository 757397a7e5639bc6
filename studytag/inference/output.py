"""Tagged rows into a file: what each is given, and what happens to one that does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from studytag.errors import InputError
from studytag.files import ERROR_COLUMN, RowWriter, UnreadRow, tagged
from studytag.inference.columns import added_columns
from studytag.inference.predictor import Outcome
from studytag.inference.run import Run
from studytag.records import Row


def write_rows(
    run: Run, writer: RowWriter, pairs: Iterable[tuple[Row, Outcome]], names: Sequence[str]
) -> None:
    """Write every row with its outcome.

    Args:
        run: Counts the rows, and tells its listener.
        writer: Where to write.
        pairs: The rows and their outcomes.
        names: Columns that every row gets, if only empty ones.

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
                blank = row | dict.fromkeys(row)
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


def _write_row(writer: RowWriter, number: int, row: Row, columns: Row) -> str | None:
    """Write a row; cells that the output cannot hold as they are become text.

    Returns:
        The row's error, also where it is that of writing.
    """
    error: str | None = columns[ERROR_COLUMN]
    try:
        writer.write(tagged(row, columns))
    except (InputError, UnicodeEncodeError) as refusal:
        plain, replaced = _plain(row)
        if not replaced:
            raise
        error = error or (
            f"{_where(number, row)}: written as text, since the output cannot hold the value: "
            + ", ".join(replaced)
        )
        try:
            writer.write(plain | columns | {ERROR_COLUMN: error})
        except InputError:
            raise refusal from None
    return error


def _plain(row: Row) -> tuple[Row, list[str]]:
    """The row with cells that not every format can hold as text, and the names of these."""
    plain: Row = {}
    replaced = []
    for name, value in row.items():
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            value = json.dumps(value, default=str)  # surrogates as \ud800, NaN by its name
            replaced.append(name)
        plain[name] = value
    return plain, replaced


def _error(run: Run, number: int, row: Row, outcome: Outcome) -> str | None:
    if isinstance(row, UnreadRow):
        return row.reason.removeprefix(f"{run.source}: ")
    return f"{_where(number, row)}: {outcome}" if isinstance(outcome, InputError) else None


def _where(number: int, row: Row) -> str:
    return f"row {number} (pmid {row.get('pmid')})"
