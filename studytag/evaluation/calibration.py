"""Probabilities that mean what they say: a line per label through the logits (Platt 1999).

Label j's logit z becomes slope[j] * z + offset[j]. That is a linear map of what the last layer puts
out, so training writes it into that layer's weights, and every later reader of the model
(transformers, ONNX, the predictor) gives calibrated probabilities without knowing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studytag.errors import import_extra
from studytag.evaluation.metrics import fully_assessed
from studytag.evaluation.thresholds import MIN_POSITIVES


@dataclass(frozen=True)
class Calibration:
    """A line for each label.

    Attributes:
        slope: Shape (labels,), above 0: the ranking of articles stays as it is.
        offset: Shape (labels,).
    """

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated logits, of the same shape (n, labels)."""
        return logits * self.slope + self.offset


def calibrate(
    truth: NDArray[np.bool_], known: NDArray[np.bool_], logits: NDArray[np.floating]
) -> Calibration:
    """Fit each label's line to its `fully_assessed` validation rows by maximum likelihood.

    As in Platt's paper, the targets are not 0 and 1 but 1 / (N- + 2) and (N+ + 1) / (N+ + 2), which
    keeps the line finite where a threshold separates all positives. A label with fewer than ten
    such positives or negatives, or whose line would turn the ranking round, stays as it is.

    Args:
        truth: Shape (n, labels).
        known: Shape (n, labels).
        logits: Shape (n, labels).
    """
    slope, offset = np.ones(truth.shape[1]), np.zeros(truth.shape[1])
    assessed = fully_assessed(truth, known)
    for index in np.flatnonzero(enough_to_calibrate(truth, known)):
        mask = assessed[:, index]
        line = _fit(truth[mask, index], logits[mask, index].astype(np.float64))
        if line[0] > 0:
            slope[index], offset[index] = line
    return Calibration(slope, offset)


def enough_to_calibrate(truth: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each label has `MIN_POSITIVES` fully assessed positives and negatives, (labels,).

    Args:
        truth: Shape (n, labels).
        known: Shape (n, labels).
    """
    assessed = fully_assessed(truth, known)
    positives, negatives = (assessed & truth).sum(axis=0), (assessed & ~truth).sum(axis=0)
    enough: NDArray[np.bool_] = np.minimum(positives, negatives) >= MIN_POSITIVES
    return enough


def _fit(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of one label."""
    linear_model = import_extra("sklearn.linear_model", "evaluate")
    yes, no = positive.sum(), (~positive).sum()
    target = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))
    # A target between 0 and 1 is that share of a positive and the rest of a negative.
    fitted = linear_model.LogisticRegression(C=1e6).fit(
        np.concatenate([logits, logits])[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
