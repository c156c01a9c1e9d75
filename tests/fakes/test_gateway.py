"""The stand-in DingTalk itself: it must refuse what the platform refuses, or the other tests prove nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.fakes import gateway as gateway_module
from tests.fakes.gateway import MESSAGE_TOPIC, OPEN, SEND_CARD, TOKEN, UPDATE_CARD, Gateway

SECRETS = {"clientId": "ding-demo", "clientSecret": "demo-secret"}
MESSAGES = {"type": "CALLBACK", "topic": MESSAGE_TOPIC}


class Robot:
    """The least that can talk to the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.http = requests.Session()
        self.http.trust_env = False
        self.sockets = ExitStack()
        self.token = ""

    def close(self) -> None:
        self.sockets.close()
        self.http.close()

    def call(self, method: str, path: str, body: Any, **headers: str) -> requests.Response:
        headers = {"x-acs-dingtalk-access-token": self.token, "Accept": "application/json"} | headers
        url = path if path.startswith("http") else self.gateway.url + path
        return self.http.request(method, url, json=body, headers=headers, timeout=5)

    def open(self, *subscriptions: dict[str, str]) -> str:
        answer = self.call("POST", OPEN, {**SECRETS, "subscriptions": subscriptions or [MESSAGES]}).json()
        return f"{answer['endpoint']}?ticket={answer['ticket']}"

    def connect(self, *subscriptions: dict[str, str]) -> ClientConnection:
        count = self.gateway.connections() + 1
        socket = self.enter(self.open(*subscriptions))
        self.gateway.wait_for(lambda: self.gateway.connections() == count)
        return socket

    def enter(self, uri: str) -> ClientConnection:
        # Without a limit of the queue: frames that nobody reads must not hold up the closing.
        return self.sockets.enter_context(connect(uri, proxy=None, max_queue=None))

    def log_in(self) -> None:
        self.token = self.call("POST", TOKEN, {"appKey": "ding-demo", "appSecret": "demo-secret"}).json()["accessToken"]

    def send(self, **changes: Any) -> requests.Response:
        body = {
            "cardTemplateId": "StandardCard",
            "robotCode": "ding-demo",
            "cardBizId": "card-1",
            "cardData": card_data("thinking"),
            **changes,
        }
        return self.call("POST", SEND_CARD, {name: value for name, value in body.items() if value is not None})

    def update(self, card_id: str, data: str) -> requests.Response:
        return self.call("PUT", UPDATE_CARD, {"cardBizId": card_id, "cardData": data})


def card_data(text: str, *buttons: dict[str, Any], title: str = "why?") -> str:
    contents: list[dict[str, Any]] = [{"type": "markdown", "text": text, "id": "m"}]
    if buttons:
        contents.append({"type": "action", "actions": list(buttons), "id": "a"})
    return json.dumps({"config": {}, "header": {"title": {"type": "text", "text": title}}, "contents": contents})


def rating(label: str, message_id: str) -> dict[str, Any]:
    return {"type": "button", "label": {"text": label}, "value": json.dumps({"message_id": message_id})}


def ack(frame: dict[str, Any], **changes: Any) -> str:
    headers = {"contentType": "application/json", "messageId": frame["headers"].get("messageId")}
    return json.dumps({"code": 200, "message": "OK", "headers": headers, "data": '{"response": null}', **changes})


def receive(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(socket.recv(timeout=5))
    return frame


def message(socket: ClientConnection) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(receive(socket)["data"])
    return data


def code(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway


@pytest.fixture
def robot(gateway: Gateway) -> Iterator[Robot]:
    robot = Robot(gateway)
    yield robot
    robot.close()


# ---- opening


def test_open_without_the_accept_header_answers_xml(robot: Robot) -> None:
    answer = robot.call("POST", OPEN, {**SECRETS, "subscriptions": []}, Accept="*/*")
    assert (answer.status_code, answer.headers["Content-Type"][:15]) == (200, "application/xml")


def test_open_refuses_a_wrong_secret(robot: Robot) -> None:
    answer = robot.call("POST", OPEN, {**SECRETS, "clientSecret": "x", "subscriptions": []})
    assert code(answer) == (401, "authFailed")
    assert robot.gateway.calls[-1].code == "authFailed"


def test_a_ticket_opens_one_connection(robot: Robot) -> None:
    uri = robot.open()
    robot.enter(uri)
    with pytest.raises(InvalidStatus):
        robot.enter(uri)


def test_a_ticket_gets_old(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "TICKET_SECONDS", 0)
    with pytest.raises(InvalidStatus):
        robot.enter(robot.open())


# ---- pushes


def test_a_group_message_looks_like_dingtalks(robot: Robot) -> None:
    socket = robot.connect()
    msg_id = robot.gateway.say("hello")
    frame = receive(socket)
    data = json.loads(frame["data"])
    assert (frame["type"], frame["specVersion"], frame["headers"]["topic"]) == ("CALLBACK", "1.0", MESSAGE_TOPIC)
    assert frame["headers"]["time"].isdigit()
    assert data["msgId"] == msg_id
    assert data["text"] == {"content": " hello"}
    assert (data["conversationType"], data["isInAtList"], data["conversationTitle"]) == ("2", True, "Test group")
    assert (data["senderNick"], data["senderStaffId"], data["senderId"]) == ("Ann", "staff-Ann", "$:LWCP_v1:$Ann")
    assert data["sessionWebhookExpiredTime"] - data["createAt"] == 90 * 60 * 1000
    assert {msg_id, frame["headers"]["messageId"]} == set(robot.gateway.pushed)


def test_people_outside_and_one_to_one(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.say("hello", group=False, staff=False)
    data = message(socket)
    assert data["conversationType"] == "1"
    assert data["text"] == {"content": "hello"}
    assert not {"senderStaffId", "conversationTitle", "isInAtList"} & set(data)
    assert data["senderCorpId"] != data["chatbotCorpId"]


def test_an_unpublished_robot_learns_no_staff_id(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.published = False
    robot.gateway.say("hello")
    assert "senderStaffId" not in message(socket)


def test_odd_messages_can_be_made(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.say("x", text=None, errorCode=20001, message_id="again", conversation="cid-x")
    data = message(socket)
    assert "text" not in data
    assert (data["errorCode"], data["msgId"], data["conversationId"]) == (20001, "again", "cid-x")


def test_nobody_there_nobody_subscribed(robot: Robot) -> None:
    with pytest.raises(AssertionError, match="no open connection"):
        robot.gateway.say("hello")
    robot.connect()
    with pytest.raises(AssertionError, match="nobody subscribed"):
        robot.gateway.callback({}, topic="/v1.0/card/instances/callback")
    with pytest.raises(AssertionError, match="nobody subscribed"):
        robot.gateway.push({"type": "EVENT", "headers": {"topic": "*"}, "data": "{}"})


def test_only_the_subscriber_gets_a_topic(robot: Robot) -> None:
    robot.connect({"type": "EVENT", "topic": "*"})
    socket = robot.connect()
    for number in range(10):
        robot.gateway.callback({"number": number})
    assert [message(socket)["number"] for _ in range(10)] == list(range(10))


def test_messages_are_spread_over_the_connections(robot: Robot) -> None:
    sockets = [robot.connect(), robot.connect()]
    pushed_ids = {robot.gateway.callback({}) for _ in range(40)}
    for socket in sockets:
        socket.send(ack(receive(socket)))
    robot.gateway.wait_for(lambda: len(robot.gateway.acks) == 2)
    assert set(robot.gateway.acks) < pushed_ids
    assert len({record.connection for record in robot.gateway.acks.values()}) == 2


def test_raw_frames(robot: Robot) -> None:
    socket = robot.connect()
    for frame in ("{broken", b"\x00\x01", {"type": "SYSTEM", "headers": {}}):
        robot.gateway.push(frame)
    assert [socket.recv(timeout=5) for _ in range(3)] == ["{broken", b"\x00\x01", '{"type": "SYSTEM", "headers": {}}']


# ---- acknowledgements


def test_an_acknowledgement_is_recorded(robot: Robot) -> None:
    socket = robot.connect()
    ping = robot.gateway.system("ping", {"opaque": "42"})
    frame = receive(socket)
    assert "specVersion" not in frame
    socket.send(ack(frame, data=frame["data"]))
    record = robot.gateway.wait_for(lambda: robot.gateway.acks.get(ping))
    assert record is not None
    assert (record.code, record.message, json.loads(record.data)) == (200, "OK", {"opaque": "42"})
    assert record.at >= robot.gateway.pushed[ping]
    assert robot.gateway.protocol_errors == []


def test_what_is_no_acknowledgement_is_a_protocol_error(robot: Robot) -> None:
    socket, other = robot.connect(), robot.connect({"type": "EVENT", "topic": "*"})
    robot.gateway.callback({})
    frame = receive(socket)
    other.send(ack(frame))  # the wrong connection
    robot.gateway.wait_for(lambda: len(robot.gateway.protocol_errors) == 1)
    wrong: list[str | bytes] = [
        "{",
        "[]",
        b"{}",
        ack(frame, code="200"),
        ack(frame, code=True),
        ack(frame, data={"response": None}),
        ack(frame, headers=None),
        ack(frame, headers={"messageId": []}),
        ack({"headers": {"messageId": "unheard of"}}),
    ]
    for text in wrong:
        socket.send(text)
    robot.gateway.wait_for(lambda: len(robot.gateway.protocol_errors) == 1 + len(wrong))
    assert robot.gateway.acks == {}
    socket.send(ack(frame))
    socket.send(ack(frame))  # once is enough
    robot.gateway.wait_for(lambda: len(robot.gateway.protocol_errors) == 2 + len(wrong))
    assert len(robot.gateway.acks) == 1


# ---- connections come and go


def test_disconnect_silences_and_then_closes(robot: Robot) -> None:
    robot.gateway.disconnect_grace = 0.1
    socket = robot.connect()
    assert robot.gateway.system("disconnect") == ""
    assert receive(socket)["headers"].keys() == {"appId", "connectionId", "contentType", "topic"}
    with pytest.raises(AssertionError, match="no open connection"):
        robot.gateway.say("hello")
    with pytest.raises(AssertionError, match="get messages"):
        robot.gateway.wait_connected(timeout=0)
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=5)
    robot.gateway.wait_for(lambda: robot.gateway.connections() == 0)


def test_late_acknowledgements_after_disconnect_count(robot: Robot) -> None:
    socket = robot.connect()
    frame_id = robot.gateway.callback({})
    robot.gateway.system("disconnect")
    socket.send(ack(receive(socket)))
    robot.gateway.wait_for(lambda: frame_id in robot.gateway.acks)


@pytest.mark.parametrize(("code", "seen"), [(None, None), (1011, 1011)])
def test_connections_can_be_dropped(robot: Robot, code: int | None, seen: int | None) -> None:
    sockets = [robot.connect(), robot.connect()]
    robot.gateway.drop_connections(code)
    assert robot.gateway.connections() == 0
    for socket in sockets:
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=5)
        assert (closed.value.rcvd.code if closed.value.rcvd else None) == seen
    robot.connect()
    assert robot.gateway.connections() == 1


def test_the_robot_may_close(robot: Robot) -> None:
    robot.connect().close()
    robot.gateway.wait_for(lambda: robot.gateway.connections() == 0)
    assert robot.gateway.protocol_errors == []


# ---- token


def test_token(robot: Robot) -> None:
    wrong = robot.call("POST", TOKEN, {"appKey": "ding-demo", "appSecret": "x"})
    assert code(wrong) == (400, "invalidClientIdOrSecret")
    robot.log_in()
    first = robot.token
    robot.log_in()
    assert robot.token == first
    assert code(robot.update("card-1", card_data(""))) == (400, "cardInstance.notExist")
    robot.gateway.expire_tokens()
    assert code(robot.update("card-1", card_data(""))) == (400, "InvalidAuthentication")
    robot.token = ""
    assert code(robot.send()) == (400, "InvalidAuthentication")
    robot.log_in()
    assert robot.token != first


# ---- cards


@pytest.fixture
def conversation(robot: Robot) -> str:
    """A group in which Ann has asked "why?"; the robot is logged in."""
    socket = robot.connect()
    robot.gateway.say("why?", message_id="msg-1")
    robot.log_in()
    return str(message(socket)["conversationId"])


def test_the_life_of_a_card(robot: Robot, conversation: str) -> None:
    changes: list[tuple[str, str]] = []
    robot.gateway.on_change = lambda card: changes.append((card.state, card.text))
    at_users = json.dumps([{"nickName": "Ann", "userId": "staff-Ann"}])
    answer = robot.send(openConversationId=conversation, sendOptions={"atUserListJson": at_users, "atAll": False})
    assert answer.status_code == 200 and answer.json()["processQueryKey"]
    card = robot.gateway.card_for("why?", state="thinking")
    assert (card.id, card.conversation, card.title, card.text) == ("card-1", conversation, "why?", "thinking")
    assert card.send_body["robotCode"] == "ding-demo"
    robot.update(card.id, card_data("Because"))
    assert card.state == "growing"
    robot.update(card.id, card_data("Because.", rating("Good", "msg-1")))
    assert robot.gateway.card_for("msg-1", state="final") is card
    assert changes == [("thinking", "thinking"), ("growing", "Because"), ("final", "Because.")]
    assert [state.text for state in card.states] == ["thinking", "Because", "Because."]
    assert card.created_at <= card.states[1].at <= card.states[2].at
    assert robot.gateway.click(card, "Good") is False
    assert [(clicked.id, button["label"]["text"]) for clicked, button in robot.gateway.clicks] == [("card-1", "Good")]
    with pytest.raises(AssertionError, match="no button 'Bad'"):
        robot.gateway.click(card, "Bad")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"cardTemplateId": "x.schema"}, "template.isNotExist"),
        ({"robotCode": None}, "invalid.robotCode"),
        ({"cardData": {"config": {}, "header": {}, "contents": []}}, "param.isNotJson"),
        ({"cardData": '{"config": {}, "header": {}}'}, "param.isNotJson"),
        ({"cardData": '{"config": {}, "header": {}, "contents": [NaN]}'}, "param.isNotJson"),
        ({"cardBizId": None}, "invalid.bizId"),
        ({"cardBizId": "x" * 101}, "invalid.bizId"),
        ({"openConversationId": "cid-unknown"}, "invalid.openConversationId"),
        ({"openConversationId": None}, "param.error"),
        ({"singleChatReceiver": '{"userId": "staff-Ann"}'}, "param.error"),
        ({"openConversationId": None, "singleChatReceiver": '{"userId": null}'}, "invalid.user"),
        ({"openConversationId": None, "singleChatReceiver": '{"userId": "staff-Nobody"}'}, "invalid.user"),
        ({"openConversationId": None, "singleChatReceiver": {"userId": "staff-Ann"}}, "invalid.user"),
        ({"sendOptions": {"atUserListJson": '[{"nickName": "Ann", "userId": null}]'}}, "param.error"),
        ({"sendOptions": {"atUserListJson": [{"userId": "staff-Ann"}]}}, "param.error"),
        ({"sendOptions": []}, None),
    ],
)
def test_refused_cards(robot: Robot, conversation: str, wrong: dict[str, Any], expected: str | None) -> None:
    answer = robot.send(**{"openConversationId": conversation, **wrong})
    assert (answer.status_code, answer.json().get("code")) == ((400, expected) if expected else (200, None))
    assert len(robot.gateway.cards) == (0 if expected else 1)


def test_a_card_id_is_used_once(robot: Robot, conversation: str) -> None:
    assert robot.send(openConversationId=conversation).status_code == 200
    assert code(robot.send(openConversationId=conversation)) == (400, "invalid.bizId")
    assert code(robot.update("card-1", "{}")) == (400, "param.isNotJson")


def test_a_one_to_one_card_goes_to_a_person(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.say("why?", group=False)
    conversation = message(socket)["conversationId"]
    robot.log_in()
    assert code(robot.send(openConversationId=conversation)) == (400, "invalid.openConversationId")
    assert robot.send(singleChatReceiver='{"userId": "staff-Ann"}').status_code == 200
    assert robot.gateway.cards["card-1"].conversation == conversation


# ---- webhook


def test_webhook(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.say("hi", conversation="cid-7")
    url = message(socket)["sessionWebhook"]
    text = {"msgtype": "text", "text": {"content": "Hello"}}
    markdown = {"msgtype": "markdown", "markdown": {"title": "T", "text": "# Hello"}}
    assert robot.call("POST", url, text).json() == {"errcode": 0, "errmsg": "ok"}
    assert robot.call("POST", url, markdown).json()["errcode"] == 0
    seen = [(webhook.conversation, webhook.kind, webhook.text) for webhook in robot.gateway.webhooks]
    assert seen == [("cid-7", "text", "Hello"), ("cid-7", "markdown", "# Hello")]
    assert robot.gateway.webhooks[0].body == text
    long = {"msgtype": "text", "text": {"content": "x" * 20_000}}
    assert robot.call("POST", url, long).json()["errcode"] == 460101
    for bad in ({"msgtype": "image"}, {"msgtype": "text"}, {"msgtype": "text", "text": {"content": ""}}, {}):
        assert robot.call("POST", url, bad).json()["errcode"] == 40035
    unknown = robot.call("POST", url + "x", text)
    assert (unknown.status_code, unknown.json()["errcode"]) == (200, 300001)
    robot.gateway.webhook_lifetime = 0
    robot.gateway.say("hi")
    assert robot.call("POST", message(socket)["sessionWebhook"], text).json()["errcode"] == 300001
    assert robot.gateway.calls[-1].code == "300001"
    assert len(robot.gateway.webhooks) == 2


# ---- any call


def test_bodies_have_to_be_json_objects(robot: Robot) -> None:
    url = robot.gateway.url + TOKEN
    good = json.dumps({"appKey": "ding-demo", "appSecret": "demo-secret"}).encode()
    declared = {"Content-Type": "application/json; charset=utf-8"}
    assert robot.http.post(url, data=good, headers=declared, timeout=5).status_code == 200
    for body, headers in [
        (good, {}),
        (b"[]", declared),
        (b"{", declared),
        (b'{"a": "\xff"}', declared),
        (b"", declared),
    ]:
        assert robot.http.post(url, data=body, headers=headers, timeout=5).status_code == 400


def test_there_is_nothing_else(robot: Robot) -> None:
    assert robot.call("POST", "/v1.0/card/instances", {}).status_code == 404
    assert robot.call("GET", SEND_CARD, {}).status_code == 404
    call = robot.gateway.calls[-1]
    assert (call.method, call.path, call.status, call.headers["accept"]) == ("GET", SEND_CARD, 404, "application/json")


def test_refusals_are_used_up(robot: Robot) -> None:
    robot.gateway.refuse("oauth2", status=500, code="system.busy", times=2)
    robot.gateway.refuse("sendBySession", status=200, code="-1")
    login = {"appKey": "ding-demo", "appSecret": "demo-secret"}
    assert [robot.call("POST", TOKEN, login).status_code for _ in range(3)] == [500, 500, 200]
    assert robot.call("POST", "/robot/sendBySession?session=x", {}).json() == {"errcode": -1, "errmsg": "refused"}


def test_throttle_counts_per_path(robot: Robot) -> None:
    robot.log_in()
    robot.gateway.throttle = 2
    codes = [code(robot.update("x", "{}"))[0] for _ in range(4)]
    assert codes == [400, 400, 403, 403]
    assert robot.gateway.calls[-1].code == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
    assert code(robot.send()) != (403, robot.gateway.calls[-1].code)


def test_latency_comes_between_arrival_and_answer(robot: Robot, conversation: str) -> None:
    robot.gateway.latency = 0.2
    begun = time.monotonic()
    robot.send(openConversationId=conversation)
    assert time.monotonic() - begun >= 0.2
    assert robot.gateway.calls[-1].at - begun < 0.2 <= robot.gateway.cards["card-1"].created_at - begun + 0.02


# ---- waiting and stopping


def test_waiting_ends_with_the_change_and_says_what_was_missing(robot: Robot) -> None:
    timer = threading.Timer(0.05, robot.log_in)
    timer.start()
    call = robot.gateway.wait_for(lambda: [call for call in robot.gateway.calls if call.status == 200])[0]
    timer.join()
    assert call.path == TOKEN
    with pytest.raises(AssertionError, match=r"in vain for 3 connection.*0 connection\(s\)"):
        robot.gateway.wait_connected(3, timeout=0.01)
    with pytest.raises(AssertionError, match="a card"):
        robot.gateway.card_for("never asked", timeout=0.01)


def test_stop_is_quick_and_may_be_repeated() -> None:
    gateway = Gateway(latency=60)
    gateway.start()
    robot = Robot(gateway)

    def hang() -> None:
        with pytest.raises(requests.ConnectionError):
            robot.log_in()

    hanging = threading.Thread(target=hang)
    hanging.start()
    gateway.wait_for(lambda: gateway.calls)
    begun = time.monotonic()
    gateway.stop()
    gateway.stop()
    assert time.monotonic() - begun < 2
    hanging.join()
    robot.close()


def test_two_gateways_know_different_things(robot: Robot) -> None:
    with Gateway() as other:
        second = Robot(other)
        seen = []
        for one in (robot, second):
            socket = one.connect()
            one.gateway.say("hi")
            seen.append(message(socket))
        for name in ("msgId", "conversationId", "sessionWebhook"):
            assert seen[0][name] != seen[1][name]
        second.close()
