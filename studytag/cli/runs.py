"""`studytag runs`: list training runs and compare their scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from studytag.cli.terminal import show
from studytag.errors import InputError
from studytag.training.runs import RUN_RECORD, TrainingRun, find_runs, option_differences


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("artifacts")], help="searched for runs"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> None:
    """Print the runs, the best first.

    Raises:
        InputError: there is no run, or its record cannot be read.
    """
    runs = find_runs(options.folders)
    if not runs:
        places = ", ".join(map(str, options.folders))
        raise InputError(f"no {RUN_RECORD} in {places}; train a model with: studytag train")
    if options.json:
        text = json.dumps([training_run.to_dict() for training_run in runs], indent=2)
    else:
        text = "\n".join([*_table(runs), "", *_differences(runs)]).rstrip()
    show(text + "\n")


def _table(runs: Sequence[TrainingRun]) -> list[str]:
    """Aligned columns to read in a terminal."""
    header = ["run", "started", "epochs", "best", "micro-F1", "macro-F1", "at 0.5", "loss"]
    rows = [[*header, "minutes"], *map(_row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _row(run: TrainingRun) -> list[str]:
    best = run.best
    figures = (
        ["-"] * 5
        if best is None
        else [
            str(best.epoch),
            *(
                f"{value:.4f}"
                for value in (
                    best.micro_f1,
                    best.macro_f1,
                    best.scores["fixed"].micro.f1,
                    best.validation_loss,
                )
            ),
        ]
    )
    return [
        str(run.folder),
        run.record["started"][:16].replace("T", " "),
        f"{len(run.epochs)}/{run.config.get('num_train_epochs', '?')}",
        *figures,
        f"{sum(epoch.seconds for epoch in run.epochs) / 60:.1f}",
    ]


def _differences(runs: Sequence[TrainingRun]) -> list[str]:
    """One line for each option in which the runs differ."""
    lines = [
        f"{name}: {' | '.join(map(str, values))}"
        for name, values in option_differences(runs).items()
    ]
    return ["options that differ, in the order of the runs:", *lines] if lines else []
