"""Labelled tables: the rows, the truth, and the mask of what is known. One reader for all.

Training, evaluation, export, audit and benchmarks read labelled tables through this module.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.files import read_rows, source_files
from studytag.files.fields import warn_of_misspelt_columns
from studytag.hashing import sha256
from studytag.labels import STUDY_DESIGNS, LabelSet, contradiction
from studytag.records import Row, TextRecipe, place_of

logger = logging.getLogger(__name__)

TABLE_MANIFEST = "manifest.json"
"""Stands beside the tables that `studytag data build` writes; names their labels."""

_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class LabelledTable:
    """Articles with their labels.

    Attributes:
        rows: The articles, n of them.
        truth: Shape (n, labels).
        known: Shape (n, labels); where False, truth is False and means nothing.
    """

    rows: list[Row]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, indices: NDArray[np.intp]) -> LabelledTable:
        """The rows of these numbers, in this order."""
        return LabelledTable(
            [self.rows[row] for row in indices], self.truth[indices], self.known[indices]
        )

    def years(self) -> NDArray[np.int64]:
        """The year of each row, shape (n,); 0 where it is missing."""
        return np.array([int(row.get("year") or 0) for row in self.rows], dtype=np.int64)

    def sources(self) -> NDArray[np.object_]:
        """The group of sources of each row, or its source where it has no group, shape (n,)."""
        names = [str(row.get("group") or row.get("source") or "") for row in self.rows]
        return np.array(names, dtype=np.object_)  # of np.str_, all would be as wide as the longest


def read_label_set(table: Path) -> LabelSet:
    """The label set of a table: of the manifest beside or in it, else the study designs.

    Raises:
        InputError: the manifest cannot be read.
    """
    manifest = (table if (table / TABLE_MANIFEST).is_file() else table.parent) / TABLE_MANIFEST
    if not manifest.is_file():
        return STUDY_DESIGNS
    advice = "build the tables again: studytag data build"
    stored = read_json(manifest, advice)
    try:
        implications = {name: tuple(to) for name, to in stored.get("implications", {}).items()}
        return LabelSet(tuple(stored["labels"]), implications)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{manifest}: cannot read the labels; {advice}") from error


def load_table(path: str | Path, labels: LabelSet) -> LabelledTable:
    """Read a labelled table whole.

    Raises:
        InputError: as `read_chunks`.
    """
    return concatenate(list(read_chunks(path, labels)))


def load_evaluable(path: str | Path, labels: LabelSet) -> LabelledTable:
    """The articles of a labelled table with at least one known label; the others score no model.

    How many are left out is logged.

    Raises:
        InputError: as `read_chunks`; or there is no such article.
    """
    table = load_table(path, labels)
    evaluable = rows_with_known_label(table.known)
    if not len(evaluable):
        raise InputError(f"{path}: no article has a known label; there is nothing to score")
    if left_out := len(table) - len(evaluable):
        logger.info(
            "%s: %d of %d articles are left out, as none of their labels is known",
            *(path, left_out, len(table)),
        )
    return table.select(evaluable)


def rows_with_known_label(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Row numbers, ascending, of the articles with at least one known label.

    Args:
        known: Shape (n, labels).
    """
    return np.flatnonzero(known.any(axis=1))


def concatenate(parts: list[LabelledTable]) -> LabelledTable:
    """Several tables of the same labels, at least one, as a single one."""
    return LabelledTable(
        [row for part in parts for row in part.rows],
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.known for part in parts]),
    )


def table_files(path: Path) -> list[Path]:
    """The files of a labelled table: itself, or the shards in a folder; not their label set.

    Raises:
        InputError: as `source_files`.
    """
    return source_files(path, companion=TABLE_MANIFEST)


def table_hash(path: Path) -> str:
    """A name for the content of a labelled table's files.

    Raises:
        InputError: as `source_files`.
    """
    hashes = [sha256(file) for file in table_files(path)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def read_chunks(path: str | Path, labels: LabelSet) -> Iterator[LabelledTable]:
    """Read a labelled table, or a folder of its shards, some thousand rows at a time.

    Of a row without `known` every label is known. What a label implies is known with it.

    Args:
        path: Any format that `read_rows` knows; in a folder, the files are read by name.
        labels: Those of its columns `labels` and `known`.

    Raises:
        InputError: a file is missing or unreadable, there is no row or no `labels` column, a label
            is unknown or not among those `known` (names the row), or a row has neither title nor
            abstract.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such table; make it with: studytag data build SOURCE ...")
    empty = True
    for file in table_files(path):
        rows = read_rows(file)
        first_row, told = 1, False
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            if first_row == 1:
                warn_of_misspelt_columns(file, chunk[0])
            if not told and 0 < sum(row.get("known") is None for row in chunk) < len(chunk):
                told = True
                logger.warning(
                    "%s: of rows without 'known', as others have it, every label is taken to be "
                    "known; write [] where none is",
                    file,
                )
            yield _labelled(file, chunk, labels, first_row)
            first_row += len(chunk)
            empty = False
    if empty:
        raise InputError(f"{path}: the table is empty; give one with at least one labelled article")


def _labelled(path: Path, rows: list[Row], labels: LabelSet, first_row: int) -> LabelledTable:
    """Some rows of a table with their truth."""
    if "labels" not in rows[0]:
        raise InputError(f"{path}: no column 'labels'; label the table with: studytag data build")
    recipe = TextRecipe()
    for number, row in enumerate(rows, first_row):
        if row.get("labels") is None:
            raise InputError(
                f"{path}: row {number}: labels are missing; give a list, [] if there are none"
            )
        try:
            recipe.compose_record(row)
        except InputError as error:
            raise InputError(f"{path}: {place_of(number, row)}: {error}") from error
    try:
        stated = [labels if row.get("known") is None else row["known"] for row in rows]
        known = labels.encode(stated, "known", first_row)
        truth = labels.encode([row["labels"] for row in rows], "labels", first_row)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    known |= labels.raise_implied(truth & known)
    for index, column in np.argwhere(truth & ~known)[:1]:
        place = place_of(first_row + index, rows[index])
        raise InputError(f"{path}: {place}: {contradiction(labels.names[column])}")
    truth = labels.raise_implied(truth)
    return LabelledTable(rows, truth, known | truth)
