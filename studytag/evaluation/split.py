"""Labelled tables as models learn and are scored on them: rows, truth, the mask of the known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studytag.data.labelling import load_rules
from studytag.errors import InputError
from studytag.files import read_rows
from studytag.labels import LabelSet
from studytag.records import Row, TextRecipe

MANIFEST = "manifest.json"
"""Stands beside the tables that `studytag data build` writes."""


@dataclass(frozen=True)
class Split:
    """One labelled table.

    Attributes:
        rows: The articles, n of them.
        truth: Shape (n, labels).
        known: Shape (n, labels); where False, truth says nothing.
    """

    rows: list[Row]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]


def read_label_set(table: Path) -> LabelSet:
    """The label set of a processed table: of the manifest beside it, else of the strict rules.

    Raises:
        InputError: the manifest cannot be read.
    """
    manifest = table.parent / MANIFEST
    if not manifest.is_file():
        return load_rules("strict").labels
    try:
        return LabelSet(tuple(json.loads(manifest.read_text(encoding="utf-8"))["labels"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest}: cannot read the labels; run: studytag data build") from error


def load_split(path: str | Path, labels: LabelSet) -> Split:
    """Read a labelled table whole (any format that `read_rows` knows).

    A table without a `known` column is taken as fully known. Truth counts only where known.

    Raises:
        InputError: the file is missing, unreadable or empty, has no `labels` column, holds an
            unknown label (names the row), or a row has neither title nor abstract.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such table; make it with: studytag data build SOURCE ...")
    rows = list(read_rows(path))
    if not rows:
        raise InputError(f"{path}: the table is empty; give one with at least one labelled article")
    if "labels" not in rows[0]:
        raise InputError(f"{path}: no column 'labels'; label the table with: studytag data build")
    recipe = TextRecipe()
    for index, row in enumerate(rows, start=1):
        if row["labels"] is None:
            raise InputError(f"{path}: row {index}: labels are missing; give a list, if empty")
        try:
            recipe.compose_record(row)
        except InputError as error:
            raise InputError(f"{path}: row {index} (pmid {row.get('pmid')}): {error}") from error
    try:
        known = (
            labels.encode([row["known"] for row in rows], "known")
            if "known" in rows[0]
            else np.ones((len(rows), len(labels)), dtype=np.bool_)
        )
        truth = labels.encode([row["labels"] for row in rows], "labels")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Split(rows, truth & known, known)
