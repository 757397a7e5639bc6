"""How fast is it? The predictor beside what a user would pick instead, on the same documents.

    python bench/inference.py --source articles.parquet --model artifacts/model/best
    python bench/inference.py --source articles.parquet --distilbert --name inference-distilbert

Contenders take turns on the same portion of documents, in an order that changes from round to
round, so that a machine whose speed drifts is unfair to none. Figures are medians over rounds, and
their ratios. All use every core. `--distilbert` measures DistilBERT's shape (6 layers of 768) with
random weights, which cost the same time as trained ones. The share of the peak is that of the
operations that a plain full forward pass over the real tokens takes, against one large matrix
product measured in the same rounds: int8's peak for int8, float32's for the others. The table goes
to bench/results/NAME.json and .md.
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

from contenders import Contender, Setting, all_contenders, encoder_of_texts, export_with_optimum
from machine import describe_machine, gemm_peaks

from studytag.export.pipeline import export_bundle
from studytag.files import read_rows, write_json_atomically, write_text_atomically
from studytag.inference.runtime import available_cores


def random_distilbert(trained: Path, target: Path, **shape: int) -> None:
    """A copy of a trained model's folder with random weights, in DistilBERT's shape by default."""
    from transformers import AutoModelForSequenceClassification, DistilBertConfig

    shutil.copytree(trained, target)
    names = json.loads((trained / "config.json").read_text())
    config = DistilBertConfig(id2label=names["id2label"], label2id=names["label2id"], **shape)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(target)


def prepare(model: Path, distilbert: bool, samples: list[dict], folder: Path) -> Setting:
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
    (folder / "samples.json").write_text(json.dumps(samples))
    return Setting(
        model, folder / "bundle", folder / "optimum", manifest.max_length, folder / "samples.json"
    )


def operations(tokens: int, encoder: dict) -> float:
    """Multiplications and additions of a full forward pass: linear layers and attention."""
    width, hidden = encoder["dim"], encoder["hidden_dim"]
    linear = 4 * width * width + 2 * width * hidden
    return 2.0 * encoder["n_layers"] * tokens * (linear + 2 * tokens * width)


def measure(
    found: dict[str, Contender], articles: list[dict], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each contender in each round, and each round's peaks.

    Round r works on the r-th portion, which all contenders have seen once to warm up: some compile
    code for every length they meet.
    """
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    peaks: dict[str, list[float]] = {"fp32": [], "int8": []}
    for tag in found.values():
        tag(articles)
    for number in range(rounds):
        for kind, peak in gemm_peaks().items():
            peaks[kind].append(peak)
        portion = articles[number::rounds]
        for name in order.sample(list(found), len(found)):
            started = time.perf_counter()
            found[name](portion)
            seconds[name].append(time.perf_counter() - started)
    return seconds, peaks


def markdown(result: dict) -> str:
    """One line per contender, the fastest first."""
    lines = [
        f"{result['articles']} documents of {result['tokens_per_document']:.0f} tokens on average "
        f"in {result['rounds']} interleaved rounds, {result['encoder']}, {result['cores']} cores "
        f"of {result['machine']}, {result['date']}. One large matrix product: "
        f"{result['gemm_peaks']['fp32']:.0f} GFLOP/s in float32, "
        f"{result['gemm_peaks']['int8']:.0f} GOP/s in int8.",
        "",
        "| Contender | documents/s (median) | tokens/s | share of the peak "
        "| int8 studytag is faster by | fp32 studytag by |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rates = result["documents_per_second"]
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        ratios = [rates[f"studytag, {variant}"] / rate for variant in ("int8", "fp32")]
        peak = result["gemm_peaks"]["int8" if "int8" in name else "fp32"]
        lines.append(
            f"| {name} | {rate:.1f} | {rate * result['tokens_per_document']:.0f} "
            f"| {rate * result['gop_per_document'] / peak:.0%} "
            f"| ×{ratios[0]:.2f} | ×{ratios[1]:.2f} |"
        )
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
    articles = random.Random(0).sample(articles, options.articles + 100)
    articles, samples = articles[:-100], articles[-100:]
    with TemporaryDirectory() as folder:
        setting = prepare(options.model, options.distilbert, samples, Path(folder))
        found = {
            name: load()
            for name, load in all_contenders(setting, options.batch_sizes).items()
            if re.search(options.only, name)
        }
        seconds, peaks = measure(found, articles, options.rounds)
        encoder = json.loads((setting.model / "config.json").read_text())
        encode = encoder_of_texts(setting)
        tokens = [encode(article)["input_ids"].size for article in articles]
    portion = options.articles / options.rounds
    result = {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "cores": available_cores(),
        "encoder": f"DistilBERT of {encoder['n_layers']} layers x {encoder['dim']}",
        "articles": options.articles,
        "rounds": options.rounds,
        "tokens_per_document": statistics.mean(tokens),
        "gop_per_document": statistics.mean(operations(n, encoder) for n in tokens) / 1e9,
        "gemm_peaks": {kind: statistics.median(values) for kind, values in peaks.items()},
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
