"""PubMed's XML: the yearly baseline, the daily updates, and what efetch returns.

Records are taken from the stream one at a time and forgotten, so that a baseline file of 30,000
records needs no more memory than one of ten. Element by element the format is described at
https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studytag.files.options import ReadOptions
from studytag.files.rows import Layout, Origin, UnreadRow
from studytag.files.values import first_text, first_year
from studytag.files.xml_records import iterate_records
from studytag.records import Row, clean

_RECORDS = ("PubmedArticle", "PubmedBookArticle")
_DELETED = "DeleteCitation"
ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", *_RECORDS)


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The articles and book chapters of the file.

    A citation that it deletes is an `UnreadRow` with its pmid where rows that cannot be read are
    handed out, and passed over elsewhere.

    Every row has the same columns; lists are empty where the record has none (a record not
    indexed yet has no MeSH). Documents written one after another, as saved pages of efetch are,
    are all read.

    Raises:
        InputError: the file is not PubMed XML, or damaged; the message counts the records before.
    """
    remedy = "PubMed's <PubmedArticleSet>; export the records from PubMed as XML"
    for record in iterate_records(path, (*_RECORDS, _DELETED), ROOTS, remedy, options.encoding):
        if record.tag != _DELETED:
            yield _row(record)
        elif options.return_errors:
            for pmid in record.iterfind("PMID"):
                row = _row(record) | {"pmid": _text(pmid)}
                yield UnreadRow(row, Origin(Layout("xml"), None, row), "deleted from PubMed")


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
        "abstract": _abstract(citation, article),
        "year": _year(record, article),
        "journal": _first(article, "Journal/Title", "Journal/ISOAbbreviation")
        or first_text(citation.findtext("MedlineJournalInfo/MedlineTA")),
        "pub_types": _texts(pub_types),
        "mesh_terms": _texts(citation.iterfind("MeshHeadingList/MeshHeading/DescriptorName")),
        "language": _first(article, "Language"),
        **_bibliography(record, citation, article),
    }


def _bibliography(record: Any, citation: Any, article: Any) -> Row:
    """What the model never sees, but other programs expect back."""
    identifiers = {
        kind: _texts(record.iterfind(f"PubmedData/ArticleIdList/ArticleId[@IdType='{kind}']"))
        or _texts(article.iterfind(f"ELocationID[@EIdType='{kind}']"))
        for kind in ("doi", "pmc")
    }
    issue = "Journal/JournalIssue"
    dates = (article.find(place) for place in (f"{issue}/PubDate", "Book/PubDate", "ArticleDate"))
    date = next((found for found in dates if found is not None), None)
    return {
        "authors": [name for name in map(_name, article.iterfind("AuthorList/Author")) if name],
        "date": None if date is None else " ".join(_texts(date)) or None,
        "volume": _first(article, f"{issue}/Volume"),
        "issue": _first(article, f"{issue}/Issue"),
        "pages": _first(article, "Pagination/MedlinePgn", "Pagination/StartPage"),
        "issn": _first(article, "Journal/ISSN"),
        "journal_abbreviation": _first(article, "Journal/ISOAbbreviation")
        or first_text(citation.findtext("MedlineJournalInfo/MedlineTA")),
        "doi": first_text(*identifiers["doi"]),
        "pmcid": first_text(*identifiers["pmc"]),
        "keywords": _texts(citation.iterfind("KeywordList/Keyword")),
        "author_address": list(
            dict.fromkeys(_texts(article.iterfind(".//AffiliationInfo/Affiliation")))
        ),
        "place_published": first_text(citation.findtext("MedlineJournalInfo/Country")),
    }


def _name(author: Any) -> str | None:
    family, given = (first_text(author.findtext(part)) for part in ("LastName", "ForeName"))
    if family:
        return f"{family}, {given}" if given else family
    return _first(author, "CollectiveName")


def _text(element: Any) -> str:
    """All text in `element`, also in italics, sub- and superscripts; white space made one space."""
    return clean("".join(element.itertext()))


def _texts(elements: Any) -> list[str]:
    return [text for text in map(_text, elements) if text]


def _first(element: Any, *paths: str) -> str | None:
    found = (element.find(path) for path in paths)
    return first_text(*(_text(child) for child in found if child is not None))


def _abstract(citation: Any, article: Any) -> str | None:
    """The abstract, else another one that the record has: in English if there is such."""
    if own := " ".join(_sections(article.find("Abstract"))):
        return own
    others = [other for other in citation.iterfind("OtherAbstract") if list(_sections(other))]
    others.sort(key=lambda other: clean(other.get("Language", "eng")).lower() not in ("eng", "en"))
    return " ".join(_sections(others[0])) if others else None


def _sections(abstract: Any) -> Iterator[str]:
    if abstract is None:
        return
    for section in abstract.iterfind("AbstractText"):
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
