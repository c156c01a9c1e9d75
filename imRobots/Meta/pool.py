"""Daemon threads on demand, for the lanes that agents and sends run in.

Owns the threads of its pools. `concurrent.futures` is not used for work, because the interpreter waits for its threads
when it exits: one agent that hangs would hold up JitNode's own stop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from .timing import Deadline

_IDLE_SECONDS = 10.0


class DaemonPool:
    """Runs each job at once, on an idle thread or a new one. Bounded by what the caller gives it. Any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for a job, less the jobs that wait for a thread
        self._threads: set[threading.Thread] = set()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False

    def run(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise. Where no more threads can be had, it waits for one of this pool's."""
        with self._lock:
            if self._idle <= 0:
                thread = threading.Thread(target=self._work, args=(job,), name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the container's limit is reached
                    if not self._threads:
                        raise
                else:
                    self._threads.add(thread)
                    return
            self._idle -= 1
            self._jobs.put(job)

    def close(self, deadline: Deadline) -> None:
        """Let idle threads end now, busy ones after their job; wait for them until the deadline."""
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(deadline.left)

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            job = self._wait()

    def _wait(self) -> Callable[[], None] | None:
        """The next job for this thread; None: it is not needed any more."""
        me = threading.current_thread()
        with self._lock:
            if self._closed:
                self._threads.discard(me)
                return None
            self._idle += 1
        try:
            return self._jobs.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                # A job that came just now was meant for a thread that counted as idle: perhaps this one.
                try:
                    return self._jobs.get_nowait()
                except queue.Empty:
                    self._idle -= 1
                    self._threads.discard(me)
                    return None
