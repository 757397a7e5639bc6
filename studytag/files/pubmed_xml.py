"""PubMed's XML: the yearly baseline, the daily updates, and what efetch returns.

Records are taken from the stream one at a time and forgotten, so that a baseline file of 30,000
records needs no more memory than one of ten. Element by element the format is described at
https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studytag.errors import InputError, missing_dependency
from studytag.files.columns import first_text, first_year
from studytag.files.streams import DAMAGED_GZIP, open_bytes
from studytag.records import Row, clean

_RECORDS = ("PubmedArticle", "PubmedBookArticle")
_ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", *_RECORDS)

# Nothing outside the file is ever read and no entity is expanded. The parser's own limits on
# depth and on the length of one text (10 MB) stay in force: PubMed's records are far below them.
_SAFE: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
    "collect_ids": False,
}


def read(path: Path) -> Iterator[Row]:
    """The articles and book chapters of the file; citations it deletes are passed over.

    Each row has exactly pmid, title, abstract, year, journal, pub_types, mesh_terms, language.
    The lists are empty where the record has none (a record not indexed yet has no MeSH).

    Raises:
        InputError: the file is not PubMed XML, or damaged; the message counts the records before.
    """
    try:
        from lxml import etree
    except ImportError as error:
        raise missing_dependency("lxml", "files") from error
    count = 0
    try:
        _check_root(path, etree)
        with open_bytes(path) as stream:
            for _, record in etree.iterparse(stream, events=("end",), tag=_RECORDS, **_SAFE):
                row = _row(record)
                _forget(record)
                count += 1
                yield row
    except etree.XMLSyntaxError as error:
        raise InputError(
            f"{path}: line {error.lineno}: broken XML after {count} records "
            f"({clean(error.msg)}); download the file again"
        ) from error
    except DAMAGED_GZIP as error:
        raise InputError(
            f"{path}: gzip stream is cut off or damaged after {count} records; "
            f"download the file again"
        ) from error


def _check_root(path: Path, etree: Any) -> None:
    """Refuse other XML at once: nothing in it would be forgotten, so it would fill the memory."""
    with open_bytes(path) as stream:
        _, root = next(etree.iterparse(stream, events=("start",), **_SAFE))
        if root.tag not in _ROOTS:
            raise InputError(
                f"{path}: a <{root.tag}> document, not PubMed's <PubmedArticleSet>; "
                f"export the records from PubMed as XML"
            )


def _forget(record: Any) -> None:
    record.clear()
    while record.getprevious() is not None:
        del record.getparent()[0]


def _row(record: Any) -> Row:
    """The row of a PubmedArticle, or of a PubmedBookArticle, whose parts lie one level higher."""
    citation = record.find("MedlineCitation")
    if citation is None:
        citation = record.find("BookDocument")
    if citation is None:
        citation = record
    article = citation.find("Article")
    if article is None:
        article = citation
    pub_types = [*article.iterfind("PublicationTypeList/PublicationType")]
    pub_types += article.iterfind("PublicationType")
    return {
        "pmid": first_text(citation.findtext("PMID")),
        "title": _first(article, "ArticleTitle", "VernacularTitle", "Book/BookTitle"),
        "abstract": " ".join(_sections(article)) or None,
        "year": _year(record, article),
        "journal": _first(article, "Journal/Title", "Journal/ISOAbbreviation")
        or first_text(citation.findtext("MedlineJournalInfo/MedlineTA")),
        "pub_types": _texts(pub_types),
        "mesh_terms": _texts(citation.iterfind("MeshHeadingList/MeshHeading/DescriptorName")),
        "language": _first(article, "Language"),
    }


def _text(element: Any) -> str:
    """All text in `element`, also in italics, sub- and superscripts; white space made one space."""
    return clean("".join(element.itertext()))


def _texts(elements: Any) -> list[str]:
    return [text for text in map(_text, elements) if text]


def _first(element: Any, *paths: str) -> str | None:
    found = (element.find(path) for path in paths)
    return first_text(*(_text(child) for child in found if child is not None))


def _sections(article: Any) -> Iterator[str]:
    for section in article.iterfind("Abstract/AbstractText"):
        text, label = _text(section), clean(section.get("Label"))
        if text:
            yield f"{label}: {text}" if label else text


def _year(record: Any, article: Any) -> int | None:
    """The year of the issue, else of electronic publication, else of entry into PubMed."""
    dates = [
        article.findtext(f"{issue}/{date}")
        for issue in ("Journal/JournalIssue/PubDate", "Book/PubDate")
        for date in ("Year", "MedlineDate")
    ]
    entered = record.findtext(".//PubMedPubDate[@PubStatus='pubmed']/Year")
    return first_year(*dates, article.findtext("ArticleDate/Year"), entered)
