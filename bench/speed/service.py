"""`studytag serve` under load, beside the predictor itself and infinity in the same run.

All take turns on the same articles and cores, the clients' cost included: the clients are bare
sockets in one process, so that little of the cores goes into them. Then: what a single article
takes when nobody else asks, and beside the clients; what overload is answered with; and how the
server's memory grows while it works.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np

from bench.harness.machine import occasion
from bench.speed.inference import sample_articles
from studytag import Predictor
from studytag.hardware import available_cores

_OVERLOAD_CLIENTS, _OVERLOAD_ARTICLES = 40, 100
_WARM_UP_SECONDS, _ALONE_SECONDS = 3.0, 10.0


@dataclass
class Load:
    """What clients saw, or who called the predictor.

    Attributes:
        seconds: How long they asked.
        processor: Processor seconds of the server, or of the predictor's process.
        clients: Processor seconds of the clients.
        latencies: Of the answers, in seconds.
        statuses: How many answers had each code.
        memory: Moments and the server's resident memory in MiB.
    """

    seconds: float = 0.0
    processor: float = 0.0
    clients: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers of code 200 in a second."""
        return self.statuses[200] / self.seconds

    @property
    def slope(self) -> float:
        """How the memory grew, in MiB a minute, by least squares over the second half."""
        half = np.array(self.memory[len(self.memory) // 2 :])
        return float(np.polyfit(half[:, 0], half[:, 1], 1)[0]) * 60 if len(half) > 2 else 0.0

    def percentiles(self) -> str:
        """The median of the latencies and their 99th percentile, in milliseconds."""
        return " / ".join(f"{1000 * each:.0f}" for each in np.percentile(self.latencies, (50, 99)))

    def costs(self) -> str:
        """Processor milliseconds an article, of the server and of the clients."""
        each = (1000 * seconds / self.statuses[200] for seconds in (self.processor, self.clients))
        return " + ".join(f"{milliseconds:.2f}" for milliseconds in each)

    def codes(self) -> str:
        """How often each code came."""
        return ", ".join(f"{code}: {count}" for code, count in sorted(self.statuses.items()))


@dataclass(frozen=True)
class Server:
    """A server that runs: its address, its process, and how an article is sent to it."""

    url: str
    process: int
    path: str
    body: Callable[[Any], Any]

    def request(self, articles: Any) -> bytes:
        """A request as it goes over the wire."""
        content = json.dumps(self.body(articles)).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content


def service(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements, as a table of figures."""
    rows, _ = sample_articles(options.source, options.articles)
    articles = [{name: row.get(name) for name in ("title", "abstract")} for row in rows]
    own: list[Load] = []
    loads: dict[str, list[Load]] = {}
    with ExitStack() as stack:
        predictor = stack.enter_context(Predictor(options.bundle))
        studytag = stack.enter_context(_studytag(options.bundle))
        servers = {"studytag serve": studytag}
        if options.infinity:
            name, server = stack.enter_context(_infinity(options, predictor))
            servers[name] = server
        for server in servers.values():
            _load(server, articles, options.clients, _WARM_UP_SECONDS)
        for _ in range(options.rounds):
            own.append(_called(predictor, articles, options.seconds / 2))
            for name, server in servers.items():
                seconds = options.seconds if server is studytag else options.seconds / 2
                load = _load(server, articles, options.clients, seconds)
                loads.setdefault(name, []).append(load)
        alone = {name: _load(each, articles, 1, _ALONE_SECONDS) for name, each in servers.items()}
        many = [each for each, _ in zip(cycle(articles), range(_OVERLOAD_ARTICLES), strict=False)]
        overload = _load(studytag, [many], _OVERLOAD_CLIENTS, 0)
    together = {"the predictor": _merged(own)} | {n: _merged(each) for n, each in loads.items()}
    shares = {name: _share(each, own) for name, each in loads.items()}
    measures: dict[str, dict[str, str]] = {
        "Articles/s": {name: f"{load.rate:.1f}" for name, load in together.items()},
        "Of the predictor's, median of the rounds": shares,
        "Processor ms an article, server + clients": {n: x.costs() for n, x in together.items()},
        "One client alone, p50 / p99 ms": {name: x.percentiles() for name, x in alone.items()},
        f"Each of {options.clients} clients, p50 / p99 ms": {
            name: together[name].percentiles() for name in loads
        },
        "Answers under load, by code": {name: together[name].codes() for name in loads},
        "Answers under overload, by code": {"studytag serve": overload.codes()},
        "Memory slope, MiB a minute": {name: f"{together[name].slope:.2f}" for name in loads},
    }
    return {
        "kind": "figures",
        "caption": (
            f"{options.clients} clients that send single articles, in {options.rounds} rounds of "
            f"{options.seconds:.0f} s for `studytag serve` and half as much for others, which take "
            f"turns on {available_cores()} cores of {occasion()['machine']}, clients included; "
            f"the predictor is called without a server. {occasion()['date']}."
        ),
        "columns": [[title, "{}"] for title in ("Measure", *together)],
        "rows": [
            [title, *(values.get(name, "–") for name in together)]
            for title, values in measures.items()
        ],
    }


@contextmanager
def _studytag(bundle: str | None) -> Iterator[Server]:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "studytag", "serve", "--port", "0", "--state", folder]
        command += [] if bundle is None else ["--bundle", bundle]
        with _running(command, r"on (http://\S+)") as (url, process):
            yield Server(url, process, "/v1/tag", lambda articles: {"articles": articles})


@contextmanager
def _infinity(options: argparse.Namespace, predictor: Predictor) -> Iterator[tuple[str, Server]]:
    """Its name with its version, and infinity; it comes from an environment of its own."""
    command = [options.infinity, "v2", "--model-id", str(options.model), "--engine", "torch"]
    command += ["--device", "cpu", "--no-bettertransformer", "--served-model-name", "model"]
    compose = predictor.manifest.text_recipe.compose_record
    with _running([*command, "--host", "127.0.0.1"], r"running on (http://\S+)") as (url, process):
        with urlopen(f"{url}/openapi.json") as answer:
            version = json.load(answer)["info"]["version"]
        server = Server(
            url,
            process,
            "/classify",
            lambda article: {"model": "model", "input": [compose(article)]},
        )
        yield f"infinity {version}, torch float32", server


@contextmanager
def _running(command: list[str], ready: str) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: the address that its log names once it is `ready`."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            while not (found := re.search(ready, log.read_text(encoding="utf-8"))):
                if process.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield found.group(1), process.pid
        finally:
            process.terminate()
            process.wait()


def _called(predictor: Predictor, articles: list[Any], seconds: float) -> Load:
    """The predictor, called in this process."""
    load, used = Load(), time.process_time()
    started = time.perf_counter()
    for _ in predictor.predict_iter(cycle(articles)):
        load.statuses[200] += 1
        if time.perf_counter() - started >= seconds:
            break
    load.seconds = time.perf_counter() - started
    load.processor = time.process_time() - used
    return load


def _load(server: Server, articles: list[Any], clients: int, seconds: float) -> Load:
    """Clients that send one of `articles` at a time, each the next when it has its answer."""
    load = Load()
    supply = cycle([server.request(each) for each in articles])
    address = urlsplit(server.url)

    async def client(until: float) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while True:
            started = time.perf_counter()
            writer.write(next(supply))
            load.statuses[await _status(reader)] += 1
            load.latencies.append(time.perf_counter() - started)
            if time.perf_counter() >= until:
                break
        writer.close()

    async def watch(until: float) -> None:
        while time.perf_counter() < until:
            load.memory.append((time.perf_counter(), _resident(server.process)))
            await asyncio.sleep(1)

    async def all_clients() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(watch(until), *(client(until) for _ in range(clients)))

    started, used = time.perf_counter(), (_used(server.process), time.process_time())
    asyncio.run(all_clients())
    load.seconds = time.perf_counter() - started
    load.processor, load.clients = _used(server.process) - used[0], time.process_time() - used[1]
    return load


async def _status(reader: asyncio.StreamReader) -> int:
    """The code of an answer, which is read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert length is not None, head
    await reader.readexactly(int(length[1]))
    return int(head.split(maxsplit=2)[1])


def _resident(process: int) -> float:
    """The resident memory of a process in MiB (Linux only)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def _used(process: int) -> float:
    """Processor seconds of a process (Linux only)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _share(loads: list[Load], own: list[Load]) -> str:
    """The median over the rounds."""
    shares = (load.rate / predictor.rate for load, predictor in zip(loads, own, strict=True))
    return f"{statistics.median(shares):.0%}"


def _merged(loads: list[Load]) -> Load:
    merged = Load()
    for load in loads:
        merged.seconds += load.seconds
        merged.processor += load.processor
        merged.clients += load.clients
        merged.latencies += load.latencies
        merged.statuses += load.statuses
        merged.memory += load.memory
    return merged
