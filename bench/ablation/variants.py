"""Changes of the training recipe: options, and parts replaced through `TrainingHooks`.

python -m bench.ablation.variants NAME [options of studytag train]    # trains with one of HOOKS
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch.nn import functional

from studytag.training.hooks import TrainingHooks
from studytag.training.loop import train
from studytag.training.options import parse_config

BASELINE = "the recipe as it is"

_CHANGES = Path(__file__).parents[1] / "configs" / "ablation.yaml"
OPTIONS: dict[str, tuple[str, ...]] = {
    name: tuple(options.split())
    for name, options in yaml.safe_load(_CHANGES.read_text(encoding="utf-8")).items()
}
"""Change to options of training."""

Cell = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def masked(cell: Cell) -> TrainingHooks:
    """Minimise the mean of `cell`, of logits and truth, over the known cells."""

    def loss(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (cell(logits.float(), truth) * known).sum() / known.sum().clamp(min=1)

    return TrainingHooks(loss=loss)


def bce(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each cell."""
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def focal(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Easy cells weigh less (Lin et al. 2017), gamma 2."""
    wrong = torch.sigmoid(logits) * (1 - truth) + torch.sigmoid(-logits) * truth
    return bce(logits, truth) * wrong**2


def asymmetric(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Easy negatives cost nothing (Ridnik et al. 2021); focus and margin are the authors'."""
    shifted = (torch.sigmoid(logits) - 0.05).clamp(min=0)
    negative = shifted**4 * torch.log1p(-shifted)
    return -truth * functional.logsigmoid(logits) - (1 - truth) * negative


HOOKS: dict[str, TrainingHooks] = {
    "focal loss": masked(focal),
    "asymmetric loss": masked(asymmetric),
    "label smoothing 0.05": masked(lambda logits, truth: bce(logits, truth * 0.9 + 0.05)),
    "unknown counts as absent": TrainingHooks(loss=lambda z, y, _: bce(z.float(), y).mean()),
}
"""Change to replaced parts."""


if __name__ == "__main__":
    train(parse_config(sys.argv[2:]), hooks=HOOKS[sys.argv[1]])
