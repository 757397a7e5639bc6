"""One document through the tokenizer and the graph: text in, probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.errors import BundleError
from studytag.inference.session import load_or_refuse, open_session
from studytag.inference.text import Encoder
from studytag.manifest import READ_TOKENS, WEIGHT, Manifest, Variant

FILLS = {"attention_mask": 1, "token_type_ids": 0}
"""Inputs besides `input_ids`, and what they hold for one unpadded document."""

_PROBE = "a"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of one document.

    Attributes:
        probabilities: Shape (labels,).
        tokens: Of the whole document, special tokens included, also those that were cut off; of a
            text that is cut before it is tokenised, of what is left of it.
    """

    probabilities: NDArray[np.float32]
    tokens: int


class Model:
    """A variant's graph and its tokenizer. Threads may share it."""

    def __init__(self, folder: Path, manifest: Manifest, variant: str, threads: int = 1) -> None:
        """Open a variant of a bundle whose files have been verified; `threads` work on a document.

        One short document is run at once: weights that are not numbers, and a tokenizer that does
        not go with the graph, are found now and not at the first article.

        Raises:
            BundleError: graph or tokenizer cannot be loaded, the graph wants other inputs, it does
                not fit the labels, or it puts out no finite numbers.
        """
        self._labels = manifest.labels
        self._variant = variant
        adjustment = manifest.variants[variant].adjustment
        self._adjustment = adjustment.lines(manifest.labels) if adjustment else None
        self._settings = _settings(manifest.variants[variant])
        graph = folder / manifest.variants[variant].file
        with load_or_refuse(f"{folder}: cannot be loaded"):
            self._session = open_session(graph, threads)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        self._check()
        self._encoder = Encoder(folder, manifest)
        self.read(_PROBE)

    def read(self, text: str) -> Reading:
        """One document's probabilities, on the calling thread.

        Raises:
            BundleError: tokenizer or graph fails, or it puts out something that is not a finite
                number.
        """
        ids, tokens = self._encoder.encode(text)
        feed = {name: np.full_like(ids, FILLS[name]) for name in self._inputs if name in FILLS}
        with load_or_refuse(f"variant {self._variant!r}: cannot compute {ids.size} tokens"):
            feed |= {"input_ids": ids} | self._settings
            (logits,) = self._session.run([self._output], feed)
        if logits.shape != (1, len(self._labels)):
            raise self._refused(f"gives {logits.shape} numbers for {len(self._labels)} labels")
        if not np.isfinite(logits).all():
            raise self._refused("puts out NaN or infinity, its weights are damaged")
        row = logits[0]
        if self._adjustment is not None:
            slope, offset = self._adjustment
            row = (row * slope + offset).astype(np.float32)
        raised = self._labels.raise_implied(sigmoid(row))
        return Reading(raised.astype(np.float32, copy=False), tokens)

    def _check(self) -> None:
        """Look at what the graph declares, before anything is run."""
        inputs, (output, *_) = self._session.get_inputs(), self._session.get_outputs()
        names = {node.name for node in inputs}
        if unknown := names - {"input_ids", *FILLS}:
            raise self._refused(f"asks for unknown inputs {', '.join(sorted(unknown))}")
        if "input_ids" not in names:
            raise self._refused("does not ask for input_ids")
        for node in inputs:
            fixed = [size for size in node.shape[1:] if isinstance(size, int)]
            if node.type != "tensor(int64)" or len(node.shape) != 2 or fixed:
                raise self._refused(f"asks for {node.name} as {node.type} of shape {node.shape}")
        if output.type != "tensor(float)" or len(output.shape) != 2:
            raise self._refused(f"gives {output.type} of shape {output.shape}")
        width = output.shape[-1]
        if width != len(self._labels):
            raise self._refused(f"gives {width} outputs for {len(self._labels)} labels")

    def _refused(self, what: str) -> BundleError:
        return BundleError(f"variant {self._variant!r} {what}; export the bundle again")


def _settings(variant: Variant) -> dict[str, NDArray[Any]]:
    """What a variant feeds to its graph, whatever the document."""
    settings: dict[str, NDArray[Any]] = {}
    if variant.tokens is not None:
        settings[READ_TOKENS] = np.array([variant.tokens], dtype=np.int64)
    if variant.weight is not None:
        settings[WEIGHT] = np.array([variant.weight], dtype=np.float32)
    return settings


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of any shape to probabilities in float32, without overflow at either end."""
    small: NDArray[np.float32] = np.exp(-np.abs(logits))
    ratio = np.where(logits >= 0, np.ones_like(small), small) / (1 + small)
    return ratio.astype(np.float32, copy=False)
