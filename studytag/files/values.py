"""What a cell or a tag says, in the type of its column: years, pmids, lists, text for the model."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

from studytag.records import LIST_COLUMNS, PREDICTED_COLUMN, clean

LISTS = frozenset((*LIST_COLUMNS, PREDICTED_COLUMN))
"""Columns that hold lists of texts in every format."""

LARGEST_NUMBER = 10**300
"""Longer whole numbers are no numbers of anything, and Python refuses to print some."""

NO_TITLE = "[Not Available]."
"""What PubMed puts where only a title in the vernacular exists."""

_WHOLE_NUMBER = re.compile(r"\d{1,4}(\.0*)?", re.ASCII)  # tables with gaps store years as 2020.0
_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)", re.ASCII)
_DATE = re.compile(r"(?<!\d)((?:1[5-9]|20)\d\d)(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?!\d)", re.ASCII)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_PANDAS_ITEM = r"(?:'[^']*'|\"[^\"]*\"|nan|None)"
_PANDAS_LIST = re.compile(rf"\[\s*{_PANDAS_ITEM}(?:[\s,]+{_PANDAS_ITEM})*\s*\]")
_NOTHING = frozenset(
    ("", "na", "n/a", "nan", "<na>", "null", "none", "nil")
    # What Excel makes of text that begins with = or -, which it takes for a formula.
    + ("#n/a", "#name?", "#value!", "#ref!", "#num!", "#null!", "#div/0!")
)

_NUMBER = re.compile(r"([0-9]{1,8})(?:\.0*)?", re.ASCII)
_NAMED_PMID = re.compile(
    r"\b(?:PMID[\s:=#\]()\[-]{0,4}([0-9]{1,8})|"
    r"(?:PubMed(?:[ _-]?ID)?|MEDLINE|NLM)[\s:=#\]()\[-]{0,4}([0-9]{5,8}))(?![0-9])",
    re.I,
)
_FOLLOWED_BY_NAME = re.compile(
    r"(?<![0-9])([0-9]{1,8})\s*[(\[]\s*(?:PMID|PubMed|MEDLINE)\s*[)\]]", re.I
)
# Where two parts could take the same space, a long run of it would be tried in every division.
_NOTED_PMID = re.compile(
    r"(?:^|\n)[^\S\n]*PMID\s*(?:[:=]\s*)?([0-9]{1,8})[^\S\n]*(?:$|[\n;,\[])", re.I
)
_PUBMED_URL = re.compile(
    r"(?:pubmed\.ncbi\.nlm\.nih\.gov/|ncbi\.nlm\.nih\.gov/(?:m/)?pubmed/(?:\?term=)?|"
    r"identifiers\.org/pubmed[:/]|europepmc\.org/(?:article|abstract)/med/)([0-9]{1,8})(?![0-9])",
    re.I,
)

_INLINE = (
    "i b u em strong sub sup inf tt sc font span a small big mark abbr strike s it bold italic"
)
_BLOCK = "p br div li ul ol h1 h2 h3 h4 h5 h6 hr table tr td th sec title blockquote section"
_TAG = re.compile(
    rf"</?(?:(?P<inline>{'|'.join(_INLINE.split())}|(?:mml|xlink):[\w-]+)"
    rf"|(?:jats:)?(?:{'|'.join((*_BLOCK.split(), *_INLINE.split()))})|jats:[\w-]+)"
    r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"']+))*\s*/?>",
    re.I,
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def missing(value: object) -> bool:
    """Whether a cell is empty: None, or the NaN that pandas makes of it."""
    return value is None or (isinstance(value, float) and value != value)


def says_nothing(value: object) -> bool:
    """Whether a cell that should hold text, a year or a number is empty: `NA` and `nan` too."""
    if isinstance(value, str):
        return not value or (len(value) < 9 and value.strip().lower() in _NOTHING)
    return value is None or missing(value)


def model_text(value: Any) -> Any:
    """A title or abstract without HTML tags and entities; anything but text passes unchanged.

    Only elements that occur in bibliographic text are taken for tags: `p <0.05 and b> 3` stays.
    """
    if not isinstance(value, str) or not ("<" in value or "&" in value):
        return value
    text = _ENTITY.sub(lambda match: html.unescape(match.group()), _untagged(value))
    return clean(_untagged(text)) if text != value else value


def _untagged(text: str) -> str:
    return _TAG.sub(lambda match: "" if match.group("inline") else " ", text)


def split_list(text: str) -> list[str]:
    """The items of a list written in one cell: `Cohort; Human`, since MeSH headings hold commas.

    `["Cohort; prospective", "Human"]` is how we write items that hold a semicolon; pandas writes
    lists and arrays as `['Cohort', 'Human']` and `['Cohort' 'Human']`. Other text in brackets, such
    as `[No authors listed]`, is text.
    """
    text = text.strip()
    items: Iterable[str]
    if (stored := json_list(text)) is not None:
        return [str(item) for item in stored if not missing(item)]
    if _PANDAS_LIST.fullmatch(text):
        items = (single or double for single, double in _QUOTED.findall(text))
    else:
        items = re.split(r"[;\n]" if ";" in text or "|" not in text else r"[|\n]", text)
    return [item.strip() for item in items if item.strip()]


def json_list(text: str) -> list[Any] | None:
    """The list that a text is as JSON; None where it is none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError):
        return None  # `[No authors listed]`


def join_list(items: Iterable[Any]) -> str:
    """What `to_list` reads as `items`: joined with semicolons, or JSON where one holds some."""
    texts = [str(item) for item in items if not missing(item)]
    joined = "; ".join(texts)
    if to_list(joined) == texts:
        return joined
    return json.dumps(texts, ensure_ascii=False)


def to_list(value: Any) -> list[Any] | None:
    """A list column's value; None where it is neither list nor text."""
    if isinstance(value, str):
        return [] if says_nothing(value) else split_list(value)
    if isinstance(value, list | tuple):
        return list(value)
    return [] if missing(value) else None


def to_year(value: Any) -> int | None:
    """The year that a cell or a date names: 1998 of `1998 Dec-1999 Jan`, None of `in press`."""
    if isinstance(value, bool) or says_nothing(value):
        return None
    if hasattr(value, "year"):  # a date
        return int(value.year)
    text = str(value).strip()
    if _WHOLE_NUMBER.fullmatch(text):
        return int(float(text))
    match = _YEAR.search(text) or _DATE.search(text)
    return int(match.group(match.lastindex or 0)) if match else None


def first_year(*dates: Any) -> int | None:
    """The year of the first date that names one."""
    return next((year for year in map(to_year, dates) if year is not None), None)


def first_text(*candidates: str | None) -> str | None:
    """The first candidate with any text, white space made single spaces; None without one."""
    texts = (clean(candidate) for candidate in candidates)
    return next((text for text in texts if text and text != NO_TITLE), None)


def to_pmid(value: Any) -> str | None:
    """The text of a column that holds pmids: `38507184` of `PUBMED 38507184` or of 38507184.0."""
    if isinstance(value, bool) or says_nothing(value):
        return None
    if isinstance(value, int | float):
        return whole_number(value) or value  # type: ignore[return-value]
    text = str(value).strip()
    if number := _NUMBER.fullmatch(text):
        return number.group(1)
    return named_pmid(text) or text


def whole_number(value: float) -> str | None:
    """A whole number without a fraction as text; None of others, and of those too long for text."""
    if isinstance(value, int):
        return str(value) if abs(value) < LARGEST_NUMBER else None
    return str(int(value)) if value.is_integer() and abs(value) < LARGEST_NUMBER else None


def named_pmid(text: str) -> str | None:
    """The pmid in a text that says that it is one, by name or by a PubMed address."""
    for pattern in (_PUBMED_URL, _NAMED_PMID, _FOLLOWED_BY_NAME):
        if match := pattern.search(text):
            return str(match.group(match.lastindex or 0))
    return None


def noted_pmid(text: str) -> str | None:
    """The pmid in a note one of whose lines is `PMID: 12345678`; other notes may name others'."""
    match = _NOTED_PMID.search(text)
    return match.group(1) if match else None


def plain_number(text: str) -> str | None:
    """`text` if it is nothing but 1 to 8 digits, as pmids are."""
    match = _NUMBER.fullmatch(text.strip())
    return match.group(1) if match else None
