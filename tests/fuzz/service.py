"""Requests to the service, in this process: whatever a server's parser lets through to the app.

An input is a request as it is sent, without its Content-Length; `{job}` in it stands for a file
job that is done.
"""

from __future__ import annotations

import asyncio
import json
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h11

from studytag import Predictor
from studytag.service.app import create_app
from studytag.service.jobs import ENDED
from studytag.service.settings import Settings
from tests.support import handmade_bundle

UPLOAD = (
    b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.ris"\r\n\r\n'
    b"TY  - JOUR\nTI  - A trial of plaque\nER  - \n\r\n--b--\r\n"
)

_BUG = "its log says why"
"""What a job says that ended in an exception of no kind that is expected."""


class Service:
    """The app over a tiny bundle, with an event loop of its own.

    Args:
        folder: For the bundle and for the state.
    """

    def __init__(self, folder: Path) -> None:
        predictor = Predictor(handmade_bundle(folder / "bundle"), workers=1)
        self._app = create_app(predictor, Settings(state=folder / "state", running_jobs=1))
        self._jobs = self._app.state.service.jobs
        self._loop = asyncio.new_event_loop()
        self._done = ""

    @property
    def job(self) -> str:
        """A file job that is done; a new one where a request has deleted it."""
        if self._jobs.get(self._done) is None:
            self._done = json.loads(self.answer(UPLOAD)[1])["id"]
            self.wait(self._done)
        return self._done

    def wait(self, id: str) -> None:
        """Wait until a job has ended."""
        job = self._jobs.get(id)
        while job.status not in ENDED:
            time.sleep(0.001)
        assert _BUG not in (job.error or ""), job.error

    def remove(self, id: str) -> None:
        """Delete a job."""
        self._jobs.remove(self._jobs.get(id))

    def answer(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request; 0 where the server's parser refuses it."""
        try:
            scope, content = _parsed(data)
        except h11.RemoteProtocolError:
            return 0, b""
        return self._loop.run_until_complete(self._answer(scope, content))

    async def _answer(self, scope: dict[str, Any], content: bytes) -> tuple[int, bytes]:
        waiting = [{"type": "http.request", "body": content, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.Event().wait()  # the caller stays, and says no more
            return waiting.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


def check(folder: Path, data: bytes) -> None:
    """Answer a request: what is raised, an error 500, or one in another form is a defect.

    Byte ranges that cannot be had are refused by Starlette, in words of its own.
    """
    service = _service(folder)
    status, body = service.answer(data.replace(b"{job}", service.job.encode()))
    assert status != 500, body
    if status >= 400 and b"range:" not in data.lower():
        assert json.loads(body)["error"], body
    elif status == 202:
        job = json.loads(body)["id"]
        service.wait(job)
        service.remove(job)


@cache
def _service(folder: Path) -> Service:
    return Service(folder)


def _parsed(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The scope that uvicorn makes of a request, and the body.

    Raises:
        RemoteProtocolError: it is no request.
    """
    head, _, body = data.partition(b"\r\n\r\n")
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"%s\r\nContent-Length: %d\r\n\r\n" % (head, len(body)))
    request = connection.next_event()
    if not isinstance(request, h11.Request):
        raise h11.RemoteProtocolError("incomplete")
    path, _, query = request.target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    return scope, body
