"""Query parameters that an operation does not take are refused: ignored, they would mislead."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from studytag.service.errors import ApiError, ErrorType


# As a coroutine: FastAPI would call a plain function in a thread.
async def refuse_unknown_parameters(request: Request) -> None:
    """Check a request against what OpenAPI says of its operation.

    Raises:
        ApiError: a parameter is unknown, or given twice where one value is taken.
    """
    if not request.query_params:
        return
    operation = request.app.openapi()["paths"][request.scope["route"].path]
    parameters = operation[request.method.lower()].get("parameters", ())
    taken = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
    for name in request.query_params:
        if name not in taken:
            there = f"the parameters are {', '.join(taken)}" if taken else "there are none"
            elsewhere = "; other fields go into the body" if request.method == "POST" else ""
            message = f"{name[:100]}: no parameter of this address; {there}{elsewhere}"
            raise ApiError(422, ErrorType.VALIDATION, message)
        if len(request.query_params.getlist(name)) > 1 and not _is_list(taken[name]):
            raise ApiError(422, ErrorType.VALIDATION, f"{name}: given more than once; give it once")


def _is_list(schema: dict[str, Any]) -> bool:
    return any(each.get("type") == "array" for each in schema.get("anyOf", [schema]))
