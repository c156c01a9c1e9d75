"""Deadlines, and the delays between tries."""

from __future__ import annotations

import itertools

import pytest

from imRobots.Meta import Deadline, backoff

from .helpers import eventually


def test_a_deadline_comes_nearer() -> None:
    deadline = Deadline(100)
    first = deadline.left
    assert 0 < first <= 100
    eventually(lambda: deadline.left < first)


@pytest.mark.parametrize("seconds", [0, -5])
def test_after_a_deadline_nothing_is_left(seconds: float) -> None:
    assert Deadline(seconds).left == 0


def test_delays_double_up_to_a_limit_and_vary_by_a_quarter() -> None:
    for _ in range(50):
        delays = list(itertools.islice(backoff(0.5, 10.0), 8))
        for delay, most in zip(delays, [0.5, 1, 2, 4, 8, 10, 10, 10], strict=True):
            assert 0.75 * most <= delay <= most


def test_peers_that_fail_together_do_not_come_back_together() -> None:
    assert len({next(backoff(1.0, 10.0)) for _ in range(20)}) > 10
