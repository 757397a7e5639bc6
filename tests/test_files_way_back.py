"""What is written: every field comes back, and everything written can be read again."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studytag.errors import InputError
from studytag.files import SourceRow, open_writer, read_rows, tagged
from studytag.files.bibtex import plain_text
from studytag.records import clean

TAGS = {
    "studytag_labels": ["RCT", "Human"],
    "p_RCT": 0.75,
    "p_Human": 0.5,
    "studytag_error": None,
}

RIS = """TY  - JOUR
T1  - Title &amp; <i>more</i>
AU  - Example, A.
AU  - Sample, B.
A1  - Other, C.
PY  - 2018/05/12/
DO  - 10.1000/one
DO  - 10.1000/two
SN  - 1111-1111
SN  - 2222-2222
MH  - Humans
ED  - Editor, E.
L1  - file.pdf
UR  - https://example.org/a;b?c=1;d=2
KW  - Humans
Male
Female
N2  - First line
  second line   with spaces
C7  - e123
XX  - nobody knows
RN  - note
N1  - RAYYAN-INCLUSION: {"a"=>"Included"}
ER  - """

NBIB = """PMID- 90000001
OWN - NLM
TI  - A trial of
      something.
AB  - We randomised.
FAU - Example, Anna
AU  - Example A
FAU - Sample, Bert
AU  - Sample B
PT  - Randomized Controlled Trial
MH  - *Humans
MH  - Caries/therapy
VI  - 12
IP  - 3
PG  - 100-9
DP  - 2020 May
TA  - J Ex
JT  - Journal of examples
LID - 10.1000/one [doi]
LA  - eng
PHST- 2020/01/01 00:00 [received]
PHST- 2020/02/01 00:00 [accepted]"""

ENW = """%0 Journal Article
%T A trial
%A Example, A.
%A Sample, B.
%K Humans
Male
%X We randomised
%D 2020
%1 custom"""

BIB = """@string{jx = {Journal of examples}}

@article{key1,
  title = {A {T}rial of 50% \\alpha},
  author = {Example, Anna and Sample, Bert},
  journal = jx,
  year = 2020,
  keywords = {one, two},
  custom = "any {thing}"
}"""


def copy(source: Path, target: Path, columns=None, **options) -> list[dict]:
    rows = []
    with open_writer(target, **options) as writer:
        for row in read_rows(source):
            rows.append(tagged(row, columns) if columns is not None else row)
            writer.write(rows[-1])
    return rows


@pytest.mark.parametrize(
    ("name", "content"), [("a.ris", RIS), ("a.nbib", NBIB), ("a.enw", ENW), ("a.bib", BIB)]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_records_come_back_line_by_line(tmp_path, name, content, newline):
    source, target = tmp_path / name, tmp_path / f"out-{name}"
    source.write_bytes(
        (content + "\n\n" + content.replace("key1", "key2")).replace("\n", newline).encode()
    )
    copy(source, target)
    assert target.read_bytes().decode().split() == source.read_text().split()
    assert [line for line in target.read_bytes().decode().split(newline) if line] == [
        line for line in source.read_bytes().decode().split(newline) if line
    ]


def test_only_tags_are_added_to_ris(tmp_path):
    (tmp_path / "a.ris").write_text(f"{RIS}\n\n{RIS}\n")
    copy(tmp_path / "a.ris", tmp_path / "b.ris", TAGS)
    tags = "KW  - studytag: RCT\nKW  - studytag: Human\nER  - "
    assert (tmp_path / "b.ris").read_text() == f"{RIS.replace('ER  - ', tags)}\n\n" * 2
    copy(tmp_path / "b.ris", tmp_path / "c.ris", TAGS | {"studytag_labels": ["Cohort"]})
    tags = "KW  - studytag: Cohort\nER  - "
    assert (tmp_path / "c.ris").read_text() == f"{RIS.replace('ER  - ', tags)}\n\n" * 2
    failed = {"studytag_labels": None, "studytag_error": "row 1: no text"}
    copy(tmp_path / "c.ris", tmp_path / "d.ris", failed)
    note = "N1  - studytag_error: row 1: no text\nER  - "
    assert (tmp_path / "d.ris").read_text() == f"{RIS.replace('ER  - ', note)}\n\n" * 2
    assert [row["studytag_error"] for row in read_rows(tmp_path / "d.ris")] == [
        "row 1: no text"
    ] * 2
    copy(tmp_path / "d.ris", tmp_path / "e.ris", TAGS | {"studytag_labels": []})
    assert (tmp_path / "e.ris").read_text() == f"{RIS}\n\n" * 2


def test_blank_lines_inside_a_ris_record_come_back(tmp_path):
    content = RIS.replace("N2  - First line\n", "N2  - First line\n\n").replace(
        "Male\n", "\nstudytag: Old\n\nMale\n\n"
    )
    (tmp_path / "a.ris").write_text(f"{content}\n\n")
    copy(tmp_path / "a.ris", tmp_path / "b.ris")
    assert (tmp_path / "b.ris").read_text() == f"{content}\n\n"
    copy(tmp_path / "a.ris", tmp_path / "c.ris", {"studytag_labels": []})
    assert (tmp_path / "c.ris").read_text() == content.replace("studytag: Old\n", "") + "\n\n"


def test_tags_among_the_keywords_of_endnote(tmp_path):
    content = RIS.replace("Male\n", "studytag: Old\nMale\n").replace(
        "KW  - Humans", "KW  - studytag: Old\nHumans"
    )
    (tmp_path / "a.ris").write_text(content)
    copy(tmp_path / "a.ris", tmp_path / "b.ris", {"studytag_labels": []})
    assert (tmp_path / "b.ris").read_text() == f"{RIS}\n\n"


def test_tags_in_the_other_formats_of_reference_managers(tmp_path):
    for name, content, line in [
        ("a.nbib", NBIB, "OT  - studytag: RCT"),
        ("a.enw", ENW, "%K studytag: RCT"),
    ]:
        (tmp_path / name).write_text(content)
        copy(tmp_path / name, tmp_path / f"b{name}", {"studytag_labels": ["RCT"]})
        assert (tmp_path / f"b{name}").read_text() == f"{content}\n{line}\n\n"
    (tmp_path / "a.bib").write_text(BIB)
    copy(tmp_path / "a.bib", tmp_path / "b.bib", {"studytag_labels": ["RCT"]})
    (row,) = read_rows(tmp_path / "b.bib")
    assert row["keywords"] == ["one", "two", "studytag: RCT"]
    assert (row["title"], row["journal"]) == ("A Trial of 50% α", "Journal of examples")
    copy(tmp_path / "b.bib", tmp_path / "c.bib", {"studytag_labels": ["Cohort"]}, prefix="tag/")
    (row,) = read_rows(tmp_path / "c.bib")
    assert row["keywords"] == ["one", "two", "studytag: RCT", "tag/Cohort"]
    assert row["custom"] == "any thing"


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "jsonl", "parquet"])
def test_a_table_of_tagged_records_holds_the_new_tags_alone(tmp_path, suffix):
    (tmp_path / "a.ris").write_text(RIS.replace("ER  -", "KW  - One\nKW  - studytag: RCT\nER  -"))
    table = tmp_path / f"b.{suffix}"
    copy(tmp_path / "a.ris", table, {"studytag_labels": ["Cohort"]})
    (row,) = read_rows(table)
    assert "studytag: RCT" not in row["keywords"]
    assert "One" in row["keywords"]
    copy(tmp_path / "a.ris", table, {"studytag_labels": None})  # not tagged: nothing replaces them
    (row,) = read_rows(table)
    assert "studytag: RCT" in row["keywords"]


REPEATED = """@article{k1,
  title = {A},
  author = {{World Health Organization and Partners} and Smith, J},
  keywords = {Asthma, {Diabetes, Type 2}},
  keywords = {Second, List},
  keyword = {Third},
  note = {n1}, note = {n2}, note = {n3},
  file = {f1}, file = {f2}, file = {f3}
}

@article(k2, title = "A (randomised) trial", year = 2020, keywords = {{One; Two, three}})
"""


@pytest.mark.parametrize("keyword", ["Asthma; severe", "Diabetes, Type 2", "Asthma"])
def test_a_keyword_alone_is_one_keyword(tmp_path, keyword):
    with open_writer(tmp_path / "a.bib") as writer:
        writer.write({"title": "A", "keywords": [keyword]})
    (row,) = read_rows(tmp_path / "a.bib")
    assert row["keywords"] == [keyword]


@pytest.mark.parametrize("name", ["b.ris", "b.nbib"])
def test_text_in_brackets_is_no_list(tmp_path, name):
    address = "[Smith, J; Doe, A] Univ X, Oslo; [Roe, B] Univ Y"
    with open_writer(tmp_path / name) as writer:
        writer.write({"title": "A", "author_address": address, "notes": "[Retracted; see below] x"})
    text = (tmp_path / name).read_text()
    assert f"- {address}\n" in text
    assert "- [Retracted; see below] x\n" in text


def test_bibtex_fields_that_are_there_twice_and_items_in_braces(tmp_path):
    (tmp_path / "a.bib").write_text(REPEATED)
    for name in ("b.bib", "c.ris"):
        copy(tmp_path / "a.bib", tmp_path / name, {"studytag_labels": ["RCT"]})
        first, second = read_rows(tmp_path / name)
        assert first["authors"] == ["World Health Organization and Partners", "Smith, J"]
        words = ["Asthma", "Diabetes, Type 2", "Second", "List", "studytag: RCT"]
        assert (first["keywords"], first["keyword"]) == (words, "Third")
        assert first["notes"] == ["n1", "n2", "n3"]
        assert [first[name] for name in ("file", "file_2", "file_3")] == ["f1", "f2", "f3"]
        assert (second["title"], second["year"]) == ("A (randomised) trial", 2020)
        assert second["keywords"] == ["One", "Two, three", "studytag: RCT"]
    copy(tmp_path / "c.ris", tmp_path / "d.bib")
    assert next(read_rows(tmp_path / "d.bib"))["authors"] == first["authors"]


def test_keys_of_bibtex_are_legal_and_new(tmp_path):
    keys = ["Smith, 2020", "x}y", "same", "same", "fine:2020"]
    with open_writer(tmp_path / "a.bib") as writer:
        for key in keys:
            writer.write({"ID": key, "title": "A", "keywords": ["a, b"]})
    rows = list(read_rows(tmp_path / "a.bib"))
    assert [row["ID"] for row in rows] == keys
    assert all(row["keywords"] == ["a, b"] for row in rows)
    found = re.findall(r"@article{(.*),", (tmp_path / "a.bib").read_text())
    assert found == ["record1", "record2", "same", "record4", "fine:2020"]


CSV = (
    'Key;"Title";Abstract Note;Publication Year;Notes;Notes;;AU;ER\r\n'
    'K1;"<i>A</i>; b";"We\nrandomised";in press;1;2;3;X;Y\r\n'
    "K2;B;;2020;;;;;\r\n"
)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_comes_back_as_it_was(tmp_path, mark):
    source, target = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_bytes((mark + CSV).encode())
    copy(source, target)
    assert target.read_bytes().startswith(mark.encode() or b"Key")
    found = list(csv.reader(io.StringIO(target.read_text("utf-8-sig"), newline=""), delimiter=";"))
    assert found == list(csv.reader(io.StringIO(CSV, newline=""), delimiter=";"))
    copy(source, target, TAGS, indicators=["RCT", "Cohort"])
    lines = target.read_bytes().decode("utf-8-sig").split("\r\n")
    assert lines[0].startswith(
        "Key;Title;Abstract Note;Publication Year;Notes;Notes;;AU;ER;studytag_"
    )
    assert lines[0].endswith("studytag_error;tag_studytag_RCT;tag_studytag_Cohort")
    assert lines[2] == "K2;B;;2020;;;;;;RCT; Human;0.75;0.5;;1;0".replace(
        "RCT; Human", '"RCT; Human"'
    )
    copy(target, tmp_path / "c.csv", TAGS, indicators=["RCT", "Cohort"])
    assert (tmp_path / "c.csv").read_bytes() == target.read_bytes()


def test_only_the_columns_of_tagging_are_replaced(tmp_path):
    header = "studytag_labels,title,abstract,my_decision,p_RCT,studytag_error"
    (tmp_path / "a.csv").write_text(f"{header}\nCohort,A,B,keep,0.1,\n")
    copy(tmp_path / "a.csv", tmp_path / "b.csv", TAGS)
    added = "studytag_labels,p_RCT,p_Human,studytag_error"
    assert (tmp_path / "b.csv").read_text().splitlines() == [
        f"title,abstract,my_decision,{added}",
        "A,B,keep,RCT; Human,0.75,0.5,",
    ]
    # A model with other labels: its columns take the place of those that stand as we write them.
    other = {"studytag_labels": [], "p_Mouse": 0.25, "studytag_error": None}
    copy(tmp_path / "b.csv", tmp_path / "c.csv", other)
    assert (tmp_path / "c.csv").read_text() == (
        "title,abstract,my_decision,studytag_labels,p_Mouse,studytag_error\nA,B,keep,,0.25,\n"
    )


@pytest.mark.parametrize("name", ["a.ris", "a.nbib", "a.enw", "a.bib"])
def test_probabilities_stay_in_tables_and_columns_that_only_begin_so_do_not(tmp_path, name):
    (tmp_path / "a.csv").write_text("title,p_value,P_site,p_notes\nA,0.03,Oslo,none\n")
    copy(tmp_path / "a.csv", tmp_path / name, TAGS)
    (row,) = read_rows(tmp_path / name)
    assert (row["p_value"], row["P_site"], row["p_notes"]) == ("0.03", "Oslo", "none")
    assert "0.75" not in (tmp_path / name).read_text()


@pytest.mark.parametrize("name", ["a.ris", "a.nbib", "a.enw", "a.bib"])
def test_a_prefix_that_begins_keywords_of_people_takes_none_of_them(tmp_path, name):
    row = {"title": "A", "keywords": ["Rats", "RRCT"]} | TAGS
    for blank in ("", " "):
        with pytest.raises(InputError, match="prefix of our tags must not be blank"):
            with open_writer(tmp_path / name, prefix=blank) as writer:
                writer.write(row)
    with open_writer(tmp_path / name, prefix="R") as writer:
        writer.write(row)
    for _ in range(2):
        (row,) = copy(tmp_path / name, tmp_path / f"b{name}", TAGS, prefix="R")
        assert row["keywords"] == ["Rats", "RRCT", "RHuman"]


def test_columns_named_like_tags_never_become_tags(tmp_path):
    (tmp_path / "a.csv").write_text(
        "title,ER,TY,Authors,DOI,Year\nA,x,y,Example; Sample,10.1/x,2020\n"
    )
    copy(tmp_path / "a.csv", tmp_path / "a.ris", TAGS)
    assert (tmp_path / "a.ris").read_text().splitlines()[:7] == [
        *("TY  - JOUR", "TI  - A", "AU  - Example", "AU  - Sample", "DO  - 10.1/x", "PY  - 2020"),
        "KW  - studytag: RCT",
    ]
    (row,) = read_rows(tmp_path / "a.ris")
    assert (row["ER"], row["TY"], row["doi"], row["year"]) == ("x", "y", "10.1/x", 2020)


def test_c1_is_an_address_in_web_of_science_only(tmp_path):
    (tmp_path / "a.ris").write_text("TY  - JOUR\nTI  - A\nC1  - code 7\nER  - \n")
    (tmp_path / "b.csv").write_text("title,C1\nA,code 7\n")
    (tmp_path / "c.tsv").write_text("PT\tTI\tC1\tUT\nJ\tA\tcode 7\tWOS:1\n")
    (tmp_path / "d.ciw").write_text("FN Clarivate\nPT J\nTI A\nC1 code 7\nER\n\nEF")
    tags = {"nbib": "AD  - code 7", "enw": "%+ code 7", "ris": "AD  - code 7"}
    for name, is_address in (("a.ris", 0), ("b.csv", 0), ("c.tsv", 1), ("d.ciw", 1)):
        for suffix, line in tags.items():
            copy(tmp_path / name, target := tmp_path / f"{name}.{suffix}")
            (back,) = read_rows(target)
            assert (line in target.read_text().splitlines()) == is_address, target
            assert back["author_address" if is_address else "C1"] in ("code 7", ["code 7"]), target
    copy(tmp_path / "c.tsv", tmp_path / "e.tsv")
    assert (tmp_path / "e.tsv").read_text() == (tmp_path / "c.tsv").read_text()


def test_nbib_becomes_ris_with_every_field(tmp_path):
    (tmp_path / "a.nbib").write_text(NBIB)
    (row,) = copy(tmp_path / "a.nbib", tmp_path / "a.ris", TAGS)
    lines = (tmp_path / "a.ris").read_text().splitlines()
    for line in (
        *("TY  - JOUR", "TI  - A trial of something.", "AB  - We randomised.", "PY  - 2020"),
        *("AU  - Example, Anna", "AU  - Sample, Bert", "M3  - Randomized Controlled Trial"),
        *("VL  - 12", "IS  - 3", "SP  - 100-9", "DO  - 10.1000/one", "T2  - Journal of examples"),
        *("AN  - 90000001", "DB  - PubMed", "KW  - Caries", "LA  - eng", "KW  - studytag: RCT"),
    ):
        assert line in lines
    (back,) = read_rows(tmp_path / "a.ris")
    for name in ("pmid", "title", "abstract", "year", "journal", "pub_types", "mesh_terms"):
        assert back[name] == row[name]
    for name in ("OWN", "publication_history", "AU", "mesh_indexing", "authors", "doi", "date"):
        assert back[name] == row[name]
    copy(tmp_path / "a.ris", tmp_path / "b.nbib")
    for line in ("MH  - *Humans", "MH  - Caries/therapy", "PHST- 2020/02/01 00:00 [accepted]"):
        assert line in (tmp_path / "b.nbib").read_text().splitlines()
    with open_writer(tmp_path / "c.nbib") as writer:
        writer.write(next(read_rows(tmp_path / "a.nbib")) | {"mesh_indexing": ["Mouth"]})
    headings = [line for line in (tmp_path / "c.nbib").read_text().splitlines() if "MH" in line]
    assert headings == ["MH  - Mouth"]


LATEX = {
    r"p{\textless}0.05, p\textgreater{}1": "p<0.05, p>1",  # of Zotero and Mendeley
    r"a{\textbar}b \textasciicircum{} \^{} {\~{}} {\S}1": "a|b ^ ^ ~ §1",
    r"\mbox{x} \ce{H2O} \textcolor{red}{y}": "x H2O y",
    r"37\celsius{} and \unheardof": r"37\celsius and \unheardof",
    r"{\it E. coli}\par {\em more}": "E. coli more",
}


@pytest.mark.parametrize("latex", LATEX)
def test_no_command_of_latex_is_lost(tmp_path, latex):
    (tmp_path / "a.bib").write_text(f"@article{{k, abstract = {{{latex}}}}}")
    copy(tmp_path / "a.bib", tmp_path / "a.ris")
    for name in ("a.bib", "a.ris"):
        (row,) = read_rows(tmp_path / name)
        assert row["abstract"] == LATEX[latex]


def test_threads_read_latex_side_by_side():
    """A service reads two files at a time, and a converter notes what it is in the midst of."""
    texts = [r"Effect at $p  <  0.05$ and \alpha  beta", r"\textbf{q}  \alpha  z"] * 300
    expected = list(map(plain_text, texts))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(plain_text, texts)) == expected


TYPES = {
    "JOUR": "article",
    "CHAP": "incollection",
    "GEN": "misc",
    "journalArticle": "article",
    "article-journal": "article",
    "book-chapter": "incollection",
    "Book Section": "incollection",
    "Generic": "misc",
    "mastersthesis": "mastersthesis",
}


@pytest.mark.parametrize("kind", TYPES)
def test_entries_of_bibtex_have_types_that_bibtex_knows(tmp_path, kind):
    """Zotero passes over an entry of a type that it does not know."""
    (tmp_path / "a.csv").write_text(f"Item Type,Title\n{kind},A\n")
    copy(tmp_path / "a.csv", tmp_path / "a.bib")
    assert (tmp_path / "a.bib").read_text().startswith(f"@{TYPES[kind]}{{record1,")
    (tmp_path / "b.ris").write_text("TY  - PODCST\nTI  - A\nER  - \n")
    copy(tmp_path / "b.ris", tmp_path / "b.bib")
    assert (tmp_path / "b.bib").read_text().startswith("@article{record1,")
    (row,) = read_rows(tmp_path / "b.bib")
    assert row["type_of_reference"] == "PODCST"


@pytest.mark.parametrize("column", ["keywords", "Author Keywords", "Manual Tags", "DE"])
def test_keywords_of_a_table_become_keywords_of_bibtex(tmp_path, column):
    head = f"Title,{column},Subject Terms"
    (tmp_path / "a.csv").write_text(f"{head}\nA,teeth; caries,other\n")
    copy(tmp_path / "a.csv", tmp_path / "a.bib", {"studytag_labels": ["RCT"]})
    (row,) = read_rows(tmp_path / "a.bib")
    assert row["keywords"] == ["teeth", "caries", "studytag: RCT"]
    assert row["Subject Terms"] == "other"
    copy(tmp_path / "a.bib", tmp_path / "b.bib", {"DE": ["x"], "studytag_labels": []})
    (row,) = read_rows(tmp_path / "b.bib")
    assert (row["keywords"], row["DE"]) == (["teeth", "caries"], ["x"])


def test_a_date_in_bibtex_tells_the_year(tmp_path):
    """Zotero and BibLaTeX take the date alone where there is one."""
    (tmp_path / "a.enw").write_text("%0 Journal Article\n%T A\n%D 2020\n%8 Jan 5\n")
    copy(tmp_path / "a.enw", tmp_path / "a.bib")
    assert "  date = {2020 Jan 5}" in (tmp_path / "a.bib").read_text()


ENDNOTE_TYPES = {
    "Journal Article": ("Journal Article", "JOUR"),
    "Book Section": ("Book Section", "CHAP"),
    "conferencePaper": ("Conference Proceedings", "CONF"),
    "Electronic Article": ("Electronic Article", "EJOUR"),
    "phdthesis": ("Thesis", "THES"),
}


@pytest.mark.parametrize("kind", ENDNOTE_TYPES)
def test_types_of_references_keep_their_meaning(tmp_path, kind):
    (tmp_path / "a.csv").write_text(f"Item Type,Title\n{kind},A\n")
    copy(tmp_path / "a.csv", tmp_path / "a.enw")
    copy(tmp_path / "a.enw", tmp_path / "a.ris")
    first = ((tmp_path / name).read_text().splitlines()[0][-22:] for name in ("a.enw", "a.ris"))
    endnote, ris = ENDNOTE_TYPES[kind]
    assert [line.strip("%0 ").removeprefix("TY  - ") for line in first] == [endnote, ris]


PAGES = {"bib": "  pages = {1-9}", "enw": "%P 1-9", "nbib": "PG  - 1-9"}


@pytest.mark.parametrize("suffix", PAGES)
def test_the_first_and_the_last_page_have_one_place(tmp_path, suffix):
    (tmp_path / "a.ris").write_text("TY  - JOUR\nTI  - A\nSP  - 1\nEP  - 9\nER  - \n")
    copy(tmp_path / "a.ris", tmp_path / f"a.{suffix}")
    assert PAGES[suffix] in (tmp_path / f"a.{suffix}").read_text().replace(",\n", "\n")
    (tmp_path / "b.csv").write_text("Title,Page start,Page end\nA,1,9\nB,1,\nC,,\nD,1-4,4\n")
    copy(tmp_path / "b.csv", tmp_path / f"b.{suffix}")
    first, second, third, fourth = read_rows(tmp_path / f"b.{suffix}")
    assert [row.get("pages") for row in (first, second, third)] == ["1-9", "1", None]
    assert (fourth["Page start"], fourth["Page end"]) == ("1-4", "4")


def test_a_changed_column_is_written_as_it_is_now(tmp_path):
    for name, content in (("a.ris", RIS), ("a.nbib", NBIB), ("a.csv", CSV), ("a.bib", BIB)):
        (tmp_path / name).write_text(content)
        with open_writer(tmp_path / f"b{name}") as writer:
            for row in read_rows(tmp_path / name):
                writer.write(row | {"title": "Mine", "urls": None, "decision": "keep"})
        row = next(read_rows(tmp_path / f"b{name}"))
        assert (row["title"], row["decision"]) == ("Mine", "keep"), name
        assert not row.get("urls"), name


def test_rows_keep_their_origin(tmp_path):
    import pickle

    (tmp_path / "a.ris").write_text(RIS)
    (row,) = read_rows(tmp_path / "a.ris")
    for other in (row.copy(), row | {"x": 1}, pickle.loads(pickle.dumps(row))):
        assert isinstance(other, SourceRow)
        assert other.origin == row.origin


def test_labels_with_semicolons_are_not_ambiguous(tmp_path):
    labels = [["Cohort; prospective", "RCT"], ["[odd]"], [" spaced "], ["a|b"], []]
    with open_writer(tmp_path / "a.csv") as writer:
        for found in labels:
            writer.write({"title": "A", "labels": found, "studytag_labels": found})
    rows = list(read_rows(tmp_path / "a.csv"))
    assert [row["labels"] for row in rows] == labels
    assert [row["studytag_labels"] for row in rows] == labels


def test_excel_opens_csv_without_computing(tmp_path):
    with open_writer(tmp_path / "a.csv", excel=True) as writer:
        writer.write({"title": "=HYPERLINK(1)", "n": -0.5, "m": "-x"})
    assert (tmp_path / "a.csv").read_bytes() == (
        b"\xef\xbb\xbftitle,n,m,studytag_apostrophes\n'=HYPERLINK(1),-0.5,'-x,title; m\n"
    )


def test_only_our_own_apostrophes_are_taken_away_again(tmp_path):
    rows = [
        {"title": "=A", "a;b": "'=theirs", "abstract": "'tis"},
        {"title": "B", "a;b": "-1", "abstract": "=C"},
    ]
    with open_writer(tmp_path / "a.csv", excel=True) as writer:
        for row in rows:
            writer.write(row)
    assert list(read_rows(tmp_path / "a.csv")) == rows
    # Whoever took one away by hand keeps it so; columns may be moved about.
    table = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text("utf-8-sig"))))
    table[1][0] = "=A"
    with open(tmp_path / "b.csv", "w", newline="") as stream:
        csv.writer(stream).writerows(cells[2::-1] + cells[3:] for cells in table)
    assert list(read_rows(tmp_path / "b.csv")) == rows
    copy(tmp_path / "b.csv", tmp_path / "c.csv")
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines == ["abstract,a;b,title", "'tis,'=theirs,=A", "=C,-1,B"]


PREAMBLE = 'Embase export;;\r\n"2 results,\n of 2";\r\n\r\n'


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.xlsx"])
def test_lines_before_a_header_come_back(tmp_path, name):
    source, target = tmp_path / name, tmp_path / f"b{name}"
    if name == "a.xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for cells in (["Embase export"], [None, 2], ["Title", "Year"], ["A", 2020]):
            book.active.append(cells)
        book.save(source)
    else:
        source.write_bytes(f"{PREAMBLE}Title;Year\r\nA;2020\r\n".encode())
    for _ in range(2):
        copy(source, target, TAGS)
        if name == "a.xlsx":
            sheet = openpyxl.load_workbook(target).active
            found = [row[:2] for row in sheet.iter_rows(values_only=True)]
            assert found == [("Embase export", None), (None, 2), ("Title", "Year"), ("A", 2020)]
        else:
            written = target.read_bytes().decode()
            assert written.startswith(f"{PREAMBLE}Title;Year;studytag_labels;")
            assert "\r\nA;2020;" in written
        source, target = target, tmp_path / f"c{name}"


def test_the_line_that_tells_excel_the_delimiter_comes_back(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\ntitle;year\nA;2020\n")
    copy(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "sep=;\ntitle;year\nA;2020\n"


def test_excel_workbooks(tmp_path):
    rows = [
        {"title": "=1+1", "abstract": "two\nlines _x0041_ \x07", "year": 2020, "p": 0.5, "b": True},
        {"title": "B", "abstract": None, "year": None, "p": None, "b": False},
    ]
    with open_writer(tmp_path / "a.xlsx") as writer:
        for row in rows:
            writer.write(row)
    assert list(read_rows(tmp_path / "a.xlsx")) == rows
    copy(tmp_path / "a.xlsx", tmp_path / "b.xlsx", TAGS, indicators=["RCT"])
    back = list(read_rows(tmp_path / "b.xlsx"))
    assert [{name: row[name] for name in rows[0]} for row in back] == rows
    assert back[0]["studytag_labels"] == ["RCT", "Human"]
    assert back[0]["tag_studytag_RCT"] == 1
    with pytest.raises(InputError, match="row 1: column 'title' holds 40000 characters, a cell of"):
        with open_writer(tmp_path / "c.xlsx") as writer:
            writer.write({"title": "x" * 40_000})
    with pytest.raises(InputError, match="column 'title' holds 40000 characters, a cell of"):
        with open_writer(tmp_path / "c.xlsx") as writer:
            writer.write({"title": "x" * 33_000 + "\r" * 1000})


def test_parquet_widens_and_never_rounds(tmp_path):
    rows = [{"title": "A", "n": 1, "none": None}] * 10_000
    later = [{"title": "B", "n": 1.5, "none": 3}]
    with open_writer(tmp_path / "a.parquet") as writer:
        for row in rows + later:
            writer.write(row)
    assert list(read_rows(tmp_path / "a.parquet")) == rows + later
    odd = [*rows, {"title": "B", "n": "x", "none": None}]
    wrong = pytest.raises(InputError, match="row 10001: column 'n' holds 'x', which is not int64")
    with wrong, open_writer(tmp_path / "b.parquet") as writer:
        list(map(writer.write, odd))


def test_parquet_holds_nested_values_whole(tmp_path):
    blob = "x" * 9_000_000
    rows = [{"blob": blob, "ids": {"DOI": "1"}, "m": [{"n": 1}], "t": "A"}] * 2
    later = {"blob": "", "ids": {"DOI": "3", "PubMed": "7"}, "m": [{"n": 2.75}], "t": "B"}
    with open_writer(tmp_path / "a.parquet") as writer:
        for row in [*rows, later]:
            writer.write({"title": "A"} | row)
    back = list(read_rows(tmp_path / "a.parquet"))
    assert [row["ids"] for row in back] == [{"DOI": "1", "PubMed": None}] * 2 + [later["ids"]]
    assert [row["m"] for row in back] == [[{"n": 1}], [{"n": 1}], later["m"]]


def test_parquet_tells_no_number_from_no_value(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"title": ["A", "B", "C"], "x": [float("nan"), None, 1.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    copy(tmp_path / "a.parquet", tmp_path / "b.parquet", TAGS)
    found = pq.read_table(tmp_path / "b.parquet")["x"]
    assert found.is_null().to_pylist() == [False, True, False]


def test_parquet_keeps_the_types_that_it_came_with(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("Title", pa.string()), ("n", pa.int16()), ("x", pa.float32()), ("t", pa.timestamp("us"))]
    )
    pq.write_table(pa.table({n: [None] for n in schema.names}, schema), tmp_path / "a.parquet")
    copy(tmp_path / "a.parquet", tmp_path / "b.parquet", TAGS)
    found = pq.read_schema(tmp_path / "b.parquet")
    assert [found.field(name) for name in schema.names] == list(schema)


@pytest.mark.parametrize("column", ["year", "Publication Year"])
def test_a_year_in_words_survives_every_table(tmp_path, column):
    (tmp_path / "a.csv").write_text(f"title,{column}\nA,in press\nB,2020\n")
    for name in ("b.parquet", "b.jsonl", "b.xlsx", "b.tsv"):
        copy(tmp_path / "a.csv", tmp_path / name)
        copy(tmp_path / name, tmp_path / f"{name}.csv")
        assert (tmp_path / f"{name}.csv").read_text() == f"title,{column}\nA,in press\nB,2020\n"
        assert [row["year"] for row in read_rows(tmp_path / name)] == [None, 2020]


@pytest.mark.parametrize("year", [20210315, 2020.5, -5, 12345])
def test_a_number_that_is_no_year_stays_as_it_is(tmp_path, year):
    (tmp_path / "a.jsonl").write_text(json.dumps({"title": "A", "year": year}) + "\n")
    for name in ("b.csv", "b.xlsx", "b.parquet", "b.jsonl"):
        copy(tmp_path / "a.jsonl", tmp_path / name)
        copy(tmp_path / name, tmp_path / f"{name}.csv")
        assert (tmp_path / f"{name}.csv").read_text() == f"title,year\nA,{year}\n"
    copy(tmp_path / "a.jsonl", tmp_path / "b.ris")
    assert f"PY  - {year}\n" in (tmp_path / "b.ris").read_text()


def test_a_date_without_the_year_does_not_stand_for_it(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Title,Date,Year\nA,03/12/2023,2015\nB,12 Jan,2016\nC,2017 May,2017\n"
    )
    copy(tmp_path / "a.csv", tmp_path / "a.nbib")
    rows = list(read_rows(tmp_path / "a.nbib"))
    assert [(row["year"], row["date"]) for row in rows] == [
        (2015, "2015 03/12/2023"),
        (2016, "2016 12 Jan"),
        (2017, "2017 May"),
    ]


def test_text_in_brackets_is_text(tmp_path):
    for text in ("[No authors listed]", "[Asthma]; [Parkinson's disease]; [Crohn's]"):
        (tmp_path / "a.csv").write_text(f"title,authors,keywords\nA,{text},{text}\n")
        copy(tmp_path / "a.csv", tmp_path / "a.ris")
        (row,) = read_rows(tmp_path / "a.ris")
        assert row["authors"] == row["keywords"] == text.split("; ")


NAMES = {
    "Roe, Jane and Doe, Kim": ["Roe, Jane", "Doe, Kim"],  # of Rayyan
    "van der Roe J, Doe-Smith KL, Doe K Jr.": ["van der Roe J", "Doe-Smith KL", "Doe K Jr"],
    "Roe, Jane; Doe, Kim": ["Roe, Jane", "Doe, Kim"],
    "Roe, J": ["Roe, J"],
    "Centers for Disease Control and Prevention": ["Centers for Disease Control and Prevention"],
    "Roe, Jane, Doe, Kim": ["Roe, Jane, Doe, Kim"],
}


@pytest.mark.parametrize("authors", NAMES)
@pytest.mark.parametrize("suffix", ["ris", "bib", "enw", "nbib"])
def test_people_in_one_cell_become_authors(tmp_path, authors, suffix):
    (tmp_path / "a.csv").write_text(f'Title,Authors\nA,"{authors}"\n')
    copy(tmp_path / "a.csv", tmp_path / f"b.{suffix}")
    (row,) = read_rows(tmp_path / f"b.{suffix}")
    assert row["authors"] == NAMES[authors]


def test_names_in_parts_become_authors(tmp_path):
    (tmp_path / "a.json").write_text(
        '[{"title": "A", "author": [{"family": "Example", "given": "Anna"}, {"literal": "Group"}]},'
        ' {"title": "B", "authorships": [{"author": {"display_name": "Bert Sample"}}]}]'
    )
    copy(tmp_path / "a.json", tmp_path / "a.ris")
    assert [row["authors"] for row in read_rows(tmp_path / "a.ris")] == [
        *(["Example, Anna", "Group"], ["Bert Sample"]),
    ]


def test_an_inverted_index_is_an_abstract_in_every_table(tmp_path):
    (tmp_path / "a.json").write_text(
        '[{"title": "A", "abstract_inverted_index": {"mice": [0, 2], "and": [1]}},'
        ' {"title": "B", "abstract_inverted_index": {"rats": [0]}}]'
    )
    for name in ("b.csv", "b.jsonl", "b.parquet", "b.xlsx", "b.ris"):
        copy(tmp_path / "a.json", tmp_path / name)
        assert [row["abstract"] for row in read_rows(tmp_path / name)] == ["mice and mice", "rats"]


TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0")
    | st.sampled_from(";,|{}\\%\"'\r\n\t-&<>@#$~^_=[]"),
    max_size=20,
)
HEADERS = TEXT.map(str.strip).filter(bool)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "title": TEXT.map(lambda text: f"Title {text} end"),
            "abstract": st.none() | TEXT,
            "year": st.none() | st.integers(1500, 2099),
            "pmid": st.none() | st.integers(1, 99_999_999).map(str),
            "journal": st.none() | TEXT,
            "labels": st.lists(TEXT.map(clean).filter(bool), max_size=3),
        }
    ),
    min_size=1,
    max_size=3,
)
WRITABLE = [
    *("a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.xlsx", "a.ris", "a.nbib", "a.enw", "a.bib"),
    *("a.csv.gz", "excel.csv"),
]


@pytest.mark.parametrize("name", WRITABLE)
@settings(max_examples=30)
@given(rows=ROWS, headers=st.lists(HEADERS, max_size=3, unique_by=str.lower), data=st.data())
def test_whatever_is_written_is_read_again_equal(name, rows, headers, data):
    from studytag.files.fields import column_field, column_key
    from studytag.files.values import model_text, says_nothing

    headers = [h for h in headers if column_field(h) is None and column_key(h) != "date"]
    rows = [row | {header: data.draw(TEXT) for header in headers} for row in rows]
    lined = name in ("a.ris", "a.nbib", "a.enw", "a.bib")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        with open_writer(path, excel=name == "excel.csv") as writer:
            for row in rows:
                writer.write(row)
        back = list(read_rows(path))
    assert len(back) == len(rows)
    for was, now in zip(rows, back, strict=True):
        for column, value in was.items():
            found = now.get(column)
            if column in ("title", "abstract", "journal"):
                value = None if says_nothing(value) and not lined else value
                value = (
                    model_text(clean(value) if lined else value) if column != "journal" else value
                )
                assert clean(found) == clean(value)
            elif column in headers and lined:
                assert (found or "") == value
            else:
                assert (found or None) == (value or None), column
