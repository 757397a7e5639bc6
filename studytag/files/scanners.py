"""How lines form records in each of the tagged formats."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from studytag.errors import InputError
from studytag.files.fields import tag_field
from studytag.files.notices import notice
from studytag.files.tagged import Record

_RIS = re.compile(r"\s*([A-Z][A-Z0-9])  -\s?(.*)", re.S)
_RIS_LOOSE = re.compile(r"\s*([A-Z][A-Z0-9])\s{1,4}-\s?(.*)", re.S)
_RIS_END = re.compile(r"\s*ER\s*-\s*")
_RIS_JOINED = re.compile(r"(\s*ER\s*-\s*)\ufeff?(TY\s{1,4}-\s*[A-Z]+\s*)")
# With one space only where it can hardly be a wrapped line such as `CT - computed tomography`.
_LOOSE = frozenset("TY TI T1 AB N2 AU A1 PY Y1 JO JF T2 KW DO UR SN N1 DB".split())
_NUMBER = re.compile(r"[<\[(]?\d*[.:>)\]]?")

_MEDLINE = re.compile(r"([A-Z][A-Z0-9]{1,3})( {0,2})- ?(.*)", re.S)
_ENDNOTE = re.compile(r"%([^\s\w]|[0-9A-Z])(?:[ \t](.*))?$", re.S)
_WOS = re.compile(r"([A-Z][A-Z0-9])(?: (.*))?$", re.S)
_OVID_NUMBER = re.compile(r"\s*<\d+>\s*")
_OVID_TAG = re.compile(r"([A-Z][A-Z0-9])\s{1,2}- ?(.*)", re.S)


class _Strays:
    """Lines that belong to no record: the first is said at once, how many there are at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._last = 0

    def hear(self, number: int, text: str) -> None:
        if _NUMBER.fullmatch(text.strip()):
            return
        self._count += 1
        self._last = number
        if self._count == 1:
            notice(
                "%s: line %d: belongs to no record and is not read: %.60r",
                *(self._path, number, text.strip()),
            )

    def finish(self) -> None:
        if self._count > 1:
            notice(
                "%s: %d lines belong to no record and are not read, the last of them line %d",
                *(self._path, self._count, self._last),
            )


def ris(path: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Records that end with `ER`.

    Raises:
        InputError: a record has no end.
    """
    record: Record | None = None
    strays = _Strays(path)
    number = 0
    for number, text, ends in _ris_lines(lines):
        tag, value = _ris_tag(text)
        if ends:
            if record is not None:
                record.lines.append(text)
                yield record
            record = None
        elif tag is not None:
            if tag == "TY" and record and any(name == "TY" for name, _, _ in record.fields):
                raise _open_record(path, number)
            record = record or Record(path, number)
            record.add(tag, text, value)
        elif record is None:
            strays.hear(number, text)
        elif text.strip():
            record.go_on(text, text.strip())
        else:
            record.lines.append(text)
    strays.finish()
    if record:
        raise _open_record(path, number)


def _ris_lines(lines: Iterator[str]) -> Iterator[tuple[int, str, bool]]:
    """Number and text of each line, and whether it ends a record.

    A bare `ER` does so before `TY` or at the end of the file; else it is a keyword on a line of
    its own (estrogen receptors).
    """
    waiting: tuple[int, str] | None = None
    for number, text in _ris_texts(lines):
        if waiting and text.strip():
            yield *waiting, _ris_tag(text)[0] == "TY" or bool(_NUMBER.fullmatch(text.strip()))
            waiting = None
        if text.strip() == "ER":
            waiting = number, text
        else:
            yield number, text, bool(_RIS_END.fullmatch(text))
    if waiting:
        yield *waiting, True


def _ris_texts(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """The lines; two where files were joined of which the first had no line end at its end."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        joined = _RIS_JOINED.fullmatch(text)
        for part in joined.groups() if joined else (text,):
            yield number, part


def _open_record(path: Path, number: int) -> InputError:
    return InputError(
        f"{path}: line {number}: the record before has no end; close it with a line 'ER  - '"
    )


def _ris_tag(text: str) -> tuple[str | None, str]:
    if match := _RIS.fullmatch(text):
        return match.group(1), match.group(2)
    match = _RIS_LOOSE.fullmatch(text)
    if match and match.group(1) in _LOOSE:
        return match.group(1), match.group(2)
    return None, ""


def nbib(path: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Records that begin with `PMID-`; continuation lines are indented.

    Raises:
        InputError: something is no record.
    """
    for number, record in enumerate(_by_first_tag(path, lines, _medline_tag, "PMID"), 1):
        if not {"PMID", "TI", "AB"} & {tag for tag, _, _ in record.fields}:
            raise _foreign(path, number)
        yield record


def _medline_tag(text: str) -> tuple[str | None, str]:
    match = _MEDLINE.fullmatch(text)
    if not match:
        return None, ""
    tag, spaces, value = match.groups()
    standard = len(tag) + len(spaces) == 4
    return (tag, value) if standard or tag_field("nbib", tag) and spaces else (None, "")


def _foreign(path: Path, number: int) -> InputError:
    return InputError(
        f"{path}: record {number} has no PMID, TI or AB line; save it from PubMed in PubMed format"
    )


def endnote(path: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Records that begin with `%0`."""
    return _by_first_tag(path, lines, _endnote_tag, "0")


def _endnote_tag(text: str) -> tuple[str | None, str]:
    match = _ENDNOTE.fullmatch(text)
    return (match.group(1), match.group(2) or "") if match else (None, "")


def _by_first_tag(
    path: Path,
    lines: Iterator[str],
    tag_of: Callable[[str], tuple[str | None, str]],
    first_tag: str,
) -> Iterator[Record]:
    """Records that begin with a certain tag, or after a blank line with the tag of the first."""
    record: Record | None = None
    strays = _Strays(path)
    blank = False
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        tag, value = tag_of(text)
        if tag is not None:
            if record and (tag == first_tag or (blank and tag == record.fields[0][0])):
                if blank or any(name == tag for name, _, _ in record.fields):
                    yield record
                    record = None
            record = record or Record(path, number)
            record.add(tag, text, value)
        elif not text.strip():
            blank = True
            continue
        elif record is None or (blank and not text[0].isspace() and text.lstrip()[0] == "<"):
            strays.hear(number, text)
        else:
            record.go_on(text, text.strip())
        blank = False
    strays.finish()
    if record:
        yield record


def web_of_science(path: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Records that end with `ER`; continuation lines are indented.

    Raises:
        InputError: a record has no end.
    """
    record: Record | None = None
    strays = _Strays(path)
    number = 0
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        match = _WOS.fullmatch(text)
        if text.strip() == "ER":
            if record:
                yield record
            record = None
        elif text.strip() in ("", "EF") or (match and match.group(1) in ("FN", "VR")):
            continue
        elif match and not text[0].isspace():
            record = record or Record(path, number)
            record.add(match.group(1), text, match.group(2) or "")
        elif record:
            record.go_on(text, text.strip())
        else:
            strays.hear(number, text)
    strays.finish()
    if record:
        raise InputError(
            f"{path}: line {number}: the record before has no end; close it with a line 'ER'"
        )


def ovid(path: Path, lines: Iterator[str]) -> Iterator[Record]:
    """Records that begin with `<1>`; the name of a field on a line, or a tag before its value."""
    record: Record | None = None
    strays = _Strays(path)
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        match = _OVID_TAG.fullmatch(text)
        if _OVID_NUMBER.fullmatch(text):
            if record and record.fields:
                yield record
            record = Record(path, number)
        elif not text.strip():
            continue
        elif record is None:
            strays.hear(number, text)
        elif match:
            record.add(match.group(1), text, match.group(2))
        elif text[0].isspace() and record.fields:
            record.go_on(text, text.strip())
        else:
            record.add(text.strip().rstrip(":"), text, "")
    strays.finish()
    if record and record.fields:
        yield record
