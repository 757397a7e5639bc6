"""Continuing a run: only with what it was given, or with changes that are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from studytag.errors import InputError
from studytag.labels import LabelSet
from studytag.training.checkpoint import Identity, Progress, read_checkpoint
from studytag.training.config import NEUTRAL_OPTIONS, TrainingConfig
from studytag.training.tokenization import TokenisedTable

Changes = dict[str, list[Any]]
"""Option to its value before and its value now."""

_BATCH_OPTIONS = frozenset(
    {
        *("train_file", "model_name_or_path", "max_length", "max_chars", "seed"),
        *("per_device_train_batch_size", "tokens_per_batch", "gradient_accumulation_steps"),
        *("truncated_epochs", "truncated_length", "truncated_to"),
    }
)
"""Options that decide what the batches of an epoch hold."""


def run_identity(
    config: TrainingConfig,
    precision: str,
    labels: LabelSet,
    tables: Mapping[str, TokenisedTable],
) -> Identity:
    """What decides the result of a run, in JSON form.

    Args:
        config: The resolved options.
        precision: The mixed precision that is computed in.
        labels: The label set.
        tables: Option (`train_file`, `validation_file`) to its table: content counts, not the path.
    """
    return {
        **_options(config),
        **{name: table.source_hash for name, table in tables.items()},
        "mixed_precision": precision,
        "labels": list(labels),
    }


def _options(config: TrainingConfig) -> Identity:
    return {name: value for name, value in asdict(config).items() if name not in NEUTRAL_OPTIONS}


def resume(
    path: Path,
    config: TrainingConfig,
    identity: Identity,
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> tuple[Progress, Changes]:
    """Restore the state of a checkpoint.

    Returns:
        How far the run was, and the allowed changes.

    Raises:
        InputError: an option that changes the result differs and is not allowed to, or changes the
            batches in the middle of an epoch; or as `read_checkpoint`.
    """
    progress, stored = read_checkpoint(path, accelerator.num_processes)
    # An option that an earlier version did not have was at its default.
    stored = _options(TrainingConfig()) | stored
    if foreign := sorted(stored.keys() - identity.keys()):
        raise InputError(
            f"{path}: was saved by another version of studytag, whose {', '.join(foreign)} is no "
            "option here; continue with that version, or train anew in another --output-dir"
        )
    changes = {
        name: [stored.get(name), identity.get(name)]
        for name in identity
        if stored.get(name) != identity.get(name)
    }
    _check(path, changes, config, in_epoch=progress.batch > 0)
    groups = [dict(group) for group in optimizer.param_groups]
    base_rates: list[Any] = list(scheduler.base_lrs)
    accelerator.load_state(str(path))
    if changes:
        _apply(optimizer, scheduler, groups, base_rates)
    return progress, changes


def _check(path: Path, changes: Changes, config: TrainingConfig, in_epoch: bool) -> None:
    if "labels" in changes:
        raise InputError(
            f"{path}: the run that it would continue has other labels: "
            f"{', '.join(changes['labels'][0] or ())}; train anew in another --output-dir"
        )
    refused = [name for name in changes if name not in config.allow_changed]
    if refused:
        described = "; ".join(_described(name, *changes[name]) for name in refused)
        names = ",".join(changes)
        raise InputError(
            f"{path}: the run that it would continue differs in {described}; give the former "
            f"values, or --allow-changed {names}, or train anew in another --output-dir"
        )
    misplaced = sorted(_BATCH_OPTIONS & changes.keys())
    if in_epoch and misplaced:
        raise InputError(
            f"{path}: {', '.join(misplaced)} decides what the batches hold and can only change "
            "between epochs; resume from a checkpoint of an epoch's end, or give the former value"
        )


def _described(name: str, before: Any, now: Any) -> str:
    if name in ("train_file", "validation_file"):
        return f"{name} (the table has other content)"
    return f"{name} (was {before}, now {now})"


def _apply(
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    groups: list[dict[str, Any]],
    base_rates: list[Any],
) -> None:
    """Put the present learning rates and weight decay in place of those of the checkpoint."""
    for group, present in zip(optimizer.param_groups, groups, strict=True):
        group["initial_lr"] = present["initial_lr"]
        group["weight_decay"] = present["weight_decay"]
    scheduler.base_lrs = base_rates
    if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        for group, rate, factor in zip(
            optimizer.param_groups, base_rates, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = rate * factor(scheduler.last_epoch)
