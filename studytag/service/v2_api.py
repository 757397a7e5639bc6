"""/v2: the open inference protocol, as KServe's and Triton's clients speak it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import models_json_schema

from studytag.errors import InputError
from studytag.inference.predictor import Prediction
from studytag.service.errors import ApiError, ErrorType, documented
from studytag.service.settings import MAX_ARTICLES
from studytag.service.state import Service, Shared
from studytag.service.tagging import Article

router = APIRouter(prefix="/v2", tags=["open inference protocol"])
model_router = APIRouter()

_REFERENCES = "#/components/schemas/{model}"
_INPUTS = ("text", "title", "abstract")
_VERSION = "1"


class RequestInput(BaseModel):
    """A tensor of texts: `text`, or `title` and `abstract`."""

    name: Literal["text", "title", "abstract"]
    shape: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, max_length=2, examples=[[1]], description="[n] or [n, 1]"
    )
    datatype: Literal["BYTES"]
    parameters: dict[str, Any] | None = Field(
        None, description="binary_data_size: the tensor stands behind the JSON, as Triton's clients"
    )
    data: list[str] | list[list[str]] | None = Field(None, examples=[["A cohort study"]])


class RequestOutput(BaseModel):
    """A tensor that is wanted."""

    name: Literal["probabilities", "present"]
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """Texts to tag."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[RequestInput] = Field(min_length=1, max_length=2)
    outputs: list[RequestOutput] | None = None


class ResponseOutput(BaseModel):
    """A tensor of shape (articles, labels), row by row; labels in the order of the metadata."""

    name: str
    shape: list[int]
    datatype: Literal["FP32", "BOOL"]
    data: list[float] | list[bool]


class InferResponse(BaseModel):
    """The tags."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


async def _known_model(
    name: Annotated[str, PathParameter(description="Of the model")], service: Shared
) -> str:
    if name != service.settings.name:
        raise ApiError(
            404, ErrorType.NOT_FOUND, f"no such model; it is called {service.settings.name}"
        )
    return name


async def _known_version(
    version: Annotated[str, PathParameter(description="Of the model")],
) -> None:
    if version != _VERSION:
        raise ApiError(404, ErrorType.NOT_FOUND, f"no such version; there is {_VERSION}")


Model = Annotated[str, Depends(_known_model)]


@router.get("", responses=documented(401, 403))
async def server(service: Shared) -> dict[str, Any]:
    """The server's metadata."""
    return {
        "name": "studytag",
        "version": service.model.version,
        "extensions": ["binary_tensor_data"],
    }


@router.get("/health/live", responses=documented(403))
async def live() -> dict[str, bool]:
    """Whether the server runs."""
    return {"live": True}


@router.get("/health/ready", responses=documented(403, 503))
async def ready(service: Shared) -> dict[str, bool]:
    """Whether the server takes requests."""
    if service.stopping:
        raise ApiError(503, ErrorType.UNHEALTHY, "the server is ending")
    return {"ready": True}


@model_router.get("", responses=documented(401, 403, 404, 422))
async def metadata(name: Model, service: Shared) -> dict[str, Any]:
    """The model's tensors; `parameters.labels` names the columns of the outputs."""
    count = len(service.model.labels)
    return {
        "name": name,
        "versions": [_VERSION],
        "platform": "onnx_onnxruntime",
        "inputs": [{"name": each, "datatype": "BYTES", "shape": [-1]} for each in _INPUTS],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, count]},
            {"name": "present", "datatype": "BOOL", "shape": [-1, count]},
        ],
        "parameters": {"labels": service.model.labels},
    }


@model_router.get("/ready", responses=documented(401, 403, 404, 422, 503))
async def model_ready(name: Model, service: Shared) -> dict[str, bool]:
    """Whether the model takes requests."""
    return await ready(service)


@model_router.post(
    "/infer",
    responses=documented(400, 401, 403, 404, 413, 422, 424, 429, 503),
    response_model_exclude_none=True,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": _REFERENCES.format(model="InferRequest")}}
            },
        }
    },
)
async def infer(
    request: Request,
    name: Model,
    service: Shared,
    json_bytes: Annotated[
        int | None,
        Header(
            alias="Inference-Header-Content-Length",
            ge=0,
            description="Bytes of the JSON at the head of the body; tensors stand behind it",
        ),
    ] = None,
) -> InferResponse:
    """Tag the articles of BYTES tensors."""
    content = await request.body()
    head = len(content) if json_bytes is None else json_bytes
    body = _parsed(content[:head])
    articles = _articles(dict(_tensors(body, memoryview(content)[head:])))
    if len(articles) > MAX_ARTICLES:
        message = f"{len(articles)} articles; send at most {MAX_ARTICLES} at once"
        raise ApiError(413, ErrorType.TOO_LARGE, message)
    tagged = await service.tagging.tag(request, articles)
    predictions = []
    for index, outcome in enumerate(tagged.outcomes):
        if isinstance(outcome, InputError):
            raise ApiError(422, ErrorType.VALIDATION, f"article {index}: {outcome}")
        predictions.append(outcome)
    wanted = [each.name for each in body.outputs] if body.outputs else ["probabilities", "present"]
    outputs = [_output(each, predictions, service) for each in wanted]
    return InferResponse(model_name=name, model_version=_VERSION, id=body.id, outputs=outputs)


router.include_router(model_router, prefix="/models/{name}")
router.include_router(
    model_router,
    prefix="/models/{name}/versions/{version}",
    dependencies=[Depends(_known_version)],
)


def request_schemas() -> dict[str, Any]:
    """The schemas of a request, for the OpenAPI document: its body is not only JSON."""
    _, document = models_json_schema([(InferRequest, "validation")], ref_template=_REFERENCES)
    schemas: dict[str, Any] = document["$defs"]
    return schemas


def _parsed(content: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise ApiError(400, ErrorType.BAD_REQUEST, f"{place}: {first['msg']}") from error


def _tensors(body: InferRequest, binary: memoryview) -> Iterator[tuple[str, list[str]]]:
    """Each input's texts: from the JSON, or from behind it, in the order of the inputs.

    Raises:
        ApiError: an input is malformed or there twice, or more follows than the inputs account for.
    """
    names: set[str] = set()
    for tensor in body.inputs:
        if tensor.name in names:
            raise _malformed(tensor, "given more than once; send all articles in one tensor")
        names.add(tensor.name)
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is not None and tensor.data:
            raise _malformed(tensor, "has data and binary_data_size; send one of them")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(binary):
                raise _malformed(tensor, "binary_data_size is not the size of what follows")
            texts = list(_unpacked(tensor, binary[:size]))
            binary = binary[size:]
        else:
            texts = [
                text
                for each in tensor.data or []
                for text in (each if isinstance(each, list) else [each])
            ]
        count = 1
        for length in tensor.shape:
            count *= length
        if count != len(texts) or tensor.shape[1:] not in ([], [1]):
            raise _malformed(tensor, f"{len(texts)} texts do not make shape {tensor.shape}")
        yield tensor.name, texts
    if binary:
        message = f"{len(binary)} bytes behind the JSON belong to no input; state binary_data_size"
        raise ApiError(400, ErrorType.BAD_REQUEST, message)


def _unpacked(tensor: RequestInput, packed: memoryview) -> Iterator[str]:
    """Texts of which each stands behind its length in bytes."""
    while packed:
        if len(packed) < 4:
            raise _malformed(tensor, "its end is missing")
        (size,) = struct.unpack_from("<I", packed)
        if size > len(packed) - 4:
            raise _malformed(tensor, "its end is missing")
        try:
            yield bytes(packed[4 : 4 + size]).decode()
        except UnicodeDecodeError as error:
            raise _malformed(tensor, "a text is not UTF-8") from error
        packed = packed[4 + size :]


def _malformed(tensor: RequestInput, reason: str) -> ApiError:
    return ApiError(400, ErrorType.BAD_REQUEST, f"input {tensor.name}: {reason}")


def _articles(tensors: Mapping[str, list[str]]) -> list[Article]:
    if "text" in tensors and len(tensors) > 1:
        raise ApiError(400, ErrorType.BAD_REQUEST, "send text, or title and abstract, not both")
    if "text" in tensors:
        return list(tensors["text"])
    if len({len(texts) for texts in tensors.values()}) > 1:
        raise ApiError(400, ErrorType.BAD_REQUEST, "title and abstract differ in their shapes")
    return [dict(zip(tensors, texts, strict=True)) for texts in zip(*tensors.values(), strict=True)]


def _output(name: str, predictions: list[Prediction], service: Service) -> ResponseOutput:
    labels = service.model.labels
    shape = [len(predictions), len(labels)]
    if name == "probabilities":
        scores = [each.probabilities[label] for each in predictions for label in labels]
        return ResponseOutput(name=name, shape=shape, datatype="FP32", data=scores)
    present = [label in each.labels for each in predictions for label in labels]
    return ResponseOutput(name=name, shape=shape, datatype="BOOL", data=present)
