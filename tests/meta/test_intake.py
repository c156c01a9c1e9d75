"""Messages that come at once: taken in together, and each answered as if it had come alone."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from imRobots.Meta import Deadline, IncomingMessage, Store
from imRobots.Meta.health import Health
from imRobots.Meta.intake import Intake
from imRobots.Meta.one_thread import OneThread
from imRobots.Meta.reply import Reply
from imRobots.Meta.sessions import Sessions
from tests.fakes.host import FakeHost

from .helpers import ROBOT, WAIT, RecordingReply, message, pass_through

Answer = Callable[[IncomingMessage, Reply, "Future[bool]"], None]


class Desk:
    """An intake, and whoever answers what it hands on: at once, and in the order of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.health = Health()
        self.sessions = Sessions("user", store)
        self.errors: list[BaseException | None] = []
        self.thread = OneThread("imRobots-test", lambda: self.errors.append(sys.exc_info()[1]))
        self.intake = Intake(ROBOT, self.thread, store, self.sessions, self.health, self._reply_to, self._answer)
        self.answered: list[IncomingMessage] = []
        self.made: list[tuple[str, Reply]] = []
        self.no_reply_to: dict[str, BaseException] = {}
        self.no_answer_to: dict[str, BaseException] = {}

    def burst(self, *messages: IncomingMessage) -> list[Future[bool]]:
        """All of these while the thread is busy, and wait until they are taken in."""
        with self._busy():
            answers = [self.put(one) for one in messages]
        self.thread.wait_done(Deadline(WAIT))
        return answers

    def put(self, one: IncomingMessage) -> Future[bool]:
        done: Future[bool] = Future()
        self.intake.put(one, done)
        return done

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        gate, entered = threading.Event(), threading.Event()
        self.thread.do(lambda: (entered.set(), pass_through(gate)))  # type: ignore[arg-type, return-value]
        assert entered.wait(WAIT)
        yield
        gate.set()

    def _reply_to(self, one: IncomingMessage) -> Reply:
        if one.message_id in self.no_reply_to:
            raise self.no_reply_to[one.message_id]
        self.made.append((one.message_id, RecordingReply(one.text)))
        return self.made[-1][1]

    def _answer(self, one: IncomingMessage, reply: Reply, done: Future[bool]) -> None:
        if one.message_id in self.no_answer_to:
            raise self.no_answer_to[one.message_id]
        assert (one.message_id, reply) in self.made
        if one.text == "/new":
            self.sessions.begin_anew(one)
        self.answered.append(one)
        done.set_result(True)

    @property
    def ids(self) -> list[str]:
        return [one.message_id for one in self.answered]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "robots.hr.sqlite3"


@pytest.fixture
def open_desk(host: FakeHost) -> Iterator[Callable[[Store], Desk]]:
    opened: list[Desk] = []

    def make(store: Store) -> Desk:
        opened.append(Desk(store))
        return opened[-1]

    yield make
    for desk in opened:
        desk.thread.end(Deadline(WAIT))


@pytest.fixture
def desk(open_desk: Callable[[Store], Desk], file: Path) -> Desk:
    return open_desk(Store(file))


def results(answers: list[Future[bool]]) -> list[bool]:
    return [done.result(0) for done in answers]


def a_full_disk(store: Store, pages: int) -> None:
    """From `pages` more on, as SQLite itself tells it: in the middle of what is being written."""
    db = store._database._db
    used = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {used + pages}")


def test_each_of_a_burst_is_answered_in_order_of_arrival(desk: Desk) -> None:
    messages = [message(number, f"Question {number}?", sender_id=f"s{number % 3}") for number in range(40)]
    assert results(desk.burst(*messages)) == [True] * 40
    assert [(one.message_id, one.text, one.session) for one in desk.answered] == [
        (f"m{number}", f"Question {number}?", f"s{number % 3}") for number in range(40)
    ]
    assert desk.health.status() == {"received": 40}
    assert desk.store.counted("pushes") == 40


def test_a_burst_is_written_at_once(desk: Desk) -> None:
    statements: list[str] = []
    desk.store._database._db.set_trace_callback(statements.append)
    desk.burst(*(message(number) for number in range(40)))
    desk.store._database._db.set_trace_callback(None)
    assert len([one for one in statements if "INTO unfinished" in one]) == 40
    assert [one.split()[0] for one in statements if one.startswith(("BEGIN", "COMMIT"))] == ["BEGIN", "COMMIT"]


def test_nobody_is_answered_before_all_processes_know_of_the_message(desk: Desk, file: Path) -> None:
    other, known = Store(file), []

    def look(one: IncomingMessage, reply: Reply, done: Future[bool]) -> None:
        known.append(not other.accept(one))
        done.set_result(True)

    desk.intake = Intake(ROBOT, desk.thread, desk.store, desk.sessions, desk.health, desk._reply_to, look)
    assert results(desk.burst(message(1), message(2))) == [True, True]
    assert known == [True, True]


def test_what_is_delivered_twice_in_a_burst_is_answered_once(desk: Desk, host: FakeHost) -> None:
    assert results(desk.burst(message(1), message(2), message(1), message(1))) == [True] * 4
    assert desk.ids == ["m1", "m2"]
    assert results(desk.burst(message(2), message(3))) == [True] * 2
    assert desk.ids == ["m1", "m2", "m3"]
    assert desk.health.status() == {"received": 6, "duplicate": 3}
    assert [record.message.split()[2] for record in host.logged("info", "delivered again")] == ["m1", "m1", "m2"]


@pytest.mark.parametrize("error", [KeyError("senderId"), SystemExit(1)])
def test_a_message_without_a_reply_costs_no_other_one(desk: Desk, host: FakeHost, error: BaseException) -> None:
    desk.no_reply_to["m2"] = error
    assert results(desk.burst(message(1), message(2), message(3))) == [True, False, True]
    assert desk.ids == ["m1", "m3"]
    assert desk.health.status() == {"received": 3, "failed": 1}
    (record,) = host.logged("exception")
    assert ROBOT in record.message and type(error).__name__ in record.traceback
    desk.no_reply_to.clear()
    assert results(desk.burst(message(2))) == [True], "it may come again"


@pytest.mark.parametrize("error", [KeyError("place"), SystemExit(1)])
def test_an_answer_that_cannot_be_begun_costs_no_other_one(desk: Desk, host: FakeHost, error: BaseException) -> None:
    desk.no_answer_to["m2"] = error
    assert results(desk.burst(message(1), message(2), message(3))) == [True, False, True]
    assert desk.ids == ["m1", "m3"]
    (record,) = host.logged("exception")
    assert type(error).__name__ in record.traceback


@pytest.mark.parametrize("bursts", [2, 1], ids=["when it was read", "in one burst with it"])
def test_a_session_that_was_begun_anew_holds_for_the_next_message(desk: Desk, bursts: int) -> None:
    before, new, after = message(1), message(2, "/new"), message(3)
    if bursts == 1:
        desk.burst(before, new, after)
    else:
        desk.burst(before, new)
        desk.burst(after)
    assert desk.ids == ["m1", "m2", "m3"]
    sessions = [one.session for one in desk.answered]
    assert sessions[0] == "s1"
    assert sessions[2] == desk.sessions.of(after) != "s1"


# A store that fails


def test_a_file_that_fails_in_the_middle_costs_nobody_the_answer(desk: Desk, host: FakeHost) -> None:
    a_full_disk(desk.store, 12)
    messages = [message(number, "long " * 2000) for number in range(6)]
    assert results(desk.burst(messages[0], *messages)) == [True] * 7
    assert desk.ids == [f"m{number}" for number in range(6)]
    assert desk.health.status() == {"received": 7, "duplicate": 1}
    (record,) = host.logged("warning")
    assert "full" in record.message
    assert results(desk.burst(*messages)) == [True] * 6
    assert len(desk.answered) == 6, "memory knows them"
    assert desk.store.counted("pushes") == 13


def test_a_file_that_nobody_can_write_to_costs_nobody_the_answer(
    open_desk: Callable[[Store], Desk], file: Path, host: FakeHost, monkeypatch: Any
) -> None:
    monkeypatch.setattr("imRobots.Meta.database._BUSY_SECONDS", 0.01)
    desk = open_desk(Store(file))
    other = Store(file)
    other._database._db.execute("BEGIN IMMEDIATE")
    assert results(desk.burst(message(1), message(2), message(1))) == [True] * 3
    other._database._db.execute("ROLLBACK")
    assert desk.ids == ["m1", "m2"]
    assert len(host.logged("warning", "locked")) == 1


def test_whoever_cannot_be_remembered_at_all_is_told_so(open_desk: Callable[[Store], Desk], host: FakeHost) -> None:
    desk = open_desk(Store())
    a_full_disk(desk.store, 4)
    answers = desk.burst(message(1), message(2, "long " * 20_000))
    assert [done.done() for done in answers] == [True, True], "nobody waits for ever"
    assert answers[1].result(0) is False
    assert host.logged("exception", ROBOT)
    assert desk.errors == []
