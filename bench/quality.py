"""What would I get? Trains, exports and scores on real records, beside simpler systems.

    python bench/quality.py --source pubmed.parquet

Trains the runs of bench/quality.yaml, and scores them beside every article Human, keyword rules,
TF-IDF with logistic regression, and frozen embeddings with logistic regression (systems.py). Every
stage writes into --work and is not repeated when its result is there; an interrupted training goes
on where it stopped. The tables go to bench/results/NAME.json and .md; the articles go nowhere else.
Thresholds are tuned on the validation split, of every system alike; the test split is scored once.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import systems
import yaml
from machine import describe_machine, on_own_cores, run_command
from scipy.special import expit, logit
from scipy.stats import binomtest

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.metrics import (
    Resamples,
    bootstrap_intervals,
    expected_calibration_error,
    resampled_f1,
    score,
)
from studytag.evaluation.split import Split, load_split, read_label_set
from studytag.evaluation.thresholds import tune_thresholds
from studytag.files import atomic_path, write_json_atomically, write_text_atomically
from studytag.inference.predictor import Predictor
from studytag.labels import LabelSet
from studytag.records import Row
from studytag.training.config import parse_config

FOLDER = Path(__file__).parent
SPLITS = ("train", "val", "test")
POINTS = (DEFAULT_OPERATING_POINT, "label_f1", "sensitive", "fixed")
EVERYTHING = "strict"
"""The rule set that keeps every article; runs judge these, and other rule sets' are among them."""

HEADLINE, REFERENCE = "studytag", "reference recipe"
"""Runs: the one that is exported and shown label by label, and what it is compared with."""

Systems = dict[str, list[list[systems.Probabilities]]]
"""Name to seeds to probabilities on validation and test."""


@dataclass(frozen=True)
class Run:
    """A training run; see quality.yaml."""

    name: str
    config: str
    learns: str
    scored_on: list[str]
    decides: str = DEFAULT_OPERATING_POINT
    seeds: list[int] = field(default_factory=lambda: [42])

    def folder(self, work: Path, seed: int) -> Path:
        """Holds model/, probabilities and perhaps a bundle."""
        return work / "runs" / f"{slug(self.name)}-{seed}"


def slug(name: str) -> str:
    """`name` as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def build_tables(options: argparse.Namespace, rules: str) -> Path:
    """The tables that these rules make, built if they are not there yet."""
    folder = options.work / "tables" / rules
    if not folder.exists():
        command = ("data", "build", str(options.source), "--rules", rules, "--output", str(folder))
        run_command("studytag", *command)
    return folder


def train(options: argparse.Namespace, runs: list[Run]) -> None:
    """Train what is not there yet, --jobs at once."""

    def task(run: Run, seed: int) -> Callable[[set[int]], None]:
        folder, tables = run.folder(options.work, seed), build_tables(options, run.learns)
        command = (
            *("accelerate", "launch", "--num_processes", "1", "--mixed_precision", "no", "train"),
            *("--config", run.config, "--seed", str(seed)),
            *("--train_file", str(tables / "train.parquet")),
            *("--validation_file", str(tables / "val.parquet")),
            *("--cache_dir", str(options.work / "cache")),
            *("--output_dir", str(folder / "model"), "--checkpointing_steps", "250"),
            *("--resume_from_checkpoint", "auto"),
        )

        def do(cores: set[int]) -> None:
            run_command(*command, cores=cores)
            (folder / "finished").touch()

        return do

    each = [(run, seed) for run in runs for seed in run.seeds]
    missing = [
        task(*one)
        for one in each
        if not (one[0].folder(options.work, one[1]) / "finished").exists()
    ]
    on_own_cores(missing, options.jobs)


def cached(
    path: Path, compute: Callable[[], list[systems.Probabilities]]
) -> list[systems.Probabilities]:
    """What `compute` gives for each split, kept in a file."""
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, *compute())
    with np.load(path) as stored:
        return list(stored.values())


def export(run: Run, folder: Path, tables: Path) -> Path:
    """The run's bundle."""
    bundle = folder / "bundle"
    if not bundle.exists():
        run_command(
            *("studytag", "export", "--model", str(folder / "model" / "best")),
            *("--validation", str(tables / "val.parquet"), "--output", str(bundle)),
        )
    return bundle


def judged_by(options: argparse.Namespace, run: Run, articles: list[list[Row]]) -> Systems:
    """What a run's models say of the validation and test articles; `studytag` also in variants."""
    found: Systems = {run.name: []}
    for seed in run.seeds:
        folder = run.folder(options.work, seed)
        best = folder / "model" / "best"
        found[run.name].append(
            cached(
                folder / "pytorch.npz",
                lambda best=best: [systems.pytorch(best, rows) for rows in articles],
            )
        )
    if run.name == HEADLINE:
        found[f"{run.name}, uncalibrated"] = [
            [uncalibrated(each, run.folder(options.work, seed) / "model" / "best") for each in own]
            for seed, own in zip(run.seeds, found[run.name], strict=True)
        ]
        folder = run.folder(options.work, run.seeds[0])
        bundle = export(run, folder, build_tables(options, run.learns))

        def predict(variant: str) -> list[systems.Probabilities]:
            with Predictor.from_pretrained(bundle, variant=variant) as predictor:
                return [predictor.predict_proba(rows) for rows in articles]

        for variant, title in (("fp32", "ONNX fp32"), ("quantized", "ONNX int8")):
            found[f"{run.name}, {title}"] = [
                cached(folder / f"{variant}.npz", lambda variant=variant: predict(variant))
            ]
    return found


def uncalibrated(probabilities: systems.Probabilities, best: Path) -> systems.Probabilities:
    """What a run's model would say without the calibration in its output layer."""
    lines = json.loads((best / "metrics.json").read_text(encoding="utf-8"))["calibration"]
    slope, offset = (np.array(list(lines[part].values())) for part in ("slope", "offset"))
    return expit((logit(probabilities.astype(np.float64)) - offset) / slope)


def baselines(
    folder: Path, labels: LabelSet, splits: dict[str, Split], vectors: list[np.ndarray]
) -> Systems:
    """The systems that need no training of an encoder, on one rule set's tables.

    Args:
        folder: Keeps what they gave.
        labels: The columns.
        splits: The rule set's tables, by name.
        vectors: The frozen encoder's embeddings of each of them.
    """
    train, *judged = splits.values()
    learned, *features = vectors
    found = {
        "All Human": lambda: systems.all_human(labels, judged),
        "Keyword rules": lambda: systems.keyword_rules(labels, judged),
        "TF-IDF + logistic regression": lambda: systems.tfidf(train, judged),
        "Frozen embeddings + logistic regression": lambda: systems.one_vs_rest(
            learned, train, features, (1.0, 10.0, 100.0, 1000.0)
        ),
    }
    return {
        name: [cached(folder / f"{slug(name)}.npz", compute)] for name, compute in found.items()
    }


def places(rows: list[Row], among: list[Row]) -> np.ndarray:
    """Where each article stands in a longer list."""
    order = {text: index for index, text in enumerate(systems.texts(among))}
    return np.array([order[text] for text in systems.texts(rows)])


def score_system(
    labels: LabelSet, val: Split, test: Split, seeds: list[list[np.ndarray]], decides: str
) -> dict[str, Any]:
    """Scores on the test split by operating point for each seed, intervals of their mean.

    The scores by year are those of the first seed.
    """
    tuned = [tune_thresholds(val.truth, val.known, on_val) for on_val, _ in seeds]
    scores = [
        {point: score(labels, test.truth, test.known, on_test, points[point]) for point in POINTS}
        for points, (_, on_test) in zip(tuned, seeds, strict=True)
    ]
    on_test, thresholds = seeds[0][1], tuned[0][decides]
    years = {}
    numbers = np.array([row.get("year") or 0 for row in test.rows])
    for year in sorted(set(numbers)):
        of_year = (numbers == year) & test.known.any(axis=1)
        if of_year.any():
            cells = test.truth[of_year], test.known[of_year], on_test[of_year]
            found = score(labels, *cells, thresholds)
            years[str(year)] = {
                "articles": int(of_year.sum()),
                "micro": found["micro"]["f1"],
                "macro": found["macro"]["f1"],
                "calibration_error": found["macro"]["calibration_error"],
            }
    resamples = [
        resampled_f1(test.truth, test.known, on_test, points[decides])
        for points, (_, on_test) in zip(tuned, seeds, strict=True)
    ]
    # Every seed's resamples are of the same articles: draw by draw the mean of the seeds.
    draws = Resamples(*(np.mean(each, axis=0) for each in zip(*resamples, strict=True)))
    return {
        "decides": decides,
        "seeds": scores,
        "intervals": bootstrap_intervals(labels, draws),
        "calibration_error_of_all_known": [error_of_all_known(test, p) for _, p in seeds],
        "years": years,
        "draws": draws._asdict(),
    }


def error_of_all_known(test: Split, probabilities: np.ndarray) -> float:
    """The calibration error, mean over labels, with the articles that are not `examined`."""
    errors = [
        expected_calibration_error(test.truth[mask, index], probabilities[mask, index])
        for index, mask in enumerate(test.known.T)
    ]
    return float(np.mean([error for error in errors if error is not None]))


def gain(better: dict[str, Any], worse: dict[str, Any]) -> dict[str, list[float]]:
    """How much higher a system's F1 is, mean over seeds, and its 95 % interval over articles."""
    found = {}
    for average in ("micro", "macro"):
        own, other = (
            np.mean([seed[each["decides"]][average]["f1"] for seed in each["seeds"]])
            for each in (better, worse)
        )
        difference = better["draws"][average] - worse["draws"][average]
        found[average] = [float(own - other), *map(float, np.percentile(difference, [2.5, 97.5]))]
    return found


def measure(options: argparse.Namespace, runs: list[Run]) -> dict[str, Any]:
    """Everything that the tables show, by rule set."""
    folders = {name: build_tables(options, name) for run in runs for name in run.scored_on}
    folders[EVERYTHING] = build_tables(options, EVERYTHING)
    tables = {}
    for name, folder in folders.items():
        labels = read_label_set(folder / "train.parquet")
        tables[name] = {each: load_split(folder / f"{each}.parquet", labels) for each in SPLITS}
    everything = [tables[EVERYTHING][each].rows for each in SPLITS]
    vectors = cached(
        options.work / "embeddings.npz",
        lambda: [systems.embeddings(rows) for rows in everything],
    )
    judged = {run.name: judged_by(options, run, everything[1:]) for run in runs}
    result = {}
    for name, splits in tables.items():
        rows = [places(splits[s].rows, all_) for s, all_ in zip(SPLITS, everything, strict=True)]
        own_vectors = [each[index] for each, index in zip(vectors, rows, strict=True)]
        found = baselines(options.work / "baselines" / name, labels, splits, own_vectors)
        decides = dict.fromkeys(found, DEFAULT_OPERATING_POINT)
        for run in (run for run in runs if name in run.scored_on):
            for system, seeds in judged[run.name].items():
                decides[system] = run.decides
                found[system] = [
                    [each[index] for each, index in zip(seed, rows[1:], strict=True)]
                    for seed in seeds
                ]
            if run.decides == "fixed":
                decides[f"{run.name}, tuned"] = DEFAULT_OPERATING_POINT
                found[f"{run.name}, tuned"] = found[run.name]
        scored = {
            system: score_system(labels, splits["val"], splits["test"], seeds, decides[system])
            for system, seeds in found.items()
        }
        result[name] = {
            "articles": {each: len(split.rows) for each, split in splits.items()},
            "gains": gains(scored),
            "systems": {
                system: {key: value for key, value in entry.items() if key != "draws"}
                for system, entry in scored.items()
            },
        }
    exact = judged[HEADLINE][HEADLINE][0][1]
    return {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "configurations": {
            run.name: asdict(parse_config(["--config", run.config])) for run in runs
        },
        "max_probability_difference": {
            system: float(np.abs(seeds[0][1] - exact).max())
            for system, seeds in judged[HEADLINE].items()
            if "ONNX" in system
        },
        "rules": result,
    }


def gains(scored: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """What each of our models gains over the reference recipe, where both were scored."""
    if REFERENCE not in scored:
        return {}
    return {
        system: gain(entry, scored[REFERENCE])
        for system, entry in scored.items()
        if system.startswith(HEADLINE)
    }


def markdown(result: dict[str, Any]) -> str:
    """For each rule set the systems, the gains, the years; then the tagger label by label."""
    lines = [
        f"Test articles, {result['date']}, {result['machine']}. 95 % intervals by bootstrap over "
        "articles, of the mean over seeds; ± is the standard deviation over seeds. Scores by year "
        "are the first seed's."
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
        lines += ["", *_years_table(found["systems"])]
    differences = result["max_probability_difference"]
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


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of PubMed records")
    parser.add_argument("--runs", type=Path, default=FOLDER / "quality.yaml")
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench/quality"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on own cores")
    parser.add_argument("--name", default="quality")
    options = parser.parse_args()
    stored = yaml.safe_load(options.runs.read_text(encoding="utf-8"))
    runs = [Run(name, **entry) for name, entry in stored.items()]
    train(options, runs)
    result = measure(options, runs)
    write_json_atomically(FOLDER / "results" / f"{options.name}.json", result)
    write_text_atomically(FOLDER / "results" / f"{options.name}.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
