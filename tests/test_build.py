"""Building labelled tables out of raw files. All articles are made up."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
import os
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from studytag.data.build import build
from studytag.data.rule_file import load_rules
from studytag.data.splitting import SPLITS, Splitter, title_key
from studytag.dataset import load_table
from studytag.errors import InputError
from studytag.files import open_writer, read_rows
from studytag.labels import STUDY_DESIGNS, LabelSet
from studytag.records import table_schema

REAL = Path(__file__).parents[2] / "shared" / "data" / "pubmed.parquet"
BUILT = ["README.md", "excluded.csv", "manifest.json", *(f"{name}.parquet" for name in SPLITS)]


def article(number: int, **changes):
    return {
        "pmid": f"9000{number:04}",
        "title": f"Invented article {number} on sealants",
        "abstract": f"Abstract {number}.",
        "year": 2020,
        "journal": "Journal of Examples",
        "pub_types": ["Journal Article"],
        "mesh_terms": ["Humans"],
    } | changes


def write(path: Path, rows) -> Path:
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
    return path


def pubmed_xml(*rows) -> str:
    return "<PubmedArticleSet>{}</PubmedArticleSet>".format(
        "".join(
            "<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><Journal><JournalIssue>"
            "<PubDate><Year>{year}</Year></PubDate></JournalIssue><Title>{journal}</Title>"
            "</Journal><ArticleTitle>{title}</ArticleTitle><Abstract><AbstractText>{abstract}"
            "</AbstractText></Abstract><PublicationTypeList><PublicationType>Case Reports"
            "</PublicationType></PublicationTypeList></Article></MedlineCitation></PubmedArticle>"
            "".format(**row)
            for row in rows
        )
    )


def nbib(row) -> str:
    return (
        f"PMID- {row['pmid']}\nTI  - {row['title']}\nAB  - {row['abstract']}\n"
        f"DP  - {row['year']} Jan\nPT  - Observational Study\nMH  - *Humans/genetics\n\n"
    )


def own_rules(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("labels:\n  A:\n  B:\n")
    return load_rules(path)


def tables(folder: Path) -> dict[str, list[dict]]:
    return {name: list(read_rows(folder / f"{name}.parquet")) for name in SPLITS}


def numbers(rows) -> list[int]:
    return [int(row["pmid"][4:]) for row in rows]


def where(folder: Path) -> dict[str, str]:
    return {row["title"]: name for name, rows in tables(folder).items() for row in rows}


def excluded(folder: Path) -> list[dict]:
    with open(folder / "excluded.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "processed"


@pytest.fixture(scope="module")
def strict():
    return load_rules("strict")


# --- sources


@pytest.fixture
def everything(tmp_path):
    """Articles 1 to 8 in every format, with three duplicates and one empty article."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "b.xml.gz").write_bytes(gzip.compress(pubmed_xml(article(6, year=2023)).encode()))
    (pages / "a.xml").write_text(pubmed_xml(article(5), article(1, title="Same pmid as 1")))
    (pages / ".c.xml").write_text("left by another program")
    (pages / "notes.txt").write_text("not a table")
    (tmp_path / "d.nbib").write_text(nbib(article(7, year=2024)))
    shouted = "INVENTED  article 2: on (sealants)!"
    return [
        write(tmp_path / "a.csv", [article(1), article(2, year=None)]),
        write(
            tmp_path / "b.jsonl",
            [article(3, year=2022), article(10, title=shouted), {"title": " ", "abstract": None}],
        ),
        write(tmp_path / "c.parquet", [article(4, year=2024, source="x"), article(3, title="Z")]),
        tmp_path / "d.nbib",
        pages,
        write(tmp_path / "e.tsv.gz", [article(8, mesh_terms=[])]),
    ]


def test_files_of_all_formats_together(everything, out, strict):
    card = build(everything, out, strict)
    assert sorted(os.listdir(out)) == sorted(BUILT)
    split = tables(out)
    assert numbers(split["train"]) == [1, 2, 5, 8]
    assert numbers(split["val"]) == [3, 6]
    assert numbers(split["test"]) == [4, 7]
    for name, rows in split.items():
        assert {row["split"] for row in rows} == {name}
        assert pq.read_schema(out / f"{name}.parquet").equals(table_schema())
    assert split["test"][1]["labels"] == ["Cohort", "Human"]  # from .nbib
    assert split["train"][2]["labels"] == ["CaseReport"]  # from XML, not indexed
    assert split["train"][2]["known"] == ["CaseReport"]
    assert split["train"][3]["known"] == []
    assert (card.read, sum(card.rows.values())) == (12, 8)


def test_what_is_left_out_is_listed_with_its_reason(everything, out, strict):
    build(everything, out, strict)
    assert [(row["reason"], row["pmid"], row["title"]) for row in excluded(out)] == [
        ("same title", "90000010", "INVENTED article 2: on (sealants)!"),
        ("neither title nor abstract", "", ""),
        ("same pmid", "90000003", "Z"),
        ("same pmid", "90000001", "Same pmid as 1"),
    ]


def test_manifest_and_card_agree_with_the_tables(everything, out, strict):
    build(everything, out, strict)
    manifest = json.loads((out / "manifest.json").read_text())
    split = tables(out)
    assert manifest["labels"] == list(strict.labels)
    assert (manifest["rules"], manifest["rules_version"]) == ("strict", strict.version)
    assert manifest["implications"] == {"RCT": ["ClinicalTrial"]}
    assert manifest["read"] == 12
    assert manifest["excluded"] == {
        **{"same title": 1, "neither title nor abstract": 1, "same pmid": 2},
    }
    assert [Path(source).name for source in manifest["sources"]] == [
        *("a.csv", "b.jsonl", "c.parquet", "d.nbib", "a.xml", "b.xml.gz", "e.tsv.gz"),
    ]
    for name, rows in split.items():
        content = (out / f"{name}.parquet").read_bytes()
        assert manifest["files"][f"{name}.parquet"] == hashlib.sha256(content).hexdigest()
        assert manifest["rows"][name] == len(rows)
        for column, counts in (("labels", "positive"), ("known", "known")):
            counted = Counter(label for row in rows for label in row[column])
            assert manifest[counts][name] == {each: counted[each] for each in strict.labels}
    card = (out / "README.md").read_text()
    assert "12 read, 8 kept (train 4, val 2, test 2)" in card
    assert "same pmid: 2; same title: 1; neither title nor abstract: 1" in card
    assert "By year: train up to 2021 or year missing, validation up to 2023, test after." in card
    assert "| Human | 2 / 2 | 1 / 1 | 2 / 2 | 3 |" in card
    assert "| CaseReport | 1 / 3 | 1 / 2 | 0 / 2 | 1 |" in card
    assert "| 2024 | 2 | 0 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 0 | 2 |" in card
    assert "| missing | 1 |" in card


def test_the_same_sources_give_the_same_bytes(everything, tmp_path, strict):
    for name in ("one", "two"):
        build(everything, tmp_path / name, strict)
    for file in BUILT:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_built_tables_can_be_built_again(everything, tmp_path, strict):
    build(everything, tmp_path / "one", strict)
    build([tmp_path / "one" / f"{name}.parquet" for name in SPLITS], tmp_path / "two", strict)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    assert (tmp_path / "two" / "excluded.csv").read_text() == "reason,pmid,year,title\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sealants: a trial.", "SEALANTS — a  Trial"),
        ("H₂O and µ-CT", "H2O and μ-CT"),
        ("\u00c9tude caf\u00e9", "E\u0301tude cafe\u0301"),
        ("Große Studie", "GROSSE STUDIE"),
        ("牙科研究", "牙科 研究。"),
    ],
)
def test_spellings_of_one_title_are_one_article(one, other):
    assert title_key({"title": one}) == title_key({"title": other}) != ""


def test_titles_without_letters_are_not_one_article(tmp_path, out, strict):
    rows = [article(1, title="..."), article(2, title="[?]"), article(3, title="!", abstract="-")]
    build([write(tmp_path / "a.jsonl", rows)], out, strict)
    assert [row["reason"] for row in excluded(out)] == ["neither title nor abstract"]


def test_articles_without_a_pmid_are_not_one_article(tmp_path, out, strict):
    rows = [article(1, pmid=None), article(2, pmid=""), article(3, pmid=" ")]
    build([write(tmp_path / "a.jsonl", rows)], out, strict)
    assert [row["pmid"] for row in tables(out)["train"]] == [None, None, None]


def test_headings_that_are_empty_text_are_no_headings(tmp_path, out, strict):
    rows = [article(1), article(2, mesh_terms=[""]), article(3, mesh_terms=[None, " "])]
    build([write(tmp_path / "a.jsonl", rows)], out, strict)
    train = tables(out)["train"]
    assert [row["mesh_terms"] for row in train] == [["Humans"], [], []]
    assert [len(row["known"]) for row in train] == [10, 0, 0]


def test_reference_drops_articles_without_a_label(tmp_path, out):
    rows = [article(1), article(2, mesh_terms=[])]
    build([write(tmp_path / "a.jsonl", rows)], out, load_rules("reference"))
    assert numbers(tables(out)["train"]) == [1]
    assert tables(out)["train"][0]["known"] == list(load_rules("reference").labels)
    assert [row["reason"] for row in excluded(out)] == ["none of the labels"]


# --- splits


@pytest.mark.parametrize(
    ("year", "split"),
    [(None, "train"), (1966, "train"), (2021, "train"), (2022, "val"), (2023, "val")]
    + [(2024, "test"), (2030, "test")],
)
def test_year_boundaries(year, split):
    assert Splitter().split({"year": year}) == split


def test_other_boundaries(tmp_path, out, strict):
    rows = [article(year, year=year) for year in (2009, 2010, 2011, 2012)]
    card = build([write(tmp_path / "a.jsonl", rows)], out, strict, train_until=2009, val_until=2011)
    assert [numbers(tables(out)[name]) for name in SPLITS] == [[2009], [2010, 2011], [2012]]
    assert "train up to 2009" in card.split


def hash_rows():
    return [article(n, year=None, pmid=None if n % 2 else f"{n}") for n in range(2000)]


def test_without_years_a_hash_splits(tmp_path, out, strict):
    card = build([write(tmp_path / "a.jsonl", hash_rows())], out, strict)
    assert "hash" in card.split
    assert card.rows["test"] == pytest.approx(200, abs=45)  # 3.3 standard deviations
    assert card.rows["val"] == pytest.approx(200, abs=45)
    assert "10% test, 10% validation" in card.split


def test_the_hash_split_is_stable_under_growth_and_order(tmp_path, strict):
    rows = hash_rows()
    build([write(tmp_path / "a.jsonl", rows[:500])], tmp_path / "small", strict)
    Random(0).shuffle(rows)
    build([write(tmp_path / "b.jsonl", rows)], tmp_path / "large", strict)
    small, large = where(tmp_path / "small"), where(tmp_path / "large")
    assert len(large) == 2000
    assert small == {title: large[title] for title in small}


def test_the_table_s_own_split_is_kept(tmp_path, out, strict):
    names = ["train", "dev", "Validation", "val", "TEST "]
    rows = [article(n, split=name, year=2024) for n, name in enumerate(names)]
    build([write(tmp_path / "a.csv", rows)], out, strict)
    assert [numbers(tables(out)[name]) for name in SPLITS] == [[0], [1, 2, 3], [4]]
    build([tmp_path / "a.csv"], out, strict, split_by="year")
    assert numbers(tables(out)["test"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("split", ["fold 3", None])
def test_a_split_that_cannot_be_read_names_the_article(tmp_path, out, strict, split):
    rows = [article(1, split="train"), article(2, split=split)]
    with pytest.raises(InputError, match=r"article '90000002': column 'split': .*--split-by year"):
        build([write(tmp_path / "a.csv", rows)], out, strict)
    assert not out.exists()


def test_only_articles_that_are_kept_decide_how_to_split(tmp_path, out, strict):
    rows = [article(1, year=2024, split=None), article(1, year=2020, split="train")]
    card = build([write(tmp_path / "a.csv", rows)], out, strict)
    assert card.split.startswith("By year")


def test_an_empty_split_is_said(tmp_path, out, strict, caplog):
    with caplog.at_level(logging.WARNING, "studytag"):
        build([write(tmp_path / "a.csv", [article(1)])], out, strict)
    assert "no article in val, test" in caplog.text
    assert tables(out)["test"] == []


@pytest.mark.parametrize(
    "options",
    [{"train_until": 2023}, {"train_until": 2024, "val_until": 2022}, {"split_by": "yaer"}],
)
def test_wrong_options_are_refused(tmp_path, out, strict, options):
    with pytest.raises(InputError, match="--train-until|--split-by"):
        build([write(tmp_path / "a.csv", [article(1)])], out, strict, **options)


# --- labels that the table brings


def test_labels_of_another_field_come_from_the_table(tmp_path, out):
    nan = float("nan")
    rows = [
        article(1, labels=["B"]),
        article(2, labels=[]),
        article(3, labels=["A", "B"], known=["A", "B"]),
        article(4, labels=[], known=["A"]),
        article(5, labels=nan, known=nan),
        article(6, labels=["A", None], known=nan),
    ]
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text("\n".join(json.dumps(row) for row in rows))  # NaN as pandas writes it
    card = build([jsonl], out, own_rules(tmp_path))
    both = ["A", "B"]
    assert [(row["labels"], row["known"]) for row in tables(out)["train"]] == [
        *((["B"], both), ([], both), (both, both), ([], ["A"]), ([], []), (["A"], both)),
    ]
    assert card.labels == both


def test_what_is_known_is_said_by_each_row(tmp_path):
    table = tmp_path / "mine.jsonl"
    rows = ({}, {"known": ["RCT"]}, {"known": [], "labels": []}, {"known": None})
    with table.open("w") as stream:
        for known in (*rows, *rows[::-1]):
            stream.write(json.dumps({"title": "A", "labels": ["RCT"], **known}) + "\n")
    known = load_table(table, STUDY_DESIGNS).known
    assert known.sum(axis=1).tolist() == [10, 2, 0, 10, 10, 0, 2, 10]  # an RCT is a trial


def test_tables_say_what_is_known_to_all_alike(tmp_path, out):
    """Whatever the format: a blank cell is as good as no column, and a contradiction is refused."""
    rules = own_rules(tmp_path)
    given = [
        article(1, labels=["A"], known=["A"]),
        article(2, labels=[], known=None),
        article(3, labels=[], known=[]),
    ]
    expected = [[True, False], [True, True], [False, False]]
    wrong = [*given, article(4, labels=["A"], known=["B"])]
    message = "row 4.*: label 'A' is in 'labels', but not in 'known'; add it to 'known'"
    for suffix in ("jsonl", "csv", "xlsx", "parquet"):
        table = write(tmp_path / f"mine.{suffix}", given)
        assert load_table(table, rules.labels).known.tolist() == expected
        build([table], out / suffix, rules)
        built = load_table(out / suffix / "train.parquet", rules.labels)
        assert built.known.tolist() == expected
        write(table, wrong)
        with pytest.raises(InputError, match=message):
            load_table(table, rules.labels)
        with pytest.raises(InputError, match=message):
            build([table], out / f"wrong {suffix}", rules)


def test_truth_brings_what_it_implies(tmp_path):
    table = tmp_path / "mine.jsonl"
    both = {"labels": ["A", "B"], "known": ["A"]}
    rows = [{"labels": ["A"]}, both, {"labels": [], "known": ["A"]}]
    table.write_text("".join(json.dumps({"title": "A"} | row) + "\n" for row in rows))
    read = load_table(table, LabelSet(("A", "B"), {"A": ("B",)}))
    assert read.truth.tolist() == [[True, True], [True, True], [False, False]]
    assert read.known.tolist() == [[True, True], [True, True], [True, False]]


def test_labels_that_the_rules_replace_are_said(tmp_path, out, strict, caplog):
    rows = [article(1, labels=["RCT"]), article(2, labels=["RCT", "Human"]), article(3)]
    card = build([write(tmp_path / "a.jsonl", rows)], out, strict)
    assert card.replaced == {"RCT": 2, "Human": 1}
    assert "rules of 'strict' pass over (RCT 2, Human 1); to keep one, give --rules" in caplog.text
    assert "own that the rules passed over: RCT 2, Human 1" in (out / "README.md").read_text()


def test_an_unknown_label_names_file_row_and_label(tmp_path, out):
    source = write(tmp_path / "a.csv", [article(1, labels=["A"]), article(2, labels=["A", "C"])])
    with pytest.raises(InputError) as caught:
        build([source], out, own_rules(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{source}: row 2 (pmid 90000002): column 'labels'")
    assert "unknown label 'C'; the labels are A, B" in message
    assert not out.exists()


def test_a_column_of_another_spelling_is_said(tmp_path, out, caplog):
    rows = [article(1, labels=["A"], Known=["A"], Split="test", KNOWN="x"), article(2, labels=[])]
    source = write(tmp_path / "a.jsonl", rows)
    build([source], out, own_rules(tmp_path))
    for name, exact in (("Known", "known"), ("KNOWN", "known"), ("Split", "split")):
        assert f"{source}: column '{name}' is not read; is it '{exact}'?" in caplog.text
    caplog.clear()
    load_table(source, LabelSet(("A", "B")))
    assert "column 'Known' is not read" in caplog.text
    caplog.clear()
    build([out / "train.parquet"], tmp_path / "again", own_rules(tmp_path))
    assert "is not read" not in caplog.text


def test_a_table_without_any_label_is_refused(tmp_path, out):
    source = write(tmp_path / "a.csv", [article(1, label="A")])  # labels, misspelt
    with pytest.raises(InputError, match=r"no article has any label of the rule set 'own'.*a\.csv"):
        build([source], out, own_rules(tmp_path))
    assert not out.exists()


# --- what goes wrong


@pytest.mark.parametrize(
    ("column", "value"), [("title", 5), ("abstract", {"A": 1}), ("mesh_terms", [7]), ("pmid", 1.5)]
)
def test_a_cell_that_is_not_text_names_its_place(tmp_path, out, strict, column, value):
    source = write(tmp_path / "a.jsonl", [article(1), article(2, **{column: value})])
    with pytest.raises(InputError, match=rf"a\.jsonl: row 2 .*column '{column}': expected text"):
        build([source], out, strict)


def test_no_usable_article_is_refused(tmp_path, out, strict):
    source = write(tmp_path / "a.jsonl", [{"title": "", "abstract": " "}, {"title": None}])
    with pytest.raises(InputError, match=r"no usable .*a\.jsonl: neither title nor abstract: 2"):
        build([source], out, strict)
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_missing_sources_are_named_before_anything_is_read(tmp_path, out, strict, caplog):
    source = write(tmp_path / "a.csv", [article(1)])
    empty = tmp_path / "empty"
    empty.mkdir()
    with caplog.at_level(logging.INFO, "studytag"):
        for wrong in (tmp_path / "none.csv", tmp_path / "a.docx", empty):
            with pytest.raises(InputError, match=wrong.name):
                build([source, wrong], out, strict)
    assert "reading" not in caplog.text


def test_a_failed_build_leaves_no_trace_and_the_old_tables(tmp_path, out, strict):
    good = write(tmp_path / "good.csv", [article(1)])
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(article(2)) + "\n" + json.dumps(article(3)) + "\n{broken")
    with pytest.raises(InputError, match=r"bad\.jsonl: line 3"):
        build([good, bad], out, strict)
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "good.csv"]
    build([good], out, strict)
    before = {file: (out / file).read_bytes() for file in BUILT}
    with pytest.raises(InputError, match=r"bad\.jsonl: line 3"):
        build([bad], out, strict)
    assert {file: (out / file).read_bytes() for file in os.listdir(out)} == before
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "good.csv", "processed"]


def test_an_earlier_build_is_replaced(tmp_path, out, strict):
    for number in (1, 2):
        build([write(tmp_path / "a.csv", [article(number)])], out, strict)
    assert numbers(tables(out)["train"]) == [2]


@pytest.mark.parametrize("built_before", [False, True])
def test_a_folder_with_other_files_is_never_replaced(tmp_path, out, strict, built_before):
    source = write(tmp_path / "a.csv", [article(1)])
    out.mkdir()
    if built_before:
        build([source], out, strict)
    (out / "thesis.txt").write_text("years of work")
    before = sorted(os.listdir(out))
    with pytest.raises(InputError, match=r"processed holds 'thesis\.txt'"):
        build([source], out, strict)
    assert sorted(os.listdir(out)) == before


def test_an_output_that_is_a_file_is_refused(tmp_path, out, strict):
    out.write_text("a file")
    with pytest.raises(InputError, match="is not a folder"):
        build([write(tmp_path / "a.csv", [article(1)])], out, strict)
    assert out.read_text() == "a file"


def test_a_source_is_never_replaced_by_its_own_output(tmp_path, out, strict):
    build([write(tmp_path / "a.csv", [article(1)])], out, strict)
    with pytest.raises(InputError, match="lies in .*processed"):
        build([out / "train.parquet"], out, strict)
    assert numbers(tables(out)["train"]) == [1]


# --- real data


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/pubmed.parquet")
def test_real_records_are_split_as_published_for_them(out, strict):
    card = build([REAL], out, strict)
    assert dict(card.rows) == {"train": 10_155, "val": 2_451, "test": 3_803}
    assert pq.read_metadata(out / "train.parquet").num_rows == 10_155
    assert excluded(out) == []
