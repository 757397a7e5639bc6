"""Work for a caller that ends when the caller goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from studytag.service.errors import ApiError, Disconnected, ErrorType

T = TypeVar("T")


async def unless_disconnected(
    request: Request, work: Coroutine[Any, Any, T], seconds: float | None = None
) -> T:
    """The result of `work`, which is cancelled when the caller goes or the time is over.

    Args:
        request: Its body has been read, or there is none.
        work: What to do.
        seconds: The time that there is; None sets no end.

    Raises:
        Disconnected: the caller has gone.
        ApiError: the time is over.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        done, _ = await asyncio.wait(
            {task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if task in done:
            return task.result()
        if gone in done:
            raise Disconnected
        raise ApiError(
            503,
            ErrorType.TIMEOUT,
            f"not done within {seconds:.0f} seconds; send fewer articles, or a file to /v1/files",
            retry_after=5,
        )
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the caller has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
