"""`studytag data audit`: labels that may be wrong, for a person to look at.

Three suspicions, each a reason in the review table:

- `model`: out-of-fold predictions contradict the label, found by confident learning (Northcutt et
  al. 2021) with cleanlab. The model is a logistic regression over words, made in a minute on any
  machine and independent of the tagger, whose own errors it should not repeat.
- `rules`: the rule set that labelled the table and another one disagree.
- `duplicate`: articles of different splits say almost the same, so that one leaks into the other.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from studytag.data.corrections import DECISION
from studytag.data.labelling import RuleSet
from studytag.data.splitting import SPLITS
from studytag.dataset import LabelledTable, concatenate, load_table, read_label_set
from studytag.errors import missing_dependency
from studytag.files import write_text_atomically
from studytag.labels import LabelSet
from studytag.records import TextRecipe, clean

logger = logging.getLogger(__name__)

COLUMNS = (
    *("reason", "pmid", "label", "given", "suggested", "probability", DECISION),
    *("year", "split", "title", "abstract", "note"),
)
FOLDS = 5
DUPLICATE = 0.9
"""Least cosine similarity, of TF-IDF vectors of words and word pairs, of a near-duplicate."""

_CHUNK = 512


def audit(folder: Path, output: Path, other_rules: RuleSet, limit: int = 200) -> Counter[str]:
    """Write the review table of a folder that `studytag data build` made.

    A person fills in its column `decision` with yes, no or unknown;
    `studytag data build --corrections` then applies it.

    Args:
        folder: Holds train, val and test.parquet.
        output: A CSV file.
        other_rules: Compared with the labels of the table.
        limit: Most rows of each reason and label, the most suspicious ones.

    Returns:
        How many there are of each reason, before the limit.

    Raises:
        InputError: a table is missing or unusable, or `output` cannot be written.
    """
    labels = read_label_set(folder / "train.parquet")
    table = concatenate([load_table(folder / f"{name}.parquet", labels) for name in SPLITS])
    vectors = _vectors([TextRecipe().compose_record(row) for row in table.rows])
    counts: Counter[str] = Counter()
    rows = []
    for reason, suspects in (
        ("model", _against_model(table, labels, vectors)),
        ("rules", _against_rules(table, labels, other_rules)),
        ("duplicate", _across_splits(table, vectors)),
    ):
        counts[reason] = len(suspects)
        shown: Counter[str] = Counter()
        for suspect in suspects:
            shown[suspect["label"]] += 1
            if shown[suspect["label"]] <= limit:
                rows.append({"reason": reason, DECISION: ""} | suspect)
    _write(output, table, rows)
    return counts


def _vectors(texts: list[str]) -> Any:
    """TF-IDF of words and word pairs, a sparse matrix of unit rows (articles, features)."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise missing_dependency("scikit-learn", "audit") from error
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=200_000)
    return words.fit_transform(texts)


def _against_model(table: LabelledTable, labels: LabelSet, vectors: Any) -> list[dict[str, Any]]:
    """Cells that predictions made without them contradict, the least credible first."""
    try:
        from cleanlab.filter import find_label_issues
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_predict
    except ImportError as error:
        raise missing_dependency("cleanlab", "audit") from error
    found = []
    for column, name in enumerate(labels):
        places = np.flatnonzero(table.known[:, column])
        given = table.truth[places, column]
        if min(given.sum(), (~given).sum()) < FOLDS:
            logger.warning("%s: too few known articles to be audited by a model", name)
            continue
        model = LogisticRegression(C=10.0, max_iter=1000)
        stated = cross_val_predict(
            model, vectors[places], given.astype(int), cv=FOLDS, method="predict_proba"
        )
        issues = find_label_issues(
            given.astype(int), stated, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        found += [
            {
                "place": int(places[issue]),
                "label": name,
                "given": _word(given[issue]),
                "suggested": _word(not given[issue]),
                "probability": f"{stated[issue, 1]:.3f}",
                "doubt": float(stated[issue, int(not given[issue])]),
            }
            for issue in issues
        ]
    return sorted(found, key=lambda each: -each["doubt"])


def _against_rules(table: LabelledTable, labels: LabelSet, rules: RuleSet) -> list[dict[str, Any]]:
    """Cells known to both rule sets on which they disagree."""
    found = []
    for place, row in enumerate(table.rows):
        present, certain = rules.apply(row)
        for column, name in enumerate(labels):
            given, suggested = bool(table.truth[place, column]), name in present
            if table.known[place, column] and name in certain and given != suggested:
                found.append(
                    {
                        "place": place,
                        "label": name,
                        "given": _word(given),
                        "suggested": _word(suggested),
                        "note": f"rule set {rules.name}",
                    }
                )
    return found


def _across_splits(table: LabelledTable, vectors: Any) -> list[dict[str, Any]]:
    """Articles that say almost what an article of an earlier split says, the most alike first."""
    names = np.array([row["split"] for row in table.rows])
    found = []
    for earlier, later in (("train", "val"), ("train", "test"), ("val", "test")):
        before, after = np.flatnonzero(names == earlier), np.flatnonzero(names == later)
        for begin in range(0, len(after) if len(before) else 0, _CHUNK):
            part = after[begin : begin + _CHUNK]
            alike = (vectors[part] @ vectors[before].T).tocsr()
            nearest = np.asarray(alike.argmax(axis=1)).ravel()
            score = np.asarray(alike[np.arange(len(part)), nearest]).ravel()
            found += [
                {
                    "place": int(part[index]),
                    "label": "",
                    "probability": f"{score[index]:.3f}",
                    "note": _name(table.rows[before[nearest[index]]], earlier),
                    "doubt": float(score[index]),
                }
                for index in np.flatnonzero(score >= DUPLICATE)
            ]
    return sorted(found, key=lambda each: -each["doubt"])


def _name(row: dict[str, Any], split: str) -> str:
    return f"like pmid {row.get('pmid')} of {split}: {clean(row.get('title'))}"


def _word(present: bool | np.bool_) -> str:
    return "yes" if present else "no"


def _write(output: Path, table: LabelledTable, rows: list[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        article = table.rows[row["place"]]
        told = {name: article.get(name) for name in ("pmid", "year", "split")}
        texts = {name: clean(article.get(name)) for name in ("title", "abstract")}
        writer.writerow(told | texts | row)
    write_text_atomically(output, stream.getvalue())
