"""Scoring the validation table after an epoch, each article exactly once over all processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from studytag.errors import InputError
from studytag.evaluation.calibration import calibrate
from studytag.evaluation.metrics import score_points
from studytag.evaluation.split import with_known_label
from studytag.evaluation.thresholds import tune_thresholds
from studytag.labels import LabelSet
from studytag.training.batching import Batch, Collator
from studytag.training.config import TrainingConfig
from studytag.training.loss import masked_bce
from studytag.training.model_folder import Selection
from studytag.training.tokenization import TokenisedTable


def logits_of(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The model's logits of a batch, shape (b, labels)."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits: torch.Tensor = model(**inputs).logits
    return logits


@dataclass(frozen=True)
class Validation:
    """The validation table, ready to be run through a model.

    Attributes:
        loader: Batches, the longest articles first.
        judged: Row numbers of the articles of which a label is known, ascending; no others are run.
        order: Place in `judged` of each article in the loader's order.
        table: The table.
        labels: Its label set.
        calibrates: Whether the model's output layer can take a calibration in.
    """

    loader: DataLoader[Batch]
    judged: NDArray[np.int64]
    order: NDArray[np.int64]
    table: TokenisedTable
    labels: LabelSet
    calibrates: bool

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        accelerator: Accelerator,
        table: TokenisedTable,
        labels: LabelSet,
        padding_id: int,
        calibrates: bool,
    ) -> Validation:
        """Share the table's batches out over the processes.

        Raises:
            InputError: no article of the table has a known label.
        """
        judged = with_known_label(table.known)
        if not len(judged):
            raise InputError(f"{config.validation_file}: no article has a known label")
        order = np.argsort(-table.lengths[judged], kind="stable")
        loader = DataLoader(
            judged[order].tolist(),
            batch_size=config.per_device_eval_batch_size,
            generator=torch.Generator(),  # see the training loader's
            collate_fn=Collator(table, padding_id),
        )
        loader = accelerator.prepare_data_loader(loader)
        return cls(loader, judged, order, table, labels, calibrates)

    def run(self, accelerator: Accelerator, model: PreTrainedModel, epoch: int) -> Selection:
        """Loss, calibration, thresholds and scores; computed once, the same in every process."""
        model.train(False)
        gathered = []
        with torch.inference_mode():
            for batch in self.loader:
                logits = logits_of(model, batch).float()
                # Drops the articles that were repeated to even out the last batch.
                gathered.append(accelerator.gather_for_metrics(logits).cpu())
        outcome: list[Selection | None] = [None]
        if accelerator.is_main_process:
            outcome = [self._select(torch.cat(gathered), epoch)]
        broadcast_object_list(outcome)  # in place
        selection = outcome[0]
        assert selection is not None
        return selection

    def _select(self, sorted_logits: torch.Tensor, epoch: int) -> Selection:
        logits = torch.empty_like(sorted_logits)
        logits[torch.from_numpy(self.order)] = sorted_logits
        truth, known = self.table.truth[self.judged], self.table.known[self.judged]
        cells = (torch.from_numpy(matrix).float() for matrix in (truth, known))
        loss = masked_bce(logits, *cells)
        calibration = calibrate(truth, known & self.calibrates, logits.numpy())
        calibrated = torch.from_numpy(calibration(logits.numpy())).float()
        probabilities = torch.sigmoid(calibrated).numpy()
        thresholds = tune_thresholds(truth, known, probabilities)
        scores = score_points(self.labels, truth, known, probabilities, thresholds)
        return Selection(epoch, loss.item(), calibration, thresholds, scores, probabilities)
