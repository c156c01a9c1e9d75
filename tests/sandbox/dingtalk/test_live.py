"""`--live` in front of a DingTalk that is the stand-in this time, partly as the process that it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
from dingtalk_stream import utils

from tests.fakes.gateway import Gateway
from tests.sandbox.platforms import PROJECT
from tests.sandbox.test_page import Desktop, Window

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(client_id="ding-live", client_secret="live-secret-4711") as gateway:
        yield gateway
        assert gateway.protocol_errors == []


@pytest.fixture
def start(gateway: Gateway) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def start(**environment: str) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env |= {"DINGTALK_OPENAPI_ENDPOINT": gateway.url, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
        env |= {"DINGTALK_CLIENT_ID": gateway.client_id, "DINGTALK_CLIENT_SECRET": gateway.client_secret}
        command = [sys.executable, "-m", "tests.sandbox", "--live", "--no-browser"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
        processes.append(subprocess.Popen(command, cwd=PROJECT, env=env | environment, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def said_by(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says until the page is there, and the page's address."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if address := re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", line):
            return said, address[0]
    return said, ""


async def test_people_ask_in_dingtalk_and_the_page_shows_it(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
    monkeypatch.setenv("DINGTALK_CLIENT_ID", gateway.client_id)
    monkeypatch.setenv("DINGTALK_CLIENT_SECRET", gateway.client_secret)
    desktop = Desktop(live=True)
    with desktop.node, desktop.page:
        assert desktop.node.wait_connected(10)
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{desktop.page.url}live") as socket:
            window = Window(socket)
            hello = await window.until("hello")
            assert hello["live"] is True and hello["kinds"] == {}
            assert [line["ok"] for line in hello["notice"]][:3] == [True, True, True]
            assert "Access token: granted (HTTP 200), valid for 2 h." in [line["en"] for line in hello["notice"]]
            assert any("票据" in line["zh"] for line in hello["notice"])
            gateway.say("How do I install it?", sender="Zoe")
            asked = await window.until("entry")
            assert (asked["entry"]["person"], asked["entry"]["text"]) == ("Zoe", "How do I install it?")
            ended = await window.until("answer", lambda told: told["answer"]["over"])
            assert ended["answer"]["question"] == "How do I install it?"
        assert gateway.client_secret not in str(window.told)
    card = gateway.card_for("How do I install it?", state="final")
    assert "Hello" in card.text and card.labels  # a standard card, as the demo is configured


def test_a_wrong_secret_is_explained_before_anybody_asks(gateway: Gateway, start: Start) -> None:
    said, url = said_by(start(DINGTALK_CLIENT_SECRET="another-secret-0815"))
    assert "[error] Access token: DingTalk refused: HTTP 400 invalidClientIdOrSecret" in said
    assert "do not belong together" in said and "another-secret-0815" not in said
    assert "nothing leaves this computer" not in said
    assert url, "the page is there, and says the same"


def test_without_credentials_it_ends(start: Start) -> None:
    process = start(DINGTALK_CLIENT_SECRET=" ")
    said, url = said_by(process)
    assert "[error] --live: DINGTALK_CLIENT_SECRET must be set in the environment" in said
    assert url == "" and process.wait(10) == 1
