"""Where results are kept: predictions and truth as npz, measurements as JSON, tables beside them.

results/NAME.md                      a table; bench/tables.py renders it from
results/raw/NAME.json                what was measured; `kind` names its renderer
results/predictions/NAME/truth.npz   the truth of evaluated articles, without text or pmid
results/predictions/NAME/*.npz       the probabilities of one system and seed for them
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.files import atomic_path, open_writer, write_json_atomically
from studytag.labels import LabelSet
from studytag.records import Row

RESULTS = Path(os.environ.get("BENCH_RESULTS", Path(__file__).parents[1] / "results"))
"""Another folder, by the environment, keeps results of other records apart."""

RAW = RESULTS / "raw"
PREDICTIONS = RESULTS / "predictions"
TRUTH = "truth.npz"

POINTS = ("f1", "sensitive")
"""Operating points whose thresholds are kept."""

Rows = NDArray[np.bool_]


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
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All but the labels, by name."""
        names = ("truth", "known", "year", "source", "fold")
        return {name: getattr(self, name) for name in names}

    def select(self, rows: Rows) -> Truth:
        """The articles where `rows`, shape (n,), is True."""
        return Truth(self.labels, *(values[rows] for values in self.arrays.values()))

    def save(self, folder: Path) -> None:
        """Write `truth.npz` unless it is there; InputError if it is that of other articles."""
        if (folder / TRUTH).is_file():
            kept = Truth.load(folder).arrays
            if not all(np.array_equal(kept[name], own) for name, own in self.arrays.items()):
                raise InputError(f"{folder} holds other articles; give another --name")
            return
        pairs = [(name, to) for name, implied in self.labels.implications.items() for to in implied]
        implications = np.array(pairs, dtype=np.str_).reshape(-1, 2)
        _save(folder / TRUTH, labels=self.labels.names, implications=implications, **self.arrays)

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read the `truth.npz` of a folder of predictions; InputError without one."""
        if not (folder / TRUTH).is_file():
            raise InputError(f"{folder} has no {TRUTH}; make it with: python -m bench.quality")
        arrays = load_arrays(folder / TRUTH)
        implications: dict[str, tuple[str, ...]] = {}
        for name, implied in arrays.pop("implications").tolist():
            implications[name] = (*implications.get(name, ()), implied)
        return cls(LabelSet(tuple(arrays.pop("labels").tolist()), implications), **arrays)


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

    def thresholds_at(self, truth: Truth, point: str) -> NDArray[np.float64]:
        """Those of each article's own fold, shape (n, labels); `fixed` is 0.5 everywhere."""
        if point == "fixed":
            return np.full(truth.truth.shape, 0.5)
        return self.thresholds[point][truth.fold]

    def select(self, rows: Rows) -> Predictions:
        """For the articles where `rows`, shape (n,), is True."""
        return replace(self, probabilities=self.probabilities[rows])

    def save(self, folder: Path) -> None:
        """Write `SYSTEM-SEED.npz`."""
        content = dict(vars(self))
        thresholds = content.pop("thresholds").items()
        content |= {f"thresholds_{point}": values for point, values in thresholds}
        _save(predictions_file(folder, self.system, self.seed), **content)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read one file."""
        stored = load_arrays(path)
        thresholds = {point: stored.pop(f"thresholds_{point}") for point in POINTS}
        probabilities = stored.pop("probabilities").astype(np.float32)
        return cls(probabilities=probabilities, thresholds=thresholds, **stored)


def predictions_file(folder: Path, system: str, seed: int) -> Path:
    """Where the predictions of a system and seed are kept."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', system.lower()).strip('-')}-{seed}.npz"


def load_predictions(folder: Path) -> dict[str, list[Predictions]]:
    """Every system of a folder by name, its seeds in ascending order."""
    systems: dict[str, list[Predictions]] = {}
    for path in sorted(folder.glob("*.npz")):
        if path.name != TRUTH:
            predictions = Predictions.load(path)
            systems.setdefault(predictions.system, []).append(predictions)
    for seeds in systems.values():
        seeds.sort(key=lambda predictions: predictions.seed)
    return systems


def save_raw(name: str, content: Mapping[str, Any]) -> None:
    """Keep a measurement; its `kind` names the renderer of its table."""
    write_json_atomically(RAW / f"{name}.json", dict(content))


def load_raw(name: str) -> dict[str, Any]:
    """Read a measurement; InputError without one."""
    return read_json(RAW / f"{name}.json", "measure again")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a file of articles."""
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)


def _save(path: Path, **arrays: Any) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz file; numbers and texts as such."""
    with np.load(path) as stored:
        return {name: values if values.ndim else values.item() for name, values in stored.items()}
