"""Download the PubMed records that match a query, as a folder of XML pages that can be resumed.

The records are first listed (esearch: the PMIDs of every date range), the list is written to
`fetch.json`, and the pages are then asked for by PMID (efetch). PubMed's history server
(`usehistory`) would spare sending the PMIDs, but its answers are numbered by position: a record
added to PubMed between two runs shifts them all, so a resumed download would miss some records and
repeat others. A stored list of PMIDs has no such trouble, does not expire, and shows which records
an answer lacks.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from studytag.data import eutils
from studytag.errors import InputError, import_extra
from studytag.files import atomic_path, write_json_atomically

log = logging.getLogger(__name__)

STATE_FILE = "fetch.json"
"""Name of the file, beside the pages, that holds the query and the PMIDs of every page."""

_FIRST_YEAR = 1800  # PubMed's oldest records are of the early nineteenth century
_MAX_PAGE = 10_000  # the most records that efetch sends at once


@dataclass(frozen=True)
class FetchSummary:
    """What a folder holds after `fetch`.

    Attributes:
        records: Records that the query matched.
        pages: Files they are in.
        skipped_pages: Those among them that an earlier run had already downloaded.
        folder: Where they are.
    """

    records: int
    pages: int
    skipped_pages: int
    folder: Path


@dataclass(frozen=True)
class _Request:
    """What is asked of PubMed; a folder belongs to one request. None leaves a side open."""

    query: str
    first_year: int | None
    last_year: int | None

    def __str__(self) -> str:
        return f"{self.query!r} ({self.first_year or ''}-{self.last_year or ''})"

    def dates(self) -> tuple[date, date]:
        """The first and the last day; next year counts, as journals date their issues ahead."""
        first = _FIRST_YEAR if self.first_year is None else self.first_year
        last = date.today().year + 1 if self.last_year is None else self.last_year
        if not _FIRST_YEAR <= first <= last <= date.max.year:
            raise InputError(
                f"years {first} to {last} are no range; give --from and --to, both as YYYY and "
                f"from {_FIRST_YEAR} on, --from first"
            )
        return date(first, 1, 1), date(last, 12, 31)


def fetch(
    query: str,
    out: Path,
    *,
    first_year: int | None,
    last_year: int | None,
    email: str | None,
    api_key: str | None = None,
    page_size: int = 200,
) -> FetchSummary:
    """Download the PubMed records that match `query` into gzipped XML pages in `out`.

    Can be stopped at any time: pages appear whole or not at all, and the same call again downloads
    only those that are missing. A record is in one page only, though it may match several date
    ranges (PubMed searches both the printed and the electronic date).

    Args:
        query: A query in PubMed's own syntax.
        out: The folder; made if need be. It keeps one query and its dates.
        first_year: Earliest year of publication; None for no limit.
        last_year: Latest year of publication, included; None for no limit.
        email: Who is asking, which NCBI wants to know; None reads NCBI_EMAIL.
        api_key: An NCBI key, which allows 10 requests a second in place of 3; None reads
            NCBI_API_KEY.
        page_size: Records in a page; a resumed download keeps that of the first run.

    Raises:
        InputError: an argument is wrong or missing; the query matches nothing, or more records of
            a single day than PubMed lists; `out` is not a folder of this query and these years.
        StudytagError: NCBI could not be reached, or sent no usable answer in several attempts.
    """
    request = _Request(query, first_year, last_year)
    request.dates()
    if not query.strip():
        raise InputError("the query is empty; give one in PubMed's syntax with --query")
    if not 1 <= page_size <= _MAX_PAGE:
        raise InputError(f"a page holds 1 to {_MAX_PAGE} records, not {page_size}")
    email = email or os.environ.get("NCBI_EMAIL")
    if not email:
        raise InputError("NCBI wants to know who asks; give --email or set NCBI_EMAIL")
    with eutils.session(email, api_key or os.environ.get("NCBI_API_KEY") or None) as entrez:
        pages = _stored_pages(request, out)
        if pages is None:
            pages = _list_pages(entrez, request, page_size)
            _store_pages(request, pages, out)
        missing = [name for name in pages if not (out / name).exists()]
        _download(entrez, pages, missing, out)
    records = sum(map(len, pages.values()))
    return FetchSummary(records, len(pages), len(pages) - len(missing), out)


def _stored_pages(request: _Request, out: Path) -> dict[str, list[str]] | None:
    """The pages an earlier run listed (file name to PMIDs), None where there was none.

    Raises:
        InputError: `out` is no folder, or not one of this request.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder; choose another --output")
    path = out / STATE_FILE
    if not path.exists():
        if any(out.glob("*.xml*")):
            raise InputError(f"{out} holds XML files of another origin; choose another --output")
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        stored = _Request(**state["request"])
        pages = {name: pmids.split(",") for name, pmids in state["pages"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged; delete {out} and fetch again") from error
    if stored != request:
        raise InputError(f"{out} holds {stored}, not {request}; choose another --output")
    return pages


def _store_pages(request: _Request, pages: dict[str, list[str]], out: Path) -> None:
    """Write what `_stored_pages` reads; PMIDs joined, so that a page is one line."""
    joined = {name: ",".join(pmids) for name, pmids in pages.items()}
    write_json_atomically(out / STATE_FILE, {"request": asdict(request), "pages": joined})


def _list_pages(entrez: Any, request: _Request, page_size: int) -> dict[str, list[str]]:
    """Search for all records and deal them out to pages: file name to PMIDs.

    Raises:
        InputError: there are none, or too many of one day.
    """
    first, last = request.dates()
    found = eutils.search(entrez, request.query, first, last)
    for remark in found.remarks:
        log.warning("PubMed on %r: %s", request.query, remark)
    if not found.count:
        raise InputError(f"PubMed has no record for {request}; change --query, --from or --to")

    pages: dict[str, list[str]] = {}
    seen: set[str] = set()
    for start, end, pmids in _split(entrez, request.query, first, last, found):
        new = [pmid for pmid in pmids if pmid not in seen]
        seen.update(new)
        log.info("%s to %s: %d records", start, end, len(new))
        for offset in range(0, len(new), page_size):
            name = f"{start:%Y%m%d}_{end:%Y%m%d}_{offset:05}.xml.gz"
            pages[name] = new[offset : offset + page_size]
    if len(seen) < found.count:
        log.warning("PubMed counts %d records but lists only %d", found.count, len(seen))
    return pages


def _split(
    entrez: Any, query: str, first: date, last: date, found: eutils.Found
) -> Iterator[tuple[date, date, list[str]]]:
    """Halve the range of `found` until PubMed lists every part in full; the parts in order."""
    if found.count <= eutils.MAX_HITS:
        yield first, last, found.pmids
        return
    if first == last:
        raise InputError(
            f"PubMed has {found.count} records for {query!r} on {first} and lists no more than "
            f"{eutils.MAX_HITS}; narrow --query"
        )
    middle = first + (last - first) // 2
    for start, end in ((first, middle), (middle + timedelta(days=1), last)):
        yield from _split(entrez, query, start, end, eutils.search(entrez, query, start, end))


def _download(entrez: Any, pages: dict[str, list[str]], missing: list[str], out: Path) -> None:
    """Write the `missing` ones of `pages`."""
    tqdm = import_extra("tqdm", "data").tqdm
    total = sum(map(len, pages.values()))
    if not missing:
        log.info("%s already holds all %d records", out, total)
        return
    done = total - sum(len(pages[name]) for name in missing)
    with tqdm(total=total, initial=done, unit=" records", disable=None) as bar:
        for name in missing:
            body = eutils.page(entrez, name, pages[name])
            with atomic_path(out / name) as path:
                path.write_bytes(gzip.compress(body, mtime=0))
            bar.update(len(pages[name]))
