"""Checkpoints: written under a temporary name, renamed when complete, verified when read.

`progress.json`, written last, holds how far the run was, what it was given, and the SHA-256 of
every other file.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import SafetensorError

from studytag.errors import InputError
from studytag.files import replace_folder
from studytag.hashing import hash_files
from studytag.training.history import EpochRecord

logger = logging.getLogger(__name__)

_RECORD = "progress.json"

Identity = dict[str, Any]
"""What decides the result of a run, by name: the options that matter, content of the tables."""


@dataclass
class Progress:
    """How far a run is; everything else is in accelerate's own state.

    Attributes:
        epoch: Epochs completed.
        batch: Batches of this process completed in the current epoch.
        step: Optimizer steps completed.
        best_epoch: The epoch in `best/`, counted from 1; where there is none, the one after which
            the best is selected.
        best_micro_f1: Its micro-F1 at tuned thresholds; below 0 where there is none.
        loss_sum: Of the batches of the current epoch, the mean over the processes.
        seconds: Of training in the current epoch, also before it was interrupted.
        history: One entry per completed epoch.
        processes: How many processes shared the work.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_micro_f1: float = -1.0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    processes: int = 1

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Progress:
        """Read the JSON form, which is that of `dataclasses.asdict`."""
        history = [EpochRecord.from_dict(entry) for entry in stored["history"]]
        return cls(**{**stored, "history": history})


def save_checkpoint(
    accelerator: Accelerator, folder: Path, progress: Progress, identity: Identity, keep: int
) -> None:
    """Save model, optimizer, schedule, random states and progress; delete the oldest.

    Every process calls it.

    Raises:
        InputError: the folder cannot be written; earlier checkpoints are as they were.
    """
    final = folder / f"step-{progress.step:08d}"
    temporary = folder / f".{final.name}.partial"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            files = hash_files(temporary, (_RECORD,))
            record = {"progress": asdict(progress), "identity": identity, "files": files}
            (temporary / _RECORD).write_text(json.dumps(record), encoding="utf-8")
            replace_folder(temporary, final)
            for old in checkpoints(folder)[:-keep]:
                shutil.rmtree(old)
    # torch and safetensors report a full disk by errors of their own.
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{final}: cannot be written ({reason}); free some space, then continue with "
            "--resume-from-checkpoint auto"
        ) from error
    accelerator.wait_for_everyone()


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{_RECORD}"))


def set_aside_later(folder: Path, step: int) -> None:
    """Move checkpoints of later steps out of the way of a run that continues from `step`.

    They are of the run as it went on from there before: left in place, they would count as newer
    than what the continued run saves, which would be pruned first and passed over by `auto`.
    """
    later = [path for path in checkpoints(folder) if int(path.name.removeprefix("step-")) > step]
    if not later:
        return
    aside = next(
        place for number in count(1) if not (place := folder / f"left-behind-{number}").exists()
    )
    aside.mkdir()
    for path in later:
        path.rename(aside / path.name)
    logger.warning(
        "%s: moved here what the run had saved when it went on from step %d before (%s); delete "
        "it when you no longer need it",
        *(aside, step, ", ".join(path.name for path in later)),
    )


def find_checkpoint(folder: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from: a folder, or the newest intact one for `auto`, if any.

    Raises:
        InputError: the folder asked for is not a checkpoint, or it is damaged.
    """
    if wanted != "auto":
        path = Path(wanted)
        if not (path / _RECORD).is_file():
            raise InputError(f"{path} is not a checkpoint; give one of those in {folder}, or auto")
        damage = _damage(path)
        if damage:
            raise InputError(f"{path} is damaged ({damage}); give an earlier one, or auto")
        return path
    for path in reversed(checkpoints(folder)):
        damage = _damage(path)
        if not damage:
            return path
        logger.warning("%s is damaged (%s): going back to the one before", path, damage)
    return None


def read_checkpoint(path: Path, processes: int) -> tuple[Progress, Identity]:
    """How far the run was, and what it was given.

    Args:
        path: An intact checkpoint.
        processes: Of the run that is to continue it.

    Raises:
        InputError: it was saved by another number of processes, which would change the order of the
            articles, or by another version.
    """
    record = _read(path)
    try:
        progress, identity = Progress.from_dict(record["progress"]), dict(record["identity"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: was saved by another version of studytag; train again with "
            "--overwrite-output-dir true"
        ) from error
    if progress.processes != processes:
        raise InputError(
            f"{path} was saved by {progress.processes} process(es), this run has "
            f"{processes}; resume with --num-processes {progress.processes}"
        )
    return progress, identity


def _read(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((path / _RECORD).read_text(encoding="utf-8"))
    return record


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint; empty if every file is as it was written."""
    try:
        expected = _read(path)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{_RECORD} cannot be read"
    present = hash_files(path, (_RECORD,))
    changed = [name for name in expected if present.get(name) != expected[name]]
    return f"{changed[0]} is missing or altered" if changed else ""
