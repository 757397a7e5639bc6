"""The loss: the mean over known cells."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_bce(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean BCE-with-logits over known cells; 0 (with a gradient of 0) where none is known."""
    # In float32 also under autocast: half precision loses the small gradients of rare labels.
    cells = binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return (cells * known).sum() / known.sum().clamp(min=1)
