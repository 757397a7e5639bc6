"""Scores of one system over its seeds, from kept predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

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
from studytag.evaluation.metrics import expected_calibration_error, precision_recall_f1, score
from studytag.evaluation.scores import MicroScores, Scores

Unit = Literal["articles", "sources"]
Part = Literal["year", "fold"]


PartScores = tuple[int, float, float, float | None]
"""Articles of one year or fold, their micro-F1, macro-F1 and calibration error."""


@dataclass(frozen=True)
class SystemScores:
    """A system over its seeds.

    Attributes:
        point: The operating point that decides.
        decided: Scores at that point, by seed.
        fixed: Scores at 0.5, by seed.
        sensitive: Scores at the sensitive point, by seed.
        intervals: Of the mean F1 over seeds.
        all_known_error: Calibration error with the articles that are not fully assessed, by seed.
        parts: By year or fold, of the first seed.
        measured: Date and machine.
        resamples: Mean F1 over seeds on each resample.
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
    truth: Truth, seeds: Sequence[Predictions], point: str, unit: Unit, part: Part | None
) -> SystemScores:
    """Score one system at an operating point; articles of fold -1 count nowhere."""
    rows = truth.fold >= 0
    scored, own = truth.select(rows), [predictions.select(rows) for predictions in seeds]
    parts: dict[str, PartScores] = {}
    numbers = scored.arrays[part] if part else np.zeros(0, dtype=np.int8)
    for value in np.unique(numbers):
        members = numbers == value
        cells = scored.select(members), own[0].select(members)
        scores = _score(*cells, _ranking(*cells), point)
        figures = (scores.micro.f1, scores.macro.f1, scores.macro.calibration_error)
        parts[str(value)] = (int(members.sum()), *figures)
    half = [0.5] * len(truth.labels)
    groups = scored.source.astype(np.intp) if unit == "sources" else None
    drawn = [
        resampled_f1(
            *(truth.labels, scored.truth, scored.known, _as_numbers(each.decide(scored, point))),
            half,
            groups=groups,
        )
        for each in own
    ]
    # Every seed's resamples draw the same articles: draw by draw the mean of the seeds.
    resamples = Resamples(*(np.mean(values, axis=0) for values in zip(*drawn, strict=True)))
    fixed = [_ranking(scored, each) for each in own]
    return SystemScores(
        point,
        [_score(scored, *pair, point) for pair in zip(own, fixed, strict=True)],
        fixed,
        [_score(scored, *pair, "sensitive") for pair in zip(own, fixed, strict=True)],
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
        own, other = (
            (np.mean([getattr(s, average).f1 for s in of.decided]), getattr(of.resamples, average))
            for of in (better, worse)
        )
        gains[average] = (float(own[0] - other[0]), percentile_interval(own[1] - other[1]))
    return gains


def _ranking(truth: Truth, predictions: Predictions) -> Scores:
    """Scores at 0.5, and of the probabilities as a ranking."""
    half = [0.5] * len(truth.labels)
    return score(truth.labels, truth.truth, truth.known, predictions.probabilities, half)


def _score(truth: Truth, predictions: Predictions, ranking: Scores, point: str) -> Scores:
    """Decisions by each fold's thresholds; average precision and calibration from `ranking`."""
    if point == "fixed":
        return ranking
    decided, positive = predictions.decide(truth, point) & truth.known, truth.truth & truth.known
    counts = (decided & positive).sum(0), decided.sum(0), positive.sum(0)
    figures = precision_recall_f1(*counts)
    precision, recall, f1 = (values.tolist() for values in figures)
    mean_p, mean_r, mean_f1 = (float(values[counts[2] > 0].mean()) for values in figures)
    micro = precision_recall_f1(*(count.sum() for count in counts))
    return Scores(
        MicroScores(*map(float, micro)),
        replace(ranking.macro, precision=mean_p, recall=mean_r, f1=mean_f1),
        {
            name: replace(entry, precision=precision[i], recall=recall[i], f1=f1[i])
            for i, (name, entry) in enumerate(ranking.labels.items())
        },
    )


def _error_of_all_known(truth: Truth, probabilities: NDArray[np.floating]) -> float:
    """The calibration error, mean over labels, with the articles that are not fully assessed."""
    errors = [
        expected_calibration_error(truth.truth[known, column], probabilities[known, column])
        for column, known in enumerate(truth.known.T)
    ]
    return float(np.mean([error for error in errors if error is not None]))


def _as_numbers(decisions: NDArray[np.bool_]) -> NDArray[np.float64]:
    return decisions.astype(np.float64)
