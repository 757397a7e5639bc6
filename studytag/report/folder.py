"""The folder of a report: its files by name, so that it replaces no others. No matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from studytag.outputs import refuse_loss

PAGE = "report.html"
METRICS = "metrics.json"
_PICTURES = (
    *("training", "precision-recall", "reliability"),
    *("thresholds", "co-occurrence", "years"),
)
_WRITTEN = {PAGE, METRICS, *(f"{name}.png" for name in _PICTURES)}


def refuse_foreign_report(folder: Path, kept: Iterable[Path] = ()) -> None:
    """Refuse a place for a report that holds anything but an earlier one.

    Args:
        folder: Will be replaced whole.
        kept: Files that must not lie in it, such as the labelled table.

    Raises:
        InputError: something would be lost, or `folder` is not a folder.
    """
    refuse_loss(folder, "report", PAGE, _WRITTEN, kept)
