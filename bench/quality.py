"""What would I get? Trains, exports and scores on real records, beside simpler systems.

    python bench/quality.py --source pubmed.parquet --jobs 2

Trains the runs of bench/quality.yaml, and scores them beside every article Human, keyword rules,
TF-IDF with logistic regression, and frozen embeddings with logistic regression (systems.py). What
each system says of the judged validation and test articles is kept in results/probabilities/, so
that the same command makes the tables again, results/NAME.json and .md, without training anything;
no text goes there. A system of which only figures are kept, in NAME.json, keeps them unless --again
names it. Trainings lie in --work; an interrupted one goes on where it stopped.
Thresholds are tuned on the validation split, of every system alike; the test split is scored once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import systems
import yaml
from machine import describe_machine, on_own_cores, run_command
from scipy.special import expit, logit
from scoring import EVERYTHING, HEADLINE, gains, score_system
from tables import markdown

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.split import Split, load_judged, load_split, read_label_set
from studytag.files import atomic_path, write_json_atomically, write_text_atomically
from studytag.inference.predictor import Predictor
from studytag.records import Row
from studytag.training.config import parse_config

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
SPLITS = ("train", "val", "test")
BASELINES = (
    "All Human",
    "Keyword rules",
    "TF-IDF + logistic regression",
    "Frozen embeddings + logistic regression",
)
VARIANTS = {"fp32": "ONNX fp32", "quantized": "ONNX int8"}

Judgements = dict[str, list[list[systems.Probabilities]]]
"""System to seeds to probabilities of the judged validation and test articles."""


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
        """Holds model/ and perhaps a bundle."""
        return work / "runs" / f"{slug(self.name)}-{seed}"


def slug(name: str) -> str:
    """`name` as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def occasion() -> str:
    """Today and this machine."""
    return f"{date.today().isoformat()}, {describe_machine()}"


@dataclass(frozen=True)
class RuleSet:
    """The tables that one rule set makes of the records, and what systems said of them.

    Attributes:
        name: Of the rule set.
        tables: The folder of its tables.
    """

    name: str
    tables: Path

    @classmethod
    def build(cls, options: argparse.Namespace, name: str) -> RuleSet:
        """Build the tables if they are not there yet."""
        folder = options.work / "tables" / name
        if not folder.exists():
            source = ("data", "build", str(options.source))
            run_command("studytag", *source, "--rules", name, "--output", str(folder))
        return cls(name, folder)

    @cached_property
    def labels(self) -> Any:
        """The columns."""
        return read_label_set(self.tables / "train.parquet")

    @cached_property
    def train(self) -> Split:
        """What systems learn."""
        return load_split(self.tables / "train.parquet", self.labels)

    @cached_property
    def judged(self) -> list[Split]:
        """The validation and the test articles of which a label is known."""
        return [load_judged(self.tables / f"{each}.parquet", self.labels) for each in SPLITS[1:]]

    @cached_property
    def fingerprint(self) -> str:
        """Of the judged articles' texts."""
        content = json.dumps([systems.texts(split.rows) for split in self.judged])
        return hashlib.sha256(content.encode()).hexdigest()

    def stored(self, system: str, seed: int) -> Path:
        """Where a system's probabilities are kept."""
        return RESULTS / "probabilities" / self.name / f"{slug(system)}-{seed}.npz"

    def measured(self, system: str, seed: int) -> str:
        """When and where a system's stored probabilities were computed."""
        with np.load(self.stored(system, seed)) as stored:
            return str(stored["measured"])

    def probabilities(
        self, system: str, seed: int, compute: Callable[[], list[systems.Probabilities]]
    ) -> list[systems.Probabilities]:
        """What `compute` gives for the judged splits, kept in a file."""
        path = self.stored(system, seed)
        if not path.exists():
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                val, test = (each.astype(np.float32) for each in compute())
                np.savez_compressed(
                    stream, val=val, test=test, articles=self.fingerprint, measured=occasion()
                )
        with np.load(path) as stored:
            if stored["articles"] != self.fingerprint:
                raise SystemExit(f"{path}: of other articles; move it away to measure anew")
            return [stored["val"], stored["test"]]


def train(options: argparse.Namespace, wanted: list[tuple[Run, RuleSet]]) -> None:
    """Train each run on its tables, every seed that is not trained yet, --jobs at once."""

    def task(run: Run, tables: Path, seed: int) -> Callable[[set[int]], None]:
        folder = run.folder(options.work, seed)
        command = (
            *("accelerate", "launch", "--num_processes", "1"),
            *("--mixed_precision", options.mixed_precision, "train"),
            *("--config", run.config, "--seed", str(seed)),
            *("--train_file", str(tables / "train.parquet")),
            *("--validation_file", str(tables / "val.parquet")),
            *("--cache_dir", str(options.work / "cache")),
            *("--attn_implementation", "eager" if options.mixed_precision == "bf16" else "sdpa"),
            *("--output_dir", str(folder / "model"), "--checkpointing_steps", "250"),
            *("--resume_from_checkpoint", "auto"),
        )

        def do(cores: set[int]) -> None:
            run_command(*command, cores=cores)
            (folder / "finished").touch()

        return do

    missing = [
        task(run, learned.tables, seed)
        for run, learned in wanted
        for seed in run.seeds
        if not (run.folder(options.work, seed) / "finished").exists()
    ]
    on_own_cores(missing, options.jobs)


def bundle_of(options: argparse.Namespace, run: Run, tables: Path) -> Path:
    """The bundle of the run's first seed."""
    folder = run.folder(options.work, run.seeds[0])
    bundle = folder / "bundle"
    if not bundle.exists():
        run_command(
            *("studytag", "export", "--model", str(folder / "model" / "best")),
            *("--validation", str(tables / "val.parquet"), "--output", str(bundle)),
        )
    return bundle


def judged_by(options: argparse.Namespace, run: Run, rules: RuleSet, tables: Path) -> Judgements:
    """What a run's models say of a rule set's articles; `studytag` also in variants.

    Args:
        options: Of the command line.
        run: The run.
        rules: The articles.
        tables: What the run learned.
    """
    articles = [split.rows for split in rules.judged]

    def best(seed: int) -> Path:
        return run.folder(options.work, seed) / "model" / "best"

    def predict(variant: str) -> list[systems.Probabilities]:
        with Predictor.from_pretrained(bundle_of(options, run, tables), variant) as predictor:
            return [predictor.predict_proba(rows) for rows in articles]

    found: Judgements = {run.name: []}
    for seed in run.seeds:
        own = rules.probabilities(
            run.name, seed, lambda s=seed: [systems.pytorch(best(s), rows) for rows in articles]
        )
        found[run.name].append(own)
        if run.name == HEADLINE:
            plain = rules.probabilities(
                f"{run.name}, uncalibrated",
                seed,
                lambda s=seed, own=own: [uncalibrated(each, best(s)) for each in own],
            )
            found.setdefault(f"{run.name}, uncalibrated", []).append(plain)
    for variant, title in VARIANTS.items() if run.name == HEADLINE else ():
        system = f"{run.name}, {title}"
        found[system] = [
            rules.probabilities(system, run.seeds[0], lambda variant=variant: predict(variant))
        ]
    return found


def uncalibrated(probabilities: systems.Probabilities, best: Path) -> systems.Probabilities:
    """What a run's model would say without the calibration in its output layer."""
    lines = json.loads((best / "metrics.json").read_text(encoding="utf-8"))["calibration"]
    slope, offset = (np.array(list(lines[part].values())) for part in ("slope", "offset"))
    return expit((logit(probabilities.astype(np.float64)) - offset) / slope)


def baselines(options: argparse.Namespace, rules: RuleSet, kept: dict[str, Any]) -> Judgements:
    """The systems that need no training of an encoder, on one rule set's tables, but for `kept`."""
    labels, judged = rules.labels, rules.judged

    def frozen() -> list[systems.Probabilities]:
        learned, *features = embeddings(options, [rules.train, *judged])
        return systems.one_vs_rest(learned, rules.train, features, (1.0, 10.0, 100.0, 1000.0))

    ways = (
        lambda: systems.all_human(labels, judged),
        lambda: systems.keyword_rules(labels, judged),
        lambda: systems.tfidf(rules.train, judged),
        frozen,
    )
    return {
        name: [rules.probabilities(name, 0, way)]
        for name, way in zip(BASELINES, ways, strict=True)
        if rules.stored(name, 0).exists() or name not in kept
    }


def embeddings(options: argparse.Namespace, splits: list[Split]) -> list[np.ndarray]:
    """The frozen encoder's vectors of some articles, each computed once for all rule sets."""
    path = options.work / "embeddings.npz"
    everything = RuleSet.build(options, EVERYTHING).tables
    rows: list[Row] = []
    for each in SPLITS:
        rows += load_split(everything / f"{each}.parquet", read_label_set(everything)).rows
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, systems.embeddings(rows))
    with np.load(path) as stored:
        (vectors,) = stored.values()
    place = {text: index for index, text in enumerate(systems.texts(rows))}
    return [vectors[[place[text] for text in systems.texts(split.rows)]] for split in splits]


def names_of(run: Run) -> list[str]:
    """Every system that a run may be shown as."""
    kinds = ("", ", tuned", ", uncalibrated", *(f", {title}" for title in VARIANTS.values()))
    return [f"{run.name}{kind}" for kind in kinds]


def systems_of(
    options: argparse.Namespace, runs: list[Run], rules: RuleSet, tables: dict[str, RuleSet]
) -> dict[str, tuple[str, str, list[list[systems.Probabilities]]]]:
    """What each run's systems say of a rule set's articles, what they decide by, when measured."""
    found = {}
    for run in runs:
        for system, seeds in judged_by(options, run, rules, tables[run.learns].tables).items():
            found[system] = (run.decides, rules.measured(system, run.seeds[0]), seeds)
        if run.decides == "fixed":
            _, measured, seeds = found[run.name]
            found[f"{run.name}, tuned"] = (DEFAULT_OPERATING_POINT, measured, seeds)
    return found


def measure(options: argparse.Namespace, runs: list[Run], before: dict[str, Any]) -> dict[str, Any]:
    """Everything that the tables show, by rule set.

    Args:
        options: Of the command line.
        runs: Those that the tables show.
        before: The result that is there, or an empty one.
    """
    anew = {name for run in runs if run.name in options.again for name in names_of(run)}
    anew |= set(options.again)
    tables = {
        name: RuleSet.build(options, name) for run in runs for name in (run.learns, *run.scored_on)
    }
    result: dict[str, Any] = {}
    for name in dict.fromkeys(name for run in runs for name in run.scored_on):
        rules = tables[name]
        earlier = before.get("rules", {}).get(name, {})
        kept = {s: entry for s, entry in earlier.get("systems", {}).items() if s not in anew}
        own = [run for run in runs if name in run.scored_on]
        judged = [
            run for run in own if all(rules.stored(run.name, seed).exists() for seed in run.seeds)
        ]
        untold = [run for run in own if run not in judged and run.name not in kept]
        train(options, [(run, tables[run.learns]) for run in untold])
        found = {
            system: (DEFAULT_OPERATING_POINT, rules.measured(system, 0), seeds)
            for system, seeds in baselines(options, rules, kept).items()
        } | systems_of(options, [*judged, *untold], rules, tables)
        scored = kept | {
            system: {"measured": measured, **score_system(rules.labels, *rules.judged, seeds, by)}
            for system, (by, measured, seeds) in found.items()
        }
        val, test = rules.judged
        result[name] = {
            "articles": {
                "train": len(rules.train.rows),
                "judged val": len(val.rows),
                "judged test": len(test.rows),
            },
            "gains": gains(scored),
            "max_probability_difference": earlier.get("max_probability_difference", {})
            | {
                system: float(np.abs(seeds[0][1] - found[HEADLINE][2][0][1]).max())
                for system, (_, _, seeds) in found.items()
                if system.startswith(f"{HEADLINE}, ONNX")
            },
            "systems": {
                system: {key: value for key, value in scored[system].items() if key != "draws"}
                for system in (*BASELINES, *(name for run in runs for name in names_of(run)))
                if system in scored
            },
        }
    return {
        "configurations": {
            run.name: asdict(parse_config(["--config", run.config])) for run in runs
        },
        "rules": result,
    }


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of PubMed records")
    parser.add_argument("--runs", type=Path, default=FOLDER / "quality.yaml")
    parser.add_argument("--again", nargs="*", default=[], help="systems to measure anew")
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench/quality"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on own cores")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--name", default="quality")
    options = parser.parse_args()
    stored = yaml.safe_load(options.runs.read_text(encoding="utf-8"))
    runs = [Run(name, **entry) for name, entry in stored.items()]
    there = RESULTS / f"{options.name}.json"
    before = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    result = measure(options, runs, before)
    write_json_atomically(there, result)
    write_text_atomically(RESULTS / f"{options.name}.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
