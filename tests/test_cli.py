"""The command line, and `studytag evaluate`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support import LABELS, invented_articles

from studytag.cli.main import main
from studytag.dataset import load_table
from studytag.evaluation.metrics import score
from studytag.evaluation.robustness import without_topic_words
from studytag.labels import LabelSet


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
    ],
    ids=" ".join,
)
def test_help_is_there_at_every_level(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    assert "usage: studytag" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["export"], "torch", "export"),
        (["evaluate", "test.jsonl", "--model", "best"], "torch", "train"),
        (["evaluate", "test.jsonl", "--report", "page"], "jinja2", "report"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(words, package, extra):
    program = f"import sys; sys.modules[{package!r}] = None; from studytag.cli.main import main"
    command = [sys.executable, "-c", f"{program}; main(sys.argv[1:])", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    message = f"error: {package} is not installed; install it with: pip install 'studytag[{extra}]'"
    assert (done.returncode, done.stderr.splitlines()) == (2, [message])


def test_evaluate_scores_what_the_predictor_says(exported, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    table = tmp_path / "test.jsonl"
    random = np.random.default_rng(0)
    with table.open("w", encoding="utf-8") as stream:
        for article in invented_articles(50, seed=5):
            labels = [name for name in LABELS if random.random() < 0.4]
            known = sorted({*labels, *LABELS[:3]})
            stream.write(json.dumps(article | {"labels": labels, "known": known}) + "\n")
        for article in invented_articles(3, seed=6):
            stream.write(json.dumps(article | {"labels": [], "known": []}) + "\n")
    output = tmp_path / "metrics.json"
    arguments = ["evaluate", str(table), "--bundle", str(exported.bundle), "--variant", "fp32"]
    main([*arguments, "--output", str(output)])
    printed = capsys.readouterr().out
    result = json.loads(output.read_text())

    from studytag import Predictor

    labels = LabelSet(tuple(LABELS))
    table_ = load_table(table, labels)
    with Predictor.from_pretrained(exported.bundle, variant="fp32") as predictor:
        probabilities = predictor.predict_proba(table_.rows)
        thresholds = list(predictor.thresholds.values())
    expected = score(labels, table_.truth, table_.known, probabilities, thresholds)
    assert result["scores"] == json.loads(json.dumps(expected.to_dict()))
    low, high = result["intervals"]["micro"]
    assert low <= expected.micro.f1 <= high
    assert set(result["years"]) == {"2020", "2021", "2022", "2023"}
    assert sum(year["articles"] for year in result["years"].values()) == 50
    rct = expected.labels["RCT"]
    assert f"| RCT | {rct.support} |" in printed
    low, high = result["recall_intervals"]["RCT"]
    assert low <= rct.recall <= high
    assert f"| {rct.recall:.3f} | {low:.3f}–{high:.3f} | {rct.f1:.3f} |" in printed
    assert (
        "test.jsonl: 3 of 53 articles are left out, as none of their labels is known" in caplog.text
    )


def test_robustness_scores_sources_lengths_and_texts_without_rare_words(exported, tmp_path, capsys):
    table = tmp_path / "test.jsonl"
    articles = invented_articles(40, seed=5)
    articles[0]["abstract"] = "Unheardof mitigates " + articles[0]["abstract"]
    with table.open("w", encoding="utf-8") as stream:
        for number, article in enumerate(articles):
            labelled = {"labels": [LABELS[number % 3]], "source": f"topic {number % 2}"}
            stream.write(json.dumps(article | labelled) + "\n")
    output = tmp_path / "metrics.json"
    arguments = ["evaluate", str(table), "--bundle", str(exported.bundle), "--robustness"]
    main([*arguments, "--output", str(output)])
    found = json.loads(output.read_text())["robustness"]
    assert {name: of["articles"] for name, of in found["sources"].items()} == {
        "topic 0": 20,
        "topic 1": 20,
    }
    assert sum(of["articles"] for of in found["lengths"].values()) == 40
    assert list(found["lengths"])[0] == "0-49"
    assert set(found["without_topic_words"]["labels"]) == set(LABELS)
    printed = capsys.readouterr().out
    assert "| Words in < 2% of articles left out | F1 | F1 without | Drop |" in printed
    assert "| topic 1 | 20 |" in printed


def test_rare_words_are_left_out_and_no_text_becomes_empty():
    texts = ["A randomised trial of Xylitol.", *["a Randomised trial of nothing"] * 60, "quokka"]
    reduced = without_topic_words(texts)
    assert reduced[0] == "A randomised trial of ."
    assert reduced[1] == texts[1]
    assert reduced[-1] == "quokka"
    few = without_topic_words(["A trial of xylitol", "A trial of varnish", "A trial of nothing"])
    assert few == ["A trial of"] * 3  # of which one is more than 2 %


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"title": "A trial"}\n', "no column 'labels'; label the table with: studytag data build"),
        ('{"title": "A", "labels": ["Trail"]}\n', "unknown label 'Trail'"),
        ('{"title": "A", "labels": [], "known": []}\n', "no article has a known label"),
        ('{"title": "A", "labels": ["RCT"], "known": []}\n', "'RCT' is in 'labels', but not in"),
        ('{"title": "", "labels": ["RCT"]}\n', "row 1: neither title nor abstract"),
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


def refused(capsys, *arguments):
    """What `studytag evaluate` says of a mistake."""
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *map(str, arguments)])
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")  # nothing was scored
    return said.err


def test_evaluate_replaces_no_table_and_looks_at_its_output_first(exported, tmp_path, capsys):
    table = tmp_path / "mine.jsonl"
    table.write_bytes(exported.validation.read_bytes())
    command = [table, "--bundle", exported.bundle, "--output"]
    assert "is the input itself" in refused(capsys, *command, tmp_path / "." / "mine.jsonl")
    assert "is not a file" in refused(capsys, *command, tmp_path)
    assert table.read_bytes() == exported.validation.read_bytes()


def test_evaluate_ignores_no_option(exported, tmp_path, capsys):
    command = [exported.validation, "--model", exported.model]
    flags = ["--require-signature", "key.pem", "--variant", "fp32", "--workers", "2"]
    said = refused(capsys, *command, *flags, "--threads-per-worker", "2", "--bundle", "x")
    for flag in (*flags[::2], "--threads-per-worker", "--bundle"):
        assert flag in said
    assert "add that, or leave it out" in refused(capsys, *command, "--run", tmp_path)
    flags = ["--run", tmp_path, "--report", tmp_path / "report"]
    assert "holds no epoch of a run in history.json" in refused(capsys, *command, *flags)


def test_evaluate_says_how_a_model_gets_thresholds(exported, tmp_path, capsys):
    model = tmp_path / "checkpoint"
    shutil.copytree(exported.model, model, ignore=shutil.ignore_patterns("studytag.json"))
    said = refused(capsys, exported.validation, "--model", model)
    assert "export the model, which tunes them: studytag export --model" in said


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "studytag", "data", "build", "nowhere.xml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nowhere.xml" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_made_up_articles_become_tables(tmp_path, capsys):
    main(["data", "demo", "--output", str(tmp_path / "articles.jsonl"), "--articles", "200"])
    main(["data", "build", str(tmp_path / "articles.jsonl"), "--output", str(tmp_path / "tables")])
    assert "# Data card" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        *("train.parquet", "val.parquet", "test.parquet"),
        *("excluded.csv", "manifest.json", "README.md"),
    }
