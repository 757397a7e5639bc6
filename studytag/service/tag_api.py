"""/v1/tag: articles in, labels, probabilities and decisions out; with the sentences behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic.config import JsonDict

from studytag.errors import InputError
from studytag.inference.predictor import Outcome, Prediction, Predictor
from studytag.manifest import OperatingPoint
from studytag.service.errors import MANY, ONE, ErrorBody, ErrorType, documented
from studytag.service.sentences import Parts, contributions
from studytag.service.settings import MAX_ARTICLES
from studytag.service.state import Service, Shared

router = APIRouter(prefix="/v1", tags=["studytag"])

_EXAMPLE: JsonDict = {
    "articles": [
        {
            "id": "made-up-1",
            "title": "Fluoride varnish in preschool children: a randomised controlled trial",
            "abstract": "We allocated 200 children at random. They had fewer lesions.",
        }
    ],
    "operating_point": "sensitive",
}


class Article(BaseModel):
    """One article; title or abstract must have text. Fields of other names are refused."""

    # A misspelt field would be ignored unnoticed.
    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(None, description="Comes back with the result")
    title: str | None = None
    abstract: str | None = None


class TagRequest(BaseModel):
    """Articles to tag."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    articles: Annotated[
        Annotated[Article, Tag(ONE)]
        | Annotated[list[Article], Field(max_length=MAX_ARTICLES), Tag(MANY)],
        Discriminator(lambda given: MANY if isinstance(given, list) else ONE),
    ] = Field(description="One article, or a list")
    operating_point: OperatingPoint | None = Field(
        None, description="Whose thresholds decide; the service's own without it"
    )
    explain: bool = Field(
        False, description="Also tag each article without each of its sentences, and compare"
    )


class Verdict(BaseModel):
    """What was decided on one label."""

    probability: float
    threshold: float
    present: bool = Field(description="By its threshold, or implied by a label that is present")


class Sentence(BaseModel):
    """What one sentence contributes."""

    sentence: str
    contributions: dict[str, float] = Field(
        description="By label: the whole article's probability minus that without this sentence"
    )


class Result(BaseModel):
    """The tags of one article."""

    id: str | None
    labels: list[str] = Field(description="Those that are present, in label order")
    decisions: dict[str, Verdict]
    truncated: bool = Field(description="Whether the end of the text was not read")
    explanation: list[Sentence] | None = Field(
        default=None, description="With `explain`; empty for an article of one sentence"
    )


class Failure(BaseModel):
    """An article that could not be tagged."""

    id: str | None
    error: ErrorBody


class TagResponse(BaseModel):
    """The results, in the order of the articles."""

    operating_point: str
    results: list[Result | Failure]


@router.post(
    "/tag",
    response_model_exclude_unset=True,
    responses=documented(400, 401, 403, 413, 422, 424, 429, 503),
)
async def tag(
    request: Request, service: Shared, body: Annotated[TagRequest, Body()]
) -> TagResponse:
    """Tag one article or many. An article without text gets its error in its place."""
    articles = body.articles if isinstance(body.articles, list) else [body.articles]
    point = body.operating_point or service.predictor.operating_point
    records: list[Mapping[str, Any]] = [
        {"title": each.title, "abstract": each.abstract} for each in articles
    ]
    if body.explain:
        service.tagging.check(records)  # before their sentences multiply them
    parts = [Parts.of(each.title, each.abstract) for each in articles] if body.explain else []
    without = [part.without_each() for part in parts]
    records += [record for each in without for record in each]
    tagged = await service.tagging.tag(request, records, body.operating_point)
    rest = iter(tagged.outcomes[len(articles) :])
    thresholds = _thresholds(service, body.operating_point)
    results = []
    for index, (article, outcome) in enumerate(zip(articles, tagged.outcomes, strict=False)):
        result = _result(article, outcome, thresholds, service.predictor)
        if body.explain:
            outcomes = [next(rest) for _ in without[index]]
            if isinstance(result, Result) and isinstance(outcome, Prediction):
                result.explanation = _explanation(parts[index], outcome, outcomes)
        results.append(result)
    return TagResponse(operating_point=point, results=results)


def _thresholds(service: Service, point: OperatingPoint | None) -> dict[str, float]:
    predictor = service.predictor
    if point is None:
        return predictor.thresholds
    values = predictor.manifest.thresholds(predictor.variant, point)
    return dict(zip(predictor.labels, values, strict=True))


def _result(
    article: Article, outcome: Outcome, thresholds: dict[str, float], predictor: Predictor
) -> Result | Failure:
    if isinstance(outcome, InputError):
        error = ErrorBody(error=str(outcome), error_type=ErrorType.EMPTY)
        return Failure(id=article.id, error=error)
    decisions = {
        label: Verdict(
            probability=probability,
            threshold=thresholds[label],
            present=label in outcome.labels,
        )
        for label, probability in outcome.probabilities.items()
    }
    return Result(
        id=article.id,
        labels=outcome.labels,
        decisions=decisions,
        truncated=(outcome.tokens or 0) > predictor.manifest.max_length,
    )


def _explanation(parts: Parts, whole: Prediction, without: Sequence[Outcome]) -> list[Sentence]:
    """What each sentence contributes; not one without which no text is left that can be tagged."""
    return [
        Sentence(sentence=sentence, contributions=contributions(whole, rest))
        for sentence, rest in zip(parts.sentences, without, strict=False)
        if isinstance(rest, Prediction)
    ]
