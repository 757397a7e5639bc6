"""The blocks of a BibTeX file, with their text: where entries begin and end, and their fields.

The text is needed to write an entry back as it was. Of the libraries only bibtexparser 2 keeps it,
beside which pyzotero cannot be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studytag.errors import InputError

_NEVER = -1
_BLOCK = re.compile(r"@\s*([A-Za-z]+)\s*([{(])")
_BRACE = re.compile(r"\\[{}\"]|[{})\"]|\n[ \t]*@[ \t]*[A-Za-z]+[ \t]*\{[^,={}\s]*,")


@dataclass(frozen=True)
class Entry:
    """An entry.

    Attributes:
        kind: `article` of `@article`.
        text: The entry as it stands.
        before: What stands between the entry before and this one.
    """

    kind: str
    text: str
    before: str


def split_entries(path: Path, text: str) -> tuple[list[Entry], list[str], str]:
    """The entries of a file, the texts of its `@string` blocks, and what stands after the last.

    Raises:
        InputError: an entry has no end.
    """
    entries: list[Entry] = []
    strings: list[str] = []
    done = position = 0
    endless = False  # a comment: looking for the end of each that follows would take ages
    while match := _BLOCK.search(text, position):
        kind = match.group(1).lower()
        if kind == "comment" and endless:
            position = match.end()
            continue
        end = _end(text, match.end(), match.group(2))
        if end is None or end == _NEVER:
            if kind == "comment":
                endless = end == _NEVER
                position = match.end()
                continue
            line = text.count("\n", 0, match.start()) + 1
            raise InputError(
                f"{path}: line {line}: an entry that cannot be read "
                f"({text[match.start() : match.start() + 40].strip()!r}); close its braces"
            )
        position = end
        if kind == "string":
            strings.append(text[match.start() : end])
        elif kind not in ("comment", "preamble"):
            entries.append(
                Entry(match.group(1), text[match.start() : end], text[done : match.start()])
            )
            done = end
    return entries, strings, text[done:]


def _end(text: str, start: int, opening: str) -> int | None:
    """Where a block ends; None where another entry begins before it does, or `_NEVER`."""
    depth, quoted = 0, False
    for match in _BRACE.finditer(text, start):
        token = match.group()
        if token == "{":
            depth += 1
        elif token == "}" and (depth or opening == "{"):
            depth -= 1
            if depth < 0:
                return match.end()
        elif token == '"' and depth == 0:
            quoted = not quoted
        elif token == ")" and opening == "(" and depth == 0 and not quoted:
            return match.end()
        elif token[0] == "\n":
            return None
    return _NEVER


def split_parts(entry: str) -> tuple[str, list[tuple[str, str]], str]:
    """What stands before the key of an entry, its parts between commas by name, and the end.

    The key is a part without a name.
    """
    opening = re.search(r"[{(]", entry)
    assert opening is not None
    closing = "}" if opening.group() == "{" else ")"
    start = position = opening.end()
    depth, quoted, parts = 0, False, []
    for match in re.finditer(r'\\[{}"]|[{}",)]', entry[start:]):
        letter = match.group()
        position = opening.end() + match.start()
        if letter == '"' and depth == 0:
            quoted = not quoted
        elif depth == 0 and not quoted and letter in (",", closing):
            parts.append(entry[start:position])
            start = position + 1
            if letter == closing:
                break
        depth += (letter == "{") - (letter == "}")
    names = [part.partition("=")[0].strip().lower() if "=" in part else "" for part in parts]
    return entry[: opening.end()], list(zip(names, parts, strict=True)), entry[position:]


def split_outside(text: str, separator: str) -> list[str]:
    """The parts of a value between separators that stand in no braces.

    Args:
        text: Still with its LaTeX.
        separator: A regular expression.
    """
    depth, start, parts = 0, 0, []
    for match in re.finditer(rf"\\[{{}}]|[{{}}]|{separator}", text):
        token = match.group()
        if token in ("{", "}"):
            depth += 1 if token == "{" else -1
        elif depth == 0 and not token.startswith("\\"):
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def read_value(text: str, macros: dict[str, str]) -> str:
    """The value of `{text} # macro`, still with its LaTeX."""
    parts = []
    for part in _concatenated(text.strip()):
        if part[:1] in ("{", '"') and len(part) > 1:
            parts.append(part[1:-1])
        else:
            parts.append(macros.get(part.lower(), part))
    return "".join(parts)


def _concatenated(text: str) -> Iterator[str]:
    depth, quoted, start = 0, False, 0
    for match in re.finditer(r'\\[{}"]|[{}"#]', text):
        letter = match.group()
        if letter == '"' and depth == 0:
            quoted = not quoted
        elif letter == "#" and depth == 0 and not quoted:
            yield text[start : match.start()].strip()
            start = match.end()
        depth += (letter == "{") - (letter == "}")
    yield text[start:].strip()
