"""Documents a second, time to the first answer, and memory, beside what else a user would pick."""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.harness.machine import (
    installed_size,
    interleaved,
    occasion,
    peak_memory,
    product_rates,
    run_command,
)
from bench.harness.store import write_rows
from bench.speed.contenders import SAMPLES, Setting, all_contenders, encoder_of, export_with_optimum
from studytag.errors import InputError
from studytag.evaluation.metrics import score_points
from studytag.evaluation.thresholds import cross_fitted_thresholds
from studytag.files import read_rows
from studytag.hardware import available_cores
from studytag.labels import LabelSet
from studytag.manifest import DEFAULT_OPERATING_POINT
from studytag.records import Row


def sample_articles(source: Path, count: int) -> tuple[list[Row], list[Row]]:
    """Random articles of a table, always the same, and `SAMPLES` others."""
    names = ("title", "abstract", "labels", "known")
    rows = [
        {name: row[name] for name in names if row.get(name) is not None}
        for row in read_rows(source)
    ]
    chosen = random.Random(0).sample(rows, min(count + SAMPLES, len(rows)))
    return chosen[SAMPLES:], chosen[:SAMPLES]


def random_distilbert(trained: Path, target: Path) -> Path:
    """A model of random weights, which cost as much time, in DistilBERT's shape."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers import DistilBertConfig as Shape

    own = AutoConfig.from_pretrained(trained)
    names = {name: getattr(own, name) for name in ("id2label", "label2id", "problem_type")}
    tokenizer = AutoTokenizer.from_pretrained(trained)
    tokenizer.model_max_length = min(tokenizer.model_max_length, 512)
    AutoModelForSequenceClassification.from_config(Shape(**names)).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def prepare(options: argparse.Namespace, folder: Path) -> Setting:
    """Choose articles and export the model, or one of DistilBERT's shape, by studytag and optimum.

    All goes into `folder`.
    """
    from studytag.export.pipeline import GRAPHS, export_bundle
    from studytag.training.model_folder import load_model_folder

    articles, samples = sample_articles(options.source, options.articles)
    for name, rows in (("articles", articles), ("samples", samples)):
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    model = options.model
    if options.distilbert:
        model = random_distilbert(model, folder / "model")
    if options.tables is not None:
        words, validation = options.tables
    else:
        # Thresholds and weights make no difference to speed: a stand-in for the tables is enough.
        words = validation = folder / "stand-in.jsonl"
        labels = [load_model_folder(model).manifest.labels.names[0]]
        write_rows(words, (row | {"labels": labels, "known": labels} for row in samples[:20]))
    variants = tuple(GRAPHS)
    export_bundle(
        model, folder / "bundle", validation, ngrams=words, variants=variants, max_f1_drop=1.0
    )
    export_with_optimum(model, folder / "optimum")
    return Setting(model, folder)


def encoder_shape(model: Path) -> tuple[str, dict[str, int]]:
    """An encoder in words, and its width, hidden width and layers."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    width, layers = config.hidden_size, config.num_hidden_layers
    hidden = getattr(config, "hidden_dim", None) or config.intermediate_size
    kind = {"distilbert": "DistilBERT", "bert": "BERT"}.get(config.model_type, "encoder")
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
    rounds = options.rounds
    with TemporaryDirectory() as folder:
        setting = prepare(options, Path(folder))
        articles = setting.articles("articles")
        loaded = {
            name: load()
            for name, load in all_contenders(setting, options.batch_sizes).items()
            if re.search(options.only, name)
        }
        probabilities = {name: predict(articles) for name, predict in loaded.items()}
        products: list[dict[str, dict[str, float]]] = []
        tasks = {
            name: lambda number, predict=predict: predict(articles[number::rounds])
            for name, predict in loaded.items()
        }
        clock = time.process_time if options.processor_time else time.perf_counter
        seconds = interleaved(tasks, rounds, lambda: products.append(product_rates(clock)), clock)
        encode = encoder_of(setting)
        tokens = [encode(article)["input_ids"].size for article in articles]
        name, shape = encoder_shape(setting.model)
        labels = setting.manifest().labels
        f1 = {} if options.tables is None else _micro_f1(labels, articles, probabilities)
    content: dict[str, Any] = {
        "kind": "contenders",
        **occasion(),
        "cores": available_cores(),
        "clock": clock.__name__,
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


def _micro_f1(
    labels: LabelSet, articles: list[Row], probabilities: dict[str, Any]
) -> dict[str, float]:
    """Micro-F1 of each contender, with thresholds cross-fitted between two halves of the articles.

    Raises:
        InputError: the articles have no labels.
    """
    if any("labels" not in article for article in articles):
        raise InputError("--tables: F1 needs articles with labels; name a labelled --source")
    truth = labels.encode([article["labels"] for article in articles], "labels")
    known = labels.encode([article.get("known", labels) for article in articles], "known")
    half = np.arange(len(articles)) % 2
    f1 = {}
    for name, predicted in probabilities.items():
        raised = labels.raise_implied(np.asarray(predicted))
        tuned = cross_fitted_thresholds(truth, known, raised, half, [DEFAULT_OPERATING_POINT])
        points = {point: of_half[half] for point, of_half in tuned.items()}
        scores = score_points(labels, truth & known, known, raised, points)
        f1[name] = scores[DEFAULT_OPERATING_POINT].micro.f1
    return f1


def footprint(options: argparse.Namespace) -> dict[str, Any]:
    """Cold start, latency of single articles, and peak memory, each in processes of its own."""
    runs: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory() as folder:
        setting = prepare(options, Path(folder))
        available = all_contenders(setting, [8])
        names = [name for name in available if re.search(options.only, name)]
        for name in names:
            available[name]()  # what a contender converts once is on disk then
        for _ in range(options.rounds):
            for name in names:
                command = ("-m", "bench.speed", "one", name, *map(str, setting))
                output = run_command(sys.executable, *command, capture=True)
                runs.setdefault(name, []).append(json.loads(output.splitlines()[-1]))
        encoder, _ = encoder_shape(setting.model)
        articles = setting.articles("articles")
    return {
        "kind": "footprint",
        **occasion(),
        "encoder": encoder,
        "articles": len(articles),
        "rounds": options.rounds,
        "runs": runs,
    }


def one_footprint(started: float, name: str, model: str, folder: str) -> dict[str, float]:
    """In a process begun at `started`: load a contender from where a `Setting` is, and answer."""
    setting = Setting(Path(model), Path(folder))
    predict = all_contenders(setting, [8])[name]()
    articles = setting.articles("articles")
    predict(articles[:1])
    cold_start = time.perf_counter() - started
    predict(articles)
    seconds = interleaved({"": lambda number: predict([articles[number]])}, len(articles))[""]
    middle, slow = (np.quantile(seconds, (0.5, 0.99), method="higher") * 1000).tolist()
    figures = {"cold_start_s": cold_start, "peak_mib": peak_memory()}
    figures["installed_mib"] = installed_size()
    return figures | {"latency_p50_ms": middle, "latency_p99_ms": slow}
