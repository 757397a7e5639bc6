"""The pictures of a report, each a matplotlib figure. Colours can be told apart by everyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from studytag.evaluation.bootstrap import wilson_interval
from studytag.evaluation.evaluate import Evaluation
from studytag.evaluation.metrics import calibration_bins, fully_assessed
from studytag.evaluation.tables import number

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
"""Of the palette of Okabe and Ito (2008)."""

MIN_BIN = 20
"""Least articles in a bin of a reliability diagram; a frequency among fewer says nothing."""

_COLUMNS = 5


class Epoch(Protocol):
    """What training curves need of an epoch."""

    @property
    def epoch(self) -> int:
        """Counted from 1."""

    @property
    def train_loss(self) -> float:
        """Mean over the epoch's batches."""

    @property
    def validation_loss(self) -> float:
        """On the validation table."""

    @property
    def micro_f1(self) -> float:
        """At tuned thresholds."""

    @property
    def macro_f1(self) -> float:
        """At tuned thresholds."""

    @property
    def best(self) -> bool:
        """Whether it was the best so far."""


def training_curves(epochs: Sequence[Epoch]) -> Figure:
    """Loss and F1 of every epoch; the one that was kept is marked."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    numbers = [epoch.epoch for epoch in epochs]
    kept = max(epoch.epoch for epoch in epochs if epoch.best)
    lines = (
        (losses, [epoch.train_loss for epoch in epochs], "training", BLUE, "o"),
        (losses, [epoch.validation_loss for epoch in epochs], "validation", ORANGE, "s"),
        (scores, [epoch.micro_f1 for epoch in epochs], "micro-F1", BLUE, "o"),
        (scores, [epoch.macro_f1 for epoch in epochs], "macro-F1", ORANGE, "s"),
    )
    for axes, values, label, colour, marker in lines:
        axes.plot(numbers, values, marker, ls="-", c=colour, label=label)
    for axes, title in ((losses, "Loss"), (scores, "F1 on the validation table")):
        axes.axvline(kept, color=GREY, ls=":", label=f"kept: epoch {kept}")
        axes.set(title=title, xlabel="epoch", xticks=numbers)
        axes.legend()
        axes.grid(alpha=0.3)
    return figure


def precision_recall(evaluation: Evaluation) -> Figure:
    """Each label's curve, with the decisions by its threshold and by 0.5."""
    figure = _grid(len(evaluation.labels), "recall", "precision")
    for axes, index, name, truth, probabilities in _panels(figure, evaluation):
        precision, recall, _ = precision_recall_curve(truth, probabilities)
        axes.plot(recall, precision, c=BLUE, lw=1.5)
        tuned, fixed = evaluation.scores.labels[name], evaluation.fixed.labels[name]
        for point, marker, colour in ((tuned, "o", ORANGE), (fixed, "x", "black")):
            axes.plot(point.recall, point.precision, marker, c=colour, ls="", ms=7)
        axes.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.03))
        axes.set_title(f"{name}, AP {number(tuned.average_precision)}", fontsize=10)
        if index == 0:
            axes.plot([], [], "o", c=ORANGE, label="tuned threshold")
            axes.plot([], [], "x", c="black", label="0.5")
            axes.legend(fontsize=8, loc="lower left")
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """Each label's predicted probability against its frequency, with 95 % intervals."""
    figure = _grid(len(evaluation.labels), "predicted probability", "observed frequency")
    assessed = fully_assessed(evaluation.truth, evaluation.known)
    for axes, _, name, truth, probabilities in _panels(figure, evaluation, assessed):
        axes.plot([0, 1], [0, 1], c=GREY, ls="--", lw=1)
        count, predicted, positives = merged_bins(calibration_bins(truth, probabilities))
        observed = positives / count
        low, high = np.array(
            [wilson_interval(*cell) for cell in zip(positives, count, strict=True)]
        ).T
        axes.errorbar(
            predicted / count,
            observed,
            yerr=[np.maximum(observed - low, 0), np.maximum(high - observed, 0)],
            fmt="o",
            ms=4,
            c=BLUE,
            lw=1,
        )
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        error = evaluation.scores.labels[name].calibration_error
        axes.set_title(f"{name}, ECE {number(error)}", fontsize=10)
    return figure


def merged_bins(bins: NDArray[np.float64], minimum: int = MIN_BIN) -> NDArray[np.float64]:
    """Bins of shape (3, m) joined with their neighbours until each holds `minimum` articles.

    What is left over at the upper end joins the last full bin; fewer articles than `minimum` in all
    give a single bin.

    Args:
        bins: As `calibration_bins` gives them: articles, sum of probabilities, positives.
        minimum: Least articles in a bin.
    """
    merged = [np.zeros(3)]
    for column in bins.T:
        if merged[-1][0] >= minimum:
            merged.append(np.zeros(3))
        merged[-1] = merged[-1] + column
    if len(merged) > 1 and merged[-1][0] < minimum:
        leftover = merged.pop()
        merged[-1] = merged[-1] + leftover
    joined: NDArray[np.float64] = np.array(merged).T
    return joined


def f1_by_threshold(evaluation: Evaluation) -> Figure:
    """Each label's F1 at every threshold, and where its own lies."""
    figure = _grid(len(evaluation.labels), "threshold", "F1")
    for axes, index, name, truth, probabilities in _panels(figure, evaluation):
        precision, recall, thresholds = precision_recall_curve(truth, probabilities)
        both = np.maximum(precision + recall, 1e-9)
        scores = (2 * precision * recall / both)[:-1]
        axes.plot(thresholds, scores, c=BLUE, lw=1.5, drawstyle="steps-pre")
        threshold = evaluation.thresholds[index]
        axes.axvline(threshold, c=ORANGE, label="tuned threshold")
        axes.axvline(0.5, c="black", ls=":", label="0.5")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_title(f"{name}, {threshold:.3f}", fontsize=10)
        if index == 0:
            axes.legend(fontsize=8, loc="lower left")
    return figure


def co_occurrence(evaluation: Evaluation) -> Figure:
    """Of the articles with the row's label, how many have the column's: in truth and as tagged."""
    tagged = evaluation.labels.decide(evaluation.probabilities, evaluation.thresholds)
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    names = list(evaluation.labels)
    for axes, title, cells in zip(
        figure.subplots(1, 2), ("true labels", "tags"), (evaluation.truth, tagged), strict=True
    ):
        share = _shares(cells, evaluation.known)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_title(title)
        for (row, column), value in np.ndenumerate(share):
            if not np.isnan(value):
                colour = "white" if value > 0.6 else "black"
                axes.text(
                    column, row, f"{value:.0%}", ha="center", va="center", fontsize=7, c=colour
                )
    return figure


def years(evaluation: Evaluation) -> Figure:
    """F1 of each year's articles, whose number stands below."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    by_year = evaluation.years
    places = range(len(by_year))
    for values, label, colour, marker in (
        ([scores.micro_f1 for scores in by_year.values()], "micro-F1", BLUE, "o"),
        ([scores.macro_f1 for scores in by_year.values()], "macro-F1", ORANGE, "s"),
    ):
        axes.plot(places, values, marker, ls="-", c=colour, label=label)
    axes.set_xticks(places, [f"{year}\n{scores.articles}" for year, scores in by_year.items()])
    axes.set(title="F1 by year (articles below)", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    return figure


def _grid(count: int, xlabel: str, ylabel: str) -> Figure:
    rows = -(-count // _COLUMNS)
    figure = Figure(figsize=(2.9 * _COLUMNS, 2.7 * rows + 0.3), layout="constrained")
    figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in figure.axes[count:]:
        axes.set_visible(False)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return figure


def _panels(
    figure: Figure, evaluation: Evaluation, counted: NDArray[np.bool_] | None = None
) -> Iterator[tuple[Axes, int, str, NDArray[np.bool_], NDArray[np.float32]]]:
    """Each label's axes, number, name, and the truth and probabilities of its counted articles.

    Labels whose known articles are all positive or all negative have nothing to draw.

    Args:
        figure: With at least as many axes as there are labels.
        evaluation: What is drawn.
        counted: Shape (n, labels), the cells to draw; by default all that are known.
    """
    counted = evaluation.known if counted is None else counted
    for index, (axes, name) in enumerate(zip(figure.axes, evaluation.labels, strict=False)):
        mask = counted[:, index]
        truth = evaluation.truth[mask, index]
        if truth.any() and not truth.all():
            yield axes, index, name, truth, evaluation.probabilities[mask, index]
        else:
            axes.set_title(name, fontsize=10)
            text = "all known articles are\npositive, or all negative"
            axes.text(0.5, 0.5, text, ha="center", va="center")


def _shares(cells: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Shape (labels, labels): over the articles of which both labels are known; NaN for none."""
    present = (cells & known).astype(np.float64)
    together = present.T @ present
    base = present.T @ known.astype(np.float64)
    shares: NDArray[np.float64] = np.full_like(base, np.nan)
    np.divide(together, base, out=shares, where=base > 0)
    return shares
