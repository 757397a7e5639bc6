from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support import LABELS, MAX_LENGTH

from studytag import Predictor
from studytag.cli.main import main
from studytag.errors import BundleError, InputError, StudytagError
from studytag.export import pipeline
from studytag.export.pipeline import export_bundle
from studytag.export.quantisation import quantise
from studytag.labels import LabelSet
from studytag.manifest import MANIFEST, load_manifest, write_manifest

FILES = {
    "config.json",
    "onnx/model.onnx",
    "onnx/model_quantized.onnx",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture
def model(exported, tmp_path):
    """A copy of the trained model that a test may spoil."""
    return shutil.copytree(exported.model, tmp_path / "model")


def test_the_bundle_is_complete_and_verified(exported):
    manifest = load_manifest(exported.bundle)
    assert set(manifest.files) == FILES
    assert list(manifest.labels) == LABELS
    assert manifest.max_length == MAX_LENGTH
    assert manifest.encoder == "tiny random distilbert"
    assert {"studytag", "torch", "onnxruntime"} <= set(manifest.versions)
    assert list(manifest.variants) == ["fp32", "int8"]
    for variant in manifest.variants.values():
        assert {"f1", "label_f1", "sensitive", "balanced", "precise", "fixed"} <= set(
            variant.thresholds
        )
        assert variant.scores["f1"].micro.f1 >= variant.scores["fixed"].micro.f1
    assert manifest.variants["fp32"].parity["max_abs_difference"] < 1e-4


def test_thresholds_are_tuned_for_each_variant(exported):
    variants = load_manifest(exported.bundle).variants
    assert variants["fp32"].thresholds["f1"] != variants["int8"].thresholds["f1"]
    assert variants["fp32"].scores["f1"].micro.f1 > 0.97  # the truth is its own


@pytest.mark.parametrize("kind", ["exported", "exported_bert"])
def test_transformers_and_optimum_load_the_bundle(kind, request):
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    exported = request.getfixturevalue(kind)
    tokenizer = AutoTokenizer.from_pretrained(exported.bundle)
    # Optimum's session fuses otherwise than ours: the last bit of a float may differ, and now and
    # then that rounds an int8 activation to its neighbour (1.3e-4 of a probability was seen).
    for variant, file, tolerance in (
        ("fp32", "model.onnx", 1e-5),
        ("int8", "model_quantized.onnx", 2e-3),
    ):
        model = ORTModelForSequenceClassification.from_pretrained(
            exported.bundle, subfolder="onnx", file_name=file
        )
        assert list(model.config.id2label.values()) == LABELS
        with Predictor(exported.bundle, variant=variant) as predictor:
            ours = predictor.predict_proba(exported.articles[:10])
        for article, row in zip(exported.articles[:10], ours, strict=True):
            text = f"{article['title']} {article['abstract'] or ''}"
            encoded = tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            theirs = torch.sigmoid(model(**encoded).logits[0]).numpy()
            assert np.abs(theirs - row).max() < tolerance


@pytest.mark.parametrize("kind", ["exported", "exported_bert"])
def test_padding_changes_nothing(kind, request):
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    exported = request.getfixturevalue(kind)
    articles = exported.articles[:10]
    texts = [f"{article['title']} {article['abstract'] or ''}" for article in articles]
    encoded = AutoTokenizer.from_pretrained(exported.bundle)(
        texts, truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
    )
    assert (encoded["attention_mask"] == 0).any()
    model = ORTModelForSequenceClassification.from_pretrained(
        exported.bundle, subfolder="onnx", file_name="model.onnx"
    )
    with Predictor(exported.bundle, variant="fp32") as predictor:
        ours = predictor.predict_proba(articles)
    assert np.abs(torch.sigmoid(model(**encoded).logits).numpy() - ours).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "head", "products"),
    [
        # Two layers of four attention and two feed-forward products; DistilBERT's last layer needs
        # no keys and values.
        ("exported", ["pre_classifier.weight", "classifier.weight"], 10),
        ("exported_bert", ["bert.pooler.dense.weight", "classifier.weight"], 12),
    ],
)
def test_the_encoder_is_int8_and_the_head_is_not(kind, head, products, request):
    graph = onnx.load(request.getfixturevalue(kind).bundle / "onnx/model_quantized.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert [kinds[f"{name}_Transposed"] for name in head] == [onnx.TensorProto.FLOAT] * 2
    multiplied = [node for node in graph.node if node.op_type.startswith("MatMulInteger")]
    assert len(multiplied) == products
    assert {kinds[node.input[1]] for node in multiplied} == {onnx.TensorProto.INT8}


def test_a_broken_int8_variant_is_left_out(exported, tmp_path, monkeypatch, caplog):
    def broken(source, target):
        quantise(source, target)
        graph = onnx.load(target)
        for tensor in graph.graph.initializer:
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
                weights = onnx.numpy_helper.to_array(tensor)
                flipped = onnx.numpy_helper.from_array(-weights[::-1], tensor.name)
                tensor.CopyFrom(flipped)
        onnx.save(graph, target)

    monkeypatch.setattr(pipeline, "quantise", broken)
    output = tmp_path / "bundle"
    manifest = export_bundle(exported.model, output, exported.validation, max_f1_drop=0.1)
    assert list(manifest.variants) == ["fp32"]
    assert "int8 left out of the bundle: its micro-F1 is" in caplog.text
    assert set(load_manifest(output).files) == FILES - {"onnx/model_quantized.onnx"}
    assert not (output / "onnx/model_quantized.onnx").exists()
    with Predictor.from_pretrained(output) as predictor:
        assert predictor.variant == "fp32"
    with pytest.raises(InputError, match="no variant 'int8'; choose from: auto, fp32"):
        Predictor(output, variant="int8")


@pytest.mark.parametrize("gate", ["check_shapes", "check_parity"])
def test_either_gate_alone_refuses_a_graph_that_is_not_the_models(
    exported, tmp_path, monkeypatch, gate
):
    (other,) = {"check_shapes", "check_parity"} - {gate}
    monkeypatch.setattr(pipeline, other, lambda *arguments: None)
    export_graph = pipeline.export_graph

    def slightly_off(model, target):
        export_graph(model, target)
        graph = onnx.load(target)
        for tensor in graph.graph.initializer:
            if tensor.name == "classifier.bias":
                shifted = onnx.numpy_helper.to_array(tensor) + np.float32(0.01)
                tensor.CopyFrom(onnx.numpy_helper.from_array(shifted, tensor.name))
        onnx.save(graph, target)

    monkeypatch.setattr(pipeline, "export_graph", slightly_off)
    with pytest.raises(StudytagError, match="differs? from PyTorch.* nothing was written"):
        export_bundle(exported.model, tmp_path / "bundle", exported.validation)
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_batch_size_is_noticed(exported, tmp_path, monkeypatch):
    export_graph = pipeline.export_graph

    def frozen(model, target):
        export_graph(model, target)
        graph = onnx.load(target)
        for value in graph.graph.input:
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(graph, target)

    monkeypatch.setattr(pipeline, "export_graph", frozen)
    with pytest.raises(StudytagError, match="differs from PyTorch by inf on padded batches"):
        export_bundle(exported.model, tmp_path / "bundle", exported.validation)


def test_a_failed_export_leaves_the_bundle_before_it(exported, tmp_path):
    output = shutil.copytree(exported.bundle, tmp_path / "bundle")
    with pytest.raises(StudytagError, match="differs? from PyTorch"):
        export_bundle(exported.model, output, exported.validation, tolerance=1e-12)
    load_manifest(output)
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_model_folder_names_the_missing_file(model, exported, tmp_path, name):
    (model / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}( is missing|; give the folder)"):
        export_bundle(model, tmp_path / "bundle", exported.validation)


def test_label_names_that_disagree_are_refused(model, exported, tmp_path):
    manifest = load_manifest(model)
    reversed_labels = LabelSet(tuple(LABELS[::-1]))
    write_manifest(model, replace(manifest, labels=reversed_labels))
    with pytest.raises(BundleError, match=r"config\.json"):
        export_bundle(model, tmp_path / "bundle", exported.validation)


def test_a_folder_of_something_else_is_never_replaced(exported, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(InputError, match=r"holds 'thesis\.txt', which no export wrote"):
        export_bundle(exported.model, tmp_path, exported.validation)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("name", ["notes.txt", "onnx/model_other.onnx", ".git"])
def test_a_bundle_with_something_else_in_it_is_never_replaced(exported, tmp_path, name):
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    (bundle / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds '{name}', which no export wrote"):
        export_bundle(exported.model, bundle, exported.validation)
    assert (bundle / name).exists()


def test_what_it_is_made_of_is_never_replaced(exported, model, tmp_path):
    with pytest.raises(InputError, match="model: holds a trained model; name another folder"):
        export_bundle(model, model, exported.validation)
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    card = bundle / "README.md"
    card.write_text("# Mine")
    with pytest.raises(InputError, match=r"README\.md lies in .*bundle, which is replaced"):
        export_bundle(model, bundle, exported.validation, card=card)
    (bundle / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match="is not replaced: remove it, or name another folder"):
        export_bundle(model, bundle, exported.validation)
    assert (model / "model.safetensors").exists()


def test_the_command_exports_and_reports_errors_in_one_line(exported, tmp_path, capsys):
    command = ["export", "--model", str(exported.model), "--validation", str(exported.validation)]
    main([*command, "--output", str(tmp_path / "bundle"), "--max-f1-drop", "0.1"])
    assert list(load_manifest(tmp_path / "bundle").variants) == ["fp32", "int8"]
    with pytest.raises(SystemExit) as stop:
        main(["export", "--model", str(tmp_path / "none"), "--output", str(tmp_path / "other")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: ")
    assert str(tmp_path / "none") in line


def test_a_checkpoint_trained_elsewhere_is_tuned_and_bundled(exported, model, tmp_path):
    """What transformers wrote, and nothing of studytag's; its labels are those of config.json."""
    (model / MANIFEST).unlink()
    command = ["export", "--model", str(model), "--validation", str(exported.validation)]
    main([*command, "--output", str(tmp_path / "bundle"), "--max-f1-drop", "0.1"])
    manifest = load_manifest(tmp_path / "bundle")
    assert manifest.labels.names == tuple(LABELS)
    assert manifest.variants["fp32"].thresholds["f1"] != [0.5] * len(LABELS)
    with Predictor(tmp_path / "bundle", variant="fp32") as predictor:
        found = predictor.predict_proba(exported.articles)
    np.testing.assert_allclose(found, exported.expected, rtol=0, atol=1e-5)


def test_a_bundle_can_be_of_int8_alone(exported, tmp_path):
    output = tmp_path / "bundle"
    command = ["export", "--model", str(exported.model), "--validation", str(exported.validation)]
    main([*command, "--output", str(output), "--max-f1-drop", "0.1", "--variants", "int8"])
    assert list(load_manifest(output).variants) == ["int8"]
    assert not (output / "onnx/model.onnx").exists()
    with Predictor(output) as small, Predictor(exported.bundle, variant="int8") as both:
        assert small.variant == "int8"
        assert small.predict(exported.articles) == both.predict(exported.articles)


def test_weights_beyond_two_gigabytes_lie_beside_the_graph(exported, tmp_path, monkeypatch):
    """With the limit of 2 GB made 10 kB, so that a tiny model is beyond it."""
    from studytag.export import graph

    monkeypatch.setattr(graph, "LARGEST_GRAPH", 10_000)
    output = tmp_path / "bundle"
    manifest = export_bundle(exported.model, output, exported.validation, max_f1_drop=0.1)
    data = {"onnx/model.onnx_data", "onnx/model_quantized.onnx_data"}
    assert data <= set(manifest.files)
    sizes = [(each / "onnx/model.onnx").stat().st_size for each in (output, exported.bundle)]
    assert sizes[0] < sizes[1] / 2
    assert manifest.weights("fp32") == ["onnx/model.onnx", "onnx/model.onnx_data"]
    for variant in ("fp32", "int8"):
        with (
            Predictor(output, variant=variant) as large,
            Predictor(exported.bundle, variant=variant) as small,
        ):
            rows = exported.articles[:20]
            assert np.array_equal(large.predict_proba(rows), small.predict_proba(rows))
    (output / "onnx/model_quantized.onnx_data").write_bytes(b"")
    Predictor(output, variant="fp32").close()
    with pytest.raises(BundleError, match="model_quantized.onnx_data has changed"):
        Predictor(output, variant="int8")


def test_a_model_card_goes_into_the_bundle(exported, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("# Mine\n", encoding="utf-8")
    output = tmp_path / "bundle"
    export_bundle(exported.model, output, exported.validation, max_f1_drop=0.1, card=card)
    (output / "README.md").write_text("# Mine, edited\n", encoding="utf-8")  # as on the Hub
    assert "README.md" not in load_manifest(output).files
    with pytest.raises(InputError, match="name a model card"):
        export_bundle(exported.model, output, exported.validation, card=tmp_path / "none.md")
