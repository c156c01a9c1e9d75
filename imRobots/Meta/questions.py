"""The questions that are being answered: each waits for its turn, runs its agent, is given up or stopped.

Owns the agents' lane, and which question is where. `ask`, `Question.stop` and the timers run on a robot's own thread
(the question's, or that of the robot after it), the agents on theirs. Knows no platform, and sends nothing but through
a question's delivery.
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import host, markdown
from .answer import GrowingAnswer, tells_of_an_act
from .delivery import Delivery
from .models import AgentError, IncomingMessage
from .one_thread import Batch, OneThread
from .reply import Outcome
from .store import KeptAnswer, Store
from .timing import Deadline
from .worker import Worker

if TYPE_CHECKING:
    from .config import RobotConfig

# Seconds that a question waits before its card shows its place in the queue, then from one look to the next. These
# are updates of the card too, and an answer of two minutes needs the others.
_PLACE_AFTER = (2.0, 10.0, 50.0)
# A session's next question waits so long for a run that took too long; then both run.
_RELEASE_SECONDS = 60.0
# The same for a run that was stopped, and may not have noticed.
_STOP_SECONDS = 10.0


class Question:
    """A question on its way to its answer. Called, it is the worker's job."""

    def __init__(
        self, message: IncomingMessage, delivery: Delivery, growing: GrowingAnswer, asked_by: Questions
    ) -> None:
        self.message = message
        self.delivery = delivery
        self.growing = growing
        self.asked_by = asked_by
        self.has_acted = False
        self.is_stopped = False

    def __call__(self) -> None:
        self.asked_by._answer(self)

    def stop(self) -> None:
        """End its card with what it has. The agent cannot be killed: it is told when it next hands over a chunk."""
        self.asked_by._stop(self)


class Stopped(Exception):
    """Raised into an agent, from its `stream_callback`: nobody wants this answer any more."""


class Questions:
    """The questions of one robot, from `ask` until their last word is out; it finds those of its predecessor, too."""

    def __init__(
        self,
        element: Any,
        config: RobotConfig,
        jit_app: host.JitApp,
        store: Store,
        robot_thread: OneThread,
        note: Callable[[Callable[[], object]], None],
    ) -> None:
        """`note` has the robot's thread do something with the store; nobody waits for that."""
        self._full_name: str = element.fullName
        self._config = config
        self._app = jit_app
        self._store = store
        self._robot_thread = robot_thread
        self._note = note
        # Of all that have come at once, the agents start first: they take their time.
        self._cards = Batch(robot_thread, _open_cards)
        self._tried_side_by_side = False
        # One slot until it is known that agents may run side by side; till then, those who would have one wait.
        self._worker = Worker(1, config.maxQueue + config.maxConcurrency - 1)
        self._questions = _questions_of(self._full_name)

    def ask(self, message: IncomingMessage, delivery: Delivery, line: str) -> None:
        """Answer a message with the agent. Those of one `line` are answered one after the other.

        Raises `Busy` where too many wait; then nothing was shown.
        """
        texts = delivery.reply.texts
        growing = GrowingAnswer(
            time.monotonic(),
            self._warn_of_chunk_type,
            show_reasoning=self._config.showReasoning,
            using_tool=texts.using_tool if self._config.showTools else "",
        )
        question = Question(message, delivery, growing, self)
        self._questions.add(question)
        delivery.done.add_done_callback(lambda _: self._questions.discard(question))
        has_to_wait = self._worker.submit(line, question)
        if not delivery.opened:
            self._cards.put(delivery)
        if has_to_wait:
            looks = iter(_PLACE_AFTER)
            self._robot_thread.later(next(looks), functools.partial(self._show_place, weakref.ref(question), looks))

    def find(self, message_id: str) -> Question | None:
        """The question of that message, None if it is not one of these any more."""
        return next((one for one in list(self._questions) if one.message.message_id == message_id), None)

    def of(self, conversation_id: str, person: str) -> list[Question]:
        """A person's questions in a conversation, the oldest first."""
        theirs = [
            question
            for question in list(self._questions)
            if (question.message.sender_id, question.message.conversation_id) == (person, conversation_id)
        ]
        return sorted(theirs, key=lambda question: question.delivery.asked_at)

    def opening(self, card: Any) -> KeptAnswer | None:
        """Of a card that people see before its platform says that it is there."""
        for question in list(self._questions):
            delivery = question.delivery
            if not delivery.opened and card is not None and delivery.reply.card == card:
                return KeptAnswer(question.message, "", "")
        return None

    def last_answer(self, conversation_id: str, person: str) -> KeptAnswer | None:
        """The newest one to a person in a conversation that is still being sent: people may be quicker than that."""
        for question in reversed(self.of(conversation_id, person)):
            final = question.delivery.final
            if final and final[1] in ("answered", "stopped"):
                return KeptAnswer(question.message, final[0], question.asked_by._config.agent)
        return None

    def _stop(self, question: Question) -> None:
        question.is_stopped = True
        self._worker.withdraw(question)
        self._end(question, question.delivery.reply.texts.stopped, "stopped")
        self._robot_thread.later(_STOP_SECONDS, functools.partial(self._go_on_without, weakref.ref(question)))

    def status(self) -> dict[str, Any]:
        """`in_flight`: agents running; `queued`: waiting for one; `abandoned`: agents that run longer than they may."""
        return {
            "in_flight": self._worker.running,
            "queued": self._worker.waiting,
            "abandoned": self._worker.abandoned,
        }

    def close(self, deadline: Deadline) -> int:
        """Let answers finish until the deadline, tell the others; returns how many agents still run."""
        left = self._worker.close(deadline)
        for question in list(self._questions):
            if question.asked_by is self:
                self._end(question, question.delivery.reply.texts.interrupted, "interrupted")
        return left

    # ---- on the robot's thread

    def _show_place(self, waiting: weakref.ref[Question], looks: Iterator[float]) -> None:
        def show(places: dict[Any, int]) -> None:
            question = waiting()
            if question is not None and (place := places.get(question)):
                delivery = question.delivery
                delivery.progress(lambda: delivery.reply.texts.place.format(place=place))
                if seconds := next(looks, None):
                    self._robot_thread.later(seconds, functools.partial(self._show_place, waiting, looks))

        self._worker.look_at_places(show)

    def _give_up_on(self, running: weakref.ref[Question]) -> None:
        """The agent has run for `agentTimeout`."""
        question = running()
        if question is None or (question.delivery.final and not question.is_stopped):
            return
        dropped = self._worker.abandon(question)
        if dropped is None:
            return
        agent = self._config.agent
        host.log.error(
            f"{self._full_name}: {agent} has run for {self._config.agentTimeout:g} s (agentTimeout) on message "
            f"{question.message.message_id} and is waited for no longer"
        )
        self._end(question, question.delivery.reply.texts.timed_out, "failed")
        self._robot_thread.later(_RELEASE_SECONDS, functools.partial(self._worker.release, question))
        if self._worker.is_jammed:
            host.log.error(
                f"{self._full_name}: {self._worker.abandoned} runs of {agent} hang, as many as may run at a time. "
                "Questions are turned away until one of them ends; see what it waits for, or restart the app."
            )
        for waiting in self._questions & dropped:
            waiting.delivery.finish(waiting.delivery.reply.texts.busy, "interrupted")

    def _go_on_without(self, running: weakref.ref[Question]) -> None:
        """A stopped agent has not noticed: its session need not wait, unless others would have to."""
        question = running()
        if question is not None and self._worker.can_spare_a_slot and self._worker.abandon(question) is not None:
            self._worker.release(question)

    def _end(self, question: Question, sentence: str, outcome: Outcome) -> None:
        """The last word where the agent has not had it."""
        if not question.delivery.final:
            text = _ending(question.growing, sentence)
            self._keep(question, text, outcome)
            question.delivery.finish(text, outcome)

    def _keep(self, question: Question, text: str, outcome: Outcome) -> None:
        keep = functools.partial(self._store.keep_answer, question.message.message_id, text, outcome)
        if question.has_acted:  # it must not act twice, whatever happens from now on
            keep()
        else:  # when many end at once, the store is what their last words would wait for
            self._note(keep)

    # ---- on an agent's thread

    def _answer(self, question: Question) -> None:
        """Ask the agent and hand on what it says."""
        message, delivery, growing = question.message, question.delivery, question.growing
        if delivery.final or question.is_stopped:
            return  # before its turn

        def stream_callback(chunk: object) -> None:
            if question.is_stopped:
                raise Stopped
            if delivery.final:
                return  # it was given up; what comes now is for nobody
            if not question.has_acted and tells_of_an_act(chunk):
                self._store.spend(message.message_id)  # before the agent goes on, and acts
                question.has_acted = True
            due = growing.add(chunk, time.monotonic())
            if due is not None:
                delivery.progress(lambda: growing.show(time.monotonic()) or delivery.reply.texts.thinking, due)

        # Weak: until then, the answer is long out, and need not be kept.
        self._robot_thread.later(self._config.agentTimeout, functools.partial(self._give_up_on, weakref.ref(question)))
        text, outcome = self._run_agent(question, stream_callback)
        if question.is_stopped:
            return  # who stopped it says the last word
        if not delivery.final:
            self._keep(question, text, outcome)
        if not delivery.finish(text, outcome):
            host.log.warning(f"{self._full_name}: the late answer to {message.message_id} was dropped")

    def _run_agent(self, question: Question, stream_callback: Callable[[object], None]) -> tuple[str, Outcome]:
        """What it says, or why it says nothing."""
        message, delivery, growing = question.message, question.delivery, question.growing
        config, texts = self._config, delivery.reply.texts
        try:
            self._allow_side_by_side()
            if delivery.has_progressed:  # the card shows its place in the queue
                delivery.progress(lambda: texts.thinking)
            text = self._app.run_agent(
                config.agent, config.agentCall, self._words(message), message.session, stream_callback
            )
            if not text.strip():
                text = growing.text
            if not text.strip() and not growing.is_interrupted:
                raise AgentError(f"{config.agent} ended without an answer")
        except BaseException as error:  # an agent that calls sys.exit() owes an answer like any other
            if question.is_stopped:
                host.log.info(f"{self._full_name}: {config.agent} ended, stopped on message {message.message_id}")
            elif growing.is_interrupted:
                host.log.info(f"{self._full_name}: {config.agent} ended its run by {error!r} when it was interrupted")
            else:
                host.log.exception(f"{self._full_name}: {config.agent} failed on message {message.message_id}")
                return _ending(growing, texts.failed), "failed"
            text = growing.text
        if growing.is_interrupted:
            text = _above(text, texts.needs_confirmation)
        return text, "answered"

    def _words(self, message: IncomingMessage) -> str:
        """What the agent is asked: the question, below what it answers to."""
        if not message.quote or not self._config.quoteContext:
            return message.text
        quoted = "\n".join(f"> {line}".rstrip() for line in message.quote.splitlines())
        return f"{quoted}\n\n{message.text}"

    def _allow_side_by_side(self) -> None:
        """Before the first answer, while the worker has one slot."""
        if not self._tried_side_by_side:
            slots = self._config.maxConcurrency if self._app.may_run_side_by_side() else 1
            self._tried_side_by_side = True
            self._worker.set_slots(slots, self._config.maxQueue)

    def _warn_of_chunk_type(self, kind: str) -> None:
        host.warn_once(f"{self._full_name}: chunks of the unknown type {kind} are read as answer text")


@functools.cache
def _questions_of(full_name: str) -> set[Question]:
    """All of an element in this process: while a reload lets the old robot's answers out, the new one may stop them."""
    return set()


def _open_cards(deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        delivery.open()


def _ending(growing: GrowingAnswer, sentence: str) -> str:
    """What has come so far is kept, and the sentence says that it is not all."""
    return _above(growing.text, sentence)


def _above(text: str, sentence: str) -> str:
    """The sentence stands by itself, also below code that does not end."""
    return f"{markdown.complete(text).rstrip()}\n\n{sentence}" if text.strip() else sentence
