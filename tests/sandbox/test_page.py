"""The page's server, spoken with as a browser does, without one: who is let in, and what goes over its WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.fakes.agents import ReferenceAgent
from tests.sandbox import platforms
from tests.sandbox.__main__ import DEMO
from tests.sandbox.desk import Desk
from tests.sandbox.node import Node
from tests.sandbox.page import Page

Json = dict[str, Any]


class Window:
    """The page in somebody's browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.told: list[Json] = []

    async def do(self, do: str, **command: Any) -> None:
        await self._socket.send_json({"do": do, **command})

    async def ask(self, text: str, chat: str = "group", person: str = "Ann", kind: str = "text", **more: Any) -> Json:
        """Returns the card's last state."""
        await self.do("say", chat=chat, person=person, kind=kind, text=text, **more)
        card = await self.until("entry", lambda e: e["entry"].get("state") == "final" and not stoppable(e["entry"]))
        return dict(card["entry"])

    async def until(self, kind: str, is_it: Callable[[Json], Any] = lambda told: True) -> Json:
        """The next one of this kind for which it is so."""

        async def come() -> Json:
            while True:
                told: Json = await self._socket.receive_json()
                self.told.append(told)
                if told["type"] == kind and is_it(told):
                    return told

        return await asyncio.wait_for(come(), 10)


def stoppable(card: Json) -> bool:
    return any(button["id"] == "stop" for button in card["view"]["buttons"])


class Desktop:
    def __init__(self, element: str = DEMO, *, live: bool = False) -> None:
        self.desk = Desk()
        self.platform: Any = platforms.find(element, self.desk, live=live)
        self.agent = ReferenceAgent("Hello **you**, <b>there</b>!")
        self.node = Node(self.desk, self.platform, element, self.agent, {})
        self.page = Page(self.desk, self.node, self.platform, element, {"en": ["Why?"], "zh": []})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def desktop() -> Any:
    desktop = Desktop()
    with desktop.node, desktop.page:
        assert desktop.node.wait_connected(10)
        yield desktop


@pytest.fixture
async def window(desktop: Desktop, session: aiohttp.ClientSession) -> AsyncIterator[Window]:
    async with session.ws_connect(f"{desktop.page.url}live") as socket:
        yield Window(socket)


async def test_only_who_has_the_address_is_let_in(desktop: Desktop, session: aiohttp.ClientSession) -> None:
    url = desktop.page.url
    address = urlsplit(url)
    assert address.hostname == "127.0.0.1" and len(address.path) > 20
    async with session.get(url) as answer:
        assert answer.status == 200 and "<html" in await answer.text()
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    root = f"http://{address.netloc}"
    elsewhere: Json = {"headers": {"Host": f"evil.example:{address.port}"}}
    foreign: Json = {"headers": {"Origin": "http://evil.example"}}
    for path, options, status in [
        (root, {}, 404),
        (f"{root}/", {}, 404),
        (f"{root}/guess/", {}, 404),
        (f"{root}/guess/live", {}, 404),
        (f"{url}../../page.py", {}, 404),
        (f"{url}page.py", {}, 404),
        (f"{url}wire/99999", {}, 404),
        (url, elsewhere, 404),
        (f"{url}live", foreign, 403),
    ]:
        async with session.get(path, **options) as answer:
            assert answer.status == status, path


async def test_a_window_is_told_what_there_is_and_what_comes(desktop: Desktop, window: Window) -> None:
    hello = await window.until("hello")
    assert (hello["platform"], hello["element"], hello["robot"]) == ("DingTalk", DEMO, "imRobots")
    card = await window.ask("@imRobots Why?")
    assert card["view"]["title"] == "Why?" and card["mentions"] == ["Ann"]
    assert "<strong>you</strong>" in card["view"]["html"] and "&lt;b&gt;there" in card["view"]["html"]
    question = next(told["entry"] for told in window.told if told["type"] == "entry")
    assert (question["person"], question["text"], question["heard"]) == ("Ann", "@imRobots Why?", True)
    assert desktop.agent.calls[0].text == "Why?"
    await window.do("click", entry=card["id"], button="helpful", person="Ann")
    rated = (await window.until("entry", lambda told: told["entry"]["id"] == card["id"]))["entry"]
    assert "Thank you" in rated["views"]["Ann"]["note"] and rated["view"]["note"] == ""
    assert any(button["label"].startswith("✅") for button in rated["views"]["Ann"]["buttons"])
    status = await window.until("status", lambda told: told["status"]["rated"] == 1)
    assert status["status"]["answered"] == 1


async def test_a_timeline(window: Window) -> None:
    await window.ask("@imRobots Why?")
    answer = [told["answer"] for told in window.told if told["type"] == "answer"][-1]
    whats = [mark["what"] for mark in answer["marks"]]
    times = [mark["ms"] for mark in answer["marks"]]
    assert answer["question"] == "Why?"
    assert whats[0] == "received" and "acknowledged" in whats and "first" in whats
    assert times[0] == 0 and times == sorted(times)


async def test_frames_and_calls_can_be_opened_and_hold_no_secret(
    desktop: Desktop, window: Window, session: aiohttp.ClientSession
) -> None:
    await window.ask("@imRobots Why?")
    items = {told["item"]["n"]: told["item"] for told in window.told if told["type"] == "wire"}
    titles = [item["title"] for item in items.values()]
    assert any("createAndDeliver" in title for title in titles) and any("messages/get" in title for title in titles)
    details = []
    for number in items:
        async with session.get(f"{desktop.page.url}wire/{number}") as answer:
            details.append(await answer.text())
            json.loads(details[-1])
    assert not any(desktop.platform.gateway.client_secret in text for text in details)
    assert not any(desktop.platform.gateway._token[0] in text for text in details)


async def test_every_kind_of_message_is_heard(desktop: Desktop, window: Window) -> None:
    await window.until("hello")
    assert (await window.ask("Ich", chat="single", kind="voice"))["with"] == "Ann"
    await window.ask("one\n[picture]\ntwo", chat="single", person="王芳", kind="rich")
    assert [call.text for call in desktop.agent.calls] == ["Ich", "one\ntwo"]
    await window.do("say", chat="single", person="Ben", kind="picture", text="")
    picture = await window.until("entry", lambda told: told["entry"]["kind"] == "message")
    assert "only read text" in picture["entry"]["view"]["html"] and picture["entry"]["with"] == "Ben"
    question = next(told["entry"]["id"] for told in window.told if told.get("entry", {}).get("text") == "Ich")
    await window.ask("What was that?", chat="single", quote=question)
    assert "Ich" in desktop.agent.calls[-1].text and "What was that?" in desktop.agent.calls[-1].text
    await window.do("say", chat="group", person="Ben", kind="text", text="Just us")
    unheard = await window.until("entry", lambda told: told["entry"].get("text") == "Just us")
    assert unheard["entry"]["heard"] is False
    assert len(desktop.agent.calls) == 3


async def test_what_comes_to_nothing_is_said(desktop: Desktop, window: Window) -> None:
    await window.do("set", name="cardType", value="standard")
    settings = await window.until("settings")
    assert {"name": "cardType", "value": "standard", "choices": ["ai", "standard", "markdown"]} in settings["settings"]
    card = await window.ask("@imRobots Why?")
    assert card["look"] == "standard"
    await window.do("click", entry=card["id"], button=card["view"]["buttons"][0]["id"], person="Ann")
    assert (await window.until("notice"))["key"] == "nothingComes"
    await window.do("set", name="cardType", value="unheard of")
    assert (await window.until("notice"))["key"] == "failed"
    await window.do("say", chat="group", person="Nobody", kind="text", text="Hi")
    assert (await window.until("notice"))["key"] == "failed"
    await window._socket.send_str("{")
    assert (await window.until("notice"))["key"] == "failed"
    await window.ask("@imRobots Are you there?")


async def test_switches(desktop: Desktop, window: Window) -> None:
    await window.do("switch", name="redeliver")
    assert (await window.until("notice"))["key"] == "noMessageYet"
    await window.do("switch", name="agentError", on=True)
    switches = (await window.until("switches"))["switches"]
    assert {"name": "agentError", "on": True} in switches
    await window.do("say", chat="group", person="Ann", kind="text", text="@imRobots Why?")
    failed = await window.until("entry", lambda told: told["entry"].get("state") == "failed")
    assert "something went wrong" in failed["entry"]["view"]["html"]
    await window.do("switch", name="agentError", on=False)
    await window.do("switch", name="drop")
    await window.until("status", lambda told: told["status"]["reconnects"] == 1)
    await window.until("status", lambda told: told["status"]["state"] == "connected")
    await window.ask("@imRobots And now?")
    await window.do("switch", name="redeliver")
    await window.until("status", lambda told: told["status"]["duplicate"] == 1)
    await window.do("switch", name="restart")
    await window.until("log", lambda told: "Client stopped" in told["line"]["text"])
    await window.until("log", lambda told: "Connected" in told["line"]["text"])
    await window.ask("@imRobots Once more?")


async def test_two_windows_see_the_same_and_a_late_one_what_was(
    desktop: Desktop, window: Window, session: aiohttp.ClientSession
) -> None:
    card = await window.ask("@imRobots Why?")
    async with session.ws_connect(f"{desktop.page.url}live") as socket:
        late = Window(socket)
        assert (await late.until("entry", lambda told: told["entry"]["id"] == card["id"]))["entry"] == card
        again = await late.ask("@imRobots Why not?", person="Ben")
        seen = await window.until("entry", lambda told: told["entry"]["id"] == again["id"])
        assert seen["entry"]["view"]["title"] == "Why not?"


async def test_the_echo_platform_on_the_same_page(session: aiohttp.ClientSession) -> None:
    desktop = Desktop("imRobots.echoDemo")
    with desktop.node, desktop.page:
        assert desktop.node.wait_connected(10)
        async with session.ws_connect(f"{desktop.page.url}live") as socket:
            window = Window(socket)
            hello = await window.until("hello")
            assert (hello["platform"], list(hello["kinds"])) == ("Echo", ["single"])
            await window.do("say", chat="single", person="Ben", kind="text", text="Why?")
            shown = await window.until("entry", lambda told: told["entry"].get("state") == "final")
            assert shown["entry"]["with"] == "Ben" and "Hello" in shown["entry"]["view"]["html"]
            await window.do("switch", name="drop")
            await window.until("status", lambda told: told["status"]["state"] == "connected")
