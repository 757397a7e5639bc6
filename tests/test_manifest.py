"""A manifest that was altered, damaged or made up is refused in one line, never a traceback."""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support import edit_manifest, full_manifest, handmade_bundle, store_manifest

from studytag import Predictor
from studytag.errors import BundleError, InputError, StudytagError
from studytag.evaluation.scores import LabelScores
from studytag.inference.sources import find_bundle
from studytag.labels import LabelSet
from studytag.manifest import (
    MANIFEST,
    Adjustment,
    GoldenArticle,
    load_manifest,
    package_versions,
    read_manifest,
    write_manifest,
)
from studytag.training.model_card import model_card


@pytest.fixture
def bundle(tmp_path):
    """One that a test may spoil."""
    return handmade_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("flips", [500, pytest.param(4000, marks=pytest.mark.slow)])
def test_one_bit_flips_are_all_refused(bundle, flips):
    path = bundle / MANIFEST
    content = path.read_bytes()
    read_manifest(bundle)  # whole, it is taken
    bits = np.random.default_rng(0).choice(8 * len(content), flips, replace=False)
    taken = []
    for bit in bits.tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read_manifest(bundle)
        except BundleError:
            continue
        taken.append(bit)
    assert not taken


def test_a_manifest_that_says_the_same_in_other_words_is_refused(bundle):
    edit_manifest(bundle, training={"loss": 1e-9})
    load_manifest(bundle)
    path = bundle / MANIFEST
    content = path.read_bytes()
    for old, new in ((b"\n", b"\r\n"), (b"1e-09", b"1E-09"), (b"}\n", b"} \n"), (b"0.1", b"0.10")):
        altered = content.replace(old, new)
        assert altered != content
        assert json.loads(altered) == json.loads(content)
        path.write_bytes(altered)
        with pytest.raises(BundleError, match="has been altered"):
            load_manifest(bundle)


ODD = [
    *(None, True, -1, 0, 1, 10**400, 1e308, float("nan"), float("inf"), 0.5),
    *("", "x", "\ud800", "\x1b[2J", "../x", "/etc/passwd", [], [[]], {}, {"x": 1}, [None] * 3),
]

SHAPES = ["remove", "change its name"]


def places(value, path=()):
    """The path of every entry, and of the first two of each list."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            yield from places(value[index], (*path, index))


def mutated(document, path, odd):
    """The document with an entry removed, renamed, doubled, or replaced by something odd."""
    whole = copy.deepcopy(document)
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    if odd == "remove":
        del inner[path[-1]]
    elif odd == "change its name" and isinstance(inner, dict):
        inner["x\x07"] = inner.pop(path[-1])
    elif odd == "change its name":
        inner.append(inner[path[-1]])
    else:
        inner[path[-1]] = odd
    return whole


FREE = {
    *("encoder", "training", "versions", "prevalence", "golden", "implications", "labels"),
    *("thresholds", "scores", "parity", "adjustment", "slope", "offset", "int8", "method"),
    *("max_chars", "max_length", "separator", "truncation_side", "variants"),
}
"""Where another value may be as good as the one that was there."""


def test_a_mutated_manifest_never_ends_in_a_traceback(bundle):
    """Each has the checksum that belongs to it, as a faulty or hostile program would write it."""
    document = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    del document["checksum"]
    every = [(path, odd) for path in places(document) for odd in [*ODD, *SHAPES]]
    chosen = np.random.default_rng(0).choice(len(every), 600, replace=False)
    refused = 0
    for path, odd in (every[index] for index in chosen):
        store_manifest(bundle, mutated(document, path, odd))
        message = refusal(bundle)
        assert message or {*path} & FREE, (path, odd)
        assert message.isprintable(), (path, odd)
        refused += bool(message)
    assert refused > 400


def refusal(bundle):
    """Why a bundle cannot be used; empty where it can. Whatever is no StudytagError is raised."""
    try:
        with Predictor(bundle, workers=1) as predictor:
            predictor.predict(["A trial"])
    except StudytagError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"max_length": 0}, "max_length is 0, not a whole number from 3"),
        ({"max_length": True}, "max_length is True"),
        ({"max_length": 10**9}, "max_length is 1000000000"),
        (
            {"text_recipe": {"name": "title-abstract-v1", "separator": " ", "max_chars": -1}},
            r"text_recipe.max_chars is -1, not a whole number from 1",
        ),
        ({"encoder": 7}, "encoder is 7"),
        ({"labels": []}, "labels is a list of 0"),
        ({"labels": ["RCT", "RCT", "Cohort", "Human", "x"]}, "distinct"),
        ({"implications": {"RCT": ["Nonsense"]}}, "unknown label 'Nonsense'"),
        ({"prevalence": {"RCT": 1.5}}, r"prevalence.RCT is 1.5"),
        ({"prevalence": {"Nonsense": 0.5}}, "one of those that the manifest names"),
        ({"surprise": 1}, "'surprise' is unknown"),
        ({"variants": {}}, "an object of 1 to 20"),
        ({"training": {"loss": float("nan")}}, "checksum differs"),
    ],
)
def test_wrong_entries_are_named(bundle, entries, message):
    edit_manifest(bundle, **entries)
    with pytest.raises(BundleError, match=message):
        load_manifest(bundle)


# What it says


@pytest.fixture
def full(tmp_path):
    """A folder of nothing but a manifest that has something in every entry."""
    write_manifest(tmp_path, full_manifest())
    return tmp_path


def test_every_entry_comes_back(full):
    manifest = full_manifest()
    assert read_manifest(full) == manifest
    bare = replace(manifest, golden=())
    write_manifest(full, bare)
    assert read_manifest(full) == bare
    assert list(json.loads((full / MANIFEST).read_text()))[0] == "schema_version"


def test_an_adjustment_leaves_labels_alone_that_it_does_not_name():
    adjustment = full_manifest().variants["fp32"].adjustment
    slope, offset = adjustment.lines(full_manifest().labels)
    assert (slope.tolist(), offset.tolist()) == ([1.5, 1.0], [0.0, -0.5])
    assert adjustment
    assert Adjustment(slope={"RCT": 2.0})
    assert Adjustment(offset={"RCT": 1.0})
    assert not Adjustment()


def test_a_variant_is_run_by_what_its_file_is_for_and_brings_its_weights():
    manifest = full_manifest()
    assert manifest.variants["fp32"].engine == "onnxruntime"
    assert manifest.weights("fp32") == ["onnx/model.onnx"]
    beside = replace(manifest, files={**manifest.files, "onnx/model.onnx_data": "2" * 64})
    assert beside.weights("fp32") == ["onnx/model.onnx", "onnx/model.onnx_data"]
    other = replace(
        manifest,
        variants={"int8-openvino": replace(manifest.variants["fp32"], file="openvino/m.xml")},
        files={"openvino/m.xml": "0" * 64, "openvino/m.bin": "1" * 64},
    )
    assert other.variants["int8-openvino"].engine == "openvino"
    assert other.weights("int8-openvino") == ["openvino/m.xml", "openvino/m.bin"]


def test_thresholds_are_those_of_an_operating_point():
    manifest = full_manifest()
    assert manifest.thresholds("fp32", "f1") == [0.25, 0.5]
    with pytest.raises(InputError, match="no operating point 'best'; choose from: f1, fixed$"):
        manifest.thresholds("fp32", "best")


TABLES = {"train": {"hash": "t"}, "validation": {"hash": "v", "learned": 0, "articles": 9}}
ALL_LEARNED = {**TABLES, "validation": TABLES["validation"] | {"learned": 9}}


@pytest.mark.parametrize(
    ("training", "learned"),
    [
        ({}, False),
        ({"tables": TABLES}, False),
        ({"tables": TABLES, "tuned_on": "v"}, False),
        ({"tables": TABLES, "tuned_on": "t"}, True),  # export --validation train.parquet
        ({"tables": TABLES, "tuned_on": "v", "words_from": "t"}, False),
        ({"tables": TABLES, "tuned_on": "v", "words_from": "v"}, True),
        ({"tables": ALL_LEARNED}, True),
        ({"tables": ALL_LEARNED, "tuned_on": "other"}, False),
        ({"tables": ALL_LEARNED, "tuned_on": "v", "like": {}}, False),
        ({"tables": ALL_LEARNED, "tuned_on": "v", "recalibrated": {"hash": "mine"}}, False),
        ({"tables": TABLES, "tuned_on": "v", "recalibrated": {"hash": "t"}}, True),
        ({"tables": ALL_LEARNED, "like": {}, "recalibrated": {"hash": "v"}}, True),
        ({"tables": TABLES, "tuned_on": "v", "recalibrated": {"table": "of an earlier"}}, False),
    ],
)
def test_scores_of_articles_that_were_learned_say_so(training, learned):
    manifest = replace(full_manifest(), training=training)
    assert manifest.measured_on_learned is learned
    assert ("they say nothing of others" in manifest.scores_note) is learned
    assert ("which the model had learned from" in manifest.measured_on) is learned


@pytest.mark.parametrize(
    ("labels", "designs"), [(("RCT", "Human"), True), (("MRI | CT", "Human"), False)]
)
def test_a_card_is_of_the_labels_that_there_are(labels, designs):
    entry = LabelScores(0.5, 0.25, 0.75, None, 0.125, support=3, known=9, threshold=0.25)
    full = full_manifest()
    scores = replace(full.variants["fp32"].scores["f1"], labels=dict.fromkeys(labels, entry))
    card = model_card({"f1": scores, "fixed": scores}, replace(full, labels=LabelSet(labels)))
    for words in ("# Study-design tagger", "study designs of", "biomedical", "language: en"):
        assert (words in card) is designs
    rows = [line.replace(r"\|", "/") for line in card.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith(f"| {labels[0].replace('|', '/')} |")


def test_golden_articles_keep_the_variants_that_are_asked_for():
    article = GoldenArticle("A", "B", {"fp32": [0.5], "int8": [0.25]})
    kept = {"title": "A", "abstract": "B", "probabilities": {"int8": [0.25]}}
    assert article.to_dict(["int8"]) == kept


SCORES = ("variants", "fp32", "scores", "f1")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema_version",), 1, "schema_version is 1, this studytag reads 2; update studytag, or"),
        (("schema_version",), 2.0, "schema_version is 2.0, this studytag reads 2"),
        (("encoder",), "x" * 1001, "is 'xxx.*not a text of at most 1000 characters"),
        (("encoder",), "", "entry encoder is '', not a text;"),
        (("encoder",), "a\nb", r"entry encoder is 'a\\nb', not a text without control characters"),
        (("labels",), "RCT", "entry labels is 'RCT', not a list of 1 to 10000 items"),
        (("labels", 1), 7, r"entry labels\[1\] is 7, not a text"),
        (("max_length",), 10**20, "max_length is a huge number, not a whole number from 3 to 13"),
        (("max_length",), 2**17 + 1, "max_length is 131073"),
        (("text_recipe", "name"), "other", "text recipe 'other' is unknown; update studytag"),
        (("text_recipe",), [], r"entry text_recipe is a list of 0, not an object"),
        (("text_recipe", "separator"), None, "text_recipe.separator is None"),
        (("truncation_side",), "top", "truncation_side is 'top', not one of right, left"),
        (("calibration", "slope", "Cohort"), 1.0, "calibration.slope .* is 'Cohort', not one of"),
        (("calibration", "offset", "RCT"), 1e10, "calibration.offset.RCT is 1000.*from -1e.09 to"),
        (("prevalence", "Cohort"), 0.5, r"prevalence \(a name in it\) is 'Cohort', not one of"),
        (("prevalence", "RCT"), True, "prevalence.RCT is True, not a finite number from 0 to 1"),
        (("prevalence",), None, "entry prevalence is None, not an object of 0 to 10000 entries"),
        (("variants", "FP"), {}, r"variants \(a name in it\) is 'FP'"),
        (("variants", "fp32", "file"), "m.onnx", "variants.fp32: m.onnx has no checksum; copy"),
        (("variants", "fp32", "file"), "m.xml", "variants.fp32: m.bin has no checksum"),
        (("variants", "fp32", "file"), "onnx\\m", "is not a path inside the folder"),
        (
            ("variants", "fp32", "thresholds"),
            {},
            "thresholds is a dict of 0, not an object of 1 to",
        ),
        (
            ("variants", "fp32", "thresholds", "f1"),
            [0.5],
            "variants.fp32.thresholds.f1 is a list of 1, not 2 thresholds, one a label",
        ),
        (("variants", "fp32", "thresholds", "f1", 0), 1.5, r"f1\[0\] is 1.5, not a finite number"),
        (
            ("variants", "fp32", "parity", "rows"),
            -1,
            "rows is -1, not a finite number from 0",
        ),
        (
            ("variants", "fp32", "adjustment", "slope", "RCT"),
            0,
            r"slope.RCT is 0, not a finite number above 0 to 1e\+09",
        ),
        (
            ("variants", "fp32", "adjustment", "offset", "Cohort"),
            1.0,
            r"variants.fp32.adjustment.offset \(a name in it\) is 'Cohort'",
        ),
        ((*SCORES, "micro", "f1"), 1.1, "variants.fp32.scores.f1.micro.f1 is 1.1"),
        ((*SCORES, "micro", "f2"), 1, "entry variants.fp32.scores.f1.micro.'f2' is unknown; upd"),
        ((*SCORES, "labels", "RCT", "support"), 1.5, "labels.RCT.support is 1.5, not a whole"),
        ((*SCORES, "labels"), {"x": None}, "labels.x is None, not an object"),
        (("training", "loss"), None, ""),
        (("training", "huge"), 10**400, "training.huge is a huge number, not a finite number"),
        (("files", "studytag.json"), "0" * 64, "the list of files names studytag.json itself"),
        (("files", "a"), "0" * 63, "files.a is '000.*, not a text of at most 64 characters as it"),
        (("golden",), [None], r"golden\[0\] is None, not an object"),
        (("golden", 0, "title"), "", r"golden\[0\].title is '', not a text"),
        (
            ("golden", 0, "probabilities", "int8"),
            [0.5, 0.5],
            r"golden\[0\] is a dict of 2, not one list a variant",
        ),
        (
            ("golden", 0, "probabilities", "fp32"),
            [0.5],
            r"golden\[0\].probabilities.fp32 is a list of 1, not 2 probabilities",
        ),
    ],
)
def test_an_entry_that_is_not_right_is_named(full, path, value, message):
    document = json.loads((full / MANIFEST).read_text(encoding="utf-8"))
    document["files"]["m.xml"] = "0" * 64
    store_manifest(full, mutated(document, path, value))
    if not message:
        read_manifest(full)
        return
    with pytest.raises(BundleError, match=f"studytag.json: .*{message}"):
        read_manifest(full)


@pytest.mark.parametrize("letter", [0xD800, 0xDFFF])
def test_half_a_pair_of_surrogates_is_not_written(tmp_path, letter):
    message = rf"^entry encoder is '\\u{letter:x}', not a text without unpaired surrogates;"
    with pytest.raises(BundleError, match=message):
        write_manifest(tmp_path, replace(full_manifest(), encoder=chr(letter)))


def test_the_place_of_endless_nesting_is_named(full):
    document = json.loads((full / MANIFEST).read_text(encoding="utf-8"))
    for _ in range(40):
        document["training"] = {"a": document["training"]}
    store_manifest(full, document)
    place = "training" + 34 * r"\.a"
    with pytest.raises(BundleError, match=f"entry {place} is a dict of 1, not nested at most 32"):
        read_manifest(full)


REQUIRED = [
    *("encoder", "labels", "implications", "text_recipe", "max_length", "truncation_side"),
    *("calibration", "prevalence", "variants", "training", "versions", "files"),
    *("text_recipe.separator", "text_recipe.max_chars"),
    *("calibration.method", "calibration.slope", "calibration.offset"),
    *(f"variants.fp32.{name}" for name in ("file", "thresholds", "scores", "parity")),
    *("variants.fp32.adjustment.slope", "variants.fp32.adjustment.offset"),
    *(f"variants.fp32.scores.f1.{part}" for part in ("micro", "macro", "labels")),
    *(f"variants.fp32.scores.f1.micro.{name}" for name in ("precision", "recall", "f1")),
    *(
        f"variants.fp32.scores.f1.macro.{name}"
        for name in ("precision", "recall", "f1", "average_precision", "calibration_error")
    ),
    *(f"variants.fp32.scores.f1.labels.RCT.{name}" for name in ("threshold", "support", "known")),
]


@pytest.mark.parametrize("entry", REQUIRED)
def test_an_entry_that_is_missing_is_named(full, entry):
    document = json.loads((full / MANIFEST).read_text(encoding="utf-8"))
    store_manifest(full, mutated(document, entry.split("."), "remove"))
    with pytest.raises(BundleError, match=f"studytag.json: entry {entry} is missing; copy the"):
        read_manifest(full)


def test_versions_are_those_of_what_is_installed():
    assert package_versions(["no-such-package", "numpy"]) == {"numpy": np.__version__}


def test_what_would_be_refused_is_not_written(bundle):
    manifest = load_manifest(bundle)
    with pytest.raises(BundleError, match="max_length is 2"):
        write_manifest(bundle, replace(manifest, max_length=2))
    assert load_manifest(bundle) == manifest


@pytest.mark.parametrize("name", ["notes.txt", "onnx/other.onnx", "pytorch_model.bin"])
def test_a_file_that_is_not_listed_is_refused(bundle, name):
    (bundle / name).write_text("x")
    with pytest.raises(BundleError, match=f"{name} is not listed in studytag.json"):
        load_manifest(bundle)


def test_what_hubs_and_file_managers_leave_is_no_matter(bundle):
    for name in ("README.md", ".gitattributes", "onnx/.DS_Store"):
        (bundle / name).write_text("x")
    (bundle / ".git").mkdir()
    (bundle / ".git" / "config").write_text("x")
    load_manifest(bundle)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "a\\b", "C:/x", "", "a//b"]
)
def test_a_path_that_leads_out_is_refused(bundle, name):
    stored = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    edit_manifest(bundle, files=stored["files"] | {name: "0" * 64})
    with pytest.raises(BundleError, match=r"not a path inside the folder|is '', not a text"):
        load_manifest(bundle)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_that_leads_out_is_refused(bundle, tmp_path):
    for name in ("tokenizer.json", "onnx"):
        (bundle / name).rename(tmp_path / name)
        (bundle / name).symlink_to(tmp_path / name)
        with pytest.raises(BundleError, match="link that leads out of the folder|is not listed"):
            load_manifest(bundle)
        (bundle / name).unlink()
        (tmp_path / name).rename(bundle / name)
    load_manifest(bundle)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_the_links_of_the_hubs_cache_are_followed(bundle, tmp_path):
    cache = tmp_path / "models--someone--designs"
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(bundle.rglob("*.*"))):
        link = snapshot / file.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    load_manifest(find_bundle(snapshot))


def test_a_huge_manifest_is_not_read(bundle):
    with (bundle / MANIFEST).open("ab") as stream:
        stream.truncate(2**26)
    with pytest.raises(BundleError, match="larger than 32 MB"):
        load_manifest(bundle)


def test_nesting_without_end_is_refused(bundle):
    nested: list = []
    for _ in range(200):
        nested = [nested]
    edit_manifest(bundle, training={"deep": nested})
    with pytest.raises(BundleError, match="nested at most"):
        load_manifest(bundle)
    (bundle / MANIFEST).write_text('{"schema_version": 2, "x": ' + "[" * 100_000)
    with pytest.raises(BundleError, match="cannot be read as JSON"):
        load_manifest(bundle)
