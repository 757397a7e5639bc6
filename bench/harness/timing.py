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
    """Seconds that each task takes in each round, in an order that changes from round to round.

    Args:
        tasks: By name; each is given the number of the round. Warm them up beforehand.
        rounds: How many.
        before_round: Called at the start of each round, outside the timing.
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
