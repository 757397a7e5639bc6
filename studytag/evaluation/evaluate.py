"""Scores of a predictor on a labelled table: all of it, with intervals, and year by year."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studytag.evaluation.metrics import bootstrap_intervals, resampled_f1, score, score_points
from studytag.evaluation.split import Split, load_judged
from studytag.labels import LabelSet
from studytag.records import Row

if TYPE_CHECKING:
    from studytag.inference.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """What a predictor says of a labelled table, and how right it is.

    Attributes:
        labels: The columns.
        articles: Those of which a label is known, n of them.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        thresholds: Those that decide, one per label.
        summary: `table`, `variant`, `operating_point`, `articles`; `tuned` and `fixed` (at 0.5), as
            `score` gives them; `intervals` (95 %, bootstrap over articles) of the tuned F1;
            `years`, year to micro-F1, macro-F1 and articles.
    """

    labels: LabelSet
    articles: list[Row]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    thresholds: list[float]
    summary: dict[str, Any]


def evaluate(predictor: Predictor, table: Path) -> Evaluation:
    """Score `predictor` on every article of `table` of which a label is known.

    Raises:
        InputError: the table cannot be read, is empty, unlabelled or has unknown labels.
    """
    labels = LabelSet(tuple(predictor.labels))
    split = load_judged(table, labels)
    thresholds = [float(value) for value in predictor.thresholds]
    origin = {
        "table": str(table),
        "variant": predictor.variant,
        "operating_point": predictor.operating_point,
    }
    return assess(labels, split, predictor.predict_proba(split.rows), thresholds, origin)


def assess(
    labels: LabelSet,
    split: Split,
    probabilities: NDArray[np.float32],
    thresholds: list[float],
    origin: dict[str, str],
) -> Evaluation:
    """Score probabilities that are there already.

    Args:
        labels: The columns.
        split: n articles, each with a known label.
        probabilities: Shape (n, labels).
        thresholds: One per label.
        origin: `table`, `variant` and `operating_point`, for the summary.
    """
    truth, known = split.truth, split.known
    years: dict[str, dict[str, Any]] = {}
    for year in sorted({int(article["year"]) for article in split.rows if article.get("year")}):
        of_year = np.array([article.get("year") == year for article in split.rows])
        scores = score(labels, truth[of_year], known[of_year], probabilities[of_year], thresholds)
        years[str(year)] = {
            "articles": int(of_year.sum()),
            "micro_f1": scores["micro"]["f1"],
            "macro_f1": scores["macro"]["f1"],
        }
    resamples = resampled_f1(truth, known, probabilities, thresholds)
    points = {"tuned": thresholds, "fixed": [0.5] * len(labels)}
    summary = origin | {
        "articles": len(split.rows),
        **score_points(labels, truth, known, probabilities, points),
        "intervals": bootstrap_intervals(labels, resamples),
        "years": years,
    }
    return Evaluation(labels, split.rows, truth, known, probabilities, thresholds, summary)


def report(result: dict[str, Any]) -> str:
    """The result as a Markdown table to read, and the years below it."""
    tuned, fixed, intervals = result["tuned"], result["fixed"], result["intervals"]
    lines = [
        f"{result['articles']} articles of {result['table']}, variant {result['variant']}, "
        f"operating point {result['operating_point']}",
        "",
        "| Label | Support | Precision | Recall | F1 | 95 % interval | F1 at 0.5 | AP | ECE |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in tuned["labels"].items():
        lines.append(
            _line(
                name,
                entry["support"],
                entry,
                intervals["labels"][name],
                fixed["labels"][name]["f1"],
            )
        )
    for name in ("micro", "macro"):
        lines.append(_line(f"**{name}**", "", tuned[name], intervals[name], fixed[name]["f1"]))
    if result["years"]:
        lines += ["", "| Year | Articles | micro-F1 | macro-F1 |", "|---|---:|---:|---:|"]
        lines += [
            f"| {year} | {entry['articles']} | {entry['micro_f1']:.3f} | {entry['macro_f1']:.3f} |"
            for year, entry in result["years"].items()
        ]
    return "\n".join(lines) + "\n"


def _line(
    name: str,
    support: object,
    entry: dict[str, float | None],
    interval: list[float],
    fixed: float,
) -> str:
    cells = [f"{entry[key]:.3f}" for key in ("precision", "recall", "f1")]
    cells += [f"{interval[0]:.3f}–{interval[1]:.3f}", f"{fixed:.3f}"]
    rest = (entry.get(key) for key in ("average_precision", "calibration_error"))
    cells += ["" if value is None else f"{value:.3f}" for value in rest]
    return f"| {name} | {support} | {' | '.join(cells)} |"
