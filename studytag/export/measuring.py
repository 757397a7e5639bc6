"""How good each variant of a new bundle is, through the `Predictor` that will serve it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studytag.dataset import LabelledTable
from studytag.evaluation.calibration import calibrate
from studytag.evaluation.metrics import score_points
from studytag.evaluation.prevalence import logit
from studytag.evaluation.thresholds import tune_thresholds
from studytag.export.ngrams import best_factor
from studytag.export.recalibration import adjusted, adjustment_of, raw_probabilities
from studytag.inference.predictor import Predictor
from studytag.manifest import DEFAULT_OPERATING_POINT, FAST, Manifest, Thresholds, Variant
from studytag.training.model_folder import TrainedModel, torch_probabilities

logger = logging.getLogger(__name__)

PARITY_ROWS = 256
"""Validation rows on which graphs are compared with PyTorch, spread evenly."""


def measure_all(
    trained: TrainedModel,
    table: LabelledTable,
    folder: Path,
    manifest: Manifest,
    followed: Mapping[str, Variant],
) -> dict[str, Variant]:
    """Each variant with thresholds, scores and parity, of one pass over the validation rows.

    Thresholds are tuned on these, and the fast variant is calibrated on them, unless they come from
    the variants of another bundle that are `followed`.
    """
    count = min(PARITY_ROWS, len(table))
    sample = np.linspace(0, len(table) - 1, count).astype(int)
    expected = torch_probabilities(
        trained, manifest.text_recipe.compose_records(table.rows[index] for index in sample)
    )
    measured = {}
    for name, variant in manifest.variants.items():
        logger.info("%s: %d validation rows", name, len(table))
        if name == FAST and not followed:
            variant, probabilities = _calibrated(folder, manifest, table, trained.model.share)
        else:
            with Predictor(folder, variant=name) as predictor:  # type: ignore[arg-type]
                probabilities = predictor.predict_proba(table.rows)
        if name != FAST:  # which reads less, so it is not to be the same as PyTorch
            difference = np.abs(probabilities[sample] - expected)
            most, average = float(difference.max()), float(difference.mean())
            logger.info("%s: at most %.1e, on average %.1e from PyTorch", name, most, average)
            parity = {"max_abs_difference": most, "mean_abs_difference": average, "rows": count}
            variant = replace(variant, parity=parity)
        cells = (table.truth, table.known, probabilities)
        thresholds = _followed(followed, name) if followed else tune_thresholds(*cells)
        scores = score_points(manifest.labels, *cells, thresholds)
        measured[name] = replace(variant, thresholds=thresholds, scores=scores)
        learned = " on articles that it learned from" if followed else ""
        logger.info("%s: micro-F1 %.4f%s", name, micro_f1(measured[name]), learned)
    return measured


def _followed(variants: Mapping[str, Variant], name: str) -> Thresholds:
    """The thresholds of that variant, or of one that reads as it does."""
    alike = name if name in variants else next((each for each in variants if each != FAST), FAST)
    return {point: list(values) for point, values in variants[alike].thresholds.items()}


def _calibrated(
    folder: Path, manifest: Manifest, table: LabelledTable, share: float
) -> tuple[Variant, NDArray[np.float32]]:
    """The fast variant, calibrated for what it reads, and its probabilities.

    Its transformer is not as sure as the one that reads everything, so the words, which have that
    `share` of the sum, get a share of its own.
    """
    labels, fast = manifest.labels, manifest.variants[FAST]
    texts = manifest.text_recipe.compose_records(table.rows)

    def raw_logits(weight: float | None) -> NDArray[np.float64]:
        only = {FAST: replace(fast, weight=weight)}
        return logit(raw_probabilities(folder, replace(manifest, variants=only), FAST, texts))

    logits = raw_logits(None)
    if share:
        words = raw_logits(0.0)
        transformer = logits - words
        weight = best_factor(share, transformer, words, table.truth, table.known)
        fast, logits = replace(fast, weight=weight), weight * transformer + words
    line = calibrate(table.truth, table.known, logits)
    adjustment = adjustment_of(labels, line.slope, line.offset)
    variant = replace(fast, adjustment=adjustment)
    return variant, labels.raise_implied(adjusted(logits, line.slope, line.offset))


def micro_f1(variant: Variant) -> float:
    """At the default thresholds."""
    return variant.scores[DEFAULT_OPERATING_POINT].micro.f1
