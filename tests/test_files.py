"""Reading and writing files of articles. All records are made up."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studytag.files import (
    atomic_folder,
    count_rows,
    open_writer,
    read_rows,
    write_json_atomically,
    write_text_atomically,
)
from studytag.records import LIST_COLUMNS

ROWS = [
    {
        "pmid": "90000001",
        "title": 'Fictitious "trial", α-blockade\nin two lines',
        "abstract": "BACKGROUND: none; METHODS: none.",
        "year": 2020,
        "journal": "Journal of Examples",
        "pub_types": ["Journal Article", "Randomized Controlled Trial"],
        "mesh_terms": ["Cells, Cultured", "Humans"],
        "labels": [],
        "score": 0.25,
    },
    {
        "pmid": "90000002",
        "title": "Second",
        "abstract": None,
        "year": None,
        "journal": None,
        "pub_types": [],
        "mesh_terms": ["Animals"],
        "labels": ["Animal"],
        "score": 1.0,
    },
]


def write(path: Path, rows) -> None:
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)


@pytest.mark.parametrize(
    "name",
    ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz", "a.ndjson"],
)
def test_tables_come_back_as_they_were_written(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    write(path, ROWS)
    back = list(read_rows(path))
    if ".csv" in name or ".tsv" in name:  # text has no floats
        back = [row | {"score": float(row["score"])} for row in back]
    assert back == ROWS
    assert [list(row) for row in back] == [list(row) for row in ROWS]
    assert os.listdir(path.parent) == [name]
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_the_same_rows_give_the_same_gzip_bytes(tmp_path):
    write(tmp_path / "a.jsonl.gz", ROWS)
    write(tmp_path / "b.jsonl.gz", ROWS)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_the_format_may_be_given(tmp_path):
    path = tmp_path / "articles.data"
    with open_writer(path, format="tsv") as writer:
        writer.write({"title": "One"})
    assert path.read_text() == "title\nOne\n"
    assert list(read_rows(path, format="tsv")) == [{"title": "One"}]


def test_only_parquet_tells_its_number_of_rows(tmp_path):
    write(tmp_path / "a.parquet", ROWS)
    write(tmp_path / "a.csv", ROWS)
    assert count_rows(tmp_path / "a.parquet") == 2
    assert count_rows(tmp_path / "a.csv") is None


def test_csv_cells_become_typed(tmp_path):
    path = tmp_path / "a.csv"
    text = (
        'PMID,TI,Abstract,year,mesh_terms,note\r\n7,"A, B",,2019.0,"Cells, Cultured; Mice ;",NA\r\n'
    )
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert list(read_rows(path)) == [
        {
            "pmid": "7",
            "title": "A, B",
            "abstract": None,
            "year": 2019,
            "mesh_terms": ["Cells, Cultured", "Mice"],
            "note": "NA",
        }
    ]


def test_lists_as_pandas_writes_them_to_csv(tmp_path):
    pandas = pytest.importorskip("pandas")
    headings = ["Cohort Studies", "Alzheimer's Disease", "Human"]
    table = pandas.DataFrame({"title": ["T", "U"], "labels": [headings, []]})
    table.to_csv(tmp_path / "lists.csv", index=False)
    table["labels"] = table["labels"].map(lambda items: pandas.Series(items, dtype=str).to_numpy())
    table.to_csv(tmp_path / "arrays.csv", index=False)
    for name in ("lists.csv", "arrays.csv"):
        assert [row["labels"] for row in read_rows(tmp_path / name)] == [headings, []]


def test_a_column_with_the_canonical_name_is_not_displaced(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Title,title\nother,mine\n")
    assert list(read_rows(path)) == [{"Title": "other", "title": "mine"}]


def test_quoted_lines_long_cells_and_blank_lines_in_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('title,abstract\n\n"two\nlines",' + "x" * 200_000 + "\n\n")
    [row] = read_rows(path)
    assert row["title"] == "two\nlines"
    assert len(row["abstract"]) == 200_000


def test_a_carriage_return_survives_csv(tmp_path):
    write(tmp_path / "a.csv", [{"title": "a\rb\r\nc", "n\r": 1}])
    assert list(read_rows(tmp_path / "a.csv")) == [{"title": "a\rb\r\nc", "n\r": "1"}]


def test_jsonl_accepts_strings_for_lists_and_not_a_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"Title": "T", "labels": "RCT; Human", "year": "2001", "score": NaN}\n\n')
    assert list(read_rows(path)) == [
        {"title": "T", "labels": ["RCT", "Human"], "year": 2001, "score": None}
    ]


def test_jsonl_keeps_letters_and_takes_numpy_values(tmp_path):
    import numpy as np

    path = tmp_path / "a.jsonl"
    write(
        path, [{"title": "β-cells", "p": np.float32(0.5), "all": np.arange(2), "x": float("nan")}]
    )
    assert path.read_text("utf-8") == '{"title": "β-cells", "p": 0.5, "all": [0, 1], "x": null}\n'


def test_parquet_of_pandas_habits(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {"PMID": [90000001.0, float("nan")], "Title": ["a", None], "year": [2020.0, None]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [
        {"pmid": "90000001", "title": "a", "year": 2020},
        {"pmid": None, "title": None, "year": None},
    ]


def test_parquet_columns_empty_at_first_take_text_later(tmp_path):
    import pyarrow.parquet as pq

    first = {"title": "t", "year": None, "labels": [], "note": None, "tags": []}
    later = {"title": "t", "year": 2021, "labels": ["RCT"], "note": "late", "tags": ["x"]}
    path = tmp_path / "a.parquet"
    write(path, [first] * 10_000 + [later])
    file = pq.ParquetFile(path)
    assert file.num_row_groups == 2
    assert [str(type_) for type_ in file.schema_arrow.types] == [
        *("string", "int32"),
        *("list<element: string>", "string", "list<element: string>"),
    ]
    assert list(read_rows(path))[-1] == later


def test_no_rows_give_an_empty_table_with_the_known_columns(tmp_path):
    import pyarrow.parquet as pq

    write(tmp_path / "a.parquet", [])
    assert set(LIST_COLUMNS) < set(pq.read_schema(tmp_path / "a.parquet").names)
    assert list(read_rows(tmp_path / "a.parquet")) == []


RIS = """1.
TY  - JOUR
AU  - Example, A.
AU  - Sample, B.
T1  - A fictitious cohort
N2  - First line
  continued here.
JO  - J Examples
PY  - 2018/05/12/
AN  - 90000003
DB  - PubMed
KW  - caries
KW  - studytag: RCT
M2  - odd
DO  - 10.0000/made-up
ER  -

2.
TY  - BOOK
TI  - A book
AN  - L200
ER  - """


def test_ris_fields_become_columns(tmp_path):
    path = tmp_path / "a.ris"
    path.write_text(RIS)
    first, second = read_rows(path)
    assert first == {
        "title": "A fictitious cohort",
        "abstract": "First line continued here.",
        "journal": "J Examples",
        "year": 2018,
        "pmid": "90000003",
        "type_of_reference": "JOUR",
        "authors": ["Example, A.", "Sample, B."],
        "date": "2018/05/12/",
        "keywords": ["caries", "studytag: RCT"],
        "doi": "10.0000/made-up",
        "M2": "odd",
        "accession_number": None,
        "name_of_database": "PubMed",
    }
    assert list(second) == list(first)
    assert (second["title"], second["pmid"], second["accession_number"]) == ("A book", None, "L200")


def test_ris_is_written_with_labels_as_keywords(tmp_path):
    (tmp_path / "a.ris").write_text(RIS)
    rows = [row | {"labels": ["Cohort", "Human"]} for row in read_rows(tmp_path / "a.ris")]
    write(tmp_path / "b.ris", rows)
    lines = (tmp_path / "b.ris").read_text().splitlines()
    assert lines[0] == "TY  - JOUR"
    keywords = [line for line in lines[: lines.index("")] if line.startswith("KW")]
    assert keywords == ["KW  - caries", "KW  - studytag: Cohort", "KW  - studytag: Human"]
    back = list(read_rows(tmp_path / "b.ris"))
    kept = set(rows[0]) - {"labels", "keywords"}
    assert [{k: row[k] for k in kept} for row in back] == [{k: r[k] for k in kept} for r in rows]


def test_rows_of_other_formats_become_ris(tmp_path):
    row = ROWS[0] | {"authors": "Example, A.; Sample, B.", "labels": ["RCT"]}
    write(tmp_path / "a.ris", [row])
    text = (tmp_path / "a.ris").read_text("utf-8")
    for line in (
        'TI  - Fictitious "trial", α-blockade in two lines',
        "PY  - 2020",
        "AN  - 90000001",
        "T2  - Journal of Examples",
        "AU  - Sample, B.",
        "KW  - Cells, Cultured",
        "KW  - studytag: RCT",
    ):
        assert line in text.splitlines()


NBIB = """
PMID- 90000004
TI  - A fictitious study of
      cells.
AB  - OBJECTIVE: none. RESULTS:
      none either.
DP  - 1998 Dec-1999 Jan
JT  - Journal of examples
TA  - J Ex
PT  - Journal Article
PT  - Comparative Study
LA  - eng
MH  - *Cells, Cultured/drug effects/*metabolism
MH  - Cells, Cultured
MH  - Humans

PMID- 90000005
TT  - Ein Titel
DP  - Winter
DEP - 20030102
TA  - J Ex
"""


def test_nbib_gives_the_columns_of_pubmed_xml(tmp_path):
    (tmp_path / "a.nbib").write_text(NBIB)
    assert list(read_rows(tmp_path / "a.nbib")) == [
        {
            "pmid": "90000004",
            "title": "A fictitious study of cells.",
            "abstract": "OBJECTIVE: none. RESULTS: none either.",
            "year": 1998,
            "journal": "Journal of examples",
            "pub_types": ["Journal Article", "Comparative Study"],
            "mesh_terms": ["Cells, Cultured", "Humans"],
            "language": "eng",
            "date": "1998 Dec-1999 Jan",
            "journal_abbreviation": "J Ex",
            "mesh_indexing": [
                "*Cells, Cultured/drug effects/*metabolism",
                "Cells, Cultured",
                "Humans",
            ],
            "date_electronic": None,
        },
        {
            "pmid": "90000005",
            "title": "Ein Titel",
            "abstract": None,
            "year": 2003,
            "journal": "J Ex",
            "pub_types": [],
            "mesh_terms": [],
            "language": None,
            "date": "Winter",
            "journal_abbreviation": "J Ex",
            "mesh_indexing": [],
            "date_electronic": "20030102",
        },
    ]


@pytest.mark.parametrize("name", ["a.ris.gz", "a.nbib.gz"])
def test_text_formats_are_read_gzipped(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress((RIS if "ris" in name else NBIB).encode()))
    assert len(list(read_rows(tmp_path / name))) == 2


def test_a_failed_write_leaves_the_previous_file_and_nothing_else(tmp_path):
    for name in ("a.parquet", "a.csv.gz", "a.jsonl", "a.ris"):
        path = tmp_path / name
        write(path, ROWS)
        before = path.read_bytes()
        with pytest.raises(ZeroDivisionError):
            write(path, (ROWS[i // 10_000] if i < 10_001 else 1 / 0 for i in range(10_002)))
        assert path.read_bytes() == before
    assert len(os.listdir(tmp_path)) == 4


def test_json_and_text_are_written_atomically(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json_atomically(path, {"b": "é", "a": [1]})
    assert path.read_text("utf-8") == '{\n  "b": "é",\n  "a": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomically(path, float("nan"))
    assert json.loads(path.read_text("utf-8")) == {"b": "é", "a": [1]}
    link = tmp_path / "link.json"
    link.symlink_to(path)
    write_text_atomically(link, "{}")
    assert link.is_symlink()
    assert path.read_text() == "{}"
    assert os.listdir(path.parent) == ["a.json"]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "old").write_text("1")
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        (folder / "new").write_text(str(1 / 0))
    assert os.listdir(target) == ["old"]
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "new").write_text("2")
    assert [p.relative_to(target).as_posix() for p in target.rglob("*")] == ["sub", "sub/new"]
    assert os.listdir(tmp_path) == ["model"]


def test_reading_text_imports_no_optional_package(tmp_path):
    write(tmp_path / "a.jsonl", ROWS)
    code = (
        "import sys; from studytag.files import read_rows; list(read_rows(sys.argv[1]));"
        "heavy = {'pyarrow', 'lxml', 'openpyxl', 'pylatexenc', 'torch', 'pandas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.jsonl"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
