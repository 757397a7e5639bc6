"""Decision thresholds per label, tuned on validation data.

A candidate lies midway between two neighbouring validation probabilities, so it is as far as can
be from flipping a decision by rounding. With a label's n probabilities sorted once, each objective
is a maximum over n + 1 candidates: O(n log n) per label.

The default point expects designs to be rarer where the tagger is used than in the validation data,
which is collected for having them. With a third of the odds, three false positives come for each
one that validation shows; F1 averaged over both prevalences leaves out thresholds that are good at
one of them only. Tuned and scored on different unseen sources, this gained 0.003 micro-F1 and 0.005
macro-F1 over the thresholds of the highest micro-F1, and 0.12 F1 for RCT among articles of which
few are RCTs (docs/experiments.md).

The highest F1 on a few thousand articles is often one of many nearly as high, at thresholds far
apart. So the thresholds of the two F1 objectives are bagged (Breiman 1996): tuned on resamples of
the rows, then averaged. Tuned on one half of the real validation split and scored on the other,
bagging gained up to 0.003 micro-F1 and 0.001 to 0.005 macro-F1 (docs/experiments.md). A promised
recall is broken as easily: the threshold that keeps 98 % of a hundred positives hangs on two of
them. So that one is low enough for 95 % of the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALLBACK = 0.5
MIN_POSITIVES = 10
"""Labels with fewer known positives keep `FALLBACK`: a threshold set by a handful is noise."""

RARER = (1, 3)
"""Odds of a label in the validation data over those that the default point is averaged over."""

RESAMPLES = 50
"""Bootstrap resamples that the F1 thresholds are averaged over."""

SENSITIVE_RECALL = 0.98
SENSITIVE_CONFIDENCE = 0.95
"""Share of the resamples in which the sensitive threshold reaches its recall."""

PRECISE_PRECISION = 0.95


@dataclass(frozen=True)
class Candidates:
    """All decisions that a threshold on one label can make.

    Attributes:
        thresholds: Shape (m,), descending; candidate i predicts `predicted[i]` rows positive.
        predicted: Shape (m,), rows predicted positive.
        true: Shape (m,), how many of them are positives.
        positives: Known positives.
        total: Known rows.
    """

    thresholds: NDArray[np.float64]
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]
    positives: int
    total: int

    @classmethod
    def of(cls, truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> Candidates:
        """Sort one label's known rows, both of shape (n,), into candidates."""
        order = np.argsort(-probabilities, kind="stable")
        scores = probabilities[order].astype(np.float64)
        edges = np.concatenate([[1.0], scores, [0.0]])
        # Equal probabilities cannot be told apart: a cut is possible only between distinct ones.
        cuts = np.flatnonzero(np.diff(scores, prepend=1.0, append=-1.0))
        return cls(
            thresholds=(edges[cuts] + edges[cuts + 1]) / 2,
            predicted=cuts.astype(np.int64),
            true=np.concatenate([[0], np.cumsum(truth[order])])[cuts],
            positives=int(truth.sum()),
            total=len(truth),
        )

    def best_f1(self, rarer: tuple[int, ...] = (1,)) -> int:
        """The candidate with the highest F1, averaged over prevalences.

        Args:
            rarer: How much lower the odds of the label are than here, at each prevalence. Where
                they are r times lower, r false positives come for each one here.
        """
        false = self.predicted - self.true
        f1 = [2 * self.true / np.maximum(self.true + r * false + self.positives, 1) for r in rarer]
        return int(np.argmax(np.mean(f1, axis=0)))

    def sensitive(self) -> int:
        """The fewest rows predicted positive with recall of at least `SENSITIVE_RECALL`."""
        return int(np.argmax(self.true >= SENSITIVE_RECALL * self.positives))

    def balanced(self) -> int:
        """The highest sum of sensitivity and specificity (Youden's J)."""
        negatives = max(self.total - self.positives, 1)
        false = self.predicted - self.true
        return int(np.argmax(self.true / max(self.positives, 1) - false / negatives))

    def precise(self) -> int:
        """The highest recall with precision of at least `PRECISE_PRECISION`; else `best_f1`."""
        reached = (self.predicted > 0) & (self.true >= PRECISE_PRECISION * self.predicted)
        if not reached.any():
            return self.best_f1()
        return int(np.argmax(np.where(reached, self.true, -1)))


def tune_thresholds(
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    min_positives: int = MIN_POSITIVES,
    resamples: int = RESAMPLES,
) -> dict[str, list[float]]:
    """Thresholds of every operating point, one per label in label order.

    Operating points: `f1` (each label's highest F1, averaged over the prevalence of these rows and
    a lower one, see `RARER`), `label_f1` (the highest F1 on these rows), `sensitive` (recall >=
    0.98 with confidence), `balanced` (Youden's J), `precise` (precision >= 0.95 where reachable,
    else the highest F1) and `fixed` (0.5). The names of the three before the last are RobotSearch's
    (Marshall et al. 2018).

    Args:
        truth: Shape (n, labels).
        known: Shape (n, labels); unknown cells count nowhere.
        probabilities: Shape (n, labels), in [0, 1].
        min_positives: Labels with fewer known positives get 0.5 at every point.
        resamples: How many resamples `f1` and `label_f1` are averaged over, and `sensitive`
            holds in most of, always the same ones; 0 tunes them on the rows as they are.

    Raises:
        ValueError: shapes differ, or a probability lies outside [0, 1] or is NaN.
    """
    if not truth.shape == known.shape == probabilities.shape:
        raise ValueError(f"shapes differ: {truth.shape}, {known.shape}, {probabilities.shape}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1")
    tuned = (truth & known).sum(axis=0) >= min_positives
    columns = _columns(truth, known, probabilities)
    points = {
        "f1": _pick(columns, [column.best_f1(RARER) for column in columns]),
        "label_f1": _pick(columns, [column.best_f1() for column in columns]),
        "sensitive": _pick(columns, [column.sensitive() for column in columns]),
        "balanced": _pick(columns, [column.balanced() for column in columns]),
        "precise": _pick(columns, [column.precise() for column in columns]),
        "fixed": np.full(len(columns), FALLBACK),
    }
    if resamples:
        random = np.random.default_rng(0)
        rarer, common, safe = [], [], []
        for _ in range(resamples):  # one at a time: each is as large as the table
            rows = random.integers(len(truth), size=len(truth))
            bag = _columns(truth[rows], known[rows], probabilities[rows])
            rarer.append(_pick(bag, [column.best_f1(RARER) for column in bag]))
            common.append(_pick(bag, [column.best_f1() for column in bag]))
            safe.append(_pick(bag, [column.sensitive() for column in bag]))
        points["f1"], points["label_f1"] = np.mean(rarer, axis=0), np.mean(common, axis=0)
        lowest = np.quantile(safe, 1 - SENSITIVE_CONFIDENCE, axis=0)
        points["sensitive"] = np.minimum(points["sensitive"], lowest)
    return {name: np.where(tuned, values, FALLBACK).tolist() for name, values in points.items()}


def cross_fitted_thresholds(
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    fold: NDArray[np.integer],
    points: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """For each of the operating points, thresholds of every fold, tuned on all other articles.

    Args:
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        fold: Shape (n,), from 0; articles of a negative one serve every fold.
        points: Names of the operating points.

    Returns:
        Shape (folds, labels) by operating point.
    """
    tuned = []
    for number in range(int(fold.max()) + 1):
        rows = fold != number
        tuned.append(tune_thresholds(truth[rows], known[rows], probabilities[rows]))
    return {point: np.array([of_fold[point] for of_fold in tuned]) for point in points}


def _columns(
    truth: NDArray[np.bool_], known: NDArray[np.bool_], probabilities: NDArray[np.floating]
) -> list[Candidates]:
    return [
        Candidates.of(truth[mask, index], probabilities[mask, index])
        for index, mask in enumerate(known.T)
    ]


def _pick(columns: list[Candidates], choices: list[int]) -> NDArray[np.float64]:
    return np.array([c.thresholds[i] for c, i in zip(columns, choices, strict=True)])
