"""Parts of training that a caller can replace, for experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from studytag.training.batching import Collator
from studytag.training.config import TrainingConfig

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits, truth and known, each of shape (b, labels), to a scalar; `masked_bce` is one."""

OptimizerFactory = Callable[[TrainingConfig, PreTrainedModel], torch.optim.Optimizer]


@dataclass(frozen=True)
class TrainingHooks:
    """What `train` takes in place of its own parts; None keeps them.

    Attributes:
        loss: Minimised in place of `masked_bce`. Validation keeps `masked_bce`, so that its
            figures stay comparable.
        collator: Makes the training batches in place of `Collator`.
        optimizer: Makes the optimizer in place of AdamW.
        model: Changes the model in place, once its encoder has been loaded.
    """

    loss: Loss | None = None
    collator: type[Collator] | None = None
    optimizer: OptimizerFactory | None = None
    model: Callable[[PreTrainedModel], None] | None = None
