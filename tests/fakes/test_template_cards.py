"""Cards of templates in the stand-in DingTalk: its APIs, what people see, and what clicks do."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from dingtalk_stream import AIMarkdownCardInstance, ChatbotMessage, Credential, DingTalkStreamClient
from websockets.sync.client import ClientConnection

from tests.fakes import gateway as gateway_module
from tests.fakes.gateway import (
    AI_TEMPLATE,
    CARD_TOPIC,
    CREATE_CARD,
    CREATE_INSTANCE,
    DELIVER_CARD,
    MESSAGE_TOPIC,
    SEND_CARD,
    STREAM_CARD,
    UPDATE_CARD,
    UPDATE_INSTANCE,
    Gateway,
    Template,
)
from tests.fakes.records import TemplateCard
from tests.fakes.robot import Robot, ack, card_data, code, message, receive
from tests.fakes.template_cards import unfinished

CLICKS = {"type": "CALLBACK", "topic": CARD_TOPIC}
MESSAGES = {"type": "CALLBACK", "topic": MESSAGE_TOPIC}
OWN = "own.schema"
PARTS = {"order": ["msgTitle", "msgContent", "msgButtons"], "msgButtons": [{"text": "👍", "id": "up", "request": True}]}


class Chat:
    """A group in which Ann has asked "why?", and a robot that is logged in and gets clicks."""

    def __init__(self, robot: Robot) -> None:
        self.robot, self.gateway = robot, robot.gateway
        self.socket: ClientConnection = robot.connect(MESSAGES, CLICKS)
        self.gateway.say("why?")
        self.group = str(message(self.socket)["conversationId"])
        self.guids = 0
        robot.log_in()

    def create(self, card_id: str = "card-1", **changes: Any) -> requests.Response:
        body = {
            "cardTemplateId": AI_TEMPLATE,
            "outTrackId": card_id,
            "callbackType": "STREAM",
            "cardData": {"cardParamMap": {"msgTitle": "why?", "flowStatus": "1", "unknown": "x"}},
            "openSpaceId": f"dtv1.card//IM_GROUP.{self.group}",
            "imGroupOpenSpaceModel": {"supportForward": True},
            "imGroupOpenDeliverModel": {"robotCode": "ding-demo", "atUserIds": {"staff-Ann": "Ann"}},
            **changes,
        }
        return self.robot.call("POST", CREATE_CARD, {name: value for name, value in body.items() if value is not None})

    def instance(self, **changes: Any) -> requests.Response:
        """Create a card, and deliver it nowhere."""
        body = {
            "cardTemplateId": AI_TEMPLATE,
            "outTrackId": "card-1",
            "callbackType": "STREAM",
            "cardData": {"cardParamMap": {"msgTitle": "why?", "flowStatus": "1"}},
            "imGroupOpenSpaceModel": {"supportForward": True},
            "imRobotOpenSpaceModel": {"supportForward": True},
            **changes,
        }
        body = {name: value for name, value in body.items() if value is not None}
        return self.robot.call("POST", CREATE_INSTANCE, body)

    def deliver(self, **changes: Any) -> requests.Response:
        body = {
            "outTrackId": "card-1",
            "userIdType": 1,
            "openSpaceId": f"dtv1.card//IM_GROUP.{self.group}",
            "imGroupOpenDeliverModel": {"robotCode": "ding-demo", "atUserIds": {"staff-Ann": "Ann"}},
            **changes,
        }
        return self.robot.call("POST", DELIVER_CARD, {name: value for name, value in body.items() if value is not None})

    def card(self, data: dict[str, str], template: str = AI_TEMPLATE, **changes: Any) -> TemplateCard:
        assert delivered(self.create(cardTemplateId=template, cardData={"cardParamMap": data}, **changes))
        card = self.gateway.cards["card-1"]
        assert isinstance(card, TemplateCard)
        return card

    def own(self, **variables: str) -> str:
        self.gateway.templates[OWN] = Template(variables)
        return OWN

    def update(self, data: dict[str, Any] | None = None, by_key: bool = True, **changes: Any) -> requests.Response:
        options = {"updateCardDataByKey": by_key, "updatePrivateDataByKey": by_key}
        body = {
            "outTrackId": "card-1",
            "cardData": {"cardParamMap": data},
            "cardUpdateOptions": options,
            **changes,
        }
        body = {name: value for name, value in body.items() if value not in (None, {"cardParamMap": None})}
        return self.robot.call("PUT", UPDATE_INSTANCE, body)

    def stream(self, content: str, **changes: Any) -> requests.Response:
        self.guids += 1
        body = {
            "outTrackId": "card-1",
            "guid": f"guid-{self.guids}",
            "key": "msgContent",
            "content": content,
            "isFull": True,
            "isFinalize": False,
            "isError": False,
            **changes,
        }
        return self.robot.call("PUT", STREAM_CARD, body)

    def answer(self, data: Any, **changes: Any) -> None:
        """Acknowledge the next frame, and wait until the gateway has heard it."""
        frame = receive(self.socket)
        self.socket.send(ack(frame, data=data if isinstance(data, str) else json.dumps(data), **changes))
        self.gateway.wait_for(lambda: frame["headers"]["messageId"] in self.gateway.acks)
        self.socket.ping().wait(5)  # its effect and its errors come right after its record


def delivered(answer: requests.Response) -> bool:
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    result = answer.json()["result"]
    [result] = result if isinstance(result, list) else result["deliverResults"]
    assert bool(result["errorMsg"]) is not result["success"]
    return bool(result["success"])


def group(*buttons: tuple[str, str], **more: Any) -> str:
    return json.dumps(
        [
            {
                "text": text,
                "color": "blue",
                "status": "normal",
                "event": {"type": "sendCardRequest", "params": {"actionId": action, "params": {"no": action}}},
                **more,
            }
            for text, action in buttons
        ]
    )


@pytest.fixture
def chat(robot: Robot) -> Chat:
    return Chat(robot)


# ---- the life of a card


def test_the_life_of_a_template_card(chat: Chat) -> None:
    changes: list[tuple[str, str]] = []
    chat.gateway.on_change = lambda card: changes.append((card.state, card.text))
    answer = chat.create()
    assert delivered(answer)
    assert answer.json()["result"]["outTrackId"] == "card-1"
    [result] = answer.json()["result"]["deliverResults"]
    assert (result["spaceType"], result["spaceId"]) == ("IM_GROUP", chat.group) and result["carrierId"]
    card = chat.gateway.card_for("why?", state="thinking")
    assert isinstance(card, TemplateCard)
    assert (card.id, card.conversation, card.mentions, card.callback_type) == (
        "card-1",
        chat.group,
        ["staff-Ann"],
        "STREAM",
    )
    assert (card.text, card.note, card.buttons, card.flow_status, card.finalized) == ("", "", [], "1", False)
    assert chat.stream("Because").json() == {"success": True, "result": True}
    assert (card.state, card.text, card.flow_status) == ("growing", "Because", "2")
    chat.stream("Because.", isFinalize=True)
    assert (card.state, card.text, card.flow_status, card.finalized) == ("final", "Because.", "3", True)
    chat.update({"staticMsgContent": "by AI", "sys_full_json_obj": json.dumps(PARTS)})
    assert chat.gateway.card_for("why?", state="final") is card
    assert (card.title, card.text, card.note, card.labels) == ("why?", "Because.", "by AI", ["👍"])
    assert (card.buttons[0]["id"], card.buttons[0]["text"]) == ("up", "👍")
    assert changes == [("thinking", ""), ("growing", "Because"), ("final", "Because."), ("final", "Because.")]
    assert [state.text for state in card.states] == ["", "Because", "Because.", "Because."]
    assert [state.note for state in card.states] == ["", "", "", "by AI"]
    assert card.created_at <= card.states[1].at <= card.states[3].at
    assert chat.gateway.month_calls == 4
    assert chat.gateway.protocol_errors == []


def test_an_answer_that_fails(chat: Chat) -> None:
    chat.create()
    chat.stream("Sorry.", isError=True, isFinalize=True)
    card = chat.gateway.card_for("why?", state="failed")
    assert (card.text, card.flow_status) == ("Sorry.", "5")  # type: ignore[union-attr]


def test_streaming_may_leave_the_state_alone(chat: Chat) -> None:
    chat.gateway.streaming_switches_state = False
    chat.create()
    card = chat.gateway.cards["card-1"]
    assert isinstance(card, TemplateCard)
    chat.stream("Because.", isFinalize=True)
    assert (card.state, card.flow_status, card.finalized) == ("growing", "1", True)
    chat.update({"flowStatus": "3"})
    assert card.state == "final"
    chat.update({"flowStatus": "5"})
    assert card.state == "failed"


@pytest.mark.parametrize("switches", [True, False])
def test_a_template_without_a_flow_status_has_only_the_stream(chat: Chat, switches: bool) -> None:
    chat.gateway.streaming_switches_state = switches
    card = chat.card({"content": "", "title": "why?", "flowStatus": "3"}, chat.own(title="text", content="markdown"))
    assert (card.title, card.state) == ("why?", "thinking")
    chat.stream("Be", key="content")
    assert (card.text, card.state) == ("Be", "growing")
    chat.stream("Because.", key="content", isFinalize=True)
    assert card.state == "final"


@pytest.mark.parametrize("late", ["refuse", "accept"])
def test_streaming_after_the_end(chat: Chat, late: Any) -> None:
    chat.gateway.streaming_after_end = late
    chat.create()
    chat.stream("Because.", isFinalize=True, guid="last")
    assert chat.stream("Because.", isFinalize=True, guid="last").status_code == 200  # the same call once more
    answer = chat.stream("Because. More.")
    card = chat.gateway.cards["card-1"]
    if late == "refuse":
        assert code(answer) == (400, "param.invalid")
    assert card.text == ("Because." if late == "refuse" else "Because. More.")
    assert (card.state, len(card.states)) == ("final", 2 if late == "refuse" else 3)


def test_a_guid_counts_once(chat: Chat) -> None:
    chat.create()
    chat.gateway.stream_limit = 6
    assert code(chat.stream("too long", guid="a")) == (400, "param.stream.content")
    for text in ("one", "two"):
        assert chat.stream(text, guid="a").json()["result"] is True
    card = chat.gateway.cards["card-1"]
    assert [state.text for state in card.states] == ["", "one"]
    assert chat.stream("中文").status_code == 200
    assert code(chat.stream("中文!")) == (400, "param.stream.content")


def test_text_may_be_streamed_in_pieces(chat: Chat) -> None:
    card = chat.card({"content": "a"}, chat.own(content="text"))
    chat.stream("b", key="content", isFull=False)
    chat.stream("c", key="content", isFull=False)
    assert card.text == "abc"
    chat.stream("d", key="content")
    assert card.text == "d"


def test_what_a_template_has_not_is_never_shown(chat: Chat) -> None:
    data = {"answer": "a", "content": "b", "title": "t", "note": "n", "buttons": group(("Yes", "y"))}
    card = chat.card(data, chat.own(answer="markdown"))
    assert (card.title, card.text, card.note, card.buttons) == ("", "a", "", [])
    assert card.states[0].data == data


# ---- refusals


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, None),
        ({"cardTemplateId": None}, "param.cardTemplateIdEmpty"),
        ({"cardTemplateId": ""}, "param.cardTemplateIdEmpty"),
        ({"cardTemplateId": "x.schema"}, "param.templateNotExist"),
        ({"cardTemplateId": "draft.schema"}, "param.templateUnpublished"),
        ({"outTrackId": None}, "param.outTrackIdEmpty"),
        ({"outTrackId": ""}, "param.outTrackIdEmpty"),
        ({"callbackType": "stream"}, "param.invalid"),
        ({"callbackType": None}, None),
        ({"userIdType": 2}, "param.invalid"),
        ({"cardData": None}, "param.cardPublicDataEmpty"),
        ({"cardData": {}}, "param.cardPublicDataEmpty"),
        ({"cardData": {"cardParamMap": {}}}, "param.cardPublicDataEmpty"),
        ({"cardData": '{"cardParamMap": {"a": "b"}}'}, "param.invalid"),
        ({"cardData": {"cardParamMap": ["a"]}}, "param.invalid"),
        ({"cardData": {"cardParamMap": {"a": 1}}}, "param.invalid"),
        ({"cardData": {"cardParamMap": {"a": None}}}, "param.invalid"),
        ({"cardData": {"cardParamMap": {"a": {"b": "c"}}}}, "param.invalid"),
        ({"privateData": {"staff-Ann": {"a": "b"}}}, "param.invalid"),
        ({"privateData": {"staff-Ann": {"cardParamMap": {"a": 1}}}}, "param.invalid"),
        ({"privateData": {"": {"cardParamMap": {}}}}, "param.userIdEmpty"),
        ({"privateData": {"staff-Nobody": {"cardParamMap": {}}}}, "param.userIdNotExist"),
        ({"openSpaceId": None}, "param.openSpaceIdEmpty"),
        ({"openSpaceId": "cid-x"}, "param.openSpaceIdInvalid"),
        ({"openSpaceId": "dtv1.card//IM_GROUP."}, "param.openSpaceIdInvalid"),
        ({"openSpaceId": "dtv1.card//im_group.cid-x"}, "param.openSpaceIdInvalid"),
        ({"openSpaceId": "dtv1.card//ONE_BOX.cid-x"}, "param.openSpaceIdInvalid"),
        ({"imGroupOpenDeliverModel": None}, "param.openDeliverModelEmpty"),
        ({"imGroupOpenDeliverModel": {}}, "param.openDeliverModelEmpty"),
        ({"imGroupOpenDeliverModel": "x"}, "param.openDeliverModelError"),
        ({"imGroupOpenDeliverModel": {"atUserIds": {}}}, "param.openDeliverModelError"),
        ({"imGroupOpenDeliverModel": {"robotCode": "ding-other"}}, "param.openDeliverModelError"),
        ({"imGroupOpenDeliverModel": {"robotCode": "ding-demo"}}, None),
        ({"imGroupOpenDeliverModel": {"robotCode": "ding-demo", "atUserIds": ["x"]}}, "param.openDeliverModelError"),
        ({"imGroupOpenDeliverModel": {"robotCode": "ding-demo", "atUserIds": {"x": 1}}}, "param.openDeliverModelError"),
        ({"imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT"}}, "param.openDeliverModelError"),
        ({"imRobotOpenSpaceModel": {}}, "param.openDeliverModelError"),
        ({"openSpaceId": "dtv1.card//IM_ROBOT.staff-Ann"}, "param.openDeliverModelError"),
    ],
)
def test_refused_template_cards(chat: Chat, wrong: dict[str, Any], expected: str | None) -> None:
    chat.gateway.templates["draft.schema"] = Template({"content": "markdown"}, published=False)
    answer = chat.create(**wrong)
    assert (answer.status_code, answer.json().get("code")) == ((400, expected) if expected else (200, None))
    assert len(chat.gateway.cards) == chat.gateway.month_calls == (0 if expected else 1)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"spaceType": "IM_ROBOT"}, None),
        ({"spaceType": "IM_ROBOT", "robotCode": "ding-demo", "extension": {"dynamicSummary": "true"}}, None),
        ({"spaceType": "IM_ROBOT", "robotCode": "ding-other"}, "param.openDeliverModelError"),
        ({"robotCode": "ding-demo"}, "param.openDeliverModelError"),
        (None, "param.openDeliverModelEmpty"),
    ],
)
def test_a_template_card_for_one_person(chat: Chat, model: Any, expected: str | None) -> None:
    chat.gateway.say("why me?", group=False)
    conversation = message(chat.socket)["conversationId"]
    answer = chat.create(
        openSpaceId="dtv1.card//IM_ROBOT.staff-Ann",
        imRobotOpenSpaceModel={"supportForward": True},
        imRobotOpenDeliverModel=model,
        imGroupOpenSpaceModel=None,
        imGroupOpenDeliverModel=None,
    )
    if expected:
        assert code(answer) == (400, expected)
    else:
        assert delivered(answer)
        card = chat.gateway.cards["card-1"]
        assert isinstance(card, TemplateCard)
        assert (card.conversation, card.mentions) == (conversation, [])


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"key": ""}, "param.stream.keyEmpty"),
        ({"key": None}, "param.stream.keyEmpty"),
        ({"content": ""}, "param.stream.contentEmpty"),
        ({"content": 7}, "param.stream.contentEmpty"),
        ({"guid": None}, "param.stream.guidEmpty"),
        ({"outTrackId": "card-2"}, "param.stream.outTrackId"),
        ({"outTrackId": None}, "param.stream.outTrackId"),
        ({"outTrackId": "standard"}, "param.stream.outTrackId"),
        ({"isFull": False}, "param.stream.isFull"),
        ({"isFull": "true"}, "param.stream.isFull"),
        ({"key": "content"}, "param.invalid"),
        ({"key": "sys_full_json_obj"}, "param.invalid"),
    ],
)
def test_refused_streaming(chat: Chat, wrong: dict[str, Any], expected: str) -> None:
    chat.create()
    assert chat.robot.send(cardBizId="standard", openConversationId=chat.group).status_code == 200
    assert code(chat.stream(**{"content": "x", **wrong})) == (400, expected)
    assert chat.gateway.month_calls == 2
    assert all(len(card.states) == 1 for card in chat.gateway.cards.values())


def test_refused_updates(chat: Chat) -> None:
    chat.create()
    assert code(chat.update({"a": "b"}, outTrackId="card-2")) == (400, "param.cardNotExist")
    assert code(chat.update({"a": "b"}, outTrackId="")) == (400, "param.outTrackIdEmpty")
    assert code(chat.update()) == (400, "param.cardPublicDataEmpty")
    assert code(chat.update({"a": 1})) == (400, "param.invalid")
    assert code(chat.update({"a": "b"}, cardUpdateOptions=True)) == (400, "param.invalid")
    assert code(chat.update({"a": "b"}, userIdType=2)) == (400, "param.invalid")
    assert code(chat.update(privateData={"staff-Nobody": {"cardParamMap": {}}})) == (400, "param.userIdNotExist")
    assert len(chat.gateway.cards["card-1"].states) == 1
    assert code(chat.robot.update("card-1", card_data("x"))) == (400, "cardInstance.notExist")


def test_template_cards_need_a_token(chat: Chat) -> None:
    chat.robot.token = "old"
    for answer in (chat.create(), chat.instance(), chat.deliver(), chat.update({"a": "b"}), chat.stream("x")):
        assert code(answer) == (400, "InvalidAuthentication")
    chat.robot.log_in()
    chat.gateway.month_limit = 0
    for answer in (chat.create(), chat.instance(), chat.deliver()):
        assert code(answer) == (403, "Forbidden.AccessDenied.ApiCountLimitForOrg")


# ---- deliveries


def test_an_out_track_id_is_used_once(chat: Chat) -> None:
    assert delivered(chat.create())
    assert code(chat.create()) == (400, "param.cardAlreadyExist")
    chat.gateway.repeated_card = "accept"
    assert delivered(chat.create(cardData={"cardParamMap": {"msgTitle": "twice"}}))
    [card] = chat.gateway.cards.values()
    assert (card.title, len(card.states)) == ("why?", 1)


@pytest.mark.parametrize("space", ["", "IM_GROUP.cid-unknown", "IM_ROBOT.staff-Nobody"])
def test_a_failure_may_be_hidden(chat: Chat, space: str) -> None:
    changes: list[Any] = []
    chat.gateway.on_change = changes.append
    where: dict[str, Any] = {"openSpaceId": f"dtv1.card//{space}"} if space else {}
    if "ROBOT" in space:
        where |= {"imGroupOpenSpaceModel": None, "imGroupOpenDeliverModel": None}
        where["imRobotOpenDeliverModel"] = {"spaceType": "IM_ROBOT"}
    if not space:
        chat.gateway.hidden_failure = "robot is not in the group"
    answer = chat.create(**where)
    assert not delivered(answer)
    if not space:
        assert answer.json()["result"]["deliverResults"][0]["errorMsg"] == "robot is not in the group"
    # Who does not look goes on, and nobody sees it.
    assert chat.stream("Because.").status_code == chat.update({"flowStatus": "3"}).status_code == 200
    chat.gateway.hidden_failure = None
    assert code(chat.create()) == (400, "param.cardAlreadyExist")
    chat.gateway.repeated_card = "accept"
    assert not delivered(chat.create())
    assert chat.gateway.cards == {} and changes == []
    assert delivered(chat.create("card-2"))


# ---- creating and delivering by two calls


def test_a_card_is_seen_from_its_delivery_on(chat: Chat) -> None:
    changes: list[tuple[str, str]] = []
    chat.gateway.on_change = lambda card: changes.append((card.state, card.text))
    assert chat.instance().json() == {"success": True, "result": "card-1"}
    assert chat.stream("Be").status_code == chat.update({"staticMsgContent": "by AI"}).status_code == 200
    assert chat.gateway.cards == {} and changes == []
    before = time.monotonic()
    answer = chat.deliver()
    assert delivered(answer)
    [result] = answer.json()["result"]
    assert (result["spaceType"], result["spaceId"]) == ("IM_GROUP", chat.group) and result["carrierId"]
    card = chat.gateway.card_for("why?")
    assert isinstance(card, TemplateCard)
    assert (card.id, card.conversation, card.mentions, card.callback_type) == (
        "card-1",
        chat.group,
        ["staff-Ann"],
        "STREAM",
    )
    assert (card.text, card.note, card.flow_status, len(card.states)) == ("Be", "by AI", "2", 1)
    assert before <= card.created_at
    chat.stream("Because.", isFinalize=True)
    assert changes == [("thinking", "Be"), ("final", "Because.")]
    assert chat.gateway.month_calls == 5
    assert chat.gateway.count(CREATE_INSTANCE) == 2  # its updates have the same address
    chat.update({"sys_full_json_obj": json.dumps(PARTS)})
    assert chat.gateway.click(card, "up")


def test_a_card_is_delivered_to_one_person(chat: Chat) -> None:
    chat.gateway.say("why me?", group=False)
    conversation = message(chat.socket)["conversationId"]
    chat.instance()
    where = {"openSpaceId": "dtv1.card//IM_ROBOT.staff-Ann", "imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT"}}
    assert code(chat.deliver(**where)) == (400, "param.openDeliverModelError")  # it has a model for groups
    assert delivered(chat.deliver(**where, imGroupOpenDeliverModel=None))
    card = chat.gateway.cards["card-1"]
    assert isinstance(card, TemplateCard)
    assert (card.conversation, card.mentions) == (conversation, [])


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"cardTemplateId": None}, "param.cardTemplateIdEmpty"),
        ({"cardTemplateId": "x.schema"}, "param.templateNotExist"),
        ({"outTrackId": None}, "param.outTrackIdEmpty"),
        ({"callbackType": "stream"}, "param.invalid"),
        ({"userIdType": 2}, "param.invalid"),
        ({"cardData": None}, "param.cardPublicDataEmpty"),
        ({"cardData": {"cardParamMap": {"flowStatus": 1}}}, "param.invalid"),
        ({"privateData": {"staff-Nobody": {"cardParamMap": {}}}}, "param.userIdNotExist"),
    ],
)
def test_refused_creations(chat: Chat, wrong: dict[str, Any], expected: str) -> None:
    assert code(chat.instance(**wrong)) == (400, expected)
    assert code(chat.deliver()) == (400, "param.cardNotExist")
    assert chat.gateway.month_calls == 0


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"outTrackId": None}, "param.outTrackIdEmpty"),
        ({"outTrackId": "card-2"}, "param.cardNotExist"),
        ({"outTrackId": "standard"}, "param.cardNotExist"),
        ({"userIdType": 2}, "param.invalid"),
        ({"openSpaceId": None}, "param.openSpaceIdEmpty"),
        ({"openSpaceId": "cid-x"}, "param.openSpaceIdInvalid"),
        ({"imGroupOpenDeliverModel": None}, "param.openDeliverModelEmpty"),
        ({"imGroupOpenDeliverModel": {"robotCode": "ding-other"}}, "param.openDeliverModelError"),
        ({"imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT"}}, "param.openDeliverModelError"),
    ],
)
def test_refused_deliveries(chat: Chat, wrong: dict[str, Any], expected: str) -> None:
    assert chat.robot.send(cardBizId="standard", openConversationId=chat.group).status_code == 200
    chat.instance()
    assert code(chat.deliver(**wrong)) == (400, expected)
    assert chat.gateway.month_calls == 2 and list(chat.gateway.cards) == ["standard"]
    assert delivered(chat.deliver())


def test_a_card_is_created_and_delivered_once(chat: Chat) -> None:
    chat.instance()
    assert code(chat.instance()) == code(chat.create()) == (400, "param.cardAlreadyExist")
    assert delivered(chat.deliver())
    assert code(chat.deliver()) == code(chat.instance()) == (400, "param.cardAlreadyExist")
    chat.gateway.repeated_card = "accept"
    twice = {"cardParamMap": {"msgTitle": "twice"}}
    assert chat.instance(cardData=twice).json() == {"success": True, "result": "card-1"}
    assert delivered(chat.deliver())
    [card] = chat.gateway.cards.values()
    assert (card.title, len(card.states)) == ("why?", 1)


def test_a_delivery_may_fail_in_silence(chat: Chat) -> None:
    chat.instance(imRobotOpenSpaceModel=None)
    chat.gateway.hidden_failure = "robot is not in the group"
    answer = chat.deliver()
    assert not delivered(answer)
    assert answer.json()["result"][0]["errorMsg"] == "robot is not in the group"
    chat.gateway.hidden_failure = None
    assert not delivered(chat.deliver(openSpaceId="dtv1.card//IM_GROUP.cid-unknown"))
    chat.gateway.say("why me?", group=False)
    person = {"openSpaceId": "dtv1.card//IM_ROBOT.staff-Ann", "imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT"}}
    assert not delivered(chat.deliver(**person, imGroupOpenDeliverModel=None))  # not created for that
    assert chat.gateway.cards == {} and chat.gateway.refused() == 0
    assert delivered(chat.deliver())


@pytest.mark.parametrize("in_group", [True, False])
def test_the_card_of_the_official_sdk(chat: Chat, monkeypatch: pytest.MonkeyPatch, in_group: bool) -> None:
    for module in ("stream", "card_replier"):
        monkeypatch.setattr(f"dingtalk_stream.{module}.DINGTALK_OPENAPI_ENDPOINT", chat.gateway.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shown: list[tuple[str, str, str, str]] = []
    chat.gateway.on_change = lambda card: shown.append((card.title, card.text, card.state, ",".join(card.labels)))
    chat.gateway.say("why me?", group=in_group)
    asked = message(chat.socket)
    client = DingTalkStreamClient(Credential("ding-demo", "demo-secret"))
    reply = AIMarkdownCardInstance(client, ChatbotMessage.from_dict(asked))
    reply.set_title_and_logo("why me?", "")
    reply.ai_start()
    reply.ai_streaming("Be")
    reply.ai_streaming("cause.", append=True)
    reply.ai_finish(button_list=PARTS["msgButtons"])
    assert shown == [
        ("", "", "thinking", ""),  # it has no title yet
        ("why me?", "", "growing", ""),
        ("why me?", "Be", "growing", ""),
        ("why me?", "Because.", "growing", ""),
        ("why me?", "Because.", "final", "👍"),
    ]
    [card] = chat.gateway.cards.values()
    assert isinstance(card, TemplateCard)
    assert (card.id, card.conversation) == (reply.card_instance_id, asked["conversationId"])
    assert (card.flow_status, card.finalized) == ("3", False)  # it ends its cards without a last streaming call
    assert chat.gateway.month_calls == 6
    assert chat.gateway.refused() == 0 and chat.gateway.protocol_errors == []
    assert chat.gateway.click(card, "👍")


# ---- updates and private data


def test_an_update_replaces_or_merges(chat: Chat) -> None:
    card = chat.card({"msgTitle": "why?", "msgContent": "Because.", "flowStatus": "3"})
    assert card.state == "final"
    chat.update({"staticMsgContent": "note"})
    assert (card.title, card.text, card.note, card.state) == ("why?", "Because.", "note", "final")
    chat.update({"msgTitle": "what?"}, by_key=False)
    assert (card.title, card.text, card.note, card.flow_status, card.state) == ("what?", "", "", "", "growing")
    chat.update({"msgContent": "x"}, cardUpdateOptions=None)
    assert (card.title, card.text) == ("", "x")


def test_private_data_is_seen_by_one_person(chat: Chat) -> None:
    variables = {"content": "markdown", "note": "text", "buttons": "buttonGroup"}
    public = {"content": "Because.", "buttons": group(("Good", "good"), ("Bad", "bad"))}
    card = chat.card(public, chat.own(**variables), privateData={"staff-Ann": {"cardParamMap": {"note": "for Ann"}}})
    assert (card.note, card.view("staff-Ann").note, card.view("staff-Bob").note) == ("", "for Ann", "")
    chat.update(privateData={"staff-Ann": {"cardParamMap": {"buttons": group(("Thanks", "good"))}}})
    seen = card.view("staff-Ann")
    assert (seen.text, seen.note, seen.labels, seen.buttons[0]["id"]) == ("Because.", "for Ann", ["Thanks"], "good")
    assert card.labels == card.view("staff-Bob").labels == ["Good", "Bad"]
    chat.update(by_key=False, privateData={"staff-Ann": {"cardParamMap": {"content": "Psst."}}})
    seen = card.view("staff-Ann")
    assert (seen.text, seen.note, seen.labels) == ("Psst.", "", ["Good", "Bad"])
    assert (card.text, len(card.states)) == ("Because.", 3)


def test_buttons_that_are_not_well_formed_are_not_shown(chat: Chat) -> None:
    card = chat.card({"b": "[{"}, chat.own(b="buttonGroup", j="json"))
    for value in ("{}", "[1]", '[{"text": "x"}]', '[{"text": 1, "event": {}}]'):
        chat.update({"b": value})
        assert card.buttons == []
    for parts in ([], {"msgButtons": 1}, {"msgButtons": [1, {"id": "x"}]}, {**PARTS, "order": ["msgContent"]}):
        chat.update({"j": json.dumps(parts)})
        assert card.buttons == []
    chat.update({"b": group(("Yes", "y")), "j": json.dumps({"msgButtons": PARTS["msgButtons"]})})
    assert card.labels == ["Yes", "👍"]
    assert chat.gateway.protocol_errors == []


# ---- markdown


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ""),
        ("plain | text", ""),
        ("```py\nx\n```", ""),
        ("```py\nx", "fence"),
        ("```py\nx\n```\n~~~\ny", "fence"),
        ("````\n```\n````", ""),
        ("````\n```\n", "fence"),
        ("```\n| a\n```", ""),
        ("1. x\n   ```\n   y\n   ```\n", ""),
        ("| a | b |", "header"),
        ("Look:\n\n| a | b |\n", "header"),
        ("| a | b |\n\nno table", ""),
        ("| a | b", "table line"),
        ("| a | b \\|", "table line"),
        ("|", "table line"),
        ("| a | b |\n|---", "table line"),
        ("| a | b |\n|---|", "delimiter"),
        ("| a | b |\n|---|:-:|", ""),
        ("| a | b |\n|---|---|\n| 1", "table line"),
        ("| a | b |\n|---|---|\n| 1 |", ""),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd", ""),
    ],
)
def test_unfinished_markdown(text: str, problem: str) -> None:
    found = unfinished(text)
    assert problem in found and bool(found) == bool(problem)


def test_unfinished_markdown_is_a_protocol_error(chat: Chat) -> None:
    errors = chat.gateway.protocol_errors
    chat.create(cardData={"cardParamMap": {"msgTitle": "```", "msgContent": "```"}})
    assert len(errors) == 1 and "card-1" in errors[0] and "msgContent" in errors[0]
    chat.stream("| a |")
    chat.update({"staticMsgContent": "```"})
    chat.update(privateData={"staff-Ann": {"cardParamMap": {"msgContent": "```"}}})
    assert len(errors) == 4
    assert code(chat.stream("```", key="x"))[0] == 400
    chat.stream("| a |\n|---|")
    assert len(errors) == 4


# ---- clicks


def test_an_official_click(chat: Chat) -> None:
    card = chat.card({"sys_full_json_obj": json.dumps(PARTS)})
    frame_id = chat.gateway.click(card, "up", person="Bob")
    frame = receive(chat.socket)
    assert (frame["type"], frame["headers"]["topic"], frame["headers"]["messageId"]) == (
        "CALLBACK",
        CARD_TOPIC,
        frame_id,
    )
    data = json.loads(frame["data"])
    assert data == {
        "extension": "{}",
        "corpId": "ding-corp",
        "spaceType": "im",
        "userIdType": 1,
        "type": "actionCallback",
        "userId": "staff-Bob",
        "content": '{"cardPrivateData": {"actionIds": ["up"], "params": {}}}',
        "spaceId": chat.group,
        "outTrackId": "card-1",
        "value": data["content"],
    }
    [click] = chat.gateway.clicks
    assert (click.card, click.button["text"], click.person, click.delivered) == (card, "👍", "Bob", True)
    assert (click.frame_id, click.data) == (frame_id, data)
    again = chat.gateway.click_raw(click.data)
    frame = receive(chat.socket)
    assert frame["headers"]["messageId"] == again != frame_id
    assert json.loads(frame["data"]) == data


def test_the_variants_of_a_click(chat: Chat) -> None:
    card = chat.card({"b": group(("Yes", "y"))}, chat.own(b="buttonGroup"))

    def click(variant: Any) -> dict[str, Any]:
        chat.gateway.click(card, "Yes", variant=variant)
        return message(chat.socket)

    whole = {"cardPrivateData": {"actionIds": ["y"], "params": {"no": "y"}}}
    official, value, beside, top, http, broken = map(
        click, ["official", "value", "params_beside", "top_level", "http", "broken"]
    )
    assert json.loads(official["content"]) == json.loads(official["value"]) == whole
    assert value == {name: part for name, part in official.items() if name != "content"}
    assert json.loads(beside["content"]) == {"cardPrivateData": {"actionIds": ["y"]}, "params": {"no": "y"}}
    assert top["actionId"] == "y"
    assert json.loads(top["content"]) == {"cardPrivateData": {"params": {"no": "y"}}}
    assert set(http) == {"type", "outTrackId", "corpId", "userId", "content"}
    assert json.loads(http["content"]) == whole
    for part in (broken["content"], broken["value"]):
        with pytest.raises(json.JSONDecodeError):
            json.loads(part)
    with pytest.raises(ValueError, match="strange"):
        click("strange")


def test_buttons_are_clicked_as_the_person_sees_them(chat: Chat) -> None:
    card = chat.card(
        {"b": group(("Yes", "y"))},
        chat.own(b="buttonGroup"),
        privateData={"staff-Ann": {"cardParamMap": {"b": group(("Mine", "m"))}}},
    )
    with pytest.raises(AssertionError, match=r"no button 'Yes', only \['Mine'\]"):
        chat.gateway.click(card, "Yes")
    assert chat.gateway.click(card, "Mine") and chat.gateway.click(card, "Yes", person="Bob")


def test_what_is_not_pushed(chat: Chat) -> None:
    buttons = json.loads(group(("Off", "o"), status="disabled"))
    buttons.append({"text": "Link", "event": {"type": "openLink", "params": {"url": "https://example.com"}}})
    parts = {"msgButtons": [{"text": "Silent", "id": "s"}, {"text": "Loud", "id": "l", "request": True}]}
    data = {"b": json.dumps(buttons), "j": json.dumps(parts)}
    card = chat.card(data, chat.own(b="buttonGroup", j="json"))
    assert card.labels == ["Off", "Link", "Silent", "Loud"]
    assert [chat.gateway.click(card, label) for label in card.labels[:3]] == ["", "", ""]
    for number, kind in enumerate(["HTTP", None]):
        assert delivered(
            chat.create(f"deaf-{number}", callbackType=kind, cardTemplateId=OWN, cardData={"cardParamMap": data})
        )
        assert chat.gateway.click(chat.gateway.cards[f"deaf-{number}"], "Loud") == ""
    assert chat.gateway.click(card, "Loud")
    assert message(chat.socket)["outTrackId"] == "card-1"
    chat.gateway.drop_connections()
    assert chat.gateway.click(card, "Loud") == ""
    chat.robot.connect()  # for messages only
    assert chat.gateway.click(card, "Loud") == ""
    assert [click.delivered for click in chat.gateway.clicks] == [False] * 5 + [True, False, False]


def test_the_answer_to_a_click_changes_the_card(chat: Chat) -> None:
    changes: list[str] = []
    chat.gateway.on_change = lambda card: changes.append(card.text)
    variables = {"content": "markdown", "note": "text", "b": "buttonGroup"}
    card = chat.card({"content": "Because.", "b": group(("Good", "g"))}, chat.own(**variables))
    chat.gateway.click(card, "Good", person="Bob")
    by_key = {"updateCardDataByKey": True, "updatePrivateDataByKey": True}
    public = {"cardParamMap": {"note": "1 vote"}}
    private = {"cardParamMap": {"b": group(("Thanks", "g"))}}
    chat.answer({"response": {"cardUpdateOptions": by_key, "cardData": public, "userPrivateData": private}})
    assert (card.text, card.note, card.labels) == ("Because.", "1 vote", ["Good"])
    assert card.view("staff-Bob").labels == ["Thanks"] and card.view("staff-Ann").labels == ["Good"]
    assert changes == ["Because.", "Because."]
    chat.gateway.click(card, "Thanks", person="Bob")
    chat.answer({"response": {"cardData": public, "userPrivateData": {"cardParamMap": {"note": "mine"}}}})
    assert (card.text, card.labels, card.note) == ("", [], "1 vote")
    assert (card.view("staff-Bob").note, card.view("staff-Bob").labels) == ("mine", [])
    for response in ({}, None, "OK"):
        chat.gateway.click_raw({"outTrackId": "card-1", "userId": "staff-Bob"})
        chat.answer({"response": response})
    chat.gateway.click_raw({"outTrackId": "card-9"})
    chat.answer({"response": {"cardData": public}})
    chat.gateway.click_raw({})
    chat.answer({"response": {"cardData": public}}, code=500)
    assert len(card.states) == 3
    assert chat.gateway.protocol_errors == []
    chat.update(privateData={"staff-Bob": {"cardParamMap": {"note": "known, now"}}})
    assert card.view("staff-Bob").note == "known, now"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "{}",
        {"success": True},
        {"response": {"cardData": {}}},
        {"response": {"cardData": {"cardParamMap": {"msgContent": 1}}}},
        {"response": {"userPrivateData": {"staff-Ann": {"cardParamMap": {"a": "b"}}}}},
        {"response": {"userPrivateData": {"cardParamMap": {"a": True}}}},
        {"response": {"cardUpdateOptions": True}},
    ],
)
def test_what_is_no_answer_to_a_click(chat: Chat, data: Any) -> None:
    card = chat.card({"sys_full_json_obj": json.dumps(PARTS)})
    chat.gateway.click(card, "up")
    chat.answer(data)
    [error] = chat.gateway.wait_for(lambda: chat.gateway.protocol_errors)
    assert "not an answer to a click" in error
    assert len(card.states) == 1


def test_an_answer_may_be_late_or_leave_markdown_open(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    card = chat.card({"sys_full_json_obj": json.dumps(PARTS)})
    answer = {
        "response": {
            "cardData": {"cardParamMap": {"msgContent": "```"}},
            "cardUpdateOptions": {"updateCardDataByKey": True},
        }
    }
    for text in ("```", ""):
        chat.gateway.click(card, "up")
        chat.answer(answer)
        [error] = chat.gateway.wait_for(lambda: chat.gateway.protocol_errors)
        assert ("fence" in error) == bool(text) and ("after 0.0 s" in error) != bool(text)
        assert card.text == text
        chat.gateway.protocol_errors.clear()
        chat.update({"msgContent": ""})
        monkeypatch.setattr(gateway_module, "CLICK_SECONDS", -1.0)


def test_template_cards_do_not_disturb_standard_ones(chat: Chat) -> None:
    chat.create()
    assert chat.robot.send(openConversationId=chat.group, cardBizId="standard").status_code == 200
    newest = chat.gateway.card_for("why?")
    assert newest.id == "standard"
    assert chat.robot.send(openConversationId=chat.group).status_code == 400  # card-1 is used
    assert [chat.gateway.count(path) for path in (CREATE_CARD, SEND_CARD, UPDATE_CARD)] == [1, 2, 0]


def test_gateways_do_not_share_templates(gateway: Gateway) -> None:
    gateway.templates[AI_TEMPLATE].published = False
    assert Gateway().templates[AI_TEMPLATE].published
