"""Finding labels that may be wrong, and correcting them. All articles are made up."""

from __future__ import annotations

import csv
import logging

import pytest
from test_build import article, write

from studytag.cli.main import main
from studytag.data.audit import audit
from studytag.data.build import build
from studytag.data.corrections import read_corrections
from studytag.data.rule_file import load_rules
from studytag.errors import InputError
from studytag.files import read_rows

REVIEWS = ("evidence table", "literature search", "eligible studies", "databases searched")
CASES = ("rare tumour", "young woman presented", "follow-up visit", "biopsy showed")


def articles():
    """Reviews and case reports that words tell apart; numbers 3 and 50 bear the other's label."""
    rows = []
    for number in range(120):
        kind = number % 2
        words = (REVIEWS, CASES)[kind]
        text = f"{words[number % 4]} and {words[number // 4 % 4]} in patient group {number}"
        wrong = number in (3, 50)
        types = [("Systematic Review", "Case Reports")[kind ^ wrong]]
        rows.append(
            article(
                number,
                title=f"Made-up {text}",
                abstract=f"{words[0]}. {words[1]}. {words[2]}. {words[3]}.",
                pub_types=types,
                year=(2020, 2022, 2024)[number % 3],
            )
        )
    return rows


@pytest.fixture
def built(tmp_path):
    rows = articles()
    long = " ".join(f"word{number}" for number in range(80))
    rows.append(article(500, title="Twice in the table", abstract=long, year=2020))
    rows.append(article(501, title="Twice in the table, again", abstract=long, year=2024))
    source = write(tmp_path / "articles.jsonl", rows)
    build([source], tmp_path / "processed", load_rules("strict"))
    return tmp_path


def review(folder, *flags):
    pytest.importorskip("cleanlab", reason="pip install 'studytag[audit]'")
    output = folder / "review.csv"
    main(["data", "audit", str(folder / "processed"), "--output", str(output), *flags])
    with output.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_wrong_labels_and_duplicates_are_found(built, capsys):
    rows = review(built)
    assert "Suspicious: model" in capsys.readouterr().out
    doubted = [row for row in rows if row["reason"] == "model"]
    wrong = {("90000003", "SystematicReview"), ("90000003", "CaseReport")}
    wrong |= {("90000050", "SystematicReview"), ("90000050", "CaseReport")}
    assert {(row["pmid"], row["label"]) for row in doubted[:4]} == wrong
    for row in doubted[:4]:
        assert {row["given"], row["suggested"]} == {"yes", "no"}
        assert (float(row["probability"]) > 0.5) == (row["suggested"] == "yes")
        assert row["title"].startswith("Made-up")
        assert row["decision"] == row["kind"] == row["note"] == ""
        assert row["pub_types"] in ("Systematic Review", "Case Reports")
    # The made-up articles are much alike too; this one is a copy.
    (alike,) = (row for row in rows if (row["reason"], row["pmid"]) == ("duplicate", "90000501"))
    assert alike["split"] == "test"
    assert float(alike["probability"]) > 0.95
    assert "like pmid 90000500 of train: Twice in the table" in alike["detail"]


def test_a_wrong_label_that_a_whole_source_shares_is_found(tmp_path):
    """Source 3 calls every case report a review, so only a model that never saw it objects."""
    rows = articles()
    for number, row in enumerate(rows):
        row["source"] = f"source {number % 12 // 2}"
        row["abstract"] += f" Written in the style of {row['source']}." * 3
        if row["source"] == "source 3":
            row["pub_types"] = ["Systematic Review"]
    build([write(tmp_path / "articles.jsonl", rows)], tmp_path / "processed", load_rules("strict"))
    doubted = [row for row in review(tmp_path) if row["reason"] == "model"]
    shared = [row for row in doubted if row["source"] == "source 3" and row["given"] == "yes"]
    assert len(shared) >= 8
    assert {row["suggested"] for row in shared} == {"no"}
    assert review(tmp_path, "--group", "source") == review(tmp_path)


def test_labels_of_too_few_articles_or_sources_are_named_as_that(tmp_path, caplog):
    rows = [row | {"source": f"source {number % 4}"} for number, row in enumerate(articles())]
    build([write(tmp_path / "articles.jsonl", rows)], tmp_path / "processed", load_rules("strict"))
    assert not [row for row in review(tmp_path) if row["reason"] == "model"]
    assert "CaseReport: not audited by a model: fewer than 5 sources have" in caplog.text
    assert "RCT: not audited by a model: fewer than 5 articles are known to have" in caplog.text
    assert [row for row in review(tmp_path, "--group", "pmid") if row["reason"] == "model"]


def test_a_group_that_no_article_has_is_refused(built):
    pytest.importorskip("cleanlab", reason="pip install 'studytag[audit]'")
    with pytest.raises(InputError, match="anything in the column 'sauce'"):
        audit(built / "processed", built / "review.csv", load_rules("reference"), group="sauce")


def test_a_table_is_never_the_review(built):
    table = built / "processed" / "val.parquet"
    before = table.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        audit(built / "processed", table, load_rules("reference"))
    assert table.read_bytes() == before


def test_decisions_are_never_replaced(built, tmp_path):
    table = tmp_path / "review.csv"
    table.write_text("pmid,label,decision,title\n1,RCT,,A\n2,RCT,yes,B\n")
    with pytest.raises(InputError, match=r"holds decisions \(1\), which would be lost"):
        audit(built / "processed", table, load_rules("reference"))
    assert "2,RCT,yes" in table.read_text()


def test_rule_sets_that_disagree_are_listed_up_to_the_limit(built):
    rows = [row for row in review(built, "--limit", "2") if row["reason"] == "rules"]
    strict, reference = load_rules("strict"), load_rules("reference")
    for row in rows:
        (made,) = (
            each
            for name in ("train", "val", "test")
            for each in read_rows(built / "processed" / f"{name}.parquet")
            if each["pmid"] == row["pmid"]
        )
        assert (row["label"] in strict.apply(made)[0]) == (row["given"] == "yes")
        assert (row["label"] in reference.apply(made)[0]) == (row["suggested"] == "yes")
    labels = [row["label"] for row in rows]
    assert all(labels.count(label) <= 2 for label in labels)


def test_decisions_are_applied_by_the_next_build(built, caplog):
    rows = review(built)
    with (built / "review.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        for row in rows:
            if row["pmid"] == "90000003" and row["reason"] == "model":
                row["decision"] = row["suggested"]
            if row["pmid"] == "90000050" and row["label"] == "CaseReport":
                row["decision"] = "Unknown "
            writer.writerow(row)
        writer.writerow(rows[0] | {"pmid": "77", "decision": "no"})
    again = built / "again"
    flags = ["--output", str(again), "--corrections", str(built / "review.csv")]
    with caplog.at_level(logging.WARNING):
        main(["data", "build", str(built / "articles.jsonl"), *flags])
    assert "corrections of 1 pmids that no article has: 77" in caplog.text
    assert "Corrected by hand: 2" in (again / "README.md").read_text()
    made = {
        row["pmid"]: row
        for name in ("train", "val", "test")
        for row in read_rows(again / f"{name}.parquet")
    }
    assert "CaseReport" in made["90000003"]["labels"]
    assert "SystematicReview" not in made["90000003"]["labels"]
    assert "SystematicReview" in made["90000003"]["known"]
    assert "CaseReport" not in made["90000050"]["known"]
    assert "CaseReport" not in made["90000050"]["labels"]
    untouched = {row["pmid"]: row for row in read_rows(built / "processed" / "train.parquet")}
    assert untouched["90000000"] == made["90000000"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pmid,label,title\n1,RCT,T\n", "no column 'decision'"),
        ("pmid,label,decision,title\n1,Cohrt,yes,T\n", "row 1.*one of the labels.*'Cohrt'"),
        ("pmid,label,decision,title\n1,RCT,maybe,T\n", "decision 'maybe'; write yes, no, unknown"),
        (
            "pmid,label,decision,title\n1,RCT,yes,T\n1,RCT,no,T\n",
            "row 2: contradicts an earlier row on RCT of pmid 1",
        ),
        (
            "pmid,label,decision,title\n1,ClinicalTrial,no,T\n1,RCT,yes,T\n",
            "row 2: RCT of pmid 1 contradicts an earlier row: RCT implies ClinicalTrial",
        ),
    ],
)
def test_wrong_corrections_are_named(tmp_path, text, message):
    source = write(tmp_path / "articles.jsonl", articles())
    table = tmp_path / "corrections.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        build([source], tmp_path / "out", load_rules("strict"), corrections=table)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def trial():
    """A randomised trial that nothing but its type calls a trial."""
    return article(7, pub_types=["Randomized Controlled Trial"], year=2020)


@pytest.mark.parametrize(
    ("decisions", "labels", "unknown"),
    [
        ({}, {"RCT", "ClinicalTrial", "Human"}, set()),
        ({"Human": "no"}, {"RCT", "ClinicalTrial"}, set()),
        # The type was wrong; whether it is another kind of trial, nobody has said.
        ({"RCT": "no"}, {"Human"}, {"ClinicalTrial"}),
        ({"RCT": "unknown"}, {"Human"}, {"RCT", "ClinicalTrial"}),
        ({"RCT": "no", "ClinicalTrial": "yes"}, {"ClinicalTrial", "Human"}, set()),
        ({"ClinicalTrial": "no"}, {"Human"}, set()),
        ({"ClinicalTrial": "unknown"}, {"Human"}, {"RCT", "ClinicalTrial"}),
    ],
    # Not of sets: their order differs between the processes of pytest-xdist.
    ids=lambda part: str(sorted(part)),
)
def test_decisions_reach_the_labels_that_are_implied(tmp_path, trial, decisions, labels, unknown):
    rules = load_rules("strict")
    table = tmp_path / "corrections.csv"
    lines = [f"{trial['pmid']},{label},{decision},T" for label, decision in decisions.items()]
    table.write_text("\n".join(["pmid,label,decision,title", *lines, "1,RCT,yes,T"]) + "\n")
    found, known = read_corrections(table, rules).apply(trial["pmid"], trial, rules)
    assert set(found) == labels
    assert set(rules.labels) - set(known) == unknown


def test_a_yes_brings_what_it_implies(tmp_path):
    rules = load_rules("strict")
    row = article(8, mesh_terms=[])
    table = tmp_path / "corrections.csv"
    table.write_text(f"pmid,label,decision,title\n{row['pmid']},RCT,yes,T\n")
    assert read_corrections(table, rules).apply(row["pmid"], row, rules) == (
        ["RCT", "ClinicalTrial"],
        ["RCT", "ClinicalTrial"],
    )
