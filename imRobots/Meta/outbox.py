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
from collections.abc import Callable
from typing import Any

from . import host
from .delivery import FIRST, LAST, PROGRESS, Delivery
from .models import IMRobotError, ReplyRefused, TransportError
from .pool import DaemonPool
from .reply import Outcome
from .timing import Deadline, backoff

_MAX_THREADS = 64
# The first card is tried for so many seconds before the answer goes out without it, the final one before it is lost.
_OPEN_SECONDS = 30.0
_FINISH_SECONDS = 300.0
# Sentences such as "busy" are answers to a flood: beyond this many waiting ones they are dropped.
_MAX_SENTENCES = 1000


class Outbox:
    """Sends deliveries until they are done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: list[tuple[int, int, Delivery]] = []  # heaps: step, place in line
        self._later: list[tuple[float, int, Delivery]] = []  # not before, place in line
        self._places = itertools.count()
        self._open: set[Delivery] = set()
        self._in_flight = 0
        self._closed = False
        self._pool = DaemonPool("imRobots-send")
        self._supervisor = threading.Thread(target=self._supervise, name="imRobots-outbox", daemon=True)
        self._supervisor.start()

    def change(self, delivery: Delivery, **fields: Any) -> None:
        """Set fields of a delivery, which then has something to send."""
        with self._changed:
            for name, value in fields.items():
                setattr(delivery, name, value)
            self._put_in_line(delivery)

    def finish(self, delivery: Delivery, final: tuple[str, Outcome]) -> bool:
        """Set the last word of a delivery; False if it has one already."""
        with self._changed:
            if delivery.final or delivery.done.done():
                return False
            delivery.final = final
            self._put_in_line(delivery)
            return True

    @property
    def unsent(self) -> int:
        """Deliveries that are not done."""
        return len(self._open)

    def close(self, deadline: Deadline) -> int:
        """Go on until everything is out or the deadline has come; returns how many deliveries were given up."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, deadline.left * 0.9)
            self._closed = True
            lost = list(self._open)
            for delivery in lost:
                self._conclude(delivery, False)
            self._changed.notify_all()
        self._supervisor.join(deadline.left)
        self._pool.close(deadline)
        return len(lost)

    def _put_in_line(self, delivery: Delivery) -> None:
        """The lock is held."""
        step = delivery.next_step
        if step is None or (delivery.in_line is not None and delivery.in_line[:2] <= step):
            return
        if delivery not in self._open and not self._has_room_for(delivery):
            host.log.warning("A reply was dropped: too many are waiting to be sent, or the robot has stopped.")
            self._conclude(delivery, False)
            return
        self._open.add(delivery)
        what, not_before = step
        place = next(self._places)
        delivery.in_line = (what, not_before, place)
        if not_before > time.monotonic():
            heapq.heappush(self._later, (not_before, place, delivery))
        else:
            heapq.heappush(self._ready, (what, place, delivery))
        self._changed.notify_all()

    def _has_room_for(self, delivery: Delivery) -> bool:
        if self._closed or delivery.sentence is None:
            return not self._closed
        return sum(waiting.sentence is not None for waiting in self._open) < _MAX_SENTENCES

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
                delivery.in_line = None
                delivery.in_flight = True
                self._in_flight += 1
            try:
                self._pool.run(lambda delivery=delivery, step=step: self._send(delivery, step))  # type: ignore[misc]
            except RuntimeError as error:  # not one thread can be had
                self._note(delivery, step, TransportError(f"no thread to send with: {error}"), None, delivery.text)

    def _next(self) -> tuple[Delivery, int] | None:
        """The most urgent delivery, if there is one and a thread may take it. The lock is held."""
        while self._later and self._later[0][0] <= time.monotonic():
            _, place, delivery = heapq.heappop(self._later)
            if delivery.in_line is not None:
                heapq.heappush(self._ready, (delivery.in_line[0], place, delivery))
        while self._ready and self._in_flight < _MAX_THREADS:
            step, place, delivery = heapq.heappop(self._ready)
            if delivery.in_line is not None and delivery.in_line[2] == place:  # else it has another place by now
                return delivery, step
        return None

    def _send(self, delivery: Delivery, step: int) -> None:
        text, error, handle = delivery.text, None, delivery.handle
        try:
            if delivery.sentence is not None:
                delivery.reply.say(delivery.sentence)
            elif step == FIRST:
                handle = delivery.reply.open(delivery.question)
            elif step == LAST and delivery.final:
                delivery.reply.finish(handle, *delivery.final)
            elif text:
                delivery.reply.progress(handle, text())
        except IMRobotError as caught:
            error = caught
        except BaseException as caught:  # a mistake in a Type or in somebody's override: no reason to lose the answer
            host.log.exception(f"Sending failed in an unexpected way: {caught!r}")
            error = ReplyRefused(repr(caught))
        self._note(delivery, step, error, handle, text)

    def _note(
        self,
        delivery: Delivery,
        step: int,
        error: IMRobotError | None,
        handle: Any = None,
        text: Callable[[], str] | None = None,
    ) -> None:
        """What a call came to, and what is next."""
        given_up = False
        if error:
            with self._changed:
                say, trouble, given_up = self._note_failure(delivery, step, error)
            say(f"{trouble} {error}")  # without the lock: a log may be slow, and agents need the lock to stream
        with self._changed:
            delivery.in_flight = False
            self._in_flight -= 1
            if not error:
                delivery.delays, delivery.retry_at = None, 0.0
                if step == FIRST:
                    delivery.opened, delivery.handle = True, handle
            if step == PROGRESS:  # sent or failed, it counts; what is newer goes out next
                delivery.updates += 1
                if delivery.text is text:
                    delivery.text = None
            if given_up or (step == LAST and not error):
                self._conclude(delivery, not given_up)
            self._put_in_line(delivery)
            self._changed.notify_all()

    def _note_failure(
        self, delivery: Delivery, step: int, error: IMRobotError
    ) -> tuple[Callable[[str], None], str, bool]:
        """Decide whether a failed call is made again. The lock is held.

        Returns how and what to log, and whether the delivery is given up.
        """
        what = ("The last word", "A first card", "A progress")[step]
        if step == PROGRESS:
            return host.log.warning, f"{what} was not sent; the next update replaces it.", False
        now = time.monotonic()
        if delivery.delays is None:
            delivery.delays = backoff(0.5, 10.0)
            delivery.give_up_at = now + (_OPEN_SECONDS if step == FIRST else _FINISH_SECONDS)
        if isinstance(error, TransportError) and now < delivery.give_up_at:
            delivery.retry_at = now + next(delivery.delays)
            return host.log.warning, f"{what} was not sent and is tried again.", False
        delivery.delays, delivery.retry_at = None, 0.0
        if step == FIRST:
            delivery.opened = True
            return host.log.error, f"{what} cannot be sent; the answer goes out without it.", False
        if delivery.final and delivery.handle is not None:
            delivery.handle = None
            return host.log.error, f"{what} cannot be sent to its card; it goes out without it.", False
        return host.log.error, f"{what} cannot be sent: given up.", True

    def _conclude(self, delivery: Delivery, delivered: bool) -> None:
        self._open.discard(delivery)
        if not delivery.done.done():
            delivery.done.set_result(delivered)
