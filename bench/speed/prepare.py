"""What the benchmarks of speed run on: real articles, and one model exported in every way."""

from __future__ import annotations

import json
import random
from pathlib import Path

from bench.speed.contenders import SAMPLES, Setting, export_with_optimum
from studytag.files import open_writer, read_rows
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
    """Export a model with studytag and with optimum into `folder`.

    Args:
        model: Folder of the trained model.
        samples: For static quantisation.
        folder: Empty.
        distilbert: Take DistilBERT's shape with random weights instead.
    """
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
