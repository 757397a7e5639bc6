"""Bytes and lines of a file that may be gzipped."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from studytag.errors import InputError

DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a cut off or altered gzip stream raises."""


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open `path` for reading, unpacked if its first bytes say gzip, whatever its name says.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        raw = open(path, "rb")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    with raw:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        else:
            yield raw


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file (a byte order mark is dropped), each with its line ending.

    Raises:
        InputError: the file is not UTF-8, or its gzip stream is damaged.
    """
    number = 0
    try:
        with open_bytes(path) as stream:
            for number, line in enumerate(stream, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        utf16 = number == 1 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        source = "utf-16" if utf16 else "latin1"
        raise InputError(
            f"{path}: line {number}: not UTF-8 text; "
            f"convert it: iconv -f {source} -t utf-8 {path.name} > utf8-{path.name}"
        ) from error
    except DAMAGED_GZIP as error:
        raise InputError(
            f"{path}: gzip stream is cut off or damaged after line {number}; "
            f"download or compress the file again"
        ) from error


@contextmanager
def open_text_sink(path: Path, *, gzipped: bool) -> Iterator[TextIO]:
    """Open `path` for writing UTF-8 with plain line feeds.

    The gzip header carries neither name nor time: the same rows give the same bytes.
    """
    with open(path, "wb") as raw:
        if gzipped:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text:
                    yield text
        else:
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
                yield text
