"""One document through the tokenizer and the graph: text in, probabilities out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from studytag.bundle import TOKENIZER, Manifest
from studytag.errors import BundleError
from studytag.inference.runtime import open_session

FILLS = {"attention_mask": 1, "token_type_ids": 0}
"""Inputs besides `input_ids`, and what they hold for one unpadded document."""


class Model:
    """A variant's graph and its tokenizer. Threads may share it."""

    def __init__(self, folder: Path, manifest: Manifest, variant: str, threads: int = 1) -> None:
        """Open a variant of a bundle whose files have been verified; `threads` work on a document.

        Raises:
            BundleError: the graph wants other inputs, or does not fit the labels.
        """
        self._session = open_session(folder / manifest.variants[variant].file, threads)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        _check(self._session, manifest, variant)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        # Some files store truncation and padding of their own, which would apply silently.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(manifest.max_length)

    def probabilities(self, text: str) -> NDArray[np.float32]:
        """One document's probabilities, shape (labels,), on the calling thread."""
        # A batch of one: unlike `encode`, it lets other Python threads run meanwhile.
        (encoding,) = self._tokenizer.encode_batch_fast([text])
        ids = np.array([encoding.ids], dtype=np.int64)
        feed = {name: np.full_like(ids, FILLS[name]) for name in self._inputs if name in FILLS}
        (logits,) = self._session.run([self._output], feed | {"input_ids": ids})
        return sigmoid(logits[0])


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of any shape to probabilities in float32, without overflow at either end."""
    small: NDArray[np.float32] = np.exp(-np.abs(logits))
    ratio = np.where(logits >= 0, np.ones_like(small), small) / (1 + small)
    return ratio.astype(np.float32, copy=False)


def _check(session: ort.InferenceSession, manifest: Manifest, variant: str) -> None:
    unknown = {node.name for node in session.get_inputs()} - {"input_ids", *FILLS}
    if unknown:
        raise BundleError(
            f"variant {variant!r} asks for unknown inputs {', '.join(sorted(unknown))}; "
            "export the bundle again"
        )
    width = session.get_outputs()[0].shape[-1]
    if width != len(manifest.labels):
        raise BundleError(
            f"variant {variant!r} gives {width} outputs for {len(manifest.labels)} labels; "
            "export the bundle again"
        )
