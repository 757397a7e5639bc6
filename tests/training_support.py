"""What the tests of training share: tables that can be learned, a tiny encoder, launchers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file, save_file
from support import LABELS, MAX_LENGTH, save_tiny_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from studytag.manifest import MANIFEST
from studytag.training.config import TrainingConfig
from studytag.training.history import read_history

RULES = {
    "SystematicReview": "review",
    "MetaAnalysis": "meta-analysis",
    "RCT": "trial",
    "Cohort": "cohort",
    "Human": "children",
}
VALIDATION_ROWS = 61  # odd on purpose: two processes cannot share it evenly


def write_table(path, rows, known=LABELS):
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            labels = [label for label in known if RULES[label] in row["title"]]
            stream.write(json.dumps(row | {"labels": labels, "known": list(known)}) + "\n")


def write_label_set(folder, implications=None):
    content = {"labels": LABELS, "implications": implications or {}}
    (folder / "manifest.json").write_text(json.dumps(content))


def save_tiny_encoder(folder):
    """Milder weights than those that spread the predictor tests' probabilities: these can learn."""
    save_tiny_model(folder, "distilbert")
    (folder / MANIFEST).unlink()
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: w if "orm" in name else w * 0.2 for name, w in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def short_run(tables, encoder, folder):
    """The options of a run that learns in seconds."""
    return TrainingConfig(
        model_name_or_path=str(encoder),
        train_file=str(tables / "train.jsonl"),
        validation_file=str(tables / "val.jsonl"),
        output_dir=str(folder / "model"),
        cache_dir=str(folder / "cache"),
        max_length=MAX_LENGTH,
        learning_rate=3e-3,
        num_train_epochs=3,
        early_stopping_patience=None,
    )


def forget_accelerator():
    """Let the next run have an accelerator of its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def save_architecture(folder, tokenizer_from, kind, **sizes):
    """A tiny random model of an architecture, with the tokenizer of another folder."""
    vocabulary = len(json.loads((tokenizer_from / "tokenizer.json").read_text())["model"]["vocab"])
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, pad_token_id=0, **sizes)
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tokenizer_from / file, folder)
    return model


def history(config):
    return read_history(Path(config.output_dir))


def scores_only(config):
    return [epoch.to_dict() | {"seconds": None} for epoch in history(config)]


def same_weights(first, second):
    one, other = (load_file(Path(folder) / "model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def copy_with_config(source, target, **changes):
    """A copy of an encoder's folder whose `config.json` differs."""
    shutil.copytree(source, target)
    settings = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings | changes))
    return target


def flags(config):
    """The paths and the length, as flags."""
    names = ("model_name_or_path", "train_file", "validation_file", "output_dir", "cache_dir")
    names += ("max_length",)
    return [part for name in names for part in (f"--{name}", str(getattr(config, name)))]


def accelerate_launch(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *arguments]
    return _run(command, cwd, environment)


def studytag_train(*arguments, cwd, **environment):
    return _run([sys.executable, "-m", "studytag", "train", *arguments], cwd, environment)


def _run(command, cwd, environment):
    inherited = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        command,
        cwd=cwd,
        env=inherited | path | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
