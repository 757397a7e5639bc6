"""A manifest that was altered, damaged or made up is refused in one line, never a traceback."""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support import edit_manifest, handmade_bundle, store_manifest

from studytag import Predictor
from studytag.errors import BundleError, StudytagError
from studytag.inference.sources import find_bundle
from studytag.manifest import MANIFEST, load_manifest, read_manifest, write_manifest


@pytest.fixture
def bundle(tmp_path):
    """One that a test may spoil."""
    return handmade_bundle(tmp_path / "bundle")


def test_4000_one_bit_flips_are_all_refused(bundle):
    path = bundle / MANIFEST
    content = path.read_bytes()
    read_manifest(bundle)  # whole, it is taken
    bits = np.random.default_rng(0).choice(8 * len(content), 4000, replace=False)
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
