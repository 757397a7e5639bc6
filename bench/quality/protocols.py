"""How systems are evaluated: on whole unseen sources, or on a table of its own.

A table to evaluate on has, beside `labels` and `known`, the columns `fold` (-1: only trained on)
and `source`, or `group` where several sources belong together. What a system predicts is kept in
results/predictions/NAME; what is kept is not measured again. No text goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.harness.machine import measured_now
from bench.harness.store import (
    POINTS,
    PREDICTIONS,
    RAW,
    Predictions,
    Truth,
    load_arrays,
    predictions_file,
    save_raw,
)
from bench.quality.systems import HELD_OUT, Bundle, System, sources
from bench.tables import write
from studytag.dataset import LabelledTable, concatenate, load_evaluable, load_table, read_label_set
from studytag.errors import InputError
from studytag.evaluation.thresholds import cross_fitted_thresholds
from studytag.labels import LabelSet

PROTOCOLS = "protocols of trials and reviews"
"""Those with a true `protocol` among the articles that people labelled; none is a trial to them."""

Systems = Mapping[tuple[str, int], tuple[System, str]]
"""Name and seed to a system, and its recipe in words."""


def load_folds(path: Path) -> tuple[LabelSet, LabelledTable, NDArray[np.intp]]:
    """Read a table to evaluate on, with the fold of each article.

    Raises:
        InputError: as `load_evaluable`; or there is no fold, or a source lies in two of them.
    """
    labels = read_label_set(path)
    table = load_evaluable(path, labels)
    if any(row.get("fold") is None for row in table.rows):
        raise InputError(f"{path}: column 'fold' is missing; give each article its fold, or -1")
    folds = np.array([row["fold"] for row in table.rows], dtype=np.intp)
    pairs = np.unique(np.stack([sources(table), folds])[:, folds >= 0], axis=1)
    if len(np.unique(pairs[0])) < pairs.shape[1]:
        raise InputError(f"{path}: a source lies in two folds; give each source one fold")
    return labels, table, folds


def truth_of(labels: LabelSet, table: LabelledTable, folds: NDArray[np.intp]) -> Truth:
    """What is kept of articles; their sources are numbered by first occurrence."""
    _, first, numbers = np.unique(sources(table), return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first)).astype(np.int16)
    years = table.years().astype(np.int16)
    return Truth(labels, table.truth, table.known, years, rank[numbers], folds.astype(np.int8))


def grouped(
    path: Path, name: str, systems: Systems, reference: str | None, once: bool = False
) -> str:
    """Predict each fold's articles by systems that saw none of its sources; the table's text.

    Thresholds are cross-fitted: those of a fold are tuned on the predictions for the other folds.
    With `once`, systems train once, on all folds but 0 and 1, and predict these two.
    """
    labels, table, folds = load_folds(path)
    origin = sources(table)
    evaluated = np.flatnonzero((folds == 0) | (folds == 1) if once else folds >= 0)
    truth = truth_of(labels, table.select(evaluated), folds[evaluated])
    parts = [evaluated] if once else [np.flatnonzero(folds == f) for f in range(folds.max() + 1)]

    def out_of_fold(predict: System) -> NDArray[np.floating]:
        probabilities = np.zeros(table.truth.shape, dtype=np.float32)
        for rows in parts:
            train = table.select(np.flatnonzero(~np.isin(origin, origin[rows])))
            probabilities[rows] = predict(labels, train, table.select(rows).rows)
        return probabilities[evaluated]

    _keep(name, truth, systems, out_of_fold)
    return describe(name, reference=reference)


def test(
    path: Path,
    train: Path,
    validation: Path | None,
    name: str,
    systems: Systems,
    bundles: Mapping[tuple[str, int], Bundle],
) -> str:
    """Score systems on a test table, such as articles that people labelled; the table's text.

    Nothing is tuned on it: thresholds come from the validation table, or without one from articles
    held out of the training table; those of a bundle are its own. A label that nothing there has is
    unknown.
    """
    labels = read_label_set(train)
    learned, tested = load_evaluable(train, labels), load_table(path, labels)
    tested.known[:] &= tested.truth.any(axis=0)
    for row in tested.rows:
        row["source"] = PROTOCOLS if row.get("protocol") else "reports"
    if validation is None:
        order = np.random.default_rng(0).permutation(len(learned))
        cut = round(HELD_OUT * len(learned))
        held = learned.select(np.sort(order[:cut]))
        learned = learned.select(np.sort(order[cut:]))
    else:
        held = load_evaluable(validation, labels)
    others = concatenate([held, tested])
    truth = truth_of(labels, others, np.repeat([-1, 0], [len(held), len(tested)]))
    _keep(name, truth, systems, lambda predict: predict(labels, learned, others.rows))
    for (system, seed), bundle in bundles.items():
        probabilities = np.zeros(others.truth.shape, dtype=np.float32)  # held: none
        with bundle.open() as predictor:
            probabilities[len(held) :] = predictor.predict_proba(tested.rows)
            manifest, variant = predictor.manifest, predictor.variant
        if manifest.labels.names != labels.names:
            raise InputError(f"{bundle.folder}: its labels are not those of {train}")
        thresholds = {point: np.array([manifest.thresholds(variant, point)]) for point in POINTS}
        facts = (measured_now(), seed, bundle.recipe)
        Predictions(system, probabilities, thresholds, *facts).save(PREDICTIONS / name)
    marked = np.array([row["source"] == PROTOCOLS for row in others.rows])
    apart = {"but": PROTOCOLS, "source": int(truth.source[marked][0])} if marked.any() else None
    return describe(name, unit="articles", part=None, precision_recall=True, apart=apart)


def add(name: str, path: Path, system: str, seed: int, recipe: str) -> str:
    """Keep probabilities that were made elsewhere, in the order of the kept truth; the table."""
    truth = Truth.load(PREDICTIONS / name)
    probabilities = load_arrays(path)["probabilities"]
    if probabilities.shape != truth.truth.shape:
        raise InputError(f"{path}: shape {probabilities.shape}, expected {truth.truth.shape}")
    systems: Systems = {(system, seed): (lambda *_: probabilities, recipe)}
    _keep(name, truth, systems, lambda _: probabilities)
    return write(name) if (RAW / f"{name}.json").exists() else describe(name)


def describe(
    name: str,
    unit: str = "sources",
    part: str | None = "fold",
    reference: str | None = None,
    **options: Any,
) -> str:
    """Describe a table of kept predictions, and write it; its text. See bench/quality/tables.py."""
    truth = Truth.load(PREDICTIONS / name)
    scored = truth.fold >= 0
    groups = f", {len(set(truth.source[scored]))} sources" if unit == "sources" else ""
    caption = (
        f"{scored.sum()} articles with a known label{groups}; no system was trained on any of "
        f"{'their sources' if groups else 'them'}, and thresholds are tuned on others. 95 % "
        f"intervals by bootstrap over {unit}, of the mean over seeds; ± is the standard deviation "
        f"over seeds."
    )
    section: dict[str, Any] = {"predictions": name, "unit": unit, "side_by_side": True}
    section |= {option: value for option, value in options.items() if value}
    section |= {"part": part} if part else {}
    section |= {"gains": {"over": reference}} if reference else {}
    save_raw(name, {"kind": "quality", "caption": caption, "sections": [section]})
    return write(name)


def _keep(name: str, truth: Truth, systems: Systems, predict: Callable[[System], Any]) -> None:
    """Measure what is not kept yet.

    Raises:
        InputError: what is kept of a system came about in another way.
    """
    folder = PREDICTIONS / name
    truth.save(folder)
    for (system, seed), (run, recipe) in systems.items():
        if (file := predictions_file(folder, system, seed)).exists():
            if (before := Predictions.load(file).recipe) != recipe:
                raise InputError(
                    f"{file}: is of the recipe {before!r}, not of {recipe!r}; remove it to measure "
                    "again, or give the system another name"
                )
            continue
        # Not float16: its ties near 1 cost 0.02 of an average precision.
        probabilities = predict(run).astype(np.float32)
        cells = (truth.truth, truth.known, probabilities, truth.fold)
        thresholds = cross_fitted_thresholds(*cells, POINTS)
        kept = Predictions(system, probabilities, thresholds, measured_now(), seed, recipe)
        kept.save(folder)
