"""Whether a model can be trained and served, found out before hours are spent on it."""

from __future__ import annotations

import copy
import logging

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from studytag.errors import InputError

logger = logging.getLogger(__name__)

SERVED = frozenset(
    {
        *("albert", "bert", "big_bird", "camembert", "convbert", "deberta", "deberta-v2"),
        *("distilbert", "electra", "mobilebert", "modernbert", "mpnet", "roberta", "roformer"),
        *("xlm-roberta",),
    }
)
"""Architectures that are known to export."""

_NO_EXPORTER = "it cannot be exported to ONNX"
_UNSERVABLE = {
    "longformer": "its export asks for a global attention mask, which no text brings along",
    "canine": "it reads characters, without a tokenizer",
    **dict.fromkeys(
        (
            *("ernie", "ernie_m", "fnet", "funnel", "luke", "mega", "mra", "nezha", "qdqbert"),
            *("reformer", "roberta-prelayernorm", "roc_bert", "xlm-roberta-xl", "xlnet"),
            *("xmod", "yoso"),
        ),
        _NO_EXPORTER,
    ),
}
"""Architecture to the reason why no bundle can be made of it."""


def check_servable(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Make sure that a bundle can be made of the model, and that the tokenizer fits it.

    Raises:
        InputError: not so; says why.
    """
    kind = model.config.model_type
    reason = _UNSERVABLE.get(kind)
    if model.config.is_encoder_decoder:
        reason = "it is an encoder-decoder"
    if reason is not None:
        raise InputError(
            f"the encoder {name!r} ({kind}) cannot be served: {reason}; train another encoder, "
            "such as a BERT, DistilBERT, RoBERTa, ELECTRA, DeBERTa or ModernBERT"
        )
    if kind not in SERVED:
        logger.warning(
            "nobody has tried to export the architecture %s: before a long training, try one with "
            "--max-train-steps 10, and studytag export",
            kind,
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"the encoder {name!r} has no fast tokenizer ({type(tokenizer).__name__}), which "
            "serving needs; train another encoder"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"the encoder {name!r} has no padding token, so articles cannot be batched; set "
            "pad_token in its tokenizer_config.json, or train another encoder"
        )
    largest = max(tokenizer.get_vocab().values())
    rows = model.get_input_embeddings().num_embeddings
    if largest >= rows:
        raise InputError(
            f"the encoder {name!r} embeds {rows} tokens, but its tokenizer numbers them up to "
            f"{largest}; they do not belong together: give a folder with the tokenizer of the model"
        )


def readable_tokens(model: PreTrainedModel) -> int | None:
    """The longest input in tokens, special tokens included; None where nothing limits it.

    RoBERTa and its relatives number positions from padding_idx + 1, so that a table of 514
    positions reads 512 tokens. XLNet has no table and says -1.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - reserved
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def freeze_unused_parameters(model: PreTrainedModel, accelerator: Accelerator) -> None:
    """Freeze parameters that get no gradient, such as a pooler that the head does not read.

    Several processes wait for the gradient of every parameter that is not frozen. An optimizer
    skips parameters without a gradient, so the result is the same.
    """
    if accelerator.distributed_type not in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        return
    # On a copy without dropout: neither random state nor the model's own may change.
    probe = copy.deepcopy(model).eval()
    ids = torch.ones((2, 8), dtype=torch.long)
    probe(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
    unused = {name for name, weight in probe.named_parameters() if weight.grad is None}
    for name, parameter in model.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)
    if unused and accelerator.is_main_process:
        logger.info("frozen, because they get no gradient: %s", ", ".join(sorted(unused)))
