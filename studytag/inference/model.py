"""One document through the tokenizer and the graph: text in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from studytag.errors import BundleError, StudytagError
from studytag.inference.session import open_session
from studytag.manifest import TOKENIZER, Manifest

Loaded = TypeVar("Loaded")

FILLS = {"attention_mask": 1, "token_type_ids": 0}
"""Inputs besides `input_ids`, and what they hold for one unpadded document."""


class Model:
    """A variant's graph and its tokenizer. Threads may share it."""

    def __init__(self, folder: Path, manifest: Manifest, variant: str, threads: int = 1) -> None:
        """Open a variant of a bundle whose files have been verified; `threads` work on a document.

        Raises:
            BundleError: graph or tokenizer cannot be loaded, the graph wants other inputs, or it
                does not fit the labels.
        """
        self._labels = manifest.labels
        self._variant = variant
        adjustment = manifest.variants[variant].adjustment
        self._adjustment = adjustment.lines(manifest.labels) if adjustment else None
        self._session = _load(lambda: open_session(folder / self._file(manifest), threads), folder)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        self._check()
        self._tokenizer: Tokenizer = _load(
            lambda: Tokenizer.from_file(str(folder / TOKENIZER)), folder
        )
        # Some files store truncation and padding of their own, which would apply silently.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(manifest.max_length, direction=manifest.truncation_side)

    def probabilities(self, text: str) -> NDArray[np.float32]:
        """One document's probabilities, shape (labels,), on the calling thread.

        Raises:
            BundleError: the graph puts out something that is not a finite number.
        """
        # A batch of one: unlike `encode`, it lets other Python threads run meanwhile.
        (encoding,) = self._tokenizer.encode_batch_fast([text])
        ids = np.array([encoding.ids], dtype=np.int64)
        feed = {name: np.full_like(ids, FILLS[name]) for name in self._inputs if name in FILLS}
        (logits,) = self._session.run([self._output], feed | {"input_ids": ids})
        if not np.isfinite(logits).all():
            raise BundleError(
                f"variant {self._variant!r} puts out NaN or infinity; its weights are damaged: "
                "export the bundle again"
            )
        row = logits[0]
        if self._adjustment is not None:
            slope, offset = self._adjustment
            row = (row * slope + offset).astype(np.float32)
        raised = self._labels.raise_implied(sigmoid(row))
        return raised.astype(np.float32, copy=False)

    def _file(self, manifest: Manifest) -> str:
        return manifest.variants[self._variant].file

    def _check(self) -> None:
        unknown = {node.name for node in self._session.get_inputs()} - {"input_ids", *FILLS}
        if unknown:
            raise BundleError(
                f"variant {self._variant!r} asks for unknown inputs {', '.join(sorted(unknown))}; "
                "export the bundle again"
            )
        width = self._session.get_outputs()[0].shape[-1]
        if width != len(self._labels):
            raise BundleError(
                f"variant {self._variant!r} gives {width} outputs for {len(self._labels)} labels; "
                "export the bundle again"
            )


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of any shape to probabilities in float32, without overflow at either end."""
    small: NDArray[np.float32] = np.exp(-np.abs(logits))
    ratio = np.where(logits >= 0, np.ones_like(small), small) / (1 + small)
    return ratio.astype(np.float32, copy=False)


def _load(load: Callable[[], Loaded], folder: Path) -> Loaded:
    """What `load` returns; onnxruntime and tokenizers raise exceptions of their own."""
    try:
        return load()
    except StudytagError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{folder}: cannot be loaded ({reason}); export it again") from error
