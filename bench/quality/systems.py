"""The systems that are compared: from training articles and others to probabilities of these."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from numpy.typing import NDArray

from bench.harness.machine import run_command
from bench.harness.store import write_rows
from studytag.dataset import TABLE_MANIFEST, LabelledTable
from studytag.files import atomic_folder
from studytag.hashing import sha256
from studytag.inference.predictor import Predictor, VariantName
from studytag.labels import LabelSet
from studytag.manifest import MANIFEST, load_manifest
from studytag.records import Row, TextRecipe

Probabilities = NDArray[np.floating]
System = Callable[[LabelSet, LabelledTable, Sequence[Row]], Probabilities]
"""From labels, articles to train on and n others to the latter's probabilities, (n, labels)."""

HELD_OUT = 0.15
"""Share of the training articles on which an encoder's epoch and calibration are chosen."""

KEYWORDS = Path(__file__).parents[1] / "configs" / "keywords.yaml"


def texts(rows: Sequence[Row]) -> list[str]:
    """The text of every article as the tagger reads it, not truncated."""
    return TextRecipe().compose_records(rows)


def sources(table: LabelledTable) -> NDArray[np.intp]:
    """The number of each article's group of sources, or of its source where it has no group."""
    return np.asarray(np.unique(table.sources(), return_inverse=True)[1])


def keyword_rules(labels: LabelSet, train: LabelledTable, rows: Sequence[Row]) -> Probabilities:
    """1 where the text holds a label's usual words, else 0; nothing is trained."""
    del train
    words = yaml.safe_load(KEYWORDS.read_text(encoding="utf-8"))
    rules = [re.compile(words[label], re.IGNORECASE) for label in labels]
    hits = [[rule.search(text) is not None for rule in rules] for text in texts(rows)]
    return np.array(hits, dtype=np.float32).reshape(len(rows), len(labels))


def tfidf(labels: LabelSet, train: LabelledTable, rows: Sequence[Row]) -> Probabilities:
    """Logistic regression on words and pairs of words, one per label, where it is known.

    C is chosen per label by the average precision on training sources held out from the fit.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=200_000)
    learned = words.fit_transform(texts(train.rows)).tocsr()
    features = words.transform(texts(rows))
    groups = sources(train)
    grouped = len(np.unique(groups)) >= 3
    regression = LogisticRegression(solver="liblinear", class_weight="balanced")
    search = GridSearchCV(
        regression,
        {"C": (1.0, 3.0, 10.0)},
        scoring="average_precision",
        cv=GroupKFold(3) if grouped else 3,
    )
    probabilities = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for column in range(len(labels)):
        known = np.flatnonzero(train.known[:, column])
        truth = train.truth[known, column]
        if truth.any() and not truth.all():
            search.fit(learned[known], truth, groups=groups[known] if grouped else None)
            probabilities[:, column] = search.predict_proba(features)[:, 1]
    return labels.raise_implied(probabilities)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was exported before, and the variant of it that answers.

    Written `FOLDER` or `FOLDER@VARIANT`.
    """

    folder: str
    variant: VariantName = "int8"

    @classmethod
    def parse(cls, text: str) -> Bundle:
        """Read it from the command line."""
        folder, _, variant = text.partition("@")
        return cls(folder, cast(VariantName, variant or "int8"))

    @property
    def seed(self) -> int:
        """That it was trained with."""
        manifest = load_manifest(self.folder, variants=())
        return int(manifest.training.get("options", {}).get("seed", 0))

    @property
    def recipe(self) -> str:
        """How its predictions come about: another bundle in the same place is another recipe."""
        return f"bundle {sha256(Path(self.folder) / MANIFEST)[:12]}, {self.variant}"

    def open(self) -> Predictor:
        """The predictor."""
        return Predictor.from_pretrained(self.folder, variant=self.variant)

    def __call__(
        self, labels: LabelSet, train: LabelledTable, rows: Sequence[Row]
    ) -> Probabilities:
        """Predict; nothing is trained."""
        del labels, train
        with self.open() as predictor:
            return predictor.predict_proba(rows)


BASELINES: dict[str, System] = {
    "Keyword rules": keyword_rules,
    "TF-IDF + logistic regression": tfidf,
}
"""Systems that need no encoder."""


@dataclass(frozen=True)
class Encoder:
    """An encoder, fine-tuned by `studytag train`, or another `command`, in a process of its own.

    `config` names a configuration that ships, or a file of options; `options` are further ones. The
    `seed` is also that of the articles held out for validation. `work` receives the runs; one that
    was interrupted goes on where it stopped.
    """

    config: str
    seed: int
    work: Path
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ("-m", "studytag", "train")

    def __call__(
        self, labels: LabelSet, train: LabelledTable, rows: Sequence[Row]
    ) -> Probabilities:
        """Train unless that is done, and predict."""
        from studytag.training.model_folder import load_model_folder, torch_probabilities

        run = (self.work / self._digest(train)).resolve()
        self._write_tables(run / "tables", labels, train)
        if not (run / "finished").exists():
            run_command(
                *(sys.executable, *self.command),
                *("--config", self.config, "--seed", str(self.seed), *self.options),
                *("--train-file", str(run / "tables" / "train.parquet")),
                *("--validation-file", str(run / "tables" / "val.parquet")),
                *("--cache-dir", str(run / "cache"), "--output-dir", str(run / "model")),
                *("--checkpointing-steps", "250", "--resume-from-checkpoint", "auto"),
            )
            (run / "finished").touch()
        trained = load_model_folder(run / "model" / "best")
        recipe = trained.manifest.text_recipe
        return torch_probabilities(trained, recipe.compose_records(rows))

    def _write_tables(self, folder: Path, labels: LabelSet, train: LabelledTable) -> None:
        if folder.exists():
            return
        order = np.random.default_rng(self.seed).permutation(len(train))
        cut = round(HELD_OUT * len(train))
        with atomic_folder(folder) as temporary:
            for name, numbers in (("train", order[cut:]), ("val", order[:cut])):
                rows = train.select(np.sort(numbers)).rows
                write_rows(temporary / f"{name}.parquet", rows)
            implications = {name: list(to) for name, to in labels.implications.items()}
            manifest = {"labels": list(labels), "implications": implications}
            (temporary / TABLE_MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    def _digest(self, train: LabelledTable) -> str:
        """Names the run after everything that it depends on."""
        path = Path(self.config)
        config = path.read_text(encoding="utf-8") if path.is_file() else self.config
        cells = [train.truth.tolist(), train.known.tolist()]
        content = [config, self.seed, self.options, self.command, texts(train.rows), cells]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
