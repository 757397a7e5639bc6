"""Screening by tags: nothing is deleted, nothing unassessed is set aside, all is reported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import read_rows, tagged
from studytag.inference.screening import Decision, Rule, open_screened, set_aside_path
from studytag.inference.screening_report import Screening, Share, Side, Tagger

LONG = "We randomised forty made-up children to sealants or nothing and counted caries. " * 3
TAGGER = Tagger(
    "0.2.0",
    "ab" * 32,
    Side(
        "sensitive",
        {"RCT": 0.25, "Cohort": 0.3, "Animal": 0.4},
        {"RCT": Share(0.987, 0.97, 0.995), "Animal": Share(0.99, 0.98, 1.0)},
    ),
    Side(
        "precise", {"RCT": 0.8, "Cohort": 0.9, "Animal": 0.7}, {"Animal": Share(0.96, 0.94, 0.97)}
    ),
    "1,000 articles of sources that training never saw",
)


def article(abstract: str | None = LONG, **columns):
    return {"pmid": "90000001", "title": "A made-up trial", "abstract": abstract} | columns


@pytest.mark.parametrize(
    ("rule", "labels", "decision"),
    [
        (Rule(keep=("RCT", "Cohort")), ["Cohort", "Human"], Decision.KEPT),
        (Rule(keep=("RCT", "Cohort")), ["Human"], Decision.SET_ASIDE),
        (Rule(keep=("RCT",)), [], Decision.SET_ASIDE),
        (Rule(drop=("Animal",)), [], Decision.KEPT),
        (Rule(drop=("Animal",)), ["Animal", "RCT"], Decision.SET_ASIDE),
        (Rule(keep=("RCT",), drop=("Animal",)), ["Animal", "RCT"], Decision.SET_ASIDE),
        (Rule(keep=("RCT",)), None, Decision.NOT_ASSESSED),
    ],
)
def test_decisions(rule, labels, decision):
    assert rule.decide(article(), labels)[0] is decision


@pytest.mark.parametrize("abstract", [None, "", "  ", "No abstract available.", 5])
def test_what_cannot_be_assessed_is_never_set_aside(abstract):
    for rule in (Rule(keep=("RCT",)), Rule(drop=("RCT",))):
        for labels in ([], ["RCT"]):
            assert rule.decide(article(abstract), labels)[0] is Decision.NOT_ASSESSED


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule(keep=("RTC",)), "no label 'RTC' in this bundle; it has Cohort, RCT"),
        (Rule(keep=("RCT",), drop=("RCT",)), "label 'RCT' is both to keep and to drop"),
        (Rule(), "no label to screen by; name labels with --keep or --drop"),
    ],
)
def test_rules_that_make_no_sense(rule, message):
    with pytest.raises(InputError, match=message):
        rule.check(["RCT", "Cohort"])
    Rule(keep=("RCT",)).check(["RCT", "Cohort"])


def test_the_report_counts_every_record():
    screening = Screening(Rule(keep=("RCT", "Cohort"), drop=("Animal",)))
    for labels in (["RCT"], ["Animal", "RCT"], [], [], None):
        screening.count(article(), *screening.rule.decide(article(), labels))
    empty = article(None, pmid=None)
    screening.count(empty, *screening.rule.decide(empty, ["RCT"]))
    report = screening.to_dict(TAGGER)
    assert json.loads(json.dumps(report)) == report
    assert (report["records"], report["kept"], report["not_assessed"]) == (6, 1, 2)
    assert report["marked_as_ineligible_by_automation_tools"] == 3
    assert report["to_be_screened_by_people"] == 3
    assert sum(entry["records"] for entry in report["reasons"]) == 5
    assert report["thresholds"] == {"RCT": 0.25, "Cohort": 0.3, "Animal": 0.7}
    assert [record["reason"] for record in report["records_not_assessed"]] == [
        *("could not be tagged", "no abstract"),
    ]
    text = screening.to_text(TAGGER)
    assert "study design" not in text  # the labels may be of another field
    assert "Marked as ineligible by automation tools (PRISMA)         3\n" in text
    assert "set aside: tagged Animal: 1\n" in text
    assert "set aside: not tagged RCT or Cohort: 2\n" in text
    assert "  record 5 (pmid 90000001): A made-up trial: could not be tagged\n" in text
    assert (
        "studytag 0.2.0 (model bundle SHA-256 abababababab), a text classifier. Records tagged RCT "
        "or Cohort at its operating point 'sensitive' (probability thresholds: RCT 0.250, Cohort "
        "0.300) and not tagged Animal at its operating point 'precise' (probability thresholds: "
        "Animal 0.700) went on to screening by people; the tool marked 3 other records as "
        "ineligible, to be set aside and not deleted. 1 record without an abstract, or with too "
        "little text to assess, and 1 record that could not be read or tagged went on to "
        "screening by people without being assessed by the tool. The recall"
    ) in text
    assert "RCT 0.987 (95 % CI 0.970 to 0.995). It has not been measured for Cohort. The" in text
    # Of what is dropped, what matters is how often the tag is right.
    assert (
        "The precision of the tool (the share of its tags that were right) at these thresholds, "
        "measured on 1,000 articles of sources that training never saw, was "
        "Animal 0.960 (95 % CI 0.940 to 0.970).\n"
    ) in text
    assert (report["recall"].keys(), report["precision"].keys()) == ({"RCT"}, {"Animal"})


@pytest.mark.parametrize(
    ("name", "aside"),
    [
        ("a.ris", "a.set-aside.ris"),
        ("a.b.csv.gz", "a.b.set-aside.csv.gz"),
        ("noext", "noext.set-aside"),
    ],
)
def test_where_the_others_go(name, aside):
    assert set_aside_path(Path("x", name)) == Path("x", aside)


def test_from_pubmed_to_a_screened_ris_without_losing_a_record(tmp_path):
    source = tmp_path / "pubmed.nbib"
    record = "PMID- {0}\nOWN - NLM\nTI  - Title {0}\nAB  - {1}\nFAU - Example, Anna\n\n"
    source.write_text("".join(record.format(90000001 + n, LONG if n else "") for n in range(6)))
    rule = Rule(keep=("RCT",))
    with open_screened(tmp_path / "kept.ris") as writers:
        for number, row in enumerate(read_rows(source)):
            labels = ["RCT"] if number % 2 else ["Cohort"]
            row = tagged(row, {"studytag_labels": labels})
            decision, _ = rule.decide(row, labels)
            writers[decision].write(row)
    kept = list(read_rows(tmp_path / "kept.ris"))
    aside = list(read_rows(tmp_path / "kept.set-aside.ris"))
    assert [row["pmid"][-1] for row in kept] == ["1", "2", "4", "6"]  # the first has no abstract
    assert [row["pmid"][-1] for row in aside] == ["3", "5"]
    assert all(row["OWN"] == "NLM" and row["authors"] == ["Example, Anna"] for row in kept + aside)
    assert all("studytag: Cohort" in row["keywords"] for row in aside)


def test_both_outputs_or_neither(tmp_path):
    rows = (article(str(1 / (1 - number))) for number in range(3))
    with pytest.raises(ZeroDivisionError), open_screened(tmp_path / "a.csv") as writers:
        list(map(writers[Decision.KEPT].write, rows))
    assert os.listdir(tmp_path) == []
