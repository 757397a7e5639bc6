"""`studytag runs`: which runs there are, how well they did, and in what they differ."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from studytag.errors import InputError

RUN_RECORD = "run.json"
"""In a run's folder: what it was given (run_record.py)."""

HISTORY = "history.json"
"""Beside it: the scores of the epochs so far."""

_SCORES = {
    "micro-F1": "validation/micro_f1/micro/f1",
    "macro-F1": "validation/micro_f1/macro/f1",
    "at 0.5": "validation/fixed/micro/f1",
    "loss": "validation/loss",
}
_ASIDE = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "report_to")
"""Options that make no difference to the model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("artifacts")], help="searched for runs"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> None:
    """Print the runs, the best first.

    Raises:
        InputError: there is no run, or its record cannot be read.
    """
    found = find_runs(args.folders)
    if not found:
        places = ", ".join(map(str, args.folders))
        raise InputError(f"no run.json in {places}; train one with: accelerate launch train")
    if args.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join([*_table(found), "", *_differences(found)]).rstrip() + "\n")


def find_runs(folders: list[Path]) -> list[dict[str, Any]]:
    """Every run below the folders, the best micro-F1 first, those without a score last.

    Returns:
        What `run.json` holds, with `folder`, `epochs` (of `history.json`) and `best` (the epoch
        that was kept, or None) besides.

    Raises:
        InputError: a folder is missing, or a record cannot be read.
    """
    runs = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name one that holds runs")
        for record in sorted(folder.rglob(RUN_RECORD)):
            epochs = read_history(record.parent)
            best = next((epoch for epoch in reversed(epochs) if epoch["best"]), None)
            runs.append(
                {"folder": str(record.parent), **_read(record), "epochs": epochs, "best": best}
            )
    return sorted(runs, key=lambda each: -(each["best"] or {}).get(_SCORES["micro-F1"], -1))


def read_history(run: Path) -> list[dict[str, Any]]:
    """The scores of a run's epochs; none where it left no `history.json`.

    Raises:
        InputError: the file is not JSON.
    """
    history = run / HISTORY
    epochs: list[dict[str, Any]] = _read(history)["epochs"] if history.is_file() else []
    return epochs


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON; the run that wrote it was altered") from error
    return content


def _table(runs: list[dict[str, Any]]) -> list[str]:
    rows = [["run", "started", "epochs", "best", *_SCORES, "minutes"]]
    for each in runs:
        best = each["best"] or {}
        scores = (best.get(key) for key in _SCORES.values())
        seconds = sum(epoch["seconds"] for epoch in each["epochs"])
        rows.append(
            [
                each["folder"],
                each["started"][:16].replace("T", " "),
                f"{len(each['epochs'])}/{each['config']['num_train_epochs']}",
                str(best.get("epoch", "-")),
                *("-" if score is None else f"{score:.4f}" for score in scores),
                f"{seconds / 60:.1f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _differences(runs: list[dict[str, Any]]) -> list[str]:
    """One line for each option in which the runs are not alike."""
    lines = []
    for name in dict.fromkeys(name for each in runs for name in each["config"]):
        values = [each["config"].get(name) for each in runs]
        if name not in _ASIDE and any(value != values[0] for value in values):
            lines.append(f"{name}: {' | '.join(map(str, values))}")
    return ["options that differ, in the order of the runs:", *lines] if lines else []
