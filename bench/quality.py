"""What would I get? Trains, exports and scores on real records, beside the simple baselines.

    python bench/quality.py --source pubmed.parquet --config train/configs/minilm.yaml

Every stage writes into --work and is not repeated when its result is there. The tables go to
bench/results/NAME.json and .md; the articles go nowhere else. Baselines: every article Human;
keyword rules over the text; TF-IDF with one-vs-rest logistic regression. Thresholds are tuned on
the validation split, of every system alike; the test split is scored once.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
from machine import describe_machine
from scipy.stats import binomtest

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.metrics import bootstrap_intervals, score
from studytag.evaluation.split import Split, load_split, read_label_set
from studytag.evaluation.thresholds import tune_thresholds
from studytag.files import write_json_atomically, write_text_atomically
from studytag.inference.predictor import Predictor
from studytag.labels import LabelSet
from studytag.records import TextRecipe

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


def run(*command: str) -> None:
    """Run one of studytag's own commands; stop if it fails."""
    subprocess.run(command, check=True)


def prepare(options: argparse.Namespace) -> None:
    """Build, train and export what is not there yet."""
    work = options.work
    if not (work / "processed").exists():
        command = ["data", "build", str(options.source), "--rules", options.rules]
        run("studytag", *command, "--output", str(work / "processed"))
    if not (work / "model" / "finished").exists():
        run(
            *("accelerate", "launch", "--num_processes", "1", "--mixed_precision", "no", "train"),
            *("--config", str(options.config), *options.train_flags.split()),
            *("--train_file", str(work / "processed" / "train.parquet")),
            *("--validation_file", str(work / "processed" / "val.parquet")),
            *("--output_dir", str(work / "model"), "--resume_from_checkpoint", "auto"),
        )
        (work / "model" / "finished").touch()
    if not (work / "bundle").exists():
        run(
            *("studytag", "export", "--model", str(work / "model" / "best")),
            *("--validation", str(work / "processed" / "val.parquet")),
            *("--output", str(work / "bundle")),
        )


def texts(split: Split) -> list[str]:
    """The text of every article, as the tagger's, uncut."""
    recipe = TextRecipe()
    return [recipe.compose_record(row) for row in split.rows]


def all_human(labels: LabelSet, *splits: Split) -> list[np.ndarray]:
    """Human for every article, nothing else."""
    row = np.array([float(label == "Human") for label in labels])
    return [np.tile(row, (len(split.rows), 1)) for split in splits]


def keyword_rules(labels: LabelSet, *splits: Split) -> list[np.ndarray]:
    """Whether the text holds a label's usual words."""
    rules = [re.compile(KEYWORDS[label], re.IGNORECASE) for label in labels]
    return [
        np.array([[float(bool(rule.search(text))) for rule in rules] for text in texts(split)])
        for split in splits
    ]


def tfidf(labels: LabelSet, train: Split, *splits: Split) -> list[np.ndarray]:
    """One logistic regression per label over words and word pairs, on the articles it is known of.

    C is chosen per label by cross-validated average precision on the training split.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=200_000)
    learned = words.fit_transform(texts(train))
    features = [words.transform(texts(split)) for split in splits]
    results = [np.zeros((len(split.rows), len(labels))) for split in splits]
    for index in range(len(labels)):
        rows = np.flatnonzero(train.known[:, index])
        model = GridSearchCV(
            LogisticRegression(max_iter=1000, class_weight="balanced"),
            {"C": [0.3, 1.0, 3.0, 10.0]},
            scoring="average_precision",
            cv=3,
        ).fit(learned[rows], train.truth[rows, index])
        for result, matrix in zip(results, features, strict=True):
            result[:, index] = model.predict_proba(matrix)[:, 1]
    return results


def pytorch(folder: Path, *splits: Split) -> list[np.ndarray]:
    """The best model as transformers loads it, one unpadded article at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    origin = json.loads((folder / "training.json").read_text())
    recipe = TextRecipe.from_dict(origin["text_recipe"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    results = []
    for split in splits:
        rows = []
        for article in split.rows:
            text = recipe.compose_record(article)
            inputs = tokenizer(
                text, truncation=True, max_length=origin["max_length"], return_tensors="pt"
            )
            with torch.inference_mode():
                rows.append(torch.sigmoid(model(**inputs).logits[0]).numpy())
        results.append(np.array(rows))
    return results


def probabilities(options: argparse.Namespace, labels: LabelSet) -> dict[str, list[np.ndarray]]:
    """System to its probabilities on validation and test, kept in --work."""
    work = options.work
    train, val, test = (
        load_split(work / "processed" / f"{name}.parquet", labels)
        for name in ("train", "val", "test")
    )

    def bundle(variant: str) -> list[np.ndarray]:
        with Predictor.from_pretrained(work / "bundle", variant=variant) as predictor:
            return [predictor.predict_proba(split.rows) for split in (val, test)]

    systems = {
        "All Human": lambda: all_human(labels, val, test),
        "Keyword rules": lambda: keyword_rules(labels, val, test),
        "TF-IDF + logistic regression": lambda: tfidf(labels, train, val, test),
        "studytag, PyTorch fp32": lambda: pytorch(work / "model" / "best", val, test),
        "studytag, ONNX fp32": lambda: bundle("fp32"),
        "studytag, ONNX int8": lambda: bundle("quantized"),
    }
    results = {}
    for name, compute in systems.items():
        cache = work / "probabilities" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.npz"
        if not cache.exists():
            cache.parent.mkdir(exist_ok=True)
            computed = compute()
            np.savez(cache, val=computed[0], test=computed[1])
        with np.load(cache) as stored:
            results[name] = [stored["val"], stored["test"]]
    return results


def scores(options: argparse.Namespace) -> dict:
    """Everything that the table shows."""
    work = options.work
    labels = read_label_set(work / "processed" / "train.parquet")
    val = load_split(work / "processed" / "val.parquet", labels)
    test = load_split(work / "processed" / "test.parquet", labels)
    computed = probabilities(options, labels)
    systems = {}
    for name, (on_val, on_test) in computed.items():
        points = tune_thresholds(val.truth, val.known, on_val)
        arguments = (labels, test.truth, test.known, on_test)
        systems[name] = {
            point: score(*arguments, points[point])
            for point in (DEFAULT_OPERATING_POINT, "label_f1", "sensitive", "fixed")
        } | {"intervals": bootstrap_intervals(*arguments, points[DEFAULT_OPERATING_POINT])}
    exact = computed["studytag, PyTorch fp32"][1]
    difference = {
        name: float(np.abs(on_test - exact).max())
        for name, (_, on_test) in computed.items()
        if "ONNX" in name
    }
    return {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "config": str(options.config),
        "train_flags": options.train_flags,
        "rules": options.rules,
        "articles": len(test.rows),
        "max_probability_difference": difference,
        "systems": systems,
    }


def markdown(result: dict) -> str:
    """The systems, then the tagger label by label."""
    lines = [
        f"Test split, `{result['rules']}` labels, {result['articles']} articles, "
        f"{result['date']}. 95 % intervals by bootstrap over articles.",
        "",
        "| System | micro-F1 tuned | 95 % interval | at 0.5 | macro-F1 tuned | 95 % interval "
        "| per-label tuned | at 0.5 | calibration error |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in result["systems"].items():
        tuned, label, fixed = entry[DEFAULT_OPERATING_POINT], entry["label_f1"], entry["fixed"]
        micro, macro = (entry["intervals"][average] for average in ("micro", "macro"))
        lines.append(
            f"| {name} | {tuned['micro']['f1']:.3f} | {micro[0]:.3f}–{micro[1]:.3f} "
            f"| {fixed['micro']['f1']:.3f} | {tuned['macro']['f1']:.3f} "
            f"| {macro[0]:.3f}–{macro[1]:.3f} | {label['macro']['f1']:.3f} "
            f"| {fixed['macro']['f1']:.3f} | {fixed['macro']['calibration_error']:.3f} |"
        )
    differences = result["max_probability_difference"]
    lines += ["", "Largest |Δp| from PyTorch on the test split: "]
    lines[-1] += ", ".join(f"{name} {value:.1e}" for name, value in differences.items()) + "."
    best = result["systems"]["studytag, ONNX int8"]
    tuned, fixed = best[DEFAULT_OPERATING_POINT], best["fixed"]
    lines += [
        "",
        "studytag, ONNX int8, by label:",
        "",
        "| Label | Support / known | Precision | Recall | F1 | 95 % interval | at 0.5 | AP "
        "| ECE | *sensitive*: recall | 95 % interval | precision |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in tuned["labels"].items():
        low, high = best["intervals"]["labels"][name]
        lines.append(
            f"| {name} | {entry['support']} / {entry['known']} | {entry['precision']:.3f} "
            f"| {entry['recall']:.3f} | {entry['f1']:.3f} | {low:.3f}–{high:.3f} "
            f"| {fixed['labels'][name]['f1']:.3f} | {entry['average_precision'] or 0:.3f} "
            f"| {entry['calibration_error']:.3f} | {_recall(best['sensitive']['labels'][name])} |"
        )
    return "\n".join(lines) + "\n"


def _recall(entry: dict) -> str:
    """Recall with Wilson's interval, and precision."""
    reached = binomtest(round(entry["recall"] * entry["support"]), entry["support"])
    low, high = reached.proportion_ci(method="wilson")
    return f"{entry['recall']:.3f} | {low:.3f}–{high:.3f} | {entry['precision']:.3f}"


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of PubMed records")
    parser.add_argument("--config", type=Path, default=Path("train/configs/minilm.yaml"))
    parser.add_argument("--train-flags", default="", help="more flags of accelerate launch train")
    parser.add_argument("--rules", default="strict")
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench/quality"))
    parser.add_argument("--name", default="quality")
    options = parser.parse_args()
    prepare(options)
    result = scores(options)
    results = Path(__file__).parent / "results"
    write_json_atomically(results / f"{options.name}.json", result)
    write_text_atomically(results / f"{options.name}.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
