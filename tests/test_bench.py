"""The benchmarks' tables are made from what is committed, and their commands run."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from support import MAX_LENGTH, edit_manifest, handmade_bundle, save_tiny_model

from bench import tables
from bench.harness.machine import interleaved
from bench.harness.store import PREDICTIONS, RESULTS, TRUTH
from bench.quality.systems import Bundle
from studytag.files import open_writer
from studytag.labels import LabelSet

SENTENCES = {
    "SystematicReview": "A systematic review of sealants.",
    "RCT": "Children were randomly assigned to sealants.",
    "Animal": "Rats were given fluoride.",
    "Human": "Patients answered a questionnaire.",
}


@pytest.mark.parametrize("name", tables.names())
def test_table_is_up_to_date(name):
    assert not tables.out_of_date(name), "run: make tables"


def test_every_table_has_a_source():
    assert {path.stem for path in RESULTS.glob("*.md")} == set(tables.names())


@pytest.mark.parametrize("path", sorted(PREDICTIONS.rglob("*.npz")), ids=lambda path: path.stem)
def test_no_text_of_articles_is_kept(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    texts = {name for name, values in arrays.items() if values.dtype.kind not in "bif"}
    assert texts <= {"labels", "implications", "system", "recipe", "measured"}
    if path.name == TRUTH:
        assert set(arrays) - texts == {"truth", "known", "year", "source", "fold"}


def test_contenders_take_turns():
    calls = []
    tasks = {name: lambda number, name=name: calls.append((number, name)) for name in "abc"}
    seconds = interleaved(tasks, 5, lambda: calls.append("round"))
    assert {name: len(times) for name, times in seconds.items()} == dict.fromkeys("abc", 5)
    for number in range(5):
        begin, *turns = calls[4 * number : 4 * number + 4]
        assert begin == "round"
        assert sorted(turns) == [(number, name) for name in "abc"]


def test_what_is_imported_counts_as_installed():
    code = "import {}; from bench.harness.machine import installed_size as size; print(size())"
    sizes = []
    for module in ("json", "pyarrow"):
        command = [sys.executable, "-c", code.format(module)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sizes.append(float(done.stdout))
    without, with_pyarrow = sizes
    assert 5 < without < with_pyarrow - 20


@pytest.fixture
def results(tmp_path):
    """Runs a benchmark's command with a folder of results of its own."""
    folder = tmp_path / "results"

    def run(*command, code=0):
        environment = os.environ | {"BENCH_RESULTS": str(folder)}
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    run.folder = folder
    return run


@pytest.fixture
def table(tmp_path):
    """Labelled articles of nine sources in three folds; a tenth source is only trained on."""
    path = tmp_path / "table.jsonl"
    order = random.Random(0)
    with open_writer(path) as writer:
        for number in range(200):
            labels = order.sample(list(SENTENCES), 2)
            source = number % 10
            writer.write(
                {
                    "pmid": str(number),
                    "title": f"Article {number}",
                    "abstract": " ".join(SENTENCES[label] for label in labels),
                    "year": 2020,
                    "labels": labels,
                    "known": list(SENTENCES),
                    "source": f"source {source}",
                    "fold": source % 3 if source < 9 else -1,
                }
            )
    return path


def test_quality_over_whole_sources(results, table, tmp_path):
    text = results("bench.quality", "grouped", table, "--baselines", "Keyword rules")
    assert "180 articles with a known label, 9 sources" in text
    assert (results.folder / "grouped.md").read_text("utf-8") == text
    # Probabilities made elsewhere stand beside, and gains over a system are shown when asked for.
    kept = next((results.folder / "predictions" / "grouped").glob("keyword*.npz"))
    with np.load(kept) as stored:
        np.savez(tmp_path / "other.npz", probabilities=stored["probabilities"])
    added = ("add", "grouped", tmp_path / "other.npz", "--system", "other")
    rows = [line.split("|") for line in results("bench.quality", *added).splitlines()]
    first = {row[1].strip(): row[2:] for row in reversed(rows) if len(row) > 2}
    assert first["other"] == first["Keyword rules"]
    error = results("bench.quality", *added, "--recipe", "by hand", code=1)
    assert "other-0.npz: is of the recipe '', not of 'by hand'; remove it to measure" in error


def test_articles_labelled_by_people(results, table):
    text = results("bench.quality", "test", table, "--train", table)
    assert "200 articles with a known label" in text
    assert "| TF-IDF + logistic regression |" in text
    assert "| Precision / recall |" in text


def test_a_published_split(results, table):
    split = ("test", table, "--train", table, "--validation", table)
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    rows[0]["known"] = rows[0]["labels"]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    text = results("bench.quality", *split, "--baselines", "Keyword rules")
    assert "200 articles with a known label" in text
    with np.load(results.folder / "predictions" / "test" / TRUTH) as truth:
        assert np.bincount(truth["fold"] + 1).tolist() == [200, 200]
        known = truth["known"].sum(axis=1)
        assert known[0] == known[200] < len(SENTENCES) <= known[1] == known[201]


def test_bundles_of_one_name_are_seeds(results, table, tmp_path):
    bundle = handmade_bundle(tmp_path / "bundle")
    twice = ["--bundle", f"ours={bundle}@fp32"] * 2
    error = results("bench.quality", "test", table, "--train", table, *twice, code=1)
    assert "two bundles have the same name and seed" in error
    assert Bundle.parse(f"{bundle}@fp32").seed == 0
    edit_manifest(bundle, training={"options": {"seed": 43}})
    assert Bundle.parse(f"{bundle}@fp32").seed == 43


def test_a_source_in_two_folds_is_refused(results, table, tmp_path):
    torn = tmp_path / "torn.jsonl"
    torn.write_text(table.read_text("utf-8").replace('"source 1"', '"source 0"'), "utf-8")
    error = results("bench.quality", "grouped", torn, code=1)
    assert error.splitlines()[-1].startswith(f"error: {torn}: a source lies in two folds")


@pytest.mark.slow
def test_training_takes_turns_with_the_trainer(results, table, tmp_path):
    save_tiny_model(tmp_path / "tiny", "distilbert")
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": list(SENTENCES)}))
    recipe = {
        "model_name_or_path": str(tmp_path / "tiny"),
        "max_length": MAX_LENGTH,
        "tokens_per_batch": 8 * MAX_LENGTH,
        "truncated_epochs": 1,
        "truncated_length": 8,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    text = results(
        *("bench.speed", "training", "--source", table, "--validation", table),
        *("--config", tmp_path / "recipe.yaml", "--articles", 32, "--validation-articles", 40),
        *("--epochs", 2, "--rounds", 1, "--name", "tiny", "--processor-time"),
        *("--only", "^studytag|maximum"),
    )
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")][1:]
    assert {row[1].split(",")[0].strip() for row in rows} == {"studytag", "Trainer"}
    assert all(0 <= float(row[-2]) <= 1 for row in rows)
    raw = json.loads((results.folder / "raw" / "tiny.json").read_text("utf-8"))
    whole, truncated = (raw["tokens"][name] for name in list(raw["tokens"])[:2])
    assert truncated < whole


@pytest.mark.slow
def test_contenders_are_drawn_by_speed_and_f1(results, table, tmp_path):
    save_tiny_model(tmp_path / "tiny", "distilbert", LabelSet(tuple(SENTENCES)))
    text = results(
        *("bench.speed", "contenders", "--source", table, "--model", tmp_path / "tiny"),
        *("--tables", table, table, "--articles", 40, "--rounds", 2, "--name", "tiny"),
        *("--only", "^studytag, (int8|fast)$"),
    )
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| studytag")]
    assert {row[1].strip() for row in rows} == {"studytag, int8", "studytag, fast"}
    assert all(0 <= float(row[-2]) <= 1 for row in rows)
    assert (results.folder / "tiny.svg").is_file()
