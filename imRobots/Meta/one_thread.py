"""A thread that does one thing after the other, at once or later.

Owns the thread, its queue and its timers. The methods may be called from any thread, an event loop's too, and return at
once but for those with a deadline.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable

from .timing import Deadline

Work = Callable[[], None]

_MAX_WAITING = 10_000


class OneThread:
    """Does what it is given, until it is ended."""

    def __init__(self, name: str, on_error: Work) -> None:
        """`on_error` is called in the `except` clause of work that raised; the next is done all the same."""
        self._on_error = on_error
        self._queue: queue.Queue[Work | None] = queue.Queue()
        self._timers: list[tuple[float, int, Work]] = []  # a heap; only of this thread
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        return self._queue.qsize() >= _MAX_WAITING

    def do(self, work: Work) -> None:
        """As soon as what came before is done."""
        self._queue.put(work)

    def later(self, seconds: float, work: Work) -> None:
        """When so many seconds have passed."""
        timer = (time.monotonic() + seconds, next(self._numbers), work)
        if threading.current_thread() is self._thread:
            heapq.heappush(self._timers, timer)
        else:
            self._queue.put(functools.partial(heapq.heappush, self._timers, timer))

    def wait_done(self, deadline: Deadline) -> None:
        """Until all is done that it was given so far. Not from the thread itself."""
        done = threading.Event()
        self._queue.put(done.set)
        while self._thread.is_alive() and deadline.left and not done.wait(min(0.1, deadline.left)):
            continue  # it may have ended already

    def end(self, deadline: Deadline) -> None:
        """End the thread after what it has been given; timers that are not due are forgotten."""
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(deadline.left)

    def _work(self) -> None:
        while True:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            with contextlib.suppress(queue.Empty):
                work = self._queue.get(timeout=timeout)
                if work is None:
                    return
                self._do(work)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._do(heapq.heappop(self._timers)[2])

    def _do(self, work: Work) -> None:
        try:
            work()
        except BaseException:  # the next must still be done, even if not even that can be said
            with contextlib.suppress(Exception):
                self._on_error()
