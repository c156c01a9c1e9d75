"""What people get to see, in which order, whatever the platform does. A fast `backoff` replaces the real one."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from imRobots.Meta import (
    AuthError,
    Deadline,
    IMRobotError,
    RateLimited,
    ReplyRefused,
    TransportError,
    Unconfirmed,
    limiter,
    outbox,
)
from imRobots.Meta import delivery as meta_delivery
from imRobots.Meta.answer import MAX_UPDATES
from imRobots.Meta.delivery import Delivery
from imRobots.Meta.limiter import Limiter
from imRobots.Meta.outbox import Outbox
from imRobots.Meta.pool import DaemonPool
from tests.fakes.host import FakeHost

from .conftest import MakeHost
from .helpers import WAIT, RecordingReply, eventually, no_thread_starts

UNREACHABLE = TransportError("the platform cannot be reached")
REFUSED = ReplyRefused("the platform refuses")
NO_ANSWER = Unconfirmed("no answer came back")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(0.001))


@pytest.fixture
def host(make_host: MakeHost) -> FakeHost:
    return make_host()


@pytest.fixture
def box(host: FakeHost) -> Iterator[Outbox]:
    box = Outbox("robots.hr", Limiter(0))
    yield box
    box.close(Deadline(0))  # most tests have got what they wanted long before the last word


def deliver(box: Outbox, reply: RecordingReply, question: str = "Rain?") -> Delivery:
    done: Future[bool] = Future()
    return Delivery(box, reply, question, done)


def opened(box: Outbox, reply: RecordingReply) -> Delivery:
    """A delivery whose first card is out."""
    delivery = deliver(box, reply)
    delivery.open()
    reply.wait_until(lambda reply: len(reply.sent) == 1)
    return delivery


def saying(text: str) -> Callable[[], str]:
    return lambda: text


def settle(box: Outbox) -> None:
    """Until whatever waited has been taken: a progress is the last thing that is."""
    reply = RecordingReply()
    opened(box, reply).progress(saying("everything before is on its way"))
    reply.wait_until_shown("everything before is on its way")


# The order on one card


def test_a_card_is_opened_grows_and_is_finished(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    delivery.progress(saying("It"))
    reply.wait_until_shown("It")
    delivery.progress(saying("It rains"))
    reply.wait_until_shown("It rains")
    assert delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.calls == [
        ("open", "Rain?"),
        ("progress", "card", "It"),
        ("progress", "card", "It rains"),
        ("finish", "card", "It rains.", "answered"),
    ]


@pytest.mark.parametrize("outcome", ["answered", "failed", "interrupted"])
def test_the_last_word_says_how_it_ended(box: Outbox, outcome: str) -> None:
    reply = RecordingReply(handle={"card": 1})
    delivery = opened(box, reply)
    delivery.finish("Well.", outcome)  # type: ignore[arg-type]
    assert delivery.done.result(WAIT) is True
    assert reply.calls[-1] == ("finish", {"card": 1}, "Well.", outcome)


def test_the_card_comes_first_however_fast_the_answer_is(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["open"] = threading.Event()
    delivery = deliver(box, reply)
    delivery.progress(saying("It"))
    delivery.finish("It rains.", "answered")
    delivery.open()
    reply.wait_for_call("open")
    reply.gates["open"].set()
    assert delivery.done.result(WAIT) is True
    assert reply.calls == [("open", "Rain?"), ("finish", "card", "It rains.", "answered")]


def test_while_a_call_is_on_its_way_only_the_latest_text_waits(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["progress"] = threading.Event()
    delivery = opened(box, reply)
    for number in range(1, 6):
        delivery.progress(saying(f"text {number}"))
        reply.wait_for_call("progress")
    reply.gates["progress"].set()
    reply.wait_until_shown("text 5")
    assert [call[-1] for call in reply.tried("progress")] == ["text 1", "text 5"]


def test_a_text_that_came_while_the_card_was_opened_is_shown(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["open"] = threading.Event()
    delivery = deliver(box, reply)
    delivery.open()
    reply.wait_for_call("open")
    delivery.progress(saying("It"))
    delivery.progress(saying("It rains"))
    reply.gates["open"].set()
    reply.wait_until_shown("It rains")
    assert len(reply.calls) == 2


def test_the_final_answer_replaces_a_waiting_progress(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["progress"] = threading.Event()
    delivery = opened(box, reply)
    delivery.progress(saying("It"))
    reply.wait_for_call("progress")
    delivery.progress(saying("It rains"))
    delivery.finish("It rains.", "answered")
    reply.gates["progress"].set()
    assert delivery.done.result(WAIT) is True
    assert [call[-1] for call in reply.tried("progress")] == ["It"]
    assert reply.shown == "It rains."


def test_one_call_of_a_card_at_a_time(box: Outbox) -> None:
    replies = [RecordingReply() for _ in range(10)]
    deliveries = [deliver(box, reply) for reply in replies]

    def stream(delivery: Delivery) -> None:
        delivery.open()
        for number in range(40):
            delivery.progress(saying(f"{number}"))
            threading.Event().wait(0.0005)
        delivery.finish("end", "answered")

    threads = [threading.Thread(target=stream, args=(delivery,)) for delivery in deliveries for _ in range(2)]
    for thread in threads:
        thread.start()
    for delivery, reply in zip(deliveries, replies, strict=True):
        assert delivery.done.result(WAIT) is True
        assert reply.most_at_once == 1
        assert reply.calls[0][0] == "open"
        assert reply.shown == "end"
    for thread in threads:
        thread.join()


def test_only_the_first_last_word_counts(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    assert delivery.finish("The answer.", "answered")
    assert not delivery.finish("Sorry.", "interrupted")
    assert delivery.done.result(WAIT) is True
    assert not delivery.finish("Late.", "answered")
    assert reply.tried("finish") == [("finish", "card", "The answer.", "answered")]


def test_after_the_last_word_nothing_is_shown_any_more(box: Outbox) -> None:
    reply, other = RecordingReply(), RecordingReply()
    delivery = opened(box, reply)
    delivery.finish("The answer.", "answered")
    assert delivery.done.result(WAIT) is True
    delivery.progress(saying("late"))
    delivery.open()
    opened(box, other)
    assert reply.calls[1:] == [("finish", "card", "The answer.", "answered")]


def test_a_card_is_updated_twenty_times_at_most_with_one_kept_for_a_repetition(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    for number in range(1, 19):
        delivery.progress(saying(f"text {number}"))
        reply.wait_until_shown(f"text {number}")
    delivery.progress(saying("one too many"))
    settle(box)
    delivery.finish("The answer.", "answered")
    assert delivery.done.result(WAIT) is True
    assert len(reply.tried("progress")) + len(reply.tried("finish")) == MAX_UPDATES - 1
    assert reply.calls[-2:] == [("progress", "card", "text 18"), ("finish", "card", "The answer.", "answered")]


def test_a_failed_update_counts_too(box: Outbox) -> None:
    reply = RecordingReply()
    reply.raises["progress"] = [RateLimited("slow down")] * 18
    delivery = opened(box, reply)
    for number in range(1, 30):
        delivery.progress(saying(f"text {number}"))
        if number <= 18:
            reply.wait_for_call("progress", number)
    settle(box)
    delivery.finish("The answer.", "answered")
    assert delivery.done.result(WAIT) is True
    assert len(reply.tried("progress")) == 18


def test_it_knows_whether_something_was_shown_since_the_first_card(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    assert not delivery.has_progressed
    delivery.progress(saying("number 1 in the queue"))
    assert delivery.has_progressed
    reply.wait_until_shown("number 1 in the queue")
    assert delivery.has_progressed


# When a text is due


class Due:
    """A text that remembers when and where it was asked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[float, str]] = []

    def __call__(self) -> str:
        self.asked.append((time.monotonic(), threading.current_thread().name))
        return self.text


def test_a_text_is_made_when_it_is_due_on_a_sending_thread(box: Outbox) -> None:
    reply, text = RecordingReply(), Due("It rains")
    delivery = opened(box, reply)
    due = time.monotonic() + 0.1
    delivery.progress(text, due)
    reply.wait_until_shown("It rains")
    ((at, thread),) = text.asked
    assert at >= due
    assert thread == "imRobots-send"


def test_a_text_says_what_there_is_when_it_is_sent(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["open"] = threading.Event()
    delivery = deliver(box, reply)
    words = ["It"]
    delivery.progress(lambda: " ".join(words))
    reply.wait_for_call("open")
    words += ["rains", "now"]
    reply.gates["open"].set()
    reply.wait_until_shown("It rains now")


def test_a_text_that_was_replaced_is_never_made(box: Outbox) -> None:
    reply, never = RecordingReply(), Due("It")
    delivery = opened(box, reply)
    delivery.progress(never, time.monotonic() + 3600)
    delivery.progress(saying("It rains"))
    reply.wait_until_shown("It rains")
    assert never.asked == []
    assert len(reply.tried("progress")) == 1


def test_an_earlier_due_brings_a_text_forward(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    for seconds in (7200, 3600, 0.05):
        delivery.progress(saying(f"in {seconds}"), time.monotonic() + seconds)
    reply.wait_until_shown("in 0.05")
    assert len(reply.tried("progress")) == 1


def test_a_later_due_puts_nothing_off(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    due = time.monotonic() + 0.05
    delivery.progress(saying("It"), due)
    delivery.progress(saying("It rains"), due + 3600)
    reply.wait_until_shown("It rains")
    assert len(reply.tried("progress")) == 1


def test_after_a_text_that_was_due_the_next_one_waits_for_its_own_time(box: Outbox) -> None:
    reply, second = RecordingReply(), Due("It rains")
    delivery = opened(box, reply)
    delivery.progress(saying("It"), time.monotonic() + 0.02)
    reply.wait_until_shown("It")
    due = time.monotonic() + 0.05
    delivery.progress(second, due)
    reply.wait_until_shown("It rains")
    assert second.asked[0][0] >= due


def test_the_final_answer_waits_for_no_text_that_is_due_later(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(box, reply)
    delivery.progress(saying("It"), time.monotonic() + 3600)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert [call[0] for call in reply.calls] == ["open", "finish"]
    assert closing(box, Deadline(10 * WAIT)).result(WAIT) == 0


def test_a_text_that_is_due_in_an_hour_holds_nobody_up(box: Outbox) -> None:
    reply, other = RecordingReply(), RecordingReply()
    opened(box, reply).progress(saying("It"), time.monotonic() + 3600)
    delivery = opened(box, other)
    delivery.progress(saying("soon"), time.monotonic() + 0.02)
    other.wait_until_shown("soon")
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.tried("progress") == []


def test_a_text_that_cannot_be_made_is_logged_and_the_answer_goes_out(box: Outbox, host: FakeHost) -> None:
    def mistake() -> str:
        raise KeyError("position")

    reply = RecordingReply()
    delivery = opened(box, reply)
    delivery.progress(mistake)
    eventually(lambda: host.logged("exception", "position"))
    delivery.progress(saying("It"))
    reply.wait_until_shown("It")
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.sent[-1] == ("finish", "card", "It rains.", "answered")


# A step that was taken already


class Interposed(DaemonPool):
    """Does something between the choice of the next step and the call."""

    between: Callable[[], object] | None = None

    def run(self, job: Callable[[], None]) -> None:
        between, Interposed.between = Interposed.between, None
        if between:
            between()
        super().run(job)


@pytest.fixture
def interposed(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    monkeypatch.setattr(outbox, "DaemonPool", Interposed)
    monkeypatch.setattr(Interposed, "between", None)
    box = Outbox("robots.hr", Limiter(0))
    yield box
    box.close(Deadline(0))


def test_a_last_word_that_comes_when_a_progress_was_taken_is_sent_once(interposed: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(interposed, reply)
    Interposed.between = lambda: delivery.finish("It rains.", "answered")
    delivery.progress(saying("It"))
    assert delivery.done.result(WAIT) is True
    settle(interposed)
    assert reply.calls == [
        ("open", "Rain?"),
        ("progress", "card", "It"),
        ("finish", "card", "It rains.", "answered"),
    ]


def test_a_last_word_that_comes_when_the_first_card_was_taken_is_sent_once(interposed: Outbox) -> None:
    reply = RecordingReply()
    delivery = deliver(interposed, reply)
    Interposed.between = lambda: delivery.finish("It rains.", "answered")
    delivery.open()
    assert delivery.done.result(WAIT) is True
    settle(interposed)
    assert reply.calls == [("open", "Rain?"), ("finish", "card", "It rains.", "answered")]


def test_a_text_that_comes_when_another_was_taken_is_shown(interposed: Outbox) -> None:
    reply = RecordingReply()
    delivery = opened(interposed, reply)
    Interposed.between = lambda: delivery.progress(saying("It rains"))
    delivery.progress(saying("It"))
    reply.wait_until_shown("It rains")


# Sentences


def test_a_sentence_is_said_without_a_card(box: Outbox) -> None:
    reply = RecordingReply()
    delivery = deliver(box, reply)
    delivery.say("One at a time, please.")
    assert delivery.done.result(WAIT) is True
    assert reply.calls == [("say", "One at a time, please.")]


def test_a_sentence_is_tried_again(box: Outbox) -> None:
    reply = RecordingReply()
    reply.raises["say"] = [UNREACHABLE, UNREACHABLE]
    delivery = deliver(box, reply)
    delivery.say("Busy.")
    assert delivery.done.result(WAIT) is True
    assert reply.calls == [("say", "Busy.")] * 3


def test_a_refused_sentence_is_given_up(box: Outbox, host: FakeHost) -> None:
    reply = RecordingReply()
    reply.raises["say"] = [REFUSED]
    delivery = deliver(box, reply)
    delivery.say("Busy.")
    assert delivery.done.result(WAIT) is False
    assert reply.calls == [("say", "Busy.")]
    assert host.logged("error", "the platform refuses")


def test_a_flood_of_sentences_is_cut_but_answers_go_out(
    box: Outbox, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_MAX_SENTENCES", 2)
    gate = threading.Event()
    replies = [RecordingReply() for _ in range(3)]
    deliveries = [deliver(box, reply) for reply in replies]
    for reply, delivery in zip(replies, deliveries, strict=True):
        reply.gates["say"] = gate
        delivery.say("Busy.")
    assert deliveries[2].done.result(WAIT) is False
    assert host.logged("warning", "dropped")
    answer = opened(box, RecordingReply())
    answer.finish("The answer.", "answered")
    assert answer.done.result(WAIT) is True
    gate.set()
    assert [delivery.done.result(WAIT) for delivery in deliveries] == [True, True, False]
    assert [len(reply.calls) for reply in replies] == [1, 1, 0]


# What is more urgent


class Jam:
    """An outbox that makes one call at a time, and is making one for somebody else between `begin` and `end`."""

    def __init__(self, box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox, "_MAX_THREADS", 1)
        monkeypatch.setattr(outbox, "_MAX_PROGRESS_THREADS", 1)
        self.calls: list[str] = []
        self._box = box
        self._other = RecordingReply()
        self._other.gates["open"] = threading.Event()

    def begin(self) -> None:
        self.calls.clear()
        deliver(self._box, self._other).open()
        self._other.wait_for_call("open")

    def end(self) -> None:
        self._other.gates["open"].set()

    def reply(self, name: str) -> RecordingReply:
        calls = self.calls

        class Noted(RecordingReply):
            def _call(self, method: str, *arguments: object) -> None:
                calls.append(f"{name} {method}")
                super()._call(method, *arguments)

        return Noted()


def test_final_answers_go_before_first_cards_and_those_before_progress(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    jam = Jam(box, monkeypatch)
    ann, bob, cid, dan = (opened(box, jam.reply(name)) for name in ("Ann", "Bob", "Cid", "Dan"))
    eve, fay = (deliver(box, jam.reply(name)) for name in ("Eve", "Fay"))
    jam.begin()
    ann.progress(saying("It"))
    eve.open()
    bob.progress(saying("It"))
    fay.say("Busy.")
    cid.finish("It rains.", "answered")
    dan.progress(saying("It"))
    dan.finish("It rains.", "answered")
    jam.end()
    eventually(lambda: len(jam.calls) >= 6)
    assert jam.calls == ["Fay say", "Cid finish", "Dan finish", "Eve open", "Ann progress", "Bob progress"]
    assert [delivery.done.result(WAIT) for delivery in (fay, cid, dan)] == [True, True, True]


def test_calls_of_one_kind_go_out_in_order_of_arrival(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    jam = Jam(box, monkeypatch)
    names = [f"P{number}" for number in range(8)]
    deliveries = [deliver(box, jam.reply(name)) for name in names]
    jam.begin()
    for delivery in deliveries:
        delivery.open()
    for delivery in deliveries:
        delivery.finish("It rains.", "answered")
    jam.end()
    for delivery in deliveries:
        assert delivery.done.result(WAIT) is True
    for step in ("open", "finish"):
        assert [call for call in jam.calls if call.endswith(step)] == [f"{name} {step}" for name in names]


def test_no_more_calls_than_threads_at_a_time(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_MAX_THREADS", 3)
    gate = threading.Event()
    replies = [RecordingReply() for _ in range(12)]
    deliveries = [deliver(box, reply) for reply in replies]
    for reply, delivery in zip(replies, deliveries, strict=True):
        reply.gates["open"] = gate
        delivery.open()
        delivery.finish("It rains.", "answered")
    eventually(lambda: sum(len(reply.calls) for reply in replies) >= 3)
    threading.Event().wait(0.05)  # a fourth would come now
    assert sum(len(reply.calls) for reply in replies) == 3
    gate.set()
    assert all(delivery.done.result(WAIT) for delivery in deliveries)


class Crew:
    """An outbox with two sending threads, and the calls of all, each a little slow, with their threads."""

    def __init__(self, box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox, "_MAX_THREADS", 2)
        monkeypatch.setattr(outbox, "_MAX_PROGRESS_THREADS", 2)
        self.calls: list[tuple[str, int]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._box = box
        self._held = [RecordingReply() for _ in range(2)]

    def hold(self) -> None:
        """Both threads are on a call, until `let_go`."""
        for reply in self._held:
            reply.gates["open"] = threading.Event()
            deliver(self._box, reply).open()
            reply.wait_for_call("open")

    def let_go(self, number: int) -> None:
        self._held[number].gates["open"].set()

    def reply(self, name: str) -> RecordingReply:
        crew = self

        class Noted(RecordingReply):
            def _call(self, method: str, *arguments: object) -> None:
                with crew._lock:
                    crew.calls.append((f"{name} {method}", threading.get_ident()))
                    crew._at_once += 1
                    crew.most_at_once = max(crew.most_at_once, crew._at_once)
                try:
                    threading.Event().wait(0.001)
                    super()._call(method, *arguments)
                finally:
                    with crew._lock:
                        crew._at_once -= 1

        return Noted()


def test_however_many_wait_there_are_no_more_calls_than_threads_and_all_get_through(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(box, monkeypatch)
    replies = [crew.reply(f"P{number}") for number in range(60)]
    deliveries = [deliver(box, reply) for reply in replies]
    for delivery in deliveries:
        delivery.open()
    for delivery in deliveries[:40]:
        delivery.progress(saying("It"))
    for delivery in deliveries:
        delivery.finish("It rains.", "answered")
    for reply, delivery in zip(replies, deliveries, strict=True):
        assert delivery.done.result(WAIT) is True
        assert reply.sent[0] == ("open", "Rain?") and reply.sent[-1] == LAST_WORD
    assert crew.most_at_once == 2
    assert box.unsent == 0


class Counting(DaemonPool):
    """Knows how often one of its threads was given something to do."""

    runs = 0

    def run(self, job: Callable[[], None]) -> None:
        Counting.runs += 1
        super().run(job)


def test_a_thread_that_goes_on_by_itself_goes_on_with_what_is_most_urgent(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "DaemonPool", Counting)
    box = Outbox("robots.hr", Limiter(0))
    crew = Crew(box, monkeypatch)
    ann, bob, cid, dan = (opened(box, crew.reply(name)) for name in ("Ann", "Bob", "Cid", "Dan"))
    eve, fay = (deliver(box, crew.reply(name)) for name in ("Eve", "Fay"))
    crew.hold()
    crew.calls.clear()
    before = Counting.runs
    ann.progress(saying("It"))
    eve.open()
    bob.progress(saying("It"))
    fay.say("Busy.")
    cid.finish("It rains.", "answered")
    dan.finish("It rains.", "answered")
    crew.let_go(0)
    eventually(lambda: len(crew.calls) >= 6)
    assert Counting.runs == before
    crew.let_go(1)
    assert [call for call, _ in crew.calls] == [
        "Fay say",
        "Cid finish",
        "Dan finish",
        "Eve open",
        "Ann progress",
        "Bob progress",
    ]
    assert len({thread for _, thread in crew.calls}) == 1
    box.close(Deadline(0))


def test_what_becomes_urgent_while_a_thread_goes_on_is_next(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew(box, monkeypatch)
    ann, bob, cid = (opened(box, crew.reply(name)) for name in ("Ann", "Bob", "Cid"))
    dan_reply = crew.reply("Dan")
    dan_reply.gates["open"] = threading.Event()
    dan = deliver(box, dan_reply)
    crew.hold()
    crew.calls.clear()
    dan.open()
    ann.progress(saying("It"))
    bob.progress(saying("It"))
    crew.let_go(0)
    dan_reply.wait_for_call("open")
    cid.finish("It rains.", "answered")
    bob.finish("It rains.", "answered")
    dan_reply.gates["open"].set()
    eventually(lambda: len(crew.calls) >= 4)
    crew.let_go(1)
    assert [call for call, _ in crew.calls] == ["Dan open", "Cid finish", "Bob finish", "Ann progress"]


def test_what_becomes_ready_or_due_while_all_threads_are_busy_is_not_forgotten(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(box, monkeypatch)
    ready, due, later, failing = (crew.reply(name) for name in ("Ann", "Bob", "Cid", "Dan"))
    second, third = opened(box, due), opened(box, later)
    crew.hold()
    first, fourth = deliver(box, ready), deliver(box, failing)
    failing.raises["open"] = [UNREACHABLE]
    first.open()
    fourth.open()
    moment = time.monotonic() + 0.02
    second.progress(saying("due by then"), moment)
    third.progress(saying("due after that"), moment + 0.05)
    eventually(lambda: time.monotonic() > moment)
    assert not ready.calls and len(due.calls) == 1
    crew.let_go(0)
    due.wait_until_shown("due by then")
    later.wait_until_shown("due after that")
    for reply in (ready, failing):
        reply.wait_until(lambda reply: reply.sent == [("open", "Rain?")])
    crew.let_go(1)


def test_under_the_pace_a_thread_that_goes_on_by_itself_keeps_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "_WINDOW_SECONDS", 0.1)
    box = Outbox("robots.hr", Limiter(5))
    crew = Crew(box, monkeypatch)
    deliveries = [deliver(box, crew.reply(f"P{number}")) for number in range(8)]
    began = time.monotonic()
    for delivery in deliveries:
        delivery.say("Busy.")
    assert all(delivery.done.result(WAIT) for delivery in deliveries)
    assert time.monotonic() - began >= 0.1
    assert box.close(Deadline(WAIT)) == 0


def test_a_slow_card_holds_up_nobody_else(box: Outbox) -> None:
    slow, reply = RecordingReply(), RecordingReply()
    slow.gates["open"] = threading.Event()
    deliver(box, slow).open()
    slow.wait_for_call("open")
    delivery = opened(box, reply)
    delivery.finish("The answer.", "answered")
    assert delivery.done.result(WAIT) is True
    slow.gates["open"].set()


def test_the_caller_never_waits_for_the_platform(box: Outbox) -> None:
    replies = [RecordingReply() for _ in range(100)]
    gate = threading.Event()
    deliveries = [deliver(box, reply) for reply in replies]
    for reply, delivery in zip(replies, deliveries, strict=True):
        reply.gates["open"] = gate
        delivery.open()
        delivery.progress(saying("It"))
        delivery.finish("It rains.", "answered")
    assert box.unsent == 100
    gate.set()
    for reply, delivery in zip(replies, deliveries, strict=True):
        assert delivery.done.result(WAIT) is True
        assert threading.current_thread() not in reply.threads
        assert reply.shown == "It rains."
    assert box.unsent == 0


# What fails


def test_the_first_card_is_tried_again(box: Outbox, host: FakeHost) -> None:
    reply = RecordingReply()
    reply.raises["open"] = [UNREACHABLE, RateLimited("slow down"), UNREACHABLE]
    delivery = deliver(box, reply)
    delivery.open()
    delivery.progress(saying("It"))
    reply.wait_until_shown("It")
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert [call[0] for call in reply.calls] == ["open", "open", "open", "open", "progress", "finish"]
    assert reply.sent[-1] == ("finish", "card", "It rains.", "answered")
    assert len(host.logged(containing="tried again")) == 3
    assert len(host.logged("warning", "tried again")) == 2, "each kind of trouble once a minute"


def test_the_final_answer_is_tried_again_on_its_card(box: Outbox) -> None:
    reply = RecordingReply()
    reply.raises["finish"] = [UNREACHABLE, RateLimited("slow down"), UNREACHABLE]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.tried("finish") == [("finish", "card", "It rains.", "answered")] * 4


def test_a_try_waits_for_its_delay(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def delays(first: float, limit: float) -> Iterator[float]:
        asked.append((first, limit))
        return iter([0.05, 0.1, 99.0])

    monkeypatch.setattr(outbox, "backoff", delays)
    times: list[float] = []

    class Timed(RecordingReply):
        def finish(self, handle: object, text: str, outcome: str) -> None:
            times.append(time.monotonic())
            super().finish(handle, text, outcome)

    reply = Timed()
    reply.raises["finish"] = [UNREACHABLE, UNREACHABLE]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    delivery.progress(saying("late"))
    assert delivery.done.result(WAIT) is True
    first, second = (later - earlier for earlier, later in itertools.pairwise(times))
    assert first >= 0.05
    assert second >= 0.1
    ((shortest, longest),) = asked
    assert 0 < shortest <= 1 <= longest <= 30


def test_an_update_that_would_have_been_due_brings_no_try_forward(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(0.15))
    times: list[float] = []

    class Timed(RecordingReply):
        def finish(self, handle: object, text: str, outcome: str) -> None:
            times.append(time.monotonic())
            super().finish(handle, text, outcome)

    reply = Timed()
    reply.raises["finish"] = [UNREACHABLE]
    delivery = opened(box, reply)
    delivery.progress(saying("It"), time.monotonic() + 0.03)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    first, second = times
    assert second - first >= 0.15
    assert reply.tried("progress") == []


def test_others_are_served_while_one_waits_for_its_next_try(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(3600.0))
    unlucky, reply = RecordingReply(), RecordingReply()
    unlucky.raises["open"] = [UNREACHABLE]
    waiting = deliver(box, unlucky)
    waiting.open()
    unlucky.wait_for_call("open")
    delivery = opened(box, reply)
    delivery.finish("The answer.", "answered")
    assert delivery.done.result(WAIT) is True
    waiting.progress(saying("It"))
    waiting.finish("It rains.", "answered")
    assert box.close(Deadline(0)) == 1
    assert unlucky.calls == [("open", "Rain?")]


@pytest.mark.parametrize("error", [REFUSED, AuthError("who are you?"), IMRobotError("no"), ValueError("a mistake")])
def test_where_no_card_can_be_opened_the_answer_comes_without(box: Outbox, host: FakeHost, error: Exception) -> None:
    reply = RecordingReply()
    reply.raises["open"] = [error]
    reply.gates["open"] = threading.Event()
    delivery = deliver(box, reply)
    delivery.open()
    delivery.progress(saying("It"))
    delivery.progress(saying("It rains"))
    delivery.finish("It rains.", "answered")
    reply.gates["open"].set()
    assert delivery.done.result(WAIT) is True
    assert reply.calls == [("open", "Rain?"), ("finish", None, "It rains.", "answered")]
    assert host.logged("error", str(error))


def test_where_the_card_cannot_be_reached_for_long_the_answer_comes_without(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_OPEN_SECONDS", 0.05)
    reply = RecordingReply()
    reply.raises["open"] = [UNREACHABLE] * 10_000
    delivery = deliver(box, reply)
    delivery.open()
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert len(reply.tried("open")) > 1
    assert reply.sent == [("finish", None, "It rains.", "answered")]


def test_a_reply_without_a_card_gets_no_progress(box: Outbox) -> None:
    reply = RecordingReply(handle=None)
    delivery = opened(box, reply)
    for number in range(30):
        delivery.progress(saying(f"text {number}"))
        settle(box)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.tried("progress") == []
    assert reply.shown == "It rains."


def test_an_update_that_fails_is_replaced_by_the_next(box: Outbox, host: FakeHost) -> None:
    reply = RecordingReply()
    reply.raises["progress"] = [UNREACHABLE, REFUSED, ValueError("a mistake")]
    delivery = opened(box, reply)
    for number in range(1, 5):
        delivery.progress(saying(f"text {number}"))
        reply.wait_for_call("progress", number)
    reply.wait_until_shown("text 4")
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert [call[-1] for call in reply.tried("progress")] == ["text 1", "text 2", "text 3", "text 4"]
    assert len(host.logged(containing="next update")) == 3


@pytest.mark.parametrize("error", [REFUSED, AuthError("who are you?"), KeyError("a mistake")])
def test_where_the_card_refuses_the_final_answer_it_comes_beside_the_card(
    box: Outbox, host: FakeHost, error: Exception
) -> None:
    reply = RecordingReply()
    reply.raises["finish"] = [error]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.tried("finish") == [
        ("finish", "card", "It rains.", "answered"),
        ("finish", None, "It rains.", "answered"),
    ]
    assert host.logged("error", str(error))


def test_a_card_that_is_refused_later_is_left_too(box: Outbox) -> None:
    reply = RecordingReply()
    reply.raises["finish"] = [UNREACHABLE, REFUSED, UNREACHABLE, UNREACHABLE]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert [call[1] for call in reply.tried("finish")] == ["card", "card", None, None, None]


def test_an_answer_that_cannot_be_sent_at_all_is_given_up(box: Outbox, host: FakeHost) -> None:
    reply = RecordingReply()
    reply.raises["finish"] = [REFUSED, REFUSED]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is False
    assert [call[1] for call in reply.tried("finish")] == ["card", None]
    assert box.unsent == 0
    assert host.logged("error", "given up")


def test_an_answer_that_finds_nobody_for_long_is_given_up(
    box: Outbox, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_FINISH_SECONDS", 0.05)
    reply = RecordingReply()
    reply.raises["finish"] = [UNREACHABLE] * 10_000
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is False
    handles = [call[1] for call in reply.tried("finish")]
    assert handles.count("card") > 1
    assert handles.count(None) > 1
    assert host.logged("error", "given up")


def test_a_mistake_in_a_type_loses_nothing_and_is_logged(box: Outbox, host: FakeHost) -> None:
    reply = RecordingReply()
    reply.raises = {"open": [ValueError("in open")], "finish": [None]}
    delivery = deliver(box, reply)
    delivery.open()
    delivery.finish("It rains.", "answered")
    assert delivery.done.result(WAIT) is True
    assert reply.shown == "It rains."
    (record,) = host.logged("exception")
    assert "ValueError: in open" in record.traceback


class Quits(RecordingReply):
    """Somebody's reply that ends the thread wherever it can."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.raises[method] = [SystemExit(1)]


def test_a_reply_that_quits_loses_nothing(box: Outbox, host: FakeHost) -> None:
    replies = {method: Quits(method) for method in ("open", "progress", "finish")}
    deliveries = {method: deliver(box, reply) for method, reply in replies.items()}
    for method, delivery in deliveries.items():
        delivery.open()
        delivery.progress(saying("It"))
        replies[method].wait_until(lambda reply, method=method: reply.tried("progress") or method == "open")
        delivery.finish("It rains.", "answered")
        assert delivery.done.result(WAIT) is True
    assert {method: reply.sent[-1] for method, reply in replies.items()} == {
        "open": ("finish", None, "It rains.", "answered"),
        "progress": ("finish", "card", "It rains.", "answered"),
        "finish": ("finish", None, "It rains.", "answered"),
    }
    assert len(host.logged("exception", "SystemExit")) == 3


def test_a_sentence_whose_reply_quits_is_given_up(box: Outbox) -> None:
    delivery = deliver(box, Quits("say"))
    delivery.say("Busy.")
    assert delivery.done.result(WAIT) is False
    assert box.unsent == 0


def test_where_no_thread_can_be_had_it_is_tried_again(box: Outbox, host: FakeHost) -> None:
    replies = [RecordingReply() for _ in range(3)]
    deliveries = [deliver(box, reply) for reply in replies]
    with no_thread_starts("imRobots-send"):
        for delivery in deliveries[:2]:
            delivery.open()
            delivery.finish("It rains.", "answered")
        deliveries[2].say("Busy.")
        eventually(lambda: len(host.logged(containing="no thread to send with")) >= 3)
        assert not any(delivery.done.done() for delivery in deliveries)
    assert [delivery.done.result(WAIT) for delivery in deliveries] == [True, True, True]
    assert [reply.sent[-1] for reply in replies] == [
        ("finish", "card", "It rains.", "answered"),
        ("finish", "card", "It rains.", "answered"),
        ("say", "Busy."),
    ]


def test_many_that_no_thread_can_be_had_for_come_through_later(
    box: Outbox, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(0.05))
    monkeypatch.setattr(outbox, "_MAX_THREADS", 2)
    replies = [RecordingReply() for _ in range(30)]
    deliveries = [deliver(box, reply) for reply in replies]
    with no_thread_starts("imRobots-send"):
        for delivery in deliveries[::3]:
            delivery.open()
        for delivery in deliveries[1::3]:
            delivery.resume("card")
            delivery.finish("It rains.", "answered")
        for delivery in deliveries[2::3]:
            delivery.say("Busy.")
        eventually(lambda: len(host.logged(containing="no thread to send with")) >= 30)
        assert not any(reply.calls for reply in replies)
        assert not any(delivery.done.done() for delivery in deliveries)
    for delivery in deliveries[::3]:
        delivery.finish("It rains.", "answered")
    assert all(delivery.done.result(WAIT) for delivery in deliveries)
    assert [reply.sent for reply in replies] == [[("open", "Rain?"), LAST_WORD], [LAST_WORD], [("say", "Busy.")]] * 10


def test_the_outbox_works_on_after_failures(box: Outbox) -> None:
    for error in (UNREACHABLE, REFUSED, ValueError("a mistake")):
        reply = RecordingReply()
        reply.raises = {method: [error] for method in ("open", "progress", "finish")}
        reply.gates["open"] = threading.Event()
        delivery = deliver(box, reply)
        delivery.open()
        delivery.progress(saying("It"))
        delivery.finish("It rains.", "answered")
        reply.gates["open"].set()
        assert delivery.done.result(WAIT) is (error is UNREACHABLE)


# The pace


class Turnstile(Limiter):
    """A limiter that lets through what the test lets through, in the order that it lets it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.free = dict.fromkeys(("open", "update", "say"), 0)
        self.slowed: list[str] = []

    def take(self, api: str, now: float, leave: int = 0) -> float:
        if self.free[api]:
            self.free[api] -= 1
            return 0.0
        return now + 0.002

    def slow_down(self, api: str, now: float) -> None:
        self.slowed.append(api)


@pytest.fixture
def turnstile() -> Turnstile:
    return Turnstile()


@pytest.fixture
def paced(host: FakeHost, turnstile: Turnstile) -> Iterator[Outbox]:
    box = Outbox("robots.hr", turnstile)
    yield box
    turnstile.free.update(open=10_000, update=10_000, say=10_000)
    box.close(Deadline(0))


def test_where_only_so_many_may_go_last_words_go_first(paced: Outbox, turnstile: Turnstile) -> None:
    replies = {name: RecordingReply(name) for name in ("Ann", "Bob", "Cid", "Dan")}
    turnstile.free["open"] = 4
    cards = {name: opened(paced, reply) for name, reply in replies.items()}
    for name in ("Ann", "Bob"):
        cards[name].progress(saying("It"))
    for name in ("Cid", "Bob", "Dan"):
        cards[name].finish("It rains.", "answered")
    order = []
    for _ in range(4):
        before = {name for name, reply in replies.items() if len(reply.sent) > 1}
        turnstile.free["update"] = 1
        eventually(lambda before=before: {name for name, reply in replies.items() if len(reply.sent) > 1} != before)
        order += [name for name, reply in replies.items() if len(reply.sent) > 1 and name not in before]
    assert order == ["Cid", "Bob", "Dan", "Ann"]
    assert replies["Bob"].tried("progress") == []


@pytest.mark.parametrize("api", ["open", "update", "say"])
def test_a_pace_that_one_api_has_to_keep_holds_no_other_up(paced: Outbox, turnstile: Turnstile, api: str) -> None:
    card, sentence, new = RecordingReply(), RecordingReply(), RecordingReply()
    turnstile.free["open"] = 1
    answer = opened(paced, card)
    answer.finish("It rains.", "answered")
    deliver(paced, sentence).say("Busy.")
    deliver(paced, new).open()
    replies = {"update": card, "say": sentence, "open": new}
    methods = {"update": "finish", "say": "say", "open": "open"}
    turnstile.free.update({other: 1 for other in replies if other != api})
    for other, reply in replies.items():
        if other != api:
            reply.wait_for_call(methods[other])
    assert replies[api].tried(methods[api]) == []
    turnstile.free[api] = 1
    replies[api].wait_for_call(methods[api])


@pytest.mark.parametrize(
    ("method", "handle", "api"),
    [
        ("open", "card", "open"),
        ("progress", "card", "update"),
        ("finish", "card", "update"),
        ("finish", None, "say"),
        ("say", "card", "say"),
    ],
)
def test_what_the_platform_refuses_as_too_much_slows_that_api_down(
    paced: Outbox, turnstile: Turnstile, host: FakeHost, method: str, handle: object, api: str
) -> None:
    turnstile.free.update(open=9, update=9, say=9)
    reply = RecordingReply(handle=handle)
    reply.raises[method] = [RateLimited("slow down")]
    one = deliver(paced, reply)
    if method == "say":
        one.say("Busy.")
    else:
        one.open()
        if method == "progress":
            one.progress(saying("It"))
            reply.wait_for_call("progress")
        one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert turnstile.slowed == [api]


def test_any_other_trouble_slows_nothing_down(paced: Outbox, turnstile: Turnstile) -> None:
    turnstile.free.update(open=9, update=9)
    reply = RecordingReply()
    reply.raises = {"open": [UNREACHABLE, NO_ANSWER], "finish": [UNREACHABLE, REFUSED]}
    one = deliver(paced, reply)
    one.open()
    one.finish("It rains.", "answered")
    turnstile.free["say"] = 1
    assert one.done.result(WAIT) is True
    assert turnstile.slowed == []


def test_a_burst_of_first_cards_keeps_the_pace(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_WINDOW_SECONDS", 0.06)
    box = Outbox("robots.hr", Limiter(3))
    times: list[float] = []

    class Timed(RecordingReply):
        def open(self, question: str) -> object:
            times.append(time.monotonic())
            return super().open(question)

    cards = [deliver(box, Timed()) for _ in range(7)]
    for card in cards:
        card.open()
    for card in cards:
        card.finish("It rains.", "answered")
    assert all(card.done.result(WAIT) for card in cards)
    assert len(times) == 7
    assert times[6] - times[0] >= 0.11
    assert box.close(Deadline(WAIT)) == 0


def test_no_last_word_waits_behind_progress(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_WINDOW_SECONDS", 0.01)
    monkeypatch.setattr(outbox, "_STILL_SECONDS", 0.1)
    box = Outbox("robots.hr", Limiter(1))
    calls: list[str] = []

    class Noted(RecordingReply):
        def _call(self, method: str, *arguments: object) -> None:
            calls.append(method)
            super()._call(method, *arguments)

    cards = [opened(box, Noted()) for _ in range(10)]
    for card in cards:
        card.progress(saying("It"))
    eventually(lambda: "progress" in calls)
    before = calls.count("progress")
    cards[-1].finish("It rains.", "answered")
    assert cards[-1].done.result(WAIT) is True
    sent = calls[: calls.index("finish")].count("progress")
    assert sent <= before + 1, "one may have been taken already"
    box.close(Deadline(0))


# An update that nobody knows the outcome of


@pytest.fixture
def make_unsure(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], Outbox]]:
    boxes: list[Outbox] = []

    def make(seconds: float) -> Outbox:
        monkeypatch.setattr(outbox, "_UNSURE_SECONDS", seconds)
        boxes.append(Outbox("robots.hr", Limiter(0)))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close(Deadline(0))


def unsure_of(box: Outbox, *errors: Exception | None) -> tuple[Delivery, RecordingReply]:
    """A card whose updates, one for each error, came to what is given."""
    reply = RecordingReply()
    reply.raises["progress"] = list(errors)
    one = opened(box, reply)
    for number in range(1, len(errors) + 1):
        one.progress(saying(f"text {number}"))
        reply.wait_for_call("progress", number)
    return one, reply


LAST_WORD = ("finish", "card", "It rains.", "answered")


@pytest.mark.parametrize("errors", [(NO_ANSWER,), (NO_ANSWER, None), (NO_ANSWER, NO_ANSWER, UNREACHABLE)])
def test_after_an_update_that_may_still_land_the_last_word_is_said_once_more(
    make_unsure: Callable[[float], Outbox], errors: tuple[Exception | None, ...]
) -> None:
    box = make_unsure(0.06)
    one, reply = unsure_of(box, *errors)
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    answered = time.monotonic()
    assert reply.tried("finish") == [LAST_WORD], "nobody waits for the repetition"
    assert box.unsent == 0
    reply.wait_for_call("finish", 2)
    assert time.monotonic() - answered >= 0.04
    assert reply.tried("finish") == [LAST_WORD] * 2
    reply.wait_until(lambda reply: len(reply.sent) == 1 + errors.count(None) + 2)
    assert box.close(Deadline(WAIT)) == 0
    assert reply.tried("finish") == [LAST_WORD] * 2


@pytest.mark.parametrize("error", [None, UNREACHABLE, RateLimited("slow down"), REFUSED, ValueError("a mistake")])
def test_after_updates_whose_outcome_is_known_nothing_is_said_twice(
    make_unsure: Callable[[float], Outbox], error: Exception | None
) -> None:
    box = make_unsure(0.0)
    one, reply = unsure_of(box, error)
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert box.close(Deadline(WAIT)) == 0
    assert reply.tried("finish") == [LAST_WORD]


def test_a_last_word_that_left_its_card_is_not_repeated(make_unsure: Callable[[float], Outbox]) -> None:
    box = make_unsure(0.0)
    one, reply = unsure_of(box, NO_ANSWER)
    reply.raises["finish"] = [REFUSED]
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert box.close(Deadline(WAIT)) == 0
    assert [call[1] for call in reply.tried("finish")] == ["card", None]


@pytest.mark.parametrize("error", [UNREACHABLE, NO_ANSWER, REFUSED, ValueError("a mistake")])
def test_a_repetition_that_fails_is_left_at_that(
    make_unsure: Callable[[float], Outbox], host: FakeHost, error: Exception
) -> None:
    box = make_unsure(0.0)
    one, reply = unsure_of(box, NO_ANSWER)
    reply.raises["finish"] = [None, error]
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    eventually(lambda: host.logged("warning", "once more"))
    assert box.close(Deadline(WAIT)) == 0
    assert reply.tried("finish") == [LAST_WORD] * 2
    assert one.done.result() is True


@pytest.mark.parametrize("unsure", [1, 10, 18])
def test_with_the_repetition_too_a_card_is_updated_twenty_times_at_most(
    make_unsure: Callable[[float], Outbox], unsure: int
) -> None:
    box = make_unsure(0.0)
    reply = RecordingReply()
    reply.raises["progress"] = [*[None] * (unsure - 1), NO_ANSWER]
    one = opened(box, reply)
    for number in range(1, 25):
        one.progress(saying(f"text {number}"))
        settle(box)
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    reply.wait_for_call("finish", 2)
    assert reply.calls[-2:] == [LAST_WORD] * 2
    assert len(reply.calls) - 1 <= MAX_UPDATES


def test_at_the_end_the_repetition_comes_at_once(make_unsure: Callable[[float], Outbox]) -> None:
    box = make_unsure(3600.0)
    one, reply = unsure_of(box, NO_ANSWER)
    late, late_reply = unsure_of(box, NO_ANSWER)
    late_reply.gates["finish"] = threading.Event()
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    late.finish("It rains.", "answered")
    late_reply.wait_for_call("finish")
    lost = closing(box, Deadline(2 * WAIT))
    reply.wait_for_call("finish", 2)
    assert not lost.done()
    late_reply.gates["finish"].set()
    assert lost.result(WAIT) == 0
    for told in (reply, late_reply):
        assert told.tried("finish") == [LAST_WORD] * 2


# A sign of life where there is no card


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_delivery, "_PATIENCE", 0.03)


def without_a_card(box: Outbox, how: str, question: str = "Rain?") -> tuple[Delivery, RecordingReply]:
    reply = RecordingReply(question, handle=None)
    one = deliver(box, reply, question)
    if how == "resumed":
        one.resume(None)
    else:
        reply.raises["open"] = [REFUSED] if how == "refused" else []
        one.open()
    return one, reply


@pytest.mark.parametrize("how", ["refused", "none to be had", "resumed"])
@pytest.mark.parametrize("question", ["Rain?", "下雨吗？"])
def test_who_gets_no_card_is_told_once_that_it_is_worked_on(
    box: Outbox, impatient: None, how: str, question: str
) -> None:
    one, reply = without_a_card(box, how, question)
    reply.wait_for_call("say")
    assert reply.shown == reply.texts.thinking
    assert time.monotonic() - one.asked_at >= 0.03
    one.progress(saying("It"))
    threading.Event().wait(0.03)  # another one would come now
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert reply.sent == [*reply.sent[:-2], ("say", reply.texts.thinking), ("finish", None, "It rains.", "answered")]
    assert len(reply.tried("say")) == 1


def test_who_is_answered_soon_is_told_nothing_else(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    one, reply = without_a_card(box, "resumed")
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert box.close(Deadline(WAIT)) == 0
    assert reply.calls == [("finish", None, "It rains.", "answered")]


def test_who_has_a_card_is_told_nothing_else(box: Outbox, impatient: None) -> None:
    reply, other = RecordingReply(), RecordingReply(handle=None)
    one = opened(box, reply)
    deliver(box, other).open()
    other.wait_for_call("say")
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert reply.tried("say") == []


@pytest.mark.parametrize("error", [UNREACHABLE, RateLimited("slow down"), REFUSED, ValueError("a mistake")])
def test_a_sign_of_life_that_fails_is_left_at_that(
    box: Outbox, host: FakeHost, impatient: None, error: Exception
) -> None:
    one, reply = without_a_card(box, "resumed")
    reply.raises["say"] = [error]
    eventually(lambda: host.logged("warning", "sign of life"))
    assert not one.done.done()
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert [call[0] for call in reply.calls] == ["say", "finish"]


def test_a_last_word_that_comes_during_the_sign_of_life_comes_after_it(box: Outbox, impatient: None) -> None:
    one, reply = without_a_card(box, "resumed")
    reply.gates["say"] = threading.Event()
    reply.wait_for_call("say")
    one.finish("It rains.", "answered")
    assert reply.tried("finish") == []
    reply.gates["say"].set()
    assert one.done.result(WAIT) is True
    assert [call[0] for call in reply.sent] == ["say", "finish"]


# A card that is there already, and one that shows no progress


def test_a_card_of_another_process_is_gone_on_with(box: Outbox) -> None:
    reply = RecordingReply()
    one = deliver(box, reply)
    one.resume({"card": 7})
    one.progress(saying("It"))
    reply.wait_until_shown("It")
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert reply.calls == [("progress", {"card": 7}, "It"), ("finish", {"card": 7}, "It rains.", "answered")]


def test_where_calls_are_scarce_a_card_shows_its_first_and_its_last_word(box: Outbox) -> None:
    reply = RecordingReply()
    one = deliver(box, reply)
    one.frugal = True
    one.open()
    one.progress(saying("It"))
    reply.wait_until(lambda reply: reply.sent)
    settle(box)
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert reply.calls == [("open", "Rain?"), LAST_WORD]


# Who is told


@pytest.mark.parametrize(("handle", "error"), [("card", None), (None, None), (None, REFUSED)])
def test_whoever_asked_is_told_of_the_card_before_its_first_update(
    box: Outbox, handle: object, error: Exception | None
) -> None:
    told: list[tuple[object, int]] = []
    reply = RecordingReply(handle=handle)
    reply.raises["open"] = [UNREACHABLE, error]
    done: Future[bool] = Future()
    one = Delivery(box, reply, "Rain?", done, lambda handle: told.append((handle, len(reply.calls))))
    one.open()
    one.finish("It rains.", "answered")
    assert done.result(WAIT) is True
    assert told == ([] if error else [(handle, 2)])


def test_a_card_that_cannot_be_remembered_gets_its_answer(box: Outbox, host: FakeHost) -> None:
    def forget(handle: object) -> None:
        raise TypeError("no JSON")

    reply = RecordingReply()
    one = Delivery(box, reply, "Rain?", Future(), forget)
    one.open()
    one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is True
    assert reply.calls == [("open", "Rain?"), LAST_WORD]
    (record,) = host.logged("exception", "cannot be remembered")
    assert "no JSON" in record.traceback
    assert box.unsent == 0


@pytest.mark.parametrize("how", ["answered", "given up", "closed", "dropped"])
def test_whoever_is_told_of_the_end_may_use_the_outbox_at_once(
    host: FakeHost, box: Outbox, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    held_up: list[bool] = []

    def use_it(done: Future[bool]) -> None:
        thread = threading.Thread(target=deliver(box, RecordingReply()).open)
        thread.start()
        thread.join(WAIT)
        held_up.append(thread.is_alive())

    reply = RecordingReply()
    one = deliver(box, reply)
    one.done.add_done_callback(use_it)
    if how == "dropped":
        monkeypatch.setattr(outbox, "_MAX_SENTENCES", 0)
        one.say("Busy.")
    elif how == "closed":
        reply.gates["open"] = threading.Event()
        one.open()
        reply.wait_for_call("open")
        box.close(Deadline(0))
        reply.gates["open"].set()
    else:
        reply.raises["finish"] = [] if how == "answered" else [REFUSED, REFUSED]
        one.open()
        one.finish("It rains.", "answered")
    assert one.done.result(WAIT) is (how == "answered")
    eventually(lambda: held_up)
    assert held_up == [False]


# Closing


def closing(box: Outbox, deadline: Deadline) -> Future[int]:
    lost: Future[int] = Future()
    threading.Thread(target=lambda: lost.set_result(box.close(deadline)), daemon=True).start()
    return lost


def test_closing_waits_until_everything_is_out(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["open"] = threading.Event()
    reply.raises["finish"] = [UNREACHABLE]
    delivery = deliver(box, reply)
    delivery.open()
    delivery.finish("It rains.", "answered")
    reply.wait_for_call("open")
    lost = closing(box, Deadline(WAIT))
    assert not lost.done()
    reply.gates["open"].set()
    assert lost.result(WAIT) == 0
    assert delivery.done.result(WAIT) is True
    assert reply.shown == "It rains."


def test_closing_an_idle_outbox_does_not_wait_for_the_deadline(box: Outbox) -> None:
    assert closing(box, Deadline(10 * WAIT)).result(WAIT) == 0


def test_closing_twice_is_harmless(box: Outbox) -> None:
    assert box.close(Deadline(WAIT)) == 0
    assert box.close(Deadline(WAIT)) == 0


def test_closing_gives_up_at_its_deadline_what_hangs(box: Outbox) -> None:
    replies = [RecordingReply(), RecordingReply()]
    deliveries = [deliver(box, reply) for reply in replies]
    for reply, delivery in zip(replies, deliveries, strict=True):
        reply.gates["open"] = threading.Event()
        delivery.open()
        delivery.finish("It rains.", "answered")
        reply.wait_for_call("open")
    assert closing(box, Deadline(0.02)).result(WAIT) == 2
    assert [delivery.done.result(WAIT) for delivery in deliveries] == [False, False]
    assert box.unsent == 0
    for reply in replies:
        reply.gates["open"].set()
        reply.wait_until(lambda reply: reply.sent)


def test_closing_gives_up_what_waits_for_its_next_try(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(3600.0))
    reply = RecordingReply()
    reply.raises["finish"] = [UNREACHABLE]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    reply.wait_for_call("finish")
    assert closing(box, Deadline(0.02)).result(WAIT) == 1
    assert delivery.done.result(WAIT) is False


def test_after_closing_nothing_is_sent(box: Outbox, host: FakeHost) -> None:
    reply, silent = RecordingReply(), RecordingReply()
    delivery = opened(box, reply)
    box.close(Deadline(0))
    assert not delivery.finish("late", "answered")
    delivery.progress(saying("late"))
    late: Callable[[Delivery], object]
    for late in (Delivery.open, lambda delivery: delivery.say("x"), lambda delivery: delivery.finish("x", "answered")):
        another = deliver(box, silent)
        late(another)
        assert another.done.result(WAIT) is False
    assert reply.calls == [("open", "Rain?")]
    assert silent.calls == []
    assert host.logged("warning", "dropped")


def test_a_call_that_returns_after_closing_changes_nothing(box: Outbox) -> None:
    reply = RecordingReply()
    reply.gates["finish"] = threading.Event()
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    reply.wait_for_call("finish")
    assert box.close(Deadline(0)) == 1
    reply.gates["finish"].set()
    reply.wait_until(lambda reply: reply.shown == "It rains.")
    assert delivery.done.result(WAIT) is False


@pytest.mark.parametrize("error", [UNREACHABLE, RateLimited("slow down"), REFUSED])
def test_of_a_call_that_fails_after_closing_nobody_says_that_it_is_tried_again(
    box: Outbox, host: FakeHost, error: Exception
) -> None:
    reply = RecordingReply()
    reply.gates["finish"] = threading.Event()
    reply.raises["finish"] = [error]
    delivery = opened(box, reply)
    delivery.finish("It rains.", "answered")
    reply.wait_for_call("finish")
    assert box.close(Deadline(0)) == 1
    reply.gates["finish"].set()
    eventually(host.logged)
    (record,) = host.logged()
    assert "the last word was not sent before the robot had to stop" in record.message


# What the log says


def test_every_line_names_the_element(host: FakeHost, box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(handle: object) -> None:
        raise TypeError("no JSON")

    reply = RecordingReply()
    errors: list[BaseException | None] = [UNREACHABLE, NO_ANSWER, RateLimited("slow down"), REFUSED, ValueError("oh")]
    for error in errors:
        for method in ("open", "progress", "finish", "say"):
            reply = RecordingReply()
            reply.raises[method] = [error]
            one = Delivery(box, reply, "Rain?", Future(), forget)
            if method == "say":
                one.say("Busy.")
            else:
                one.open()
                one.progress(saying("It"))
                reply.wait_for_call("progress" if method == "progress" else "open")
                one.finish("It rains.", "answered")
            one.done.result(WAIT)
    monkeypatch.setattr(outbox, "_MAX_SENTENCES", 0)
    deliver(box, reply).say("Busy.")
    assert len(host.logged()) > len(errors) * 4
    assert [record for record in host.logged() if not record.message.startswith("robots.hr: ")] == []


# Used by everybody at once


def test_many_people_get_their_answers_whatever_fails(box: Outbox) -> None:
    errors = itertools.cycle([None, UNREACHABLE, None, RateLimited("slow down"), None, None])
    replies = [RecordingReply() for _ in range(120)]
    deliveries = [deliver(box, reply) for reply in replies]
    for reply in replies:
        reply.raises = {method: [next(errors) for _ in range(5)] for method in ("open", "progress", "finish")}

    def ask(some: list[Delivery]) -> None:
        for delivery in some:
            delivery.open()
        for text in ("It", "It rains"):
            for delivery in some:
                delivery.progress(saying(text))
        for delivery in some:
            assert delivery.finish("It rains.", "answered")

    threads = [threading.Thread(target=ask, args=(deliveries[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for reply, delivery in zip(replies, deliveries, strict=True):
        assert delivery.done.result(WAIT) is True
        assert reply.most_at_once == 1
        assert reply.shown == "It rains."
        assert [call[0] for call in reply.sent].count("open") == 1
    for thread in threads:
        thread.join()
    assert box.unsent == 0


def test_progress_leaves_a_place_in_the_pace_for_every_last_word() -> None:
    box = Outbox("robots.hr", Limiter(4))
    replies = [RecordingReply() for _ in range(4)]
    deliveries = [opened(box, reply) for reply in replies]
    for delivery in deliveries:
        delivery.progress(saying("half"))
    for delivery in deliveries:
        delivery.finish("whole", "answered")
    for delivery in deliveries:
        assert delivery.done.result(0.9) is True, "within the first second"
    assert not any(reply.tried("progress") for reply in replies)
    assert box.close(Deadline(WAIT)) == 0


def test_a_card_that_stands_still_may_take_a_place_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox._STILL_SECONDS", 0.2)
    box = Outbox("robots.hr", Limiter(4))
    replies = [RecordingReply() for _ in range(4)]
    for delivery in [opened(box, reply) for reply in replies]:
        delivery.progress(saying("half"))
    eventually(lambda: sum(len(reply.tried("progress")) for reply in replies) == 2)
    box.close(Deadline(0.01))
