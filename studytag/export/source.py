"""The best model's folder, as training leaves it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studytag.errors import BundleError, missing_dependency
from studytag.labels import LabelSet
from studytag.records import TextRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

REQUIRED = ("config.json", "model.safetensors", "training.json", "thresholds.json")


@dataclass(frozen=True)
class TrainedModel:
    """What export needs of the folder.

    Attributes:
        model: In float32 and evaluation mode, on the CPU.
        tokenizer: Without truncation and padding of its own.
        labels: The model's outputs.
        recipe: How its texts were made.
        max_length: Tokens it was trained to read, special tokens included.
        encoder: The encoder that was fine-tuned.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    labels: LabelSet
    recipe: TextRecipe
    max_length: int
    encoder: str


def load_trained(folder: Path) -> TrainedModel:
    """Load a best model folder; the model hub is never asked.

    Raises:
        BundleError: a file is missing or malformed, the label names disagree, or the tokenizer has
            no `tokenizer.json`.
    """
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise BundleError(
                f"{folder}: {name} is missing; give the folder of a trained model, "
                "made by: accelerate launch train"
            )
    stored = _read_training(folder / "training.json")
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise missing_dependency("transformers", "export") from error
    try:
        # Eager attention traces to the graph that onnxruntime fuses best (58 against 61 ms).
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager", dtype="float32"
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{folder}: cannot be loaded: {reason}; train again") from error
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if names != list(stored["labels"]):
        raise BundleError(
            f"{folder}: the labels of config.json ({', '.join(names)}) are not those of "
            f"training.json ({', '.join(stored['labels'])}); train again"
        )
    if not tokenizer.is_fast:
        raise BundleError(
            f"{folder}: {type(tokenizer).__name__} has no tokenizer.json; train another encoder"
        )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return TrainedModel(model.eval(), tokenizer, **stored)


def _read_training(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            "labels": LabelSet(tuple(stored["labels"])),
            "recipe": TextRecipe.from_dict(stored["text_recipe"]),
            "max_length": int(stored["max_length"]),
            "encoder": str(stored["encoder"]),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path}: entry {error} is missing or malformed; train again") from error
