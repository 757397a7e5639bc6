"""A run's folder: one run at a time writes it, and `run.json` tells what that was given."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from studytag.documents import read_json
from studytag.files import write_json_atomically
from studytag.hardware import processor_name
from studytag.labels import LabelSet
from studytag.manifest import package_versions
from studytag.outputs import folder_in_use
from studytag.training.config import TrainingConfig
from studytag.training.history import write_history
from studytag.training.resume import Changes
from studytag.training.runs import RUN_RECORD
from studytag.training.tokenization import TokenisedTable
from studytag.version import __version__

_PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy")


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder` while the block runs; the first process holds the lock.

    Two runs in one folder would take turns at its checkpoints and its best model.

    Raises:
        OutputInUseError: another run is writing there.
        InputError: the folder cannot be made.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with folder_in_use(folder, str(folder)):
        yield


def versions() -> dict[str, str]:
    """The packages that train a model; our own also where it runs from a checkout."""
    return {"studytag": __version__, **package_versions(_PACKAGES)}


def effective_precision(accelerator: Accelerator) -> str:
    """The mixed precision that is computed in: on a CPU, accelerate takes fp16 and ignores it."""
    ignored = accelerator.device.type == "cpu" and accelerator.mixed_precision == "fp16"
    return "no" if ignored else str(accelerator.mixed_precision)


def record_start(
    config: TrainingConfig,
    accelerator: Accelerator,
    labels: LabelSet,
    tables: Mapping[str, TokenisedTable],
) -> None:
    """Write the resolved options, the tables' hashes and statistics, and the environment."""
    record = {
        **_invocation(accelerator),
        "config": asdict(config),
        "tables": {name: describe_table(table, labels) for name, table in tables.items()},
        "resumes": [],
    }
    write_json_atomically(Path(config.output_dir) / RUN_RECORD, record)
    # Or that of an earlier run in this folder would pass for this one's.
    write_history(Path(config.output_dir), [])


def record_resume(
    config: TrainingConfig,
    accelerator: Accelerator,
    checkpoint: Path,
    step: int,
    changes: Changes,
) -> None:
    """Add to the run's record that it was resumed, and what changed."""
    path = Path(config.output_dir) / RUN_RECORD
    record = read_json(path, "restore it, or train anew in another --output-dir")
    entry = {
        **_invocation(accelerator),
        "checkpoint": str(checkpoint),
        "step": step,
        "changed": {
            name: {"before": before, "now": now} for name, (before, now) in changes.items()
        },
    }
    write_json_atomically(path, record | {"resumes": [*record.get("resumes", ()), entry]})


def describe_table(table: TokenisedTable, labels: LabelSet) -> dict[str, Any]:
    """The size of a table, the hash of its content, and how often each label occurs."""
    return {
        "hash": table.source_hash,
        "articles": len(table),
        "tokens_per_article": round(float(table.lengths.mean()), 1),
        "labels": {
            name: {"positives": int(positives), "known": int(known)}
            for name, positives, known in zip(
                labels, table.truth.sum(axis=0), table.known.sum(axis=0), strict=True
            )
        },
    }


def _invocation(accelerator: Accelerator) -> dict[str, Any]:
    """When and how the run was started, and where it takes place."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "environment": {
            "python": platform.python_version(),
            **versions(),
            "platform": platform.platform(),
            "device": _device(accelerator.device),
            "threads": torch.get_num_threads(),
            "processes": accelerator.num_processes,
            "mixed_precision": effective_precision(accelerator),
            "distributed": str(accelerator.distributed_type.value),
            "git": _git_revision(),
        },
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name() if device.type == "cpu" else device.type


def _git_revision() -> str | None:
    """The revision of the repository that is worked in, marked if files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True)
    return done.stdout.strip() or None
