"""How far do words alone get on sources never seen? Keyword rules and TF-IDF over whole groups.

    python bench/grouped_baselines.py all.parquet --out bench/results/probabilities/grouped

The table has, beside `labels` and `known`, the columns `fold` (0 to k-1; -1: only learned from) and
`source`, or `group` where several sources belong together. All articles of a group must be in one
fold, or be only learned from. Every article with a fold is judged by a model that learned from
other groups alone.

What is written holds no text and no identifier: truth, known, year (0: missing), source (a number),
fold and the probabilities, as arrays over the judged articles, one file a system.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from systems import KEYWORDS

from studytag.files import read_rows
from studytag.labels import LabelSet
from studytag.records import TextRecipe

LEAST_DOCUMENTS = 3
MOST_FEATURES = 200_000
STRENGTHS = (1.0, 3.0, 10.0)
"""Values of C that the first fold's inner split of whole sources chooses from, for each label."""


@dataclass(frozen=True)
class Table:
    """A labelled table with folds.

    Attributes:
        texts: Title and abstract of n articles.
        truth: Shape (n, labels).
        known: Shape (n, labels); where False, truth says nothing.
        years: Shape (n,); 0 where missing.
        sources: Shape (n,), a number for each group, or source where there are no groups.
        folds: Shape (n,); -1 for articles that are only learned from.
        labels: Names of the columns.
    """

    texts: list[str]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    years: NDArray[np.int16]
    sources: NDArray[np.int16]
    folds: NDArray[np.int8]
    labels: LabelSet

    @classmethod
    def read(cls, path: Path, labels: LabelSet) -> Table:
        """Read a table of any format; it must fit into memory.

        Raises:
            SystemExit: a source lies in two folds.
        """
        rows = list(read_rows(path))
        recipe = TextRecipe()
        known = labels.encode([row["known"] for row in rows], "known")
        names = [row.get("group") or row["source"] for row in rows]
        _, sources = np.unique(names, return_inverse=True)
        folds = np.array([row["fold"] for row in rows], np.int8)
        for source in np.unique(sources[folds >= 0]):
            if len(np.unique(folds[(sources == source) & (folds >= 0)])) > 1:
                raise SystemExit(f"{path}: a source lies in two folds")
        return cls(
            [recipe.compose_record(row) for row in rows],
            labels.encode([row["labels"] for row in rows], "labels") & known,
            known,
            np.array([row["year"] or 0 for row in rows], np.int16),
            sources.astype(np.int16),
            folds,
            labels,
        )


def keyword_rules(table: Table) -> NDArray[np.float32]:
    """Whether a label's usual words are in the text, shape (n, labels)."""
    rules = [re.compile(KEYWORDS[label], re.IGNORECASE) for label in table.labels]
    found = [[float(bool(rule.search(text))) for rule in rules] for text in table.texts]
    return np.array(found, np.float32)


def word_counts(texts: Sequence[str]) -> Any:
    """Counts of words and word pairs, a sparse matrix (articles, features)."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, 2), min_df=LEAST_DOCUMENTS, dtype=np.float32)
    return counter.fit_transform(texts).tocsr()


def weighted(counts: Any, learned: NDArray[np.intp]) -> Any:
    """TF-IDF of all rows, with features and weights from the rows `learned` alone."""
    from sklearn.feature_extraction.text import TfidfTransformer

    own = counts[learned]
    documents = np.asarray((own > 0).sum(axis=0)).ravel()
    kept = np.flatnonzero(documents >= LEAST_DOCUMENTS)
    kept = np.sort(kept[np.argsort(-documents[kept], kind="stable")[:MOST_FEATURES]])
    transformer = TfidfTransformer(sublinear_tf=True).fit(own[:, kept])
    return transformer.transform(counts[:, kept])


def fold_features(
    table: Table, counts: Any
) -> Iterator[tuple[Any, NDArray[np.intp], NDArray[np.intp]]]:
    """For each fold: TF-IDF of all rows, the rows to learn from, the rows to judge."""
    for fold in range(table.folds.max() + 1):
        learned = np.flatnonzero(table.folds != fold)
        # An article of a source that is judged must not be learned from, whatever its own fold.
        judged_sources = np.unique(table.sources[table.folds == fold])
        learned = learned[~np.isin(table.sources[learned], judged_sources)]
        yield weighted(counts, learned), learned, np.flatnonzero(table.folds == fold)


def tfidf(table: Table) -> NDArray[np.float32]:
    """Logistic regressions over TF-IDF, out of fold, shape (n, labels); NaN where fold is -1."""
    probabilities = np.full(table.truth.shape, np.nan, np.float32)
    strengths: dict[int, float] = {}
    for features, learned, judged in fold_features(table, word_counts(table.texts)):
        for column in range(len(table.labels)):
            known = learned[table.known[learned, column]]
            truth = table.truth[known, column]
            if column not in strengths:
                strengths[column] = _strength(features[known], truth, table.sources[known])
            model = _model(strengths[column]).fit(features[known], truth)
            probabilities[judged, column] = model.predict_proba(features[judged])[:, 1]
    return probabilities


def _model(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, solver="liblinear", class_weight="balanced")


def _strength(features: Any, truth: NDArray[np.bool_], sources: NDArray[np.int16]) -> float:
    """The C with the best average precision on one fifth of the sources."""
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import GroupKFold

    learned, judged = next(GroupKFold(5).split(truth, groups=sources))
    precision = {}
    for strength in STRENGTHS:
        model = _model(strength).fit(features[learned], truth[learned])
        stated = model.predict_proba(features[judged])[:, 1]
        precision[strength] = average_precision_score(truth[judged], stated)
    return max(precision, key=lambda each: precision[each])


def write(path: Path, table: Table, probabilities: NDArray[np.float32]) -> None:
    """Keep what a system says of the judged articles; no text, no identifier."""
    judged = table.folds >= 0
    # Numbers of sources in the order of first use, so that they do not tell the sources' names.
    _, first, numbers = np.unique(table.sources[judged], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int16)
    rank[np.argsort(first)] = np.arange(len(first))
    np.savez_compressed(
        path,
        labels=np.array(table.labels.names),
        truth=table.truth[judged],
        known=table.known[judged],
        year=table.years[judged],
        source=rank[numbers],
        fold=table.folds[judged],
        probabilities=probabilities[judged].astype(np.float16),
    )


def main() -> None:
    """Judge the articles with both systems, keep that, and print the average precision."""
    from sklearn.metrics import average_precision_score

    from studytag.data.labelling import load_rules

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--rules", default="strict", help="rule set that made the labels")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    options = parser.parse_args()
    table = Table.read(options.table, load_rules(options.rules).labels)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, system in (("keyword-rules", keyword_rules), ("tf-idf-logistic-regression", tfidf)):
        probabilities = system(table)
        write(options.out / f"{name}.npz", table, probabilities)
        print(name)  # noqa: T201 - a bench command reports on its terminal
        for column, label in enumerate(table.labels):
            rows = table.known[:, column] & (table.folds >= 0)
            found = average_precision_score(table.truth[rows, column], probabilities[rows, column])
            print(f"  {label:17} {found:.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
