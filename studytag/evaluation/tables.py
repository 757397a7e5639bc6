"""Scores as Markdown tables: one renderer for the terminal, model cards and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from studytag.evaluation.bootstrap import F1Intervals, Interval
from studytag.evaluation.scores import LabelScores, MacroScores, MicroScores, Scores


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
        intervals: Of the F1 at the operating point; None leaves the column out.
    """
    header = ["Label", "Support", "Threshold", "Precision", "Recall", "F1"]
    header += ["95 % interval"] * (intervals is not None)
    header += ["F1 at 0.5", "AP", "ECE"]

    def row(
        name: str,
        entry: LabelScores | MicroScores | MacroScores,
        bounds: Interval | None,
        at_half: float,
    ) -> list[str]:
        label = isinstance(entry, LabelScores)
        ranked = not isinstance(entry, MicroScores)
        return [
            name,
            str(entry.support) if label else "",
            number(entry.threshold) if label else "",
            *(number(value) for value in (entry.precision, entry.recall, entry.f1)),
            *([interval(bounds)] if intervals is not None else []),
            number(at_half),
            number(entry.average_precision) if ranked else "",
            number(entry.calibration_error) if ranked else "",
        ]

    rows = [
        row(name, entry, intervals and intervals.labels[name], fixed.labels[name].f1)
        for name, entry in scores.labels.items()
    ]
    rows.append(row("**micro**", scores.micro, intervals and intervals.micro, fixed.micro.f1))
    rows.append(row("**macro**", scores.macro, intervals and intervals.macro, fixed.macro.f1))
    return markdown_table(header, rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
