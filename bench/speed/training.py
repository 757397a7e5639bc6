"""How fast training is, beside transformers' Trainer, and what a training table's size costs.

The reference recipe pads every text to the maximum length; transformers' run_glue example pads each
batch to its longest text. Both take AdamW, 8 articles a batch and the encoder's own dropout.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.harness.machine import best, occasion, peak_memory, product_rates, run_command
from bench.harness.store import Raw
from bench.quality.articles import write_rows
from bench.quality.systems import texts
from bench.speed.prepare import operations
from studytag.dataset import TABLE_MANIFEST, load_evaluable, load_table, read_label_set
from studytag.files import open_writer, read_rows
from studytag.records import Row

CONTENDERS = (
    "studytag",
    "studytag in bf16",
    "Trainer, padded to the maximum length (the reference recipe)",
    "Trainer, padded to the batch's longest (run_glue)",
    "Trainer, padded to the batch's longest, by length",
)
VALIDATION_ROWS = 64
"""So few that validation takes no time."""

SHORT_LENGTH = 128
"""Tokens of a text in the measurement of table sizes."""


def training(options: argparse.Namespace) -> Raw:
    """Each contender trains on the same articles, in a process of its own, in turn.

    Speed is that of the training steps, without loading and validation. With a validation table
    the trained models are scored: thresholds tuned on one half of it, scored on the other.
    """
    from studytag.training.options import parse_config

    from studytag.training.encoder import load_encoder

    config = parse_config(["--config", options.config])
    labels = read_label_set(options.table)
    count = options.steps * config.per_device_train_batch_size
    table = load_evaluable(options.table, labels)
    rows = random.Random(0).sample(table.rows, count + VALIDATION_ROWS)
    model, tokenizer = load_encoder(config.model_name_or_path, labels)
    limits = {"truncation": True, "max_length": config.max_length}
    lengths = [len(ids) for ids in tokenizer(texts(rows[VALIDATION_ROWS:]), **limits)["input_ids"]]
    names = [CONTENDERS[number] for number in options.only]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    products = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "train.parquet", rows[VALIDATION_ROWS:])
        write_rows(folder / "val.parquet", rows[:VALIDATION_ROWS])
        _copy_labels(options.table, folder)
        job = {
            "folder": name,
            "config": options.config,
            "epochs": options.epochs,
            "scored": str(options.validation.resolve()) if options.validation else None,
        }
        for seed in range(options.rounds):
            products.append(best(product_rates()["fp32"]))
            for contender in names:
                task = json.dumps(job | {"contender": contender, "seed": seed})
                command = ("-m", "bench.speed", "one-training", task)
                output = run_command(sys.executable, *command, capture=True)
                runs[contender].append(json.loads(output.splitlines()[-1]))
    own = model.config
    shape = {"width": own.dim, "hidden": own.hidden_dim, "layers": own.n_layers}
    content = {
        "kind": "training",
        **occasion(),
        "encoder": f"DistilBERT of {own.n_layers} layers x {own.dim}",
        "articles": count,
        "epochs": options.epochs,
        "rounds": options.rounds,
        "tokens_per_article": statistics.mean(lengths),
        "gflop_per_article": statistics.mean(operations(n, **shape) for n in lengths) / 1e9,
        "fp32_product_rates": products,
        "runs": runs,
    }
    return Raw(options.name or "training", content)


def one_training(job: dict[str, Any]) -> dict[str, float]:
    """In a fresh process: train as one contender does."""
    import torch

    train = _studytag if job["contender"].startswith("studytag") else _trainer
    seconds, folder = train(job)
    figures = {"seconds": seconds, "peak_mib": peak_memory()}
    if torch.cuda.is_available():
        figures["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return figures | (_scores(folder, Path(job["scored"])) if job["scored"] else {})


def _studytag(job: dict[str, Any]) -> tuple[float, Path]:
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if "bf16" in job["contender"] else "no"
    from studytag.training.history import read_history
    from studytag.training.options import parse_config

    from studytag.training.loop import train

    folder = Path(job["folder"])
    options = {
        "config": job["config"],
        "train-file": folder / "train.parquet",
        "validation-file": folder / "val.parquet",
        "output-dir": folder / "model",
        "cache-dir": folder / "cache",
        "num-train-epochs": job["epochs"],
        "overwrite-output-dir": "true",
        "truncated-epochs": 0,
        "early-stopping-patience": 99,
        "seed": job["seed"],
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    trained = train(parse_config(arguments))
    if trained is None:
        raise SystemExit("training gave no model")
    return sum(epoch.seconds for epoch in read_history(trained.parent)), trained


def _trainer(job: dict[str, Any]) -> tuple[float, Path]:
    import torch
    from studytag.training.options import parse_config
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from studytag.training.encoder import load_encoder

    config = parse_config(["--config", job["config"]])
    torch.manual_seed(job["seed"])
    source = Path(job["folder"], "train.parquet")
    labels = read_label_set(source)
    table = load_table(source, labels)
    model, tokenizer = load_encoder(config.model_name_or_path, labels)
    padding = "max_length" if "maximum" in job["contender"] else False
    encoded = tokenizer(
        texts(table.rows), truncation=True, max_length=config.max_length, padding=padding
    )
    # Unknown labels count as absent: the Trainer has no mask.
    truth = table.truth.astype("float32").tolist()
    columns = (encoded["input_ids"], encoded["attention_mask"], truth)
    names = ("input_ids", "attention_mask", "labels")
    rows: Any = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    arguments = TrainingArguments(
        f"{job['folder']}/trainer",
        per_device_train_batch_size=config.per_device_train_batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_ratio=config.warmup_ratio,
        num_train_epochs=job["epochs"],
        group_by_length="by length" in job["contender"],
        bf16=torch.cuda.is_available(),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job["seed"],
    )
    trainer = Trainer(
        model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer)
    )
    seconds = trainer.train().metrics["train_runtime"]
    folder = Path(job["folder"], "trainer", "model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return seconds, folder


def _scores(folder: Path, path: Path) -> dict[str, float]:
    """Scores on every second article of a table, thresholds tuned on the others."""
    from studytag.evaluation.metrics import score_points
    from studytag.evaluation.thresholds import tune_thresholds
    from studytag.training.model_folder import load_model_folder, torch_probabilities

    trained = load_model_folder(folder)
    labels = trained.manifest.labels
    table = load_evaluable(path, labels)
    probabilities = torch_probabilities(trained, texts(table.rows))
    tune = np.arange(len(table)) % 2 == 0
    cells = (table.truth, table.known, probabilities)
    points = tune_thresholds(*(values[tune] for values in cells))
    scores = score_points(labels, *(values[~tune] for values in cells), points)
    return {
        f"{average}-F1 {words}": getattr(scores[point], average).f1
        for point, words in (("f1", "tuned"), ("fixed", "at 0.5"))
        for average in ("micro", "macro")
    }


def scale(options: argparse.Namespace) -> Raw:
    """Start-up and memory of training on tables of several sizes, first and from the cache.

    Tables are made by repeating the articles under other pmids, in two shards. Each is trained on
    for one step in a process of its own (Linux), twice. Seconds run from the start of the process
    to its end: imports, tables, encoder, batches, the step, and the validation of 64 articles.
    """
    rows = list(read_rows(options.table))
    runs = {}
    for count in options.counts:
        with TemporaryDirectory() as name:
            folder = Path(name)
            _copy_labels(options.table, folder)
            write_rows(folder / "val.parquet", rows[:VALIDATION_ROWS])
            _write_shards(rows, count, folder / "shards")
            runs[str(count)] = [_one_step(folder, options.config) for _ in range(2)]
    content = {
        "kind": "scale",
        **occasion(),
        "encoder": f"The encoder of {options.config}",
        "max_length": SHORT_LENGTH,
        "runs": runs,
    }
    return Raw(options.name or "scale", content)


def one_step(arguments: list[str]) -> dict[str, int]:
    """In a fresh process: train, and the peaks of own and of mapped memory, in MiB."""
    peaks = {"RssAnon": 0, "RssFile": 0}

    def watch() -> None:
        while True:
            for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition(":")
                if name in peaks:
                    peaks[name] = max(peaks[name], int(value.split()[0]) // 1024)
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    from studytag.training.options import parse_config

    from studytag.training.loop import train

    train(parse_config(arguments))
    time.sleep(0.1)
    return peaks


def _one_step(folder: Path, config: str) -> dict[str, float]:
    """Seconds and peak memory of a process that trains for one step."""
    options = {
        "config": config,
        "train-file": folder / "shards",
        "validation-file": folder / "val.parquet",
        "output-dir": folder / "model",
        "cache-dir": folder / "cache",
        "max-train-steps": 1,
        "max-length": SHORT_LENGTH,
        "truncated-epochs": 0,
        "overwrite-output-dir": "true",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    started = time.perf_counter()
    command = ("-m", "bench.speed", "one-step", json.dumps(arguments))
    output = run_command(sys.executable, *command, capture=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds} | json.loads(output.splitlines()[-1])


def _write_shards(rows: list[Row], count: int, folder: Path) -> None:
    """A table of `count` articles in two files."""
    folder.mkdir()
    numbered = islice(enumerate(cycle(rows)), count)
    for name, size in (("a", count // 2), ("b", count - count // 2)):
        with open_writer(folder / f"{name}.parquet") as writer:
            for number, row in islice(numbered, size):
                writer.write(row | {"pmid": str(number)})


def _copy_labels(table: Path, folder: Path) -> None:
    """Give a folder of tables the label set of another table."""
    labels = read_label_set(table)
    implications = {name: list(to) for name, to in labels.implications.items()}
    manifest = {"labels": list(labels), "implications": implications}
    (folder / TABLE_MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
