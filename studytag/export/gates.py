"""What a variant must pass to be in a bundle, and what happens to those that do not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from studytag.errors import StudytagError
from studytag.export.measuring import micro_f1
from studytag.export.parity import shape_difference
from studytag.inference.session import open_session
from studytag.manifest import FAST, Variant, weights_file
from studytag.training.model_folder import TrainedModel

logger = logging.getLogger(__name__)


def check_shapes(trained: TrainedModel, graph: Path, tolerance: float) -> None:
    """Compare the float32 graph with PyTorch on padded batches of several sizes and lengths.

    Raises:
        StudytagError: a probability differs by more than `tolerance`, or a shape is frozen.
    """
    difference = shape_difference(trained, open_session(graph))
    if not difference <= tolerance:
        raise StudytagError(
            f"the ONNX graph differs from PyTorch by {difference:.1e} on padded batches, more than "
            f"{tolerance:.1e}; nothing was written; try another version of torch or optimum"
        )


def check_parity(variant: Variant, tolerance: float) -> None:
    """Compare the float32 graph's probabilities of validation articles with PyTorch's.

    Raises:
        StudytagError: one differs by more than `tolerance`.
    """
    difference = variant.parity["max_abs_difference"]
    if not difference <= tolerance:
        raise StudytagError(
            f"the ONNX graph's probabilities differ from PyTorch's by up to {difference:.1e}, more "
            f"than {tolerance:.1e}; nothing was written; raise --tolerance if that is acceptable"
        )


def without_losses(
    measured: dict[str, Variant], folder: Path, max_f1_drop: float
) -> dict[str, Variant]:
    """The variants that lose at most `max_f1_drop`; the graphs of the others are deleted.

    The fast one may lose more, but not without the graph that it shares with int8.
    """
    best = micro_f1(measured["fp32"])
    left_out = set()
    for name, variant in measured.items():
        drop = best - micro_f1(variant)
        if name not in ("fp32", FAST) and not drop <= max_f1_drop:
            logger.warning(
                "%s left out of the bundle: its micro-F1 is %.4f below fp32's, more than %.4f; "
                "raise --max-f1-drop to keep it",
                *(name, drop, max_f1_drop),
            )
            left_out.add(variant.file)
    names = [name for name, variant in measured.items() if variant.file not in left_out]
    return only(measured, names, folder)


def check_decisions(
    measured: Mapping[str, Variant], followed: Mapping[str, Variant], max_f1_drop: float
) -> None:
    """Make sure that the thresholds of another bundle fit: what was learned is tagged as well.

    Args:
        measured: At the thresholds of the variants that are followed, on articles that the model
            learned from.
        followed: Scored on the same articles, which their model never learned from.
        max_f1_drop: How much lower micro-F1 may be all the same.

    Raises:
        StudytagError: it is lower by more.
    """
    for name, variant in measured.items():
        here, there = micro_f1(variant), micro_f1(followed[name])
        if not there - here <= max_f1_drop:
            raise StudytagError(
                f"{name}: at the thresholds of the bundle that is followed, micro-F1 is {here:.4f} "
                f"on articles that this model learned from, and {there:.4f} for the other model, "
                "which did not: its thresholds do not fit; nothing was written; train both in the "
                "same way, or raise --max-f1-drop"
            )


def only(measured: Mapping[str, Variant], names: Sequence[str], folder: Path) -> dict[str, Variant]:
    """The variants of these names; graphs that no other needs are deleted."""
    kept = {name: variant for name, variant in measured.items() if name in names}
    for graph in {each.file for each in measured.values()} - {each.file for each in kept.values()}:
        (folder / graph).unlink()
        (folder / weights_file(graph)).unlink(missing_ok=True)
    return kept
