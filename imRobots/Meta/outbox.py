"""The sending lane: everything that people see goes out through here, from threads of its own.

Owns the order per card (open, progress, finish, one call at a time, the latest text wins), the priorities (final
answer, first card, progress), the pace and the retries. `Delivery`'s methods return at once and may be called from any
thread; the `Reply` is called on the outbox's threads. One supervisor thread gives what is due to threads that are free,
so that a burst starts no threads on the caller's side; when none is free, the first that becomes so takes the most
urgent itself. A final answer never waits behind somebody's progress.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from typing import Any

from . import host
from .delivery import FIRST, LAST, PROGRESS, Delivery, Step
from .limiter import Limiter
from .models import IMRobotError, RateLimited, ReplyRefused, TransportError, Unconfirmed
from .pool import DaemonPool
from .reply import Outcome
from .timing import Deadline, backoff

Taken = tuple[Delivery, Step]

_MAX_THREADS = 96
_MAX_PROGRESS_THREADS = 16  # the others are free for first and last words, even if every progress hangs
# The first card is tried for so many seconds before the answer goes out without it, the final one before it is lost.
_OPEN_SECONDS = 30.0
_FINISH_SECONDS = 300.0
# An update whose outcome nobody knows has landed after so many seconds, or never will.
_UNSURE_SECONDS = 15.0
# Under the pace, a card that has stood still for so many seconds may take a place from others' last words.
_STILL_SECONDS = 4.0
_WARN_SECONDS = 60.0  # from one warning to the next of the same trouble
# Sentences such as "busy" are answers to a flood: beyond this many waiting ones they are dropped.
_MAX_SENTENCES = 1000


class Outbox:
    """Sends deliveries until they are done."""

    def __init__(self, full_name: str, limiter: Limiter) -> None:
        """`full_name`: the element's, for the log."""
        self._full_name = full_name
        self._limiter = limiter
        self._changed = threading.Condition()
        self._ready: dict[str, list[tuple[int, int, Delivery]]] = {
            "update": [],
            "open": [],
            "more": [],
            "say": [],
        }
        self._later: list[tuple[float, int, Delivery]] = []  # heaps as well: not before, place in line
        self._places = itertools.count()
        self._open: set[Delivery] = set()
        self._ended: list[tuple[Delivery, bool]] = []
        self._in_flight = 0
        self._warned: dict[str, float] = {}
        self._unsure_seconds = _UNSURE_SECONDS
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
        self._announce_ended()

    def finish(self, delivery: Delivery, final: tuple[str, Outcome]) -> bool:
        """Set the last word of a delivery; False if it has one already."""
        with self._changed:
            if delivery.final or delivery.ended:
                return False
            delivery.final = final
            self._put_in_line(delivery)
        self._announce_ended()
        return True

    @property
    def unsent(self) -> int:
        """Deliveries that are not done."""
        return sum(not delivery.ended for delivery in list(self._open))

    def close(self, deadline: Deadline) -> int:
        """Go on until everything is out or the deadline has come; returns how many deliveries were given up."""
        with self._changed:
            self._unsure_seconds = 0.0
            for delivery in list(self._open):
                if delivery.repeat_at:
                    delivery.repeat_at = time.monotonic()
                    self._put_in_line(delivery)
            self._changed.wait_for(lambda: not self._open, deadline.left * 0.9)
            self._closed = True
            lost = [delivery for delivery in self._open if not delivery.ended]
            for delivery in lost:
                self._conclude(delivery, False)
            self._changed.notify_all()
        self._announce_ended()
        self._supervisor.join(deadline.left)
        self._pool.close(deadline)
        return len(lost)

    def _put_in_line(self, delivery: Delivery) -> None:
        """The lock is held."""
        step = delivery.next_step
        if step is None or (delivery.in_line is not None and delivery.in_line[0] <= step):
            return
        if delivery not in self._open and not self._has_room_for(delivery):
            host.log.warning(
                f"{self._full_name}: a reply was dropped: too many are waiting to be sent, or the robot has stopped."
            )
            self._conclude(delivery, False)
            return
        self._open.add(delivery)
        place = next(self._places)
        delivery.in_line = (step, place)
        if step.due > time.monotonic():
            heapq.heappush(self._later, (step.due, place, delivery))
        else:
            heapq.heappush(self._ready[step.api], (step.urgency, place, delivery))
            if self._in_flight >= _MAX_THREADS:
                return  # the first thread that is free takes it
        self._changed.notify_all()

    def _has_room_for(self, delivery: Delivery) -> bool:
        if self._closed or delivery.sentence is None:
            return not self._closed
        return sum(waiting.sentence is not None for waiting in self._open) < _MAX_SENTENCES

    def _supervise(self) -> None:
        while taken := self._wait_for_next():
            while taken:
                try:
                    self._pool.run(functools.partial(self._send_on, taken))
                    break
                except RuntimeError as error:  # not one thread can be had
                    delivery, step = taken
                    taken = self._send(delivery, step, TransportError(f"no thread to send with: {error}"))

    def _wait_for_next(self) -> Taken | None:
        """None when it is closed."""
        with self._changed:
            while True:
                taken, look_again = self._next()
                if taken is not None or self._closed:
                    return taken
                self._changed.wait(None if look_again is None else max(0.0, look_again - time.monotonic()))

    def _next(self) -> tuple[Taken | None, float | None]:
        """Take the most urgent delivery that a thread and the pace are free for; else say when to look again.

        None for the time: when something changes. The lock is held.
        """
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, place, delivery = heapq.heappop(self._later)
            if delivery.in_line is not None and delivery.in_line[1] == place:
                step, _ = delivery.in_line
                heapq.heappush(self._ready[step.api], (step.urgency, place, delivery))
        times = [self._later[0][0]] if self._later else []
        for ready in self._ready.values():
            while ready and (ready[0][2].in_line is None or ready[0][2].in_line[1] != ready[0][1]):
                heapq.heappop(ready)  # it has another place by now
        for api, ready in sorted(self._ready.items(), key=lambda item: item[1][:1]):
            if not ready:
                continue
            urgency, _, delivery = ready[0]
            if self._in_flight >= (_MAX_PROGRESS_THREADS if urgency == PROGRESS else _MAX_THREADS):
                continue
            leave, still_at = 0, delivery.shown_at + _STILL_SECONDS
            if urgency == PROGRESS:  # a place for each last word that may come; of cards that stand still, half at most
                leave = len(self._open) if now < still_at else min(len(self._open), self._limiter.per_second // 2)
            free_at = self._limiter.take(api, now, leave)
            if free_at:
                times.append(min(free_at, still_at) if leave and now < still_at else free_at)
                continue
            heapq.heappop(ready)
            assert delivery.in_line is not None
            step, _ = delivery.in_line
            delivery.in_line, delivery.in_flight = None, True
            self._in_flight += 1
            return (delivery, step), None
        return None, min(times, default=None)

    def _send_on(self, taken: Taken | None) -> None:
        """Send, and go on with what is most urgent then: when hundreds wait, each change of threads costs time."""
        while taken is not None:
            taken = self._send(*taken)

    def _send(self, delivery: Delivery, step: Step, lack: TransportError | None = None) -> Taken | None:
        """Make one call, or fail for want of something; returns the next that this thread may make."""
        text, error, handle, more = delivery.text, None, delivery.handle, False
        reply = delivery.reply
        try:
            if lack:
                raise lack
            if delivery.sentence is not None:
                reply.say(delivery.sentence)
            elif not delivery.opened:
                handle = reply.open(delivery.question)
            elif delivery.final and (step.urgency == LAST or delivery.ended):
                more = bool(reply.finish(handle, *delivery.final))
            elif step.urgency == FIRST:
                reply.say(reply.texts.thinking)
            elif text:
                reply.progress(handle, text())
        except IMRobotError as caught:
            error = caught
        except BaseException as caught:  # a mistake in a Type or in somebody's override: no reason to lose the answer
            host.log.exception(f"{self._full_name}: sending failed in an unexpected way: {caught!r}")
            error = ReplyRefused(repr(caught))
        return self._note(delivery, step, error, handle, text, more)

    def _note(
        self,
        delivery: Delivery,
        step: Step,
        error: IMRobotError | None,
        handle: Any,
        text: Callable[[], str] | None,
        more: bool,
    ) -> Taken | None:
        """What a call came to, and what is next."""
        given_up = False
        opening = step.api == "open"
        if isinstance(error, RateLimited):
            self._limiter.slow_down(step.api, time.monotonic())
        if error:
            with self._changed:
                say, trouble, given_up = self._note_failure(delivery, step, error)
            if say == host.log.warning and not self._is_new(f"{trouble} {type(error).__name__}"):
                say = host.log.debug
            say(f"{self._full_name}: {trouble} {error}")  # without the lock: a log may be slow, and agents need it
        elif opening:
            self._tell_of(delivery, handle)
        with self._changed:
            delivery.in_flight = False
            self._in_flight -= 1
            if not error:
                delivery.delays, delivery.retry_at = None, 0.0
                delivery.shown_at = time.monotonic()
                delivery.is_partly_out = more
                if opening:
                    delivery.opened, delivery.handle = True, handle
            if step.urgency == FIRST and not opening:
                delivery.reassured = True
            if step.urgency == PROGRESS and not delivery.ended:  # sent or failed, it counts; what is newer goes next
                delivery.updates += 1
                delivery.unsure |= isinstance(error, Unconfirmed)
                if delivery.text is text:
                    delivery.text = None
            if delivery.ended:
                delivery.repeat_at = 0.0
                self._open.discard(delivery)
            elif given_up or (step.urgency == LAST and not error and not more):
                self._conclude(delivery, not given_up)
            self._put_in_line(delivery)
            taken, _ = (None, None) if self._closed else self._next()
            if taken is None or self._in_flight < _MAX_THREADS:
                self._changed.notify_all()
        self._announce_ended()
        return taken

    def _is_new(self, trouble: str) -> bool:
        """Whether it is worth a line: in an outage, every answer meets the same."""
        now = time.monotonic()
        known = trouble in self._warned and now < self._warned[trouble] + _WARN_SECONDS
        if not known:
            self._warned[trouble] = now
        return not known

    def _tell_of(self, delivery: Delivery, handle: Any) -> None:
        try:
            delivery.on_open(handle)
        except BaseException:  # the card is there, and wants its answer
            host.log.exception(f"{self._full_name}: the card {handle!r} cannot be remembered")

    def _note_failure(
        self, delivery: Delivery, step: Step, error: IMRobotError
    ) -> tuple[Callable[[str], None], str, bool]:
        """Decide whether a failed call is made again. The lock is held.

        Returns how and what to log, and whether the delivery is given up.
        """
        what = ("the last word", "a first card", "a progress")[step.urgency]
        if delivery.repeat_at:
            return host.log.warning, "the last word was not sent once more, to replace an older update.", False
        if delivery.ended:
            return host.log.warning, f"{what} was not sent before the robot had to stop.", False
        if step.urgency == PROGRESS:
            return host.log.warning, f"{what} was not sent; the next update replaces it.", False
        if step.urgency == FIRST and step.api == "say":
            return host.log.warning, "a sign of life was not sent.", False
        now = time.monotonic()
        if delivery.delays is None:
            delivery.delays = backoff(0.5, 10.0)
            delivery.give_up_at = now + (_OPEN_SECONDS if step.urgency == FIRST else _FINISH_SECONDS)
        if isinstance(error, TransportError) and now < delivery.give_up_at:
            delivery.retry_at = now + next(delivery.delays)
            return host.log.warning, f"{what} was not sent and is tried again.", False
        delivery.delays, delivery.retry_at = None, 0.0
        if step.urgency == FIRST:
            delivery.opened = True
            return host.log.error, f"{what} cannot be sent; the answer goes out without it.", False
        if delivery.final and delivery.handle is not None:
            delivery.handle = None
            return host.log.error, f"{what} cannot be sent to its card; it goes out without it.", False
        return host.log.error, f"{what} cannot be sent: given up.", True

    def _conclude(self, delivery: Delivery, delivered: bool) -> None:
        """The lock is held."""
        delivery.ended = True
        self._ended.append((delivery, delivered))
        if delivered and delivery.unsure and delivery.handle is not None and not self._closed:
            delivery.repeat_at = time.monotonic() + self._unsure_seconds
        else:
            self._open.discard(delivery)

    def _announce_ended(self) -> None:
        """Without the lock: whoever waits for a delivery may do more than a moment's work."""
        while self._ended:
            try:
                delivery, delivered = self._ended.pop(0)
            except IndexError:  # another thread was faster
                return
            with contextlib.suppress(InvalidStateError):  # a mistake has ended it already
                delivery.done.set_result(delivered)
