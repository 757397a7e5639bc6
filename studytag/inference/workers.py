"""Records to readings on a pool of threads: one document on each, lazily, in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice

from studytag.errors import InputError
from studytag.inference.inputs import Record
from studytag.inference.model import Model, Reading
from studytag.records import TextRecipe

WINDOW_PER_WORKER = 16
"""Records read ahead for each worker: enough to even out lengths, few enough to stay lazy."""

WINDOW_CHARACTERS = 2**24
"""A window ends early here, so that records of megabytes do not fill the memory."""


class Workers:
    """Threads that share a model. Safe to use from several threads; close when done.

    Attributes:
        count: Documents run side by side.
    """

    __slots__ = ("_executor", "_lock", "_model", "_process", "_recipe", "count")

    def __init__(
        self, model: Model, recipe: TextRecipe, count: int, executor: Executor | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            model: Reads the documents.
            recipe: Makes them of records.
            count: How many threads.
            executor: Runs the documents instead of threads of our own.
        """
        self.count = count
        self._model = model
        self._recipe = recipe
        self._lock = threading.Lock()
        self._executor = executor
        self._process = os.getpid()

    def on(self, executor: Executor) -> Workers:
        """The same model, its documents run by `executor`."""
        return Workers(self._model, self._recipe, self.count, executor)

    def close(self) -> None:
        """Stop the threads once their work is done; new ones start if they are needed again."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._process == os.getpid():
            executor.shutdown()

    def readings(self, records: Iterator[Record]) -> Iterator[Reading | InputError]:
        """What the model makes of each record, or the record's error.

        While one window's results are used, the next is already at work, so that neither reading
        nor writing leaves a core idle. Where reading fails, what was read before comes first.
        """
        windows: deque[list[Future[Reading] | InputError]] = deque()
        failure: Exception | None = None
        try:
            while failure is None:
                window, failure = _next_window(records, WINDOW_PER_WORKER * self.count)
                if not window:
                    break
                windows.append(self.submit(window))
                if len(windows) == 2:
                    yield from map(reading_of, windows[0])
                    windows.popleft()
            yield from map(reading_of, windows[0] if windows else ())
        finally:
            for pending in (pending for window in windows for pending in window):
                if isinstance(pending, Future):
                    pending.cancel()
        if failure is not None:
            raise failure

    def submit(self, window: Sequence[Record]) -> list[Future[Reading] | InputError]:
        """Start work on some records, longest text first, so that no core ends on a long one."""
        composed = [self._compose(record) for record in window]
        texts = [(index, text) for index, text in enumerate(composed) if isinstance(text, str)]
        started = {
            index: self._start(text)
            for index, text in sorted(texts, key=lambda numbered: -len(numbered[1]))
        }
        return [
            text if isinstance(text, InputError) else started[index]
            for index, text in enumerate(composed)
        ]

    def _start(self, text: str) -> Future[Reading]:
        """Hand one text to the threads; another thread may close them at any moment."""
        while True:
            pool = self._pool()
            try:
                return pool.submit(self._model.read, text)
            except RuntimeError:
                if pool is self._executor:  # not closed by us: the interpreter is shutting down
                    raise

    def _compose(self, record: Record) -> str | InputError:
        try:
            text = self._recipe.compose_record(record)
            text.encode()
        except InputError as error:
            return error
        except UnicodeEncodeError:
            return InputError("the text holds an unpaired surrogate; remove it")
        except Exception as error:  # a mapping of the caller's own may raise anything
            unreadable = InputError(f"cannot be read ({type(error).__name__}: {error!s:.100})")
            unreadable.__cause__ = error
            return unreadable
        return text

    def _pool(self) -> Executor:
        """The threads; started late, and again in a forked child, which inherits none."""
        with self._lock:
            if self._executor is None or self._process != os.getpid():
                self._executor = ThreadPoolExecutor(self.count, thread_name_prefix="studytag")
                self._process = os.getpid()
            return self._executor


def _next_window(records: Iterator[Record], count: int) -> tuple[list[Record], Exception | None]:
    """Up to `count` records, fewer where they are large, and what ended reading before its time."""
    window: list[Record] = []
    size = 0
    try:
        for record in islice(records, count):
            window.append(record)
            size += _characters(record)
            if size > WINDOW_CHARACTERS:
                break
    except Exception as error:
        return window, error
    return window, None


def _characters(record: Record) -> int:
    """About how much text a record holds."""
    if isinstance(record, str):
        return len(record)
    if not isinstance(record, dict):
        return 0
    parts = (dict.get(record, name) for name in ("title", "abstract"))
    return sum(len(part) for part in parts if isinstance(part, str))


def reading_of(pending: Future[Reading] | InputError) -> Reading | InputError:
    """What the model made of a record, or the record's error; other failures are raised."""
    try:
        return pending if isinstance(pending, InputError) else pending.result()
    except InputError as error:
        return error
