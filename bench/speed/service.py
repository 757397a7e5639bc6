"""`studytag serve` under load, beside the predictor itself in the same run.

The predictor and the service take turns on the same articles and cores, the clients' cost included.
Then: what a single article takes when nobody else asks, and beside the clients; what overload is
answered with; and how the server's memory grows while it works.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from bench.harness.machine import occasion
from bench.speed.inference import sample_articles
from studytag import Predictor
from studytag.hardware import available_cores

_OVERLOAD_CLIENTS, _OVERLOAD_ARTICLES = 40, 100
_IDLE_REQUESTS = 100


@dataclass
class Load:
    """What clients saw.

    Attributes:
        seconds: How long they asked.
        latencies: Of the answers, in seconds.
        statuses: How many answers had each code.
        memory: Moments and the server's resident memory in MiB.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers of code 200 in a second."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        """Of the latencies, in milliseconds."""
        return float(np.percentile(self.latencies, share)) * 1000

    @property
    def slope(self) -> float:
        """How the memory grew, in MiB a minute, by least squares over the second half."""
        half = np.array(self.memory[len(self.memory) // 2 :])
        return float(np.polyfit(half[:, 0], half[:, 1], 1)[0]) * 60 if len(half) > 2 else 0.0


def service(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements, as a table of figures."""
    rows, _ = sample_articles(options.source, options.articles)
    articles = [{name: row.get(name) for name in ("title", "abstract")} for row in rows]
    own: list[float] = []
    loads: list[Load] = []
    with _server(options.bundle) as (url, process), Predictor(options.bundle) as predictor:
        predictor.predict_proba(articles[:5])
        for _ in range(options.rounds):
            own.append(_own_rate(predictor, articles, options.seconds))
            loads.append(_load(url, process, articles, options.clients, options.seconds))
        idle = _idle(url, articles)
        overload = _overload(url, articles)
    together = _merged(loads)
    return {
        "kind": "figures",
        "caption": (
            f"`studytag serve` with {options.clients} clients that send single articles, in "
            f"{options.rounds} rounds of {options.seconds:.0f} s, in turns with the predictor on "
            f"{available_cores()} cores of {occasion()['machine']}, clients included, "
            f"{occasion()['date']}."
        ),
        "columns": [["Measure", "{}"], ["Value", "{}"]],
        "rows": [
            ["Predictor alone, articles/s", f"{statistics.median(own):.2f}"],
            ["Service, articles/s", f"{statistics.median(load.rate for load in loads):.2f}"],
            ["Service / predictor, median of the rounds", f"{_ratio(loads, own):.0%}"],
            ["One idle client, p50 / p99 ms", _percentiles(idle)],
            [f"Each of {options.clients} clients, p50 / p99 ms", _percentiles(together)],
            ["Answers under load, by code", _codes(together)],
            ["Answers under overload, by code", _codes(overload)],
            ["Memory slope, MiB a minute", f"{loads[-1].slope:.2f}"],
        ],
    }


@contextmanager
def _server(bundle: str | None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server in a process of its own: its address, and the process."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "studytag", "serve", "--port", "0", "--state", folder]
        if bundle is not None:
            command += ["--bundle", bundle]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stderr=stream)
        try:
            while not (found := re.search(r"on (http://\S+)", log.read_text(encoding="utf-8"))):
                if process.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield found.group(1), process
        finally:
            process.terminate()
            process.wait()


def _own_rate(predictor: Predictor, articles: list[dict[str, Any]], seconds: float) -> float:
    """Articles a second of the predictor."""
    done, started = 0, time.perf_counter()
    for _ in predictor.predict_iter(cycle(articles)):
        done += 1
        if time.perf_counter() - started >= seconds:
            break
    return done / (time.perf_counter() - started)


def _load(
    url: str,
    process: subprocess.Popen[bytes],
    articles: list[dict[str, Any]],
    clients: int,
    seconds: float,
) -> Load:
    """Clients that send single articles, each the next when it has its answer."""
    load = Load()
    supply = cycle(articles)

    async def client(until: float) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as connection:
            while time.perf_counter() < until:
                started = time.perf_counter()
                answer = await connection.post("/v1/tag", json={"articles": next(supply)})
                load.latencies.append(time.perf_counter() - started)
                load.statuses[answer.status_code] += 1

    async def watch(until: float) -> None:
        while time.perf_counter() < until:
            load.memory.append((time.perf_counter(), _resident(process.pid)))
            await asyncio.sleep(1)

    async def all_clients() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(watch(until), *(client(until) for _ in range(clients)))

    started = time.perf_counter()
    asyncio.run(all_clients())
    load.seconds = time.perf_counter() - started
    return load


def _idle(url: str, articles: list[dict[str, Any]]) -> Load:
    load = Load()
    with httpx.Client(base_url=url, timeout=120) as connection:
        for article in [*articles, *articles][:_IDLE_REQUESTS]:
            started = time.perf_counter()
            connection.post("/v1/tag", json={"articles": article})
            load.latencies.append(time.perf_counter() - started)
    return load


def _overload(url: str, articles: list[dict[str, Any]]) -> Load:
    """More articles at once than may wait."""
    load = Load()
    many = [article for _, article in zip(range(_OVERLOAD_ARTICLES), cycle(articles), strict=False)]

    async def all_clients() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=300) as connection:
            requests = (
                connection.post("/v1/tag", json={"articles": many})
                for _ in range(_OVERLOAD_CLIENTS)
            )
            load.statuses.update(each.status_code for each in await asyncio.gather(*requests))

    asyncio.run(all_clients())
    return load


def _resident(pid: int) -> float:
    """The resident memory of a process in MiB (Linux only)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def _ratio(loads: list[Load], own: list[float]) -> float:
    return statistics.median(load.rate / rate for load, rate in zip(loads, own, strict=True))


def _merged(loads: list[Load]) -> Load:
    merged = Load()
    for load in loads:
        merged.latencies += load.latencies
        merged.statuses += load.statuses
    return merged


def _percentiles(load: Load) -> str:
    return f"{load.percentile(50):.0f} / {load.percentile(99):.0f}"


def _codes(load: Load) -> str:
    return ", ".join(f"{code}: {count}" for code, count in sorted(load.statuses.items()))
