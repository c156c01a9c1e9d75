"""The sending lane: everything that people see goes out through here, from threads of its own.

Owns the order per card (open, progress, finish, one call at a time, the latest text wins), the priorities (final
answer, first card, progress) and the retries. `Delivery`'s methods return at once and may be called from any thread;
the `Reply` is called on the outbox's threads. One supervisor thread decides what goes next, so that a burst starts no
threads on the caller's side, and a final answer never waits behind somebody's progress.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from . import host
from .answer import MAX_UPDATES
from .models import IMRobotError, TransportError
from .reply import Outcome, Reply
from .threads import DaemonPool, Deadline, backoff

_MAX_THREADS = 64
# The first card is tried for so many seconds before the answer goes out without it, the final one before it is lost.
_OPEN_SECONDS = 30.0
_FINISH_SECONDS = 300.0
# Sentences such as "busy" are answers to a flood: beyond this many waiting ones they are dropped.
_MAX_SENTENCES = 1000

_FINAL, _FIRST, _PROGRESS = range(3)


class Delivery:
    """What is to be sent for one message. All its fields belong to the outbox's lock.

    `done` resolves to True when the last word is out, to False when it was given up.
    """

    def __init__(self, outbox: Outbox, reply: Reply, question: str, done: Future[bool]) -> None:
        self._outbox = outbox
        self.reply = reply
        self.question = question
        self.done = done
        self.sentence: str | None = None
        self.opened = False
        self.handle: Any = None
        self.text: str | None = None
        self.updates = 0
        self.final: tuple[str, Outcome] | None = None
        self.queued: int | None = None  # the priority under which the outbox has it in its heap
        self.in_flight = False
        self.not_before = 0.0
        self.delays: Iterator[float] | None = None
        self.give_up_at = 0.0

    def open(self) -> None:
        """Send the first card."""
        self._outbox.wake(self)

    def say(self, sentence: str) -> None:
        """Instead of a card: one sentence."""
        self.sentence = sentence
        self._outbox.wake(self)

    def progress(self, text: str) -> None:
        """Update the card with `text`, unless it is finished or has had its number of updates."""
        self.text = text
        self._outbox.wake(self)

    def finish(self, text: str, outcome: Outcome) -> bool:
        """Send the last update. Only the first call counts; returns whether this was it."""
        return self._outbox.finish(self, (text, outcome))

    @property
    def has_progressed(self) -> bool:
        return self.text is not None or self.updates > 0

    @property
    def next_step(self) -> int | None:
        """The priority of what is to be sent next, None if nothing."""
        if self.in_flight or self.done.done():
            return None
        if self.sentence is not None:
            return _FINAL
        if not self.opened:
            return _FIRST
        if self.final:
            return _FINAL
        return _PROGRESS if self.text is not None and self.updates < MAX_UPDATES - 1 else None


class Outbox:
    """Sends deliveries until they are done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: list[tuple[int, int, Delivery]] = []
        self._later: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._open: set[Delivery] = set()
        self._in_flight = 0
        self._closed = False
        self._pool = DaemonPool("imRobots-send")
        self._supervisor = threading.Thread(target=self._supervise, name="imRobots-outbox", daemon=True)
        self._supervisor.start()

    def wake(self, delivery: Delivery) -> None:
        """Look at a delivery again: it has something to send."""
        with self._changed:
            self._queue(delivery)

    def finish(self, delivery: Delivery, final: tuple[str, Outcome]) -> bool:
        with self._changed:
            if delivery.final or delivery.done.done():
                return False
            delivery.final = final
            self._queue(delivery)
            return True

    @property
    def unsent(self) -> int:
        """Deliveries that are not done."""
        return len(self._open)

    def close(self, deadline: Deadline) -> int:
        """Go on until everything is out or the deadline has come; returns how many deliveries were given up."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, deadline.left)
            self._closed = True
            lost = list(self._open)
            for delivery in lost:
                self._conclude(delivery, False)
            self._changed.notify_all()
        self._supervisor.join(deadline.left)
        self._pool.close(deadline)
        return len(lost)

    def _queue(self, delivery: Delivery) -> None:
        """Put a delivery in line for its next step. The lock is held."""
        step = delivery.next_step
        if step is None or (delivery.queued is not None and delivery.queued <= step):
            return
        if delivery not in self._open and not self._has_room_for(delivery):
            host.log.warning("A reply was dropped: too many are waiting to be sent, or the robot has stopped.")
            self._conclude(delivery, False)
            return
        self._open.add(delivery)
        delivery.queued = step
        if delivery.not_before > time.monotonic():
            heapq.heappush(self._later, (delivery.not_before, next(self._order), delivery))
        else:
            heapq.heappush(self._ready, (step, next(self._order), delivery))
        self._changed.notify_all()

    def _has_room_for(self, delivery: Delivery) -> bool:
        sentences = sum(waiting.sentence is not None for waiting in self._open)
        return not self._closed and (delivery.sentence is None or sentences < _MAX_SENTENCES)

    def _supervise(self) -> None:
        while True:
            with self._changed:
                taken = self._next()
                while taken is None:
                    if self._closed:
                        return
                    self._changed.wait(self._later[0][0] - time.monotonic() if self._later else None)
                    taken = self._next()
                delivery, step = taken
                delivery.queued = None
                delivery.in_flight = True
                self._in_flight += 1
            self._pool.run(lambda delivery=delivery, step=step: self._send(delivery, step))  # type: ignore[misc]

    def _next(self) -> tuple[Delivery, int] | None:
        """The most urgent delivery, if there is one and a thread may take it. The lock is held."""
        while self._later and self._later[0][0] <= time.monotonic():
            _, order, delivery = heapq.heappop(self._later)
            if delivery.queued is not None:
                heapq.heappush(self._ready, (delivery.queued, order, delivery))
        while self._ready and self._in_flight < _MAX_THREADS:
            step, _, delivery = heapq.heappop(self._ready)
            if delivery.queued == step:  # else it was queued again, with another priority
                return delivery, step
        return None

    def _send(self, delivery: Delivery, step: int) -> None:
        text, final, handle = delivery.text, delivery.final, delivery.handle
        error: Exception | None = None
        try:
            if delivery.sentence is not None:
                delivery.reply.say(delivery.sentence)
            elif step == _FIRST:
                handle = delivery.reply.open(delivery.question)
            elif final:
                delivery.reply.finish(handle, *final)
            elif text is not None and handle is not None:
                delivery.reply.progress(handle, text)
        except IMRobotError as caught:
            error = caught
        except Exception as caught:  # a mistake in a Type, or in somebody's override: no reason to lose the answer
            host.log.exception(f"Sending failed in an unexpected way: {caught!r}")
            error = caught
        with self._changed:
            delivery.in_flight = False
            self._in_flight -= 1
            if error:
                self._note_failure(delivery, step, error)
            else:
                delivery.delays = None
                if step == _FIRST:
                    delivery.opened, delivery.handle = True, handle
                elif step == _FINAL:
                    self._conclude(delivery, True)
            if step == _PROGRESS:  # sent or failed, it counts; what is newer goes out next
                delivery.updates += 1
                delivery.text = None if delivery.text is text else delivery.text
            self._queue(delivery)
            self._changed.notify_all()

    def _note_failure(self, delivery: Delivery, step: int, error: Exception) -> None:
        """Decide whether a failed call is made again. The lock is held."""
        what = ("The last word", "A first card", "A progress")[step]
        if step == _PROGRESS:
            host.log.warning(f"{what} was not sent; the next update replaces it. {error}")
            return
        now = time.monotonic()
        if delivery.delays is None:
            delivery.delays = backoff(0.5, 10.0)
            delivery.give_up_at = now + (_OPEN_SECONDS if step == _FIRST else _FINISH_SECONDS)
        if isinstance(error, TransportError) and now < delivery.give_up_at:
            delivery.not_before = now + next(delivery.delays)
            host.log.warning(f"{what} was not sent and is tried again. {error}")
            return
        delivery.delays = None
        if step == _FIRST:
            host.log.error(f"{what} cannot be sent; the answer goes out without it. {error}")
            delivery.opened = True
        elif delivery.final and delivery.handle is not None:
            host.log.error(f"{what} cannot be sent to its card; it goes out without it. {error}")
            delivery.handle = None
        else:
            host.log.error(f"{what} cannot be sent: given up. {error}")
            self._conclude(delivery, False)

    def _conclude(self, delivery: Delivery, delivered: bool) -> None:
        self._open.discard(delivery)
        if not delivery.done.done():
            delivery.done.set_result(delivered)
