"""A thread that does one thing after the other, at once or later, or what has come by then all together.

Owns the thread, its queue and its timers. The methods may be called from any thread, an event loop's too, and return at
once but for those with a deadline; `Batch.take_up` is for the thread itself.
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
from typing import Generic, TypeVar

from .timing import Deadline

T = TypeVar("T")
Work = Callable[[], None]

_MAX_WAITING = 10_000
_MAX_AT_ONCE = 50  # of a batch: nobody waits longer than for that


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
        is_ending = False
        while True:
            until = self._timers[0][0] if self._timers else None
            timeout = 0.0 if is_ending else None if until is None else max(0.0, until - time.monotonic())
            try:
                work = self._queue.get(timeout=timeout)
            except queue.Empty:
                if is_ending:
                    return
            else:
                if work is None:
                    is_ending = True  # after all that there is: what came before may have brought more
                else:
                    self.try_to(work)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self.try_to(heapq.heappop(self._timers)[2])

    def try_to(self, work: Work) -> None:
        """Do it here and now, as the thread does it: a mistake goes to `on_error`."""
        try:
            work()
        except BaseException:  # the next must still be done, even if not even that can be said
            with contextlib.suppress(Exception):
                self._on_error()


class Batch(Generic[T]):
    """Things that a thread takes up together, as many as have come by the time it gets to them."""

    def __init__(self, thread: OneThread, take: Callable[[list[T]], None]) -> None:
        self._thread = thread
        self._take = take
        self._lock = threading.Lock()
        self._waiting: list[T] = []

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= _MAX_WAITING

    def put(self, thing: T) -> None:
        with self._lock:
            self._waiting.append(thing)
            if len(self._waiting) > 1:
                return  # it is taken up with those before it
        self._thread.do(self.take_up)

    def take_up(self) -> None:
        """Take up what waits. On that thread only, or after its end."""
        with self._lock:
            things, self._waiting = self._waiting, []
        for at in range(0, len(things), _MAX_AT_ONCE):
            self._thread.try_to(functools.partial(self._take, things[at : at + _MAX_AT_ONCE]))
