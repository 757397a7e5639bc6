"""EndNote's XML, which Covidence and others export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studytag.files.options import ReadOptions
from studytag.files.rows import Layout, Origin, SourceRow
from studytag.files.values import (
    first_text,
    first_year,
    model_text,
    named_pmid,
    noted_pmid,
    plain_number,
)
from studytag.files.watch import TextWatch
from studytag.files.xml_records import iterate_records
from studytag.records import Row, clean

_WANTED = "EndNote's <xml><records>; export the records from EndNote as XML"
_JOURNAL = ("periodical/full-title", "titles/secondary-title", "periodical/abbr-1", "full-title")
_TEXTS = {
    "abstract": ("abstract",),
    "date": ("dates/pub-dates/date",),
    "volume": ("volume",),
    "issue": ("number",),
    "pages": ("pages",),
    "issn": ("isbn",),
    "doi": ("electronic-resource-num",),
    "publisher": ("publisher",),
    "place_published": ("pub-location",),
    "language": ("language",),
    "edition": ("edition",),
    "accession_number": ("accession-num",),
    "call_number": ("call-num",),
    "label": ("label",),
    "author_address": ("auth-address",),
    "name_of_database": ("remote-database-name",),
    "database_provider": ("remote-database-provider",),
    "short_title": ("titles/short-title",),
    "translated_title": ("titles/translated-title",),
}
_LISTS = {
    "authors": "contributors/authors/author",
    "editors": "contributors/secondary-authors/author",
    "keywords": "keywords/keyword",
    "urls": "urls/*/url",
    "notes": "notes",
    "research_notes": "research-notes",
}
_CUSTOM = tuple(f"custom{number}" for number in range(1, 8))
_PUBMED = ("pubmed", "medline", "nlm", "national library of medicine")


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The records of the file; every row has the same columns.

    Raises:
        InputError: the file is not EndNote XML, or damaged.
    """
    watch = TextWatch(path, options, "element")
    layout = Layout("endnote_xml")
    for record in iterate_records(path, ("record",), ("xml", "records"), _WANTED):
        row, raw = _row(record)
        watch.row(row, ((name, row[name]) for name in ("research_notes", *_CUSTOM)))
        yield SourceRow(row, Origin(layout, None, dict(row), raw))
    watch.finish()


def _row(record: Any) -> tuple[Row, dict[str, Any]]:
    texts = {name: first_text(*_texts(record, *paths)) for name, paths in _TEXTS.items()}
    lists = {name: _texts(record, path) for name, path in _LISTS.items()}
    custom = {name: first_text(*_texts(record, name)) for name in _CUSTOM}
    title = first_text(*_texts(record, "titles/title", "titles/translated-title"))
    year = first_text(*_texts(record, "dates/year"))
    kind = record.find("ref-type")
    row: Row = {
        "pmid": _pmid(texts, lists, custom),
        "title": model_text(title),
        "abstract": model_text(texts.pop("abstract")),
        "year": first_year(year, texts["date"]),
        "journal": first_text(*_texts(record, *_JOURNAL)),
        "pub_types": _texts(record, "work-type"),
        "type_of_reference": None if kind is None else kind.get("name"),
        **texts,
        **lists,
        **custom,
    }
    originals = {
        "title": title,
        "abstract": first_text(*_texts(record, "abstract")),
        "year": year if year and year != str(row["year"]) else None,
    }
    raw = {name: text for name, text in originals.items() if text and text != row[name]}
    return row, raw


def _texts(record: Any, *paths: str) -> list[str]:
    """The texts of the elements at `paths`, without the `<style>` elements around their parts."""
    found = (element for path in paths for element in record.iterfind(path))
    return [text for text in (clean("".join(element.itertext())) for element in found) if text]


def _pmid(texts: Row, lists: Row, custom: Row) -> str | None:
    database = f"{texts['name_of_database']} {texts['database_provider']}".lower()
    accession = texts["accession_number"] or ""
    number = plain_number(accession)
    if number and any(name in database for name in _PUBMED):
        return number
    candidates = (accession, *filter(None, custom.values()), *lists["urls"])
    found = (*map(named_pmid, candidates), *map(noted_pmid, lists["notes"]))
    return next(filter(None, found), None)
