"""Masked multi-label scores: unknown cells count nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studytag.errors import missing_dependency
from studytag.labels import LabelSet

Scores = dict[str, Any]

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
    """What `score_points` finds of a single operating point, `thresholds`; the rest as there."""
    return score_points(labels, truth, known, probabilities, {"only": thresholds})["only"]


def score_points(
    labels: LabelSet,
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    points: Mapping[str, Sequence[float]],
) -> dict[str, Scores]:
    """Score decisions by thresholds, and the ranking behind them, which is computed once.

    Args:
        labels: Names of the columns.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        points: By name of the operating point, thresholds, one per label; yes is
            `probability >= threshold`.

    Returns:
        By the same names: `micro` and `macro` (precision, recall, f1; macro also average_precision
        and calibration_error) and `labels`, by name: precision, recall, f1, average_precision,
        calibration_error, support (known positives), known (rows), threshold. The macro average is
        over the labels with support; the ranking of a label without both a positive and a negative
        is undefined: None; so is the calibration of one without `examined` rows.
    """
    ranking = [
        _average_precision(truth[mask, index], probabilities[mask, index])
        for index, mask in enumerate(known.T)
    ]
    errors = [
        expected_calibration_error(truth[mask, index], probabilities[mask, index])
        for index, mask in enumerate(examined(truth, known).T)
    ]
    return {
        point: _scores(
            labels, truth & known, known, probabilities >= np.asarray(each), each, ranking, errors
        )
        for point, each in points.items()
    }


def _scores(
    labels: LabelSet,
    positive: NDArray[np.bool_],
    known: NDArray[np.bool_],
    decided: NDArray[np.bool_],
    thresholds: Sequence[float],
    ranking: list[float | None],
    errors: list[float | None],
) -> Scores:
    """What `score_points` returns of one point."""
    decided = decided & known
    true, predicted, support = ((decided & positive).sum(0), decided.sum(0), positive.sum(0))
    per_label = precision_recall_f1(true, predicted, support)
    supported = support > 0
    micro = precision_recall_f1(true.sum(), predicted.sum(), support.sum())
    macro = [float(values[supported].mean()) if supported.any() else 0.0 for values in per_label]
    names = ("precision", "recall", "f1")
    return {
        "micro": {name: float(value) for name, value in zip(names, micro, strict=True)},
        "macro": dict(zip(names, macro, strict=True))
        | {"average_precision": _mean(ranking), "calibration_error": _mean(errors)},
        "labels": {
            label: {name: float(values[i]) for name, values in zip(names, per_label, strict=True)}
            | {
                "average_precision": ranking[i],
                "calibration_error": errors[i],
                "support": int(support[i]),
                "known": int(known[:, i].sum()),
                "threshold": float(thresholds[i]),
            }
            for i, label in enumerate(labels)
        },
    }


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    if truth.all() or not truth.any():
        return None
    try:
        from sklearn.metrics import average_precision_score
    except ImportError as error:
        raise missing_dependency("scikit-learn", "evaluate") from error
    return float(average_precision_score(truth, scores))


class Resamples(NamedTuple):
    """F1 on resamples of the articles."""

    micro: NDArray[np.float64]
    """Shape (resamples,)."""

    macro: NDArray[np.float64]
    """Shape (resamples,)."""

    labels: NDArray[np.float64]
    """Shape (resamples, labels)."""


def resampled_f1(
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    thresholds: Sequence[float],
    resamples: int = 1000,
    seed: int = 0,
    groups: NDArray[np.intp] | None = None,
) -> Resamples:
    """F1 on bootstrap resamples of the articles.

    The same seed draws the same articles, so two systems can be compared draw by draw.

    Args:
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        thresholds: One per label.
        resamples: How many.
        seed: Of the draws.
        groups: Shape (n,), numbers from 0; where given, whole groups are drawn instead of single
            articles (the cluster bootstrap), for articles that resemble those of their group.
    """
    decided = (probabilities >= np.asarray(thresholds)) & known
    positive = truth & known
    cells = np.hstack([decided & positive, decided, positive]).astype(np.float64)
    if groups is not None:
        members = cells
        cells = np.zeros((groups.max() + 1, members.shape[1]))
        np.add.at(cells, groups, members)
    rng = np.random.default_rng(seed)
    uniform = np.full(len(cells), 1 / len(cells))
    draws = rng.multinomial(len(cells), uniform, size=resamples).astype(np.float64)
    true, predicted, support = np.split(draws @ cells, 3, axis=1)
    micro = precision_recall_f1(true.sum(1), predicted.sum(1), support.sum(1))[2]
    per_label = precision_recall_f1(true, predicted, support)[2]
    supported = positive.any(axis=0)
    macro = per_label[:, supported].mean(axis=1) if supported.any() else np.zeros(resamples)
    return Resamples(micro, macro, per_label)


def bootstrap_intervals(labels: LabelSet, resamples: Resamples) -> dict[str, Any]:
    """95 % percentile intervals of F1.

    Returns:
        `micro`, `macro`: [low, high]; `labels`: name to [low, high].
    """

    def interval(values: NDArray[np.float64]) -> list[float]:
        return [float(bound) for bound in np.percentile(values, [2.5, 97.5])]

    return {
        "micro": interval(resamples.micro),
        "macro": interval(resamples.macro),
        "labels": {name: interval(resamples.labels[:, i]) for i, name in enumerate(labels)},
    }


def examined(truth: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Known cells, shape (n, labels), of articles that were looked at for absence as for presence.

    Left out are articles with unknown cells whose known ones are all positive, such as those that
    PubMed has not indexed yet: whether their labels are known hangs on the answer. Counted among
    the known, they would make labels look more frequent than any true probability says.
    """
    rows = known.all(axis=1, keepdims=True) | (known & ~truth).any(axis=1, keepdims=True)
    return known & rows


def expected_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], bins: int = BINS
) -> float | None:
    """Mean distance of a label's stated probability from its frequency, over bins of equal width.

    Args:
        truth: Shape (n,); for n = 0 the error is undefined, None.
        probabilities: Shape (n,).
        bins: Naeini et al. 2015 and most after them take 10 to 15.
    """
    if not len(truth):
        return None
    _, stated, observed = calibration_bins(truth, probabilities, bins)
    return float(np.abs(stated - observed).sum() / len(truth))


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
    return np.array([np.bincount(places, each, bins) for each in weights], dtype=np.float64)
