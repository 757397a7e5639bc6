"""Labelled tables as models learn and are scored on them: rows, truth, the mask of the known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studytag.data.labelling import load_rules
from studytag.errors import InputError
from studytag.files import read_rows, source_files
from studytag.labels import LabelSet
from studytag.records import Row, TextRecipe

MANIFEST = "manifest.json"
"""Stands beside the tables that `studytag data build` writes."""

_CHUNK_ROWS = 4096


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

    def only(self, kept: NDArray[np.intp]) -> Split:
        """The rows of these numbers."""
        return Split([self.rows[row] for row in kept], self.truth[kept], self.known[kept])


def read_label_set(table: Path) -> LabelSet:
    """The label set of a table: of the manifest beside or in it, else of the strict rules.

    Raises:
        InputError: the manifest cannot be read.
    """
    manifest = (table if (table / MANIFEST).is_file() else table.parent) / MANIFEST
    if not manifest.is_file():
        return load_rules("strict").labels
    try:
        return LabelSet(tuple(json.loads(manifest.read_text(encoding="utf-8"))["labels"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest}: cannot read the labels; run: studytag data build") from error


def load_split(path: str | Path, labels: LabelSet) -> Split:
    """Read a labelled table whole; as `read_chunks`."""
    return join(list(read_chunks(path, labels)))


def load_judged(path: str | Path, labels: LabelSet) -> Split:
    """The articles of a labelled table of which a label is known; the others judge no model.

    Raises:
        InputError: as `read_chunks`; or there is no such article.
    """
    split = load_split(path, labels)
    judged = with_known_label(split.known)
    if not len(judged):
        raise InputError(f"{path}: no article has a known label; there is nothing to score")
    return split.only(judged)


def with_known_label(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Row numbers, ascending, of the articles of which a label is known; the others teach nothing.

    Args:
        known: Shape (n, labels).
    """
    return np.flatnonzero(known.any(axis=1))


def join(parts: list[Split]) -> Split:
    """Several tables of the same labels, at least one, as a single one."""
    return Split(
        [row for part in parts for row in part.rows],
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.known for part in parts]),
    )


def read_chunks(path: str | Path, labels: LabelSet) -> Iterator[Split]:
    """Read a labelled table, or a folder of its shards, some thousand rows at a time.

    A table without a `known` column is taken as fully known. Truth counts only where known.

    Args:
        path: Any format that `read_rows` knows; in a folder, the files are read by name.
        labels: Those of its columns `labels` and `known`.

    Raises:
        InputError: a file is missing or unreadable, there is no row or no `labels` column, a label
            is unknown (names the row), or a row has neither title nor abstract.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such table; make it with: studytag data build SOURCE ...")
    empty = True
    for file in source_files(path):
        rows = read_rows(file)
        first_row = 1
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            yield _labelled(file, chunk, labels, first_row)
            first_row += len(chunk)
            empty = False
    if empty:
        raise InputError(f"{path}: the table is empty; give one with at least one labelled article")


def _labelled(path: Path, rows: list[Row], labels: LabelSet, first_row: int) -> Split:
    """Some rows of a table with their truth."""
    if "labels" not in rows[0]:
        raise InputError(f"{path}: no column 'labels'; label the table with: studytag data build")
    recipe = TextRecipe()
    for number, row in enumerate(rows, first_row):
        if row.get("labels") is None:
            raise InputError(f"{path}: row {number}: labels are missing; give a list, if empty")
        try:
            recipe.compose_record(row)
        except InputError as error:
            raise InputError(f"{path}: row {number} (pmid {row.get('pmid')}): {error}") from error
    try:
        known = (
            labels.encode([row.get("known") for row in rows], "known", first_row)
            if "known" in rows[0]
            else np.ones((len(rows), len(labels)), dtype=np.bool_)
        )
        truth = labels.encode([row["labels"] for row in rows], "labels", first_row)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Split(rows, truth & known, known)
