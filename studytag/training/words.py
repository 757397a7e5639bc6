"""The words that pick what truncated epochs read, learned from the training table."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from studytag.dataset import rows_with_known_label
from studytag.training.cache import cache_file
from studytag.training.tokenization import TokenisedTable
from studytag.words.excerpt import Excerpt
from studytag.words.ngrams import BUCKETS, REGULARISATION, Ngrams

logger = logging.getLogger(__name__)

MOST_ARTICLES = 200_000
"""From so many the words are learned: more take memory (up to 20 kB each) and minutes, and the
phrases that tell a label are known by then."""

_FORMAT = 1
"""Incremented when the same articles give other weights, so that older ones are not read."""


def learn_excerpt(table: TokenisedTable, vocabulary: int) -> Excerpt:
    """What picks excerpts of the texts of `table`, learned from their labels.

    The weights are kept beside the table's file, so that a run that is resumed has them at once.

    Raises:
        InputError: the weights cannot be written.
        MissingDependencyError: scikit-learn is not installed.
    """
    target = _file(table, vocabulary)
    if target.is_file():
        try:
            return Excerpt(_load(target))
        except (OSError, EOFError, KeyError, ValueError, BadZipFile):
            logger.warning("%s is damaged: learning again", target)
    rows = rows_with_known_label(table.known)
    if len(rows) > MOST_ARTICLES:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_ARTICLES, replace=False))
    logger.info("learning from %d articles which words say most", len(rows))
    texts = (table.token_ids(row) for row in rows)
    words = Ngrams.fit(texts, vocabulary, table.truth[rows], table.known[rows])
    weights, scale, offset = (part.numpy() for part in (words.weights, words.scale, words.offset))
    with cache_file(target) as temporary, temporary.open("wb") as stream:
        np.savez(stream, weights=weights, scale=scale, offset=offset)
    return Excerpt(words)


def _load(path: Path) -> Ngrams:
    with path.open("rb") as stream, np.load(stream) as stored:
        return Ngrams(stored["weights"], stored["scale"], stored["offset"])


def _file(table: TokenisedTable, vocabulary: int) -> Path:
    # The table's name is a hash of its content, its labels and the tokenizer.
    origin = json.dumps([_FORMAT, table.path.stem, vocabulary, BUCKETS, REGULARISATION])
    key = hashlib.sha256(origin.encode()).hexdigest()[:16]
    return table.path.with_name(f"words-{key}.npz")
