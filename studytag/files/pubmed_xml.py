"""PubMed's XML: the yearly baseline, the daily updates, and what efetch returns.

Records are taken from the stream one at a time and forgotten, so that a baseline file of 30,000
records needs no more memory than one of ten. Element by element the format is described at
https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studytag.files.notices import notice
from studytag.files.options import ReadOptions
from studytag.files.pubmed_parts import (
    DATES,
    LISTS,
    TEXTS,
    Parts,
    child_texts,
    day,
    person,
    sections,
    text,
    unread,
)
from studytag.files.rows import Layout, Origin, UnreadRow
from studytag.files.values import first_text, first_year
from studytag.files.xml_records import iterate_records
from studytag.records import Row, clean

_RECORDS = ("PubmedArticle", "PubmedBookArticle")
_DELETED = "DeleteCitation"
ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", *_RECORDS)
_SAID_ONCE = {"vernacular_title": "title", "book_title": "title", "issn_linking": "issn"}
"""Columns that are empty where another one says the same."""


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The articles and book chapters of the file.

    A citation that it deletes is an `UnreadRow` with its pmid where rows that cannot be read are
    handed out, and passed over elsewhere.

    Every row has the same columns; lists are empty where the record has none (a record not
    indexed yet has no MeSH). An element that has text but no column, such as the list of cited
    references, is named once in the log. Documents written one after another, as saved pages of
    efetch are, are all read.

    Raises:
        InputError: the file is not PubMed XML, or damaged; the message counts the records before.
    """
    remedy = "PubMed's <PubmedArticleSet>; export the records from PubMed as XML"
    named: set[str] = set()
    for record in iterate_records(path, (*_RECORDS, _DELETED), ROOTS, remedy):
        if record.tag != _DELETED:
            for element in () if options.quiet else unread(record, named):
                notice("%s: <%s> is not read: %.60r", path, element.tag, text(element))
            yield _row(record)
        elif options.return_errors:
            for pmid in record.iterfind("PMID"):
                row = _row(record) | {"pmid": text(pmid)}
                yield UnreadRow(row, Origin(Layout("xml"), None, row), "deleted from PubMed")


def _row(record: Any) -> Row:
    parts = Parts(record)
    abstract, others = _abstracts(parts)
    pages = map(parts.first, ("StartPage", "EndPage"))
    row: Row = {
        "pmid": parts.first("PMID"),
        "title": parts.first("ArticleTitle VernacularTitle BookTitle"),
        "abstract": abstract,
        "year": _year(parts),
        **{name: parts.first(tags) for name, tags in TEXTS.items()},
        **_people(parts),  # before what MEDLINE says below their names
        **{name: _list(parts, *place) for name, place in LISTS.items()},
        **{name: first_text(*map(day, parts.each(tag))) for name, tag in DATES.items()},
        "language": "; ".join(filter(None, map(text, parts.each("Language")))) or None,
        "date": _date(parts),
        "pages": parts.first("MedlinePgn") or "-".join(filter(None, pages)) or None,
        "other_abstracts": [_with_type(other) for other in others],
        "other_abstract_languages": [clean(other.get("Language", "eng")) for other in others],
    }
    row |= _identifiers(parts, row["pmid"])
    return row | {name: None for name, main in _SAID_ONCE.items() if row[name] == row[main]}


def _list(parts: Parts, tags: str, within: str, form: Callable[[Any], str]) -> list[str]:
    found = (form(one) for part in parts.each(tags) for one in part.iter(*within.split()))
    return list(dict.fromkeys(filter(None, found)))


def _people(parts: Parts) -> dict[str, list[str]]:
    """Authors, editors and investigators; authors of a book apart from those of its chapter."""
    people: dict[str, list[str]] = {
        name: [] for name in ("authors", "editors", "book_authors", "investigators")
    }
    for group in parts.each("AuthorList InvestigatorList"):
        level = group.getparent()
        if group.tag == "InvestigatorList":
            role = "investigators"
        elif group.get("Type") == "editors":
            role = "editors"
        elif level.tag == "Book" and level.getparent().find("AuthorList") is not None:
            role = "book_authors"
        else:
            role = "authors"
        people[role] += filter(None, map(person, group.iterchildren("Author", "Investigator")))
    return people


def _identifiers(parts: Parts, pmid: str | None) -> Row:
    """The first doi and pmcid, and all others as PubMed writes them: `S0000-0000(20)1 [pii]`."""
    found = [
        (text(one), one.get("IdType") or one.get("EIdType"))
        for part in parts.each("ArticleIdList ELocationID")
        for one in part.iter("ArticleId", "ELocationID")
    ]
    own = {
        name: first_text(*(said for said, kind in found if kind == kind_of_it))
        for name, kind_of_it in (("doi", "doi"), ("pmcid", "pmc"))
    }
    others = (
        f"{said} [{kind}]" for said, kind in found if said and said not in (pmid, *own.values())
    )
    return {**own, "article_ids": list(dict.fromkeys(others))}


def _abstracts(parts: Parts) -> tuple[str | None, list[Any]]:
    """The abstract, and the elements of others; without an own one, an English one if any."""
    own = " ".join(said for abstract in parts.each("Abstract") for said in sections(abstract))
    others = [other for other in parts.each("OtherAbstract") if sections(other)]
    if own or not others:
        return own or None, others
    chosen = min(
        others, key=lambda other: clean(other.get("Language", "eng")).lower() not in ("eng", "en")
    )
    return " ".join(sections(chosen)), [other for other in others if other is not chosen]


def _with_type(abstract: Any) -> str:
    """`Publisher: Resumen ...`, as PubMed writes it."""
    return ": ".join(filter(None, (clean(abstract.get("Type")), " ".join(sections(abstract)))))


def _date(parts: Parts) -> str | None:
    dates = parts.each("PubDate ArticleDate")
    return first_text(*(" ".join(child_texts(date)) for date in dates))


def _year(parts: Parts) -> int | None:
    """The year of the issue, else of electronic publication, else of entry into PubMed."""
    dates = [
        date.findtext(part) for date in parts.each("PubDate") for part in ("Year", "MedlineDate")
    ]
    dates += (date.findtext("Year") for date in parts.each("ArticleDate"))
    entered = "PubMedPubDate[@PubStatus='pubmed']/Year"
    return first_year(*dates, *(history.findtext(entered) for history in parts.each("History")))
