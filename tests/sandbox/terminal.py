"""What a person sees: cards, messages and log lines, as plain text.

Owns stdout and stderr. On a terminal a card is a box that is redrawn in place while it fills up; anywhere else (a pipe,
a file) each state of a card is a block of its own, with what is new in it. Markdown is shown as it is, and buttons get
the numbers by which they are pressed. Does not read what is typed (`keyboard.py`) and knows no robot. `note` may be
called on any thread, the rest belongs to the main thread.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import unicodedata
from collections.abc import Iterable
from io import TextIOWrapper
from typing import TextIO

_WIDEST, _NARROWEST = 90, 20
_MAY_NOT_BEGIN_A_LINE = frozenset("，。、；：？！）】》」』”’…")
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def make_unbreakable() -> None:
    """No character may end the program, whatever the console or the environment says; nor a stream that is closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - until the end
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a person types comes in the terminal's encoding; a pipe of Windows may begin with a mark.
            keyboard = stream is sys.stdin and stream.isatty()
            encoding = None if keyboard else "utf-8-sig" if stream is sys.stdin else "utf-8"
            stream.reconfigure(encoding=encoding, errors="replace")


def clean(text: str) -> str:
    """Without what would move the cursor (an arrow key in a question, say) or cannot be sent as UTF-8."""
    text = text.expandtabs(4).encode("utf-8", "replace").decode("utf-8")
    return "".join(char for char in text if char == "\n" or unicodedata.category(char) != "Cc")


def width(text: str) -> int:
    """Columns on a terminal: Chinese characters and emoji take two, accents and joiners none."""
    ignored = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(char) in ignored else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns; words stay whole where they fit, Chinese breaks between characters."""
    return [part for line in text.split("\n") for part in fill(_tokens(line.rstrip()), columns)]


def fill(tokens: Iterable[str], columns: int) -> list[str]:
    """Put tokens into lines. One that is too long for a line is cut, white space at a break is dropped."""
    lines = [""]
    for token in tokens:
        if width(lines[-1] + token) > columns and lines[-1].strip():
            lines[-1] = lines[-1].rstrip()
            lines.append("")
            token = token.lstrip()
        for part in token if width(lines[-1] + token) > columns else [token]:
            if width(lines[-1] + part) > columns:
                lines.append("")
            lines[-1] += part
    return lines


def _tokens(line: str) -> list[str]:
    """Runs of white space, words, and Chinese characters with the punctuation that belongs behind them."""
    tokens: list[str] = []
    for char in line:
        last = tokens[-1][-1] if tokens else ""
        same_kind = last.isspace() == char.isspace() and width(last) < 2 and width(char) < 2
        if last and (same_kind or char in _MAY_NOT_BEGIN_A_LINE or width(char) == 0):
            tokens[-1] += char
        else:
            tokens.append(char)
    return tokens


def _numbered(labels: list[str]) -> list[str]:
    """Tokens of a row of buttons."""
    buttons = [f"[{number}] {clean(label)}" for number, label in enumerate(labels, 1)]
    return [token for button in buttons for token in ("   ", button)][1:]


class NobodyReads(Exception):
    """What is read no more, or cannot be written: a pipe that was closed, a disk that is full."""


class Terminal:
    """Every method raises `NobodyReads`."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._is_live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.Lock()
        self._drawn: list[str] = []  # the lines of a card that is not final; the cursor is below them
        self._text = ""  # of the card, in its last state
        if self._is_live and os.name == "nt":
            os.system("")  # makes a Windows console understand the escape sequences

    def say(self, text: str = "") -> None:
        """A line; a card above it stays as it is, final or not."""
        with self._lock:
            self._drawn, self._text = [], ""
            self._write(wrap(clean(text), self._room() + 4) if self._is_live else [clean(text)])

    def note(self, text: str) -> None:
        """A line on stderr, above a card that is being drawn."""
        with self._lock:
            _put(self._out, self._up() + "\x1b[J" if self._drawn else "")
            _put(self._err, f"{text}\n")
            self._write(self._drawn)

    def show_message(self, text: str) -> None:
        """Something that the robot says without a card."""
        with self._lock:
            self._drawn = []
            if self._is_live:
                lines = wrap(clean(text), self._room())
                self._write(self._box([lines], max(map(width, lines)) + 4))
            else:
                self._print_block("message", clean(text).split("\n"))

    def show_card(self, title: str, text: str, labels: list[str], note: str = "", *, is_final: bool = False) -> None:
        """A card as it looks now. `note`: what only this person sees on it."""
        title, text, note = clean(title), clean(text), clean(note)
        with self._lock:
            if self._is_live:
                self._draw_card(title, "\n".join(filter(None, (text, note))), _numbered(labels), is_final)
            else:
                self._print_card(title, text, note, _numbered(labels), is_final)
            self._text = "" if is_final else text

    def show_change(self, title: str, labels: list[str], note: str) -> None:
        """What is below a final card's text by now."""
        note = clean(note)
        with self._lock:
            if self._is_live:
                notes = [wrap(note, self._room())] if note else []
                self._write(self._box([*notes, fill(_numbered(labels), self._room())], self._room() + 4))
            else:
                self._print_block(f"card changes: {clean(title)}", [*filter(None, [note]), "".join(_numbered(labels))])

    def _draw_card(self, title: str, text: str, buttons: list[str], is_final: bool) -> None:
        room = self._room()
        heading = [f"{_BOLD}{line}{_PLAIN}" for line in wrap(title, room)] if title else []
        blocks = [[*heading, *wrap(text, room)]]
        if buttons:
            blocks.append(fill(buttons, room))
        lines = self._box(blocks, room + 4)
        height = shutil.get_terminal_size().lines - 1
        if not is_final and len(lines) > height:  # what has left the window cannot be redrawn: show the end
            lines = [f"{_DIM}│ ⋮{_PLAIN}", *lines[1 - height :]]
        # In one go and without clearing first, so that nothing flickers.
        _put(self._out, self._up() + "".join(f"\x1b[K{line}\n" for line in lines) + "\x1b[J")
        self._drawn = [] if is_final else lines

    def _print_card(self, title: str, text: str, note: str, buttons: list[str], is_final: bool) -> None:
        below = [*filter(None, [note, "".join(buttons)])]
        lines = [*text.split("\n"), *(["-" * 20] if below else []), *below]
        if is_final or not self._text:
            self._print_block(f"{'final card' if is_final else 'card'}{f': {title}' if title else ''}", lines)
        elif not text.startswith(self._text):
            self._print_block("card grows", text.split("\n"))
        elif text != self._text:
            self._print_block("card grows", f"... {text[len(self._text) :].lstrip()}".split("\n"))

    def _print_block(self, heading: str, lines: list[str]) -> None:
        self._write([f"[{heading}]", *(f"    {line}".rstrip() for line in lines), ""])

    def _box(self, blocks: list[list[str]], columns: int) -> list[str]:
        rule = "─" * (columns - 2)
        # The right edge is put into its column, because terminals disagree about the width of some emoji.
        rows = [[f"{_DIM}│{_PLAIN} {line}\x1b[{columns}G{_DIM}│{_PLAIN}" for line in block] for block in blocks]
        inner = [line for block in rows for line in (f"{_DIM}├{rule}┤{_PLAIN}", *block)][1:]
        return [f"{_DIM}┌{rule}┐{_PLAIN}", *inner, f"{_DIM}└{rule}┘{_PLAIN}"]

    def _room(self) -> int:
        """Columns for text within a box; the last column of the window stays free, where some terminals wrap."""
        return min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size().columns - 1)) - 4

    def _up(self) -> str:
        return f"\x1b[{len(self._drawn)}F" if self._drawn else ""

    def _write(self, lines: list[str]) -> None:
        _put(self._out, "".join(f"{line}\n" for line in lines))


def _put(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise NobodyReads from error
