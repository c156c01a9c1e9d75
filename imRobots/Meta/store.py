"""What a robot remembers: which messages it has had, which it has not answered yet, what it has counted this month.

Owns one SQLite file in the app's data directory, shared by all processes of the robot on this machine, and in it this
process's unfinished answers. Any thread but an event loop: every method writes. Nothing that goes wrong with the file
stops a robot: it is set aside, and memory takes its place.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from . import host
from .lock import ALIVE, hold, lock_file_of, release
from .models import IncomingMessage
from .reply import Outcome
from .timing import Deadline

T = TypeVar("T")

_DAY = 24 * 60 * 60.0
_MOST = 100_000  # message ids; a flood must not fill the disk
_BUSY_SECONDS = 2.0  # to wait for another process that writes
_ASIDE_SECONDS = 5.0  # from one look to the next whether a file can be used again
# DingTalk counts by the month, and says nothing of the time zone: its own is assumed.
_MONTH_OFFSET = 8 * 60 * 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (key TEXT UNIQUE, at REAL);
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
CREATE TABLE IF NOT EXISTS unfinished
    (message_id TEXT PRIMARY KEY, owner TEXT, at REAL, message TEXT, handle TEXT, spent INTEGER, answer TEXT);
CREATE TABLE IF NOT EXISTS months (month TEXT, what TEXT, number INTEGER, PRIMARY KEY (month, what));
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT);
"""


@dataclass(frozen=True)
class Unfinished:
    """A message whose last word was not out when its process ended.

    `age`: seconds since it was accepted. `handle`: of its card, None if none is known. `spent`: it may not be asked
    again, because its agent had begun to act, or because it was asked again once already. `answer`: its last word and
    outcome, if only the sending was not done.
    """

    message: IncomingMessage
    age: float
    handle: Any
    spent: bool
    answer: tuple[str, Outcome] | None = None


class Store:
    """The memory of one robot in one process. Closed when it is garbage, or with the process."""

    def __init__(self, file: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """Without a file, or where `file` cannot be used, what is remembered ends with the process."""
        self._clock = clock
        self._lock = threading.Lock()
        self._owner = uuid.uuid4().hex
        self._file = file
        self._aside: Path | None = None  # the file, while it cannot be used
        self._try_again_at = 0.0
        self._held: list[sqlite3.Connection] = []  # what is to be closed
        weakref.finalize(self, _close, self._held).atexit = False
        try:
            self._db = self._open(file) if file else self._connect(None)
        except (sqlite3.Error, OSError) as error:
            self._forget_file(error)

    def accept(self, message: IncomingMessage) -> bool:
        """Whether this message is a new one; then it is unfinished. Platforms may deliver a message twice."""

        def write(db: sqlite3.Connection) -> bool:
            now = self._clock()
            if not _is_new(db, f"message {message.message_id}", now):
                return False
            row = (_plain(message.message_id), self._owner, now, _to_json(message), None, 0, None)
            db.execute("INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return True

        return self._do(write)

    def bind(self, message_id: str, handle: Any) -> None:
        """The message is being answered in this card. `handle` goes through JSON."""
        self._set("handle", json.dumps(handle), message_id)

    def spend(self, message_id: str) -> None:
        """The message is not to be asked again unasked: its agent begins to act, say."""
        self._set("spent", 1, message_id)

    def keep_answer(self, message_id: str, text: str, outcome: Outcome) -> None:
        """The message's last word, which is yet to be sent."""
        self._set("answer", json.dumps([text, outcome]), message_id)

    def leave(self, message_id: str) -> None:
        """Nobody works at the message any more, though it is unfinished: for the next start, in whichever process."""
        self._set("owner", "", message_id)

    def done(self, message_id: str) -> None:
        """The message has had its last word. Its text is forgotten."""
        self._do(lambda db: db.execute("DELETE FROM unfinished WHERE message_id = ?", (_plain(message_id),)))

    def take_over(self) -> list[Unfinished]:
        """The unfinished messages of processes that live no more, the oldest first; they are this process's now."""

        def write(db: sqlite3.Connection) -> list[Unfinished]:
            now, found = self._clock(), []
            for owner in sorted(self._owners(db) - {self._owner}):
                lock = hold(lock_file_of(self._file, owner), timeout=0) if owner and self._file else None
                if owner and lock is None:
                    continue  # its process lives
                try:
                    query = "SELECT at, message, handle, spent, answer FROM unfinished WHERE owner = ?"
                    found += db.execute(query, (owner,)).fetchall()
                    db.execute("UPDATE unfinished SET owner = ? WHERE owner = ?", (self._owner, owner))
                finally:
                    if lock is not None and self._file:
                        release(lock, lock_file_of(self._file, owner))
            left = [_unfinished(now - at, *rest) for at, *rest in sorted(found)]
            return [one for one in left if one is not None]

        left = self._do(write)
        with self._lock, contextlib.suppress(sqlite3.Error):  # else answered questions stand in the log beside the file
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return left

    def once_a_day(self, what: str) -> bool:
        """True the first time in 24 hours that it is asked for `what`."""
        return self._do(lambda db: _is_new(db, f"once {what}", self._clock()))

    def count(self, what: str) -> None:
        """One more of `what` this month."""

        def write(db: sqlite3.Connection) -> None:
            month = self._month()
            db.execute("DELETE FROM months WHERE month != ?", (month,))
            db.execute("INSERT OR IGNORE INTO months VALUES (?, ?, 0)", (month, what))
            db.execute("UPDATE months SET number = number + 1 WHERE month = ? AND what = ?", (month, what))

        self._do(write)

    def counted(self, what: str) -> int:
        """How many this month, in all processes."""
        query = "SELECT number FROM months WHERE month = ? AND what = ?"
        row = self._do(lambda db: db.execute(query, (self._month(), what)).fetchone())
        return row[0] if row else 0

    def remember(self, key: str, value: Any) -> None:
        """Remember a fact: something that goes through JSON."""
        self._do(lambda db: db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, json.dumps(value))))

    def recall(self, key: str) -> Any:
        """The fact, None if there is none."""
        row = self._do(lambda db: db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone())
        return json.loads(row[0]) if row else None

    def month_ends(self) -> float:
        """When the counts begin anew, in seconds since the epoch."""
        at = self._clock()
        while self._month(at) == self._month():
            at += _DAY
        return at - (at + _MONTH_OFFSET) % _DAY

    def _month(self, at: float | None = None) -> str:
        return time.strftime("%Y-%m", time.gmtime((self._clock() if at is None else at) + _MONTH_OFFSET))

    def _set(self, column: str, value: Any, message_id: str) -> None:
        query = f"UPDATE unfinished SET {column} = ? WHERE message_id = ?"
        self._do(lambda db: db.execute(query, (value, _plain(message_id))))

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; again in memory if the file fails."""
        with self._lock:
            self._return_to_file()
            try:
                with _transaction(self._db):
                    # Texts stay for a day at most. The hourly line in the log comes by here if nobody else does.
                    self._db.execute("DELETE FROM unfinished WHERE at < ?", (self._clock() - _DAY,))
                    return work(self._db)
            except sqlite3.Error as error:
                if self._file is None:
                    raise
                self._forget_file(error)
            with _transaction(self._db):
                return work(self._db)

    def _open(self, file: Path) -> sqlite3.Connection:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_file = lock_file_of(file, self._owner)
        lock = hold(lock_file, timeout=_BUSY_SECONDS)
        while lock is not None and not lock_file.exists():  # another process has just tidied it up, for a dead one's
            lock.close()
            lock = hold(lock_file, timeout=_BUSY_SECONDS)
        if lock is None:
            raise sqlite3.OperationalError(f"{lock_file} cannot be locked")
        # Not at the interpreter's end, when threads may still write: the next process tidies up.
        weakref.finalize(self, release, lock, lock_file).atexit = False
        deadline = Deadline(_BUSY_SECONDS)
        try:
            while True:
                try:
                    return self._connect(file)
                except sqlite3.OperationalError:  # others that open a new file at once: SQLite does not wait for them
                    if not deadline.left:
                        raise
                    time.sleep(0.02)
        except sqlite3.OperationalError:  # locked, say: nothing is wrong with it
            raise
        except sqlite3.DatabaseError as error:
            damaged = file.with_suffix(f".damaged-{int(self._clock())}")
            file.rename(damaged)
            for rest in ("-wal", "-shm"):
                file.with_name(file.name + rest).unlink(missing_ok=True)
            host.log.warning(f"{file} is damaged ({error}); it is set aside as {damaged.name}, a new one is begun.")
            return self._connect(file)

    def _connect(self, file: Path | None) -> sqlite3.Connection:
        db = sqlite3.connect(file or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA secure_delete = ON")  # what is forgotten does not stay in the file
            db.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing, a power cut the last moments
            if (fault := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(fault)
            db.executescript(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        self._held.append(db)
        return db

    def _forget_file(self, error: Exception) -> None:
        host.log.warning(
            f"{self._file} cannot be used ({error}) and is left as it is. Until it can be used again, what the robot "
            "remembers ends with the process; mend it, or restart the app."
        )
        if isinstance(error, sqlite3.OperationalError) and self._held:  # locked, or the disk is full: that may pass
            self._aside, self._try_again_at = self._file, time.monotonic() + _ASIDE_SECONDS
        self._file = None
        memory = self._connect(None)
        if self._held[0] is not memory:
            file = self._held.pop(0)
            with contextlib.suppress(sqlite3.Error):
                file.execute("PRAGMA busy_timeout = 0")
            for table in ("seen", "unfinished", "months", "facts"):
                for order in ("ASC", "DESC"):  # what can still be read, up to a bad page and from one, is not forgotten
                    with contextlib.suppress(sqlite3.Error):
                        for row in file.execute(f"SELECT * FROM {table} ORDER BY rowid {order}"):
                            marks = ", ".join("?" * len(row))
                            memory.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
            file.close()
        self._db = memory

    def _return_to_file(self) -> None:
        """Write what has happened meanwhile into a file that can be used again. The lock is held."""
        if self._aside is None or time.monotonic() < self._try_again_at:
            return
        self._try_again_at = time.monotonic() + _ASIDE_SECONDS
        memory = self._db
        try:
            db = self._connect(self._aside)
            try:
                db.execute("PRAGMA busy_timeout = 0")
                with _transaction(db):
                    db.execute("DELETE FROM unfinished WHERE owner = ?", (self._owner,))
                    for table in ("seen", "unfinished", "months", "facts"):
                        mine = " WHERE owner IN (?, '')" if table == "unfinished" else ""
                        for row in memory.execute(f"SELECT * FROM {table}{mine}", (self._owner,) if mine else ()):
                            marks = ", ".join("?" * len(row))
                            # What other processes have written meanwhile stays; what was this one's is out already.
                            keep = "REPLACE" if table == "facts" else "IGNORE"
                            db.execute(f"INSERT OR {keep} INTO {table} VALUES ({marks})", row)
                    months = memory.execute("SELECT number, month, what FROM months").fetchall()
                    db.executemany("UPDATE months SET number = max(number, ?) WHERE month = ? AND what = ?", months)
                db.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
            except sqlite3.Error:
                self._held.remove(db)
                db.close()
                raise
        except (sqlite3.Error, OSError) as error:
            host.log.debug(f"{self._aside} still cannot be used ({error})")
            return
        host.log.info(f"{self._aside} can be used again")
        self._db, self._file, self._aside = db, self._aside, None
        self._held.remove(memory)
        memory.close()

    def _owners(self, db: sqlite3.Connection) -> set[str]:
        """Of unfinished messages, "" if nobody's, and of locks that lie in the folder."""
        owners = {owner for (owner,) in db.execute("SELECT DISTINCT owner FROM unfinished")}
        if self._file is not None:
            prefix = f"{self._file.stem}."
            for left in self._file.parent.glob(f"{prefix}*{ALIVE}"):
                owners.add(left.name.removeprefix(prefix).removesuffix(ALIVE))
        return owners


def open_store(element: Any) -> Store:
    """The one store of an element in this process, so that a reload forgets nothing. Only where JitNode calls us."""
    return _open_store(element.fullName, host.data_folder(element))


@functools.cache
def _open_store(full_name: str, folder: Path | None) -> Store:
    if folder is None:
        host.log.warning(
            f"{full_name}: the app's data directory cannot be found, so what the robot remembers ends with the process"
        )
    return Store(folder / f"{full_name}.sqlite3" if folder else None)


def _is_new(db: sqlite3.Connection, key: str, now: float) -> bool:
    db.execute("DELETE FROM seen WHERE at <= ?", (now - _DAY,))
    db.execute("DELETE FROM seen WHERE rowid <= (SELECT max(rowid) FROM seen) - ?", (_MOST - 1,))
    return db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (_plain(key), now)).rowcount == 1


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")  # so that a second process waits here, and not in the middle
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _to_json(message: IncomingMessage) -> str:
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    try:
        return json.dumps({**values, "source": dict(message.source)}, default=str, skipkeys=True)
    except ValueError:  # it refers to itself
        return json.dumps({**values, "source": {}})


def _unfinished(age: float, text: str, handle: str | None, spent: int, answer: str | None) -> Unfinished | None:
    try:
        message, last_word = IncomingMessage(**json.loads(text)), json.loads(answer or "null")
        return Unfinished(message, age, json.loads(handle or "null"), bool(spent), last_word and tuple(last_word))
    except (TypeError, ValueError) as error:
        host.log.warning(f"A message that another version of the robot left unanswered cannot be read: {error}")
        return None


def _plain(text: str) -> str:
    """Half of an emoji cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _close(connections: list[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()
