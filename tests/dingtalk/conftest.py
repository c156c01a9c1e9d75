"""Fixtures of the DingTalk tests: a gateway that the product believes to be DingTalk, and a host with one element."""

from __future__ import annotations

import builtins
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dingtalk_stream.utils
import pytest
from dingtalk_stream import CallbackMessage, Credential, DingTalkStreamClient

import imRobots.dingTalkStreamType.lifecycle
import imRobots.Meta.host
import imRobots.Meta.outbox
from imRobots.dingTalkStreamType import ClientManager, TextHandler, stream_client
from imRobots.Meta import Deadline
from tests.dingtalk.helpers import (
    AGENT,
    CLIENT_ID,
    CLIENT_SECRET,
    CONFIG,
    ELEMENT,
    Log,
    Mailbox,
    eventually,
    robot_threads,
)
from tests.fakes.agents import ReferenceAgent
from tests.fakes.certificates import PrivateCA
from tests.fakes.gateway import Gateway
from tests.fakes.host import FakeHost


def end_robots() -> None:
    """Stop and forget the robots that were loaded; none of their threads may be left."""
    robots = builtins.__dict__["__imRobots__"]
    for full_name in list(robots):
        robot, _ = robots.pop(full_name)
        robot.stop(timeout=2)
    eventually(lambda: not robot_threads(), "the end of all threads", timeout=15)


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    yield
    end_robots()


@pytest.fixture(autouse=True)
def own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK asks the routing table for a way to a public address."""
    monkeypatch.setattr(DingTalkStreamClient, "get_host_ip", lambda self: "127.0.0.1")


@pytest.fixture(scope="session")
def few_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To trust one authority costs 1 ms, to trust the usual ones 40 ms, in every test that makes a call."""
    return PrivateCA().write_bundle(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch, few_certificates: Path) -> None:
    """What this computer's environment says of proxies and certificates is none of the tests' business."""
    names = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
    for name in (*names, *map(str.upper, names), "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(few_certificates))


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with Gateway(client_id=CLIENT_ID, client_secret=CLIENT_SECRET) as gateway:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
        yield gateway
        end_robots()  # while there is still somebody who answers them
        assert gateway.protocol_errors == []


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """The log of every module, whichever one they found when they were imported."""
    recorder = Log()
    for name, module in list(sys.modules.items()):
        if name.startswith("imRobots.") and hasattr(module, "log"):
            monkeypatch.setattr(module, "log", recorder)
    return recorder


@pytest.fixture
def agent() -> ReferenceAgent:
    return ReferenceAgent("Press reset.")


@pytest.fixture
def host(tmp_path: Path, agent: ReferenceAgent) -> Iterator[FakeHost]:
    folder = tmp_path.joinpath(*ELEMENT.split("."))
    folder.mkdir(parents=True)
    define = {"type": "imRobots.dingTalkStreamType", "title": "Help desk"}
    folder.joinpath("e.json").write_text(json.dumps(define), encoding="utf-8")
    folder.joinpath("config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with FakeHost(tmp_path, env_vars={}) as host:
        host.add(AGENT, agent)
        yield host


@pytest.fixture
def quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "backoff", lambda first, limit: itertools.repeat(0.01))
    monkeypatch.setattr(stream_client, "_SLOW_SECONDS", 0.01)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imRobots.Meta.outbox, "backoff", lambda first, limit: itertools.repeat(0.01))


@pytest.fixture
def manage(own_address: None) -> Iterator[Callable[..., ClientManager]]:
    """Makes client managers, and stops them after the test."""
    managers: list[ClientManager] = []

    def make(client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET) -> ClientManager:
        managers.append(ClientManager(client_id, client_secret))
        return managers[-1]

    yield make
    for manager in managers:
        manager.stop(timeout=2)


@pytest.fixture
def connected(gateway: Gateway, manage: Callable[..., ClientManager]) -> Callable[..., ClientManager]:
    """Connects a handler and returns its manager."""

    def connect(handler: Any) -> ClientManager:
        manager = manage()
        manager.start(handler)
        assert manager.wait_ready(10)
        return manager

    return connect


@pytest.fixture
def receive(gateway: Gateway, connected: Callable[..., ClientManager]) -> Callable[..., CallbackMessage]:
    """Somebody writes; returns the message as it comes off a connection, unanswered. Takes what `Gateway.say` takes."""
    mailbox = Mailbox()

    def say(text: str = "why?", /, **options: Any) -> CallbackMessage:
        if mailbox.dingtalk_client is None:
            connected(mailbox)
        before = len(mailbox.callbacks)
        gateway.say(text, **options)
        gateway.wait_for(lambda: len(mailbox.callbacks) > before, what="the message")
        return mailbox.callbacks[before]

    return say


@pytest.fixture
def make_handler(host: FakeHost) -> Iterator[Callable[..., TextHandler]]:
    """Makes handlers that belong to a client which is not connected. `options` are keys of config.json."""
    handlers: list[TextHandler] = []

    def make(kind: type[TextHandler] = TextHandler, *, store: Any = None, **options: Any) -> TextHandler:
        handler = kind(host.element(ELEMENT), {**CONFIG, **options}, store=store)
        handler.dingtalk_client = stream_client.StreamClient(Credential(CLIENT_ID, CLIENT_SECRET))
        handlers.append(handler)
        return handler

    yield make
    for handler in handlers:
        handler.close(Deadline(2))
