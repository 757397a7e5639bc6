"""Which training runs there are, how well they did, and in what they differ. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.training.config import NEUTRAL_OPTIONS
from studytag.training.history import EpochRecord, read_history

RUN_RECORD = "run.json"
"""In a run's folder: what it was given (run_record.py)."""

_ADVICE = "the file was altered, or written by another version; train again"


@dataclass(frozen=True)
class TrainingRun:
    """A run on disk.

    Attributes:
        folder: Its output folder.
        record: What `run.json` holds.
        epochs: What `history.json` holds.
    """

    folder: Path
    record: Mapping[str, Any]
    epochs: Sequence[EpochRecord]

    @property
    def config(self) -> Mapping[str, Any]:
        """The options that it was started with."""
        config: Mapping[str, Any] = self.record["config"]
        return config

    @property
    def best(self) -> EpochRecord | None:
        """The epoch that was kept; None before the first."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: `run.json` with folder, epochs and the best epoch."""
        return {
            "folder": str(self.folder),
            **self.record,
            "epochs": [epoch.to_dict() for epoch in self.epochs],
            "best": None if self.best is None else self.best.to_dict(),
        }


def find_runs(folders: Sequence[Path]) -> list[TrainingRun]:
    """Every run below the folders, the best micro-F1 first, those without a score last.

    Raises:
        InputError: a folder is missing, or a record cannot be read.
    """
    runs = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name one that holds runs")
        for path in sorted(folder.rglob(RUN_RECORD)):
            runs[path.resolve()] = _read_run(path)
    return sorted(runs.values(), key=lambda run: -(run.best.micro_f1 if run.best else -1))


def option_differences(runs: Sequence[TrainingRun]) -> dict[str, list[Any]]:
    """The options in which runs differ, with the value of each run; None where it has none."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    values = {name: [run.config.get(name) for run in runs] for name in names}
    return {
        name: options
        for name, options in values.items()
        if name not in NEUTRAL_OPTIONS and any(option != options[0] for option in options)
    }


def _read_run(path: Path) -> TrainingRun:
    record = read_json(path, _ADVICE)
    if not isinstance(record.get("config"), dict) or not isinstance(record.get("started"), str):
        raise InputError(f"{path}: 'config' or 'started' is missing or malformed; {_ADVICE}")
    return TrainingRun(path.parent, record, read_history(path.parent))
