"""What a robot tells of itself in numbers."""

from __future__ import annotations

import json
import shlex
import threading
from typing import Any

import pytest

from imRobots.Meta import Health, health, one_line


def test_counters_begin_at_nothing_and_count() -> None:
    numbers = Health("answered", "failed")
    assert numbers.status() == {"answered": 0, "failed": 0}
    for name in ("answered", "answered", "dropped"):
        numbers.count(name)
    assert numbers.status() == {"answered": 2, "failed": 0, "dropped": 1}


def test_what_was_told_changes_no_more() -> None:
    numbers = Health("answered")
    told = numbers.status()
    numbers.count("answered")
    assert told == {"answered": 0}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.25], {"p50": 250.0, "p95": 250.0}),
        ([number / 1000 for number in range(100, -1, -1)], {"p50": 50.0, "p95": 95.0}),
        ([0.001] * 90 + [9.0] * 10, {"p50": 1.0, "p95": 9000.0}),
        ([0.12344], {"p50": 123.4, "p95": 123.4}),
        ([0.0], {"p50": 0.0, "p95": 0.0}),
    ],
)
def test_durations_are_told_in_milliseconds(seconds: list[float], expected: dict[str, float]) -> None:
    numbers = Health()
    for one in seconds:
        numbers.took("answer", one)
    assert numbers.status() == {"answer_ms": expected}


def test_only_the_newest_durations_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SAMPLES", 3)
    numbers = Health()
    for seconds in (9.0, 9.0, 9.0, 1.0, 1.0, 1.0):
        numbers.took("answer", seconds)
    assert numbers.status()["answer_ms"] == {"p50": 1000.0, "p95": 1000.0}


def test_nothing_is_lost_when_many_threads_count() -> None:
    numbers = Health()

    def work() -> None:
        for _ in range(500):
            numbers.count("answered")
            numbers.took("answer", 1.0)
            numbers.status()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers.status() == {"answered": 2000, "answer_ms": {"p50": 1000.0, "p95": 1000.0}}


def test_a_status_is_one_line() -> None:
    status = {"state": "connected", "answer_ms": {"p50": 1.5, "p95": 2}, "month": {"calls": 7}, "deep": {"a": {"b": 1}}}
    assert one_line(status) == "state=connected answer_ms.p50=1.5 answer_ms.p95=2 month.calls=7 deep.a.b=1"


@pytest.mark.parametrize(
    "value",
    ["two words", 'a "quoted" word', "a\nnew line answered=7", "tab\t", "\x1b[31m", "连接 中", "\u2028", "\ud83d x"],
)
def test_a_value_with_blanks_or_worse_stays_one_value(value: str) -> None:
    line = one_line({"why": value, "answered": 1})
    assert line.isprintable()
    why, answered = line.removeprefix("why=").rsplit(" ", 1)
    assert json.loads(why) == value
    assert answered == "answered=1"


@pytest.mark.parametrize("value", ["连接", "a=b", 0, None, True, 1.5, "s:1/2"])
def test_a_plain_value_is_shown_as_it_is(value: Any) -> None:
    assert shlex.split(one_line({"key": value})) == [f"key={value}"]
