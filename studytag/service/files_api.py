"""/v1/files: files that are tagged beside everything else, and what became of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import (
    APIRouter,
    Depends,
    Form,
    Query,
    Request,
    UploadFile,
)
from fastapi import (
    Path as PathParameter,
)
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from studytag.errors import DISK_ERRORS, InputError
from studytag.files import FORMATS, format_name
from studytag.inference.screen_file import criteria_of
from studytag.inference.screening import KEEP_POINT, Criteria, Rule
from studytag.manifest import OperatingPoint
from studytag.service.disconnect import unless_disconnected
from studytag.service.errors import (
    ApiError,
    Disconnected,
    ErrorType,
    documented,
    storage_full,
)
from studytag.service.jobs import ENDED, Job, Status, discard, now, shown_name, upload_name
from studytag.service.results import Part, page_of, select_rows, write_download
from studytag.service.state import Service, Shared

router = APIRouter(prefix="/v1/files", tags=["files"])

_POLL_SECONDS = 0.5
_TABLES, _DOWNLOADS = CapacityLimiter(2), CapacityLimiter(2)
"""Tables are for people who wait: downloads must not hold them up."""

_EXAMPLE = "TY  - JOUR\nTI  - Fluoride varnish in preschool children: a cohort study\nER  - \n"

WritableFormat = Literal["parquet", "csv", "tsv", "xlsx", "jsonl", "ris", "nbib", "enw", "bibtex"]


class UploadForm(BaseModel):
    """A file of articles. Fields of other names are refused."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[
        UploadFile,
        Field(description="RIS, nbib, CSV, xlsx, ... also gzipped", examples=[_EXAMPLE]),
    ]
    operating_point: OperatingPoint | None = None


class JobInfo(BaseModel):
    """A file job."""

    id: str
    name: str = Field(description="What the file was called")
    status: Status
    operating_point: str
    done: int = Field(description="Records tagged so far")
    total: int | None = Field(description="Records of the file; an estimate until it is done")
    errors: int = Field(description="Records that could not be read or tagged")
    error: str | None = Field(None, description="Why it failed")
    counts: dict[str, int] | None = Field(None, description="Records that have each label")
    expires: str = Field(description="When file and results are deleted, if it ended now; ISO 8601")


class RowInfo(BaseModel):
    """A tagged record."""

    row: int = Field(description="Its number in the file, from 1")
    title: str | None
    pmid: str | None
    year: str | None
    labels: list[str]
    probabilities: dict[str, float]
    error: str | None


class RowPage(BaseModel):
    """Some of the records that match."""

    total: int = Field(description="Records that match")
    rows: list[RowInfo]


class _Download(FileResponse):
    """A file that goes with its folder once it is sent, or refused: a range may lie outside it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            discard(Path(self.path).parent)


async def _job(
    service: Shared,
    id: Annotated[str, PathParameter(description="Of the job", pattern="^[0-9a-f]{32}$")],
) -> Job:
    if job := service.jobs.get(id):
        return job
    raise _no_job()


def _no_job() -> ApiError:
    return ApiError(404, ErrorType.NOT_FOUND, "no such job; it may have been deleted")


@contextmanager
def while_it_is_there(job: Job) -> Iterator[None]:
    """Say of a job that is deleted while it is read that it is gone, not which file was missed."""
    try:
        yield
    except Exception as error:
        if job.cancelled and not isinstance(error, Disconnected):
            raise _no_job() from error
        raise


async def _done_job(job: Annotated[Job, Depends(_job)], service: Shared) -> Job:
    if job.status is not Status.DONE:
        raise ApiError(409, ErrorType.CONFLICT, f"the job is {job.status.value}, not done")
    if list(job.counts or ()) != service.predictor.labels:
        raise ApiError(
            409, ErrorType.CONFLICT, "tagged by a bundle of other labels; upload the file again"
        )
    return job


AnyJob = Annotated[Job, Depends(_job)]
DoneJob = Annotated[Job, Depends(_done_job)]


@router.post("", status_code=202, responses=documented(400, 401, 403, 413, 422, 429, 503, 507))
async def upload(
    request: Request,
    service: Shared,
    form: Annotated[UploadForm, Form(media_type="multipart/form-data")],
) -> JobInfo:
    """Upload a file of articles; it is tagged beside everything else, also after a restart."""
    parts = await request.form()
    for name in parts:
        if len(parts.getlist(name)) > 1:
            raise InputError(f"{name}: given more than once; upload one file at a time")
    waiting = service.jobs.count(Status.QUEUED) + service.jobs.count(Status.RUNNING)
    if service.stopping:
        raise ApiError(503, ErrorType.UNHEALTHY, "the server is ending; try again", retry_after=10)
    if waiting >= service.settings.max_jobs:
        raise ApiError(
            429, ErrorType.OVERLOADED, f"{waiting} files are waiting; try later", retry_after=60
        )
    point = form.operating_point or service.predictor.operating_point
    service.predictor.manifest.thresholds(service.predictor.variant, point)
    file = form.file
    job = await to_thread.run_sync(_keep, service, file.file, shown_name(file.filename), point)
    service.runner.start(job)
    return _info(job, service)


@router.get("/{id}", responses=documented(401, 403, 404, 422))
async def status(job: AnyJob, service: Shared) -> JobInfo:
    """How far a job is."""
    return _info(job, service)


@router.delete("/{id}", status_code=204, responses=documented(401, 403, 404, 422))
async def delete(job: AnyJob, service: Shared) -> None:
    """Delete a file and its results; a job that runs ends."""
    await to_thread.run_sync(service.jobs.remove, job)


@router.get(
    "/{id}/events",
    response_class=EventSourceResponse,
    responses=documented(401, 403, 404, 422),
)
async def events(job: AnyJob, service: Shared) -> AsyncIterator[ServerSentEvent]:
    """Progress as server-sent events: `progress` whenever it changes, then `done` or `failed`."""
    last = None
    while not service.stopping and not job.cancelled:
        info = _info(job, service)
        if job.status in ENDED:
            yield ServerSentEvent(data=info, event=job.status.value)
            return
        shown = (info.status, info.done, info.total)
        if shown != last:
            yield ServerSentEvent(data=info, event="progress")
            last = shown
        await asyncio.sleep(_POLL_SECONDS)


@router.get("/{id}/rows", responses=documented(401, 403, 404, 409, 422))
async def rows(
    job: DoneJob,
    service: Shared,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    label: Annotated[str | None, Query(description="Goes with decision")] = None,
    decision: Annotated[Literal["present", "absent"] | None, Query()] = None,
    search: Annotated[str | None, Query(max_length=500, description="In the title")] = None,
    sort: Annotated[str | None, Query(description="row, title, year or a label")] = None,
    descending: bool = False,
) -> RowPage:
    """A page of the records that match."""

    def selected() -> RowPage:
        labels = service.predictor.labels
        table = select_rows(
            job,
            labels,
            label=label,
            present=None if decision is None else decision == "present",
            search=search,
            sort=sort,
            descending=descending,
        )
        found = [RowInfo(**row) for row in page_of(table, labels, offset, limit)]
        return RowPage(total=table.num_rows, rows=found)

    with while_it_is_there(job):
        return await to_thread.run_sync(selected, limiter=_TABLES)


@router.get(
    "/{id}/download",
    response_class=FileResponse,
    responses=documented(401, 403, 404, 409, 422, 507),
)
async def download(
    request: Request,
    job: DoneJob,
    service: Shared,
    format: Annotated[WritableFormat, Query(description="Of the file to write")] = "csv",
    keep: Annotated[
        list[str] | None, Query(description="Labels of which a kept record has one")
    ] = None,
    part: Annotated[Part, Query(description="kept, set-aside: divided by keep")] = "all",
    operating_point: Annotated[
        OperatingPoint | None, Query(description=f"Divides the file; {KEEP_POINT} if not given")
    ] = None,
) -> FileResponse:
    """The records with their tags, every field as it was; or one part of them, for screening."""
    criteria = None
    if part != "all":
        criteria = _criteria(service, job, keep or (), operating_point or KEEP_POINT)
    elif keep or operating_point:
        name = "keep" if keep else "operating_point"
        raise InputError(
            f"{name}: divides the file; say which part with part=kept or part=set-aside"
        )
    folder = Path(tempfile.mkdtemp(prefix="download-", dir=job.folder))
    suffix = FORMATS[format].suffixes[0]
    target = folder / f"tagged{suffix}"
    stem = Path(job.name.removesuffix(".gz")).stem
    name = f"{stem}.{'tagged' if part == 'all' else part}{suffix}"
    gone = threading.Event()

    def write() -> None:
        try:
            write_download(
                job, service.predictor.labels, target, format, criteria, part, gone.is_set
            )
        except BaseException:
            discard(folder)
            if not gone.is_set():
                raise

    try:
        with while_it_is_there(job):
            await unless_disconnected(request, to_thread.run_sync(write, limiter=_DOWNLOADS))
    except InputError as error:
        message = job.without_paths(str(error).replace(str(target), name))
        raise InputError(message) from error.__cause__
    except BaseException:
        gone.set()
        discard(folder)
        raise
    return _Download(target, media_type="application/octet-stream", filename=name)


def _criteria(service: Service, job: Job, keep: Iterable[str], point: str) -> Criteria:
    """What divides a job's records: the stored probabilities, whatever they were tagged at."""
    if job.tagger != service.runner.tagger(job):  # their thresholds are not those of its bundle
        raise ApiError(
            409,
            ErrorType.CONFLICT,
            "tagged by another bundle or another version of studytag; upload the file again",
        )
    predictor = service.predictor
    thresholds = predictor.manifest.thresholds(predictor.variant, point)
    return criteria_of(predictor, Rule(keep=tuple(keep)), thresholds)


def _keep(service: Service, content: BinaryIO, name: str, point: str) -> Job:
    """Put an upload on disk and make a job of it; nothing stays of one that cannot be read."""
    folder = service.jobs.new_folder()
    stored = folder / upload_name(name)
    try:
        with open(stored, "xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        try:
            format = format_name(stored)
        except InputError as error:
            raise InputError(str(error).replace(str(stored), name)) from error
        job = Job(folder.name, name, stored.name, format, point, now().isoformat(), folder=folder)
        service.jobs.add(job)
    except OSError as error:
        discard(folder)
        if error.errno in DISK_ERRORS:
            raise storage_full() from error
        raise
    except BaseException:
        discard(folder)
        raise
    return job


def _info(job: Job, service: Service) -> JobInfo:
    return JobInfo(
        id=job.id,
        name=job.name,
        status=job.status,
        operating_point=job.operating_point,
        done=job.done,
        total=job.total,
        errors=job.errors,
        error=job.error,
        counts=job.counts,
        expires=job.expires(service.settings.keep_hours).isoformat(),
    )
