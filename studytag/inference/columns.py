"""The columns that tagging adds to a table, and what it needs of those that are there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from studytag.errors import InputError
from studytag.files import ERROR_COLUMN
from studytag.inference.predictor import Outcome
from studytag.records import PREDICTED_COLUMN, Row, probability_column


def added_names(labels: Sequence[str]) -> list[str]:
    """The added columns, in their order: labels, a probability for each label, error."""
    return [PREDICTED_COLUMN, *map(probability_column, labels), ERROR_COLUMN]


def added_columns(labels: Sequence[str], outcome: Outcome | None, error: str | None) -> Row:
    """What a row gets in the added columns; nothing in any without an outcome."""
    prediction = None if isinstance(outcome, InputError) else outcome
    return {
        PREDICTED_COLUMN: prediction and prediction.labels,
        **{
            probability_column(label): prediction and prediction.probabilities[label]
            for label in labels
        },
        ERROR_COLUMN: error,
    }


def refuse_taken(table: str, names: Collection[str], added: Collection[str]) -> None:
    """Refuse a table that has a column which tagging would overwrite.

    Args:
        table: Begins the message.
        names: The table's columns.
        added: The columns that tagging adds.

    Raises:
        InputError: one of them is there.
    """
    for name in added:
        if name in names:
            raise InputError(f"{table} already has a column {name!r}; remove or rename it")
