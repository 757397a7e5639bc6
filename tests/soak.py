"""Predictor and service at work for long: do memory, threads and descriptors stay as they are?

    python -m tests.soak --minutes 30

Prints a line a minute: bytes, threads and descriptors of this process, which predicts, and of a
server. Exit code 1 where the largest of the last third exceeds that of the first: memory by more
than a twentieth.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from studytag import Predictor

sys.path.insert(0, str(Path(__file__).parent))
from service_support import Running, ris, start_server, upload, wait_for_job
from support import invented_articles

ARTICLES = invented_articles(200)
BAD = [{}, 7, {"title": 5}, {"title": "\ud800"}, {"title": "x" * 500_000}]


def predict(predictor: Predictor, turn: int) -> None:
    """Articles of all lengths, bad records, and now and then a predictor of its own."""
    some = [ARTICLES[(turn * 7 + index) % len(ARTICLES)] for index in range(8)]
    predictor.predict(some)
    list(predictor.predict_iter([*some, *BAD], errors="return"))
    if turn % 20 == 0:
        with Predictor(workers=1) as another:
            another.predict(some[:1])


def ask(client: httpx.Client, turn: int) -> None:
    """Requests, good and bad, files, and a caller who goes away."""
    article = ARTICLES[turn % len(ARTICLES)]
    client.post("/v1/tag", json={"articles": article, "explain": turn % 5 == 0}).raise_for_status()
    assert client.post("/predict", content=b'{"inputs": [').status_code == 422
    assert client.get(f"/v1/files/{'0' * 32}").status_code == 404
    try:
        client.post("/predict", json={"inputs": [[a["title"]] for a in ARTICLES]}, timeout=0.02)
    except httpx.TimeoutException:
        pass
    if turn % 10 == 0:
        id = upload(client, "a.ris", ris(ARTICLES[:20])).json()["id"]
        wait_for_job(client, id)
        client.get(f"/v1/files/{id}/download", params={"format": "ris"}).raise_for_status()
        client.delete(f"/v1/files/{id}").raise_for_status()


def usage(process: psutil.Process) -> tuple[int, int, int]:
    """Resident memory in bytes, threads, and open descriptors."""
    return process.memory_info().rss, process.num_threads(), process.num_fds()


def work(server: Running, minutes: float) -> list[tuple[int, ...]]:
    """What both processes use, at every minute: six numbers."""
    processes = (psutil.Process(), psutil.Process(server.process.pid))
    measured: list[tuple[int, ...]] = []
    started = time.monotonic()
    with Predictor(workers=1) as predictor, server.client() as client:
        for turn in itertools.count():
            predict(predictor, turn)
            ask(client, turn)
            passed = (time.monotonic() - started) / 60
            if passed >= len(measured) + 1 or passed >= minutes:
                measured.append(tuple(itertools.chain(*map(usage, processes))))
                shown = " ".join(map(str, measured[-1]))
                sys.stdout.write(f"{passed:5.1f} min, {turn + 1} turns: {shown}\n")
                sys.stdout.flush()
            if passed >= minutes:
                return measured
    return measured


def main() -> None:
    """Work, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder), None, "--workers", "1")
        try:
            measured = work(server, minutes)
        finally:
            server.stop()
    third = max(len(measured) // 3, 1)
    # The largest of each: pools of threads shrink and grow from minute to minute.
    before = [max(column) for column in zip(*measured[:third], strict=True)]
    after = [max(column) for column in zip(*measured[-third:], strict=True)]
    grown = [
        late > early * (1.05 if index % 3 == 0 else 1)
        for index, (early, late) in enumerate(zip(before, after, strict=True))
    ]
    sys.exit("grown" if any(grown) else 0)


if __name__ == "__main__":
    main()
