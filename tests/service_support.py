"""A service as its users meet it: `studytag serve` in a process of its own, on loopback."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

JSON = {"content-type": "application/json"}


@dataclass
class Running:
    """A server that runs.

    Attributes:
        url: Where it listens.
        process: Ends with `stop`.
        log: What it says.
    """

    url: str
    process: subprocess.Popen
    log: Path

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


def start_server(folder: Path, bundle: Path | None, *options: str) -> Running:
    """Start a server on a port that is free; `folder` holds its state and its log."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "studytag", "serve", "--port", "0"]
    command += ["--state", str(folder / "state"), *options]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=stream)
    for _ in range(6000):
        if found := re.search(r"on (http://\S+)", log.read_text(encoding="utf-8")):
            server = Running(found.group(1).rstrip('",}'), process, log)
            if _answers(server):
                return server
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    raise AssertionError(log.read_text(encoding="utf-8"))


def _answers(server: Running) -> bool:
    try:
        return httpx.get(f"{server.url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def upload(client: httpx.Client, name: str, content: bytes, **fields: str) -> httpx.Response:
    return client.post("/v1/files", files={"file": (name, content)}, data=fields)


def wait_for_job(client: httpx.Client, id: str) -> dict:
    """The job once it has ended."""
    for _ in range(1200):
        job = client.get(f"/v1/files/{id}").json()
        if job["status"] in ("done", "failed"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


RECORD = "TY  - JOUR\nTI  - {title}\nAB  - {abstract}\nAN  - {number}\nER  - \n\n"


def ris(articles: list[dict]) -> bytes:
    """Articles as a RIS file."""
    return "".join(
        RECORD.format(title=row["title"], abstract=row["abstract"] or "", number=number)
        for number, row in enumerate(articles)
    ).encode()
