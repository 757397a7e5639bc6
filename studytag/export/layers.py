"""DistilBERT's layers as they are traced: the same results in less time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from studytag.manifest import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PIECE = 1536
"""Hidden width of a feed-forward network at which OpenVINO's is cut. At 6 layers of 768 with 3,072
inside, halves take 0.91 of the time on an Intel Xeon with AMX; 1,536 in smaller pieces, 1.1."""


@contextmanager
def faster_layers(model: PreTrainedModel, engine: Engine = "onnxruntime") -> Iterator[None]:
    """Trace DistilBERT with attention as one operator, and the last layer for [CLS] alone.

    The head reads no other token; attention still looks at all of them. The results are the same
    but for rounding. Other encoders are left as they are. The operator is the `engine`'s own.
    """
    if model.config.model_type != "distilbert":
        yield
        return
    layers = list(model.base_model.transformer.layer)
    for layer in layers:
        layer.forward = _Layer(layer, first_only=layer is layers[-1], engine=engine)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again


class _Layer:
    """The forward pass of a layer, with the layer's own weights."""

    def __init__(self, layer: Any, first_only: bool, engine: Engine) -> None:
        self._layer = layer
        self._first_only = first_only
        onnxruntime = engine == "onnxruntime"
        self._attend = _Attention.apply if onnxruntime else _attend
        self._feed_forward = layer.ffn if onnxruntime else _InPieces(layer.ffn)

    def __call__(self, tokens: Tensor, mask: Tensor, *_: object) -> tuple[Tensor]:
        """Tokens (b, n, dim) and a mask (b, n), 0 for padding, to (b, n, dim) or (b, 1, dim)."""
        layer, attention = self._layer, self._layer.attention
        if self._first_only:
            queries, seen = tokens[:, :1], _seen_by_first(attention, tokens, mask)
        else:
            queries = tokens
            seen = self._attend(
                attention.q_lin(tokens),
                attention.k_lin(tokens),
                attention.v_lin(tokens),
                mask.to(torch.int32),
                attention.n_heads,
            )
        seen = layer.sa_layer_norm(attention.out_lin(seen) + queries)
        return (layer.output_layer_norm(self._feed_forward(seen) + seen),)


class _InPieces:
    """A feed-forward network as the sum of narrower ones, which are the same in all.

    The weights of a piece stay in a core's cache between its two products.
    """

    def __init__(self, network: Any) -> None:
        self._activation = network.activation
        self._bias = network.lin2.bias.detach()
        self._pieces = [
            [part.detach().contiguous() for part in parts]
            for parts in zip(
                network.lin1.weight.split(PIECE),
                network.lin1.bias.split(PIECE),
                network.lin2.weight.split(PIECE, dim=1),
                strict=True,
            )
        ]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (b, n, dim) to the same shape."""
        total: Tensor = self._bias
        for widen, bias, narrow in self._pieces:
            total = total + linear(self._activation(linear(tokens, widen, bias)), narrow)
        return total


def _seen_by_first(attention: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """What the first token's heads see, shape (b, 1, dim), with no token projected.

    A head scores token x by q (K x + k) = (q K) x + q k, of which softmax ignores the second term,
    the same for all tokens. With weights that sum to 1 it sees sum a (V x + v) = V (sum a x) + v.
    So the two projections fall on one query and one mixture a head instead of on every token.
    """
    heads, dim = attention.n_heads, attention.dim
    keys, values = (
        projection.weight.reshape(heads, dim // heads, dim)
        for projection in (attention.k_lin, attention.v_lin)
    )
    query = attention.q_lin(tokens[:, 0]).reshape(-1, heads, 1, dim // heads)
    scores = (query @ keys).flatten(1, 2) @ tokens.transpose(1, 2) / math.sqrt(dim // heads)
    scores = scores.masked_fill(mask[:, None] == 0, torch.finfo(scores.dtype).min)
    mixtures = scores.softmax(dim=-1) @ tokens
    seen: Tensor = (mixtures.unsqueeze(2) @ values.transpose(1, 2)).reshape(-1, 1, dim)
    seen = seen + attention.v_lin.bias
    return seen


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int) -> Tensor:
    """As `_Attention`, in PyTorch's own operator, which OpenVINO takes over as one of its own.

    A mask of numbers to add is made once for all rows; one of booleans would be for each.
    """
    queries, keys, values = (_split(projected, heads) for projected in (query, key, value))
    hidden = torch.where(mask[:, None, None] == 0, -1e9, 0.0)
    seen: Tensor = scaled_dot_product_attention(queries, keys, values, attn_mask=hidden)
    return seen.transpose(1, 2).flatten(2)


def _split(projected: Tensor, heads: int) -> Tensor:
    """Shape (b, n, dim) to (b, heads, n, dim / heads)."""
    return projected.reshape(*projected.shape[:2], heads, -1).transpose(1, 2)


class _Attention(torch.autograd.Function):
    """Multi-head attention that is traced to onnxruntime's own operator.

    That works block by block in the processor's cache and never writes down the n x n scores. With
    the mask left out where nothing is padded (see graph.py) an int8 graph took 30 instead of 39 ms
    for 280 tokens and 65 instead of 117 for 512 (docs/experiments.md).
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int
    ) -> Tensor:
        """Query (b, m, dim), key and value (b, n, dim), mask (b, n); returns (b, m, dim)."""
        scores = _split(query, heads) @ _split(key, heads).transpose(2, 3)
        scores = scores / math.sqrt(query.shape[-1] // heads)
        scores = scores.masked_fill(mask[:, None, None] == 0, torch.finfo(scores.dtype).min)
        context: Tensor = scores.softmax(dim=-1) @ _split(value, heads)
        return context.transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(g: Any, query: Any, key: Any, value: Any, mask: Any, heads: int) -> Any:
        """The operator's node; its fourth input, a bias, is absent."""
        none = g.op("prim::Constant")
        none.setType(torch._C.OptionalType.ofTensor())
        node = g.op(
            "com.microsoft::MultiHeadAttention", query, key, value, none, mask, num_heads_i=heads
        )
        node.setType(query.type())
        return node
