"""What a robot remembers: messages it has had and not yet answered, answers and their ratings, what it has counted.

Owns the tables of the database that all processes of the robot on this machine share, and in it this process's
unfinished answers. Any thread but an event loop: every method but `count` reads or writes a file.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from . import host
from .database import Database, Table
from .models import Feedback, IncomingMessage, Rating
from .reply import Outcome

T = TypeVar("T")

_DAY = 24 * 60 * 60.0
_WEEK = 7 * _DAY
_MOST = 100_000  # message ids, and answers; a flood must not fill the disk
_MOST_AT_ONCE = 10_000  # that are forgotten: a tenth of a second
_TIDY_SECONDS = 60.0  # from one look for what is too old to the next
_MOST_TEXT = 20_000  # characters that are kept of a question, and of an answer
# DingTalk counts by the month, and says nothing of the time zone: its own is assumed.
_MONTH_OFFSET = 8 * 60 * 60.0

# `texts` of an answer: what is forgotten first. The columns of `feedback` are `Feedback`'s fields.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (key TEXT UNIQUE, at REAL);
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
CREATE TABLE IF NOT EXISTS unfinished
    (message_id TEXT PRIMARY KEY, owner TEXT, at REAL, message TEXT, handle TEXT, spent INTEGER, answer TEXT);
CREATE TABLE IF NOT EXISTS answers
    (message_id TEXT PRIMARY KEY, conversation_id TEXT, person TEXT, at REAL, agent TEXT, outcome TEXT, handle TEXT,
    message TEXT, texts TEXT);
CREATE INDEX IF NOT EXISTS answers_handle ON answers (handle, at);
CREATE INDEX IF NOT EXISTS answers_conversation ON answers (conversation_id, at, person);
CREATE INDEX IF NOT EXISTS answers_at ON answers (at);
CREATE INDEX IF NOT EXISTS answers_texts ON answers (at) WHERE texts IS NOT NULL;
CREATE TABLE IF NOT EXISTS feedback
    (message_id TEXT, rating TEXT, person TEXT, conversation_id TEXT, agent TEXT, question TEXT, answer TEXT, at REAL,
    PRIMARY KEY (message_id, person));
CREATE INDEX IF NOT EXISTS feedback_at ON feedback (at);
CREATE TABLE IF NOT EXISTS months (month TEXT, what TEXT, number INTEGER, PRIMARY KEY (month, what));
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT);
"""
# One statement each: while agents run, a thread waits its turn after every statement.
_SEE = """
INSERT INTO seen SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM answers WHERE message_id = ?)
ON CONFLICT (key) DO UPDATE SET at = excluded.at WHERE at <= ?
"""
_COUNT = """
INSERT INTO months VALUES (?, ?, ?)
ON CONFLICT (month, what) DO UPDATE SET number = number + excluded.number
"""
_UNFINISHED = "SELECT at, message, handle, spent, answer FROM unfinished"
_TABLES = (
    Table("seen"),
    Table("unfinished", owned=True),
    Table("answers", newest=1000),
    Table(
        "feedback",
        newest=10_000,
        conflict="(message_id, person) DO UPDATE SET rating = excluded.rating, agent = excluded.agent, "
        "question = excluded.question, answer = excluded.answer, at = excluded.at WHERE excluded.at > at",
    ),
    Table("months", conflict="(month, what) DO UPDATE SET number = max(number, excluded.number)"),
    Table("facts", conflict="(key) DO UPDATE SET value = excluded.value"),
)


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


@dataclass(frozen=True)
class KeptAnswer:
    """An answer that can be rated.

    After a week its texts are forgotten: the message's text, quote and source and the answer are empty then. `agent`:
    "" while it is unfinished.
    """

    message: IncomingMessage
    answer: str
    agent: str


class Store:
    """The memory of one robot in one process. Closed when it is garbage, or with the process."""

    def __init__(self, file: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """Without a file, or where `file` cannot be used, what is remembered ends with the process."""
        self._clock = clock
        self._tidied_at = 0.0
        self._counting = threading.Lock()
        self._uncounted: Counter[str] = Counter()
        self._database = Database(file, _SCHEMA, _TABLES)

    def accept(self, message: IncomingMessage) -> bool:
        """Whether this message is a new one; then it is unfinished. Platforms may deliver a message twice.

        One is known for a day, and as long as there is an answer to it.
        """

        def write(db: sqlite3.Connection) -> bool:
            now, message_id = self._clock(), _plain(message.message_id)
            row = (message_id, self._database.owner, now, _to_json(message), None, 0, None)
            if not _is_new(db, f"message {message_id}", now, answered=message_id):
                return False
            db.execute("INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return True

        return self._do(write)

    def together(self, works: Collection[Callable[[], object]], on_error: Callable[[], None]) -> None:
        """Do all of this with the store in one go: many at once cost little more than one.

        Each may be done twice, if the file fails. `on_error` is called in the `except` clause of one that raised; the
        others are done all the same.
        """
        with self._counting:
            counts, self._uncounted = self._uncounted, Counter()
        rows = [(self._month(), what, number) for what, number in counts.items()]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_COUNT, rows)
            for work in works:
                try:
                    work()
                except sqlite3.Error:
                    raise
                except Exception:
                    on_error()

        try:
            self._do(write)
        except BaseException:
            with self._counting:
                self._uncounted += counts
            raise

    def unsee(self, message_id: str) -> None:
        """Forget that the message was ever accepted: nothing came of it, and it may come again."""
        self._do(lambda db: db.execute("DELETE FROM seen WHERE key = ?", (_plain(f"message {message_id}"),)))

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

    def answered(self, message_id: str, agent: str, last_word: tuple[str, Outcome], card: Any = None) -> None:
        """Like `done`, but the last word is kept, so that it can be rated. `card`: its handle, if none is bound."""

        def write(db: sqlite3.Connection) -> None:
            key = (_plain(message_id),)
            row = db.execute(f"{_UNFINISHED} WHERE message_id = ?", key).fetchone()
            left = _read(_unfinished, self._clock(), *row) if row else None
            if left is None:
                db.execute("DELETE FROM unfinished WHERE message_id = ?", key)
                return
            message, (answer, outcome) = left.message, last_word
            texts = {"text": message.text[:_MOST_TEXT], "quote": message.quote[:_MOST_TEXT], "source": message.source}
            handle = card if left.handle is None else left.handle
            row = (
                *key,
                *map(_plain, (message.conversation_id, message.sender_id)),
                self._clock(),
                _plain(agent),
                outcome,
                json.dumps(handle),
                _to_json(replace(message, text="", quote="", source={})),
                _plain(json.dumps([texts, answer[:_MOST_TEXT]], ensure_ascii=False)),
            )
            db.execute("DELETE FROM unfinished WHERE message_id = ?", key)
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

        self._do(write)

    def find_answer(self, handle: Any) -> KeptAnswer | None:
        """The answer in this card; else the unfinished one, of whichever process, which is "" until `keep_answer`."""
        if handle is None:
            return None

        def write(db: sqlite3.Connection) -> KeptAnswer | None:
            card = json.dumps(handle)
            if found := _newest_answer(db, "handle = ?", card):
                return found
            # There are too few for an index.
            row = db.execute(f"{_UNFINISHED} WHERE handle = ? ORDER BY at DESC LIMIT 1", (card,)).fetchone()
            left = _read(_unfinished, self._clock(), *row) if row else None
            if left is None:
                return None
            return KeptAnswer(left.message, left.answer[0] if left.answer else "", "")

        return self._do(write)

    def last_answer(self, conversation_id: str, person: str) -> KeptAnswer | None:
        """The newest one in this conversation to this person; if there is none, to anybody. An apology is none."""

        def write(db: sqlite3.Connection) -> KeptAnswer | None:
            here = "outcome IN ('answered', 'stopped') AND conversation_id = ?"
            values = (_plain(conversation_id), _plain(person))
            return _newest_answer(db, f"{here} AND person = ?", *values) or _newest_answer(db, here, values[0])

        return self._do(write)

    def rate(self, answer: KeptAnswer, person: str, rating: Rating) -> Feedback | None:
        """Keep a person's rating of an answer, in the place of an earlier one. None if that was the same."""
        message = answer.message

        def write(db: sqlite3.Connection) -> Feedback | None:
            key = (_plain(message.message_id), _plain(person))
            query = "SELECT rating, question, answer FROM feedback WHERE message_id = ? AND person = ?"
            before, *texts = db.execute(query, key).fetchone() or ("", "", "")
            if before == rating:
                return None
            if message.text or answer.answer:  # else they are forgotten there, but perhaps not here
                texts = [_plain(message.text[:_MOST_TEXT]), _plain(answer.answer[:_MOST_TEXT])]
            of = (_plain(message.conversation_id), _plain(answer.agent))
            row = (key[0], rating, key[1], *of, *texts, self._clock())
            db.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            return Feedback(*row)

        return self._do(write)

    def feedback_since(self, at: float) -> list[Feedback]:
        """The ratings given at `at`, in seconds since the epoch, or later. The oldest first."""
        query = "SELECT * FROM feedback WHERE at >= ? ORDER BY at, rowid"
        return self._do(lambda db: [Feedback(*row) for row in db.execute(query, (at,))])

    def forget_old(self, feedback_days: float) -> None:
        """Texts of answers after a week, answers and ratings after `feedback_days`, and answers that are too many.

        Not all at once, if that would keep other processes waiting; so to be called again and again.
        """

        def write(db: sqlite3.Connection) -> None:
            week_ago, long_ago = self._clock() - _WEEK, self._clock() - feedback_days * _DAY
            for forget, among, bound in (
                ("UPDATE answers SET texts = NULL", "answers WHERE texts IS NOT NULL AND at <= ?", week_ago),
                ("DELETE FROM answers", "answers WHERE at <= ?", long_ago),
                ("DELETE FROM answers", "answers ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?", _MOST),
                ("DELETE FROM feedback", "feedback WHERE at <= ?", long_ago),
            ):
                some = f"SELECT rowid FROM (SELECT rowid FROM {among}) LIMIT {_MOST_AT_ONCE}"
                db.execute(f"{forget} WHERE rowid IN ({some})", (bound,))

        self._do(write)

    def take_over(self) -> list[Unfinished]:
        """The unfinished messages of processes that live no more, the oldest first; they are this process's now."""

        def write(db: sqlite3.Connection) -> list[Unfinished]:
            now, found = self._clock(), []
            owners = {owner for (owner,) in db.execute("SELECT DISTINCT owner FROM unfinished")}
            for owner in self._database.dead(owners):
                found += db.execute(f"{_UNFINISHED} WHERE owner = ?", (owner,)).fetchall()
                db.execute("UPDATE unfinished SET owner = ? WHERE owner = ?", (self._database.owner, owner))
            left = [_read(_unfinished, now, *row) for row in sorted(found)]
            return [one for one in left if one is not None]

        left = self._do(write)
        self._database.empty_log()  # else answered questions stand there
        return left

    def once_a_day(self, what: str) -> bool:
        """True the first time in 24 hours that it is asked for `what`."""
        return self._do(lambda db: _is_new(db, f"once {what}", self._clock()))

    def count(self, what: str) -> None:
        """One more of `what` this month. It is written with what is next done `together`. Also on an event loop."""
        with self._counting:
            self._uncounted[what] += 1

    def write_counts(self) -> None:
        """Let other processes, and the next one, know what was counted."""
        self.together([], on_error=lambda: None)  # there is nothing that could be wrong

    def counted(self, what: str) -> int:
        """How many this month, in all processes, but for what the others have not written yet."""
        self.write_counts()
        query = "SELECT number FROM months WHERE month = ? AND what = ?"
        row = self._do(lambda db: db.execute(query, (self._month(), what)).fetchone())
        return row[0] if row else 0

    def remember(self, key: str, value: Any) -> None:
        """Remember a fact: something that goes through JSON."""
        self._do(lambda db: db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, json.dumps(value))))

    def recall(self, key: str) -> Any:
        """The fact, None if there is none."""
        query = "SELECT value FROM facts WHERE key = ?"
        row = self._database.do(lambda db: db.execute(query, (key,)).fetchone(), writes=False)
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
        def write(db: sqlite3.Connection) -> T:
            if abs(self._clock() - self._tidied_at) >= _TIDY_SECONDS:
                self._tidy(db)
            return work(db)

        return self._database.do(write)

    def _tidy(self, db: sqlite3.Connection) -> None:
        # Texts stay for a day at most. The hourly line in the log comes by here if nobody else does.
        self._tidied_at = now = self._clock()
        db.execute("DELETE FROM unfinished WHERE at < ?", (now - _DAY,))
        db.execute("DELETE FROM seen WHERE at <= ?", (now - _DAY,))
        db.execute("DELETE FROM seen WHERE rowid <= (SELECT max(rowid) FROM seen) - ?", (_MOST,))
        db.execute("DELETE FROM months WHERE month != ?", (self._month(),))


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


def _is_new(db: sqlite3.Connection, key: str, now: float, answered: str | None = None) -> bool:
    """Whether neither the key was seen within a day nor the message `answered`. From now on, it was."""
    return db.execute(_SEE, (_plain(key), now, answered, now - _DAY)).rowcount == 1


def _to_json(message: IncomingMessage) -> str:
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    try:
        return json.dumps({**values, "source": dict(message.source)}, default=str, skipkeys=True)
    except ValueError:  # it refers to itself
        return json.dumps({**values, "source": {}})


def _newest_answer(db: sqlite3.Connection, where: str, *values: str) -> KeptAnswer | None:
    query = f"SELECT message, texts, agent FROM answers WHERE {where} ORDER BY at DESC, rowid DESC LIMIT 1"
    row = db.execute(query, values).fetchone()
    return _read(_kept_answer, *row) if row else None


def _read(kind: Callable[..., T], *row: Any) -> T | None:
    try:
        return kind(*row)
    except (TypeError, ValueError) as error:
        host.log.warning(f"A message that another version of the robot has left cannot be read: {error}")
        return None


def _unfinished(now: float, at: float, text: str, handle: str | None, spent: int, answer: str | None) -> Unfinished:
    values, last_word = dict(json.loads(text)), json.loads(answer or "null")
    if "session" in values:  # 1.1.0 told people apart by it alone
        values.setdefault("sender_id", values["session"])
    message = IncomingMessage(**values)
    return Unfinished(message, now - at, json.loads(handle or "null"), bool(spent), last_word and tuple(last_word))


def _kept_answer(message: str, texts: str | None, agent: str) -> KeptAnswer:
    of_message, answer = json.loads(texts) if texts else ({}, "")
    whole = IncomingMessage(**{**json.loads(message), **of_message})
    return KeptAnswer(whole, answer, agent)


def _plain(text: str) -> str:
    """Half of an emoji cannot be stored."""
    return text.encode("utf-8", "replace").decode()
