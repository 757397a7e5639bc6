"""Batches with little padding: articles of like length together, up to a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from studytag.training.tokenization import TokenisedTable
from studytag.words.excerpt import Excerpt

_WINDOW = 50
"""Batches' worth of articles sorted together: enough to leave little padding, few enough that
the composition of batches changes from epoch to epoch."""

Batch = dict[str, torch.Tensor]
Side = Literal["right", "left"]


class LengthGroupedBatches(Sampler[list[int]]):
    """The training batches of one process, each a list of row numbers.

    All processes together read every row exactly once an epoch. The order depends only on the seed
    and the epoch, so that a run can be resumed at any batch. What enters an optimizer step depends
    only on processes x accumulation: two processes take the same steps as one process that
    accumulates two batches.

    Args:
        lengths: Tokens of each row.
        batch_size: Most rows in a batch.
        tokens_per_batch: Most rows x longest row in a batch.
        rank: This process.
        processes: How many processes share the work.
        accumulation: Batches that a process takes for one optimizer step.
        seed: Of the shuffling.
        truncated_epochs: So many of the first epochs read `truncated_length` tokens of a row.
        truncated_length: Tokens.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.integer[Any]],
        batch_size: int,
        tokens_per_batch: int,
        rank: int = 0,
        processes: int = 1,
        accumulation: int = 1,
        seed: int = 0,
        truncated_epochs: int = 0,
        truncated_length: int = 128,
    ) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._tokens_per_batch = tokens_per_batch
        self._rank = rank
        self._processes = processes
        self._accumulation = accumulation
        self._seed = seed
        self._truncated_epochs = truncated_epochs
        self._truncated_length = truncated_length
        self.epoch = 0
        self.start = 0
        """Batches of this process to skip at the front, because they were trained before."""

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The batches of all processes in an epoch.

        Their number is a multiple of processes x accumulation, so that every process takes the
        same number and no gradient is left over. To get there the largest batches are halved, or,
        where all are single rows, some of the shortest share one in pairs.

        Raises:
            ValueError: there are fewer rows than processes x accumulation.
        """
        multiple = self._processes * self._accumulation
        if len(self._lengths) < multiple:
            raise ValueError("fewer rows than processes x gradient_accumulation_steps")
        limit = self.limit(epoch)
        lengths = self._lengths if limit is None else np.minimum(self._lengths, limit)
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._lengths))
        window = self._batch_size * _WINDOW
        batches: list[NDArray[np.int64]] = []
        for begin in range(0, len(order), window):
            part = order[begin : begin + window]
            part = part[np.argsort(-lengths[part], kind="stable")]
            while len(part):
                size = min(self._batch_size, max(self._tokens_per_batch // lengths[part[0]], 1))
                batches.append(part[:size])
                part = part[size:]
        while len(batches) % multiple and max(map(len, batches)) > 1:
            largest = batches.pop(max(range(len(batches)), key=lambda index: len(batches[index])))
            batches += [largest[::2], largest[1::2]]
        # Batches of the same step are of like length, so no process waits long.
        batches.sort(key=lambda batch: int(lengths[batch[0]]))
        spare = len(batches) % multiple
        pairs = zip(batches[1 : 2 * spare : 2], batches[: 2 * spare : 2], strict=True)
        batches[: 2 * spare] = [np.concatenate(pair) for pair in pairs]
        groups = np.arange(len(batches)).reshape(-1, multiple)
        return [batches[index] for index in rng.permutation(groups).ravel()]

    def limit(self, epoch: int) -> int | None:
        """Tokens that an epoch reads of a text; None for all of them."""
        return self._truncated_length if epoch < self._truncated_epochs else None

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batches(self.epoch)[self._rank :: self._processes]
        for batch in share[self.start :]:
            yield batch.tolist()

    def count(self, epoch: int) -> int:
        """Batches that this process takes in a whole epoch, whatever `start` is."""
        return len(self.batches(epoch)) // self._processes


@dataclass
class Collator:
    """Pads token ids to the longest of the batch and stacks truth and mask as float32.

    Attributes:
        table: Holds the rows.
        padding_id: Fills up shorter rows; it is masked out of attention.
        padding_side: The side on which a row is filled up.
        truncation_side: The side on which a row loses tokens to `limit`.
        limit: Tokens that are read of a row; None for all of them.
        excerpt: Picks the tokens of rows that are longer than `limit`; None truncates them.
    """

    table: TokenisedTable
    padding_id: int
    padding_side: Side = "right"
    truncation_side: Side = "right"
    limit: int | None = None
    excerpt: Excerpt | None = None

    def __call__(self, rows: list[int]) -> Batch:
        """One batch: input_ids, attention_mask (b, longest), labels, known (b, labels)."""
        input_ids, attention_mask = self._read(rows)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": torch.from_numpy(self.table.truth[rows].astype(np.float32)),
            "known": torch.from_numpy(self.table.known[rows].astype(np.float32)),
        }

    def _read(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, both (b, longest)."""
        texts = [self.table.token_ids(row) for row in rows]
        if self.limit is None:
            return self._padded(texts)
        if self.excerpt is None:
            return self._padded([self._truncated(ids, self.limit) for ids in texts])
        input_ids, mask = self._padded(texts)
        with torch.no_grad():
            places = self.excerpt(input_ids, mask, torch.tensor([self.limit]))
        return input_ids.gather(1, places), mask.gather(1, places)

    def _padded(self, texts: list[NDArray[np.integer[Any]]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, texts))
        input_ids = np.full((len(texts), longest), self.padding_id, dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for place, ids in enumerate(texts):
            begin = longest - len(ids) if self.padding_side == "left" else 0
            input_ids[place, begin : begin + len(ids)] = ids
            mask[place, begin : begin + len(ids)] = 1
        return torch.from_numpy(input_ids), torch.from_numpy(mask)

    def _truncated(self, ids: NDArray[np.integer[Any]], limit: int) -> NDArray[np.integer[Any]]:
        """A row without its surplus; the special tokens that open and close it stay."""
        if len(ids) <= limit:
            return ids
        if self.truncation_side == "left":
            return np.append(ids[:1], ids[len(ids) - limit + 1 :])
        return np.append(ids[: limit - 1], ids[-1])
