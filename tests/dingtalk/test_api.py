"""Calls to DingTalk: one token, typed errors, UTF-8, and no secret in any error."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dingtalk_stream.utils
import pytest
import urllib3
from dingtalk_stream import CallbackMessage, Credential

from imRobots.dingTalkStreamType import api as api_module
from imRobots.dingTalkStreamType.api import Api
from imRobots.dingTalkStreamType.cards import answer_card, to_json
from imRobots.Meta import AuthError, RateLimited, ReplyRefused, TransportError
from tests.dingtalk.helpers import CLIENT_ID, CLIENT_SECRET, Peer, http, in_time, text_of
from tests.fakes.gateway import OPEN, SEND_CARD, TOKEN, UPDATE_CARD, WEBHOOK, Gateway

Receive = Callable[..., CallbackMessage]
OK = http(b'{"errcode": 0, "errmsg": "ok", "accessToken": "token-1", "expireIn": 7200}')


@pytest.fixture
def api() -> Api:
    return Api(Credential(CLIENT_ID, CLIENT_SECRET))


def calls(gateway: Gateway, path: str) -> list[tuple[int, str]]:
    return [(call.status, call.code) for call in list(gateway.calls) if call.path == path]


def card(conversation: str = "", question: str = "why?") -> dict[str, Any]:
    return {
        "cardTemplateId": "StandardCard",
        "robotCode": CLIENT_ID,
        "cardBizId": uuid.uuid4().hex,
        "cardData": to_json(answer_card(question, "because", 1)),
        "openConversationId": conversation,
    }


def at_once(number: int, action: Callable[[], Any]) -> list[Any]:
    """The results (or errors) of so many threads that start together."""
    together, results = threading.Barrier(number), []

    def run() -> None:
        together.wait()
        try:
            results.append(action())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ---- the access token


def test_one_token_is_fetched_for_many_threads(gateway: Gateway, api: Api) -> None:
    gateway.latency = 0.1
    tokens = at_once(20, api.token)
    assert len(set(tokens)) == 1
    assert calls(gateway, TOKEN) == [(200, "")]
    assert gateway.calls[0].body == {"appKey": CLIENT_ID, "appSecret": CLIENT_SECRET}


def test_a_token_is_used_until_5_minutes_before_its_end(
    gateway: Gateway, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(api_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    api.token()
    clock.now += 7200 - 300 - 1
    api.token()
    assert len(calls(gateway, TOKEN)) == 1
    clock.now += 1
    api.token()
    assert len(calls(gateway, TOKEN)) == 2


def test_everybody_who_waits_for_a_token_hears_of_its_failure_at_once(gateway: Gateway, api: Api) -> None:
    gateway.refuse(TOKEN, status=500, code="system.error", times=100, delay=0.5)
    together = threading.Barrier(10)
    errors: list[Exception] = []

    def ask() -> None:
        together.wait(10)
        try:
            api.token()
        except TransportError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 10
    assert len([call for call in gateway.calls if call.path == TOKEN]) < 4


def test_an_expired_token_is_renewed_once_for_many_threads(gateway: Gateway, api: Api, receive: Receive) -> None:
    conversation = receive().data["conversationId"]
    api.send_card(card(conversation))
    gateway.expire_tokens()
    gateway.latency = 0.1
    answers = at_once(10, lambda: api.send_card(card(conversation)))
    assert all("processQueryKey" in answer for answer in answers), answers
    assert len(calls(gateway, TOKEN)) == 2
    assert calls(gateway, SEND_CARD).count((400, "InvalidAuthentication")) == 10
    assert calls(gateway, SEND_CARD).count((200, "")) == 11


@pytest.mark.parametrize(
    ("status", "code"), [(400, "InvalidAuthentication"), (401, "unauthorized"), (400, "40014"), (400, "42001")]
)
def test_a_call_that_is_refused_for_its_token_is_made_again_with_a_new_one(
    gateway: Gateway, api: Api, receive: Receive, status: int, code: str
) -> None:
    conversation = receive().data["conversationId"]
    gateway.refuse(SEND_CARD, status=status, code=code)
    api.send_card(card(conversation, "again?"))
    assert calls(gateway, SEND_CARD) == [(status, code), (200, "")]
    assert len(calls(gateway, TOKEN)) == 2
    assert gateway.card_for("again?").text == "because"


def test_a_call_that_is_refused_twice_for_its_token_is_not_made_a_third_time(gateway: Gateway, api: Api) -> None:
    gateway.refuse(UPDATE_CARD, status=400, code="InvalidAuthentication", times=9)
    with pytest.raises(ReplyRefused):
        api.update_card({"cardBizId": "c", "cardData": "{}"})
    assert len(calls(gateway, UPDATE_CARD)) == 2


def test_after_a_failure_to_get_a_token_the_next_call_gets_one(gateway: Gateway, api: Api) -> None:
    gateway.refuse(TOKEN, status=500, code="system.error")
    with pytest.raises(TransportError):
        api.token()
    assert api.token()


# ---- what goes well


def test_a_card_is_sent_and_updated(gateway: Gateway, api: Api, receive: Receive) -> None:
    body = card(receive().data["conversationId"], "how?")
    assert api.send_card(body)["processQueryKey"]
    data = to_json(answer_card("how?", "like this", 2))
    assert api.update_card({"cardBizId": body["cardBizId"], "cardData": data})["processQueryKey"]
    assert [state.text for state in gateway.card_for("how?").states] == ["because", "like this"]


def test_a_sentence_goes_through_the_webhook_without_a_token(gateway: Gateway, api: Api, receive: Receive) -> None:
    callback = receive()
    api.post_to_webhook(callback.data["sessionWebhook"], {"msgtype": "text", "text": {"content": "hi"}})
    assert [(hook.text, hook.conversation) for hook in gateway.webhooks] == [("hi", callback.data["conversationId"])]
    assert calls(gateway, TOKEN) == []
    assert "x-acs-dingtalk-access-token" not in gateway.calls[-1].headers


def test_a_connection_is_opened_with_the_credentials(gateway: Gateway, api: Api) -> None:
    body = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "subscriptions": []}
    answer = api.open_connection(body)
    assert answer["endpoint"].startswith("ws://127.0.0.1") and answer["ticket"]


# ---- what goes wrong


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", RateLimited),
        (403, "Forbidden.AccessDenied.QpsLimitForApi", RateLimited),
        (403, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi", RateLimited),
        (429, "system.busy", RateLimited),
        (400, "send.too.fast", RateLimited),
        (400, "send.byToken.tooFast", RateLimited),
        (500, "system.error", TransportError),
        (503, "system.busy", TransportError),
        (504, "gateway.timeout", TransportError),
        (400, "param.error", ReplyRefused),
        (400, "cardInstance.notExist", ReplyRefused),
        (404, "InvalidAction.NotFound", ReplyRefused),
        (403, "Forbidden.AccessDenied.AccessTokenPermissionDenied", ReplyRefused),
        (403, "Forbidden.AccessDenied.IpNotInWhiteList", ReplyRefused),
        (400, "invalidClientIdOrSecret", AuthError),
        (401, "authFailed", AuthError),
    ],
)
def test_each_refusal_of_a_card_is_its_own_kind_of_error(
    gateway: Gateway, api: Api, status: int, code: str, kind: type[Exception]
) -> None:
    gateway.refuse(UPDATE_CARD, status=status, code=code, message="no way")
    with pytest.raises(kind) as caught:
        api.update_card({"cardBizId": "c", "cardData": "{}"})
    assert caught.type is kind
    for part in ("PUT", UPDATE_CARD, str(status), code, "no way"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "path", "status", "code"),
    [
        (lambda api: api.token(), TOKEN, 400, "invalidClientIdOrSecret"),
        (lambda api: api.open_connection({"clientId": CLIENT_ID, "clientSecret": "wrong"}), OPEN, 401, "authFailed"),
    ],
    ids=["token", "open"],
)
def test_wrong_credentials_are_an_error_that_names_both_keys(
    gateway: Gateway, ask: Callable[[Api], Any], path: str, status: int, code: str
) -> None:
    with pytest.raises(AuthError) as caught:
        ask(Api(Credential(CLIENT_ID, "wrong")))
    assert calls(gateway, path) == [(status, code)], "the same credentials are not tried again"
    assert "clientId" in str(caught.value) and "clientSecret" in str(caught.value)


def test_an_unexplained_401_for_the_credentials_is_about_them_too(gateway: Gateway, api: Api) -> None:
    gateway.refuse(TOKEN, status=401, code="")
    with pytest.raises(AuthError):
        api.token()


@pytest.mark.parametrize(
    ("code", "kind"),
    [("-1", TransportError), ("300001", ReplyRefused), ("460101", ReplyRefused), ("40035", ReplyRefused)],
)
def test_a_webhooks_errcode_counts_although_its_status_is_200(
    gateway: Gateway, api: Api, code: str, kind: type[Exception]
) -> None:
    gateway.refuse(WEBHOOK, status=200, code=code, message="not today")
    with pytest.raises(kind) as caught:
        api.post_to_webhook(f"{gateway.url}{WEBHOOK}?session=s", {"msgtype": "text", "text": {"content": "hi"}})
    assert caught.type is kind
    assert "not today" in str(caught.value)
    assert gateway.webhooks == []


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<response/>"),
        http(b"[1]"),
        http(b""),
        http(b"\xff\xfe"),
        http(b"<html>bad gateway</html>", "502 Bad Gateway"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"what is HTTP?\r\n\r\n",
        b"",
    ],
    ids=["xml", "list", "nothing", "bytes", "html", "half", "no-http", "closed"],
)
def test_an_answer_that_is_none_is_worth_another_try(api: Api, answer: bytes) -> None:
    with Peer.answering(answer) as peer, pytest.raises(TransportError):
        api.post_to_webhook(f"http://{peer.address}/robot", {"msgtype": "text"})


@pytest.mark.parametrize(
    "answer", [{}, {"accessToken": None, "expireIn": 7200}, {"accessToken": "t"}, {"accessToken": "t", "expireIn": "x"}]
)
def test_an_answer_without_a_token_is_worth_another_try(
    api: Api, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    with Peer.answering(http(json.dumps(answer).encode())) as peer, pytest.raises(TransportError):
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{peer.address}")
        api.token()


def test_a_webhook_that_is_no_address_is_refused_without_being_shown(api: Api) -> None:
    with pytest.raises(ReplyRefused) as caught:
        api.post_to_webhook("http://host:99999/robot?session=the-session", {"msgtype": "text"})
    assert "the-session" not in str(caught.value) and caught.value.__cause__ is None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(api_module, "_TIMEOUT", urllib3.Timeout(total=0.2))
    return Api(Credential(CLIENT_ID, CLIENT_SECRET))


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.token(),
        lambda api: api.open_connection({}),
        lambda api: api.send_card({}),
        lambda api: api.update_card({}),
        lambda api: api.post_to_webhook(dingtalk_stream.utils.DINGTALK_OPENAPI_ENDPOINT + "/robot", {}),
    ],
    ids=["token", "open", "send", "update", "webhook"],
)
def test_a_peer_that_never_answers_is_given_up(
    impatient: Api, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Api], Any]
) -> None:
    def attempt() -> TransportError:
        with pytest.raises(TransportError) as caught:
            ask(impatient)
        return caught.value

    with Peer.answering(None) as peer:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{peer.address}")
        error = in_time(attempt)
    assert "Timeout" in str(error)


def test_every_call_has_a_limit_of_time() -> None:
    assert api_module._TIMEOUT.connect_timeout <= 10
    assert api_module._TIMEOUT.total <= 10


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_refused_connection_is_worth_another_try(api: Api, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{nobody}")
    for ask in (api.token, lambda: api.open_connection({}), lambda: api.post_to_webhook(f"http://{nobody}/robot", {})):
        with pytest.raises(TransportError):
            ask()


# ---- secrets


def test_no_error_text_holds_a_secret(
    gateway: Gateway, impatient: Api, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, token, session = impatient, impatient.token(), uuid.uuid4().hex
    body = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "subscriptions": []}
    message = {"msgtype": "text", "text": {"content": "hi"}}
    errors = []

    def attempt_all(address: str) -> None:
        webhook = f"{address}{WEBHOOK}?session={session}"
        for ask in (
            lambda: api.open_connection(body),
            lambda: api.update_card({"cardBizId": "c"}),
            lambda: api.post_to_webhook(webhook, message),
        ):
            with pytest.raises((AuthError, TransportError, ReplyRefused)) as caught:
                ask()
            errors.append(caught.value)

    for path in (OPEN, UPDATE_CARD, WEBHOOK):
        for status, code in [(400, "param.error"), (403, "x.QpsLimit"), (401, "authFailed"), (500, "system.error")]:
            gateway.refuse(path, status=status, code=code)
    for _ in range(4):
        attempt_all(gateway.url)
    with pytest.raises(ReplyRefused) as caught:  # no such session
        api.post_to_webhook(f"{gateway.url}{WEBHOOK}?session={session}", message)
    errors.append(caught.value)
    with pytest.raises(AuthError) as refused:
        Api(Credential("other", CLIENT_SECRET)).token()
    errors.append(refused.value)
    with Peer.answering(None) as silent:
        for address in (silent.address, nobody):
            monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{address}")
            attempt_all(f"http://{address}")

    assert len(errors) == 20
    for error in errors:
        for secret in (CLIENT_SECRET, token, session):
            assert secret not in text_of(error)


# ---- bytes


def test_chinese_goes_out_as_utf_8_and_is_not_escaped(api: Api) -> None:
    with Peer.answering(OK) as peer:
        api.post_to_webhook(f"http://{peer.address}/robot", {"text": {"content": "你好 😄"}})
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert '"你好 😄"'.encode() in body
    assert b"content-type: application/json" in head.lower()
    assert b"accept: application/json" in head.lower()


@pytest.mark.parametrize(
    ("text", "arrives"),
    [("half \ud83d", "half \ufffd"), ("\ude04 half", "\ufffd half"), ("whole \ud83d\ude04", "whole 😄")],
)
def test_half_an_emoji_does_not_stop_a_message(api: Api, text: str, arrives: str) -> None:
    with Peer.answering(OK) as peer:
        api.post_to_webhook(f"http://{peer.address}/robot", {"text": {"content": f"你好 {text}"}})
    body = json.loads(peer.requests[0].partition(b"\r\n\r\n")[2].decode("utf-8"))
    assert body == {"text": {"content": f"你好 {arrives}"}}


def test_the_address_of_the_openapi_is_the_sdks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer.answering(OK) as peer:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{peer.address}/proxy")
        assert api.token() == "token-1"
    assert peer.requests[0].startswith(b"POST /proxy/v1.0/oauth2/accessToken HTTP/1.1\r\n")
