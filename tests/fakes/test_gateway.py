"""The stand-in DingTalk itself: it must refuse what the platform refuses, or the other tests prove nothing."""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.fakes import gateway as gateway_module
from tests.fakes.certificates import PrivateCA
from tests.fakes.gateway import (
    MESSAGE_TOPIC,
    OPEN,
    SEND_CARD,
    SEND_TO_GROUP,
    SEND_TO_PEOPLE,
    TOKEN,
    UPDATE_CARD,
    WEBHOOK,
    Gateway,
)
from tests.fakes.robot import SECRETS, Robot, ack, card_data, code, message, receive


def rating(label: str, message_id: str) -> dict[str, Any]:
    return {"type": "button", "label": {"text": label}, "value": json.dumps({"message_id": message_id})}


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


def test_a_field_of_a_message_can_be_set(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.say("/help")
    robot.gateway.say("/help", isAdmin=True)
    assert [message(socket)["isAdmin"] for _ in range(2)] == [False, True]


def test_a_message_can_be_delivered_again(robot: Robot) -> None:
    socket = robot.connect()
    msg_id = robot.gateway.say("why?")
    again = robot.gateway.redeliver(msg_id)
    first, second = receive(socket), receive(socket)
    assert first["data"] == second["data"]
    assert second["headers"]["messageId"] == again != first["headers"]["messageId"]
    for frame in (first, second):
        socket.send(ack(frame))
    robot.gateway.wait_for(lambda: len(robot.gateway.acks) == 2)
    webhook = json.loads(second["data"])["sessionWebhook"]
    assert robot.call("POST", webhook, {"msgtype": "text", "text": {"content": "x"}}).json()["errcode"] == 0


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


def test_a_connection_can_be_closed_at_once(robot: Robot) -> None:
    robot.gateway.close_at_once = True
    socket = robot.enter(robot.open())
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=5)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    assert robot.gateway.connections() == 0
    robot.gateway.close_at_once = False
    robot.connect()


def test_pings_are_answered(robot: Robot) -> None:
    socket = robot.connect()
    assert socket.ping().wait(5)
    socket.pong()  # an unasked one is no protocol error
    assert socket.ping().wait(5)
    assert robot.gateway.protocol_errors == []


def test_a_half_open_connection_is_dead_and_does_not_know(robot: Robot) -> None:
    dead = robot.connect()
    before = robot.gateway.callback({})
    frame = receive(dead)
    robot.gateway.freeze()
    assert robot.gateway.connections() == 0
    with pytest.raises(AssertionError, match="get messages"):
        robot.gateway.wait_connected(timeout=0)
    lost = robot.gateway.say("is anybody there?")  # nobody, but DingTalk believes so
    assert lost in robot.gateway.pushed
    dead.send(ack(frame))
    pong = dead.ping()
    healthy = robot.connect()
    robot.gateway.freeze(False)
    for _ in range(20):
        robot.gateway.callback({})
    assert [message(healthy) for _ in range(20)] == [{}] * 20
    assert healthy.ping().wait(5)
    with pytest.raises(TimeoutError):
        dead.recv(timeout=0.1)
    assert not pong.is_set()
    assert before not in robot.gateway.acks
    robot.gateway.drop_connections(1001)
    for socket, clean in ((dead, False), (healthy, True)):
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=5)
        assert (closed.value.rcvd is not None) == clean


def test_a_half_open_connection_cannot_be_closed_in_good_order(robot: Robot) -> None:
    dead = robot.enter(robot.open(), close_timeout=0.05)
    robot.gateway.wait_connected()
    robot.gateway.freeze()
    dead.close()
    with pytest.raises(ConnectionClosed) as closed:
        dead.recv(timeout=5)
    assert closed.value.sent is not None
    assert closed.value.rcvd is None


def test_stop_does_not_wait_for_the_half_open() -> None:
    with Gateway() as gateway:
        robot = Robot(gateway)
        robot.connect()
        gateway.freeze()
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    robot.close()


def test_with_certificates(tmp_path: Path) -> None:
    authority = PrivateCA()
    bundle = authority.write_bundle(tmp_path)
    with Gateway(tls=authority.server_context()) as gateway:
        robot = Robot(gateway)
        assert gateway.url.startswith("https://")
        with pytest.raises(requests.exceptions.SSLError):
            robot.log_in()
        robot.http.verify = str(bundle)
        uri = robot.open()
        assert uri.startswith("wss://")
        socket = robot.enter(uri, ssl=ssl.create_default_context(cafile=str(bundle)))
        gateway.wait_connected()
        gateway.say("hi")
        assert message(socket)["sessionWebhook"].startswith("https://")
        gateway.trouble(TOKEN, "reset")
        with pytest.raises(requests.ConnectionError):
            robot.log_in()
        gateway.freeze()
        pong = socket.ping()
        gateway.drop_connections()
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
        assert not pong.is_set()
        robot.close()


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


@pytest.mark.parametrize("refusal", [(401, "Unauthorized"), (400, "40014"), (400, "42001")])
def test_how_a_token_is_refused_can_be_chosen(robot: Robot, refusal: tuple[int, str]) -> None:
    robot.gateway.token_refusal = refusal
    robot.token = "old"
    assert code(robot.update("card-1", card_data(""))) == refusal
    assert code(robot.write(SEND_TO_GROUP, "sampleText", {"content": "Hi"})) == refusal
    assert code(robot.write(SEND_TO_PEOPLE, "sampleText", {"content": "Hi"})) == refusal
    robot.log_in()
    assert code(robot.update("card-1", card_data(""))) == (400, "cardInstance.notExist")


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
    assert card.labels == ["Good"]
    assert robot.gateway.click(card, "Good", person="Bob") == ""
    [click] = robot.gateway.clicks
    assert (click.card, click.button["label"]["text"], click.person) == (card, "Good", "Bob")
    assert (click.delivered, click.frame_id) == (False, "")
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


def test_a_repeated_card_may_be_accepted_without_effect(robot: Robot, conversation: str) -> None:
    robot.gateway.repeated_card = "accept"
    changes: list[str] = []
    robot.gateway.on_change = lambda card: changes.append(card.text)
    robot.send(openConversationId=conversation)
    answer = robot.send(openConversationId=conversation, cardData=card_data("twice"))
    assert answer.status_code == 200 and answer.json()["processQueryKey"]
    assert changes == ["thinking"]
    assert [state.text for state in robot.gateway.cards["card-1"].states] == ["thinking"]
    assert code(robot.send(openConversationId="cid-unknown")) == (400, "invalid.openConversationId")


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


@pytest.mark.parametrize(
    "at", [{"atUserIds": [None]}, {"atUserIds": ["staff-Ann", 7]}, {"atUserIds": "staff-Ann"}, ["x"]]
)
def test_a_webhook_message_mentions_people_by_their_ids(robot: Robot, at: Any) -> None:
    socket = robot.connect()
    robot.gateway.say("hi")
    url = message(socket)["sessionWebhook"]
    body = {"msgtype": "text", "text": {"content": "Hello @None @7"}, "at": at}
    assert robot.call("POST", url, body).json()["errcode"] == 40035
    assert robot.gateway.webhooks == []


def test_only_who_stands_in_the_text_is_mentioned(robot: Robot) -> None:
    socket = robot.connect()
    robot.gateway.say("hi")
    url = message(socket)["sessionWebhook"]
    asked = ["staff-Ann", "staff-An", "staff.Bob", "staff-Eve", "+"]
    content = "@staff-Ann你好, staff-Eve @staffxBob @staff-Zoe @+"
    for body in (
        {"msgtype": "text", "text": {"content": content}, "at": {"atUserIds": asked}},
        {"msgtype": "markdown", "markdown": {"title": content, "text": "x @staff-Eve"}, "at": {"atUserIds": asked}},
        {"msgtype": "text", "text": {"content": content}, "at": None},
    ):
        assert robot.call("POST", url, body).json()["errcode"] == 0
    assert [webhook.mentions for webhook in robot.gateway.webhooks] == [["staff-Ann", "+"], ["staff-Eve"], []]


# ---- the robot's own messages


def test_what_is_said_to_a_group(robot: Robot, conversation: str) -> None:
    answer = robot.write(SEND_TO_GROUP, "sampleText", {"content": "Hi @staff-Ann"}, openConversationId=conversation)
    assert answer.status_code == 200 and answer.json()["processQueryKey"]
    robot.write(SEND_TO_GROUP, "sampleMarkdown", {"title": "T", "text": "# Hi"}, openConversationId=conversation)
    seen = [(sent.conversation, sent.kind, sent.text, sent.mentions) for sent in robot.gateway.sent]
    assert seen == [(conversation, "text", "Hi @staff-Ann", []), (conversation, "markdown", "# Hi", [])]
    assert robot.gateway.sent[0].body["msgKey"] == "sampleText"


def test_what_is_said_to_people(robot: Robot) -> None:
    socket = robot.connect()
    robot.log_in()
    for sender in ("Ann", "Bob", "Cid"):
        robot.gateway.say("why?", sender=sender, group=sender == "Bob", senderUnionId=f"union-{sender}")
    ann, bob, _ = (message(socket)["conversationId"] for _ in range(3))
    robot.gateway.flow_controlled = {"staff-Cid", "staff-Nobody"}
    people = ["staff-Nobody", "staff-Ann", "union-Ann", "staff-Bob", "staff-Cid"]
    answer = robot.write(SEND_TO_PEOPLE, "sampleText", {"content": "Hi"}, userIds=people)
    assert answer.status_code == 200
    assert answer.json()["invalidStaffIdList"] == ["staff-Nobody", "union-Ann"]
    assert answer.json()["flowControlledStaffIdList"] == ["staff-Cid"]
    to_ann, to_bob = robot.gateway.sent
    assert (to_ann.conversation, to_ann.text) == (ann, "Hi")
    assert to_bob.conversation not in (ann, bob)  # not the group, in which Bob wrote
    assert robot.gateway.said(ann) == [to_ann]


@pytest.mark.parametrize(
    ("path", "wrong", "expected"),
    [
        *[
            (path, wrong, expected)
            for path in (SEND_TO_GROUP, SEND_TO_PEOPLE)
            for wrong, expected in [
                ({}, None),
                ({"robotCode": None}, "invalidParameter.robotCode.empty"),
                ({"robotCode": "ding-other"}, "invalidParameter.robotCode.invalid"),
                ({"msgKey": "sampleLink"}, "invalidParameter.msgKey.invalid"),
                ({"msgKey": None}, "invalidParameter.msgKey.invalid"),
                ({"msgParam": '{"content": " "}'}, "invalidParameter.msgParam.invalid"),
                ({"msgParam": '{"content": 7}'}, "invalidParameter.msgParam.invalid"),
                ({"msgParam": {"content": "Hi"}}, "invalidParameter.msgParam.invalid"),
                ({"msgParam": "Hi"}, "invalidParameter.msgParam.invalid"),
                ({"msgKey": "sampleMarkdown", "msgParam": '{"text": "Hi"}'}, "invalidParameter.msgParam.invalid"),
                ({"msgParam": '{"content":"%s"}' % ("好" * 4995 + "a")}, None),
                ({"msgParam": '{"content":"%s"}' % ("好" * 4995 + "ab")}, "invalidParameter.msgParam.tooLong"),
            ]
        ],
        (SEND_TO_GROUP, {"openConversationId": "cid-unknown"}, "invalid.openConversationId"),
        (SEND_TO_GROUP, {"openConversationId": None}, "invalid.openConversationId"),
        (SEND_TO_PEOPLE, {"userIds": None}, "invalidParameter.userIds.empty"),
        (SEND_TO_PEOPLE, {"userIds": []}, "invalidParameter.userIds.empty"),
        (SEND_TO_PEOPLE, {"userIds": [None]}, "invalidParameter.userIds.empty"),
        (SEND_TO_PEOPLE, {"userIds": "staff-Ann"}, "invalidParameter.userIds.empty"),
        (SEND_TO_PEOPLE, {"userIds": ["staff-Ann"] * 21}, "invalidParameter.userIds.overMax"),
    ],
)
def test_refused_messages(
    robot: Robot, conversation: str, path: str, wrong: dict[str, Any], expected: str | None
) -> None:
    where = {"openConversationId": conversation} if path == SEND_TO_GROUP else {"userIds": ["staff-Ann"]}
    good = {"robotCode": "ding-demo", "msgKey": "sampleText", "msgParam": '{"content": "Hi"}', **where}
    body = {name: value for name, value in {**good, **wrong}.items() if value is not None}
    answer = robot.call("POST", path, body)
    assert (answer.status_code, answer.json().get("code")) == ((400, expected) if expected else (200, None))
    assert len(robot.gateway.sent) == (0 if expected else 1)


def test_all_that_was_said_in_the_order_of_time(robot: Robot) -> None:
    socket = robot.connect()
    robot.log_in()
    robot.gateway.say("hi")
    robot.gateway.say("hi", conversation="cid-other")
    first, second = message(socket), message(socket)
    for text in ("one", "three"):
        robot.call("POST", first["sessionWebhook"], {"msgtype": "text", "text": {"content": text}})
        group = first["conversationId"] if text == "one" else second["conversationId"]
        robot.write(SEND_TO_GROUP, "sampleText", {"content": f"after {text}"}, openConversationId=group)
    assert [said.text for said in robot.gateway.said()] == ["one", "after one", "three", "after three"]
    assert [said.text for said in robot.gateway.said("cid-other")] == ["after three"]


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
    assert robot.call("POST", "/v1.0/card/instances/spaces", {}).status_code == 404
    assert robot.call("GET", SEND_CARD, {}).status_code == 404
    call = robot.gateway.calls[-1]
    assert (call.method, call.path, call.status, call.headers["accept"]) == ("GET", SEND_CARD, 404, "application/json")


def test_refusals_are_used_up(robot: Robot) -> None:
    robot.gateway.refuse("oauth2", status=500, code="system.busy", times=2)
    robot.gateway.refuse("sendBySession", status=200, code="-1")
    login = {"appKey": "ding-demo", "appSecret": "demo-secret"}
    assert [robot.call("POST", TOKEN, login).status_code for _ in range(3)] == [500, 500, 200]
    assert robot.call("POST", "/robot/sendBySession?session=x", {}).json() == {"errcode": -1, "errmsg": "refused"}


def test_a_refusal_may_have_a_body_of_its_own_and_no_end(robot: Robot) -> None:
    robot.log_in()
    banned = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "x"}
    robot.gateway.refuse(UPDATE_CARD, status=403, code="", body=banned, times=math.inf)
    robot.gateway.refuse(SEND_CARD, status=200, code="", body={"success": False})
    for _ in range(3):
        answer = robot.update("x", card_data(""))
        assert (answer.status_code, answer.json()) == (403, banned)
    answer = robot.send()
    assert (answer.status_code, answer.json()) == (200, {"success": False})
    assert robot.gateway.cards == {}
    robot.gateway.calm()
    assert code(robot.update("x", card_data(""))) == (400, "cardInstance.notExist")


def test_calls_are_counted(robot: Robot) -> None:
    robot.log_in()
    robot.update("x", "{}")
    robot.call("POST", f"{WEBHOOK}?session=x", {})
    robot.gateway.refuse(TOKEN, status=200, code="", body={})
    robot.call("POST", TOKEN, {})
    count, refused = robot.gateway.count, robot.gateway.refused
    assert [count(path) for path in (TOKEN, UPDATE_CARD, WEBHOOK, SEND_CARD, "/v1.0")] == [2, 1, 1, 0, 0]
    assert [refused(path) for path in (TOKEN, UPDATE_CARD, WEBHOOK, SEND_CARD)] == [1, 1, 1, 0]
    assert refused() == 3
    assert [call.refused for call in robot.gateway.calls] == [False, True, True, True]


@pytest.fixture
def card(robot: Robot, conversation: str) -> Iterator[str]:
    """A card that can be updated."""
    robot.send(openConversationId=conversation)
    yield "card-1"


@pytest.mark.parametrize(("kind", "seen"), [("reset", "thinking"), ("lost", "grown")])
def test_a_connection_breaks_before_or_after_the_effect(robot: Robot, card: str, kind: Any, seen: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, kind)
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        robot.update(card, card_data("grown"))
    assert robot.gateway.cards[card].text == seen
    assert robot.gateway.calls[-1].status == (200 if kind == "lost" else 0)
    assert robot.update(card, card_data("again")).status_code == 200


def test_a_call_hangs_without_effect(robot: Robot, card: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, "hang", seconds=0.15)
    begun = time.monotonic()
    assert robot.update(card, card_data("grown")).status_code == 504
    assert time.monotonic() - begun >= 0.15
    assert robot.gateway.cards[card].text == "thinking"


def test_stop_does_not_wait_for_what_hangs_or_is_late() -> None:
    with Gateway() as gateway:
        gateway.trouble(TOKEN, "hang", seconds=math.inf)
        gateway.trouble(TOKEN, "late", seconds=60)
        for _ in range(2):
            robot = Robot(gateway)
            with pytest.raises(requests.ReadTimeout):
                robot.call("POST", TOKEN, {}, timeout=0.05)
            robot.close()
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert [call.status for call in gateway.calls] == [0, 0]


def test_a_late_update_lands_after_the_robot_has_given_up(robot: Robot, card: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, "late", seconds=0.2)
    with pytest.raises(requests.ReadTimeout):
        robot.call("PUT", UPDATE_CARD, {"cardBizId": card, "cardData": card_data("stale")}, timeout=0.05)
    robot.http.close()
    robot.update(card, card_data("newer"))
    assert robot.gateway.cards[card].text == "newer"
    robot.gateway.wait_for(lambda: robot.gateway.cards[card].text == "stale")
    late, newer = (call for call in robot.gateway.calls if call.path == UPDATE_CARD)
    assert (late.status, newer.status) == (200, 200)
    assert robot.gateway.cards[card].states[-1].at - late.at >= 0.2


def test_an_answer_trickles(robot: Robot, card: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, "trickle", times=2, seconds=0.001)
    begun = time.monotonic()
    answer = robot.update(card, card_data("grown"))
    assert robot.gateway.cards[card].text == "grown"
    assert answer.json()["processQueryKey"]
    assert time.monotonic() - begun >= 0.001 * (len(answer.content) - 1)
    assert code(robot.update("x", card_data(""))) == (400, "cardInstance.notExist")  # refusals trickle, too


def test_a_trickle_defeats_a_timeout_between_bytes(robot: Robot, card: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, "trickle", seconds=0.006)
    begun = time.monotonic()
    robot.call("PUT", UPDATE_CARD, {"cardBizId": card, "cardData": card_data("grown")}, timeout=0.2)
    assert time.monotonic() - begun > 0.3


def test_an_answer_is_garbage(robot: Robot, card: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, "garbage")
    answer = robot.update(card, card_data("grown"))
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert robot.gateway.cards[card].text == "grown"


def test_troubles_are_used_up_or_calmed(robot: Robot, card: str) -> None:
    robot.gateway.trouble(UPDATE_CARD, "garbage", times=2)
    answers = [robot.update(card, card_data("")) for _ in range(3)]
    assert [answer.text[0] for answer in answers] == ["<", "<", "{"]
    robot.gateway.trouble("interactiveCards", "garbage", times=math.inf)
    assert [robot.update(card, card_data("")).text[0] for _ in range(3)] == ["<"] * 3
    robot.gateway.calm()
    assert robot.update(card, card_data("")).text[0] == "{"
    with pytest.raises(ValueError, match="slow"):
        robot.gateway.trouble(UPDATE_CARD, "slow")  # type: ignore[arg-type]


def test_the_month_is_used_up_by_what_was_accepted(robot: Robot, card: str) -> None:
    gateway = robot.gateway
    assert gateway.month_calls == 1
    gateway.month_limit = 3
    robot.update("x", card_data(""))
    gateway.refuse(UPDATE_CARD, status=500, code="system.busy")
    robot.update(card, card_data("refused"))
    assert gateway.month_calls == 1
    assert [robot.update(card, card_data("")).status_code for _ in range(3)] == [200, 200, 403]
    assert gateway.calls[-1].code == "Forbidden.AccessDenied.ApiCountLimitForOrg"
    assert code(robot.send()) == (403, "Forbidden.AccessDenied.ApiCountLimitForOrg")
    assert code(robot.write(SEND_TO_PEOPLE, "sampleText", {})) == (403, "Forbidden.AccessDenied.ApiCountLimitForOrg")
    robot.log_in()
    socket = robot.connect()
    gateway.drop_connections()
    socket = robot.connect()
    gateway.say("hi")
    webhook = message(socket)["sessionWebhook"]
    assert robot.call("POST", webhook, {"msgtype": "text", "text": {"content": "x"}}).json()["errcode"] == 0
    assert gateway.month_calls == 3
    gateway.month_limit = None
    assert robot.update(card, card_data("")).status_code == 200
    assert gateway.month_calls == 4


def test_throttle_counts_per_path(robot: Robot) -> None:
    robot.log_in()
    robot.gateway.throttle = 2
    codes = [code(robot.update("x", "{}"))[0] for _ in range(4)]
    assert codes == [400, 400, 403, 403]
    assert robot.gateway.calls[-1].code == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
    assert code(robot.send()) != (403, robot.gateway.calls[-1].code)


def test_throttle_looks_at_any_second(robot: Robot) -> None:
    robot.log_in()
    robot.gateway.refuse(UPDATE_CARD, status=500, code="system.busy")
    robot.gateway.throttle = 3
    for _ in range(3):  # a refused call has arrived, too
        robot.update("x", "{}")
    first = robot.gateway.calls[-3].at
    while code(robot.update("x", "{}"))[0] == 403:
        assert time.monotonic() - first < 3
    arrivals = [call.at for call in robot.gateway.calls if call.path == UPDATE_CARD and call.status != 403]
    assert len(arrivals) == 4
    assert arrivals[3] - arrivals[0] >= 1


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
