"""Checkpoints: written under a temporary name, renamed when complete, the newest found again."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from studytag.errors import InputError

_STATE = "progress.json"


@dataclass
class Progress:
    """How far a run is; everything else is in accelerate's own state.

    Attributes:
        epoch: Epochs completed.
        batch: Batches of this process completed in the epoch that is under way.
        step: Optimizer steps completed.
        best_epoch: The epoch in `best/`, counted from 1; 0 where there is none yet.
        best_micro_f1: Its tuned micro-F1.
        loss_sum: Of the batches of the epoch that is under way.
        history: One entry per completed epoch.
        processes: How many processes shared the work.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_micro_f1: float = -1.0
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    processes: int = 1


def save_checkpoint(accelerator: Accelerator, folder: Path, progress: Progress, keep: int) -> None:
    """Save model, optimizer, schedule, random states and progress; drop the oldest.

    Every process calls it. A checkpoint without `progress.json` was never finished.
    """
    final = folder / f"step-{progress.step:08d}"
    temporary = folder / f".{final.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (temporary / _STATE).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in _complete(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def find_checkpoint(folder: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from: a folder, or the newest complete one for `auto`, if any.

    Raises:
        InputError: the folder asked for is not a complete checkpoint.
    """
    if wanted == "auto":
        return next(reversed(_complete(folder)), None)
    path = Path(wanted)
    if not (path / _STATE).is_file():
        raise InputError(f"{path} is not a checkpoint; give one of {folder}/step-*, or auto")
    return path


def load_checkpoint(accelerator: Accelerator, path: Path) -> Progress:
    """Restore accelerate's state and return how far the run was.

    Raises:
        InputError: the run had another number of processes, which would change the data's order.
    """
    progress = Progress(**json.loads((path / _STATE).read_text(encoding="utf-8")))
    if progress.processes != accelerator.num_processes:
        raise InputError(
            f"{path} was saved by {progress.processes} process(es), this run has "
            f"{accelerator.num_processes}; resume with --num_processes {progress.processes}"
        )
    accelerator.load_state(str(path))
    return progress


def _complete(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{_STATE}"))
