"""`variant="auto"` goes by what was measured on this machine, and OpenVINO gives the same tags."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from studytag import Predictor
from studytag.errors import BundleError, MissingDependencyError
from studytag.export.pipeline import export_bundle
from studytag.inference import benchmark, openvino
from studytag.inference.openvino import BUCKET
from studytag.manifest import load_manifest, write_manifest

needs_openvino = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("openvino", "nncf")), reason="no OpenVINO"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_measurement_is_kept_and_decides(exported, cache, caplog):
    rates = benchmark.measure_and_keep(exported.bundle, seconds=0)
    assert set(rates) == {"fp32", "int8"}
    assert min(rates.values()) > 0
    (path,) = cache.rglob("*.json")
    for fastest in rates:
        stored = json.loads(path.read_text("utf-8"))
        stored["documents_per_second"] = dict.fromkeys(rates, 1.0) | {fastest: 2.0}
        path.write_text(json.dumps(stored), "utf-8")
        with caplog.at_level("INFO"), Predictor(exported.bundle) as predictor:
            assert predictor.variant == fastest
        assert f"variant {fastest}: measured on this machine, documents/s: {fastest} 2" in (
            caplog.text
        )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"documents_per_second": {"int8": "fast"}}'])
def test_a_damaged_cache_is_no_measurement(exported, cache, content):
    benchmark.measure_and_keep(exported.bundle, seconds=0)
    (path,) = cache.rglob("*.json")
    path.write_text(content, "utf-8")
    assert benchmark.kept_rates(load_manifest(exported.bundle)) == {}


def test_a_cache_that_cannot_be_reached_is_no_measurement(exported, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for error in (PermissionError(13, "denied"), RuntimeError("no home")):
        monkeypatch.setattr(Path, "home", Mock(side_effect=error))
        with Predictor(exported.bundle) as predictor:
            assert predictor.variant == "int8"


def test_a_measurement_is_of_one_bundle(exported, exported_bert):
    benchmark.measure_and_keep(exported.bundle, seconds=0)
    assert benchmark.kept_rates(load_manifest(exported.bundle))
    assert not benchmark.kept_rates(load_manifest(exported_bert.bundle))


def test_an_engine_that_is_missing_is_named_and_never_chosen(exported, tmp_path, monkeypatch):
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    manifest = load_manifest(bundle)
    graph = "openvino/openvino_model.xml"
    (bundle / "openvino").mkdir()
    files = dict(manifest.files)
    for name in (graph, graph.replace("xml", "bin")):
        (bundle / name).write_bytes(b"")
        files[name] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    other = replace(manifest.variants["int8"], file=graph)
    variants = {"int8-openvino": other, **manifest.variants}
    golden = [
        replace(article, probabilities={name: article.probabilities["int8"] for name in variants})
        for article in manifest.golden
    ]
    write_manifest(bundle, replace(manifest, variants=variants, files=files, golden=golden))
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.setattr(
        benchmark, "find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )
    with Predictor(bundle) as predictor:
        assert predictor.variant == "int8"
    with pytest.raises(MissingDependencyError, match=r"studytag\[openvino\]"):
        Predictor(bundle, variant="int8-openvino")


@pytest.fixture(scope="module", params=["exported", "exported_bert"])
def both_engines(request, tmp_path_factory):
    """A bundle with a graph for OpenVINO."""
    exported = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("openvino")
    variants = ("fp32", "int8-openvino")
    export_bundle(exported.model, folder, exported.validation, variants=variants, max_f1_drop=1.0)
    return folder


@pytest.mark.slow
@needs_openvino
def test_openvino_gives_the_probabilities_of_float32_whatever_the_padding(
    both_engines, monkeypatch
):
    words = "children randomly assigned to fluoride varnish or placebo ".split()
    lengths = [1, BUCKET - 3, BUCKET - 2, BUCKET - 1, 3 * BUCKET, 600]
    texts = [" ".join((words * 100)[:length]) for length in lengths]
    with (
        Predictor(both_engines, variant="fp32", workers=2) as fp32,
        Predictor(both_engines, variant="int8-openvino", workers=2) as predictor,
    ):
        expected, padded = fp32.predict_proba(texts), predictor.predict_proba(texts)
        alone = np.concatenate([predictor.predict_proba([text]) for text in reversed(texts)])
        monkeypatch.setattr(openvino, "BUCKET", 1)
        exact = predictor.predict_proba(texts)
    assert np.abs(padded - expected).mean() < 0.05  # static ranges, of another kind of articles
    np.testing.assert_array_equal(padded, alone[::-1])  # neither order nor neighbours matter
    np.testing.assert_allclose(padded, exact, atol=0.01)


@pytest.mark.slow
@needs_openvino
def test_openvinos_weights_are_verified_like_the_graph(both_engines, tmp_path):
    bundle = shutil.copytree(both_engines, tmp_path / "bundle")
    (bundle / "openvino/openvino_model.bin").write_bytes(b"")
    Predictor(bundle, variant="fp32").close()  # does not read them
    with pytest.raises(BundleError, match="openvino_model.bin has changed"):
        Predictor(bundle, variant="int8-openvino")
