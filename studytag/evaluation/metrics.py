"""Masked multi-label scores: cells whose label is unknown count nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.errors import import_extra
from studytag.evaluation.scores import LabelScores, MacroScores, MicroScores, Scores
from studytag.labels import LabelSet

BINS = 15
"""Of the calibration error."""


def precision_recall_f1(
    true: NDArray[Any], predicted: NDArray[Any], positives: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 of counts of any one shape; 0 where nothing is there to count."""
    return (
        np.divide(true, np.maximum(predicted, 1)),
        np.divide(true, np.maximum(positives, 1)),
        np.divide(2 * true, np.maximum(predicted + positives, 1)),
    )


def score(
    labels: LabelSet,
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    thresholds: Sequence[float],
) -> Scores:
    """`score_points` for a single operating point."""
    return score_points(labels, truth, known, probabilities, {"only": thresholds})["only"]


def score_points(
    labels: LabelSet,
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    points: Mapping[str, Sequence[float] | NDArray[np.float64]],
) -> dict[str, Scores]:
    """Score decisions by thresholds, and the ranking behind them, which is computed once.

    Args:
        labels: The columns; their implications apply to the decisions.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        points: By name of the operating point, one threshold per label; or each article's own,
            shape (n, labels).

    Returns:
        The scores by the same names. Macro averages are over the labels with support; of
        thresholds that differ between articles, the mean is given.
    """
    ranking = _average_precisions(truth, known, probabilities)
    errors = [
        expected_calibration_error(truth[mask, index], probabilities[mask, index])
        for index, mask in enumerate(fully_assessed(truth, known).T)
    ]
    return {
        point: _scores(labels, truth, known, probabilities, thresholds, ranking, errors)
        for point, thresholds in points.items()
    }


def _scores(
    labels: LabelSet,
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    thresholds: Sequence[float] | NDArray[np.float64],
    ranking: list[float | None],
    errors: list[float | None],
) -> Scores:
    """The scores of one operating point."""
    positive = truth & known
    decisions = labels.decide(probabilities, thresholds) & known
    true, predicted, support = (decisions & positive).sum(0), decisions.sum(0), positive.sum(0)
    per_label = precision_recall_f1(true, predicted, support)
    supported = support > 0
    means = np.mean(np.reshape(thresholds, (-1, len(labels))), axis=0)
    precision, recall, f1 = per_label
    micro = precision_recall_f1(true.sum(), predicted.sum(), support.sum())
    macro = [float(values[supported].mean()) if supported.any() else 0.0 for values in per_label]
    error = _mean(compress(errors, supported))
    return Scores(
        MicroScores(float(micro[0]), float(micro[1]), float(micro[2])),
        MacroScores(macro[0], macro[1], macro[2], _mean(ranking), error),
        {
            label: LabelScores(
                precision=float(precision[column]),
                recall=float(recall[column]),
                f1=float(f1[column]),
                average_precision=ranking[column],
                calibration_error=errors[column],
                support=int(support[column]),
                known=int(known[:, column].sum()),
                threshold=float(means[column]),
            )
            for column, label in enumerate(labels)
        },
    )


def mean_average_precision(
    truth: NDArray[np.bool_], known: NDArray[np.bool_], scores: NDArray[np.floating]
) -> float | None:
    """The mean over labels that some known articles have and some have not; None without any.

    Args:
        truth: Shape (n, labels).
        known: Shape (n, labels).
        scores: Whatever ranks the articles, shape (n, labels).
    """
    return _mean(_average_precisions(truth, known, scores))


def _average_precisions(
    truth: NDArray[np.bool_], known: NDArray[np.bool_], scores: NDArray[np.floating]
) -> list[float | None]:
    return [
        _average_precision(truth[mask, index], scores[mask, index])
        for index, mask in enumerate(known.T)
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    if truth.all() or not truth.any():
        return None
    metrics = import_extra("sklearn.metrics", "evaluate")
    return float(metrics.average_precision_score(truth, scores))


def fully_assessed(truth: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Known cells, shape (n, labels), of articles assessed for absence as well as for presence.

    Left out are articles with unknown cells whose known ones are all positive, such as those that
    PubMed has not indexed yet: whether their labels are known depends on the outcome. Counted among
    the known, they would make labels look more frequent than any true probability says.
    """
    rows = known.all(axis=1, keepdims=True) | (known & ~truth).any(axis=1, keepdims=True)
    return known & rows


def expected_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], bins: int = BINS
) -> float | None:
    """Mean distance of predicted probability from frequency, over bins of equal width.

    Args:
        truth: Shape (n,); for n = 0 the error is undefined, None.
        probabilities: Shape (n,).
        bins: Naeini et al. 2015 and most after them take 10 to 15.
    """
    if not len(truth):
        return None
    _, predicted, observed = calibration_bins(truth, probabilities, bins)
    return float(np.abs(predicted - observed).sum() / len(truth))


def calibration_bins(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], bins: int = BINS
) -> NDArray[np.float64]:
    """Articles, sum of their probabilities, and positives among them, shape (3, bins).

    Args:
        truth: Shape (n,).
        probabilities: Shape (n,).
        bins: Of equal width.
    """
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    weights = (np.ones(len(truth)), probabilities, truth)
    return np.array([np.bincount(places, weight, bins) for weight in weights], dtype=np.float64)
