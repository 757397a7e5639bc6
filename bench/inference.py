"""How fast is it? The predictor beside what a user would pick instead, on the same documents.

    python bench/inference.py --source articles.parquet --bundle artifacts/bundle

Contenders take turns on the same portion of documents, in an order that changes from round to
round, so that a machine whose speed drifts is unfair to none. Figures are medians over rounds, and
their ratios. All use every core. The table goes to bench/results/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from machine import describe_machine

from studytag import Predictor
from studytag.files import read_rows, write_json_atomically, write_text_atomically
from studytag.inference.runtime import available_cores

Contender = Callable[[list[dict]], object]


def ours(bundle: Path, variant: str) -> Contender:
    """The predictor, from records to decisions."""
    return Predictor.from_pretrained(bundle, variant=variant).predict


def transformers_pipeline(folder: Path, batch_size: int) -> Contender:
    """`transformers.pipeline` in PyTorch, float32."""
    from transformers import pipeline

    tag = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    return lambda articles: tag(
        [text(article) for article in articles], batch_size=batch_size, truncation=True
    )


def optimum_pipeline(bundle: Path, file: str, batch_size: int) -> Contender:
    """Optimum's ORTModelForSequenceClassification in the same pipeline."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    model = ORTModelForSequenceClassification.from_pretrained(
        bundle, subfolder="onnx", file_name=file
    )
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    tag = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    return lambda articles: tag(
        [text(article) for article in articles], batch_size=batch_size, truncation=True
    )


def text(article: dict) -> str:
    """What the contenders read; cut as the tokenizer cuts."""
    return f"{article['title']} {article['abstract']}".strip()


def contenders(options: argparse.Namespace) -> dict[str, Contender]:
    """Everything that is measured, loaded."""
    fp32, int8 = "model.onnx", "model_quantized.onnx"
    found = {
        "studytag, int8": ours(options.bundle, "quantized"),
        "studytag, fp32": ours(options.bundle, "fp32"),
    }
    for size in options.batch_sizes:
        found |= {
            f"transformers pipeline, batch {size}": transformers_pipeline(options.model, size),
            f"optimum fp32, batch {size}": optimum_pipeline(options.bundle, fp32, size),
            f"optimum int8, batch {size}": optimum_pipeline(options.bundle, int8, size),
        }
    return found


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
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--articles", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--name", default="inference")
    options = parser.parse_args()
    articles = [
        {name: row[name] or "" for name in ("title", "abstract")}
        for row in read_rows(options.source)
    ]
    articles = random.Random(0).sample(articles, options.articles)
    seconds = measure(contenders(options), articles, options.rounds)
    portion = options.articles / options.rounds
    encoder = Predictor.from_pretrained(options.bundle).manifest.encoder
    result = {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "cores": available_cores(),
        "encoder": encoder,
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
