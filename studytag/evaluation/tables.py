"""Scores as Markdown tables: one renderer for the terminal, model cards and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from studytag.evaluation.bootstrap import F1Intervals, Interval, recall_interval
from studytag.evaluation.scores import LabelScores, MacroScores, MicroScores, Scores

_Entry = LabelScores | MicroScores | MacroScores


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table whose first column is text and whose others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    return ["|" + "|".join(rule) + "|" if line is rule else _line(line) for line in lines]


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many decimals; a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(bounds: Interval | None) -> str:
    """An interval as 0.123–0.456; a dash without one."""
    return "–" if bounds is None else f"{bounds[0]:.3f}–{bounds[1]:.3f}"


def scores_table(scores: Scores, fixed: Scores, intervals: F1Intervals | None = None) -> list[str]:
    """The lines of a table: each label, then micro and macro.

    Args:
        scores: At the operating point.
        fixed: The same probabilities at 0.5.
        intervals: Of the F1 at the operating point; None leaves out its column and that of the
            intervals of recall.
    """
    between = ["95 % interval"] * (intervals is not None)
    header = ["Label", "Support", "Threshold", "Precision", "Recall", *between, "F1", *between]
    header += ["F1 at 0.5", "AP", "ECE"]

    def row(name: str, entry: _Entry, bounds: Interval | None, at_half: float) -> list[str]:
        if isinstance(entry, LabelScores) and not entry.known:  # not measured, and not zero
            return [name, *_support(entry), *["–"] * (len(header) - 3)]
        return [
            name,
            *_support(entry),
            number(entry.precision),
            number(entry.recall),
            *([_recall_interval(entry)] if intervals is not None else []),
            number(entry.f1),
            *([interval(bounds)] if intervals is not None else []),
            number(at_half),
            *_ranking(entry),
        ]

    bounds = intervals.labels if intervals is not None else {}
    rows = [
        row(name, entry, bounds.get(name), fixed.labels[name].f1)
        for name, entry in scores.labels.items()
    ]
    micro, macro = (intervals.micro, intervals.macro) if intervals is not None else (None, None)
    rows.append(row("**micro**", scores.micro, micro, fixed.micro.f1))
    rows.append(row("**macro**", scores.macro, macro, fixed.macro.f1))
    return markdown_table(header, rows)


def model_index(title: str, tables: Mapping[str, Scores]) -> list[str]:
    """F1 as the metadata of a model card on the Hub, which shows it beside the card.

    Args:
        title: Of the model.
        tables: What was scored, in words, to its scores.

    Returns:
        Lines of YAML; none without scores.
    """
    lines = []
    for name, scores in tables.items():
        lines += [
            "      - task: {type: text-classification}",
            f"        dataset: {{type: tabular, name: {json.dumps(name)}}}",
            "        metrics:",
            f"          - {{type: f1, name: micro-F1, value: {scores.micro.f1:.4f}}}",
            f"          - {{type: f1, name: macro-F1, value: {scores.macro.f1:.4f}}}",
        ]
    heading = ["model-index:", f"  - name: {json.dumps(title)}", "    results:"]
    return [*heading, *lines] if lines else []


def _recall_interval(entry: _Entry) -> str:
    return interval(recall_interval(entry)) if isinstance(entry, LabelScores) else ""


def _support(entry: _Entry) -> list[str]:
    if isinstance(entry, LabelScores):
        return [str(entry.support), number(entry.threshold)]
    return ["", ""]


def _ranking(entry: _Entry) -> list[str]:
    if isinstance(entry, MicroScores):
        return ["", ""]
    return [number(entry.average_precision), number(entry.calibration_error)]


def _line(cells: Sequence[str]) -> str:
    # A bar in the name of a label or a source would begin another cell.
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
