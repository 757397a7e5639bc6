"""Training through launchers: several processes, threads, and how mistakes end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import LABELS, REPOSITORY, torch_probabilities
from training_support import (
    accelerate_launch,
    copy_with_config,
    flags,
    history,
    studytag_train,
)

from studytag.cli.main import main
from studytag.dataset import load_table
from studytag.evaluation.metrics import score
from studytag.hardware import available_cores
from studytag.labels import LabelSet
from studytag.manifest import load_manifest
from studytag.training.loop import train

pytest_plugins = ["training_fixtures"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "threads"), [({}, available_cores()), ({"OMP_NUM_THREADS": "1"}, 1)]
)
def test_a_single_process_gets_every_core_unless_the_user_said_otherwise(
    config, tmp_path, environment, threads
):
    arguments = [*flags(config), "--num-train-epochs", "1", "--max-train-steps", "1"]
    launched = ["--num_processes", "1", "-m", "studytag.cli.train", *arguments]
    for done in (
        accelerate_launch(*launched, cwd=tmp_path, **environment),
        studytag_train(*arguments, "--overwrite-output-dir", cwd=tmp_path, **environment),
    ):
        assert done.returncode == 0, done.stderr[-2000:]
        record = json.loads((Path(config.output_dir) / "run.json").read_text())
        assert record["environment"]["threads"] == threads


@pytest.mark.slow
def test_two_processes_score_exactly_the_validation_table(config, tmp_path):
    done = studytag_train(
        *("--num-processes", "2"),
        *flags(config),
        *("--num-train-epochs", "1", "--learning-rate", "3e-3"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    best = Path(config.output_dir) / "best"
    labels = LabelSet(tuple(LABELS))
    table = load_table(config.validation_file, labels)
    stored = load_manifest(best).variants["pytorch"].scores["fixed"]
    probabilities = torch_probabilities(best, table.rows)
    again = score(labels, table.truth, table.known, probabilities, [0.5] * 5)
    assert stored.micro == again.micro
    assert {n: e.support for n, e in stored.labels.items()} == {
        n: e.support for n, e in again.labels.items()
    }
    assert history(config)[0].step == 15  # 240 articles, 2 processes x 8


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(config, encoder, tmp_path):
    """The same global batches give the same scores, and the same weights but for rounding."""
    off = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    steady = copy_with_config(encoder, tmp_path / "steady", **off)
    config = replace(
        config,
        model_name_or_path=str(steady),
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        truncated_epochs=1,
        truncated_length=40,
        truncated_to="excerpt",
    )
    one = train(config)
    together = replace(
        config, output_dir=str(tmp_path / "together"), cache_dir=str(tmp_path / "its-own")
    )
    done = accelerate_launch(
        *("--num_processes", "2", "--cpu", "-m", "studytag.cli.train"),
        *flags(together),
        *("--num_train_epochs", "2", "--learning_rate", "3e-3"),
        *("--truncated_epochs", "1", "--truncated_length", "40", "--truncated_to", "excerpt"),
        *("--dataloader_num_workers", "1"),
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
        assert alone.step == shared.step == 15 * alone.epoch
        assert alone.train_loss == pytest.approx(shared.train_loss, abs=1e-4)
        assert alone.validation_loss == pytest.approx(shared.validation_loss, abs=1e-3)
        assert alone.micro_f1 == pytest.approx(shared.micro_f1, abs=1e-3)


@pytest.mark.slow
def test_two_processes_train_an_encoder_whose_pooler_gets_no_gradient(config, encoder, tmp_path):
    """BigBird's head does not read its pooler."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = tmp_path / "big_bird"
    vocabulary = json.loads((encoder / "tokenizer.json").read_text())["model"]["vocab"]
    settings = AutoConfig.for_model(
        "big_bird",
        vocab_size=len(vocabulary),
        **{"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 64, "pad_token_id": 0, "max_position_embeddings": 64},
    )
    AutoModelForSequenceClassification.from_config(settings).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(encoder / file, folder)
    config = replace(config, model_name_or_path=str(folder))
    done = studytag_train(
        *("--num-processes", "2", "--num-train-epochs", "1", *flags(config)), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "bert.pooler.weight" in done.stderr
    assert history(config)[0].step == 15


@pytest.mark.slow
def test_accelerate_launch_train_with_a_configuration_and_a_mistake(config, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rate: 3e-3\nnum-train-epochs: 5\n")
    command = ["--num_processes", "1", "--cpu", str(REPOSITORY / "train"), "--config", str(recipe)]
    done = accelerate_launch(*command, *flags(config), "--num_train_epochs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    resolved = json.loads((Path(config.output_dir) / "run.json").read_text())["config"]
    assert (resolved["learning_rate"], resolved["num_train_epochs"]) == (3e-3, 1)

    done = accelerate_launch("--num_processes", "1", str(REPOSITORY / "train"), cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("\t`--")]
    (line,) = [number for number, text in enumerate(lines) if text.startswith("error: ")]
    assert lines[line].startswith("error: data/processed/train.parquet: no such table")
    assert lines[line + 1].startswith("(accelerate's own traceback follows; `studytag train`")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_studytag_train_ends_a_mistake_in_one_line(tmp_path, processes):
    done = studytag_train("--num-processes", str(processes), cwd=tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "CPU processes" not in line]
    (line,) = lines
    assert line.startswith("error: data/processed/train.parquet: no such table")


@pytest.mark.slow
@pytest.mark.parametrize("launch", [studytag_train, partial(accelerate_launch, "train")])
def test_the_configuration_of_accelerate_config_starts_its_processes(tmp_path, launch):
    written = tmp_path / "accelerate" / "default_config.yaml"
    written.parent.mkdir()
    shutil.copy(REPOSITORY / "train" / "accelerate" / "cpu_2_processes.yaml", written)
    (tmp_path / "train").symlink_to(REPOSITORY / "train")
    done = launch(cwd=tmp_path, HF_HOME=str(tmp_path))
    assert "starting 2 CPU processes" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "inf"], "error: option learning_rate must be a finite number"),
        (["--config", "nowhere"], "error: no configuration 'nowhere' ships; there are "),
        (["--accelerate-config", "nowhere.yaml"], "error: nowhere.yaml: no such file"),
    ],
)
def test_a_wrong_option_starts_no_process(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(message)


def test_help_names_the_flags_of_training_and_of_the_launcher(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--learning-rate X" in text
    assert "--accelerate-config FILE" in text
    assert "--learning_rate" not in text
