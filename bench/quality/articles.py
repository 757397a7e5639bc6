"""Labelled articles with the source of each, and their folds of whole sources."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.harness.machine import run_command
from bench.harness.store import Truth
from studytag.data.splitting import SPLITS, title_key
from studytag.dataset import (
    TABLE_MANIFEST,
    LabelledTable,
    concatenate,
    load_table,
    read_label_set,
    rows_with_known_label,
)
from studytag.errors import InputError
from studytag.files import atomic_folder, open_writer, read_rows
from studytag.labels import LabelSet
from studytag.records import Row

HELD_OUT = 0.15
"""Share of the training articles on which an encoder's epoch and calibration are chosen."""


@dataclass(frozen=True)
class Articles:
    """Articles with a known label, n of them.

    Attributes:
        labels: The columns.
        table: Rows, truth and mask.
        sources: Shape (n,), the number of each article's source.
        evaluated: Shape (n,); where False, an article may be trained on and is never scored.
    """

    labels: LabelSet
    table: LabelledTable
    sources: NDArray[np.intp]
    evaluated: NDArray[np.bool_]

    def truth(self, folds: NDArray[np.intp]) -> Truth:
        """What is kept of the evaluated articles.

        Args:
            folds: Shape (n,).
        """
        rows = self.evaluated
        return Truth(
            self.labels,
            self.table.truth[rows],
            self.table.known[rows],
            self.table.years()[rows].astype(np.int16),
            self.sources[rows].astype(np.int16),
            folds[rows].astype(np.int8),
        )

    def folds(self, count: int) -> NDArray[np.intp]:
        """The fold of each article, shape (n,): whole sources, as many evaluated articles in each.

        Articles of sources without any evaluated one are in none: -1.
        """
        from sklearn.model_selection import GroupKFold

        places = np.full(int(self.sources.max()) + 1, -1, dtype=np.intp)
        sources = self.sources[self.evaluated]
        if len(np.unique(sources)) < count:
            raise InputError(f"{count} folds need as many sources, not {len(np.unique(sources))}")
        for fold, (_, members) in enumerate(GroupKFold(count).split(sources, groups=sources)):
            places[sources[members]] = fold
        return places[self.sources]


def read_articles(
    records: list[Path], columns: list[str], rules: str, folder: Path, train_only: str | None
) -> Articles:
    """Label PubMed records by a rule set and find out where each article is from.

    Args:
        records: Tables of records.
        columns: For each of them, the column that names an article's source.
        rules: Name of the rule set.
        folder: Receives the labelled tables; built only if it is not there yet.
        train_only: A column; articles for which it is true are never evaluated.

    Raises:
        InputError: a column is missing or empty somewhere.
    """
    if not folder.exists():
        command = ("data", "build", *map(str, records), "--rules", rules, "--output", str(folder))
        run_command(sys.executable, "-m", "studytag", *command)
    labels = read_label_set(folder)
    tables = [load_table(folder / f"{split}.parquet", labels) for split in SPLITS]
    table = concatenate(tables)
    table = table.select(rows_with_known_label(table.known))
    names: dict[str, str] = {}
    excluded = set()
    for path, column in zip(records, columns, strict=True):
        for row in read_rows(path):
            if not row.get(column):
                raise InputError(f"{path}: column {column!r} is missing or empty somewhere")
            key = title_key(row)
            names.setdefault(key, f"{row[column]}")
            if train_only and row.get(train_only):
                excluded.add(key)
    keys = [title_key(row) for row in table.rows]
    _, sources = np.unique([names[key] for key in keys], return_inverse=True)
    evaluated = np.array([key not in excluded for key in keys])
    return Articles(labels, table, sources, evaluated)


def hold_out(table: LabelledTable, seed: int) -> tuple[LabelledTable, LabelledTable]:
    """A table without a random `HELD_OUT` of its rows, and these."""
    order = np.random.default_rng(seed).permutation(len(table))
    cut = round(HELD_OUT * len(table))
    return table.select(np.sort(order[cut:])), table.select(np.sort(order[:cut]))


def write_tables(folder: Path, labels: LabelSet, **tables: LabelledTable) -> None:
    """Write tables that training reads, each under its name; nothing if the folder is there."""
    if folder.exists():
        return
    with atomic_folder(folder) as temporary:
        for name, table in tables.items():
            write_rows(temporary / f"{name}.parquet", table.rows)
        implications = {name: list(to) for name, to in labels.implications.items()}
        manifest = {"labels": list(labels), "implications": implications}
        (temporary / TABLE_MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a table of articles."""
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
