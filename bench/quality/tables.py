"""Tables of quality: systems side by side, year by year or fold by fold, label by label.

A raw file of kind `quality` describes a table: a `caption` and `sections`. A section names a folder
of `predictions` and may ask for: `systems` (which, in which order, by which operating `point`; all
of the folder by default), `unit` of the bootstrap (`sources` or `articles`), `part` (`year` or
`fold`), `fixed` (columns at 0.5), `gains` (`over` a system, `of` some or all others), `difference`
(from which system the exported variants' probabilities differ), `detail` (one `system` label by
label, `beside` others), `seeds` (one system's spread), `side_by_side` (all systems label by label),
`precision_recall` (likewise), `apart` (average precision of all `but` one `source`), `only_figures`
(cells of systems whose predictions are not kept).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.harness.store import PREDICTIONS, Predictions, Truth, load_predictions
from bench.quality.scoring import SystemScores, gain, score_system, scores_at
from studytag.evaluation.bootstrap import wilson_interval
from studytag.evaluation.scores import LabelScores, Scores
from studytag.evaluation.tables import interval, markdown_table, number


@dataclass(frozen=True)
class Section:
    """One folder of predictions, scored as its description `asked`.

    `scored` has the names and the order of the table; `fixed` says whether figures at 0.5 are shown
    too, `only_figures` holds the cells of systems whose predictions are not kept.
    """

    asked: dict[str, Any]
    truth: Truth
    predictions: dict[str, list[Predictions]]
    scored: dict[str, SystemScores]
    fixed: bool
    only_figures: dict[str, Any]

    @classmethod
    def of(cls, asked: dict[str, Any]) -> Section:
        """Load and score."""
        folder = PREDICTIONS / asked["predictions"]
        truth, predictions = Truth.load(folder), load_predictions(folder)
        unit, part = asked.get("unit", "sources"), asked.get("part")
        scored = {
            entry.get("as", entry["system"]): score_system(
                truth, predictions[entry["system"]], entry.get("point", "f1"), unit, part
            )
            for entry in asked.get("systems") or [{"system": name} for name in predictions]
        }
        only_figures = asked.get("only_figures", {})
        return cls(asked, truth, predictions, scored, "fixed" in asked, only_figures)


def quality(raw: dict[str, Any]) -> list[str]:
    """The lines of a table of quality."""
    lines = [raw["caption"]]
    for asked in raw["sections"]:
        section = Section.of(asked)
        if "title" in asked:
            lines += ["", f"## {asked['title']}"]
        lines += ["", *_systems(section)]
        for option, part in _PARTS.items():
            if option in asked:
                lines += ["", *part(section)]
    return lines


def mean(values: Sequence[float | None]) -> str:
    """The mean over seeds, with its standard deviation where there are several."""
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return "–"
    text = f"{np.mean(defined):.3f}"
    return text if len(defined) == 1 else f"{text} ± {np.std(defined, ddof=1):.3f}"


def _systems(section: Section) -> list[str]:
    fixed = section.fixed
    header = ["System", *(["Thresholds"] if fixed else [])]
    header += ["micro-F1", "95 % interval", "macro-F1", "95 % interval"]
    header += ["at 0.5: micro", "macro"] if fixed else []
    header += ["macro AP", "calibration error", *(["of all known"] if fixed else [])]
    rows = []
    for name, system in section.scored.items():
        cells = [name, *(["0.5" if system.point == "fixed" else "tuned"] if fixed else [])]
        for average in ("micro", "macro"):
            cells.append(mean([getattr(seed, average).f1 for seed in system.decided]))
            cells.append(interval(getattr(system.intervals, average)))
        if fixed:
            cells += [mean([getattr(s, a).f1 for s in system.fixed]) for a in ("micro", "macro")]
        cells.append(mean([seed.macro.average_precision for seed in system.decided]))
        cells.append(mean([seed.macro.calibration_error for seed in system.decided]))
        rows.append([*cells, *([mean(system.all_known_error)] if fixed else [])])
    rows += [[name, *kept["cells"]] for name, kept in section.only_figures.items()]
    return markdown_table(header, rows)


def _gains(section: Section) -> list[str]:
    """How much higher F1 is than the reference's, paired draw by draw."""
    asked = section.asked["gains"]
    reference = section.scored[asked["over"]]
    others = asked.get("of") or [name for name in section.scored if name != asked["over"]]
    rows = []
    for name in others:
        gains = gain(section.scored[name], reference).values()
        points = [[100 * value, 100 * low, 100 * high] for value, (low, high) in gains]
        rows.append([name, *(f"{v:+.1f} ({low:+.1f} to {high:+.1f})" for v, low, high in points)])
    header = [f"Points over {asked['over']} (95 % interval, paired)", "micro-F1", "macro-F1"]
    return markdown_table(header, rows)


def _by_part(section: Section) -> list[str]:
    """Micro-F1 and macro-F1, and for years calibration error, of the first seed."""
    truth, years = section.truth, section.asked["part"] == "year"
    parts = next(iter(section.scored.values())).parts
    heads = []
    for part, (articles, *_) in parts.items():
        sources = len(np.unique(truth.source[truth.fold == int(part)]))
        heads.append(f"{part} ({articles})" if years else f"{sources} sources, {articles} articles")
    rows = []
    for name, system in section.scored.items():
        shown = [figures if years else figures[:2] for _, *figures in system.parts.values()]
        rows.append([name, *(" / ".join(number(value) for value in part) for part in shown)])
    rows += [[name, *kept["parts"]] for name, kept in section.only_figures.items()]
    return markdown_table(["micro-F1 / macro-F1" + " / calibration error" * years, *heads], rows)


def _measured(section: Section) -> list[str]:
    measured = {name: system.measured for name, system in section.scored.items()}
    measured |= {name: kept["measured"] for name, kept in section.only_figures.items()}
    occasions: dict[str, list[str]] = {}
    for name, occasion in measured.items():
        occasions.setdefault(occasion, []).append(name)
    return [f"Measured {occasion}: {'; '.join(names)}." for occasion, names in occasions.items()]


def _difference(section: Section) -> list[str]:
    """How far the exported variants' probabilities lie from those of the model they come from."""
    origin, scored = section.predictions[section.asked["difference"]][0], section.truth.fold >= 0
    differences = [
        f"{name} {np.abs(seeds[0].probabilities - origin.probabilities)[scored].max():.1e}"
        for name, seeds in section.predictions.items()
        if name.startswith(f"{origin.system}, ONNX")
    ]
    return [f"Largest |Δp| from PyTorch on the scored articles: {', '.join(differences)}."]


def _detail(section: Section) -> list[str]:
    """One system's first seed, label by label, beside the F1 of others."""
    asked = section.asked["detail"]
    system, fixed = section.scored[asked["system"]], section.fixed
    beside = {name: section.scored[name].decided[0].labels for name in asked["beside"]}
    header = ["Label", "Support / known", "Precision", "Recall", "F1", "95 % interval"]
    header += [*(["at 0.5"] if fixed else []), *beside, "AP", "ECE", "*sensitive*: recall"]
    header += [*(["95 % interval"] if fixed else []), "precision"]
    rows = []
    for name, entry in system.decided[0].labels.items():
        sensitive = system.sensitive[0].labels[name]
        cells = [name, f"{entry.support} / {entry.known}"]
        cells += [number(value) for value in (entry.precision, entry.recall, entry.f1)]
        cells.append(interval(system.intervals.labels[name]))
        cells += [number(system.fixed[0].labels[name].f1)] * fixed
        cells += [number(labels[name].f1) for labels in beside.values()]
        cells += [number(entry.average_precision), number(entry.calibration_error)]
        cells += [number(sensitive.recall), *([_recall_interval(sensitive)] if fixed else [])]
        rows.append([*cells, number(sensitive.precision)])
    title = f"### {asked['system']}, first seed, label by label"
    return [title, "", *markdown_table(header, rows)]


def _seeds(section: Section) -> list[str]:
    """The spread of one system's seeds, label by label."""
    name = section.asked["seeds"]
    system = section.scored[name]
    header = ["Label", "Support", "F1", "AP", "ECE"]
    header += ["*sensitive*: recall", "its 95 % interval, each seed"]
    rows = []
    for label, first in system.decided[0].labels.items():
        own = [seed.labels[label] for seed in system.decided]
        sensitive = [seed.labels[label] for seed in system.sensitive]
        figures = ("f1", "average_precision", "calibration_error")
        cells = [mean([getattr(entry, figure) for entry in own]) for figure in figures]
        cells.append(mean([entry.recall for entry in sensitive]))
        cells.append(", ".join(map(_recall_interval, sensitive)))
        rows.append([label, str(first.support), *cells])
    return [f"### {name}, all seeds, label by label", "", *markdown_table(header, rows)]


def _side_by_side(section: Section) -> list[str]:
    """Every system's average precision, then F1 with intervals, label by label."""
    bounds = {name: of.intervals.labels for name, of in section.scored.items()}
    ranking = _by_label(_decided(section), _average_precision)
    decisions = _by_label(
        _decided(section),
        lambda name, label, own: f"{mean([e.f1 for e in own])} ({interval(bounds[name][label])})",
    )
    header = ["Support / known", *section.scored]
    lines = markdown_table(["Average precision", *header], ranking)
    return [*lines, "", *markdown_table(["F1 (95 % interval)", *header], decisions)]


def _precision_recall(section: Section) -> list[str]:
    """Every system's precision and recall, label by label."""
    rows = _by_label(
        _decided(section),
        lambda _, __, own: f"{mean([e.precision for e in own])} / {mean([e.recall for e in own])}",
    )
    return markdown_table(["Precision / recall", "Support / known", *section.scored], rows)


def _decided(section: Section) -> dict[str, list[Scores]]:
    return {name: of.decided for name, of in section.scored.items()}


def _apart(section: Section) -> list[str]:
    """Every system's average precision without the articles of one source, label by label."""
    asked, truth = section.asked["apart"], section.truth
    apart = truth.source == asked["source"]
    rest, left_out = (truth.fold >= 0) & ~apart, int(((truth.fold >= 0) & apart).sum())
    decided = {
        name: [
            scores_at(truth.select(rest), seed.select(rest), [of.point])[of.point]
            for seed in section.predictions[name]
        ]
        for name, of in section.scored.items()
    }
    header = ["Support / known", *decided]
    head = f"Average precision without {left_out} {asked['but']}"
    return markdown_table([head, *header], _by_label(decided, _average_precision))


def _average_precision(_system: str, _label: str, own: list[LabelScores]) -> str:
    return mean([entry.average_precision for entry in own])


def _by_label(
    decided: dict[str, list[Scores]], cell: Callable[[str, str, list[LabelScores]], str]
) -> list[list[str]]:
    """A row for each label that is known anywhere, a cell for each system of its seeds' scores."""
    rows = []
    for label, entry in next(iter(decided.values()))[0].labels.items():
        own = {name: [seed.labels[label] for seed in seeds] for name, seeds in decided.items()}
        cells = [cell(name, label, seeds) for name, seeds in own.items()]
        rows += [[label, f"{entry.support} / {entry.known}", *cells]] * (entry.known > 0)
    return rows


def _recall_interval(entry: LabelScores) -> str:
    if not entry.support:
        return "–"
    return interval(wilson_interval(round(entry.recall * entry.support), entry.support))


_PARTS: dict[str, Callable[[Section], list[str]]] = {
    "gains": _gains,
    "part": _by_part,
    "predictions": _measured,
    "difference": _difference,
    "detail": _detail,
    "seeds": _seeds,
    "side_by_side": _side_by_side,
    "precision_recall": _precision_recall,
    "apart": _apart,
}
"""What follows the table of systems, by the key of the description that asks for it."""
