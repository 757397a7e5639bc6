"""The training loop, written out with accelerate.

    studytag train [--config minilm] [--learning-rate 3e-5 ...]

After every epoch the validation table is scored, thresholds are tuned on it, and the model is kept
if it is the best so far, by micro-F1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from studytag.errors import InputError
from studytag.manifest import Manifest
from studytag.records import TextRecipe
from studytag.training.batching import Batch, Collator, LengthGroupedBatches
from studytag.training.checkpoint import Identity, Progress, save_checkpoint, set_aside_later
from studytag.training.config import TrainingConfig
from studytag.training.distilbert import train_first_token
from studytag.training.encoder import load_encoder
from studytag.training.head import init_output_bias, output_layer
from studytag.training.history import write_history
from studytag.training.hooks import Loss, TrainingHooks
from studytag.training.loss import masked_bce
from studytag.training.model_folder import save_model_folder
from studytag.training.resume import resume, run_identity
from studytag.training.run_record import (
    effective_precision,
    only_run,
    record_resume,
    record_start,
)
from studytag.training.selection import (
    is_better,
    out_of_patience,
    record_epoch,
    select_anew_if_gone,
)
from studytag.training.setup import (
    best_folder,
    check_length,
    check_scheduler,
    checkpoint_folder,
    count_learned,
    draft_manifest,
    find_resume,
    init_trackers,
    make_accelerator,
    make_optimizer,
    make_scheduler,
    make_train_loader,
    plan_steps,
    read_labels,
    tokenise_tables,
    with_fast_attention,
    words_of_excerpts,
)
from studytag.training.suitability import freeze_unused_parameters
from studytag.training.validation import Validation, logits_of
from studytag.words.excerpt import Excerpt
from studytag.words.ngrams import Ngrams

logger = get_logger(__name__)


def train(
    config: TrainingConfig,
    *,
    hooks: TrainingHooks | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path | None:
    """Fine-tune an encoder, keep the best epoch, and tune its thresholds.

    Args:
        config: The options.
        hooks: Parts to replace, for experiments.
        stop: Asked between optimizer steps. Once it returns True in any process, all save a
            checkpoint and end.

    Returns:
        The best model's folder; None if `stop` ended the run, which may have no best model yet.

    Raises:
        InputError: data, encoder, checkpoint, disk or an option is unusable, or training diverged.
        OutputInUseError: another run is writing to the output folder.
    """
    with only_run(Path(config.output_dir)):
        return _train(_prepare(config, hooks or TrainingHooks(), stop or (lambda: False)))


def _train(run: _Run) -> Path | None:
    """Train to the end, or until asked to stop; the best model's folder as `train` returns it."""
    progress, best = run.progress, best_folder(run.config)
    if not run.unfinished():
        if progress.best_micro_f1 < 0:
            raise InputError(
                f"{best} does not hold the run's best model, and no epoch is left to "
                "train; resume from an earlier checkpoint, or train anew in another --output-dir"
            )
        logger.info("already finished at epoch %d, step %d", progress.epoch, progress.step)
    while run.unfinished():
        run.train_epoch()
        if run.stopped:
            advice = "stopped at step %d; continue with --resume-from-checkpoint auto"
            logger.info(advice, progress.step)
            break
        run.close_epoch()
    run.accelerator.end_training()
    if progress.best_micro_f1 >= 0:
        found = (progress.best_epoch, progress.best_micro_f1, best)
        logger.info("best epoch %d, validation micro-F1 %.4f: %s", *found)
    return None if run.stopped else best


def _prepare(config: TrainingConfig, hooks: TrainingHooks, stop: Callable[[], bool]) -> _Run:
    """Load, check and restore all that a run needs. The order decides what random numbers are."""
    check_scheduler(config)
    checkpoint = find_resume(config)
    accelerator = make_accelerator(config)
    own_attention = config.attn_implementation is None
    config = with_fast_attention(config, accelerator)
    set_seed(config.seed)

    labels = read_labels(config)
    recipe = TextRecipe(max_chars=config.max_chars)
    model, tokenizer = load_encoder(
        config.model_name_or_path, labels, config.attention_dropout, config.attn_implementation
    )
    if own_attention:
        train_first_token(model)
    if hooks.model is not None:
        hooks.model(model)
    check_length(config, model)
    freeze_unused_parameters(model, accelerator)
    train_table, validation_table = tokenise_tables(config, accelerator, labels, tokenizer, recipe)
    learned = count_learned(config, accelerator, train_table, validation_table)
    if config.init_output_bias:
        init_output_bias(model, train_table.truth, train_table.known)
    set_seed(config.seed, device_specific=True)  # from here on dropout differs by process

    collator = hooks.collator or Collator
    sides = (tokenizer.pad_token_id, tokenizer.padding_side, tokenizer.truncation_side)
    collate = collator(train_table, *sides)
    batches, loader = make_train_loader(config, accelerator, collate)
    calibrates = config.calibrate and output_layer(model) is not None
    validation = Validation.of(
        config, accelerator, Collator(validation_table, *sides), labels, calibrates
    )
    config, total = plan_steps(config, batches)
    words = words_of_excerpts(config, accelerator, train_table, len(tokenizer))
    collate.excerpt = None if words is None else Excerpt(words)
    optimizer = (
        hooks.optimizer(config, model)
        if hooks.optimizer is not None
        else make_optimizer(config, model, accelerator.device)
    )
    scheduler = make_scheduler(config, optimizer, total)
    model, optimizer = accelerator.prepare(model, optimizer)
    # The schedule is not prepared: accelerate would step it once per process.
    accelerator.register_for_checkpointing(scheduler)

    tables = {"train_file": train_table, "validation_file": validation_table}
    identity = run_identity(config, effective_precision(accelerator), labels, tables)
    progress = Progress(processes=accelerator.num_processes)
    if checkpoint is not None:
        progress, changes = resume(checkpoint, config, identity, accelerator, optimizer, scheduler)
        logger.info("resuming from %s: step %d of %d", checkpoint, progress.step, total)
        select_anew_if_gone(progress, best_folder(config))
        if accelerator.is_main_process:
            set_aside_later(checkpoint_folder(config), progress.step)
            record_resume(config, accelerator, checkpoint, progress.step, changes)
    elif accelerator.is_main_process:
        record_start(config, accelerator, labels, tables)
    init_trackers(accelerator, config)
    return _Run(
        config=config,
        accelerator=accelerator,
        model=model,
        tokenizer=tokenizer,
        optimizer=optimizer,
        scheduler=scheduler,
        batches=batches,
        loader=loader,
        validation=validation,
        loss=hooks.loss or masked_bce,
        progress=progress,
        total=total,
        stop=stop,
        identity=identity,
        manifest=draft_manifest(config, labels, recipe, tokenizer, tables, learned),
        words=words,
    )


@dataclass
class _Run:
    """All that an epoch of training needs."""

    config: TrainingConfig
    accelerator: Accelerator
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    batches: LengthGroupedBatches
    loader: DataLoader[Batch]
    validation: Validation
    loss: Loss
    progress: Progress
    total: int
    stop: Callable[[], bool]
    identity: Identity
    manifest: Manifest
    words: Ngrams | None
    stopped: bool = False

    def unfinished(self) -> bool:
        """Whether there is an epoch to train, or one to close: its last step may be done."""
        if self.progress.batch > 0:
            return True
        more = self.progress.epoch < self.config.num_train_epochs
        return (
            more
            and self.progress.step < self.total
            and not out_of_patience(self.config, self.progress)
        )

    def train_epoch(self) -> None:
        """Train to the end of the epoch or of the run, or until asked to stop.

        A run that is asked to stop leaves a checkpoint.
        """
        accelerator, progress = self.accelerator, self.progress
        started, articles, before = time.perf_counter(), 0, progress.seconds
        self.batches.epoch, self.batches.start = progress.epoch, progress.batch
        collator = self.loader.collate_fn
        assert isinstance(collator, Collator)
        collator.limit = self.batches.limit(progress.epoch)
        self.model.train()
        # On the device, so that adding to it needs no synchronisation. MPS has no double precision.
        precision = torch.float32 if accelerator.device.type == "mps" else torch.float64
        loss_sum = torch.tensor(progress.loss_sum, dtype=precision, device=accelerator.device)
        with self._progress_bar() as bar:
            for batch in self.loader if progress.step < self.total else ():
                loss = self._train_batch(batch)
                loss_sum += loss
                progress.batch += 1
                articles += len(batch["labels"]) * accelerator.num_processes
                if accelerator.sync_gradients:
                    progress.step += 1
                    bar.update()
                    logs = progress.step % self.config.logging_steps == 0
                    if logs:
                        self._check_finite(loss_sum)
                        self._report(bar, loss, articles / (time.perf_counter() - started))
                    # One process that is asked to stop stops all. Asking interrupts a GPU.
                    if logs or accelerator.device.type == "cpu":
                        self.stopped = self._asked_to_stop()
                    every = self.config.checkpointing_steps
                    if self.stopped or (every and progress.step % every == 0):
                        progress.loss_sum = self._check_finite(loss_sum)
                        progress.seconds = before + time.perf_counter() - started
                        self.save()
                    if self.stopped or progress.step >= self.total:
                        break
        progress.loss_sum = self._check_finite(loss_sum)
        progress.seconds = before + time.perf_counter() - started

    def close_epoch(self) -> None:
        """Validate, keep the model if it is the best so far, and record the epoch."""
        progress = self.progress
        result = self.validation.run(self.accelerator, self.model, progress.epoch + 1)
        if is_better(self.config, result, progress):
            progress.best_micro_f1, progress.best_epoch = result.micro_f1, result.epoch
            weights = self.accelerator.get_state_dict(self.model)
            if self.accelerator.is_main_process:
                save_model_folder(
                    best_folder(self.config),
                    self.accelerator.unwrap_model(self.model, keep_torch_compile=False),
                    # torch.compile puts a prefix before every name.
                    {name.removeprefix("_orig_mod."): tensor for name, tensor in weights.items()},
                    self.tokenizer,
                    result,
                    self.manifest,
                    self.words,
                )
        record_epoch(self.accelerator, progress, result)
        if self.accelerator.is_main_process:
            write_history(Path(self.config.output_dir), progress.history)
        self.save()
        if out_of_patience(self.config, progress):
            patience = self.config.early_stopping_patience
            logger.info("stopping early: no better micro-F1 for %s epochs", patience)

    def save(self) -> None:
        """Write a checkpoint."""
        save_checkpoint(
            self.accelerator,
            checkpoint_folder(self.config),
            self.progress,
            self.identity,
            self.config.checkpoints_total_limit,
        )

    def _train_batch(self, batch: Batch) -> torch.Tensor:
        """Forward and backward pass; an optimizer step when gradients have accumulated."""
        accelerator = self.accelerator
        batch = {
            name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()
        }
        with accelerator.accumulate(self.model):
            logits = logits_of(self.model, batch)
            loss = self.loss(logits, batch["labels"], batch["known"])
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
                self.scheduler.step()
            self.optimizer.zero_grad()
        return loss.detach()

    def _progress_bar(self) -> tqdm:  # type: ignore[type-arg]
        return tqdm(
            desc=f"epoch {self.progress.epoch + 1}/{self.config.num_train_epochs}",
            total=self.total,
            initial=self.progress.step,
            unit="step",
            # A log file gets a line now and then instead of a bar that redraws itself.
            mininterval=0.5 if sys.stderr.isatty() else 60,
            disable=not self.accelerator.is_main_process,
        )

    def _report(self, bar: tqdm, loss: torch.Tensor, speed: float) -> None:  # type: ignore[type-arg]
        """Update the bar and the trackers; reading the loss waits for a GPU to finish its work."""
        rate, value = self.scheduler.get_last_lr()[0], loss.item()
        bar.set_postfix_str(
            f"loss {value:.4f}, lr {rate:.1e}, {speed:.1f} articles/s", refresh=False
        )
        self.accelerator.log({"train/loss": value, "train/lr": rate}, step=self.progress.step)

    def _asked_to_stop(self) -> bool:
        if self.stop():
            self.accelerator.set_trigger()
        return bool(self.accelerator.check_trigger())

    def _check_finite(self, loss_sum: torch.Tensor) -> float:
        """The mean of the processes' sums of losses; all raise if that of any is not finite."""
        sums = self.accelerator.gather(loss_sum.reshape(1))
        if not torch.isfinite(sums).all():
            raise InputError(
                f"training diverged: the loss is not finite at step {self.progress.step}; lower "
                "--learning-rate, or train without fp16, then continue with "
                "--resume-from-checkpoint auto --allow-changed learning_rate"
            )
        return float(sums.mean().item())
