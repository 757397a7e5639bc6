"""The classification head, which is trained from scratch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel


def output_layer(model: PreTrainedModel) -> str | None:
    """The name of the layer that computes the logits, if it is linear and has a bias."""
    layer = None
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels:
            layer = name if module.bias is not None else None
    return layer


def init_output_bias(
    model: PreTrainedModel, truth: NDArray[np.bool_], known: NDArray[np.bool_]
) -> None:
    """Set the biases of a fresh output layer so that it predicts each label's frequency.

    Otherwise the first thousand steps go into learning that most labels are rare (Lin et al. 2017,
    section 4.1). Does nothing to a model without an `output_layer`, or whose output layer has been
    trained before: fresh biases are 0.

    Args:
        model: With a fresh head.
        truth: Shape (n, labels), of the training articles.
        known: Shape (n, labels).
    """
    name = output_layer(model)
    if name is not None:
        positives = (truth & known).sum(axis=0)
        odds = (positives + 1) / (known.sum(axis=0) - positives + 1)
        bias = model.get_submodule(name).bias
        assert isinstance(bias, torch.Tensor)
        if not bias.any():
            bias.data.copy_(torch.from_numpy(np.log(odds)))


def parameter_groups(
    model: PreTrainedModel, learning_rate: float, head_lr_factor: float, weight_decay: float
) -> list[dict[str, object]]:
    """Parameter groups of an optimizer: encoder and head, each with and without weight decay.

    Args:
        model: Every parameter of it is in one of the groups.
        learning_rate: Of the encoder.
        head_lr_factor: The head's learning rate, as a multiple of the encoder's.
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
