"""How well does it tag articles of sources that it has never seen? Five folds of whole sources.

    python bench/crossvalidation.py --source pubmed.parquet --jobs 2

Each fold (of the records' column `source`) is judged by systems that learned from the other four,
of which a random share sets thresholds and calibration. So every article with a known label is
judged once, which gives labels that are rare in the test split of bench/quality.py enough positives
to be scored. What a system says is kept in results/probabilities/crossvalidation/, and the table,
results/crossvalidation.md, made from that. configs/crossvalidation.yaml shortens the training;
--config takes another recipe.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import systems
from judgements import BASELINES, RESULTS, SPLITS, RuleSet, fingerprint, kept, slug
from numpy.typing import NDArray
from scoring import EVERYTHING, HEADLINE
from trainings import Training, train

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.data.splitting import title_key
from studytag.evaluation.metrics import Scores, bootstrap_intervals, resampled_f1, score
from studytag.evaluation.split import Split, join, load_split, with_known_label
from studytag.evaluation.thresholds import tune_thresholds
from studytag.files import atomic_folder, read_rows, write_text_atomically
from studytag.labels import LabelSet

FOLDS = 5
VALIDATION_SHARE = 0.15
"""Of the articles that a fold's systems learn from."""

POINTS = (DEFAULT_OPERATING_POINT, "sensitive")
KEYWORDS, TFIDF = BASELINES[1:3]


@dataclass(frozen=True)
class Records:
    """The articles of which a label is known.

    Attributes:
        table: They, as the rule set's tables hold them.
        split: The same rows.
        labels: The columns.
        sources: Shape (n,), the number of each article's source.
        folds: Shape (n,), the fold that judges each article.
    """

    table: pa.Table
    split: Split
    labels: LabelSet
    sources: NDArray[np.intp]
    folds: NDArray[np.intp]

    @classmethod
    def read(cls, rules: RuleSet, source: Path) -> Records:
        """Join the rule set's tables and find out where each article is from."""
        from sklearn.model_selection import GroupKFold

        paths = [rules.tables / f"{each}.parquet" for each in SPLITS]
        labels = rules.labels
        table = pa.concat_tables([pq.read_table(path) for path in paths])
        split = join([load_split(path, labels) for path in paths])
        kept = with_known_label(split.known)
        split = split.only(kept)
        origin = {title_key(row): row.get("source") for row in read_rows(source)}
        names = [origin[title_key(row)] for row in split.rows]
        if None in names:
            raise SystemExit(f"{source}: column 'source' is missing or not filled in")
        _, sources = np.unique(np.array(names), return_inverse=True)
        folds = np.empty(len(kept), dtype=np.intp)
        for fold, (_, judged) in enumerate(GroupKFold(FOLDS).split(sources, groups=sources)):
            folds[judged] = fold
        return cls(table.take(kept), split, labels, sources, folds)

    @cached_property
    def fingerprint(self) -> str:
        """Of the articles' texts."""
        return fingerprint([self.split])

    def scored(
        self, values: NDArray[np.floating], rows: slice | NDArray[np.bool_] = slice(None)
    ) -> Scores:
        """Scores of probabilities, or of decisions as 0 and 1, by 0.5; of some rows or of all."""
        cells = (each[rows] for each in (self.split.truth, self.split.known, values))
        return score(self.labels, *cells, [0.5] * len(self.labels))

    def rows_of(self, fold: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """What a fold's systems learn from, what their thresholds are tuned on, what they judge."""
        others = np.random.default_rng(fold).permutation(np.flatnonzero(self.folds != fold))
        cut = round(VALIDATION_SHARE * len(others))
        return np.sort(others[cut:]), np.sort(others[:cut]), np.flatnonzero(self.folds == fold)

    def write(self, fold: int, folder: Path, manifest: Path) -> None:
        """The tables that a fold's training reads."""
        if folder.exists():
            return
        with atomic_folder(folder) as temporary:
            train, val, _ = self.rows_of(fold)
            for name, rows in (("train", train), ("val", val)):
                pq.write_table(self.table.take(rows), temporary / f"{name}.parquet")
            (temporary / manifest.name).write_bytes(manifest.read_bytes())


@dataclass(frozen=True)
class Judgement:
    """What a system says of every article, each judged by its fold.

    Attributes:
        probabilities: Shape (n, labels).
        thresholds: For each of `POINTS`, shape (folds, labels).
        measured: When and where.
    """

    probabilities: NDArray[np.floating]
    thresholds: dict[str, NDArray[np.floating]]
    measured: str

    def decided(self, point: str, folds: NDArray[np.intp]) -> NDArray[np.floating]:
        """1 for yes and 0 for no, shape (n, labels)."""
        return (self.probabilities >= self.thresholds[point][folds]).astype(np.float64)


def judge(
    records: Records, path: Path, say: Callable[[int, list[Split]], list[systems.Probabilities]]
) -> Judgement:
    """What a system says, kept in a file.

    Args:
        records: The articles.
        path: The file.
        say: Given a fold and its articles to learn from, to tune on and to judge, gives the
            probabilities of the latter two.
    """

    def arrays() -> dict[str, np.ndarray]:
        probabilities = np.zeros(records.split.truth.shape, dtype=np.float32)
        tuned = []
        for fold in range(FOLDS):
            *_, judged = rows = records.rows_of(fold)
            parts = [records.split.only(each) for each in rows]
            on_val, probabilities[judged] = (each.astype(np.float32) for each in say(fold, parts))
            tuned.append(tune_thresholds(parts[1].truth, parts[1].known, on_val))
        thresholds = {point: np.array([each[point] for each in tuned]) for point in POINTS}
        return {"probabilities": probabilities, **thresholds}

    stored = kept(path, records.fingerprint, arrays)
    thresholds = {point: stored[point] for point in POINTS}
    return Judgement(stored["probabilities"], thresholds, str(stored["measured"]))


def judge_all(
    options: argparse.Namespace, rules: RuleSet, records: Records
) -> dict[str, Judgement]:
    """What the systems say; the tagger is trained if that is not known yet."""
    labels = records.labels

    def stored(name: str) -> Path:
        return rules.kept / f"{slug(name)}.npz"

    tables = [options.work / "folds" / str(fold) for fold in range(FOLDS)]
    trainings = [
        Training(options.config, 42, folder, options.work / "runs" / str(fold))
        for fold, folder in enumerate(tables)
    ]
    if not stored(HEADLINE).exists():
        for fold, folder in enumerate(tables):
            records.write(fold, folder, rules.tables / "manifest.json")
        train(trainings, options.work / "cache", options.mixed_precision, options.jobs)
    ways: dict[str, Callable[[int, list[Split]], list[systems.Probabilities]]] = {
        KEYWORDS: lambda _, parts: systems.keyword_rules(labels, parts[1:]),
        TFIDF: lambda _, parts: systems.tfidf(parts[0], parts[1:]),
        HEADLINE: lambda fold, parts: [
            systems.pytorch(trainings[fold].best, each.rows) for each in parts[1:]
        ],
    }
    return {name: judge(records, stored(name), say) for name, say in ways.items()}


def markdown(records: Records, judgements: dict[str, Judgement], config: str) -> str:
    """The systems over all articles, then fold by fold, then label by label."""
    split, half = records.split, [0.5] * len(records.labels)
    decided = {
        name: each.decided(DEFAULT_OPERATING_POINT, records.folds)
        for name, each in judgements.items()
    }
    scores, ranking, intervals = {}, {}, {}
    for name, each in judgements.items():
        scores[name] = records.scored(decided[name])
        ranking[name] = records.scored(each.probabilities)
        drawn = resampled_f1(split.truth, split.known, decided[name], half, groups=records.sources)
        intervals[name] = bootstrap_intervals(records.labels, drawn)
    lines = [
        f"{len(split.rows)} articles with a known label, {records.sources.max() + 1} sources in "
        f"{FOLDS} folds; each article judged by systems that saw nothing of its source. 95 % "
        f"intervals by bootstrap over sources. {HEADLINE} is {config}.",
        "",
        "| System | micro-F1 | 95 % interval | macro-F1 | 95 % interval | macro AP "
        "| calibration error | measured |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, each in judgements.items():
        averages = [
            f"{scores[name][part]['f1']:.3f} | {_span(intervals[name][part])}"
            for part in ("micro", "macro")
        ]
        whole = ranking[name]["macro"]
        lines.append(
            f"| {name} | {' | '.join(averages)} | {whole['average_precision']:.3f} "
            f"| {whole['calibration_error']:.3f} | {each.measured} |"
        )
    lines += ["", *_folds_table(records, decided), ""]
    return "\n".join(lines + _labels_table(records, judgements, scores, ranking, intervals)) + "\n"


def _span(bounds: list[float]) -> str:
    return "–".join(f"{bound:.3f}" for bound in bounds)


def _folds_table(records: Records, decided: dict[str, NDArray[np.floating]]) -> list[str]:
    """Micro-F1 and macro-F1 of every system in every fold."""
    heads = [
        f"{len(set(records.sources[records.folds == fold]))} sources, "
        f"{(records.folds == fold).sum()} articles"
        for fold in range(FOLDS)
    ]
    lines = [f"| micro-F1 / macro-F1 | {' | '.join(heads)} |", f"|---|{'---:|' * FOLDS}"]
    for name, each in decided.items():
        found = []
        for fold in range(FOLDS):
            own = records.scored(each, records.folds == fold)
            found.append(" / ".join(f"{own[part]['f1']:.3f}" for part in ("micro", "macro")))
        lines.append(f"| {name} | {' | '.join(found)} |")
    return lines


def _labels_table(
    records: Records,
    judgements: dict[str, Judgement],
    scores: dict[str, Scores],
    ranking: dict[str, Scores],
    intervals: dict[str, dict[str, Any]],
) -> list[str]:
    """The tagger label by label, beside the F1 of the others."""
    others = [name for name in judgements if name != HEADLINE]
    decided = judgements[HEADLINE].decided("sensitive", records.folds)
    sensitive = records.scored(decided)["labels"]
    lines = [
        f"| Label | Support / known | Precision | Recall | F1 | 95 % interval "
        f"| {' | '.join(others)} | AP | calibration error | *sensitive*: recall | precision |",
        f"|---|{'---:|' * (9 + len(others))}",
    ]
    for label, own in scores[HEADLINE]["labels"].items():
        whole = ranking[HEADLINE]["labels"][label]
        beside = " | ".join(f"{scores[name]['labels'][label]['f1']:.3f}" for name in others)
        lines.append(
            f"| {label} | {own['support']} / {own['known']} | {own['precision']:.3f} "
            f"| {own['recall']:.3f} | {own['f1']:.3f} "
            f"| {_span(intervals[HEADLINE]['labels'][label])} | {beside} "
            f"| {whole['average_precision']:.3f} | {whole['calibration_error']:.3f} "
            f"| {sensitive[label]['recall']:.3f} | {sensitive[label]['precision']:.3f} |"
        )
    return lines


def main() -> None:
    """Train and judge what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of PubMed records")
    parser.add_argument("--config", default="bench/configs/crossvalidation.yaml")
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench/crossvalidation"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on own cores")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--name", default="crossvalidation", help="of the results")
    options = parser.parse_args()
    rules = RuleSet.build(options, EVERYTHING)
    records = Records.read(rules, options.source)
    table = markdown(records, judge_all(options, rules, records), options.config)
    write_text_atomically(RESULTS / f"{options.name}.md", table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
