"""Time grows with the file, not with its square; memory is bounded; bombs do not go off."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections import deque
from pathlib import Path

import openpyxl
import pytest

from studytag.errors import InputError
from studytag.files import estimate_rows, open_writer, parquet_writer, read_rows
from studytag.files.streams import open_bytes


def seconds(source: Path, target: Path) -> float:
    started = time.process_time()
    with open_writer(target) as writer:
        for row in read_rows(source):
            writer.write(row)
    return time.process_time() - started


def wide(count: int) -> str:
    return ",".join(["title", *("c" for _ in range(count))]) + "\n" + "x," * count + "x\n"


LARGE = {
    "columns.csv": lambda n: wide(n // 4),  # a table may have 16,384
    "continued.ris": lambda n: "TY  - JOUR\nTI  - x\nAB  - a\n" + "more words\n" * n + "ER  - \n",
    "keywords.ris": lambda n: "TY  - JOUR\nTI  - x\nKW  - a\n" + "more words\n" * n + "ER  - \n",
    "tags.ris": lambda n: "TY  - JOUR\nTI  - x\n" + "KW  - a\n" * n + "ER  - \n",
    "continued.nbib": lambda n: "PMID- 1\nTI  - x\n" + "      more\n" * n,
    "tags.nbib": lambda n: "PMID- 1\nTI  - x\n" + "FAU - A\n" * n,
    "tags.enw": lambda n: "%0 Book\n%T x\n" + "%A A\n" * n,
    "stray.ris": lambda n: " " * n + "x\nTY  - JOUR\nTI  - x\nER  - \n",
    "blank.nbib": lambda n: " " * n + "x\nPMID- 1\nTI  - x\n",
    "notes.csv": lambda n: 'title,notes\nx,"' + "\n" * n + '"\n',
    "pmids.csv": lambda n: f'title,notes\nx,"PMID{" " * n}"\n',
    "authors.bib": lambda n: "@article{a, title={x}, author={A" + " " * n + "}}\n",
    "comments.bib": lambda n: "@article{a, title={x}}\n" + "@comment{a\n" * (n // 4),
    "braces.bib": lambda n: "@article{a, title={x}, abstract={" + "{a} b " * n + "}}\n",
}


@pytest.mark.parametrize("name", LARGE)
def test_time_grows_with_the_size(tmp_path, name):
    """Four times the size: linear time grows fourfold, quadratic time sixteenfold."""
    spent = []
    for count in (10_000, 40_000):
        source, target = tmp_path / f"{count}-{name}", tmp_path / f"out-{count}-{name}"
        source.write_text(LARGE[name](count))
        # The lower of two: other processes can slow one down, also by processor time.
        spent.append(min(seconds(source, target) for _ in range(2)))
        assert len(list(read_rows(target))) == 1
    assert spent[1] < 10 * max(spent[0], 0.1)


def test_the_estimate_unpacks_no_more_than_it_needs(tmp_path):
    """The first 4 MiB of this file hold a gibibyte."""
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"title\n")
        for _ in range(256):
            stream.write(b"x\n" * 2**19)
    tracemalloc.start()
    estimate = estimate_rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27
    assert estimate == pytest.approx(2**27, rel=0.1)


def test_a_line_without_end(tmp_path):
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"title\n")
        for _ in range(34):
            stream.write(bytes(2**20).replace(b"\0", b"x"))
    with pytest.raises(InputError, match=r"a\.csv\.gz: a line of more than 16 million characters"):
        list(read_rows(path))


def test_a_gzip_bomb(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    line = b'{"title": "' + b"x" * 2**20 + b'"}\n'
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(20):
            stream.write(line)
    block = path.read_bytes()
    with path.open("ab") as stream:  # members one after another are one stream
        for _ in range(14):
            stream.write(block)
    with open_bytes(path) as stream, pytest.raises(InputError, match="unpacks to more than"):
        deque(iter(lambda: stream.read(2**20), b""), maxlen=0)


def test_xml_without_the_end_of_a_record(tmp_path):
    path = tmp_path / "a.xml"
    with path.open("w") as stream:
        stream.write("<PubmedArticleSet><PubmedArticle>")
        for _ in range(70):
            stream.write("<a>" + "x" * 2**20 + "</a>")
    with pytest.raises(InputError, match="more than 64 MB without the end of a record"):
        list(read_rows(path))


def test_a_workbook_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr("[Content_Types].xml", "")
        packed.writestr("xl/worksheets/sheet1.xml", bytes(140 * 2**20))
    with pytest.raises(InputError, match=r"a\.xlsx: unpacks to 140 MB; no articles are that large"):
        list(read_rows(path))


def test_other_archives_are_not_workbooks(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(InputError, match=r"a\.xlsx: not an Excel workbook, or damaged"):
        list(read_rows(tmp_path / "a.xlsx"))
    (tmp_path / "a.xls").write_bytes(b"\xd0\xcf\x11\xe0 something")
    with pytest.raises(InputError, match=r"a\.xls: a workbook of old Excel; save it as \.xlsx"):
        list(read_rows(tmp_path / "a.xls"))


RECORDS = {
    "csv": "title\n" + "x\n" * 10_000,
    "tsv": "title\tyear\n" + "x\t2020\n" * 10_000,
    "jsonl": '{"title": "x"}\n' * 10_000,
    "ris": "TY  - JOUR\nTI  - x\nER  - \n\n" * 10_000,
    "bib": "@article{a, title={x}}\n" * 10_000,
}
COUNTED_ON_A_SMALL_STACK = """
import sys, threading
from studytag.files import read_rows
threading.stack_size(2**18)
counted = threading.Thread(target=lambda: print(sum(1 for _ in read_rows(sys.argv[1]))))
counted.start()
counted.join()
"""


@pytest.mark.parametrize("suffix", RECORDS)
def test_the_stack_does_not_grow_with_the_records(tmp_path, suffix):
    """Iterators around iterators, one for each record, would end the process without a word."""
    path = tmp_path / f"in.{suffix}"
    path.write_text(RECORDS[suffix])
    counted = subprocess.run(
        [sys.executable, "-c", COUNTED_ON_A_SMALL_STACK, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (counted.returncode, counted.stdout) == (0, "10000\n"), counted.stderr


def test_records_that_share_a_pmid_get_keys_in_little_time(tmp_path):
    """Half a second; counting up from two for each took half an hour for 100,000."""
    with open_writer(tmp_path / "out.bib") as writer:
        for _ in range(10_000):
            writer.write({"title": "x", "pmid": "0"})
    assert "@article{pmid0-10000," in (tmp_path / "out.bib").read_text()


def write(target: Path, rows: list[dict], **options) -> None:
    with open_writer(target, **options) as writer:
        for row in rows:
            writer.write(row)


OBJECTS = [{"title": "x", "words": {f"word{n}": [n], "all": [0]}} for n in range(300)]


def test_objects_of_many_names_become_text(tmp_path):
    """As columns of parquet every row would have every name, such as all words of all abstracts."""
    target = tmp_path / "out.parquet"
    with pytest.raises(InputError, match=r"row 256: column 'words' holds .* give the column one"):
        write(target, OBJECTS)
    write(target, OBJECTS, mixed_as_text=True)
    assert json.loads(list(read_rows(target))[7]["words"]) == OBJECTS[7]["words"]


def test_groups_under_other_types_are_written_again_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_writer, "_GROUP_ROWS", 10)
    rows = [{"title": "x", "nested": {f"n{number // 4}": number}} for number in range(1100)]
    rows += [{"title": "x", "nested": {"n0": 0.5}}]
    target = tmp_path / "out.parquet"
    write(target, rows, mixed_as_text=True)
    assert [json.loads(row["nested"]) for row in read_rows(target)] == [
        row["nested"] for row in rows
    ]
    write(target, [*rows[:100], rows[-1]])
    found = [row["nested"] for row in read_rows(target)]
    assert (found[0]["n0"], found[99]["n24"], found[100]["n0"]) == (0, 99, 0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_every_record_with_fields_of_its_own_is_no_table(tmp_path):
    (tmp_path / "in.bib").write_text(
        "".join(f"@article{{a{n}, title={{x}}, own{n}={{y}}}}\n" for n in range(20_000))
    )
    with pytest.raises(InputError, match=r"in\.bib: more than 16,384 columns; give a file whose"):
        next(iter(read_rows(tmp_path / "in.bib")))


def test_a_record_of_too_many_lines(tmp_path):
    (tmp_path / "in.nbib").write_text("PMID- 1\nTI  - x\n" + "      y\n" * 140_000)
    with pytest.raises(InputError, match=r"line 1: a record of more than 131,072 lines"):
        next(iter(read_rows(tmp_path / "in.nbib")))


def test_what_nests_too_deep_costs_only_its_row(tmp_path):
    (tmp_path / "in.jsonl").write_text(
        '{"title": "x", "n": ' + "[" * 500 + "]" * 500 + '}\n{"title": "y"}\n'
    )
    deep, other = read_rows(tmp_path / "in.jsonl", errors="return")
    assert "line 1: nests deeper than 100; flatten it" in deep.reason
    assert other["title"] == "y"


def test_a_row_of_a_workbook_that_says_it_is_the_four_millionth(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["title"])
    book.active.append(["x"])
    book.save(tmp_path / "sound.xlsx")
    with zipfile.ZipFile(tmp_path / "sound.xlsx") as sound:
        with zipfile.ZipFile(tmp_path / "in.xlsx", "w") as packed:
            for name in sound.namelist():
                content = sound.read(name)
                if name == "xl/worksheets/sheet1.xml":
                    content = content.replace(b'<row r="2"', b'<row r="4000000"')
                    content = content.replace(b'r="A2"', b'r="A4000000"')
                packed.writestr(name, content)
    with pytest.raises(InputError, match="has more rows than Excel takes"):
        deque(read_rows(tmp_path / "in.xlsx"), maxlen=0)
