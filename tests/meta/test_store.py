"""What a robot remembers, by a clock that the tests move."""

from __future__ import annotations

import threading

import pytest

from imRobots.Meta import Store, store

DAY = 24 * 60 * 60.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_message_is_accepted_once(clock: Clock) -> None:
    memory = Store(clock)
    assert [memory.accept("m1"), memory.accept("m2"), memory.accept("m1"), memory.accept("m2")] == [
        True,
        True,
        False,
        False,
    ]


def test_something_is_said_once_a_day(clock: Clock) -> None:
    memory = Store(clock)
    assert memory.once_a_day("quota c1")
    assert memory.once_a_day("quota c2")
    clock.now += DAY - 1
    assert not memory.once_a_day("quota c1")
    clock.now += 2
    assert memory.once_a_day("quota c1")
    assert not memory.once_a_day("quota c1")


def test_a_day_is_counted_from_the_first_time(clock: Clock) -> None:
    memory = Store(clock)
    assert memory.accept("m1")
    clock.now += DAY - 1
    assert not memory.accept("m1")
    clock.now += 2
    assert memory.accept("m1")


def test_what_is_younger_than_a_day_is_kept_when_the_older_is_forgotten(clock: Clock) -> None:
    memory = Store(clock)
    memory.accept("old")
    clock.now += DAY / 2
    memory.accept("young")
    clock.now += DAY / 2
    assert memory.accept("old")
    assert not memory.accept("young")


def test_messages_and_other_things_are_told_apart(clock: Clock) -> None:
    memory = Store(clock)
    assert memory.accept("x")
    assert memory.once_a_day("x")
    assert not memory.accept("x")


def test_each_robot_remembers_for_itself(clock: Clock) -> None:
    first, second = Store(clock), Store(clock)
    assert first.accept("m1")
    assert second.accept("m1")


def test_it_never_remembers_more_than_its_bound(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST", 3)
    memory = Store(clock)
    assert all(memory.accept(name) for name in "abcd")
    assert not memory.accept("d")
    assert not memory.accept("c")
    assert memory.accept("a"), "the oldest makes room"


def test_one_of_many_threads_gets_a_message(clock: Clock) -> None:
    memory = Store(clock)
    start = threading.Barrier(8)
    accepted: list[int] = []

    def take() -> None:
        start.wait()
        accepted.extend(number for number in range(500) if memory.accept(str(number)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(accepted) == list(range(500))


def test_by_default_time_passes_by_itself() -> None:
    memory = Store()
    assert memory.accept("m1")
    assert not memory.accept("m1")
