"""Training as a person runs it, on a tiny encoder and made-up articles that can be learned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import LABELS, MAX_LENGTH, invented_articles, torch_probabilities
from training_support import (
    RULES,
    VALIDATION_ROWS,
    flags,
    history,
    same_weights,
    scores_only,
    write_label_set,
    write_table,
)

from studytag.cli.train import main
from studytag.dataset import load_evaluable, load_table
from studytag.errors import InputError
from studytag.evaluation.metrics import score
from studytag.export.pipeline import export_bundle
from studytag.hashing import hash_files
from studytag.labels import LabelSet
from studytag.manifest import load_manifest
from studytag.training.batching import Collator
from studytag.training.checkpoint import checkpoints
from studytag.training.config import TrainingConfig
from studytag.training.encoder import load_encoder
from studytag.training.hooks import TrainingHooks
from studytag.training.loop import train
from studytag.training.loss import masked_bce
from studytag.training.model_folder import WORDS, load_model_folder, read_validation
from studytag.training.model_folder import torch_probabilities as model_probabilities
from studytag.training.setup import make_scheduler

pytest_plugins = ["training_fixtures"]


def test_a_run_learns_and_leaves_a_folder_that_transformers_reads(config, tables):
    from transformers import pipeline

    best = train(replace(config, num_train_epochs=10))
    epochs = history(config)
    assert [epoch.epoch for epoch in epochs] == list(range(1, 11))
    assert epochs[-1].train_loss < epochs[0].train_loss
    # Rounding differs between processors, and the last epochs go up and down by 0.1.
    assert max(epoch.micro_f1 for epoch in epochs) > epochs[0].micro_f1 + 0.2

    manifest = load_manifest(best)
    variant = manifest.variants["pytorch"]
    assert manifest.labels.names == tuple(LABELS)
    assert manifest.max_length == MAX_LENGTH
    assert manifest.training["epoch"] == int(np.argmax([e.micro_f1 for e in epochs])) + 1
    assert manifest.training["tables"]["train"]["articles"] == 240
    assert "made-up" not in json.dumps(manifest.to_dict())
    assert variant.scores["f1"].micro.f1 == max(epoch.micro_f1 for epoch in epochs)
    assert {"f1", "label_f1", "sensitive", "balanced", "precise", "fixed"} == set(
        variant.thresholds
    )
    names = {path.name for path in best.iterdir()}
    assert set(manifest.files) == names - {"studytag.json", "README.md"}
    assert (best / "README.md").read_text().startswith("---\nlibrary_name: transformers")

    articles = invented_articles(5, seed=9)
    tag = pipeline("text-classification", model=str(best), top_k=None, device="cpu")
    texts = [" ".join((a["title"], a["abstract"] or "")).strip() for a in articles]
    outputs = tag(texts, truncation=True, max_length=MAX_LENGTH)
    expected = torch_probabilities(best, articles)
    for output, row in zip(outputs, expected, strict=True):
        by_name = {entry["label"]: entry["score"] for entry in output}
        assert [by_name[label] for label in LABELS] == pytest.approx(row.tolist(), abs=1e-5)


def test_reported_scores_are_those_of_the_saved_model_on_the_whole_validation_table(config):
    best = train(replace(config, num_train_epochs=1, per_device_eval_batch_size=7))
    labels = LabelSet(tuple(LABELS))
    table = load_table(config.validation_file, labels)
    probabilities = torch_probabilities(best, table.rows)
    stored = load_manifest(best).variants["pytorch"].scores["fixed"]
    again = score(labels, table.truth, table.known, probabilities, [0.5] * len(LABELS))
    assert stored.micro == again.micro
    assert sum(entry.known for entry in stored.labels.values()) == VALIDATION_ROWS * len(LABELS)
    assert read_validation(best, labels) == pytest.approx(probabilities, abs=1e-5)


def test_an_implied_label_is_never_less_likely(config, tables, tmp_path):
    for name in ("train.jsonl", "val.jsonl"):
        (tmp_path / name).write_text((tables / name).read_text())
    write_label_set(tmp_path, {"RCT": ["Cohort"], "Cohort": ["Human"]})
    best = train(
        replace(
            config,
            num_train_epochs=1,
            train_file=str(tmp_path / "train.jsonl"),
            validation_file=str(tmp_path / "val.jsonl"),
        )
    )
    trained = load_model_folder(best)
    labels = trained.manifest.labels
    assert labels.implications == {"RCT": ("Cohort",), "Cohort": ("Human",)}
    stored = read_validation(best, labels)
    table = load_table(tmp_path / "val.jsonl", labels)
    texts = [trained.manifest.text_recipe.compose_record(row) for row in table.rows]
    served = model_probabilities(trained, texts)
    raw = torch_probabilities(best, table.rows)
    columns = [labels.names.index(name) for name in ("RCT", "Cohort", "Human")]
    for probabilities in (stored, served):
        assert (np.diff(probabilities[:, columns], axis=1) >= 0).all()
    assert (np.diff(raw[:, columns], axis=1) < 0).any(), "nothing had to be raised"
    assert served == pytest.approx(stored, abs=1e-5)
    variant = trained.manifest.variants["pytorch"]
    again = score(labels, table.truth, table.known, stored, variant.thresholds["f1"])
    assert again == variant.scores["f1"]


def test_a_tracker_gets_the_options_and_the_scores(config):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(config, num_train_epochs=1, report_to="tensorboard", logging_steps=1))
    logs = EventAccumulator(str(Path(config.output_dir) / "studytag")).Reload()
    assert len(logs.Scalars("train/loss")) == 30
    logged = logs.Scalars("validation/f1/micro/f1")[0].value
    assert logged == pytest.approx(history(config)[0].micro_f1)


def test_full_epochs_are_better_than_truncated_ones(config):
    still = replace(config, learning_rate=1e-12, num_train_epochs=9, early_stopping_patience=1)
    best = train(replace(still, truncated_epochs=3, truncated_length=8))
    # Every epoch scores the same; the first full one is kept, and patience begins with it.
    assert [epoch.epoch for epoch in history(config) if epoch.best] == [1, 4]
    assert [epoch.epoch for epoch in history(config)] == [1, 2, 3, 4, 5]
    assert load_manifest(best).training["epoch"] == 4


def test_a_truncated_epoch_may_read_where_the_words_say_most(config, tmp_path):
    rows, filler = [], "and measured plaque after "
    for number in range(200):
        said = [word for place, word in enumerate(RULES.values()) if number >> place & 1]
        rows.append({"title": filler * 11 + " ".join(said) + " " + filler * 2})
    for name in ("train", "val"):
        write_table(tmp_path / f"{name}.jsonl", rows)
    write_label_set(tmp_path)
    losses = {}
    for read in ("beginning", "excerpt"):
        run = replace(
            config,
            train_file=str(tmp_path / "train.jsonl"),
            validation_file=str(tmp_path / "val.jsonl"),
            output_dir=str(tmp_path / read),
            num_train_epochs=4,
            truncated_epochs=4,
            truncated_length=45,
            truncated_to=read,
        )
        train(run)
        losses[read] = history(run)[-1].train_loss
    with pytest.raises(InputError, match="truncated_length must be above 33, not 33"):
        train(replace(run, truncated_length=33, overwrite_output_dir=True))
    # What decides stands behind the first 44 tokens; who does not read it can but guess (0.693).
    assert losses["excerpt"] < 0.65 < losses["beginning"]

    # The words that it learned are there for its bundle.
    assert not (tmp_path / "beginning" / "best" / WORDS).exists()
    best, words = tmp_path / "excerpt" / "best", Path(run.validation_file)
    from_folder, from_table = (
        export_bundle(
            *(best, tmp_path / "bundle", words),
            ngrams=table,
            variants=("int8", "fast"),
            max_f1_drop=1.0,
        )
        for table in (None, run.train_file)
    )
    assert from_folder.training["ngrams"]["share"] > 0
    name = "onnx/model_quantized.onnx"
    assert from_folder.files[name] == from_table.files[name]


def test_early_stopping_and_max_train_steps(config):
    train(replace(config, learning_rate=1e-12, num_train_epochs=9, early_stopping_patience=2))
    assert [epoch.epoch for epoch in history(config)] == [1, 2, 3]
    config = replace(config, max_train_steps=40, overwrite_output_dir=True)
    train(config)
    assert [epoch.step for epoch in history(config)] == [30, 40]


def test_epochs_follow_from_max_train_steps(config):
    record = Path(config.output_dir) / "run.json"
    config = replace(config, num_train_epochs=1, max_train_steps=70, report_to="none")
    train(config)
    assert [(epoch.epoch, epoch.step) for epoch in history(config)] == [(1, 30), (2, 60), (3, 70)]
    assert json.loads(record.read_text())["config"]["num_train_epochs"] == 3


@pytest.mark.parametrize(
    ("kind", "arguments", "rates"),
    [
        ("cosine_with_restarts", {"num_cycles": 2}, 2 * [1, 0.854, 0.5, 0.146]),
        ("cosine_with_min_lr", {"min_lr": 1e-4}, [1, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232]),
        ("polynomial", None, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("constant_with_warmup", None, 8 * [1]),
    ],
)
def test_schedules_take_their_arguments(config, kind, arguments, rates):
    config = replace(
        config,
        learning_rate=1e-3,
        num_warmup_steps=2,
        lr_scheduler_type=kind,
        lr_scheduler_kwargs=arguments,
    )
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=config.learning_rate)
    scheduler = make_scheduler(config, optimizer, 10)
    found = []
    for _ in range(10):
        found.append(1e3 * scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert found[: 2 + len(rates)] == pytest.approx([0, 0.5, *rates], abs=1e-3)


def test_divergence_stops_with_the_step_and_advice(config):
    with pytest.raises(
        InputError, match=r"diverged.*not finite at step \d+; lower --learning-rate"
    ):
        train(replace(config, learning_rate=1e30))


def test_outputs_that_are_not_finite_are_never_saved(config):
    class Explodes(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.data.fill_(float("nan"))

    hooks = TrainingHooks(optimizer=lambda options, model: Explodes(model.parameters(), lr=0.1))
    with pytest.raises(InputError, match="diverged in epoch 1: the model's outputs are not finite"):
        train(replace(config, max_train_steps=1), hooks=hooks)
    assert not (Path(config.output_dir) / "best").exists()


def test_fp16_on_a_cpu_is_recorded_as_what_it_is(config, monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    train(replace(config, max_train_steps=1))
    assert "CPUs have no fp16 arithmetic: training in float32" in caplog.text
    record = json.loads((Path(config.output_dir) / "run.json").read_text())
    assert record["environment"]["mixed_precision"] == "no"


def test_fp8_without_its_library_is_one_line(config, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(InputError, match="fp8.*Choose another mixed precision") as error:
        train(config)
    assert "\n" not in str(error.value)


def test_the_side_of_truncation_is_kept(config, encoder, tmp_path):
    left = tmp_path / "left"
    shutil.copytree(encoder, left)
    settings = json.loads((left / "tokenizer_config.json").read_text())
    (left / "tokenizer_config.json").write_text(json.dumps(settings | {"truncation_side": "left"}))
    config = replace(config, max_train_steps=1, max_length=16)
    right_best = train(config)
    other = replace(config, model_name_or_path=str(left), output_dir=str(tmp_path / "other"))
    best = train(other)
    assert load_manifest(right_best).truncation_side == "right"
    assert load_manifest(best).truncation_side == "left"
    trained = load_model_folder(best)
    table = load_table(config.validation_file, trained.manifest.labels)
    texts = [trained.manifest.text_recipe.compose_record(row) for row in table.rows]
    stored = read_validation(best, trained.manifest.labels)
    assert model_probabilities(trained, texts) == pytest.approx(stored, abs=1e-5)
    assert stored != pytest.approx(read_validation(right_best, trained.manifest.labels), abs=1e-5)


def test_unknown_cells_contribute_no_loss(config, tmp_path):
    rows = invented_articles(60, seed=4)
    write_table(tmp_path / "masked.jsonl", rows, known=[n for n in LABELS if n != "Human"])
    config = replace(config, train_file=str(tmp_path / "masked.jsonl"), num_train_epochs=1)
    write_label_set(tmp_path)
    best = train(replace(config, weight_decay=0.0))
    before, _ = load_encoder(config.model_name_or_path, LabelSet(tuple(LABELS)))
    after = load_file(best / "model.safetensors")
    # Calibration, fitted on the validation table, scales a label's weights as a whole.
    directions = [
        torch.nn.functional.normalize(weight)
        for weight in (after["classifier.weight"], before.classifier.weight.detach())
    ]
    changed = ((directions[0] - directions[1]).abs().amax(dim=1) > 1e-5).tolist()
    assert changed == [name != "Human" for name in LABELS]


def test_articles_without_a_known_label_are_not_scored(config, tmp_path):
    train(replace(config, num_train_epochs=1))
    write_label_set(tmp_path)
    known = Path(config.validation_file).read_text().splitlines(keepends=True)
    unknown = [json.dumps({"title": "T", "labels": [], "known": []}) + "\n"] * 9
    more = tmp_path / "more.jsonl"
    more.write_text("".join([*unknown[:4], *known, *unknown[4:]]))
    other = replace(
        config, num_train_epochs=1, validation_file=str(more), output_dir=str(tmp_path / "other")
    )
    best = train(other)
    assert scores_only(other) == scores_only(config)
    labels = LabelSet(tuple(LABELS))
    assert len(read_validation(best, labels)) == len(load_evaluable(more, labels))
    more.write_text("".join(unknown))
    with pytest.raises(InputError, match=r"more.jsonl: no article has a known label"):
        train(replace(other, overwrite_output_dir=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_file": "nowhere.parquet"}, "nowhere.parquet: no such table.*studytag data build"),
        ({"model_name_or_path": "no/such-encoder"}, "cannot load the encoder.*--config minilm"),
        ({"model_name_or_path": "./nowhere"}, "there is no such folder"),
        ({"model_name_or_path": "package:nothing"}, "no packaged encoder 'nothing'"),
        ({"max_length": MAX_LENGTH + 1}, f"reads {MAX_LENGTH} tokens at most"),
        ({"gradient_accumulation_steps": 999}, "240 articles with a known label.*at least 999"),
        (
            {"report_to": "nonsense"},
            "report_to: 'nonsense' is no tracker; choose from none, all,.*wandb",
        ),
        ({"report_to": "comet_ml"}, "comet_ml is not installed; run pip install comet_ml"),
        (
            {"lr_scheduler_type": "nonsense"},
            "lr_scheduler_type 'nonsense'.*is not a valid SchedulerType",
        ),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type: .*cannot be used here"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "'warmup_stable_decay' and lr_scheduler_kw"),
        ({"lr_scheduler_kwargs": {"cycles": 2}}, "lr_scheduler_kwargs.*unexpected.*'cycles'"),
        (
            {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"a": 2}},
            "lr_scheduler_kwargs: constant takes none",
        ),
        ({"resume_from_checkpoint": "nowhere"}, "not a checkpoint"),
    ],
)
def test_a_mistake_is_named_with_the_fix(config, change, message):
    with pytest.raises(InputError, match=message) as error:
        train(replace(config, **change))
    assert "\n" not in str(error.value)


def test_an_unknown_label_is_named_with_its_row(config, tmp_path):
    rows = [*invented_articles(3), {"pmid": "x", "title": "T", "labels": ["Cohrt"]}]
    table = tmp_path / "train.jsonl"
    table.write_text("".join(json.dumps({"labels": [], **row}) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"train.jsonl: row 4.*unknown label 'Cohrt'.*Cohort"):
        train(replace(config, train_file=str(table)))


@pytest.mark.parametrize(("precision", "attention"), [("bf16", "eager"), ("no", "sdpa")])
def test_in_bf16_on_a_cpu_attention_is_not_fused(config, monkeypatch, precision, attention):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    models = []
    train(
        replace(config, num_train_epochs=1, max_train_steps=1),
        hooks=TrainingHooks(model=models.append),
    )
    assert [model.config._attn_implementation for model in models] == [attention]


def test_hooks_replace_loss_collator_and_optimizer(config):
    calls = []

    def loss(logits, truth, known):
        calls.append("loss")
        return masked_bce(logits, truth, known)

    class SameBatches(Collator):
        def __call__(self, rows):
            calls.append("collator")
            return super().__call__(rows)

    def optimizer(options: TrainingConfig, model):
        calls.append("optimizer")
        return torch.optim.SGD(model.parameters(), lr=options.learning_rate)

    config = replace(config, num_train_epochs=1, max_train_steps=3)
    plain = train(config)
    hooked = replace(config, output_dir=config.output_dir + "-hooked")
    same = train(hooked, hooks=TrainingHooks(loss=loss, collator=SameBatches))
    assert same_weights(plain, same)
    assert (calls.count("loss"), calls.count("optimizer")) == (3, 0)
    assert calls.count("collator") >= 3
    other = replace(config, output_dir=config.output_dir + "-sgd")
    assert not same_weights(plain, train(other, hooks=TrainingHooks(optimizer=optimizer)))


def test_the_command_trains_with_kebab_case_flags(config):
    main([*flags(config), "--learning-rate", "3e-3", "--num-train-epochs", "1"])
    (epoch,) = history(config)
    assert epoch.step == 30


def test_the_saved_model_is_calibrated(config):
    """The saved logits are the trained ones, put through the line that was fitted."""
    best = train(replace(config, num_train_epochs=2))
    kept = max(history(config), key=lambda epoch: epoch.micro_f1).epoch
    checkpoint = checkpoints(Path(config.output_dir) / "checkpoints")[kept - 1]
    trained, saved = (load_file(path / "model.safetensors") for path in (checkpoint, best))
    manifest = load_manifest(best)
    line = manifest.calibration
    assert line.method == "platt"
    assert list(line.slope) == list(line.offset) == LABELS
    slope, offset = (torch.tensor(list(part.values())) for part in (line.slope, line.offset))
    assert not torch.allclose(slope, torch.ones_like(slope))
    weight, bias = trained.pop("classifier.weight"), trained.pop("classifier.bias")
    assert torch.allclose(saved.pop("classifier.weight"), weight * slope[:, None], atol=1e-6)
    assert torch.allclose(saved.pop("classifier.bias"), bias * slope + offset, atol=1e-6)
    assert all(torch.equal(saved[name], trained[name]) for name in trained)
    assert manifest.variants["pytorch"].scores["fixed"].macro.calibration_error < 0.2

    best = train(replace(config, num_train_epochs=2, calibrate=False, overwrite_output_dir=True))
    assert load_manifest(best).calibration.method == "none"
    raw = load_file(best / "model.safetensors")
    assert torch.equal(raw["classifier.weight"], weight)


def test_a_table_is_tokenised_once_and_again_when_damaged(config, caplog):
    excerpts = {"truncated_epochs": 1, "truncated_length": 40, "truncated_to": "excerpt"}
    config = replace(config, num_train_epochs=1, **excerpts)
    train(config)
    cached = {path: path.stat().st_mtime_ns for path in Path(config.cache_dir).iterdir()}
    assert len(cached) == 3  # two tables, and the words that pick excerpts
    train(replace(config, overwrite_output_dir=True))
    assert {path: path.stat().st_mtime_ns for path in Path(config.cache_dir).iterdir()} == cached
    best = hash_files(Path(config.output_dir) / "best")["model.safetensors"]

    for path in cached:
        path.write_bytes(path.read_bytes()[:1000])
    train(replace(config, overwrite_output_dir=True))
    assert caplog.text.count("is damaged: tokenising again") == 2
    assert caplog.text.count("is damaged: learning again") == 1
    assert hash_files(Path(config.output_dir) / "best")["model.safetensors"] == best
    train(replace(config, overwrite_output_dir=True, max_length=MAX_LENGTH // 2))
    assert len(list(Path(config.cache_dir).iterdir())) == 6


def test_a_folder_of_shards_is_the_table_they_make(config, tables, tmp_path):
    config = replace(config, num_train_epochs=1)
    whole = train(config)
    lines = (tables / "train.jsonl").read_text().splitlines(keepends=True)
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(3):
        part = lines[number * 80 : (number + 1) * 80]
        (shards / f"part-{number}.jsonl").write_text("".join(part))
    write_label_set(tmp_path)
    other = replace(config, train_file=str(shards), output_dir=str(tmp_path / "from-shards"))
    assert same_weights(whole, train(other))
