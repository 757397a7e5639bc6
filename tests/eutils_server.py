"""A local stand-in for NCBI's E-utilities (esearch, efetch) over an invented collection.

It follows the real servers: the same parameters by GET or POST, the DOCTYPEs, the limit on the
records a search lists, the answer to too many requests a second. Faults are injected by the number
of the request. What was asked is kept in `EUtils.requests`.

    with EUtils(collection(50), faults={3: "500"}) as server: ...
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen
from xml.sax.saxutils import escape

REAL = "https://eutils.ncbi.nlm.nih.gov"

SEARCH_HEAD = """<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE eSearchResult PUBLIC "-//NLM//DTD esearch 20060628//EN" \
"https://eutils.ncbi.nlm.nih.gov/eutils/dtd/20060628/esearch.dtd">
"""
FETCH_HEAD = """<?xml version="1.0" ?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" \
"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">
"""
ERROR_DOCUMENT = (
    '<?xml version="1.0" encoding="UTF-8" ?>\n'
    "<eFetchResult><ERROR>Unable to obtain records</ERROR></eFetchResult>"
)
ERROR_PAGE = "<html><head><title>Error</title></head><body><p>Try later<br></body></html>"


@dataclass(frozen=True)
class Record:
    """An invented record; a search finds it by any of its dates (printed, electronic)."""

    pmid: str
    title: str
    dates: tuple[date, ...]
    book: bool = False

    def xml(self) -> str:
        day = self.dates[0]
        pub_date = (
            f"<PubDate><Year>{day:%Y}</Year><Month>{day:%b}</Month><Day>{day.day}</Day></PubDate>"
        )
        if self.book:
            return (
                f'<PubmedBookArticle><BookDocument><PMID Version="1">{self.pmid}</PMID><Book>'
                f"<Publisher><PublisherName>Nowhere Press</PublisherName></Publisher>"
                f"<BookTitle>{escape(self.title)}</BookTitle>{pub_date}</Book>"
                f"<Abstract><AbstractText>An invented chapter.</AbstractText></Abstract>"
                f"</BookDocument></PubmedBookArticle>"
            )
        return (
            f'<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM">'
            f'<PMID Version="1">{self.pmid}</PMID><Article PubModel="Print"><Journal>'
            f'<JournalIssue CitedMedium="Internet"><Volume>1</Volume>{pub_date}</JournalIssue>'
            f"<Title>Journal of Invented Dentistry</Title></Journal>"
            f"<ArticleTitle>{escape(self.title)}</ArticleTitle><Abstract>"
            f'<AbstractText Label="AIM">Invented, p &lt; 0.05 in <i>all</i>.</AbstractText>'
            f"</Abstract><Language>eng</Language><PublicationTypeList>"
            f'<PublicationType UI="D016428">Journal Article</PublicationType>'
            f"</PublicationTypeList></Article><MeshHeadingList><MeshHeading>"
            f'<DescriptorName UI="D006801" MajorTopicYN="N">Humans</DescriptorName></MeshHeading>'
            f"</MeshHeadingList></MedlineCitation><PubmedData><ArticleIdList>"
            f'<ArticleId IdType="pubmed">{self.pmid}</ArticleId></ArticleIdList></PubmedData>'
            # A page as big as its records: a cut in the middle of it must not fall in a buffer.
            f"<!-- {'.' * 2000} --></PubmedArticle>"
        )


def collection(size: int, first: date = date(2018, 1, 1), days: int = 30) -> list[Record]:
    """`size` records, one every `days`; every 7th is a book, every 5th has a second date."""
    records = []
    for i in range(size):
        day = first + i * timedelta(days=days)
        dates = (day, day - timedelta(days=days)) if i % 5 == 4 else (day,)
        words = f"molar incisor {i}" if i % 2 else f"molar {i} <ß>"
        records.append(Record(str(990_000_001 + i), words, dates, book=i % 7 == 6))
    return records


@dataclass
class Asked:
    """One request as it came in."""

    tool_name: str
    method: str
    params: dict[str, str]
    time: float
    status: int = 0


@dataclass
class EUtils:
    """The server; a context manager that serves while it is open.

    Attributes:
        records: The collection.
        faults: What goes wrong at the n-th request (from 1): an HTTP status as text ("500"),
            "reset" (no answer), "stall" (none, and the connection stays open a while), "cut" (the
            connection ends within the body), "truncated" (XML that ends early), "page" (an HTML
            page with status 200), "error" (an error document), "short" (the last record lacks).
        max_hits: The most PMIDs a search lists.
        paced: Whether too many requests a second are answered with 429.
        withdrawn: PMIDs that searches list but efetch does not send.
        requests: Everything asked so far.
    """

    records: list[Record]
    faults: dict[int, str] = field(default_factory=dict)
    max_hits: int = 9_999
    paced: bool = True
    withdrawn: set[str] = field(default_factory=set)
    requests: list[Asked] = field(default_factory=list)

    def __enter__(self) -> EUtils:
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"api": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def open(self, request: Request):
        """`urlopen` for a request meant for NCBI, sent here instead."""
        assert request.full_url.startswith(REAL)
        request.full_url = request.full_url.replace(REAL, self.url)
        return urlopen(request)

    def asked(self, tool_name: str) -> list[Asked]:
        return [asked for asked in self.requests if asked.tool_name == tool_name]

    def admit(self, asked: Asked) -> tuple[str | None, bool]:
        """Note a request: the fault it is to meet, and whether it came too soon."""
        limit = 10 if "api_key" in asked.params else 3
        with self._lock:
            self.requests.append(asked)
            while self._recent and self._recent[0] <= asked.time - 0.9:  # some jitter is allowed
                self._recent.popleft()
            self._recent.append(asked.time)
            too_soon = self.paced and len(self._recent) > limit
            return self.faults.get(len(self.requests)), too_soon

    def search(self, params: dict[str, str]) -> str:
        known = {word for record in self.records for word in record.title.split()}
        words = params["term"].split()
        unknown = [word for word in words if word not in known]
        words = [word for word in words if word in known]
        assert params["datetype"] == "pdat"
        first, last = (
            datetime.strptime(params[name], "%Y/%m/%d").date() for name in ("mindate", "maxdate")
        )
        hits = [
            record.pmid
            for record in reversed(self.records)
            if words
            and set(words) <= set(record.title.split())
            and any(first <= day <= last for day in record.dates)
        ]
        listed = hits[: min(int(params.get("retmax", 20)), self.max_hits)]
        ids = "".join(f"<Id>{pmid}</Id>\n" for pmid in listed)
        phrases = "".join(f"<PhraseNotFound>{escape(word)}</PhraseNotFound>" for word in unknown)
        errors = f"<ErrorList>{phrases}</ErrorList>" if phrases else ""
        none = "<WarningList><OutputMessage>No items found.</OutputMessage></WarningList>"
        return (
            f"{SEARCH_HEAD}<eSearchResult><Count>{len(hits)}</Count><RetMax>{len(listed)}</RetMax>"
            f"<RetStart>0</RetStart><IdList>\n{ids}</IdList><TranslationSet/>"
            f"<QueryTranslation>{escape(' AND '.join(words))}</QueryTranslation>"
            f"{errors}{'' if hits else none}</eSearchResult>\n"
        )

    def fetch(self, params: dict[str, str], *, short: bool) -> str:
        assert params["retmode"] == "xml"
        wanted = params["id"].split(",")[: -1 if short else None]
        found = {record.pmid: record for record in self.records}
        articles = [found[pmid].xml() for pmid in wanted if pmid not in self.withdrawn]
        return f"{FETCH_HEAD}<PubmedArticleSet>{chr(10).join(articles)}</PubmedArticleSet>"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    api: EUtils

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, query: str) -> None:
        name = urlsplit(self.path).path.rsplit("/", 1)[-1].removesuffix(".fcgi")
        params = dict(parse_qsl(query))
        asked = Asked(name, self.command, params, time.monotonic())
        fault, too_soon = self.api.admit(asked)
        if fault in ("reset", "stall"):
            time.sleep(0.4 if fault == "stall" else 0)
            return
        if too_soon:
            answer = {"error": "API rate limit exceeded", "count": "4", "limit": "3"}
            asked.status = 429
            self._send(429, json.dumps(answer), "application/json")
        elif fault and fault.isdigit():
            asked.status = int(fault)
            answer = {"error": "API key invalid", "api-key": params.get("api_key", "")}
            self._send(int(fault), json.dumps(answer), "application/json")
        elif fault in ("page", "error"):
            page = ERROR_PAGE if fault == "page" else ERROR_DOCUMENT
            self._send(200, page, "text/html" if fault == "page" else "text/xml")
        else:
            asked.status = 200
            if name == "esearch":
                text = self.api.search(params)
            else:
                text = self.api.fetch(params, short=fault == "short")
            if fault == "truncated":
                text = text[: len(text) // 2]
            self._send(200, text, "text/xml", cut=fault == "cut")

    def _send(self, status: int, text: str, kind: str, *, cut: bool = False) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_: object) -> None:
        """Quiet."""
