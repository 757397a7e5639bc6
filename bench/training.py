"""How fast training is, beside the reference recipe and transformers' example on the Trainer.

    python bench/training.py --table data/processed/train.parquet
    python bench/training.py --table data/processed/train.parquet --steps 125 --epochs 3
      --validation data/processed/val.parquet --name training-quality

The reference recipe pads every text to the greatest length; transformers' run_glue example pads
each batch to its longest text. Both take AdamW, 8 articles a batch and the encoder's own dropout.
Each contender trains on the same articles, in a process of its own, in turn. Speed is that of the
training steps, without loading and validation; its share of the peak counts three forward passes
over the real tokens for a step, against one large float32 matrix product. With --validation the
trained models are scored: thresholds tuned on one half of it, scored on the other. The table goes
to bench/results/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FOLDER = Path(__file__).parent
NAMES = [
    "studytag",
    "studytag in bf16",
    "Trainer, padded to the greatest length (the reference recipe)",
    "Trainer, padded to the batch's longest (run_glue)",
    "Trainer, padded to the batch's longest, by length",
]


def train_here(name: str, job: dict[str, Any]) -> None:
    """In a fresh process: train as one contender does, and write its figures as JSON."""
    import torch
    from machine import peak_memory

    if name.startswith("studytag"):
        seconds, folder = _studytag(job, "bf16" if "bf16" in name else "no")
    else:
        seconds, folder = _trainer(name, job)
    figures = {"seconds": seconds, "peak_mib": peak_memory()}
    if torch.cuda.is_available():
        figures["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    if job["validation"]:
        figures |= _score(folder, job)
    json.dump(figures, sys.stdout)


def _studytag(job: dict[str, Any], precision: str) -> tuple[float, Path]:
    os.environ["ACCELERATE_MIXED_PRECISION"] = precision
    from studytag.training.config import parse_config
    from studytag.training.loop import train

    tables = job["folder"]
    flags = {
        "config": job["config"],
        "train_file": f"{tables}/train.parquet",
        "validation_file": f"{tables}/val.parquet",
        "output_dir": f"{tables}/model",
        "cache_dir": f"{tables}/cache",
        "num_train_epochs": job["epochs"],
        "overwrite_output_dir": "true",
        "short_epochs": 0,
        "early_stopping_patience": 99,
        "seed": job["seed"],
    }
    best = train(
        parse_config([part for key, value in flags.items() for part in (f"--{key}", str(value))])
    )
    history = json.loads((best.parent / "history.json").read_text())["epochs"]
    return sum(epoch["seconds"] for epoch in history), best


def _trainer(name: str, job: dict[str, Any]) -> tuple[float, Path]:
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from studytag.evaluation.split import load_split, read_label_set
    from studytag.records import TextRecipe
    from studytag.training.config import parse_config
    from studytag.training.encoder import load_encoder

    config = parse_config(["--config", job["config"]])
    torch.manual_seed(job["seed"])
    source = Path(job["folder"], "train.parquet")
    labels = read_label_set(source)
    split = load_split(source, labels)
    model, tokenizer = load_encoder(config.model_name_or_path, labels)
    padding = "max_length" if "greatest" in name else False
    texts = [TextRecipe().compose_record(row) for row in split.rows]
    encoded = tokenizer(texts, truncation=True, max_length=config.max_length, padding=padding)
    # Unknown labels count as absent: the Trainer has no mask.
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": truth}
        for ids, mask, truth in zip(
            encoded["input_ids"],
            encoded["attention_mask"],
            split.truth.astype("float32").tolist(),
            strict=True,
        )
    ]
    arguments = TrainingArguments(
        f"{job['folder']}/trainer",
        per_device_train_batch_size=config.per_device_train_batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_ratio=config.warmup_ratio,
        num_train_epochs=job["epochs"],
        group_by_length="by length" in name,
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


def _score(folder: Path, job: dict[str, Any]) -> dict[str, float]:
    """Scores on the second half of the validation articles, thresholds tuned on the first."""
    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from studytag.evaluation.metrics import score_points
    from studytag.evaluation.split import load_split, read_label_set
    from studytag.evaluation.thresholds import tune_thresholds
    from studytag.records import TextRecipe

    labels = read_label_set(Path(job["folder"], "train.parquet"))
    split = load_split(job["validation"], labels)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    probabilities = []
    with torch.inference_mode():
        for row in split.rows:
            text = TextRecipe().compose_record(row)
            inputs = tokenizer(
                text, truncation=True, max_length=job["max_length"], return_tensors="pt"
            )
            probabilities.append(model(**inputs).logits[0].sigmoid().numpy())
    first = np.arange(len(split.rows)) % 2 == 0
    table = np.array(probabilities)
    points = tune_thresholds(split.truth[first], split.known[first], table[first])
    cells = split.truth[~first], split.known[~first], table[~first]
    scores = score_points(labels, *cells, points)
    return {
        f"{average}-F1 {word}": scores[point][average]["f1"]
        for point, word in (("micro_f1", "tuned"), ("fixed", "at 0.5"))
        for average in ("micro", "macro")
    }


def markdown(result: dict[str, Any]) -> str:
    """One line per contender, the fastest first."""
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in result["runs"].items()
    }
    own = next(iter(medians.values()))
    scored = [key for key in own if "F1" in key]
    lines = [
        f"{result['articles']} articles of {result['tokens_per_article']:.0f} tokens on average, "
        f"{result['epochs']} epoch(s), {result['encoder']}, medians of {len(result['peaks'])} "
        f"round(s), {result['machine']}, {result['date']}. One large matrix product: "
        f"{statistics.median(result['peaks']):.0f} GFLOP/s.",
        "",
        "| Contender | articles/s | studytag is faster by | share of the peak | peak memory, MiB |"
        + "".join(f" {key} |" for key in scored),
        "|---|" + "---:|" * (4 + len(scored)),
    ]
    for name, figure in sorted(medians.items(), key=lambda item: item[1]["seconds"]):
        speed = result["epochs"] * result["articles"] / figure["seconds"]
        share = 3 * speed * result["gflop_per_article"] / statistics.median(result["peaks"])
        lines.append(
            f"| {name} | {speed:.2f} | ×{figure['seconds'] / own['seconds']:.2f} "
            f"| {share:.0%} | {figure['peak_mib']:.0f} |"
            + "".join(f" {figure[key]:.3f} |" for key in scored)
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    from contenders import text
    from inference import operations
    from machine import describe_machine, gemm_peaks

    from studytag.evaluation.split import read_label_set
    from studytag.files import open_writer, read_rows, write_json_atomically, write_text_atomically
    from studytag.training.config import parse_config
    from studytag.training.encoder import load_encoder

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="labelled, to learn from")
    parser.add_argument("--validation", type=Path, help="labelled, to score the trained models on")
    parser.add_argument("--config", type=Path, default=FOLDER.parent / "train/configs/minilm.yaml")
    parser.add_argument("--steps", type=int, default=20, help="of 8 articles, in an epoch")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", type=int, help="contenders, by number from 0")
    parser.add_argument("--name", default="training")
    options = parser.parse_args()
    config = parse_config(["--config", str(options.config)])
    labels = read_label_set(options.table)
    rows = [row for row in read_rows(options.table) if row.get("known") != []]
    count = options.steps * config.per_device_train_batch_size
    rows = random.Random(0).sample(rows, count + 64)
    model, tokenizer = load_encoder(config.model_name_or_path, labels)
    limits = {"truncation": True, "max_length": config.max_length}
    lengths = list(map(len, tokenizer([text(row) for row in rows[64:]], **limits)["input_ids"]))
    job = {
        "config": str(options.config.resolve()),
        "epochs": options.epochs,
        "max_length": config.max_length,
        "validation": options.validation and str(options.validation.resolve()),
    }
    names = [NAMES[number] for number in options.only] if options.only else NAMES
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    peaks = []
    with TemporaryDirectory() as folder:
        for file, part in (("train", rows[64:]), ("val", rows[:64])):
            with open_writer(Path(folder, f"{file}.parquet")) as writer:
                for row in part:
                    writer.write(row)
        Path(folder, "manifest.json").write_text(json.dumps({"labels": list(labels)}))
        for number in range(options.rounds):
            peaks.append(gemm_peaks()["fp32"])
            for name in names:
                task = job | {"folder": folder, "seed": number}
                code = f"from training import *; train_here({name!r}, {task})"
                done = subprocess.run(
                    [sys.executable, "-c", code], cwd=FOLDER, stdout=subprocess.PIPE, check=True
                )
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    forward = [operations(length, model.config.to_dict()) for length in lengths]
    result = {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "encoder": f"DistilBERT of {model.config.n_layers} layers x {model.config.dim}",
        "articles": count,
        "epochs": options.epochs,
        "tokens_per_article": statistics.mean(lengths),
        "gflop_per_article": statistics.mean(forward) / 1e9,
        "peaks": peaks,
        "runs": runs,
    }
    results = FOLDER / "results"
    write_json_atomically(results / f"{options.name}.json", result)
    write_text_atomically(results / f"{options.name}.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
