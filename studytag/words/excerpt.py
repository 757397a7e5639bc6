"""What the transformer reads of a text when it reads little: where the words say most.

The title and the first lines of an abstract tell the topic; the design is told by a few phrases
anywhere. The linear model of words knows those phrases, so it picks the tokens for the
transformer. On sources never seen 104 tokens picked so rank as well as whole texts do, while the
first 144 lose more than a point of average precision (docs/experiments.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from studytag.words.ngrams import Ngrams, token_and_pair_rows

FIRST = 32
"""Tokens at the beginning that are always read: [CLS] and, mostly, the title."""

WINDOW = 17
"""A token counts with its eight neighbours on either side, so that phrases are read whole."""

_STEPS = 4096
"""The greatest weight."""

_ALWAYS = 2**60
"""Ranks before any sum of weights."""


class Excerpt(nn.Module):
    """From a text to the places of the tokens to read.

    A token weighs as much as it can move a label's logit in the linear model, and half as much as
    each of the two pairs that it belongs to can. All sums are of whole numbers, so that every
    engine and processor picks the same tokens.
    """

    def __init__(self, ngrams: Ngrams) -> None:
        """Take the weights of `ngrams`, for each token and pair the greatest over the labels."""
        super().__init__()
        greatest = (ngrams.weights.abs().to(torch.float32) * ngrams.scale).amax(dim=1)
        steps = _STEPS / greatest.max().clamp(min=1e-6)
        self.weights: Tensor
        self.register_buffer("weights", (greatest * steps).round().to(torch.int16))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> Tensor:
        """Token ids and mask, both (b, n), and how many to read, (1,), to places (b, m), ascending.

        m is `tokens`, or n where a text has fewer.
        """
        token, pair = token_and_pair_rows(input_ids, attention_mask, len(self.weights))
        single, double = self.weights[token].long() * 2, self.weights[pair].long()
        weight = single + functional.pad(double, (1, 0)) + functional.pad(double, (0, 1))
        # The sum of each window is the difference of two sums from the beginning.
        total = functional.pad(weight, (WINDOW // 2 + 1, WINDOW // 2)).cumsum(dim=1)
        around = total[:, WINDOW:] - total[:, :-WINDOW]
        place = attention_mask.cumsum(dim=1)
        width = input_ids.shape[1]
        rank = around * width - place  # of equals, the first
        rank = torch.where(place <= FIRST, _ALWAYS - place, rank)
        rank = torch.where(place == place[:, -1:], _ALWAYS, rank)  # the last is [SEP]
        rank = torch.where(attention_mask != 0, rank, -width - 1)
        count = torch.minimum(tokens[0], torch.tensor(width))
        return rank.topk(count).indices.sort(dim=1).values  # type: ignore[arg-type]
