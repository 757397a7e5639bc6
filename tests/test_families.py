"""Every family of encoders that is said to be served: trained, exported, the same as PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import MAX_LENGTH, invented_articles, torch_probabilities
from training_support import save_architecture

from studytag import Predictor
from studytag.export.pipeline import export_bundle
from studytag.training.loop import train
from studytag.training.suitability import SERVED

pytest_plugins = ["training_fixtures"]

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_LENGTH,
}
OFFSET = SIZES | {"max_position_embeddings": MAX_LENGTH + 2}
"""Where positions are numbered from behind the padding's."""

FAMILIES = {
    "distilbert": {
        **{"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        "max_position_embeddings": MAX_LENGTH,
    },
    "bert": SIZES,
    "roberta": OFFSET,
    "electra": SIZES | {"embedding_size": 16},
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "mpnet": OFFSET,
    "xlm-roberta": OFFSET,
    "modernbert": SIZES | {"global_attn_every_n_layers": 2, "local_attention": 16},
    "big_bird": SIZES,
    "albert": SIZES | {"embedding_size": 16},
    "roformer": SIZES | {"embedding_size": 16},
    "convbert": SIZES | {"embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3},
    "mobilebert": SIZES
    | {"embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 16},
}


def test_the_families_are_those_that_are_promised():
    # CamemBERT is RoBERTa, and DeBERTa's first version is like its second.
    assert FAMILIES.keys() == SERVED - {"camembert", "deberta"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_trained_exported_and_served_it_is_what_pytorch_computes(config, encoder, tmp_path, kind):
    save_architecture(tmp_path / "encoder", encoder, kind, **FAMILIES[kind])
    config = replace(
        config,
        model_name_or_path=str(tmp_path / "encoder"),
        num_train_epochs=1,
        max_train_steps=2,
        learning_rate=1e-3,
    )
    best = train(config)
    manifest = export_bundle(best, tmp_path / "bundle", config.validation_file, max_f1_drop=1)
    articles = invented_articles(12, seed=7)
    expected = torch_probabilities(best, articles)
    with Predictor(tmp_path / "bundle", variant="fp32", workers=1) as predictor:
        np.testing.assert_allclose(predictor.predict_proba(articles), expected, rtol=0, atol=1e-5)
    assert manifest.variants.keys() == {"fp32", "int8"}
    with Predictor(tmp_path / "bundle", variant="int8", workers=1) as predictor:
        assert np.abs(predictor.predict_proba(articles) - expected).max() < 0.1
