"""Articles of a request through the predictor: admitted or refused, timed, given up in time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from studytag.errors import InputError
from studytag.inference.predictor import Outcome, Predictor
from studytag.manifest import OperatingPoint
from studytag.service.disconnect import unless_disconnected
from studytag.service.errors import ApiError, ErrorType
from studytag.service.lanes import Cores
from studytag.service.metrics import Metrics
from studytag.service.settings import Settings

Article = Mapping[str, Any] | str


@dataclass(frozen=True)
class Tagged:
    """The outcomes of a request's articles.

    Attributes:
        outcomes: In the order of the articles.
        queued: Seconds that its articles waited for a core, on average.
        working: Seconds that a core worked on each, on average.
    """

    outcomes: list[Outcome]
    queued: float
    working: float


class Tagging:
    """The predictor as requests use it.

    Args:
        predictor: Tags; its own threads are not used.
        cores: Shared by all requests and files.
        settings: Limits.
        metrics: Counts articles and tokens.
    """

    def __init__(
        self, predictor: Predictor, cores: Cores, settings: Settings, metrics: Metrics
    ) -> None:
        self.predictor = predictor
        self._cores = cores
        self._settings = settings
        self._metrics = metrics
        self._pending = 0
        self._mean = 0.1
        metrics.watch_queue(lambda: self._pending)

    async def tag(
        self,
        request: Request,
        articles: Sequence[Article],
        operating_point: OperatingPoint | None = None,
    ) -> Tagged:
        """Tag the articles of a request.

        Raises:
            ApiError: there is no room for them, one is too long, or it took too long.
            InputError: there is no such operating point.
            Disconnected: the caller has gone; what waited costs nothing more.
        """
        self.check(articles)
        with self._admitted(len(articles)), self._cores.lane() as lane:
            view = self.predictor.on(lane)
            outcomes = await unless_disconnected(
                request,
                view.predict_async(articles, operating_point=operating_point),
                self._settings.max_seconds,
            )
        count = max(len(outcomes), 1)
        self._mean += 0.1 * (lane.worked / count - self._mean)
        self._metrics.note_articles(outcomes, lane.waited / count, lane.worked / count)
        return Tagged(outcomes, lane.waited / count, lane.worked / count)

    def check(self, articles: Sequence[Article]) -> None:
        """Refuse articles that `tag` would refuse, before anything is done with them.

        Raises:
            ApiError: there is none, there are too many, or one is too long.
        """
        if not articles:
            raise ApiError(400, ErrorType.EMPTY, "no article to tag; send at least one")
        if len(articles) > self._settings.max_waiting:
            raise ApiError(
                413,
                ErrorType.TOO_LARGE,
                f"{len(articles)} texts to tag, those without a sentence included; "
                f"send at most {self._settings.max_waiting} at once",
            )
        for index, article in enumerate(articles):
            if _length(article) > self._settings.max_text:
                raise ApiError(
                    413,
                    ErrorType.TOO_LARGE,
                    f"article {index}: longer than {self._settings.max_text} characters; "
                    "send title and abstract only",
                )

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """Hold the places of `count` articles, or refuse them."""
        pending, settings = self._pending, self._settings
        seconds = pending * self._mean / self._cores.count
        late = seconds + count * self._mean / self._cores.count > settings.max_seconds
        if pending and (late or pending + count > settings.max_waiting):
            raise ApiError(
                429,
                ErrorType.OVERLOADED,
                f"{pending} articles are waiting; try again later",
                retry_after=min(max(math.ceil(seconds), 1), 60),
            )
        self._pending += count
        try:
            yield
        finally:
            self._pending -= count


def failure(outcome: Outcome) -> str | None:
    """Why an article could not be tagged; None where it was."""
    return str(outcome) if isinstance(outcome, InputError) else None


def _length(article: Article) -> int:
    if isinstance(article, str):
        return len(article)
    return sum(len(text) for text in article.values() if isinstance(text, str))
