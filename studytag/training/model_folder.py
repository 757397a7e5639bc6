"""The best model on disk: a transformers folder that also knows its thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.metrics import Scores
from studytag.evaluation.thresholds import Thresholds
from studytag.files import atomic_folder, write_json_atomically, write_text_atomically
from studytag.labels import LabelSet
from studytag.records import TextRecipe
from studytag.training.model_card import model_card


@dataclass(frozen=True)
class Selection:
    """What the validation table said of one epoch's model.

    Attributes:
        epoch: Counted from 1.
        loss: Mean masked BCE.
        thresholds: Of every operating point, tuned on these probabilities.
        scores: By operating point, as `studytag.evaluation.metrics.score` gives them.
    """

    epoch: int
    loss: float
    thresholds: Thresholds
    scores: dict[str, Scores]

    @property
    def micro_f1(self) -> float:
        """What epochs are compared by: micro-F1 at the tuned thresholds."""
        return float(self.scores[DEFAULT_OPERATING_POINT]["micro"]["f1"])


@dataclass(frozen=True)
class ModelOrigin:
    """What a model was trained to read and to say; `training.json` of the model folder.

    Attributes:
        labels: Of the outputs, in order.
        text_recipe: How title and abstract become text.
        max_length: Texts are cut to this many tokens.
        encoder: What was fine-tuned.
    """

    labels: LabelSet
    text_recipe: TextRecipe
    max_length: int
    encoder: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "labels": list(self.labels),
            "text_recipe": self.text_recipe.to_dict(),
            "max_length": self.max_length,
            "encoder": self.encoder,
        }


def save_model_folder(
    folder: Path,
    model: PreTrainedModel,
    weights: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    selection: Selection,
    origin: ModelOrigin,
) -> None:
    """Write the folder under a temporary name, then put it in the place of the one before.

    It holds what transformers needs (`config.json`, `model.safetensors`, the tokenizer), and
    `thresholds.json`, `metrics.json`, `training.json` (how text is made) and a model card.
    """
    tokenizer.model_max_length = origin.max_length
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
        write_json_atomically(
            temporary / "thresholds.json",
            {
                "default": DEFAULT_OPERATING_POINT,
                "labels": list(origin.labels),
                "operating_points": selection.thresholds,
            },
        )
        write_json_atomically(
            temporary / "metrics.json",
            {"epoch": selection.epoch, "loss": selection.loss, "validation": selection.scores},
        )
        write_json_atomically(temporary / "training.json", origin.to_dict())
        card = model_card(selection.scores, origin.encoder)
        write_text_atomically(temporary / "README.md", card)
