"""`studytag doctor`: does a bundle work here?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support import handmade_bundle, handmade_graph

from studytag import Predictor
from studytag.cli.main import main
from studytag.export.golden import ARTICLES, seal_bundle
from studytag.hashing import hash_files
from studytag.inference.doctor import TOLERANCES, examine
from studytag.manifest import MANIFEST, load_manifest, write_manifest
from studytag.manifest.signature import new_key, sign_bundle
from studytag.models import default_bundle


@pytest.fixture
def bundle(tmp_path):
    folder = handmade_bundle(tmp_path / "bundle")
    seal_bundle(folder, load_manifest(folder))
    return folder


def doctor(capsys, *arguments):
    """Exit code, and what is printed."""
    code = 0
    try:
        main(["doctor", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_the_tagger_that_ships_is_safe_here(capsys):
    code, printed = doctor(capsys)
    assert code == 0
    for said in ("onnxruntime 1.", "processor: ", "cores: ", "int8: 8 articles reproduced"):
        assert said in printed
    assert "safe here: int8" in printed
    assert {*load_manifest(default_bundle()).golden[0].probabilities} == {"int8", "fast"}


def test_a_benchmark_is_kept_and_auto_goes_by_it(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, before = doctor(capsys, bundle)
    assert "benchmark:" not in before
    code, printed = doctor(capsys, bundle, "--benchmark")
    assert code == 0
    assert f"benchmark: {next(iter(load_manifest(bundle).variants))} " in printed
    _, after = doctor(capsys, bundle, "--json")
    rates = json.loads(after)["benchmark"]
    assert rates
    assert all(rate > 0 for rate in rates.values())


def test_the_articles_are_eight_and_of_every_kind():
    assert len(ARTICLES) == 8
    lengths = [len(article["abstract"]) for article in ARTICLES]
    assert min(lengths) == 0
    assert max(lengths) > 3500  # more than 512 tokens
    assert any(not article["abstract"].isascii() for article in ARTICLES)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_articles_come_out_the_same_however_the_work_is_divided(exported, variant):
    golden = load_manifest(exported.bundle).golden
    stored = np.array([article.probabilities[variant] for article in golden])
    articles = [{"title": each.title, "abstract": each.abstract} for each in golden]
    for workers, threads in ((1, 1), (2, 1), (1, 2), (3, 1)):
        options = {"variant": variant, "workers": workers, "threads_per_worker": threads}
        with Predictor(exported.bundle, **options) as predictor:
            for size in (1, 3, 8):
                parts = [articles[first : first + size] for first in range(0, 8, size)]
                found = np.concatenate([predictor.predict_proba(part) for part in parts])
                np.testing.assert_allclose(found, stored, rtol=0, atol=1e-6)


def weights_moved(bundle, by):
    """Other weights under a manifest that lists them: what another processor would look like."""
    golden = load_manifest(bundle).golden
    model = handmade_graph()
    table = onnx.numpy_helper.to_array(model.graph.initializer[0]) + np.float32(by)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table, "table"))
    onnx.save(model, bundle / "onnx" / "model.onnx")
    manifest = load_manifest_of(bundle)
    write_manifest(bundle, replace(manifest, golden=golden))


def load_manifest_of(bundle):
    from studytag.manifest import read_manifest

    return replace(read_manifest(bundle), files=hash_files(bundle, {MANIFEST}))


@pytest.mark.parametrize(("by", "code"), [(0, 0), (1e-5, 0), (0.01, 1), (5, 1)])
def test_other_probabilities_than_at_export_are_found(bundle, capsys, by, code):
    weights_moved(bundle, by)
    found, printed = doctor(capsys, bundle)
    assert found == code
    assert ("NOT SAFE here: fp32; do not use it here" in printed) == bool(code)
    examination = examine(bundle)
    assert examination.variants[0].tolerance == TOLERANCES["fp32"]
    assert examination.fastest == (None if code else "fp32")


def test_scripts_get_json(bundle, capsys):
    code, printed = doctor(capsys, bundle, "--json")
    found = json.loads(printed)
    assert code == found["exit_code"] == 0
    assert found["variants"][0]["difference"] <= 1e-4
    assert {"processor", "cores", "quota", "versions"} <= found["machine"].keys()


def test_a_bundle_without_articles_is_neither_safe_nor_damaged(tmp_path, capsys):
    code, printed = doctor(capsys, handmade_bundle(tmp_path / "bundle"))
    assert code == 3
    assert "carries no articles to reproduce" in printed


def test_damage_is_exit_code_2(bundle, tmp_path, capsys):
    (bundle / "config.json").write_text("{} ")
    code, printed = doctor(capsys, bundle)
    assert code == 2
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert doctor(capsys, tmp_path / "none")[0] == 2


def test_a_variant_that_does_not_load_is_named(bundle, capsys):
    golden = load_manifest(bundle).golden
    onnx.save(handmade_graph(value=np.nan), bundle / "onnx" / "model.onnx")
    write_manifest(bundle, replace(load_manifest_of(bundle), golden=golden))
    code, printed = doctor(capsys, bundle)
    assert code == 1
    assert "fp32: FAILED: variant 'fp32' puts out NaN" in printed


def test_export_and_calibrate_store_the_articles(exported, tmp_path, capsys):
    manifest = load_manifest(exported.bundle)
    assert {*manifest.golden[0].probabilities} == {"fp32", "int8"}
    assert doctor(capsys, exported.bundle)[0] == 0
    moved = tmp_path / "moved"
    main(["calibrate", str(exported.bundle), "--prevalence", "RCT=0.02", "--output", str(moved)])
    assert doctor(capsys, moved)[0] == 0
    golden = load_manifest(moved).golden
    assert golden != manifest.golden  # its probabilities are other ones


def test_it_says_who_signed(bundle, tmp_path, capsys):
    public = new_key(tmp_path / "key.pem")
    assert "signature: none" in doctor(capsys, bundle)[1]
    sign_bundle(bundle, tmp_path / "key.pem")
    assert "signature: verified" in doctor(capsys, bundle, "--require-signature", public)[1]
    assert "signature: present, not verified" in doctor(capsys, bundle)[1]
