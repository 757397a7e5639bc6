"""Do bagged thresholds carry over better than the exact maximum? On validation articles alone.

    python bench/thresholds.py --source pubmed.parquet

Takes the validation probabilities that bench/quality.py keeps in results/probabilities/. Again and
again it tunes on one random half of the articles and scores on the other. The table goes to
bench/results/thresholds.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from judgements import RESULTS, RuleSet
from scoring import EVERYTHING

from studytag.evaluation.metrics import score_points
from studytag.evaluation.thresholds import RESAMPLES, tune_thresholds
from studytag.files import write_text_atomically

POINTS = ("micro_f1", "label_f1")
WAYS = {"exact": 0, "bagged": RESAMPLES}


def main() -> None:
    """Compare and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of PubMed records")
    parser.add_argument("--name", default="quality", help="of bench/quality.py's results")
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench/quality"))
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    rules = RuleSet.build(options, EVERYTHING)
    labels, split = rules.labels, rules.judged[0]
    lines = [
        f"Tuned on half of {len(split.rows)} validation articles, scored on the other half; mean "
        f"of {options.repeats} halvings, and the standard error of the gain.",
        "",
        "| System | objective | micro-F1 exact | bagged | gain | macro-F1 exact | bagged | gain |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for path in sorted(rules.kept.glob("*.npz")):
        name = path.stem
        with np.load(path) as stored:
            probabilities = stored["val"]
        random = np.random.default_rng(0)
        found: dict[tuple[str, str], list[list[float]]] = {}
        for _ in range(options.repeats):
            order = random.permutation(len(split.rows))
            tune, rest = np.array_split(order, 2)
            for way, resamples in WAYS.items():
                points = tune_thresholds(
                    split.truth[tune], split.known[tune], probabilities[tune], resamples=resamples
                )
                unseen = split.truth[rest], split.known[rest], probabilities[rest]
                scores = score_points(labels, *unseen, {point: points[point] for point in POINTS})
                for point in POINTS:
                    figures = [scores[point][average]["f1"] for average in ("micro", "macro")]
                    found.setdefault((point, way), []).append(figures)
        for point in POINTS:
            exact, bagged = (np.array(found[point, way]) for way in WAYS)
            gain = bagged - exact
            error = gain.std(axis=0, ddof=1) / np.sqrt(options.repeats)
            cells = [
                f"{exact[:, i].mean():.4f} | {bagged[:, i].mean():.4f} "
                f"| {gain[:, i].mean():+.4f} ± {error[i]:.4f}"
                for i in (0, 1)
            ]
            lines.append(f"| {name} | {point} | {cells[0]} | {cells[1]} |")
    table = "\n".join(lines) + "\n"
    write_text_atomically(RESULTS / "thresholds.md", table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
