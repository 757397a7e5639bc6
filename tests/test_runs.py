"""`studytag runs`: what runs record, and how they are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import invented_articles
from training_support import history

from studytag import __version__
from studytag.cli.main import main
from studytag.training.loop import train

pytest_plugins = ["training_fixtures"]


def test_a_run_records_what_it_was_given_and_runs_compares(config, tmp_path, capsys):
    train(replace(config, num_train_epochs=2))
    slower = replace(
        config, num_train_epochs=1, learning_rate=1e-9, output_dir=str(tmp_path / "slow")
    )
    train(slower)
    record = json.loads((Path(config.output_dir) / "run.json").read_text())
    assert record["config"]["learning_rate"] == 3e-3
    assert record["tables"]["train_file"]["articles"] == 240
    titles = [row["title"] for row in invented_articles(240, seed=2)]
    reviews = sum("review" in title for title in titles)
    assert record["tables"]["train_file"]["labels"]["SystematicReview"] == {
        "positives": reviews,
        "known": 240,
    }
    assert record["environment"]["torch"] == torch.__version__
    assert record["environment"]["studytag"] == __version__
    assert record["environment"]["processes"] == 1

    main(["runs", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "run"
    assert [line.split()[0] for line in lines[1:3]] == [config.output_dir, slower.output_dir]
    assert f"{max(epoch.micro_f1 for epoch in history(config)):.4f}" in lines[1]
    assert "learning_rate: 0.003 | 1e-09" in lines
    assert not any(line.startswith("output_dir") for line in lines)
    main(["runs", "--json", str(tmp_path / "slow")])
    (alone,) = json.loads(capsys.readouterr().out)
    assert alone["best"]["epoch"] == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no run.json in"),
        ({"run.json": "{"}, "run.json: cannot be read as JSON"),
        ({"run.json": "{}"}, "run.json: 'config' or 'started' is missing"),
        (
            {"run.json": '{"started": "now", "config": {}}', "history.json": '{"epochs": [{}]}'},
            "history.json: entry 'scores' is missing",
        ),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path, capsys, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["runs", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_run_without_an_epoch_is_listed(tmp_path, capsys):
    record = {"started": "2026-01-01T00:00:00+00:00", "config": {"num_train_epochs": 3}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    main(["runs", str(tmp_path)])
    assert "2026-01-01 00:00     0/3" in capsys.readouterr().out
