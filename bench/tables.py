"""What bench/quality.py measured, as Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest
from scoring import EVERYTHING, HEADLINE, REFERENCE


def markdown(result: dict[str, Any]) -> str:
    """For each rule set the systems, the gains, the years; then the tagger label by label."""
    lines = [
        "Test articles of which a label is known. 95 % intervals by bootstrap over articles, of "
        "the mean over seeds; ± is the standard deviation over seeds. Scores by year are the first "
        "seed's."
    ]
    for rules, found in result["rules"].items():
        counts = ", ".join(f"{count} {split}" for split, count in found["articles"].items())
        lines += ["", f"## `{rules}` labels ({counts})", "", *_systems_table(found["systems"])]
        for system, change in found["gains"].items():
            parts = [
                f"{average}-F1 {100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
                for average, (value, low, high) in change.items()
            ]
            lines += ["", f"{system} over the {REFERENCE}: {', '.join(parts)}."]
        lines += ["", *_years_table(found["systems"]), "", *_measured(found["systems"])]
    differences = result["rules"][EVERYTHING]["max_probability_difference"]
    texts = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    lines += ["", f"Largest |Δp| from PyTorch on the test split: {texts}."]
    scored = result["rules"][EVERYTHING]["systems"]
    tagger = scored.get(f"{HEADLINE}, ONNX int8", scored[HEADLINE])
    lines += [
        "",
        f"## {HEADLINE}, ONNX int8, first seed, label by label",
        "",
    ]
    lines += _labels_table(tagger, scored.get(REFERENCE))
    lines += ["", f"## {HEADLINE}, PyTorch, all seeds, label by label", ""]
    return "\n".join(lines + _seeds_table(scored[HEADLINE])) + "\n"


def _measured(scored: dict[str, Any]) -> list[str]:
    """Which systems were measured when and where."""
    occasions: dict[str, list[str]] = {}
    for name, entry in scored.items():
        occasions.setdefault(entry["measured"], []).append(name)
    return [f"Measured {occasion}: {'; '.join(names)}." for occasion, names in occasions.items()]


def _systems_table(scored: dict[str, Any]) -> list[str]:
    lines = [
        "| System | decides by | micro-F1 | 95 % interval | macro-F1 | 95 % interval "
        "| at 0.5: micro | macro | macro AP | calibration error | of all known |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in scored.items():
        own, fixed = ([seed[p] for seed in entry["seeds"]] for p in (entry["decides"], "fixed"))
        cells = [
            _mean([seed["micro"]["f1"] for seed in own]),
            "–".join(f"{bound:.3f}" for bound in entry["intervals"]["micro"]),
            _mean([seed["macro"]["f1"] for seed in own]),
            "–".join(f"{bound:.3f}" for bound in entry["intervals"]["macro"]),
            *(_mean([seed[average]["f1"] for seed in fixed]) for average in ("micro", "macro")),
            _mean([seed["macro"]["average_precision"] for seed in own]),
            _mean([seed["macro"]["calibration_error"] for seed in own]),
            _mean(entry["calibration_error_of_all_known"]),
        ]
        decides = "0.5" if entry["decides"] == "fixed" else "tuned"
        lines.append(f"| {name} | {decides} | {' | '.join(cells)} |")
    return lines


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mean(values: list[float | None]) -> str:
    if None in values:
        return "–"
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def _years_table(scored: dict[str, Any]) -> list[str]:
    """Micro-F1, macro-F1 and calibration error of every system in every year."""
    years = sorted({year for entry in scored.values() for year in entry["years"]})
    first = next(iter(scored.values()))["years"]
    heads = [f"{year} ({first[year]['articles']})" for year in years]
    lines = [
        f"| micro-F1 / macro-F1 / calibration error | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(years)}",
    ]
    for name, entry in scored.items():
        parts = ("micro", "macro", "calibration_error")
        cells = [" / ".join(_figure(entry["years"][y][part]) for part in parts) for y in years]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _labels_table(tagger: dict[str, Any], reference: dict[str, Any] | None) -> list[str]:
    (first, *_), intervals = tagger["seeds"], tagger["intervals"]["labels"]
    tuned, fixed, sensitive = (
        first[p]["labels"] for p in (tagger["decides"], "fixed", "sensitive")
    )
    other = reference["seeds"][0][reference["decides"]]["labels"] if reference else {}
    lines = [
        "| Label | Support / known | Precision | Recall | F1 | 95 % interval | at 0.5 "
        f"| {REFERENCE} | AP | ECE | *sensitive*: recall | 95 % interval | precision |",
        f"|---|{'---:|' * 12}",
    ]
    for name, entry in tuned.items():
        low, high = intervals[name]
        lines.append(
            f"| {name} | {entry['support']} / {entry['known']} | {entry['precision']:.3f} "
            f"| {entry['recall']:.3f} | {entry['f1']:.3f} | {low:.3f}–{high:.3f} "
            f"| {fixed[name]['f1']:.3f} | {other[name]['f1'] if other else float('nan'):.3f} "
            f"| {entry['average_precision'] or 0:.3f} | {entry['calibration_error']:.3f} "
            f"| {_recall(sensitive[name])} |"
        )
    return lines


def _seeds_table(tagger: dict[str, Any]) -> list[str]:
    lines = [
        "| Label | Support | F1 | AP | ECE | *sensitive*: recall | its 95 % interval, each seed |",
        f"|---|{'---:|' * 6}",
    ]
    for name in tagger["seeds"][0]["fixed"]["labels"]:
        own, sensitive = (
            [seed[point]["labels"][name] for seed in tagger["seeds"]]
            for point in (tagger["decides"], "sensitive")
        )
        cells = [_mean([each[k] for each in own]) for k in ("f1", "average_precision")]
        cells += [_mean([each["calibration_error"] for each in own])]
        cells += [_mean([each["recall"] for each in sensitive])]
        cells += [", ".join(_recall(each).split(" | ")[1] for each in sensitive)]
        lines.append(f"| {name} | {own[0]['support']} | {' | '.join(cells)} |")
    return lines


def _recall(entry: dict[str, Any]) -> str:
    """Recall with Wilson's interval, and precision."""
    if not entry["support"]:
        return "– | – | –"
    reached = binomtest(round(entry["recall"] * entry["support"]), entry["support"])
    low, high = reached.proportion_ci(method="wilson")
    return f"{entry['recall']:.3f} | {low:.3f}–{high:.3f} | {entry['precision']:.3f}"
