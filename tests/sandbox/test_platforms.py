"""Which instances the sandbox takes, and what it makes of their config.json: those of an app folder of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.sandbox import node as node_module
from tests.sandbox import platforms
from tests.sandbox.desk import Desk, Message, Shown
from tests.sandbox.node import Node
from tests.sandbox.platforms import ECHO, PROJECT, Unusable

DINGTALK = "imRobots.dingTalkStreamType"
CREDENTIALS = {"clientId": "{{MY_ID}}", "clientSecret": "{{MY_SECRET}}"}
CONFIG = {"agent": "aiagents.ragTest", **CREDENTIALS}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Adds an element to an app folder beside the project."""
    for module in (platforms, node_module):
        monkeypatch.setattr(module, "ROOTS", (tmp_path, PROJECT, ECHO))

    def add(name: str, type_name: str = DINGTALK, config: Any = None, define: str | None = None) -> str:
        folder = tmp_path / "imRobots" / name
        folder.mkdir(parents=True)
        element = {"type": type_name, "backendBundleEntry": ".", "backendLoadTime": "afterAppInit"}
        (folder / "e.json").write_text(define or json.dumps(element), encoding="utf-8")
        (folder / "__init__.py").write_text("", encoding="utf-8")
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (folder / "config.json").write_text(text, encoding="utf-8")
        return f"imRobots.{name}"

    return add


class Stage:
    """The instance at work, with Ann in front of it."""

    def __init__(self, element: str, **chosen: Any) -> None:
        self.desk = Desk()
        self.platform = platforms.find(element, self.desk, live=False)
        self.agent = ReferenceAgent("Hello!")
        self.node = Node(self.desk, self.platform, element, self.agent, chosen)

    def ask(self, text: str) -> Shown:
        """Returns the card with its last word."""
        before = {thing.id for thing in self.shown()}
        self.platform.say(Message(f"msg-{text}", "single", "Ann", "text", text))
        return eventually(
            lambda: next(
                (one for one in self.shown() if one.id not in before and one.state == "final" and is_over(one)), None
            ),
            f"an answer to {text}",
        )

    def shown(self) -> list[Shown]:
        things: list[Any] = []
        with self.desk.told_to(things.append):
            return [thing for thing in things if isinstance(thing, Shown)]


def is_over(shown: Shown) -> bool:
    return all(button.id != "stop" for button in shown.view.buttons)


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    begun: list[Stage] = []

    def begin(element: str, **chosen: Any) -> Stage:
        stage = Stage(element, **chosen)
        stage.node.__enter__()
        begun.append(stage)
        return stage

    yield begin
    for stage in begun:
        stage.node.__exit__()


def test_an_instance_of_a_type_that_inherits_dingtalks(app: Callable[..., str], stage: Callable[..., Stage]) -> None:
    app("childType", define=json.dumps({"type": DINGTALK, "backendBundleEntry": "."}))
    begun = stage(app("childDemo", "imRobots.childType", CONFIG))
    assert begun.node.wait_connected(10)
    assert begun.ask("Why?").view.text == "Hello!"


def test_what_there_is_no_platform_for(app: Callable[..., str]) -> None:
    app("otherType", "imRobots.Meta")
    app("otherDemo", "imRobots.otherType", "{}")
    app("noConfig")
    for name in ("otherDemo", "noConfig", "nobody", "dingTalkStreamType", "Meta"):
        with pytest.raises(Unusable, match=rf"--element imRobots\.{name}: no instance .* only imRobots\.dingTalkDemo"):
            platforms.find(f"imRobots.{name}", Desk(), live=False)
    with pytest.raises(Unusable, match=r"can be live, only imRobots\.dingTalkDemo\."):
        platforms.find("imRobots.echoDemo", Desk(), live=True)


@pytest.mark.parametrize(("define", "problem"), [("{", "is no JSON"), ("[]", "holds no JSON object")])
def test_a_broken_definition_is_named(app: Callable[..., str], define: str, problem: str) -> None:
    app("broken", define=define, config="{}")
    with pytest.raises(Unusable, match=rf"broken.e\.json {problem}"):
        platforms.find("imRobots.broken", Desk(), live=False)


def test_a_setting_that_the_type_does_not_have() -> None:
    desk = Desk()
    echo = platforms.find("imRobots.echoDemo", desk, live=False)
    with pytest.raises(Unusable, match=r"has no setting cardType; it has agentTimeout, events"):
        Node(desk, echo, "imRobots.echoDemo", ReferenceAgent(), {"cardType": "ai"})
    echo.__enter__().__exit__()


@pytest.mark.parametrize("config", ["{}", "", "[]", "{", "\ufeff{"])
def test_a_config_that_is_none_is_the_robots_to_explain(
    app: Callable[..., str], stage: Callable[..., Stage], config: str
) -> None:
    begun = stage(app("mine", config=config))
    assert begun.node.robot.state == "failed"
    assert "imRobots.mine" in str(begun.node.robot.error)
    if config == "{}":
        assert "clientSecret" in str(begun.node.robot.error)


def test_what_an_instance_has_in_its_config(
    app: Callable[..., str], stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark of Windows at the beginning, variables of the environment, a proxy, a template: all as at home."""
    monkeypatch.setenv("MY_AGENT", "aiagents.mine")
    monkeypatch.setenv("MY_ID", "of the real DingTalk, and not used")
    variables = {"content": "answer", "title": "head", "note": "memo", "buttons": "btns", "status": "flowStatus"}
    config = {
        **CREDENTIALS,
        "agent": "{{MY_AGENT}}",
        "cardType": "ai",
        "agentTimeout": 77,
        "proxy": "http://127.0.0.1:9",
        "cardTemplateId": "mine.schema",
        "cardVariables": variables,
    }
    begun = stage(app("mine", config="\ufeff" + json.dumps(config)))
    assert begun.node.wait_connected(10), begun.node.robot.error
    assert begun.node.settings["agentTimeout"] == 77 and 77 in begun.node.choices["agentTimeout"]
    card = begun.ask("Why?")
    assert (card.view.title, card.view.text) == ("Why?", "Hello!")
    begun.platform.click(card.id, "helpful", "Ann")
    assert "Thank you" in eventually(lambda: begun.shown()[-1].seen_by("Ann").note, "a note")


def test_a_timeline_on_the_desk() -> None:
    """A message that is delivered again leaves it as it is, and an answer of long ago does not come back."""
    desk = Desk()
    for what, at in (("received", 1.0), ("first", 2.0), ("final", 3.0), ("received", 4.0)):
        desk.mark("a", what, at, "Why?")  # type: ignore[arg-type]
    desk.mark("forgotten", "update", 5.0)
    things: list[Any] = []
    with desk.told_to(things.append):
        [answer] = things
    assert answer.is_over and answer.marks == [("received", 0.0), ("first", 1000.0), ("final", 2000.0)]
