"""The columns every reader hands out alike: canonical names, tidy cells, years from dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.records import LIST_COLUMNS, Row, clean

_SPELLINGS = {
    **dict.fromkeys(("title", "ti", "article title", "article_title", "articletitle"), "title"),
    **dict.fromkeys(("abstract", "ab", "abstract text", "abstract_text"), "abstract"),
    **dict.fromkeys(("pmid", "pubmed id", "pubmed_id", "pubmedid"), "pmid"),
}
_WHOLE_NUMBER = re.compile(r"\d{1,4}(\.0*)?", re.ASCII)  # tables with gaps store years as 2020.0
_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)", re.ASCII)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_NO_TITLE = "[Not Available]."  # what PubMed puts where only a title in the vernacular exists


def canonical_names(names: Sequence[str]) -> list[str]:
    """`names` with spellings such as `Title`, `AB` or `PubMed ID` made title, abstract, pmid.

    A column already called by the canonical name keeps it; every other name stays as it is.
    """
    renamed = list(names)
    for position, name in enumerate(names):
        canonical = _SPELLINGS.get(name.strip().lower())
        if canonical and canonical not in renamed:
            renamed[position] = canonical
    return renamed


def table_columns(path: Path, names: Sequence[str]) -> list[str]:
    """The canonical column names of a table.

    Raises:
        InputError: two columns share a name, or there is neither a title nor an abstract.
    """
    renamed = canonical_names(names)
    twice = [name for name in renamed if renamed.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column {twice[0]!r} appears twice; rename one of them")
    if not {"title", "abstract"} & set(renamed):
        found = ", ".join(repr(name[:40]) for name in names[:20]) or "no column"
        raise InputError(
            f"{path}: needs a column 'title' or 'abstract', found {found}; rename a column"
        )
    return renamed


def missing(value: object) -> bool:
    """Whether a cell is empty: None, or the NaN that pandas makes of it."""
    return value is None or (isinstance(value, float) and value != value)


def split_list(text: str) -> list[str]:
    """The items of a list written in one cell: `Cohort; Human`, since MeSH headings hold commas.

    `['Cohort', 'Human']` and `['Cohort' 'Human']` too, as pandas writes lists and arrays to CSV.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        items = [single or double for single, double in _QUOTED.findall(text)]
    else:
        items = text.split(";")
    return [item.strip() for item in items if item.strip()]


def tidy(row: Row, where: str) -> Row:
    """`row` with None for missing cells, and `year`, `pmid` and the list columns in their types.

    Args:
        row: Column name to value; other columns pass unchanged.
        where: File and line (or row), to begin a message with.

    Raises:
        InputError: a year is not a number, or a list column holds something else.
    """
    return {name: _tidy_cell(name, value, where) for name, value in row.items()}


def _tidy_cell(name: str, value: Any, where: str) -> Any:
    if missing(value):
        return None
    if name == "year":
        return _year(value, where)
    if name in LIST_COLUMNS:
        return _items(name, value, where)
    if name == "pmid" and isinstance(value, int | float) and float(value).is_integer():
        return str(int(value))
    return value


def _year(value: Any, where: str) -> int | None:
    text = str(value).strip()
    if not text:
        return None
    if not _WHOLE_NUMBER.fullmatch(text):
        raise InputError(
            f"{where}: column 'year' holds {value!r:.40}; write a year such as 2020, or nothing"
        )
    return int(float(text))


def _items(name: str, value: Any, where: str) -> list[Any]:
    if isinstance(value, str):
        return split_list(value)
    if isinstance(value, list | tuple):
        return list(value)
    raise InputError(f"{where}: column {name!r} holds {value!r:.40}; write a list of texts")


def first_text(*candidates: str | None) -> str | None:
    """The first candidate with any text, white space made single spaces; None without one."""
    texts = (clean(candidate) for candidate in candidates)
    return next((text for text in texts if text and text != _NO_TITLE), None)


def first_year(*dates: str | None) -> int | None:
    """The first year named in the first date that names one: 1998 of `1998 Dec-1999 Jan`."""
    found = (_YEAR.search(date or "") for date in dates)
    return next((int(match.group()) for match in found if match), None)
