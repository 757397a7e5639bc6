"""Scoring the validation table after an epoch, each article exactly once over all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from studytag.dataset import rows_with_known_label
from studytag.errors import InputError
from studytag.evaluation.calibration import Calibration, calibrate
from studytag.evaluation.metrics import score_points
from studytag.evaluation.scores import Scores
from studytag.evaluation.thresholds import tune_thresholds
from studytag.labels import LabelSet
from studytag.manifest import DEFAULT_OPERATING_POINT, FIXED, Thresholds
from studytag.training.batching import Batch, Collator
from studytag.training.config import TrainingConfig
from studytag.training.loss import masked_bce


@dataclass(frozen=True)
class ValidationResult:
    """One epoch's model on the validation table.

    Attributes:
        epoch: Counted from 1.
        loss: Of the uncalibrated logits.
        calibration: Fitted to the logits.
        thresholds: Of every operating point, tuned on the calibrated probabilities.
        scores: By operating point, `f1` and `fixed`.
        probabilities: Calibrated, shape (n, labels), of the validation articles with a known label,
            in the order of the table; no label is less likely than one that implies it.
    """

    epoch: int
    loss: float
    calibration: Calibration
    thresholds: Thresholds
    scores: Mapping[str, Scores]
    probabilities: NDArray[np.floating]

    @property
    def micro_f1(self) -> float:
        """What epochs are compared by: micro-F1 at the tuned thresholds."""
        return self.scores[DEFAULT_OPERATING_POINT].micro.f1


def logits_of(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The model's logits of a batch, shape (b, labels)."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits: torch.Tensor = model(**inputs).logits
    return logits


@dataclass(frozen=True)
class Validation:
    """The validation table, ready to be scored.

    Attributes:
        loader: Batches, the longest articles first.
        evaluable: Row numbers, ascending, of the articles with a known label; no others are read.
        order: The place in `evaluable` of each article in the loader's order.
        truth: Of the evaluable articles, shape (n, labels).
        known: Of the evaluable articles, shape (n, labels).
        labels: The label set.
        calibrates: Whether the model's output layer can be calibrated.
    """

    loader: DataLoader[Batch]
    evaluable: NDArray[np.intp]
    order: NDArray[np.intp]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    labels: LabelSet
    calibrates: bool

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        accelerator: Accelerator,
        collator: Collator,
        labels: LabelSet,
        calibrates: bool,
    ) -> Validation:
        """Share the batches of the collator's table among the processes.

        Raises:
            InputError: no article of the table has a known label.
        """
        table = collator.table
        evaluable = rows_with_known_label(table.known)
        if not len(evaluable):
            raise InputError(f"{config.validation_file}: no article has a known label")
        order = np.argsort(-table.lengths[evaluable], kind="stable")
        loader = DataLoader(
            evaluable[order].tolist(),
            batch_size=config.per_device_eval_batch_size,
            generator=torch.Generator(),  # see the training loader's
            collate_fn=collator,
            pin_memory=accelerator.device.type == "cuda",
        )
        loader = accelerator.prepare_data_loader(loader)
        truth, known = table.truth[evaluable], table.known[evaluable]
        return cls(loader, evaluable, order, truth, known, labels, calibrates)

    def run(self, accelerator: Accelerator, model: PreTrainedModel, epoch: int) -> ValidationResult:
        """Loss, calibration, thresholds and scores; computed once, the same in every process.

        Raises:
            InputError: a logit is not finite.
        """
        model.train(False)
        gathered = []
        with torch.inference_mode():
            for batch in self.loader:
                logits = logits_of(model, batch).float()
                # Drops the articles that were repeated to fill up the last batch. Stays on the
                # device: copying it would wait for a GPU at every batch.
                gathered.append(accelerator.gather_for_metrics(logits))
        outcome: list[ValidationResult | None] = [None]
        if accelerator.is_main_process:
            logits = torch.cat(gathered).cpu()
            if torch.isfinite(logits).all():
                outcome = [self._result(logits, epoch)]
        broadcast_object_list(outcome)  # in place
        result = outcome[0]
        if result is None:
            raise InputError(
                f"training diverged in epoch {epoch}: the model's outputs are not finite; "
                "lower --learning-rate, or train without fp16"
            )
        return result

    def _result(self, sorted_logits: torch.Tensor, epoch: int) -> ValidationResult:
        logits = torch.empty_like(sorted_logits)
        logits[torch.from_numpy(self.order)] = sorted_logits
        truth, known = self.truth, self.known
        cells = (torch.from_numpy(matrix).float() for matrix in (truth, known))
        loss = masked_bce(logits, *cells)
        calibration = calibrate(truth, known & self.calibrates, logits.numpy())
        calibrated = torch.from_numpy(calibration(logits.numpy())).float()
        probabilities = self.labels.raise_implied(torch.sigmoid(calibrated).numpy())
        thresholds = tune_thresholds(truth, known, probabilities)
        reported: tuple[str, ...] = (DEFAULT_OPERATING_POINT, FIXED)
        points = {point: thresholds[point] for point in reported}
        scores = score_points(self.labels, truth, known, probabilities, points)
        return ValidationResult(epoch, loss.item(), calibration, thresholds, scores, probabilities)
