"""Bytes and lines of a file that may be gzipped and in any encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from studytag.errors import InputError
from studytag.files.notices import notice

DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a cut off or altered gzip stream raises."""

WHOLE_FILE = 2**28
"""The most bytes of a file that is read at once (JSON documents, BibTeX)."""

_LONGEST_LINE = 2**24
_MOST_VALUES = 2**23
_BOMB_BYTES = 2**28
_BOMB_RATIO = 300  # text packs 3 to 20 times, made-up repetitions 100 times
_SAMPLE = 2**16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class _Unpacked(io.RawIOBase):
    """An unpacked gzip stream that stops where no text could have been packed so small."""

    def __init__(self, packed: Any, path: Path) -> None:
        self._packed = packed
        self._stream = gzip.GzipFile(fileobj=packed)
        self._path = path
        self._size = max(path.stat().st_size, 1)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read1(len(buffer))
        self._read += len(content)
        if self._read > _BOMB_BYTES and self._read > _BOMB_RATIO * self._size:
            raise InputError(
                f"{self._path}: unpacks to more than {_BOMB_RATIO} times its size; "
                f"no articles pack like that: unpack it yourself if you trust it"
            )
        buffer[: len(content)] = content
        return len(content)


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open `path` for reading, unpacked if its first bytes say gzip, whatever its name says.

    Raises:
        InputError: the file cannot be opened, or unpacks to more than could be articles.
    """
    try:
        raw = open(path, "rb")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    with raw:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            yield io.BufferedReader(_Unpacked(raw, path), buffer_size=2**16)
        else:
            yield raw


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """The first bytes of a file, unpacked; fewer where it is shorter or damaged."""
    try:
        with open_bytes(path) as stream:
            return stream.read(count)
    except DAMAGED_GZIP:
        return b""


class TextSource:
    """The text of a file: its lines, in the encoding that it is found to have.

    It is UTF-8 unless a byte-order mark or zero bytes say UTF-16. A line that is not UTF-8 is
    taken for the encoding that it and those after it look like; of one that is UTF-8 for the most
    part, only the other bytes are read otherwise. Either is said once. No line may have more than
    `longest` characters.

    Attributes:
        path: The file.
        bom: Whether it begins with a byte-order mark.
        newline: Ends its first line.
    """

    def __init__(
        self, path: Path, encoding: str | None = None, longest: int = _LONGEST_LINE
    ) -> None:
        self.path = path
        self._longest = longest
        beginning = first_bytes(path, _SAMPLE)
        marked = next((name for mark, name in _BOMS if beginning.startswith(mark)), None)
        self.bom = marked is not None
        self._given = known_encoding(path, encoding)
        found = self._given or marked or _without_mark(beginning)
        self._wide = found if found and found.startswith(("utf-16", "utf-32")) else None
        if self._wide and not self._given:
            notice("%s: read as %s", path, self._wide)
        self._fallback: str | None = None
        self._damaged = False
        narrow = beginning.replace(b"\0", b"")
        first, second = narrow.find(b"\r"), narrow.find(b"\n")
        # Its rows end with a carriage return; a line feed is one in a cell in quotes.
        self._old_mac = (
            first >= 0
            and narrow.count(b'"', 0, first) % 2 == 0
            and (second < 0 or narrow.count(b'"', 0, second) % 2 == 1)
        )
        self.newline = "\r\n" if 0 <= first == second - 1 else "\n"

    def lines(self) -> Iterator[str]:
        """The lines, each with its ending (a lone carriage return becomes a line feed).

        Raises:
            InputError: the gzip stream is damaged, a line is too long, or the text is not in the
                encoding that was given.
        """
        number = 0
        try:
            with open_bytes(self.path) as stream:
                source = self._wide_lines(stream) if self._wide else self._narrow_lines(stream)
                for line in source:
                    number += 1
                    yield line
        except UnicodeError as error:
            raise InputError(
                f"{self.path}: line {number + 1}: not {self._given or self._wide} text; "
                f"give its real encoding, or save it as UTF-8"
            ) from error
        except DAMAGED_GZIP as error:
            raise InputError(
                f"{self.path}: gzip stream is cut off or damaged after line {number}; "
                f"download or compress the file again"
            ) from error

    def _wide_lines(self, stream: io.BufferedReader) -> Iterator[str]:
        newline = None if self._old_mac else "\n"
        text = io.TextIOWrapper(stream, encoding=self._wide, newline=newline)
        while line := text.readline(self._longest):
            self._refuse_long(line)
            yield line.removeprefix("\ufeff")
        text.detach()

    def _narrow_lines(self, stream: io.BufferedReader) -> Iterator[str]:
        source = self._mac_lines(stream) if self._old_mac else self._byte_lines(stream)
        pending: deque[bytes] = deque()
        number = 0
        while True:
            line = pending.popleft() if pending else next(source, None)
            if line is None:
                return
            number += 1
            line = line.removeprefix(codecs.BOM_UTF8)  # each file of several in one has its own
            if self._given:
                yield line.decode(self._given)
                continue
            try:
                yield line.decode()
            except UnicodeDecodeError:
                if self._fallback in (None, "cp1252") and _is_utf8(line):
                    yield self._mended(line, number)
                    continue
                if self._fallback is None:
                    self._fallback = self._guess(line, number, source, pending)
                yield line.decode(self._fallback, "replace")

    def _byte_lines(self, stream: io.BufferedReader) -> Iterator[bytes]:
        while line := stream.readline(self._longest):
            self._refuse_long(line)
            yield line

    def _mac_lines(self, stream: io.BufferedReader) -> Iterator[bytes]:
        begun = bytearray()  # of a line; joined again with each block, a long one would take ages
        while block := stream.read(2**20):
            first, *others = block.split(b"\r")
            begun += first
            self._refuse_long(begun)
            for line in others:
                yield bytes(begun) + b"\n"
                begun = bytearray(line)
        if begun:
            yield bytes(begun)

    def _refuse_long(self, line: str | bytes | bytearray) -> None:
        if len(line) >= self._longest:
            raise InputError(
                f"{self.path}: a line of more than {self._longest >> 20} million characters; "
                f"give a file with articles"
            )

    def _mended(self, line: bytes, number: int) -> str:
        """A line that is UTF-8 but for some bytes, which alone are read otherwise."""
        text = line.decode(errors=_FOREIGN_BYTES)
        if not self._damaged:
            self._damaged = True
            first = len(os.path.commonprefix([text, line.decode(errors="ignore")]))
            notice(
                "%s: line %d: UTF-8 but for some bytes, which are read as cp1252: %.80s",
                *(self.path, number, " ".join(text[max(first - 40, 0) :].split())),
            )
        return text

    def _guess(
        self, line: bytes, number: int, source: Iterator[bytes], pending: deque[bytes]
    ) -> str:
        """The encoding of the first line that is not UTF-8, judged by those after it too."""
        sample, size = [line], len(line)
        for following in source:
            pending.append(following)
            size += len(following)
            if not _is_utf8(following):
                sample.append(following)
            if size > _SAMPLE:
                break
        encoding = _guess_encoding(b"".join(sample))
        shown = " ".join(line.decode(encoding, "replace").split())
        notice(
            "%s: line %d: not UTF-8; read as %s: %.80s; if letters are wrong, give the encoding",
            *(self.path, number, encoding, shown),
        )
        return encoding


def known_encoding(path: Path, encoding: str | None) -> str | None:
    """Python's name of an encoding of text; None of None.

    Raises:
        InputError: there is none of that name.
    """
    if encoding is None:
        return None
    try:
        name = codecs.lookup(encoding).name
        io.TextIOWrapper(io.BytesIO(), name)  # rot13 and base64 are codecs too, but not of text
    except LookupError as error:
        raise InputError(
            f"{path}: unknown encoding {encoding!r}; name one such as utf-8, cp1252, utf-16"
        ) from error
    return "utf-8" if name == "utf-8-sig" else name


def _is_utf8(line: bytes) -> bool:
    """Whether a line is UTF-8 but for some bytes: a letter pasted in, or one that is cut in two."""
    text = line.decode(errors="replace")
    foreign = text.count("\ufffd")
    return not foreign or len(text) - len(text.encode("ascii", "ignore")) > 2 * foreign


def _foreign_bytes(error: UnicodeError) -> tuple[str, int]:
    """What Windows' encoding makes of a byte that is not UTF-8; part of a letter is none.

    Half a letter is most often the first byte of a Western one, in Windows the rare Ã or Â.
    """
    assert isinstance(error, UnicodeDecodeError)
    part = error.object[error.start : error.end]
    alone = len(part) == 1 and part not in b"\xc2\xc3"
    return part.decode("cp1252", "replace") if alone else "\ufffd", error.end


_FOREIGN_BYTES = "studytag-foreign-bytes"
codecs.register_error(_FOREIGN_BYTES, _foreign_bytes)


def _without_mark(beginning: bytes) -> str | None:
    """UTF-16 without a byte-order mark has a zero byte beside every Latin letter."""
    even, odd = beginning[0:512:2].count(0), beginning[1:512:2].count(0)
    if max(even, odd) < 4 or max(even, odd) * 5 < len(beginning[:512]):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _guess_encoding(sample: bytes) -> str:
    """Western text in Windows' encoding where it looks like that, else what statistics say."""
    high = sum(byte > 127 for byte in sample)
    pairs = sum(a > 127 and b > 127 for a, b in zip(sample, sample[1:], strict=False))
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    letters = sum(c.isalpha() or c in "“”‘’–—…•®©°±µ×·²³½¼¾«»™€§¡¿" for c in text if ord(c) > 127)
    if text and pairs * 3 <= high and letters * 10 >= high * 9:
        return "cp1252"
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return "cp1252" if text else "latin-1"
    best = from_bytes(sample).best()
    return best.encoding if best else ("cp1252" if text else "latin-1")


def refuse_dense(path: Path, text: str) -> None:
    """Refuse text of so many commas and brackets that the values between them fill the memory.

    Articles have one to some forty characters.

    Raises:
        InputError: there are more than eight million.
    """
    if len(text) > _MOST_VALUES and sum(map(text.count, ",[{")) > _MOST_VALUES:
        raise InputError(
            f"{path}: more than {_MOST_VALUES >> 20} million values; export it in parts, or as RIS "
            "or CSV"
        )


def whole_text(path: Path, encoding: str | None = None) -> str:
    """All text of a file that only makes sense as a whole.

    Raises:
        InputError: as `TextSource.lines`, or it is too large to be read at once.
    """
    parts, size = io.StringIO(), 0  # a list would hold an object for each line
    for line in TextSource(path, encoding, WHOLE_FILE).lines():  # a document may be one line
        size += len(line)
        if size > WHOLE_FILE:
            raise InputError(
                f"{path}: larger than {WHOLE_FILE >> 20} million characters; "
                f"export it in parts, or as RIS or CSV"
            )
        parts.write(line)
    text = parts.getvalue()
    refuse_dense(path, text)
    return text


@contextmanager
def open_text_sink(path: Path, *, gzipped: bool) -> Iterator[TextIO]:
    """Open `path` for writing UTF-8; line ends are written as they are given.

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
