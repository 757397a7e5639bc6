"""Talk to NCBI's E-utilities: one search, one page of records, each asked for until it is whole.

Requests are made and paced by `Bio.Entrez`; the protocol: https://www.ncbi.nlm.nih.gov/books/NBK25499/.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from http.client import HTTPException
from io import BytesIO
from itertools import chain
from typing import Any, TypeVar
from urllib.error import HTTPError
from xml.etree import ElementTree

from studytag.errors import InputError, StudytagError, import_extra

log = logging.getLogger(__name__)

MAX_HITS = 9_999
"""A search in PubMed lists no more records than this; a date range with more is halved."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait before asking again after each failed attempt; then the download gives up."""

TIMEOUT = 120.0
"""Seconds without a byte after which an attempt has failed."""

_PMIDS = ("PubmedArticle/MedlineCitation/PMID", "PubmedBookArticle/BookDocument/PMID")
# Entrez.read raises ValueError for XML that it cannot read, RuntimeError for an <ERROR> within.
_BROKEN = (OSError, HTTPException, ElementTree.ParseError, ValueError, RuntimeError)
_KEY = re.compile(r'("api-key"\s*:\s*")[^"]*')  # NCBI repeats a wrong key; logs should not
_AGAIN = "run the same command again to resume"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Found:
    """The answer to a search: how many records there are, the PMIDs of those listed, remarks."""

    count: int
    pmids: list[str]
    remarks: list[str]


@contextmanager
def session(email: str, api_key: str | None) -> Iterator[Any]:
    """`Bio.Entrez`, with its module-wide settings set for this download and put back after it.

    Biopython's own retries are off: they repeat a refused request (429, 5xx) at once and outside
    its rate limiter, and end before the body is read. `_persist` sends every attempt through the
    limiter. Biopython passes no timeout on, so that of the sockets is the only way to set one.
    """
    Entrez: Any = import_extra("Bio.Entrez", "data")  # noqa: N806, the module's own name
    settings = {"tool": "studytag", "email": email, "api_key": api_key, "max_tries": 1}
    before = {name: getattr(Entrez, name) for name in settings}
    timeout = socket.getdefaulttimeout()
    try:
        for name, value in settings.items():
            setattr(Entrez, name, value)
        socket.setdefaulttimeout(TIMEOUT)
        yield Entrez
    finally:
        for name, value in before.items():
            setattr(Entrez, name, value)
        socket.setdefaulttimeout(timeout)


def search(entrez: Any, query: str, first: date, last: date) -> Found:
    """The records published from `first` to `last`; at most `MAX_HITS` of them are listed.

    Raises:
        InputError: NCBI refuses the search.
        StudytagError: every attempt failed.
    """

    def ask() -> Found:
        handle = entrez.esearch(
            db="pubmed",
            term=query,
            datetype="pdat",
            mindate=f"{first:%Y/%m/%d}",
            maxdate=f"{last:%Y/%m/%d}",
            retmax=MAX_HITS,
        )
        answer = entrez.read(BytesIO(_body(handle)))
        if "Count" not in answer:
            raise ValueError("not the result of a search")
        lists = (answer.get(name, {}) for name in ("ErrorList", "WarningList"))
        remarks = chain.from_iterable(found.items() for found in lists)
        return Found(
            int(answer["Count"]),
            [str(pmid) for pmid in answer["IdList"]],
            [f"{kind}: {', '.join(texts)}" for kind, texts in remarks if texts],
        )

    return _persist(ask, f"the search from {first} to {last}")


def page(entrez: Any, name: str, pmids: list[str]) -> bytes:
    """The XML of the records `pmids`, as PubMed sends it; `name` is for messages.

    Records that PubMed has withdrawn since they were listed are logged and left out. An answer that
    lacks records is asked for once more, as a busy server may send fewer than it has.

    Raises:
        InputError: NCBI refuses the request.
        StudytagError: every attempt failed.
    """

    def ask() -> tuple[bytes, list[str]]:
        body = _body(entrez.efetch(db="pubmed", id=",".join(pmids), retmode="xml"))
        root = ElementTree.fromstring(body)
        if root.tag != "PubmedArticleSet":
            raise ValueError(f"<{root.tag}> {' '.join(root.itertext())}")
        sent = {element.text for path in _PMIDS for element in root.iterfind(path)}
        lacking = [pmid for pmid in pmids if pmid not in sent]
        if len(lacking) == len(pmids):
            raise ValueError("none of the records asked for")
        return body, lacking

    body, lacking = _persist(ask, f"page {name}")
    if lacking:
        body, lacking = _persist(ask, f"page {name}")
    if lacking:
        log.warning("PubMed lists but does not send %s (page %s)", ", ".join(lacking), name)
    return body


def _body(handle: Any) -> bytes:
    """All bytes of an answer; Biopython hands out those declared plain text as text."""
    with handle:
        body = handle.read()
    return body.encode() if isinstance(body, str) else body


def _persist(ask: Callable[[], Answer], what: str) -> Answer:
    """`ask()`, again after a pause if the network, the server or its answer is broken.

    Raises:
        InputError: NCBI refuses the request itself, so that asking again is of no use.
        StudytagError: every attempt failed.
    """
    pauses = iter(PAUSES)
    while True:
        try:
            return ask()
        except _BROKEN as error:
            reason = _one_line(error)
            if isinstance(error, HTTPError) and error.code < 500 and error.code != 429:
                raise InputError(f"NCBI refused {what}: {reason}") from error
            pause = next(pauses, None)
            if pause is None and isinstance(error, OSError) and not isinstance(error, HTTPError):
                raise StudytagError(f"NCBI could not be reached ({reason}); {_AGAIN}") from error
            if pause is None:
                raise StudytagError(
                    f"NCBI sent no usable answer for {what} ({reason}); {_AGAIN}"
                ) from error
        log.info("%s: %s; asking again in %g s", what, reason, pause)
        time.sleep(pause)


def _one_line(error: Exception) -> str:
    """What went wrong, with the beginning of the page that came with an HTTP error."""
    text = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
    if isinstance(error, HTTPError):
        with error, suppress(OSError, HTTPException):
            text = f"HTTP {error.code}"
            text += " " + _KEY.sub(r"\1...", error.read(200).decode(errors="replace"))
    return " ".join(text.split())[:200]
