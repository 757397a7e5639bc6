"""EndNote's XML, which Covidence and others export."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studytag.files.options import ReadOptions
from studytag.files.rows import Layout, Origin, SourceRow, refuse_many_columns
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
_TITLE = "titles/title"
_YEAR = "dates/year"
_JOURNAL = ("periodical/full-title", "titles/secondary-title", "full-title")
_TEXTS = {
    "abstract": "abstract",
    "date": "dates/pub-dates/date",
    "volume": "volume",
    "issue": "number",
    "pages": "pages",
    "issn": "isbn",
    "doi": "electronic-resource-num",
    "publisher": "publisher",
    "place_published": "pub-location",
    "language": "language",
    "edition": "edition",
    "accession_number": "accession-num",
    "call_number": "call-num",
    "label": "label",
    "author_address": "auth-address",
    "name_of_database": "remote-database-name",
    "database_provider": "remote-database-provider",
    "journal_abbreviation": "periodical/abbr-1",
    "access_date": "access-date",
    "section": "section",
    "short_title": "titles/short-title",
    "translated_title": "titles/translated-title",
}
_LISTS = {
    "authors": "contributors/authors/author",
    "editors": "contributors/secondary-authors/author",
    "tertiary_authors": "contributors/tertiary-authors/author",
    "subsidiary_authors": "contributors/subsidiary-authors/author",
    "keywords": "keywords/keyword",
    "pub_types": "work-type",
    "urls": "urls/*/url",
    "notes": "notes",
    "research_notes": "research-notes",
}
_CUSTOM = tuple(f"custom{number}" for number in range(1, 8))
_PUBMED = ("pubmed", "medline", "nlm", "national library of medicine")
_LEAVES = frozenset((_TITLE, _YEAR, *_JOURNAL, *_TEXTS.values(), *_LISTS.values(), *_CUSTOM))


def read(path: Path, options: ReadOptions) -> Iterator[Row]:
    """The records of the file; every row has the same columns.

    An element for which we have no name is a column such as `endnote/titles/alt-title`. The file is
    read twice: first to learn which there are.

    Raises:
        InputError: the file is not EndNote XML, or damaged.
    """
    watch = TextWatch(path, options, "element")
    layout = Layout("endnote_xml")
    others: dict[str, bool] = {}
    for elements in _records(path, options):
        _row(elements)
        for name, texts in elements.others():
            others[name] = others.get(name, False) or len(texts) > 1
        refuse_many_columns(path, len(others))
    for elements in _records(path, options):
        row, raw = _row(elements)
        rest = dict(elements.others())
        for name, many in others.items():
            texts = rest.get(name, [])
            row[name] = texts if many else next(iter(texts), None)
        watch.row(row, ((name, row[name]) for name in ("research_notes", *_CUSTOM)))
        yield SourceRow(row, Origin(layout, None, dict(row), raw))
    watch.finish()


def _records(path: Path, options: ReadOptions) -> Iterator[_Elements]:
    roots = ("xml", "records")
    records = iterate_records(path, ("record",), roots, _WANTED, options.encoding)
    return map(_Elements, records)


class _Elements:
    """The texts of a record by the path of their element; those that are taken are gone."""

    def __init__(self, record: Any) -> None:
        kind = record.find("ref-type")
        self.kind: str | None = None if kind is None else kind.get("name")
        self._texts: dict[str, list[str]] = {}
        for path, text in _leaves(record):
            self._texts.setdefault(path, []).append(text)

    def text(self, *paths: str) -> str | None:
        """Take the first text at these paths, of which several may say the same."""
        found = first_text(*(text for path in paths for text in self._texts.get(path, ())))
        for path in paths:
            if found and found in self._texts.get(path, ()):
                self._texts[path].remove(found)
        return found

    def texts(self, pattern: str) -> list[str]:
        """Take all texts at a path, in which a star stands for any name."""
        return [t for path in fnmatch.filter(self._texts, pattern) for t in self._texts.pop(path)]

    def others(self) -> Iterator[tuple[str, list[str]]]:
        """What nobody took, by the names of columns."""
        return ((f"endnote/{path}", texts) for path, texts in self._texts.items() if texts)


def _leaves(element: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """The elements that hold text, without the `<style>` elements around parts of it."""
    for child in element:
        path = f"{place}{child.tag}"
        bare = not clean("".join(filter(None, (child.text, *(part.tail for part in child)))))
        if path not in _LEAVES and bare and any(part.tag != "style" for part in child):
            yield from _leaves(child, f"{path}/")
        elif text := clean("".join(child.itertext())):
            yield path, text


def _row(elements: _Elements) -> tuple[Row, dict[str, Any]]:
    texts = {name: elements.text(path) for name, path in _TEXTS.items()}
    lists = {name: elements.texts(path) for name, path in _LISTS.items()}
    custom = {name: elements.text(name) for name in _CUSTOM}
    title = elements.text(_TITLE) or texts["translated_title"]
    abstract = texts.pop("abstract")
    year = elements.text(_YEAR)
    journal = elements.text(*_JOURNAL)
    elements.texts("ref-type")  # the number of the kind
    row: Row = {
        "pmid": _pmid(texts, lists, custom),
        "title": model_text(title),
        "abstract": model_text(abstract),
        "year": first_year(year, texts["date"]),
        "journal": journal or texts["journal_abbreviation"],
        "pub_types": lists.pop("pub_types"),
        "type_of_reference": elements.kind,
        **texts,
        **lists,
        **custom,
    }
    originals = {
        "title": title,
        "abstract": abstract,
        "year": year if year and year != str(row["year"]) else None,
    }
    raw = {name: text for name, text in originals.items() if text and text != row[name]}
    return row, raw


def _pmid(texts: Row, lists: Row, custom: Row) -> str | None:
    database = f"{texts['name_of_database']} {texts['database_provider']}".lower()
    accession = texts["accession_number"] or ""
    number = plain_number(accession)
    if number and any(name in database for name in _PUBMED):
        return number
    candidates = (accession, *filter(None, custom.values()), *lists["urls"])
    found = (*map(named_pmid, candidates), *map(noted_pmid, lists["notes"]))
    return next(filter(None, found), None)
