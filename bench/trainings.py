"""Training runs of the benches, in processes of their own, several at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from machine import on_own_cores, run_command


@dataclass(frozen=True)
class Training:
    """One run of `train`; an interrupted one goes on where it stopped.

    Attributes:
        config: File of options.
        seed: Of the run.
        tables: Folder of train.parquet and val.parquet.
        folder: Holds model/, and `finished` once it is.
    """

    config: str
    seed: int
    tables: Path
    folder: Path

    @property
    def best(self) -> Path:
        """The folder of the best model."""
        return self.folder / "model" / "best"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "finished").exists()

    def run(self, cores: set[int], cache: Path, mixed_precision: str) -> None:
        """Train on these cores; CalledProcessError if it fails."""
        run_command(
            *("accelerate", "launch", "--num_processes", "1"),
            *("--mixed_precision", mixed_precision, "train"),
            *("--config", self.config, "--seed", str(self.seed)),
            *("--train_file", str(self.tables / "train.parquet")),
            *("--validation_file", str(self.tables / "val.parquet")),
            *("--cache_dir", str(cache), "--output_dir", str(self.folder / "model")),
            *("--checkpointing_steps", "250", "--resume_from_checkpoint", "auto"),
            cores=cores,
        )
        (self.folder / "finished").touch()


def train(trainings: list[Training], cache: Path, mixed_precision: str, jobs: int) -> None:
    """Do those that are not finished, so many at once, each on cores of its own.

    Args:
        trainings: The runs.
        cache: Folder of tokenised tables.
        mixed_precision: As of `accelerate launch`.
        jobs: How many at once.
    """
    tasks = [
        lambda cores, each=each: each.run(cores, cache, mixed_precision)
        for each in trainings
        if not each.finished
    ]
    on_own_cores(tasks, jobs)
