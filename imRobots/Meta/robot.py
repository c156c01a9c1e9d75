"""The use case: a message comes in, an agent answers, the answer goes out.

Owns the journey of a message between a Type's handler and a Type's reply, and one intake thread. Knows no platform and
opens no connection. `Robot.submit` may be called on an event loop: it only puts the message on a queue.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from . import host
from .answer import GrowingAnswer
from .delivery import Delivery
from .models import AgentError, Busy, IncomingMessage
from .outbox import Outbox
from .reply import Outcome, Reply
from .store import Store
from .timing import Deadline
from .worker import Worker

if TYPE_CHECKING:
    from .config import RobotConfig

_MAX_INTAKE = 10_000
# Seconds that a question waits before its card shows its place in the queue, then from one look to the next. These
# are updates of the card too, and an answer of two minutes needs the others.
_PLACE_AFTER = (2.0, 10.0, 50.0)


class Robot:
    """Answers messages until it is closed."""

    def __init__(
        self, element: Any, config: RobotConfig, reply_to: Callable[[IncomingMessage], Reply], store: Store
    ) -> None:
        """`config` is the instance's; `reply_to` makes the Type's reply to a message, on the intake thread."""
        self._element = element
        self._config = config
        self._reply_to = reply_to
        self._store = store
        self._agent = host.Agent(element, config.agent, config.agentCall)
        self._tried_side_by_side = False
        self._worker = Worker(1, config.maxQueue)  # one slot until it is known that agents may run side by side
        self._outbox = Outbox()
        self._answers: dict[Delivery, GrowingAnswer] = {}
        self._waiting: list[tuple[float, int, Iterator[float], Delivery]] = []  # a heap: when to look at which ticket
        self._intake: queue.Queue[tuple[IncomingMessage, Future[bool]] | None] = queue.Queue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._take_messages, name="imRobots-intake", daemon=True)
        self._thread.start()

    def submit(self, message: IncomingMessage) -> Future[bool]:
        """Answer a message. Returns at once and never blocks; any thread.

        The future resolves to True when the last word to it is out, to False when it could not be sent.
        """
        done: Future[bool] = Future()
        done.set_running_or_notify_cancel()  # so that nobody who awaits it can cancel the answer
        with self._lock:
            if not self._closed and self._intake.qsize() < _MAX_INTAKE:
                self._intake.put((message, done))
                return done
        why = "came after the robot was stopped" if self._closed else "is one too many to be read"
        host.log.error(f"{self._element.fullName}: message {message.message_id} {why}; it is not answered")
        done.set_result(False)
        return done

    def status(self) -> dict[str, int]:
        """Agents running, questions waiting for one, replies that are not all out. Any thread."""
        return {"running": self._worker.running, "waiting": self._worker.waiting, "unsent": self._outbox.unsent}

    def close(self, deadline: Deadline) -> None:
        """Take no more messages, let answers finish until shortly before the deadline, tell the others. Any thread.

        An agent that is still running then cannot be killed: its result will be dropped.
        """
        with self._lock:
            self._closed = True
            self._intake.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(deadline.left)
        abandoned = self._worker.close(Deadline(deadline.left * 0.8))
        for delivery, growing in list(self._answers.items()):
            delivery.finish(_ending(growing, delivery.reply.texts.interrupted), "interrupted")
        unsent = self._outbox.close(deadline)
        if abandoned or unsent:
            host.log.warning(
                f"{self._element.fullName}: stopped with {abandoned} agents still running, whose results will be "
                f"dropped, and with {unsent} replies that could not be sent."
            )

    def _take_messages(self) -> None:
        while True:
            timeout = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            item: tuple[IncomingMessage, Future[bool]] | Literal["places"] | None = "places"
            with contextlib.suppress(queue.Empty):
                item = self._intake.get(timeout=timeout)
            if item is None:
                return
            try:
                if item == "places":
                    self._worker.look_at_places(self._show_places)
                else:
                    self._take(*item)
            except Exception:  # a mistake in a Type's reply or texts: the next message must still be taken
                host.log.exception(f"{self._element.fullName}: a message could not be taken in")
                if item != "places" and not item[1].done():
                    item[1].set_result(False)

    def _take(self, message: IncomingMessage, done: Future[bool]) -> None:
        delivery = Delivery(self._outbox, self._reply_to(message), message.text, done)
        if not self._store.accept(message.message_id):
            host.log.info(f"{self._element.fullName}: message {message.message_id} was delivered again; ignored")
            done.set_result(True)
            return
        texts = delivery.reply.texts
        if message.problem == "quota":
            host.log.error(f"{self._element.fullName}: the platform withheld a message because a quota is used up")
            if not self._store.once_a_day(f"quota {message.conversation_id}"):
                done.set_result(True)
                return
        if message.problem:
            delivery.say(getattr(texts, message.problem))
            return
        growing = GrowingAnswer(time.monotonic(), self._warn_of_chunk_type)
        try:
            ticket = self._worker.submit(message.session, lambda: self._answer(message, delivery, growing))
        except Busy as busy:
            delivery.say(texts.one_at_a_time if busy.one_session else texts.busy)
            return
        self._answers[delivery] = growing
        done.add_done_callback(lambda _: self._answers.pop(delivery, None))
        delivery.open()
        looks = iter(_PLACE_AFTER)
        heapq.heappush(self._waiting, (time.monotonic() + next(looks), ticket, looks, delivery))

    def _answer(self, message: IncomingMessage, delivery: Delivery, growing: GrowingAnswer) -> None:
        """Ask the agent and hand on what it says. On an agent thread."""

        def stream_callback(chunk: object) -> None:
            due = growing.add(chunk, time.monotonic())
            if due is not None:
                delivery.progress(lambda: growing.show(time.monotonic()), due)

        outcome: Outcome = "answered"
        try:
            self._allow_side_by_side()
            if delivery.has_progressed:  # the card shows its place in the queue
                delivery.progress(lambda: delivery.reply.texts.thinking)
            text = self._agent.run(message.text, message.session, stream_callback)
            if not text.strip():
                text = growing.text
            if not text.strip():
                raise AgentError(f"{self._config.agent} ended without an answer")
        except BaseException:  # an agent that calls sys.exit() owes an answer like any other
            host.log.exception(f"{self._element.fullName}: {self._config.agent} failed on message {message.message_id}")
            text, outcome = _ending(growing, delivery.reply.texts.failed), "failed"
        if not delivery.finish(text, outcome):
            host.log.warning(f"{self._element.fullName}: the late answer to {message.message_id} was dropped")

    def _allow_side_by_side(self) -> None:
        """Before the first answer, while the worker has one slot."""
        if not self._tried_side_by_side:
            slots = self._config.maxConcurrency if self._agent.may_run_side_by_side() else 1
            self._tried_side_by_side = True
            self._worker.set_slots(slots)

    def _show_places(self, places: dict[int, int]) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, ticket, looks, delivery = heapq.heappop(self._waiting)
            if ticket in places:
                sentence = delivery.reply.texts.place.format(place=places[ticket])
                delivery.progress(lambda sentence=sentence: sentence)  # type: ignore[misc]
                if seconds := next(looks, None):
                    heapq.heappush(self._waiting, (time.monotonic() + seconds, ticket, looks, delivery))

    def _warn_of_chunk_type(self, kind: str) -> None:
        host.warn_once(f"{self._element.fullName}: chunks of the unknown type {kind} are read as answer text")


def _ending(growing: GrowingAnswer, sentence: str) -> str:
    """What has come so far is kept, and the sentence says that it is not all."""
    return f"{growing.text}\n\n{sentence}" if growing.text else sentence
