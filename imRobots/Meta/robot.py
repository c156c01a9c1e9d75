"""The use case: a message comes in, an agent answers, the answer goes out. And what else people can tell a robot.

Owns the journey of a message, and of a click, between a Type's handler and a Type's reply, and one thread, which takes
both in, looks at the time, and writes down what came of them. Knows no platform and opens no connection. `Robot.submit`
and `Robot.click` may be called on an event loop: they only put something on a queue.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import host
from .budget import Budget
from .commands import Command, read_command
from .delivery import Delivery
from .health import Health, in_words
from .intake import Intake
from .limiter import limiter_for
from .models import Busy, Click, ClickRefused, IncomingMessage, Rating
from .one_thread import Batch, OneThread
from .outbox import Outbox
from .questions import Questions
from .ratings import Ratings
from .reply import Clicked, Reply
from .sessions import Sessions
from .store import KeptAnswer, Store, Unfinished
from .texts import Texts
from .timing import Deadline

if TYPE_CHECKING:
    from .config import RobotConfig

_LOOK_SECONDS = 60.0
_RATINGS: dict[Command, Rating] = {"good": "helpful", "bad": "not_helpful"}


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
        """`config` is the instance's; `reply_to` makes the Type's reply to a message, on the robot's thread.

        It must not block, because others wait behind it, and the message has no `session` yet. It is called for clicks,
        too, with the message of the card: a week later that has no text and no `source`.

        `account` names the platform's application, whose robots share its limits. `status` is the whole status, for an
        administrator who asks in the chat.
        """
        self._element = element
        self._config = config
        self._reply_to = reply_to
        self._store = store
        self._whole_status = status or self.status
        self._thread = OneThread("imRobots-intake", self._log_mistake)
        jit_app = host.JitApp(element)
        self._notes = Batch(self._thread, functools.partial(store.together, on_error=self._log_lapse))
        self._questions = Questions(element, config, jit_app, store, self._thread, self._note)
        self._ratings = Ratings(element.fullName, config, store, jit_app)
        self._outbox = Outbox(element.fullName, limiter_for(account or element.fullName, config.apiQps))
        self._budget = Budget(element.fullName, config.monthlyApiBudget, store)
        self._health = Health(
            "received", "answered", "failed", "stopped", "declined", "commands", "duplicate", "clicks", "rated"
        )
        self._sessions = Sessions(config.sessionScope, store)
        self._intake = Intake(
            element.fullName, self._thread, store, self._sessions, self._health, reply_to, self._answer
        )
        self._closed = False
        self._ended = False
        self._lock = threading.Lock()
        self._thread.do(self._finish_what_was_left)

    def submit(self, message: IncomingMessage) -> Future[bool]:
        """Answer a message. Returns at once and never blocks; any thread.

        The future resolves to True when the last word to it is out, to False when it could not be sent.
        """
        done: Future[bool] = Future()
        done.set_running_or_notify_cancel()  # so that nobody who awaits it can cancel the answer
        if why_not := self._take_in(functools.partial(self._intake.put, message, done)):
            host.log.error(f"{self._element.fullName}: message {message.message_id} {why_not}; it is not answered")
            done.set_result(False)
        return done

    def click(self, click: Click) -> Future[Clicked]:
        """Do what a button says. Returns at once and never blocks; any thread.

        The future resolves to what that person is to be shown, or to `ClickRefused`.
        """
        done: Future[Clicked] = Future()
        done.set_running_or_notify_cancel()  # who does not wait for it has clicked all the same
        take = functools.partial(self._take_click, click, done)
        if why_not := self._take_in(functools.partial(self._thread.do, take)):
            done.set_exception(ClickRefused(f"it {why_not}"))
        return done

    def status(self) -> dict[str, Any]:
        """Counters since the robot was made, what it is doing, this month's counts, durations. Reads a file.

        `in_flight`, `queued` and `abandoned` as in `Questions.status`; `unsent`: replies that are not all out.
        """
        return {
            **self._health.status(),
            **self._questions.status(),
            "unsent": self._outbox.unsent,
            "month": {"calls": self._store.counted("calls"), "pushes": self._store.counted("pushes")},
        }

    def close(self, deadline: Deadline) -> None:
        """Take no more messages, let answers finish until shortly before the deadline, tell the others. Any thread.

        An agent that is still running then cannot be killed: its result will be dropped.
        """
        with self._lock:
            self._closed = True
        self._thread.wait_done(deadline)  # it goes on, to look at the time and to write
        left = self._questions.close(Deadline(deadline.left * 0.8))
        unsent = self._outbox.close(deadline)
        self._thread.end(deadline)
        self._ended = True
        self._notes.take_up()
        self._store.write_counts()
        self._ratings.close(deadline)
        if left or unsent:
            host.log.warning(
                f"{self._element.fullName}: stopped with {left} agents still running, whose results will be "
                f"dropped, and with {unsent} replies that could not be sent."
            )

    def _take_in(self, put: Callable[[], None]) -> str:
        """Put something in line for the robot's thread; returns why that cannot be, "" if it can."""
        with self._lock:
            if self._closed:
                return "came after the robot was stopped"
            if self._thread.is_full or self._intake.is_full:
                return "is one too many to be read"
            put()
        return ""

    # ---- on the robot's thread

    def _log_mistake(self) -> None:
        # In a Type's texts, say. What comes next is done all the same.
        host.log.exception(f"{self._element.fullName}: something that came in, or was due, could not be done")

    def _log_lapse(self) -> None:
        with contextlib.suppress(Exception):  # the others want to be remembered, even if not even that can be said
            host.log.exception(f"{self._element.fullName}: a card or an answer cannot be remembered")

    def _note(self, work: Callable[[], object]) -> None:
        """Do something with the store, when the robot's thread comes to it. Any thread; nobody waits for it."""
        self._notes.put(work)
        if self._ended:
            self._notes.take_up()

    def _answer(self, message: IncomingMessage, reply: Reply, done: Future[bool]) -> None:
        self._begin(message, self._delivery(message, reply, done))

    def _finish_what_was_left(self) -> None:
        """What a killed process has left unanswered, or a robot that had to stop. At the start, and every minute."""
        if self._closed:
            return
        self._thread.later(_LOOK_SECONDS, self._finish_what_was_left)
        self._store.forget_old(self._config.feedbackDays)
        for left in self._store.take_over():
            try:
                self._resume(left)
            except Exception:
                self._log_mistake()

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
                self._note(functools.partial(self._store.bind, message.message_id, handle))

        delivery = Delivery(self._outbox, reply, message.text, done, opened)
        done.add_done_callback(lambda done: self._note_end(message, delivery, done.result(), asked_at))
        return delivery

    def _note_end(self, message: IncomingMessage, delivery: Delivery, delivered: bool, asked_at: float) -> None:
        if delivery.final and (delivered or not self._closed):
            agent, card = self._config.agent, delivery.reply.card
            last_word = message.message_id, agent, delivery.final, card
            self._note(functools.partial(self._store.answered, *last_word))
        else:
            end = self._store.done if delivered or not self._closed else self._store.leave
            self._note(functools.partial(end, message.message_id))
        outcome = delivery.final[1] if delivery.final else "declined" if delivery.sentence is not None else ""
        if not delivered:
            self._health.count("failed")
        elif outcome == "declined" and read_command(message.text, from_admin=message.from_admin):
            return  # it is counted as a command
        elif outcome:
            self._health.count("failed" if outcome == "interrupted" else outcome)
        if delivered and outcome == "answered":
            self._health.took("answer", time.monotonic() - asked_at)

    def _begin(self, message: IncomingMessage, delivery: Delivery) -> None:
        texts = delivery.reply.texts
        if message.problem == "quota":
            host.log.error(f"{self._element.fullName}: the platform withheld a message because a quota is used up")
            if not self._store.once_a_day(f"quota {message.conversation_id}"):
                delivery.done.set_result(True)
                return
        if not self._allows(message.sender_id, message.conversation_id):
            self._decline(delivery, texts.not_allowed)
        elif message.problem:
            delivery.say(getattr(texts, message.problem))
        elif command := read_command(message.text, from_admin=message.from_admin):
            self._carry_out(command, message, delivery)
        else:
            self._ask(message, delivery)

    def _allows(self, person: str, conversation_id: str) -> bool:
        if self._config.allows(person, conversation_id):
            return True
        host.log.info(
            f"{self._element.fullName}: {person} in conversation {conversation_id} was turned away "
            "(allowUsers, allowConversations)"
        )
        return False

    def _ask(self, message: IncomingMessage, delivery: Delivery) -> None:
        texts = delivery.reply.texts
        delivery.frugal, spent = self._budget.look()
        if spent and not delivery.opened and not delivery.unsure:
            delivery.resume(None)
        try:
            self._questions.ask(message, delivery, self._sessions.scope_of(message))
        except Busy as busy:
            self._decline(delivery, texts.one_at_a_time if busy.one_session else texts.busy)

    def _decline(self, delivery: Delivery, sentence: str) -> None:
        """Instead of an answer. Where a card may be there already, in it."""
        if delivery.opened or delivery.unsure:
            delivery.finish(sentence, "interrupted")
        else:
            delivery.say(sentence)

    def _carry_out(self, command: Command, message: IncomingMessage, delivery: Delivery) -> None:
        """A command passes the questions that wait."""
        self._health.count("commands")
        texts = delivery.reply.texts
        if command == "stop":
            theirs = self._questions.of(message.conversation_id, message.sender_id)
            running = [question for question in theirs if not question.delivery.final]
            for question in running:
                question.stop()
            if running:  # their cards say so
                delivery.done.set_result(True)
            else:
                delivery.say(texts.nothing_to_stop)
        elif command == "new":
            self._sessions.begin_anew(message)
            delivery.say(texts.new_session)
        elif command == "help":
            delivery.say(texts.help)
        elif command == "status":
            delivery.say(in_words(texts.status, self._whole_status()))
        else:
            here = message.conversation_id, message.sender_id
            answer = self._questions.last_answer(*here)
            self._notes.take_up()  # it may be among them
            answer = answer or self._store.last_answer(*here)
            if answer is not None:
                self._rate(answer, message.sender_id, _RATINGS[command])
            delivery.say(texts.thanks if answer is not None else texts.nothing_to_rate)

    def _take_click(self, click: Click, done: Future[Clicked]) -> None:
        self._health.count("clicks")
        try:
            self._store.count("pushes")
            done.set_result(self._press(click))
        except ClickRefused as refusal:
            done.set_exception(refusal)
        except BaseException:
            done.set_exception(ClickRefused("something went wrong with it; see the log"))
            raise

    def _press(self, click: Click) -> Clicked:
        """What the button says, if it may."""
        answer = self._questions.opening(click.card)
        self._notes.take_up()  # it may be among them
        answer = self._store.find_answer(click.card) or answer
        if answer is None:
            raise ClickRefused(f"the card {str(click.card)[:100]!r} is not known, or not any more")
        message = answer.message
        if click.message_id and click.message_id != message.message_id:
            raise ClickRefused("it says that it belongs to another message than its card does")
        if message.text and not message.text.startswith(click.question):
            raise ClickRefused("it says that it belongs to a question that its card does not have")
        texts = self._reply_to(message).texts
        if not self._allows(click.person, message.conversation_id):
            return Clicked(texts, texts.not_allowed)
        if click.action == "rate":
            if click.rating is None:
                raise ClickRefused("it names no rating")
            if not answer.agent and not answer.answer:
                raise ClickRefused("its card has no answer yet")
            self._rate(answer, click.person, click.rating)
            return Clicked(texts, f"{texts.thanks} {getattr(texts, click.rating)}", click.rating)
        return Clicked(texts, self._press_as_asker(click, answer, texts))

    def _press_as_asker(self, click: Click, answer: KeptAnswer, texts: Texts) -> str:
        """What only the person who asked may do; returns the note for who clicked."""
        message = answer.message
        if click.person != message.sender_id:
            return texts.only_the_asker
        if click.action == "stop":
            question = self._questions.find(message.message_id)
            if question is None or question.delivery.final:
                return texts.nothing_to_stop
            question.stop()
        elif not message.text:
            return texts.forgotten
        elif click.action == "regenerate":
            # An id that follows from the card's: a second click on the same card asks nothing more.
            again = replace(message, message_id=f"{message.message_id}:again")
            if not self._store.accept(again):
                return texts.asked_again
            delivery = self._delivery(again, self._reply_to(again), done := Future[bool]())
            try:
                self._begin(again, delivery)
            except BaseException:
                done.set_result(False)
                raise
            if delivery.sentence is not None:  # it was turned away
                unsee = functools.partial(self._store.unsee, again.message_id)
                done.add_done_callback(lambda _: self._note(unsee))
        elif self._store.once_a_day(f"go on {message.message_id}"):
            Delivery(self._outbox, self._reply_to(message), message.text, Future()).say(texts.go_on)
        return ""

    def _rate(self, answer: KeptAnswer, person: str, rating: Rating) -> None:
        answer = replace(answer, agent=answer.agent or self._config.agent)  # while it is being sent, it names none
        if self._ratings.rate(answer, person, rating):
            self._health.count("rated")
