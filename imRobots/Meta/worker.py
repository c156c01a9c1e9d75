"""The agents' lane: so many at a time, one per session in order of arrival, the rest waiting in a bounded queue.

Owns the agent threads. Knows nothing of agents, cards or platforms: a job is a function that blocks as long as it
likes. `Worker.submit` and the rest may be called from any thread and do not block; jobs run on the pool's threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from . import host
from .models import Busy
from .pool import DaemonPool
from .timing import Deadline

Job = Callable[[], None]

_MAX_WAITING_PER_SESSION = 5


class Worker:
    """Runs jobs; `slots` of them at a time, which may be changed while it works."""

    def __init__(self, slots: int, max_waiting: int) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[str, Job]] = {}  # in order of arrival
        self._running: set[str] = set()  # sessions
        self._tickets = 0
        self._closed = False
        self._pool = DaemonPool("imRobots-agent")

    def submit(self, session: str, job: Job) -> int:
        """Run `job` as soon as a slot is free and the session's earlier jobs are done. Raises `Busy` when full.

        Returns a ticket, for `look_at_places`. A job must not raise.
        """
        with self._changed:
            if self._closed:
                raise Busy(one_session=False)
            if sum(waiting == session for waiting, _ in self._waiting.values()) >= _MAX_WAITING_PER_SESSION:
                raise Busy(one_session=True)
            self._tickets += 1
            self._waiting[self._tickets] = (session, job)
            self._start_next()
            if len(self._waiting) > self._max_waiting:
                del self._waiting[self._tickets]
                raise Busy(one_session=False)
            return self._tickets

    def set_slots(self, slots: int) -> None:
        with self._changed:
            self._slots = slots
            self._start_next()

    def look_at_places(self, look: Callable[[dict[int, int]], None]) -> None:
        """Call `look` with the place in the queue, from 1, of every ticket that waits; no job starts meanwhile."""
        with self._changed:
            look({ticket: place for place, ticket in enumerate(self._waiting, start=1)})

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self, deadline: Deadline) -> int:
        """Let the running and the waiting jobs finish until the deadline, then drop what waits.

        Returns how many jobs still run: a thread cannot be killed, so they end when they end.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._running and not self._waiting, deadline.left)
            self._closed = True
            self._waiting.clear()
        self._pool.close(deadline)
        return self.running

    def _start_next(self) -> None:
        """Start whatever may start, first come first served. The lock is held."""
        while len(self._running) < self._slots:
            free = (ticket for ticket, (session, _) in self._waiting.items() if session not in self._running)
            ticket = next(free, None)
            if ticket is None:
                return
            session, job = self._waiting.pop(ticket)
            self._running.add(session)
            try:
                self._pool.run(lambda session=session, job=job: self._work(session, job))  # type: ignore[misc]
            except RuntimeError as error:  # not one thread can be had
                host.log.error(f"No thread for an agent: {error}. The question waits for the next one.")
                self._running.discard(session)
                self._waiting = {ticket: (session, job), **self._waiting}
                return

    def _work(self, session: str, job: Job) -> None:
        try:
            job()
        finally:
            with self._changed:
                self._running.discard(session)
                if not self._closed:
                    self._start_next()
                self._changed.notify_all()
