"""One SQLite file that all processes of a robot on this machine share. What is in it is not known here.

Owns the connection, and a lock that shows the others that this process lives. Any thread but an event loop: everything
reads or writes a file. Nothing that goes wrong with it reaches the caller: it is set aside, and memory takes its place.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import host
from .lock import ALIVE, hold, lock_file_of, release
from .timing import Deadline

T = TypeVar("T")

_BUSY_SECONDS = 2.0  # to wait for another process that writes
_ASIDE_SECONDS = 5.0  # from one look to the next whether a file can be used again


@dataclass(frozen=True)
class Table:
    """What becomes of a table's rows when memory takes the file's place, and when the file can be used again.

    `newest`: memory gets no more than so many of them. `owned`: the column `owner` says which process a row is of, or
    "" for nobody; the rows of others stay as they are in the file. `conflict`: what is done, in SQL's words, with a row
    that the file has already. Without more, the file's own stays.
    """

    name: str
    newest: int | None = None
    owned: bool = False
    conflict: str = "DO NOTHING"


class Database:
    """A process's way to the file. Closed when it is garbage, or with the process."""

    def __init__(self, file: Path | None, schema: str, tables: Collection[Table]) -> None:
        """`schema` can be run again on a file that has it. Without a file, everything ends with the process."""
        self.owner = uuid.uuid4().hex
        """What this process is called in the file."""
        self._schema = schema
        self._tables = tables
        self._lock = threading.RLock()
        self._file = file
        self._aside: Path | None = None  # the file, while it cannot be used
        self._try_again_at = 0.0
        self._held: list[sqlite3.Connection] = []  # what is to be closed
        weakref.finalize(self, _close, self._held).atexit = False
        try:
            self._db = self._open(file) if file else self._connect(None)
        except (sqlite3.Error, OSError) as error:
            self._forget_file(error)

    def do(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        """Run `work` in a transaction; again in memory if the file fails. One statement that only reads needs none.

        Inside of `work` it is a part of that transaction.
        """
        around = _transaction if writes else contextlib.nullcontext
        with self._lock:
            if self._db.in_transaction:
                return work(self._db)
            self._return_to_file()
            try:
                with around(self._db):
                    return work(self._db)
            except sqlite3.Error as error:
                if self._file is None:
                    raise
                self._forget_file(error)
            with around(self._db):
                return work(self._db)

    def dead(self, owners: Collection[str]) -> Iterator[str]:
        """Those that live no more, of `owners` and of all that have left a lock in the folder. Inside `do` only.

        One at a time: nobody else can have it until the next is asked for; then its lock is gone. "" never lives.
        Where memory has taken the file's place, nobody is known to be dead.
        """
        known = set(owners)
        if self._file is not None:
            prefix = f"{self._file.stem}."
            for left in self._file.parent.glob(f"{prefix}*{ALIVE}"):
                known.add(left.name.removeprefix(prefix).removesuffix(ALIVE))
        for owner in sorted(known - {self.owner}):
            if not owner:
                yield owner
            elif self._file and (lock := hold(lock_file := lock_file_of(self._file, owner), timeout=0)):
                try:
                    yield owner
                finally:
                    release(lock, lock_file)

    def empty_log(self) -> None:
        """What was deleted from the file still stands in the log beside it, until this."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _open(self, file: Path) -> sqlite3.Connection:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_file = lock_file_of(file, self.owner)
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
            damaged = file.with_suffix(f".damaged-{int(time.time())}")
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
            db.executescript(self._schema)
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
            for table in self._tables:
                # What can still be read, up to a bad page and from one, is not forgotten.
                for order in ("ASC", "DESC") if table.newest is None else ("DESC",):
                    query = f"SELECT * FROM {table.name} ORDER BY rowid {order} LIMIT ?"
                    with contextlib.suppress(sqlite3.Error):
                        for row in file.execute(query, (-1 if table.newest is None else table.newest,)):
                            memory.execute(f"INSERT OR IGNORE INTO {table.name} VALUES ({_marks(row)})", row)
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
                    for table in self._tables:
                        where, me = (" WHERE owner IN (?, '')", (self.owner,)) if table.owned else ("", ())
                        if table.owned:  # what is gone in memory is done
                            db.execute(f"DELETE FROM {table.name} WHERE owner = ?", me)
                        for row in memory.execute(f"SELECT * FROM {table.name}{where}", me):
                            query = f"INSERT INTO {table.name} VALUES ({_marks(row)}) ON CONFLICT {table.conflict}"
                            db.execute(query, row)
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


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")  # so that a second process waits here, and not in the middle
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _marks(row: tuple[object, ...]) -> str:
    return ", ".join("?" * len(row))


def _close(connections: list[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()
