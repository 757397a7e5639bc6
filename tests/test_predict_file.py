from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import LABELS

from studytag import Predictor
from studytag.cli.main import main
from studytag.errors import InputError
from studytag.files import open_writer, read_rows
from studytag.inference.files import predict_file

ADDED = ["studytag_labels", *(f"p_{label}" for label in LABELS), "studytag_error"]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def predictor(exported):
    with Predictor.from_pretrained(exported.bundle, variant="fp32", workers=2) as loaded:
        yield loaded


def write(path, rows):
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
    return path


def test_csv_to_parquet_keeps_every_row_and_column(predictor, exported, tmp_path):
    source = write(tmp_path / "in.csv", exported.articles)
    summary = predict_file(predictor, source, tmp_path / "out.parquet", progress=False)
    assert (summary.rows, summary.failed) == (60, 0)
    assert summary.seconds > 0
    rows = list(read_rows(tmp_path / "out.parquet"))
    assert list(rows[0]) == [*exported.articles[0], *ADDED]
    expected = predictor.predict(exported.articles)
    for row, article, prediction in zip(rows, exported.articles, expected, strict=True):
        assert {name: row[name] for name in article} == article
        assert row["studytag_labels"] == prediction.labels
        probabilities = [row[f"p_{label}"] for label in LABELS]
        assert probabilities == pytest.approx(list(prediction.probabilities.values()), abs=1e-7)
        assert row["studytag_error"] is None


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_a_file_without_a_record_becomes_a_table_that_has_the_tags(predictor, tmp_path, suffix):
    source = tmp_path / "in.json"
    source.write_text("[]")
    target = tmp_path / f"out.{suffix}"
    assert predict_file(predictor, source, target, progress=False).rows == 0
    columns = []
    assert list(read_rows(target, on_columns=columns.append)) == []
    assert list(columns[0])[-len(ADDED) :] == ADDED
    again = tmp_path / "again.parquet"
    predict_file(predictor, target, again, progress=False)
    assert pq.read_schema(again).names[-len(ADDED) :] == ADDED


def test_tags_have_their_types_also_where_no_row_got_any(predictor, tmp_path):
    rows = [{"pmid": "1", "title": ""}]
    source = write(tmp_path / "in.csv", rows)
    predict_file(predictor, source, tmp_path / "out.parquet", progress=False)
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.field("studytag_labels").type == pa.list_(pa.string())
    assert schema.field("p_RCT").type == pa.float64()
    assert schema.field("studytag_error").type == pa.string()


def test_parquet_to_jsonl_passes_bad_rows_through_in_order(predictor, exported, tmp_path, caplog):
    articles = [dict(row) for row in exported.articles]
    for index in (0, 17, 59):
        articles[index] |= {"title": None, "abstract": "  "}
    source = write(tmp_path / "in.parquet", articles)
    summary = predict_file(predictor, source, tmp_path / "out.jsonl", progress=False)
    assert (summary.rows, summary.failed) == (60, 3)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["pmid"] for row in rows] == [row["pmid"] for row in articles]
    failed = [index for index, row in enumerate(rows) if row["studytag_error"] is not None]
    assert failed == [0, 17, 59]
    assert rows[17]["studytag_error"].startswith("row 18 (pmid made-up-17): neither title nor")
    assert all(rows[17][name] is None for name in ADDED[:-1])
    assert rows[18]["studytag_labels"] == predictor.predict(articles[18:19])[0].labels
    assert "in.parquet: row 18 (pmid made-up-17): neither title nor abstract" in caplog.text


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_a_line_that_is_no_json_has_nothing_of_its_neighbours(predictor, tmp_path, format):
    (tmp_path / "in.jsonl").write_text('{"PMID": "NA", "title": "A", "year": "in press"}\n{\n')
    predict_file(predictor, tmp_path / "in.jsonl", tmp_path / f"out.{format}", progress=False)
    _, broken = read_rows(tmp_path / f"out.{format}")
    told = broken.pop("studytag_error")
    assert "not JSON" in told
    assert not any(broken.values())
    assert not any(broken.origin.raw.values())


def test_a_wrongly_quoted_row_is_kept_with_its_error(predictor, tmp_path):
    broken = '"Smoking" and health: a trial,We randomised'
    (tmp_path / "in.csv").write_text(f"title,abstract\nA,B\n{broken}\nC,D\n")
    predict_file(predictor, tmp_path / "in.csv", tmp_path / "out.csv", progress=False)
    rows = list(read_rows(tmp_path / "out.csv"))
    assert [row["title"] for row in rows] == ["A", None, "C"]
    assert json.dumps(broken) in rows[1]["studytag_error"]


def test_many_bad_rows_are_counted_not_listed(predictor, tmp_path, caplog):
    source = write(tmp_path / "in.csv", [{"title": None, "abstract": None, "pmid": "1"}] * 25)
    summary = predict_file(predictor, source, tmp_path / "out.csv", progress=False)
    assert summary.failed == 25
    assert len(caplog.records) == 11
    assert "15 more rows" in caplog.text


def test_a_source_that_fails_midway_leaves_nothing_new(predictor, tmp_path):
    source, target = tmp_path / "in.jsonl.gz", tmp_path / "out.csv"
    packed = gzip.compress(b'{"title": "A trial"}\n' * 200)
    source.write_bytes(packed[:-8])
    with pytest.raises(InputError, match="after line 200"):
        predict_file(predictor, source, target, progress=False)
    assert list(tmp_path.iterdir()) == [source]
    target.write_text("of yesterday")
    with pytest.raises(InputError):
        predict_file(predictor, source, target, progress=False)
    assert target.read_text() == "of yesterday"


def test_tags_of_an_earlier_run_are_replaced(predictor, exported, tmp_path):
    source = write(tmp_path / "in.csv", exported.articles)
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    predict_file(predictor, source, once, operating_point="fixed", progress=False)
    predict_file(predictor, once, twice, progress=False)
    predict_file(predictor, source, once, progress=False)
    assert twice.read_bytes() == once.read_bytes()


def test_a_column_that_would_be_overwritten_is_refused(predictor, tmp_path):
    source = write(tmp_path / "in.csv", [{"title": "A trial", "p_RCT": "x"}])
    with pytest.raises(InputError, match="already has a column 'p_RCT'; remove or rename"):
        predict_file(predictor, source, tmp_path / "out.csv", progress=False)
    assert not (tmp_path / "out.csv").exists()


def test_the_input_is_never_the_output(predictor, tmp_path):
    source = write(tmp_path / "in.csv", [{"title": "A trial"}])
    (tmp_path / "link.csv").symlink_to(source)
    before = source.read_bytes()
    for target in (source, tmp_path / "link.csv", tmp_path / "x" / ".." / "in.csv"):
        with pytest.raises(InputError, match="is the input itself"):
            predict_file(predictor, source, target, progress=False)
    assert source.read_bytes() == before


def test_operating_points_decide_differently(predictor, exported, tmp_path):
    source = write(tmp_path / "in.jsonl", exported.articles)
    for point in ("f1", "fixed"):
        target = tmp_path / f"{point}.jsonl"
        predict_file(predictor, source, target, operating_point=point, progress=False)
        expected = predictor.predict(exported.articles, operating_point=point)
        tagged = [row["studytag_labels"] for row in read_rows(target)]
        assert tagged == [prediction.labels for prediction in expected]
    assert (tmp_path / "f1.jsonl").read_text() != (tmp_path / "fixed.jsonl").read_text()


def test_formats_can_be_named(predictor, tmp_path):
    (tmp_path / "articles.txt").write_text("Title\tYear\nA trial\t2020\n")
    predict_file(
        predictor,
        tmp_path / "articles.txt",
        tmp_path / "out.txt",
        source_format="tsv",
        target_format="csv",
        progress=False,
    )
    with (tmp_path / "out.txt").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["Title"], row["Year"]) == ("A trial", "2020")


def test_one_article_on_the_command_line(exported, predictor, capsys):
    command = [
        "predict",
        "--bundle",
        str(exported.bundle),
        "--variant",
        "fp32",
        "--title",
        "A trial",
    ]
    main([*command, "--json"])
    found = json.loads(capsys.readouterr().out)
    (expected,) = predictor.predict([{"title": "A trial"}])
    assert found["labels"] == expected.labels
    assert found["probabilities"] == pytest.approx(expected.probabilities)
    main(command)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-4] for line in lines] == LABELS
    assert [line.startswith("*") for line in lines] == [n in expected.labels for n in LABELS]


@pytest.mark.parametrize("arguments", [[], ["in.csv"], ["in.csv", "out.csv", "--title", "A trial"]])
def test_a_file_or_an_article_but_not_both(exported, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--bundle", str(exported.bundle), *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: give an input and an output file, or")


def test_the_launcher_tags_a_file(exported, tmp_path):
    source = write(tmp_path / "in.csv", exported.articles[:5])
    target = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "infer", str(source), str(target), "--bundle", str(exported.bundle)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(read_rows(target))) == 5
    assert "5 rows" in done.stderr


def test_ris_carries_the_tags_as_keywords(exported, tmp_path):
    source, target = tmp_path / "in.ris", tmp_path / "out.ris"
    source.write_text("TY  - JOUR\nTI  - Sealants in children: a trial\nKW  - teeth\nER  - \n")
    with Predictor.from_pretrained(exported.bundle) as predictor:
        predict_file(predictor, source, target)
        labels = predictor.predict([{"title": "Sealants in children: a trial"}])[0].labels
    keywords = [line[6:] for line in target.read_text().splitlines() if line.startswith("KW")]
    assert keywords == ["teeth", *(f"studytag: {label}" for label in labels)]


@pytest.mark.parametrize("format", ["csv", "tsv", "xlsx", "parquet"])
def test_a_table_without_a_row_keeps_its_columns(predictor, tmp_path, format):
    source, target = tmp_path / "in.csv", tmp_path / f"out.{format}"
    source.write_text("PMID;Title;Mine\n")
    summary = predict_file(predictor, source, target, progress=False)
    assert summary.rows == 0
    again = tmp_path / f"again.{format}"
    predict_file(predictor, target, again, progress=False)
    if format == "parquet":
        schema = pq.read_schema(again)
        assert schema.names == ["PMID", "Title", "Mine", *ADDED]
        assert schema.field("p_RCT").type == pa.float64()
        full = write(tmp_path / "full.csv", [{"PMID": "1", "Title": "A trial", "Mine": "x"}])
        predict_file(predictor, full, tmp_path / "full.parquet", progress=False)
        assert pq.read_schema(tmp_path / "full.parquet").equals(schema)
    elif format == "csv":
        assert again.read_text().split("\n") == [";".join(["PMID", "Title", "Mine", *ADDED]), ""]


@pytest.mark.parametrize("format", ["csv", "xlsx", "parquet", "jsonl"])
@pytest.mark.parametrize("content", ["[]", "<PubmedArticleSet></PubmedArticleSet>"])
def test_a_file_without_a_record_gives_a_table_without_a_row(predictor, tmp_path, format, content):
    source = tmp_path / ("in.json" if content == "[]" else "in.xml")
    source.write_text(content)
    predict_file(predictor, source, tmp_path / f"out.{format}", progress=False)
    columns = ["pmid", "title", "abstract", "year", "journal", *ADDED]
    if format == "parquet":
        assert pq.read_schema(tmp_path / "out.parquet").names == columns
    elif format == "csv":
        assert (tmp_path / "out.csv").read_text() == ",".join(columns) + "\n"
    elif format == "xlsx":
        assert list(read_rows(tmp_path / "out.xlsx")) == []


def test_what_a_file_has_to_tell_is_told_once(predictor, tmp_path, caplog):
    source = tmp_path / "in.csv"
    source.write_bytes(b"strange\nTY  - JOUR\nTI  - Caf\xe9 au lait in a trial\nER  - \nstray\n")
    predict_file(predictor, source, tmp_path / "out.ris", progress=False)
    assert caplog.text.count("but read as ris") == 1
    assert caplog.text.count("not UTF-8") == 1
    assert caplog.text.count("belongs to no record") == 1


def test_an_error_longer_than_a_cell_is_cut(predictor, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("title,abstract\nOne,Two," + "x" * 40_000 + "\nA trial,Of sealants\n")
    summary = predict_file(predictor, source, tmp_path / "out.xlsx", progress=False)
    assert (summary.rows, summary.failed) == (2, 1)
    first, second = read_rows(tmp_path / "out.xlsx")
    assert first["studytag_error"].startswith("line 2: 3 cells under 2 columns")
    assert len(first["studytag_error"]) == 32_767
    assert second["studytag_error"] is None


def test_a_cell_is_cut_by_what_the_workbook_stores(predictor, tmp_path):
    text = "x" * 30_000 + "\r" * 1000
    (tmp_path / "in.jsonl").write_text(json.dumps({"title": "A", "notes": text, "n": "kept"}))
    predict_file(predictor, tmp_path / "in.jsonl", tmp_path / "out.xlsx", progress=False)
    (row,) = read_rows(tmp_path / "out.xlsx")
    assert text.startswith(row["notes"])
    assert len(row["notes"]) == 30_000 + 2767 // 7
    assert (row["title"], row["n"]) == ("A", "kept")
    assert "cut after 32767 characters" in row["studytag_error"]


def test_standard_streams(exported, tmp_path):
    source = write(tmp_path / "in.jsonl", exported.articles[:3])
    command = ["predict", "-", "-", "--input-format", "jsonl", "--output-format", "csv"]
    done = subprocess.run(
        [sys.executable, "-m", "studytag", *command, "--bundle", str(exported.bundle)],
        input=source.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    rows = list(csv.DictReader(done.stdout.decode().splitlines()))
    assert [row["pmid"] for row in rows] == [row["pmid"] for row in exported.articles[:3]]
    assert b"standard output: 3 rows" in done.stderr
    quiet = subprocess.run(
        [sys.executable, "-m", "studytag", *command, "--bundle", str(exported.bundle), "--quiet"],
        input=source.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert quiet.stdout == done.stdout
    assert quiet.stderr == b""


@pytest.mark.parametrize(("input", "output"), [("-", "out.csv"), ("in.jsonl", "-")])
def test_a_standard_stream_needs_a_format(exported, tmp_path, capsys, input, output):
    write(tmp_path / "in.jsonl", exported.articles[:3])
    places = [name if name == "-" else str(tmp_path / name) for name in (input, output)]
    with pytest.raises(SystemExit) as stop:
        main(["predict", *places, "--bundle", str(exported.bundle)])
    assert stop.value.code == 2
    option = "--input-format" if input == "-" else "--output-format"
    assert option in capsys.readouterr().err
