"""What is said before the first question, of good credentials and of all that may be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import dingtalk_stream.utils
import pytest

from imRobots.dingTalkStreamType.config import DingTalkConfig
from tests.dingtalk.helpers import Peer, http
from tests.fakes.certificates import PrivateCA
from tests.fakes.gateway import CARD_TOPIC, MESSAGE_TOPIC, OPEN, TOKEN, Gateway
from tests.sandbox.dingtalk.preflight import _SENTENCES, Line, preflight

ID, SECRET = "ding-demo", "demo-secret"
NAMES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this computer's proxies nor its patience."""
    for name in (*NAMES, *map(str.upper, NAMES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("imRobots.dingTalkStreamType.network._SECONDS", 0.1)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with Gateway() as gateway:
        reach(monkeypatch, gateway.url)
        yield gateway
        assert gateway.protocol_errors == []


def reach(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", url)


def look(client_id: str = ID, client_secret: str = SECRET, config: DingTalkConfig | None = None) -> list[Line]:
    """The lines, of which none may tell the secret, and each is in two languages."""
    lines = preflight(client_id, client_secret, config)
    for line in lines:
        assert SECRET not in line.en + line.zh
        assert HAN.search(line.zh)
        assert not re.search(r"[{}]", line.en + line.zh)
    return lines


def problem(lines: list[Line], begins: str, *parts: str) -> None:
    """The last line says so, and nothing comes after a problem."""
    line = lines[-1]
    assert line.ok is False
    assert line.en.startswith(begins)
    for part in parts:
        assert part in line.en


def test_good_credentials(gateway: Gateway) -> None:
    variables, token, opened, others, permissions = look()
    assert variables == (
        True,
        "DINGTALK_CLIENT_ID and DINGTALK_CLIENT_SECRET are set and look right.",
        "DINGTALK_CLIENT_ID 和 DINGTALK_CLIENT_SECRET 已设置，看起来没有问题。",
    )
    assert token == (
        True,
        "Access token: granted (HTTP 200), valid for 2 h.",
        "访问令牌：已获取（HTTP 200），有效期 2 小时。",
    )
    assert opened.ok is True
    assert "(HTTP 200) with the endpoint 127.0.0.1 and a ticket" in opened.en
    assert others.ok is permissions.ok is True
    assert others.en.startswith("Note: ")
    assert permissions.en.startswith("Not checked, ")
    assert "same Client ID" in others.en
    assert "Card.Instance.Write, Card.Streaming.Write and qyapi_robot_sendmsg" in permissions.en
    assert gateway._tickets.keys().isdisjoint(re.findall(r"[\w-]{36}", str(opened)))


def test_it_asks_as_the_robot_does_and_nothing_more(gateway: Gateway) -> None:
    look()
    assert [call.path for call in gateway.calls] == [TOKEN, OPEN]
    assert gateway.calls[1].body["subscriptions"] == [
        {"type": "CALLBACK", "topic": MESSAGE_TOPIC},
        {"type": "CALLBACK", "topic": CARD_TOPIC},
    ]
    assert (gateway.connections(), gateway.month_calls) == (0, 0)


@pytest.mark.parametrize(
    ("client_id", "client_secret", "said"),
    [
        ("", SECRET, ["DINGTALK_CLIENT_ID is not set, or empty"]),
        (ID, " \n", ["DINGTALK_CLIENT_SECRET is not set, or empty"]),
        ("", "", ["DINGTALK_CLIENT_ID is not set", "DINGTALK_CLIENT_SECRET is not set"]),
    ],
)
def test_without_a_variable_nobody_is_asked(
    gateway: Gateway, client_id: str, client_secret: str, said: list[str]
) -> None:
    lines = look(client_id, client_secret)
    assert [line.ok for line in lines] == [False] * len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line.en
    assert gateway.calls == []


@pytest.mark.parametrize(
    ("client_id", "client_secret", "said"),
    [
        (f" {ID}", SECRET, "DINGTALK_CLIENT_ID has blanks or line breaks in it."),
        (ID, f"{SECRET}\n", "DINGTALK_CLIENT_SECRET has blanks or line breaks in it."),
        (f'"{ID}"', SECRET, "DINGTALK_CLIENT_ID has quotation marks in it."),
        (ID, f"“{SECRET}”", "DINGTALK_CLIENT_SECRET has quotation marks in it."),
        ("{{DINGTALK_CLIENT_ID}}", SECRET, "DINGTALK_CLIENT_ID looks like a placeholder."),
        ("<Client-ID>", SECRET, "DINGTALK_CLIENT_ID looks like a placeholder."),
        ("dingxxxxxxxx", SECRET, "DINGTALK_CLIENT_ID looks like a placeholder."),
        (ID, "$DINGTALK_SECRET", "DINGTALK_CLIENT_SECRET looks like a placeholder."),
        (ID, "your-secret", "DINGTALK_CLIENT_SECRET looks like a placeholder."),
        (SECRET, ID, "DINGTALK_CLIENT_ID and DINGTALK_CLIENT_SECRET look swapped"),
        (ID, ID, "DINGTALK_CLIENT_ID and DINGTALK_CLIENT_SECRET have the same value."),
    ],
)
def test_what_looks_wrong_is_said_and_dingtalk_has_the_last_word(
    gateway: Gateway, client_id: str, client_secret: str, said: str
) -> None:
    first, *_, last = look(client_id, client_secret)
    assert first.ok is False
    assert first.en.startswith(said)
    problem([last], "Access token: DingTalk refused: HTTP 400 invalidClientIdOrSecret 无效的clientId或者clientSecret.")


def test_a_wrong_secret(gateway: Gateway) -> None:
    lines = look(client_secret="another")
    assert len(lines) == 2
    problem(lines, "Access token: DingTalk refused: HTTP 400", "do not belong together", "Copy both anew from Basic")
    assert "Client ID 与 Client Secret 不匹配" in lines[-1].zh


@pytest.mark.parametrize(
    ("path", "status", "code", "parts"),
    [
        (TOKEN, 403, "Forbidden.AccessDenied.IpNotInWhiteList", ["not on the application's list"]),
        (TOKEN, 400, "somethingNew", ["Access token: DingTalk refused: HTTP 400 somethingNew said DingTalk. See"]),
        (TOKEN, 403, "Forbidden.AccessDenied.QpsLimitForApi", ["Too many calls"]),
        (OPEN, 400, "param.error", ["published", "Stream mode", "address is allowed"]),
        (OPEN, 401, "authFailed", ["do not belong together"]),
        (OPEN, 403, "Forbidden.AccessDenied.IpNotInWhiteList", ["not on the application's list"]),
        (OPEN, 500, "system.busy", ["is in trouble: HTTP 500 system.busy said DingTalk. Try again later."]),
    ],
)
def test_refusals(gateway: Gateway, path: str, status: int, code: str, parts: list[str]) -> None:
    gateway.refuse(path, status=status, code=code, message="said DingTalk")
    refused = look()[1 if path == TOKEN else 2]
    problem([refused], "Access token: " if path == TOKEN else "Stream gateway: ", f"HTTP {status} {code}", *parts)


def test_a_refused_token_does_not_keep_it_from_asking_the_gateway(gateway: Gateway) -> None:
    gateway.refuse(TOKEN, status=400, code="somethingNew")
    assert [line.ok for line in look()] == [True, False, True, True, True]


@pytest.mark.parametrize("path", [TOKEN, OPEN])
def test_no_answer(gateway: Gateway, path: str) -> None:
    gateway.trouble(path, "reset")
    problem(look(), "Access token: no" if path == TOKEN else "Stream gateway: no", gateway.url[7:], "ProtocolError")
    gateway.trouble(path, "hang", seconds=5)
    problem(
        look(), "Access token: no" if path == TOKEN else "Stream gateway: no", gateway.url[7:], "Timeout", "NO_PROXY"
    )


@pytest.mark.parametrize("path", [TOKEN, OPEN])
def test_an_answer_of_somebody_else(gateway: Gateway, path: str) -> None:
    gateway.trouble(path, "garbage")
    problem(look(), "", "gave an answer that is none of DingTalk's: HTTP 200. Something on the way")


def test_an_answer_that_lacks_what_it_is_for(gateway: Gateway) -> None:
    gateway.refuse(OPEN, status=200, code="0", body={"endpoint": "wss://somewhere"})
    problem(look(), "Stream gateway: it answered HTTP 200 without an endpoint and a ticket.")
    gateway.refuse(TOKEN, status=200, code="0", body={"accessToken": None})
    problem(look(), "Access token: 127.0.0.1:", "none of DingTalk's")


def test_a_black_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer.answering(None) as peer:
        reach(monkeypatch, f"http://{peer.address}")
        lines = look()
    assert len(lines) == 2
    problem(lines, f"Access token: no answer of {peer.address}: ReadTimeoutError")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, "http://127.0.0.1:1")
    problem(look(), "Access token: no answer of 127.0.0.1:1: NewConnectionError", "Is there a network")


def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, "http://dingtalk.invalid")
    wants = http(b"", "407 Proxy Authentication Required")
    with Peer.answering(wants) as peer:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass1word@{peer.address}")
        lines = look()
    problem(lines, f"Access token: dingtalk.invalid (proxy {peer.address}) cannot be reached: the proxy wants a user")
    assert "pass1word" not in str(lines)
    config = DingTalkConfig(agent="a", clientId=ID, clientSecret=SECRET, proxy="socks5://127.0.0.1:1")
    problem(look(config=config), "Access token: no answer of dingtalk.invalid (proxy 127.0.0.1:1)")
    monkeypatch.setenv("HTTP_PROXY", "socks4://127.0.0.1:1")
    problem(look(), "Access token: dingtalk.invalid cannot be reached: the environment", "the way through the proxy")


def test_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca, other = PrivateCA(), tmp_path / "other"
    other.mkdir()
    with Gateway(tls=ca.server_context()) as gateway:
        reach(monkeypatch, gateway.url)
        options = {"agent": "a", "clientId": ID, "clientSecret": SECRET}
        trusting = DingTalkConfig(**options, caFile=str(ca.write_bundle(tmp_path)))
        assert [line.ok for line in look(config=trusting)][:3] == [True, True, True]
        strange = DingTalkConfig(**options, caFile=str(PrivateCA().write_bundle(other)))
        problem(look(config=strange), "Access token: 127.0.0.1:", "the server's certificate is not trusted", "clock")


def test_the_sentences_of_both_languages_tell_the_same_facts() -> None:
    for key, sentences in _SENTENCES.items():
        english, chinese = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in sentences)
        assert english - {"where"} == chinese, key
