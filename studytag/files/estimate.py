"""How many rows a file may have, by what its first megabytes hold."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

_SAMPLE = 1 << 22
_UNPACKED = 1 << 25
"""Bytes at most that the sample of a compressed file becomes: 4 MiB can hold gigabytes of zeros."""

_MARKS = {
    "jsonl": rb"\n",
    "ris": rb"(?m)^ER {1,2}-",
    "nbib": rb"(?m)^PMID-",
    "enw": rb"(?m)^%0 ",
    "ciw": rb"(?m)^ER\s*$",
    "ovid": rb"(?m)^<\d+>",
    "bibtex": rb"(?m)^@\w+\s*[{(]",
    "xml": rb"</Pubmed(?:Book)?Article>",
    "endnote_xml": rb"</record>",
}


def estimated_rows(path: Path, format: str) -> int | None:
    """The number of rows if all of the file is like its beginning; None where that is unknown.

    Args:
        path: The file.
        format: Name of its format.
    """
    with path.open("rb") as stream:
        packed = stream.read(_SAMPLE)
    sample = packed
    if packed.startswith(b"\x1f\x8b"):
        try:
            unpacking = zlib.decompressobj(31)
            sample = unpacking.decompress(packed, _UNPACKED)
        except zlib.error:
            return None
        packed = packed[: len(packed) - len(unpacking.unconsumed_tail)]
    if format in ("csv", "tsv"):
        # Line ends inside quotes belong to a cell; the header is no row.
        rows = sum(piece.count(b"\n") for piece in sample.split(b'"')[::2]) - 1
    elif format in _MARKS:
        rows = len(re.findall(_MARKS[format], sample))
    else:
        return None
    return max(rows, 1) * path.stat().st_size // max(len(packed), 1)
