"""Where results are kept: predictions and truth as npz, measurements as JSON, tables beside them.

results/NAME.md                       a table; bench/tables.py renders it from
results/raw/NAME.json                 what was measured; `kind` names its renderer
results/predictions/NAME/truth.npz    the truth of evaluated articles, without text or pmid
results/predictions/NAME/*.npz        the probabilities of one system and seed for them
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.evaluation.thresholds import tune_thresholds
from studytag.files import atomic_path, write_json_atomically
from studytag.labels import LabelSet

RESULTS = Path(__file__).parents[1] / "results"
RAW = RESULTS / "raw"
PREDICTIONS = RESULTS / "predictions"
TRUTH = "truth.npz"

POINTS = ("f1", "sensitive")
"""Operating points whose thresholds are kept; `fixed` is 0.5 everywhere."""


@dataclass(frozen=True)
class Truth:
    """What is known of the evaluated articles, n of them.

    Attributes:
        labels: The columns.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        year: Shape (n,); 0 where it is missing.
        source: Shape (n,), the number from 0 of the repository that an article came from.
        fold: Shape (n,). A system predicts a fold's articles without having seen that fold;
            articles of fold -1 serve to tune thresholds and are never scored.
    """

    labels: LabelSet
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    year: NDArray[np.int16]
    source: NDArray[np.int16]
    fold: NDArray[np.int8]

    @property
    def folds(self) -> int:
        """How many folds are scored."""
        return int(self.fold.max()) + 1

    def select(self, rows: NDArray[np.bool_]) -> Truth:
        """The articles where `rows`, shape (n,), is True."""
        cells = (self.truth, self.known, self.year, self.source, self.fold)
        return Truth(self.labels, *(values[rows] for values in cells))

    def save(self, folder: Path) -> None:
        """Write `truth.npz` into a folder of predictions."""
        pairs = [(name, to) for name, implied in self.labels.implications.items() for to in implied]
        _save(
            folder / TRUTH,
            labels=np.array(self.labels.names),
            implications=np.array(pairs, dtype=np.str_).reshape(-1, 2),
            truth=self.truth,
            known=self.known,
            year=self.year,
            source=self.source,
            fold=self.fold,
        )

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read the `truth.npz` of a folder of predictions.

        Raises:
            InputError: there is none.
        """
        if not (folder / TRUTH).is_file():
            raise InputError(f"{folder}: no {TRUTH}; make it with: python -m bench.quality grouped")
        with np.load(folder / TRUTH) as stored:
            implications: dict[str, tuple[str, ...]] = {}
            for name, implied in stored["implications"].tolist():
                implications[name] = (*implications.get(name, ()), implied)
            labels = LabelSet(tuple(stored["labels"].tolist()), implications)
            names = ("truth", "known", "year", "source", "fold")
            return cls(labels, *(stored[name] for name in names))


@dataclass(frozen=True)
class Predictions:
    """The probabilities of one system, trained with one seed, for every article of a `Truth`.

    Attributes:
        system: Its name in tables.
        probabilities: Shape (n, labels).
        thresholds: For each of `POINTS`, shape (folds, labels).
        measured: Date and machine.
        seed: Of its training; 0 for a system without one.
        recipe: The configuration it was trained by, or how else it came about.
    """

    system: str
    probabilities: NDArray[np.floating]
    thresholds: dict[str, NDArray[np.float64]]
    measured: str
    seed: int = 0
    recipe: str = ""

    def decide(self, truth: Truth, point: str) -> NDArray[np.bool_]:
        """Decisions of shape (n, labels), by the thresholds of each article's own fold."""
        if point == "fixed":
            return truth.labels.decide(self.probabilities, [0.5] * len(truth.labels))
        return truth.labels.decide(self.probabilities, self.thresholds[point][truth.fold])

    def select(self, rows: NDArray[np.bool_]) -> Predictions:
        """For the articles where `rows`, shape (n,), is True."""
        probabilities = self.probabilities[rows]
        return Predictions(
            self.system, probabilities, self.thresholds, self.measured, self.seed, self.recipe
        )

    def save(self, folder: Path) -> None:
        """Write `SYSTEM-SEED.npz`."""
        _save(
            folder / f"{slug(self.system)}-{self.seed}.npz",
            system=np.array(self.system),
            seed=np.array(self.seed),
            recipe=np.array(self.recipe),
            measured=np.array(self.measured),
            probabilities=self.probabilities.astype(np.float32),
            **{f"thresholds_{point}": values for point, values in self.thresholds.items()},
        )

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read one file."""
        with np.load(path) as stored:
            return cls(
                system=str(stored["system"]),
                probabilities=stored["probabilities"],
                thresholds={point: stored[f"thresholds_{point}"] for point in POINTS},
                measured=str(stored["measured"]),
                seed=int(stored["seed"]),
                recipe=str(stored["recipe"]),
            )


def load_predictions(folder: Path) -> dict[str, list[Predictions]]:
    """Every system of a folder by name, its seeds in ascending order."""
    systems: dict[str, list[Predictions]] = {}
    for path in sorted(folder.glob("*.npz")):
        if path.name != TRUTH:
            predictions = Predictions.load(path)
            systems.setdefault(predictions.system, []).append(predictions)
    return {
        name: sorted(seeds, key=lambda predictions: predictions.seed)
        for name, seeds in systems.items()
    }


def cross_fitted_thresholds(
    truth: Truth, probabilities: NDArray[np.floating]
) -> dict[str, NDArray[np.float64]]:
    """For each of `POINTS`, thresholds of shape (folds, labels), tuned on all other folds."""
    tuned = []
    for fold in range(truth.folds):
        rows = truth.fold != fold
        tuned.append(tune_thresholds(truth.truth[rows], truth.known[rows], probabilities[rows]))
    return {point: np.array([of_fold[point] for of_fold in tuned]) for point in POINTS}


@dataclass(frozen=True)
class Raw:
    """A measurement as it is kept.

    Attributes:
        name: Of its table.
        content: What was measured; `kind` names the renderer.
    """

    name: str
    content: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        """Write the JSON file."""
        write_json_atomically(RAW / f"{self.name}.json", self.content)

    @classmethod
    def load(cls, name: str) -> Raw:
        """Read the JSON file.

        Raises:
            InputError: there is none.
        """
        return cls(name, read_json(RAW / f"{name}.json", "measure again"))


def slug(name: str) -> str:
    """`name` as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
