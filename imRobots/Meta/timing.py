"""Deadlines, and the delays between tries. Owns no thread and waits for nothing itself."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator


class Deadline:
    """A point in time, to be shared by several waits."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self._at - time.monotonic())


def utc(at: float) -> str:
    """A point in time, in seconds since the epoch, for people: `2026-01-31T23:59:59Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def backoff(first: float, limit: float) -> Iterator[float]:
    """Delays in seconds: `first`, doubling up to `limit`, each shortened by up to a quarter so that peers spread."""
    delay = first
    while True:
        yield delay * random.uniform(0.75, 1.0)
        delay = min(delay * 2, limit)
