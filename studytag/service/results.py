"""The tagged records of a job: pages of them for people, and files in any format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from studytag.errors import InputError
from studytag.files import ERROR_COLUMN, open_writer, read_rows
from studytag.inference.output import place_of, write_rows
from studytag.inference.predictor import Outcome, Prediction
from studytag.inference.progress import Silent
from studytag.inference.run import Run
from studytag.inference.screening import Decision, Rule
from studytag.records import PREDICTED_COLUMN, Row, probability_column
from studytag.service.jobs import Job

Part = Literal["all", "kept", "set-aside"]

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
    if present is not None:
        if label not in labels:
            raise InputError(f"label: choose from {', '.join(labels)}")
        table = table.filter(_has(table, label) if present else pc.invert(_has(table, label)))
    if search:
        title = pc.fill_null(pc.cast(table["title"], pa.string()), "")
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
            **{name: None if row[name] is None else str(row[name]) for name in _SHOWN},
            "labels": row[PREDICTED_COLUMN] or [],
            "probabilities": {}
            if failed
            else {label: row[probability_column(label)] for label in labels},
            "error": row[ERROR_COLUMN],
        }


def write_download(
    job: Job, labels: list[str], target: Path, format: str, rule: Rule | None, part: Part
) -> None:
    """Write a job's records with their tags, every field as it was in the upload.

    Args:
        job: It must be done.
        labels: Of the bundle.
        target: The file to write.
        format: One of `studytag.files.FORMATS` that is written.
        rule: Divides the records; None where `part` is `all`.
        part: Which records; those that nobody judged are among the kept ones.

    Raises:
        InputError: the records do not go into this format.
    """
    run = Run(job.source, target, labels, lambda: False, Silent())
    pairs = zip(
        read_rows(job.source, job.format, errors="return", quiet=True),
        _outcomes(job, labels),
        strict=True,
    )
    unplaced = ((row, _unplaced(n, row, outcome)) for n, (row, outcome) in enumerate(pairs, 1))
    chosen = (pair for pair in unplaced if rule is None or _belongs(pair, rule, part))
    names = pq.read_schema(job.result).names
    added = {PREDICTED_COLUMN, ERROR_COLUMN, *map(probability_column, labels)}
    with open_writer(target, format, mixed_as_text=True) as writer:
        write_rows(run, writer, chosen, [name for name in names if name not in added])


def _table(job: Job, labels: list[str]) -> pa.Table:
    """What people see of the records: a table that has all columns, and the number of each."""
    there = pq.read_schema(job.result).names
    shown = [name for name in _SHOWN if name in there]
    tags = [PREDICTED_COLUMN, *map(probability_column, labels), ERROR_COLUMN]
    table = pq.read_table(job.result, columns=[*shown, *tags])
    for name in set(_SHOWN) - set(shown):
        table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
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
    """An outcome whose error says nothing of the row: it is written with its new place."""
    if isinstance(outcome, Prediction):
        return outcome
    return InputError(str(outcome).removeprefix(f"{place_of(number, row)}: "))


def _belongs(pair: tuple[Row, Outcome], rule: Rule, part: Part) -> bool:
    row, outcome = pair
    labels = outcome.labels if isinstance(outcome, Prediction) else None
    decision, _ = rule.decide(row, labels)
    return (decision is Decision.SET_ASIDE) == (part == "set-aside")
