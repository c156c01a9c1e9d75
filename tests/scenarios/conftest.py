"""The stage of the scenarios: a stand-in DingTalk, a stand-in JitNode, and the unmodified demo between them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dingtalk_stream.utils
import pytest

from imRobots.Meta import forget_manager
from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import Gateway
from tests.fakes.host import FakeHost
from tests.fakes.records import Card

PROJECT = Path(__file__).parent.parent.parent
DEMO = "imRobots.dingTalkDemo"


class Scene:
    """The demo, seen from the chat and from the host. Keeps the contract's `Chat` protocol."""

    instance = DEMO

    def __init__(self, gateway: Gateway, **host_options: Any) -> None:
        self.gateway = gateway
        env_vars = {"DINGTALK_CLIENT_ID": gateway.client_id, "DINGTALK_CLIENT_SECRET": gateway.client_secret}
        self.host = FakeHost(PROJECT, env_vars=env_vars, **host_options)
        self.agent(ReferenceAgent("Hello!"))
        self._questions: dict[str, str] = {}  # message id -> what was asked; scenarios ask nothing twice

    def boot(self, **config: Any) -> Scene:
        """Start the app; `config` are further keys of the demo's config.json."""
        if config:
            demo = json.loads(self.host.element(DEMO).getFile("config.json"))
            self.host.write(DEMO, "config.json", json.dumps({**demo, **config}))
        self.host.boot()
        self.gateway.wait_connected()
        return self

    def agent(self, agent: Any) -> Any:
        self.host.add("aiagents.ragTest", agent)
        return agent

    @property
    def manager(self) -> Any:
        return self.host.get_element(DEMO)

    def say(self, text: str | None, /, sender: str = "Ann", message_id: str | None = None, **payload: Any) -> str:
        self.gateway.wait_connected()
        if text is None:
            payload = {"msgtype": "picture", "text": None, "content": {"downloadCode": "code"}, **payload}
        message_id = self.gateway.say(text or "", sender=sender, message_id=message_id, **payload)
        self._questions[message_id] = text or ""
        return message_id

    def card(self, question: str, state: str = "final") -> Card:
        return self.gateway.card_for(question, state=state)

    def sentence(self, number: int = 1) -> str:
        """The newest of at least so many webhook messages."""
        self.gateway.wait_for(lambda: len(self.gateway.webhooks) >= number, what=f"{number} webhook messages")
        return self.gateway.webhooks[-1].text

    def answer(self, message_id: str) -> str:
        """Contract: the last word to a message, in a card with buttons or, without any, in a card or sentence."""

        def last_word() -> str | None:
            cards = [card for card in self._cards(message_id) if card.state != "thinking"]
            if cards and (cards[-1].state == "final" or "Sorry" in cards[-1].text):
                return cards[-1].text
            return self.gateway.webhooks[-1].text if self.gateway.webhooks else None

        return self.gateway.wait_for(last_word, what="the last word")  # type: ignore[return-value]

    def shown(self, message_id: str) -> list[str]:
        return [state.text for card in self._cards(message_id) for state in card.states]

    def wait_shown(self, message_id: str, text: str) -> None:
        self.gateway.wait_for(lambda: text in self.shown(message_id), what=f"{text!r} in the card")

    def wait_logged(self, level: str, containing: str) -> Any:
        """The first such record."""
        return eventually(lambda: self.host.logged(level, containing), f"{containing!r} in the log")[0]

    def warnings(self) -> list[Any]:
        """But for the one about the buttons of standard cards, which every start brings."""
        return [record for record in self.host.logged("warning") if "feedbackButtons" not in record.message]

    def drop(self) -> None:
        self.gateway.drop_connections()

    def garble(self) -> None:
        self.gateway.push("not json")
        self.gateway.callback({"msgtype": None, "text": 5})

    def connections(self) -> int:
        assert self.manager.wait_ready(10)
        return self.gateway.wait_for(lambda: self.gateway.connections() == 1 and 1, what="one connection")

    def _cards(self, message_id: str) -> list[Card]:
        return [card for card in self.gateway.cards.values() if card.title == self._questions[message_id]]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with Gateway() as gateway:
        # The SDK reads DINGTALK_OPENAPI_ENDPOINT once, when it is imported.
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
        # The SDK's way to learn its own address asks for the route to a public one.
        monkeypatch.setattr(dingtalk_stream.DingTalkStreamClient, "get_host_ip", lambda self: "127.0.0.1")
        yield gateway
        assert gateway.protocol_errors == []


@pytest.fixture
def scene(gateway: Gateway) -> Iterator[Scene]:
    yield from staged(gateway)


def staged(gateway: Gateway, **host_options: Any) -> Iterator[Scene]:
    """A scene on a host with these options; the robot's data goes to a folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # on Windows the store still has its file
        yield from _staged(Scene(gateway, **{"app_folder": Path(folder), **host_options}))


def _staged(scene: Scene) -> Iterator[Scene]:
    with scene.host:
        yield scene
        forget_manager(DEMO)
        for record in scene.host.records:
            assert scene.gateway.client_secret not in record.message + (record.traceback or "")
