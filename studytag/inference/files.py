"""Tagging a file: rows in, the same rows with labels and probabilities out, in constant memory."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.files import count_rows, open_writer, read_rows
from studytag.inference.predictor import Outcome, Predictor
from studytag.manifest import OperatingPoint
from studytag.records import PREDICTED_COLUMN, Row, probability_column

logger = logging.getLogger(__name__)

ERROR_COLUMN = "studytag_error"
WARNINGS = 10
"""Bad rows that the log names one by one; of the others it gives the number."""


@dataclass(frozen=True)
class FileSummary:
    """What `predict_file` did.

    Attributes:
        rows: Rows read and written.
        failed: Rows among them that could not be tagged.
        seconds: Wall-clock time.
    """

    rows: int
    failed: int
    seconds: float


def predict_file(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    operating_point: OperatingPoint | None = None,
    progress: bool = True,
) -> FileSummary:
    """Tag every row of a file. The output appears when it is complete, or not at all.

    Each row keeps its columns and gets `studytag_labels` (a list), `p_<label>` (a probability
    each) and `studytag_error`: None, or why this row could not be tagged, with the others None.

    Args:
        predictor: Tags the rows.
        source: Any file that `studytag.files.read_rows` reads.
        target: Any file that `studytag.files.open_writer` writes.
        source_format: Of `source`, where its suffix does not say it.
        target_format: Of `target`, where its suffix does not say it.
        operating_point: Decide by these thresholds instead of the predictor's own.
        progress: Draw a bar where tqdm is installed and standard error is a terminal.

    Raises:
        InputError: a file cannot be read or written, both are the same, or a row already has one
            of the added columns.
    """
    started = time.perf_counter()
    source, target = Path(source), Path(target)
    if os.path.realpath(source) == os.path.realpath(target):
        raise InputError(f"{target}: is the input itself; name another output")
    rows = read_rows(source, source_format)
    waiting: deque[Row] = deque()
    outcomes = predictor.predict_iter(
        _remember(_without_added_columns(rows, source, predictor.labels), waiting),
        operating_point=operating_point,
        errors="return",
    )
    number = failed = 0
    with (
        open_writer(target, target_format) as writer,
        _progress(count_rows(source, source_format), progress) as bar,
    ):
        for number, outcome in enumerate(outcomes, 1):
            row = waiting.popleft()
            error = None
            if isinstance(outcome, InputError):
                failed += 1
                error = f"row {number} (pmid {row.get('pmid')}): {outcome}"
                if failed <= WARNINGS:
                    logger.warning("%s: %s", source, error)
            writer.write(row | _columns(predictor.labels, outcome, error))
            if bar is not None:
                bar.update()
    if failed > WARNINGS:
        logger.warning(
            "%s: %d more rows could not be tagged; see column %s",
            *(source, failed - WARNINGS, ERROR_COLUMN),
        )
    return FileSummary(number, failed, time.perf_counter() - started)


def _without_added_columns(rows: Iterator[Row], source: Path, labels: list[str]) -> Iterator[Row]:
    added = _columns(labels, InputError(), None).keys()
    for row in rows:
        for name in row.keys() & added:
            raise InputError(
                f"{source}: already has a column {name!r}; remove or rename it, "
                "or tag the file it was made from"
            )
        yield row


def _remember(rows: Iterator[Row], waiting: deque[Row]) -> Iterator[Row]:
    """Pass rows on, keeping each until its prediction arrives."""
    for row in rows:
        waiting.append(row)
        yield row


def _columns(labels: list[str], outcome: Outcome, error: str | None) -> Row:
    prediction = None if isinstance(outcome, InputError) else outcome
    return {
        PREDICTED_COLUMN: prediction and prediction.labels,
        **{
            probability_column(label): prediction and prediction.probabilities[label]
            for label in labels
        },
        ERROR_COLUMN: error,
    }


def _progress(total: int | None, wanted: bool) -> AbstractContextManager[Any]:
    try:
        from tqdm import tqdm
    except ImportError:  # CSV and JSONL are tagged without any extra installed
        return nullcontext()
    return tqdm(total=total, unit="article", disable=None if wanted else True)
