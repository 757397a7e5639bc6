"""Delimited text as programs write it, beyond what any standard says."""

from __future__ import annotations

from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import UnreadRow, open_writer, read_rows, tagged

WEB_OF_SCIENCE = [
    "PT\tTI\tAB\tUT",
    'J\t"Healthy" ageing in towns\tIt was "safe".\tWOS:1',
    'J\tA "wide opening\t"Never closed\tWOS:2',
    'J\t"A quotation"\tPlain.\tWOS:3',
]


def read(tmp_path: Path, text: str, name: str = "a.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return list(read_rows(path, errors="return"))


def texts(rows):
    return [(row["title"], row["abstract"]) for row in rows]


@pytest.mark.parametrize("end", ["\t\r\n", "\n"])
def test_quotes_of_tab_separated_text_are_letters_where_they_quote_nothing(tmp_path, end):
    """Web of Science puts no quotes around its cells and leaves those in them as they are."""
    rows = read(tmp_path, WEB_OF_SCIENCE[0] + "\n" + end.join([*WEB_OF_SCIENCE[1:], ""]), "a.txt")
    assert texts(rows) == [
        ('"Healthy" ageing in towns', 'It was "safe".'),
        ('A "wide opening', '"Never closed'),
        ('"A quotation"', "Plain."),
    ]
    with open_writer(tmp_path / "b.tsv") as writer:
        for row in rows:
            writer.write(tagged(row | {"note": "two\nlines"}, {"studytag_labels": ["RCT"]}))
    lines = (tmp_path / "b.tsv").read_text().splitlines()
    assert lines[1:] == [f"{line}\ttwo lines\tRCT" for line in WEB_OF_SCIENCE[1:]]
    assert texts(read_rows(tmp_path / "b.tsv")) == texts(rows)


@pytest.mark.parametrize("cell", ['"two\nlines"', '"a\ttab"', '"a ""word"""'])
def test_quotes_that_are_needed_are_quotes(tmp_path, cell):
    first, second = read(tmp_path, f'title\tabstract\n{cell}\tA\n"B" C\tD\n', "a.tsv")
    assert first["title"] == cell[1:-1].replace('""', '"')
    assert isinstance(second, UnreadRow)


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ('title\n"A trial of\nzirconia crowns"\n', ["A trial of\nzirconia crowns"]),
        ('title\tabstract\nT\t"part one\npart\ttwo"\n', ["T"]),
        ('title\tabstract\n"A, B"\t"C"\n"D"\tE\n"Green" gold\tx\n', ["A, B", "D", None]),
    ],
)
def test_quotes_are_letters_only_where_nothing_else_is_likely(tmp_path, text, titles):
    assert [row.get("title") for row in read(tmp_path, text, "a.tsv")] == titles


def test_a_wrong_quote_in_a_file_of_quoted_cells_makes_no_letter_of_the_others(tmp_path):
    first, second = read(tmp_path, '"title"\t"abstract"\n"A"\t"B"\n"C "D" E"\t"F"\n', "a.tsv")
    assert first["title"] == "A"
    assert isinstance(second, UnreadRow)


def test_cells_that_excel_leaves_out_at_the_end_of_rows(tmp_path):
    """Where the last cells of sixteen rows are empty, Excel's CSV has no delimiters for them."""
    text = "PMID,Title,Abstract,Notes,Reviewer\r\n1,A,B,,Me\r\n2,C,D,x\r\n3,E,F,y\r\n4,G,H\r\n"
    rows = read(tmp_path, text)
    assert texts(rows) == [("A", "B"), ("C", "D"), ("E", "F"), ("G", "H")]
    assert [row["Notes"] for row in rows] == [None, "x", "y", None]
    with open_writer(tmp_path / "b.csv") as writer:
        for row in rows:
            writer.write(tagged(row, {"studytag_labels": []}))
    with (tmp_path / "b.csv").open(newline="") as stream:
        assert stream.read().splitlines()[-1] == "4,G,H,,,"


BROKEN = {
    "a line end without quotes": ("1,A,B\nmore text,x,Me\n2,C,D,,Me\n", [True, True, False]),
    "as Excel ends no row": ("1,A,B,x\nb, c, d, e, f\n", [True, False]),
    "a blank line": ("1,A,B\n\nmore text,x,Me\n2,C,D,,Me\n", [True, True, False]),
    "cut off": ("1,A,B,,Me\n2,C,D", [False, True]),
    "without an abstract": ("1,A\n2,C,D,,Me\n", [True, False]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_rows_in_pieces_are_not_filled(tmp_path, case):
    text, unread = BROKEN[case]
    rows = read(tmp_path, f"PMID,Title,Abstract,Notes,Reviewer\n{text}")
    assert [isinstance(row, UnreadRow) for row in rows] == unread
    assert "quote cells that contain line ends" in next(filter(None, map(reason, rows)))


def reason(row):
    return getattr(row, "reason", "")


def test_the_header_of_a_file_that_was_joined_is_no_article(tmp_path):
    first, header, second = read(tmp_path, "Title,Abstract\nA,B\n\ufeffTitle,Abstract\nC,D\n")
    assert texts([first, second]) == [("A", "B"), ("C", "D")]
    assert "line 3: repeats the header" in reason(header)


def test_what_was_read_before_a_file_breaks_off_is_handed_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('title,abstract\nA,B\n"C,D\n')
    rows = read_rows(path)
    assert next(rows)["title"] == "A"
    with pytest.raises(InputError, match="close every quote"):
        next(rows)


def test_row_names_of_r_have_no_heading(tmp_path):
    quoted = read(tmp_path, '"title","abstract"\n"1","A","B"\n"2","C",NA\n')
    tabs = read(tmp_path, "title\tabstract\n1\tA\tB\n2\tC\tNA\n", "a.tsv")
    assert texts(quoted) == texts(tabs) == [("A", "B"), ("C", None)]
    unquoted = read(tmp_path, "title,authors\n1,Roe,J\n2,Doe,J\n")  # no names, but delimiters
    assert all(isinstance(row, UnreadRow) for row in unquoted)
    # Here the heading may be missing that of the last column.
    unclear = read(tmp_path, "No\tTitle\tAbstract\n1\tA\tB\tin\n2\tC\tD\tout\n", "a.tsv")
    assert all(isinstance(row, UnreadRow) for row in unclear)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_rows_of_old_macs_hold_line_feeds(tmp_path, encoding):
    """Excel for Mac ends rows with a carriage return, and lines of a cell with a line feed."""
    path = tmp_path / "a.csv"
    path.write_bytes('title,abstract\rA,"one\ntwo"\rB,C\r'.encode(encoding))
    assert texts(read_rows(path)) == [("A", "one\ntwo"), ("B", "C")]
    path.write_bytes('"title\r",abstract\nA,B\n'.encode(encoding))
    assert texts(read_rows(path)) == [("A", "B")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.enw", "%0 Journal Article\r%T A\n%X b\n\n%0 Journal Article\n%T C\n%X d\n"),
        ("a.jsonl", '{"title": "A",\r "abstract": "b"}\n{"title": "C", "abstract": "d"}\n'),
        ("a.nbib", "\rPMID- 1\nTI  - A\nAB  - b\n\nPMID- 2\nTI  - C\nAB  - d\n"),
    ],
)
def test_a_stray_carriage_return_makes_no_old_mac(tmp_path, name, text):
    assert [row["title"] for row in read(tmp_path, text, name)][1:] == ["C"]
