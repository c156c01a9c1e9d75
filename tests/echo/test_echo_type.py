"""The echo Type keeps the contract of every IM Type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imRobots.Meta import forget_manager
from tests.contracts.im_type import IMTypeContract
from tests.echo.echo_platform import EchoPlatform
from tests.fakes.agents import ReferenceAgent
from tests.fakes.host import FakeHost

APP = Path(__file__).parent
PROJECT = APP.parent.parent


class EchoChat:
    instance = "imRobots.echoDemo"

    def __init__(self, host: FakeHost, platform: EchoPlatform) -> None:
        self.host = host
        self._platform = platform

    def say(self, text: str | None, sender: str = "Ann", message_id: str | None = None) -> str:
        self._platform.wait_for(self._platform.connections)
        return self._platform.say(text, sender, message_id)

    def answer(self, message_id: str) -> str:
        shown = self._platform.shown
        self._platform.wait_for(lambda: message_id in shown and shown[message_id][-1]["final"])
        return str(shown[message_id][-1]["text"])

    def shown(self, message_id: str) -> list[str]:
        return [answer["text"] for answer in self._platform.shown[message_id]]

    def connections(self) -> int:
        self._platform.wait_for(lambda: self._platform.connections() == 1)
        return self._platform.connections()

    def wait_shown(self, message_id: str, text: str) -> None:
        self._platform.wait_for(lambda: message_id in self._platform.shown and text in self.shown(message_id))

    def drop(self) -> None:
        self._platform.drop()

    def garble(self) -> None:
        for line in ("not json", "[]", "{}", '{"id": 1, "from": null, "text": null}', '{"id": "x", "text": "?"}'):
            self._platform.send(line)


class TestEchoType(IMTypeContract):
    @pytest.fixture
    def chat(self) -> Iterator[EchoChat]:
        with EchoPlatform() as platform, FakeHost(PROJECT, APP, env_vars={"ECHO_PORT": platform.port}) as host:
            host.add("aiagents.ragTest", ReferenceAgent("Hello!"))
            host.boot(EchoChat.instance)
            yield EchoChat(host, platform)
            forget_manager(EchoChat.instance)
            assert platform.errors == []
