"""A lock that lasts as long as a process: how another one learns whether it still lives.

Owns nothing; who holds a lock keeps what it gets here. Any thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

ALIVE = ".alive"


def lock_file_of(file: Path, owner: str) -> Path:
    """The file that `owner` locks as long as it uses `file`."""
    return file.with_suffix(f".{owner}{ALIVE}")


def hold(lock_file: Path, timeout: float) -> sqlite3.Connection | None:
    """Lock a file as long as this process lives; None if another holds it, or if it cannot be locked.

    SQLite's lock is the operating system's, on every system, and goes when the process does, however it ends. A number
    of a process would say nothing: the system gives it to another one.
    """
    lock = None
    try:
        lock = sqlite3.connect(lock_file, timeout=timeout, isolation_level=None, check_same_thread=False)
        lock.execute("PRAGMA journal_mode = OFF")  # else a file of it lies beside
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error:
        if lock is not None:
            lock.close()
        return None
    return lock


def release(lock: sqlite3.Connection, lock_file: Path) -> None:
    """Give it up, and remove the file."""
    lock.close()
    with contextlib.suppress(OSError):  # Windows keeps a file that somebody looks at right now
        lock_file.unlink(missing_ok=True)
