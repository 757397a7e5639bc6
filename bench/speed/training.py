"""How fast training is, beside the Trainer, on the same articles and for as many epochs.

All contenders fine-tune the same encoder with the same learning rate, batch size and precision, in
a process of their own, in turns. The Trainer's take the encoder's own dropout and count unknown
labels as absent; the reference recipe pads every text to the maximum length, transformers'
`run_glue` example each batch to its longest text. Timed are the training steps alone: no loading,
no tokenising, no validation. The trained models are scored on the second half of the validation
articles, by thresholds tuned on the first half.

Hardware utilisation (on a GPU: MFU) is 3 x the operations of a forward pass over the real tokens,
padding not counted, / (seconds x the rate of one large matrix product in the same precision,
measured before every round).

With `--processor-time`, for machines that other work shares, every training runs on one thread and
its processor seconds count, so that rates are those of one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.harness.machine import has_fast_bf16, occasion, peak_memory
from bench.harness.store import write_rows
from bench.speed.inference import operations
from studytag.hardware import available_cores

WHOLE = "studytag"
TRUNCATED = "studytag, truncated epochs first"
REFERENCE = "Trainer, padded to the maximum length (the reference recipe)"
RUN_GLUE = "Trainer, padded to the batch's longest (run_glue)"
BY_LENGTH = "Trainer, padded to the batch's longest, by length"
KINDS = (WHOLE, TRUNCATED, REFERENCE, RUN_GLUE, BY_LENGTH)

_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        kind: One of `KINDS`.
        precision: `bf16` or `no`, as accelerate takes it.
        folder: Holds the tables.
        options: Of `TrainingConfig`, the same for all.
        seed: Of weights, order and dropout.
        processor_time: Measure that, on one thread.
        steps: Only so many, to warm up; the models are not scored then.
    """

    kind: str
    precision: str
    folder: Path
    options: dict[str, Any]
    seed: int = 0
    processor_time: bool = False
    steps: int | None = None

    @property
    def name(self) -> str:
        """Of the contender."""
        return f"{self.kind}, {'float32' if self.precision == 'no' else self.precision}"


def training(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, memory and scores of every contender in each round; tokens and matrix products."""
    import torch

    if torch.cuda.is_available():
        machine = {"machine": torch.cuda.get_device_name(), "cores": 1}
    else:
        machine = {"cores": 1 if options.processor_time else available_cores()}
    with TemporaryDirectory() as name:
        folder = Path(name)
        counts = _write_tables(options, folder)
        changed = {
            "per_device_train_batch_size": options.batch_size,
            "tokens_per_batch": options.tokens_per_batch,
            "learning_rate": options.learning_rate,
            "num_train_epochs": options.epochs,
            "model_name_or_path": options.encoder,
        }
        changed = {option: value for option, value in changed.items() if value is not None}
        changed = {"config": options.config} | changed
        jobs = [
            Job(kind, precision, folder, changed, processor_time=options.processor_time)
            for kind, precision in _contenders(torch.cuda.is_available())
        ]
        jobs = [job for job in jobs if re.search(options.only, job.name)]
        products: dict[str, list[float]] = {}
        runs = _rounds(jobs, options.rounds, products)
        shape, description = _describe(jobs[0])
        tokens, work = _totals(jobs, shape)
    return {
        **occasion(),
        **machine,
        **counts,
        **description,
        "kind": "training",
        "clock": "process_time" if options.processor_time else "perf_counter",
        "torch": str(torch.__version__),
        "epochs": options.epochs,
        "rounds": options.rounds,
        "tokens": tokens,
        "gop": work,
        "precision": {job.name: job.precision for job in jobs},
        "product_rates": products,
        "runs": runs,
    }


def _contenders(gpu: bool) -> list[tuple[str, str]]:
    """Kind and precision of each; where bf16 is fast, the reference recipe in float32 beside it."""
    if not gpu and not has_fast_bf16():
        return [(kind, "no") for kind in KINDS]
    others = [] if gpu else [(WHOLE, "no"), (REFERENCE, "no")]
    return [(kind, "bf16") for kind in KINDS] + others


def _write_tables(options: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Random articles with a known label, always the same, as tables of their own."""
    from studytag.dataset import load_evaluable, read_label_set

    labels = read_label_set(options.source)
    order, sizes = random.Random(0), {}
    for name, source, count in (
        ("train", options.source, options.articles),
        ("val", options.validation, options.validation_articles),
    ):
        rows = load_evaluable(source, labels).rows
        chosen = order.sample(list(rows), min(count, len(rows)))
        names = ("title", "abstract", "labels", "known")
        kept = [{key: row[key] for key in names if row.get(key) is not None} for row in chosen]
        if name == "val":
            write_rows(folder / "tune.parquet", kept[::2])
            write_rows(folder / "score.parquet", kept[1::2])
        else:
            write_rows(folder / "train.parquet", kept)
        sizes[name] = len(kept)
    implications = {name: list(implied) for name, implied in labels.implications.items()}
    manifest = {"labels": list(labels), "implications": implications}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return {"articles": sizes["train"], "validation_articles": sizes["val"]}


def _rounds(
    jobs: Sequence[Job], rounds: int, products: dict[str, list[float]]
) -> dict[str, list[dict[str, float]]]:
    """What every job measured in each round, in changing order, and the `products` beside it."""
    import torch

    gpu, order = torch.cuda.is_available(), random.Random(0)
    context = multiprocessing.get_context("spawn")
    runs: dict[str, list[dict[str, float]]] = {job.name: [] for job in jobs}

    def worker() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, context)

    # On a GPU processes stay, because their start takes longer than a training; on a CPU they
    # would share its memory.
    workers = {job.name: worker() for job in jobs} if gpu else {}
    started = [
        workers[job.name].submit(_train_once, replace(job, steps=_WARM_UP_STEPS))
        for job in jobs
        if gpu
    ]
    for warm in started:
        warm.result()
    for number in range(rounds):
        for precision in sorted({job.precision for job in jobs}):
            rate = product_rate(precision, jobs[0].processor_time)
            products.setdefault(precision, []).append(rate)
        for job in order.sample(list(jobs), len(jobs)):
            now = replace(job, seed=number)
            if gpu:
                figures = workers[job.name].submit(_train_once, now).result()
            else:
                with worker() as fresh:
                    figures = fresh.submit(_train_once, now).result()
            sys.stderr.write(f"round {number + 1}, {job.name}: {figures}\n")
            runs[job.name].append(figures)
    for pool in workers.values():
        pool.shutdown()
    return runs


def product_rate(precision: str, processor_time: bool = False) -> float:
    """Billions of operations a second of one large matrix product; the best of ten.

    An operation is a multiplication or an addition. It runs on the GPU if there is one, else on all
    cores, or by processor time on one.
    """
    import torch

    gpu = torch.cuda.is_available()
    device, size = ("cuda", 8192) if gpu else ("cpu", 2048)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    wait: Callable[[], object] = torch.cuda.synchronize if gpu else lambda: None
    clock, threads = time.perf_counter, torch.get_num_threads()
    if processor_time:
        clock = time.process_time
        torch.set_num_threads(1)
    seconds = []
    for _ in range(10):
        wait()
        started = clock()
        torch.mm(left, right)
        wait()
        seconds.append(clock() - started)
    torch.set_num_threads(threads)
    return 2 * size**3 / min(seconds) / 1e9


def _train_once(job: Job) -> dict[str, float]:
    """Train in this process as one contender does."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if job.processor_time:
        torch.set_num_threads(1)
    train = _studytag if job.kind.startswith("studytag") else _trainer
    seconds, model, tokenizer = train(job)
    figures = {"seconds": seconds, "peak_mib": peak_memory()}
    if torch.cuda.is_available():
        figures["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return figures if job.steps else figures | _scores(job, model, tokenizer)


def _config(job: Job) -> Any:
    """The options of a training, which are those of studytag."""
    from studytag.training.config import read_config

    options = dict(job.options)
    config = read_config(options.pop("config"), options)
    truncated = config.truncated_epochs if job.kind == TRUNCATED else 0
    return replace(
        config,
        train_file=str(job.folder / "train.parquet"),
        validation_file=str(job.folder / "tune.parquet"),
        output_dir=str(job.folder / re.sub(r"\W+", "-", job.name)),
        cache_dir=str(job.folder / "cache"),
        truncated_epochs=min(truncated, config.num_train_epochs - 1),
        early_stopping_patience=None,
        overwrite_output_dir=True,
        max_train_steps=job.steps,
        logging_steps=50,
        seed=job.seed,
    )


def _studytag(job: Job) -> tuple[float, Any, Any]:
    os.environ["ACCELERATE_MIXED_PRECISION"] = job.precision
    from accelerate.state import AcceleratorState
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from studytag.training.batching import Batch, Collator
    from studytag.training.history import read_history
    from studytag.training.hooks import TrainingHooks
    from studytag.training.loop import train

    clock = time.process_time
    spent, started = 0.0, clock()

    class Timed(Collator):
        """A step begins with its batch."""

        def __call__(self, rows: list[int]) -> Batch:
            nonlocal started
            started = clock()
            return super().__call__(rows)

    def stop() -> bool:
        """Asked at the end of every step, on CPUs."""
        nonlocal spent
        spent += clock() - started
        return False

    AcceleratorState._reset_state(reset_partial_state=True)
    best = train(_config(job), hooks=TrainingHooks(collator=Timed), stop=stop)
    assert best is not None
    seconds = sum(epoch.seconds for epoch in read_history(best.parent))
    if job.processor_time:
        seconds = spent
    model = AutoModelForSequenceClassification.from_pretrained(best)
    return seconds, model, AutoTokenizer.from_pretrained(best)


def _trainer(job: Job) -> tuple[float, Any, Any]:
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    from studytag.dataset import load_table, read_label_set
    from studytag.records import TextRecipe
    from studytag.training.encoder import load_encoder

    config = _config(job)
    set_seed(job.seed)
    labels = read_label_set(Path(config.train_file))
    table = load_table(config.train_file, labels)
    model, tokenizer = load_encoder(config.model_name_or_path, labels)
    recipe = TextRecipe(max_chars=config.max_chars)
    encoded = tokenizer(
        recipe.compose_records(table.rows),
        truncation=True,
        max_length=config.max_length,
        padding="max_length" if job.kind == REFERENCE else False,
        return_token_type_ids=False,
    )
    # The Trainer has no mask for labels.
    truth = (table.truth & table.known).astype("float32").tolist()
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": cells}
        for ids, mask, cells in zip(
            encoded["input_ids"], encoded["attention_mask"], truth, strict=True
        )
    ]
    steps = -(-len(rows) // config.per_device_train_batch_size) * config.num_train_epochs
    grouping: dict[str, Any] = {"group_by_length": True}
    if not hasattr(TrainingArguments, "group_by_length"):  # as transformers 5 has it
        grouping = {"train_sampling_strategy": "group_by_length"}
    arguments = TrainingArguments(
        str(job.folder / "trainer"),
        per_device_train_batch_size=config.per_device_train_batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_ratio * steps),
        num_train_epochs=config.num_train_epochs,
        max_steps=job.steps or -1,
        bf16=job.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job.seed,
        **(grouping if job.kind == BY_LENGTH else {}),
    )
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
    started = time.process_time()
    seconds = float(trainer.train().metrics["train_runtime"])
    if job.processor_time:
        seconds = time.process_time() - started
    return seconds, model, tokenizer


def _scores(job: Job, model: Any, tokenizer: Any) -> dict[str, float]:
    """F1 on the articles to score on, at thresholds tuned on others."""
    from studytag.dataset import load_table, read_label_set
    from studytag.evaluation.metrics import score_points
    from studytag.evaluation.thresholds import tune_thresholds
    from studytag.manifest import DEFAULT_OPERATING_POINT as POINT

    labels = read_label_set(job.folder / "train.parquet")
    tune, score = (load_table(job.folder / f"{part}.parquet", labels) for part in ("tune", "score"))
    predict = _predictor(_config(job), model, tokenizer)
    thresholds = tune_thresholds(tune.truth, tune.known, labels.raise_implied(predict(tune.rows)))
    probabilities = labels.raise_implied(predict(score.rows))
    points = {str(POINT): thresholds[POINT]}
    scores = score_points(labels, score.truth, score.known, probabilities, points)[POINT]
    return {"micro_f1": scores.micro.f1, "macro_f1": scores.macro.f1}


def _predictor(config: Any, model: Any, tokenizer: Any) -> Callable[[Sequence[Any]], Any]:
    """From articles to probabilities, the same way for every contender."""
    import numpy as np
    import torch

    from studytag.records import TextRecipe

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, recipe = model.float().to(device).eval(), TextRecipe(max_chars=config.max_chars)

    def predict(rows: Sequence[Any]) -> Any:
        texts = recipe.compose_records(rows)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        places, found = iter(order), []
        while batch := list(islice(places, 16)):
            inputs = tokenizer(
                [texts[place] for place in batch],
                truncation=True,
                max_length=config.max_length,
                padding=True,
                return_token_type_ids=False,
                return_tensors="pt",
            ).to(device)
            with torch.inference_mode():
                found.append(model(**inputs).logits.sigmoid().float().cpu().numpy())
        probabilities = np.concatenate(found)
        return probabilities[np.argsort(order)]

    return predict


def _describe(job: Job) -> tuple[dict[str, int], dict[str, Any]]:
    """The encoder's shape, and what is said of the encoder and the options in the table."""
    from studytag.dataset import read_label_set
    from studytag.training.encoder import load_encoder

    config = _config(job)
    labels = read_label_set(job.folder / "train.parquet")
    encoder, _ = load_encoder(config.model_name_or_path, labels)
    width, layers = encoder.config.hidden_size, encoder.config.num_hidden_layers
    hidden = getattr(encoder.config, "hidden_dim", None) or encoder.config.intermediate_size
    kind = {"distilbert": "DistilBERT", "bert": "BERT"}.get(encoder.config.model_type, "encoder")
    options = asdict(config)
    names = ("per_device_train_batch_size", "tokens_per_batch", "learning_rate", "max_length")
    return {"width": width, "hidden": hidden, "layers": layers}, {
        "encoder": f"{kind} of {layers} layers x {width}",
        "options": {name: options[name] for name in names},
    }


def _totals(jobs: Sequence[Job], shape: dict[str, int]) -> tuple[dict[str, int], dict[str, float]]:
    """Real tokens that each contender reads in a run, and billions of operations on them."""
    from studytag.dataset import load_table, read_label_set
    from studytag.records import TextRecipe
    from studytag.training.encoder import load_encoder

    tokens, work = {}, {}
    labels = read_label_set(jobs[0].folder / "train.parquet")
    config = _config(jobs[0])
    _, tokenizer = load_encoder(config.model_name_or_path, labels)
    recipe = TextRecipe(max_chars=config.max_chars)
    texts = recipe.compose_records(load_table(config.train_file, labels).rows)
    encoded = tokenizer(texts, truncation=True, max_length=config.max_length)["input_ids"]
    for job in jobs:
        config = _config(job)
        lengths = [
            min(len(ids), config.truncated_length if truncated else config.max_length)
            for truncated in (True,) * config.truncated_epochs
            + (False,) * (config.num_train_epochs - config.truncated_epochs)
            for ids in encoded
        ]
        tokens[job.name] = sum(lengths)
        work[job.name] = 3 * sum(operations(length, **shape) for length in lengths) / 1e9
    return tokens, work
