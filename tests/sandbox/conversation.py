"""The sandbox in a terminal: a one-to-one chat with the robot.

Owns what a typed line means, and when all has come that is to come of it. Works on the main thread; the desk, on any
thread, only puts what changes on a queue. How a card is drawn is `terminal.py`'s, how lines are read `keyboard.py`'s.
"""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections.abc import Callable
from typing import Any

from .desk import Desk, Message, Shown, Thing, sendable
from .keyboard import Keyboard
from .platforms import Platform, Trouble
from .terminal import Terminal

SINGLE = "single"
ANSWER_SECONDS = 60.0
_ENDS = ("final", "failed")
NOTHING_NEW = "(The robot has heard of it, and nothing changes.)"


class Conversation:
    """Of the platform's first person. A context manager, which follows the desk."""

    def __init__(
        self,
        terminal: Terminal,
        desk: Desk,
        platform: Platform,
        status: Callable[[], dict[str, Any]],
        sentence: Callable[[str], str],
        keyboard: Keyboard | None = None,
    ) -> None:
        """`status`: the robot's. `sentence`: what to say of a `Trouble`."""
        self._terminal = terminal
        self._desk = desk
        self._platform = platform
        self._person = next(iter(platform.people))
        self._status = status
        self._sentence = sentence
        self._keyboard = keyboard or Keyboard()
        self._changes: queue.SimpleQueue[Shown] = queue.SimpleQueue()
        self._following = contextlib.ExitStack()
        self._newest: Shown | None = None  # card
        self._growing: set[str] = set()  # cards

    def __enter__(self) -> Conversation:
        self._following.enter_context(self._desk.told_to(self._note))
        return self

    def __exit__(self, *error: object) -> None:
        self._following.close()

    def ask(self, question: str, *, may_type: bool = False) -> bool:
        """Ask, and show what comes until the last word; returns whether it was an answer, or that of a command."""
        before = self._answered()
        if not self._say(question):
            return False
        return self._watch(may_type=may_type) == "final" or self._answered() > before

    def press(self, button: str) -> None:
        """Press a button of the newest card, and show what comes of it."""
        if self._click(button):
            self._watch(may_type=True, of_click=True)

    def converse(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives `input` its arrow keys
        while True:
            try:
                line = self._keyboard.ask("You: ", self._terminal.say).strip()
            except EOFError:
                self._terminal.say()
                return
            if line.lower() == "exit":
                return
            if button := self._button(line):
                self.press(button)
            elif line:
                self.ask(line, may_type=True)
            if line:
                self._terminal.say()

    def _note(self, thing: Thing) -> None:
        if isinstance(thing, Shown) and (thing.chat, thing.with_) == (SINGLE, self._person):
            self._changes.put(thing)

    def _answered(self) -> int:
        """As far as the robot counts."""
        status = self._status()
        return sum(status.get(name, 0) for name in ("answered", "commands"))

    def _watch(self, *, may_type: bool, of_click: bool = False) -> str:
        """Show what comes until nothing more is to come: of a message, or of a click that the robot has heard of."""
        came = ""  # last
        until = time.monotonic() + ANSWER_SECONDS
        with self._keyboard.quiet():
            while time.monotonic() < until:
                is_over = (came or of_click) and not self._status().get("unsent", self._growing)
                if may_type and came and (line := self._keyboard.typed()) is not None:
                    self._heed(line.strip())
                try:
                    shown = self._changes.get(timeout=0.1)  # a longer wait would hold up Ctrl-C on Windows
                except queue.Empty:
                    if is_over:
                        if not came:
                            self._terminal.say(NOTHING_NEW)
                        self._end()
                        return came
                    continue
                came = self._show(shown) or came
        self._terminal.note(f"[error] No complete answer came within {ANSWER_SECONDS:g} seconds.")
        return ""

    def _end(self) -> None:
        """A card without buttons looks as if it still grew; the robot has nothing more to send."""
        if self._newest and self._newest.id in self._growing:
            view = self._newest.seen_by(self._person)
            self._growing.discard(self._newest.id)
            self._terminal.show_card(view.title, view.text, [], view.note, is_final=True)

    def _show(self, shown: Shown) -> str:
        """What came, "" if there is nothing to see: an older card, the same as before, or buttons that will go."""
        view = shown.seen_by(self._person)
        labels = [button.label for button in view.buttons]
        (self._growing.add if shown.state in ("thinking", "growing") else self._growing.discard)(shown.id)
        if shown.kind == "message":
            self._terminal.show_message(view.text)
            return "message"
        before = self._newest
        is_same = before is not None and before.id == shown.id
        if before is not None and not is_same and shown.at < before.at:
            return ""
        if before is not None and is_same and (before.state, before.seen_by(self._person)) == (shown.state, view):
            return ""
        if shown.state in _ENDS and any(button.id == "stop" for button in view.buttons):
            return ""
        was_over = before is not None and is_same and before.state in _ENDS
        self._newest = shown
        if was_over:
            self._terminal.show_change(view.title, labels, view.note)
        else:
            self._terminal.show_card(view.title, view.text, labels, view.note, is_final=shown.state in _ENDS)
        return shown.state

    def _heed(self, line: str) -> None:
        """What is typed while an answer grows: a button, a command, or the next question, which waits."""
        if button := self._button(line):
            self._click(button)
        elif line.startswith("/"):
            self._say(line)
        elif line:
            self._keyboard.keep(line)

    def _button(self, line: str) -> str:
        """The id of the newest card's button with this number, "" if there is none."""
        buttons = self._newest.seen_by(self._person).buttons if self._newest else ()
        return {str(number): button.id for number, button in enumerate(buttons, 1)}.get(line, "")

    def _say(self, text: str) -> bool:
        try:
            self._platform.say(Message(f"msg{uuid.uuid4().hex}", SINGLE, self._person, "text", sendable(text)))
        except Trouble as trouble:
            self._terminal.say(f"({self._sentence(str(trouble))})")
            return False
        return True

    def _click(self, button: str) -> bool:
        assert self._newest is not None
        try:
            self._platform.click(self._newest.id, button, self._person)
        except Trouble as trouble:
            self._terminal.say(f"({self._sentence(str(trouble))})")
            return False
        return True
