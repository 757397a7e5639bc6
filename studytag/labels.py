"""The label set: names in their fixed order, what they imply, and multi-hot encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from studytag.errors import InputError

_Value = TypeVar("_Value", bound=np.generic)


def contradiction(label: str) -> InputError:
    """The error of a row that has a label which, it says, nobody knows of."""
    return InputError(
        f"label {label!r} is in 'labels', but not in 'known'; add it to 'known', or remove it from "
        "'labels'"
    )


@dataclass(frozen=True)
class LabelSet:
    """Label names in the order of every array's columns.

    Attributes:
        names: The labels, distinct and not empty.
        implications: A label to the labels that it brings with it: every RCT is a clinical trial.
            Stated directly; what follows from them in turn is worked out here.

    Raises:
        InputError: no name, a name twice, an empty name, or an implication of an unknown label.
    """

    names: tuple[str, ...]
    implications: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or not all(self.names) or len(set(self.names)) < len(self.names):
            raise InputError(f"label names must be given, non-empty and distinct: {self.names}")
        stated = {name: tuple(implied) for name, implied in self.implications.items()}
        object.__setattr__(self, "implications", stated)
        for name, implied in stated.items():
            for other in (name, *implied):
                if other not in self.names:
                    raise InputError(f"an implication names the unknown label {other!r}")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __hash__(self) -> int:
        return hash(self.names)

    def encode(
        self, rows: Sequence[Iterable[str] | None], column: str, first_row: int = 1
    ) -> NDArray[np.bool_]:
        """Multi-hot encode one list of label names for each row; None is an empty list.

        Args:
            rows: Lists of names.
            column: Where they are from, for messages.
            first_row: The number of the first row, for messages.

        Returns:
            Booleans of shape (len(rows), len(self)).

        Raises:
            InputError: a name is not of this label set; names the row and the column.
        """
        position = {name: index for index, name in enumerate(self.names)}
        encoded = np.zeros((len(rows), len(self)), dtype=np.bool_)
        for index, row in enumerate(rows):
            for name in row if row is not None else ():
                if name not in position:
                    raise InputError(
                        f"row {first_row + index}, column {column!r}: unknown label {name!r}; "
                        f"the labels are {', '.join(self.names)}"
                    )
                encoded[index, position[name]] = True
        return encoded

    def decode(self, multi_hot: NDArray[np.bool_]) -> list[str]:
        """The names set in one row, shape (len(self),)."""
        return [name for name, present in zip(self.names, multi_hot, strict=True) if present]

    def raise_implied(self, values: NDArray[_Value]) -> NDArray[_Value]:
        """Values of shape (..., labels) in which no label has more than one that it implies.

        An implied label's probability becomes the maximum of its own and those that imply it: the
        least change that respects P(RCT) <= P(ClinicalTrial). Of decisions and of truth, the
        maximum is what is true with whatever that implies.
        """
        if not self.implications:
            return values
        raised: NDArray[_Value] = values.copy()
        for column, implied in self._closure():
            for other in implied:
                np.maximum(raised[..., other], values[..., column], out=raised[..., other])
        return raised

    def decide(
        self, probabilities: NDArray[np.floating], thresholds: Sequence[float] | NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Decisions of shape (..., labels): probability >= threshold, and whatever that implies.

        Args:
            probabilities: Shape (..., labels), with `raise_implied` applied.
            thresholds: Shape (labels,), or that of `probabilities`.
        """
        decisions: NDArray[np.bool_] = probabilities >= np.asarray(thresholds, dtype=np.float64)
        return self.raise_implied(decisions)

    def _closure(self) -> list[tuple[int, list[int]]]:
        """Column to the columns of all that it implies, directly or not."""
        position = {name: index for index, name in enumerate(self.names)}
        pairs = []
        for name in self.implications:
            reached = implied_labels(self.implications, name)
            pairs.append((position[name], [position[other] for other in reached]))
        return pairs


def implied_labels(implications: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """All labels that a label implies, directly or through others."""
    reached: dict[str, None] = {}
    waiting = list(implications.get(name, ()))
    while waiting:
        other = waiting.pop()
        if other not in reached:
            reached[other] = None
            waiting += implications.get(other, ())
    return list(reached)


STUDY_DESIGNS = LabelSet(
    (
        *("SystematicReview", "MetaAnalysis", "RCT", "ClinicalTrial", "Cohort", "CaseControl"),
        *("CaseReport", "InVitro", "Animal", "Human"),
    ),
    {"RCT": ("ClinicalTrial",)},
)
"""The labels of tables that do not name their own; those of the rule set `strict`."""
