"""The use case: a message comes in, an agent answers, the answer goes out.

Owns the journey of a message between a Type's handler and a Type's reply, and one thread, which takes messages in and
looks at the time. Knows no platform and opens no connection. `Robot.submit` may be called on an event loop: it only
puts the message on a queue.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import host
from .answer import GrowingAnswer, tells_of_an_act
from .budget import Budget
from .delivery import Delivery
from .health import Health, in_words
from .limiter import limiter_for
from .models import AgentError, Busy, IncomingMessage
from .outbox import Outbox
from .reply import Outcome, Reply
from .store import Store, Unfinished
from .timing import Deadline
from .worker import Worker

if TYPE_CHECKING:
    from .config import RobotConfig

_MAX_INTAKE = 10_000
# Seconds that a question waits before its card shows its place in the queue, then from one look to the next. These
# are updates of the card too, and an answer of two minutes needs the others.
_PLACE_AFTER = (2.0, 10.0, 50.0)
# A session's next question waits so long for a run that took too long; then both run.
_RELEASE_SECONDS = 60.0
_LOOK_SECONDS = 60.0
_STATUS = "/status"


class _Question:
    """A question on its way to its answer. Called, it is the worker's job."""

    def __init__(
        self, message: IncomingMessage, delivery: Delivery, growing: GrowingAnswer, answer: Callable[[_Question], None]
    ) -> None:
        self.message = message
        self.delivery = delivery
        self.growing = growing
        self.has_acted = False
        self._answer = answer

    def __call__(self) -> None:
        self._answer(self)


class Robot:
    """Answers messages until it is closed."""

    def __init__(
        self,
        element: Any,
        config: RobotConfig,
        reply_to: Callable[[IncomingMessage], Reply],
        store: Store,
        *,
        account: str = "",
        status: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """`config` is the instance's; `reply_to` makes the Type's reply to a message, on the intake thread.

        `account` names the platform's application, whose robots share its limits. `status` is the whole status, for an
        administrator who asks in the chat.
        """
        self._element = element
        self._config = config
        self._reply_to = reply_to
        self._store = store
        self._whole_status = status or self.status
        self._agent = host.Agent(element, config.agent, config.agentCall)
        self._tried_side_by_side = False
        # One slot until it is known that agents may run side by side; till then, those who would have one wait.
        self._worker = Worker(1, config.maxQueue + config.maxConcurrency - 1)
        self._outbox = Outbox(element.fullName, limiter_for(account or element.fullName, config.apiQps))
        self._budget = Budget(element.fullName, config.monthlyApiBudget, store)
        self._health = Health("received", "answered", "failed", "declined", "duplicate")
        self._questions: set[_Question] = set()
        self._intake: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []  # a heap; only of the intake thread
        self._numbers = itertools.count()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="imRobots-intake", daemon=True)
        self._thread.start()

    def submit(self, message: IncomingMessage) -> Future[bool]:
        """Answer a message. Returns at once and never blocks; any thread.

        The future resolves to True when the last word to it is out, to False when it could not be sent.
        """
        done: Future[bool] = Future()
        done.set_running_or_notify_cancel()  # so that nobody who awaits it can cancel the answer
        with self._lock:
            if not self._closed and self._intake.qsize() < _MAX_INTAKE:
                self._intake.put(functools.partial(self._take, message, done))
                return done
        why = "came after the robot was stopped" if self._closed else "is one too many to be read"
        host.log.error(f"{self._element.fullName}: message {message.message_id} {why}; it is not answered")
        done.set_result(False)
        return done

    def status(self) -> dict[str, Any]:
        """Counters since the robot was made, what it is doing, this month's counts, durations. Reads a file.

        `in_flight`: agents running; `queued`: questions that wait for one; `abandoned`: agents that run longer than
        they may; `unsent`: replies that are not all out.
        """
        return {
            **self._health.status(),
            "in_flight": self._worker.running,
            "queued": self._worker.waiting,
            "abandoned": self._worker.abandoned,
            "unsent": self._outbox.unsent,
            "month": {"calls": self._store.counted("calls"), "pushes": self._store.counted("pushes")},
        }

    def close(self, deadline: Deadline) -> None:
        """Take no more messages, let answers finish until shortly before the deadline, tell the others. Any thread.

        An agent that is still running then cannot be killed: its result will be dropped.
        """
        taken = threading.Event()
        with self._lock:
            self._closed = True
            self._intake.put(taken.set)  # the thread goes on, to look at the time
        while self._thread.is_alive() and deadline.left and not taken.wait(min(0.1, deadline.left)):
            continue  # it may have ended already, if this is the second time
        left = self._worker.close(Deadline(deadline.left * 0.8))
        for question in list(self._questions):
            self._end(question, question.delivery.reply.texts.interrupted, "interrupted")
        unsent = self._outbox.close(deadline)
        self._intake.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(deadline.left)
        if left or unsent:
            host.log.warning(
                f"{self._element.fullName}: stopped with {left} agents still running, whose results will be "
                f"dropped, and with {unsent} replies that could not be sent."
            )

    # ---- on the intake thread

    def _work(self) -> None:
        self._guard(self._finish_what_was_left)
        while True:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            with contextlib.suppress(queue.Empty):
                work = self._intake.get(timeout=timeout)
                if work is None:
                    return
                self._guard(work)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._guard(heapq.heappop(self._timers)[2])

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # a mistake in a Type's reply or texts: the next message must still be taken
            host.log.exception(f"{self._element.fullName}: a message could not be taken in")

    def _in(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something later on the intake thread. Any thread."""
        timer = (time.monotonic() + seconds, next(self._numbers), work)
        if threading.current_thread() is self._thread:
            heapq.heappush(self._timers, timer)
        else:
            self._intake.put(functools.partial(heapq.heappush, self._timers, timer))

    def _take(self, message: IncomingMessage, done: Future[bool]) -> None:
        self._health.count("received")
        delivery: Delivery | None = None
        try:
            self._store.count("pushes")
            reply = self._reply_to(message)
            if self._store.accept(message):
                delivery = self._delivery(message, reply, done)
                self._begin(message, delivery)
                return
            self._health.count("duplicate")
            host.log.info(f"{self._element.fullName}: message {message.message_id} was delivered again; ignored")
            done.set_result(True)
        except BaseException:
            if delivery is None:
                self._health.count("failed")
            if not done.done():
                done.set_result(False)
            raise

    def _finish_what_was_left(self) -> None:
        """What a killed process has left unanswered, or a robot that had to stop. At the start, and every minute."""
        if self._closed:
            return
        self._in(_LOOK_SECONDS, self._finish_what_was_left)
        for left in self._store.take_over():
            self._guard(functools.partial(self._resume, left))

    def _resume(self, left: Unfinished) -> None:
        """Ask again where that is harmless and the question is fresh, else own up to it."""
        message = left.message
        delivery = self._delivery(message, self._reply_to(message), Future())
        again = bool(message.problem) or (not left.spent and left.age < self._config.resumeWithin)
        what = "sent" if left.answer else "asked again" if again else "ended with an apology"
        host.log.info(f"{self._element.fullName}: message {message.message_id} was left unanswered; {what}")
        # What the killed process sent last may still land. Where no card is known, there may be one all the same: it is
        # opened again, which makes no second one.
        delivery.unsure = True
        if left.handle is not None:
            delivery.resume(left.handle)
        if left.answer:
            delivery.finish(*left.answer)
        elif again:
            self._store.spend(message.message_id)  # once: a question may be what kills the process
            self._begin(message, delivery)
        else:
            delivery.finish(delivery.reply.texts.interrupted, "interrupted")

    def _delivery(self, message: IncomingMessage, reply: Reply, done: Future[bool]) -> Delivery:
        asked_at = time.monotonic()

        def opened(handle: Any) -> None:
            if handle is not None:
                self._health.took("first_card", time.monotonic() - asked_at)
                self._store.bind(message.message_id, handle)

        delivery = Delivery(self._outbox, reply, message.text, done, opened)
        done.add_done_callback(lambda done: self._note_end(message, delivery, done.result(), asked_at))
        return delivery

    def _note_end(self, message: IncomingMessage, delivery: Delivery, delivered: bool, asked_at: float) -> None:
        if delivered or not self._closed:
            self._store.done(message.message_id)
        else:
            self._store.leave(message.message_id)
        if delivery.final is None and delivered:
            if delivery.sentence is not None:
                self._health.count("declined")
            return
        answered = delivered and delivery.final is not None and delivery.final[1] == "answered"
        self._health.count("answered" if answered else "failed")
        if answered:
            self._health.took("answer", time.monotonic() - asked_at)

    def _begin(self, message: IncomingMessage, delivery: Delivery) -> None:
        texts = delivery.reply.texts
        if message.problem == "quota":
            host.log.error(f"{self._element.fullName}: the platform withheld a message because a quota is used up")
            if not self._store.once_a_day(f"quota {message.conversation_id}"):
                delivery.done.set_result(True)
                return
        if message.problem:
            delivery.say(getattr(texts, message.problem))
            return
        if message.from_admin and message.text.lower() == _STATUS:
            delivery.say(in_words(texts.status, self._whole_status()))
            return
        delivery.frugal, spent = self._budget.look()
        if spent and not delivery.opened and not delivery.unsure:
            delivery.resume(None)
        growing = GrowingAnswer(time.monotonic(), self._warn_of_chunk_type)
        question = _Question(message, delivery, growing, self._answer)
        self._questions.add(question)
        delivery.done.add_done_callback(lambda _: self._questions.discard(question))
        try:
            self._worker.submit(message.session, question)
        except Busy as busy:
            self._decline(delivery, texts.one_at_a_time if busy.one_session else texts.busy)
            return
        if not delivery.opened:
            delivery.open()
        looks = iter(_PLACE_AFTER)
        self._in(next(looks), functools.partial(self._show_place, question, looks))

    def _decline(self, delivery: Delivery, sentence: str) -> None:
        if delivery.opened or delivery.unsure:
            delivery.finish(sentence, "interrupted")
        else:
            delivery.say(sentence)

    def _show_place(self, question: _Question, looks: Iterator[float]) -> None:
        def show(places: dict[Any, int]) -> None:
            if place := places.get(question):
                delivery = question.delivery
                delivery.progress(lambda: delivery.reply.texts.place.format(place=place))
                if seconds := next(looks, None):
                    self._in(seconds, functools.partial(self._show_place, question, looks))

        self._worker.look_at_places(show)

    def _give_up_on(self, running: weakref.ref[_Question]) -> None:
        """The agent has run for `agentTimeout`."""
        question = running()
        if question is None or question.delivery.final:
            return
        dropped = self._worker.abandon(question)
        if dropped is None:
            return
        full_name, agent = self._element.fullName, self._config.agent
        host.log.error(
            f"{full_name}: {agent} has run for {self._config.agentTimeout:g} s (agentTimeout) on message "
            f"{question.message.message_id} and is waited for no longer"
        )
        self._end(question, question.delivery.reply.texts.timed_out, "failed")
        self._in(_RELEASE_SECONDS, functools.partial(self._worker.release, question))
        if self._worker.is_jammed:
            host.log.error(
                f"{full_name}: {self._worker.abandoned} runs of {agent} hang, as many as may run at a time. Questions "
                "are turned away until one of them ends; see what it waits for, or restart the app."
            )
        for waiting in self._questions & dropped:
            waiting.delivery.finish(waiting.delivery.reply.texts.busy, "interrupted")

    def _end(self, question: _Question, sentence: str, outcome: Outcome) -> None:
        """The last word where the agent has not had it."""
        if not question.delivery.final:
            text = _ending(question.growing, sentence)
            self._store.keep_answer(question.message.message_id, text, outcome)
            question.delivery.finish(text, outcome)

    # ---- on an agent thread

    def _answer(self, question: _Question) -> None:
        """Ask the agent and hand on what it says."""
        message, delivery, growing = question.message, question.delivery, question.growing

        def stream_callback(chunk: object) -> None:
            if delivery.final:
                return  # it was given up; what comes now is for nobody
            if not question.has_acted and tells_of_an_act(chunk):
                self._store.spend(message.message_id)  # before the agent goes on, and acts
                question.has_acted = True
            due = growing.add(chunk, time.monotonic())
            if due is not None:
                delivery.progress(lambda: growing.show(time.monotonic()), due)

        outcome: Outcome = "answered"
        # Weak: until then, the answer is long out, and need not be kept.
        self._in(self._config.agentTimeout, functools.partial(self._give_up_on, weakref.ref(question)))
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
        if not delivery.final:
            self._store.keep_answer(message.message_id, text, outcome)
        if not delivery.finish(text, outcome):
            host.log.warning(f"{self._element.fullName}: the late answer to {message.message_id} was dropped")

    def _allow_side_by_side(self) -> None:
        """Before the first answer, while the worker has one slot."""
        if not self._tried_side_by_side:
            slots = self._config.maxConcurrency if self._agent.may_run_side_by_side() else 1
            self._tried_side_by_side = True
            self._worker.set_slots(slots, self._config.maxQueue)

    def _warn_of_chunk_type(self, kind: str) -> None:
        host.warn_once(f"{self._element.fullName}: chunks of the unknown type {kind} are read as answer text")


def _ending(growing: GrowingAnswer, sentence: str) -> str:
    """What has come so far is kept, and the sentence says that it is not all."""
    return f"{growing.text}\n\n{sentence}" if growing.text else sentence
