"""A folder of files, tagged by one process or by many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support import invented_articles
from test_resume import PATIENCE, articles, write

from studytag import Predictor
from studytag.errors import InputError
from studytag.files import WriteOptions, read_rows
from studytag.inference.files import Options, predict_file
from studytag.inference.folder import failures, predict_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def predictor(exported):
    with Predictor(exported.bundle, variant="fp32", workers=2) as loaded:
        yield loaded


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def records(tmp_path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    for number in range(4):
        write(folder / f"part-{number}.jsonl", articles(5 + number))
    return folder


def test_one_file_to_one_file(predictor, records, tmp_path):
    (records / "notes.md").write_text("about these files")
    summary = predict_folder(predictor, records, tmp_path / "tagged", progress=False)
    assert {name: file.rows for name, file in summary.files.items()} == {
        f"part-{number}.jsonl": 5 + number for number in range(4)
    }
    assert names(tmp_path / "tagged") == {*summary.files, ".studytag-run.json"}
    predict_file(predictor, records / "part-3.jsonl", tmp_path / "one.jsonl", progress=False)
    expected = (tmp_path / "one.jsonl").read_bytes()
    assert (tmp_path / "tagged" / "part-3.jsonl").read_bytes() == expected


def test_finished_files_are_skipped(predictor, records, tmp_path, caplog):
    tagged = tmp_path / "tagged"
    predict_folder(predictor, records, tagged, progress=False)
    (tagged / "part-1.jsonl").unlink()
    before = (tagged / "part-0.jsonl").stat().st_mtime_ns
    later = time.time() + 10
    os.utime(records / "part-2.jsonl", (later, later))
    summary = predict_folder(predictor, records, tagged, progress=False)
    assert (list(summary.files), summary.skipped) == (["part-1.jsonl"], 3)
    assert (tagged / "part-0.jsonl").stat().st_mtime_ns == before
    assert "part-2.jsonl: is newer than" in caplog.text


def test_a_file_that_no_run_made_does_not_count_as_tagged(predictor, records, tmp_path):
    tagged = tmp_path / "tagged"
    tagged.mkdir()
    (tagged / "mine.txt").write_text("of another name")
    mine = write(tagged / "part-1.jsonl", articles(5))
    before = mine.read_bytes()
    with pytest.raises(InputError, match=r"part-1\.jsonl: is there already, and no run"):
        predict_folder(predictor, records, tagged, progress=False)
    assert mine.read_bytes() == before
    mine.rename(tmp_path / "mine.jsonl")
    assert len(predict_folder(predictor, records, tagged, progress=False).files) == 4


def test_outputs_of_different_bundles_are_not_mixed(exported, predictor, records, tmp_path):
    predict_folder(predictor, records, tmp_path / "tagged", progress=False)
    with Predictor(exported.bundle, variant="fp32", operating_point="fixed") as other:
        with pytest.raises(InputError, match=r"tagged differently \(operating point: f1, now fix"):
            predict_folder(other, records, tmp_path / "tagged", progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(encoding="cp1252"), "encoding: None, now cp1252"),
        (Options(writing=WriteOptions(prefix="x: ")), "--prefix: studytag: , now x: "),
        (Options(writing=WriteOptions(excel=True)), "--excel: False, now True"),
        (Options(writing=WriteOptions(indicators=("RCT",))), r"--indicators: \[\], now \['RCT'\]"),
    ],
)
def test_outputs_written_in_different_ways_are_not_mixed(
    predictor, records, tmp_path, options, message
):
    tagged = tmp_path / "tagged"
    predict_folder(predictor, records, tagged, progress=False)
    predict_folder(predictor, records, tagged, options=Options(), progress=False)
    with pytest.raises(InputError, match=rf"tagged differently \({message}\)"):
        predict_folder(predictor, records, tagged, options=options, progress=False)


def test_shards_share_the_files(predictor, records, tmp_path):
    tagged = tmp_path / "tagged"
    done = [
        list(predict_folder(predictor, records, tagged, shard=(i, 3), progress=False).files)
        for i in (1, 2, 3)
    ]
    assert done == [["part-0.jsonl", "part-3.jsonl"], ["part-1.jsonl"], ["part-2.jsonl"]]


def test_a_bad_file_does_not_end_the_others(predictor, records, tmp_path):
    (records / "part-1.jsonl").write_bytes(b"")
    (records / "part-2.csv").write_text("no,columns\n1,2\n")
    summary = predict_folder(predictor, records, tmp_path / "tagged", progress=False)
    assert set(summary.failed) == {"part-1.jsonl", "part-2.csv"}
    assert len(summary.files) == 3
    failure = failures(summary, records)
    assert "2 files could not be tagged: part-1.jsonl, part-2.csv" in str(failure)
    assert failure.exit_code == 65  # not that of a mistake, which ends a whole cluster's job


def test_of_a_folder_of_one_format_every_file_is_read(predictor, tmp_path, caplog):
    folder = tmp_path / "records"
    folder.mkdir()
    for name in ("part-00000", "part-00001.out", "list.json"):
        (folder / name).write_text('{"TI": "A trial of sealants"}\n')
    (folder / ".hidden").write_text("no")
    summary = predict_folder(
        *(predictor, folder, tmp_path / "tagged"),
        source_format="jsonl",
        target_format="csv",
        progress=False,
    )
    assert set(summary.files) == {"part-00000", "part-00001.out", "list.json"}
    assert "not read" not in caplog.text


def test_formats_of_a_folder(predictor, records, tmp_path):
    tagged = tmp_path / "tagged"
    predict_folder(predictor, records, tagged, target_format="csv", progress=False)
    assert names(tagged) == {*(f"part-{n}.csv" for n in range(4)), ".studytag-run.json"}
    write(records / "part-0.csv", articles(2))
    with pytest.raises(InputError, match=r"would be the output of both part-0.csv and part-0.jso"):
        predict_folder(predictor, records, tmp_path / "x", target_format="csv", progress=False)


def test_pubmed_files_work_as_they_come(predictor, tmp_path):
    import gzip

    baseline = tmp_path / "baseline"
    baseline.mkdir()
    for number in (1, 2):
        citation = (
            f"<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><ArticleTitle>A trial"
            "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        )
        deleted = "<DeleteCitation><PMID>7</PMID></DeleteCitation>"
        text = f"<PubmedArticleSet>{citation}{deleted}</PubmedArticleSet>"
        name = f"pubmed26n000{number}.xml.gz"
        (baseline / name).write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match="xml is only read; name a format with --output-format"):
        predict_folder(predictor, baseline, tmp_path / "tagged", progress=False)
    predict_folder(
        predictor, baseline, tmp_path / "tagged", target_format="parquet", progress=False
    )
    rows = list(read_rows(tmp_path / "tagged" / "pubmed26n0002.parquet"))
    assert [row["pmid"] for row in rows] == ["2", "7"]
    assert [row["studytag_error"] for row in rows] == [None, "deleted from PubMed"]


def start(bundle: Path, records: Path, tagged: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "studytag", "predict", records, tagged, "--bundle", bundle]
    return subprocess.Popen(
        [*map(str, command), "--variant", "fp32", "--workers", "1", "--log-json"]
        + ["--commit-every", "0.1", "--claim-timeout", "2", *options],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_three_processes_share_a_folder_though_one_is_killed(exported, predictor, tmp_path):
    records, tagged = tmp_path / "records", tmp_path / "tagged"
    records.mkdir()
    for number in range(5):
        write(records / f"part-{number}.jsonl", articles(800, 50))
    killed = start(exported.bundle, records, tagged)
    end = time.monotonic() + PATIENCE
    while not list(tagged.glob(".*.studytag/outcomes.bin")) and time.monotonic() < end:
        time.sleep(0.02)
    others = [start(exported.bundle, records, tagged) for _ in range(2)]
    time.sleep(0.5)
    killed.kill()
    said = [process.communicate(timeout=PATIENCE)[1] for process in (killed, *others)]
    assert [process.returncode for process in others] == [0, 0], said
    done = Counter(
        Path(event["file"]).name
        for text in said
        for event in map(json.loads, text.splitlines())
        if event["event"] == "file"
    )
    parts = {f"part-{number}.jsonl" for number in range(5)}
    assert set(done.values()) == {1}
    # What was killed may have put a file in place without the time to say so.
    assert len(parts - set(done)) <= 1, said
    assert names(tagged) == {*parts, ".studytag-run.json"}
    predict_file(predictor, records / "part-0.jsonl", tmp_path / "one.jsonl", progress=False)
    for name in parts:  # the inputs are the same
        assert (tagged / name).read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_recipes_for_clusters():
    folder = ROOT / "infer" / "clusters"
    subprocess.run(["bash", "-n", folder / "slurm-array.sh"], check=True)
    job = yaml.safe_load((folder / "kubernetes-job.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "--shard $((JOB_COMPLETION_INDEX + 1))/" in container["args"][-1]


def test_a_shard_of_a_file_is_refused(tmp_path, exported):
    source = write(tmp_path / "in.jsonl", invented_articles(3))
    process = start(exported.bundle, source, tmp_path / "out.jsonl", "--shard", "1/2")
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 2
    assert f"--shard is for folders, which {source} is not" in said
