"""The training loop, written out with accelerate.

    accelerate launch train [--config train/configs/X.yaml] [--learning_rate 3e-5 ...]

After every epoch the validation table is scored, thresholds are tuned on it, and the model is kept
if it is the best so far, by micro-F1.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.tracking import filter_trackers
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_scheduler

from studytag.errors import InputError
from studytag.evaluation.split import read_chunks, read_label_set, with_known_label
from studytag.files import write_json_atomically
from studytag.labels import LabelSet
from studytag.records import TextRecipe
from studytag.training.batching import Batch, Collator, LengthGroupedBatches
from studytag.training.checkpoint import (
    Progress,
    checkpoints,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from studytag.training.config import TrainingConfig
from studytag.training.encoder import load_encoder
from studytag.training.head import output_layer, parameter_groups, start_at_frequencies
from studytag.training.loss import masked_bce
from studytag.training.model_folder import ModelOrigin, Selection, save_model_folder
from studytag.training.run_record import describe_run
from studytag.training.runs import HISTORY, RUN_RECORD
from studytag.training.tokenization import TokenisedTable, tokenise
from studytag.training.validation import Validation, logits_of

logger = get_logger(__name__)


def train(config: TrainingConfig) -> Path | None:
    """Fine-tune, select, tune; returns the best model's folder.

    After SIGTERM it saves a checkpoint and returns None; there may be no best model yet.

    Raises:
        InputError: data, encoder, checkpoint, disk or an option is unusable.
    """
    output = Path(config.output_dir)
    resume = _prepare_folder(config, output / "checkpoints")
    accelerator = _accelerator(config)
    config = _with_fast_attention(config, accelerator)
    set_seed(config.seed)

    labels = _label_set(config)
    recipe = TextRecipe(max_chars=config.max_chars)
    model, tokenizer = load_encoder(
        config.model_name_or_path, labels, config.attention_dropout, config.attn_implementation
    )
    _check_length(config.max_length, model)
    learning, held_out = _tables(config, accelerator, labels, tokenizer, recipe)
    if config.prior_bias:
        start_at_frequencies(model, learning.truth, learning.known)
    set_seed(config.seed, device_specific=True)  # from here on dropout differs by process

    padding_id = tokenizer.pad_token_id
    batches, loader = _train_loader(config, accelerator, learning, padding_id)
    calibrates = config.calibrate and output_layer(model) is not None
    validation = Validation.of(config, accelerator, held_out, labels, padding_id, calibrates)
    total = _optimizer_steps(config, batches)
    optimizer = _optimizer(config, model, accelerator.device)
    scheduler = get_scheduler(
        config.lr_scheduler_type, optimizer, _warmup_steps(config, total), total
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    # The schedule is not prepared: accelerate would step it once per process.
    accelerator.register_for_checkpointing(scheduler)

    progress = Progress(processes=accelerator.num_processes)
    if resume is not None:
        progress = load_checkpoint(accelerator, resume)
        logger.info("resuming from %s: step %d of %d", resume, progress.step, total)
    else:
        tables = {"train": learning, "validation": held_out}
        _record(config, accelerator, labels, tables)
    _init_trackers(accelerator, config)
    run = _Run(config, accelerator, model, optimizer, scheduler, batches, loader, progress, total)

    with _sigterm_triggers(accelerator):
        while run.unfinished():
            seconds = run.epoch()
            if run.stopped:
                advice = "stopped at step %d; go on with --resume_from_checkpoint auto"
                logger.info(advice, progress.step)
                break
            selection = validation.run(accelerator, model, progress.epoch + 1)
            if _better(config, selection, progress):
                progress.best_micro_f1, progress.best_epoch = selection.micro_f1, selection.epoch
                weights = accelerator.get_state_dict(model)
                if accelerator.is_main_process:
                    save_model_folder(
                        output / "best",
                        accelerator.unwrap_model(model, keep_torch_compile=False),
                        # What torch.compile puts before every name.
                        {name.removeprefix("_orig_mod."): each for name, each in weights.items()},
                        tokenizer,
                        selection,
                        ModelOrigin(labels, recipe, config.max_length, config.model_name_or_path),
                    )
            _close_epoch(accelerator, progress, selection, seconds)
            if accelerator.is_main_process:
                write_json_atomically(output / HISTORY, {"epochs": progress.history})
            run.save()
            if _out_of_patience(config, progress):
                logger.info("no better micro-F1 for %s epochs", config.early_stopping_patience)
                break
    accelerator.end_training()
    if progress.best_epoch:
        best = (progress.best_epoch, progress.best_micro_f1, output / "best")
        logger.info("best epoch %d, validation micro-F1 %.4f: %s", *best)
    return None if run.stopped else output / "best"


@dataclass
class _Run:
    """All that an epoch of training needs."""

    config: TrainingConfig
    accelerator: Accelerator
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    batches: LengthGroupedBatches
    loader: DataLoader[Batch]
    progress: Progress
    total: int
    stopped: bool = False

    def unfinished(self) -> bool:
        """Whether there is an epoch to train, or one to close: its last step may be behind us."""
        more = self.progress.epoch < self.config.num_train_epochs
        return self.progress.batch > 0 or (more and self.progress.step < self.total)

    def epoch(self) -> float:
        """Train to the end of the epoch or of the run, or until told to stop; returns the seconds.

        When told to stop, it leaves a checkpoint.
        """
        started, articles = time.perf_counter(), 0
        accelerator, progress = self.accelerator, self.progress
        self.batches.epoch, self.batches.start = progress.epoch, progress.batch
        collate = self.loader.collate_fn
        assert isinstance(collate, Collator)
        collate.limit = self.batches.limit(progress.epoch)
        self.model.train()
        # On the device, where adding to it makes nobody wait. MPS has no double precision.
        precision = torch.float32 if accelerator.device.type == "mps" else torch.float64
        loss_sum = torch.tensor(progress.loss_sum, dtype=precision, device=accelerator.device)
        with tqdm(
            desc=f"epoch {progress.epoch + 1}/{self.config.num_train_epochs}",
            total=self.total,
            initial=progress.step,
            unit="step",
            # A log file gets a line now and then instead of a bar that redraws itself.
            mininterval=0.5 if sys.stderr.isatty() else 60,
            disable=not accelerator.is_main_process,
        ) as bar:
            for batch in self.loader if progress.step < self.total else ():
                loss = self._learn(batch)
                loss_sum += loss
                progress.batch += 1
                articles += len(batch["labels"]) * accelerator.num_processes
                if accelerator.sync_gradients:
                    progress.step += 1
                    bar.update()
                    told = progress.step % self.config.logging_steps == 0
                    if told:
                        self._report(bar, loss, articles / (time.perf_counter() - started))
                    every = self.config.checkpointing_steps
                    # One process that is told to stop stops all. Asking interrupts a GPU.
                    if told or accelerator.device.type == "cpu":
                        self.stopped = accelerator.check_trigger()
                    if self.stopped or (every and progress.step % every == 0):
                        progress.loss_sum = loss_sum.item()
                        self.save()
                    if self.stopped or progress.step >= self.total:
                        break
        progress.loss_sum = loss_sum.item()
        return time.perf_counter() - started

    def _report(self, bar: tqdm, loss: torch.Tensor, speed: float) -> None:  # type: ignore[type-arg]
        """Tell the bar and the trackers; reading the loss makes a GPU finish its work first."""
        rate, value = self.scheduler.get_last_lr()[0], loss.item()
        bar.set_postfix_str(
            f"loss {value:.4f}, lr {rate:.1e}, {speed:.1f} articles/s", refresh=False
        )
        self.accelerator.log({"train/loss": value, "train/lr": rate}, step=self.progress.step)

    def _learn(self, batch: Batch) -> torch.Tensor:
        """One batch forth and back; a step of the optimizer when gradients have accumulated."""
        accelerator = self.accelerator
        batch = {
            name: each.to(accelerator.device, non_blocking=True) for name, each in batch.items()
        }
        with accelerator.accumulate(self.model):
            logits = logits_of(self.model, batch)
            loss = masked_bce(logits, batch["labels"], batch["known"])
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
                self.scheduler.step()
            self.optimizer.zero_grad()
        return loss.detach()

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        folder = Path(self.config.output_dir) / "checkpoints"
        save_checkpoint(
            self.accelerator, folder, self.progress, self.config.checkpoints_total_limit
        )


@contextmanager
def _sigterm_triggers(accelerator: Accelerator) -> Iterator[None]:
    """Have SIGTERM, which schedulers send before they kill, end training after the step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare_folder(config: TrainingConfig, folder: Path) -> Path | None:
    """The checkpoint to resume from, if any; else the folder is made sure to hold none."""
    if config.resume_from_checkpoint is not None:
        return find_checkpoint(folder, config.resume_from_checkpoint)
    if config.overwrite_output_dir:
        shutil.rmtree(folder, ignore_errors=True)
    elif checkpoints(folder):
        raise InputError(
            f"{folder} holds an earlier run; continue it with --resume_from_checkpoint auto, "
            "or give another --output_dir, or --overwrite_output_dir true"
        )
    return None


def _accelerator(config: TrainingConfig) -> Accelerator:
    """The accelerator, with the trackers that were asked for."""
    if config.report_to not in (None, "all"):
        try:
            usable = filter_trackers([config.report_to], config.output_dir)
        except ValueError as error:
            raise InputError(f"option report_to: {error}") from error
        if not usable:
            raise InputError(f"option report_to: run pip install {config.report_to}")
    return Accelerator(
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.report_to,
        project_dir=config.output_dir,
    )


def _with_fast_attention(config: TrainingConfig, accelerator: Accelerator) -> TrainingConfig:
    """The options with attention code that is fast here, unless they name one.

    In bf16 on CPUs, PyTorch's fused attention goes back slowly: without it, 128 tokens train 1.25
    times as fast. Elsewhere transformers chooses.
    """
    slow = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
    if config.attn_implementation is None and slow:
        return replace(config, attn_implementation="eager")
    return config


def _record(
    config: TrainingConfig,
    accelerator: Accelerator,
    labels: LabelSet,
    tables: dict[str, TokenisedTable],
) -> None:
    if accelerator.is_main_process:
        record = describe_run(config, accelerator, labels, tables)
        write_json_atomically(Path(config.output_dir) / RUN_RECORD, record)


def _init_trackers(accelerator: Accelerator, config: TrainingConfig) -> None:
    # tensorboard takes no None.
    options = {name: "none" if value is None else value for name, value in asdict(config).items()}
    accelerator.init_trackers("studytag", options)


def _label_set(config: TrainingConfig) -> LabelSet:
    """The tables' label set; a mistake in their first rows is told before anything is loaded."""
    labels = read_label_set(Path(config.train_file))
    for path in (config.train_file, config.validation_file):
        next(read_chunks(path, labels))
    return labels


def _tables(
    config: TrainingConfig,
    accelerator: Accelerator,
    labels: LabelSet,
    tokenizer: PreTrainedTokenizerBase,
    recipe: TextRecipe,
) -> tuple[TokenisedTable, TokenisedTable]:
    """The training and the validation table; one process of each machine makes them."""
    cache = Path(config.cache_dir)
    with accelerator.local_main_process_first():
        learning = tokenise(config.train_file, labels, tokenizer, recipe, config.max_length, cache)
        held_out = tokenise(
            config.validation_file, labels, tokenizer, recipe, config.max_length, cache
        )
    return learning, held_out


def _check_length(max_length: int, model: PreTrainedModel) -> None:
    positions = getattr(model.config, "max_position_embeddings", max_length)
    if max_length > positions:
        raise InputError(f"option max_length: the encoder reads {positions} tokens at most")


def _train_loader(
    config: TrainingConfig,
    accelerator: Accelerator,
    table: TokenisedTable,
    padding_id: int,
) -> tuple[LengthGroupedBatches, DataLoader[Batch]]:
    """The batches of this process. Articles of which no label is known are left out: no lesson."""
    taught = with_known_label(table.known)
    at_once = accelerator.num_processes * config.gradient_accumulation_steps
    if len(taught) < at_once:
        raise InputError(
            f"{config.train_file}: {len(taught)} articles with a known label, and a step takes "
            f"at least {at_once}: use fewer processes, less accumulation or more articles"
        )
    batches = LengthGroupedBatches(
        table.lengths[taught],
        config.per_device_train_batch_size,
        config.tokens_per_batch,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        accumulation=config.gradient_accumulation_steps,
        seed=config.seed,
        short_epochs=config.short_epochs,
        short_length=config.short_length,
    )
    loader: DataLoader[Batch] = DataLoader(
        taught,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=Collator(table, padding_id),
        # Its own generator: every new iterator draws a number, and on resuming in the middle of an
        # epoch that draw must not shift the restored random state that dropout uses.
        generator=torch.Generator(),
        num_workers=config.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    return batches, loader


def _optimizer_steps(config: TrainingConfig, batches: LengthGroupedBatches) -> int:
    """Optimizer steps of the whole run, early stopping aside."""
    if config.max_train_steps is not None:
        return config.max_train_steps
    taken = sum(batches.count(epoch) for epoch in range(config.num_train_epochs))
    return taken // config.gradient_accumulation_steps


def _optimizer(
    config: TrainingConfig, model: PreTrainedModel, device: torch.device
) -> torch.optim.Optimizer:
    groups = parameter_groups(
        model, config.learning_rate, config.head_lr_factor, config.weight_decay
    )
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=device.type in ("cpu", "cuda"))


def _warmup_steps(config: TrainingConfig, total: int) -> int:
    if config.num_warmup_steps is not None:
        return config.num_warmup_steps
    return round(config.warmup_ratio * total)


def _close_epoch(
    accelerator: Accelerator, progress: Progress, selection: Selection, seconds: float
) -> None:
    """Enter the epoch in the history, the log and the trackers, and begin the next."""
    figures: dict[str, float] = {"validation/loss": selection.loss}
    for point in ("micro_f1", "fixed"):
        for average in ("micro", "macro"):
            for name, value in selection.scores[point][average].items():
                if value is not None:
                    figures[f"validation/{point}/{average}/{name}"] = value
    train_loss = progress.loss_sum / max(progress.batch, 1)
    progress.history.append(
        {
            "epoch": selection.epoch,
            "step": progress.step,
            "best": progress.best_epoch == selection.epoch,
            "train_loss": train_loss,
            "seconds": round(seconds, 1),
            **figures,
        }
    )
    logger.info(
        "epoch %d: train loss %.4f, validation loss %.4f, micro-F1 %.4f (%.4f at 0.5), "
        "macro-F1 %.4f (%.4f at 0.5)",
        selection.epoch,
        train_loss,
        selection.loss,
        *(selection.scores[p][a]["f1"] for a in ("micro", "macro") for p in ("micro_f1", "fixed")),
    )
    accelerator.log(figures, step=progress.step)
    progress.epoch, progress.batch, progress.loss_sum = selection.epoch, 0, 0.0


def _better(config: TrainingConfig, selection: Selection, progress: Progress) -> bool:
    """Whether an epoch is the best so far: by micro-F1, but any of whole texts beats short ones.

    Micro-F1 of a few thousand articles is off by a point. In two of four runs on real records it
    was 0.001 to 0.002 higher after an epoch of short texts than after the last one, of whole texts,
    which had 0.015 more average precision (the validation split of bench/quality.py).
    """

    def rank(epoch: int, micro_f1: float) -> tuple[bool, float]:
        return epoch > config.short_epochs, micro_f1

    best = rank(progress.best_epoch, progress.best_micro_f1)
    return rank(selection.epoch, selection.micro_f1) > best


def _out_of_patience(config: TrainingConfig, progress: Progress) -> bool:
    patience = config.early_stopping_patience
    if patience is None or progress.epoch <= config.short_epochs < config.num_train_epochs:
        return False  # epochs of whole texts are to come, and each of them is better
    return progress.epoch - progress.best_epoch >= patience
