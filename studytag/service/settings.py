"""What an operator may set, and the limits that hold otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MEBI = 1 << 20

MAX_ARTICLES = 1000
"""Articles in one request; part of the API's schema, so that a longer list is refused unread."""


@dataclass(frozen=True)
class Settings:
    """How the service behaves.

    Attributes:
        state: The folder of file jobs; they survive a restart.
        token: What callers must send as `Authorization: Bearer ...`; None asks for nothing.
        hosts: Host names under which callers may reach it; none means any.
        name: Of the model, in `/info` and in paths of the open inference protocol.
        max_body: Bytes of a request that is not an upload.
        max_upload: Bytes of an uploaded file.
        max_text: Characters of one article.
        max_waiting: Articles of all requests, files aside, that wait or run; more get 429.
        max_seconds: How long one request may take.
        max_jobs: File jobs that wait or run; more get 429.
        running_jobs: File jobs that run side by side.
        max_records: Records of one file.
        keep_hours: How long a file and its results are kept once it has ended.
    """

    state: Path
    token: str | None = None
    hosts: tuple[str, ...] = ()
    name: str = "studytag"
    max_body: int = 10 * MEBI
    max_upload: int = 200 * MEBI
    max_text: int = 100_000
    max_waiting: int = 2000
    max_seconds: float = 120.0
    max_jobs: int = 100
    running_jobs: int = 2
    max_records: int = 1_000_000
    keep_hours: float = 24.0
