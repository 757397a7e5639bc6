"""What the documentation shows: its pages, and their commands, code, tables, links and figures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
RESULTS = DOCS / "results.md"
BENCH_TABLES = REPOSITORY / "bench" / "results"

FOLDERS = ("train", "export", "infer", "data", "artifacts")
"""Each has a README of its own."""

PAGES = [
    README,
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "SECURITY.md",
    *(REPOSITORY / folder / "README.md" for folder in FOLDERS),
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands.
        line: The number of its first line, counted from 1.
        language: The word after the fence.
        text: What is between the fences.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """A page's path in the repository, the same on every system."""
    return page.relative_to(REPOSITORY).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    """A page as markdown-it reads it."""
    text = page.read_text(encoding="utf-8")
    return MarkdownIt("commonmark").enable("table").parse(text)


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of one language, in order."""
    return [
        Block(page, token.map[0] + 2, language, token.content)
        for token in tokens(page)
        if token.type == "fence" and token.info.strip() == language and token.map
    ]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command of a shell script, without pipes, loops and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        redirected = False
        for word in [*lexer, ";"]:
            if word in (";", "|", "||", "&&", "&"):
                yield from _without_shell(words)
                words = []
            elif word in (">", ">>", "<"):
                redirected = True
            elif redirected:
                redirected = False
            else:
                words.append(word)


def _without_shell(words: list[str]) -> Iterator[list[str]]:
    """A command without the variables set and the keywords before it; nothing if none is left."""
    while words and (words[0] in ("do", "done", "!") or re.match(r"\w+=", words[0])):
        words = words[1:]
    if words and words[0] != "for":
        yield words


def links(page: Path) -> list[str]:
    """The targets of a page's links and images."""
    return [
        str(child.attrGet("href") or child.attrGet("src"))
        for token in tokens(page)
        for child in token.children or ()
        if child.type in ("link_open", "image")
    ]


def anchors(page: Path) -> set[str]:
    """What `#...` may follow the page's address: its headings, as GitHub and MyST write them."""
    return {
        re.sub(r"[^\w\- ]", "", following.content.lower()).replace(" ", "-")
        for token, following in zip(tokens(page), tokens(page)[1:], strict=False)
        if token.type == "heading_open"
    }


def inline_code(page: Path) -> Iterator[str]:
    """What stands between single backticks."""
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content


def table_rows(page: Path) -> list[tuple[str, ...]]:
    """The cells of every row of every table, headings included."""
    rows: list[list[str]] = []
    cell = False
    for token in tokens(page):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            cell = True
        elif token.type == "inline" and cell:
            rows[-1].append(token.content)
            cell = False
    return [tuple(row) for row in rows]


def prose(page: Path, without_sections: tuple[str, ...] = ()) -> str:
    """A page's text outside tables, fenced blocks and the sections named."""
    kept: list[str] = []
    table = heading = skipped = False
    for token in tokens(page):
        if token.type in ("table_open", "table_close"):
            table = token.type == "table_open"
        elif token.type == "heading_open":
            heading = True
        elif token.type == "inline" and not table:
            if heading:
                skipped, heading = token.content in without_sections, False
            if not skipped:
                kept.append(token.content)
    return "\n".join(kept)
