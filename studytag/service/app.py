"""The app: its routes, its page, and what stands around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from studytag.inference.predictor import Predictor
from studytag.service import model_api, tag_api
from studytag.service.errors import add_error_handlers
from studytag.service.lanes import Cores
from studytag.service.metrics import Metrics
from studytag.service.security import Guard, SecurityHeaders
from studytag.service.settings import Settings
from studytag.service.state import Service
from studytag.service.tagging import Tagging
from studytag.version import __version__

PAGE = Path(__file__).parent / "page"


def create_app(predictor: Predictor, settings: Settings) -> FastAPI:
    """The service over a predictor; it closes the predictor when it ends.

    Args:
        predictor: Tags; `workers` articles of all requests and files side by side.
        settings: Limits, and where files are kept.
    """
    cores = Cores(predictor.workers)
    metrics = Metrics()
    service = Service(
        predictor=predictor,
        settings=settings,
        metrics=metrics,
        tagging=Tagging(predictor, cores, settings, metrics),
        model=model_api.describe(predictor, settings.name),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.stopping = True
        cores.close()
        predictor.close()

    app = FastAPI(
        title="studytag",
        version=__version__,
        description="Study-design tags for biomedical articles, from title and abstract.",
        docs_url=None,  # they load scripts of another server
        redoc_url=None,
        max_body_size=settings.max_body,
        lifespan=lifespan,
    )
    app.state.service = service
    for router in (tag_api.router, model_api.router):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=PAGE, html=True, check_dir=False), name="page")
    add_error_handlers(app)
    app.add_middleware(Guard, token=settings.token, hosts=settings.hosts)
    app.add_middleware(SecurityHeaders)
    return app
