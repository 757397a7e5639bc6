"""/predict as text-embeddings-inference has it, but with a sigmoid for each label.

Its clients, and the Hugging Face Hub's, work as they are.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from studytag.errors import InputError
from studytag.inference.predictor import Prediction
from studytag.service.errors import MANY, ONE, ApiError, ErrorType, documented
from studytag.service.settings import MAX_ARTICLES
from studytag.service.state import Service, Shared
from studytag.service.tagging import Article, Tagged

router = APIRouter(tags=["text-embeddings-inference"])

Pair = Annotated[list[str], Field(min_length=1, max_length=2)]
"""A text, or a title and an abstract."""

Activation = Literal["sigmoid", "softmax", "none"]


class Parameters(BaseModel):
    """What the Hugging Face Hub's clients send besides `inputs`."""

    top_k: int | None = Field(None, ge=1, description="How many labels to give, the best first")
    function_to_apply: Activation | None = Field(None, description="sigmoid without it")


TEXT = "text"


def _shape(inputs: Any) -> str:
    """Which of its three shapes `inputs` has, by its first item."""
    if not isinstance(inputs, list):
        return TEXT
    return ONE if inputs and isinstance(inputs[0], str) else MANY


class PredictRequest(BaseModel):
    """Texts to tag."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": "Fluoride varnish in children: a randomised controlled trial"},
                {"inputs": [["A cohort study of caries"], ["A title", "And its abstract."]]},
            ]
        }
    )

    inputs: Annotated[
        Annotated[str, Tag(TEXT)]
        | Annotated[Pair, Tag(ONE)]
        | Annotated[list[Pair], Field(max_length=MAX_ARTICLES), Tag(MANY)],
        Discriminator(_shape),
    ] = Field(description="A text, [text], [title, abstract], or a list of these lists")
    raw_scores: bool = Field(False, description="Give logits instead of probabilities")
    truncate: bool = Field(True, description="Cut long texts off, rather than refuse them")
    parameters: Parameters | None = None

    @property
    def articles(self) -> list[Article]:
        """The texts as the predictor takes them."""
        if isinstance(self.inputs, str):
            return [self.inputs]
        if self.single:
            return [_article([text for text in self.inputs if isinstance(text, str)])]
        return [_article(each) for each in self.inputs if isinstance(each, list)]

    @property
    def single(self) -> bool:
        """Whether it asks for one text rather than a batch."""
        return isinstance(self.inputs, str) or isinstance(next(iter(self.inputs), None), str)

    @property
    def activation(self) -> Activation:
        """How logits become scores."""
        if self.raw_scores:
            return "none"
        return (self.parameters and self.parameters.function_to_apply) or "sigmoid"


class Score(BaseModel):
    """A label's score."""

    label: str
    score: float


Scores = list[Score]

_CODES = (400, 401, 403, 413, 422, 424, 429, 503)


@router.post("/predict", responses=documented(*_CODES))
async def predict(
    request: Request, response: Response, service: Shared, body: PredictRequest
) -> Scores | list[Scores]:
    """The scores of every label, the best first: one list for one text, a list of lists for many.

    A request of the Hub's clients (with `parameters`) always gets a list of lists, as there.
    """
    started = time.perf_counter()
    articles = body.articles
    tagged = await service.tagging.tag(request, articles)
    predictions = [
        _checked(index, each, body, service) for index, each in enumerate(tagged.outcomes)
    ]
    response.headers.update(_timings(articles, predictions, tagged, time.perf_counter() - started))
    top = body.parameters.top_k if body.parameters else None
    scores = [_scores(each, body.activation)[:top] for each in predictions]
    return scores[0] if body.single and body.parameters is None else scores


@router.post("/", include_in_schema=False)
async def root(
    request: Request, response: Response, service: Shared, body: PredictRequest
) -> Scores | list[Scores]:
    """As /predict: the Hub's clients post to the address of a server itself."""
    return await predict(request, response, service, body)


@router.get("/health", responses=documented(403, 503))
async def health(service: Shared) -> dict[str, str]:
    """Whether the service takes requests."""
    if service.stopping:
        raise ApiError(503, ErrorType.UNHEALTHY, "the server is ending")
    return {"status": "ok"}


@router.get("/info", responses=documented(401, 403))
async def info(service: Shared) -> dict[str, Any]:
    """The model and the limits, under text-embeddings-inference's names."""
    model, settings = service.model, service.settings
    numbers = {str(index): label for index, label in enumerate(model.labels)}
    names = {label: number for number, label in numbers.items()}
    return {
        "model_id": model.name,
        "model_sha": model.bundle_sha256,
        "model_dtype": model.variant,
        "model_type": {"classifier": {"id2label": numbers, "label2id": names}},
        "max_concurrent_requests": settings.max_waiting,
        "max_input_length": model.max_length,
        "max_batch_tokens": MAX_ARTICLES * model.max_length,
        "max_batch_requests": 1,
        "max_client_batch_size": MAX_ARTICLES,
        "auto_truncate": True,
        "tokenization_workers": service.predictor.workers,
        "version": model.version,
    }


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(401, 403),
    },
)
async def metrics(service: Shared) -> Response:
    """What Prometheus reads."""
    return Response(service.metrics.exposition(), media_type=service.metrics.content_type)


def _article(texts: list[str]) -> Article:
    return texts[0] if len(texts) == 1 else {"title": texts[0], "abstract": texts[1]}


def _checked(index: int, outcome: Any, body: PredictRequest, service: Service) -> Prediction:
    if isinstance(outcome, InputError):
        raise ApiError(422, ErrorType.VALIDATION, f"inputs {index}: {outcome}")
    prediction: Prediction = outcome
    limit = service.model.max_length
    if not body.truncate and (prediction.tokens or 0) > limit:
        raise ApiError(
            413,
            ErrorType.VALIDATION,
            f"inputs {index}: {prediction.tokens} tokens, more than {limit}; set truncate to true",
        )
    return prediction


def _scores(prediction: Prediction, activation: Activation) -> Scores:
    values = np.array(list(prediction.probabilities.values()))
    if activation != "sigmoid":
        edge = np.finfo(np.float32).eps
        inside = np.clip(values, edge, 1 - edge)
        values = np.log(inside) - np.log1p(-inside)
    if activation == "softmax":
        raised = np.exp(values - values.max())
        values = raised / raised.sum()
    order = np.argsort(-values, kind="stable")
    labels = list(prediction.probabilities)
    return [Score(label=labels[index], score=float(values[index])) for index in order]


def _timings(
    articles: list[Article], predictions: list[Prediction], tagged: Tagged, seconds: float
) -> dict[str, str]:
    """Times in milliseconds, under the names that text-embeddings-inference gives them."""
    characters = sum(
        len(each) if isinstance(each, str) else len("".join(each.values())) for each in articles
    )
    milliseconds = {
        "x-compute-time": seconds,
        "x-total-time": seconds,
        "x-tokenization-time": 0.0,  # part of the inference
        "x-queue-time": tagged.queued,
        "x-inference-time": tagged.working,
    }
    return {
        "x-compute-type": "cpu",
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(sum(each.tokens or 0 for each in predictions)),
        **{name: str(round(value * 1000)) for name, value in milliseconds.items()},
    }
