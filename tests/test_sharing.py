"""Bundles travel: as wheels, over the Hub's protocol, and into transformers.js."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_server import TOKEN, Hub
from support import MAX_LENGTH, REPOSITORY

from studytag import InputError, Predictor
from studytag.cli.main import main
from studytag.export import golden
from studytag.export.config import repeat_thresholds
from studytag.inference.model import sigmoid
from studytag.inference.sources import find_bundle
from studytag.labels import LabelSet
from studytag.manifest import MANIFEST, Adjustment, Variant, load_manifest
from studytag.models import default_bundle
from studytag.sharing.hub import evaluation_file
from studytag.sharing.wheel import build_wheel

NAME = "someone/tagger"
ON_HUB = f"hf://{NAME}"


def python(program, *arguments, **environment):
    """Run a program as a user does; returns what it printed, or the end of its error."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def one_line_error(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in command])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# Thresholds for others


def test_config_json_repeats_what_decides(any_field):
    config = json.loads((any_field.bundle / "config.json").read_text("utf-8"))
    manifest = load_manifest(any_field.bundle)
    ours = config["studytag"]
    assert list(config["id2label"].values()) == list(manifest.labels)
    assert ours["operating_point"] == "f1"
    assert ours["max_length"] == manifest.max_length == MAX_LENGTH
    for name, variant in manifest.variants.items():
        for point, thresholds in variant.thresholds.items():
            shown = ours["thresholds"][name][point]
            assert list(shown) == list(manifest.labels)
            assert list(shown.values()) == list(thresholds)


def test_config_json_decides_as_the_predictor(exported, tmp_path):
    """Also where an implied label has the lower threshold, and after calibration."""
    implications = {"RCT": ("ClinicalTrial",), "ClinicalTrial": ("Human",)}
    labels = LabelSet(("RCT", "ClinicalTrial", "Human"), implications)
    points = {"f1": [0.6, 0.4, 0.5], "sensitive": [0.1, 0.2, 0.05]}
    line = Adjustment({"RCT": 0.7, "Human": 1.3}, {"RCT": -0.4, "ClinicalTrial": 0.9})
    variants = {
        "fp32": Variant("onnx/model.onnx", points, {}),
        "int8": Variant("onnx/model.onnx", points, {}, adjustment=line),
        "fast": Variant("onnx/model.onnx", points, {}, tokens=50),
    }
    manifest = load_manifest(exported.bundle)
    (tmp_path / "config.json").write_text("{}")
    repeat_thresholds(tmp_path, replace(manifest, labels=labels, variants=variants))
    theirs = json.loads((tmp_path / "config.json").read_text())["studytag"]
    assert list(theirs["thresholds"]) == list(theirs["implied"]) == ["fp32", "int8"]
    logits = np.random.default_rng(0).normal(0, 2, (500, 3))
    for name in theirs["thresholds"]:
        slope, offset = variants[name].adjustment.lines(labels)
        adjusted = labels.raise_implied(sigmoid((logits * slope + offset).astype(np.float32)))
        graph = dict(zip(labels, sigmoid(logits.astype(np.float32)).T, strict=True))
        for point, thresholds in points.items():
            ours = labels.decide(adjusted, thresholds)
            enough, implied = theirs["thresholds"][name][point], theirs["implied"][name][point]
            for column, label in enumerate(labels):
                found = graph[label] >= enough[label]
                for other, brought in implied.items():
                    if label in brought:
                        found = found | (graph[other] >= brought[label])
                np.testing.assert_array_equal(found, ours[:, column])


def test_transformers_keeps_them(exported):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(exported.bundle)
    assert config.studytag["thresholds"]["fp32"]["f1"]["RCT"] == pytest.approx(
        Predictor(exported.bundle, variant="fp32").thresholds["RCT"]
    )


# Packages


PROGRAM = """
import sys, numpy
from studytag import Predictor
import studytag_dental
articles = [{"title": "A trial of sealants in children"}, {"title": "Rat molars"}]
first = Predictor.from_package("studytag-dental", variant="int8")
for other in (studytag_dental.load(), Predictor.from_pretrained("studytag_dental")):
    assert (other.predict_proba(articles) == first.predict_proba(articles)).all()
print(studytag_dental.__version__, list(first.manifest.variants), first.labels, first.path)
"""


@pytest.mark.slow
def test_a_wheel_is_built_installed_and_used(any_field, tmp_path, capsys):
    command = ["package", any_field.bundle, "--name", "studytag-dental", "--version", "1.0"]
    options = ["--output", tmp_path / "dist", "--variant", "int8", "--license", "CC-BY-4.0"]
    main([str(word) for word in (*command, *options)])
    wheel = Path(capsys.readouterr().out.strip())
    assert wheel == tmp_path / "dist" / "studytag_dental-1.0-py3-none-any.whl"
    assert list(wheel.parent.iterdir()) == [wheel]
    names = zipfile.ZipFile(wheel).namelist()
    assert "studytag_dental/bundle/onnx/model_quantized.onnx" in names
    assert "studytag_dental/bundle/onnx/model.onnx" not in names
    metadata = zipfile.ZipFile(wheel).read("studytag_dental-1.0.dist-info/METADATA").decode()
    assert "Requires-Dist: studytag>=" in metadata
    assert "License-Expression: CC-BY-4.0" in metadata
    assert 'Predictor.from_package("studytag_dental")' in metadata

    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, wheel], check=True)
    paths = os.pathsep.join([str(REPOSITORY), str(target)])
    printed = python(PROGRAM, PYTHONPATH=paths)
    labels = list(load_manifest(any_field.bundle).labels)
    where = target / "studytag_dental" / "bundle"
    assert printed == f"1.0 ['int8'] {labels} {where}"
    article = ("--title", "A trial of sealants", "--bundle", "studytag-dental", "--json")
    command = [sys.executable, "-m", "studytag", "predict", *article]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert list(json.loads(done.stdout)["probabilities"]) == labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "studytag"}, "--name 'studytag': Python could not import it"),
        ({"name": "../dental"}, "--name '../dental': write letters, digits and -"),
        ({"name": "2dental"}, "--name '2dental': Python could not import it"),
        ({"version": "first"}, "--version 'first': write a version such as 1.0"),
        ({"license": "as you like"}, "--license 'as you like': write an SPDX expression"),
        ({"variant": "fp16"}, "no variant 'fp16'; choose from: fp32, int8"),
    ],
)
def test_wheels_that_cannot_be(exported, tmp_path, change, message):
    options = {"name": "studytag-dental", "version": "1.0", "output": tmp_path / "dist"} | change
    with pytest.raises(InputError, match=message):
        build_wheel(exported.bundle, **options)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("variant", ["int8", "fast"])
def test_a_wheel_of_one_of_two_variants_that_share_a_graph_has_it(tmp_path, variant):
    bundle = default_bundle()
    wheel = build_wheel(bundle, "studytag-one", "1.0", tmp_path, variant=variant)
    zipfile.ZipFile(wheel).extractall(tmp_path)
    manifest = load_manifest(tmp_path / "studytag_one" / "bundle")
    assert list(manifest.variants) == [variant]
    assert manifest.files == load_manifest(bundle).files
    assert (tmp_path / "studytag_one" / "bundle" / "README.md").is_file()


def test_a_model_folder_is_no_bundle_to_package(exported, tmp_path, capsys):
    command = ["package", exported.model, "--name", "studytag-dental", "--version", "1.0"]
    line = one_line_error([*command, "--output", tmp_path], capsys)
    assert "is a model folder, not a bundle; make one: studytag export" in line


def test_packages_that_carry_nothing():
    with pytest.raises(InputError, match="no package 'studytag_nothing' is installed"):
        Predictor.from_package("studytag_nothing")
    with pytest.raises(InputError, match="package 'numpy' carries no bundle"):
        Predictor.from_package("numpy")
    assert find_bundle("numpy") == Path("numpy")


def test_a_folder_is_never_mistaken(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("someone").mkdir()
    Path(NAME).symlink_to(exported.bundle)
    Path("numpy").symlink_to(exported.bundle)
    for name in (NAME, "numpy"):
        with Predictor.from_pretrained(name) as predictor:
            assert predictor.path == Path(name)
    with pytest.raises(InputError, match="revision 'v1': only models on the Hub have one"):
        Predictor.from_pretrained(NAME, revision="v1")
    Path(NAME).unlink()  # and one that is missing is not looked for elsewhere
    with pytest.raises(InputError, match=f"{NAME}: no such folder; .* on the .* Hub, write hf://"):
        Predictor.from_pretrained(NAME)


# The Hub


LOAD = """
import sys
from studytag import Predictor
options = {"revision": sys.argv[2]} if len(sys.argv) > 2 else {}
predictor = Predictor.from_pretrained(sys.argv[1], variant="fp32", **options)
print(predictor.path, *predictor.predict_proba("A trial of sealants in children")[0])
"""


@pytest.fixture
def hub():
    with Hub() as server:
        yield server


@pytest.fixture
def online(hub, tmp_path):
    """The environment of a user who is logged in."""
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def studytag(*arguments, **environment):
    program = "import sys; from studytag.cli.main import main; main(sys.argv[1:])"
    return python(program, *arguments, **environment)


@pytest.mark.slow
def test_a_bundle_goes_to_the_hub_and_comes_back(any_field, hub, online, tmp_path):
    address = studytag("push", any_field.bundle, NAME, "--license", "cc-by-4.0", **online)
    repository = hub.repositories[NAME]
    assert address == f"{hub.address}/{NAME}/commit/{repository.branches['main']}"
    files = repository.files("main")
    for file in [*load_manifest(any_field.bundle).files, MANIFEST]:
        assert files[file] == (any_field.bundle / file).read_bytes()
    card = files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "cc-by-4.0"
    assert "transformers.js" in head["tags"]
    results = head["model-index"][0]["results"]
    assert [result["dataset"]["name"] for result in results] == [
        "validation table, fp32",
        "validation table, int8",
    ]
    assert f'Predictor.from_pretrained("{ON_HUB}")' in card

    files["notes.bin"] = b"not ours"
    path, *printed = python(LOAD, ON_HUB, **online).split()
    with Predictor(any_field.bundle, variant="fp32") as predictor:
        ours = predictor.predict_proba("A trial of sealants in children")[0]
    assert printed == [str(number) for number in ours]
    assert Path(path).is_relative_to(tmp_path / "hf")
    assert not Path(path, "notes.bin").exists()

    # Now from the cache: no file is fetched again, and no Hub is needed.
    hub.requests.clear()
    assert python(LOAD, ON_HUB, **online).split()[1:] == printed
    assert not [asked for asked in hub.requests if asked.startswith("GET") and "resolve" in asked]
    offline = online | {"HF_HUB_OFFLINE": "1"}
    assert python(LOAD, ON_HUB, **offline).split()[1:] == printed
    unreachable = online | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert python(LOAD, ON_HUB, **unreachable).split()[1:] == printed


@pytest.mark.slow
def test_pushing_again_adds_a_commit_and_removes_stale_graphs(exported, hub, online, tmp_path):
    studytag("push", exported.bundle, NAME, "--private", **online)
    repository = hub.repositories[NAME]
    assert repository.private
    first = repository.branches["main"]
    repository.files("main")["README.md"] = b"---\n---\nwritten by hand"
    stale = ("onnx/model_fp16.onnx", "openvino/openvino_model.bin", "studytag.json.sig")
    for file in stale:
        repository.files("main")[file] = b"of an earlier bundle"
    repository.files("main")["images/figure.png"] = b"theirs"
    studytag("push", exported.bundle, NAME, "--message", "Second edition", **online)
    assert repository.messages[-1] == "Second edition"
    files = repository.files("main")
    assert files["README.md"] == b"---\n---\nwritten by hand"
    assert not {*stale} & {*files}
    assert files["images/figure.png"] == b"theirs"
    assert sum(request.startswith("PUT /storage/") for request in hub.requests) == 2

    with_card = shutil.copytree(exported.bundle, tmp_path / "bundle")
    (with_card / "README.md").write_text("---\ntags: [x]\n---\nours\n")
    studytag("push", with_card, NAME, "--revision", "next", **online)
    assert repository.files("next")["README.md"] == b"---\ntags: [x]\n---\nours\n"
    assert repository.files("main")["README.md"] == b"---\n---\nwritten by hand"
    for revision in ("main", "next", first):
        path = Path(python(LOAD, ON_HUB, revision, **online).split()[0])
        assert path.name == repository.branches.get(revision, revision)


@pytest.mark.slow
def test_scores_go_where_the_hub_reads_them(exported, hub, online, tmp_path):
    scores = tmp_path / "scores.json"
    table = exported.validation
    main(["evaluate", str(table), "--bundle", str(exported.bundle), "--output", str(scores)])
    options = ("--evaluation", scores, "--dataset", "someone/designs")
    studytag("push", exported.bundle, NAME, *options, **online)
    files = hub.repositories[NAME].files("main")
    entries = yaml.safe_load(files[".eval_results/someone--designs.yaml"])
    stored = json.loads(scores.read_text())
    assert [entry["dataset"] for entry in entries] == [
        {"id": "someone/designs", "task_id": task}
        for task in ("micro_f1", "macro_f1", "macro_average_precision")
    ]
    assert entries[0]["value"] == round(stored["scores"]["micro"]["f1"], 4)
    assert entries[0]["notes"].startswith("60 articles, variant ")
    line = studytag("push", exported.bundle, NAME, *options[:2], **online)
    assert line == "error: an evaluation and the dataset that it is of go together; give both"
    with pytest.raises(InputError, match="config.json: entry 'scores' is missing; write it with"):
        evaluation_file(exported.bundle / "config.json", "someone/designs")


@pytest.mark.slow
def test_errors_of_loading_explain_themselves(exported, hub, online):
    def error(*arguments, **environment):
        line = python(LOAD, *arguments, **(online | environment))
        assert line.startswith("studytag.errors.InputError: ")
        return line.removeprefix("studytag.errors.InputError: ")

    assert error(ON_HUB, HF_HUB_OFFLINE="1") == (
        f"{ON_HUB}: no copy in the Hub's cache, and HF_HUB_OFFLINE is set; load it once with a "
        "connection, or copy the bundle here and name its folder"
    )
    assert "and http://127.0.0.1:9 did not answer;" in error(
        ON_HUB, HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert f"no such model at {hub.address}; check the name, or log in" in error(ON_HUB)
    studytag("push", exported.bundle, NAME, **online)
    assert "has no revision 'v9'" in error(ON_HUB, "v9")
    hub.repositories[NAME].gated = True
    assert "its owners grant access on request" in error(ON_HUB)
    hub.repositories[NAME].gated = False
    hub.repositories[NAME].private = True
    assert "no such model" in error(ON_HUB, HF_TOKEN="hf_other")
    del hub.repositories[NAME].files("main")[MANIFEST]
    assert "is on the Hub, but is no bundle of studytag: it has no studytag.json" in error(ON_HUB)


@pytest.mark.slow
def test_a_copy_that_is_not_complete_is_named(exported, hub, online):
    studytag("push", exported.bundle, NAME, **online)
    path = Path(python(LOAD, ON_HUB, **online).split()[0])
    (path / "onnx" / "model.onnx").unlink()
    line = python(LOAD, ON_HUB, **(online | {"HF_HUB_OFFLINE": "1"}))
    assert "lacks onnx/model.onnx; load it once more with a connection" in line
    python(LOAD, ON_HUB, **online)
    assert (path / "onnx" / "model.onnx").exists()


@pytest.mark.slow
def test_errors_of_pushing_explain_themselves(exported, hub, online):
    def error(name=NAME, **environment):
        return studytag("push", exported.bundle, name, **(online | environment))

    assert "does not let you write there; log in with `hf auth login`" in error(HF_TOKEN="other")
    assert "HF_HUB_OFFLINE is set, so nothing is uploaded" in error(HF_HUB_OFFLINE="1")
    assert "cannot be reached" in error(HF_ENDPOINT="http://127.0.0.1:9")
    assert "is no name of a model: write organisation/name" in error("a/b/c")
    assert hub.repositories == {}


# transformers.js


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory):
    """A folder with the real npm package and our program."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text("{}")
    shutil.copy(REPOSITORY / "tests" / "transformers_js.mjs", folder)
    # Scripts would download CUDA for a runtime that is not used.
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(
        ["npm", "install", *quiet, "@huggingface/transformers@4"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install @huggingface/transformers: {done.stderr[-300:]}")
    return folder


def _javascript(node_folder, bundle, dtype, texts):
    """What our program for Node prints of a bundle."""
    done = subprocess.run(
        ["node", "transformers_js.mjs", bundle.parent, bundle.name, dtype],
        cwd=node_folder,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "dtype", "tolerance"), [("fp32", "fp32", 1e-4), ("int8", "q8", 2e-3)]
)
@pytest.mark.parametrize("kind", ["exported", "exported_bert", "exported_field"])
def test_transformers_js_says_the_same(kind, variant, dtype, tolerance, node_folder, request):
    exported = request.getfixturevalue(kind)
    articles = exported.articles[:20]
    texts = [f"{article['title']} {article['abstract'] or ''}".strip() for article in articles]
    answer = _javascript(node_folder, exported.bundle, dtype, texts)
    assert "web" in answer["backends"]
    manifest = load_manifest(exported.bundle)
    assert list(answer["id2label"].values()) == list(manifest.labels)
    config = json.loads((exported.bundle / "config.json").read_text("utf-8"))
    assert answer["studytag"] == config["studytag"]
    theirs = manifest.labels.raise_implied(np.array(answer["probabilities"], dtype=np.float32))
    with Predictor(exported.bundle, variant=variant) as predictor:
        ours = predictor.predict_proba(articles)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < tolerance


@pytest.mark.slow
def test_transformers_js_runs_the_tagger_that_ships_with_its_words(node_folder):
    bundle = default_bundle()
    texts = [" ".join(article.values()) for article in golden.ARTICLES]
    answer = _javascript(node_folder, bundle, "q8", texts)
    labels = load_manifest(bundle).labels
    theirs = labels.raise_implied(np.array(answer["probabilities"], dtype=np.float32))
    with Predictor() as predictor:
        ours = predictor.predict_proba(texts)
    assert np.abs(theirs - ours).max() < 0.02  # what `studytag doctor` allows int8
