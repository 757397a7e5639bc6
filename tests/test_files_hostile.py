"""Files made to fill the memory or to trip the reader, and values that no format was made for."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studytag.data.rule_file import load_rules
from studytag.documents import read_json, read_yaml
from studytag.errors import InputError
from studytag.files import UnreadRow, open_writer, read_rows

BYTES = 2**30
"""No reader may need more memory than this."""

READ = """
import resource, sys
from collections import deque
from studytag.errors import InputError
from studytag.files import read_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    deque(read_rows(sys.argv[1], errors="return", quiet=True), maxlen=0)
    print("read")
except InputError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def read_apart(path: Path) -> str:
    """What a process of its own says of a file; its memory must not have grown over the bound."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 * BYTES, 4 * BYTES)),
    )
    assert done.returncode == 0, done.stderr[-1000:]
    message, grown = done.stdout.splitlines()
    assert int(grown) * 1024 < BYTES
    return message


def packed(path: Path, *parts: tuple[bytes, int]) -> Path:
    """A gzipped file of blocks, each repeated."""
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for block, times in parts:
            for _ in range(times):
                stream.write(block)
    return path


MEGABYTE = 2**20
BOMBS = {
    "commas in the header.csv.gz": (
        [(b"title," + b"," * (MEGABYTE // 2), 1), (b"\n", 1)],
        "more than 16,384 columns; give a table",
    ),
    "commas in a row.csv.gz": (
        [(b"title,abstract\na,b\n", 1), (b"," * MEGABYTE, 12), (b"\n", 1)],
        "a row of more than 1 million cells or 32 million characters",
    ),
    "commas in quoted lines.csv.gz": (
        [(b"title,abstract\n", 1), (b'"\n"' + b"," * 50, 400_000)],
        "a row of more than 1 million cells or 32 million characters",
    ),
    "tabs.tsv.gz": (
        [(b"title\tabstract\na\tb\n", 1), (b"\t" * MEGABYTE, 12), (b"\n", 1)],
        "a row of more than 1 million cells or 32 million characters",
    ),
    "siblings.xml.gz": (
        [(b"<PubmedArticleSet>", 1), (b"<a/>" * (MEGABYTE // 4), 60)],
        "more than 1 million tags and attributes without the end of a record",
    ),
    "siblings in a record.xml.gz": (
        [(b"<PubmedArticleSet><PubmedArticle>", 1), (b"<a></a>" * (MEGABYTE // 7), 60)],
        "more than 1 million tags and attributes without the end of a record",
    ),
    "attributes.xml.gz": (
        [(b"<PubmedArticleSet><PubmedArticle>", 1), (b'<a b=""/>' * (MEGABYTE // 9), 60)],
        "more than 1 million tags and attributes",
    ),
    "lists.json.gz": (
        [(b"[[]", 1), (b",[]" * (MEGABYTE // 3), 30), (b"]", 1)],
        "more than 8 million values",
    ),
    "lists.jsonl.gz": (
        [(b'{"title": "x", "v": [[]', 1), (b",[]" * (MEGABYTE // 3), 14), (b"]}\n", 1)],
        "read",
    ),
    "one line.jsonl.gz": (
        [(b'{"title": "', 1), (b"x" * MEGABYTE, 300)],
        "a line of more than 16 million characters",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory(tmp_path, name):
    parts, message = BOMBS[name]
    assert message in read_apart(packed(tmp_path / name, *parts))


def test_a_document_on_a_single_line_of_twenty_megabytes_is_no_bomb(tmp_path):
    path = tmp_path / "a.json"
    items = [{"title": f"A trial {number}", "abstract": "plaque " * 3000} for number in range(1000)]
    path.write_text(json.dumps(items))
    assert path.stat().st_size > 20e6
    assert len(list(read_rows(path, quiet=True))) == 1000


def test_many_commas_in_one_abstract_are_no_bomb(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('title,abstract\nx,"' + "a, " * 300_000 + '"\ny,z\n' * 1)
    rows = list(read_rows(path))
    assert [row["title"] for row in rows] == ["x", "y"]


# Rule files


def rules(tmp_path, pattern):
    path = tmp_path / "rules.yaml"
    path.write_text(f"labels:\n  RCT:\n    patterns: ['{pattern}']\n")
    return load_rules(path)


ARTICLE = {"title": "a" * 60 + "!", "abstract": None}


def test_a_catastrophic_pattern_is_given_up(tmp_path):
    with pytest.raises(InputError, match=r"pattern .* takes more than 2 s for a text of 61 charac"):
        rules(tmp_path, "(a|aa)+$").apply(ARTICLE)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*a){20}x", "(a|a?)+b$"])
def test_other_patterns_of_that_kind_end_in_time(tmp_path, pattern):
    """The engine sees through some of them; Python's own would search for years."""
    started = time.process_time()
    with contextlib.suppress(InputError):
        assert rules(tmp_path, pattern).apply(ARTICLE)[0] == []
    assert time.process_time() - started < 5


def test_an_article_of_megabytes_is_searched_in_its_beginning(tmp_path):
    found = rules(tmp_path, "trial")
    assert found.apply({"title": "a trial", "abstract": "x" * 10_000_000})[0] == ["RCT"]


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, r"has an alias \(\*name\)"),
        ("labels: &a [*a]\n", r"has an alias"),
        (f"version: {'9' * 5000}\n", "cannot be read as YAML"),
        ("until: 2001-99-99\n", "cannot be read as YAML"),
        ("[" * 2000, "cannot be read as YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "cannot be read as YAML"),
        ("a: [", "cannot be read as YAML"),
        ("\x00", "cannot be read as YAML"),
    ],
)
def test_yaml_that_goes_off_is_refused(tmp_path, text, message):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_yaml(path, "write a rule set")
    with pytest.raises(InputError, match=message):
        load_rules(path)


def test_a_document_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as stream:
        stream.truncate(2**31)
    for read in (read_json, read_yaml):
        with pytest.raises(InputError, match="larger than 32 MB"):
            read(path, "write it again")


# Values


VALUES = [
    *({"v": {}}, {"v": [{}]}, {"v": {"a": {}}}, {"keywords": 2020}, {"keywords": {"a": 1}}),
    *({"authors": 5}, {"mesh_terms": 7}, {"pub_types": {}}, {"doi": {"a": [1]}}, {"v": [1, [2]]}),
    *({"year": 10**399}, {"pmid": 10**399}, {"v": 10**399}, {"year": 1e400}, {"pmid": 1e308}),
    *({"pmid": True}, {"v": -(2**70)}, {"v": 1.5e300}, {"abstract": None, "v": None}),
]
FORMATS = ["parquet", "ris", "nbib", "enw", "bib", "csv", "tsv", "xlsx", "jsonl"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:24])
def test_odd_values_are_written_or_refused_by_name(tmp_path, value, suffix):
    source, target = tmp_path / "a.jsonl", tmp_path / f"b.{suffix}"
    source.write_text(json.dumps({"title": "A trial"} | value) + "\n")
    if suffix == "jsonl" and value == {"year": float("inf")}:
        with pytest.raises(InputError, match="row 1: Out of range float values"):
            copy(source, target)
        return
    copy(source, target)
    (back,) = read_rows(target, quiet=True)
    assert back["title"] == "A trial"


def copy(source, target):
    with open_writer(target, mixed_as_text=True) as writer:
        for row in read_rows(source, quiet=True):
            writer.write(row)


def test_a_number_of_5000_digits_costs_only_its_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "x"}\n{"title": "y", "n": ' + "9" * 5000 + '}\n{"title": "z"}\n')
    first, bad, last = read_rows(path, errors="return")
    assert isinstance(bad, UnreadRow)
    assert "line 2: not JSON" in bad.reason
    assert [first["title"], last["title"]] == ["x", "z"]


def test_a_date_that_python_cannot_hold_costs_only_its_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    dates = pa.array([0, 2**62, 86_400], type=pa.timestamp("ms"))
    pq.write_table(pa.table({"title": ["x", "y", "z"], "when": dates}), path)
    first, bad, last = read_rows(path, errors="return")
    assert isinstance(bad, UnreadRow)
    assert "row 2: column 'when' holds no value that can be read" in bad.reason
    assert [first["title"], bad["title"], last["title"]] == ["x", "y", "z"]
    with pytest.raises(InputError, match="row 2: column 'when'"):
        list(read_rows(path))


def test_a_sheet_that_breaks_off_is_damaged(tmp_path):
    import zipfile

    with open_writer(tmp_path / "a.xlsx") as writer:
        for number in range(3000):
            writer.write({"title": f"A trial {number}"})
    broken = tmp_path / "b.xlsx"
    with zipfile.ZipFile(tmp_path / "a.xlsx") as whole, zipfile.ZipFile(broken, "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[:-5000] if "sheet1" in name else content)
    with pytest.raises(
        InputError, match=r"b\.xlsx: (sheet 'studytag' is|not an Excel workbook, or) damaged"
    ):
        list(read_rows(broken))


# Formulas


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1"])
def test_formulas_are_escaped_where_that_is_asked(tmp_path, text):
    for excel, written in ((True, f"'{text}"), (False, text)):
        with open_writer(tmp_path / "a.csv", excel=excel) as writer:
            writer.write({"title": "x", "note": text})
        with open(tmp_path / "a.csv", encoding="utf-8", newline="") as stream:
            (line,) = csv.DictReader(stream)
        assert line["note"] == written
        (row,) = read_rows(tmp_path / "a.csv", quiet=True)
        assert row["note"] == text, "studytag takes away again what it added"


@pytest.mark.skipif(os.name != "posix", reason="a limit of POSIX")
def test_a_name_that_is_too_long_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / f"{'x' * 300}.csv")
    with (
        pytest.raises(InputError, match="cannot be written"),
        open_writer(tmp_path / f"{'x' * 300}.csv"),
    ):
        pass
