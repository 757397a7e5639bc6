"""The command line as the README shows it, and `studytag evaluate`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS, invented_articles

from studytag.cli import _COMMANDS, _parser, main
from studytag.evaluation.metrics import score
from studytag.evaluation.split import load_split
from studytag.labels import LabelSet

REPOSITORY = Path(__file__).parents[1]


def readme_commands():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = text.split("```")[1::2]
    for block in blocks:
        for line in block.splitlines() if block.startswith("\n") else ():
            words = shlex.split(line.split("#")[0])
            if words[:2] in (["python", "infer"], ["python", "export"]):
                words = ["studytag", {"infer": "predict"}.get(words[1], words[1]), *words[2:]]
            if words and words[0] == "studytag":
                yield words[1:]


@pytest.mark.parametrize("words", list(readme_commands()), ids=" ".join)
def test_every_command_of_the_readme_is_understood(words):
    words = [word if word != "..." else "file.csv" for word in words]
    assert callable(_parser(words).parse_args(words).run)


def test_the_readme_shows_every_command():
    assert {words[0] for words in readme_commands()} == set(_COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["data"],
        ["data", "build"],
        ["data", "fetch"],
        ["export"],
        ["predict"],
        ["evaluate"],
        ["runs"],
        ["report"],
    ],
    ids=" ".join,
)
def test_help_is_there_at_every_level(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    assert "usage: studytag" in capsys.readouterr().out


def test_evaluate_scores_what_the_predictor_says(exported, tmp_path, capsys):
    table = tmp_path / "test.jsonl"
    random = np.random.default_rng(0)
    with table.open("w", encoding="utf-8") as stream:
        for article in invented_articles(50, seed=5):
            labels = [name for name in LABELS if random.random() < 0.4]
            known = sorted({*labels, *LABELS[:3]})
            stream.write(json.dumps(article | {"labels": labels, "known": known}) + "\n")
    output = tmp_path / "metrics.json"
    arguments = ["evaluate", str(table), "--bundle", str(exported.bundle), "--variant", "fp32"]
    main([*arguments, "--output", str(output)])
    printed = capsys.readouterr().out
    result = json.loads(output.read_text())

    from studytag import Predictor

    labels = LabelSet(tuple(LABELS))
    split = load_split(table, labels)
    with Predictor.from_pretrained(exported.bundle, variant="fp32") as predictor:
        probabilities = predictor.predict_proba(split.rows)
        thresholds = predictor.thresholds.tolist()
    expected = score(labels, split.truth, split.known, probabilities, thresholds)
    assert result["tuned"] == json.loads(json.dumps(expected))
    low, high = result["intervals"]["micro"]
    assert low <= expected["micro"]["f1"] <= high
    assert set(result["years"]) == {"2020", "2021", "2022", "2023"}
    assert sum(year["articles"] for year in result["years"].values()) == 50
    assert f"| RCT | {expected['labels']['RCT']['support']} |" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"title": "A trial"}\n', "no column 'labels'; label the table with: studytag data build"),
        ('{"title": "A", "labels": ["Trail"]}\n', "unknown label 'Trail'"),
        ('{"title": "A", "labels": ["RCT"], "known": []}\n', "no article has a known label"),
        ('{"title": "", "labels": ["RCT"]}\n', "row 1 .*neither title nor abstract"),
    ],
)
def test_evaluate_refuses_an_unusable_table(exported, tmp_path, capsys, content, message):
    table = tmp_path / "test.jsonl"
    table.write_text(content)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(table), "--bundle", str(exported.bundle)])
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error), error


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "studytag.cli", "data", "build", "nowhere.xml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nowhere.xml" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_made_up_articles_become_tables(tmp_path, capsys):
    main(["data", "demo", str(tmp_path / "articles.jsonl"), "--articles", "200"])
    main(["data", "build", str(tmp_path / "articles.jsonl"), "--output", str(tmp_path / "tables")])
    assert "# Data card" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        *("train.parquet", "val.parquet", "test.parquet"),
        *("excluded.csv", "manifest.json", "README.md"),
    }
