"""Records out of XML, one at a time and forgotten: memory does not grow with the file."""

from __future__ import annotations

import io
import re
from codecs import BOM_UTF8, EncodedFile, StreamRecoder
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studytag.errors import InputError, import_extra
from studytag.files.notices import notice
from studytag.files.streams import DAMAGED_GZIP, known_encoding, open_bytes
from studytag.records import clean

# Nothing outside the file is ever read and no entity is expanded. The parser's own limits on
# depth and on the length of one text (10 MB) stay in force: records are far below them.
_SAFE: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
    "collect_ids": False,
}
_LARGEST_RECORD = 2**26
_MOST_MARKS = 2**20
_BLOCK = 2**16
_DECLARATION = 12
_WIDE = re.compile(
    rb"\xff\xfe|\xfe\xff|<?\0|<\?xml[^>]{1,80}encoding=.(?:iso-2022|utf-?7|hz)", re.I
)
"""Begins text in which the bytes of controls are none: UTF-16, UTF-32, and what shifts."""
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r")
_SPACES = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))
_REFERENCE = re.compile(rb"&#(?:[xX]([0-9A-Fa-f]{1,6})|([0-9]{1,7}));")
_ROOT = re.compile(rb"<([A-Za-z_][\w:.-]*)[\s/>]")
_NEXT_DOCUMENT = re.compile(b"(?:" + BOM_UTF8 + rb")?<\?xml[\s?]")


class _Stream(io.RawIOBase):
    """One of the documents that stand in a file, with a limit on what lies between records.

    Attributes:
        since: Bytes given since the last record.
        marks: Tags and attributes among them; each becomes an object of some hundred bytes.
    """

    def __init__(self, source: _Documents, path: Path) -> None:
        self._source = source
        self._path = path
        self.since = 0
        self.marks = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._source.block()
        self.since += len(block)
        self.marks += block.count(b"<") + block.count(b"=")
        if self.marks > _MOST_MARKS:
            raise InputError(
                f"{self._path}: more than {_MOST_MARKS >> 20} million tags and attributes without "
                "the end of a record; give a file with articles"
            )
        if self.since > _LARGEST_RECORD:
            raise InputError(
                f"{self._path}: more than {_LARGEST_RECORD >> 20} MB without the end of a record; "
                f"give a file with articles"
            )
        return block


class _Documents:
    """The documents of a file: efetch's pages are often saved one after another.

    Characters that XML does not allow, which EndNote writes where an abstract has them, are spaces.
    """

    def __init__(self, stream: io.BufferedReader | StreamRecoder, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._rest = stream.read(_BLOCK)
        self._wide = bool(_WIDE.match(self._rest))
        self._begun = False
        self._told = False
        self.lines = 0

    def more(self) -> bool:
        """Whether another document follows."""
        while not self._rest.strip():
            self._rest = self._stream.read(_BLOCK)
            if not self._rest:
                return False
        self._begun = False
        return True

    def root(self) -> str | None:
        """The name of the document's outermost element; None where it is not to be seen."""
        match = _ROOT.search(self._rest)
        return match.group(1).decode("utf-8", "replace") if match else None

    def block(self) -> bytes:
        """The next bytes of the document; empty at its end."""
        # Which may lie across two blocks, behind the mark that is taken away.
        if len(self._rest) <= _DECLARATION + len(BOM_UTF8):
            self._rest += self._stream.read(_BLOCK)
        self._rest = self._rest if self._wide else self._allowed(self._rest)
        if not self._begun:
            self._rest = self._rest.removeprefix(BOM_UTF8)
        match = _NEXT_DOCUMENT.search(
            self._rest, 0 if self._begun else _after_space(self._rest) + 1
        )
        if match:
            end = match.start()
        else:
            end = len(self._rest)
            if following := self._stream.read(_BLOCK):
                end = max(end - _DECLARATION, 0)
            self._rest += following
        content, self._rest = self._rest[:end], self._rest[end:]
        self._begun = True
        self.lines += content.count(b"\n")
        return content

    def _allowed(self, content: bytes) -> bytes:
        allowed = _REFERENCE.sub(_reference, content.translate(_SPACES))
        if allowed != content and not self._told:
            self._told = True
            notice("%s: characters that XML does not allow are read as spaces", self._path)
        return allowed


def _reference(match: re.Match[bytes]) -> bytes:
    """A reference to a character, or a space where XML does not allow it."""
    code = int(match.group(1), 16) if match.group(1) else int(match.group(2))
    legal = code in b"\t\n\r" if code < 32 else not (0xD800 <= code < 0xE000 or code > 0x10FFFF)
    return match.group() if legal and code not in (0xFFFE, 0xFFFF) else b" "


def _after_space(content: bytes) -> int:
    return len(content) - len(content.lstrip())


def iterate_records(
    path: Path,
    tags: Sequence[str],
    roots: Sequence[str],
    wanted: str,
    encoding: str | None = None,
) -> Iterator[Any]:
    """The elements called `tags` of a file, each only until the next is asked for.

    Args:
        path: The file.
        tags: Names of the elements that are records.
        roots: Names that the outermost element may have: nothing in another document would be
            forgotten, so it would fill the memory.
        wanted: What the document should be, and how to get one.
        encoding: Of its text, instead of the one that it declares.

    Raises:
        InputError: it is another document, or damaged; the message counts the records before.
    """
    etree = import_extra("lxml.etree", "files")
    encoding = known_encoding(path, encoding)
    parsing = _SAFE | {"encoding": encoding and "utf-8"}
    count = before = 0
    try:
        with open_bytes(path) as stream:
            documents = _Documents(
                EncodedFile(stream, "utf-8", encoding) if encoding else stream, path
            )
            while documents.more():
                before = documents.lines
                document = _Stream(documents, path)
                _check_root(path, documents.root(), roots, wanted)
                for _, element in etree.iterparse(document, events=("end",), tag=tags, **parsing):
                    count += 1
                    yield element
                    _forget(element)
                    document.since = document.marks = 0
    except UnicodeError as error:
        raise InputError(
            f"{path}: not {encoding} text after {count} records; give its real encoding"
        ) from error
    except etree.XMLSyntaxError as error:
        remedy = "give its encoding" if "encoding" in error.msg else "download the file again"
        raise InputError(
            f"{path}: line {before + (error.lineno or 0)}: broken XML after {count} records "
            f"({clean(error.msg)}); {remedy}"
        ) from error
    except DAMAGED_GZIP as error:
        raise InputError(
            f"{path}: gzip stream is cut off or damaged after {count} records; "
            f"download the file again"
        ) from error


def _check_root(path: Path, root: str | None, roots: Sequence[str], wanted: str) -> None:
    if root is not None and root not in roots:
        raise InputError(f"{path}: a <{root}> document, not {wanted}")


def _forget(record: Any) -> None:
    """Free a record, and what stands before it or before what it stands in."""
    record.clear()
    for element in (record, *record.iterancestors()):
        parent = element.getparent()
        while parent is not None and parent[0] is not element:
            del parent[0]
