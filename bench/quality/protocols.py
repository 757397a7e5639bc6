"""How systems are evaluated: on whole unseen sources, or on people's labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.harness.machine import measured_now, on_own_cores
from bench.harness.store import (
    PREDICTIONS,
    TRUTH,
    Predictions,
    Raw,
    Truth,
    cross_fitted_thresholds,
    slug,
)
from bench.quality.articles import Articles, hold_out
from bench.quality.systems import BASELINES, System
from bench.tables import write
from studytag.dataset import LabelledTable, load_evaluable, load_table, read_label_set
from studytag.errors import InputError
from studytag.evaluation.thresholds import tune_thresholds
from studytag.inference.predictor import Predictor
from studytag.labels import LabelSet

Seeds = Mapping[int, tuple[System, str]]
"""Seed to a system trained with it, and its recipe in words."""


def keep_truth(name: str, truth: Truth) -> Path:
    """Write the truth of a table's predictions, or make sure that it is the one that is kept.

    Returns:
        The folder of predictions.

    Raises:
        InputError: the folder holds the truth of other articles.
    """
    folder = PREDICTIONS / name
    if (folder / TRUTH).is_file():
        kept = Truth.load(folder)
        for part in ("truth", "known", "year", "source", "fold"):
            if not np.array_equal(getattr(kept, part), getattr(truth, part)):
                raise InputError(f"{folder}: holds other articles; give another --name")
    else:
        truth.save(folder)
    return folder


def grouped(
    name: str, articles: Articles, folds: NDArray[np.intp], systems: Mapping[str, Seeds], jobs: int
) -> None:
    """Predict every fold's articles by systems that saw none of its sources; keep what they say.

    Thresholds are cross-fitted: those of a fold are tuned on the predictions for the other folds.

    Args:
        name: Of the table.
        articles: Those to train on and to evaluate.
        folds: Shape (n,); articles of fold -1 are only trained on.
        systems: By name.
        jobs: Trainings at a time, each on its own cores.
    """
    truth = articles.truth(folds)
    folder = keep_truth(name, truth)
    for system, seeds in systems.items():
        for seed, (predict, recipe) in seeds.items():
            if (folder / f"{slug(system)}-{seed}.npz").exists():
                continue
            probabilities = out_of_fold(articles, folds, predict, jobs)
            thresholds = cross_fitted_thresholds(truth, probabilities)
            kept = Predictions(system, probabilities, thresholds, measured_now(), seed, recipe)
            kept.save(folder)


def out_of_fold(
    articles: Articles, folds: NDArray[np.intp], predict: System, jobs: int
) -> NDArray[np.float32]:
    """Probabilities of the evaluated articles, each by a system that saw nothing of its fold."""
    probabilities = np.zeros(articles.table.truth.shape, dtype=np.float32)

    def of_fold(fold: int) -> None:
        rows = np.flatnonzero((folds == fold) & articles.evaluated)
        train = articles.table.select(np.flatnonzero(folds != fold))
        others = [articles.table.rows[row] for row in rows]
        probabilities[rows] = predict(articles.labels, train, others)

    on_own_cores([partial(of_fold, fold) for fold in range(int(folds.max()) + 1)], jobs)
    return probabilities[articles.evaluated]


def describe_grouped(name: str, reference: str | None = None) -> str:
    """Write the description of a grouped table and the table; its text.

    Args:
        name: Of the table.
        reference: The system over which gains are shown.
    """
    truth = Truth.load(PREDICTIONS / name)
    scored = truth.fold >= 0
    sources = len(np.unique(truth.source[scored]))
    caption = (
        f"{scored.sum()} articles with a known label, {sources} sources in {truth.folds} fold(s); "
        f"each article is predicted by systems that saw nothing of its source. Thresholds are "
        f"tuned on other folds. 95 % intervals by bootstrap over sources, of the mean over seeds; "
        f"± is the standard deviation over seeds."
    )
    section = {"predictions": name, "unit": "sources", "part": "fold", "side_by_side": True}
    gains = {"gains": {"over": reference}} if reference else {}
    Raw(name, {"kind": "quality", "caption": caption, "sections": [section | gains]}).save()
    return write(name)


def add_predictions(name: str, path: Path, system: str, seed: int, recipe: str) -> None:
    """Keep probabilities that were made elsewhere, in the order of the kept truth.

    Args:
        name: Of the table.
        path: An npz file with `probabilities`, shape (n, labels).
        system: Its name in tables.
        seed: Of its training.
        recipe: How it came about.

    Raises:
        InputError: the shape is not that of the truth.
    """
    truth = Truth.load(PREDICTIONS / name)
    with np.load(path) as stored:
        probabilities = stored["probabilities"].astype(np.float32)
    if probabilities.shape != truth.truth.shape:
        raise InputError(f"{path}: shape {probabilities.shape}, expected {truth.truth.shape}")
    thresholds = cross_fitted_thresholds(truth, probabilities)
    predictions = Predictions(system, probabilities, thresholds, measured_now(), seed, recipe)
    predictions.save(PREDICTIONS / name)


def human(name: str, table: Path, bundles: Mapping[str, Path], train: Path | None) -> str:
    """Score bundles and baselines on articles that people labelled; the table's text.

    Nothing is tuned on them: a bundle decides by its own thresholds, TF-IDF by those of articles
    held out of its training table, keyword rules by 0.5.

    Args:
        name: Of the table.
        table: Articles with `labels` given by people; every label that occurs is known of all.
        bundles: By the name that the table shows.
        train: Labelled table that TF-IDF learns from; None leaves it out.
    """
    first = load_table(table, read_label_set(table))
    occurring = first.truth.any(axis=0)
    labels = _subset(read_label_set(table), occurring)
    count, columns = len(first), np.flatnonzero(occurring)
    truth = Truth(
        labels,
        first.truth[:, columns],
        np.ones((count, len(labels)), dtype=np.bool_),
        first.years().astype(np.int16),
        np.arange(count, dtype=np.int16),
        np.zeros(count, dtype=np.int8),
    )
    folder = keep_truth(name, truth)

    def keep(system: str, probabilities: NDArray[np.floating], points: Points) -> None:
        thresholds = {point: np.array([points(point)]) for point in ("f1", "sensitive")}
        Predictions(system, probabilities, thresholds, measured_now()).save(folder)

    half = [0.5] * len(labels)
    keep("Keyword rules", BASELINES["Keyword rules"](labels, first, first.rows), lambda _: half)
    if train is not None:
        probabilities, tuned = _fitted_elsewhere(labels, train, first)
        keep("TF-IDF + logistic regression", probabilities, lambda point: tuned[point])
    for system, path in bundles.items():
        for variant in ("fp32", "int8"):
            with Predictor.from_pretrained(path, variant=variant) as predictor:
                places = [predictor.labels.index(label) for label in labels]
                tuned = {
                    point: np.array(predictor.manifest.thresholds(variant, point))[places].tolist()
                    for point in ("f1", "sensitive")
                }
                probabilities = predictor.predict_proba(first.rows)[:, places]
            keep(f"{system}, ONNX {variant}", probabilities, partial(dict.__getitem__, tuned))
    caption = (
        f"{count} unselected articles that people labelled, at natural prevalence; nothing is "
        f"trained or tuned on them. 95 % intervals by bootstrap over articles."
    )
    options = {"side_by_side": True, "precision_recall": True}
    section = {"predictions": name, "unit": "articles", **options}
    Raw(name, {"kind": "quality", "caption": caption, "sections": [section]}).save()
    return write(name)


Points = Callable[[str], Sequence[float]]
"""Operating point to thresholds, one per label."""


def _fitted_elsewhere(
    labels: LabelSet, train: Path, articles: LabelledTable
) -> tuple[NDArray[np.floating], dict[str, list[float]]]:
    """TF-IDF's probabilities of `articles`, and its thresholds, from another table."""
    own = read_label_set(train)
    places = [own.names.index(label) for label in labels]
    learned, held = hold_out(load_evaluable(train, own), 0)
    learned, held = (
        LabelledTable(part.rows, part.truth[:, places], part.known[:, places])
        for part in (learned, held)
    )
    predict = BASELINES["TF-IDF + logistic regression"]
    both = predict(labels, learned, [*held.rows, *articles.rows])
    tuned = tune_thresholds(held.truth, held.known, both[: len(held)])
    return both[len(held) :], tuned


def _subset(labels: LabelSet, kept: NDArray[np.bool_]) -> LabelSet:
    """The labels of some columns, with the implications among them."""
    names = tuple(labels.decode(kept))
    implications = {
        name: tuple(other for other in implied if other in names)
        for name, implied in labels.implications.items()
        if name in names
    }
    return LabelSet(names, implications)
