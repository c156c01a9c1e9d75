"""What a person types: lines for the prompt, and what is typed while a card grows, without a trace of it in the card.

Owns stdin. Only a keyboard is read while a card grows (termios on POSIX, msvcrt on Windows); a pipe or a file waits for
its turn. All of it belongs to the main thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator

try:
    import termios
except ImportError:
    termios = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]

_KEYS = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O.)")  # arrows and the like
_ENTER = re.compile(r"[\r\n]")


class Keyboard:
    def __init__(self) -> None:
        self._kept: deque[str] = deque()
        self._begun = ""  # a line that waits for its Enter
        self._ended = False

    def ask(self, prompt: str, show: Callable[[str], None]) -> str:
        """The next line, EOFError if there is none; `show` is given what nobody has seen being typed."""
        if self._kept:
            line = self._kept.popleft()
            show(prompt + line)
            return line
        if self._ended:
            raise EOFError
        begun, self._begun = self._begun, ""
        line = input(prompt + begun)
        if not sys.stdin.isatty():
            show(line)
        return begun + line

    def keep(self, line: str) -> None:
        """Let the next `ask` have it."""
        self._kept.append(line)

    def typed(self) -> str | None:
        """A line that was typed while `quiet`, if there is one; never waits."""
        if self._ended or not sys.stdin.isatty():
            return None
        self._begun += self._read_terminal() if termios else self._read_console() if msvcrt else ""
        if not _ENTER.search(self._begun):
            return None
        line, self._begun = _ENTER.split(self._begun, maxsplit=1)
        return line

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Do not show what is typed; on Windows that is so by itself as long as nobody asks."""
        if termios is None or not sys.stdin.isatty():
            yield
            return
        device = sys.stdin.fileno()
        before = termios.tcgetattr(device)
        try:
            termios.tcsetattr(device, termios.TCSANOW, [*before[:3], before[3] & ~termios.ECHO, *before[4:]])
            yield
        finally:
            termios.tcsetattr(device, termios.TCSANOW, before)

    def _read_terminal(self) -> str:
        """Whole lines only: the terminal keeps one that is not ended, and `input` gets it."""
        device = sys.stdin.fileno()
        if not select.select([device], [], [], 0)[0]:
            return ""
        try:
            typed = os.read(device, 4096)
        except OSError:  # it was closed
            typed = b""
        self._ended = not typed
        return _KEYS.sub("", typed.decode(sys.stdin.encoding, "replace"))

    def _read_console(self) -> str:
        typed = ""
        while msvcrt.kbhit():
            char = msvcrt.getwch()
            if char == "\x03":
                raise KeyboardInterrupt
            if char in "\0\xe0" and msvcrt.kbhit():
                msvcrt.getwch()  # the second half of an arrow, say
            elif char == "\b":
                typed, self._begun = (typed[:-1], self._begun) if typed else ("", self._begun[:-1])
            elif char == "\r" or char >= " ":
                typed += char
        return typed.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # an emoji comes in two halves
