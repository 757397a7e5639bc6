"""How bench/quality.py scores a system: on the test split, by thresholds tuned on validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.metrics import (
    Resamples,
    bootstrap_intervals,
    expected_calibration_error,
    resampled_f1,
    score,
    score_points,
)
from studytag.evaluation.split import Split
from studytag.evaluation.thresholds import tune_thresholds
from studytag.labels import LabelSet

POINTS = (DEFAULT_OPERATING_POINT, "label_f1", "sensitive", "fixed")
EVERYTHING = "strict"
"""The rule set whose scores are shown label by label."""

HEADLINE, REFERENCE = "studytag", "reference recipe"
"""Runs: the one that is exported and shown label by label, and what it is compared with."""


def score_system(
    labels: LabelSet, val: Split, test: Split, seeds: list[list[np.ndarray]], decides: str
) -> dict[str, Any]:
    """Scores on the test split by operating point for each seed, intervals of their mean.

    The scores by year are those of the first seed.
    """
    tuned = [tune_thresholds(val.truth, val.known, on_val) for on_val, _ in seeds]
    scores = [
        score_points(labels, test.truth, test.known, on_test, {p: points[p] for p in POINTS})
        for points, (_, on_test) in zip(tuned, seeds, strict=True)
    ]
    on_test, thresholds = seeds[0][1], tuned[0][decides]
    years = {}
    numbers = np.array([row.get("year") or 0 for row in test.rows])
    for year in sorted(set(numbers)):
        of_year = numbers == year
        cells = test.truth[of_year], test.known[of_year], on_test[of_year]
        found = score(labels, *cells, thresholds)
        years[str(year)] = {
            "articles": int(of_year.sum()),
            "micro": found["micro"]["f1"],
            "macro": found["macro"]["f1"],
            "calibration_error": found["macro"]["calibration_error"],
        }
    resamples = [
        resampled_f1(test.truth, test.known, on_test, points[decides])
        for points, (_, on_test) in zip(tuned, seeds, strict=True)
    ]
    # Every seed's resamples are of the same articles: draw by draw the mean of the seeds.
    draws = Resamples(*(np.mean(each, axis=0) for each in zip(*resamples, strict=True)))
    return {
        "decides": decides,
        "seeds": scores,
        "intervals": bootstrap_intervals(labels, draws),
        "calibration_error_of_all_known": [error_of_all_known(test, p) for _, p in seeds],
        "years": years,
        "draws": draws._asdict(),
    }


def error_of_all_known(test: Split, probabilities: np.ndarray) -> float:
    """The calibration error, mean over labels, with the articles that are not `examined`."""
    errors = [
        expected_calibration_error(test.truth[mask, index], probabilities[mask, index])
        for index, mask in enumerate(test.known.T)
    ]
    return float(np.mean([error for error in errors if error is not None]))


def gain(better: dict[str, Any], worse: dict[str, Any]) -> dict[str, list[float]]:
    """How much higher a system's F1 is, mean over seeds, and its 95 % interval over articles.

    Paired, draw by draw, where both were scored just now; else from the two intervals' outer ends,
    which is wider.
    """
    found = {}
    for average in ("micro", "macro"):
        own, other = (
            np.mean([seed[each["decides"]][average]["f1"] for seed in each["seeds"]])
            for each in (better, worse)
        )
        if "draws" in better and "draws" in worse:
            difference = better["draws"][average] - worse["draws"][average]
            low, high = np.percentile(difference, [2.5, 97.5])
        else:
            (low, high), (other_low, other_high) = (
                each["intervals"][average] for each in (better, worse)
            )
            low, high = low - other_high, high - other_low
        found[average] = [float(own - other), float(low), float(high)]
    return found


def gains(scored: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """What each of our models gains over the reference recipe, where both were scored."""
    if REFERENCE not in scored:
        return {}
    return {
        system: gain(entry, scored[REFERENCE])
        for system, entry in scored.items()
        if system.startswith(HEADLINE)
    }
