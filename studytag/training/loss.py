"""The losses: of every cell that is known, and their mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes logits (b, labels) and, as float32 in {0, 1}, truth and known, both (b, labels)."""

FOCUS, MARGIN = 4, 0.05
"""Of the asymmetric loss: what its authors recommend."""


def masked_bce(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean BCE-with-logits over known cells; 0 (with a gradient of 0) where none is known."""
    # In float32 also under autocast: half precision loses the small gradients of rare labels.
    cells = binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return _mean(cells, known)


def asymmetric(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean asymmetric loss (Ridnik et al. 2021) over known cells, so that rare labels are heard.

    A positive costs what it costs in BCE. A negative costs as if its probability p were lower by
    MARGIN, and that times p to the power of FOCUS: the many easy negatives cost nothing. What comes
    out overstates probabilities, and not along a line of logits: calibration mends it in part.
    """
    logits = logits.float()
    shifted = (torch.sigmoid(logits) - MARGIN).clamp(min=0)
    cells = -truth * logsigmoid(logits) - (1 - truth) * shifted**FOCUS * torch.log1p(-shifted)
    return _mean(cells, known)


def _mean(cells: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return (cells * known).sum() / known.sum().clamp(min=1)


LOSSES: dict[str, Loss] = {"bce": masked_bce, "asymmetric": asymmetric}
"""By the name that the option `loss` takes."""
