"""How fast is it? The predictor beside what a user would pick instead, on the same documents.

    python bench/inference.py --source articles.parquet --model artifacts/model/best
    python bench/inference.py --source articles.parquet --distilbert --name inference-distilbert

Contenders take turns on the same portion of documents, in an order that changes from round to
round, so that a machine whose speed drifts is unfair to none. Figures are medians over rounds, and
their ratios. All use every core. `--distilbert` measures DistilBERT's shape (6 layers of 768) with
random weights, which cost the same time as trained ones. The table goes to bench/results/NAME.json
and .md.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from contenders import Contender, Setting, all_contenders, export_with_optimum
from machine import describe_machine

from studytag.export.pipeline import export_bundle
from studytag.files import read_rows, write_json_atomically, write_text_atomically
from studytag.inference.runtime import available_cores


def random_distilbert(trained: Path, target: Path) -> None:
    """A copy of a trained model's folder with DistilBERT's shape and random weights."""
    from transformers import AutoModelForSequenceClassification, DistilBertConfig

    shutil.copytree(trained, target)
    names = json.loads((trained / "config.json").read_text())
    config = DistilBertConfig(id2label=names["id2label"], label2id=names["label2id"])
    AutoModelForSequenceClassification.from_config(config).save_pretrained(target)


def prepare(model: Path, distilbert: bool, folder: Path) -> Setting:
    """Export the model with studytag and with optimum into `folder`."""
    if distilbert:
        random_distilbert(model, folder / "model")
        model = folder / "model"
    # Thresholds make no difference to speed: a stand-in for the validation table is enough.
    table = folder / "validation.jsonl"
    rows = [{"title": f"Article {number}", "labels": ["Human"]} for number in range(20)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = export_bundle(model, folder / "bundle", table, max_f1_drop=1.0)
    export_with_optimum(model, folder / "optimum")
    return Setting(model, folder / "bundle", folder / "optimum", manifest.max_length)


def measure(
    found: dict[str, Contender], articles: list[dict], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; round r works on the r-th portion."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for tag in found.values():
        tag(articles[:8])  # warm up
    for number in range(rounds):
        portion = articles[number::rounds]
        for name in order.sample(list(found), len(found)):
            started = time.perf_counter()
            found[name](portion)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def markdown(result: dict) -> str:
    """One line per contender, the fastest first."""
    lines = [
        f"{result['articles']} documents in {result['rounds']} interleaved rounds, "
        f"{result['encoder']}, {result['cores']} cores of {result['machine']}, {result['date']}.",
        "",
        "| Contender | documents/s (median) | int8 studytag is faster by | fp32 studytag by |",
        "|---|---:|---:|---:|",
    ]
    rates = result["documents_per_second"]
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        ratios = [rates[f"studytag, {variant}"] / rate for variant in ("int8", "fp32")]
        lines.append(f"| {name} | {rate:.1f} | ×{ratios[0]:.2f} | ×{ratios[1]:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of real articles")
    parser.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
    parser.add_argument("--distilbert", action="store_true", help="its shape, random weights")
    parser.add_argument("--articles", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", default="", help="measure those whose names this finds")
    parser.add_argument("--name", default="inference")
    options = parser.parse_args()
    articles = [
        {name: row[name] or "" for name in ("title", "abstract")}
        for row in read_rows(options.source)
    ]
    articles = random.Random(0).sample(articles, options.articles)
    with TemporaryDirectory() as folder:
        setting = prepare(options.model, options.distilbert, Path(folder))
        found = {
            name: load()
            for name, load in all_contenders(setting, options.batch_sizes).items()
            if re.search(options.only, name)
        }
        seconds = measure(found, articles, options.rounds)
        encoder = json.loads((setting.model / "config.json").read_text())
    portion = options.articles / options.rounds
    result = {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "cores": available_cores(),
        "encoder": f"DistilBERT of {encoder['n_layers']} layers x {encoder['dim']}",
        "articles": options.articles,
        "rounds": options.rounds,
        "documents_per_second": {
            name: portion / statistics.median(values) for name, values in seconds.items()
        },
        "seconds": seconds,
    }
    results = Path(__file__).parent / "results"
    write_json_atomically(results / f"{options.name}.json", result)
    write_text_atomically(results / f"{options.name}.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
