"""All that is measured of a system's probabilities on labelled articles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.evaluation.bootstrap import F1Intervals, f1_intervals, recall_interval, resampled_f1
from studytag.evaluation.metrics import score_points
from studytag.evaluation.robustness import GroupScores, Robustness, groups_table, score_groups
from studytag.evaluation.scores import Scores
from studytag.evaluation.tables import scores_table
from studytag.labels import LabelSet


@dataclass(frozen=True, slots=True)
class Origin:
    """What was scored.

    Attributes:
        table: Path of the labelled table.
        model: Path of the bundle or model folder.
        variant: `pytorch`, `fp32` or `int8`.
        operating_point: Whose thresholds decide.
    """

    table: str
    model: str
    variant: str
    operating_point: str


@dataclass(frozen=True)
class Evaluation:
    """Probabilities for labelled articles, and how right they are.

    Attributes:
        labels: The columns.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        thresholds: One per label.
        scores: At the thresholds.
        fixed: At 0.5.
        intervals: 95 % bootstrap intervals over articles of the F1 at the thresholds.
        years: By year, for the articles that have one.
        origin: What was scored.
        robustness: How well the scores hold; None if that was not asked for.
    """

    labels: LabelSet
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    probabilities: NDArray[np.floating]
    thresholds: list[float]
    scores: Scores
    fixed: Scores
    intervals: F1Intervals
    years: dict[int, GroupScores]
    origin: Origin
    robustness: Robustness | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures in JSON form; without the arrays."""
        return {
            **asdict(self.origin),
            "articles": len(self.truth),
            "scores": self.scores.to_dict(),
            "scores_at_0.5": self.fixed.to_dict(),
            "intervals": asdict(self.intervals),
            "recall_intervals": {
                label: recall_interval(each) for label, each in self.scores.labels.items()
            },
            "years": {str(year): asdict(scores) for year, scores in self.years.items()},
            **({"robustness": self.robustness.to_dict()} if self.robustness else {}),
        }

    def markdown(self) -> str:
        """The figures as tables to read."""
        lines = [
            f"{len(self.truth)} articles of {self.origin.table}, variant {self.origin.variant}, "
            f"operating point {self.origin.operating_point}",
            "",
            *scores_table(self.scores, self.fixed, self.intervals),
        ]
        if self.years:
            lines += ["", *groups_table("Year", self.years)]
        if self.robustness:
            lines += ["", *self.robustness.markdown(self.scores)]
        return "\n".join(lines) + "\n"


def evaluate(
    labels: LabelSet,
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    thresholds: Sequence[float],
    origin: Origin,
    years: NDArray[np.int64] | None = None,
    robustness: Robustness | None = None,
) -> Evaluation:
    """Score probabilities at a set of thresholds.

    Args:
        labels: The columns.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        thresholds: One per label.
        origin: What is scored.
        years: Shape (n,), 0 where unknown; None scores no years.
        robustness: How well the scores hold, where it was measured.
    """
    cells = (labels, truth, known, probabilities, thresholds)
    by_year = score_groups(*cells, years) if years is not None else {}
    points = {"tuned": thresholds, "fixed": [0.5] * len(labels)}
    scored = score_points(labels, truth, known, probabilities, points)
    resamples = resampled_f1(*cells)
    return Evaluation(
        labels,
        truth,
        known,
        probabilities,
        [float(threshold) for threshold in thresholds],
        scored["tuned"],
        scored["fixed"],
        f1_intervals(labels, resamples),
        by_year,
        origin,
        robustness,
    )
