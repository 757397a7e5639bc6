"""A model that learned from every article, and the bundle whose decisions it takes over."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_support import VALIDATION_ROWS, forget_accelerator, short_run

from studytag import Predictor
from studytag.cli.main import main
from studytag.dataset import load_table
from studytag.errors import InputError, StudytagError
from studytag.export.pipeline import export_bundle
from studytag.export.precedent import load_precedent
from studytag.export.recalibration import recalibrate
from studytag.inference.model import sigmoid
from studytag.inference.screen_file import describe_tagger
from studytag.manifest import MANIFEST, load_manifest, write_manifest
from studytag.sharing.card import hub_card
from studytag.training.loop import train
from studytag.training.model_folder import load_model_folder

pytest_plugins = ["training_fixtures"]

VARIANTS = ("fp32", "int8", "fast")


@pytest.fixture(scope="module")
def made(tables, encoder, tmp_path_factory):
    """A bundle whose model never learned from the validation articles, and a model that did."""
    folder = tmp_path_factory.mktemp("precedent")
    recipe = replace(
        short_run(tables, encoder, folder),
        output_dir=str(folder / "held-out-model"),
        num_train_epochs=2,
        truncated_epochs=1,
        truncated_length=45,
        truncated_to="excerpt",
        max_train_steps=60,
    )
    held_out = folder / "held-out"
    export_bundle(
        *(train(recipe), held_out, recipe.validation_file),
        variants=VARIANTS,
        fast_tokens=50,
        max_f1_drop=1.0,
    )
    every = folder / "every-tables"
    shutil.copytree(tables, every)  # a folder of shards: both tables, and what their labels are
    every = replace(
        recipe,
        train_file=str(every),
        output_dir=str(folder / "every-model"),
        seed=7,
        max_train_steps=70,
        early_stopping_patience=1,
    )
    best = train(every)  # calibrated, which export undoes
    forget_accelerator()
    return SimpleNamespace(
        held_out=held_out,
        best=best,
        validation=recipe.validation_file,
        every=every,
        load=lambda bundle: load_precedent(
            bundle, load_model_folder(best), True, VARIANTS, Path(recipe.validation_file)
        ),
    )


def _line(calibration, labels):
    slope = np.array([calibration.slope.get(label, 1.0) for label in labels])
    return slope, np.array([calibration.offset.get(label, 0.0) for label in labels])


def test_it_has_its_own_weights_and_the_others_decisions(made, tmp_path, caplog):
    bundle = tmp_path / "bundle"
    arguments = ["--model", made.best, "--output", bundle, "--validation", made.validation]
    arguments += ["--like", made.held_out, "--variants", *VARIANTS, "--max-f1-drop", 1]
    with caplog.at_level("INFO"):
        main(["export", *map(str, arguments)])
    assert "on articles that it learned from" in caplog.text

    ours, theirs = load_manifest(bundle), load_manifest(made.held_out)
    assert ours.calibration == theirs.calibration
    assert ours.prevalence == theirs.prevalence
    assert ours.training["ngrams"] == theirs.training["ngrams"]
    provenance = dict(ours.training["like"])
    assert len(provenance.pop("from_bundle")) == 64
    assert provenance == theirs.training
    assert ours.training["tuned_on"] == theirs.training["tuned_on"]
    for name in VARIANTS:
        mine, other = ours.variants[name], theirs.variants[name]
        assert mine.thresholds == other.thresholds
        assert mine.scores == other.scores
        assert (mine.tokens, mine.weight) == (other.tokens, other.weight)
        assert mine.adjustment == other.adjustment
    repeated = [json.loads((each / "config.json").read_text()) for each in (bundle, made.held_out)]
    assert repeated[0]["studytag"] == repeated[1]["studytag"]
    assert ours.files["onnx/model.onnx"] != theirs.files["onnx/model.onnx"]

    # What the new model puts out, on the other's lines.
    trained = load_model_folder(made.best)
    assert trained.manifest.calibration.method == "platt"
    rows = load_table(made.validation, ours.labels).rows[:20]
    tokens = [
        trained.tokenizer(text, truncation=True, max_length=ours.max_length)["input_ids"]
        for text in ours.text_recipe.compose_records(rows)
    ]
    with torch.inference_mode():
        raw = np.array([trained.model(torch.tensor([ids])).logits[0].numpy() for ids in tokens])
    (slope, offset), (other_slope, other_offset) = (
        _line(manifest.calibration, ours.labels) for manifest in (trained.manifest, theirs)
    )
    transformer = (raw - offset) / slope * other_slope + other_offset
    words = trained.words.logits(np.array(ids) for ids in tokens)
    blend = theirs.training["ngrams"]
    total = (1 - blend["share"]) * transformer + blend["share"] * words
    expected = sigmoid(total * blend["slope"] + blend["offset"])
    with Predictor(bundle, variant="fp32") as predictor:
        np.testing.assert_allclose(predictor.predict_proba(rows), expected, atol=1e-4)
        measured_on = describe_tagger(predictor).measured_on
    # Whoever reads the scores is told whose they are.
    assert measured_on.endswith("by a model of the same recipe that had not learned from them")
    assert measured_on in hub_card("me/it", ours)
    recalibrate(bundle, made.validation, tmp_path / "refitted")
    assert "same recipe" not in load_manifest(tmp_path / "refitted").measured_on


def test_what_learned_from_its_validation_articles_says_so(made, tmp_path, caplog):
    train(replace(made.every, output_dir=str(tmp_path / "model"), max_train_steps=10))
    counted = f"{VALIDATION_ROWS} of the {VALIDATION_ROWS} articles of"
    assert counted in caplog.text
    assert "not read" not in caplog.text  # the label set in a folder of shards
    assert "export with --like a bundle whose model did not" in caplog.text
    card = (made.best / "README.md").read_text()
    assert "which the model had learned from: they say nothing of others" in card
    assert "model-index" not in card

    caplog.clear()
    plain = tmp_path / "plain"
    export_bundle(made.best, plain, made.validation, variants=("fp32",))
    assert "the model learned from these articles" in caplog.text
    assert "they say nothing of others" in hub_card("me/it", load_manifest(plain))
    with pytest.raises(InputError, match="its model learned from its validation articles as well"):
        made.load(plain)


def _edited(made, folder, **changes):
    """A copy of the bundle with other entries in `training`; None takes one away."""
    shutil.copytree(made.held_out, folder)
    manifest = load_manifest(folder)
    training = {**manifest.training, **changes}
    training = {name: entry for name, entry in training.items() if entry is not None}
    write_manifest(folder, replace(manifest, training=training))
    return folder


def _options(made, **changes):
    options = load_manifest(made.held_out).training["options"] | changes
    return {name: value for name, value in options.items() if value != "missing"}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1, "max_train_steps": 9, "num_train_epochs": 9},
        {"attn_implementation": "eager", "calibrate": False, "early_stopping_patience": 7},
        {"head_lr_factor": "missing"},  # an earlier version had no such option
    ],
)
def test_what_may_differ_in_a_recipe(made, tmp_path, changes):
    bundle = _edited(made, tmp_path / "b", options=_options(made, **changes))
    assert made.load(bundle).blend.share > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"learning_rate": 1.0}}, r"differs .* in learning_rate \(1.0, here 0.003\);"),
        ({"options": {"truncated_length": 40}}, r"truncated_length \(40, here 45\)"),
        ({"options": {"max_train_steps": None}}, r"num_train_epochs \(2, here as many as"),
        ({"options": {"of_a_newer_version": 1}}, r"of_a_newer_version \(1, here None\)"),
        ({"epoch": 1}, r"the epoch that was kept \(1, here 2\); train both in the same way"),
        ({"tuned_on": "0"}, r"validation table \(0, here [0-9a-f]{16}\)"),
        ({"ngrams": None}, "it has no words beside its transformer, and the model has"),
        *(
            ({"ngrams": entry}, "it does not say how its words are weighed: an earlier studytag")
            for entry in (
                *(3, "slope", {"share": 0.3}, {"share": "a", "slope": [1], "offset": [1]}),
                {"share": 0.3, "slope": [1.0], "offset": [1.0]},
                {"share": 0.3, "slope": ["1"] * 5, "offset": [1.0] * 5},
            )
        ),
        *(({"options": entry}, "it.* was not trained by studytag") for entry in (None, "", [1])),
        *(
            ({"tables": entry}, "does not say whether it learned from its validation articles")
            for entry in (None, 1, {"validation": 1}, {"validation": {"learned": "3"}})
        ),
        ({"recalibrated": {}}, "it was calibrated anew, or follows another itself"),
        ({"prevalence": {}}, "it was calibrated anew, or follows another itself"),
        ({"like": {}}, "it was calibrated anew, or follows another itself"),
    ],
)
def test_a_bundle_of_another_kind_is_not_followed(made, tmp_path, changes, message):
    if isinstance(changes.get("options"), dict):
        changes = {"options": _options(made, **changes["options"])}
    bundle = _edited(made, tmp_path / "b", **changes)
    with pytest.raises(InputError, match=message) as error:
        made.load(bundle)
    assert f"{bundle} cannot be followed" in str(error.value)


def test_more_that_is_refused_before_the_work(made, tmp_path):
    def refused(message, model=made.best, like=made.held_out, **options):
        with pytest.raises(InputError, match=message):
            export_bundle(
                *(model, tmp_path / "out", made.validation),
                **{"like": like, "variants": VARIANTS} | options,
            )
        assert not (tmp_path / "out").exists()

    refused("fast_tokens must be 50 as in the bundle that is followed, not 60", fast_tokens=60)
    one = shutil.copytree(made.held_out, tmp_path / "one")
    manifest = load_manifest(one)
    kept = {name: each for name, each in manifest.variants.items() if name != "fast"}
    write_manifest(one, replace(manifest, variants=kept))
    refused("it has no variant fast; leave that out here, or export the bundle with it", like=one)
    plain = shutil.copytree(made.best, tmp_path / "plain")
    (plain / MANIFEST).unlink()
    refused("the model was not trained by studytag, which --like needs", model=plain)
    first = made.held_out.parent / "held-out-model" / "best"
    refused("they can tune its own thresholds; leave out --like", model=first)
    refused("is a model folder, not a bundle; make one", like=first)
    with pytest.raises(InputError, match="is the input itself; name another folder"):
        export_bundle(made.best, made.held_out, made.validation, like=made.held_out)
    other = shutil.copy(made.validation, tmp_path / "other.jsonl")
    with open(other, "a") as stream:
        stream.write(json.dumps({"title": "A trial", "labels": ["RCT"]}) + "\n")
    shutil.copy(Path(made.validation).parent / "manifest.json", tmp_path)
    with pytest.raises(InputError, match="is not the validation table that the model was trained"):
        export_bundle(made.best, tmp_path / "out", other, like=made.held_out)


def test_decisions_that_do_not_fit_are_not_taken_over(made, tmp_path):
    strict = shutil.copytree(made.held_out, tmp_path / "strict")
    manifest = load_manifest(strict)
    nothing = {  # is ever tagged
        name: replace(each, thresholds={point: [1.0] * 5 for point in each.thresholds})
        for name, each in manifest.variants.items()
    }
    write_manifest(strict, replace(manifest, variants=nothing))
    with pytest.raises(StudytagError, match=r"fp32: at the thresholds .* micro-F1 is 0.0000 on"):
        export_bundle(made.best, tmp_path / "out", made.validation, like=strict, variants=("fp32",))
    assert not (tmp_path / "out").exists()
