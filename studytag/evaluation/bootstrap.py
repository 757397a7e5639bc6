"""Intervals: of F1 by bootstrap over articles or their sources, of shares by Wilson's formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from studytag.evaluation.metrics import precision_recall_f1
from studytag.evaluation.scores import LabelScores
from studytag.labels import LabelSet

Interval = tuple[float, float]
"""Lower and upper bound."""

_BLOCK = 20
"""Resamples drawn at a time; each takes 16 bytes an article."""


class Resamples(NamedTuple):
    """F1 on resamples of the articles."""

    micro: NDArray[np.float64]
    """Shape (resamples,)."""

    macro: NDArray[np.float64]
    """Shape (resamples,)."""

    labels: NDArray[np.float64]
    """Shape (resamples, labels)."""


@dataclass(frozen=True, slots=True)
class F1Intervals:
    """95 % percentile intervals of F1."""

    micro: Interval
    macro: Interval
    labels: dict[str, Interval]


def resampled_f1(
    labels: LabelSet,
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
        labels: The columns; their implications apply to the decisions.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        thresholds: One per label.
        resamples: How many.
        seed: Of the draws.
        groups: Shape (n,), numbers from 0; where given, whole groups are drawn instead of single
            articles (the cluster bootstrap), for articles that resemble those of their group.
    """
    decided = labels.decide(probabilities, thresholds) & known
    positive = truth & known
    cells = np.hstack([decided & positive, decided, positive]).astype(np.float64)
    if groups is not None:
        members = cells
        cells = np.zeros((groups.max() + 1, members.shape[1]))
        np.add.at(cells, groups, members)
    rng = np.random.default_rng(seed)
    uniform = np.full(len(cells), 1 / len(cells))
    blocks = [min(_BLOCK, resamples - begin) for begin in range(0, resamples, _BLOCK)]
    totals = [rng.multinomial(len(cells), uniform, size=block) @ cells for block in blocks]
    true, predicted, support = np.split(np.concatenate(totals), 3, axis=1)
    micro = precision_recall_f1(true.sum(1), predicted.sum(1), support.sum(1))[2]
    per_label = precision_recall_f1(true, predicted, support)[2]
    supported = positive.any(axis=0)
    macro = per_label[:, supported].mean(axis=1) if supported.any() else np.zeros(resamples)
    return Resamples(micro, macro, per_label)


def f1_intervals(labels: LabelSet, resamples: Resamples) -> F1Intervals:
    """95 % percentile intervals of resampled F1."""
    return F1Intervals(
        percentile_interval(resamples.micro),
        percentile_interval(resamples.macro),
        {name: percentile_interval(resamples.labels[:, i]) for i, name in enumerate(labels)},
    )


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """The middle 95 % of the values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def recall_interval(scores: LabelScores) -> Interval | None:
    """95 % interval of a label's recall; None where no article has the label."""
    support = scores.support
    return wilson_interval(scores.recall * support, support) if support else None


def wilson_interval(successes: float, trials: float) -> Interval:
    """95 % interval of a proportion (Wilson 1927); from 0 to 1 without trials."""
    if not trials:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = z2**0.5 / (1 + z2 / trials)
    spread *= (share * (1 - share) / trials + z2 / (4 * trials**2)) ** 0.5
    return max(centre - spread, 0.0), min(centre + spread, 1.0)
