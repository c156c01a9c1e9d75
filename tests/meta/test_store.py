"""What a robot remembers, in a file and without one, by a clock that the tests move."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from imRobots.Meta import Store, open_store, store
from imRobots.Meta.store import Unfinished
from tests.fakes.host import FakeHost

from .conftest import MakeHost
from .helpers import ROBOT, WAIT, message, the_element

DAY = 24 * 60 * 60.0
ROOT = Path(__file__).parents[2]
SECRET = "What does Ada earn?"


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "appData" / "imRobots" / "robots.hr.sqlite3"


@pytest.fixture(params=["file", "memory"])
def memory(request: pytest.FixtureRequest, clock: Clock, file: Path) -> Store:
    return Store(file if request.param == "file" else None, clock=clock)


def ids(left: list[Unfinished]) -> list[str]:
    return [one.message.message_id for one in left]


def locks(file: Path) -> list[Path]:
    return sorted(file.parent.glob("*.alive"))


def end(robots: dict[str, Store], name: str = "first") -> None:
    """As its process's end does: the system lets its locks go. What it has not said stays unsaid."""
    del robots[name]
    gc.collect()


class Process:
    """Another process of the robot, which accepts messages and lives until it is killed."""

    def __init__(self, file: Path, script: str) -> None:
        code = (
            "import sys\nfrom pathlib import Path\nfrom imRobots.Meta import IncomingMessage, Store\n"
            "def message(id):\n    return IncomingMessage(id, 'c1', 's1', 'Ada', 'Rain?')\n"
            f"memory = Store(Path(sys.argv[1]))\n{script}\nprint('ready', flush=True)\nsys.stdin.read()\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def wait(self) -> Process:
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        return self

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=WAIT)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


# Messages that come twice, and what is said once a day


def test_a_message_is_accepted_once(memory: Store) -> None:
    assert [memory.accept(message(number)) for number in (1, 2, 1, 2)] == [True, True, False, False]


def test_a_message_that_is_done_is_not_accepted_again(memory: Store) -> None:
    assert memory.accept(message(1))
    memory.done("m1")
    assert not memory.accept(message(1))


def test_something_is_said_once_a_day(memory: Store, clock: Clock) -> None:
    assert memory.once_a_day("quota c1")
    assert memory.once_a_day("quota c2")
    clock.now += DAY - 1
    assert not memory.once_a_day("quota c1")
    clock.now += 2
    assert memory.once_a_day("quota c1")
    assert not memory.once_a_day("quota c1")


def test_a_day_is_counted_from_the_first_time(memory: Store, clock: Clock) -> None:
    assert memory.accept(message(1))
    clock.now += DAY - 1
    assert not memory.accept(message(1))
    clock.now += 2
    assert memory.accept(message(1))


def test_what_is_younger_than_a_day_is_kept_when_the_older_is_forgotten(memory: Store, clock: Clock) -> None:
    memory.accept(message("old"))
    clock.now += DAY / 2
    memory.accept(message("young"))
    clock.now += DAY / 2
    assert memory.accept(message("old"))
    assert not memory.accept(message("young"))


def test_messages_and_other_things_are_told_apart(memory: Store) -> None:
    assert memory.accept(message("x"))
    assert memory.once_a_day("mx")
    assert memory.once_a_day("message mx")
    assert not memory.accept(message("x"))


def test_without_a_file_each_robot_remembers_for_itself(clock: Clock) -> None:
    first, second = Store(clock=clock), Store(clock=clock)
    assert first.accept(message(1))
    assert second.accept(message(1))
    assert second.take_over() == []


def test_it_never_remembers_more_than_its_bound(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST", 3)
    assert all(memory.accept(message(name)) for name in "abcd")
    assert not memory.accept(message("d"))
    assert not memory.accept(message("c"))
    assert memory.accept(message("a")), "the oldest makes room"


def test_one_of_many_threads_gets_a_message(memory: Store) -> None:
    start = threading.Barrier(8)
    accepted: list[int] = []

    def take() -> None:
        start.wait()
        accepted.extend(number for number in range(50) if memory.accept(message(number)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(accepted) == list(range(50))


def test_one_of_several_robots_gets_a_message(file: Path, clock: Clock) -> None:
    robots = [Store(file, clock=clock) for _ in range(3)]
    assert [robot.accept(message(1)) for robot in robots] == [True, False, False]


def test_by_default_time_passes_by_itself(file: Path) -> None:
    memory = Store(file)
    assert memory.accept(message(1))
    assert not memory.accept(message(1))
    assert memory.month_ends() > datetime.now().timestamp()


# Over a restart


def test_after_a_restart_a_message_that_comes_again_is_known(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    assert robots["first"].accept(message(1))
    robots["first"].done("m1")
    end(robots)
    second = Store(file, clock=clock)
    assert not second.accept(message(1))
    assert second.take_over() == []


def test_what_was_not_finished_is_taken_over_as_it_was(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    first = robots["first"]
    source = {"at": [1, 2.5, None, True], "deep": {"名": "值"}}
    asked = [message(number, f"Question {number} ?", source=source, from_admin=True) for number in (1, 2, 3, 4)]
    for one in asked:
        assert first.accept(one)
        clock.now += 10
    first.bind("m1", {"card": ["a", 1]})
    first.bind("m2", "card 2")
    first.spend("m2")
    first.done("m3")
    del first
    end(robots)
    assert Store(file, clock=clock).take_over() == [
        Unfinished(asked[0], 40.0, {"card": ["a", 1]}, False),
        Unfinished(asked[1], 30.0, "card 2", True),
        Unfinished(asked[3], 10.0, None, False),
    ]


def test_what_was_taken_over_is_taken_once(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    robots["first"].accept(message(1))
    end(robots)
    second, third = Store(file, clock=clock), Store(file, clock=clock)
    assert ids(second.take_over()) == ["m1"]
    assert third.take_over() == []
    assert second.take_over() == []


def test_what_was_taken_over_is_left_again_by_the_next(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    robots["first"].accept(message(1))
    robots["first"].bind("m1", "card")
    end(robots)
    robots["second"] = Store(file, clock=clock)
    robots["second"].take_over()
    robots["second"].spend("m1")
    clock.now += 60
    end(robots, "second")
    third = Store(file, clock=clock)
    assert third.take_over() == [Unfinished(message(1), 60.0, "card", True)]
    third.done("m1")
    assert third.take_over() == []


def test_what_another_version_left_costs_nothing_else(host: FakeHost, file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    for number in (1, 2, 3):
        robots["first"].accept(message(number, SECRET))
    end(robots)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("UPDATE unfinished SET message = json_set(message, '$.new', 1) WHERE message_id = 'm1'")
        db.execute("UPDATE unfinished SET handle = 'no JSON' WHERE message_id = 'm3'")
    second = Store(file, clock=clock)
    assert ids(second.take_over()) == ["m2"]
    assert len(host.logged("warning", "another version")) == 2
    assert not host.logged("warning", SECRET)
    assert len(locks(file)) == 1, "only its own"
    second.count("calls")
    assert "calls" in texts_in(file), "it goes on with its file"


def test_what_is_left_is_for_the_next_in_the_same_process_too(file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    for number in (1, 2):
        memory.accept(message(number))
    memory.leave("m1")
    assert ids(memory.take_over()) == ["m1"]
    assert memory.take_over() == []


def no_lock(path: Path) -> None:
    path.write_bytes(b"this was a lock once. " * 500)


@pytest.mark.parametrize("spoil", [no_lock, Path.mkdir], ids=["garbage", "unreadable"])
def test_a_lock_that_cannot_be_read_costs_nothing_but_its_owner(
    host: FakeHost, file: Path, clock: Clock, spoil: Any
) -> None:
    robots = {"first": Store(file, clock=clock)}
    (left,) = locks(file)
    robots["second"] = Store(file, clock=clock)
    robots["first"].accept(message(1))
    robots["second"].accept(message(2))
    end(robots, "first")
    end(robots, "second")
    spoil(left)
    third = Store(file, clock=clock)
    assert ids(third.take_over()) == ["m2"]
    assert not third.accept(message(2)), "its file is as good as before"
    assert host.logged("warning") == []


def test_a_message_of_a_robot_that_lives_is_left_alone(file: Path, clock: Clock) -> None:
    first, second = Store(file, clock=clock), Store(file, clock=clock)
    first.accept(message(1))
    assert second.take_over() == []
    assert first.take_over() == [], "its own are not left over either"


def test_what_is_older_than_a_day_is_not_taken_over(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    robots["first"].accept(message("old"))
    clock.now += 2
    robots["first"].accept(message("young"))
    clock.now += DAY - 1
    end(robots)
    assert ids(Store(file, clock=clock).take_over()) == ["myoung"]


def test_a_process_that_lives_keeps_its_messages_and_a_killed_one_does_not(
    file: Path, processes: list[Process]
) -> None:
    script = "memory.accept(message('{0}1'))\nmemory.bind('{0}1', {{'card': 1}})\nmemory.accept(message('{0}2'))"
    processes += [Process(file, script.format(name)) for name in ("killed", "alive")]
    for process in processes:
        process.wait()
    first, second = Store(file), Store(file)
    assert first.take_over() == []
    assert len(locks(file)) == 4
    processes[0].kill()
    start = threading.Barrier(2)
    taken: dict[Store, list[Unfinished]] = {}

    def take(memory: Store) -> None:
        start.wait()
        taken[memory] = memory.take_over()

    threads = [threading.Thread(target=take, args=(memory,)) for memory in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found, nothing) = sorted(taken.values(), key=len, reverse=True)
    assert [(one.message.message_id, one.message.text, one.handle) for one in found] == [
        ("killed1", "Rain?", {"card": 1}),
        ("killed2", "Rain?", None),
    ]
    assert nothing == []
    assert len(locks(file)) == 3, "the dead one's lock is tidied up"
    assert not first.accept(dataclasses.replace(message(1), message_id="alive1"))


def test_the_lock_of_a_process_that_left_nothing_is_tidied_up(file: Path, processes: list[Process]) -> None:
    processes.append(Process(file, "").wait())
    processes[0].kill()
    assert len(locks(file)) == 1
    memory = Store(file)
    assert len(locks(file)) == 2
    assert memory.take_over() == []
    assert len(locks(file)) == 1


def test_two_robots_in_one_folder_disturb_each_other_in_nothing(file: Path, clock: Clock) -> None:
    other_file = file.with_name("robots.hr.night.sqlite3")
    first, other = Store(file, clock=clock), Store(other_file, clock=clock)
    assert first.accept(message(1))
    assert other.accept(message(1))
    assert (first.take_over(), other.take_over()) == ([], [])
    assert len(locks(file)) == 2
    robots = {"first": first}
    del first
    end(robots)
    assert ids(Store(file, clock=clock).take_over()) == ["m1"]
    assert other.take_over() == []


# What is kept of a question


def texts_in(file: Path) -> str:
    with contextlib.closing(sqlite3.connect(file)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert len(tables) >= 4
        return repr([db.execute(f"SELECT * FROM {table}").fetchall() for table in tables])


def test_a_question_is_forgotten_when_it_is_answered(file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    memory.accept(message(1, SECRET))
    assert SECRET in texts_in(file)
    memory.done("m1")
    assert SECRET not in texts_in(file)
    assert "Ada" not in texts_in(file)


def test_a_question_that_nobody_answers_is_forgotten_after_a_day(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    robots["first"].accept(message(1, SECRET))
    end(robots)
    memory = Store(file, clock=clock)
    clock.now += DAY + 1
    assert memory.take_over() == []
    memory.accept(message(2))
    assert SECRET not in texts_in(file)


HALF = "\ud83d"


@pytest.mark.parametrize(
    "fields",
    [
        {"text": f"half {HALF}"},
        {"message_id": f"m{HALF}"},
        {"conversation_id": HALF, "session": HALF, "sender_name": HALF},
        {"source": {HALF: [HALF]}},
        {"text": "a\0b '\"; DROP TABLE seen; -- 😄"},
        {"text": "long " * 100_000},
        {"message_id": ""},
    ],
    ids=["text", "id", "names", "source", "control", "long", "no id"],
)
def test_whatever_a_message_holds_comes_back_as_it_was(file: Path, clock: Clock, fields: dict[str, Any]) -> None:
    asked = dataclasses.replace(message(1), **fields)
    robots = {"first": Store(file, clock=clock)}
    assert robots["first"].accept(asked)
    assert not robots["first"].accept(asked)
    robots["first"].bind(asked.message_id, "card")
    robots["first"].spend(asked.message_id)
    end(robots)
    second = Store(file, clock=clock)
    assert second.take_over() == [Unfinished(asked, 0.0, "card", True)]
    second.done(asked.message_id)
    assert "card" not in texts_in(file)


def a_source_that_refers_to_itself() -> dict[str, Any]:
    source: dict[str, Any] = {"at": 1}
    source["self"] = source
    return source


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        (MappingProxyType({"at": 1}), {"at": 1}),
        ({("at", 1): 2, "at": 1}, {"at": 1}),
        (a_source_that_refers_to_itself(), {}),
    ],
    ids=["read-only", "tuple key", "refers to itself"],
)
def test_an_odd_source_costs_no_message(file: Path, clock: Clock, source: Any, kept: Any) -> None:
    robots = {"first": Store(file, clock=clock)}
    assert robots["first"].accept(message(1, source=source))
    end(robots)
    (left,) = Store(file, clock=clock).take_over()
    assert left.message == message(1, source=kept)


def test_a_source_that_is_no_json_disturbs_nobody(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    assert robots["first"].accept(message(1, source={"at": {1}, "when": datetime(2026, 1, 1), 5: b"raw"}))
    end(robots)
    (left,) = Store(file, clock=clock).take_over()
    assert left.message.text == message(1).text
    assert left.message.source["at"] == "{1}"


# Facts and counts


def test_a_fact_is_remembered_until_it_is_forgotten(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    fact = {"until": 1.5, "why": ["值", None, True]}
    robots["first"].remember("closed", fact)
    robots["first"].remember("other", 1)
    end(robots)
    second = Store(file, clock=clock)
    assert second.recall("closed") == fact
    second.remember("closed", "later")
    assert second.recall("closed") == "later"
    clock.now += 400 * DAY
    assert second.recall("closed") == "later"
    assert second.recall("other") == 1
    assert second.recall("never") is None


def test_what_is_counted_is_counted_in_all_processes(file: Path, clock: Clock) -> None:
    first, second = Store(file, clock=clock), Store(file, clock=clock)
    for memory in (first, second, first):
        memory.count("calls")
    first.count("pushes")
    assert (first.counted("calls"), second.counted("calls")) == (3, 3)
    assert (second.counted("pushes"), second.counted("nothing")) == (1, 0)


def test_counts_begin_anew_with_the_month_of_beijing(memory: Store, clock: Clock) -> None:
    beijing = timezone(timedelta(hours=8))
    clock.now = datetime(2026, 2, 28, 23, 59, 59, tzinfo=beijing).timestamp()
    memory.count("calls")
    memory.count("pushes")
    assert memory.counted("calls") == 1
    assert datetime.fromtimestamp(memory.month_ends(), beijing) == datetime(2026, 3, 1, tzinfo=beijing)
    clock.now += 1
    assert (memory.counted("calls"), memory.counted("pushes")) == (0, 0)
    memory.count("calls")
    assert (memory.counted("calls"), memory.counted("pushes")) == (1, 0)
    assert datetime.fromtimestamp(memory.month_ends(), beijing) == datetime(2026, 4, 1, tzinfo=beijing)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ((2026, 1, 1, 0, 0), (2026, 2, 1)),
        ((2026, 1, 31, 23, 59), (2026, 2, 1)),
        ((2028, 2, 1, 12, 0), (2028, 3, 1)),
        ((2026, 12, 15, 7, 30), (2027, 1, 1)),
    ],
)
def test_a_month_ends_with_its_last_day(clock: Clock, now: tuple[int, ...], end: tuple[int, ...]) -> None:
    beijing = timezone(timedelta(hours=8))
    clock.now = datetime(*now, tzinfo=beijing).timestamp()  # type: ignore[misc, arg-type]
    expected = datetime(*end, tzinfo=beijing)  # type: ignore[misc, arg-type]
    assert datetime.fromtimestamp(Store(clock=clock).month_ends(), beijing) == expected


# A file that cannot be used


def set_aside(file: Path) -> list[Path]:
    return sorted(file.parent.glob("*.damaged-*"))


def filled(file: Path, clock: Clock) -> bytes:
    """A file with something in it, closed; returns what is in it."""
    robots = {"first": Store(file, clock=clock)}
    for number in range(80):
        robots["first"].accept(message(number, "long " * 50))
    end(robots)
    return file.read_bytes()


def garbage(whole: bytes) -> bytes:
    return b"this was a database once. " * 200


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 2 + 100]


def with_a_corrupt_page(whole: bytes) -> bytes:
    """The right header, the right schema, and a page in the middle that is not what it should be."""
    size = int.from_bytes(whole[16:18], "big")
    middle = len(whole) // size // 2 * size
    return whole[:middle] + b"\xa5" * size + whole[middle + size :]


@pytest.mark.parametrize("damage", [garbage, truncated, with_a_corrupt_page])
def test_a_damaged_file_is_set_aside_and_a_new_one_is_begun(
    host: FakeHost, file: Path, clock: Clock, damage: Any
) -> None:
    damaged = damage(filled(file, clock))
    file.write_bytes(damaged)
    robots = {"first": Store(file, clock=clock)}
    (aside,) = set_aside(file)
    assert aside.read_bytes() == damaged
    (record,) = host.logged("warning")
    for part in (str(file), "damaged", aside.name):
        assert part in record.message
    assert robots["first"].accept(message(1))
    end(robots)
    assert ids(Store(file, clock=clock).take_over()) == ["m1"], "the new one lasts"
    assert len(host.logged("warning")) == 1


def test_an_empty_file_is_a_new_one(host: FakeHost, file: Path, clock: Clock) -> None:
    file.parent.mkdir(parents=True)
    file.touch()
    assert Store(file, clock=clock).accept(message(1))
    assert set_aside(file) == []
    assert host.logged("warning") == []


def a_file_where_the_folder_should_be(file: Path, patch: pytest.MonkeyPatch) -> None:
    file.parent.parent.mkdir()
    file.parent.write_text("not a folder", encoding="utf-8")


def a_folder_where_the_file_should_be(file: Path, patch: pytest.MonkeyPatch) -> None:
    file.mkdir(parents=True)


def a_folder_that_nobody_can_write_to(file: Path, patch: pytest.MonkeyPatch) -> None:
    """Simulated by SQLite, because root may write anywhere."""
    connect = sqlite3.connect

    def read_only(path: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(path, **kwargs) if path == ":memory:" else connect(f"file:{path}?mode=ro", uri=True, **kwargs)

    file.parent.mkdir(parents=True)
    patch.setattr(store.sqlite3, "connect", read_only)


def a_file_that_nobody_can_write_to(file: Path, patch: pytest.MonkeyPatch) -> None:
    """The folder may be written to, and the locks of processes are made in it."""
    connect = sqlite3.connect

    def read_only(path: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **kwargs) if path == file else connect(path, **kwargs)

    file.parent.mkdir(parents=True)
    file.touch()
    patch.setattr(store.sqlite3, "connect", read_only)


@pytest.mark.parametrize(
    "obstacle",
    [
        a_file_where_the_folder_should_be,
        a_folder_where_the_file_should_be,
        a_folder_that_nobody_can_write_to,
        a_file_that_nobody_can_write_to,
    ],
)
def test_where_no_file_can_be_had_memory_takes_its_place(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, obstacle: Any
) -> None:
    obstacle(file, monkeypatch)
    memory = Store(file, clock=clock)
    (record,) = host.logged("warning")
    for part in (str(file), "ends with the process", "restart the app"):
        assert part in record.message
    assert [memory.accept(message(1)), memory.accept(message(1))] == [True, False]
    memory.count("calls")
    assert memory.counted("calls") == 1
    assert memory.take_over() == []
    assert len(host.logged("warning")) == 1


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """As another process that writes, and does not end."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


def test_a_file_that_another_process_holds_on_to_is_left_as_it_is(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(file, clock)
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.05)
    with locked(file):
        memory = Store(file, clock=clock)
        assert memory.accept(message("new"))
    (record,) = host.logged("warning")
    assert "locked" in record.message
    assert set_aside(file) == []
    assert not Store(file, clock=clock).accept(message(1)), "nothing in it was lost"


def test_who_writes_only_for_a_moment_is_waited_for(host: FakeHost, file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    accepted: list[bool] = []
    with locked(file):
        thread = threading.Thread(target=lambda: accepted.append(memory.accept(message(1))))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(WAIT)
    assert accepted == [True]
    assert host.logged("warning") == []


def test_a_file_that_fails_later_leaves_what_was_known(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.05)
    memory = Store(file, clock=clock)
    memory.accept(message(1))
    memory.remember("fact", "known")
    memory.count("calls")
    with locked(file):
        assert memory.accept(message(2)), "this message is not lost"
        assert not memory.accept(message(1))
        assert (memory.recall("fact"), memory.counted("calls")) == ("known", 1)
        memory.done("m2")
    assert not memory.accept(message(2))
    (record,) = host.logged("warning")
    assert str(file) in record.message
    assert "restart the app" in record.message


def test_a_file_that_is_damaged_later_is_no_reason_to_stop(host: FakeHost, file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    memory.accept(message(1))
    for spoilt in file.parent.glob(f"{file.name}*"):
        spoilt.write_bytes(b"\xa5" * max(8192, spoilt.stat().st_size))
    assert memory.accept(message(2))
    assert not memory.accept(message(2))
    memory.remember("fact", 1)
    assert memory.recall("fact") == 1
    assert len(host.logged("warning")) == 1


def test_a_page_that_goes_bad_later_costs_only_what_was_on_it(host: FakeHost, file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    for number in range(50):
        memory.accept(message(number, "long " * 100))
    memory.remember("fact", "known")
    memory.count("calls")
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    memory._db.execute("PRAGMA cache_size = 0")
    spoilt = with_a_corrupt_page(file.read_bytes())
    file.write_bytes(spoilt)
    for number in range(50):
        memory.done(f"m{number}")
        assert memory.accept(message(f"new {number}"))
    (record,) = host.logged("warning")
    assert "malformed" in record.message
    assert (memory.recall("fact"), memory.counted("calls")) == ("known", 1)
    assert not memory.accept(message("new 1"))
    assert not memory.accept(message(1)), "what can be read is not forgotten"
    assert file.read_bytes() == spoilt, "it is left as it is"


def test_who_takes_over_does_not_wait_for_a_file_that_nobody_may_read(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.05)
    memory = Store(file, clock=clock)
    memory._db.execute("PRAGMA journal_mode = DELETE")  # as on a file system that cannot do better
    accepted: list[bool] = []
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        thread = threading.Thread(target=lambda: accepted.append(memory.accept(message(1))), daemon=True)
        thread.start()
        thread.join(WAIT)
        assert accepted == [True]
    assert host.logged("warning", "locked")


# The store of an element


def test_an_element_has_one_store_in_the_apps_data_folder(make_host: MakeHost, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    host = make_host(app_folder=folder)
    memory = open_store(the_element(host))
    assert open_store(the_element(host)) is memory
    assert memory.accept(message(1))
    assert (folder / "appData" / "imRobots" / f"{ROBOT}.sqlite3").is_file()
    assert host.logged("warning") == []


def test_where_the_app_has_no_folder_its_store_ends_with_the_process(host: FakeHost) -> None:
    memory = open_store(the_element(host))
    assert memory.accept(message(1))
    assert not memory.accept(message(1))
    (record,) = host.logged("warning")
    for part in (ROBOT, "data directory", "ends with the process"):
        assert part in record.message
    open_store(the_element(host))
    assert len(host.logged("warning")) == 1


def test_a_store_that_nobody_needs_any_more_leaves_nothing_open(file: Path, clock: Clock) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.sqlite3, "connect", noted)
        robots = {"first": Store(file, clock=clock), "second": Store(file, clock=clock)}
        robots["first"].accept(message(1))
        end(robots)
        assert ids(robots["second"].take_over()) == ["m1"]
        assert len(locks(file)) == 1
        end(robots, "second")
    assert len(opened) >= 5
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    assert locks(file) == []
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_happened_while_the_file_was_locked_is_in_it_afterwards(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(store, "_ASIDE_SECONDS", 0.0)
    first = Store(file, clock=clock)
    first.accept(message(1))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        first.done("m1")
        assert first.accept(message(2))
        first.count("calls")
    sibling = Store(file, clock=clock)
    sibling.count("calls"), sibling.count("calls")
    assert first.accept(message(3))
    first.done("m3")
    robots = {"first": first}
    del first
    end(robots, "first")
    second = Store(file, clock=clock)
    assert [left.message.message_id for left in second.take_over()] == ["m2"]
    assert not any(second.accept(message(number)) for number in (1, 2, 3))
    assert second.counted("calls") == 2, "the sibling's count is not set back"
    assert len(host.logged("warning")) == 1 and len(host.logged("info", "can be used again")) == 1
