"""Sharing the cores: each request has a lane, and the cores take one document of each in turn.

A request of one article therefore waits for at most one document of every other request, however
long those are; a file of a million records is one lane among them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Task:
    future: Future[Any]
    call: Callable[[], Any]
    submitted: float

    def run(self) -> None:
        try:
            result = self.call()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Cores:
    """Threads that take one task of each lane in turn. Close when done.

    Args:
        count: How many tasks run side by side.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._changed = threading.Condition()
        self._turns: deque[Lane] = deque()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"studytag-core-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def lane(self) -> Lane:
        """A new lane, empty."""
        return Lane(self)

    def close(self) -> None:
        """End the threads after the tasks that they are at; what waits is cancelled."""
        with self._changed:
            self._closed = True
            waiting = list(self._turns)
            self._changed.notify_all()
        for lane in waiting:
            lane.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            lane, task = taken
            if not task.future.set_running_or_notify_cancel():
                continue
            started = time.perf_counter()
            task.run()
            lane.note(started - task.submitted, time.perf_counter() - started)

    def _take(self) -> tuple[Lane, _Task] | None:
        """The next task; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._closed)
            if self._closed:
                return None
            lane = self._turns.popleft()
            task = lane.waiting.popleft()
            if lane.waiting:
                self._turns.append(lane)
            return lane, task

    def add(self, lane: Lane, task: _Task) -> None:
        """Let a task wait in its lane.

        Raises:
            RuntimeError: the lane or these cores are closed.
        """
        with self._changed:
            if self._closed or lane.closed:
                raise RuntimeError("cannot take tasks after shutdown")
            lane.waiting.append(task)
            if len(lane.waiting) == 1:
                self._turns.append(lane)
            self._changed.notify()

    def withdraw(self, lane: Lane) -> list[_Task]:
        """Close a lane and take out what waits in it."""
        with self._changed:
            lane.closed = True
            withdrawn = list(lane.waiting)
            lane.waiting.clear()
            if withdrawn and lane in self._turns:
                self._turns.remove(lane)
            return withdrawn


class Lane(Executor):
    """The tasks of one request; made by `Cores.lane`.

    Attributes:
        waiting: Tasks that no core has taken.
        closed: Whether it takes no more.
        waited: Seconds that its finished tasks had waited, added up.
        worked: Seconds that they ran, added up.
    """

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._noting = threading.Lock()
        self.waiting: deque[_Task] = deque()
        self.closed = False
        self.waited = self.worked = 0.0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As of every executor."""
        future: Future[T] = Future()
        task = _Task(future, lambda: fn(*args, **kwargs), time.perf_counter())
        self._cores.add(self, task)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. What waits is cancelled in any case: nobody is left to use it."""
        for task in self._cores.withdraw(self):
            task.future.cancel()

    def note(self, waited: float, worked: float) -> None:
        """Add a finished task's times."""
        with self._noting:
            self.waited += waited
            self.worked += worked
