"""What a run needs before its first step: checks, the accelerator, tables, loader and schedule."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerFast, get_scheduler

from studytag.dataset import read_chunks, read_label_set, rows_with_known_label
from studytag.errors import InputError
from studytag.labels import LabelSet
from studytag.manifest import LEARNED_BY_CHANCE, Manifest
from studytag.records import TextRecipe
from studytag.training.batching import Batch, Collator, LengthGroupedBatches
from studytag.training.checkpoint import checkpoints, find_checkpoint
from studytag.training.config import NEUTRAL_OPTIONS, TrainingConfig
from studytag.training.head import parameter_groups
from studytag.training.model_folder import truncation_side
from studytag.training.run_record import describe_table, effective_precision
from studytag.training.suitability import readable_tokens
from studytag.training.tokenization import TokenisedTable, tokenise
from studytag.training.words import learn_words
from studytag.words.excerpt import FIRST
from studytag.words.ngrams import Ngrams

logger = get_logger(__name__)


def find_resume(config: TrainingConfig) -> Path | None:
    """The checkpoint to resume from, if any; else the run's folder is made sure to hold none.

    Raises:
        InputError: the checkpoint is unusable, or the folder holds an earlier run or its model.
    """
    folder = checkpoint_folder(config)
    if config.resume_from_checkpoint is not None:
        return find_checkpoint(folder, config.resume_from_checkpoint)
    if config.overwrite_output_dir:
        shutil.rmtree(folder, ignore_errors=True)
    elif checkpoints(folder):
        raise InputError(
            f"{folder} holds an earlier run; continue it with --resume-from-checkpoint auto, "
            "or give another --output-dir, or --overwrite-output-dir true"
        )
    elif (best := best_folder(config)).exists():
        raise InputError(
            f"{best} is there already, which the run would replace; give another --output-dir, or "
            "--overwrite-output-dir true"
        )
    return None


def checkpoint_folder(config: TrainingConfig) -> Path:
    """Where a run keeps its checkpoints."""
    return Path(config.output_dir) / "checkpoints"


def best_folder(config: TrainingConfig) -> Path:
    """Where a run keeps its best model."""
    return Path(config.output_dir) / "best"


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The accelerator, with the trackers that were asked for.

    Raises:
        InputError: a tracker is unknown or not installed, or the precision is not available here.
    """
    tracker = _tracker(config)
    try:
        accelerator = Accelerator(
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            log_with=tracker,
            project_dir=config.output_dir,
        )
    except (ValueError, ImportError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{reason} Choose another mixed precision of accelerate") from error
    if effective_precision(accelerator) != accelerator.mixed_precision:
        logger.warning(
            "CPUs have no %s arithmetic: training in float32", accelerator.mixed_precision
        )
    return accelerator


def _tracker(config: TrainingConfig) -> str | None:
    """The tracker that was asked for, which accelerate can use."""
    name = config.report_to
    if name in (None, "none", "all"):
        return None if name == "none" else name
    known = [tracker.value for tracker in LoggerType]
    if name not in known:
        raise InputError(
            f"option report_to: {name!r} is no tracker; choose from none, {', '.join(known)}"
        )
    if name not in [tracker.value for tracker in get_available_trackers()]:
        raise InputError(
            f"option report_to: {name} is not installed; run pip install {name}, or give "
            "--report-to none"
        )
    return name


def with_fast_attention(config: TrainingConfig, accelerator: Accelerator) -> TrainingConfig:
    """The options with the attention code that is fastest here, unless they name one.

    In bf16 on CPUs, the backward pass of PyTorch's fused attention is slow: without it, 128 tokens
    train 1.25 times as fast. Elsewhere the choice is transformers'. DistilBERT's is studytag's own.
    """
    slow = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
    if config.attn_implementation is None and slow:
        return replace(config, attn_implementation="eager")
    return config


def init_trackers(accelerator: Accelerator, config: TrainingConfig) -> None:
    """Give the trackers the options."""
    # tensorboard takes numbers, booleans and text.
    options = {
        name: value if isinstance(value, int | float | str) else str(value).lower()
        for name, value in asdict(config).items()
    }
    accelerator.init_trackers("studytag", options)


def read_labels(config: TrainingConfig) -> LabelSet:
    """The tables' label set; reads their first rows, to report mistakes before anything is loaded.

    Raises:
        InputError: a table is missing or malformed.
    """
    labels = read_label_set(Path(config.train_file))
    for path in (config.train_file, config.validation_file):
        next(read_chunks(path, labels))
    return labels


def tokenise_tables(
    config: TrainingConfig,
    accelerator: Accelerator,
    labels: LabelSet,
    tokenizer: PreTrainedTokenizerFast,
    recipe: TextRecipe,
) -> tuple[TokenisedTable, TokenisedTable]:
    """The training and the validation table; one process of each machine tokenises them.

    Raises:
        InputError: a table is malformed, or the cache cannot be written.
    """
    cache = Path(config.cache_dir)
    with accelerator.local_main_process_first():
        train = tokenise(config.train_file, labels, tokenizer, recipe, config.max_length, cache)
        validation = tokenise(
            config.validation_file, labels, tokenizer, recipe, config.max_length, cache
        )
    return train, validation


def count_learned(
    config: TrainingConfig,
    accelerator: Accelerator,
    train: TokenisedTable,
    validation: TokenisedTable,
) -> int:
    """How many validation articles are learned from as well; counted by the main process alone."""
    if not accelerator.is_main_process:
        return 0
    learned = validation.count_shared(train)
    found = (learned, len(validation), config.validation_file, config.train_file)
    if learned > LEARNED_BY_CHANCE * len(validation):
        logger.warning(
            "%d of the %d articles of %s are in %s as well, and scores, thresholds and calibration "
            "of articles that were learned from are too good; split the tables anew, or, to learn "
            "from every article, export with --like a bundle whose model did not",
            *found,
        )
    elif learned:
        logger.info("%d of the %d articles of %s are in %s as well", *found)
    return learned


def words_of_excerpts(
    config: TrainingConfig, accelerator: Accelerator, table: TokenisedTable, vocabulary: int
) -> Ngrams | None:
    """The words by which truncated epochs pick what they read; None if they read beginnings.

    Raises:
        InputError: an excerpt would be no more than the beginning, or the cache cannot be written.
        MissingDependencyError: scikit-learn is not installed.
    """
    if not config.truncated_epochs or config.truncated_to == "beginning":
        return None
    always = FIRST + 1
    if config.truncated_length <= always:
        raise InputError(
            f"option truncated_length must be above {always}, not {config.truncated_length}: an "
            f"excerpt always has the first {FIRST} tokens and the last"
        )
    with accelerator.local_main_process_first():
        return learn_words(table, vocabulary)


def check_length(config: TrainingConfig, model: PreTrainedModel) -> None:
    """Make sure that the encoder can read `max_length` tokens.

    Raises:
        InputError: it cannot.
    """
    limit = readable_tokens(model)
    if limit is not None and config.max_length > limit:
        raise InputError(
            f"option max_length: the encoder reads {limit} tokens at most, not {config.max_length}"
        )


def make_train_loader(
    config: TrainingConfig, accelerator: Accelerator, collator: Collator
) -> tuple[LengthGroupedBatches, DataLoader[Batch]]:
    """The batches of this process. Articles without a known label contribute no loss: left out.

    Raises:
        InputError: there are fewer articles than a step takes.
    """
    table = collator.table
    rows = rows_with_known_label(table.known)
    at_once = accelerator.num_processes * config.gradient_accumulation_steps
    if len(rows) < at_once:
        raise InputError(
            f"{config.train_file}: {len(rows)} articles with a known label, and a step takes "
            f"at least {at_once}: use fewer processes, less accumulation or more articles"
        )
    batches = LengthGroupedBatches(
        table.lengths[rows],
        config.per_device_train_batch_size,
        config.tokens_per_batch,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        accumulation=config.gradient_accumulation_steps,
        seed=config.seed,
        truncated_epochs=config.truncated_epochs,
        truncated_length=config.truncated_length,
    )
    loader: DataLoader[Batch] = DataLoader(
        rows,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collator,
        # Its own generator: every new iterator draws a number, and on resuming in the middle of an
        # epoch that draw must not shift the restored random state that dropout uses.
        generator=torch.Generator(),
        num_workers=config.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    return batches, loader


def plan_steps(config: TrainingConfig, batches: LengthGroupedBatches) -> tuple[TrainingConfig, int]:
    """The optimizer steps of the run, early stopping aside, and the options with their epochs.

    With `max_train_steps` the number of epochs follows from it.
    """
    steps, epoch = 0, 0
    while (
        steps < config.max_train_steps
        if config.max_train_steps
        else epoch < config.num_train_epochs
    ):
        steps += batches.count(epoch) // config.gradient_accumulation_steps
        epoch += 1
    return replace(config, num_train_epochs=epoch), config.max_train_steps or steps


def make_optimizer(
    config: TrainingConfig, model: PreTrainedModel, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW, fused where the device has it."""
    groups = parameter_groups(
        model, config.learning_rate, config.head_lr_factor, config.weight_decay
    )
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=device.type in ("cpu", "cuda"))


_WITHOUT_ARGUMENTS = ("constant", "constant_with_warmup", "inverse_sqrt")
"""Schedules to which transformers passes no arguments, without saying so."""


def make_scheduler(
    config: TrainingConfig, optimizer: torch.optim.Optimizer, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning-rate schedule over `total` steps.

    Raises:
        InputError: it is unknown, or its arguments are missing or wrong.
    """
    warmup = config.num_warmup_steps
    if warmup is None:
        warmup = round(config.warmup_ratio * total)
    if config.lr_scheduler_kwargs and config.lr_scheduler_type in _WITHOUT_ARGUMENTS:
        raise InputError(
            f"option lr_scheduler_kwargs: {config.lr_scheduler_type} takes none; leave them out"
        )
    try:
        scheduler: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
            config.lr_scheduler_type,
            optimizer,
            warmup,
            total,
            scheduler_specific_kwargs=config.lr_scheduler_kwargs,
        )
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"options lr_scheduler_type {config.lr_scheduler_type!r} and lr_scheduler_kwargs "
            f"{config.lr_scheduler_kwargs}: {reason}"
        ) from error
    return scheduler


def check_scheduler(config: TrainingConfig) -> None:
    """Make and step the schedule once, on an optimizer of nothing, before anything is loaded.

    Raises:
        InputError: as `make_scheduler`; or it wants a metric at every step.
    """
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    scheduler = make_scheduler(config, optimizer, total=10)
    try:
        optimizer.step()
        scheduler.step()
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"option lr_scheduler_type: {config.lr_scheduler_type} cannot be used here "
            f"({' '.join(str(error).split())}); use linear, cosine or constant_with_warmup"
        ) from error


def draft_manifest(
    config: TrainingConfig,
    labels: LabelSet,
    recipe: TextRecipe,
    tokenizer: PreTrainedTokenizerFast,
    tables: dict[str, TokenisedTable],
    learned: int,
) -> Manifest:
    """What is known of the model before it is trained; `learned` as `count_learned` returns it."""
    paths = ("model_name_or_path", "train_file", "validation_file")
    options = {
        name: value
        for name, value in asdict(config).items()
        if name not in NEUTRAL_OPTIONS and name not in paths
    }
    return Manifest(
        labels=labels,
        text_recipe=recipe,
        max_length=config.max_length,
        encoder=config.model_name_or_path,
        variants={},
        truncation_side=truncation_side(tokenizer),
        training={
            "tables": {
                "train": describe_table(tables["train_file"], labels),
                "validation": describe_table(tables["validation_file"], labels)
                | {"learned": learned},
            },
            "options": options,
        },
    )
