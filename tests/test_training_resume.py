"""Runs that are stopped, killed, damaged, and continued."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import LABELS
from training_support import flags, history, same_weights, scores_only, write_label_set

from studytag.errors import InputError, OutputInUseError, StoppedError
from studytag.hashing import hash_files
from studytag.manifest import read_manifest
from studytag.training.checkpoint import checkpoints
from studytag.training.loop import train

pytest_plugins = ["training_fixtures"]


def stop_after(steps):
    """A `stop` that asks to stop after so many optimizer steps."""
    calls = []

    def stop():
        calls.append(None)
        return len(calls) >= steps

    return stop


def fail_after(steps):
    """A `stop` that raises after so many optimizer steps: training ends there as by a power cut."""
    asked = stop_after(steps)

    def stop():
        if asked():
            raise RuntimeError("power cut")
        return False

    return stop


def checkpoint_folder(config):
    return Path(config.output_dir) / "checkpoints"


@pytest.mark.parametrize(("accumulation", "read"), [(1, "beginning"), (2, "excerpt")])
def test_an_interrupted_run_resumes_to_the_very_same_weights(config, tmp_path, accumulation, read):
    config = replace(
        config,
        num_train_epochs=2,
        truncated_epochs=1,
        truncated_length=40,
        truncated_to=read,
        checkpointing_steps=4,
        gradient_accumulation_steps=accumulation,
    )
    whole = train(config)
    expected = scores_only(config)

    interrupted = replace(config, output_dir=str(tmp_path / "interrupted"))
    with pytest.raises(RuntimeError, match="power cut"):
        train(interrupted, stop=fail_after(14))
    assert checkpoints(checkpoint_folder(interrupted))[-1].name == "step-00000012"
    interrupted = replace(interrupted, resume_from_checkpoint="auto")
    assert train(interrupted, stop=stop_after(7)) is None
    shutil.rmtree(config.cache_dir)  # it may be emptied whenever no run is in progress
    resumed = train(interrupted)

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
@pytest.mark.parametrize(
    ("module", "number"),
    [
        (["studytag.cli.train"], signal.SIGTERM),
        (["studytag.cli.train"], signal.SIGINT),
        (["studytag", "train"], signal.SIGTERM),
    ],
)
def test_a_signal_saves_and_ends_in_peace(config, tmp_path, module, number):
    command = [sys.executable, "-m", *module, *flags(config)]
    options = ["--num-train-epochs", "40", "--learning-rate", "3e-3", "--checkpointing-steps", "5"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.Popen(
        [*command, *options, "--early-stopping-patience", "none"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    folder = checkpoint_folder(config)
    while not checkpoints(folder) and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(number)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == StoppedError.exit_code, stderr[-2000:]
    assert "Traceback" not in stderr
    stopped = re.search(r"stopped at step (\d+); continue with --resume-from-checkpoint", stderr)
    assert stopped, stderr[-2000:]
    step = int(stopped.group(1))
    assert checkpoints(folder)[-1].name == f"step-{step:08d}"
    assert step < 1200


def test_training_as_a_library_leaves_signals_alone(config):
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def stop():
        during.append(signal.getsignal(signal.SIGTERM))
        return True

    assert train(config, stop=stop) is None
    assert during == [before]


def test_a_stop_after_the_last_step_still_selects_the_model(config):
    config = replace(config, max_train_steps=30)
    assert train(config, stop=stop_after(30)) is None
    assert history(config) == []
    best = train(replace(config, resume_from_checkpoint="auto"))
    assert [(epoch.epoch, epoch.step) for epoch in history(config)] == [(1, 30)]
    assert best.is_dir()


def test_a_damaged_checkpoint_is_passed_over(config, caplog):
    config = replace(config, num_train_epochs=2)
    train(config)
    older, newest = checkpoints(checkpoint_folder(config))
    with (newest / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    best = train(replace(config, resume_from_checkpoint="auto"))
    assert f"{newest} is damaged (model.safetensors is missing or altered)" in caplog.text
    assert [epoch.epoch for epoch in history(config)] == [1, 2]
    assert best.is_dir()
    (older / "progress.json").write_text("{")
    with pytest.raises(InputError, match="step-00000030 is damaged"):
        train(replace(config, resume_from_checkpoint=str(older)))


@pytest.mark.slow
def test_a_full_disk_costs_no_earlier_checkpoint(config, processes):
    pytest.importorskip("resource", reason="POSIX only")
    assert train(config, stop=stop_after(7)) is None
    folder = checkpoint_folder(config)
    before = hash_files(folder)
    outcome = processes.Queue()
    resumed = replace(config, resume_from_checkpoint="auto", checkpointing_steps=5)
    run = processes.Process(target=train_on_a_small_disk, args=(resumed, outcome))
    run.start()
    run.join()
    message = outcome.get(timeout=10)
    assert re.search(r"step-00000010: cannot be written .*; free some space, then", message)
    assert hash_files(folder) == before


def train_on_a_small_disk(config, outcome):
    """Files may not grow beyond 16 KiB: to a program that is as good as a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
    try:
        train(config)
    except InputError as error:
        outcome.put(str(error))
    else:
        outcome.put("nothing happened")


def test_an_unfinished_checkpoint_is_never_chosen(config):
    config = replace(config, num_train_epochs=2)
    train(config, stop=stop_after(40))
    newest = checkpoints(checkpoint_folder(config))[-1]
    broken = checkpoint_folder(config) / "step-99999999"
    shutil.copytree(newest, broken)
    (broken / "progress.json").unlink()
    train(replace(config, resume_from_checkpoint="auto"))
    assert [(epoch.epoch, epoch.step) for epoch in history(config)] == [(1, 30), (2, 60)]
    with pytest.raises(InputError, match="not a checkpoint"):
        train(replace(config, resume_from_checkpoint=str(broken)))


def test_resuming_on_another_number_of_processes_is_refused(config):
    train(config, stop=stop_after(3))
    (newest,) = checkpoints(checkpoint_folder(config))
    record = json.loads((newest / "progress.json").read_text())
    record["progress"]["processes"] = 2
    (newest / "progress.json").write_text(json.dumps(record))
    message = "saved by 2 process.*this run has 1; resume with --num-processes 2"
    with pytest.raises(InputError, match=message):
        train(replace(config, resume_from_checkpoint="auto"))


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(config):
    folder = Path(config.output_dir)
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(InputError, match=f"{folder}.*cannot be written"):
        train(config)


def test_a_second_run_in_the_same_folder_is_kept_out(config):
    refusals = []

    def stop():
        second = replace(config, resume_from_checkpoint="auto", checkpointing_steps=1)
        with pytest.raises(OutputInUseError, match="is being written by process") as refused:
            train(second)
        refusals.append(refused)
        return True

    assert train(config, stop=stop) is None
    assert refusals
    assert not list(Path(config.output_dir).glob(".lock"))


def test_an_earlier_run_is_not_overwritten_by_accident(config):
    config = replace(config, num_train_epochs=1)
    train(config)
    with pytest.raises(InputError, match="holds an earlier run.*--resume-from-checkpoint auto"):
        train(config)
    assert history(config)
    shutil.rmtree(Path(config.output_dir) / "checkpoints")
    with pytest.raises(InputError, match="best is there already, which the run would replace"):
        train(config)
    again = replace(config, overwrite_output_dir=True)
    assert train(again, stop=stop_after(1)) is None
    assert history(config) == []  # those of the earlier run are not this one's


def test_old_checkpoints_are_deleted(config):
    train(replace(config, num_train_epochs=2, checkpointing_steps=5, checkpoints_total_limit=2))
    kept = sorted(path.name for path in checkpoint_folder(config).iterdir())
    assert len(kept) == 2
    assert kept[-1] == f"step-{history(config)[-1].step:08d}"


def test_a_run_that_goes_back_leaves_its_later_epochs_behind(config, caplog):
    """They are kept, but count neither as newer checkpoints nor as the best model."""
    config = replace(config, num_train_epochs=3, checkpoints_total_limit=5)
    train(config)
    first, *later = checkpoints(checkpoint_folder(config))
    back = replace(
        config,
        resume_from_checkpoint=str(first),
        learning_rate=1e-12,
        allow_changed=("learning_rate",),
        checkpoints_total_limit=1,
    )
    assert train(back, stop=stop_after(7)) is None
    assert (
        "no longer holds the model of epoch 1: the best is selected among the epochs after 1"
        in (caplog.text)
    )
    aside = checkpoint_folder(config) / "left-behind-1"
    assert checkpoints(aside) == [aside / path.name for path in later]
    assert [path.name for path in checkpoints(checkpoint_folder(config))] == ["step-00000037"]
    best = train(replace(back, resume_from_checkpoint="auto"))
    epochs = history(config)
    assert [epoch.step for epoch in epochs] == [30, 60, 90]
    kept = read_manifest(best)
    chosen = [epoch for epoch in epochs if epoch.best][-1]
    assert kept.training["epoch"] == chosen.epoch > 1
    assert kept.variants["pytorch"].scores["f1"].micro.f1 == chosen.micro_f1


def test_a_finished_run_without_its_best_model_says_so(config):
    config = replace(config, num_train_epochs=1)
    shutil.rmtree(train(config))
    with pytest.raises(InputError, match="best does not hold the run's best model, and no epoch"):
        train(replace(config, resume_from_checkpoint="auto"))


def run_record(config):
    return json.loads((Path(config.output_dir) / "run.json").read_text())


@pytest.fixture
def interrupted(config):
    """A run that was stopped in its first epoch, to be resumed."""
    assert train(config, stop=stop_after(3)) is None
    return replace(config, resume_from_checkpoint="auto")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 1e-3}, r"learning_rate \(was 0.003, now 0.001\)"),
        ({"per_device_train_batch_size": 4}, r"per_device_train_batch_size \(was 8, now 4\)"),
        ({"num_train_epochs": 5}, r"num_train_epochs \(was 3, now 5\)"),
        ({"seed": 1, "weight_decay": 0.5}, r"weight_decay \(.*; seed \("),
    ],
)
def test_resuming_with_other_options_is_refused(interrupted, change, named):
    with pytest.raises(InputError, match=named) as error:
        train(replace(interrupted, **change))
    advised = re.search(r"--allow-changed ([a-z_,]+), or", str(error.value)).group(1)
    assert set(advised.split(",")) == set(change)


def test_resuming_with_another_table_is_refused(interrupted, tmp_path):
    lines = Path(interrupted.train_file).read_text().splitlines(keepends=True)
    other = tmp_path / "train.jsonl"
    other.write_text("".join(lines))
    write_label_set(tmp_path)
    moved = replace(interrupted, train_file=str(other))
    assert train(moved, stop=stop_after(1)) is None, "the same table in another place is no change"
    other.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match=r"train_file \(the table has other content\)"):
        train(moved)
    with pytest.raises(InputError, match="train_file decides what the batches.*between epochs"):
        train(replace(moved, allow_changed=("train_file",)))


def test_resuming_with_other_labels_is_refused(interrupted, tmp_path):
    for name in ("train_file", "validation_file"):
        (tmp_path / f"{name}.jsonl").write_text(Path(getattr(interrupted, name)).read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": LABELS[::-1]}))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train_file", "validation_file")}
    with pytest.raises(InputError, match=f"has other labels: {', '.join(LABELS)}"):
        train(replace(interrupted, **files, allow_changed=("train_file", "validation_file")))


def test_an_allowed_change_takes_effect_and_is_recorded(interrupted):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changed = replace(
        interrupted,
        learning_rate=1e-3,
        weight_decay=0.5,
        allow_changed=("learning_rate", "weight_decay"),
        report_to="tensorboard",
        logging_steps=1,
    )
    assert train(changed, stop=stop_after(2)) is None
    (resume,) = run_record(changed)["resumes"]
    assert resume["changed"] == {
        "learning_rate": {"before": 0.003, "now": 0.001},
        "weight_decay": {"before": 0.01, "now": 0.5},
    }
    assert resume["step"] == 3
    assert resume["checkpoint"].endswith("step-00000003")
    assert run_record(changed)["config"]["learning_rate"] == 3e-3
    logs = EventAccumulator(str(Path(changed.output_dir) / "studytag")).Reload()
    rates = [entry.value for entry in logs.Scalars("train/lr")]
    # 9 of 90 steps warm up: after steps 4 and 5 the rates are 4/9 and 5/9 of the new peak.
    assert rates == pytest.approx([1e-3 * 4 / 9, 1e-3 * 5 / 9], rel=1e-5)
    train(replace(changed, report_to=None, max_train_steps=None), stop=stop_after(1))
    assert [entry["step"] for entry in run_record(changed)["resumes"]] == [3, 5]


def test_a_finished_run_is_not_continued(config, caplog):
    config = replace(config, learning_rate=1e-12, num_train_epochs=9, early_stopping_patience=1)
    best = train(config)
    before = scores_only(config)
    assert len(before) == 2
    caplog.set_level("INFO")
    again = train(replace(config, resume_from_checkpoint="auto"))
    assert again == best
    assert scores_only(config) == before
    assert "already finished at epoch 2, step 60" in caplog.text


def test_the_seconds_of_an_epoch_outlive_an_interruption(interrupted):
    (newest,) = checkpoints(checkpoint_folder(interrupted))
    record = json.loads((newest / "progress.json").read_text())
    assert record["progress"]["seconds"] > 0
    record["progress"]["seconds"] = 1000.0
    (newest / "progress.json").write_text(json.dumps(record))
    train(replace(interrupted, num_train_epochs=1, allow_changed=("num_train_epochs",)))
    assert [epoch.seconds > 1000 for epoch in history(interrupted)] == [True]


def test_options_of_other_versions(interrupted):
    """One that is new was at its default; of one that is gone, the message says what to do."""
    (newest,) = checkpoints(checkpoint_folder(interrupted))
    record = json.loads((newest / "progress.json").read_text())
    del record["identity"]["truncated_to"]
    (newest / "progress.json").write_text(json.dumps(record))
    assert train(interrupted, stop=stop_after(1)) is None
    record["identity"]["short_epochs"] = 0
    (newest / "progress.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="another version of studytag, whose short_epochs is no"):
        train(replace(interrupted, resume_from_checkpoint=str(newest)))


def test_a_checkpoint_of_another_version_is_named(interrupted):
    (newest,) = checkpoints(checkpoint_folder(interrupted))
    record = json.loads((newest / "progress.json").read_text())
    del record["identity"]
    (newest / "progress.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="saved by another version of studytag"):
        train(interrupted)
