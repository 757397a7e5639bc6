"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from studytag.errors import InputError
from studytag.inference.predictor import Outcome

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = (16, 32, 64, 128, 256, 384, 512, 1024, 2048)


class Metrics:
    """Counters of one app, in a registry of its own.

    Attributes:
        content_type: Of the exposition.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter(
            "studytag_requests", "Requests answered.", "path", "method", "status"
        )
        self._durations = self._histogram(
            "studytag_request_duration_seconds", "From request to answer.", _SECONDS, "path"
        )
        self._queued = self._histogram(
            "studytag_queue_duration_seconds",
            "How long an article of a request waited for a core, on average.",
            _SECONDS,
        )
        self._worked = self._histogram(
            "studytag_inference_duration_seconds",
            "How long a core worked on an article of a request, on average.",
            _SECONDS,
        )
        self._articles = self._counter(
            "studytag_articles", "Articles of requests and files.", "outcome"
        )
        self._tokens = self._histogram(
            "studytag_article_tokens", "Tokens of an article, before truncation.", _TOKENS
        )
        self._queue = Gauge(
            "studytag_queue_articles",
            "Articles of requests that wait or are at work.",
            registry=self._registry,
        )
        self._jobs = Gauge(
            "studytag_jobs", "File jobs by status.", ["status"], registry=self._registry
        )

    def watch_queue(self, count: Callable[[], int]) -> None:
        """Read the length of the queue from `count`."""
        self._queue.set_function(count)

    def watch_jobs(self, statuses: Iterable[str], count: Callable[[str], int]) -> None:
        """Read the number of jobs of each status from `count`."""
        for status in statuses:
            self._jobs.labels(status).set_function(partial(count, status))

    def note_request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request; `path` is a route, not what the caller wrote."""
        self._requests.labels(path, method, str(status)).inc()
        self._durations.labels(path).observe(seconds)

    def note_articles(self, outcomes: Iterable[Outcome], queued: float, worked: float) -> None:
        """Count the articles of a request."""
        for outcome in outcomes:
            self.note_article(outcome)
        self._queued.observe(queued)
        self._worked.observe(worked)

    def note_article(self, outcome: Outcome) -> None:
        """Count an article."""
        if isinstance(outcome, InputError):
            self._articles.labels("error").inc()
            return
        self._articles.labels("tagged").inc()
        if outcome.tokens is not None:
            self._tokens.observe(outcome.tokens)

    def note_record(self, tagged: bool) -> None:
        """Count a record of a file."""
        self._articles.labels("tagged" if tagged else "error").inc()

    def exposition(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)
