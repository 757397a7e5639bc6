"""What reading a file has to tell, said once, however often the file is looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)

_SAID: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextmanager
def each_notice_once() -> Iterator[None]:
    """Within the block, say nothing again that has been said, nor in a block within it."""
    if _SAID.get() is not None:
        yield
        return
    token = _SAID.set(set())
    try:
        yield
    finally:
        _SAID.reset(token)


def notice(message: str, *arguments: object, level: int = logging.WARNING) -> None:
    """Log a message, unless it has been said within the block of `each_notice_once`."""
    said = _SAID.get()
    if said is not None:
        text = message % arguments
        if text in said:
            return
        said.add(text)
    logger.log(level, message, *arguments)
