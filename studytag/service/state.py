"""What the routes of one app share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from studytag.inference.predictor import Predictor
from studytag.service.jobs import JobStore
from studytag.service.metrics import Metrics
from studytag.service.runner import Runner
from studytag.service.settings import Settings
from studytag.service.tagging import Tagging

if TYPE_CHECKING:
    from studytag.service.model_api import ModelInfo


@dataclass
class Service:
    """What the routes of one app share.

    Attributes:
        predictor: Tags.
        settings: Limits.
        metrics: For Prometheus.
        tagging: The predictor as requests use it.
        model: What there is to say of the bundle.
        jobs: File jobs.
        runner: Runs them.
        stopping: Whether the server is about to end.
    """

    predictor: Predictor
    settings: Settings
    metrics: Metrics
    tagging: Tagging
    model: ModelInfo
    jobs: JobStore
    runner: Runner
    stopping: bool = False


# Not a plain function, nor are the other dependencies: FastAPI would call them in a thread.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(_service)]
"""How a route gets at it."""
