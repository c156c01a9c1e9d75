"""What lies on the desk: the messages and cards of each chat, the wire, the timelines of answers, the robot's log.

Owns what happened, as far back as it is of use, and tells every face (the page, the terminal) of each change. Knows no
platform, no robot and no way to show anything. Any thread may call anything; a face is called while the desk is locked,
so it must only note what it is told.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

_KEPT = 500  # entries, wire items, lines of the log
_ANSWERS_KEPT = 50
# The robot's updates of an answer of minutes are up to 14 s apart (README, "Speed").
_QUIET_SECONDS = 20.0

State = Literal["", "thinking", "growing", "final", "failed"]
Mark = Literal["received", "acknowledged", "first", "update", "final"]


@dataclass(frozen=True)
class Message:
    """What a person wrote. `kind`: text, rich, voice or picture. `heard`: whether the robot is told of it."""

    id: str
    chat: str
    person: str
    kind: str
    text: str = ""
    quote: str = ""  # the id of an entry
    heard: bool = True
    at: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Button:
    id: str
    label: str


@dataclass(frozen=True)
class View:
    """What one person sees of a card or of a message of the robot. `text` and `note` are Markdown, or plain."""

    text: str
    title: str = ""
    note: str = ""
    buttons: tuple[Button, ...] = ()
    is_markdown: bool = True


@dataclass(frozen=True)
class Shown:
    """What the robot shows. `chat` is `group` or `single`, `with_` the person of a `single` one. `at`: `time.time()`.

    `state`: "" where a kind of card has none; `final` and `failed` are the end. `views`: of the people who see
    something else than the others do. The `id` is another one than any message's.
    """

    id: str
    chat: str
    with_: str
    kind: Literal["message", "card"]
    view: View
    views: dict[str, View] = field(default_factory=dict)
    look: str = ""
    state: State = ""
    mentions: tuple[str, ...] = ()
    at: float = field(default_factory=time.time)

    def seen_by(self, person: str) -> View:
        return self.views.get(person, self.view)


Entry = Message | Shown


@dataclass
class Item:
    """A frame, or a call that is under way as long as `ok` is None. `detail` is its JSON, without secrets."""

    n: int
    kind: Literal["frame", "call"]
    direction: Literal["in", "out"]
    title: str
    detail: Any
    at: float  # time.monotonic()
    time: float  # time.time()
    ok: bool | None = None
    summary: str = ""
    ms: float | None = None


@dataclass
class Answer:
    """The journey of one answer: its marks with milliseconds since the first one."""

    id: str
    question: str
    since: float
    marks: list[tuple[Mark, float]] = field(default_factory=list)
    is_over: bool = False  # nothing more will come


@dataclass(frozen=True)
class Line:
    n: int
    level: str
    text: str
    time: float


def sendable(text: str) -> str:
    """The same text without halves of characters, which no browser, and nobody in a chat, can send."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


Thing = Message | Shown | Item | Answer | Line
Face = Callable[[Thing], None]


class Desk:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._faces: list[Face] = []
        self._entries: dict[str, Entry] = {}
        self._wire: dict[str, Item] = {}
        self._answers: dict[str, Answer] = {}
        self._log: dict[str, Line] = {}
        self._number = 0

    @contextlib.contextmanager
    def told_to(self, face: Face) -> Iterator[None]:
        """Tell this face of all that there is, and of every change until the end of the block."""
        with self._lock:
            for things in (self._entries, self._wire, self._answers, self._log):
                for thing in things.values():
                    face(thing)
            self._faces.append(face)
        try:
            yield
        finally:
            with self._lock:
                self._faces.remove(face)

    def show(self, entry: Entry) -> None:
        """A new entry, or another state of the one with this id."""
        with self._lock:
            oldest = next(iter(self._entries.values()), entry)
            if entry.id in self._entries or len(self._entries) < _KEPT or entry.at >= oldest.at:
                self._keep(self._entries, entry.id, entry)  # else it is long ago

    def entry(self, entry_id: str) -> Entry | None:
        return self._entries.get(entry_id)

    def frame(self, direction: Literal["in", "out"], title: str, detail: Any, at: float) -> None:
        with self._lock:
            self._keep_item("frame", direction, title, detail, at, ok=True)

    def call(self, title: str, detail: Any, at: float) -> Item:
        """A call of the robot begins."""
        with self._lock:
            return self._keep_item("call", "out", title, detail, at)

    def ended(self, item: Item, ok: bool, summary: str, detail: Any, at: float) -> None:
        """... and has ended: `summary` is its status, or what went wrong."""
        with self._lock:
            item.ok, item.summary, item.detail, item.ms = ok, summary, detail, (at - item.at) * 1000
            self._tell(item)

    def item(self, number: int) -> Item | None:
        return self._wire.get(str(number))

    def mark(self, answer: str, what: Mark, at: float, question: str = "") -> None:
        """Something has happened to an answer, at this `time.monotonic()`. Its time begins when it is received."""
        with self._lock:
            kept = self._answers.get(answer)
            if kept is None and what == "received":
                kept = Answer(answer, question, at)
            elif what == "received":  # delivered again
                return
            if kept is not None:  # else it is long ago
                kept.marks.append((what, (at - kept.since) * 1000))
                kept.is_over = what == "final"
                self._keep(self._answers, answer, kept, _ANSWERS_KEPT)

    def settle(self) -> None:
        """The robot has nothing more to send: what was quiet for longer than any pause between updates is over.

        Of an answer whose end looked like any update, that was the last one.
        """
        with self._lock:
            for answer in self._answers.values():
                what, ms = answer.marks[-1]
                if answer.is_over or time.monotonic() - answer.since < ms / 1000 + _QUIET_SECONDS:
                    continue
                answer.is_over = True
                if what == "update":
                    answer.marks[-1] = ("final", ms)
                self._tell(answer)

    def log(self, level: str, text: str) -> None:
        with self._lock:
            line = Line(self._next(), level, text, time.time())
            self._keep(self._log, str(line.n), line)

    def _keep_item(
        self,
        kind: Literal["frame", "call"],
        direction: Literal["in", "out"],
        title: str,
        detail: Any,
        at: float,
        ok: bool | None = None,
    ) -> Item:
        item = Item(self._next(), kind, direction, title, detail, at, time.time() - (time.monotonic() - at), ok)
        self._keep(self._wire, str(item.n), item)
        return item

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _keep(self, things: dict[str, Any], key: str, thing: Any, most: int = _KEPT) -> None:
        things[key] = thing
        while len(things) > most:
            del things[next(iter(things))]
        self._tell(thing)

    def _tell(self, thing: Thing) -> None:
        for face in self._faces:
            face(thing)
