"""The predictor: records in, labels with probabilities out, one document on each core.

    predictor = Predictor.from_pretrained("artifacts/bundle")
    predictor.predict([{"title": "...", "abstract": "..."}])

A document is run alone and unpadded, so its result never depends on its neighbours, and no time
goes into padding.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from studytag.bundle import DEFAULT_OPERATING_POINT, Manifest, load_manifest
from studytag.errors import InputError
from studytag.inference.model import Model
from studytag.inference.runtime import available_cores, choose_variant, has_fast_int8

logger = logging.getLogger(__name__)

Record = Mapping[str, Any] | str
"""An article: a mapping with `title` and/or `abstract`, or a ready-made text."""

WINDOW_PER_THREAD = 16
"""Records read ahead for each thread: enough to even out lengths, few enough to stay lazy."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is said of one record.

    Attributes:
        labels: Names whose probability reaches their threshold, in label order.
        probabilities: Every label's probability.
    """

    labels: list[str]
    probabilities: dict[str, float]


class Predictor:
    """A bundle's variant, loaded and ready. Safe to use from several threads; close when done."""

    def __init__(
        self,
        model: Model,
        manifest: Manifest,
        variant: str,
        threads: int,
        operating_point: str,
    ) -> None:
        """Put together what `from_pretrained` has loaded."""
        self.manifest = manifest
        self.labels = list(manifest.labels)
        self.variant = variant
        self.threads = threads
        self.operating_point = operating_point
        self.thresholds = self._thresholds(operating_point)
        self._model = model
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._executor_process = 0

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        variant: str = "auto",
        threads: int | None = None,
        operating_point: str = DEFAULT_OPERATING_POINT,
        threads_per_record: int = 1,
    ) -> Predictor:
        """Load a bundle from disk; its files are verified first.

        Args:
            path: The bundle.
            variant: `fp32`, `quantized`, or `auto`: quantized where the bundle has it and the
                processor runs it fast.
            threads: Documents run side by side; None takes every core that this process may use.
            operating_point: The set of thresholds that decides.
            threads_per_record: Cores that work on one document. More than one answer a single
                record sooner, as a service wants it, and many records later.

        Raises:
            BundleError: the bundle is incomplete, altered or unknown to this version.
            InputError: no such variant or operating point, or a number of threads is not positive.
        """
        folder = Path(path)
        for name, number in (("threads", threads), ("threads_per_record", threads_per_record)):
            if number is not None and number < 1:
                raise InputError(f"{name} must be at least 1, not {number}; leave it out")
        fast_int8 = has_fast_int8()
        wanted = variant if variant != "auto" else "quantized" if fast_int8 else "fp32"
        manifest = load_manifest(folder, [wanted])
        if variant == "auto":
            chosen, reason = choose_variant(manifest.variants, fast_int8)
            logger.info("variant %s: %s", chosen, reason)
            if chosen != wanted:
                manifest = load_manifest(folder, [chosen])
        elif variant in manifest.variants:
            chosen = variant
        else:
            raise InputError(
                f"{folder} has no variant {variant!r}; choose from: "
                f"auto, {', '.join(manifest.variants)}"
            )
        model = Model(folder, manifest, chosen, threads_per_record)
        threads = threads or max(available_cores() // threads_per_record, 1)
        return cls(model, manifest, chosen, threads, operating_point)

    def predict(
        self, records: Iterable[Record], operating_point: str | None = None
    ) -> list[Prediction]:
        """Tag records; the order is kept.

        Args:
            records: Mappings with `title` and/or `abstract`, or texts.
            operating_point: Decide by these thresholds instead of the predictor's own.

        Raises:
            InputError: a record has no text (names its index), or no such operating point.
        """
        return list(self.predict_iter(records, operating_point))

    def predict_iter(
        self, records: Iterable[Record], operating_point: str | None = None
    ) -> Iterator[Prediction]:
        """As `predict`, for any iterable, in constant memory: it is read two windows ahead."""
        decided = self.predict_each(records, operating_point)
        return (_raise_if_error(index, outcome) for index, outcome in enumerate(decided))

    def predict_each(
        self, records: Iterable[Record], operating_point: str | None = None
    ) -> Iterator[Prediction | InputError]:
        """As `predict_iter`, but a bad record yields its error instead of ending the run."""
        thresholds = self._thresholds(operating_point or self.operating_point)
        outcomes = self._outcomes(_many(records))
        return (
            row if isinstance(row, InputError) else self._decide(row, thresholds)
            for row in outcomes
        )

    def predict_proba(self, records: Iterable[Record]) -> NDArray[np.float32]:
        """Probabilities of shape (n, labels), columns in the order of `labels`.

        Raises:
            InputError: a record has no text; names its index.
        """
        outcomes = self._outcomes(_many(records))
        rows = [_raise_if_error(index, outcome) for index, outcome in enumerate(outcomes)]
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(self.labels))

    def close(self) -> None:
        """Stop the threads once their work is done. The predictor starts new ones if used again."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._executor_process == os.getpid():
            executor.shutdown()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _thresholds(self, operating_point: str) -> NDArray[np.float64]:
        points = self.manifest.variants[self.variant].thresholds
        if operating_point not in points:
            raise InputError(
                f"no operating point {operating_point!r}; choose from: {', '.join(points)}"
            )
        return np.array(points[operating_point], dtype=np.float64)

    def _decide(
        self, probabilities: NDArray[np.float32], thresholds: NDArray[np.float64]
    ) -> Prediction:
        return Prediction(
            self.manifest.labels.decode(probabilities >= thresholds),
            dict(zip(self.labels, probabilities.tolist(), strict=True)),
        )

    def _outcomes(self, records: Iterable[Record]) -> Iterator[NDArray[np.float32] | InputError]:
        """Each record's probabilities, shape (labels,), or its error; in order.

        While one window's results are used, the next is already at work, so that neither reading
        nor writing leaves a core idle.
        """
        source = iter(records)
        windows: deque[list[Future[NDArray[np.float32]] | InputError]] = deque()
        try:
            while window := list(islice(source, WINDOW_PER_THREAD * self.threads)):
                windows.append(self._submit(window))
                if len(windows) == 2:
                    yield from map(_result, windows[0])
                    windows.popleft()
            yield from map(_result, windows[0] if windows else ())
        finally:
            for outcome in (outcome for window in windows for outcome in window):
                if isinstance(outcome, Future):
                    outcome.cancel()

    def _submit(self, window: list[Record]) -> list[Future[NDArray[np.float32]] | InputError]:
        """Start a window's work, longest text first, so that no core ends on a long one."""
        composed = [self._compose(record) for record in window]
        texts = [(index, text) for index, text in enumerate(composed) if isinstance(text, str)]
        pool = self._pool()
        started = {
            index: pool.submit(self._model.probabilities, text)
            for index, text in sorted(texts, key=lambda numbered: -len(numbered[1]))
        }
        return [
            outcome if isinstance(outcome, InputError) else started[index]
            for index, outcome in enumerate(composed)
        ]

    def _compose(self, record: Record) -> str | InputError:
        try:
            text = self.manifest.text_recipe.compose_record(record)
            text.encode()
        except InputError as error:
            return error
        except UnicodeEncodeError:
            return InputError("the text holds half a character (a lone surrogate); remove it")
        return text

    def _pool(self) -> ThreadPoolExecutor:
        """The threads; started late, and again in a forked child, which inherits none."""
        with self._lock:
            if self._executor is None or self._executor_process != os.getpid():
                self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="studytag")
                self._executor_process = os.getpid()
            return self._executor


def _many(records: Iterable[Record]) -> Iterable[Record]:
    if isinstance(records, (str, bytes, Mapping)):
        raise InputError("expected several records, found one; put it into a list")
    return records


def _result(outcome: Future[NDArray[np.float32]] | InputError) -> NDArray[np.float32] | InputError:
    return outcome if isinstance(outcome, InputError) else outcome.result()


def _raise_if_error(index: int, outcome: Outcome | InputError) -> Outcome:
    if isinstance(outcome, InputError):
        raise InputError(f"record {index}: {outcome}") from outcome
    return outcome
