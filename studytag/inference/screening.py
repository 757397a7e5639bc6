"""Screening by tags: which records go on to people, and which are set aside.

Nothing is deleted: records that do not match go to a file of their own. A record that cannot be
assessed, since it has no abstract or too little text, always goes on to people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from studytag.errors import InputError
from studytag.files import ERROR_COLUMN, RowWriter, open_writer
from studytag.inference.columns import added_columns
from studytag.labels import LabelSet
from studytag.manifest import OperatingPoint
from studytag.records import PREDICTED_COLUMN, Row, clean, probability_column

FEWEST_WORDS = 20
"""An abstract of fewer words is too short to assess a study by."""

UNTAGGED = "could not be tagged"
"""Why a record with an error is not assessed."""

KEEP_POINT: OperatingPoint = "sensitive"
"""Decides what is kept unless another is named: a miss costs more than a record read in vain."""

DROP_POINT: OperatingPoint = "precise"
"""Decides what is dropped, where the point of what is kept is not stricter. At `KEEP_POINT`, whose
low thresholds miss few, many records would be set aside for a label that they do not have."""


class Decision(str, Enum):
    """What becomes of a record."""

    KEPT = "kept"
    SET_ASIDE = "set aside"
    NOT_ASSESSED = "not assessed"


@dataclass(frozen=True)
class Rule:
    """Which records are kept: those with a label of `keep`, without any label of `drop`.

    Attributes:
        keep: Labels of which a record needs one; none means that every record may stay.
        drop: Labels of which a record may have none.
        fewest_words: An abstract of fewer words is too short to assess.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    fewest_words: int = FEWEST_WORDS

    def check(self, known: Collection[str]) -> None:
        """Refuse labels that the bundle does not have, and rules that decide nothing.

        Args:
            known: The labels that the bundle has.

        Raises:
            InputError: a label is unknown or on both sides, or none is named.
        """
        for label in (*self.keep, *self.drop):
            if label not in known:
                raise InputError(
                    f"no label {label!r} in this bundle; it has {', '.join(sorted(known))}"
                )
        if both := sorted({*self.keep} & {*self.drop}):
            raise InputError(f"label {both[0]!r} is both to keep and to drop; name it once")
        if not self.keep and not self.drop:
            raise InputError("no label to screen by; name labels with --keep or --drop")

    def decide(self, row: Row, labels: Collection[str] | None) -> tuple[Decision, str]:
        """What becomes of a record, and why.

        Args:
            row: The record, with its `title` and `abstract`.
            labels: The labels predicted for it; None where it could not be tagged.
        """
        if labels is None:
            return Decision.NOT_ASSESSED, UNTAGGED
        abstract = row.get("abstract")
        words = len(clean(abstract).split()) if isinstance(abstract, str) else 0
        if not words:
            return Decision.NOT_ASSESSED, "no abstract"
        if words < self.fewest_words:
            return Decision.NOT_ASSESSED, f"abstract of fewer than {self.fewest_words} words"
        dropped = [label for label in self.drop if label in labels]
        if dropped:
            return Decision.SET_ASIDE, f"tagged {', '.join(dropped)}"
        if self.keep and not set(self.keep) & set(labels):
            return Decision.SET_ASIDE, f"not tagged {' or '.join(self.keep)}"
        return Decision.KEPT, ""


@dataclass(frozen=True)
class Criteria:
    """A rule with the thresholds that decide its labels.

    Attributes:
        rule: Which records are kept.
        labels: Of the bundle.
        keep: Thresholds of all labels but those that the rule drops; one a label, in label order.
        drop: Thresholds of those; one a label.
    """

    rule: Rule
    labels: LabelSet
    keep: Sequence[float]
    drop: Sequence[float]

    def screen(self, row: Row) -> tuple[Row, Decision, str]:
        """A tagged row with the tags that decide, what becomes of it, and why.

        One that cannot be assessed loses its tags, which nobody should rely on, and says so in
        place of them.
        """
        labels = None if row[PREDICTED_COLUMN] is None else self._tags(row)
        decision, reason = self.rule.decide(row, labels)
        columns: Row = {PREDICTED_COLUMN: labels}
        if decision is Decision.NOT_ASSESSED:
            note = "; ".join(filter(None, (f"not assessed: {reason}", row[ERROR_COLUMN])))
            columns = added_columns(list(self.labels), None, note)
        return row | columns, decision, reason

    def _tags(self, row: Row) -> list[str]:
        probabilities = np.array([row[probability_column(label)] for label in self.labels])
        to_drop = [label in self.rule.drop for label in self.labels]
        kept, dropped = (
            self.labels.decide(probabilities, thresholds) for thresholds in (self.keep, self.drop)
        )
        return self.labels.decode(np.where(to_drop, dropped, kept))


def set_aside_path(output: Path) -> Path:
    """Where the records that do not match go: `NAME.set-aside.ris` beside `NAME.ris`."""
    suffixes = output.suffixes[-2:] if output.suffix.lower() == ".gz" else output.suffixes[-1:]
    suffix = "".join(suffixes)
    return output.with_name(f"{output.name.removesuffix(suffix)}.set-aside{suffix}")


@contextmanager
def open_screened(
    output: Path, format: str | None = None, **options: Any
) -> Iterator[Mapping[Decision, RowWriter]]:
    """Open the writers of both outputs, by decision; nothing appears before all is written.

    The records that were set aside get their file first: should the process be killed between the
    two renames, the file to screen is missing, which nobody overlooks.

    Args:
        output: Gets the records that were kept or not assessed; `set_aside_path` the others.
        format: As of `open_writer`.
        **options: As of `open_writer`.

    Raises:
        InputError: as `open_writer`.
    """
    with (
        open_writer(output, format, **options) as kept,
        open_writer(set_aside_path(output), format, **options) as aside,
    ):
        yield {
            Decision.KEPT: kept,
            Decision.NOT_ASSESSED: kept,
            Decision.SET_ASIDE: aside,
        }
