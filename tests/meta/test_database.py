"""A file that several share, and every way in which it can fail, with tables that no robot has."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imRobots.Meta import database
from imRobots.Meta.database import Database, Table
from tests.fakes.host import FakeHost

from .helpers import WAIT

SCHEMA = """
CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, number INTEGER);
CREATE TABLE IF NOT EXISTS points (name TEXT PRIMARY KEY, number INTEGER);
CREATE TABLE IF NOT EXISTS jobs (job TEXT PRIMARY KEY, owner TEXT);
CREATE TABLE IF NOT EXISTS recent (number INTEGER UNIQUE);
"""
TABLES = (
    Table("words"),
    Table("points", conflict="(name) DO UPDATE SET number = max(number, excluded.number)"),
    Table("jobs", owned=True),
    Table("recent", newest=3),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "appData" / "imRobots" / "robots.hr.sqlite3"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds the file locked gives it up soon, and looks again whenever something is written."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    monkeypatch.setattr(database, "_ASIDE_SECONDS", 0.0)


def opened(file: Path | None) -> Database:
    return Database(file, SCHEMA, TABLES)


def put(db: Database, table: str, *row: Any) -> None:
    query = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})"
    db.do(lambda connection: connection.execute(query, row))


def delete(db: Database, table: str, where: str) -> None:
    db.do(lambda connection: connection.execute(f"DELETE FROM {table} WHERE {where}"))


def rows(db: Database, table: str) -> list[tuple[Any, ...]]:
    return sorted(db.do(lambda connection: connection.execute(f"SELECT * FROM {table}").fetchall()))


def words(db: Database) -> set[str]:
    return {word for word, _ in rows(db, "words")}


def seen(db: Database) -> set[str]:
    """The same, without a turn to write."""
    read = db.do(lambda connection: connection.execute("SELECT word FROM words").fetchall(), writes=False)
    return {word for (word,) in read}


def end(processes: dict[str, Database], name: str = "first") -> None:
    """As its process's end does: the system lets its locks go."""
    del processes[name]
    gc.collect()


def locks(file: Path) -> list[Path]:
    return sorted(file.parent.glob("*.alive"))


def set_aside(file: Path) -> list[Path]:
    return sorted(file.parent.glob("*.damaged-*"))


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """As another process that writes, and does not end."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


# What is written


SHARED = pytest.mark.parametrize("shared", [True, False], ids=["file", "memory"])


@SHARED
def test_what_fails_halfway_leaves_nothing(host: FakeHost, file: Path, shared: bool) -> None:
    db = opened(file if shared else None)

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('half', 1)")
        raise KeyError("not a failure of the file")

    with pytest.raises(KeyError):
        db.do(half)
    assert words(db) == set()
    put(db, "words", "whole", 1)
    assert words(db) == {"whole"}
    assert host.logged("warning") == []


@SHARED
def test_what_is_written_within_is_a_part_of_the_whole(host: FakeHost, file: Path, shared: bool) -> None:
    db, other = opened(file if shared else None), opened(file)

    def whole(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO words VALUES ('before', 1)")
        put(db, "words", "within", 2)
        assert words(db) == seen(db) == {"before", "within"}
        assert seen(other) == set(), "others see all of it or nothing"
        connection.execute("INSERT INTO words VALUES ('after', 3)")
        return "done"

    assert db.do(whole) == "done"
    assert words(db) == {"before", "within", "after"}
    assert seen(other) == (words(db) if shared else set())
    assert host.logged("warning") == []


@SHARED
def test_what_was_written_within_is_gone_with_the_whole(host: FakeHost, file: Path, shared: bool) -> None:
    db = opened(file if shared else None)

    def half(connection: sqlite3.Connection) -> None:
        put(db, "words", "within", 1)
        db.do(lambda connection: put(db, "words", "deep within", 2))
        raise KeyError("not a failure of the file")

    with pytest.raises(KeyError):
        db.do(half)
    assert words(db) == set()
    put(db, "words", "whole", 1)
    assert words(db) == {"whole"}
    assert host.logged("warning") == []


@SHARED
def test_who_only_reads_sees_what_was_written(file: Path, shared: bool) -> None:
    db = opened(file if shared else None)
    other = opened(file) if shared else db

    def write_and_read(connection: sqlite3.Connection) -> set[str]:
        connection.execute("INSERT INTO words VALUES ('a', 1)")
        return seen(db)

    assert seen(db) == set()
    assert db.do(write_and_read) == {"a"}
    assert seen(db) == seen(other) == {"a"}
    put(other, "words", "b", 2)
    assert seen(db) == {"a", "b"}


def test_who_only_reads_waits_for_nobody_who_writes(host: FakeHost, file: Path) -> None:
    db = opened(file)
    put(db, "words", "a", 1)
    with locked(file):
        assert seen(db) == {"a"}
    assert host.logged("warning") == []


@SHARED
def test_no_other_thread_comes_in_between(file: Path, shared: bool) -> None:
    db = opened(file if shared else None)
    other = threading.Thread(target=put, args=(db, "recent", 99))

    def whole(connection: sqlite3.Connection) -> None:
        for number in range(3):
            put(db, "recent", number)
            if number == 0:
                other.start()
            other.join(0.02)
            assert other.is_alive()
        assert rows(db, "recent") == [(0,), (1,), (2,)]

    db.do(whole)
    other.join(WAIT)
    in_order = db.do(lambda connection: connection.execute("SELECT number FROM recent ORDER BY rowid").fetchall())
    assert in_order == [(0,), (1,), (2,), (99,)]


def test_what_one_writes_another_reads(file: Path) -> None:
    first, second = opened(file), opened(file)
    put(first, "words", "a", 1)
    put(second, "words", "b", 2)
    assert words(first) == words(second) == {"a", "b"}


def test_without_a_file_nothing_is_shared(host: FakeHost) -> None:
    first, second = opened(None), opened(None)
    put(first, "words", "a", 1)
    assert words(second) == set()
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        put(first, "nowhere", 1)
    assert host.logged("warning") == []


def test_what_is_deleted_can_be_had_out_of_the_log_too(file: Path) -> None:
    db = opened(file)
    put(db, "words", "a secret", 1)
    delete(db, "words", "word = 'a secret'")
    everywhere = [file, *file.parent.glob("*-wal")]
    assert any(b"a secret" in path.read_bytes() for path in everywhere)
    db.empty_log()
    assert not any(b"a secret" in path.read_bytes() for path in everywhere)


# Who lives


def test_who_is_dead_can_be_seen_from_its_lock(file: Path) -> None:
    processes = {"first": opened(file), "second": opened(file), "third": opened(file)}
    first, second = processes["first"].owner, processes["second"].owner
    here = processes["third"]
    assert list(here.dead([first, second, here.owner])) == []
    end(processes)
    assert list(here.dead([first, second, here.owner, "", "long gone"])) == sorted(["", first, "long gone"])


def test_the_lock_that_a_dead_one_left_is_tidied_up(file: Path) -> None:
    here = opened(file)
    left = file.with_suffix(".gone.alive")
    left.touch()
    seen = []
    for owner in here.dead([]):
        seen.append(owner)
        assert left.exists(), "until the next is asked for"
        assert list(opened(file).dead(["gone"])) == [], "nobody else has it meanwhile"
    assert seen == ["gone"]
    assert not left.exists()


def test_in_memory_nobody_is_known_to_be_dead() -> None:
    assert list(opened(None).dead(["", "someone"])) == [""]


# A file that cannot be used


def filled(file: Path) -> bytes:
    """A file with something in it, closed; returns what is in it."""
    processes = {"first": opened(file)}
    for number in range(200):
        put(processes["first"], "words", f"{number} {'long ' * 50}", number)
    end(processes)
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
def test_a_damaged_file_is_set_aside_and_a_new_one_is_begun(host: FakeHost, file: Path, damage: Any) -> None:
    damaged = damage(filled(file))
    file.write_bytes(damaged)
    processes = {"first": opened(file)}
    (aside,) = set_aside(file)
    assert aside.read_bytes() == damaged
    (record,) = host.logged("warning")
    for part in (str(file), "damaged", aside.name):
        assert part in record.message
    put(processes["first"], "words", "new", 1)
    end(processes)
    assert words(opened(file)) == {"new"}, "the new one lasts"
    assert len(host.logged("warning")) == 1


def test_an_empty_file_is_a_new_one(host: FakeHost, file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.touch()
    put(opened(file), "words", "new", 1)
    assert words(opened(file)) == {"new"}
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
    patch.setattr(sqlite3, "connect", read_only)


def a_file_that_nobody_can_write_to(file: Path, patch: pytest.MonkeyPatch) -> None:
    """The folder may be written to, and the locks of processes are made in it."""
    connect = sqlite3.connect

    def read_only(path: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **kwargs) if path == file else connect(path, **kwargs)

    file.parent.mkdir(parents=True)
    file.touch()
    patch.setattr(sqlite3, "connect", read_only)


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
    host: FakeHost, file: Path, impatient: None, monkeypatch: pytest.MonkeyPatch, obstacle: Any
) -> None:
    obstacle(file, monkeypatch)
    db = opened(file)
    (record,) = host.logged("warning")
    for part in (str(file), "ends with the process", "restart the app"):
        assert part in record.message
    put(db, "words", "a", 1)
    assert words(db) == {"a"}
    assert list(db.dead(["someone"])) == []
    db.empty_log()
    assert len(host.logged("warning")) == 1


def test_a_file_that_another_process_holds_on_to_is_left_as_it_is(host: FakeHost, file: Path, impatient: None) -> None:
    filled(file)
    with locked(file):
        db = opened(file)
        put(db, "words", "new", 1)
        assert "new" in words(db)
    (record,) = host.logged("warning")
    assert "locked" in record.message
    assert set_aside(file) == []
    assert len(words(opened(file))) == 200, "nothing in it was lost"


def test_who_writes_only_for_a_moment_is_waited_for(host: FakeHost, file: Path) -> None:
    db = opened(file)
    with locked(file):
        thread = threading.Thread(target=put, args=(db, "words", "a", 1))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(WAIT)
    assert words(opened(file)) == {"a"}
    assert host.logged("warning") == []


def test_a_file_that_fails_later_leaves_what_was_known(
    host: FakeHost, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    db = opened(file)
    put(db, "words", "known", 1)
    put(db, "jobs", "theirs", "another")
    with locked(file):
        put(db, "words", "new", 2)
    assert words(db) == {"known", "new"}
    assert rows(db, "jobs") == [("theirs", "another")]
    put(db, "words", "newer", 3)
    assert words(opened(file)) == {"known"}, "one does not look at the file all the time"
    (record,) = host.logged("warning")
    assert str(file) in record.message
    assert "restart the app" in record.message


def test_where_the_file_fails_within_the_whole_is_done_again(host: FakeHost, file: Path) -> None:
    db = opened(file)
    put(db, "words", "known", 0)
    used = db._db.execute("PRAGMA page_count").fetchone()[0]
    db._db.execute(f"PRAGMA max_page_count = {used + 4}")  # then the disk is full
    tries: list[int] = []

    def whole(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO points VALUES ('Ada', 1)")
        for number in range(1, 6):
            tries.append(number)
            put(db, "words", f"{number} {'long ' * 2000}", number)

    db.do(whole)
    assert tries[-5:] == [1, 2, 3, 4, 5] and len(tries) > 5
    assert [number for _, number in rows(db, "words")] == [1, 2, 3, 4, 5, 0]
    assert rows(db, "points") == [("Ada", 1)]
    (record,) = host.logged("warning")
    assert "full" in record.message
    assert words(opened(file)) == {"known"}, "the file has nothing of it"


def test_memory_gets_the_newest_of_what_is_too_much(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    for number in (1, 9, 2, 8, 3):
        put(db, "recent", number)
    with locked(file):
        assert rows(db, "recent") == [(2,), (3,), (8,)]
        put(db, "recent", 4)
    assert rows(db, "recent") == [(1,), (2,), (3,), (4,), (8,), (9,)], "nothing was lost"


def test_a_file_that_is_damaged_later_is_no_reason_to_stop(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    put(db, "words", "a", 1)
    for spoilt in file.parent.glob(f"{file.name}*"):
        spoilt.write_bytes(b"\xa5" * max(8192, spoilt.stat().st_size))
    put(db, "words", "b", 2)
    put(db, "words", "c", 3)
    assert {"b", "c"} <= words(db)
    assert len(host.logged("warning")) == 1


def test_a_page_that_goes_bad_later_costs_only_what_was_on_it(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    put(db, "points", "Ada", 1)
    for number in range(200):
        put(db, "words", f"{number} {'long ' * 50}", number)
    db.empty_log()
    db._db.execute("PRAGMA cache_size = 0")
    spoilt = with_a_corrupt_page(file.read_bytes())
    file.write_bytes(spoilt)
    assert len(rows(db, "words")) < 200, "the page was one of theirs"
    put(db, "words", "new", 200)
    (record,) = host.logged("warning")
    assert "malformed" in record.message
    assert rows(db, "points") == [("Ada", 1)]
    left = {number for _, number in rows(db, "words")}
    assert {0, 199, 200} <= left, "before it and after it"
    assert len(left) > 150
    assert file.read_bytes() == spoilt, "it is left as it is"


def test_a_file_that_nobody_may_read_is_not_waited_for(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    db._db.execute("PRAGMA journal_mode = DELETE")  # as on a file system that cannot do better
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        thread = threading.Thread(target=put, args=(db, "words", "a", 1), daemon=True)
        thread.start()
        thread.join(WAIT)
        assert not thread.is_alive()
    assert host.logged("warning", "locked")
    assert words(db) == {"a"}


# A file that can be used again


def test_what_happened_meanwhile_is_in_the_file_afterwards(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    put(db, "words", "old", 1)
    put(db, "words", "both", 1)
    put(db, "points", "Ada", 1)
    with locked(file):
        put(db, "words", "new", 2)
        put(db, "words", "both", 2)
        put(db, "points", "Ada", 5)
        put(db, "points", "Bob", 5)
    sibling = opened(file)
    put(sibling, "points", "Bob", 7)
    put(sibling, "words", "theirs", 3)
    put(db, "words", "later", 4)
    everything = [("both", 1), ("later", 4), ("new", 2), ("old", 1), ("theirs", 3)]
    assert rows(sibling, "words") == rows(db, "words") == everything
    assert rows(sibling, "points") == [("Ada", 5), ("Bob", 7)]
    assert len(host.logged("warning")) == len(host.logged("info", "can be used again")) == 1


def test_rows_that_have_an_owner_go_back_if_they_are_ones_own(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    for job, owner in (("done", db.owner), ("left", db.owner), ("mine", db.owner), ("theirs", "another")):
        put(db, "jobs", job, owner)
    with locked(file):
        delete(db, "jobs", "job = 'done'")
        put(db, "jobs", "left", "")
        put(db, "jobs", "new", db.owner)
    sibling = opened(file)
    delete(sibling, "jobs", "job = 'theirs'")
    put(sibling, "jobs", "more", "another")
    expected = [("left", ""), ("mine", db.owner), ("more", "another"), ("new", db.owner)]
    assert rows(db, "jobs") == rows(sibling, "jobs") == expected


def test_a_file_that_fails_again_is_left_again(host: FakeHost, file: Path, impatient: None) -> None:
    db = opened(file)
    for word in "abc":
        with locked(file):
            put(db, "words", word, 1)
        assert word in words(db)
    assert words(opened(file)) == {"a", "b", "c"}
    assert len(host.logged("warning")) == len(host.logged("info", "can be used again")) == 3


def test_what_nobody_needs_any_more_leaves_nothing_open(
    host: FakeHost, file: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        made.append(connect(*args, **kwargs))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", noted)
        processes = {"first": opened(file), "second": opened(file)}
        owner = processes["first"].owner
        other = connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        put(processes["first"], "words", "a", 1)
        other.close()
        put(processes["first"], "words", "b", 1)
        assert len(made) >= 6, "two with their locks, memory, and the file again"
        end(processes)
        assert list(processes["second"].dead([owner])) == [owner]
        assert len(locks(file)) == 1
        end(processes, "second")
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
