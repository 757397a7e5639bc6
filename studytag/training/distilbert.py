"""DistilBERT's forward pass as it is trained: the same function, with less work."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


def train_first_token(model: PreTrainedModel) -> None:
    """Have a DistilBERT classifier compute of its last layer what the classifier reads: [CLS].

    That saves an eighth of a step. Attention of bf16 on a CPU is computed in float32, because there
    the backward pass of PyTorch's fused kernel takes five times as long in bf16, and attention
    without that kernel twice as long. Layers are still called as modules, as FSDP needs it. Other
    encoders stay as they are.
    """
    if model.config.model_type != "distilbert":
        return
    for layer in model.distilbert.transformer.layer:
        layer.forward = MethodType(_layer, layer)
    model.forward = MethodType(_forward, model)


def _forward(
    model: Any, input_ids: Tensor, attention_mask: Tensor, **_: object
) -> SequenceClassifierOutput:
    """Token ids and mask, both (b, n), to an output with logits (b, labels)."""
    tokens = model.distilbert.embeddings(input_ids)
    mask = attention_mask[:, None, None, :] != 0
    *layers, last = model.distilbert.transformer.layer
    for layer in layers:
        tokens = layer(tokens, tokens, mask)
    first = last(tokens[:, :1], tokens, mask)[:, 0]
    hidden = model.dropout(torch.relu(model.pre_classifier(first)))
    return SequenceClassifierOutput(logits=model.classifier(hidden))


def _layer(layer: Any, asking: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """The tokens of `asking`, (b, m, dim), after they have read `tokens`, (b, n, dim)."""
    attention = layer.attention
    query, key, value = (
        project(read).unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)
        for project, read in (
            (attention.q_lin, asking),
            (attention.k_lin, tokens),
            (attention.v_lin, tokens),
        )
    )
    dropout = attention.dropout.p if layer.training else 0.0
    seen = attention.out_lin(_attend(query, key, value, mask, dropout).transpose(1, 2).flatten(2))
    seen = layer.sa_layer_norm(seen + asking)
    result: Tensor = layer.output_layer_norm(layer.ffn(seen) + seen)
    return result


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    if query.device.type != "cpu" or query.dtype == torch.float32:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    with torch.autocast("cpu", enabled=False):
        seen = scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=mask, dropout_p=dropout
        )
    return seen.to(query.dtype)
