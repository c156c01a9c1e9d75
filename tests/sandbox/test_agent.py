"""The sandbox's agents: what the FAQ answers, what comes as chunks, the switches, and one's own agent by its name."""

from __future__ import annotations

import inspect
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imRobots.Meta.answer import GrowingAnswer, read_chunk, read_result, tells_of_an_act
from tests.fakes.agents import SIDE_EVENTS
from tests.sandbox import agent as agents
from tests.sandbox.agent import FAQ_FOLDER, FaqAgent, Trouble, load_agent
from tests.sandbox.lookup import Faq

SORRY = "Sorry, this is not in our FAQ. You could ask:\n\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_THINKING_SECONDS", "_TOOL_SECONDS", "_ANSWER_SECONDS"):
        monkeypatch.setattr(agents, name, 0.0)


def faq_of(folder: Path, **files: str) -> Faq:
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return Faq(folder)


# ---- the default folder


def test_the_default_faq() -> None:
    faq = Faq(FAQ_FOLDER)
    english, chinese = faq._english.entries, faq._chinese.entries
    assert len(english) == len(chinese) == 10
    for entry in english + chinese:
        assert faq.answer(entry.heading) == entry.text
        assert entry.text and "<!--" not in entry.text
    assert faq.examples() == {
        "en": ["What is imRobots?", "How do I install it?", "How do I change the agent?", "What do the buttons do?"],
        "zh": ["imRobots 是什么？", "怎么安装？", "怎么更换智能体？", "按钮有什么用？"],
    }
    for entries in (english, chinese):  # all that a card can draw
        drawn = "\n".join(entry.text for entry in entries)
        assert all(re.search(sign, drawn, re.MULTILINE) for sign in (r"^1\. ", "^- ", "^```json$", r"^\| --- \|"))


@pytest.mark.parametrize(
    ("question", "beginning"),
    [
        ("What is this?", "I am the demo"),
        ("Hello", "I am the demo"),
        ("How do I install it?", "1. Copy the folder"),
        ("installation", "1. Copy the folder"),
        ("How can I set it up?", "1. Copy the folder"),
        ("please tell me how to stop it", "Delete its element"),
        ("Stopping", "Delete its element"),
        ("What does maxQueue mean?", "Up to 32 agents"),
        ("你好", "我是 **imRobots**"),
        ("您是谁？", "我是 **imRobots**"),
        ("如何关闭机器人", "在 JitAi 里删除"),
        ("点击没有反应", "- 前四个按钮"),
        ("配置 cardType", "下面是实例的"),
        ("What is the weather in Paris?", SORRY + "- What is imRobots?\n- How do I install it?\n"),
        ("巴黎的天气怎么样？", "抱歉，常见问题里没有这一条。您可以问：\n\n- imRobots 是什么？\n"),
        ("> How do I install it?\n\nAnd how do I stop it?", "Delete its element"),
        ("> How do I install it?\n\nWhat is this?", "1. Copy the folder"),
        ("> How do I install it?", "1. Copy the folder"),
        ("> 怎么安装？\n\nHow do I stop it?", "Delete its element"),
    ],
)
def test_questions(question: str, beginning: str) -> None:
    assert Faq(FAQ_FOLDER).answer(question).startswith(beginning)


# ---- any folder

GUIDE = """\
---
title: no entry
---

What stands first.

# Install

## Windows ##

Run the *setup*.

### Later
<!-- upgrade,
renew -->

    an indented line

## Linux

~~~~sh
# not a heading
~~~
```
~~~~

1. Then
   ```sh
# in a list
   ```
   done

####### seven
#tag

## Empty

# [Cards](cards.md) with `code` {#x}
All.
"""


def test_sections(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text(GUIDE, encoding="utf-8-sig")  # as Windows Notepad saves it
    faq = Faq(tmp_path)
    assert faq.answer("guide") == "What stands first."
    assert faq.answer("install windows") == "Run the *setup*."
    assert faq.answer("How do I renew it?") == "    an indented line"
    linux = faq.answer("installing on Linux")
    assert linux.startswith("~~~~sh\n# not a heading\n~~~\n```\n~~~~\n\n1. Then\n   ```sh\n# in a list\n")
    assert linux.endswith("   done\n\n####### seven\n#tag")
    assert faq.answer("cards with code") == "All."
    assert faq.examples() == {"en": ["guide", "Windows", "Later", "Linux"], "zh": []}
    assert faq.answer("weather") == SORRY + "- guide\n- Windows\n- Later\n- Linux\n- Cards with code"


def test_a_rule_is_no_front_matter(tmp_path: Path) -> None:
    assert faq_of(tmp_path, a="---\n\n# Cats\n\nMeow.\n\n---\n").answer("cats") == "Meow.\n\n---"


def test_the_heading_itself_is_found(tmp_path: Path) -> None:
    """Where others have the same words, the one that says least else."""
    faq = faq_of(tmp_path, a="# Cards\n## Old cards\nold\n## How to\nhow\n", b="# cards!\nall\n", c="# Cards\ntwice\n")
    assert faq.answer("Cards?") == "all"
    assert faq.answer("What about cards, please") == "all"
    assert faq.answer("How to?") == "how"


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.md", "a/z.MD", "a/c.markdown", "a/b/d.md", "no.txt", ".venv/licence.md", "a/.hidden.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"# {name}\r\n\r\nabout \r\n".encode())
    faq = Faq(tmp_path)
    assert faq.examples() == {"en": ["a/b/d.md", "a/c.markdown", "a/z.MD", "b.md"], "zh": []}
    assert faq.answer("d.md") == "about"


def test_languages_in_any_mixture(tmp_path: Path) -> None:
    faq = faq_of(tmp_path, a="# Price\nFree.\n# 价格 Price\n免费。\n# Shop\n北京\n")
    assert faq.answer("price") == "Free." and faq.answer("price 价格") == "免费。"
    assert faq.answer("shop") == "北京"  # its heading is not
    pay = faq_of(tmp_path, a="# How do I pay?\nWith Alipay (支付宝).\n# 怎么付款？\n用支付宝 (Alipay)。\n")
    assert pay.answer("How do I pay?") == "With Alipay (支付宝)." and pay.answer("怎么付款") == "用支付宝 (Alipay)。"
    assert faq.examples() == {"en": ["Price", "Shop"], "zh": ["价格 Price"]}


@pytest.mark.parametrize(
    ("text", "found", "unknown"),
    [
        ("# Price\nFree.\n", ("Price 多少", "Free."), ("天气", "抱歉，常见问题里没有这一条。您可以问：\n\n- Price")),
        ("# 价格\n免费。\n", ("Hi", "免费。"), ("weather", SORRY + "- 价格")),
        ("# Öffnungszeiten\nImmer.\n", ("ÖFFNUNGSZEITEN", "Immer."), ("Wetter", SORRY + "- Öffnungszeiten")),
    ],
)
def test_a_folder_of_one_language(tmp_path: Path, text: str, found: tuple[str, str], unknown: tuple[str, str]) -> None:
    faq = faq_of(tmp_path, a=text)
    for question, answer in (found, unknown):
        assert faq.answer(question) == answer


def test_at_most_ten_are_listed(tmp_path: Path) -> None:
    """The nearest first."""
    text = "".join(f"# Topic {chr(97 + n)}\nx\n" for n in range(20)) + "# Overview\nred cats\n" * 9
    listed = faq_of(tmp_path, a=text).answer("cats dogs mice birds").removeprefix(SORRY).split("\n")
    assert len(listed) == 10 and listed[:2] == ["- Overview", "- Topic a"]


@pytest.mark.parametrize("text", [None, "", "# Only\n\n## Headings\n\n---\n"])
def test_nothing_to_answer(tmp_path: Path, text: str | None) -> None:
    folder = tmp_path / "faq"
    if text is not None:
        folder.mkdir()
        (folder / "a.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(folder))} .*expected.* Markdown files"):
        FaqAgent(folder)


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# 怎么安装？\n\n复制文件夹。\n", encoding="gbk")
    with pytest.raises(ValueError, match=r"a\.md is not in UTF-8; save it so"):
        FaqAgent(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    try:
        (tmp_path / "a.md").symlink_to(tmp_path / "gone.md")
    except OSError:
        pytest.skip("this user may make no links")
    with pytest.raises(ValueError, match=r"cannot be read; expected.*gone\.md|cannot be read; expected.*a\.md"):
        FaqAgent(tmp_path)


def test_a_large_folder(tmp_path: Path) -> None:
    for number in range(200):
        text = "".join(f"# Topic {number} {n}\n\n{'some words of it ' * 30}\n" for n in range(10))
        (tmp_path / f"{number}.md").write_text(text, encoding="utf-8")
    faq = Faq(tmp_path)
    assert faq.answer("topic 77 7").startswith("some words")
    assert faq.answer("other " * 1000).startswith(SORRY)


# ---- what the agent sends


def run(agent: Any, question: str) -> tuple[list[dict[str, Any]], Any]:
    chunks: list[dict[str, Any]] = []
    return chunks, agent.run(user_input=question, variables={}, chatId="Ann", stream_callback=chunks.append)


def test_text_only() -> None:
    agent = FaqAgent()
    for question in ("How do I change the agent?", "可以配置什么？"):
        chunks, result = run(agent, question)
        assert {chunk["type"] for chunk in chunks} == {"TEXT_MESSAGE_CONTENT"} and len(chunks) > 20
        assert "".join(read_chunk(chunk)[0] for chunk in chunks) == read_result(result)
    assert read_result(agent.run("Hello")).startswith("I am the demo")


def test_reasoning_and_a_tool_on_request() -> None:
    """As a card shows them: thoughts, then the tool, then the answer alone."""
    agent = FaqAgent()
    agent.events = True
    growing = GrowingAnswer(0, pytest.fail, show_reasoning=True, using_tool="Using a tool")
    states: list[str] = []

    def callback(chunk: dict[str, Any]) -> None:
        growing.add(chunk, 0)
        states.append(growing.show(0))
        if chunk["type"].startswith("TOOL"):
            documented = next(event for event in SIDE_EVENTS if event["type"] == chunk["type"])
            assert chunk["data"].keys() == documented["data"].keys()
            assert tells_of_an_act(chunk)

    agent.run("What is this?", stream_callback=callback)
    thought = "> 💭 What is this question about? I will look it up in the FAQ."
    assert states[0] == "> 💭 What" and states.index(thought) >= 5
    at = states.index(f"{thought}\n\n> Using a tool")
    assert states[at + 1] == thought and states[at + 2] == f"{thought}\n\nI"
    chunks, _ = run(agent, "你好")
    assert chunks[0]["data"]["content"] == "这"
    agent.events = False
    assert {chunk["type"] for chunk in run(agent, "Hello")[0]} == {"TEXT_MESSAGE_CONTENT"}


def test_a_long_answer_is_not_sent_word_by_word(tmp_path: Path) -> None:
    faq_of(tmp_path, a=f"# Long\n{'word ' * 10_000}")
    chunks, result = run(FaqAgent(tmp_path), "long")
    assert len(chunks) <= 200 and "".join(read_chunk(chunk)[0] for chunk in chunks) == read_result(result)


def test_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    run(FaqAgent(), "How do I install it?")
    assert waits[0] == 0.6 and 3 < sum(waits[1:]) <= 4.0001 and max(waits[1:]) <= 0.1


# ---- trouble


class Own:
    """The tutorial's call form; says what it was called with."""

    events = ("its own", "meaning")
    title = "mine"

    def run(self, params: dict[str, Any], chatId: str | None = None, stream_callback: Any = None) -> str:
        return f"{params['input_data']} {chatId}"


class Hidden:
    def run(self, *args: Any, **kwargs: Any) -> str:
        return "hidden"


@pytest.mark.parametrize("agent", [FaqAgent(), Own(), Hidden()], ids=["documented", "tutorial", "hidden"])
def test_trouble_shows_the_agents_signature(agent: Any) -> None:
    assert inspect.signature(Trouble(agent).run) == inspect.signature(agent.run)


def test_trouble_passes_on() -> None:
    own, faq = Trouble(Own()), Trouble(FaqAgent())
    assert own.run(params={"input_data": "Why?"}, chatId="Ann") == "Why? Ann"
    assert own.title == "mine" and not hasattr(own, "examples") and faq.examples() == faq.agent.examples()
    own.events = faq.events = True
    assert faq.agent.events is faq.events is True
    assert own.agent.events == ("its own", "meaning") and own.events is False
    with pytest.raises(AttributeError):
        Trouble(object()).run  # noqa: B018


def test_trouble_fails() -> None:
    agent = Trouble(Own())
    agent.fails = True
    with pytest.raises(RuntimeError, match=r"^the sandbox's switch: agent error$"):
        agent.run({"input_data": "Why?"})
    agent.fails = False
    assert agent.run({"input_data": "Why?"}) == "Why? None"


@pytest.fixture
def hanging() -> Any:
    agent = Trouble(FaqAgent())
    agent.hangs = True
    yield agent
    agent.hangs = False


class Running(threading.Thread):
    def __init__(self, agent: Any, callback: Callable[[Any], object]) -> None:
        super().__init__(daemon=True)
        self.agent, self.callback, self.outcome = agent, callback, None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = read_result(self.agent.run(user_input="Hello", stream_callback=self.callback))
        except Exception as error:
            self.outcome = error


def test_trouble_hangs_in_silence_and_goes_on(hanging: Trouble) -> None:
    chunks: list[Any] = []
    running = Running(hanging, chunks.append)
    running.join(0.05)
    assert hanging.hangs and running.is_alive() and not chunks
    hanging.hangs = False
    running.join(5)
    assert not hanging.hangs and running.outcome.startswith("I am the demo") and chunks


def test_a_run_that_was_stopped_while_it_hung_ends_soon(hanging: Trouble) -> None:
    calls: list[Any] = []

    def stopped(chunk: Any) -> None:
        calls.append(chunk)
        raise InterruptedError

    running = Running(hanging, stopped)
    hanging.hangs = False
    running.join(5)
    assert isinstance(running.outcome, InterruptedError) and len(calls) == 1


def test_nothing_hangs_for_ever(hanging: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agents._LONGEST_HANG == 600
    monkeypatch.setattr(agents, "_LONGEST_HANG", 0.01)
    running = Running(hanging, lambda chunk: None)
    running.join(5)
    assert running.outcome.startswith("I am the demo")


# ---- one's own agent

MODULE = """
class Helper:
    def run(self, user_input, variables=None, chatId=None, stream_callback=None):
        return "helped"

class Picky(Helper):
    def __init__(self, name):
        pass

class Mute:
    run = "fast"

class Outer:
    Inner = Helper

helper = Helper()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A current directory with modules in it, as a command that is not started by `python -m` finds it."""
    sources = {
        "sandbox_own": MODULE,
        "sandbox_needy": "import no_such_package",
        "sandbox_broken": "def run(:",
        "sandbox_script": "import sys; sys.exit('usage')",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in sources:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("spec", ["sandbox_own:Helper", "sandbox_own:helper", "sandbox_own:Outer.Inner"])
def test_an_own_agent(here: Path, spec: str) -> None:
    assert load_agent(spec).run("Why?") == "helped"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("", "'' names no agent; expected is module:Class, such as my_agents:Helper"),
        ("sandbox_own", "'sandbox_own' names no agent; expected is module:Class"),
        (":Helper", "':Helper' names no agent; expected is module:Class"),
        (
            "no_such:Helper",
            "there is no module no_such, neither in {here} nor among the installed packages; expected is",
        ),
        ("no.such:Helper", "there is no module no.such, neither in"),
        ("sandbox_own.py:Helper", "there is no module sandbox_own.py, neither in"),
        ("sandbox_needy:Helper", "the module sandbox_needy cannot be imported: ModuleNotFoundError: No module named "),
        ("sandbox_broken:Helper", "the module sandbox_broken cannot be imported: SyntaxError: "),
        ("sandbox_script:Helper", "the module sandbox_script cannot be imported: SystemExit: usage"),
        (".sandbox_own:Helper", "the module .sandbox_own cannot be imported: TypeError: "),
        ("sandbox_own:Nobody", "sandbox_own ({here}{sep}sandbox_own.py) has no Nobody; expected is module:Class"),
        ("sandbox_own:Picky", "sandbox_own:Picky cannot be made; expected is that Picky() works: TypeError: "),
        ("sandbox_own:Mute", "sandbox_own:Mute is no agent; expected is a method run(user_input, variables, chatId, "),
    ],
)
def test_no_such_agent(here: Path, spec: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_agent(spec)
    assert str(caught.value).startswith(
        sentence.replace("{here}", str(here)).replace("{sep}", "\\" if sys.platform == "win32" else "/")
    )
