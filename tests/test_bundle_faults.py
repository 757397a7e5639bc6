"""Graphs, weights, tokenizers and texts that are not as they should be."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from support import LABELS, MAX_LENGTH, handmade_bundle, handmade_graph, seal
from tokenizers import Tokenizer

from studytag import Predictor
from studytag.errors import BundleError, InputError
from studytag.inference.text import Encoder, shortened
from studytag.manifest import load_manifest
from studytag.models import default_bundle

SHIPPED, WHOLE = (Tokenizer.from_file(str(default_bundle() / "tokenizer.json")) for _ in range(2))
SHIPPED_MANIFEST = load_manifest(default_bundle(), variants=())


@pytest.fixture
def bundle(tmp_path):
    return handmade_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_when_loaded(tmp_path, value):
    bundle = handmade_bundle(tmp_path / "bundle", handmade_graph(value=value))
    with pytest.raises(BundleError, match="'fp32' puts out NaN or infinity, its weights are dam"):
        Predictor(bundle)


def test_a_weight_that_only_some_texts_meet_is_an_error_and_never_an_empty_cell(tmp_path):
    graph = handmade_graph()
    table = onnx.numpy_helper.to_array(graph.graph.initializer[0]).copy()
    table[29] = np.nan  # "trial"
    graph.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table, "table"))
    with Predictor(handmade_bundle(tmp_path / "bundle", graph)) as predictor:
        assert len(predictor.predict(["a review"])) == 1
        with pytest.raises(BundleError, match="NaN"):
            predictor.predict(["a trial"], errors="return")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": TensorProto.INT32}, r"asks for input_ids as tensor\(int32\)"),
        ({"shape": ["b"]}, r"asks for input_ids as tensor\(int64\) of shape \['b'\]"),
        ({"shape": ["b", 16]}, r"asks for input_ids as tensor\(int64\) of shape \['b', 16\]"),
        ({"shape": ["b", "n", 2]}, "asks for input_ids"),
        ({"name": "pixels"}, "asks for unknown inputs pixels"),
        ({"width": 4}, "gives 4 outputs for 5 labels"),
        ({"vocabulary": 3}, "cannot compute 3 tokens .*out of data bounds"),
    ],
)
def test_graphs_of_another_kind_are_refused(tmp_path, changes, message):
    bundle = handmade_bundle(tmp_path / "bundle", handmade_graph(**changes))
    with pytest.raises(BundleError, match=message):
        Predictor(bundle)


@pytest.mark.parametrize("place", ["/etc/hostname", "../../weights"])
def test_a_graph_never_reads_weights_outside_its_bundle(tmp_path, place):
    (tmp_path / "weights").write_bytes(np.zeros(200, dtype=np.float32).tobytes())
    graph = handmade_graph()
    table = graph.graph.initializer[0]
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value=place)
    bundle = handmade_bundle(tmp_path / "bundle")
    (bundle / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())
    seal(bundle)
    with pytest.raises(BundleError, match="cannot be loaded"):
        Predictor(bundle)


TOKENIZERS = ["", "{}", "[" * 10_000, '{"version": "1.0"}', "null", "\ud800"]


@pytest.mark.parametrize("content", TOKENIZERS)
def test_what_is_no_tokenizer_is_refused(bundle, content):
    (bundle / "tokenizer.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    seal(bundle)
    with pytest.raises(BundleError, match="cannot be loaded"):
        Predictor(bundle)


PROGRAM = """
import json, pathlib, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from support import seal
from studytag import Predictor
from studytag.errors import StudytagError
folder = pathlib.Path(sys.argv[1])
path = folder / "tokenizer.json"
whole = json.loads(path.read_text())
whole["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}
ODD = [None, -1, 0, 2**31, 2**63, 1e308, "", "x", "(a+)+$", [], {}, True, [[0, 9]]]
KINDS = ["BPE", "Unigram", "WordLevel", "Split", "ByteLevel", "Precompiled", "Metaspace", "Replace"]
def places(value, path=()):
    if path: yield path
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys if isinstance(value, dict | list) else ():
        if path[-1:] != ("vocab",) or key in ("a", "[UNK]", "trial"):
            yield from places(value[key], (*path, key))
every = [(place, odd) for place in places(whole) for odd in [*ODD, *KINDS]]
outcomes = {"refused": 0, "taken": 0}
for index in np.random.default_rng(0).choice(len(every), 300, replace=False):
    place, odd = every[index]
    damaged = json.loads(json.dumps(whole))
    inner = damaged
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = odd
    path.write_text(json.dumps(damaged))
    seal(folder)
    try:
        with Predictor(folder, workers=1) as predictor:
            predictor.predict(["a trial of plaque", "x" * 300], errors="return")
        outcomes["taken"] += 1
    except StudytagError:
        outcomes["refused"] += 1
print(json.dumps(outcomes))
"""


def test_broken_tokenizers_end_in_one_line_and_never_take_the_process_with_them(bundle):
    """300 mutations, also those at which the Rust code panics."""
    from pathlib import Path

    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle), tests],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert outcomes["refused"] + outcomes["taken"] == 300
    assert outcomes["refused"] > 50


# Words whose tokens are remembered


ENCODERS = {
    side: Encoder(
        default_bundle(), replace(SHIPPED_MANIFEST, max_length=MAX_LENGTH, truncation_side=side)
    )
    for side in ("right", "left")
}
PARTS = [
    "trial",
    "Randomised",
    "[SEP]",
    "[mask]",
    "##al",
    "p<0.05",
    "\u0301",
    "=\u0338",
    "研究",
    "\x00",
]
PARTS += [" ", "(", "-", "é", "\u3000", "\u200b", "İ", "ς", "≠", "w" * 101]


@given(
    parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=5)), max_size=40),
    side=st.sampled_from(["right", "left"]),
)
def test_tokens_word_by_word_are_those_of_the_whole_text(parts, side):
    text = "".join(parts)
    if len(ids(text, side)) == len(ids("", side)):
        with pytest.raises(InputError, match="no letter or sign that the tokenizer knows"):
            ENCODERS[side].encode(text)
        return
    for _ in range(2):  # the second time nothing is new
        found, count = ENCODERS[side].encode(text)
        assert found[0].tolist() == ids(text, side)
        assert count == len(WHOLE.encode(text).ids)


def test_no_more_words_are_remembered_than_fit(monkeypatch):
    monkeypatch.setattr("studytag.inference.text.REMEMBERED_WORDS", 3)
    encoder = Encoder(default_bundle(), SHIPPED_MANIFEST)
    for text in ("one two", "three four five", "five one " + "x" * 80):
        assert encoder.encode(text)[0][0].tolist() == WHOLE.encode(text).ids
    assert encoder._known.keys() == {"one", "two", "three"}


# Texts of megabytes


def ids(text, side):
    SHIPPED.enable_truncation(MAX_LENGTH, direction=side)
    return SHIPPED.encode(text).ids


@settings(max_examples=30)
@given(
    words=st.lists(
        st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=99),
        min_size=20,
        max_size=30,
    ),
    side=st.sampled_from(["right", "left"]),
)
def test_cutting_before_tokenising_changes_no_token(words, side):
    text = " ".join(words * (20_000 // len(" ".join(words))))
    cut = shortened(text, MAX_LENGTH, side)
    assert len(cut) <= max(100 * MAX_LENGTH, 2**14)
    assert ids(cut, side) == ids(text, side)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("word", ["w" * 99, "é" * 99, "研" * 99, "a", "(x)", "1.5"])
def test_the_bound_holds_at_its_edge(word, side):
    text = " ".join([word] * (3 * 2**14 // len(word)))
    cut = shortened(text, 160, side)
    assert len(cut) <= max(100 * 160, 2**14) < len(text)
    assert len(cut.split(" ")) >= 160
    assert (text.startswith if side == "right" else text.endswith)(cut)
    assert set(cut.split(" ")) == {word}  # cut at a space


def test_a_text_within_the_bound_stays_whole():
    text = "plaque " * 2000
    assert shortened(text, 512) is text


@pytest.mark.parametrize(
    "text",
    ["plaque trial " * 800_000, "研究結果" * 2_500_000, "x" * 10_000_000, "a\u0301" * 5_000_000],
)
def test_ten_megabytes_are_no_more_than_the_beginning(bundle, text):
    with Predictor(bundle, workers=1) as predictor:
        whole, beginning = predictor.predict_proba([text, text[:14_000]])
        assert np.array_equal(whole, beginning)


# Records one by one


class Broken(dict):
    def get(self, *_):
        raise KeyError("no such thing")


def test_one_bad_record_costs_no_other(bundle):
    bad = [{}, 7, None, Broken(title="x"), {"title": 5}, {"title": "\ud800"}, {"abstract": ["x"]}]
    records = [record for each in bad for record in ("A trial", each, "A review")]
    with Predictor(bundle, workers=2) as predictor:
        outcomes = list(predictor.predict_iter(records, errors="return"))
        expected = predictor.predict(["A trial", "A review"])
    assert len(outcomes) == len(records)
    assert all(isinstance(outcome, InputError) for outcome in outcomes[1::3])
    assert outcomes[0::3] == [expected[0]] * len(bad)
    assert outcomes[2::3] == [expected[1]] * len(bad)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 32, 33, 50])
def test_what_was_read_before_reading_failed_is_not_lost(bundle, count):
    def records():
        for number in range(count):
            yield f"trial {number}"
        raise OSError("the disk is gone")

    got = []
    with Predictor(bundle, workers=1) as predictor:
        with pytest.raises(OSError, match="the disk is gone"):
            got.extend(predictor.predict_iter(records()))
        assert got == predictor.predict([f"trial {number}" for number in range(count)])


def test_labels_are_as_many_as_columns(bundle):
    with Predictor(bundle) as predictor:
        assert predictor.predict_proba(["a"]).shape == (1, len(LABELS))
