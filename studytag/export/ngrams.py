"""The words beside the transformer: their sum, in PyTorch and in a graph.

The sum is one graph: any program that runs the bundle's ONNX files gets it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from studytag.errors import import_extra
from studytag.evaluation.calibration import Calibration, calibrate
from studytag.evaluation.metrics import mean_average_precision
from studytag.export.graph import export_part, save_graph
from studytag.manifest import WEIGHT
from studytag.manifest.checks import is_number
from studytag.words.ngrams import Ngrams

if TYPE_CHECKING:
    from onnx import ModelProto

logger = logging.getLogger(__name__)

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of the words in the sum, to choose from."""

BLEND = "ngrams"
"""The entry of a manifest's `training` that says how words are weighed."""

_PREFIX = "ngrams/"


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


@dataclass(frozen=True)
class Blend:
    """How a transformer and words become one sum.

    Attributes:
        share: Of the words, from 0 to 1.
        line: What calibrates the sum.
    """

    share: float
    line: Calibration

    @classmethod
    def fit(
        cls,
        transformer: NDArray[np.floating],
        words: NDArray[np.floating],
        truth: NDArray[np.bool_],
        known: NDArray[np.bool_],
    ) -> Blend:
        """The share that ranks best, and the sum's calibration.

        Args:
            transformer: Its logits of validation articles, shape (n, labels).
            words: Those of the words for the same articles.
            truth: Shape (n, labels).
            known: Shape (n, labels).
        """
        quality = _quality(SHARES, transformer, words, truth, known)
        best = max(quality, key=lambda share: quality[share])
        logger.info(
            "words have a share of %.1f: average precision %.4f, without them %.4f",
            *(best, quality[best], quality[0.0]),
        )
        return cls(best, calibrate(truth, known, (1 - best) * transformer + best * words))

    def __call__(self, model: PreTrainedModel, ngrams: Ngrams) -> WithNgrams:
        """The sum, as one classifier."""
        slope, offset = self.line.slope, self.line.offset
        words = ngrams.line(self.share * slope, offset)
        return WithNgrams(model, words, (1 - self.share) * slope, self.share)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; lines in label order."""
        line = {"slope": self.line.slope.tolist(), "offset": self.line.offset.tolist()}
        return {"share": self.share, **line}

    @classmethod
    def from_dict(cls, stored: object, labels: int) -> Blend | None:
        """Read the JSON form of so many labels; None where it is something else."""
        if not isinstance(stored, Mapping):
            return None
        share, *parts = (stored.get(name) for name in ("share", "slope", "offset"))
        if not is_number(share) or not 0 <= share <= 1:
            return None
        for part in parts:
            if not isinstance(part, list) or len(part) != labels or not all(map(is_number, part)):
                return None
        return cls(share, Calibration(*map(np.array, parts)))


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
