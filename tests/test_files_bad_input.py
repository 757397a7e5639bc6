"""Every mistake in a file is told in one line that names the place and the remedy."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import atomic_folder, atomic_path, open_writer, read_rows


def reading(path: Path, format: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        list(read_rows(path, format))
    return told(caught.value, path)


def writing(path: Path, rows, format: str | None = None) -> str:
    """The message; nothing may be left of the file."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    with pytest.raises(InputError) as caught, open_writer(path, format) as writer:
        list(map(writer.write, rows))
    if before:
        assert sorted(path.parent.iterdir()) == before
    return told(caught.value, path)


def told(error: InputError, path: Path) -> str:
    message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_no_such_file_folder_or_empty_file(tmp_path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    assert reading(tmp_path / "none.csv") == "no such file; check the path"
    assert reading(tmp_path / "folder.csv") == "is not a file; name a file of articles"
    assert reading(tmp_path / "a.csv") == "is empty; give a file with articles"


def test_mistakes_in_the_path_are_told_before_the_first_row(tmp_path):
    with pytest.raises(InputError):
        read_rows(tmp_path / "none.csv")


def test_unknown_formats(tmp_path):
    known = (
        ".parquet, .csv, .tsv, .tab, .xlsx, .xlsm, .jsonl, .ndjson, .json, .ris, .nbib, .medline, "
        ".enw, .ciw, .ovid, .cgi, .bib, .bibtex, .xml"
    )
    for name, suffix in [("a.docx", ".docx"), ("a.pdf.gz", ".pdf"), ("a", "")]:
        (tmp_path / name).write_text("something")
        assert reading(tmp_path / name) == (
            f"unknown suffix {suffix!r}; known are {known} (text also with .gz)"
        )
    formats = (
        "parquet, csv, tsv, xlsx, jsonl, json, ris, nbib, enw, ciw, ovid, bibtex, xml, endnote_xml"
    )
    assert reading(tmp_path / "a.csv", "excel") == f"unknown format 'excel'; known are {formats}"
    packed = "parquet packs itself; unpack it and drop .gz from the name"
    (tmp_path / "a.parquet.gz").write_text("something")
    assert reading(tmp_path / "a.parquet.gz") == packed


CSV_MISTAKES = {
    "name,year\n": "needs a column 'title' or 'abstract', found 'name', 'year'; rename a column",
    "\n\n": "needs a column 'title' or 'abstract', found no column; rename a column",
    "title,abstract\na,b\n\na,b,c\n": (
        "line 4: 3 cells under 2 columns; quote cells that contain the delimiter"
    ),
    'title,abstract\n"two\nlines",b\na\n': (
        "line 4: 1 cells under 2 columns; "
        "quote cells that contain line ends, or add the empty cells"
    ),
    'title,abstract\na,b\nc,"never closed\nd,e\n': (
        "line 3: unexpected end of data; close every quote, and double one inside a cell"
    ),
    'title\n"a "quoted" word"\n': (
        "line 2: ',' expected after '\"'; close every quote, and double one inside a cell"
    ),
}


@pytest.mark.parametrize("text", CSV_MISTAKES)
def test_csv(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert reading(path) == CSV_MISTAKES[text]


def test_text_in_another_encoding_than_the_one_given(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("title\ntitle é\n".encode("latin1"))
    with pytest.raises(InputError) as caught:
        list(read_rows(path, encoding="utf-8"))
    assert told(caught.value, path) == (
        "line 2: not utf-8 text; give its real encoding, or save it as UTF-8"
    )
    for name in ("klingon", "rot13", "base64"):
        with pytest.raises(InputError) as caught:
            list(read_rows(path, encoding=name))
        assert told(caught.value, path) == (
            f"unknown encoding {name!r}; name one such as utf-8, cp1252, utf-16"
        )


BEGINNINGS = {
    "a.csv.gz": "title\n",
    "a.tsv.gz": "title\n",
    "a.jsonl.gz": '{"title": "a"}\n',
    "a.nbib.gz": "TI  - a\n",
    "a.ris.gz": "TY  - JOUR\n",
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_damaged_gzip(tmp_path, name):
    path = tmp_path / name
    packed = gzip.compress(
        (BEGINNINGS[name] + f'{{"title": "{os.urandom(50_000).hex()}"}}\n').encode()
    )
    damaged = "gzip stream is cut off or damaged after line {}; download or compress the file again"
    path.write_bytes(packed[:-20_000])
    assert reading(path) == damaged.format(1)
    path.write_bytes(packed[:-8] + bytes(4) + packed[-4:])  # another checksum
    assert reading(path) in (damaged.format(1), damaged.format(2))
    path.write_bytes(packed[:2] + b"??" + packed[4:])
    assert reading(path) == damaged.format(0)


JSON_MISTAKES = {
    "{'title': 'a'}": (
        "not JSON (Expecting property name enclosed in double quotes); write one object per line"
    ),
    "[": "not JSON (Expecting value); write one object per line",
    "[" * 200_000: "not JSON (cannot be read); write one object per line",
    '["a"]': (
        "a list where an object is needed; "
        'write one object per line: {"title": ..., "abstract": ...}'
    ),
    '{"title": "a", "ids": {"x": 1, "x": 2}}': (
        "not JSON (an object has the name 'x' twice); write one object per line"
    ),
    '{"title": "a", "labels": 3}': "column 'labels' holds 3; write a list of texts",
    '{"title": "cut \\uD83d"}': r"\ud83d is an unpaired surrogate; remove it",
}


@pytest.mark.parametrize("text", JSON_MISTAKES, ids=lambda text: text[:20])
def test_jsonl(tmp_path, text):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"title": "whole \\ud83d\\ude00"}}\n\n{text}\n')
    assert reading(path) == f"line 3: {JSON_MISTAKES[text]}"


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    refusal = "not parquet, or cut off; write or download it again"
    path.write_text("title\n")
    assert reading(path) == refusal
    pq.write_table(pa.table({"title": [os.urandom(50).hex() for _ in range(5000)]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    assert reading(path) == refusal
    path.write_bytes(whole[:4] + bytes(50_000) + whole[50_004:])
    assert reading(path) == "damaged parquet after row 0; write or download it again"
    pq.write_table(pa.table({"text": ["a"]}), path)
    assert reading(path) == "needs a column 'title' or 'abstract', found 'text'; rename a column"


def test_ris(tmp_path):
    path = tmp_path / "a.ris"
    path.write_text("<html>\n")
    assert reading(path) == (
        "no record in it; a RIS record begins with 'TY  - ' and ends with 'ER  - '"
    )
    path.write_text("TY  - JOUR\nTI  - a\nER  - \nTY  - JOUR\nTI  - cut\n")
    assert reading(path) == "line 5: the record before has no end; close it with a line 'ER  - '"
    path.write_text("TY  - JOUR\nTI  - a\nTY  - JOUR\nTI  - b\nER  - \n")
    assert reading(path) == "line 3: the record before has no end; close it with a line 'ER  - '"


def test_nbib(tmp_path):
    path = tmp_path / "a.nbib"
    remedy = "save it from PubMed in PubMed format"
    path.write_text("\n\n")
    assert reading(path) == f"no record in it; {remedy}"
    path.write_text("OWN - NLM\n")
    assert reading(path) == f"record 1 has no PMID, TI or AB line; {remedy}"
    path.write_text("      continues nothing\n")
    assert reading(path) == f"no record in it; {remedy}"


def test_formats_that_are_only_read(tmp_path):
    only = "is only read; write one of parquet, csv, tsv, xlsx, jsonl, ris, nbib, enw, bibtex"
    assert writing(tmp_path / "a.xml.gz", []) == f"xml {only}"
    assert writing(tmp_path / "a.ciw", []) == f"ciw {only}"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz"])
def test_a_new_column_in_a_later_row(tmp_path, name):
    (tmp_path / "other").touch()
    assert writing(tmp_path / name, [{"title": "a", "n": 1}, {"title": "b", "doi": "x"}]) == (
        "row 2: column 'doi' is not in the first row; "
        "give every row the same columns, or write .jsonl"
    )


def test_parquet_values_that_do_not_fit(tmp_path):
    (tmp_path / "other").touch()
    path = tmp_path / "a.parquet"
    fix = "; give the column one type"
    rows = [{"title": "a", "n": 1}] * 9_999
    odd = {"title": "a", "n": "one"}
    assert writing(path, [*rows, odd]) == (
        f"row 10000: column 'n' holds 'one', unlike the rows before it{fix}"
    )
    assert writing(path, [*rows, *rows, odd]) == (
        f"row 19999: column 'n' holds 'one', which is not int64{fix}"
    )
    assert writing(path, [{"title": "a"}, {"title": 5}]) == (
        f"row 2: column 'title' holds 5, which is not string{fix}"
    )
    text_for_list = writing(path, [{"title": "a", "labels": "RCT"}])
    assert text_for_list.startswith("row 1: column 'labels' holds 'RCT', which is not list<")
    assert writing(path, [{"title": "a"}] * 10_000 + [{"title": "b", "doi": "x"}]) == (
        "row 10001: column 'doi' is not in the first 10000 rows; "
        "give every row the same columns, or write .jsonl"
    )


def test_numbers_json_cannot_say(tmp_path):
    (tmp_path / "other").touch()
    rows = [{"title": "a"}, {"title": "b", "score": float("inf")}]
    assert writing(tmp_path / "a.jsonl", rows).startswith("row 2: Out of range float values")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "a.csv"
    assert writing(below, []).startswith("cannot be written (")
    assert writing(tmp_path, [], "csv") == "is not a file; name a file to write"
    device = Path(os.devnull)
    assert writing(device, [], "csv") == "is not a file; name a file to write"
    assert device.is_char_device()


def test_folders_that_must_not_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught, atomic_folder(tmp_path / "file"):
        pass
    assert told(caught.value, tmp_path / "file") == "is not a folder; name a folder to write"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(InputError) as caught, atomic_folder(tmp_path):
        pass
    assert "is or holds the current folder" in told(caught.value, tmp_path)
    assert (tmp_path / "file").is_file()


def test_an_unwritable_folder(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"), atomic_path(tmp_path / "a"):
        pass
