"""The sandbox in a terminal: what a person gets to see, in a pipe and on a screen (in memory), and what typing does.

Few of these tests start it as the process that it is, because its agent takes its time; the others have another agent.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import Agent, ReferenceAgent
from tests.fakes.gateway import OPEN, Gateway
from tests.sandbox import __main__ as sandbox
from tests.sandbox import conversation, keyboard
from tests.sandbox.conversation import Conversation
from tests.sandbox.desk import Desk
from tests.sandbox.dingtalk.stand_in import DingTalk
from tests.sandbox.keyboard import Keyboard
from tests.sandbox.node import Node
from tests.sandbox.terminal import Terminal, clean, width, wrap

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = (
    "[1] 😄 Very Helpful   [2] 😊 Helpful   [3] 🙂 Somewhat Helpful   [4] 😅 Not Helpful   [5] 🔄 Regenerate   "
    "[6] [Question] Keep Asking"
)
CHINESE = "[1] 😄 非常有帮助   [2] 😊 有帮助   [3] 🙂 帮助不大   [4] 😅 没帮助   [5] 🔄 重新生成   [6] [疑问] 继续追问"
CONNECTED = "[info] The robot is connected to DingTalk."


def run(*arguments: str, typed: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sandbox", *(arguments or ["--terminal"])],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_one_round() -> None:
    question = "How do I install it?"
    process = run("--ask", question, encoding="cp1252")
    assert process.returncode == 0, process.stderr
    assert "Simulated:  JitNode, DingTalk, the agent" in process.stdout
    assert process.stderr.splitlines() == [CONNECTED]
    blocks = re.split(r"\n(?=\[(?:card|final card))", process.stdout)[1:]
    first, *growing, final = blocks
    assert first.startswith(f"[card: {question}]\n    [Thinking]") and first.endswith("\n    [1] ⏹ Stop\n")
    assert len(growing) >= 2 and all(block.startswith("[card grows]") for block in growing)
    assert "1. Copy the folder" in growing[0] and "..." in growing[1]
    assert "mention it with @." not in growing[0]
    assert final.startswith(f"[final card: {question}]\n    1. Copy the folder")
    assert final.endswith(f"mention it with @.\n    {'-' * 20}\n    {ENGLISH}\n\n")


def test_a_conversation_in_a_pipe() -> None:
    process = run(typed="\n怎么停止机器人？\n2\nexit\n", encoding="ascii")
    assert process.returncode == 0, process.stderr
    assert process.stderr.splitlines() == [CONNECTED]
    said = process.stdout
    assert "You: \nYou: 怎么停止机器人？\n[card: 怎么停止机器人？]\n    [思考]" in said
    assert f"按 Ctrl-C 即可。\n    {'-' * 20}\n    {CHINESE}\n" in said
    chosen = CHINESE.replace("😊", "✅ 😊")
    end = f"[card changes: 怎么停止机器人？]\n    感谢您的反馈！ 😊 有帮助\n    {chosen}\n\n\nYou: exit\n"
    assert said.endswith(f"You: 2\n{end}")


def test_other_ends() -> None:
    nothing, ended = run("--ask", " ", "--card-type", "standard"), run()
    assert nothing.returncode == 1
    assert "cardType" in nothing.stderr.splitlines()[0]  # what standard cards lack
    assert "[message]\n    I found no text in your message." in nothing.stdout
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("\nYou: \n")


class Talk:
    """Types lines, after each other's end, and returns what comes of each, in a pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.desk = Desk()
        self.platform = DingTalk(self.desk, sandbox.DEMO)
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(
        self, *lines: str, card_type: str = "ai", agent: Agent | None = None, keyboard: Keyboard | None = None
    ) -> list[str]:
        self._monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        terminal = Terminal(sys.stdout, sys.stderr)
        agent = agent or ReferenceAgent("Hello!")
        with Node(self.desk, self.platform, sandbox.DEMO, agent, {"cardType": card_type}) as node:
            assert node.wait_connected(10)
            with Conversation(terminal, self.desk, self.platform, node.status, sandbox.english, keyboard) as talk:
                talk.converse()
        return [part.strip() for part in self._capsys.readouterr().out.split("You: ")[1:-1]]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    return Talk(monkeypatch, capsys)


def test_a_rating(talk: Talk) -> None:
    _, first, other, again = talk("Why?", "1", "4", "4")
    head = "[card changes: Why?]\n    Thank you for your feedback!"
    assert first == f"1\n{head} 😄 Very Helpful\n    {ENGLISH.replace('😄', '✅ 😄')}"
    assert other == f"4\n{head} 😅 Not Helpful\n    {ENGLISH.replace('😅', '✅ 😅')}"
    assert again == f"4\n{conversation.NOTHING_NEW}"


def test_regenerate(talk: Talk) -> None:
    _, _, again, rated = talk("Why?", "2", "5", "1")
    # An agent that says all at once may be quicker than the first look at its card.
    assert re.match(r"5\n\[(final )?card: Why\?\]\n", again) and again.endswith(ENGLISH)
    assert "✅ 😄" in rated and "✅ 😊" not in rated  # it is the newest card
    assert [card.title for card in talk.platform.gateway.cards.values()] == ["Why?", "Why?"]


def test_keep_asking_and_commands(talk: Talk) -> None:
    _, asked, good, new = talk("Why?", "6", "/good", "/new")
    assert asked == "6\n[message]\n    Please go on with your question, and I will go on answering."
    assert good == "/good\n[message]\n    Thank you for your feedback!"
    assert new.startswith("/new\n[message]\n    A fresh start")


def test_a_number_that_is_no_button(talk: Talk) -> None:
    early, late, zero = talk("1", "42", "0")
    for said, number in ((early, 1), (late, 42), (zero, 0)):
        assert f"[final card: {number}]\n    Hello!" in said


def test_a_press_on_a_standard_card(talk: Talk) -> None:
    _, pressed = talk("Why?", "2", card_type="standard")
    assert pressed == f"2\n({sandbox.english('nothingComes')})"


def test_markdown(talk: Talk) -> None:
    assert talk("Why?", card_type="markdown") == ["Why?\n[message]\n    Hello!"]


class Endless(ReferenceAgent):
    """Goes on about "Why?" until it is stopped."""

    has_begun = False

    def _stream(self, send: Callable[[dict[str, Any]], object]) -> None:
        until = time.monotonic() + 20
        while self.calls[-1].text == "Why?" and time.monotonic() < until:
            send({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": "and "}})
            self.has_begun = True
            time.sleep(0.02)


class Fingers(Keyboard):
    """Types these lines while the card of this agent grows, one for each look."""

    def __init__(self, agent: Endless, *lines: str) -> None:
        super().__init__()
        self.agent = agent
        self.lines = list(lines)

    def typed(self) -> str | None:
        return self.lines.pop(0) if self.lines and self.agent.has_begun else None


@pytest.mark.parametrize("stop", ["1", "/stop"])
def test_a_growing_answer_is_stopped(talk: Talk, stop: str) -> None:
    agent = Endless("Because.")
    stopped, kept, rated = talk("Why?", agent=agent, keyboard=Fingers(agent, "Why not?", "", "2", stop))
    assert stopped.startswith("Why?\n[card: Why?]") and stopped.endswith("[1] 🔄 Regenerate")
    assert "and\n\n    (Stopped.)" in stopped
    assert re.match(r"Why not\?\n\[(final )?card: Why not\?\]\n", kept) and "    Because.\n" in kept
    assert rated.startswith("2\n[card changes: Why not?]")


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    """A terminal, whose keyboard is stdin."""
    pty = pytest.importorskip("pty")
    person, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda text: os.write(person, text.encode())
    os.close(person)


def test_typing_while_a_card_grows(typist: Callable[[str], object]) -> None:
    keys, shown = Keyboard(), []
    with keys.quiet():
        assert keys.typed() is None
        typist("1\n问\x1b[A题\nWhat")
        assert [eventually(keys.typed), eventually(keys.typed), keys.typed()] == ["1", "问题", None]
        typist(" is it?\n")
        assert eventually(keys.typed) == "What is it?"
        typist("\x04")
        assert keys.typed() is None
    keys.keep("next")
    assert keys.ask("You: ", shown.append) == "next"
    assert shown == ["You: next"]
    with pytest.raises(EOFError):
        keys.ask("You: ", shown.append)


def test_typing_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = list("2\r\xe0Hab\b\ud83d\ude04")
    console = SimpleNamespace(kbhit=lambda: bool(typed), getwch=lambda: typed.pop(0))
    monkeypatch.setattr(keyboard, "termios", None)
    monkeypatch.setattr(keyboard, "msvcrt", console)
    monkeypatch.setattr(sys, "stdin", Screen())
    prompts: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: prompts.append(prompt) or "c")
    keys = Keyboard()
    with keys.quiet():
        assert [keys.typed(), keys.typed()] == ["2", None]
    assert keys.ask("You: ", prompts.append) == "a😄c"  # what was begun is gone on with
    assert prompts == ["You: a😄"]
    typed.append("\x03")
    with pytest.raises(KeyboardInterrupt):
        keys.typed()


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sandbox, "PACKAGES", ("json", "no_such_package"))
    monkeypatch.setattr(sys, "argv", ["sandbox", "--terminal"])
    assert sandbox.main() == 1
    assert capsys.readouterr().err == "Not installed: no_such_package. Run: pip install -r requirements.txt\n"


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("你好，a", 7), ("😄", 2), ("e\u0301", 1), ("", 0)])
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("one two three", 8, ["one two", "three"]),
        ("one  two", 8, ["one  two"]),
        ("a\n\n  b c", 4, ["a", "", "  b", "c"]),
        ("abcdefgh ij", 5, ["abcde", "fgh", "ij"]),
        ("机器人回答问题", 6, ["机器人", "回答问", "题"]),
        ("机器人回答问题", 7, ["机器人", "回答问", "题"]),
        ("用 Ctrl-C 结束", 10, ["用 Ctrl-C", "结束"]),
        ("连接关闭，好", 8, ["连接关", "闭，好"]),  # no comma at the beginning of a line
        ("", 5, [""]),
        ("end     ", 5, ["end"]),
    ],
)
def test_wrap(text: str, columns: int, lines: list[str]) -> None:
    assert wrap(text, columns) == lines


def test_clean() -> None:
    assert clean("up\x1b[A, a\r\n\ud800") == "up[A, a\n?"
    assert clean("a\tb") == "a   b"


class Screen(io.StringIO):
    """A terminal as far as the sandbox uses it: `lines` is all that has been on it, also above the window."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        rows, row = [""], 0
        for up, code, text in re.findall(r"\x1b\[(\d*)([A-Zm])|([^\x1b\n]+|\n)", self.getvalue()):
            if text == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif text:
                rows[row] += text
            elif code == "F":
                row -= int(up)
            elif code == "K":
                rows[row] = ""
            elif code == "J":
                rows[row:] = [""]
        return rows


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    for name, value in {"COLUMNS": "31", "LINES": "10", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    return Screen()


def test_a_card_is_redrawn_in_place(screen: Screen) -> None:
    terminal = Terminal(screen, screen)
    terminal.show_card("Why?", "[Thinking]", ["⏹"])
    terminal.show_card("Why?", "Because it is\nlonger now", ["⏹"])
    terminal.note("[warning] late")
    top, bottom = "┌" + "─" * 28 + "┐", "└" + "─" * 28 + "┘"
    card = ["│ Why?│", "│ Because it is│", "│ longer now│", "├" + "─" * 28 + "┤", "│ [1] ⏹│"]
    assert screen.lines == ["[warning] late", top, *card, bottom, ""]
    terminal.show_card("Why?", "Short.", ["😄 有帮助", "😅 没帮助", "🙂"], is_final=True)
    final = ["│ Why?│", "│ Short.│", "├" + "─" * 28 + "┤", "│ [1] 😄 有帮助│", "│ [2] 😅 没帮助   [3] 🙂│"]
    assert screen.lines == ["[warning] late", top, *final, bottom, ""]
    terminal.show_change("Why?", ["✅ 😄 有帮助", "😅"], "谢谢")
    changed = ["│ 谢谢│", "├" + "─" * 28 + "┤", "│ [1] ✅ 😄 有帮助   [2] 😅│"]
    assert screen.lines == ["[warning] late", top, *final, bottom, top, *changed, bottom, ""]
    terminal.show_card("Who?", "It failed", [])
    terminal.say("You: Who?")
    terminal.show_card("Who?", "Me", [])
    assert screen.lines[-8:] == ["│ It failed│", bottom, "You: Who?", top, "│ Who?│", "│ Me│", bottom, ""]
    terminal.show_message("Busy.")
    assert screen.lines[-4:] == ["┌───────┐", "│ Busy.│", "└───────┘", ""]


def test_a_card_that_is_taller_than_the_window(screen: Screen) -> None:
    terminal = Terminal(screen, screen)
    numbers = [str(number) for number in range(30)]
    terminal.show_card("Many?", "[Thinking]", [])
    terminal.show_card("Many?", "\n".join(numbers[:20]), [])
    assert screen.lines[0] == "│ ⋮"
    assert screen.lines[-3:-1] == ["│ 19│", "└" + "─" * 28 + "┘"]
    assert len(screen.lines) <= 10
    terminal.show_card("Many?", "\n".join(numbers), ["🙂"], is_final=True)
    assert screen.lines[1:32] == ["│ Many?│", *(f"│ {number}│" for number in numbers)]


class Offline(Keyboard):
    """Types when the robot has just lost its connection, and gets no other one."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway

    def ask(self, prompt: str, show: Callable[[str], None]) -> str:
        self._gateway.refuse(OPEN, status=500, code="system.error", times=float("inf"))
        self._gateway.drop_connections()
        return super().ask(prompt, show)


def test_a_question_that_reaches_nobody(talk: Talk) -> None:
    said = talk("Why?", keyboard=Offline(talk.platform.gateway))
    assert said == [f"Why?\n({sandbox.english('nobodyListens')})"]
