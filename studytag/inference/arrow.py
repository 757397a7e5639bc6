"""Arrow tables in, the same tables with tags out: for DuckDB, Polars, pandas, Ray and Spark."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from studytag.errors import InputError, import_extra
from studytag.inference.columns import added_columns, added_names, refuse_taken
from studytag.inference.inputs import Record, iterate_records
from studytag.inference.predictor import Outcome, Predictor
from studytag.records import clean

if TYPE_CHECKING:
    import pyarrow as pa


def tag_table(table: pa.Table, predictor: Predictor | None = None) -> pa.Table:
    """Tag the rows of a table by its columns `title` and `abstract`; every column is kept.

    The added columns are those of `studytag predict`: `studytag_labels` (a list of texts),
    `p_<label>` (a probability each) and `studytag_error` (null, or why this row could not be
    tagged, with the others null).

    Args:
        table: An Arrow table, or anything that Arrow makes one of: a DataFrame of pandas or Polars,
            a record batch, a stream of them.
        predictor: Tags the rows; None is the tagger that ships, loaded once for this process.

    Raises:
        InputError: no table, neither a title nor an abstract column, or a column that would be
            added is already there.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = import_extra("pyarrow", "files")
    if not isinstance(table, arrow.Table):
        table = _to_table(arrow, table)
    predictor = predictor or _default_predictor()
    batches = tag_batches(table.to_batches(), predictor)
    return arrow.Table.from_batches(batches, tagged_schema(table.schema, predictor.labels))


def tag_batches(
    batches: Iterable[pa.RecordBatch], predictor: Predictor
) -> Iterator[pa.RecordBatch]:
    """As `tag_table`, for a stream in constant memory: batch in, batch out, order kept.

    The stream is read ahead, so that every core is busy across the ends of batches.

    Raises:
        InputError: as `tag_table`.
    """
    waiting: deque[pa.RecordBatch] = deque()
    finished: list[Outcome] = []
    for outcome in predictor.predict_iter(_remember(batches, waiting), errors="return"):
        while waiting and len(finished) == waiting[0].num_rows:
            yield _tagged(waiting.popleft(), finished, predictor.labels)
            finished = []
        finished.append(outcome)
    while waiting:
        yield _tagged(waiting.popleft(), finished, predictor.labels)
        finished = []


def tagged_schema(schema: pa.Schema, labels: Sequence[str]) -> pa.Schema:
    """The schema of a tagged table.

    Raises:
        InputError: the table already has one of the added columns.
    """
    import pyarrow as pa

    names = added_names(labels)
    refuse_taken("the table", schema.names, names)
    types = [pa.list_(pa.string()), *[pa.float64()] * len(labels), pa.string()]
    added = map(pa.field, names, types)
    return pa.schema([*schema, *added], schema.metadata)


def _to_table(arrow: Any, records: Any) -> Any:
    try:
        return arrow.table(records)
    except (TypeError, ValueError, arrow.ArrowException) as error:
        reason = clean(" ".join(map(str, error.args)))
        raise InputError(
            f"expected an Arrow table, or what Arrow makes one of, not {type(records).__name__} "
            f"({reason})"
        ) from error


@cache
def _default_predictor() -> Predictor:
    return Predictor()


def _remember(
    batches: Iterable[pa.RecordBatch], waiting: deque[pa.RecordBatch]
) -> Iterator[Record]:
    """The rows of each batch, which waits meanwhile for their outcomes."""
    import pyarrow as pa

    for batch in batches:
        waiting.append(batch)
        yield from iterate_records(pa.Table.from_batches([batch]))


def _tagged(
    batch: pa.RecordBatch, outcomes: Sequence[Outcome], labels: Sequence[str]
) -> pa.RecordBatch:
    import pyarrow as pa

    schema = tagged_schema(batch.schema, labels)
    rows = [
        added_columns(labels, outcome, str(outcome) if isinstance(outcome, InputError) else None)
        for outcome in outcomes
    ]
    arrays = [
        pa.array([row[field.name] for row in rows], field.type)
        for field in list(schema)[len(batch.schema) :]
    ]
    return pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=schema)
