"""`history.json`: the loss and the scores of every epoch. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.evaluation.scores import Scores
from studytag.files import write_json_atomically
from studytag.manifest import DEFAULT_OPERATING_POINT

HISTORY = "history.json"
"""The file's name, in a run's folder."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a run.

    Attributes:
        epoch: Counted from 1.
        step: Optimizer steps at its end.
        best: Whether it was the best so far.
        train_loss: Mean over the epoch's batches, of all processes.
        validation_loss: Of the uncalibrated logits on the validation table.
        seconds: Of training, without validation, also before an interruption.
        scores: On the validation table, by operating point (`f1` and `fixed`).
    """

    epoch: int
    step: int
    best: bool
    train_loss: float
    validation_loss: float
    seconds: float
    scores: Mapping[str, Scores]

    @property
    def micro_f1(self) -> float:
        """At the tuned thresholds."""
        return self.scores[DEFAULT_OPERATING_POINT].micro.f1

    @property
    def macro_f1(self) -> float:
        """At the tuned thresholds."""
        return self.scores[DEFAULT_OPERATING_POINT].macro.f1

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> EpochRecord:
        """Read the JSON form.

        Raises:
            KeyError, TypeError: an entry is missing or unknown.
        """
        scores = {point: Scores.from_dict(entry) for point, entry in stored["scores"].items()}
        return cls(**{**stored, "scores": scores})


def write_history(run: Path, epochs: list[EpochRecord]) -> None:
    """Write `history.json` into a run's folder."""
    write_json_atomically(run / HISTORY, {"epochs": [epoch.to_dict() for epoch in epochs]})


def read_history(run: Path) -> list[EpochRecord]:
    """The epochs of a run; none where it left no `history.json`.

    Raises:
        InputError: the file cannot be read.
    """
    path = run / HISTORY
    if not path.is_file():
        return []
    advice = "the file was altered, or written by another version; train again"
    stored = read_json(path, advice)
    try:
        return [EpochRecord.from_dict(entry) for entry in stored["epochs"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: entry {error} is missing or malformed; {advice}") from error
