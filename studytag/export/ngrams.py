"""A linear model of words and pairs of words, which is added to the transformer's logits.

What a transformer of 22 million parameters reads between the lines, it reads a little differently
in every field; "systematic review and meta-analysis" in a text means the same in all of them. On
sources never seen the two together rank better than either (docs/experiments.md). The sum is one
graph: any program that runs the bundle's ONNX files gets it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from studytag.errors import import_extra
from studytag.evaluation.calibration import calibrate
from studytag.evaluation.metrics import mean_average_precision
from studytag.export.graph import export_part, save_graph
from studytag.manifest import WEIGHT

if TYPE_CHECKING:
    from onnx import ModelProto
    from transformers import PreTrainedTokenizerFast

    from studytag.dataset import LabelledTable

logger = logging.getLogger(__name__)

BUCKETS = 2**17
"""Pairs of tokens share so many weights, by hash. Half as many cost 0.003 of average precision,
three words in a row gained nothing."""

REGULARISATION = 30.0
"""C of the logistic regressions. On sources never seen 10 is 0.004 of average precision worse, and
100 hardly better (docs/experiments.md)."""

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of the words in the sum, to choose from."""

_FIRST, _SECOND = 40503, 30011
_PREFIX = "ngrams/"


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
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        table: LabelledTable,
        texts: Sequence[str],
    ) -> Ngrams:
        """Learn from labelled articles, each label from those of which it is known.

        A label that all of its articles have, or none, gets weights of zero.

        Args:
            tokenizer: Of the transformer, whose tokens are counted.
            max_length: Tokens that are read of a text.
            table: The articles.
            texts: Their texts.

        Raises:
            MissingDependencyError: scikit-learn is not installed.
        """
        linear_model = import_extra("sklearn.linear_model", "export")
        sparse = import_extra("scipy.sparse", "export")
        width = len(tokenizer) + BUCKETS + 1
        found = [_found(_encode(tokenizer, max_length, text), width) for text in texts]
        sizes = np.array([len(keys) for keys in found])
        values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes).astype(np.float32)
        columns = np.concatenate(found)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        features = sparse.csr_matrix((values, columns, bounds), shape=(len(found), width))
        weights = np.zeros((width, table.truth.shape[1]))
        offset = np.zeros(table.truth.shape[1])
        for label, known in enumerate(table.known.T):
            truth = table.truth[known, label]
            if truth.any() and not truth.all():
                model = linear_model.LogisticRegression(C=REGULARISATION, solver="liblinear")
                model.fit(features[np.flatnonzero(known)], truth)
                weights[:, label], offset[label] = model.coef_[0], model.intercept_[0]
        scale = np.maximum(np.abs(weights).max(axis=0), 1e-6) / 127
        return cls(np.rint(weights / scale).astype(np.int8), scale, offset)

    def line(self, slope: NDArray[np.floating], offset: NDArray[np.floating]) -> Ngrams:
        """The same with each label's logit x made slope * x + offset."""
        scale, before = self.scale.numpy() * slope, self.offset.numpy() * slope
        return Ngrams(self.weights.numpy(), scale, before + offset)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, both (b, n), to logits (b, labels)."""
        keys, first = _keys(input_ids, attention_mask, self._width)
        found = first.unsqueeze(-1).to(torch.float32)
        total = (self.weights[keys].to(torch.float32) * found).sum(dim=1)
        logits: Tensor = total * self.scale / found.sum(dim=1).clamp(min=1).sqrt() + self.offset
        return logits


class WithNgrams(PreTrainedModel):  # type: ignore[misc]
    """A classifier whose logits are a line through the transformer's plus those of the words.

    Attributes:
        share: Of the words in the sum, from 0 to 1.
    """

    def __init__(
        self, model: PreTrainedModel, ngrams: Ngrams, slope: NDArray[np.floating], share: float
    ) -> None:
        """Multiply the transformer's logits by `slope`, shape (labels,), and add the words'."""
        super().__init__(model.config)
        self.model = model
        self.ngrams = ngrams
        self.share = share
        self.slope: Tensor
        self.register_buffer("slope", torch.from_numpy(slope.astype(np.float32)))
        self.eval()

    @property
    def base_model(self) -> nn.Module:
        """The transformer's encoder."""
        encoder: nn.Module = self.model.base_model
        return encoder

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Tensor
    ) -> SequenceClassifierOutput:
        """Token ids and mask, both (b, n), to an output with logits (b, labels)."""
        logits = self.model(input_ids, attention_mask=attention_mask, **others).logits
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return SequenceClassifierOutput(logits=logits * self.slope + self.ngrams(input_ids, mask))


def blend(
    model: PreTrainedModel,
    ngrams: Ngrams,
    transformer: NDArray[np.floating],
    words: NDArray[np.floating],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> WithNgrams:
    """Add the words to a transformer, with the share that ranks best, and calibrate the sum.

    Args:
        model: The transformer.
        ngrams: What was learned of the words.
        transformer: Its logits of validation articles, shape (n, labels).
        words: Those of `ngrams` for the same articles.
        truth: Shape (n, labels).
        known: Shape (n, labels).
    """
    quality = _quality(SHARES, transformer, words, truth, known)
    best = max(quality, key=lambda share: quality[share])
    logger.info(
        "words have a share of %.1f: average precision %.4f, without them %.4f",
        *(best, quality[best], quality[0.0]),
    )
    fitted = calibrate(truth, known, (1 - best) * transformer + best * words)
    line = ngrams.line(best * fitted.slope, fitted.offset)
    return WithNgrams(model, line, (1 - best) * fitted.slope, best)


def best_factor(
    share: float,
    transformer: NDArray[np.floating],
    words: NDArray[np.floating],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> float:
    """What to multiply a transformer's logits by that reads less than the sum was made for.

    Args:
        share: Of the words in the sum, above 0.
        transformer: Its part of the sum, of validation articles, shape (n, labels).
        words: The words' part.
        truth: Shape (n, labels).
        known: Shape (n, labels).
    """
    some = [other for other in SHARES if other]  # no factor leaves the words out
    quality = _quality(some, transformer / (1 - share), words / share, truth, known)
    best = max(quality, key=lambda other: quality[other])
    return (1 - best) / best * share / (1 - share)


def _quality(
    shares: Sequence[float],
    transformer: NDArray[np.floating],
    words: NDArray[np.floating],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> dict[float, float]:
    """How well the sum ranks at each share of the words: mean average precision, 0 without any."""
    sums = {share: (1 - share) * transformer + share * words for share in shares}
    return {
        share: mean_average_precision(truth, known, logits) or 0.0 for share, logits in sums.items()
    }


def word_logits(
    ngrams: Ngrams, tokenizer: PreTrainedTokenizerFast, max_length: int, texts: Sequence[str]
) -> NDArray[np.float32]:
    """What the words of each text say, shape (n, labels)."""
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = _encode(tokenizer, max_length, text)
            rows.append(ngrams(ids, torch.ones_like(ids))[0].numpy())
    return np.array(rows, dtype=np.float32)


def add_ngrams(graph: Path, blended: WithNgrams) -> None:
    """Add the words to a transformer's graph, in float32 or int8, in its place."""
    onnx = import_extra("onnx", "export")
    model = onnx.load(graph)
    words = export_part(blended.ngrams, {}, f"{_PREFIX}logits", graph.parent)
    _append(model, words, blended.slope.numpy())
    save_graph(model, graph)


def _append(model: ModelProto, words: ModelProto, slope: NDArray[np.float32]) -> None:
    """Put the words' nodes behind the transformer's, and the sum in the place of its logits.

    Callers may feed another factor of the transformer's (`WEIGHT`).
    """
    from onnx import TensorProto, compose, helper, numpy_helper

    kept = {"rename_inputs": False, "rename_outputs": False}
    words = compose.add_prefix(words, _PREFIX, **kept)
    (output,) = model.graph.output
    inner = f"{_PREFIX}transformer"
    for node in model.graph.node:
        node.output[:] = [inner if name == output.name else name for name in node.output]
    model.graph.initializer.extend(words.graph.initializer)
    model.graph.initializer.append(numpy_helper.from_array(slope, f"{_PREFIX}slope"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), WEIGHT))
    model.graph.input.append(helper.make_tensor_value_info(WEIGHT, TensorProto.FLOAT, [1]))
    model.graph.node.extend(words.graph.node)
    model.graph.node.extend(
        [
            helper.make_node("Mul", [inner, f"{_PREFIX}slope"], [f"{_PREFIX}scaled"]),
            helper.make_node("Mul", [f"{_PREFIX}scaled", WEIGHT], [f"{_PREFIX}weighted"]),
            helper.make_node("Add", [f"{_PREFIX}weighted", f"{_PREFIX}logits"], [output.name]),
        ]
    )


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


def _found(ids: Tensor, width: int) -> NDArray[np.int64]:
    keys, first = _keys(ids, torch.ones_like(ids), width)
    found: NDArray[np.int64] = keys[first].numpy()
    return found


def _encode(tokenizer: PreTrainedTokenizerFast, max_length: int, text: str) -> Tensor:
    ids: Tensor = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")[
        "input_ids"
    ]
    return ids
