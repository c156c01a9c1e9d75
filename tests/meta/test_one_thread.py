"""One thread that does one thing after the other, at once or later."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from imRobots.Meta import Deadline, one_thread
from imRobots.Meta.one_thread import OneThread

from .helpers import WAIT, eventually, pass_through

NAME = "imRobots-test"


@pytest.fixture
def errors() -> list[BaseException | None]:
    return []


@pytest.fixture
def thread(errors: list[BaseException | None]) -> Iterator[OneThread]:
    thread = OneThread(NAME, lambda: errors.append(sys.exc_info()[1]))
    yield thread
    thread.end(Deadline(WAIT))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(one_thread, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def settle(thread: OneThread) -> None:
    """Until all is done that is due by now: timers are looked at after each work."""
    for _ in range(2):
        thread.wait_done(Deadline(WAIT))


def is_alive() -> bool:
    return NAME in [thread.name for thread in threading.enumerate()]


def test_it_does_what_it_is_given_in_order_and_itself(thread: OneThread) -> None:
    done: list[tuple[int, str]] = []
    for number in range(100):
        thread.do(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]
    thread.wait_done(Deadline(WAIT))
    assert done == [(number, NAME) for number in range(100)]


BOTH = pytest.mark.parametrize("inside", [True, False], ids=["from the thread itself", "from another"])


@BOTH
def test_what_is_for_later_is_done_in_the_order_of_its_time(
    clock: SimpleNamespace, thread: OneThread, inside: bool
) -> None:
    done: list[str] = []

    def give() -> None:
        for seconds, name in ((30, "thirty"), (10, "ten"), (20, "twenty"), (10, "ten again")):
            thread.later(seconds, functools.partial(done.append, name))

    if inside:
        thread.do(give)
    else:
        give()
    settle(thread)
    assert done == []
    clock.now += 10
    settle(thread)
    assert done == ["ten", "ten again"]
    clock.now += 100
    settle(thread)
    assert done[2:] == ["twenty", "thirty"]


@BOTH
def test_it_wakes_up_for_what_is_for_later(thread: OneThread, inside: bool) -> None:
    done = threading.Event()
    began = time.monotonic()
    later = functools.partial(thread.later, 0.02, done.set)
    if inside:
        thread.do(later)
    else:
        later()
    assert done.wait(WAIT)
    assert time.monotonic() - began >= 0.02


def test_who_waits_waits_for_what_was_given_before_and_no_longer_than_the_deadline(thread: OneThread) -> None:
    gate, done = threading.Event(), []
    thread.do(lambda: pass_through(gate))
    thread.do(lambda: done.append("before"))
    thread.wait_done(Deadline(0.01))
    assert done == []
    gate.set()
    thread.wait_done(Deadline(WAIT))
    assert done == ["before"]


def test_an_error_is_told_where_it_can_be_logged_and_ends_nothing(
    thread: OneThread, errors: list[BaseException | None]
) -> None:
    troubles = [ValueError("no"), SystemExit(1), KeyError("later")]

    def fail(number: int) -> None:
        raise troubles[number]

    done = threading.Event()
    thread.do(lambda: fail(0))
    thread.do(lambda: fail(1))
    thread.later(0.0, lambda: fail(2))
    thread.later(0.0, done.set)
    assert done.wait(WAIT)
    assert errors == troubles


def test_before_the_end_it_does_what_it_was_given_and_forgets_what_is_not_due(thread: OneThread) -> None:
    gate, done = threading.Event(), []
    thread.do(lambda: pass_through(gate))
    thread.later(3600, lambda: done.append("much later"))
    thread.do(lambda: done.append("now"))
    assert is_alive()
    gate.set()
    thread.end(Deadline(WAIT))
    assert not is_alive()
    assert done == ["now"]


def test_it_can_end_itself(thread: OneThread, errors: list[BaseException | None]) -> None:
    thread.do(lambda: thread.end(Deadline(WAIT)))
    eventually(lambda: not is_alive())
    assert errors == []


def test_nobody_waits_for_what_has_ended(thread: OneThread) -> None:
    thread.end(Deadline(WAIT))
    began = time.monotonic()
    thread.wait_done(Deadline(10 * WAIT))
    thread.end(Deadline(10 * WAIT))
    assert time.monotonic() - began < WAIT


def test_it_is_full_while_too_much_waits(thread: OneThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_thread, "_MAX_WAITING", 2)
    gate, entered = threading.Event(), threading.Event()
    thread.do(lambda: (entered.set(), pass_through(gate)))  # type: ignore[arg-type, return-value]
    assert entered.wait(WAIT)
    fullness = [thread.is_full]
    for _ in range(2):
        thread.do(lambda: None)
        fullness.append(thread.is_full)
    gate.set()
    thread.wait_done(Deadline(WAIT))
    assert [*fullness, thread.is_full] == [False, False, True, False]
