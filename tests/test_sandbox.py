"""The sandbox: what a person gets to see, in a pipe (as a process of its own) and on a terminal (drawn in memory)."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sandbox import __main__ as sandbox
from tests.sandbox.agent import FaqAgent
from tests.sandbox.terminal import Terminal, clean, width, wrap

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = ["😄 Very Helpful", "😊 Helpful", "🙂 Somewhat Helpful", "😅 Not Helpful"]
CHINESE = ["😄 非常有帮助", "😊 有帮助", "🙂 帮助不大", "😅 没帮助"]
Rounds = dict[str, "subprocess.CompletedProcess[str]"]


def run(*arguments: str, typed: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sandbox", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.fixture(scope="module")
def rounds() -> Rounds:
    """All processes at once: each of them takes as long as its answer."""
    with ThreadPoolExecutor(8) as pool:
        started = {
            "english": pool.submit(run, "--ask", "How do I install it?", encoding="cp1252"),
            "chinese": pool.submit(run, "--ask", "怎么停止机器人？", encoding="ascii"),
            "unknown": pool.submit(run, "--ask", "What is the weather in Paris?"),
            "nothing": pool.submit(run, "--ask", " "),
            "typed": pool.submit(run, typed="\n按钮有什么用？\nexit\n", encoding="ascii"),
            "ended": pool.submit(run),
        }
        return {name: future.result() for name, future in started.items()}


@pytest.mark.parametrize(
    ("name", "question", "thinking", "start", "end", "labels"),
    [
        ("english", "How do I install it?", "[Thinking]", "1. Copy the folder", "mention it with @.", ENGLISH),
        ("chinese", "怎么停止机器人？", "[思考]", "在 JitAi 里", "按 Ctrl-C 即可。", CHINESE),
    ],
)
def test_one_round(
    rounds: Rounds, name: str, question: str, thinking: str, start: str, end: str, labels: list[str]
) -> None:
    assert rounds[name].returncode == 0, rounds[name].stderr
    said = rounds[name].stdout
    assert "Simulated:  JitNode, DingTalk, the agent" in said
    assert rounds[name].stderr.splitlines() == [
        "[info] Connected to DingTalk: the long connection of client id ding-demo stands"
    ]
    blocks = re.split(r"\n(?=\[(?:card|final card))", said)[1:]
    first, *growing, final = blocks
    assert first.startswith(f"[card: {question}]") and thinking in first
    assert len(growing) >= 2 and all(block.startswith("[card grows]") for block in growing)
    assert start in growing[0] and "..." in growing[1]
    assert end not in growing[0]
    assert final.startswith(f"[final card: {question}]") and start in final and end in final
    assert "  ".join(f"[ {label} ]" for label in labels) in final
    assert "DingTalk does not deliver clicks" in final


def test_a_question_that_the_faq_does_not_have(rounds: Rounds) -> None:
    assert rounds["unknown"].returncode == 0, rounds["unknown"].stderr
    assert "Sorry, this is not in our FAQ" in rounds["unknown"].stdout
    assert "- How do I install it?" in rounds["unknown"].stdout


def test_without_a_final_card_it_fails(rounds: Rounds) -> None:
    assert rounds["nothing"].returncode == 1
    assert "[message]\n    I found no text in your message." in rounds["nothing"].stdout


def test_a_conversation(rounds: Rounds) -> None:
    assert rounds["typed"].returncode == 0, rounds["typed"].stderr
    said = rounds["typed"].stdout
    assert "You: \nYou: 按钮有什么用？\n[card: 按钮有什么用？]" in said
    assert all(label in said for label in CHINESE)
    assert said.endswith("\nYou: exit\n")
    assert rounds["ended"].returncode == 0, rounds["ended"].stderr
    assert rounds["ended"].stdout.endswith("\nYou: \n")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sandbox, "PACKAGES", ("json", "no_such_package"))
    monkeypatch.setattr(sys, "argv", ["sandbox"])
    assert sandbox.main() == 1
    assert capsys.readouterr().err == "Not installed: no_such_package. Run: pip install -r requirements.txt\n"


def test_the_faq() -> None:
    agent = FaqAgent()
    assert len(agent._english.questions) == len(agent._chinese.questions)
    for faq in (agent._english, agent._chinese):
        for question, answer in zip(faq.questions, faq.answers, strict=True):
            assert faq.answer(question) == answer
            assert answer and "<!--" not in answer
    for faq, question, at in [
        (agent._english, "What is this?", 0),
        (agent._english, "installation", 1),
        (agent._english, "please tell me how to stop it", 4),
        (agent._chinese, "你好", 0),
        (agent._chinese, "如何关闭机器人", 4),
    ]:
        assert faq.answer(question) == faq.answers[at]


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
    terminal.show_card("Why?", "[Thinking]", [])
    terminal.show_card("Why?", "Because it is\nlonger now", [])
    terminal.note("[warning] late")
    top, bottom = "┌" + "─" * 28 + "┐", "└" + "─" * 28 + "┘"
    card = ["│ Why?│", "│ Because it is│", "│ longer now│"]
    assert screen.lines == ["[warning] late", top, *card, bottom, ""]
    terminal.show_card("Why?", "Short.", ["😄 有帮助", "😅 没帮助", "🙂"])
    final = ["│ Why?│", "│ Short.│", "├" + "─" * 28 + "┤", "│ [ 😄 有帮助 ]│", "│ [ 😅 没帮助 ]  [ 🙂 ]│"]
    assert screen.lines[:8] == ["[warning] late", top, *final, bottom]
    assert screen.lines[8].startswith("(DingTalk does not deliver")
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
    terminal.show_card("Many?", "\n".join(numbers), ["🙂"])
    assert screen.lines[1:32] == ["│ Many?│", *(f"│ {number}│" for number in numbers)]
