"""The best model on disk: a transformers folder with a manifest.

config.json, model.safetensors, tokenizer.json, ...    as transformers writes them
studytag.json                                          labels, thresholds, scores, hashes
validation.parquet                                     probabilities that thresholds were tuned on
words.npz                                              what picked excerpts, if any were read
README.md                                              the model card
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from studytag.errors import BundleError, StudytagError
from studytag.evaluation.calibration import Calibration
from studytag.files import atomic_folder, write_text_atomically
from studytag.hashing import hash_files
from studytag.labels import LabelSet
from studytag.manifest import (
    CARD,
    MANIFEST,
    CalibrationRecord,
    Manifest,
    Variant,
    load_manifest,
    write_manifest,
)
from studytag.records import TextRecipe, probability_column
from studytag.training.encoder import check_weights
from studytag.training.head import output_layer
from studytag.training.model_card import model_card
from studytag.training.run_record import versions
from studytag.training.suitability import readable_tokens
from studytag.training.validation import ValidationResult
from studytag.words.ngrams import Ngrams

PYTORCH = "pytorch"
"""The variant of a model folder."""

WEIGHTS = "model.safetensors"
VALIDATION = "validation.parquet"
WORDS = "words.npz"
DEFAULT_LENGTH = 512
"""Tokens that a checkpoint without any limit is made to read."""


@dataclass(frozen=True)
class TrainedModel:
    """A model folder in memory.

    Attributes:
        model: In float32 and evaluation mode, on the CPU.
        tokenizer: Without truncation and padding of its own.
        manifest: Of the folder. That of a checkpoint trained elsewhere has neither variants nor
            files.
        words: The linear model by which truncated epochs picked what they read; None if none did.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    manifest: Manifest
    words: Ngrams | None = None


def load_model_folder(folder: str | Path) -> TrainedModel:
    """Load a model folder, or a plain transformers checkpoint that classifies sequences.

    The model hub is never asked.

    Raises:
        BundleError: a file is missing, altered or malformed, the labels disagree, or the tokenizer
            has no `tokenizer.json`.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise BundleError(
            f"{folder} is no model: it has no config.json; give the folder of a trained model, "
            "such as artifacts/model/best"
        )
    manifest = load_manifest(folder) if (folder / MANIFEST).is_file() else None
    model, tokenizer = _load_transformers(folder, _advice(manifest))
    names = tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))
    if manifest is None:
        manifest = _plain_manifest(folder, names, model, tokenizer)
    elif names != manifest.labels.names:
        raise BundleError(
            f"{folder}: the labels of config.json ({', '.join(names)}) are not those of {MANIFEST} "
            f"({', '.join(manifest.labels)}); copy the whole folder again, or train again"
        )
    tokenizer.truncation_side = manifest.truncation_side
    words = Ngrams.load(folder / WORDS) if WORDS in manifest.files else None
    return TrainedModel(model, tokenizer, manifest, words)


def torch_probabilities(trained: TrainedModel, texts: Sequence[str]) -> NDArray[np.floating]:
    """PyTorch's probabilities of each text by itself, shape (n, labels)."""
    rows = []
    with torch.inference_mode():
        for text in texts:
            encoded = trained.tokenizer(
                text, truncation=True, max_length=trained.manifest.max_length, return_tensors="pt"
            )
            # A single unpadded text needs neither a mask nor token types.
            rows.append(torch.sigmoid(trained.model(encoded["input_ids"]).logits[0]).numpy())
    labels = trained.manifest.labels
    return labels.raise_implied(np.array(rows, dtype=np.float32).reshape(-1, len(labels)))


def read_validation(folder: Path, labels: LabelSet) -> NDArray[np.float32]:
    """The probabilities that thresholds were tuned on, shape (n, labels).

    They are those of the validation articles with a known label, in the order of the table.
    """
    stored = pq.read_table(folder / VALIDATION)
    columns = [stored[probability_column(label)].to_numpy() for label in labels]
    return np.column_stack(columns).astype(np.float32)


def save_model_folder(
    folder: Path,
    model: PreTrainedModel,
    weights: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
    result: ValidationResult,
    manifest: Manifest,
    words: Ngrams | None,
) -> None:
    """Write the folder under a temporary name, then put it in the place of the one before.

    Args:
        folder: The model folder.
        model: Its architecture is saved.
        weights: Of the model, before calibration.
        tokenizer: Of the encoder.
        result: The model on the validation table.
        manifest: What is known before training; variants, calibration and files are added here.
        words: By which excerpts were picked.
    """
    layer = output_layer(model)
    tokenizer.model_max_length = manifest.max_length
    _without_limits(tokenizer)
    with atomic_folder(folder) as temporary:
        calibrated = calibrated_weights(weights, layer, result.calibration)
        model.save_pretrained(temporary, state_dict=calibrated, max_shard_size="1TB")
        tokenizer.save_pretrained(temporary)
        columns = {
            probability_column(label): column
            for label, column in zip(manifest.labels, result.probabilities.T, strict=True)
        }
        pq.write_table(pa.table(columns), temporary / VALIDATION)
        if words is not None:
            words.save(temporary / WORDS)
        card = model_card(result.scores, manifest)
        write_text_atomically(temporary / CARD, card)
        complete = replace(
            manifest,
            variants={PYTORCH: Variant(WEIGHTS, result.thresholds, result.scores)},
            calibration=_calibration_record(manifest.labels, result.calibration),
            training={**manifest.training, "epoch": result.epoch, "loss": result.loss},
            versions=versions(),
            files=hash_files(temporary, (MANIFEST, CARD)),
        )
        write_manifest(temporary, complete)


def calibrated_weights(
    weights: Mapping[str, torch.Tensor], layer: str | None, calibration: Calibration
) -> dict[str, torch.Tensor]:
    """The weights with the output layer's outputs calibrated; the model itself stays as it is.

    Args:
        weights: By name, of the whole model.
        layer: Its `output_layer`; without one nothing is calibrated.
        calibration: Of its outputs.
    """
    if layer is None:
        return dict(weights)
    weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    slope, offset = (
        torch.from_numpy(values).to(weight.device)
        for values in (calibration.slope, calibration.offset)
    )
    return {
        **weights,
        f"{layer}.weight": (weight * slope[:, None]).to(weight.dtype),
        f"{layer}.bias": (bias * slope + offset).to(bias.dtype),
    }


def _advice(manifest: Manifest | None) -> str:
    """What to do where a folder cannot be loaded: transformers may not read its own other half."""
    trained, here = (
        (manifest.versions if manifest else {}).get("transformers"),
        version("transformers"),
    )
    if trained is not None and trained.split(".")[0] != here.split(".")[0]:
        return (
            f"it was trained with transformers {trained} and this is {here}: train where "
            "studytag[export] is installed, whose transformers does both"
        )
    return "copy the whole folder again, or train again"


def _load_transformers(
    folder: Path, advice: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    try:
        check_weights(folder)
        # Eager attention traces to the graph that onnxruntime fuses best (58 against 61 ms).
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager", dtype="float32"
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except StudytagError as error:
        raise BundleError(str(error)) from error
    except (
        Exception
    ) as error:  # transformers, safetensors and tokenizers raise errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{folder}: cannot be loaded ({reason}); {advice}") from error
    if not tokenizer.is_fast:
        raise BundleError(
            f"{folder}: {type(tokenizer).__name__} has no tokenizer.json; train another encoder"
        )
    _without_limits(tokenizer)
    return model.eval(), tokenizer


def _without_limits(tokenizer: PreTrainedTokenizerFast) -> None:
    """Remove truncation and padding: they are set by every call, and would be saved."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()


def _plain_manifest(
    folder: Path,
    names: Sequence[str],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> Manifest:
    """The manifest of a checkpoint that was trained elsewhere."""
    limits = (readable_tokens(model), tokenizer.model_max_length)
    known = [int(limit) for limit in limits if limit is not None and limit < 10**6]
    encoder = model.config.name_or_path
    return Manifest(
        labels=LabelSet(tuple(names)),
        text_recipe=TextRecipe(),
        max_length=min(known, default=DEFAULT_LENGTH),
        encoder=encoder if encoder and encoder != str(folder) else folder.resolve().name,
        variants={},
        truncation_side=truncation_side(tokenizer),
        versions=versions(),
    )


def truncation_side(tokenizer: PreTrainedTokenizerFast) -> Literal["right", "left"]:
    """The side on which a tokenizer cuts texts that are too long."""
    return "left" if tokenizer.truncation_side == "left" else "right"


def _calibration_record(labels: LabelSet, calibration: Calibration) -> CalibrationRecord:
    slope = dict(zip(labels, calibration.slope.tolist(), strict=True))
    offset = dict(zip(labels, calibration.offset.tolist(), strict=True))
    fitted = any(value != 1 for value in slope.values()) or any(offset.values())
    return CalibrationRecord("platt", slope, offset) if fitted else CalibrationRecord()
