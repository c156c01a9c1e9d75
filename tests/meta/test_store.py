"""What a robot remembers, in a file and without one, by a clock that the tests move."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
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

from imRobots.Meta import IncomingMessage, Store, database, open_store, store
from imRobots.Meta.models import Feedback
from imRobots.Meta.store import KeptAnswer, Unfinished
from tests.fakes.host import FakeHost

from .conftest import MakeHost
from .helpers import ROBOT, WAIT, Clock, message, the_element

DAY = 24 * 60 * 60.0
ROOT = Path(__file__).parents[2]
SECRET = "What does Ada earn?"


def answered(store: Store, message_id: str, text: str = "Twelve.") -> None:
    store.answered(message_id, "agents.hr", (text, "answered"))


def rating_of(store: Store, message_id: str, person: str) -> str | None:
    """What is in the export."""
    wanted = tuple(text.encode("utf-8", "replace").decode() for text in (message_id, person))
    return next((one.rating for one in store.feedback_since(0) if (one.message_id, one.person) == wanted), None)


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


@pytest.mark.parametrize("tidied", [True, False])
def test_after_a_day_a_message_is_new_again_and_not_a_second_earlier(
    memory: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, tidied: bool
) -> None:
    if not tidied:
        monkeypatch.setattr(store, "_TIDY_SECONDS", float("inf"))
    for _ in range(2):
        assert memory.accept(message(1))
        assert memory.once_a_day("quota c1")
        memory.done("m1")
        clock.now += DAY - 1
        assert not memory.accept(message(1))
        assert not memory.once_a_day("quota c1")
        clock.now += 1


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


def test_it_remembers_no_more_than_its_bound_for_longer_than_a_minute(
    memory: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MOST", 3)
    assert all(memory.accept(message(name)) for name in "abcd")
    clock.now += 60
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


# Many at once


def no_error() -> None:
    raise AssertionError("nothing went wrong") from sys.exc_info()[1]


def test_what_is_done_together_is_done_in_order_and_as_if_by_itself(memory: Store) -> None:
    results: list[Any] = []
    memory.count("calls")
    memory.together(
        [
            lambda: results.append(memory.accept(message(1))),
            lambda: results.append(memory.accept(message(1))),
            lambda: memory.bind("m1", "card"),
            lambda: memory.keep_answer("m1", "Twelve.", "answered"),
            lambda: results.append(found(memory, "card").answer),
            lambda: answered(memory, "m1"),
            lambda: memory.remember("fact", 1),
            lambda: results.append(memory.recall("fact")),
            lambda: results.append(memory.once_a_day("quota c1")),
            lambda: memory.count("calls"),
            lambda: results.append(memory.counted("calls")),
        ],
        on_error=no_error,
    )
    assert results == [True, False, "Twelve.", 1, True, 2]
    assert last_id(memory, "c1", "s1") == "m1"
    assert memory.recall("fact") == 1
    assert memory.counted("calls") == 2
    assert not memory.once_a_day("quota c1")


def test_of_what_is_done_together_others_see_all_or_nothing(file: Path, clock: Clock) -> None:
    memory, seen = Store(file, clock=clock), []
    memory.remember("fact", 0)

    def look() -> None:
        other = Store(file, clock=clock)
        seen.append((other.recall("fact"), "m1" in texts_in(file)))

    memory.together(
        [look, lambda: memory.remember("fact", 1), lambda: memory.accept(message(1)), look], on_error=no_error
    )
    look()
    assert seen == [(0, False), (0, False), (1, True)]


def test_what_is_done_together_is_written_at_once(file: Path, clock: Clock) -> None:
    memory, statements = Store(file, clock=clock), []
    memory._database._db.set_trace_callback(statements.append)
    memory.together([functools.partial(memory.accept, message(number)) for number in range(30)], on_error=no_error)
    memory._database._db.set_trace_callback(None)
    assert [one.split()[0] for one in statements if one.startswith(("BEGIN", "COMMIT"))] == ["BEGIN", "COMMIT"]
    assert not any(memory.accept(message(number)) for number in range(30))


def test_a_mistake_with_one_costs_the_others_nothing(file: Path, clock: Clock, host: FakeHost) -> None:
    memory, errors = Store(file, clock=clock), []
    troubles = iter([KeyError("handle"), TypeError("no JSON")])

    def fail() -> None:
        raise next(troubles)

    keep = [functools.partial(memory.remember, key, key) for key in "abc"]
    memory.together([keep[0], fail, keep[1], fail, keep[2]], lambda: errors.append(str(sys.exc_info()[1])))
    assert errors == ["'handle'", "no JSON"]
    second = Store(file, clock=clock)
    assert [second.recall(key) for key in "abc"] == [*"abc"]
    assert host.logged() == []


def test_of_what_fails_halfway_together_nothing_is_left(memory: Store) -> None:
    errors: list[object] = []
    accepts = [functools.partial(memory.accept, one) for one in (message(1, source=5), message(2))]
    memory.together(accepts, on_error=lambda: errors.append(sys.exc_info()[0]))
    assert errors == [TypeError]
    assert not memory.accept(message(2))
    assert memory.accept(message(1)), "it may come again, as if it had come alone"


def test_nothing_together_is_fine(memory: Store) -> None:
    memory.together([], on_error=no_error)
    memory.remember("fact", 1)
    assert memory.recall("fact") == 1


# Over a restart
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
    second.remember("fact", "new")
    assert "fact" in texts_in(file), "it goes on with its file"


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


def test_what_is_a_day_old_is_forgotten_with_what_is_written_a_minute_later(file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    memory.accept(message(1, SECRET))
    clock.now += DAY
    memory.remember("fact", "tidied by now")
    assert SECRET in texts_in(file), "it is not older than a day"
    clock.now += 60
    memory.remember("fact", "a minute later")
    assert SECRET not in texts_in(file)
    assert "m1" not in texts_in(file)


HALF = "\ud83d"


@pytest.mark.parametrize(
    "fields",
    [
        {"text": f"half {HALF}"},
        {"message_id": f"m{HALF}"},
        {"conversation_id": HALF, "session": HALF, "sender_id": HALF, "sender_name": HALF},
        {"quote": f"half {HALF}"},
        {"source": {HALF: [HALF]}},
        {"text": "a\0b '\"; DROP TABLE seen; -- 😄"},
        {"text": "long " * 100_000},
        {"message_id": ""},
    ],
    ids=["text", "id", "names", "quote", "source", "control", "long", "no id"],
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


# What an older version left

AT_1_1_0 = """
CREATE TABLE seen (key TEXT UNIQUE, at REAL);
CREATE INDEX seen_at ON seen (at);
CREATE TABLE unfinished
    (message_id TEXT PRIMARY KEY, owner TEXT, at REAL, message TEXT, handle TEXT, spent INTEGER, answer TEXT);
CREATE TABLE months (month TEXT, what TEXT, number INTEGER, PRIMARY KEY (month, what));
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT);
"""


def test_what_1_1_0_left_is_answered_after_an_upgrade(host: FakeHost, file: Path, clock: Clock) -> None:
    left = {
        "message_id": "m1",
        "conversation_id": "c1",
        "session": "c1:ada",
        "sender_name": "Ada",
        "text": "Rain?",
        "problem": "",
        "source": {"at": 1},
        "from_admin": True,
    }
    file.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.executescript(AT_1_1_0)
        row = ("m1", "gone", clock.now - 5, json.dumps(left), '"card"', 1, '["No.", "answered"]')
        db.execute("INSERT INTO unfinished VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO facts VALUES ('fact', '1')")
    memory = Store(file, clock=clock)
    asked = IncomingMessage("m1", "c1", "c1:ada", "Ada", "Rain?", "", {"at": 1}, True, "c1:ada")
    assert memory.take_over() == [Unfinished(asked, 5.0, "card", True, ("No.", "answered"))]
    answered(memory, "m1", "No.")
    assert memory.last_answer("c1", "c1:ada") == KeptAnswer(asked, "No.", "agents.hr")
    assert memory.recall("fact") == 1
    assert host.logged("warning") == []


# Answers that can be rated


def answer(memory: Store, asked: IncomingMessage, text: str = "Twelve.", handle: Any = None) -> None:
    assert memory.accept(asked)
    if handle is not None:
        memory.bind(asked.message_id, handle)
    answered(memory, asked.message_id, text)


def asked_by(person: str, number: int | str, conversation_id: str = "c1", **rest: Any) -> IncomingMessage:
    asked = message(number, conversation_id=conversation_id, **rest)
    return dataclasses.replace(asked, sender_id=person)


def found(memory: Store, handle: Any) -> KeptAnswer:
    kept = memory.find_answer(handle)
    assert kept is not None
    return kept


def last_id(memory: Store, conversation_id: str, person: str) -> str | None:
    kept = memory.last_answer(conversation_id, person)
    return kept and kept.message.message_id


def test_an_answer_is_kept_as_it_was(memory: Store, clock: Clock) -> None:
    asked = asked_by("ada", 1, source={"名": [1, None, "值😄"]}, from_admin=True, session="s9", quote="Before?")
    assert memory.accept(asked)
    memory.bind("m1", {"card": ["a", 1]})
    memory.keep_answer("m1", "Not this", "failed")
    clock.now += 30
    answered(memory, "m1", "**Twelve**\n😄")
    kept = KeptAnswer(asked, "**Twelve**\n😄", "agents.hr")
    clock.now += 60
    assert memory.find_answer({"card": ["a", 1]}) == kept
    assert memory.last_answer("c1", "ada") == kept


def test_an_answer_that_is_kept_is_finished(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    answer(robots["first"], asked_by("ada", 1), handle="card")
    assert not robots["first"].accept(asked_by("ada", 1))
    end(robots)
    memory = Store(file, clock=clock)
    assert memory.take_over() == []
    assert found(memory, "card").answer == "Twelve.", "over a restart too"
    memory.keep_answer("m1", "Too late", "failed")
    memory.done("m1")
    assert found(memory, "card").answer == "Twelve."


def test_what_nobody_asked_is_not_answered(memory: Store) -> None:
    answered(memory, "m2")
    assert memory.last_answer("c1", "s1") is None


def test_an_apology_is_kept_with_its_card_and_is_not_the_last_answer(memory: Store) -> None:
    answer(memory, asked_by("ada", 1), "Twelve.", handle="card-1")
    for number, outcome in ((2, "failed"), (3, "interrupted")):
        memory.accept(asked_by("ada", number))
        memory.bind(f"m{number}", f"card-{number}")
        memory.answered(f"m{number}", "agents.hr", ("Sorry.", outcome))
        assert found(memory, f"card-{number}").answer == "Sorry."
    assert last_id(memory, "c1", "ada") == "m1"


def test_a_card_that_was_not_bound_is_known_by_what_it_is_called(memory: Store) -> None:
    for number, bound in ((1, None), (2, "bound")):
        memory.accept(asked_by("ada", number))
        if bound:
            memory.bind(f"m{number}", bound)
        memory.answered(f"m{number}", "agents.hr", ("Twelve.", "answered"), f"card-{number}")
    assert found(memory, "card-1").message.message_id == "m1"
    assert memory.find_answer("card-2") is None and found(memory, "bound").message.message_id == "m2"


def test_what_has_an_answer_is_not_accepted_again_even_after_a_day(memory: Store, clock: Clock) -> None:
    answer(memory, asked_by("ada", 1))
    clock.now += 3 * 24 * 60 * 60
    assert not memory.accept(asked_by("ada", 1))
    memory.accept(asked_by("ada", 2))
    memory.unsee("m2")
    assert memory.accept(asked_by("ada", 2))


def test_what_is_done_is_not_kept(file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    memory.accept(message(1, SECRET))
    memory.bind("m1", "card")
    memory.keep_answer("m1", SECRET, "failed")
    memory.done("m1")
    assert memory.find_answer("card") is None
    assert SECRET not in texts_in(file)


def test_an_answer_is_found_by_its_card(memory: Store, clock: Clock) -> None:
    handles: list[Any] = ["1", 1, ["1"], {"id": "1"}, "值", f"{HALF}"]
    for number, handle in enumerate(handles):
        answer(memory, message(number), handle=handle)
    answer(memory, message("no card"))
    assert [found(memory, handle).message.message_id for handle in handles] == [f"m{n}" for n in range(len(handles))]
    assert found(memory, ("1",)).message.message_id == "m2", "as it comes out of JSON"
    assert memory.find_answer("2") is None
    assert memory.find_answer(None) is None
    clock.now += 1
    answer(memory, message("again"), handle="1")
    assert found(memory, "1").message.message_id == "magain", "the newest in a card"


def test_an_answer_without_a_card_is_the_last_all_the_same(memory: Store) -> None:
    answer(memory, asked_by("ada", 1))
    kept = memory.last_answer("c1", "ada")
    assert kept is not None
    assert kept.answer == "Twelve."


def test_an_unfinished_answer_is_found_by_its_card(file: Path, clock: Clock) -> None:
    first, second = Store(file, clock=clock), Store(file, clock=clock)
    asked = asked_by("ada", 1, source={"at": 1})
    first.accept(asked)
    first.accept(message(2))
    assert second.find_answer("card") is None
    first.bind("m1", "card")
    clock.now += 10
    for memory in (first, second):
        assert memory.find_answer("card") == KeptAnswer(asked, "", "")
        assert memory.find_answer(None) is None
        assert memory.last_answer("c1", "ada") is None, "it is no answer yet"
    first.keep_answer("m1", "Twelve.", "answered")
    assert second.find_answer("card") == KeptAnswer(asked, "Twelve.", "")


def test_the_last_answer_is_the_newest_to_this_person_here(memory: Store, clock: Clock) -> None:
    for person, number in (("ada", 1), ("ada", 2), ("bob", 3)):
        answer(memory, asked_by(person, number))
        clock.now += 1
    answer(memory, asked_by("ada", 4, "c2"))
    assert last_id(memory, "c1", "ada") == "m2"
    assert last_id(memory, "c1", "bob") == "m3"
    assert last_id(memory, "c1", "cleo") == "m3", "to anybody"
    assert last_id(memory, "c2", "bob") == "m4"
    assert last_id(memory, "c3", "ada") is None
    answer(memory, asked_by("ada", 5))
    answer(memory, asked_by("ada", "0"))
    assert last_id(memory, "c1", "ada") == "m0", "at the same moment"


def test_half_an_emoji_costs_no_answer(memory: Store) -> None:
    asked = dataclasses.replace(
        message(HALF, f"half {HALF}", source={HALF: HALF}), conversation_id=HALF, sender_id=HALF, quote=HALF
    )
    answer(memory, asked, text=f"{HALF} Twelve", handle=HALF)
    kept = memory.last_answer(HALF, HALF)
    assert kept is not None
    assert found(memory, HALF) == kept
    assert kept.answer == "? Twelve"
    feedback = memory.rate(kept, HALF, "helpful")
    assert memory.feedback_since(0) == [feedback]
    assert rating_of(memory, kept.message.message_id, HALF) == rating_of(memory, asked.message_id, HALF) == "helpful"


def test_of_a_long_text_the_beginning_is_kept(memory: Store) -> None:
    asked = message(1, "q" * 25_000, quote="p" * 25_000)
    answer(memory, asked, "a" * 30_000, handle="card")
    kept = found(memory, "card")
    assert (kept.message.text, kept.message.quote) == ("q" * 20_000, "p" * 20_000)
    assert kept.answer == "a" * 20_000
    whole = dataclasses.replace(kept, message=asked, answer="a" * 30_000)
    feedback = memory.rate(whole, "ada", "helpful")
    assert feedback is not None
    assert (feedback.question, feedback.answer) == ("q" * 20_000, "a" * 20_000)
    assert memory.feedback_since(0) == [feedback]


def test_an_answer_that_another_version_kept_costs_nothing_else(host: FakeHost, file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    for number in (1, 2, 3):
        answer(memory, asked_by("ada", number, text=SECRET), handle=f"card {number}")
        clock.now += 1
    memory.accept(message(4, SECRET))
    memory.bind("m4", "card 4")
    memory.keep_answer("m4", "Twelve.", "answered")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("UPDATE answers SET message = '[1]' WHERE message_id = 'm1'")
        db.execute("UPDATE answers SET texts = '[1]' WHERE message_id = 'm2'")
        db.execute("UPDATE unfinished SET message = '{}'")
    assert [memory.find_answer(f"card {number}") for number in (1, 2, 4)] == [None, None, None]
    answered(memory, "m4")
    assert memory.find_answer("card 4") is None
    assert found(memory, "card 3").message.text == SECRET
    assert len(host.logged("warning", "another version")) == 4
    assert not host.logged("warning", SECRET)
    assert "m4" not in texts_in(file).replace("message m4", "")


# Ratings


def test_a_person_rates_an_answer_once_and_may_change_it(memory: Store, clock: Clock) -> None:
    answer(memory, asked_by("ada", 1, text="Rain?"), "No.", handle="card")
    kept = found(memory, "card")
    assert rating_of(memory, "m1", "ada") is None
    clock.now += 5
    first = memory.rate(kept, "ada", "helpful")
    assert first == Feedback("m1", "helpful", "ada", "c1", "agents.hr", "Rain?", "No.", clock.now)
    clock.now += 5
    assert memory.rate(kept, "ada", "helpful") is None
    assert memory.feedback_since(0) == [first]
    other = memory.rate(kept, "bob", "very_helpful")
    clock.now += 5
    changed = memory.rate(kept, "ada", "not_helpful")
    assert changed == Feedback("m1", "not_helpful", "ada", "c1", "agents.hr", "Rain?", "No.", clock.now)
    assert (rating_of(memory, "m1", "ada"), rating_of(memory, "m1", "bob")) == ("not_helpful", "very_helpful")
    assert rating_of(memory, "m2", "ada") is None
    assert memory.feedback_since(0) == [other, changed]


def test_ratings_are_read_from_a_time_on(memory: Store, clock: Clock) -> None:
    began = clock.now
    answer(memory, message(1), handle="card")
    given = []
    for person in "cab":
        given.append(memory.rate(found(memory, "card"), person, "helpful"))
        clock.now += 10
    assert memory.feedback_since(began) == given
    assert memory.feedback_since(began + 10) == given[1:], "at the very moment"
    assert memory.feedback_since(began + 10.5) == given[2:]
    assert memory.feedback_since(clock.now) == []


def test_a_rating_does_not_need_its_answer(memory: Store) -> None:
    """As when an unfinished one was rated, or one that has been forgotten meanwhile."""
    kept = KeptAnswer(message(7, "Rain?"), "", "")
    assert memory.rate(kept, "ada", "helpful") is not None
    later = dataclasses.replace(kept, answer="No.", agent="agents.hr")
    changed = memory.rate(later, "ada", "not_helpful")
    assert changed is not None
    assert (changed.answer, changed.agent) == ("No.", "agents.hr")
    assert memory.feedback_since(0) == [changed]


def test_what_one_process_has_is_seen_in_the_other(file: Path, clock: Clock) -> None:
    first, second = Store(file, clock=clock), Store(file, clock=clock)
    answer(first, asked_by("ada", 1), handle="card")
    assert last_id(second, "c1", "ada") == "m1"
    given = second.rate(found(second, "card"), "ada", "helpful")
    assert rating_of(first, "m1", "ada") == "helpful"
    assert first.rate(found(first, "card"), "ada", "helpful") is None
    assert first.feedback_since(0) == [given]


def test_an_answer_is_rated_once_by_many_threads(memory: Store) -> None:
    answer(memory, message(1), handle="card")
    kept = found(memory, "card")
    start = threading.Barrier(8)
    given: list[Feedback | None] = []

    def rate() -> None:
        start.wait()
        given.append(memory.rate(kept, "ada", "helpful"))

    threads = [threading.Thread(target=rate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one is None for one in given) == [False] + [True] * 7


# What is forgotten of answers


def test_texts_of_an_answer_are_forgotten_after_a_week(file: Path, clock: Clock) -> None:
    memory = Store(file, clock=clock)
    asked = asked_by("ada", 1, text=SECRET, quote=SECRET, source={"text": SECRET}, from_admin=True, session="s9")
    answer(memory, asked, f"{SECRET} A lot.", handle="card")
    before = found(memory, "card")
    clock.now += 7 * DAY - 1
    memory.forget_old(90)
    assert found(memory, "card") == before
    assert before.message == asked
    clock.now += 1
    memory.forget_old(90)
    bare = dataclasses.replace(asked, text="", quote="", source={})
    assert memory.find_answer("card") == dataclasses.replace(before, message=bare, answer="")
    assert memory.last_answer("c1", "ada") == memory.find_answer("card")
    assert SECRET not in texts_in(file)
    assert memory.take_over() == []
    assert not any(SECRET.encode() in path.read_bytes() for path in file.parent.iterdir())


def test_a_rating_keeps_the_texts_that_the_answer_has_lost(memory: Store, clock: Clock) -> None:
    answer(memory, asked_by("ada", 1, text="Rain?"), "No.", handle="card")
    memory.rate(found(memory, "card"), "ada", "helpful")
    clock.now += 8 * DAY
    memory.forget_old(90)
    changed = memory.rate(found(memory, "card"), "ada", "not_helpful")
    late = memory.rate(found(memory, "card"), "bob", "helpful")
    assert changed == Feedback("m1", "not_helpful", "ada", "c1", "agents.hr", "Rain?", "No.", clock.now)
    assert late == Feedback("m1", "helpful", "bob", "c1", "agents.hr", "", "", clock.now)
    assert memory.feedback_since(0) == [changed, late]


@pytest.mark.parametrize("days", [3, 90.5])
def test_answers_and_ratings_are_forgotten_after_some_days(memory: Store, clock: Clock, days: float) -> None:
    answer(memory, asked_by("ada", 1), handle="card 1")
    memory.rate(found(memory, "card 1"), "ada", "helpful")
    clock.now += DAY
    answer(memory, asked_by("ada", 2), handle="card 2")
    later = memory.rate(found(memory, "card 1"), "bob", "helpful")
    clock.now += (days - 1) * DAY - 1
    memory.forget_old(days)
    assert found(memory, "card 1")
    assert rating_of(memory, "m1", "ada") == "helpful"
    clock.now += 1
    memory.forget_old(days)
    assert memory.find_answer("card 1") is None
    assert found(memory, "card 2")
    assert rating_of(memory, "m1", "ada") is None
    assert memory.feedback_since(0) == [later]


def test_the_oldest_answers_make_room(memory: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST", 3)
    began = clock.now
    for number, at in enumerate([4, 1, 2, 5, 3]):
        clock.now = began + at
        answer(memory, message(number), handle=f"card {number}")
    given = memory.rate(found(memory, "card 1"), "ada", "helpful")
    memory.forget_old(90)
    assert [memory.find_answer(f"card {number}") is not None for number in range(5)] == [True, False, False, True, True]
    assert memory.feedback_since(0) == [given], "a rating does not need its answer"


def test_much_is_forgotten_little_by_little(memory: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that other processes may write in between."""
    monkeypatch.setattr(store, "_MOST_AT_ONCE", 2)
    for number in range(5):
        answer(memory, message(number), handle=f"card {number}")
    clock.now += 90 * DAY
    left = []
    for _ in range(4):
        left.append(sum(memory.find_answer(f"card {number}") is not None for number in range(5)))
        memory.forget_old(90)
    assert left == [5, 3, 1, 0]


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
    assert first.counted("calls") == 2
    assert second.counted("calls") == 3
    assert first.counted("calls") == 3, "what the other had not written yet"
    assert (second.counted("pushes"), second.counted("nothing")) == (1, 0)


def test_what_is_counted_is_written_with_what_comes_next(file: Path, clock: Clock) -> None:
    robots = {"first": Store(file, clock=clock)}
    robots["first"].count("calls")
    robots["first"].together([], on_error=lambda: None)
    end(robots)
    assert Store(file, clock=clock).counted("calls") == 1


def test_a_count_that_is_made_while_others_write_is_neither_lost_nor_doubled(file: Path, clock: Clock) -> None:
    stores = [Store(file, clock=clock), Store(file, clock=clock)]
    start = threading.Barrier(6)

    def count(memory: Store) -> None:
        start.wait()
        for _ in range(200):
            memory.count("calls")

    def write(memory: Store) -> None:
        start.wait()
        for number in range(40):
            memory.together([lambda number=number: memory.remember("fact", number)] * 2, on_error=no_error)  # type: ignore[misc]

    threads = [threading.Thread(target=target, args=(memory,)) for memory in stores for target in (count, count, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for memory in stores:
        memory.together([], on_error=no_error)
    assert [memory.counted("calls") for memory in stores] == [800, 800]


def test_a_count_is_not_lost_with_what_could_not_be_written(memory: Store) -> None:
    memory.count("calls")
    with pytest.raises(TypeError):
        memory.remember("fact", object())
    assert memory.counted("calls") == 1


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


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """As another process that writes, and does not end."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


def test_a_file_that_fails_later_leaves_what_was_known(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
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


def test_what_happened_while_the_file_was_locked_is_in_it_afterwards(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(database, "_ASIDE_SECONDS", 0.0)
    first = Store(file, clock=clock)
    first.accept(message(1))
    first.remember("fact", "old")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        first.done("m1")
        assert first.accept(message(2))
        first.count("calls")
        first.remember("fact", "new")
    sibling = Store(file, clock=clock)
    sibling.count("calls"), sibling.count("calls")
    assert sibling.counted("calls") == 2
    assert first.accept(message(3))
    first.done("m3")
    robots = {"first": first}
    del first
    end(robots, "first")
    second = Store(file, clock=clock)
    assert [left.message.message_id for left in second.take_over()] == ["m2"]
    assert not any(second.accept(message(number)) for number in (1, 2, 3))
    assert second.counted("calls") == 2, "the sibling's count is not set back"
    assert second.recall("fact") == "new"
    assert len(host.logged("warning")) == 1 and len(host.logged("info", "can be used again")) == 1


def a_full_disk(memory: Store, pages: int) -> None:
    """From `pages` more on, as SQLite itself tells it: in the middle of what is being written."""
    db = memory._database._db
    used = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {used + pages}")


def test_what_is_done_together_is_done_again_where_the_file_fails_in_the_middle(
    host: FakeHost, file: Path, clock: Clock
) -> None:
    memory = Store(file, clock=clock)
    memory.remember("fact", "before")
    memory.count("calls")
    a_full_disk(memory, 12)
    results: dict[Any, Any] = {}
    tries: list[str] = []

    def accept(number: int) -> None:
        tries.append(f"m{number}")
        results[number] = memory.accept(message(number, "long " * 2000))

    works: list[Any] = [lambda: results.update(before=memory.recall("fact")), lambda: memory.remember("fact", "new")]
    works += [functools.partial(accept, number) for number in (1, 2, 3, 4, 5, 6, 1)]
    memory.together(works, on_error=no_error)
    assert tries[-7:] == ["m1", "m2", "m3", "m4", "m5", "m6", "m1"]
    assert len(tries) > 7, "the file took some of them"
    assert results == {"before": "before", **dict.fromkeys((2, 3, 4, 5, 6), True), 1: False}
    assert memory.recall("fact") == "new"
    assert memory.counted("calls") == 1
    assert len(host.logged("warning", "full")) == 1
    with contextlib.closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT value FROM facts").fetchall() == [('"before"',)], "the file has nothing of it"


def test_a_count_that_is_made_meanwhile_is_not_lost_where_the_file_fails(
    host: FakeHost, file: Path, clock: Clock
) -> None:
    memory = Store(file, clock=clock)
    memory.accept(message(0))
    counts = iter(["once"])

    def count() -> None:  # as another thread does
        for _ in counts:
            memory.count("calls")

    a_full_disk(memory, 4)
    accepts = [functools.partial(memory.accept, message(number, "long " * 2000)) for number in (1, 2, 3)]
    memory.together([count, *accepts], on_error=no_error)
    assert host.logged("warning", "full")
    assert memory.counted("calls") == 1


def test_a_message_is_new_where_the_file_takes_all_of_it_and_fails_at_the_end(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    memory = Store(file, clock=clock)
    memory._database._db.execute("PRAGMA journal_mode = DELETE")  # as on a file system that cannot do better
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM facts").fetchall()  # who reads holds up the end of a transaction
        assert memory.accept(message(1))
        assert not memory.accept(message(1))
    assert host.logged("warning", "locked")


def test_answers_and_ratings_outlast_a_file_that_fails(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(database, "_ASIDE_SECONDS", 0.0)
    memory, sibling = Store(file, clock=clock), Store(file, clock=clock)
    for number in (1, 2):
        answer(memory, asked_by("ada", number), handle=f"card {number}")
    memory.rate(found(memory, "card 1"), "ada", "helpful")
    memory.rate(found(memory, "card 1"), "bob", "helpful")
    memory.accept(asked_by("ada", 3))
    memory.bind("m3", "card 3")
    memory.keep_answer("m3", "Twelve.", "answered")
    with locked(file):
        assert rating_of(memory, "m1", "ada") == "helpful"
        clock.now += 1
        answered(memory, "m3")
        assert last_id(memory, "c1", "ada") == "m3"
        newer = [memory.rate(found(memory, f"card {number}"), "ada", "not_helpful") for number in (1, 3)]
        older = memory.rate(found(memory, "card 1"), "bob", "not_helpful")
        assert older is not None
    clock.now += 1
    newest = sibling.rate(found(sibling, "card 1"), "bob", "very_helpful")
    assert rating_of(sibling, "m1", "ada") == "helpful", "what memory has is not in the file yet"
    for one in (memory, sibling):
        assert one.feedback_since(0) == [*newer, newest]
        assert [found(one, f"card {number}").answer for number in (1, 2, 3)] == ["Twelve."] * 3
    assert len(host.logged("warning")) == len(host.logged("info", "can be used again")) == 1


def test_memory_holds_only_the_newest_answers(
    host: FakeHost, file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.01)
    memory = Store(file, clock=clock)
    for number in range(1003):
        answer(memory, message(number), handle=number)
    with locked(file):
        left = [number for number in (0, 1, 2, 3, 4, 1002) if memory.find_answer(number)]
    assert left == [3, 4, 1002]


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
