"""Documents a second, time to the first answer, and memory, beside what else a user would pick."""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.harness.machine import interleaved, occasion, peak_memory, product_rates, run_command
from bench.speed.contenders import SAMPLES, Setting, all_contenders, encoder_of, export_with_optimum
from studytag.evaluation.metrics import score
from studytag.files import open_writer, read_rows
from studytag.hardware import available_cores
from studytag.manifest import DEFAULT_OPERATING_POINT, load_manifest
from studytag.records import Row


def sample_articles(source: Path, count: int) -> tuple[list[Row], list[Row]]:
    """Random articles of a table, always the same, and `SAMPLES` others."""
    wanted = ("title", "abstract", "labels", "known")
    rows = [
        {name: row.get(name) for name in wanted if row.get(name) is not None}
        for row in read_rows(source)
    ]
    chosen = random.Random(0).sample(rows, min(count + SAMPLES, len(rows)))
    return chosen[SAMPLES:], chosen[:SAMPLES]


def random_distilbert(trained: Path, target: Path) -> Path:
    """A model of random weights in DistilBERT's shape, with a trained one's labels.

    Random weights cost the same time as trained ones.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig

    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    names = {name: config[name] for name in ("id2label", "label2id", "problem_type")}
    names["id2label"] = {int(index): label for index, label in names["id2label"].items()}
    tokenizer = AutoTokenizer.from_pretrained(trained)
    tokenizer.model_max_length = min(tokenizer.model_max_length, 512)
    model = AutoModelForSequenceClassification.from_config(DistilBertConfig(**names))
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def prepare(model: Path, samples: list[Row], folder: Path, distilbert: bool = False) -> Setting:
    """Export a model, or one of DistilBERT's shape, with studytag and optimum into `folder`."""
    from studytag.export.pipeline import export_bundle

    if distilbert:
        model = random_distilbert(model, folder / "model")
    # Thresholds make no difference to speed: a stand-in for the validation table is enough.
    table = folder / "validation.jsonl"
    label = json.loads((model / "config.json").read_text(encoding="utf-8"))["id2label"]["0"]
    with open_writer(table) as writer:
        for number in range(20):
            writer.write({"title": f"Article {number}", "labels": [label]})
    export_bundle(model, folder / "bundle", table, max_f1_drop=1.0)
    export_with_optimum(model, folder / "optimum")
    (folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
    return Setting(model, folder / "bundle", folder / "optimum", folder / "samples.json")


def encoder_shape(model: Path) -> tuple[str, dict[str, int]]:
    """An encoder in words, and its width, hidden width and layers."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    names = (("dim", "hidden_size"), ("hidden_dim", "intermediate_size"))
    width, hidden = (config.get(own) or config[other] for own, other in names)
    layers = config.get("n_layers") or config["num_hidden_layers"]
    kind = {"distilbert": "DistilBERT", "bert": "BERT"}.get(config["model_type"], "encoder")
    shape = {"width": width, "hidden": hidden, "layers": layers}
    return f"{kind} of {layers} layers x {width}", shape


def operations(tokens: int, width: int, hidden: int, layers: int) -> float:
    """Multiplications and additions of a full forward pass: linear layers and attention."""
    linear = 4 * width * width + 2 * width * hidden
    return 2.0 * layers * tokens * (linear + 2 * tokens * width)


def contenders(options: argparse.Namespace) -> dict[str, Any]:
    """Documents a second of every contender, in turns on the same portions of the articles.

    Round r works on the r-th portion, which all contenders have seen once to warm up: some compile
    code for every length they meet. Hardware utilisation counts the operations of a plain full
    forward pass over the real tokens, against the best library's matrix product in the same rounds.
    """
    articles, samples = sample_articles(options.source, options.articles)
    rounds = options.rounds
    with TemporaryDirectory() as folder:
        setting = prepare(options.model, samples, Path(folder), options.distilbert)
        loaded = {
            name: load()
            for name, load in all_contenders(setting, options.batch_sizes).items()
            if re.search(options.only, name)
        }
        probabilities = {name: predict(articles) for name, predict in loaded.items()}
        products: list[dict[str, dict[str, float]]] = []
        seconds = interleaved(
            {
                name: partial(_on_portion, predict, articles, rounds)
                for name, predict in loaded.items()
            },
            rounds,
            lambda: products.append(product_rates()),
        )
        encode = encoder_of(setting)
        tokens = [encode(article)["input_ids"].size for article in articles]
        name, shape = encoder_shape(setting.model)
        f1 = {} if options.distilbert else _micro_f1(options.bundle, articles, probabilities)
    content: dict[str, Any] = {
        "kind": "contenders",
        **occasion(),
        "cores": available_cores(),
        "encoder": name,
        "articles": len(articles),
        "rounds": rounds,
        "tokens_per_document": statistics.mean(tokens),
        "gop_per_document": statistics.mean(operations(n, **shape) for n in tokens) / 1e9,
        "product_rates": {
            kind: {name: statistics.median(of[kind][name] for of in products) for name in rates}
            for kind, rates in products[0].items()
        },
        "seconds": seconds,
    }
    return content | ({"micro_f1": f1} if f1 else {})


def _on_portion(predict: Any, articles: list[Row], rounds: int, number: int) -> None:
    predict(articles[number::rounds])


def _micro_f1(
    bundle: Path | None, articles: list[Row], probabilities: dict[str, Any]
) -> dict[str, float]:
    """Micro-F1 of each contender on labelled articles, by the thresholds of the tuned bundle."""
    if bundle is None:
        return {}
    manifest = load_manifest(bundle, variants=())
    labels = manifest.labels
    truth = labels.encode([article["labels"] for article in articles], "labels")
    known = labels.encode([article.get("known", labels) for article in articles], "known")
    f1 = {}
    for name, predicted in probabilities.items():
        variant = "int8" if name.startswith("studytag") and "int8" in name else "fp32"
        thresholds = manifest.thresholds(variant, DEFAULT_OPERATING_POINT)
        raised = labels.raise_implied(np.asarray(predicted))
        f1[name] = score(labels, truth & known, known, raised, thresholds).micro.f1
    return f1


def footprint(options: argparse.Namespace) -> dict[str, Any]:
    """Cold start, latency of single articles, and peak memory, each in processes of its own."""
    articles, samples = sample_articles(options.source, options.articles)
    runs: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory() as folder:
        setting = prepare(options.model, samples, Path(folder), options.distilbert)
        table = Path(folder, "articles.json")
        table.write_text(json.dumps(articles), encoding="utf-8")
        available = all_contenders(setting, [8])
        names = [name for name in available if re.search(options.only, name)]
        for name in names:
            available[name]()  # what a contender converts once is on disk then
        for _ in range(options.rounds):
            for name in names:
                paths = (setting.model, setting.bundle, setting.optimum, setting.samples, table)
                command = ("-m", "bench.speed", "one", name, *map(str, paths))
                output = run_command(sys.executable, *command, capture=True)
                runs.setdefault(name, []).append(json.loads(output.splitlines()[-1]))
        encoder, _ = encoder_shape(setting.model)
    return {
        "kind": "footprint",
        **occasion(),
        "encoder": encoder,
        "articles": len(articles),
        "rounds": options.rounds,
        "runs": runs,
    }


def one_footprint(name: str, folders: list[Path], started: float) -> dict[str, float]:
    """In a process begun at `started`: load a contender from a `Setting`'s paths, and answer."""
    *places, table = folders
    predict = all_contenders(Setting(*places), [8])[name]()
    articles = json.loads(table.read_text(encoding="utf-8"))
    predict(articles[:1])
    cold_start = time.perf_counter() - started
    predict(articles)
    latencies = []
    for article in articles:
        begun = time.perf_counter()
        predict([article])
        latencies.append(1000 * (time.perf_counter() - begun))
    latencies.sort()
    return {
        "cold_start_s": cold_start,
        "latency_p50_ms": latencies[len(latencies) // 2],
        "latency_p99_ms": latencies[int(0.99 * len(latencies))],
        "peak_mib": peak_memory(),
    }
