"""What a score is: typed and frozen, and its JSON form. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MicroScores:
    """Of all known cells together."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class MacroScores:
    """Means over the labels with at least one known positive.

    Attributes:
        precision: Of the decisions.
        recall: Of the decisions.
        f1: Of the decisions.
        average_precision: Of the ranking; None where no label has both a positive and a negative.
        calibration_error: Expected calibration error; None where no label can be assessed.
    """

    precision: float
    recall: float
    f1: float
    average_precision: float | None
    calibration_error: float | None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Of one label.

    Attributes:
        precision: 0 where nothing was predicted.
        recall: 0 without known positives.
        f1: Their harmonic mean.
        average_precision: None without both a positive and a negative.
        calibration_error: None without fully assessed articles.
        support: Known positives.
        known: Articles whose label is known.
        threshold: Decides.
    """

    precision: float
    recall: float
    f1: float
    average_precision: float | None
    calibration_error: float | None
    support: int
    known: int
    threshold: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one operating point; cells whose label is unknown count nowhere."""

    micro: MicroScores
    macro: MacroScores
    labels: dict[str, LabelScores]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scores:
        """Read the JSON form.

        Raises:
            KeyError, TypeError: an entry is missing or unknown.
        """
        return cls(
            MicroScores(**stored["micro"]),
            MacroScores(**stored["macro"]),
            {name: LabelScores(**entry) for name, entry in stored["labels"].items()},
        )
