"""Delimited text as programs write it, beyond what any standard says."""

from __future__ import annotations

import pytest

from studytag.files import read_rows

def texts(rows):
    return [(row["title"], row["abstract"]) for row in rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_rows_of_old_macs_hold_line_feeds(tmp_path, encoding):
    """Excel for Mac ends rows with a carriage return, and lines of a cell with a line feed."""
    path = tmp_path / "a.csv"
    path.write_bytes('title,abstract\rA,"one\ntwo"\rB,C\r'.encode(encoding))
    assert texts(read_rows(path)) == [("A", "one\ntwo"), ("B", "C")]
    path.write_bytes('"title\r",abstract\nA,B\n'.encode(encoding))
    assert texts(read_rows(path)) == [("A", "B")]
