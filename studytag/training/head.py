"""The layers on top of the encoder, which start from nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel


def output_layer(model: PreTrainedModel) -> str | None:
    """The name of the layer that puts out the logits, if it is linear and has a bias."""
    found = None
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels:
            found = name if module.bias is not None else None
    return found


def start_at_frequencies(
    model: PreTrainedModel, truth: NDArray[np.bool_], known: NDArray[np.bool_]
) -> None:
    """Have a fresh output layer say of every article how frequent each label is.

    Else the first thousand steps go into learning that most labels are rare (Lin et al. 2017,
    section 4.1). Does nothing to a model without an `output_layer`, or whose output layer has been
    trained before: fresh biases are 0.

    Args:
        model: With a fresh head.
        truth: Shape (n, labels), of the articles to learn from.
        known: Shape (n, labels).
    """
    layer = output_layer(model)
    if layer is not None:
        yes = (truth & known).sum(axis=0)
        odds = (yes + 1) / (known.sum(axis=0) - yes + 1)
        bias = model.get_submodule(layer).bias
        assert isinstance(bias, torch.Tensor)
        if not bias.any():
            bias.data.copy_(torch.from_numpy(np.log(odds)))


def parameter_groups(
    model: PreTrainedModel, learning_rate: float, head_lr_factor: float, weight_decay: float
) -> list[dict[str, object]]:
    """What an optimizer takes: encoder and head apart, and what decays and what does not.

    Args:
        model: All of its parameters are given.
        learning_rate: Of the encoder.
        head_lr_factor: How many times as fast the head learns, which starts from nothing.
        weight_decay: Of matrices; biases and LayerNorms (one-dimensional) do not decay.
    """
    encoder = {id(parameter) for parameter in model.base_model.parameters()}
    return [
        {
            "params": [
                parameter
                for parameter in model.parameters()
                if (id(parameter) not in encoder) == head and (parameter.ndim > 1) == matrix
            ],
            "lr": learning_rate * (head_lr_factor if head else 1),
            "weight_decay": weight_decay if matrix else 0.0,
        }
        for head in (False, True)
        for matrix in (True, False)
    ]
