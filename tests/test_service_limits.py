"""The service under load and under attack: fair, bounded, and closed to strangers."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import httpx
import pytest
from service_support import JSON, ris, start_server, upload
from support import invented_articles

from studytag import Predictor
from studytag.service.app import create_app
from studytag.service.lanes import Cores
from studytag.service.sentences import split_sentences
from studytag.service.settings import Settings


class TestCores:
    def test_take_one_task_of_each_lane_in_turn(self):
        cores = Cores(1)
        started, gate, order = threading.Event(), threading.Event(), []

        def block():
            started.set()
            gate.wait(10)

        blocked = cores.lane().submit(block)
        assert started.wait(10)
        long, short = cores.lane(), cores.lane()
        tasks = [long.submit(order.append, f"long {number}") for number in range(4)]
        tasks += [short.submit(order.append, "short")]
        gate.set()
        for task in (blocked, *tasks):
            task.result(10)
        assert order == ["long 0", "short", "long 1", "long 2", "long 3"]
        cores.close()

    def test_what_waits_in_a_closed_lane_is_never_run(self):
        cores = Cores(1)
        gate, ran = threading.Event(), []
        cores.lane().submit(gate.wait, 10)
        with cores.lane() as lane:
            task = lane.submit(ran.append, 1)
        other = cores.lane().submit(ran.append, 2)
        gate.set()
        other.result(10)
        assert task.cancelled()
        assert ran == [2]
        with pytest.raises(RuntimeError):
            lane.submit(ran.append, 3)
        cores.close()

    def test_a_task_that_fails_fails_alone(self):
        cores = Cores(1)
        lane = cores.lane()
        failing = lane.submit(int, "x")
        assert lane.submit(int, "3").result(10) == 3
        with pytest.raises(ValueError, match="invalid literal"):
            failing.result(10)
        cores.close()

    def test_closing_cancels_what_waits(self):
        cores = Cores(1)
        gate = threading.Event()
        cores.lane().submit(gate.wait, 10)
        waiting = cores.lane().submit(int, "3")
        threading.Timer(0.1, gate.set).start()
        cores.close()
        with pytest.raises(CancelledError):
            waiting.result(10)


class TestPredictor:
    """What the predictor offers a service."""

    def test_runs_on_another_executor(self, exported):
        with Predictor(exported.bundle) as predictor, ThreadPoolExecutor(1) as threads:
            view = predictor.on(threads)
            assert view.predict("a trial") == predictor.predict("a trial")
            view.close()
            with pytest.raises(RuntimeError):
                threads.submit(int)
            assert predictor.predict("a trial")

    def test_predicts_beside_an_event_loop(self, exported):
        unknown = "\u200b"  # it has a text, of which the tokenizer leaves nothing
        articles = [{"title": "a trial"}, {"title": ""}, "a cohort of children", unknown]
        with Predictor(exported.bundle) as predictor:
            given = asyncio.run(predictor.predict_async(articles, operating_point="precise"))
            expected = predictor.predict(articles, operating_point="precise", errors="return")
        assert given[:3:2] == expected[:3:2]
        assert [*map(repr, given[1::2])] == [*map(repr, expected[1::2])]

    def test_counts_tokens_before_truncation(self, exported):
        with Predictor(exported.bundle) as predictor:
            one, long = predictor.predict(["trial", "trial " * 100])
        assert one.tokens > 2
        assert long.tokens == 2 + 100 * (one.tokens - 2) > predictor.manifest.max_length


def test_sentences_are_the_whole_text():
    text = "We gave it (vs. placebo) to 20 dogs. Smith et al. found none! P was 0.05. Fine"
    assert split_sentences(text) == [
        "We gave it (vs. placebo) to 20 dogs.",
        "Smith et al. found none!",
        "P was 0.05.",
        "Fine",
    ]
    assert split_sentences("  ") == []
    assert len(split_sentences("It is so. " * 500)) == 60
    assert len(split_sentences("A. " * 50_000)) == 1  # looked at once each, not from the first on


def run_app(exported, tmp_path, calls, predictor=None, **limits):
    """What `calls`, a coroutine function, makes of a client of an app with these limits."""

    async def main():
        app = create_app(predictor or Predictor(exported.bundle), Settings(tmp_path, **limits))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            return await calls(client)

    return asyncio.run(main())


class TestLimits:
    def test_overload_is_429_with_a_time_to_wait(self, exported, tmp_path):
        async def calls(client):
            body = {"articles": [{"title": "A trial of varnish"}] * 6}
            return await asyncio.gather(
                *(client.post("/v1/tag", json=body) for _ in range(8)),
            )

        answers = run_app(exported, tmp_path, calls, max_waiting=12)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error_type"] == "overloaded"

    def test_the_queue_is_free_again_after_overload_and_errors(self, exported, tmp_path):
        async def calls(client):
            body = {"articles": [{"title": "A trial"}] * 6}
            for _ in range(5):
                assert (await client.post("/v1/tag", json=body)).status_code == 200
                wrong = body | {"operating_point": "none"}
                assert (await client.post("/v1/tag", json=wrong)).status_code == 422
            return (await client.get("/metrics")).text

        metrics = run_app(exported, tmp_path, calls, max_waiting=6)
        assert "studytag_queue_articles 0.0" in metrics

    def test_explaining_too_much_is_refused(self, exported, tmp_path):
        async def calls(client):
            article = {"title": "A trial", "abstract": "It is so. " * 20}
            body = {"articles": [article] * 3, "explain": True}
            return await client.post("/v1/tag", json=body)

        answer = run_app(exported, tmp_path, calls, max_waiting=20)
        assert (answer.status_code, answer.json()["error_type"]) == (413, "too_large")

    def test_time_is_limited(self, exported, tmp_path):
        async def calls(client):
            return await client.post("/v1/tag", json={"articles": {"title": "A trial"}})

        answer = run_app(exported, tmp_path, calls, max_seconds=0.0)
        assert answer.status_code == 503
        assert answer.json()["error_type"] == "timeout"

    def test_files_are_limited_in_number_and_size(self, exported, tmp_path):
        async def calls(client):
            content = ris(invented_articles(30))
            many = [
                await client.post("/v1/files", files={"file": ("a.ris", content)}) for _ in range(4)
            ]
            large = await client.post("/v1/files", files={"file": ("a.ris", b" " * 200_000)})
            return [each.status_code for each in many], large.status_code

        many, large = run_app(
            exported, tmp_path, calls, max_jobs=0, max_upload=100_000, running_jobs=1
        )
        assert many == [429] * 4
        assert large == 413

    def test_a_file_of_too_many_records_fails(self, exported, tmp_path):
        async def calls(client):
            content = ris(invented_articles(200))
            answer = await client.post("/v1/files", files={"file": ("a.ris", content)})
            url = f"/v1/files/{answer.json()['id']}"
            while (job := (await client.get(url)).json())["status"] in ("queued", "running"):
                await asyncio.sleep(0.05)
            return job

        job = run_app(exported, tmp_path, calls, max_records=10)
        assert job["status"] == "failed"
        assert "more than 10 records" in job["error"]


@pytest.fixture(scope="module")
def logging_server(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    running = start_server(folder, exported.bundle, "--workers", "1", "--log-json")
    yield running
    assert running.stop() == 0


class TestConnections:
    def test_a_caller_who_goes_stops_costing(self, logging_server):
        with logging_server.client() as client:
            body = json.dumps({"articles": [{"title": "A trial of varnish " * 30}] * 1000})
            host, port = logging_server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as connection:
                head = f"POST /v1/tag HTTP/1.1\r\nHost: {host}:{port}\r\n"
                head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall((head + body).encode())
                _wait_for_queue(client, lambda length: length == 1000)
            _wait_for_queue(client, lambda length: length == 0)
            tagged = client.get("/metrics").text
        assert 'studytag_articles_total{outcome="tagged"} 1000' not in tagged
        assert " 499 " in logging_server.log.read_text(encoding="utf-8")

    def test_single_articles_pass_a_file(self, logging_server):
        with logging_server.client() as client:
            content = ris(invented_articles(60) * 40)
            id = upload(client, "long.ris", content).json()["id"]
            while client.get(f"/v1/files/{id}").json()["status"] == "queued":
                time.sleep(0.05)
            for _ in range(5):
                assert client.post("/predict", json={"inputs": "a trial"}).status_code == 200
            assert client.get(f"/v1/files/{id}").json()["status"] == "running"
            assert client.delete(f"/v1/files/{id}").status_code == 204

    def test_the_log_is_json(self, logging_server):
        with logging_server.client() as client:
            client.post("/predict", json={"inputs": "a trial"})
        lines = logging_server.log.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        requests = [each for each in entries if each.get("route") == "/predict"]
        assert requests[-1]["status"] == 200
        assert requests[-1]["method"] == "POST"
        assert requests[-1]["seconds"] > 0


def _wait_for_queue(client, reached):
    for _ in range(600):
        text = client.get("/metrics").text
        (line,) = (line for line in text.splitlines() if line.startswith("studytag_queue_articles"))
        if reached(float(line.split()[1])):
            return
        time.sleep(0.05)
    raise AssertionError(line)


@pytest.fixture(scope="module")
def guarded(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    token = folder / "token"
    token.write_text("a long random token\n", encoding="utf-8")
    options = ("--host", "0.0.0.0", "--token-file", str(token))
    running = start_server(folder, exported.bundle, *options)
    running.url = running.url.replace("0.0.0.0", "127.0.0.1")
    yield running
    running.stop()


class TestAccess:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/predict"),
            ("POST", "/"),
            ("POST", "/v1/tag"),
            ("POST", "/v1/files"),
            ("GET", f"/v1/files/{'0' * 32}"),
            ("DELETE", f"/v1/files/{'0' * 32}"),
            ("GET", "/v1/model"),
            ("GET", "/info"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
            ("GET", "/v2"),
            ("GET", "/v2/models/studytag"),
            ("POST", "/v2/models/studytag/infer"),
        ],
    )
    @pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic a", "Bearer"])
    def test_the_token_is_asked_for(self, guarded, method, path, header):
        headers = {} if header is None else {"authorization": header}
        with guarded.client(headers=headers) as client:
            answer = client.request(method, path)
        assert answer.status_code == 401
        assert answer.json()["error_type"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_the_token_opens(self, guarded):
        with guarded.client(headers={"authorization": "Bearer a long random token"}) as client:
            assert client.post("/predict", json={"inputs": "a trial"}).status_code == 200
            assert client.get("/v1/model").status_code == 200

    @pytest.mark.parametrize("path", ["/", "/health", "/v2/health/live", "/v2/health/ready"])
    def test_page_and_health_need_none(self, guarded, path):
        with guarded.client() as client:
            assert client.get(path).status_code == 200

    def test_a_cluster_may_ask_for_health_by_address(self, exported, tmp_path):
        server = start_server(tmp_path, exported.bundle, "--allow-host", "designs.example.org")
        with server.client(headers={"host": "10.1.2.3:8000"}) as client:
            assert client.get("/v2/health/ready").status_code == 200
            assert client.get("/v1/model").status_code == 403
            assert client.get("/").status_code == 403
        with server.client(headers={"host": "designs.example.org"}) as client:
            page = client.get("/")
            assert page.headers["cache-control"] == "no-cache"
        server.stop()

    def test_other_sites_and_other_names_are_refused(self, exported, tmp_path):
        async def calls(client):
            async def status(**headers):
                answer = await client.post(
                    "/predict", json={"inputs": "a trial"}, headers={**JSON, **headers}
                )
                return answer.status_code

            return [
                await status(),
                await status(host="localhost:8000", origin="http://localhost:8000"),
                await status(host="attacker.example"),
                await status(origin="https://attacker.example"),
                await status(origin="null"),
                await status(origin="http://["),
            ]

        hosts = ("localhost", "127.0.0.1")
        assert run_app(exported, tmp_path, calls, hosts=hosts) == [200, 200, *[403] * 4]

    def test_a_simple_form_of_another_site_is_not_json(self, exported, tmp_path):
        async def calls(client):
            content = '{"inputs": "a trial"}'
            answer = await client.post(
                "/predict", content=content, headers={"content-type": "text/plain"}
            )
            return answer.status_code

        assert run_app(exported, tmp_path, calls) == 422


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--host", "0.0.0.0"], "other machines could use it; give --token-file"),
        (["--token-file", "missing"], "missing: cannot be read"),
        (["--host", "256.1.1.1", "--no-token"], "cannot listen there"),
        (["--bundle", "missing"], "missing is neither a model folder nor a bundle"),
    ],
)
def test_the_command_refuses(options, reason, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "studytag", "serve", "--port", "0", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
