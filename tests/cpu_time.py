"""Limits of processor time that hold on any machine: those of ours, by how slow the other is."""

from __future__ import annotations

import time
from collections.abc import Callable

_TRIES = 10
# What the yardstick takes on the machine that the limits were written for.
_YARDSTICK_SECONDS = 0.006


def slowness() -> float:
    """How many times slower than ours this machine is right now; 1 where it is faster."""
    best = min(_yardstick_seconds() for _ in range(3))
    return max(1.0, best / _YARDSTICK_SECONDS)


def assert_takes_less(seconds: float, work: Callable[[], object], name: str = "") -> None:
    """``work`` takes less than ``seconds`` of our machine's processor in one of a few tries.

    Neighbours on a shared machine take its caches and half of a core: one try tells little.
    """
    taken = []
    for _ in range(_TRIES):
        limit = seconds * slowness()
        started = time.process_time()
        work()
        taken.append((time.process_time() - started) / limit)
        if taken[-1] < 1.0:
            return
    raise AssertionError(f"{name}: expected less than {seconds} s, took {min(taken):.1f} times it")


def _yardstick_seconds() -> float:
    started = time.process_time()
    total = 0
    for number in range(100_000):
        total += number * number % 7
    assert total
    return time.process_time() - started
