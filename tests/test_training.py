"""Training as a person runs it, on a tiny encoder and made-up articles that can be learned."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file
from studytag.inference.runtime import available_cores
from studytag.report.run import report_on_run
from studytag.training.command import main
from support import LABELS, MAX_LENGTH, invented_articles, save_tiny_model, torch_probabilities

from studytag.dataset import load_table
from studytag.errors import InputError
from studytag.labels import LabelSet
from studytag.manifest import hash_files
from studytag.training import loop
from studytag.training.checkpoint import checkpoints
from studytag.training.config import TrainingConfig
from studytag.training.encoder import load_encoder
from studytag.training.loop import train

RULES = {
    "SystematicReview": "review",
    "MetaAnalysis": "meta-analysis",
    "RCT": "trial",
    "Cohort": "cohort",
    "Human": "children",
}
VALIDATION_ROWS = 61  # odd on purpose: two processes cannot share it evenly


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def write_table(path, rows, known=LABELS):
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            labels = [label for label in LABELS if RULES[label] in row["title"]]
            stream.write(json.dumps(row | {"labels": labels, "known": list(known)}) + "\n")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "train.jsonl", invented_articles(240, seed=2))
    write_table(folder / "val.jsonl", invented_articles(VALIDATION_ROWS, seed=3))
    (folder / "manifest.json").write_text(json.dumps({"labels": LABELS}))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("encoder") / "tiny", "distilbert")
    weights = load_file(folder / "model.safetensors")
    from safetensors.torch import save_file

    # Milder weights than those that spread the predictor tests' probabilities: these can learn.
    save_file(
        {k: v if "orm" in k else v * 0.2 for k, v in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


@pytest.fixture
def config(tables, encoder, tmp_path):
    return TrainingConfig(
        model_name_or_path=str(encoder),
        train_file=str(tables / "train.jsonl"),
        validation_file=str(tables / "val.jsonl"),
        output_dir=str(tmp_path / "model"),
        cache_dir=str(tmp_path / "cache"),
        max_length=MAX_LENGTH,
        learning_rate=3e-3,
        num_train_epochs=3,
        early_stopping_patience=None,
    )


def history(config):
    return json.loads((Path(config.output_dir) / "history.json").read_text())["epochs"]


def same_weights(first, second):
    one, other = (load_file(Path(folder) / "model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def scores_only(config):
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in history(config)]


def test_a_run_learns_and_leaves_a_folder_that_transformers_reads(config, tables):
    from transformers import pipeline

    best = train(replace(config, num_train_epochs=10))
    epochs = history(config)
    assert [entry["epoch"] for entry in epochs] == list(range(1, 11))
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert epochs[-1]["validation/micro_f1/micro/f1"] > 0.7

    metrics = json.loads((best / "metrics.json").read_text())
    tuned = [entry["validation/micro_f1/micro/f1"] for entry in epochs]
    assert metrics["epoch"] == int(np.argmax(tuned)) + 1
    assert metrics["validation"]["micro_f1"]["micro"]["f1"] == max(tuned)
    thresholds = json.loads((best / "thresholds.json").read_text())
    assert thresholds["labels"] == LABELS
    assert {"micro_f1", "sensitive", "balanced", "precise"} < set(thresholds["operating_points"])
    assert (best / "README.md").read_text().startswith("---\nlibrary_name: transformers")

    articles = invented_articles(5, seed=9)
    tag = pipeline("text-classification", model=str(best), top_k=None, device="cpu")
    texts = [" ".join((a["title"], a["abstract"] or "")).strip() for a in articles]
    outputs = tag(texts, truncation=True, max_length=MAX_LENGTH)
    ours = torch_probabilities(best, articles)
    for output, row in zip(outputs, ours, strict=True):
        by_name = {entry["label"]: entry["score"] for entry in output}
        assert [by_name[label] for label in LABELS] == pytest.approx(row.tolist(), abs=1e-5)


def test_reported_scores_are_those_of_the_saved_model_on_the_whole_validation_table(config):
    from studytag.evaluation.metrics import score

    best = train(replace(config, num_train_epochs=1, per_device_eval_batch_size=7))
    labels = LabelSet(tuple(LABELS))
    split = load_table(config.validation_file, labels)
    probabilities = torch_probabilities(best, split.rows)
    stored = json.loads((best / "metrics.json").read_text())["validation"]["fixed"]
    again = score(labels, split.truth, split.known, probabilities, [0.5] * len(LABELS))
    assert stored["micro"] == pytest.approx(again["micro"])
    assert sum(e["known"] for e in stored["labels"].values()) == VALIDATION_ROWS * len(LABELS)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_interrupted_run_resumes_to_the_very_same_weights(
    config, tmp_path, monkeypatch, accumulation
):
    config = replace(
        config,
        num_train_epochs=2,
        short_epochs=1,
        short_length=8,
        checkpointing_steps=4,
        gradient_accumulation_steps=accumulation,
    )
    whole = train(config)
    expected = scores_only(config)

    real_save, saves = loop.save_checkpoint, []

    def save_then_crash(*arguments):
        real_save(*arguments)
        saves.append(arguments)
        if len(saves) == 3:
            raise RuntimeError("power cut")

    interrupted = replace(config, output_dir=str(tmp_path / "interrupted"))
    monkeypatch.setattr(loop, "save_checkpoint", save_then_crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(interrupted)
    monkeypatch.undo()
    resumed = train(replace(interrupted, resume_from_checkpoint="auto"))

    assert same_weights(whole, resumed)
    assert scores_only(interrupted) == expected


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have PyTorch loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["studytag.training.loop"])
    return context


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(config, tmp_path, processes):
    config = replace(config, num_train_epochs=6, checkpointing_steps=7)
    started = time.monotonic()
    whole = processes.Process(target=train, args=(config,))
    whole.start()
    whole.join()
    assert whole.exitcode == 0
    lasts = time.monotonic() - started

    random, kills = np.random.default_rng(0), 0
    while kills < 20:
        killed = replace(
            config, output_dir=str(tmp_path / f"from-{kills}"), resume_from_checkpoint="auto"
        )
        run = None
        while run is None or run.exitcode == -signal.SIGKILL:
            run = processes.Process(target=train, args=(killed,))
            run.start()
            run.join(timeout=random.uniform(0, lasts / 2) if kills < 20 else None)
            if run.exitcode is None:
                run.kill()
                run.join()
                kills += 1
        assert run.exitcode == 0
        assert same_weights(Path(killed.output_dir) / "best", Path(config.output_dir) / "best")
        assert scores_only(killed) == scores_only(config)


@pytest.mark.slow
def test_sigterm_saves_and_ends_in_peace(config, tmp_path):
    config = replace(config, num_train_epochs=40)
    command = [sys.executable, "-m", "studytag.training", *flags(config)]
    options = ["--num_train_epochs", "40", "--learning_rate", "3e-3", "--checkpointing_steps", "5"]
    run = subprocess.Popen(
        command + options, cwd=tmp_path, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    folder = Path(config.output_dir) / "checkpoints"
    while not checkpoints(folder) and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stderr[-2000:]
    found = re.search(r"stopped at step (\d+); go on with --resume_from_checkpoint auto", stderr)
    assert found, stderr[-2000:]
    step = int(found.group(1))
    assert checkpoints(folder)[-1].name == f"step-{step:08d}"
    assert step < 1200


def test_a_stop_after_the_last_step_still_selects_the_model(config, monkeypatch):
    config = replace(config, max_train_steps=35, checkpointing_steps=35)
    monkeypatch.setattr(loop.Validation, "run", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(replace(config, num_train_epochs=1, max_train_steps=30, checkpointing_steps=30))
    monkeypatch.undo()
    train(replace(config, resume_from_checkpoint="auto", max_train_steps=30))
    assert [(entry["epoch"], entry["step"]) for entry in history(config)] == [(1, 30)]


def test_a_damaged_checkpoint_is_passed_over(config, caplog):
    config = replace(config, num_train_epochs=2)
    train(config)
    older, newest = checkpoints(Path(config.output_dir) / "checkpoints")
    with (newest / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    best = train(replace(config, resume_from_checkpoint="auto"))
    assert f"{newest} is damaged (model.safetensors is missing or altered)" in caplog.text
    assert [entry["epoch"] for entry in history(config)] == [1, 2]
    assert best.is_dir()
    (older / "progress.json").write_text("{")
    with pytest.raises(InputError, match="step-00000030 is damaged"):
        train(replace(config, resume_from_checkpoint=str(older)))


def test_a_full_disk_costs_no_earlier_checkpoint(config, tmp_path, processes):
    config = replace(config, num_train_epochs=1)
    train(config)
    folder = Path(config.output_dir) / "checkpoints"
    before = hash_files(folder)
    outcome = processes.Queue()
    run = processes.Process(
        target=train_on_a_small_disk,
        args=(replace(config, num_train_epochs=2, resume_from_checkpoint="auto"), outcome),
    )
    run.start()
    run.join()
    message = outcome.get(timeout=10)
    assert re.search(r"step-00000060: cannot be written .*; make room, then go on", message)
    assert hash_files(folder) == before


def train_on_a_small_disk(config, outcome):
    """Files may not grow beyond 4 KiB: to a program that is as good as a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    loop.save_model_folder = lambda *arguments: None
    loop.write_json_atomically = lambda *arguments: None
    try:
        train(config)
    except InputError as error:
        outcome.put(str(error))
    else:
        outcome.put("nothing happened")


def test_an_unfinished_checkpoint_is_never_chosen(config):
    config = replace(config, num_train_epochs=1)
    train(config)
    checkpoints = Path(config.output_dir) / "checkpoints"
    newest = max(checkpoints.glob("step-*"))
    broken = checkpoints / "step-99999999"
    shutil.copytree(newest, broken)
    (broken / "progress.json").unlink()
    train(replace(config, num_train_epochs=2, resume_from_checkpoint="auto"))
    assert [(entry["epoch"], entry["step"]) for entry in history(config)] == [(1, 30), (2, 60)]
    with pytest.raises(InputError, match="not a checkpoint"):
        train(replace(config, resume_from_checkpoint=str(broken)))


def test_resuming_on_another_number_of_processes_is_refused(config):
    config = replace(config, num_train_epochs=1)
    train(config)
    (newest,) = checkpoints(Path(config.output_dir) / "checkpoints")
    record = json.loads((newest / "progress.json").read_text())
    record["progress"]["processes"] = 2
    (newest / "progress.json").write_text(json.dumps(record))
    message = "saved by 2 process.*this run has 1; resume with --num_processes 2"
    with pytest.raises(InputError, match=message):
        train(replace(config, num_train_epochs=2, resume_from_checkpoint="auto"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(config):
    folder = Path(config.output_dir)
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(InputError, match=f"{folder}.*cannot be written"):
        train(config)


def test_an_earlier_run_is_not_overwritten_by_accident(config):
    config = replace(config, num_train_epochs=1)
    train(config)
    with pytest.raises(InputError, match="holds an earlier run.*--resume_from_checkpoint auto"):
        train(config)
    train(replace(config, overwrite_output_dir=True))


def test_old_checkpoints_are_dropped(config):
    train(replace(config, num_train_epochs=2, checkpointing_steps=5, checkpoints_total_limit=2))
    kept = sorted(p.name for p in (Path(config.output_dir) / "checkpoints").iterdir())
    assert len(kept) == 2
    assert kept[-1] == f"step-{history(config)[-1]['step']:08d}"


def test_a_tracker_gets_the_options_and_the_scores(config):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(config, num_train_epochs=1, report_to="tensorboard", logging_steps=1))
    logs = EventAccumulator(str(Path(config.output_dir) / "studytag")).Reload()
    assert len(logs.Scalars("train/loss")) == 30
    logged = logs.Scalars("validation/micro_f1/micro/f1")[0].value
    assert logged == pytest.approx(history(config)[0]["validation/micro_f1/micro/f1"])


def test_an_epoch_of_whole_texts_is_better_than_those_of_short_ones(config):
    still = replace(config, learning_rate=1e-12, num_train_epochs=9, early_stopping_patience=1)
    best = train(replace(still, short_epochs=3, short_length=8))
    # Every epoch scores the same; the first of whole texts is kept, and patience begins with it.
    assert [entry["epoch"] for entry in history(config) if entry["best"]] == [1, 4]
    assert [entry["epoch"] for entry in history(config)] == [1, 2, 3, 4, 5]
    assert json.loads((best / "metrics.json").read_text())["epoch"] == 4


def test_early_stopping_and_max_train_steps(config):
    train(replace(config, learning_rate=1e-12, num_train_epochs=9, early_stopping_patience=2))
    assert [entry["epoch"] for entry in history(config)] == [1, 2, 3]
    config = replace(config, max_train_steps=40, overwrite_output_dir=True)
    train(config)
    assert [entry["step"] for entry in history(config)] == [30, 40]


def test_unknown_cells_teach_nothing(config, tables, tmp_path):
    rows = invented_articles(60, seed=4)
    write_table(tmp_path / "masked.jsonl", rows, known=[n for n in LABELS if n != "Human"])
    config = replace(config, train_file=str(tmp_path / "masked.jsonl"), num_train_epochs=1)
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": LABELS}))
    best = train(replace(config, weight_decay=0.0))
    before, _ = load_encoder(config.model_name_or_path, LabelSet(tuple(LABELS)))
    after = load_file(best / "model.safetensors")
    # Calibration, fitted on the validation table, stretches a label's weights as a whole.
    directions = [
        torch.nn.functional.normalize(weight)
        for weight in (after["classifier.weight"], before.classifier.weight.detach())
    ]
    changed = ((directions[0] - directions[1]).abs().amax(dim=1) > 1e-5).tolist()
    assert changed == [name != "Human" for name in LABELS]


def test_articles_without_a_known_label_judge_nothing(config, tables, tmp_path):
    train(replace(config, num_train_epochs=1))
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": LABELS}))
    known = Path(config.validation_file).read_text().splitlines(keepends=True)
    unknown = [json.dumps({"title": "T", "labels": [], "known": []}) + "\n"] * 9
    more = tmp_path / "more.jsonl"
    more.write_text("".join([*unknown[:4], *known, *unknown[4:]]))
    other = replace(
        config, num_train_epochs=1, validation_file=str(more), output_dir=str(tmp_path / "other")
    )
    train(other)
    assert scores_only(other) == scores_only(config)
    assert report_on_run(tmp_path / "other", more).is_file()
    more.write_text("".join(unknown))
    with pytest.raises(InputError, match=r"more.jsonl: no article has a known label"):
        train(replace(other, overwrite_output_dir=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_file": "nowhere.parquet"}, "nowhere.parquet: no such table.*studytag data build"),
        ({"model_name_or_path": "no/such-encoder"}, "cannot load the encoder.*minilm.yaml"),
        ({"model_name_or_path": "package:nothing"}, "no packaged encoder 'nothing'"),
        ({"max_length": MAX_LENGTH + 1}, f"reads {MAX_LENGTH} tokens at most"),
        ({"gradient_accumulation_steps": 999}, "240 articles with a known label.*at least 999"),
        ({"report_to": "nonsense"}, "report_to.*nonsense"),
        ({"resume_from_checkpoint": "nowhere"}, "not a checkpoint"),
    ],
)
def test_what_is_missing_is_named_with_the_fix(config, change, message):
    with pytest.raises(InputError, match=message):
        train(replace(config, **change))


def test_an_unknown_label_is_named_with_its_row(config, tmp_path):
    rows = [*invented_articles(3), {"pmid": "x", "title": "T", "labels": ["Cohrt"]}]
    table = tmp_path / "train.jsonl"
    table.write_text("".join(json.dumps({"labels": [], **row}) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"train.jsonl: row 4.*unknown label 'Cohrt'.*Cohort"):
        train(replace(config, train_file=str(table)))


def launch(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *arguments],
        cwd=cwd,
        env={name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def flags(config):
    names = ("model_name_or_path", "train_file", "validation_file", "output_dir", "cache_dir")
    names += ("max_length",)
    return [part for name in names for part in (f"--{name}", str(getattr(config, name)))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "threads"), [({}, available_cores()), ({"OMP_NUM_THREADS": "1"}, 1)]
)
def test_a_single_process_gets_every_core_unless_the_user_said_otherwise(
    tmp_path, environment, threads
):
    script = tmp_path / "threads.py"
    script.write_text(
        "import torch\nfrom studytag.training.launch import use_all_cores\n"
        "use_all_cores()\nprint('threads', torch.get_num_threads())\n"
    )
    done = launch(str(script), cwd=tmp_path, **environment)
    assert f"threads {threads}\n" in done.stdout, done.stderr[-2000:]


@pytest.mark.slow
def test_two_processes_score_exactly_the_validation_table(config, tmp_path):
    done = launch(
        *("--num_processes", "2", "--cpu", "-m", "studytag.training"),
        *flags(config),
        *("--num_train_epochs", "1", "--learning_rate", "3e-3"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    from studytag.evaluation.metrics import score

    best = Path(config.output_dir) / "best"
    labels = LabelSet(tuple(LABELS))
    split = load_table(config.validation_file, labels)
    stored = json.loads((best / "metrics.json").read_text())["validation"]["fixed"]
    again = score(
        labels, split.truth, split.known, torch_probabilities(best, split.rows), [0.5] * 5
    )
    assert stored["micro"] == pytest.approx(again["micro"])
    assert {n: e["support"] for n, e in stored["labels"].items()} == {
        n: e["support"] for n, e in again["labels"].items()
    }
    assert history(config)[0]["step"] == 15  # 240 articles, 2 processes x 8


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(config, encoder, tmp_path):
    """The same global batches give the same scores, and the same weights but for rounding."""
    steady = tmp_path / "steady"
    shutil.copytree(encoder, steady)
    settings = json.loads((steady / "config.json").read_text())
    off = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    (steady / "config.json").write_text(json.dumps(settings | off))
    config = replace(
        config, model_name_or_path=str(steady), gradient_accumulation_steps=2, num_train_epochs=2
    )
    one = train(config)
    together = replace(config, output_dir=str(tmp_path / "together"))
    done = launch(
        *("--num_processes", "2", "--cpu", "-m", "studytag.training"),
        *flags(together),
        *("--num_train_epochs", "2", "--learning_rate", "3e-3"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (
        load_file(one / "model.safetensors"),
        load_file(Path(together.output_dir) / "best" / "model.safetensors"),
    )
    # A key's bias cannot change attention: its gradient is rounding, which Adam makes steps of.
    for name in (name for name in first if not name.endswith("k_lin.bias")):
        assert torch.allclose(first[name], second[name], rtol=1e-4, atol=2e-4), name
    for alone, shared in zip(history(config), history(together), strict=True):
        assert alone["step"] == shared["step"] == 15 * alone["epoch"]
        for score in ("validation/loss", "validation/micro_f1/micro/f1"):
            assert alone[score] == pytest.approx(shared[score], abs=1e-3)


@pytest.mark.parametrize(("precision", "attention"), [("bf16", "eager"), ("no", "sdpa")])
def test_in_bf16_on_a_cpu_attention_is_not_fused(config, monkeypatch, precision, attention):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    seen, forward = set(), loop.logits_of

    def look(model, batch):
        seen.add(model.config._attn_implementation)
        return forward(model, batch)

    monkeypatch.setattr(loop, "logits_of", look)
    train(replace(config, num_train_epochs=1, max_train_steps=1))
    assert seen == {attention}


@pytest.mark.slow
def test_accelerate_launch_train_with_a_configuration_and_a_mistake(config, tmp_path):
    repository = Path(__file__).parents[1]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rate: 3e-3\nnum_train_epochs: 5\n")
    arguments = ["--num_processes", "1", "--cpu", str(repository / "train"), "--config"]
    done = launch(*arguments, str(recipe), *flags(config), "--num_train_epochs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    resolved = json.loads((Path(config.output_dir) / "run.json").read_text())["config"]
    assert (resolved["learning_rate"], resolved["num_train_epochs"]) == (3e-3, 1)

    done = subprocess.run(
        [sys.executable, str(repository / "train")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: data/processed/train.parquet: no such")


def test_a_finished_run_reports_on_itself(config):
    main([*flags(config), "--learning_rate", "3e-3", "--num_train_epochs", "1"])
    output = Path(config.output_dir)
    assert (output / "report" / "training.png").is_file()
    page = (output / "report" / "report.html").read_text(encoding="utf-8")
    assert "fitted, on this very table" in page
    reported = json.loads((output / "report" / "metrics.json").read_text())
    stored = json.loads((output / "best" / "metrics.json").read_text())["validation"]
    assert reported["tuned"] == stored["micro_f1"]
    assert reported["fixed"] == stored["fixed"]


def test_the_saved_model_is_calibrated(config, tables):
    """The saved logits are the trained ones, stretched and moved by the line that was fitted."""
    best = train(replace(config, num_train_epochs=2))
    checkpoint = checkpoints(Path(config.output_dir) / "checkpoints")[-1]
    trained, saved = (load_file(path / "model.safetensors") for path in (checkpoint, best))
    line = json.loads((best / "metrics.json").read_text())["calibration"]
    slope, offset = (torch.tensor(list(line[name].values())) for name in ("slope", "offset"))
    assert list(line["slope"]) == LABELS
    assert not torch.allclose(slope, torch.ones_like(slope))
    weight, bias = trained.pop("classifier.weight"), trained.pop("classifier.bias")
    assert torch.allclose(saved.pop("classifier.weight"), weight * slope[:, None], atol=1e-6)
    assert torch.allclose(saved.pop("classifier.bias"), bias * slope + offset, atol=1e-6)
    assert all(torch.equal(saved[name], trained[name]) for name in trained)
    errors = json.loads((best / "metrics.json").read_text())["validation"]["fixed"]
    assert errors["macro"]["calibration_error"] < 0.2

    best = train(replace(config, num_train_epochs=2, calibrate=False, overwrite_output_dir=True))
    raw = load_file(best / "model.safetensors")
    assert torch.equal(raw["classifier.weight"], weight)


def test_a_table_is_tokenised_once_and_again_when_damaged(config, caplog):
    config = replace(config, num_train_epochs=1)
    train(config)
    cached = {path: path.stat().st_mtime_ns for path in Path(config.cache_dir).iterdir()}
    assert len(cached) == 2
    train(replace(config, overwrite_output_dir=True))
    assert {path: path.stat().st_mtime_ns for path in Path(config.cache_dir).iterdir()} == cached
    best = hash_files(Path(config.output_dir) / "best")["model.safetensors"]

    for path in cached:
        path.write_bytes(path.read_bytes()[:1000])
    train(replace(config, overwrite_output_dir=True))
    assert caplog.text.count("is damaged: tokenising again") == 2
    assert hash_files(Path(config.output_dir) / "best")["model.safetensors"] == best
    train(replace(config, overwrite_output_dir=True, max_length=MAX_LENGTH // 2))
    assert len(list(Path(config.cache_dir).iterdir())) == 4


def test_a_folder_of_shards_is_the_table_they_make(config, tables, tmp_path):
    config = replace(config, num_train_epochs=1)
    whole = train(config)
    lines = (tables / "train.jsonl").read_text().splitlines(keepends=True)
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(3):
        part = lines[number * 80 : (number + 1) * 80]
        (shards / f"part-{number}.jsonl").write_text("".join(part))
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": LABELS}))
    other = replace(config, train_file=str(shards), output_dir=str(tmp_path / "from-shards"))
    assert same_weights(whole, train(other))


def test_a_run_records_what_it_was_given_and_runs_compares(config, tmp_path, capsys):
    from studytag.cli.main import main

    train(replace(config, num_train_epochs=2))
    slower = replace(
        config, num_train_epochs=1, learning_rate=1e-9, output_dir=str(tmp_path / "slow")
    )
    train(slower)
    record = json.loads((Path(config.output_dir) / "run.json").read_text())
    assert record["config"]["learning_rate"] == 3e-3
    assert record["tables"]["train"]["articles"] == 240
    titles = [row["title"] for row in invented_articles(240, seed=2)]
    reviews = sum("review" in title for title in titles)
    assert record["tables"]["train"]["labels"]["SystematicReview"] == {
        "positives": reviews,
        "known": 240,
    }
    assert record["environment"]["torch"] == torch.__version__
    assert record["environment"]["processes"] == 1

    main(["runs", str(tmp_path)])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[0] == "run"
    assert [line.split()[0] for line in shown[1:3]] == [config.output_dir, slower.output_dir]
    assert f"{history(config)[-1]['validation/micro_f1/micro/f1']:.4f}" in shown[1]
    assert "learning_rate: 0.003 | 1e-09" in shown
    assert not any(line.startswith("output_dir") for line in shown)
    main(["runs", "--json", str(tmp_path / "slow")])
    (alone,) = json.loads(capsys.readouterr().out)
    assert alone["best"]["epoch"] == 1
    with pytest.raises(SystemExit):
        main(["runs", config.cache_dir])
    assert "no run.json in" in capsys.readouterr().err
