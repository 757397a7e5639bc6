"""The app: its routes, its page, and what stands around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route

from studytag.inference.predictor import Predictor
from studytag.service import files_api, model_api, predict_api, tag_api, v2_api
from studytag.service.errors import Failures, add_error_handlers
from studytag.service.head import HeadAsGet
from studytag.service.jobs import JobStore, Status
from studytag.service.lanes import Cores
from studytag.service.metrics import Metrics
from studytag.service.observed import Observed
from studytag.service.parameters import refuse_unknown_parameters
from studytag.service.runner import Runner
from studytag.service.security import Guard, SecurityHeaders
from studytag.service.settings import Settings
from studytag.service.state import Service
from studytag.service.tagging import Tagging
from studytag.version import __version__

_SWEEP_SECONDS = 10.0

PAGE = Path(__file__).parent / "page"


def create_app(predictor: Predictor, settings: Settings) -> FastAPI:
    """The service over a predictor; it closes the predictor when it ends.

    Args:
        predictor: Tags; `workers` articles of all requests and files side by side.
        settings: Limits, and where files are kept.
    """
    cores = Cores(predictor.workers)
    metrics = Metrics()
    jobs = JobStore(settings.state)
    metrics.watch_jobs([status.value for status in Status], jobs.count)
    model = model_api.describe(predictor, settings.name)
    service = Service(
        predictor=predictor,
        settings=settings,
        metrics=metrics,
        tagging=Tagging(predictor, cores, settings, metrics),
        model=model,
        jobs=jobs,
        runner=Runner(jobs, predictor, cores, settings, metrics),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(service.runner))
        yield
        service.stopping = True
        sweeping.cancel()
        await to_thread.run_sync(service.runner.close)
        cores.close()
        predictor.close()

    app = FastAPI(
        title="studytag",
        version=__version__,
        description="Study-design tags for biomedical articles, from title and abstract.",
        docs_url=None,  # they load scripts of another server
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    ours = [Depends(refuse_unknown_parameters)]
    for router in (tag_api.router, model_api.router):
        app.include_router(router, max_body_size=settings.max_body, dependencies=ours)
    app.include_router(files_api.router, max_body_size=settings.max_upload, dependencies=ours)
    for router in (predict_api.router, v2_api.router):  # protocols that let foreign fields pass
        app.include_router(router, max_body_size=settings.max_body)
    page = StaticFiles(directory=PAGE, html=True, check_dir=False)
    app.router.routes.append(Route("/", page, methods=["GET"]))  # beside the Hub's POST
    # Not mounted: a mount would take every method of the API's paths that no operation has.
    app.router.default = page
    add_error_handlers(app)
    app.add_middleware(Failures)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observed, metrics=metrics)
    app.add_middleware(HeadAsGet)
    _complete_openapi(app)
    return app


def _complete_openapi(app: FastAPI) -> None:
    """Add to the OpenAPI document what FastAPI cannot know."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["schemas"].update(v2_api.request_schemas())
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _sweep(runner: Runner) -> None:
    """Delete what has expired, again and again."""
    while True:
        await to_thread.run_sync(runner.sweep)
        await asyncio.sleep(_SWEEP_SECONDS)
