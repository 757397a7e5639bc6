"""The systems that are compared: from training articles and others to probabilities of these."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.harness.machine import run_command
from bench.quality.articles import hold_out, write_tables
from studytag.dataset import LabelledTable
from studytag.labels import LabelSet
from studytag.records import Row, TextRecipe

Probabilities = NDArray[np.floating]
System = Callable[[LabelSet, LabelledTable, Sequence[Row]], Probabilities]
"""Given the labels, the articles to train on and n others, the probabilities of the latter, shape
(n, labels)."""

KEYWORDS = {
    "SystematicReview": r"systematic(ally)? review|scoping review|systematic literature",
    "MetaAnalysis": r"meta-?analy",
    "RCT": r"randomi[sz]ed (controlled|clinical)?|randomly (assigned|allocated)",
    "ClinicalTrial": r"\btrial\b|phase (i|1|2|3)",
    "Cohort": r"cohort|prospective|retrospective|longitudinal|follow-?up",
    "CaseControl": r"case-? ?control",
    "CaseReport": r"case report|we report (a|the) case|year-old",
    "InVitro": r"in vitro|ex vivo|cell lines?|cell culture|cultured",
    "Animal": r"\b(rats?|mice|mouse|dogs?|rabbits?|pigs?|murine|animals?|canine|bovine)\b",
    "Human": r"patients?|participants?|volunteers?|wom[ae]n|m[ae]n\b|children|adults|subjects",
}
"""The usual words of each of the study designs."""


def texts(rows: Sequence[Row]) -> list[str]:
    """The text of every article as the tagger reads it, not truncated."""
    recipe = TextRecipe()
    return [recipe.compose_record(row) for row in rows]


def keyword_rules(labels: LabelSet, train: LabelledTable, rows: Sequence[Row]) -> Probabilities:
    """1 where the text holds a label's usual words, else 0; nothing is trained."""
    del train
    rules = [re.compile(KEYWORDS[label], re.IGNORECASE) for label in labels]
    found = [[bool(rule.search(text)) for rule in rules] for text in texts(rows)]
    return np.array(found, dtype=np.float32).reshape(len(rows), len(labels))


def tfidf(labels: LabelSet, train: LabelledTable, rows: Sequence[Row]) -> Probabilities:
    """Logistic regression on words and pairs of words, one per label, where it is known.

    C is chosen per label by cross-validated average precision on the training articles.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=200_000)
    learned = words.fit_transform(texts(train.rows))
    features = words.transform(texts(rows))
    probabilities = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for column in range(len(labels)):
        known = np.flatnonzero(train.known[:, column])
        model = GridSearchCV(
            LogisticRegression(max_iter=1000, class_weight="balanced"),
            {"C": (0.3, 1.0, 3.0, 10.0)},
            scoring="average_precision",
            cv=3,
        ).fit(learned[known], train.truth[known, column])
        probabilities[:, column] = model.predict_proba(features)[:, 1]
    return labels.raise_implied(probabilities)


@dataclass(frozen=True)
class Encoder:
    """An encoder, fine-tuned by `studytag train` in a process of its own.

    Attributes:
        config: The name of a configuration that ships, or a file of options.
        seed: Of the training, and of the articles held out for validation.
        work: Receives the runs; one that was interrupted goes on where it stopped.
        mixed_precision: `no` or `bf16`.
        options: Further options of training.
    """

    config: str
    seed: int
    work: Path
    mixed_precision: str = "no"
    options: tuple[str, ...] = ()

    def __call__(
        self, labels: LabelSet, train: LabelledTable, rows: Sequence[Row]
    ) -> Probabilities:
        """Train unless that is done, and predict."""
        from studytag.training.model_folder import load_model_folder, torch_probabilities

        run = self.work / self._digest(train)
        tables = run / "tables"
        best = run / "model" / "best"
        learned, validation = hold_out(train, self.seed)
        write_tables(tables, labels, train=learned, val=validation)
        if not (run / "finished").exists():
            run_command(
                *(sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"),
                *("--mixed_precision", self.mixed_precision, "train"),
                *("--config", self.config, "--seed", str(self.seed), *self.options),
                *("--train-file", str(tables / "train.parquet")),
                *("--validation-file", str(tables / "val.parquet")),
                *("--cache-dir", str(self.work / "cache"), "--output-dir", str(run / "model")),
                *("--checkpointing-steps", "250", "--resume-from-checkpoint", "auto"),
            )
            (run / "finished").touch()
        trained = load_model_folder(best)
        recipe = trained.manifest.text_recipe
        return torch_probabilities(trained, [recipe.compose_record(row) for row in rows])

    def _digest(self, train: LabelledTable) -> str:
        """Names the run after everything that it depends on."""
        path = Path(self.config)
        config = path.read_text(encoding="utf-8") if path.is_file() else self.config
        content = [config, self.seed, self.mixed_precision, self.options, texts(train.rows)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


BASELINES: dict[str, System] = {
    "Keyword rules": keyword_rules,
    "TF-IDF + logistic regression": tfidf,
}
"""Systems that need no encoder."""
