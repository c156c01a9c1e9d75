"""What several of these tests need: a reply that remembers, messages, and waiting without sleeping."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from imRobots.Meta import IncomingMessage, Texts, texts_for
from tests.fakes.host import FakeElement, FakeHost

# Longer than anything takes on a busy machine; only a test that fails waits so long.
WAIT = 5.0
ROBOT = "robots.hr"


def pass_through(gate: threading.Event) -> None:
    if not gate.wait(WAIT):
        raise TimeoutError("the test never opened the gate")


def eventually(condition: Callable[[], object]) -> None:
    """For what tells nobody that it has changed."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("it did not happen")


@contextlib.contextmanager
def no_thread_starts(name: str) -> Iterator[None]:
    """As in a container whose limit is reached, for threads of this name."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


class RecordingReply:
    """A `Reply` that remembers what it was asked to send, and can be slow or fail.

    `handle` is what `open` returns. `gates[method]` holds every call of the method up until it is set. `raises[method]`
    are the errors of its next calls, None for one that works; after the last one all work.
    """

    def __init__(self, question: str = "", *, handle: object = "card", texts: Texts | None = None) -> None:
        self.texts = texts or texts_for("auto", question)
        self.card: Any = None
        self.handle = handle
        self.gates: dict[str, threading.Event] = {}
        self.raises: dict[str, list[BaseException | None]] = {}
        self.calls: list[tuple[Any, ...]] = []  # what was tried
        self.sent: list[tuple[Any, ...]] = []  # what worked
        self.threads: set[threading.Thread] = set()
        self.most_at_once = 0
        self._at_once = 0
        self._changed = threading.Condition()

    def open(self, question: str) -> Any:
        self._call("open", question)
        return self.handle

    def progress(self, handle: Any, text: str) -> None:
        self._call("progress", handle, text)

    def finish(self, handle: Any, text: str, outcome: str) -> None:
        self._call("finish", handle, text, outcome)

    def say(self, sentence: str) -> None:
        self._call("say", sentence)

    def _call(self, method: str, *arguments: Any) -> None:
        with self._changed:
            self.calls.append((method, *arguments))
            self.threads.add(threading.current_thread())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            trouble = self.raises.get(method)
            error = trouble.pop(0) if trouble else None
            self._changed.notify_all()
        try:
            if method in self.gates:
                pass_through(self.gates[method])
            if error:
                raise error
        finally:
            with self._changed:
                self._at_once -= 1
                if not error:
                    self.sent.append((method, *arguments))
                self._changed.notify_all()

    def tried(self, method: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == method]

    @property
    def shown(self) -> str:
        """What the person reads now."""
        return next((call[-2] if call[0] == "finish" else call[-1] for call in reversed(self.sent)), "")

    def wait_until(self, condition: Callable[[RecordingReply], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), WAIT), f"only these came: {self.calls}"

    def wait_for_call(self, method: str, times: int = 1) -> None:
        """Until the method was called so many times; the last call may still be going on."""
        self.wait_until(lambda reply: len(reply.tried(method)) >= times)

    def wait_until_shown(self, text: str) -> None:
        self.wait_until(lambda reply: reply.shown == text)


def message(number: int | str, text: str = "How many days off do I have?", sender_id: str = "s1", **rest: Any) -> Any:
    return IncomingMessage(f"m{number}", rest.pop("conversation_id", "c1"), sender_id, "Ada", text, **rest)


def the_element(host: FakeHost) -> FakeElement:
    return host.element(ROBOT)


class Clock:
    """Stands still at `now`, in seconds since the epoch."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
