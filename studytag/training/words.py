"""The words that pick what truncated epochs read, learned from the training table."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from studytag.dataset import rows_with_known_label
from studytag.errors import InputError
from studytag.files import atomic_path
from studytag.training.tokenization import TokenisedTable
from studytag.words.excerpt import Excerpt
from studytag.words.ngrams import BUCKETS, REGULARISATION, Ngrams

logger = logging.getLogger(__name__)


def learn_excerpt(table: TokenisedTable, vocabulary: int) -> Excerpt:
    """What picks excerpts of the texts of `table`, learned from their labels.

    The weights are kept beside the table's file, so that a run that is resumed has them at once.

    Raises:
        InputError: the weights cannot be written.
    """
    target = _file(table, vocabulary)
    if not target.is_file():
        rows = rows_with_known_label(table.known)
        logger.info("learning from %d articles which words say most", len(rows))
        texts = (table.token_ids(row) for row in rows)
        words = Ngrams.fit(texts, vocabulary, table.truth[rows], table.known[rows])
        try:
            with atomic_path(target) as temporary, temporary.open("wb") as stream:
                np.savez(
                    stream,
                    weights=words.weights.numpy(),
                    scale=words.scale.numpy(),
                    offset=words.offset.numpy(),
                )
        except OSError as error:
            raise InputError(
                f"{target}: cannot be written ({error}); free some space, or give another "
                "--cache-dir"
            ) from error
    with np.load(target) as stored:
        return Excerpt(Ngrams(stored["weights"], stored["scale"], stored["offset"]))


def _file(table: TokenisedTable, vocabulary: int) -> Path:
    origin = json.dumps([table.path.stem, vocabulary, BUCKETS, REGULARISATION])
    key = hashlib.sha256(origin.encode()).hexdigest()[:16]
    return table.path.with_name(f"words-{key}.npz")
