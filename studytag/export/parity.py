"""How far a graph's probabilities lie from PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from studytag.inference.model import sigmoid

if TYPE_CHECKING:
    import onnxruntime as ort

    from studytag.training.model_folder import TrainedModel

BATCHES = (1, 3, 17)
"""Batch sizes to try. Tracing can freeze one into the graph, so none is that of the trace."""


def shape_difference(trained: TrainedModel, session: ort.InferenceSession) -> float:
    """The largest difference of a probability over padded batches of several sizes and lengths.

    Lengths are 1, 2 and the two longest; within a batch, rows are ever shorter and padded.
    """
    longest = trained.manifest.max_length
    lengths = sorted({1, min(2, longest), max(1, longest - 1), longest})
    return max(_batch_difference(trained, session, b, n) for b in BATCHES for n in lengths)


def _batch_difference(
    trained: TrainedModel, session: ort.InferenceSession, batch: int, length: int
) -> float:
    import torch

    config = trained.model.config
    random = np.random.default_rng(0)
    mask = np.arange(length) < np.linspace(length, 1, batch).astype(int)[:, None]
    ids = random.integers(config.vocab_size, size=mask.shape)
    feed = {
        "input_ids": np.where(mask, ids, config.pad_token_id or 0),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
    }
    declared = {node.name: feed[node.name] for node in session.get_inputs()}
    try:
        (logits,) = session.run(None, declared)
    except (InvalidArgument, Fail, RuntimeException):  # a shape is frozen into the graph
        return float("inf")
    with torch.inference_mode():
        expected = trained.model(
            **{name: torch.from_numpy(array) for name, array in declared.items()}
        ).logits.numpy()
    return float(np.abs(sigmoid(logits) - sigmoid(expected)).max())
