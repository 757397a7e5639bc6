"""The best model on disk: a transformers folder that also knows its thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studytag.manifest import DEFAULT_OPERATING_POINT
from studytag.evaluation.calibration import Calibration
from studytag.evaluation.scores import Scores
from studytag.manifest import Thresholds
from studytag.files import atomic_folder, write_json_atomically, write_text_atomically
from studytag.labels import LabelSet
from studytag.records import TextRecipe, probability_column
from studytag.training.head import output_layer
model_card=None


@dataclass(frozen=True)
class Selection:
    """What the validation table said of one epoch's model.

    Attributes:
        epoch: Counted from 1.
        loss: What training minimises, before calibration.
        calibration: Of the logits.
        thresholds: Of every operating point, tuned on the calibrated probabilities.
        scores: By operating point, as `studytag.evaluation.metrics.score` gives them.
        probabilities: Calibrated, shape (n, labels), of the validation articles of which a label is
            known, in the order of the table.
    """

    epoch: int
    loss: float
    calibration: Calibration
    thresholds: Thresholds
    scores: dict[str, Scores]
    probabilities: NDArray[np.float32]

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
    `thresholds.json`, `metrics.json`, `validation.parquet` (the probabilities that both were
    computed from), `training.json` (how text is made) and a model card. The weights are those of
    the calibrated model.
    """
    weights = _calibrated(weights, output_layer(model), selection.calibration)
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
            {
                "epoch": selection.epoch,
                "loss": selection.loss,
                "calibration": {
                    "slope": dict(zip(origin.labels, selection.calibration.slope, strict=True)),
                    "offset": dict(zip(origin.labels, selection.calibration.offset, strict=True)),
                },
                "validation": selection.scores,
            },
        )
        columns = {
            probability_column(label): each
            for label, each in zip(origin.labels, selection.probabilities.T, strict=True)
        }
        pq.write_table(pa.table(columns), temporary / "validation.parquet")
        write_json_atomically(temporary / "training.json", origin.to_dict())
        card = model_card(selection.scores, origin.encoder)
        write_text_atomically(temporary / "README.md", card)


def _calibrated(
    weights: dict[str, torch.Tensor], layer: str | None, calibration: Calibration
) -> dict[str, torch.Tensor]:
    """The weights with the output layer's outputs calibrated; the model itself stays as it is."""
    if layer is None:
        return weights
    weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    slope, offset = (
        torch.from_numpy(values).to(weight.device)
        for values in (calibration.slope, calibration.offset)
    )
    return weights | {
        f"{layer}.weight": (weight * slope[:, None]).to(weight.dtype),
        f"{layer}.bias": (bias * slope + offset).to(bias.dtype),
    }
@dataclass(frozen=True)
class TrainedModel:
    model: Any
    tokenizer: Any
    manifest: Any


def load_model_folder(folder: Path) -> TrainedModel:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from studytag.manifest import load_manifest
    manifest = load_manifest(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, attn_implementation="eager", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return TrainedModel(model.eval(), tokenizer, manifest)


def torch_probabilities(trained, texts):
    rows = []
    with torch.inference_mode():
        for text in texts:
            encoded = trained.tokenizer(text, truncation=True, max_length=trained.manifest.max_length, return_tensors="pt")
            rows.append(torch.sigmoid(trained.model(encoded["input_ids"]).logits[0]).numpy())
    return trained.manifest.labels.raise_implied(np.array(rows))
