"""Probabilities for a place where labels are more or less frequent than in training.

Under label shift, articles of a label look alike everywhere and only its frequency differs. Then
the odds of every article change by the same factor (Saerens, Latinne and Decaestecker 2002):

    odds' = odds * [q / (1 - q)] / [p / (1 - p)]

with p the prevalence that the probabilities were calibrated for and q that of the new place. In
logits this is an offset for each label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from studytag.evaluation.metrics import fully_assessed
from studytag.labels import LabelSet

ROUNDS = 200
"""Of expectation-maximisation; it mostly ends after a dozen."""

_TOLERANCE = 1e-6
_SMALLEST = 1e-6


def logit(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-odds, in float64; finite also where a probability rounds to 0 or 1."""
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return odds


def label_prevalence(
    labels: LabelSet, truth: NDArray[np.bool_], known: NDArray[np.bool_]
) -> dict[str, float]:
    """Each label's share among its fully assessed articles.

    Labels that none or all of them have are left out: no other prevalence can be reckoned from it.

    Args:
        labels: The columns.
        truth: Shape (n, labels).
        known: Shape (n, labels).
    """
    assessed = fully_assessed(truth, known)
    positives, total = (truth & assessed).sum(axis=0), assessed.sum(axis=0)
    return {
        name: int(positives[column]) / int(total[column])
        for column, name in enumerate(labels)
        if 0 < positives[column] < total[column]
    }


def prevalence_offset(
    before: NDArray[np.floating], after: NDArray[np.floating]
) -> NDArray[np.float64]:
    """What to add to the logits, shape (labels,).

    Args:
        before: Prevalence that the probabilities are calibrated for, shape (labels,).
        after: Prevalence where they will be used, shape (labels,).
    """
    return logit(np.asarray(after)) - logit(np.asarray(before))


def estimate_prevalence(
    probabilities: NDArray[np.floating], before: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The prevalence of each label among unlabelled articles, by expectation-maximisation.

    Args:
        probabilities: Calibrated for `before`, shape (n, labels).
        before: Prevalence where they were calibrated, shape (labels,).

    Returns:
        Maximum-likelihood estimates, shape (labels,). They are as good as the calibration: a label
        of which nearly all articles are negative is estimated too high by a miscalibrated tail.
    """
    before = np.clip(np.asarray(before, dtype=np.float64), _SMALLEST, 1 - _SMALLEST)
    odds = np.exp(logit(probabilities)) * ((1 - before) / before)  # likelihood ratios
    estimate: NDArray[np.float64] = before.copy()
    for _ in range(ROUNDS):
        posterior = odds * (estimate / (1 - estimate))
        update: NDArray[np.float64] = np.clip(
            (posterior / (1 + posterior)).mean(axis=0), _SMALLEST, 1 - _SMALLEST
        )
        done = np.abs(update - estimate).max() < _TOLERANCE
        estimate = update
        if done:
            break
    return estimate
