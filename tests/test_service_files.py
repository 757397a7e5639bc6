"""/v1/files: a file is tagged beside everything else, kept across restarts, and given back."""

from __future__ import annotations

import gzip
import io
import json
import random
import signal
import time
import zipfile

import pytest
from service_support import ris, start_server, upload, wait_for_job
from support import invented_articles

from studytag import Predictor, predict_file
from studytag.errors import StoppedError
from studytag.files import FORMATS, open_writer, read_rows
from studytag.inference.screen_file import screen_file
from studytag.inference.screening import Rule, set_aside_path
from studytag.service.errors import ApiError
from studytag.service.files_api import WritableFormat, while_it_is_there
from studytag.service.jobs import Job, JobStore, now
from studytag.service.results import write_download

pytest_plugins = ["service_fixtures"]

ARTICLES = invented_articles(40, seed=3)


@pytest.fixture(scope="module")
def done(server):
    """A job that has ended well."""
    with server.client() as client:
        answer = upload(client, "my articles.ris", ris(ARTICLES))
        assert answer.status_code == 202
        return wait_for_job(client, answer.json()["id"])


class TestJob:
    def test_says_how_it_went(self, done, exported):
        assert (done["status"], done["done"], done["total"], done["errors"]) == ("done", 40, 40, 0)
        assert done["name"] == "my articles.ris"
        with Predictor(exported.bundle) as predictor:
            tagged = predictor.predict(ARTICLES)
            counts = {
                label: sum(label in each.labels for each in tagged) for label in predictor.labels
            }
        assert done["counts"] == counts

    def test_tells_its_progress_in_events(self, client):
        id = upload(client, "a.ris", ris(ARTICLES)).json()["id"]
        events = client.get(f"/v1/files/{id}/events").text.strip().split("\n\n")
        names = [event.splitlines()[0] for event in events]
        assert names[-1] == "event: done"
        assert set(names[:-1]) <= {"event: progress"}
        last = json.loads(events[-1].splitlines()[1].removeprefix("data: "))
        assert last == client.get(f"/v1/files/{id}").json()

    def test_a_row_that_cannot_be_tagged_is_an_error_of_its_own(self, client):
        content = b'{"title": "A trial"}\n{"title": ""}\nno JSON\n'
        id = upload(client, "a.jsonl", content).json()["id"]
        job = wait_for_job(client, id)
        assert (job["status"], job["done"], job["errors"]) == ("done", 3, 2)
        rows = client.get(f"/v1/files/{id}/rows").json()["rows"]
        assert [row["error"] is None for row in rows] == [True, False, False]
        assert [bool(row["probabilities"]) for row in rows] == [True, False, False]

    def test_a_file_of_which_no_row_can_be_tagged_is_done(self, client):
        id = upload(client, "a.ris", b"TY  - JOUR\nAN  - 1\nER  - \n").json()["id"]
        job = wait_for_job(client, id)
        assert (job["status"], job["done"], job["errors"]) == ("done", 1, 1)
        assert set(job["counts"].values()) == {0}
        absent = client.get(f"/v1/files/{id}/rows", params={"label": "RCT", "decision": "absent"})
        assert absent.json()["total"] == 0  # nobody knows
        shown = client.get(f"/v1/files/{id}/rows", params={"label": "RCT", "decision": "present"})
        assert shown.json() == {"total": 0, "rows": []}
        download = client.get(f"/v1/files/{id}/download").text
        assert download.count("row 1") == 1

    @pytest.mark.parametrize(
        ("name", "content"),
        [("a.json", b"[]"), ("a.xml", b"<PubmedArticleSet></PubmedArticleSet>")],
    )
    def test_a_file_without_a_record_is_done(self, client, name, content):
        id = upload(client, name, content).json()["id"]
        job = wait_for_job(client, id)
        assert (job["status"], job["done"], job["errors"]) == ("done", 0, 0), job
        assert set(job["counts"].values()) == {0}
        for query in ({}, {"label": "RCT", "decision": "absent"}):
            answer = client.get(f"/v1/files/{id}/rows", params=query)
            assert answer.json() == {"total": 0, "rows": []}
        assert client.get(f"/v1/files/{id}/download").text.count("\n") == 1

    def test_a_file_that_cannot_be_read_fails_and_says_so_without_paths(self, client, server):
        id = upload(client, "mine.csv", b"one,two\n1,2\n").json()["id"]
        job = wait_for_job(client, id)
        assert job["status"] == "failed"
        assert "mine.csv" in job["error"]
        assert str(server.log.parent) not in job["error"]
        assert client.get(f"/v1/files/{id}/rows").status_code == 409
        assert client.get(f"/v1/files/{id}/events").text.startswith("event: failed")

    def test_is_gone_once_deleted(self, client, server):
        id = upload(client, "a.ris", ris(ARTICLES)).json()["id"]
        wait_for_job(client, id)
        assert client.delete(f"/v1/files/{id}").status_code == 204
        assert client.get(f"/v1/files/{id}").status_code == 404
        assert not (server.log.parent / "state" / "jobs" / id).exists()

    def test_takes_an_operating_point(self, client):
        answer = upload(client, "a.ris", ris(ARTICLES[:2]), operating_point="precise")
        assert answer.json()["operating_point"] == "precise"
        wrong = upload(client, "a.ris", ris(ARTICLES[:2]), operating_point="best")
        assert wrong.status_code == 422
        mistyped = upload(client, "a.ris", ris(ARTICLES[:2]), operating_pont="precise")
        assert mistyped.status_code == 422
        assert "operating_pont" in mistyped.json()["error"]


class TestRows:
    def rows(self, client, done, **query):
        return client.get(f"/v1/files/{done['id']}/rows", params=query).json()

    def test_are_given_in_pages(self, client, done):
        page = self.rows(client, done, offset=30, limit=5)
        assert page["total"] == 40
        assert [row["row"] for row in page["rows"]] == [31, 32, 33, 34, 35]
        assert page["rows"][0]["title"] == ARTICLES[30]["title"]

    def test_are_filtered_by_decision_and_text(self, client, done):
        present = self.rows(client, done, label="RCT", decision="present")
        absent = self.rows(client, done, label="RCT", decision="absent")
        assert present["total"] == done["counts"]["RCT"]
        assert present["total"] + absent["total"] == 40
        assert all("RCT" in row["labels"] for row in present["rows"])
        found = self.rows(client, done, search="LASER")
        assert found["total"] == sum("laser" in row["title"].lower() for row in ARTICLES)

    def test_are_sorted_by_probability(self, client, done):
        rows = self.rows(client, done, sort="Cohort", descending=True)["rows"]
        values = [row["probabilities"]["Cohort"] for row in rows]
        assert values == sorted(values, reverse=True)

    @pytest.mark.parametrize(
        "query",
        [
            {"sort": "p_RCT"},
            {"decision": "present"},
            {"label": "RCT"},
            {"label": "x", "decision": "absent"},
            {"page": 2},
            {"limit": [1, 2]},
        ],
    )
    def test_unknown_labels_columns_and_parameters_are_refused(self, client, done, query):
        answer = client.get(f"/v1/files/{done['id']}/rows", params=query)
        assert answer.status_code == 422


class TestDownload:
    @pytest.mark.parametrize("format", ["ris", "csv", "nbib", "jsonl", "bibtex", "tsv", "enw"])
    def test_is_what_the_command_would_have_written(self, client, done, exported, tmp_path, format):
        source = tmp_path / "in.ris"
        source.write_bytes(ris(ARTICLES))
        target = tmp_path / f"out{FORMATS[format].suffixes[0]}"
        with Predictor(exported.bundle) as predictor:
            predict_file(predictor, source, target, progress=False)
        answer = client.get(f"/v1/files/{done['id']}/download", params={"format": format})
        assert answer.content == target.read_bytes()
        named = answer.headers["content-disposition"]
        assert "attachment" in named
        assert f"my%20articles.tagged{target.suffix}" in named

    @pytest.mark.parametrize("format", ["xlsx", "parquet"])
    def test_tables_have_every_row(self, client, done, tmp_path, format):
        answer = client.get(f"/v1/files/{done['id']}/download", params={"format": format})
        target = tmp_path / f"out.{format}"
        target.write_bytes(answer.content)
        assert [row["title"] for row in read_rows(target)] == [row["title"] for row in ARTICLES]

    def test_parts_are_those_of_screening(self, client, done, exported, tmp_path):
        articles = [
            row | {"abstract": row["abstract"] and f"{row['abstract']} {row['abstract']}"}
            for row in ARTICLES
        ]
        source, target = tmp_path / "in.ris", tmp_path / "out.ris"
        source.write_bytes(ris([{"title": "", "abstract": ""}, *articles]))
        id = upload(client, source.name, source.read_bytes()).json()["id"]
        assert wait_for_job(client, id)["operating_point"] == "f1"
        kept = {}
        for point in ("sensitive", "precise"):
            with Predictor(exported.bundle, operating_point=point) as predictor:
                screen_file(predictor, source, target, Rule(keep=("RCT",)))
            for part, path in (("kept", target), ("set-aside", set_aside_path(target))):
                query = {"format": "ris", "keep": "RCT", "part": part}
                if point != "sensitive":  # what a screening is done at
                    query["operating_point"] = point
                answer = client.get(f"/v1/files/{id}/download", params=query)
                assert answer.content == path.read_bytes()
            kept[point] = target.read_bytes()
        assert len(kept["sensitive"]) > len(kept["precise"])

    @pytest.mark.parametrize("uploaded", ["csv", "xlsx", "jsonl", "parquet"])
    def test_columns_are_those_of_the_file_whatever_they_are_called(
        self, client, exported, tmp_path, uploaded
    ):
        rows = [
            {"PMID": str(number), "Title": each["title"], "Abstract": each["abstract"], "Mine": "x"}
            | ({"Extra": 1} if number == 3 and uploaded == "jsonl" else {})
            for number, each in enumerate(ARTICLES[:4], 1)
        ]
        source = tmp_path / f"in.{uploaded}"
        with open_writer(source) as writer:
            for row in rows:
                writer.write(row)
        id = upload(client, source.name, source.read_bytes()).json()["id"]
        wait_for_job(client, id)
        shown = client.get(f"/v1/files/{id}/rows", params={"search": ARTICLES[1]["title"]}).json()
        assert [(row["pmid"], row["title"]) for row in shown["rows"]] == [("2", rows[1]["Title"])]
        with Predictor(exported.bundle) as predictor:
            for format in ("csv", "tsv", "jsonl", "ris", "nbib"):
                target = tmp_path / f"out{FORMATS[format].suffixes[0]}"
                predict_file(predictor, source, target, progress=False)
                answer = client.get(f"/v1/files/{id}/download", params={"format": format})
                assert answer.content == target.read_bytes(), format
        for format in ("xlsx", "parquet"):
            answer = client.get(f"/v1/files/{id}/download", params={"format": format})
            (tmp_path / f"got.{format}").write_bytes(answer.content)
            got = list(read_rows(tmp_path / f"got.{format}"))
            assert [row["title"] for row in got] == [row["Title"] for row in rows]
            assert [row["Mine"] for row in got] == ["x"] * 4

    def test_nobody_waits_for_what_is_no_longer_wanted(self, done, server, tmp_path):
        store = JobStore(server.log.parent / "state")
        job, target = store.get(done["id"]), tmp_path / "out.csv"
        with pytest.raises(StoppedError):
            write_download(job, list(done["counts"]), target, "csv", None, "all", lambda: True)
        assert not target.exists()

    def test_a_part_needs_a_label(self, client, done):
        url = f"/v1/files/{done['id']}/download"
        assert client.get(url, params={"keep": "RCT"}).status_code == 422
        assert client.get(url, params={"operating_point": "precise"}).status_code == 422
        assert client.get(url, params={"part": "kept"}).status_code == 422
        assert client.get(url, params={"part": "kept", "keep": "x"}).status_code == 422
        assert client.get(url, params={"format": "docx"}).status_code == 422

    def test_formats_are_those_that_are_written(self):
        written = {name for name, format in FORMATS.items() if format.write}
        assert set(WritableFormat.__args__) == written

    def test_leaves_nothing_behind(self, client, done, server):
        url = f"/v1/files/{done['id']}/download"
        for wanted, status in (("0-9", 206), ("0-0,2-3", 206), ("99999999-", 416), ("x", 400)):
            answer = client.get(url, headers={"Range": f"bytes={wanted}"})
            assert answer.status_code == status
        client.get(url, params={"format": "csv"})
        folder = server.log.parent / "state" / "jobs" / done["id"]
        for _ in range(100):
            names = sorted(path.name for path in folder.iterdir())
            if names == ["job.json", "shown.parquet", "tagged.parquet", "upload.ris"]:
                break
            time.sleep(0.05)
        else:
            raise AssertionError(names)


def test_a_job_that_is_deleted_while_it_is_read_is_gone(tmp_path):
    store = JobStore(tmp_path)
    folder = store.new_folder()
    job = Job(folder.name, "a.ris", "upload.ris", "ris", "f1", now().isoformat(), folder=folder)
    store.add(job)
    with pytest.raises(FileNotFoundError), while_it_is_there(job):
        job.result.read_bytes()
    store.remove(job)
    with pytest.raises(ApiError, match="no such job") as gone, while_it_is_there(job):
        job.result.read_bytes()
    assert gone.value.status == 404


class TestBadUploads:
    @pytest.mark.parametrize(
        "name",
        ["../../escape.ris", "/etc/passwd.ris", "C:\\windows\\x.ris", "\x00.ris", "a" * 5000],
    )
    def test_names_are_never_paths(self, client, server, name):
        answer = upload(client, name, ris(ARTICLES[:2]))
        if answer.status_code == 400:  # longer than any header may be
            assert len(name) > 200
            return
        assert answer.status_code == 202, answer.text
        job = wait_for_job(client, answer.json()["id"])
        assert job["status"] == "done"
        assert not set("/\\\0") & set(job["name"])
        assert len(job["name"]) <= 200
        folder = server.log.parent / "state" / "jobs" / job["id"]
        assert {path.name for path in folder.iterdir()} <= {
            *("job.json", "tagged.parquet", "shown.parquet", "upload.ris", "upload"),
        }

    def test_what_an_upload_does_not_take_is_refused_and_not_ignored(self, client):
        file = ("a.ris", ris(ARTICLES[:1]))
        aside = client.post("/v1/files?operating_point=sensitive", files={"file": file})
        assert aside.status_code == 422
        assert aside.json()["error"] == (
            "operating_point: no parameter of this address; there are none; "
            "other fields go into the body"
        )
        twice = client.post("/v1/files", files=[("file", file), ("file", file)])
        assert twice.status_code == 422
        assert twice.json()["error"] == "file: given more than once; upload one file at a time"

    def test_an_unknown_format_is_refused_at_once(self, client, server):
        before = len(list((server.log.parent / "state" / "jobs").iterdir()))
        answer = upload(client, "x.bin", b"\0\1\2\3")
        assert answer.status_code == 422
        assert "x.bin" in answer.json()["error"]
        assert str(server.log.parent) not in answer.json()["error"]
        assert upload(client, "x.ris", b"").status_code == 422
        assert client.post("/v1/files", data={"file": "no file"}).status_code == 422
        assert len(list((server.log.parent / "state" / "jobs").iterdir())) == before

    def test_bombs_end_in_an_error(self, client):
        packed = gzip.compress(b"TY  - JOUR\nTI  - " + b"a" * 300_000_000, 9)
        book = io.BytesIO()
        with zipfile.ZipFile(book, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("[Content_Types].xml", b"x")
            file.writestr("xl/workbook.xml", b" " * 300_000_000)
        for name, content in (("a.ris.gz", packed), ("a.xlsx", book.getvalue())):
            answer = upload(client, name, content)
            if answer.status_code == 202:
                assert wait_for_job(client, answer.json()["id"])["status"] == "failed"
            else:
                assert answer.status_code == 422
        assert client.get("/health").status_code == 200

    @pytest.mark.parametrize("id", ["..", "%2e%2e", "0" * 32, "x" * 32])
    def test_ids_are_not_paths_either(self, client, id):
        assert client.get(f"/v1/files/{id}/rows").status_code in (404, 405, 422)


def test_files_and_results_outlive_the_server(exported, tmp_path):
    first = start_server(tmp_path, exported.bundle)
    with first.client() as client:
        id = upload(client, "a.ris", ris(ARTICLES)).json()["id"]
        before = wait_for_job(client, id)
        variant = client.get("/v1/model").json()["variant"]
        unfinished = upload(client, "long.ris", ris(ARTICLES * 200)).json()["id"]
        for _ in range(1200):
            job = client.get(f"/v1/files/{unfinished}").json()
            if job["done"] >= 100:
                break
            assert job["status"] != "failed", job
            time.sleep(0.05)
    assert first.stop() == 0
    jobs = tmp_path / "state" / "jobs"
    assert (jobs / unfinished / "upload.ris").stat().st_size > 1 << 20  # so parts are kept
    newer = jobs / ("0" * 32)
    newer.mkdir()
    (newer / "job.json").write_text('{"id": "00", "of a newer version": 1}')
    # What is begun by another tagger is begun anew.
    other = "fp32" if variant == "int8" else "int8"
    second = start_server(tmp_path, exported.bundle, "--variant", other)
    assert f"job {newer.name}: cannot be read" in second.log.read_text()
    with second.client() as client:
        after = client.get(f"/v1/files/{id}").json()
        assert {**after, "total": None} == {**before, "total": None}
        assert client.get(f"/v1/files/{id}/download").status_code == 200
        # Its probabilities are not those that the thresholds of now were tuned on.
        part = client.get(f"/v1/files/{id}/download", params={"keep": "RCT", "part": "kept"})
        assert (part.status_code, part.json()["error_type"]) == (409, "conflict")
        job = wait_for_job(client, unfinished)
        assert (job["status"], job["done"]) == ("done", 8000), job
        assert client.get(f"/v1/files/{newer.name}").status_code == 404
    assert second.stop() == 0
    assert newer.exists()
    store = JobStore(tmp_path / "state")
    store.forget_unreadable(keep_hours=1)
    assert newer.exists()
    store.forget_unreadable(keep_hours=0)
    assert not newer.exists()


def test_the_state_folder_has_one_service(server, exported, tmp_path):
    holder = f"is being written by process {server.process.pid}"
    with pytest.raises(AssertionError, match=holder):
        start_server(tmp_path, exported.bundle, "--state", str(server.log.parent / "state"))


def test_only_remains_of_jobs_are_removed_from_the_state_folder(tmp_path, caplog):
    jobs = tmp_path / "jobs"
    remains = jobs / ("a" * 32)
    remains.mkdir(parents=True)
    for name in ("upload.ris.gz", "tagged.parquet", ".job.json.0123456789ab.partial"):
        (remains / name).write_bytes(b"")
    mine = [jobs / "thesis" / "upload.ris", jobs / ("b" * 32) / "thesis.docx", jobs / "notes.txt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    assert JobStore(tmp_path).jobs() == []
    assert not remains.exists()
    assert all(path.exists() for path in mine)
    assert caplog.text.count("is no file job, and is left as it is") == 3


def test_are_deleted_after_their_time(exported, tmp_path):
    server = start_server(tmp_path, exported.bundle, "--keep-hours", "0")
    with server.client() as client:
        id = upload(client, "a.ris", ris(ARTICLES[:2])).json()["id"]
        for _ in range(600):
            if client.get(f"/v1/files/{id}").status_code == 404:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("it is still there")
    server.stop()  # the job is forgotten before its folder is removed
    assert not list((tmp_path / "state" / "jobs").iterdir())


def _watch(client, ids: list[str], finished: dict[str, dict], records: int) -> None:
    """Until so many records more are done; what is `finished` must stay as it was."""
    first = None
    while len(finished) < len(ids):
        jobs = [client.get(f"/v1/files/{id}").json() for id in ids]
        for job in jobs:
            assert job["status"] != "failed", job
            if job["id"] in finished:
                assert job["counts"] == finished[job["id"]]["counts"]
                assert job["status"] == "done"
            elif job["status"] == "done":
                finished[job["id"]] = job
        done = sum(job["done"] for job in jobs)
        first = done if first is None else first
        if done - first >= records:
            return
        time.sleep(0.1)


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(exported, tmp_path):
    """Ten jobs, kill -9 again and again: what was called done stays done, the others go on."""
    chance = random.Random(7)
    # Long notes, which no model reads: files of more than 1 MiB are gone on with, not begun anew.
    note = b"N1  - " + b"Some note of somebody. " * 200 + b"\nER  - "
    inputs = [ris(invented_articles(300, seed=seed)).replace(b"ER  - ", note) for seed in range(10)]
    server = start_server(tmp_path, exported.bundle)
    with server.client() as client:
        ids = [upload(client, f"{n}.ris", each).json()["id"] for n, each in enumerate(inputs)]
    finished: dict[str, dict] = {}
    kills = 0
    while len(finished) < len(ids):
        with server.client() as client:
            _watch(client, ids, finished, records=chance.randint(50, 900))
        server.stop(signal.SIGKILL)
        kills += 1
        server = start_server(tmp_path, exported.bundle)
    with Predictor(exported.bundle) as predictor, server.client() as client:
        for number, id in enumerate(ids):
            source = tmp_path / f"{number}.ris"
            source.write_bytes(inputs[number])
            predict_file(predictor, source, tmp_path / f"{number}.csv", progress=False)
            answer = client.get(f"/v1/files/{id}/download")
            assert answer.content == (tmp_path / f"{number}.csv").read_bytes()
    server.stop()
    assert kills > 1
