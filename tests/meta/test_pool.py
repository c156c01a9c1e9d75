"""Threads that come and go."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from imRobots.Meta import Deadline
from imRobots.Meta import pool as meta_pool
from imRobots.Meta.pool import DaemonPool

from .helpers import WAIT, eventually, no_thread_starts, pass_through

NAME = "imRobots-test"


@pytest.fixture
def pool() -> Iterator[DaemonPool]:
    pool = DaemonPool(NAME)
    yield pool
    pool.close(Deadline(WAIT))


def run_and_wait(pool: DaemonPool) -> threading.Thread:
    """Runs a job and returns the thread that ran it."""
    ran: Future[threading.Thread] = Future()
    pool.run(lambda: ran.set_result(threading.current_thread()))
    return ran.result(WAIT)


def living() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_each_job_runs_at_once(pool: DaemonPool) -> None:
    together = threading.Barrier(21)
    for _ in range(20):
        pool.run(lambda: together.wait(WAIT) and None)
    together.wait(WAIT)


def test_the_interpreter_never_waits_for_its_threads(pool: DaemonPool) -> None:
    assert run_and_wait(pool).daemon


def test_an_idle_thread_is_used_again(pool: DaemonPool) -> None:
    used: set[threading.Thread] = set()
    for _ in range(200):  # a thread is idle only some moments after its job
        thread = run_and_wait(pool)
        if thread in used:
            return
        used.add(thread)
    pytest.fail("each job had a thread of its own")


def test_an_idle_thread_ends_after_a_while(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_pool, "_IDLE_SECONDS", 0.01)
    for _ in range(2):
        run_and_wait(pool)
        eventually(lambda: not living())


def test_no_job_is_lost_while_threads_come_and_go(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_pool, "_IDLE_SECONDS", 0.001)
    pause = threading.Event()
    for _ in range(150):
        for _ in range(random.randint(1, 3)):
            run_and_wait(pool)
        pause.wait(random.uniform(0.0005, 0.0015))


def test_where_no_more_threads_can_be_had_a_job_waits_for_one(pool: DaemonPool) -> None:
    gate = threading.Event()
    pool.run(lambda: pass_through(gate))
    with no_thread_starts(NAME):
        waiting: list[Future[None]] = [Future() for _ in range(3)]
        for job in waiting:
            pool.run(functools.partial(job.set_result, None))
    assert not any(job.done() for job in waiting)
    run_and_wait(pool)
    gate.set()
    for job in waiting:
        job.result(WAIT)


def test_where_not_one_thread_can_be_had_the_job_is_not_taken(pool: DaemonPool) -> None:
    ran: list[str] = []
    with no_thread_starts(NAME), pytest.raises(RuntimeError, match="new thread"):
        pool.run(lambda: ran.append("refused"))
    run_and_wait(pool)
    assert ran == []


def test_after_a_refused_job_each_job_still_runs_at_once(pool: DaemonPool) -> None:
    with no_thread_starts(NAME), pytest.raises(RuntimeError):
        pool.run(lambda: None)
    together = threading.Barrier(4)
    for _ in range(3):
        pool.run(lambda: together.wait(WAIT) and None)
    together.wait(WAIT)


def test_closing_waits_for_the_last_job_and_ends_every_thread() -> None:
    pool = DaemonPool(NAME)
    gate, finished = threading.Event(), []
    together = threading.Barrier(4)
    for _ in range(3):
        pool.run(lambda: together.wait(WAIT) and None)
    together.wait(WAIT)

    def last() -> None:
        pass_through(gate)
        finished.append(True)

    pool.run(last)
    closing = threading.Thread(target=pool.close, args=(Deadline(WAIT),))
    closing.start()
    gate.set()
    closing.join(WAIT)
    assert finished == [True]
    eventually(lambda: not living())


def test_closing_keeps_its_deadline() -> None:
    pool = DaemonPool(NAME)
    gate = threading.Event()
    pool.run(lambda: pass_through(gate))
    pool.close(Deadline(0.05))
    assert living()
    gate.set()
    eventually(lambda: not living())


def test_a_job_may_close_its_own_pool() -> None:
    pool = DaemonPool(NAME)
    closed = threading.Event()

    def close() -> None:
        pool.close(Deadline(WAIT))
        closed.set()

    pool.run(close)
    assert closed.wait(WAIT / 2), "it waits for itself"
    eventually(lambda: not living())
