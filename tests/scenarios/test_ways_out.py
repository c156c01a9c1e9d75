"""The robot behind a proxy and a private certificate authority: the connection and the calls go the same way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dingtalk_stream.utils
import pytest

from tests.fakes.certificates import PrivateCA
from tests.fakes.gateway import CREATE_CARD, OPEN, SEND_CARD, Gateway
from tests.fakes.proxies import HttpProxy, Socks5Proxy
from tests.scenarios.conftest import Scene, staged

PASSWORD = "pa:ss/word@1"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(scope="module")
def authority() -> PrivateCA:
    return PrivateCA()


@pytest.fixture
def bundle(authority: PrivateCA, tmp_path: Path) -> str:
    return str(authority.write_bundle(tmp_path))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def secure(authority: PrivateCA, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """DingTalk with HTTPS and WSS, at a name that only a proxy can look up if `at` is used."""
    with Gateway(tls=authority.server_context()) as gateway:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
        monkeypatch.setattr(dingtalk_stream.DingTalkStreamClient, "get_host_ip", lambda self: "127.0.0.1")
        yield from staged(gateway)


def proxy_of(kind: str) -> Any:
    return HttpProxy("user", PASSWORD) if kind == "http" else Socks5Proxy("user", PASSWORD)


def targets(proxy: Any) -> set[int]:
    return {request.port for request in proxy.requests}


def port_of(scene: Scene) -> int:
    return int(scene.gateway.url.rpartition(":")[2])


def answered(scene: Scene, question: str) -> bool:
    scene.say(question)
    return scene.card(question).text == "Hello!"


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
def test_everything_goes_through_the_configured_proxy(secure: Scene, bundle: str, kind: str) -> None:
    with proxy_of(kind) as proxy:
        secure.boot(proxy=proxy.url_with("user", PASSWORD, scheme=kind), caFile=bundle)
        assert answered(secure, "Through a proxy?")
        assert targets(proxy) == {port_of(secure)}
        assert proxy.tunnels >= 2  # the connection, and the calls
        assert all(request.user == "user" for request in proxy.requests)
        proxy.cut()
        secure.gateway.wait_for(lambda: secure.gateway.count(OPEN) == 2, what="the next connection")
        assert secure.connections() == 1
        assert answered(secure, "Through it again?")
        secure.manager.stop()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_everything_goes_through_the_proxy_of_the_environment(
    secure: Scene, bundle: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with proxy_of("http") as http, proxy_of("socks5") as socks:
        proxy = http if variable == "HTTPS_PROXY" else socks
        monkeypatch.setenv(variable, proxy.url_with("user", PASSWORD))
        monkeypatch.setenv("SSL_CERT_FILE", bundle)
        secure.boot()
        assert answered(secure, "Through a proxy?")
        assert targets(proxy) == {port_of(secure)} and proxy.tunnels >= 2
        secure.manager.stop()


def test_what_the_environment_excepts_goes_straight(
    secure: Scene, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_of("http") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        secure.boot()
        assert answered(secure, "Straight?")
        assert not proxy.requests


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("password", ["", "wrong-password"])
def test_a_proxy_that_wants_another_password_is_reported_once_with_what_to_do(
    secure: Scene, bundle: str, kind: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.stream_client._SLOW_SECONDS", 0.1)
    with proxy_of(kind) as proxy:
        url = proxy.url_with("user", password, scheme=kind) if password else proxy.url
        secure.host.write("imRobots.dingTalkDemo", "config.json", _with(secure, proxy=url, caFile=bundle))
        secure.host.boot()
        message = secure.wait_logged("error", "wants a user and a password").message
        assert "`proxy`" in message
        secure.wait_logged("debug", "wants a user and a password")  # tried again
        assert len(secure.host.logged("error")) == 1
        assert not any("wrong-password" in record.message for record in secure.host.records)


def test_an_untrusted_certificate_is_reported_once_with_what_to_do(
    secure: Scene, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.stream_client._SLOW_SECONDS", 0.1)
    secure.host.boot()
    assert "`caFile`" in secure.wait_logged("error", "is not trusted").message
    secure.wait_logged("debug", "is not trusted")
    assert len(secure.host.logged("error")) == 1
    assert secure.gateway.count(OPEN) == 0
    secure.host.save("imRobots.dingTalkDemo", "config.json", _with(secure, caFile=bundle))
    secure.gateway.wait_connected()
    assert answered(secure, "Trusted now?")


def test_no_secret_is_in_any_log_at_any_level(
    secure: Scene, bundle: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a proxy with a password, with every logger at DEBUG, with refusals and broken calls of every kind."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.Logger.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    monkeypatch.setattr("imRobots.Meta.outbox.backoff", lambda first, limit: iter([0.01] * 1000))
    gateway = secure.gateway
    with proxy_of("http") as proxy:
        secure.boot(proxy=proxy.url_with("user", PASSWORD), caFile=bundle)
        for kind in ("reset", "lost", "garbage"):
            gateway.trouble(SEND_CARD, kind)
            gateway.trouble("/robot/sendBySession", kind)
        gateway.expire_tokens()
        assert answered(secure, "In trouble?")
        for path in (SEND_CARD, CREATE_CARD):
            gateway.refuse(path, status=403, code="Forbidden.AccessDenied.AccessTokenPermissionDenied")
        secure.say("Without a card?")
        assert "Hello!" in secure.sentence()
        gateway.push("garbage")
        gateway.system("ping")
        gateway.drop_connections()
        gateway.wait_connected()
        reply = secure.manager.handler.reply_text("by the SDK's own method", _message_to_nowhere(gateway))
        assert reply is None
        handler, status = secure.manager.handler, secure.manager.status()
        shown = [handler, handler.api, handler.api.network, handler._settings, handler.ladder, handler.store]
        shown += [secure.manager, secure.manager.client, secure.manager.client.websocket, status]
        token = gateway._token[0]
        secure.manager.stop()
    secrets = {gateway.client_secret, PASSWORD, "pa%3Ass%2Fword%401", token, *gateway._sessions, "the-hidden-session"}
    written = [record.getMessage() + str(record.exc_text or "") for record in caplog.records]
    written += [record.message + record.traceback for record in secure.host.records]
    written += [f"{thing!r} {thing}" for thing in shown]
    for secret in secrets:
        assert secret and not any(secret in line for line in written), secret
    assert not any("ticket=" in line and "ticket=***" not in line for line in written)


def _with(scene: Scene, **config: Any) -> str:
    import json

    demo = json.loads(scene.host.element("imRobots.dingTalkDemo").getFile("config.json"))
    return json.dumps({**demo, **config})


def _message_to_nowhere(gateway: Gateway) -> Any:
    address = "http://127.0.0.1:9/robot/sendBySession?session=the-hidden-session"
    return dingtalk_stream.ChatbotMessage.from_dict(
        {"msgtype": "text", "text": {"content": "?"}, "sessionWebhook": address, "senderStaffId": "staff-Ann"}
    )
