"""Errors of the API: one status code, one type, one sentence each.

Body and codes are those of text-embeddings-inference: `{"error": "...", "error_type": "..."}`.
"""

from __future__ import annotations

import logging
from enum import Enum
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studytag.errors import DISK_ERRORS, BundleError, InputError
from studytag.service.settings import MAX_ARTICLES

logger = logging.getLogger(__name__)


class ErrorType(str, Enum):
    """What kind of error it is."""

    EMPTY = "empty"
    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    VALIDATION = "validation"
    BACKEND = "backend"
    OVERLOADED = "overloaded"
    UNHEALTHY = "unhealthy"
    TIMEOUT = "timeout"
    STORAGE = "storage"
    INTERNAL = "internal"


class ErrorBody(BaseModel):
    """Why a request was not fulfilled."""

    error: str = Field(description="One sentence", examples=["articles[0]: no text"])
    error_type: ErrorType


class ApiError(Exception):
    """A request that is not fulfilled.

    Args:
        status: The HTTP status code.
        kind: What kind of error it is.
        message: One sentence that says how to mend it.
        retry_after: Seconds after which another try may succeed.
    """

    def __init__(
        self, status: int, kind: ErrorType, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """The answer to the caller."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        body = ErrorBody(error=str(self), error_type=self.kind)
        return JSONResponse(body.model_dump(mode="json"), self.status, headers)


ONE, MANY = "one", "many"
"""Tags of fields that take one thing or a list; they are no part of a place in a body."""


class Disconnected(Exception):
    """The caller has gone; nobody reads an answer."""


CLIENT_CLOSED_REQUEST = 499
"""What logs and metrics call a request whose caller has gone."""

_TYPES = {
    400: ErrorType.BAD_REQUEST,
    401: ErrorType.UNAUTHORIZED,
    403: ErrorType.FORBIDDEN,
    404: ErrorType.NOT_FOUND,
    405: ErrorType.METHOD_NOT_ALLOWED,
    409: ErrorType.CONFLICT,
    413: ErrorType.TOO_LARGE,
    422: ErrorType.VALIDATION,
    424: ErrorType.BACKEND,
    429: ErrorType.OVERLOADED,
    503: ErrorType.UNHEALTHY,
    507: ErrorType.STORAGE,
}


_SCHEMA = "#/components/schemas/ErrorBody"


class Failures:
    """Answers what nobody foresaw in the form of all errors; the traceback goes to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if scope["type"] != "http" or begun:
                raise
            logger.exception("%s %s", scope["method"], scope["path"])
            failure = ApiError(500, ErrorType.INTERNAL, "the server failed; its log says why")
            await failure.response()(scope, receive, send)


def storage_full() -> ApiError:
    """The answer where nothing more can be kept."""
    return ApiError(507, ErrorType.STORAGE, "the server's disk is full")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The entries of OpenAPI for the error codes that an operation may answer."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            # Not as "model", which would be documented in the content type of a good answer.
            "content": {"application/json": {"schema": {"$ref": _SCHEMA}}},
        }
        for status in statuses
    }


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error in the one form; a bug keeps its traceback in the log."""

    async def api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error.response()

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = _TYPES.get(error.status_code, ErrorType.BAD_REQUEST)
        message = _CLEARER.get(error.detail, str(error.detail))
        answer = ApiError(error.status_code, kind, message).response()
        answer.headers.update(error.headers or {})
        return answer

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _invalid(error).response()

    async def bad_input(request: Request, error: Exception) -> JSONResponse:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
            return storage_full().response()
        return ApiError(422, ErrorType.VALIDATION, str(error)).response()

    async def backend(request: Request, error: Exception) -> JSONResponse:
        return ApiError(424, ErrorType.BACKEND, str(error)).response()

    async def disconnected(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(Disconnected, disconnected)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InputError, bad_input)
    app.add_exception_handler(BundleError, backend)


def _invalid(error: RequestValidationError) -> ApiError:
    """The first thing that is wrong, by its place; never the text itself, which may be long."""
    (first, *rest) = error.errors()
    if first["type"] == "json_invalid":
        return ApiError(422, ErrorType.VALIDATION, "the body is not JSON")
    if first["loc"] == ("body",) and first["type"] == "model_attributes_type":
        message = "the body is no JSON object; send one, with Content-Type: application/json"
        return ApiError(422, ErrorType.VALIDATION, message)
    place = ".".join(str(part) for part in first["loc"] if part not in _NO_PLACES) or "body"
    place = place[:_LONGEST_PLACE]
    message = f"{place}: {first['msg']}" + (f" (and {len(rest)} more)" if rest else "")
    if first["type"] == "too_long" and first["ctx"]["max_length"] == MAX_ARTICLES:
        return ApiError(413, ErrorType.TOO_LARGE, message)
    return ApiError(422, ErrorType.VALIDATION, message)


_CLEARER = {
    "There was an error parsing the body": (
        "the body cannot be read; send it in UTF-8, not compressed and not deeply nested"
    ),
}
"""What FastAPI says, and how to mend it."""

_LONGEST_PLACE = 100
"""Characters of a place: the name of a field that is refused is the caller's."""

_NO_PLACES = ("body", "query", "path", ONE, MANY)
