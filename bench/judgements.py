"""What the systems of bench/quality.py say of articles, kept in files."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import systems
from machine import describe_machine, run_command
from scipy.special import expit, logit
from scoring import EVERYTHING, HEADLINE
from trainings import Training

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.split import Split, load_judged, load_split, read_label_set
from studytag.files import atomic_path
from studytag.inference.predictor import Predictor
from studytag.labels import LabelSet
from studytag.records import Row

RESULTS = Path(__file__).parent / "results"
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

    def training(self, work: Path, seed: int, tables: Path) -> Training:
        """The training of one seed."""
        folder = work / "runs" / f"{slug(self.name)}-{seed}"
        return Training(self.config, seed, tables, folder)


def slug(name: str) -> str:
    """`name` as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def occasion() -> str:
    """Today and this machine."""
    return f"{date.today().isoformat()}, {describe_machine()}"


def fingerprint(splits: list[Split]) -> str:
    """Of the articles' texts."""
    content = json.dumps([systems.texts(split.rows) for split in splits])
    return hashlib.sha256(content.encode()).hexdigest()


def kept(
    path: Path, articles: str, compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `compute` gives, and `measured`, when and where; kept in a file.

    Args:
        path: The file.
        articles: The fingerprint of those that the arrays speak of.
        compute: Called if there is no file yet.
    """
    if not path.exists():
        arrays = compute()
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays, articles=articles, measured=occasion())
    with np.load(path) as stored:
        if stored["articles"] != articles:
            raise SystemExit(f"{path}: of other articles; move it away to measure anew")
        return dict(stored)


@dataclass(frozen=True)
class RuleSet:
    """The tables that one rule set makes of the records, and what systems said of them.

    Attributes:
        name: Of the rule set.
        tables: The folder of its tables.
        kept: The folder of what systems said.
    """

    name: str
    tables: Path
    kept: Path

    @classmethod
    def build(cls, options: argparse.Namespace, name: str) -> RuleSet:
        """Build the tables if they are not there yet."""
        folder = options.work / "tables" / name
        if not folder.exists():
            source = ("data", "build", str(options.source))
            run_command("studytag", *source, "--rules", name, "--output", str(folder))
        return cls(name, folder, RESULTS / "probabilities" / options.name / name)

    @cached_property
    def labels(self) -> LabelSet:
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
        return fingerprint(self.judged)

    def stored(self, system: str, seed: int) -> Path:
        """Where a system's probabilities are kept."""
        return self.kept / f"{slug(system)}-{seed}.npz"

    def measured(self, system: str, seed: int) -> str:
        """When and where a system's stored probabilities were computed."""
        with np.load(self.stored(system, seed)) as stored:
            return str(stored["measured"])

    def probabilities(
        self, system: str, seed: int, compute: Callable[[], list[systems.Probabilities]]
    ) -> list[systems.Probabilities]:
        """What `compute` gives for the judged splits, kept in a file."""

        def arrays() -> dict[str, np.ndarray]:
            val, test = (each.astype(np.float32) for each in compute())
            return {"val": val, "test": test}

        stored = kept(self.stored(system, seed), self.fingerprint, arrays)
        return [stored["val"], stored["test"]]


def bundle_of(options: argparse.Namespace, run: Run, tables: Path) -> Path:
    """The bundle of the run's first seed."""
    training = run.training(options.work, run.seeds[0], tables)
    bundle = training.folder / "bundle"
    if not bundle.exists():
        run_command(
            *("studytag", "export", "--model", str(training.best)),
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
        return run.training(options.work, seed, tables).best

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
        rows += load_split(
            everything / f"{each}.parquet", read_label_set(everything / "train.parquet")
        ).rows
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, systems.embeddings(rows))
    with np.load(path) as stored:
        (vectors,) = stored.values()
    place = {text: index for index, text in enumerate(systems.texts(rows))}
    return [vectors[[place[text] for text in systems.texts(split.rows)]] for split in splits]
