"""Scores of one system over its seeds, from kept predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.harness.store import Predictions, Truth
from studytag.evaluation.bootstrap import (
    F1Intervals,
    Interval,
    Resamples,
    f1_intervals,
    percentile_interval,
    resampled_f1,
)
from studytag.evaluation.metrics import expected_calibration_error, score_points
from studytag.evaluation.scores import Scores

PartScores = tuple[int, float, float, float | None]
"""Articles of one year or fold, their micro-F1, macro-F1 and calibration error."""


@dataclass(frozen=True)
class SystemScores:
    """A system over its seeds.

    Scores by seed at the operating `point` that decides, at 0.5 and at the sensitive one; intervals
    of the mean F1 over seeds, and that mean on each resample; by seed the calibration error with
    the articles that are not fully assessed; by year or fold, scores of the first seed.
    """

    point: str
    decided: list[Scores]
    fixed: list[Scores]
    sensitive: list[Scores]
    intervals: F1Intervals
    all_known_error: list[float]
    parts: dict[str, PartScores]
    measured: str
    resamples: Resamples


def score_system(
    truth: Truth, seeds: Sequence[Predictions], point: str, unit: str, part: str | None
) -> SystemScores:
    """Score one system at an operating point; articles of fold -1 count nowhere.

    The `unit` of the bootstrap is `articles` or `sources`; a `part` is `year` or `fold`.
    """
    rows = truth.fold >= 0
    scored, own = truth.select(rows), [predictions.select(rows) for predictions in seeds]
    parts: dict[str, PartScores] = {}
    numbers = scored.arrays[part] if part else np.zeros(0, dtype=np.int8)
    for value in np.unique(numbers):
        members = numbers == value
        scores = scores_at(scored.select(members), own[0].select(members), [point])[point]
        figures = (scores.micro.f1, scores.macro.f1, scores.macro.calibration_error)
        parts[str(value)] = (int(members.sum()), *figures)
    groups = scored.source.astype(np.intp) if unit == "sources" else None
    drawn = []
    for each in own:
        decided = truth.labels.decide(each.probabilities, each.thresholds_at(scored, point))
        cells = (truth.labels, scored.truth, scored.known, decided.astype(np.float64))
        drawn.append(resampled_f1(*cells, [0.5] * len(truth.labels), groups=groups))
    # Every seed's resamples draw the same articles: draw by draw the mean of the seeds.
    resamples = Resamples(*(np.mean(values, axis=0) for values in zip(*drawn, strict=True)))
    points = [scores_at(scored, each, {point, "fixed", "sensitive"}) for each in own]
    return SystemScores(
        point,
        [of_seed[point] for of_seed in points],
        [of_seed["fixed"] for of_seed in points],
        [of_seed["sensitive"] for of_seed in points],
        f1_intervals(truth.labels, resamples),
        [_error_of_all_known(scored, each.probabilities) for each in own],
        parts,
        seeds[0].measured,
        resamples,
    )


def gain(better: SystemScores, worse: SystemScores) -> dict[str, tuple[float, Interval]]:
    """How much higher the mean micro- and macro-F1 is, with intervals paired draw by draw."""
    gains = {}
    for average in ("micro", "macro"):
        f1 = [np.mean([getattr(s, average).f1 for s in of.decided]) for of in (better, worse)]
        drawn = getattr(better.resamples, average) - getattr(worse.resamples, average)
        gains[average] = (float(f1[0] - f1[1]), percentile_interval(drawn))
    return gains


def scores_at(truth: Truth, predictions: Predictions, points: Iterable[str]) -> dict[str, Scores]:
    """Scores by operating point."""
    cells = (truth.labels, truth.truth, truth.known, predictions.probabilities)
    return score_points(*cells, {name: predictions.thresholds_at(truth, name) for name in points})


def _error_of_all_known(truth: Truth, probabilities: NDArray[np.floating]) -> float:
    """The calibration error, mean over labels, with the articles that are not fully assessed."""
    errors = [
        expected_calibration_error(truth.truth[known, column], probabilities[known, column])
        for column, known in enumerate(truth.known.T)
    ]
    return float(np.mean([error for error in errors if error is not None]))
