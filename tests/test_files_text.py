"""What tools call titles, abstracts, years and pmids: text that is there is never ignored."""

from __future__ import annotations

import gzip
import json
import logging
import re
import zipfile
from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import each_notice_once, open_writer, read_rows, source_files

MEDLINE = "PMID- 90000001\nTI  - A trial\nAB  - We randomised\n      mice.\n"
PROSE = "We gave the drug to the mice and the mice were better than those without it in the end."


def rows(tmp_path: Path, name: str, content: str | bytes, **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(path, **options))


def one(tmp_path: Path, name: str, content: str | bytes, *columns: str):
    (row,) = rows(tmp_path, name, content)
    return tuple(row.get(column) for column in columns)


TITLE_COLUMNS = [
    *("Title", "TI", "Article Title", "article_title", "Title Primary", "Document Title"),
    *("Item Title", "primary_title", "Titles", "Original Title", "display_name", "Título"),
    *("ï..Title", "X.U.FEFF.Title", "ï»¿title"),  # of R and others, with a byte-order mark
]
ABSTRACT_COLUMNS = [
    *("Abstract", "AB", "Abstract Note", "abstracts", "notes_abstract", "abstractText"),
    *("Abstract (English)", "N2", "ABSTRACT", "Resumen", "Abstract Text"),
]


@pytest.mark.parametrize("column", TITLE_COLUMNS)
def test_titles_under_every_name(tmp_path, column):
    assert one(tmp_path, "a.csv", f'"Key","{column}"\nK1,A trial\n', "title") == ("A trial",)


@pytest.mark.parametrize("column", ABSTRACT_COLUMNS)
def test_abstracts_under_every_name(tmp_path, column):
    content = f'"Key","Title","{column}"\nK1,A trial,We randomised\n'
    assert one(tmp_path, "a.csv", content, "title", "abstract") == ("A trial", "We randomised")


def test_the_first_filled_column_of_each_row_is_used(tmp_path):
    content = (
        "record_id,title,primary_title,notes_abstract\n"
        "1,,A trial,We randomised\n2,Own,Other,\n3,NA,Third,nan\n"
    )
    found = [(row["title"], row["abstract"]) for row in rows(tmp_path, "a.csv", content)]
    assert found == [("A trial", "We randomised"), ("Own", None), ("Third", None)]


RIS = {
    "TY  - JOUR\nTI  - \nT1  - Real title\nAB  - \nN2  - Real abstract\nER  - \n": (
        *("Real title", "Real abstract"),
    ),
    "TI  - Before\nAB  - Its text\nTY  - JOUR\nER  - \n": ("Before", "Its text"),
    "TY  - JOUR\nTI  - A trial\nAB - Forty people\nER  - \n": ("A trial", "Forty people"),
    "TY  -JOUR\nTI  -Title\nAB  -Text\nER  -\n": ("Title", "Text"),
    "TY - JOUR\nTI - Title\nAB - Text\nER -\n": ("Title", "Text"),
    "TY  - JOUR\nTI  - Title\nAB  - Text\nER\n": ("Title", "Text"),
    "1.\nTY  - JOUR\r\nTI  - Title\r\nAB  - Text\r\n  and more\r\nER  - \r\n": (
        *("Title", "Text and more"),
    ),
    "TY  - JOUR\nTI  - Title\nAB  - One\n\nTwo\nCT - scans were made\nER  - \n": (
        *("Title", "One Two CT - scans were made"),
    ),
}


@pytest.mark.parametrize("content", RIS)
def test_ris_as_tools_write_it(tmp_path, content):
    assert one(tmp_path, "a.ris", content, "title", "abstract") == RIS[content]


def test_a_keyword_that_looks_like_the_end(tmp_path):
    """EndNote writes each keyword on a line of its own; ER stands for estrogen receptors."""
    content = "TY  - JOUR\nTI  - A\nKW  - HER2\nER\nPR\nER  - \nTY  - JOUR\nTI  - B\nER\n\n"
    first, second = rows(tmp_path, "a.ris", content)
    assert first["keywords"] == ["HER2", "ER", "PR"]
    assert second["title"] == "B"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, end):
    content = (MEDLINE + "\n" + MEDLINE.replace("01", "02")).replace("\n", end)
    found = [(row["pmid"], row["abstract"]) for row in rows(tmp_path, "a.nbib", content)]
    assert found == [("90000001", "We randomised mice."), ("90000002", "We randomised mice.")]


def test_medline_values_without_a_space(tmp_path):
    content = "PMID-22664220\nTI  -Whole title\nAB  -Whole text\n"
    assert one(tmp_path, "a.nbib", content, "pmid", "title", "abstract") == (
        *("22664220", "Whole title", "Whole text"),
    )


def test_other_abstracts_are_used_english_first(tmp_path):
    content = (
        "PMID- 90000001\nTI  - A\nOAB - Ein Text\nOABL- ger\nOAB - A text\nOABL- eng\n\n"
        "PMID- 90000002\nTI  - B\nOAB - Nur dieser\nOABL- ger\n"
    )
    assert [row["abstract"] for row in rows(tmp_path, "a.nbib", content)] == [
        *("A text", "Nur dieser"),
    ]
    other = '<OtherAbstract Type="P" Language="{}"><AbstractText>{}</AbstractText></OtherAbstract>'
    content = (
        "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID><Article>"
        "<ArticleTitle>A</ArticleTitle></Article>"
        f"{other.format('ger', 'Ein Text')}{other.format('eng', 'A text')}"
        "</MedlineCitation></PubmedArticle></PubmedArticleSet>"
    )
    assert one(tmp_path, "a.xml", content, "abstract") == ("A text",)


def test_an_ignored_column_of_prose_is_told(tmp_path, caplog):
    content = f"title,abstract,What they did\nA trial,,{PROSE}\nAnother,,\n"
    assert len(rows(tmp_path, "a.csv", content)) == 2
    assert "no row has any abstract, but column 'What they did' holds text" in caplog.text
    with pytest.raises(InputError) as caught:
        rows(tmp_path, "a.csv", content, refuse_ignored_text=True)
    assert str(caught.value).endswith("; rename it to 'abstract', or give --title-only")
    caplog.clear()
    one_abstract = content + "A third,With text,\n"
    assert len(rows(tmp_path, "a.csv", one_abstract, refuse_ignored_text=True)) == 3
    assert not caplog.records
    ris = f"TY  - JOUR\nTI  - A trial\nX1  - {PROSE}\nER  - \n"
    rows(tmp_path, "a.ris", ris)
    assert "no row has any abstract, but tag 'X1' holds text" in caplog.text


def test_the_log_says_which_column_feeds_which_field(tmp_path, caplog):
    caplog.set_level(logging.INFO, "studytag")
    rows(tmp_path, "a.csv", "Key,Document Title,primary_title,Abstract Note\nK,A,B,C\n")
    assert "title from 'primary_title', else 'Document Title'; abstract from 'Abstract Note'" in (
        caplog.text
    )


PMIDS = {
    "AN  - 90000001": None,  # TRID and EBSCO have 8 digits too
    "AN  - 90000001\nDB  - PubMed": "90000001",
    "AN  - 90000001\nDP  - National Library of Medicine": "90000001",
    "AN  - 90000001\nDB  - MEDLINE\nDP  - EBSCOhost": "90000001",
    "AN  - 90000001\nDB  - ccm\nDP  - EBSCOhost": None,
    "AN  - MEDLINE:90000001": "90000001",
    "C5  - 90000001\nDB  - Embase": "90000001",
    "C5  - 90000001": "90000001",
    "C5  - 90000001\nDB  - Somewhere": None,
    "C2  - 90000001\nUR  - https://www.scopus.com/record?id=1": "90000001",
    "C2  - PMC9000001": None,
    "C3  - PUBMED 90000001,EMBASE 600000001": "90000001",
    "U1  - 90000001[pmid]": "90000001",
    "L2  - http://www.ncbi.nlm.nih.gov/pubmed/90000001": "90000001",
    "M2  - PMID: 90000001": "90000001",
    "UR  - https://pubmed.ncbi.nlm.nih.gov/90000001/": "90000001",
    "UR  - https://example.org/90000001": None,
    "N1  - PMID: 90000001": "90000001",
    "N1  - MEDLINE was searched in 2019": None,
    "N1  - The same trial as PMID: 90000009": None,
}


@pytest.mark.parametrize("lines", PMIDS)
def test_pmids_in_ris(tmp_path, lines):
    content = f"TY  - JOUR\nTI  - A\n{lines}\nER  - \n"
    assert one(tmp_path, "a.ris", content, "pmid") == (PMIDS[lines],)


CSV_PMIDS = {
    ("PMID", "PUBMED 38507184"): "38507184",
    ("Medline PMID", "38507184.0"): "38507184",
    ("PubMed ID", " 38507184 "): "38507184",
    ("Accession Number", "PUBMED 38507184"): "38507184",
    ("Accession Number", "38507184"): None,
    ("Extra", "PMID: 38507184"): "38507184",
    ("Link", "https://pubmed.ncbi.nlm.nih.gov/38507184"): "38507184",
    ("pmid", "made-up-7"): "made-up-7",
    ("pmid", "NA"): None,
}


@pytest.mark.parametrize(("column", "cell"), CSV_PMIDS)
def test_pmids_in_tables(tmp_path, column, cell):
    content = f"title,{column}\nA,{cell}\n"
    assert one(tmp_path, "a.csv", content, "pmid") == (CSV_PMIDS[column, cell],)


YEARS = {
    "2020": 2020,
    "2020.0": 2020,
    "2020 May": 2020,
    "1998 Dec-1999 Jan": 1998,
    "12/05/2019": 2019,
    "20200512": 2020,
    "in press": None,
    "n.d.": None,
    "": None,
}


@pytest.mark.parametrize("column", ["Year", "Publication Year", "Published Year", "PY", "year"])
@pytest.mark.parametrize("text", YEARS)
def test_a_year_never_refuses_a_row(tmp_path, column, text):
    content = f"title,{column}\nA,{text}\n"
    assert one(tmp_path, "a.csv", content, "year") == (YEARS[text],)


def test_a_year_out_of_a_date(tmp_path):
    content = "title,Year,Date\nA,,2019-03-01\nB,2020,2019\n"
    assert [row["year"] for row in rows(tmp_path, "a.csv", content)] == [2019, 2020]
    assert one(tmp_path, "a.ris", "TY  - X\nPY  - soon\nY1  - 2019\nER  - \n", "year") == (2019,)
    for line, year in (("PY  - 2020/05/12/", 2020), ("DA  - 2019-01-01", 2019), ("Y1  - x", None)):
        assert one(tmp_path, "a.ris", f"TY  - JOUR\nTI  - A\n{line}\nER  - \n", "year") == (year,)


def test_what_says_no_year_is_told_once_and_kept(tmp_path, caplog):
    rows(tmp_path, "a.csv", "title,year\nA,in press\nB,soon\n")
    assert len(caplog.records) == 1
    assert "a.csv: line 2: column 'year' holds 'in press', which says no year" in caplog.text


@pytest.mark.parametrize("column", ["Publication Type", "Publication Types", "pub_types"])
def test_types_and_headings_are_lists(tmp_path, column):
    content = f"title,{column},MeSH Terms\nA,Review; Journal Article,Humans; Mice\n"
    assert one(tmp_path, "a.csv", content, "pub_types", "mesh_terms") == (
        *(["Review", "Journal Article"], ["Humans", "Mice"]),
    )


TABLES = {
    "semicolons": "Title;Abstract;Year\nA, b;C, d;2020\n",
    "tabs": "Title\tAbstract\tYear\nA, b\tC, d\t2020\n",
    "told": "sep=;\nTitle;Abstract;Year\nA, b;C, d;2020\n",
    "quoted": 'Title;Abstract;Year\n"A, b";"C, d";"2020"\n',
    "spaces": '"Title", "Abstract", "Year"\n"A, b", "C, d", "2020"\n',
    "preamble": 'Embase export\n"2 results, of 2"\n\nTitle,Abstract,Year\n"A, b","C, d",2020\n',
    "trailing": 'Title,Abstract,Year,\n"A, b","C, d",2020,\n',
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_tools_write_them(tmp_path, kind, encoding):
    content = TABLES[kind].encode(encoding)
    assert one(tmp_path, "a.csv", content, "title", "abstract", "year") == ("A, b", "C, d", 2020)


def test_what_stands_before_the_header_is_told(tmp_path, caplog):
    rows(tmp_path, "a.csv", TABLES["preamble"])
    assert "2 lines before the header are not read: 'Embase export'" in caplog.text


@pytest.mark.parametrize(
    ("name", "record"),
    [("a.ris", "TY  - JOUR\nTI  - A\nER  - \n"), ("a.ciw", "PT J\nTI A\nER\n")],
)
def test_every_line_that_belongs_to_no_record_is_counted(tmp_path, name, record, caplog):
    path = tmp_path / name
    path.write_text(f"{record}one\n{record}2.\ntwo\n{record}three\n")
    assert len(list(read_rows(path))) == 3
    lines = path.read_text().split("\n")
    first, last = (lines.index(text) + 1 for text in ("one", "three"))
    assert [entry.message for entry in caplog.records if "to no record" in entry.message][:2] == [
        f"{path}: line {first}: belongs to no record and is not read: 'one'",
        f"{path}: 3 lines belong to no record and are not read, the last of them line {last}",
    ]
    path.write_text(f"one\n{record}")
    caplog.clear()
    list(read_rows(path))
    assert "belong to no record" not in caplog.text


def test_one_field_a_line_is_refused(tmp_path):
    content = 'TITLE,"A trial"\nAUTHOR NAMES,"X"\nABSTRACT,"We randomised"\n'
    for text in (content, 2 * content):
        with pytest.raises(InputError, match="each line holds a field, not a record"):
            rows(tmp_path, "a.csv", text)


def test_empty_and_repeated_column_names_are_kept_apart(tmp_path):
    (row,) = rows(tmp_path, "a.csv", "title,Notes,,Notes,Notes_2,\nA,1,2,3,4,5\n")
    assert row == {
        "title": "A",
        "Notes": "1",
        "column_3": "2",
        "Notes_3": "3",
        "Notes_2": "4",
        "column_6": "5",
    }


ENCODINGS = {
    "cp1252": ("cp1252", "naïve café – 5 µg"),
    "latin-1": ("cp1252", "Müller und größere Ökonomie"),
    "utf-16": ("utf-16", "naïve café"),
    "utf-16-le": ("utf-16-le", "naïve café in a long enough title"),
    "gb18030": ("", "随机对照试验治疗高血压的疗效观察与分析研究结果显示有效"),
    "cp1251": ("", "Рандомизированное исследование лечения больных артериальной гипертонией"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["a.csv", "a.ris", "a.nbib"])
def test_encodings_are_found_out_with_a_word(tmp_path, encoding, name, caplog):
    said, title = ENCODINGS[encoding]
    text = {
        "a.csv": f"title,n\nPlain,1\n{title},2\n",
        "a.ris": f"TY  - JOUR\nTI  - Plain\nER  - \nTY  - JOUR\nTI  - {title}\nER  - \n",
        "a.nbib": f"PMID- 1\nTI  - Plain\n\nPMID- 2\nTI  - {title}\n",
    }[name]
    found = rows(tmp_path, name, text.encode(encoding))
    assert [row["title"] for row in found] == ["Plain", title]
    assert f"read as {said}" in caplog.text
    assert sum("read as" in record.message for record in caplog.records) == 1
    caplog.clear()
    found = rows(tmp_path, name, text.encode(encoding), encoding=encoding)
    assert [row["title"] for row in found] == ["Plain", title]
    assert not caplog.records


def test_one_line_in_another_encoding_spoils_no_other(tmp_path):
    content = "title\nα-blockade\n".encode() + "café\n".encode("cp1252") + "β-cells\n".encode()
    found = [row["title"] for row in rows(tmp_path, "a.csv", content)]
    assert found == ["α-blockade", "café", "β-cells"]


def test_a_byte_in_another_encoding_spoils_no_other(tmp_path, caplog):
    """A letter that a limit of bytes cut in two, or one pasted in, costs itself alone."""
    lines = [
        "β-blockers ≥5 mg – “in children” cut: ".encode() + b"\xe2\x89",
        "Müller’s naïve ".encode() + b"caf\xe9",
        "Thé vert".encode("cp1252"),
        *["α-blockade ≥ β-cells".encode()] * 3,
    ]
    found = [row["title"] for row in rows(tmp_path, "a.csv", b"\n".join([b"title", *lines]))]
    assert found == [
        "β-blockers ≥5 mg – “in children” cut: \ufffd",
        "Müller’s naïve café",
        "Thé vert",
        *["α-blockade ≥ β-cells"] * 3,
    ]
    notices = [record.getMessage() for record in caplog.records]
    assert ["line 2: UTF-8 but for some bytes" in text for text in notices] == [True, False]
    assert notices[0].endswith("cut: \ufffd")


def test_a_line_in_an_encoding_that_was_found_stays_in_it(tmp_path):
    """Short Thai titles happen to be letters of UTF-8, too."""
    titles = ["การศึกษาแบบย้อนหลังของฟัน", "การผลของ"] * 20
    content = "\n".join(["title", *titles]).encode("tis-620")
    assert [row["title"] for row in rows(tmp_path, "a.csv", content)] == titles


JOINED = {
    "a.ris": "TY  - JOUR\nTI  - {}\nER  - \n",
    "a.enw": "%0 Journal Article\n%T {}\n\n",
    "a.nbib": "PMID- 1\nTI  - {}\n\n",
    "a.ciw": "FN Clarivate Analytics Web of Science\nVR 1.0\nPT J\nTI {}\nER\n\nEF\n",
    "a.jsonl": '{{"title": "{}"}}\n',
}


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_joined_with_their_byte_order_marks(tmp_path, name, encoding, caplog):
    """Exports are joined with `copy` or `cat`: each of them begins with a mark."""
    content = b"".join(JOINED[name].format(title).encode(encoding) for title in "ABC")
    assert [row["title"] for row in rows(tmp_path, name, content)] == ["A", "B", "C"]
    assert "belongs to no record" not in caplog.text


@pytest.mark.parametrize("end", ["ER  - ", "ER  -", "ER  - \ufeff"])
def test_files_of_ris_joined_without_a_line_end(tmp_path, end):
    content = f"TY  - JOUR\nTI  - A\n{end}TY  - BOOK\nTI  - B\nER  - \n"
    found = rows(tmp_path, "a.ris", content)
    assert [(row["title"], row["type_of_reference"]) for row in found] == [
        ("A", "JOUR"),
        ("B", "BOOK"),
    ]
    with open_writer(tmp_path / "b.ris") as writer:
        for row in found:
            writer.write(row)
    assert [row["title"] for row in read_rows(tmp_path / "b.ris")] == ["A", "B"]


def test_byte_order_marks_of_xml(tmp_path):
    document = "\ufeff<?xml version='1.0'?><xml><records>{}</records></xml>"
    record = "<record><titles><title>{}</title></titles></record>"
    one_file = document.format("".join(record.format("x" * count) for count in range(1, 2000)))
    content = one_file + document.format(record.format("B")) + document.format(record.format("C"))
    found = [row["title"] for row in rows(tmp_path, "a.xml", content)]
    assert found == [*("x" * count for count in range(1, 2000)), "B", "C"]


MARKUP = {
    "H<sub>2</sub>O &amp; <i>E. coli</i>": "H2O & E. coli",
    "<p>One</p><p>Two</p>": "One Two",
    "<jats:p>One<jats:sup>2</jats:sup></jats:p>": "One 2",
    "p &lt; 0.05 and b &gt; 3": "p < 0.05 and b > 3",
    "p <0.05, b> 3 and <placebo>": "p <0.05, b> 3 and <placebo>",
    '<span class="x">A</span><br/>B': "A B",
    "&alpha;-blockade AT&T": "α-blockade AT&T",
}


@pytest.mark.parametrize("text", MARKUP)
def test_html_is_cleaned_for_the_model(tmp_path, text):
    content = f"TY  - JOUR\nTI  - {text}\nER  - \n"
    assert one(tmp_path, "a.ris", content, "title") == (MARKUP[text],)


NAMED_WRONGLY = {
    "a.txt": ("TY  - JOUR\nTI  - A\nER  - \n", "A"),
    "b.txt": (MEDLINE, "A trial"),
    "n.txt": ("Record #1 of 1\nProvider: X\n\nTY  - JOUR\nTI  - A\nER  - \n", "A"),
    "c.ris": (MEDLINE, "A trial"),
    "d.nbib": ("TY  - JOUR\nTI  - A\nER  - \n", "A"),
    "e.csv": ("TY  - JOUR\nTI  - A\nER  - \n", "A"),
    "f.txt": ("Title\tAbstract\nA\tB\n", "A"),
    "g.json": ('{"title": "A"}\n{"title": "B"}\n', "A"),
    "h.jsonl": ('[{"title": "A"}]', "A"),
    "i.txt": ("%0 Journal Article\n%T A\n%X B\n", "A"),
    "j.txt": ("FN Clarivate Analytics Web of Science\nVR 1.0\nPT J\nTI A\nER\n\nEF", "A"),
    "k.txt": ("<1>\nTitle\n  A\nAbstract\n  B\n", "A"),
    "l.txt": ("@article{k, title = {A}}\n", "A"),
    "m.xml": (
        "<xml><records><record><titles><title>A</title></titles></record></records></xml>",
        "A",
    ),
}


@pytest.mark.parametrize("name", NAMED_WRONGLY)
def test_formats_are_known_by_their_content(tmp_path, name):
    content, title = NAMED_WRONGLY[name]
    assert rows(tmp_path, name, content)[0]["title"] == title
    assert rows(tmp_path, name + ".gz", gzip.compress(content.encode()))[0]["title"] == title


def test_documents_of_efetch_one_after_another(tmp_path):
    record = (
        "<PubmedArticle><MedlineCitation><PMID>{}</PMID><Article><ArticleTitle>A"
        "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
    )
    page = '<?xml version="1.0"?>\n<PubmedArticleSet>\n{}</PubmedArticleSet>\n'
    pages = [page.format("".join(record.format(10 * p + n) for n in range(9))) for p in range(200)]
    found = [row["pmid"] for row in rows(tmp_path, "a.xml", "\n".join(pages))]
    assert found == [str(10 * p + n) for p in range(200) for n in range(9)]


def test_a_folder_names_every_file_that_it_skips(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("title\nA\n")
    (tmp_path / "b.txt").write_text("TY  - JOUR\nTI  - B\nER  - \n")
    (tmp_path / "c.docx").write_text("something")
    (tmp_path / "manifest.json").write_text('{"name": 1}')
    (tmp_path / "notes.txt").write_text("remember the milk")
    (tmp_path / "~$a.xlsx").write_bytes(b"\x04Some")  # Excel's, while a workbook is open
    (tmp_path / "more").mkdir()
    assert [file.name for file in source_files(tmp_path)] == ["a.csv", "b.txt"]
    assert f"{tmp_path}: not read: c.docx, manifest.json, more, notes.txt, ~$a.xlsx" in caplog.text
    assert not any("~$" in file.name for file in source_files(tmp_path, False, "csv"))


@pytest.mark.parametrize("indent", [None, 1])
def test_json_documents_on_one_line_or_many(tmp_path, indent):
    paper = {"title": "A", "abstract": "B", "references": [{"title": "not this"}]}
    for document, titles in (
        ({"resultList": {"result": [{"title": "A"}, {"title": "B"}]}}, ["A", "B"]),
        ({"title": "My search", "items": [{"title": "A"}]}, ["A"]),
        ({"response": {"docs": [{"title": "A"}]}}, ["A"]),
        (paper, ["A"]),
        ({"title": "A", "references": [{"title": "not this"}]}, ["A"]),
        ({"title": "A", "documents": [{"url": "not this"}]}, ["A"]),
        ([{"title": "A", "abstract": {"We": [0], "did": [1]}}], ["A"]),
        ([paper], ["A"]),
        ({"title": "A", "data": ["x", "y"]}, ["A"]) if indent is None else ([], []),
    ):
        (tmp_path / "a.json").write_text(json.dumps(document, indent=indent))
        assert [row["title"] for row in read_rows(tmp_path / "a.json")] == titles
    for document, message in (
        ({"title": {"0": "A"}, "abstract": {"0": "B"}}, "a table by its columns, .*'records'"),
        ({"Title": {"0": "A"}, "Abstract": {"0": "B"}}, "a table by its columns, not a list"),
        ({"columns": ["title"], "index": [0], "data": [["A"]]}, "a table by its rows, not a list"),
        ({"studies": [{"name": {"title": "A"}}]}, "holds no list of records; export it as"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(document, indent=indent))
        with pytest.raises(InputError, match=message):
            list(read_rows(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text('[{"title": "A", "title": "B"}]')
    with pytest.raises(InputError, match="not JSON .an object has the name 'title' twice.; export"):
        list(read_rows(tmp_path / "a.json"))


def test_records_are_not_taken_for_the_header(tmp_path):
    tables = {
        "rec,title,decision\n1,Abstract,No\n2,B,Yes\n": ["Abstract", "B"],
        "title,abstract\nA,x\nSummary,y\n": ["A", "Summary"],
        "Title,,\nTitle,Abstract,Year\nA,x,2020\n": ["A"],
    }
    for content, titles in tables.items():
        assert [row["title"] for row in rows(tmp_path, "a.csv", content)] == titles
        lines = [line.split(",") for line in content.splitlines()]
        workbook(tmp_path / "a.xlsx", {"Records": lines})
        assert [row["title"] for row in read_rows(tmp_path / "a.xlsx")] == titles


def test_the_sheet_with_the_articles_is_read(tmp_path):
    sheets = {
        "About": [["Title", "Made-up review"]],
        "Records": [["title", "abstract", "year"], ["A", "x", 2020]],
        "More": [["title", "abstract", "year", "doi"], ["B", "y", 2021, "10.1/x"]],
    }
    workbook(tmp_path / "a.xlsx", sheets)
    assert [row["title"] for row in read_rows(tmp_path / "a.xlsx")] == ["A"]
    # Of two that hold records the first is read, even if the other has abstracts.
    sheets = {"Included": [["Title", "Year"], ["A", 2020]], "Excluded": sheets["More"]}
    workbook(tmp_path / "a.xlsx", sheets)
    assert [row["title"] for row in read_rows(tmp_path / "a.xlsx")] == ["A"]
    # A hidden one has been put aside.
    sheets = {
        "Old": [["Title", "Abstract"], ["A", "x"]],
        "New": [["Title", "Abstract"], ["B", "y"]],
    }
    workbook(tmp_path / "a.xlsx", sheets, hidden=("Old",))
    assert [row["title"] for row in read_rows(tmp_path / "a.xlsx")] == ["B"]


def test_a_workbook_that_is_strict_open_xml_is_refused_with_what_to_save(tmp_path):
    workbook(tmp_path / "a.xlsx", {"A": [["Title"], ["A"]]})
    with zipfile.ZipFile(tmp_path / "a.xlsx") as book:
        parts = {name: book.read(name) for name in book.namelist()}
    loose = rb"http://schemas.openxmlformats.org/(spreadsheetml|officeDocument)/2006"
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as book:
        for name, content in parts.items():
            book.writestr(name, re.sub(loose, rb"http://purl.oclc.org/ooxml/\1", content))
    with pytest.raises(InputError, match=r"save it as .* \(\.xlsx\) that is not Strict Open XML"):
        list(read_rows(tmp_path / "a.xlsx"))


@pytest.mark.parametrize("error", ["#NAME?", "#VALUE!", "#REF!", "#N/A"])
def test_errors_of_excel_are_no_text(tmp_path, error):
    """`=` or `-` at the start of an abstract makes it a formula, and Excel writes its error."""
    content = f"title,abstract,Abstract.1\nA,{error},Other\n{error},{error},\n"
    found = rows(tmp_path, "a.csv", content)
    assert [(row["title"], row["abstract"]) for row in found] == [("A", "Other"), (None, None)]
    with open_writer(tmp_path / "b.csv") as writer:
        for row in found:
            writer.write(row)
    assert (tmp_path / "b.csv").read_text() == content


def test_endnote_xml_keeps_every_element(tmp_path):
    parts = (
        "<contributors><tertiary-authors><author>Third, C.</author></tertiary-authors>"
        "</contributors><titles><title>A <i>trial</i></title><secondary-title>A book"
        "</secondary-title><tertiary-title>A series</tertiary-title><alt-title>Another</alt-title>"
        "</titles><periodical><full-title>J Ex</full-title></periodical><section>4</section>"
        "<num-vols>3</num-vols><reprint-edition>r</reprint-edition>"
        "<access-date><style>May</style></access-date>"
    )
    records = f"<record>{parts}</record><record><titles><title>B</title></titles></record>"
    content = f"<xml><records>{records}</records></xml>"
    first, second = rows(tmp_path, "a.xml", content)
    assert list(first) == list(second)
    found = {name: value for name, value in first.items() if value}
    assert found == {
        "title": "A trial",
        "journal": "J Ex",
        "tertiary_authors": ["Third, C."],
        "section": "4",
        "access_date": "May",
        "endnote/titles/secondary-title": "A book",
        "endnote/titles/tertiary-title": "A series",
        "endnote/titles/alt-title": "Another",
        "endnote/num-vols": "3",
        "endnote/reprint-edition": "r",
    }


def test_characters_that_xml_does_not_allow_cost_no_record(tmp_path, caplog):
    """EndNote writes control characters of an abstract as they are, or as references."""
    title = "T a&#x1F;b&#31;c\x02d &#xD835;&#945;&#xA;{}"
    records = "".join(
        f"<record><titles><title>{title.format('x' * count)}</title></titles></record>"
        for count in range(1000)  # so that each piece lies across the end of a block somewhere
    )
    with each_notice_once():
        found = rows(tmp_path, "a.xml", f"<xml><records>{records}</records></xml>")
    assert [row["title"] for row in found] == [
        f"T a b c d α {'x' * n}".strip() for n in range(1000)
    ]
    assert "characters that XML does not allow are read as spaces" in caplog.text
    assert len(caplog.records) == 1
    wide = "<?xml version='1.0' encoding='UTF-16'?><xml><records>{}</records></xml>"
    wide = wide.format("<record><titles><title>Ā trial</title></titles></record>")
    assert one(tmp_path, "b.xml", wide.encode("utf-16"), "title") == ("Ā trial",)
    shifting = wide.replace("UTF-16", "ISO-2022-JP").replace("Ā trial", "日本語の題")
    assert one(tmp_path, "b.xml", shifting.encode("iso-2022-jp"), "title") == ("日本語の題",)


def test_formulas_without_values_are_named(tmp_path, caplog):
    workbook(tmp_path / "a.xlsx", {"Records": [["title", "year"], ["A", 2020], ["B", "=B2+1"]]})
    assert [row["year"] for row in read_rows(tmp_path / "a.xlsx")] == [2020, None]
    assert "sheet 'Records': cell B3 and maybe others hold formulas without" in caplog.text


def workbook(path: Path, sheets: dict[str, list[list]], hidden: tuple[str, ...] = ()) -> None:
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    for name, lines in sheets.items():
        sheet = book.create_sheet(name)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
        for cells in lines:
            sheet.append(cells)
    book.save(path)
