"""Words and pairs of words beside the transformer, in the graphs of a bundle."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from support import LABELS, MAX_LENGTH, STUDIES, SUBJECTS, invented_articles, save_tiny_model
from transformers import AutoTokenizer

from studytag import Predictor
from studytag.cli.main import main
from studytag.dataset import load_evaluable
from studytag.errors import InputError
from studytag.evaluation.prevalence import logit
from studytag.export.ngrams import best_factor
from studytag.export.pipeline import export_bundle
from studytag.export.recalibration import raw_probabilities
from studytag.manifest import load_manifest
from studytag.words.excerpt import FIRST, WINDOW, Excerpt
from studytag.words.ngrams import BUCKETS, Ngrams, rows_to_learn_from

UNKNOWN = LABELS[2]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A model of random weights, articles whose labels their words give away, and what is learned
    of them."""
    folder = tmp_path_factory.mktemp("ngrams")
    model = save_tiny_model(folder / "model", "distilbert")
    articles = invented_articles(120, seed=3)
    texts = [f"{article['title']} {article['abstract'] or ''}".strip() for article in articles]
    with (folder / "train.jsonl").open("w", encoding="utf-8") as stream:
        for article, text in zip(articles, texts, strict=True):
            row = article | {
                "labels": [
                    label
                    for label, subject in zip(LABELS, SUBJECTS, strict=True)
                    if subject in text.lower() and label != UNKNOWN
                ],
                "known": [label for label in LABELS if label != UNKNOWN],
            }
            stream.write(json.dumps(row) + "\n")
    table = load_evaluable(folder / "train.jsonl", STUDIES)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ngrams = Ngrams.fit(_token_ids(tokenizer, texts), len(tokenizer), table.truth, table.known)
    return folder, table, tokenizer, ngrams, texts


def _token_ids(tokenizer, texts):
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return [np.array(ids) for ids in encoded]


def test_a_text_is_the_set_of_its_tokens_and_pairs(learned):
    _, _, tokenizer, ngrams, texts = learned
    weights = ngrams.weights.numpy() * ngrams.scale.numpy()
    for text in texts[:5]:
        ids = tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        pairs = zip(ids, ids[1:], strict=False)
        keys = {*ids, *(len(tokenizer) + (a * 40503 + b * 30011) % BUCKETS for a, b in pairs)}
        expected = weights[sorted(keys)].sum(axis=0) / len(keys) ** 0.5 + ngrams.offset.numpy()
        found = ngrams.logits([np.array(ids)])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_labels_are_learned_from_words_and_unknown_ones_left_alone(learned):
    _, table, tokenizer, ngrams, texts = learned
    column = LABELS.index(UNKNOWN)
    logits = ngrams.logits(_token_ids(tokenizer, texts))
    assert not logits[:, column].any()
    others = np.arange(len(LABELS)) != column
    assert ((logits > 0) == table.truth)[:, others].mean() > 0.95


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_no_word(learned, side):
    _, _, _, ngrams, _ = learned
    texts = [[2, 7, 8, 7, 8, 3], [2, 3], [2, 9, 9, 9, 3]]
    ids, mask = np.zeros((3, 9), np.int64), np.zeros((3, 9), np.int64)
    for row, text in enumerate(texts):
        place = slice(len(text)) if side == "right" else slice(-len(text), None)
        ids[row, place], mask[row, place] = text, 1
    together = ngrams(torch.from_numpy(ids), torch.from_numpy(mask))
    for row, text in enumerate(texts):
        alone = torch.tensor([text])
        torch.testing.assert_close(ngrams(alone, torch.ones_like(alone))[0], together[row])


def test_a_bundle_with_words_ranks_by_them(learned, tmp_path, caplog):
    folder, table, *_ = learned
    train = folder / "train.jsonl"
    plain, bundle = tmp_path / "plain", tmp_path / "bundle"
    options = ["--model", str(folder / "model"), "--validation", str(train)]
    options += ["--max-f1-drop", "1", "--output"]
    main(["export", *options, str(plain)])
    assert "learned from these articles" not in caplog.text
    main(["export", *options, str(bundle), "--ngrams", str(train)])
    assert f"{train}: the model learned from these articles, or its words did" in caplog.text
    before, after = load_manifest(plain), load_manifest(bundle)
    assert after.training["ngrams"]["share"] == 0.7
    for name in ("fp32", "int8"):
        gain = after.variants[name].scores["f1"].macro.average_precision
        assert gain > before.variants[name].scores["f1"].macro.average_precision + 0.2
    assert after.variants["fp32"].parity["max_abs_difference"] < 1e-4

    # Whoever runs the graph by itself gets the sum.
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    session = ort.InferenceSession(bundle / "onnx" / "model.onnx")
    article = table.rows[0]
    encoded = tokenizer(
        f"{article['title']} {article['abstract'] or ''}".strip(),
        truncation=True,
        max_length=MAX_LENGTH,
        return_tensors="np",
    )
    (logits,) = session.run(
        None, {node.name: np.asarray(encoded[node.name], np.int64) for node in session.get_inputs()}
    )
    with Predictor(bundle, variant="fp32") as predictor:
        np.testing.assert_allclose(logit(predictor.predict_proba([article])), logits, atol=1e-3)


def test_a_table_of_words_that_is_missing_is_named_before_the_work(learned, tmp_path):
    folder, *_ = learned
    with pytest.raises(InputError, match="none.parquet"):
        export_bundle(
            folder / "model", tmp_path / "b", folder / "train.jsonl", ngrams="none.parquet"
        )
    assert not (tmp_path / "b").exists()


@pytest.fixture(scope="module")
def fast_bundle(learned, tmp_path_factory):
    """A bundle whose fast variant reads 24 tokens."""
    folder, *_ = learned
    bundle = tmp_path_factory.mktemp("fast") / "bundle"
    train = folder / "train.jsonl"
    export_bundle(
        folder / "model",
        bundle,
        train,
        ngrams=train,
        fast_tokens=24,
        variants=("int8", "fast"),
        max_f1_drop=1.0,
    )
    return bundle


def test_fast_reads_where_words_say_most_and_all_words(learned, fast_bundle):
    manifest = load_manifest(fast_bundle)
    assert list(manifest.variants) == ["int8", "fast"]
    fast = manifest.variants["fast"]
    assert (fast.file, fast.tokens) == (manifest.variants["int8"].file, 24)
    assert fast.weight == pytest.approx(1)  # the same share suits both here
    assert fast.parity == {}
    *_, texts = learned
    (long,) = [text for text in texts if len(text.split()) > 30][:1]
    short, whole = "Sealants in rat molars", [*long.split()]
    same, cut, swapped, again = (
        raw_probabilities(fast_bundle, manifest, "fast", [text])[0]
        for text in (short, long, " ".join([*whole[:24], *whole[:23:-1]]), long)
    )
    of_int8 = raw_probabilities(fast_bundle, manifest, "int8", [short, long])
    np.testing.assert_allclose(same, of_int8[0], atol=1e-5)
    assert np.abs(cut - of_int8[1]).max() > 1e-3
    assert np.abs(cut - swapped).max() > 1e-4  # pairs of words beyond the beginning
    np.testing.assert_array_equal(cut, again)


def _read(weights, ids, tokens):
    """The places that an excerpt keeps, one token after the other."""
    first_pair, here = len(weights) - 1 - BUCKETS, range(len(ids))
    weight = [2 * int(weights[token]) for token in ids]
    for place, (a, b) in enumerate(zip(ids, ids[1:], strict=False)):
        pair = int(weights[first_pair + (a * 40503 + b * 30011) % BUCKETS])
        weight[place] += pair
        weight[place + 1] += pair
    always = [len(ids) - 1, *here[: min(FIRST, len(ids) - 1)]]
    half = WINDOW // 2
    around = [sum(weight[max(place - half, 0) : place + half + 1]) for place in here]
    others = sorted(set(here) - set(always), key=lambda place: (-around[place], place))
    return sorted([*always, *others][:tokens])


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_excerpt_is_the_beginning_the_end_and_where_the_weights_are(learned, side):
    _, _, tokenizer, ngrams, texts = learned
    excerpt = Excerpt(ngrams)
    by_length = sorted(texts, key=len)
    ids = [
        tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        for text in (*by_length[::40], by_length[-1])
    ]
    width = max(map(len, ids))
    rows, mask = np.zeros((len(ids), width), np.int64), np.zeros((len(ids), width), np.int64)
    starts = [0 if side == "right" else width - len(text) for text in ids]
    for row, (start, text) in enumerate(zip(starts, ids, strict=True)):
        rows[row, start : start + len(text)], mask[row, start : start + len(text)] = text, 1
    padded = torch.from_numpy(rows), torch.from_numpy(mask)
    for tokens in (8, 20, 40, width):
        places = excerpt(*padded, torch.tensor([tokens])).numpy()
        assert places.shape == (len(ids), tokens)
        for row, (start, text) in enumerate(zip(starts, ids, strict=True)):
            read = [place - start for place in places[row] if mask[row, place]]
            assert read == _read(excerpt.weights.numpy(), text, tokens)
    np.testing.assert_array_equal(excerpt(*padded, torch.tensor([2**31 - 1])).numpy(), places)


def test_phrases_that_decide_are_read_wherever_they_stand():
    weights = np.zeros((200 + BUCKETS + 1, 2), np.int8)
    weights[150, 1] = -100  # that a label is absent is worth reading too
    excerpt = Excerpt(Ngrams(weights, np.array([1.0, 0.1]), np.zeros(2)))
    ids = torch.full((1, 120), 5)
    ids[0, 90] = 150
    places = excerpt(ids, torch.ones_like(ids), torch.tensor([FIRST + 1 + WINDOW]))[0].tolist()
    around = range(90 - WINDOW // 2, 90 + WINDOW // 2 + 1)
    assert places == [*range(FIRST), *around, 119]


def test_fast_needs_words(learned, tmp_path):
    folder, *_ = learned
    train = folder / "train.jsonl"
    with pytest.raises(InputError, match="fast reads where words say most, .* --ngrams"):
        export_bundle(folder / "model", tmp_path / "b", train, variants=("int8", "fast"))
    assert not (tmp_path / "b").exists()


def test_fast_reads_by_words_that_have_no_share_of_the_sum(learned, tmp_path, monkeypatch):
    folder, *_ = learned
    train = folder / "train.jsonl"
    monkeypatch.setattr("studytag.export.ngrams.SHARES", (0.0,))
    manifest = export_bundle(
        *(folder / "model", tmp_path / "b", train),
        ngrams=train,
        variants=("int8", "fast"),
        max_f1_drop=1.0,
    )
    assert manifest.training["ngrams"]["share"] == 0.0
    graph = onnx.load(tmp_path / "b" / "onnx" / "model_quantized.onnx").graph
    (weights,) = [each for each in graph.initializer if each.name == "excerpt/weights"]
    assert onnx.numpy_helper.to_array(weights).max() == 4096


def test_of_very_many_articles_words_are_learned_from_some(monkeypatch):
    monkeypatch.setattr("studytag.words.ngrams.MOST_ARTICLES", 5)
    known = np.ones((20, 2), dtype=bool)
    known[::2] = False
    rows = rows_to_learn_from(known)
    assert len(set(rows)) == 5
    assert (rows % 2 == 1).all()
    np.testing.assert_array_equal(rows, rows_to_learn_from(known))


def test_a_number_of_tokens_that_no_graph_can_read_is_refused_before_the_work(learned, tmp_path):
    folder, *_ = learned
    with pytest.raises(InputError, match=r"fast_tokens \(50\) is for the variant fast, which is"):
        export_bundle(folder / "model", tmp_path / "b", folder / "train.jsonl", fast_tokens=50)
    with pytest.raises(InputError, match="fast_tokens must be from 3 to 131072, not 2"):
        export_bundle(folder / "model", tmp_path / "b", folder / "train.jsonl", fast_tokens=2)


def test_fast_is_taken_only_when_asked_for(fast_bundle):
    with Predictor(fast_bundle) as default, Predictor(fast_bundle, variant="fast") as fast:
        assert (default.variant, fast.variant) == ("int8", "fast")
        assert default.predict_proba(["A trial"]).shape == fast.predict_proba(["A trial"]).shape


def test_other_programs_read_whole_texts_of_such_a_graph(learned, fast_bundle):
    *_, tokenizer, _, texts = learned
    session = ort.InferenceSession(fast_bundle / "onnx" / "model_quantized.onnx")
    names = [node.name for node in session.get_inputs()]
    assert set(names) == {"input_ids", "attention_mask"}
    longest = max(texts, key=len)
    encoded = tokenizer(longest, truncation=True, max_length=MAX_LENGTH, return_tensors="np")
    (logits,) = session.run(None, {name: np.asarray(encoded[name], np.int64) for name in names})
    with Predictor(fast_bundle, variant="int8") as predictor:
        ours = logit(predictor.predict_proba([longest]))
    np.testing.assert_allclose(ours, logits, atol=0.05)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nncf") is None, reason="nncf is not installed")
def test_openvinos_graph_has_the_words_too(learned, tmp_path):
    folder, table, *_ = learned
    train = folder / "train.jsonl"
    manifest = export_bundle(
        folder / "model",
        tmp_path / "bundle",
        train,
        ngrams=train,
        variants=("fp32", "int8-openvino"),
        max_f1_drop=1.0,
    )
    assert manifest.training["ngrams"]["share"] == 0.7
    with (
        Predictor(tmp_path / "bundle", variant="fp32") as expected,
        Predictor(tmp_path / "bundle", variant="int8-openvino") as predictor,
    ):
        difference = predictor.predict_proba(table.rows) - expected.predict_proba(table.rows)
    assert np.abs(difference).mean() < 0.05


def test_a_transformer_that_knows_nothing_gets_the_smallest_factor():
    random = np.random.default_rng(0)
    truth = random.random((200, 2)) < 0.3
    words = 4.0 * truth + random.normal(size=truth.shape)
    known, noise = np.ones_like(truth), random.normal(size=truth.shape)
    assert best_factor(0.2, noise, words, truth, known) == pytest.approx(3 / 28)  # a share of 0.7
    assert best_factor(0.2, words, noise, truth, known) == pytest.approx(9 / 4)  # of 0.1
