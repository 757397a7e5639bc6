"""`run.json`: what a run was given, so that it can be understood and repeated later."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from studytag.labels import LabelSet
from studytag.training.config import TrainingConfig
from studytag.training.tokenization import TokenisedTable

_PACKAGES = ("studytag", "torch", "transformers", "accelerate", "tokenizers", "numpy")


def describe_run(
    config: TrainingConfig,
    accelerator: Accelerator,
    labels: LabelSet,
    tables: dict[str, TokenisedTable],
) -> dict[str, Any]:
    """The resolved options, the tables' hash and statistics, and where the run takes place."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "config": asdict(config),
        "tables": {name: _describe_table(table, labels) for name, table in tables.items()},
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "platform": platform.platform(),
            "device": _device(accelerator.device),
            "threads": torch.get_num_threads(),
            "processes": accelerator.num_processes,
            "mixed_precision": accelerator.mixed_precision,
            "distributed": str(accelerator.distributed_type.value),
            "git": _git_revision(),
        },
    }


def _describe_table(table: TokenisedTable, labels: LabelSet) -> dict[str, Any]:
    """Size and labels of a table; its hash is that of content, tokenizer and recipe."""
    return {
        "hash": table.path.stem.rpartition("-")[2],
        "articles": len(table),
        "tokens_per_article": round(float(table.lengths.mean()), 1),
        "labels": {
            name: {"positives": int(positives), "known": int(known)}
            for name, positives, known in zip(
                labels, table.truth.sum(axis=0), table.known.sum(axis=0), strict=True
            )
        },
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or device.type


def _git_revision() -> str | None:
    """The revision of the repository that is worked in, marked if files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True)
    return done.stdout.strip() or None
