"""One thread that does one thing after the other, at once or later, or what has come by then all together."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from imRobots.Meta import Deadline, one_thread
from imRobots.Meta.one_thread import Batch, OneThread

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


def test_at_the_end_it_does_also_what_the_last_works_bring(thread: OneThread) -> None:
    gate, done = threading.Event(), []
    thread.do(lambda: pass_through(gate))
    thread.do(lambda: thread.do(lambda: done.append("brought")))
    ending = threading.Thread(target=thread.end, args=(Deadline(WAIT),))
    ending.start()
    eventually(lambda: thread._queue.qsize() == 2)  # the end is in line
    gate.set()
    ending.join(WAIT)
    assert done == ["brought"]
    assert not is_alive()


def test_it_can_be_ended_twice(thread: OneThread) -> None:
    gate = threading.Event()
    thread.do(lambda: pass_through(gate))
    for _ in range(2):
        thread.end(Deadline(0))
    gate.set()
    eventually(lambda: not is_alive())


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


# What has come by then, all together


@contextlib.contextmanager
def busy(thread: OneThread) -> Iterator[None]:
    """It has something else to do meanwhile, and all is done that was given before and meanwhile at the end."""
    gate, entered = threading.Event(), threading.Event()
    thread.do(lambda: (entered.set(), pass_through(gate)))  # type: ignore[arg-type, return-value]
    assert entered.wait(WAIT)
    yield
    gate.set()
    settle(thread)


def test_what_comes_while_the_thread_is_busy_is_taken_up_together_in_order_and_once(thread: OneThread) -> None:
    taken: list[tuple[list[int], str]] = []
    batch: Batch[int] = Batch(thread, lambda things: taken.append((things, threading.current_thread().name)))
    with busy(thread):
        for number in range(5):
            batch.put(number)
        assert taken == []
    assert taken == [([0, 1, 2, 3, 4], NAME)]
    with busy(thread):
        batch.put(5)
    assert taken[1:] == [([5], NAME)]


def test_what_comes_while_a_batch_is_taken_up_is_in_the_next(thread: OneThread) -> None:
    taken: list[list[str]] = []
    gate, entered = threading.Event(), threading.Event()

    def take(things: list[str]) -> None:
        taken.append(things)
        if len(taken) == 1:
            entered.set()
            pass_through(gate)
            batch.put("from within")

    batch: Batch[str] = Batch(thread, take)
    batch.put("first")
    assert entered.wait(WAIT)
    batch.put("second")
    batch.put("third")
    gate.set()
    settle(thread)
    assert taken == [["first"], ["second", "third", "from within"]]


def test_an_error_with_some_loses_nothing_that_comes_later(
    thread: OneThread, errors: list[BaseException | None]
) -> None:
    taken: list[list[str]] = []
    trouble = SystemExit(1)

    def take(things: list[str]) -> None:
        taken.append(things)
        if len(taken) == 1:
            batch.put("while it fails")
            raise trouble

    batch: Batch[str] = Batch(thread, take)
    with busy(thread):
        batch.put("bad")
    assert errors == [trouble]
    with busy(thread):
        batch.put("later")
    assert taken == [["bad"], ["while it fails"], ["later"]]


def test_of_very_many_some_are_taken_up_at_a_time_and_a_mistake_with_those_costs_no_others(
    thread: OneThread, errors: list[BaseException | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_thread, "_MAX_AT_ONCE", 2)
    taken: list[list[int]] = []

    def take(things: list[int]) -> None:
        taken.append(things)
        if 2 in things:
            raise ValueError

    batch: Batch[int] = Batch(thread, take)
    with busy(thread):
        for number in range(5):
            batch.put(number)
    assert taken == [[0, 1], [2, 3], [4]]
    assert len(errors) == 1


def test_a_batch_is_full_while_too_much_waits(thread: OneThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_thread, "_MAX_WAITING", 2)
    batch: Batch[int] = Batch(thread, lambda things: None)
    with busy(thread):
        fullness = [batch.is_full]
        for number in range(3):
            batch.put(number)
            fullness.append(batch.is_full)
        assert not thread.is_full, "a batch is one thing to do"
    assert [*fullness, batch.is_full] == [False, False, True, True, False]


def test_on_its_thread_one_can_have_at_once_what_waits(thread: OneThread) -> None:
    events: list[object] = []
    batch: Batch[int] = Batch(thread, events.append)

    def look() -> None:
        batch.take_up()
        events.append("looked")
        batch.take_up()
        batch.put(3)

    with busy(thread):
        thread.do(look)
        batch.put(1)
        batch.put(2)
        thread.do(lambda: events.append("next"))
    assert events[:2] == [[1, 2], "looked"]
    assert events[2:] in (["next", [3]], [[3], "next"]), "nothing twice"
    with busy(thread):
        batch.put(4)
    assert events[4:] == [[4]]


def test_of_what_many_threads_put_nothing_is_lost_or_out_of_order(thread: OneThread) -> None:
    taken: list[tuple[int, int]] = []
    batch: Batch[tuple[int, int]] = Batch(thread, taken.extend)
    start = threading.Barrier(4)

    def put(name: int) -> None:
        start.wait()
        for number in range(500):
            batch.put((name, number))

    threads = [threading.Thread(target=put, args=(name,)) for name in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    settle(thread)
    assert len(taken) == 4 * 500
    for name in range(4):
        assert [number for who, number in taken if who == name] == list(range(500))
