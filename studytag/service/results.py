"""The tagged records of a job: pages of them for people, and files in any format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from studytag.errors import InputError, StoppedError
from studytag.files import (
    ERROR_COLUMN,
    FORMATS,
    RowWriter,
    atomic_path,
    open_writer,
    read_rows,
    refuse_many_columns,
)
from studytag.inference.output import write_rows
from studytag.inference.predictor import Outcome, Prediction
from studytag.inference.progress import Silent
from studytag.inference.run import Run
from studytag.inference.screen_file import Divided
from studytag.inference.screening import Criteria, Decision
from studytag.inference.screening_report import Screening
from studytag.records import PREDICTED_COLUMN, Row, place_of, probability_column
from studytag.service.jobs import Job

T = TypeVar("T")
Part = Literal["all", "kept", "set-aside"]

_DECISIONS: Mapping[Part, Sequence[Decision]] = {
    "kept": (Decision.KEPT, Decision.NOT_ASSESSED),
    "set-aside": (Decision.SET_ASIDE,),
}
_SHOWN = ("title", "pmid", "year")
_SORTABLE = ("title", "year")
_BATCH = 1000


def select_rows(
    job: Job,
    labels: list[str],
    *,
    label: str | None,
    present: bool | None,
    search: str | None,
    sort: str | None,
    descending: bool,
) -> pa.Table:
    """The records of a finished job that match, in the order that is asked for.

    Args:
        job: It must be done.
        labels: Of the bundle.
        label: Goes with `present`.
        present: Whether the label must be present or absent.
        search: Text that the title must hold, in any case.
        sort: `row`, `title`, `year`, or a label: by its probability.
        descending: The greatest first.

    Raises:
        InputError: no such label or column.
    """
    table = _table(job, labels)
    if (label is None) != (present is None):
        raise InputError("label and decision go together; give both, or neither")
    if label is not None:
        if label not in labels:
            raise InputError(f"label: choose from {', '.join(labels)}")
        has = _has(table, label)
        tagged = pc.is_valid(table[PREDICTED_COLUMN])  # of the others nobody knows
        table = table.filter(has if present else pc.and_(tagged, pc.invert(has)))
    if search:
        title = pc.fill_null(table["title"], "")
        table = table.filter(pc.match_substring(title, search, ignore_case=True))
    sort = sort or "row"
    if sort not in ("row", *_SORTABLE, *labels):
        raise InputError(f"sort: choose from row, {', '.join((*_SORTABLE, *labels))}")
    column = probability_column(sort) if sort in labels else sort
    order = "descending" if descending else "ascending"
    return table.sort_by([(column, order), *([("row", "ascending")] if sort != "row" else [])])


def page_of(
    table: pa.Table, labels: list[str], offset: int, limit: int
) -> Iterator[dict[str, Any]]:
    """Records of a selection as the API gives them."""
    for row in table.slice(offset, limit).to_pylist():
        failed = row[PREDICTED_COLUMN] is None
        yield {
            "row": row["row"],
            **{name: row[name] for name in _SHOWN},
            "labels": row[PREDICTED_COLUMN] or [],
            "probabilities": {}
            if failed
            else {label: row[probability_column(label)] for label in labels},
            "error": row[ERROR_COLUMN],
        }


def write_download(
    job: Job,
    labels: list[str],
    target: Path,
    format: str,
    criteria: Criteria | None,
    part: Part,
    stop: Callable[[], bool],
) -> None:
    """Write a job's records with their tags, every field as it was in the upload.

    Args:
        job: It must be done.
        labels: Of the bundle.
        target: The file to write.
        format: One of `studytag.files.FORMATS` that is written.
        criteria: Divide the records; None where `part` is `all`.
        part: Which records; those that were not assessed are among the kept ones.
        stop: Asked before each record, whether to end early.

    Raises:
        StoppedError: `stop` said so.
        InputError: the records do not go into this format.
    """
    run = Run(job.source, target, labels, lambda: False, Silent())
    blanks: list[Row] = []
    pairs: Iterator[tuple[Row, Outcome]] = zip(
        read_rows(job.source, job.format, errors="return", quiet=True, on_columns=blanks.append),
        _outcomes(job, labels),
        strict=True,
    )
    pairs = _until(stop, pairs)
    unplaced = ((row, _unplaced(n, row, outcome)) for n, (row, outcome) in enumerate(pairs, 1))
    with open_writer(target, format, mixed_as_text=True) as whole:
        writer: RowWriter = whole
        if criteria is not None:
            writers = dict.fromkeys(_DECISIONS[part], whole)
            writer = Divided(criteria, Screening(criteria.rule), writers)
        write_rows(run, writer, unplaced, _columns(job, format, stop), blanks)


def _until(stop: Callable[[], bool], rows: Iterator[T]) -> Iterator[T]:
    for row in rows:
        if stop():
            raise StoppedError("stopped: nobody waits for it")
        yield row


def write_shown(job: Job, stop: Callable[[], bool]) -> None:
    """Keep what people see of each record beside its tags: title, pmid and year as we read them.

    The tags stand beside the file's own columns, which every tool calls otherwise.

    Args:
        job: Its records are tagged.
        stop: Asked before each record, whether to end early.

    Raises:
        InputError: it cannot be written.
        StoppedError: `stop` said so.
    """
    schema = pa.schema([(name, pa.string()) for name in _SHOWN])
    rows = _until(stop, read_rows(job.source, job.format, errors="return", quiet=True))
    with atomic_path(job.shown) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            shown = [{name: _shown(row.get(name)) for name in _SHOWN} for row in batch]
            writer.write_table(pa.Table.from_pylist(shown, schema=schema))


def _shown(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _columns(job: Job, format: str, stop: Callable[[], bool]) -> list[str]:
    """Every column of a file whose rows may have different ones, if it becomes a table."""
    names: dict[str, None] = {}
    if FORMATS[format].table and not FORMATS[job.format].uniform:
        rows = read_rows(job.source, job.format, errors="return", quiet=True)
        for row in _until(stop, rows):
            names |= dict.fromkeys(row)
            refuse_many_columns(job.source, len(names), "take jsonl")
    return list(names)


def _table(job: Job, labels: list[str]) -> pa.Table:
    """What people see of the records: a table that has all columns, and the number of each."""
    tags = [PREDICTED_COLUMN, *map(probability_column, labels), ERROR_COLUMN]
    table = pq.read_table(job.result, columns=tags)
    shown = pq.read_table(job.shown)
    for name in _SHOWN:
        table = table.append_column(name, shown[name])
    return table.append_column("row", pa.array(np.arange(1, table.num_rows + 1)))


def _has(table: pa.Table, label: str | None) -> pa.Array:
    """Which records have a label."""
    tags = table[PREDICTED_COLUMN].combine_chunks()
    owners = pc.list_parent_indices(tags).filter(pc.equal(pc.list_flatten(tags), label))
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[owners.to_numpy(zero_copy_only=False)] = True
    return pa.array(mask)


def _outcomes(job: Job, labels: list[str]) -> Iterator[Outcome]:
    """The stored outcomes, in the order of the records."""
    columns = [probability_column(label) for label in labels]
    with pq.ParquetFile(job.result) as file:
        for batch in file.iter_batches(_BATCH, columns=[PREDICTED_COLUMN, ERROR_COLUMN, *columns]):
            for row in batch.to_pylist():
                if row[PREDICTED_COLUMN] is None:
                    yield InputError(row[ERROR_COLUMN] or "could not be tagged")
                else:
                    probabilities = {
                        label: row[column] for label, column in zip(labels, columns, strict=True)
                    }
                    yield Prediction(row[PREDICTED_COLUMN], probabilities)


def _unplaced(number: int, row: Row, outcome: Outcome) -> Outcome:
    """An outcome whose error says nothing of the row: its place is added when it is written."""
    if isinstance(outcome, Prediction):
        return outcome
    return InputError(str(outcome).removeprefix(f"{place_of(number, row)}: "))
