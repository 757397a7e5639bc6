"""What does each change of the training recipe give? One change at a time, on real records.

    python bench/ablation.py --source pubmed.parquet --extra pubmed_mesh_only.parquet --jobs 2

Each variant (variants.py) trains the configuration, shortened to what --articles, --epochs and
--max-length say, with one part replaced. Measured on the validation split alone: average precision
needs no threshold; F1 is cross-fitted (thresholds tuned on one half, scored on the other, over ten
halvings). The unchanged recipe runs with three seeds, whose deviation says which differences mean
something. What a variant gave is kept in results/ablation.json, so that the bench goes on where it
stopped; the table goes to results/ablation.md. --only runs some of the variants, and leaves out of
the table what never ran. The teacher is all-mpnet-base-v2 in a folder, --larger.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import systems
import torch
from machine import describe_machine, on_own_cores, run_command
from numpy.typing import NDArray
from variants import BASELINE, taught_by, variants

from studytag.evaluation.metrics import score
from studytag.evaluation.split import (
    Split,
    load_judged,
    load_split,
    read_label_set,
    with_known_label,
)
from studytag.evaluation.thresholds import MIN_POSITIVES, tune_thresholds
from studytag.files import (
    atomic_folder,
    atomic_path,
    write_json_atomically,
    write_text_atomically,
)
from studytag.labels import LabelSet
from studytag.training import loop
from studytag.training.config import parse_config

RESULTS = Path(__file__).parent / "results" / "ablation.json"
HALVINGS = 10


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
    taught = with_known_label(split.known)
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


def folder_of(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Where a variant is trained."""
    return Path(options.work, f"{name}, seed {seed}")


def train_one(options: argparse.Namespace, name: str, seed: int) -> None:
    """In a process of its own: train a variant and write its figures."""
    folder = folder_of(options, name, seed)
    variant = variants(options.epochs, options.max_length, options.larger)[name]
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
    flags |= variant.flags
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if variant.encoder is not None:
        encoder = folder / "encoder"
        variant.encoder(tables / "extra.parquet", encoder)
        flags["model_name_or_path"] = str(encoder)
    if variant.patch is not None:
        variant.patch(load_split(flags["train_file"], labels))
    if variant.teacher is not None:
        taught_by(said_by(options, variant.teacher, load_split(flags["train_file"], labels)))
    arguments = [part for key, value in flags.items() for part in (f"--{key}", value)]
    best = loop.train(parse_config(["--config", options.config, *arguments]))
    assert best is not None
    epochs = json.loads((best.parent / "history.json").read_text())["epochs"]
    stored = pq.read_table(best / "validation.parquet")
    probabilities = np.column_stack([column.to_numpy() for column in stored.columns])
    figures = cross_fitted(load_judged(tables / "val.parquet", labels), labels, probabilities)
    figures["seconds"] = sum(epoch["seconds"] for epoch in epochs)
    write_json_atomically(folder / "figures.json", figures)


def said_by(options: argparse.Namespace, teacher: str, train: Split) -> NDArray[np.float32]:
    """A variant's probabilities of the training articles, kept beside its model."""
    folder = folder_of(options, teacher, 42)
    kept = folder / "said.npy"
    if not kept.exists():
        best = folder / "model" / "best"
        if not (folder / "figures.json").exists():
            raise SystemExit(f"{folder}: train the teacher first: --only {teacher!r}")
        bf16 = options.mixed_precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            said = systems.pytorch(best, train.rows)
        with atomic_path(kept) as temporary, temporary.open("wb") as stream:
            np.save(stream, said)
    found: NDArray[np.float32] = np.load(kept)
    return found


def cross_fitted(split: Split, labels: LabelSet, probabilities: np.ndarray) -> dict[str, Any]:
    """Average precision, calibration error, and F1 by thresholds tuned on other articles.

    Labels with few positives are left out: with six of them, CaseControl's average precision went
    from 0.06 to 0.42 with the seed alone, which is 4 points of the macro average of ten labels.
    """
    columns = np.flatnonzero((split.truth & split.known).sum(axis=0) >= MIN_POSITIVES)
    labels = LabelSet(tuple(labels.names[column] for column in columns))
    cells = [each[:, columns] for each in (split.truth, split.known, probabilities)]
    random = np.random.default_rng(0)
    found = []
    for _ in range(HALVINGS):
        for tune, rest in _both_ways(np.array_split(random.permutation(len(split.rows)), 2)):
            points = tune_thresholds(*(each[tune] for each in cells))
            scores = score(labels, *(each[rest] for each in cells), points["micro_f1"])
            found.append([scores[average]["f1"] for average in ("micro", "macro")])
    micro, macro = np.mean(found, axis=0)
    whole = score(labels, *cells, [0.5] * len(labels))
    return {
        "micro_f1": float(micro),
        "macro_f1": float(macro),
        "average_precision": whole["macro"]["average_precision"],
        "calibration_error": whole["macro"]["calibration_error"],
        "average_precisions": {
            label: scores["average_precision"] for label, scores in whole["labels"].items()
        },
    }


def _both_ways(halves: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(halves[0], halves[1]), (halves[1], halves[0])]


def markdown(options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> str:
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
        f"macro-average precision, micro-F1 and macro-F1 on the validation split, over the labels "
        f"with at least {MIN_POSITIVES} positives there. "
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
    parser.add_argument(
        "--larger", default="all-mpnet-base-v2", help="folder of the teacher's encoder"
    )
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="run no others")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, seed = options.one
        train_one(options, name, int(seed))
        return
    build_tables(options)
    names = variants(options.epochs, options.max_length, options.larger)
    wanted = [(BASELINE, seed) for seed in (42, 43, 44)]
    wanted += [(name, 42) for name in names if name != BASELINE]

    def task(name: str, seed: int) -> Callable[[set[int]], None]:
        own = ("--one", name, str(seed))
        return lambda cores: run_command(sys.executable, *sys.argv, *own, cores=cores)

    def stored(name: str, seed: int) -> Path:
        return folder_of(options, name, seed) / "figures.json"

    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    missing = [
        (name, seed)
        for name, seed in wanted
        if str(seed) not in kept.get(name, {}) and (not options.only or name in options.only)
    ]
    untrained = [each for each in missing if not stored(*each).exists()]
    for taught in (False, True):  # teachers before those whom they teach
        now = [each for each in untrained if (names[each[0]].teacher is not None) == taught]
        on_own_cores([task(*each) for each in now], options.jobs)
    for name, seed in missing:
        kept.setdefault(name, {})[str(seed)] = json.loads(stored(name, seed).read_text())
    write_json_atomically(RESULTS, kept)
    found = {name: list(kept[name].values()) for name in names if name in kept}
    table = markdown(options, found)
    write_text_atomically(RESULTS.with_suffix(".md"), table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
