"""`studytag screen`: nothing is lost, the report adds up, and RIS keeps every field."""

from __future__ import annotations

import json

import pytest
from support import LABELS, invented_articles

from studytag import Predictor
from studytag.cli.main import main
from studytag.errors import StoppedError
from studytag.files import output_in_use, read_rows
from studytag.inference.screen_file import screen_file
from studytag.inference.screening import FEWEST_WORDS, Rule, set_aside_path

EXTRA = "The children were seen again by the same examiners after a year of follow-up at school. "


def nbib(articles):
    """The articles as PubMed's own format, with fields that studytag does not use."""
    records = []
    for number, article in enumerate(articles):
        lines = [f"PMID- {number + 1000}", f"TI  - {article['title']}", "AU  - Example A"]
        if article["abstract"]:
            lines.append(f"AB  - {EXTRA}{article['abstract']}")
        lines += ["PG  - 12-34", "VI  - 7", "PT  - Journal Article", "AID - 10.1/x [doi]"]
        records.append("\n".join(lines))
    return "\n\n".join(records) + "\n"


@pytest.fixture
def screened(exported, tmp_path, capsys):
    source = tmp_path / "pubmed.nbib"
    source.write_text(nbib(invented_articles(40, seed=4)), encoding="utf-8")
    output, report = tmp_path / "screened.ris", tmp_path / "report.json"
    flags = ["--keep", "RCT,Cohort", "--bundle", str(exported.bundle), "--report", str(report)]
    main(["screen", str(source), str(output), *flags])
    return source, output, json.loads(report.read_text()), capsys.readouterr().out


def test_every_record_is_in_exactly_one_file_with_its_fields(screened):
    source, output, report, _ = screened
    kept = list(read_rows(output))
    aside = list(read_rows(output.with_name("screened.set-aside.ris")))
    rows = list(read_rows(source))
    assert sorted(row["pmid"] for row in kept + aside) == sorted(row["pmid"] for row in rows)
    assert report["records"] == len(rows) == 40
    assert report["marked_as_ineligible_by_automation_tools"] == len(aside)
    assert report["to_be_screened_by_people"] == len(kept)
    text = output.read_text(encoding="utf-8")
    for field in ("AU  - Example A", "VL  - 7", "SP  - 12", "DO  - 10.1/x"):
        assert text.count(field) == len(kept), field


def test_who_is_kept_follows_the_tags_and_what_cannot_be_assessed_stays(screened, exported):
    source, output, report, _ = screened
    kept = {row["pmid"] for row in read_rows(output)}
    unassessed = {record["pmid"] for record in report["records_not_assessed"]}
    with Predictor(exported.bundle, operating_point="sensitive") as predictor:
        for row in read_rows(source):
            (prediction,) = predictor.predict(row)
            wanted = bool({"RCT", "Cohort"} & set(prediction.labels))
            too_short = len((row["abstract"] or "").split()) < FEWEST_WORDS
            assert (row["pmid"] in unassessed) == too_short
            assert (row["pmid"] in kept) == (wanted or too_short)
    assert unassessed


def test_what_was_not_assessed_says_so_in_place_of_tags(screened, screen, tmp_path):
    _, output, report, _ = screened
    records = output.read_text(encoding="utf-8").split("ER  -")
    notes = [
        record for record in records if "N1  - studytag_error: not assessed: no abstract" in record
    ]
    assert len(notes) == report["not_assessed"] > 0
    assert not any("KW  - studytag: " in record for record in notes)
    source, table = tmp_path / "in.jsonl", tmp_path / "table.csv"
    articles = [
        {"title": "A randomised trial", "abstract": "Too short."},
        {"title": "A randomised trial", "abstract": EXTRA * 2},
        {"title": "", "abstract": ""},
    ]
    source.write_text("\n".join(map(json.dumps, articles)), encoding="utf-8")
    assert screen(source, table, "--indicators", keep="Human,RCT,Cohort")["not_assessed"] == 2
    rows = list(read_rows(table))
    short, failed = (row for row in rows if row["studytag_error"])
    assert short["studytag_error"] == "not assessed: abstract of fewer than 20 words"
    assert failed["studytag_error"].startswith("not assessed: could not be tagged; row 3: neither")
    for row in (short, failed):
        assert not any(
            row[name] for name in row if name.startswith(("studytag_labels", "p_", "tag_"))
        )


def test_the_report_can_be_printed_in_a_review(screened):
    _, _, report, printed = screened
    assert "Marked as ineligible by automation tools (PRISMA)" in printed
    for part in ("studytag", "SHA-256", "operating point 'sensitive'", "95 % CI"):
        assert part in report["methods"]
    assert report["thresholds"].keys() == {"RCT", "Cohort"}


@pytest.fixture
def screen(exported, capsys):
    """Runs the command; its report."""

    def run(source, output, *flags, keep="RCT"):
        report = output.with_name("report.json")
        arguments = [str(source), str(output), "--keep", keep, "--report", str(report)]
        main(["screen", *arguments, "--bundle", str(exported.bundle), *map(str, flags)])
        capsys.readouterr()
        return json.loads(report.read_text(encoding="utf-8"))

    return run


def test_quiet_prints_nothing(exported, tmp_path, capfd):
    source, output = tmp_path / "in.nbib", tmp_path / "out.ris"
    source.write_text(nbib(invented_articles(3)), encoding="utf-8")
    command = ["screen", str(source), str(output), "--keep", "RCT", "--quiet"]
    main([*command, "--bundle", str(exported.bundle)])
    assert output.exists()
    assert "".join(capfd.readouterr()) == ""


def both(output):
    return [*read_rows(output), *read_rows(set_aside_path(output))]


@pytest.mark.parametrize("dropped", LABELS)
def test_a_label_to_drop_must_be_likelier_than_one_to_keep(screen, exported, tmp_path, dropped):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    articles = [
        row | {"pmid": str(number), "abstract": f"{EXTRA}{EXTRA}{row['abstract']}"}
        for number, row in enumerate(invented_articles(40, seed=4))
    ]
    source.write_text("\n".join(map(json.dumps, articles)) + "\n", encoding="utf-8")
    report = screen(source, output, "--drop", dropped, keep="")
    aside = {row["pmid"] for row in read_rows(set_aside_path(output))}
    written = {row["pmid"]: row["studytag_labels"] for row in both(output)}
    with Predictor(exported.bundle, operating_point="sensitive") as predictor:
        for row, each in zip(articles, predictor.predict(articles), strict=True):
            (precise,) = predictor.predict(row, operating_point="precise")
            assert (row["pmid"] in aside) == (dropped in precise.labels)
            tags = [
                label for label in LABELS if label in (precise if label == dropped else each).labels
            ]
            assert written[row["pmid"]] == tags  # what is written is what decided
        scores = predictor.manifest.variants[predictor.variant].scores["precise"].labels[dropped]
    assert report["operating_point_of_drop"] == "precise"
    assert report["thresholds"] == {dropped: scores.threshold}
    assert report["recall"] == {}
    assert report["precision"][dropped]["value"] == scores.precision
    assert report["precision"][dropped]["low"] < scores.precision
    assert f"not tagged {dropped} at its operating point 'precise'" in report["methods"]
    assert "recall" not in report["methods"]


def test_a_row_that_cannot_be_read_goes_on_to_people(screen, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.csv"
    lines = [json.dumps(row) for row in invented_articles(30, seed=4)]
    lines = ["no json", *lines[:20], "{broken", *lines[20:]]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = screen(source, output)
    assert (report["records"], len(both(output))) == (32, 32)
    unread = [one["record"] for one in report["records_not_assessed"] if not one["title"]]
    assert unread == [1, 22]
    errors = [str(row["studytag_error"]) for row in read_rows(output) if not row["title"]]
    assert ["line 1: not JSON" in errors[0], "line 22: not JSON" in errors[1]] == [True, True]


def test_an_error_longer_than_a_cell_of_excel_ends_no_screening(screen, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.xlsx"
    source.write_text(f'title,abstract\nA,b\n"Smoking" and {"health " * 6000},We\n')
    screen(source, output)
    notes = [row["studytag_error"] or "" for row in read_rows(output)]
    assert any(note.startswith("not assessed: could not be tagged; ") for note in notes)


def test_a_label_is_dropped_by_the_stricter_point(screen, exported, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = (json.dumps(row) + "\n" for row in invented_articles(60, seed=6))
    source.write_text("".join(lines), encoding="utf-8")
    screen(
        source, output, "--drop", "Human", "--operating-point", "f1", "--variant", "fp32", keep=""
    )
    with Predictor(exported.bundle, variant="fp32") as predictor:
        points = predictor.manifest.variants["fp32"].thresholds
        stricter = max(
            points[point][predictor.labels.index("Human")] for point in ("f1", "precise")
        )
        rows = list(read_rows(output.with_name("out.set-aside.jsonl")))
        assert all(row["p_Human"] >= stricter for row in rows)


def test_fields_that_only_some_records_have(screen, tmp_path):
    source, output = tmp_path / "in.ris", tmp_path / "out.csv"
    records = []
    for number, row in enumerate(invented_articles(40, seed=4)):
        own = [f"C{number % 8}  - of {number}"] if number else []
        text = f"{EXTRA}{row['abstract']}"
        records += ["TY  - JOUR", f"TI  - {row['title']}", f"AB  - {text}", *own, "ER  - ", ""]
    source.write_text("\n".join(records), encoding="utf-8")
    report = screen(source, output)
    assert 0 < report["kept"] < 40
    rows = both(output)
    assert len(rows) == 40
    assert sorted(str(row[f"C{n}"]) for n in range(8) for row in rows if row[f"C{n}"]) == sorted(
        f"of {number}" for number in range(1, 40)
    )


def test_files_are_read_and_written_as_by_predict(screen, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(f"title,remarks\nMüller,{EXTRA}\n".encode("mac-roman"))
    with pytest.raises(SystemExit):
        screen(source, output)
    screen(source, output, "--title-only", "--encoding", "mac-roman", "--indicators", "--excel")
    (row,) = read_rows(output)
    assert row["title"] == "Müller"
    assert {"tag_studytag_RCT", "tag_studytag_Cohort"} <= row.keys()
    assert output.read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("held", ["out.ris", "out.set-aside.ris"])
def test_an_output_that_another_run_writes(screen, tmp_path, held, capsys):
    source = tmp_path / "in.nbib"
    source.write_text(nbib(invented_articles(2)), encoding="utf-8")
    with output_in_use(tmp_path / held), pytest.raises(SystemExit):
        screen(source, tmp_path / "out.ris")
    assert f"{tmp_path / held}: is being written by process" in capsys.readouterr().err


def test_a_screening_goes_on_where_it_stopped(exported, tmp_path):
    source, output = tmp_path / "in.nbib", tmp_path / "out.ris"
    articles = invented_articles(400, seed=4)
    source.write_text(nbib([row | {"abstract": EXTRA * 40} for row in articles]), encoding="utf-8")
    rule = Rule(keep=("RCT",))
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 200

    with Predictor(exported.bundle) as predictor:
        with pytest.raises(StoppedError, match="200 rows are kept in"):
            screen_file(predictor, source, output, rule, stop=stop, progress=False)
        assert not output.exists()
        assert not set_aside_path(output).exists()
        screening = screen_file(predictor, source, output, rule, progress=False)
        whole = tmp_path / "whole.ris"
        assert screen_file(predictor, source, whole, rule, progress=False) == screening
    assert screening.records == 400
    assert whole.read_bytes() == output.read_bytes()
    assert set_aside_path(whole).read_bytes() == set_aside_path(output).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name labels with --keep or --drop"),
        (["--keep", "Trial"], "no label 'Trial' in this bundle"),
        (["--keep", "RCT", "--drop", "RCT"], "both to keep and to drop"),
    ],
)
def test_rules_that_decide_nothing_are_refused(exported, tmp_path, capsys, flags, message):
    source = tmp_path / "in.nbib"
    source.write_text(nbib(invented_articles(2)), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(
            ["screen", str(source), str(tmp_path / "out.ris"), *flags]
            + ["--bundle", str(exported.bundle)]
        )
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.nbib"]


@pytest.mark.parametrize("name", ["in.ris", "in.set-aside.ris"])
def test_the_input_is_never_an_output(exported, tmp_path, capsys, name):
    source = tmp_path / name
    content = "TY  - JOUR\nTI  - A trial of sealants\nER  - \n"
    source.write_text(content, encoding="utf-8")
    command = ["screen", str(source), str(tmp_path / "in.ris"), "--keep", "RCT"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--bundle", str(exported.bundle)])
    assert stop.value.code == 2
    assert "is the input itself" in capsys.readouterr().err
    assert source.read_text(encoding="utf-8") == content


@pytest.mark.parametrize("name", ["in.ris", "out.ris", "out.set-aside.ris", "."])
def test_a_report_replaces_neither_the_input_nor_an_output(exported, tmp_path, capsys, name):
    source = tmp_path / "in.ris"
    source.write_text("TY  - JOUR\nTI  - A trial of sealants\nER  - \n", encoding="utf-8")
    command = ["screen", str(source), str(tmp_path / "out.ris"), "--keep", "RCT"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--report", str(tmp_path / name), "--bundle", str(exported.bundle)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert any(why in said for why in ("is the input", "is an output already", "is not a file"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.ris"]
