"""`studytag.data.fetch` against a local stand-in for NCBI's servers."""

from __future__ import annotations

import gzip
import json
import logging
import re
import socket
import time
from collections import Counter
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from eutils_server import REAL, EUtils, collection

from studytag.data import eutils
from studytag.data.fetch import FetchSummary, fetch
from studytag.errors import InputError, StudytagError
from studytag.files import read_rows

Entrez = pytest.importorskip("Bio.Entrez")

RECORDS = collection(40)  # 2018-01-01 to 2021-03-16
PMIDS = {record.pmid for record in RECORDS}
KEY = "key-of-nobody"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("NCBI_EMAIL", raising=False)
    monkeypatch.delenv("NCBI_API_KEY", raising=False)
    monkeypatch.setattr(eutils, "PAUSES", (0.0, 0.0))


@pytest.fixture
def paced_server(monkeypatch):
    """The stand-in, which Biopython meets under NCBI's address (its functions hold it fixed)."""
    with EUtils(list(RECORDS)) as server:
        monkeypatch.setattr(Entrez, "urlopen", server.open)
        monkeypatch.setattr(Entrez._open, "previous", 0)
        yield server


@pytest.fixture
def server(paced_server, monkeypatch):
    """The same for tests in a hurry: neither Biopython's limiter nor that of the server acts."""
    impatient = SimpleNamespace(time=time.time, sleep=lambda _: None)
    monkeypatch.setattr(Entrez, "time", impatient)
    paced_server.paced = False
    return paced_server


def run(out: Path, query: str = "molar", **options) -> FetchSummary:
    given = {"first_year": 2017, "last_year": 2025, "email": "nobody@example.org"}
    return fetch(query, out, **{**given, "api_key": KEY, "page_size": 15, **options})


def page_names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name != "fetch.json")


def pmids(out: Path) -> Counter[str]:
    text = "".join(gzip.decompress((out / name).read_bytes()).decode() for name in page_names(out))
    return Counter(re.findall(r"<PMID[^>]*>(\d+)</PMID>", text))


def fetched(server: EUtils) -> Counter[str]:
    """How often each PMID was sent in full."""
    sent = [asked.params["id"].split(",") for asked in server.asked("efetch") if asked.status]
    return Counter(pmid for ids in sent for pmid in ids)


def test_whole_fetch_brings_every_record_once(server, tmp_path, capsys):
    out = tmp_path / "new" / "raw"
    assert run(out) == FetchSummary(40, 3, 0, out)
    assert pmids(out) == Counter(PMIDS)
    assert page_names(out) == [f"20170101_20251231_{start:05}.xml.gz" for start in (0, 15, 30)]
    assert {path.suffix for path in out.iterdir()} == {".gz", ".json"}  # nothing temporary
    assert capsys.readouterr() == ("", "")  # no progress bar where nobody looks
    (search,) = server.asked("esearch")
    assert (search.params["mindate"], search.params["maxdate"]) == ("2017/01/01", "2025/12/31")
    for asked in server.requests:
        who = {name: asked.params[name] for name in ("tool", "email", "api_key")}
        assert who == {"tool": "studytag", "email": "nobody@example.org", "api_key": KEY}


def test_pages_are_readable_by_biopython_with_its_own_dtd(server, tmp_path):
    run(tmp_path)
    with gzip.open(tmp_path / page_names(tmp_path)[0]) as page:
        read = Entrez.read(page)
    assert len(read["PubmedArticle"]) + len(read["PubmedBookArticle"]) == 15


def test_pages_are_readable_as_tables(server, tmp_path):
    run(tmp_path)
    rows = [row for name in page_names(tmp_path) for row in read_rows(tmp_path / name)]
    titles = {row["pmid"]: row["title"] for row in rows}
    assert titles == {record.pmid: record.title for record in RECORDS}


def test_years_limit_the_records(server, tmp_path):
    run(tmp_path, first_year=2019, last_year=2019)
    years = {r.pmid for r in RECORDS if any(day.year == 2019 for day in r.dates)}
    assert pmids(tmp_path) == Counter(years)


def test_without_years_everything_is_searched(server, tmp_path):
    assert run(tmp_path, first_year=None, last_year=None).records == 40
    (search,) = server.asked("esearch")
    assert search.params["mindate"] == "1800/01/01"
    assert search.params["maxdate"] == f"{date.today().year + 1}/12/31"


def test_search_above_the_limit_is_split_by_date(server, tmp_path, monkeypatch):
    monkeypatch.setattr(eutils, "MAX_HITS", 15)
    server.max_hits = 15
    assert run(tmp_path).records == 40
    # Every fifth record has a second date, which falls in another range at times.
    assert pmids(tmp_path) == fetched(server) == Counter(PMIDS)
    spans = sorted({name[:17] for name in page_names(tmp_path)})
    assert len(spans) > 2
    assert all(
        before.split("_")[1] < after.split("_")[0]
        for before, after in zip(spans, spans[1:], strict=False)
    )


def test_day_above_the_limit_asks_for_a_narrower_query(server, tmp_path, monkeypatch):
    monkeypatch.setattr(eutils, "MAX_HITS", 3)
    server.records = collection(4, first=date(2018, 12, 31), days=0)
    with pytest.raises(InputError, match=r"4 records for 'molar' on 2018-12-31 .*narrow --query"):
        run(tmp_path / "raw", first_year=2018, last_year=2018)
    assert not (tmp_path / "raw").exists()


def test_rate_limit_is_kept_without_a_key(paced_server, tmp_path):
    server = paced_server
    run(tmp_path, api_key=None, page_size=10)
    assert [asked.status for asked in server.requests] == [200] * 5
    times = [asked.time for asked in server.requests]
    assert all(later - sooner > 0.9 for sooner, later in zip(times, times[3:], strict=False))
    assert not any("api_key" in asked.params for asked in server.requests)


def test_rate_limit_is_higher_with_a_key(paced_server, tmp_path):
    run(tmp_path, page_size=4)
    assert [asked.status for asked in paced_server.requests] == [200] * 11
    times = [asked.time for asked in paced_server.requests]
    assert 0.9 < times[-1] - times[0] < 3.5


def test_email_and_key_come_from_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NCBI_EMAIL", "env@example.org")
    monkeypatch.setenv("NCBI_API_KEY", "env-key")
    run(tmp_path, email=None, api_key=None, page_size=40)
    assert {asked.params["email"] for asked in server.requests} == {"env@example.org"}
    assert {asked.params["api_key"] for asked in server.requests} == {"env-key"}
    assert (Entrez.email, Entrez.api_key, Entrez.tool) == (None, None, "biopython")  # as before


def test_long_lists_are_posted(server, tmp_path):
    server.records = collection(210, days=1)
    assert run(tmp_path, page_size=200).pages == 2
    assert [asked.method for asked in server.asked("efetch")] == ["POST", "GET"]
    assert sum(pmids(tmp_path).values()) == 210


@pytest.mark.parametrize("fault", ["429", "500", "reset", "cut", "truncated", "page", "error"])
def test_passing_faults_are_healed(server, tmp_path, fault):
    server.faults = {1: fault, 3: fault, 4: fault}
    assert run(tmp_path, page_size=40).records == 40
    assert pmids(tmp_path) == Counter(PMIDS)
    assert len(server.requests) == 5


def test_silent_server_is_not_waited_for(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(eutils, "TIMEOUT", 0.1)
    server.faults = {2: "stall"}
    with caplog.at_level(logging.INFO):
        run(tmp_path, page_size=40)
    assert "timed out; asking again" in caplog.text
    assert pmids(tmp_path) == Counter(PMIDS)


def test_answer_that_lacks_records_is_asked_for_again(server, tmp_path, caplog):
    server.faults = {2: "short"}
    run(tmp_path, page_size=40)
    assert pmids(tmp_path) == Counter(PMIDS)
    assert len(server.requests) == 3
    assert not caplog.records


def test_lasting_error_document_is_quoted(server, tmp_path):
    server.faults = dict.fromkeys(range(2, 100), "error")
    with pytest.raises(StudytagError, match="<eFetchResult> Unable to obtain records.* to resume"):
        run(tmp_path)
    assert page_names(tmp_path) == []


@pytest.mark.parametrize("fault", ["503", "truncated"])
def test_resume_downloads_only_what_is_missing(server, tmp_path, fault):
    server.faults = dict.fromkeys(range(3, 100), fault)  # the second page never comes
    with pytest.raises(StudytagError, match="_00015.*run the same command again to resume") as why:
        run(tmp_path)
    assert "\n" not in str(why.value)
    assert page_names(tmp_path) == ["20170101_20251231_00000.xml.gz"]

    server.faults, server.requests = {}, []
    server.records = collection(45)  # PubMed has grown, which must not shift the pages
    assert run(tmp_path) == FetchSummary(40, 3, 1, tmp_path)
    assert pmids(tmp_path) == Counter(PMIDS)
    assert not server.asked("esearch")
    assert len(server.asked("efetch")) == 2


def test_interrupted_fetch_is_resumed(server, tmp_path, monkeypatch):
    def stop(request):
        if len(server.requests) == 2:
            raise KeyboardInterrupt
        return server.open(request)

    monkeypatch.setattr(Entrez, "urlopen", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # one page, fetch.json
    monkeypatch.setattr(Entrez, "urlopen", server.open)
    assert run(tmp_path).skipped_pages == 1
    assert pmids(tmp_path) == fetched(server) == Counter(PMIDS)


def test_finished_fetch_asks_nothing(server, tmp_path, caplog):
    run(tmp_path)
    server.requests = []
    with caplog.at_level(logging.INFO):
        assert run(tmp_path, page_size=7) == FetchSummary(40, 3, 3, tmp_path)
    assert not server.requests
    assert "already holds all 40 records" in caplog.text


def test_folder_keeps_its_query_and_years(server, tmp_path):
    run(tmp_path, page_size=40)
    with pytest.raises(InputError, match=r"'molar' \(2017-2025\), not 'incisor' \(2017-2025\)"):
        run(tmp_path, "incisor")
    with pytest.raises(InputError, match=r"\(2017-2025\), not 'molar' \(2017-\)"):
        run(tmp_path, last_year=None)


def test_unsuitable_folders_are_refused(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is not a folder"):
        run(tmp_path / "file")
    with pytest.raises(InputError, match=r"raw.* cannot be written"):
        run(tmp_path / "file" / "raw")
    server.requests = []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pubmed.xml.gz").write_bytes(b"")
    with pytest.raises(InputError, match="other holds XML files of another origin"):
        run(tmp_path / "other")
    for text in ("{", "[]", json.dumps({"request": {}, "pages": {}})):
        (tmp_path / "fetch.json").write_text(text)
        with pytest.raises(InputError, match="fetch.json is damaged"):
            run(tmp_path)
    assert not server.requests


def test_query_without_hits(server, tmp_path, caplog):
    with pytest.raises(InputError, match=r"no record for 'zzyzx' \(2017-2025\)"):
        run(tmp_path / "raw", "zzyzx")
    assert "PhraseNotFound: zzyzx" in caplog.text
    assert not (tmp_path / "raw").exists()


def test_unknown_word_is_a_warning(server, tmp_path, caplog):
    assert run(tmp_path, "incisor zzyzx", page_size=40).records == 20
    assert "PhraseNotFound: zzyzx" in caplog.text


def test_withdrawn_records_are_logged_and_left_out(server, tmp_path, caplog):
    server.withdrawn = {RECORDS[3].pmid, RECORDS[8].pmid}
    run(tmp_path, page_size=40)
    assert pmids(tmp_path) == Counter(PMIDS - server.withdrawn)
    assert all(pmid in caplog.text for pmid in server.withdrawn)


def test_refused_request_is_not_repeated(server, tmp_path):
    server.faults = {1: "400"}
    with pytest.raises(InputError, match="NCBI refused .*API key invalid") as why:
        run(tmp_path / "raw")
    assert KEY not in str(why.value)
    assert len(server.requests) == 1


def test_unreachable_server(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nobody = f"http://127.0.0.1:{port}"
    redirected = lambda request: urlopen(request.full_url.replace(REAL, nobody))  # noqa: E731
    monkeypatch.setattr(Entrez, "urlopen", redirected)
    with pytest.raises(StudytagError, match="NCBI could not be reached .* to resume") as why:
        run(tmp_path)
    assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"email": None}, "--email"),
        ({"query": "  "}, "--query"),
        ({"first_year": 2026}, "--from"),
        ({"last_year": 20255}, "--to"),
        ({"page_size": 0}, "1 to 10000"),
    ],
)
def test_wrong_arguments_are_named(server, tmp_path, options, named):
    with pytest.raises(InputError, match=named):
        run(tmp_path, **options)
    assert not server.requests
