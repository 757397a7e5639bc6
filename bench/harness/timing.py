"""Contenders take turns, so that a machine whose speed drifts is unfair to none."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping


def interleaved(
    tasks: Mapping[str, Callable[[int], object]],
    rounds: int,
    before_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds that each warm task, given the number of the round, takes in each round.

    Their order changes from round to round; `before_round` is not timed.
    """
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        before_round()
        for name in order.sample(list(tasks), len(tasks)):
            started = time.perf_counter()
            tasks[name](number)
            seconds[name].append(time.perf_counter() - started)
    return seconds
