"""/v1/model: what the service tags with, and how good that is."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from studytag.evaluation.scores import Scores
from studytag.inference.predictor import Predictor
from studytag.manifest import OPERATING_POINTS
from studytag.service.errors import documented
from studytag.service.state import Shared
from studytag.version import __version__

router = APIRouter(prefix="/v1", tags=["studytag"])


class LabelMetrics(BaseModel):
    """Of one label, on the articles that the thresholds were tuned on."""

    precision: float
    recall: float
    f1: float
    support: int = Field(description="Articles that have the label")


class OperatingPointInfo(BaseModel):
    """A set of thresholds."""

    description: str
    thresholds: dict[str, float]
    metrics: dict[str, LabelMetrics] | None = Field(
        description="Of the labels that were known of an article; the others were not measured"
    )


class ModelInfo(BaseModel):
    """The bundle in use."""

    name: str
    bundle_sha256: str = Field(description="Of the bundle's manifest, which has those of its files")
    variant: str
    labels: list[str]
    implications: dict[str, list[str]] = Field(description="A label implies these others")
    max_length: int = Field(description="Tokens that are read; the rest of a text is cut off")
    operating_points: dict[str, OperatingPointInfo]
    default_operating_point: str
    measured_on: str = Field(description="What the metrics of the operating points are of")
    card: str | None = Field(description="The model card, in Markdown")
    version: str = Field(description="Of studytag")


def describe(predictor: Predictor, name: str) -> ModelInfo:
    """What there is to say of a predictor's bundle."""
    manifest = predictor.manifest
    points = manifest.variants[predictor.variant].thresholds
    return ModelInfo(
        name=name,
        bundle_sha256=predictor.bundle_sha256,
        variant=predictor.variant,
        labels=predictor.labels,
        implications={key: list(to) for key, to in manifest.labels.implications.items()},
        max_length=manifest.max_length,
        operating_points={point: _point(predictor, point) for point in points},
        default_operating_point=predictor.operating_point,
        measured_on=manifest.measured_on,
        card=_card(predictor),
        version=__version__,
    )


@router.get("/model", responses=documented(401, 403, 422))
async def model(service: Shared) -> ModelInfo:
    """The bundle in use: labels, thresholds, what was measured, and the model card."""
    return service.model


def _point(predictor: Predictor, point: str) -> OperatingPointInfo:
    variant = predictor.manifest.variants[predictor.variant]
    scores = variant.scores.get(point)
    return OperatingPointInfo(
        description=OPERATING_POINTS.get(point, ""),
        thresholds=dict(zip(predictor.labels, variant.thresholds[point], strict=True)),
        metrics=None if scores is None else _metrics(scores),
    )


def _metrics(scores: Scores) -> dict[str, LabelMetrics]:
    return {
        label: LabelMetrics(
            precision=each.precision, recall=each.recall, f1=each.f1, support=each.support
        )
        for label, each in scores.labels.items()
        if each.known
    }


def _card(predictor: Predictor) -> str | None:
    """The bundle's README without the metadata at its head."""
    path = predictor.path / "README.md"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip()
