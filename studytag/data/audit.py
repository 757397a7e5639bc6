"""`studytag data audit`: labels that may be wrong, for a person to look at.

Three suspicions, each a reason in the review table:

- `model`: out-of-fold predictions contradict the label, found by confident learning (Northcutt et
  al. 2021) with cleanlab. The model is a logistic regression over words, made in a minute on any
  machine and independent of the tagger, whose own errors it should not repeat. Where the table says
  which source an article is from, the folds are whole sources: inside a source the topic gives the
  label away, and so repeats a wrong label that the source's articles share.
- `rules`: the rule set that labelled the table and another one disagree.
- `duplicate`: articles of different splits say almost the same, so that one leaks into the other.

What to do with the review table: read the first hundred rows of a label and write in the column
`kind`, in words of your own, what each one is: a wrong label, a rule that reads the indexing
wrongly, or a mistake of the model. Kinds that return are worth a line in the rule set
(`doubted_by`, `implies`, patterns), which also repairs the articles that nobody has read; single
articles get a `decision` (yes, no, unknown). Columns `kind` and `note` are the reader's: nothing
but a person writes or reads them.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.data.corrections import DECISION
from studytag.data.labelling import RuleSet
from studytag.data.splitting import SPLITS
from studytag.dataset import LabelledTable, concatenate, load_table, read_label_set
from studytag.errors import InputError, import_extra
from studytag.files import read_rows, write_text_atomically
from studytag.labels import LabelSet
from studytag.outputs import refuse_overwriting
from studytag.records import TextRecipe, clean

logger = logging.getLogger(__name__)

COLUMNS = (
    *("reason", "pmid", "label", "given", "suggested", "probability", DECISION, "kind", "note"),
    *("detail", "year", "split", "source", "pub_types", "mesh_terms", "title", "abstract"),
)
FOLDS = 5
DUPLICATE = 0.9
"""Least cosine similarity, of TF-IDF vectors of words and word pairs, of a near-duplicate."""

GROUP = "source"
"""The column whose values are kept together in a fold, unless another one is asked for."""

_CHUNK = 512


def audit(
    folder: Path,
    output: Path,
    other_rules: RuleSet,
    limit: int = 200,
    group: str | None = None,
) -> Counter[str]:
    """Write the review table of a folder that `studytag data build` made.

    A person fills in its column `decision` with yes, no or unknown;
    `studytag data build --corrections` then applies it. `kind` and `note` are free.

    Args:
        folder: Holds train, val and test.parquet.
        output: A CSV file.
        other_rules: Compared with the labels of the table.
        limit: Most rows of each reason and label, the most suspicious ones.
        group: The column whose articles are predicted together, by a model that saw none of them;
            None takes `source` where the table has it, and else single articles.

    Returns:
        How many there are of each reason, before the limit.

    Raises:
        InputError: a table is missing or unusable, no row has the column `group`, or `output`
            cannot be written, is one of the tables, or holds decisions.
    """
    files = [folder / f"{name}.parquet" for name in SPLITS]
    refuse_overwriting([output], files)
    _refuse_decisions(output)
    labels = read_label_set(folder / "train.parquet")
    table = concatenate([load_table(file, labels) for file in files])
    vectors = _vectors(TextRecipe().compose_records(table.rows))
    counts: Counter[str] = Counter()
    rows = []
    for reason, suspects in (
        ("model", _against_model(table, labels, vectors, _groups(folder, table, group))),
        ("rules", _against_rules(table, labels, other_rules)),
        ("duplicate", _across_splits(table, vectors)),
    ):
        counts[reason] = len(suspects)
        shown: Counter[str] = Counter()
        for suspect in suspects:
            shown[suspect["label"]] += 1
            if shown[suspect["label"]] <= limit:
                rows.append({"reason": reason} | suspect)
    _write(output, table, rows)
    return counts


def _refuse_decisions(output: Path) -> None:
    """Refuse to replace a review table in which a person has decided something."""
    rows = read_rows(output) if output.is_file() else iter(())
    if decided := sum(bool(str(row.get(DECISION) or "").strip()) for row in rows):
        raise InputError(
            f"{output} holds decisions ({decided}), which would be lost; give another --output"
        )


def _vectors(texts: list[str]) -> Any:
    """TF-IDF of words and word pairs, a sparse matrix of unit rows (articles, features)."""
    text = import_extra("sklearn.feature_extraction.text", "audit")
    words = text.TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=200_000
    )
    return words.fit_transform(texts)


def _groups(folder: Path, table: LabelledTable, column: str | None) -> NDArray[np.intp]:
    """A number for each article, shape (n,), the same for articles that stay together."""
    names = [row.get(column or GROUP) for row in table.rows]
    if column and not any(names):
        raise InputError(f"{folder}: no article has anything in the column {column!r} (--group)")
    # An article of unknown source is its own group.
    keys = [f"one {i}" if name in (None, "") else f"all {name}" for i, name in enumerate(names)]
    return np.unique(keys, return_inverse=True)[1].astype(np.intp)


def _against_model(
    table: LabelledTable, labels: LabelSet, vectors: Any, groups: NDArray[np.intp]
) -> list[dict[str, Any]]:
    """Cells that predictions made without them contradict, the least credible first."""
    cleanlab = import_extra("cleanlab.filter", "audit")
    found = []
    for column, name in enumerate(labels):
        places = np.flatnonzero(table.known[:, column])
        given = table.truth[places, column]
        stated = _out_of_fold(vectors[places], given, groups[places])
        if stated is None:
            few = min(given.sum(), (~given).sum()) < FOLDS
            why = (
                f"fewer than {FOLDS} articles are known to have it, or to lack it"
                if few
                else f"fewer than {FOLDS} sources have articles known to have it, or to lack it; "
                "--group pmid audits article by article"
            )
            logger.warning("%s: not audited by a model: %s", name, why)
            continue
        issues = cleanlab.find_label_issues(
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


def _out_of_fold(
    vectors: Any, given: NDArray[np.bool_], groups: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Probabilities of absence and presence, shape (n, 2); None where there is too little."""
    linear = import_extra("sklearn.linear_model", "audit")
    selection = import_extra("sklearn.model_selection", "audit")
    # Every model must have seen the label and its absence, so both have to be in enough groups.
    folds = min(FOLDS, *(len(np.unique(groups[given == answer])) for answer in (True, False)))
    if folds < FOLDS:
        return None
    stated: NDArray[np.float64] = selection.cross_val_predict(
        linear.LogisticRegression(C=10.0, max_iter=1000),
        vectors,
        given.astype(int),
        groups=groups,
        cv=selection.StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )
    return stated


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
                        "detail": f"rule set {rules.name}",
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
                    "detail": _name(table.rows[before[nearest[index]]], earlier),
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
        facts = {name: article.get(name) for name in ("pmid", "year", "split", "source")}
        terms = {name: "; ".join(article.get(name) or ()) for name in ("pub_types", "mesh_terms")}
        texts = {name: clean(article.get(name)) for name in ("title", "abstract")}
        writer.writerow(facts | terms | texts | row)
    write_text_atomically(output, stream.getvalue())
