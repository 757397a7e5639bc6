"""The words that pick what truncated epochs read, learned from the training table."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from zipfile import BadZipFile

from studytag.files import atomic_path
from studytag.training.tokenization import TokenisedTable
from studytag.words.ngrams import BUCKETS, REGULARISATION, Ngrams, rows_to_learn_from

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Incremented when the same articles give other weights, so that older ones are not read."""


def learn_words(table: TokenisedTable, vocabulary: int) -> Ngrams:
    """A linear model of the words of the texts of `table`, learned from their labels.

    It is kept beside the table's file, so that a run that is resumed has it at once.

    Raises:
        InputError: it cannot be written.
        MissingDependencyError: scikit-learn is not installed.
    """
    target = _file(table, vocabulary)
    if target.is_file():
        try:
            return Ngrams.load(target)
        except (OSError, EOFError, KeyError, ValueError, BadZipFile):
            logger.warning("%s is damaged: learning again", target)
    rows = rows_to_learn_from(table.known)
    logger.info("learning from %d articles which words say most", len(rows))
    texts = (table.token_ids(row) for row in rows)
    words = Ngrams.fit(texts, vocabulary, table.truth[rows], table.known[rows])
    with atomic_path(target) as temporary:
        words.save(temporary)
    return words


def _file(table: TokenisedTable, vocabulary: int) -> Path:
    # The table's name is a hash of its content, its labels and the tokenizer.
    origin = json.dumps([_FORMAT, table.path.stem, vocabulary, BUCKETS, REGULARISATION])
    key = hashlib.sha256(origin.encode()).hexdigest()[:16]
    return table.path.with_name(f"words-{key}.npz")
