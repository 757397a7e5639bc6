"""A linear model of the words and pairs of words of a text.

What a transformer of 22 million parameters reads between the lines, it reads a little differently
in every field; "systematic review and meta-analysis" in a text means the same in all of them. On
sources never seen the two together rank better than either (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from studytag.dataset import rows_with_known_label
from studytag.errors import import_extra

MOST_ARTICLES = 200_000
"""From so many the words are learned: more take memory (up to 20 kB each) and minutes, and the
phrases that tell a label are known by then."""

BUCKETS = 2**17
"""Pairs of tokens share so many weights, by hash. Half as many cost 0.003 of average precision,
three words in a row gained nothing."""

REGULARISATION = 30.0
"""C of the logistic regressions. On sources never seen 10 is 0.004 of average precision worse, and
100 hardly better (docs/experiments.md)."""

_FIRST, _SECOND = 40503, 30011


class Ngrams(nn.Module):
    """From the set of a text's tokens and pairs of neighbours to logits.

    Each counts once, however often it occurs, and the sum of their weights is divided by the square
    root of their number: what sklearn calls a binary bag of words with rows of length 1. On
    sources never seen that ranked better than TF-IDF over words.
    """

    def __init__(
        self, weights: NDArray[np.int8], scale: NDArray[np.floating], offset: NDArray[np.floating]
    ) -> None:
        """Weights of shape (vocabulary + BUCKETS + 1, labels), the last row zero for padding.

        Args:
            weights: In steps of `scale`.
            scale: Shape (labels,).
            offset: Shape (labels,).
        """
        super().__init__()
        self._width = len(weights)
        self.weights: Tensor
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("weights", torch.from_numpy(weights))
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))
        self.register_buffer("offset", torch.from_numpy(offset.astype(np.float32)))

    @classmethod
    def fit(
        cls,
        texts: Iterable[NDArray[np.integer[Any]]],
        vocabulary: int,
        truth: NDArray[np.bool_],
        known: NDArray[np.bool_],
    ) -> Ngrams:
        """Learn from labelled texts, each label from those of which it is known.

        A label that all of its texts have, or none, gets weights of zero.

        Args:
            texts: The token ids of each of n texts.
            vocabulary: Tokens that there are.
            truth: Shape (n, labels).
            known: Shape (n, labels).

        Raises:
            MissingDependencyError: scikit-learn is not installed.
        """
        linear_model = import_extra("sklearn.linear_model", "train")
        sparse = import_extra("scipy.sparse", "train")
        width = vocabulary + BUCKETS + 1
        found = [_found(ids, width) for ids in texts]
        sizes = np.array([len(keys) for keys in found])
        values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes).astype(np.float32)
        columns = np.concatenate(found)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        features = sparse.csr_matrix((values, columns, bounds), shape=(len(found), width))
        weights = np.zeros((width, truth.shape[1]))
        offset = np.zeros(truth.shape[1])
        for label, rows in enumerate(known.T):
            having = truth[rows, label]
            if having.any() and not having.all():
                model = linear_model.LogisticRegression(
                    C=REGULARISATION, solver="liblinear", random_state=0
                )
                model.fit(features[np.flatnonzero(rows)], having)
                weights[:, label], offset[label] = model.coef_[0], model.intercept_[0]
        scale = np.maximum(np.abs(weights).max(axis=0), 1e-6) / 127
        return cls(np.rint(weights / scale).astype(np.int8), scale, offset)

    @classmethod
    def load(cls, path: Path) -> Ngrams:
        """What `save` wrote.

        Raises:
            OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile: it cannot be read.
        """
        with path.open("rb") as stream, np.load(stream) as stored:
            return cls(stored["weights"], stored["scale"], stored["offset"])

    def save(self, path: Path) -> None:
        """Write the weights: NumPy's arrays, no pickle, the same bytes for the same weights."""
        weights, scale, offset = (part.numpy() for part in (self.weights, self.scale, self.offset))
        with path.open("wb") as stream:
            np.savez(stream, weights=weights, scale=scale, offset=offset)

    def line(self, slope: NDArray[np.floating], offset: NDArray[np.floating]) -> Ngrams:
        """The same with each label's logit x made slope * x + offset."""
        scale, before = self.scale.numpy() * slope, self.offset.numpy() * slope
        return Ngrams(self.weights.numpy(), scale, before + offset)

    def logits(self, texts: Iterable[NDArray[np.integer[Any]]]) -> NDArray[np.float32]:
        """What the words of each of n texts, given as token ids, say; shape (n, labels)."""
        rows = []
        with torch.inference_mode():
            for ids in texts:
                rows.append(self(*_alone(ids))[0].numpy())
        return np.array(rows, dtype=np.float32)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, both (b, n), to logits (b, labels)."""
        keys, first = _keys(input_ids, attention_mask, self._width)
        found = first.unsqueeze(-1).to(torch.float32)
        total = (self.weights[keys].to(torch.float32) * found).sum(dim=1)
        logits: Tensor = total * self.scale / found.sum(dim=1).clamp(min=1).sqrt() + self.offset
        return logits


def rows_to_learn_from(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The articles that have a known label; of very many `MOST_ARTICLES`, always the same ones.

    Args:
        known: Shape (n, labels).
    """
    rows = rows_with_known_label(known)
    if len(rows) > MOST_ARTICLES:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_ARTICLES, replace=False))
    return rows


def token_and_pair_rows(
    input_ids: Tensor, attention_mask: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """The rows of the weights that tokens, (b, n), and pairs of neighbours, (b, n - 1), have.

    Where something is padding, that is the last row, `width` - 1.
    """
    nothing = width - 1
    seen = attention_mask != 0
    pairs = (input_ids[:, :-1] * _FIRST + input_ids[:, 1:] * _SECOND) % BUCKETS
    pairs = torch.where(seen[:, :-1] & seen[:, 1:], pairs + (nothing - BUCKETS), nothing)
    return torch.where(seen, input_ids, nothing), pairs


def _keys(input_ids: Tensor, attention_mask: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The rows of a text's tokens and pairs, and the first of each kind.

    Both of shape (b, 2n - 1); rows ascend, and equal ones stand together.
    """
    rows = token_and_pair_rows(input_ids, attention_mask, width)
    keys, _ = torch.cat(rows, dim=1).sort(dim=1)
    first = torch.ones_like(keys[:, :1], dtype=torch.bool)
    new = torch.cat([first, keys[:, 1:] != keys[:, :-1]], dim=1)
    return keys, new & (keys != width - 1)


def _found(ids: NDArray[np.integer[Any]], width: int) -> NDArray[np.int64]:
    keys, first = _keys(*_alone(ids), width)
    found: NDArray[np.int64] = keys[first].numpy()
    return found


def _alone(ids: NDArray[np.integer[Any]]) -> tuple[Tensor, Tensor]:
    """A batch of one text: its token ids and mask."""
    text = torch.from_numpy(ids.astype(np.int64))[None]
    return text, torch.ones_like(text)
