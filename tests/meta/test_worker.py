"""Who is served when: jobs that the tests hold up and let go."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Iterator

import pytest

from imRobots.Meta import Busy, Deadline
from imRobots.Meta.worker import Job, Worker
from tests.fakes.host import FakeHost

from .helpers import WAIT, eventually, no_thread_starts, pass_through


class Jobs:
    """Makes jobs for one worker that wait for `let(name)`, and remembers which ran when."""

    def __init__(self) -> None:
        self.worker = Worker(2, 100)
        self.started: list[str] = []
        self.ended: list[str] = []
        self._gates: dict[str, threading.Event] = {}
        self._changed = threading.Condition()

    def job(self, name: str) -> Job:
        gate = self._gates.setdefault(name, threading.Event())

        def run() -> None:
            with self._changed:
                self.started.append(name)
                self._changed.notify_all()
            pass_through(gate)
            with self._changed:
                self.ended.append(name)
                self._changed.notify_all()

        return run

    def submit(self, *names: str) -> list[Job]:
        """The first letter is the session."""
        made = [self.job(name) for name in names]
        for name, job in zip(names, made, strict=True):
            self.worker.submit(name[0], job)
        return made

    def let(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()

    def let_all(self) -> None:
        self.let(*self._gates)

    def wait_for_start(self, *names: str) -> None:
        """Until these are all that have started."""
        with self._changed:
            assert self._changed.wait_for(lambda: sorted(self.started) == sorted(names), WAIT), self.started

    def wait_for_end(self, *names: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: sorted(self.ended) == sorted(names), WAIT), self.ended

    def places(self) -> dict[Job, int]:
        seen: list[dict[Job, int]] = []
        self.worker.look_at_places(seen.append)
        (places,) = seen
        return places

    def use(self, slots: int, max_waiting: int = 100) -> None:
        self.worker = Worker(slots, max_waiting)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.let_all()
    eventually(lambda: jobs.worker.abandoned == 0)  # closing does not wait for those
    assert jobs.worker.close(Deadline(WAIT)) == 0


def test_jobs_of_several_sessions_run_side_by_side(jobs: Jobs) -> None:
    jobs.submit("a1", "b1")
    jobs.wait_for_start("a1", "b1")
    assert jobs.ended == []


def test_no_more_run_than_there_are_slots(jobs: Jobs) -> None:
    jobs.submit("a1", "b1", "c1", "d1")
    jobs.wait_for_start("a1", "b1")
    assert (jobs.worker.running, jobs.worker.waiting) == (2, 2)
    jobs.let("b1")
    jobs.wait_for_start("a1", "b1", "c1")
    assert (jobs.worker.running, jobs.worker.waiting) == (2, 1)


def test_jobs_of_one_session_run_one_after_the_other_in_order(jobs: Jobs) -> None:
    jobs.submit("a1", "a2", "a3")
    jobs.wait_for_start("a1")
    assert (jobs.worker.running, jobs.worker.waiting) == (1, 2)
    jobs.let("a2", "a3")  # they could end at once, if only they had started
    jobs.let("a1")
    jobs.wait_for_end("a1", "a2", "a3")
    assert jobs.started == ["a1", "a2", "a3"]
    assert jobs.ended == ["a1", "a2", "a3"]


def test_a_busy_session_holds_nobody_up(jobs: Jobs) -> None:
    jobs.submit("a1", "a2", "b1")
    jobs.wait_for_start("a1", "b1")


def test_a_free_slot_goes_to_who_came_first(jobs: Jobs) -> None:
    jobs.use(1)
    jobs.submit("a1", "b1", "a2", "c1", "b2")
    jobs.let_all()
    jobs.wait_for_end("a1", "b1", "a2", "c1", "b2")
    assert jobs.started == ["a1", "b1", "a2", "c1", "b2"]


def test_beyond_the_queue_everybody_is_told_it_is_busy(jobs: Jobs) -> None:
    jobs.use(1, max_waiting=2)
    jobs.submit("a1", "b1", "c1")
    with pytest.raises(Busy) as caught:
        jobs.submit("d1")
    assert not caught.value.one_session
    jobs.let("a1")
    jobs.wait_for_start("a1", "b1")
    jobs.submit("e1")
    jobs.let_all()
    jobs.wait_for_end("a1", "b1", "c1", "e1")


def test_without_a_queue_a_free_slot_is_enough(jobs: Jobs) -> None:
    jobs.use(2, max_waiting=0)
    jobs.submit("a1")
    with pytest.raises(Busy):
        jobs.submit("a2")
    jobs.submit("b1")
    with pytest.raises(Busy):
        jobs.submit("c1")
    jobs.wait_for_start("a1", "b1")


def test_one_session_has_five_waiting_at_most(jobs: Jobs) -> None:
    jobs.submit("a1", "a2", "a3", "a4", "a5", "a6")
    with pytest.raises(Busy) as caught:
        jobs.submit("a7")
    assert caught.value.one_session
    jobs.submit("b1")
    jobs.wait_for_start("a1", "b1")
    jobs.let("a1")
    jobs.wait_for_start("a1", "b1", "a2")
    jobs.submit("a8")


def test_places_are_counted_from_one_and_move_up(jobs: Jobs) -> None:
    jobs.use(1)
    running, first, second, third = jobs.submit("a1", "b1", "a2", "c1")
    assert jobs.places() == {first: 1, second: 2, third: 3}
    jobs.let("a1")
    jobs.wait_for_start("a1", "b1")
    assert jobs.places() == {second: 1, third: 2}
    assert running not in jobs.places()


def test_who_was_turned_away_has_no_place(jobs: Jobs) -> None:
    jobs.use(1, max_waiting=1)
    _, waiting = jobs.submit("a1", "b1")
    with pytest.raises(Busy):
        jobs.submit("c1")
    assert jobs.places() == {waiting: 1}


def test_while_places_are_looked_at_no_job_starts(jobs: Jobs) -> None:
    jobs.use(1)
    _, waiting = jobs.submit("a1", "b1")
    jobs.wait_for_start("a1")
    more = threading.Thread(target=lambda: jobs.worker.set_slots(2, 9))

    def look(places: dict[Job, int]) -> None:
        jobs.let("a1")
        jobs.wait_for_end("a1")
        more.start()
        more.join(0.05)  # long enough for it to start one, if it could
        assert more.is_alive()
        assert jobs.started == ["a1"]
        assert places == {waiting: 1}

    jobs.worker.look_at_places(look)
    jobs.wait_for_start("a1", "b1")
    more.join(WAIT)
    assert jobs.places() == {}


def test_whoever_looks_at_places_and_fails_holds_nobody_up(jobs: Jobs) -> None:
    def look(places: dict[Job, int]) -> None:
        raise KeyError("position")

    jobs.submit("a1", "a2")
    with pytest.raises(KeyError):
        jobs.worker.look_at_places(look)
    jobs.let("a1")
    jobs.wait_for_start("a1", "a2")


def test_more_slots_are_used_at_once(jobs: Jobs) -> None:
    jobs.use(1)
    jobs.submit("a1", "b1", "c1", "d1")
    jobs.wait_for_start("a1")
    jobs.worker.set_slots(3, 9)
    jobs.wait_for_start("a1", "b1", "c1")


def test_fewer_slots_stop_nothing_that_runs(jobs: Jobs) -> None:
    jobs.submit("a1", "b1", "c1", "d1")
    jobs.worker.set_slots(1, 9)
    jobs.let("a1")
    jobs.wait_for_end("a1")
    eventually(lambda: jobs.worker.running == 1)
    assert sorted(jobs.started) == ["a1", "b1"]
    jobs.let("b1")
    jobs.wait_for_start("a1", "b1", "c1")


def test_before_the_slots_are_known_nobody_is_turned_away_who_would_have_one(jobs: Jobs) -> None:
    jobs.use(1, max_waiting=1 + 2)  # two of them would have a slot
    jobs.submit("a1", "b1", "c1", "d1")
    with pytest.raises(Busy):
        jobs.submit("e1")
    jobs.wait_for_start("a1")
    jobs.worker.set_slots(3, 1)
    jobs.wait_for_start("a1", "b1", "c1")
    with pytest.raises(Busy):
        jobs.submit("f1")
    assert jobs.worker.waiting == 1, "d1 keeps its place"


def test_a_job_may_submit_another(jobs: Jobs) -> None:
    jobs.worker.submit("a", lambda: jobs.submit("a2") and None)
    jobs.wait_for_start("a2")


def test_where_no_thread_can_be_had_a_job_waits_and_keeps_its_turn(jobs: Jobs, host: FakeHost) -> None:
    with no_thread_starts("imRobots-agent"):
        first, second = jobs.submit("a1", "a2")
        assert (jobs.worker.running, jobs.worker.waiting) == (0, 2)
        assert jobs.places() == {first: 1, second: 2}
    assert jobs.started == []
    assert host.logged("error", "can't start new thread")
    jobs.submit("b1")
    jobs.wait_for_start("a1", "b1")
    jobs.let("a1")
    jobs.wait_for_start("a1", "b1", "a2")
    jobs.let_all()
    jobs.wait_for_end("a1", "b1", "a2")


def test_where_no_more_threads_can_be_had_jobs_run_on_those_there_are(jobs: Jobs) -> None:
    jobs.submit("a1")
    jobs.wait_for_start("a1")
    with no_thread_starts("imRobots-agent"):
        jobs.submit("b1", "a2")
        jobs.let_all()
        jobs.wait_for_end("a1", "b1", "a2")


def test_closing_lets_running_and_waiting_jobs_finish(jobs: Jobs) -> None:
    jobs.use(1)
    jobs.submit("a1", "b1", "a2")
    left: list[int] = []
    closing = threading.Thread(target=lambda: left.append(jobs.worker.close(Deadline(WAIT))))
    closing.start()
    jobs.let_all()
    closing.join(WAIT)
    assert left == [0]
    assert jobs.ended == ["a1", "b1", "a2"]


def test_closing_drops_what_has_not_begun_at_the_deadline(jobs: Jobs) -> None:
    jobs.submit("a1", "b1", "a2", "c1")
    jobs.wait_for_start("a1", "b1")
    jobs.let("b1", "c1")
    jobs.wait_for_end("b1", "c1")
    assert jobs.worker.close(Deadline(0.02)) == 1
    assert jobs.worker.waiting == 0
    jobs.let_all()
    jobs.wait_for_end("b1", "c1", "a1")
    eventually(lambda: jobs.worker.running == 0)
    assert "a2" not in jobs.started


def test_an_idle_worker_closes_without_waiting_for_its_deadline(jobs: Jobs) -> None:
    jobs.submit("a1")
    jobs.let_all()
    jobs.wait_for_end("a1")
    closing = threading.Thread(target=jobs.worker.close, args=(Deadline(10 * WAIT),), daemon=True)
    closing.start()
    closing.join(WAIT)
    assert not closing.is_alive()


def test_hundreds_of_jobs_from_many_threads_run_once_each_and_in_order() -> None:
    worker = Worker(4, 10_000)
    changed = threading.Lock()
    running: list[str] = []
    at_once: list[int] = []
    overlaps: list[str] = []
    ran: dict[str, list[int]] = {f"s{number}": [] for number in range(60)}

    def job(session: str, number: int) -> None:
        with changed:
            overlaps.extend(other for other in running if other == session)
            running.append(session)
            at_once.append(len(running))
        threading.Event().wait(random.uniform(0, 0.0005))
        with changed:
            ran[session].append(number)
            running.remove(session)

    def ask(session: str) -> None:
        for number in range(5):
            worker.submit(session, functools.partial(job, session, number))

    people = [threading.Thread(target=ask, args=(session,)) for session in ran]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert worker.close(Deadline(WAIT)) == 0
    assert ran == {session: [0, 1, 2, 3, 4] for session in ran}
    assert overlaps == []
    assert 1 < max(at_once) <= 4


def test_a_closed_worker_starts_nothing() -> None:
    worker = Worker(1, 10)
    assert worker.close(Deadline(WAIT)) == 0
    with pytest.raises(Busy):
        worker.submit("a", lambda: None)


# Jobs that run too long


def test_an_abandoned_job_frees_its_slot_and_its_session_waits_for_it(jobs: Jobs) -> None:
    hung, *_ = jobs.submit("a1", "b1", "a2", "c1")
    jobs.wait_for_start("a1", "b1")
    assert jobs.worker.abandon(hung) == set()
    jobs.wait_for_start("a1", "b1", "c1")
    assert (jobs.worker.running, jobs.worker.waiting, jobs.worker.abandoned) == (2, 1, 1)
    jobs.let("b1")
    jobs.wait_for_end("b1")
    eventually(lambda: jobs.worker.running == 1)
    assert "a2" not in jobs.started
    jobs.let("a1")
    jobs.wait_for_start("a1", "b1", "c1", "a2")
    eventually(lambda: jobs.worker.abandoned == 0)


def test_a_released_job_holds_its_session_up_no_more(jobs: Jobs) -> None:
    hung, *_ = jobs.submit("a1", "a2", "a3")
    jobs.wait_for_start("a1")
    jobs.worker.abandon(hung)
    jobs.worker.release(hung)
    jobs.wait_for_start("a1", "a2")
    assert (jobs.worker.running, jobs.worker.waiting, jobs.worker.abandoned) == (1, 1, 1)
    jobs.let("a1")
    jobs.wait_for_end("a1")
    eventually(lambda: jobs.worker.abandoned == 0)
    assert "a3" not in jobs.started, "a2 is still at it"
    jobs.let("a2")
    jobs.wait_for_start("a1", "a2", "a3")


def test_only_what_runs_can_be_abandoned_and_only_what_was_abandoned_released(jobs: Jobs) -> None:
    running, waiting, other = jobs.submit("a1", "a2", "b1")
    jobs.wait_for_start("a1", "b1")
    assert jobs.worker.abandon(waiting) is None
    jobs.worker.release(running)
    jobs.worker.release(waiting)
    assert (jobs.worker.running, jobs.worker.waiting, jobs.worker.abandoned) == (2, 1, 0)
    assert jobs.worker.abandon(running) == set()
    assert jobs.worker.abandon(running) is None
    jobs.let("b1")
    jobs.wait_for_end("b1")
    eventually(lambda: jobs.worker.running == 0)
    assert jobs.worker.abandon(other) is None


def test_where_everything_hangs_who_waits_is_dropped_and_who_comes_is_turned_away(jobs: Jobs) -> None:
    first, second, *waiting = jobs.submit("a1", "b1", "a2", "c1")
    jobs.wait_for_start("a1", "b1")
    assert jobs.worker.abandon(first) == set()
    jobs.wait_for_start("a1", "b1", "c1")
    assert not jobs.worker.is_jammed
    assert jobs.worker.abandon(second) == {waiting[0]}
    assert jobs.worker.is_jammed
    assert (jobs.worker.running, jobs.worker.waiting, jobs.worker.abandoned) == (1, 0, 2)
    assert jobs.places() == {}
    with pytest.raises(Busy) as caught:
        jobs.submit("d1")
    assert not caught.value.one_session
    jobs.let("a1")
    eventually(lambda: not jobs.worker.is_jammed)
    jobs.submit("e1")
    jobs.wait_for_start("a1", "b1", "c1", "e1")
    assert "a2" not in jobs.started


def test_closing_lets_a_session_go_on_that_waits_for_an_abandoned_job(jobs: Jobs) -> None:
    hung, _ = jobs.submit("a1", "a2")
    jobs.wait_for_start("a1")
    jobs.worker.abandon(hung)
    jobs.let("a2")
    left: list[int] = []
    closing = threading.Thread(target=lambda: left.append(jobs.worker.close(Deadline(10 * WAIT))), daemon=True)
    closing.start()
    closing.join(WAIT)
    assert left == [1]
    assert jobs.ended == ["a2"]


def test_a_jammed_worker_closes_at_once(jobs: Jobs) -> None:
    jobs.use(1)
    (hung,) = jobs.submit("a1")
    jobs.wait_for_start("a1")
    jobs.worker.abandon(hung)
    left: list[int] = []
    closing = threading.Thread(target=lambda: left.append(jobs.worker.close(Deadline(10 * WAIT))), daemon=True)
    closing.start()
    closing.join(WAIT)
    assert left == [1], "it still runs"
    with pytest.raises(Busy):
        jobs.submit("b1")
    jobs.let("a1")
    eventually(lambda: jobs.worker.abandoned == 0)
