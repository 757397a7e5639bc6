"""Runs file jobs beside the requests, and goes on after a restart with those that had not ended."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pyarrow.compute as pc
import pyarrow.parquet as pq

from studytag.errors import InputError, StoppedError, StudytagError
from studytag.files import ERROR_COLUMN
from studytag.inference.files import Options, predict_file
from studytag.inference.identity import predictor_identity
from studytag.inference.journal import remove_work_folder, work_folder
from studytag.inference.predictor import Predictor
from studytag.inference.progress import FileSummary
from studytag.records import PREDICTED_COLUMN
from studytag.service.jobs import ENDED, Job, JobStore, Status, discard, now
from studytag.service.lanes import Cores
from studytag.service.metrics import Metrics
from studytag.service.results import write_shown
from studytag.service.settings import Settings

logger = logging.getLogger(__name__)

_COMMIT_SECONDS = 5.0
_GRACE_SECONDS = 20.0


class Runner:
    """Runs the jobs of a store. Close when done.

    Args:
        store: The jobs.
        predictor: Tags them.
        cores: Shared with requests: a file is one lane among them.
        settings: Limits.
        metrics: Counts records.
    """

    def __init__(
        self,
        store: JobStore,
        predictor: Predictor,
        cores: Cores,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._predictor = predictor
        self._cores = cores
        self._settings = settings
        self._metrics = metrics
        self._stopping = False
        self._waiting: SimpleQueue[Job | None] = SimpleQueue()
        for job in store.jobs():
            if job.status is Status.QUEUED:
                self.start(job)
        self._threads = [
            threading.Thread(target=self._work, name=f"studytag-job-{number}", daemon=True)
            for number in range(settings.running_jobs)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, job: Job) -> None:
        """Let a job wait for its turn."""
        self._waiting.put(job)

    def sweep(self) -> None:
        """Delete the jobs whose time is over."""
        self._store.forget_unreadable(self._settings.keep_hours)
        for job in self._store.jobs():
            if job.status in ENDED and job.expires(self._settings.keep_hours) <= now():
                try:
                    self._store.remove(job)
                except OSError as error:  # the next start finds it again
                    logger.error("job %s: cannot be deleted (%s)", job.id, error)
                else:
                    logger.info("job %s: deleted, as its time is over", job.id)

    def close(self) -> None:
        """Commit what the running jobs have finished, and end; the next start goes on with them.

        A job that does not end in time, as while it reads a long file for the first time, is cut
        off, which costs no more than a kill does.
        """
        self._stopping = True
        until = time.monotonic() + _GRACE_SECONDS
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def tagger(self, job: Job) -> str:
        """A hash of all that decides a job's tags now; what another left is no good."""
        identity = predictor_identity(self._predictor, job.point)
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            if not job.cancelled and not self._stopping:
                self._run(job)
            if job.cancelled:
                discard(job.folder)

    def _run(self, job: Job) -> None:
        try:
            self._tag(job)
        except Exception as error:
            if self._stopping or job.cancelled:
                return
            if isinstance(error, StoppedError):
                limit = self._settings.max_records
                self._fail(job, f"has more than {limit} records; divide the file")
            elif isinstance(error, StudytagError):
                self._fail(job, job.without_paths(str(error)))
            else:
                logger.exception("job %s", job.id)
                self._fail(job, "the server could not tag this file; its log says why")

    def _fail(self, job: Job, reason: str) -> None:
        """Note a failure; if the disk does not take even that, the next start tries again."""
        logger.warning("job %s: failed", job.id)
        try:
            job.end(Status.FAILED, reason)
        except InputError as error:
            # In memory, so that it can be deleted, and is when its time is over.
            job.error, job.ended, job.status = reason, now().isoformat(), Status.FAILED
            logger.error("job %s: %s", job.id, error)

    def _tag(self, job: Job) -> None:
        tagger = self.tagger(job)
        if job.tagger not in (None, tagger):  # before it is noted: a kill in between repeats it
            remove_work_folder(work_folder(job.result.resolve()))
            job.result.unlink(missing_ok=True)
        job.status, job.tagger = Status.RUNNING, tagger
        job.save()
        logger.info("job %s: running", job.id)
        if not job.result.exists():  # else it was killed just before it was called done
            self._predict(job)
        if not job.shown.exists():
            write_shown(job, lambda: self._stopping or job.cancelled)
        job.done, job.errors, job.counts = _count(job.result, self._predictor.labels)
        job.total = job.done
        job.end(Status.DONE)
        logger.info("job %s: done, %d records, %d errors", job.id, job.done, job.errors)

    def _predict(self, job: Job) -> None:
        limit = self._settings.max_records
        with self._cores.lane() as lane:
            predict_file(
                self._predictor.on(lane),
                job.source,
                job.result,
                source_format=job.format,
                operating_point=job.point,
                options=Options(commit_seconds=_COMMIT_SECONDS),
                stop=lambda: self._stopping or job.cancelled or job.done > limit,
                progress=_Progress(job, self._metrics),
            )


class _Progress:
    """Keeps a job's numbers up to date while it runs."""

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self._job = job
        self._metrics = metrics

    def begin(self, source: Path, total: int | None, kept: int) -> None:
        self._job.total, self._job.done, self._job.errors = total, kept, 0

    def row(self, number: int, error: str | None) -> None:
        self._job.done = number
        self._job.errors += error is not None
        self._metrics.note_record(error is None)

    def end(self, summary: FileSummary | None) -> None:
        pass


def _count(result: Path, labels: list[str]) -> tuple[int, int, dict[str, int]]:
    """Records, those with an error, and those that have each label."""
    table = pq.read_table(result, columns=[PREDICTED_COLUMN, ERROR_COLUMN])
    found = pc.value_counts(pc.list_flatten(table[PREDICTED_COLUMN])).to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in found}
    errors = table.num_rows - table[ERROR_COLUMN].null_count
    return table.num_rows, errors, {label: counts.get(label, 0) for label in labels}
