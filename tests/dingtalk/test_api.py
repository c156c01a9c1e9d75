"""Calls to DingTalk: one token, typed errors, UTF-8, and no secret in any error."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import dingtalk_stream.utils
import pytest
from dingtalk_stream import CallbackMessage, Credential

from imRobots.dingTalkStreamType import api as api_module
from imRobots.dingTalkStreamType import network
from imRobots.dingTalkStreamType.api import Api
from imRobots.dingTalkStreamType.cards import answer_card, to_json
from imRobots.Meta import AuthError, RateLimited, ReplyRefused, TransportError, Unconfirmed
from tests.dingtalk.helpers import CLIENT_ID, CLIENT_SECRET, Peer, http, in_time, text_of
from tests.fakes.gateway import OPEN, SEND_CARD, TOKEN, UPDATE_CARD, WEBHOOK, Gateway

Receive = Callable[..., CallbackMessage]
OK = http(b'{"errcode": 0, "errmsg": "ok", "accessToken": "token-1", "expireIn": 7200}')


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api(Credential(CLIENT_ID, CLIENT_SECRET))
    yield api
    api.close()


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


@pytest.mark.parametrize(
    "refusal",
    [(400, "InvalidAuthentication"), (401, "unauthorized"), (200, "40014"), (200, "42001"), (400, "40014")],
    ids=str,
)
def test_an_expired_token_is_renewed_once_for_many_threads(
    gateway: Gateway, api: Api, receive: Receive, refusal: tuple[int, str]
) -> None:
    gateway.token_refusal = refusal
    conversation = receive().data["conversationId"]
    api.send_card(card(conversation))
    gateway.expire_tokens()
    gateway.latency = 0.05
    answers = at_once(20, lambda: api.send_card(card(conversation)))
    assert all("processQueryKey" in answer for answer in answers), answers
    assert len(calls(gateway, TOKEN)) == 2
    assert calls(gateway, SEND_CARD).count(refusal) == 20
    assert calls(gateway, SEND_CARD).count((200, "")) == 21


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
    with pytest.raises(AuthError, match="a new token is refused as well"):
        api.update_card({"cardBizId": "c", "cardData": "{}"})
    assert len(calls(gateway, UPDATE_CARD)) == 2
    assert len(calls(gateway, TOKEN)) == 2


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
        (500, "system.error", Unconfirmed),
        (503, "system.busy", Unconfirmed),
        (504, "gateway.timeout", Unconfirmed),
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


NO_WORD = "no way"
CARD = {"cardBizId": "c", "cardData": "{}"}
DENIED = "Forbidden.AccessDenied."


@pytest.mark.parametrize(
    ("status", "code", "cause", "named"),
    [
        (403, DENIED + "AccessTokenPermissionDenied", "permission", "grant the permission"),
        (200, "60011", "permission", "grant the permission"),
        (200, "88", "permission", "grant the permission"),
        (403, DENIED + "IpNotInWhiteList", "address", "allowed"),
        (200, "60020", "address", "allowed"),
        (403, DENIED + "ApiCountLimitForOrg", "quota", "month"),
        (200, "90020", "quota", "month"),
        (400, "param.error", "message", ""),
        (400, "param.isNotJson", "message", ""),
        (400, "invalid.user", "message", ""),
        (400, "invalid.openConversationId", "message", ""),
        (400, "invalidParameter.msgParam.tooLong", "message", ""),
        (400, "staffId.notExisted", "message", ""),
        (400, "robot.oto.notExist", "message", ""),
        (400, "group.disbanded", "message", ""),
        (400, "conversation.org.notMatch", "message", ""),
        (400, "contain.unsafe.url", "message", ""),
        (400, "cardInstance.notExist", "message", ""),
        (200, "300001", "message", ""),
        (200, "460101", "message", ""),
        (400, "template.isNotExist", "unknown", ""),
        (403, "app.tooNew", "unknown", ""),
        (404, "InvalidAction.NotFound", "unknown", ""),
        (400, "", "unknown", ""),
    ],
)
def test_a_refusal_says_what_stands_in_the_way(
    gateway: Gateway, api: Api, status: int, code: str, cause: str, named: str
) -> None:
    gateway.refuse(UPDATE_CARD, status=status, code=code, message=NO_WORD)
    with pytest.raises(ReplyRefused) as caught:
        api.update_card(CARD)
    assert (type(caught.value), caught.value.code, caught.value.cause) == (ReplyRefused, code, cause)
    for part in ("PUT", UPDATE_CARD, f"HTTP {status}", code, NO_WORD, named):
        assert part in str(caught.value)


FLOOD = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "xxx"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, FLOOD, RateLimited),
        (403, FLOOD, RateLimited),
        (200, {**FLOOD, "status": "1111"}, RateLimited),
        (200, {"errcode": 90018, "errmsg": ""}, RateLimited),
        (200, {"errcode": 90002}, RateLimited),
        (200, {"errcode": 410100}, RateLimited),
        (200, {"errcode": 88, "sub_code": "90018"}, RateLimited),
        (200, {"errcode": 88, "sub_code": 90020}, ReplyRefused),
        (200, {"errcode": 88, "sub_code": "60011", "sub_msg": "x"}, ReplyRefused),
        (400, {"code": "too.many.group"}, RateLimited),
        (400, {"code": "too.many.people"}, RateLimited),
        (429, {}, RateLimited),
        (200, {"errcode": -1}, Unconfirmed),
        (400, {"code": "system.busy"}, Unconfirmed),
        (200, {"success": False}, ReplyRefused),
        (200, {"success": False, "code": "system.error"}, Unconfirmed),
        (200, {"success": True, "result": {"deliverResults": [{"success": False, "errorMsg": "gone"}]}}, ReplyRefused),
        (200, {"result": {"deliverResults": [{"success": True}, {"success": False}]}}, ReplyRefused),
        (401, {"code": "authFailed"}, AuthError),
        (400, {"code": "invalidClientIdOrSecret"}, AuthError),
    ],
    ids=str,
)
def test_an_error_counts_in_whatever_shape_it_comes(
    gateway: Gateway, api: Api, status: int, body: dict[str, Any], kind: type[Exception]
) -> None:
    gateway.refuse(UPDATE_CARD, status=status, code="", body=body)
    with pytest.raises(kind) as caught:
        api.update_card(CARD)
    assert caught.type is kind
    assert calls(gateway, UPDATE_CARD) == [(status, "")], "and is not tried again here"


def test_what_could_not_be_delivered_says_why(gateway: Gateway, api: Api) -> None:
    failed = {"spaceId": "cid", "success": False, "errorMsg": "the group is gone"}
    gateway.refuse(UPDATE_CARD, status=200, code="", body={"success": True, "result": {"deliverResults": [failed]}})
    with pytest.raises(ReplyRefused, match="the group is gone") as caught:
        api.update_card(CARD)
    assert caught.value.cause == "message"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"errcode": 0, "errmsg": "ok"},
        {"errcode": "0"},
        {"code": None, "success": True},
        {"success": True, "result": {"deliverResults": [{"success": True}]}},
        {"result": [1]},
        {"result": {"deliverResults": None}},
        {"result": {"deliverResults": ["x", {}]}},
    ],
    ids=str,
)
def test_an_answer_without_an_error_is_a_success(gateway: Gateway, api: Api, body: dict[str, Any]) -> None:
    gateway.refuse(UPDATE_CARD, status=200, code="", body=body)
    assert api.update_card(CARD) == body


def test_the_missing_permissions_are_named_and_the_request_too(gateway: Gateway, api: Api) -> None:
    detail = {"requiredScopes": ["Card.Instance.Write", "qyapi_robot_sendmsg"]}
    body = {"code": "Forbidden", "requestid": "request-7", "accessdenieddetail": detail}
    gateway.refuse(UPDATE_CARD, status=403, code="Forbidden", body=body)
    with pytest.raises(ReplyRefused) as caught:
        api.update_card(CARD)
    assert caught.value.cause == "permission"
    assert "Card.Instance.Write, qyapi_robot_sendmsg" in str(caught.value) and "request-7" in str(caught.value)


@pytest.mark.parametrize("status", ["400 Bad", "403 Forbidden", "404 Not Found", "408 Timeout", "413 Too Large"])
def test_a_page_that_is_not_dingtalks_is_no_refusal_of_dingtalks(api: Api, status: str) -> None:
    page = http(b"<html>blocked by your organization</html>", status)
    with Peer.answering(page) as peer, pytest.raises((TransportError, ReplyRefused)) as caught:
        api.post_to_webhook(f"http://{peer.address}/robot", {"msgtype": "text"})
    assert isinstance(caught.value, TransportError)


def test_a_connection_that_is_refused_says_what_to_look_at(gateway: Gateway, api: Api) -> None:
    gateway.refuse(OPEN, status=400, code="some.code", message=NO_WORD)
    with pytest.raises(ReplyRefused) as caught:
        api.open_connection({})
    assert (caught.value.code, caught.value.cause) == ("some.code", "unknown")
    for part in (NO_WORD, "developer console", "published", "Stream mode", "address"):
        assert part in str(caught.value)


def test_everybody_who_waits_for_a_token_hears_what_stands_in_the_way(gateway: Gateway, api: Api) -> None:
    gateway.refuse(TOKEN, status=403, code=DENIED + "IpNotInWhiteList", times=99, delay=0.2)
    errors = at_once(5, api.token)
    assert {(error.code, error.cause) for error in errors} == {(DENIED + "IpNotInWhiteList", "address")}


# ---- counts


def test_calls_are_counted_by_api_and_so_are_refusals(gateway: Gateway, api: Api, receive: Receive) -> None:
    callback = receive()
    assert api.status() == {}
    api.send_card(card(callback.data["conversationId"]))
    gateway.refuse(SEND_CARD, status=400, code="param.error")
    gateway.trouble(SEND_CARD, "reset")
    for _ in range(2):
        with pytest.raises((ReplyRefused, TransportError)):
            api.send_card(card(callback.data["conversationId"]))
    gateway.expire_tokens()
    with pytest.raises(ReplyRefused):  # first for its token, then for itself
        api.update_card(CARD)
    api.post_to_webhook(callback.data["sessionWebhook"], {"msgtype": "text", "text": {"content": "hi"}})
    assert api.status() == {
        TOKEN: {"made": 2, "refused": 0},
        SEND_CARD: {"made": 3, "refused": 2},
        UPDATE_CARD: {"made": 2, "refused": 2},
        WEBHOOK: {"made": 1, "refused": 0},
    }


def test_what_counts_against_the_month_is_counted_as_dingtalk_does(gateway: Gateway, receive: Receive) -> None:
    group, alone = receive(sender="Bob").data, receive(sender="Bob", group=False).data
    counted: list[int] = []
    api = Api(Credential(CLIENT_ID, CLIENT_SECRET), on_counted=lambda: counted.append(1))
    body = card(group["conversationId"])
    message = {"robotCode": CLIENT_ID, "msgKey": "sampleText", "msgParam": '{"content": "hi"}'}
    api.token()
    api.open_connection({"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "subscriptions": []})
    api.post_to_webhook(alone["sessionWebhook"], {"msgtype": "text", "text": {"content": "hi"}})
    assert counted == [], "tokens, connections and webhooks are no calls of an API"
    for call in (
        lambda: api.send_card(body),
        lambda: api.update_card(body),
        lambda: api.send_to_group({**message, "openConversationId": group["conversationId"]}),
        lambda: api.send_to_people({**message, "userIds": ["staff-Bob"]}),
    ):
        before = len(counted)
        call()
        assert len(counted) == before + 1
        gateway.refuse("", status=403, code="x.QpsLimit")
        with pytest.raises(RateLimited):
            call()
        assert len(counted) == before + 1, "what was throttled is not counted"
    assert len(counted) == gateway.month_calls == 4


def test_calls_count_wherever_the_openapi_is(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    api = Api(Credential(CLIENT_ID, CLIENT_SECRET), on_counted=lambda: counted.append(1))
    with Peer.answering(OK) as peer:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{peer.address}/proxy")
        api.update_card(CARD)
    assert counted == [1]


def test_somebody_who_is_unknown_or_slowed_down_was_not_sent_anything(gateway: Gateway, api: Api) -> None:
    gateway.flow_controlled = {"staff-Bob"}
    gateway._staff["staff-Bob"] = "cid-bob"
    message = {"robotCode": CLIENT_ID, "msgKey": "sampleText", "msgParam": '{"content": "hi"}'}
    with pytest.raises(RateLimited, match="held back"):
        api.send_to_people({**message, "userIds": ["staff-Bob"]})
    with pytest.raises(ReplyRefused, match="not delivered"):
        api.send_to_people({**message, "userIds": ["nobody"]})
    assert gateway.sent == []


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
    [("-1", Unconfirmed), ("300001", ReplyRefused), ("460101", ReplyRefused), ("40035", ReplyRefused)],
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


@pytest.mark.parametrize(
    "address",
    [
        "robot?session=the-session",
        "",
        "http://[::1/robot?session=the-session",
        "http://host:99999/robot?session=the-session",
        "http://host:x/robot?session=the-session",
        "ftp://host/robot?session=the-session",
    ],
)
def test_a_webhook_that_is_no_address_is_refused_without_being_shown(api: Api, address: str) -> None:
    with pytest.raises(ReplyRefused) as caught:
        api.post_to_webhook(address, {"msgtype": "text"})
    assert "the-session" not in str(caught.value) and caught.value.__cause__ is None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(network, "_SECONDS", 0.2)
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
    assert 1 < network._SECONDS <= 10


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
