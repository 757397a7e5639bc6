"""A model that learned from every article, and the bundle whose decisions it takes over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import invented_articles
from training_support import VALIDATION_ROWS, write_label_set, write_table

from studytag import Predictor
from studytag.cli.main import main
from studytag.dataset import load_table
from studytag.errors import InputError
from studytag.export.pipeline import export_bundle
from studytag.export.recalibration import shift_prevalence
from studytag.inference.model import sigmoid
from studytag.manifest import load_manifest
from studytag.training.loop import train
from studytag.training.model_folder import load_model_folder

pytest_plugins = ["training_fixtures"]

VARIANTS = ("fp32", "int8", "fast")


@pytest.fixture
def recipe(config):
    return replace(
        config, num_train_epochs=2, truncated_epochs=1, truncated_length=45, truncated_to="excerpt"
    )


@pytest.fixture
def held_out(recipe, tables, tmp_path):
    """A bundle whose model never learned from the validation articles."""
    bundle = tmp_path / "held-out"
    options = {"variants": VARIANTS, "fast_tokens": 50, "max_f1_drop": 1.0}
    export_bundle(train(recipe), bundle, tables / "val.jsonl", **options)
    return bundle


@pytest.fixture
def every(recipe, tmp_path):
    """The options of a run that learns from the validation articles too."""
    folder = tmp_path / "every"
    folder.mkdir()
    articles = invented_articles(240, seed=2) + invented_articles(VALIDATION_ROWS, seed=3)
    write_table(folder / "train.jsonl", articles)
    write_label_set(folder)
    return replace(
        recipe,
        train_file=str(folder / "train.jsonl"),
        output_dir=str(folder / "model"),
        seed=7,
        max_train_steps=70,
    )


def _export(model, bundle, like, *further):
    """As a person types it."""
    validation = Path(like).parent / "val.jsonl"
    arguments = ["--model", model, "--output", bundle, "--like", like, "--validation", validation]
    arguments += ["--variants", *VARIANTS, "--fast-tokens", 50, "--max-f1-drop", 1, *further]
    main(["export", *map(str, arguments)])


def test_it_has_its_own_weights_and_the_others_decisions(held_out, every, tables, tmp_path, caplog):
    best = train(every)  # calibrated, which export undoes
    assert f"{VALIDATION_ROWS} of the {VALIDATION_ROWS} articles of" in caplog.text
    assert "export with --like a bundle whose model did not learn from them" in caplog.text
    bundle = tmp_path / "bundle"
    (tmp_path / "val.jsonl").symlink_to(tables / "val.jsonl")
    (tmp_path / "manifest.json").symlink_to(tables / "manifest.json")
    _export(best, bundle, held_out)

    made, followed = load_manifest(bundle), load_manifest(held_out)
    assert made.calibration == followed.calibration
    assert made.prevalence == followed.prevalence
    assert made.training["ngrams"] == followed.training["ngrams"]
    assert made.training["like"] == followed.training
    for name in VARIANTS:
        ours, theirs = made.variants[name], followed.variants[name]
        assert ours.thresholds == theirs.thresholds
        assert ours.scores == theirs.scores
        assert (ours.weight, ours.adjustment) == (theirs.weight, theirs.adjustment)
    repeated = [json.loads((each / "config.json").read_text()) for each in (bundle, held_out)]
    assert repeated[0]["studytag"] == repeated[1]["studytag"]
    model = "onnx/model.onnx"
    assert made.files[model] != followed.files[model]

    # What the new model puts out, on the other's lines.
    trained = load_model_folder(best)
    rows = load_table(tables / "val.jsonl", made.labels).rows[:20]
    texts = [made.text_recipe.compose_record(row) for row in rows]
    own, line = (
        [
            np.array([record.get(label, neutral) for label in made.labels])
            for record, neutral in ((calibration.slope, 1.0), (calibration.offset, 0.0))
        ]
        for calibration in (trained.manifest.calibration, followed.calibration)
    )
    tokens = [
        trained.tokenizer(text, truncation=True, max_length=made.max_length)["input_ids"]
        for text in texts
    ]
    with torch.inference_mode():
        raw = np.array([trained.model(torch.tensor([ids])).logits[0].numpy() for ids in tokens])
    transformer = (raw - own[1]) / own[0] * line[0] + line[1]
    words = trained.words.logits(np.array(ids) for ids in tokens)
    blend = followed.training["ngrams"]
    total = (1 - blend["share"]) * transformer + blend["share"] * words
    expected = sigmoid(total * blend["slope"] + blend["offset"])
    with Predictor(bundle, variant="fp32") as predictor:
        np.testing.assert_allclose(predictor.predict_proba(rows), expected, atol=1e-4)


def test_a_bundle_that_cannot_be_followed_says_why(held_out, every, tables, tmp_path):
    best = train(every)
    validation, bundle = tables / "val.jsonl", tmp_path / "bundle"

    def refused(message, like=held_out, model=best, **options):
        given = {"variants": VARIANTS, "fast_tokens": 50, "max_f1_drop": 1.0} | options
        with pytest.raises(InputError, match=message):
            export_bundle(model, bundle, validation, like=like, **given)
        assert not bundle.exists()

    other = replace(every, learning_rate=1e-3, overwrite_output_dir=True, num_train_epochs=1)
    other = replace(other, max_train_steps=10, output_dir=str(tmp_path / "other"))
    refused("differs from the model in option learning_rate, option", model=train(other))
    refused("fast_tokens must be 50, as in .*held-out, not 60", fast_tokens=60)

    shifted = tmp_path / "shifted"
    shift_prevalence(held_out, {"RCT": 0.01}, shifted)
    refused("it was calibrated anew, or follows another itself", like=shifted)

    only = tmp_path / "only"
    options = {"variants": ("int8",), "max_f1_drop": 1.0}
    export_bundle(tmp_path / "model" / "best", only, validation, **options)
    refused("it has no variant fp32 and no fast; export it again", like=only)
