"""Tagging a folder: one file to one file, shared by as many processes as see the folder."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studytag.errors import (
    DISK_ERRORS,
    FilesFailedError,
    InputError,
    OutputInUseError,
    StoppedError,
    StudytagError,
)
from studytag.files import each_notice_once
from studytag.inference.claims import Claim, ServerClock, claim_holder, remove_claims
from studytag.inference.files import Options, predict_file
from studytag.inference.identity import differences, predictor_identity
from studytag.inference.jobs import Job, find_jobs
from studytag.inference.journal import work_folder
from studytag.inference.predictor import Predictor
from studytag.inference.progress import FileSummary, Listener, as_listener

logger = logging.getLogger(__name__)

CLAIM_TIMEOUT = 600.0
"""Seconds without a sign of life after which the file of another process is taken over."""

_RUN = ".studytag-run.json"
_NAP = 0.2
_LONGEST_WAIT = 5.0


@dataclass
class FolderSummary:
    """What one process's `predict_folder` did.

    Attributes:
        files: What was done to each input that this process tagged.
        skipped: Inputs whose output was there, or was made by another process meanwhile.
        failed: Inputs that cannot be tagged, and why.
        seconds: Wall-clock time.
    """

    files: dict[str, FileSummary] = field(default_factory=dict)
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@each_notice_once()
def predict_folder(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    options: Options | None = None,
    shard: tuple[int, int] = (1, 1),
    claim_timeout: float = CLAIM_TIMEOUT,
    stop: Callable[[], bool] | None = None,
    progress: bool | Listener = True,
) -> FolderSummary:
    """Tag every file of a folder; each output has its input's name, or another format's suffix.

    Files whose output is there are skipped: what lies in a folder that such a run has begun was
    tagged by it, and a file that was there before is refused. Any number of processes on any
    number of machines may do this on the same folders: each takes a file that nobody has taken, and
    goes on with one whose process has given no sign of life for `claim_timeout`. It ends when all
    files are done.

    Args:
        predictor: Tags the rows.
        source: A folder of files that `studytag.files.read_rows` reads.
        target: The folder of the outputs; created.
        source_format: Of every file, where suffix and content do not say it.
        target_format: Of every output, where it is not that of its input.
        options: How files are tagged.
        shard: (3, 16) takes every sixteenth file, beginning with the third.
        claim_timeout: Seconds.
        stop: Asked again and again; once it says True, what was begun is committed, and this ends.
        progress: As `predict_file`.

    Raises:
        InputError: the folders are one, the input holds no file to read, two outputs would share a
            name, or the outputs that are there were made by another bundle, with other options, or
            by no such run.
        StorageError: the disk failed.
        StoppedError: `stop` said so.
    """
    started = time.perf_counter()
    source, target = Path(source), Path(target)
    stop = stop or (lambda: False)
    options = options or Options()
    if os.path.realpath(source) == os.path.realpath(target):
        raise InputError(f"{target}: is the input itself; name another folder")
    jobs = find_jobs(source, target, source_format, target_format, shard)
    listener = as_listener(progress)
    try:
        target.mkdir(parents=True, exist_ok=True)
        clock = ServerClock(target)
        _refuse_untagged(target, jobs)
        _agree(target, predictor, options)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror}); choose another place"
        ) from error
    work = _Work(predictor, options, (source_format, target_format), listener, stop)
    work.claim_timeout = claim_timeout
    work.clock = clock
    pending = work.skip_finished(jobs)
    if work.summary.skipped:
        logger.info("%s: %d of %d files are done", target, work.summary.skipped, len(jobs))
    while pending:
        left = [job for job in pending if not work.do(job)]
        if left == pending:
            work.wait(left)
        pending = left
    work.summary.seconds = time.perf_counter() - started
    return work.summary


@dataclass
class _Work:
    """What one process does on a folder."""

    predictor: Predictor
    options: Options
    formats: tuple[str | None, str | None]
    listener: Listener
    stop: Callable[[], bool]
    claim_timeout: float = CLAIM_TIMEOUT
    clock: ServerClock = field(init=False)
    summary: FolderSummary = field(default_factory=FolderSummary)
    announced: set[Path] = field(default_factory=set)

    def skip_finished(self, jobs: list[Job]) -> list[Job]:
        """The jobs without those that are done."""
        pending = []
        for source, target in jobs:
            if not _is_finished(target):
                pending.append((source, target))
                continue
            self.summary.skipped += 1
            remove_claims(target)
            if source.stat().st_mtime > target.stat().st_mtime:
                logger.warning("%s: is newer than %s; delete that to tag it again", source, target)
        return pending

    def do(self, job: Job) -> bool:
        """Tag a file unless another process holds it. Whether it is done, or given up."""
        source, target = job
        self._check_stop(target.parent)
        try:
            claim = Claim.take(target, self.claim_timeout, self.clock)
        except OSError as error:
            raise InputError(
                f"{target.parent}: cannot be written ({error.strerror}); "
                "once that is mended, run the same command to go on"
            ) from error
        if claim is None:
            return False
        with claim:
            if _is_finished(target):
                self.summary.skipped += 1
                return True
            return self._tag(source, target, claim)

    def _tag(self, source: Path, target: Path, claim: Claim) -> bool:
        try:
            summary = predict_file(
                self.predictor,
                source,
                target,
                source_format=self.formats[0],
                target_format=self.formats[1],
                options=self.options,
                stop=lambda: claim.lost or self.stop(),
                progress=self.listener,
            )
        except StoppedError:
            if self.stop():
                raise
            logger.warning("%s: taken over by %s", target, claim_holder(target))
            return False
        except OutputInUseError as error:
            logger.info("%s", error)
            return False
        except InputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_ERRORS:
                raise  # every other file would end so too
            logger.error("%s", error)
            self.summary.failed[source.name] = str(error)
            return True
        self.summary.files[source.name] = summary
        logger.info("%s: %s", target, summary.describe())
        return True

    def wait(self, jobs: list[Job]) -> None:
        """Give those who hold the files some time; say once who they are."""
        for _, target in jobs:
            if target not in self.announced:
                self.announced.add(target)
                logger.info("%s: waiting for %s", target, claim_holder(target))
        end = time.monotonic() + min(self.claim_timeout / 4, _LONGEST_WAIT)
        while time.monotonic() < end:
            self._check_stop(jobs[0][1].parent)
            time.sleep(_NAP)

    def _check_stop(self, folder: Path) -> None:
        if self.stop():
            raise StoppedError(
                f"{folder}: stopped before its end; what is finished is kept: "
                "run the same command to go on"
            )


def _is_finished(target: Path) -> bool:
    """Whether an output is complete; parts beside it say that it is being replaced."""
    return target.exists() and not work_folder(Path(os.path.realpath(target))).exists()


def _refuse_untagged(target: Path, jobs: list[Job]) -> None:
    """Refuse a folder in which somebody's file has the name of an output: it would count as tagged.

    Raises:
        InputError: there is an output, though no run has begun.
    """
    # In this order: another process may begin the run at this moment, and writes no output before.
    there = [output for _, output in jobs if output.exists()]
    if there and not (target / _RUN).exists():
        raise InputError(
            f"{there[0]}: is there already, and no run over a folder has made it ({_RUN} is "
            "missing); name another folder, or move it away"
        )


def _agree(target: Path, predictor: Predictor, options: Options) -> None:
    """See that all outputs in a folder are made by the same bundle with the same options.

    Raises:
        InputError: those that are there were made otherwise.
        OSError: the folder cannot be written.
    """
    writing = asdict(options.writing)
    identity = {
        **predictor_identity(predictor, options.operating_point),
        "encoding": options.encoding,
        **{f"--{name}": writing[name] for name in ("prefix", "indicators", "excel")},
    }
    identity = json.loads(json.dumps(identity))  # as it is read again
    path = target / _RUN
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        stored = _stored_run(path)
        if stored is None:
            raise InputError(f"{path}: cannot be read; remove it") from None
        if changed := differences(stored, identity, target):
            raise InputError(
                f"{target}: its files were tagged differently ({'; '.join(changed)}); "
                f"name another folder, or delete them and {_RUN}"
            ) from None
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(identity, stream, indent=2)


def _stored_run(path: Path) -> Mapping[str, Any] | None:
    """What made the outputs; another process may be writing it at this moment."""
    for _ in _attempts():
        try:
            identity = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        return identity if isinstance(identity, dict) else None
    return None


def _attempts() -> Iterator[int]:
    for attempt in range(10):
        yield attempt
        time.sleep(_NAP)


def failures(summary: FolderSummary, source: Path) -> StudytagError | None:
    """The error that says which files of a folder could not be tagged, if there are any."""
    if not summary.failed:
        return None
    names = ", ".join(summary.failed)
    return FilesFailedError(
        f"{source}: {len(summary.failed)} files could not be tagged: {names}; "
        "mend them and run the same command again"
    )
