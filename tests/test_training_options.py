"""The options of training: configurations, flags, and mistakes in them."""

from __future__ import annotations

import pytest
from support import REPOSITORY

from studytag.cli.train import main
from studytag.errors import InputError
from studytag.training.config import read_config, shipped_configs
from studytag.training.options import parse_config


def test_flags_override_the_file_and_numbers_are_numbers(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("learning_rate: 2e-5\nnum-train-epochs: 4\nmax_train_steps: null\n")
    config = parse_config(["--config", str(file), "--num-train-epochs", "7"])
    assert (config.learning_rate, config.num_train_epochs) == (2e-5, 7)
    assert config.max_train_steps is None
    assert config.model_name_or_path == "distilbert-base-uncased"


def test_flags_come_in_kebab_and_snake_case():
    kebab = parse_config(["--learning-rate", "1e-4", "--calibrate=false", "--overwrite-output-dir"])
    snake = parse_config(["--learning_rate=1e-4", "--calibrate", "no", "--overwrite_output_dir"])
    assert kebab == snake
    assert (kebab.learning_rate, kebab.calibrate, kebab.overwrite_output_dir) == (1e-4, False, True)
    config = parse_config(
        [
            *("--early-stopping-patience", "none", "--allow-changed", "learning-rate,seed"),
            *("--lr-scheduler-kwargs", '{"num_cycles": 2}'),
        ]
    )
    assert config.early_stopping_patience is None
    assert config.allow_changed == ("learning_rate", "seed")
    assert config.lr_scheduler_kwargs == {"num_cycles": 2}


@pytest.mark.parametrize("name", ["distilbert", "minilm", "demo"])
def test_configurations_ship(name):
    assert name in shipped_configs()
    assert parse_config(["--config", name]) == read_config(name)


@pytest.mark.parametrize("name", ["crossvalidation", "reference"])
def test_configurations_of_the_benchmarks_are_read(name):
    assert read_config(REPOSITORY / "bench" / "configs" / f"{name}.yaml").max_length >= 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown option 'learning_rat'; did you mean learning_rate"),
        ("zzz: 1", "unknown option 'zzz'; see: studytag train --help"),
        ("num_train_epochs: 2.5", "'num_train_epochs': 2.5 is not of type int"),
        ("num_train_epochs: true", "is not of type int"),
        ("num_train_epochs: .inf", "is not of type int"),
        ("seed: [1]", "is not of type int"),
        ("train_file: {a: 1}", "is not of type str"),
        ("lr_scheduler_kwargs: 3", "is not of type dict"),
        ("learning_rate: fast", "'learning_rate': 'fast' is not of type float"),
        ("learning_rate: 0", "option learning_rate must be above 0"),
        ("learning_rate: .inf", "option learning_rate must be a finite number, not inf"),
        ("weight_decay: .nan", "option weight_decay must be a finite number, not nan"),
        ("seed: -1", "option seed must be from 0 to 4294967295, not -1"),
        ("seed: 4294967296", "option seed must be from 0 to 4294967295"),
        ("warmup_ratio: 1.5", "option warmup_ratio must be between 0 and 1"),
        ("num_warmup_steps: -1", "option num_warmup_steps must be 0 or more"),
        ("truncated_length: 7", "option truncated_length must be at least 8"),
        ("truncated_to: end", "option truncated_to must be beginning or excerpt, not 'end'"),
        ("max_chars: 0", "option max_chars must be at least 1"),
        ("head_lr_factor: 0", "option head_lr_factor must be above 0"),
        ("tokens_per_batch: 100", "option tokens_per_batch must be max_length or more"),
        ("allow_changed: [sed]", "option allow_changed: unknown option 'sed'; did you mean seed"),
        ("seed: 1\nlearning_rate: 1e-5\nseed: 2", "has 'seed' twice in one mapping; keep one"),
        ("learning_rate: 1e-5\nlearning-rate: 2e-5", "has 'learning_rate' twice; keep one"),
        ("- 1", "expected a YAML mapping"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        parse_config(["--config", str(file)])
    assert "\n" not in str(error.value)


def test_a_missing_configuration_is_named():
    with pytest.raises(InputError, match="nowhere.yaml: cannot be read as YAML .*demo, distilbert"):
        parse_config(["--config", "nowhere.yaml"])
    with pytest.raises(InputError, match="no configuration 'nowhere' ships; there are .*demo"):
        parse_config(["--config", "nowhere"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rat", "1"], "unrecognized arguments: --learning-rat"),
        (["--learning-rate", "fast"], "argument --learning-rate: 'fast' is not a number"),
        (["--seed", "1.5"], "argument --seed: '1.5' is not a whole number"),
        (["--calibrate", "maybe"], "argument --calibrate: 'maybe' is not true or false"),
        (["--lr-scheduler-kwargs", "[1]"], "is not a JSON object"),
    ],
)
def test_a_wrong_flag_is_named(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        parse_config(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_report_of_something_else_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.docx").write_text("years of work")
    with pytest.raises(SystemExit) as stop:
        main(["--output_dir", str(tmp_path)])
    assert stop.value.code == 2
    assert "holds 'thesis.docx', which no report wrote" in capsys.readouterr().err
