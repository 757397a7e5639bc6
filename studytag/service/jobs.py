"""File jobs: what is kept of each on disk, so that none is lost when the server ends.

A job is a folder named by its random id: `job.json`, the upload, and, once it is done,
`tagged.parquet` and `shown.parquet`. A folder counts once `job.json` is in it, and no longer once
that is gone.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.files import write_json_atomically
from studytag.files.registry import SUFFIXES
from studytag.manifest import OperatingPoint

logger = logging.getLogger(__name__)

_JOB = "job.json"
_RESULT = "tagged.parquet"
_SHOWN = "shown.parquet"
_NAME_CHARACTERS = 200

_ID = re.compile(r"[0-9a-f]{32}")
_REMAINS = re.compile(
    rf"upload(\.[a-z]+)*|{_RESULT}|{_SHOWN}|download-.+|\.({_JOB}|{_RESULT}|{_SHOWN})\..+"
)
"""The names in a job's folder: its files, downloads on their way, and what hides beside outputs."""


class Status(str, Enum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


ENDED = (Status.DONE, Status.FAILED)


@dataclass
class Job:
    """One uploaded file. All but the last three attributes are kept on disk.

    Attributes:
        id: Random; whoever knows it may read the job.
        name: What the file was called; for people, never a path.
        upload: The name of the file in the job's folder.
        format: Of the upload.
        operating_point: Whose thresholds decide.
        created: ISO 8601, UTC.
        status: How far it is.
        ended: When it ended.
        done: Records written.
        errors: Records among them that could not be read or tagged.
        counts: Records that have each label.
        error: Why it failed.
        tagger: A hash of what it is tagged with: bundle, variant, thresholds, version.
        total: Records of the file, known or estimated.
        cancelled: Whether it is to end since nobody wants it.
        folder: Where it is kept.
    """

    id: str
    name: str
    upload: str
    format: str
    operating_point: str
    created: str
    status: Status = Status.QUEUED
    ended: str | None = None
    done: int = 0
    errors: int = 0
    counts: dict[str, int] | None = None
    error: str | None = None
    tagger: str | None = None
    total: int | None = field(default=None, metadata={"kept": False})
    cancelled: bool = field(default=False, metadata={"kept": False})
    folder: Path = field(default=Path(), metadata={"kept": False})

    @property
    def source(self) -> Path:
        """The upload."""
        return self.folder / self.upload

    @property
    def result(self) -> Path:
        """The tagged records."""
        return self.folder / _RESULT

    @property
    def shown(self) -> Path:
        """What people see of the records, in the same order."""
        return self.folder / _SHOWN

    @property
    def point(self) -> OperatingPoint:
        """The operating point, which was checked when the job was made."""
        return self.operating_point  # type: ignore[return-value]

    def without_paths(self, message: str) -> str:
        """A message that calls the file by its name and tells nothing of the server's folders."""
        for path in (self.source, self.source.resolve(), self.result, self.result.resolve()):
            message = message.replace(str(path), self.name)
        return message.replace(str(self.folder.resolve()), "").replace(str(self.folder), "")

    def expires(self, keep_hours: float) -> datetime:
        """When it is deleted, if it ended now or when it did."""
        ended = datetime.fromisoformat(self.ended) if self.ended else now()
        return ended + timedelta(hours=keep_hours)

    def save(self) -> None:
        """Make what is kept durable.

        Raises:
            InputError: it cannot be written.
        """
        values = asdict(self)
        write_json_atomically(self.folder / _JOB, {name: values[name] for name in _KEPT})

    def end(self, status: Status, error: str | None = None) -> None:
        """Note how it ended. Nobody hears of it before it is durable."""
        ended = now().isoformat()
        replace(self, status=status, error=error, ended=ended).save()
        self.error, self.ended, self.status = error, ended, status


_KEPT = [each.name for each in fields(Job) if each.metadata.get("kept", True)]


class JobStore:
    """All jobs of a state folder.

    Args:
        state: The folder; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, state: Path) -> None:
        self._root = state / "jobs"
        self._lock = threading.Lock()
        self._unreadable: list[Path] = []
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{state}: cannot be written ({error.strerror})") from error
        self._jobs = {job.id: job for job in self._load()}

    def get(self, id: str) -> Job | None:
        """The job of that id."""
        return self._jobs.get(id)

    def jobs(self) -> list[Job]:
        """All jobs, the oldest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.created)

    def count(self, status: str) -> int:
        """How many jobs have this status."""
        return sum(job.status == status for job in self.jobs())

    def new_folder(self) -> Path:
        """An empty folder for a job that is about to be added."""
        folder = self._root / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def add(self, job: Job) -> None:
        """Take a job whose upload lies in its folder; from now on a restart goes on with it.

        Raises:
            InputError: it cannot be written.
        """
        job.save()
        with self._lock:
            self._jobs[job.id] = job

    def remove(self, job: Job) -> None:
        """Forget a job; its files go now, or when whoever is at it has ended."""
        with self._lock:
            self._jobs.pop(job.id, None)
        running = job.status is Status.RUNNING
        job.cancelled = True
        (job.folder / _JOB).unlink(missing_ok=True)
        if not running:
            discard(job.folder)

    def forget_unreadable(self, keep_hours: float) -> None:
        """Delete jobs that cannot be read, once they are as old as others that have ended."""
        for folder in list(self._unreadable):
            written = (folder / _JOB).stat().st_mtime if (folder / _JOB).exists() else 0.0
            if written + 3600 * keep_hours <= time.time():
                discard(folder)
                self._unreadable.remove(folder)

    def _load(self) -> Iterator[Job]:
        for folder in self._root.iterdir():
            if not (folder / _JOB).is_file():
                if _is_remains(folder):
                    discard(folder)
                else:
                    logger.warning("%s: is no file job, and is left as it is", folder)
                continue
            try:
                stored = read_json(folder / _JOB, "remove its folder")
                known = {name: value for name, value in stored.items() if name in _KEPT}
                # What an older version began has no tagger: whatever is now is another one.
                job = Job(**{"tagger": "", **known}, folder=folder)
                job.status = Status(job.status)
                job.expires(0)
            except (InputError, TypeError, ValueError) as error:
                # Left as it is: one job, perhaps of a newer version, must not stop all others.
                logger.error("job %s: cannot be read, and is left out (%s)", folder.name, error)
                self._unreadable.append(folder)
                continue
            if job.status is Status.RUNNING or (
                job.status is Status.DONE and not job.shown.exists()
            ):
                job.status = Status.QUEUED
            yield job


def _is_remains(folder: Path) -> bool:
    """Whether a folder without `job.json` is what an upload or a deletion that was cut short left.

    Anything else in the state folder belongs to somebody.
    """
    return (
        _ID.fullmatch(folder.name) is not None
        and folder.is_dir()
        and not folder.is_symlink()
        and all(_REMAINS.fullmatch(path.name) for path in folder.iterdir())
    )


def discard(folder: Path) -> None:
    """Remove a job's folder; what cannot be removed is tried again when the server starts."""
    shutil.rmtree(folder, ignore_errors=True)


def now() -> datetime:
    """The time, in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def shown_name(name: str | None) -> str:
    """What an uploaded file is called, for people: no folders, no control characters."""
    last = re.split(r"[\\/]", name or "")[-1]
    return "".join(filter(str.isprintable, last)).strip()[:_NAME_CHARACTERS] or "file"


def upload_name(name: str) -> str:
    """What the upload is called on disk: of the given name only a known suffix remains."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = ".gz" if suffixes[-1:] == [".gz"] else ""
    suffix = next(iter((suffixes[:-1] if packed else suffixes)[-1:]), "")
    return f"upload{suffix if suffix in SUFFIXES else ''}{packed}"
