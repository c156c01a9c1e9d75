"""The agents' lane: so many at a time, one per session in order of arrival, the rest waiting in a bounded queue.

Owns the agent threads. Knows nothing of agents, cards or platforms: a job is a function that blocks as long as it
likes, and who gives it is told by the job itself which one is meant. The methods may be called from any thread and do
not block, but for `close`; jobs run on the pool's threads.
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
        self._waiting: dict[Job, str] = {}  # -> session; in order of arrival
        self._running: dict[Job, str] = {}
        self._abandoned: dict[Job, str | None] = {}  # they run, in no slot; None: nobody waits for it any more
        self._taken: set[str] = set()  # sessions whose next job has to wait
        self._closed = False
        self._pool = DaemonPool("imRobots-agent")

    def submit(self, session: str, job: Job) -> bool:
        """Run `job` as soon as a slot is free and the session's earlier jobs are done; returns whether it has to wait.

        Raises `Busy` when full. A job must not raise.
        """
        with self._changed:
            if self._closed or self.is_jammed:
                raise Busy(one_session=False)
            if sum(waiting == session for waiting in self._waiting.values()) >= _MAX_WAITING_PER_SESSION:
                raise Busy(one_session=True)
            self._waiting[job] = session
            self._start_next()
            if len(self._waiting) > self._max_waiting:
                del self._waiting[job]
                raise Busy(one_session=False)
            return job in self._waiting

    def withdraw(self, job: Job) -> None:
        """Forget a job that waits. Nothing happens if it does not."""
        with self._changed:
            self._waiting.pop(job, None)
            self._changed.notify_all()

    def set_slots(self, slots: int, max_waiting: int) -> None:
        with self._changed:
            self._slots, self._max_waiting = slots, max_waiting
            self._start_next()

    def abandon(self, job: Job) -> set[Job] | None:
        """Free the slot of a job that runs too long; a thread cannot be killed. None if it does not run any more.

        Its session still waits for it, until `release`. When as many jobs are abandoned as there are slots, nothing is
        taken or started until one of them ends; the jobs that waited are dropped and returned.
        """
        with self._changed:
            if job not in self._running:
                return None
            self._abandoned[job] = self._running.pop(job)
            dropped: set[Job] = set()
            if self.is_jammed:
                dropped = set(self._waiting)
                self._waiting.clear()
            self._start_next()
            return dropped

    def release(self, job: Job) -> None:
        """Let an abandoned job's session go on."""
        with self._changed:
            session = self._abandoned.get(job)
            if session is not None:
                self._taken.discard(session)
                self._abandoned[job] = None
                self._start_next()

    def look_at_places(self, look: Callable[[dict[Job, int]], None]) -> None:
        """Call `look` with the place in the queue, from 1, of every job that waits; none starts meanwhile."""
        with self._changed:
            look({job: place for place, job in enumerate(self._waiting, start=1)})

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def abandoned(self) -> int:
        return len(self._abandoned)

    @property
    def can_spare_a_slot(self) -> bool:
        """Whether agents could still run if one more job were abandoned."""
        return len(self._abandoned) + 1 < self._slots

    @property
    def is_jammed(self) -> bool:
        """Whether as many jobs are abandoned as may run."""
        return len(self._abandoned) >= self._slots

    def close(self, deadline: Deadline) -> int:
        """Let the running and the waiting jobs finish until the deadline, then drop what waits.

        Returns how many jobs still run: they end when they end.
        """
        for job in list(self._abandoned):
            self.release(job)
        with self._changed:
            self._changed.wait_for(lambda: not self._running and not self._waiting, deadline.left)
            self._closed = True
            self._waiting.clear()
            left = len(self._running) + len(self._abandoned)
        self._pool.close(Deadline(0) if left else deadline)
        return left

    def _start_next(self) -> None:
        """Start whatever may start, first come first served. The lock is held."""
        while len(self._running) < self._slots:
            free = (job for job, session in self._waiting.items() if session not in self._taken)
            job = next(free, None)
            if job is None:
                return
            session = self._running[job] = self._waiting.pop(job)
            self._taken.add(session)
            try:
                self._pool.run(lambda job=job: self._work(job))  # type: ignore[misc]
            except RuntimeError as error:  # not one thread can be had
                host.log.error(f"No thread for an agent: {error}. The question waits for the next one.")
                self._taken.discard(self._running.pop(job))
                self._waiting = {job: session, **self._waiting}
                return

    def _work(self, job: Job) -> None:
        try:
            job()
        finally:
            with self._changed:
                session = self._running.pop(job) if job in self._running else self._abandoned.pop(job)
                if session is not None:
                    self._taken.discard(session)
                if not self._closed:
                    self._start_next()
                self._changed.notify_all()
