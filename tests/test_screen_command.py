"""`studytag screen`: nothing is lost, the report adds up, and RIS keeps every field."""

from __future__ import annotations

import json

import pytest
from support import invented_articles

from studytag import Predictor
from studytag.cli.main import main
from studytag.files import read_rows
from studytag.inference.screening import FEWEST_WORDS

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


def test_who_is_kept_follows_the_tags_and_what_cannot_be_judged_stays(screened, exported):
    source, output, report, _ = screened
    kept = {row["pmid"] for row in read_rows(output)}
    unjudged = {record["pmid"] for record in report["records_not_judged"]}
    with Predictor(exported.bundle, operating_point="sensitive") as predictor:
        for row in read_rows(source):
            (prediction,) = predictor.predict(row)
            wanted = bool({"RCT", "Cohort"} & set(prediction.labels))
            too_short = len((row["abstract"] or "").split()) < FEWEST_WORDS
            assert (row["pmid"] in unjudged) == too_short
            assert (row["pmid"] in kept) == (wanted or too_short)
    assert unjudged


def test_the_report_can_be_printed_in_a_review(screened):
    _, _, report, printed = screened
    assert "Marked as ineligible by automation tools (PRISMA)" in printed
    for part in ("studytag", "SHA-256", "operating point 'sensitive'", "95 % CI"):
        assert part in report["methods"]
    assert report["thresholds"].keys() == {"RCT", "Cohort"}


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
