"""DingTalk's message payloads, whatever is in them."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from imRobots.dingTalkStreamType.messages import chatbot_message, is_group, read_message
from imRobots.Meta import IncomingMessage
from tests.dingtalk.helpers import payload

CONTENTS: dict[str, dict[str, Any]] = {
    "text": {"msgtype": "text", "text": {"content": " 你好"}},
    "richText": {
        "msgtype": "richText",
        "text": None,
        "content": {
            "richText": [
                {"text": "这个问题示例图如下："},
                {"type": "picture", "pictureDownloadCode": "pWjA", "downloadCode": "mIof"},
                {"text": " and so on "},
            ]
        },
    },
    "audio": {
        "msgtype": "audio",
        "text": None,
        "content": {"duration": 4000, "downloadCode": "mIof", "recognition": "钉钉，让进步发生"},
    },
    "picture": {"msgtype": "picture", "text": None, "content": {"pictureDownloadCode": "pWjA", "downloadCode": "mIof"}},
    "video": {
        "msgtype": "video",
        "text": None,
        "content": {"duration": "5", "videoType": "mp4", "downloadCode": "mIof"},
    },
    "file": {
        "msgtype": "file",
        "text": None,
        "content": {"spaceId": "223***573", "fileName": "foobar.zip", "downloadCode": "LJYY", "fileId": "117***848"},
    },
    "unknownMsgType": {
        "msgtype": "unknownMsgType",
        "text": None,
        "content": {"unknownMsgType": "用户发送了一条消息，机器人暂不支持接收。"},
    },
    "chatRecord": {
        "msgtype": "chatRecord",
        "text": None,
        "content": {"summary": "s", "title": "t", "chatRecord": "[]"},
    },
    "interactiveCard": {
        "msgtype": "interactiveCard",
        "text": None,
        "content": {"biz_custom_action_url": "dingtalk://dingtalkclient/page/yunpan?type=file"},
    },
    "quoting": {
        "msgtype": "text",
        "text": {
            "content": "当前消息",
            "isReplyMsg": True,
            "repliedMsg": {"msgType": "file", "msgId": "msg456", "content": {"fileName": "report.pdf"}},
        },
        "originalMsgId": "msg456",
    },
    "delegated": {
        "hostingContext": {"userId": "u", "nick": "n"},
        "conversationMsgContext": [{"readStatus": "2", "senderUserId": "u", "sendTime": 1}],
    },
    "quota": {"msgtype": "text", "text": None, "errorCode": 20001, "errorMessage": "quota exhausted"},
}
JUNK: list[Any] = [None, 5, -1.5, True, [], {}, "", "  ", [None], [5, "x", {}], {"richText": 5}, "plain text", "20001"]


def broken(sample: Any) -> Iterator[Any]:
    """Copies of a payload in which one field, at any depth, is missing or something else."""
    if isinstance(sample, (dict, list)):
        for place in list(sample) if isinstance(sample, dict) else range(len(sample)):
            for junk in JUNK:
                changed = copy.copy(sample)
                changed[place] = junk
                yield changed
            missing = copy.copy(sample)
            del missing[place]
            yield missing
            for inner in broken(sample[place]):
                deeper = copy.copy(sample)
                deeper[place] = inner
                yield deeper


def check(data: dict[str, Any]) -> IncomingMessage:
    """What holds for every message that was ever read."""
    message = read_message(data, fallback_id="frame-1")
    for text in (message.message_id, message.conversation_id, message.sender_id, message.sender_name, message.text):
        assert isinstance(text, str)
    assert isinstance(message.quote, str)
    assert message.sender_id, "a message without a sender could not be put in order"
    assert message.session == "", "it is the robot's to say"
    assert message.message_id, "a message without an id could not be recognized"
    assert message.problem in ("", "unsupported", "empty", "quota")
    assert message.text.strip() == message.text
    assert message.text or message.problem, "there is nothing to ask and no reason why"
    stored = json.loads(json.dumps(dataclasses.asdict(message)))
    assert IncomingMessage(**stored) == message
    return message


def test_a_text_message_is_read_field_by_field() -> None:
    data = payload()
    assert read_message(data) == IncomingMessage(
        message_id="msgrK2xxxxU+riw==",
        conversation_id="cid6EUxxxxsg==",
        sender_id="0147xxxx8602",
        sender_name="小钉",
        text="你好",
        problem="",
        source=data,
        from_admin=True,
    )


@pytest.mark.parametrize("said", [False, None, "true", "false", 1, [True]], ids=repr)
def test_only_a_true_of_dingtalks_makes_somebody_an_administrator(said: Any) -> None:
    assert read_message(payload(isAdmin=True)).from_admin is True
    assert read_message(payload(isAdmin=said)).from_admin is False


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("text", "你好", ""),
        ("quoting", "当前消息", ""),
        ("delegated", "你好", ""),
        ("richText", "这个问题示例图如下：\nand so on", ""),
        ("audio", "钉钉，让进步发生", ""),
        ("picture", "", "unsupported"),
        ("video", "", "unsupported"),
        ("file", "", "unsupported"),
        ("unknownMsgType", "", "unsupported"),
        ("chatRecord", "", "unsupported"),
        ("interactiveCard", "", "unsupported"),
        ("quota", "", "quota"),
    ],
)
def test_every_kind_of_message_is_a_question_or_a_known_problem(kind: str, text: str, problem: str) -> None:
    message = check(payload(**CONTENTS[kind]))
    assert (message.text, message.problem) == (text, problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"text": {"content": "  \n "}}, "empty"),
        ({"text": {"content": ""}}, "empty"),
        ({"text": {}}, "empty"),
        ({"text": None}, "empty"),
        ({"text": "hello"}, "empty"),
        ({"text": {"content": ["hello"]}}, "empty"),
        ({"msgtype": "richText", "text": None, "content": {"richText": []}}, "empty"),
        ({"msgtype": "richText", "text": None, "content": None}, "empty"),
        ({"msgtype": "richText", "text": None, "content": {"richText": [{"downloadCode": "mIof"}]}}, "unsupported"),
        ({"msgtype": "audio", "text": None, "content": {"downloadCode": "mIof"}}, "unsupported"),
        ({"msgtype": "audio", "text": None, "content": {"recognition": "  "}}, "unsupported"),
        ({"msgtype": None}, "unsupported"),
        ({"msgtype": 5}, "unsupported"),
        ({"msgtype": ["text"]}, "unsupported"),
    ],
)
def test_a_message_without_text_says_why_there_is_none(content: dict[str, Any], problem: str) -> None:
    message = check(payload(**content))
    assert (message.text, message.problem) == ("", problem)


@pytest.mark.parametrize("name", ["errorCode", "errCode"])
@pytest.mark.parametrize("code", [20001, "20001"])
def test_a_withheld_text_is_a_quota_problem_under_both_documented_names(name: str, code: Any) -> None:
    assert check(payload(text=None, **{name: code})).problem == "quota"
    assert check(payload(**{name: 20002})).problem == "", "another code is not this problem"


@pytest.mark.parametrize(
    ("changes", "sender"),
    [
        ({}, "0147xxxx8602"),
        ({"senderStaffId": None}, "$:LWCP_v1:$sender"),
        ({"senderStaffId": ""}, "$:LWCP_v1:$sender"),
        ({"senderStaffId": "  "}, "$:LWCP_v1:$sender"),
        ({"senderStaffId": 5}, "5"),
        ({"senderStaffId": None, "senderId": None}, "cid6EUxxxxsg=="),
        ({"senderStaffId": None, "senderId": None, "conversationId": None}, "msgrK2xxxxU+riw=="),
    ],
)
def test_the_sender_is_the_staff_id_or_else_the_next_best(changes: dict[str, Any], sender: str) -> None:
    assert check(payload(**changes)).sender_id == sender


@pytest.mark.parametrize(
    ("replied", "quote"),
    [
        ({"msgType": "text", "content": {"text": " Before? "}}, "Before?"),
        ({"msgType": "text", "content": " Before? "}, "Before?"),
        ({"msgType": "text", "content": json.dumps({"text": "Before?"})}, "Before?"),
        (
            {"msgType": "richText", "content": {"richText": [{"text": "one"}, {"img": 5}, {"content": "two"}]}},
            "one\ntwo",
        ),
        ({"msgType": "audio", "content": {"recognition": "Heard?"}}, "Heard?"),
        ({"msgType": "file", "content": {"fileName": "report.pdf"}}, "report.pdf"),
        ({"msgType": "text", "content": {"text": "x" * 5000}}, "x" * 4000),
        ({"msgType": "picture", "content": {"downloadCode": "mIof"}}, ""),
        ({"msgType": "interactiveCard"}, ""),
        ({"content": "[" * 100_000}, "[" * 4000),
        ("report.pdf", ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("kind", ["text", "richText"])
def test_what_a_message_answers_to_is_read_as_far_as_it_is_told(kind: str, replied: Any, quote: str) -> None:
    content = {"content": "And now?"} if kind == "text" else {"richText": [{"text": "And now?"}]}
    field = "text" if kind == "text" else "content"
    message = check(payload(**{"text": None, "msgtype": kind, field: {**content, "repliedMsg": replied}}))
    assert (message.text, message.quote) == ("And now?", quote)


def test_a_message_without_an_id_has_that_of_its_frame() -> None:
    assert read_message(payload(msgId=None), fallback_id="frame-7").message_id == "frame-7"
    first, second = (read_message(payload(msgId=None)).message_id for _ in range(2))
    assert first and second and first != second, "two such messages are not one message delivered twice"


@pytest.mark.parametrize("kind", CONTENTS)
def test_no_broken_field_raises_or_makes_a_message_without_sender(kind: str) -> None:
    count = 0
    for data in broken(payload(**CONTENTS[kind])):
        check(data)
        assert chatbot_message(data) is not None
        count += 1
    assert count > 250


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"text": {"content": "hi"}},
        {"msgtype": "text"},
        {"msgtype": "richText"},
        {"x": [{}]},
        {"msgId": "m", "": ""},
    ],
)
def test_garbage_is_a_message_too(data: dict[str, Any]) -> None:
    assert check(data).problem in ("empty", "unsupported")
    assert not is_group(chatbot_message(data))


def test_the_sdks_view_of_a_message_is_the_sdks() -> None:
    message = chatbot_message(payload())
    assert message.text.content == " 你好"
    assert (message.message_id, message.conversation_id) == ("msgrK2xxxxU+riw==", "cid6EUxxxxsg==")
    assert (message.sender_staff_id, message.sender_nick) == ("0147xxxx8602", "小钉")


@pytest.mark.parametrize(
    "changes",
    [
        CONTENTS["quota"],
        {"text": None},
        {"text": 5},
        {"hostingContext": {"nick": "n"}},
        {"hostingContext": 5},
        {"atUsers": 5},
        {"atUsers": [None]},
        {"sessionWebhookExpiredTime": "soon"},
        {"conversationMsgContext": [{}]},
        {"msgtype": "picture"},
        {"msgtype": "richText", "content": 5},
    ],
)
def test_where_the_sdk_cannot_read_a_message_a_reply_can_still_be_addressed(changes: dict[str, Any]) -> None:
    message = chatbot_message(payload(**changes))
    assert (message.message_id, message.conversation_id, message.conversation_type) == (
        "msgrK2xxxxU+riw==",
        "cid6EUxxxxsg==",
        "2",
    )
    assert (message.sender_staff_id, message.sender_nick, message.sender_id) == (
        "0147xxxx8602",
        "小钉",
        "$:LWCP_v1:$sender",
    )
    assert message.session_webhook == "http://127.0.0.1:9/robot/sendBySession?session=66d7"


@pytest.mark.parametrize(("kind", "group"), [("2", True), ("1", False), (None, False), ("", False), (2, True)])
def test_only_conversation_type_2_is_a_group(kind: Any, group: bool) -> None:
    assert is_group(chatbot_message(payload(conversationType=kind))) is group


def test_reading_leaves_the_payload_as_it_was() -> None:
    data = payload(**CONTENTS["delegated"])
    before = copy.deepcopy(data)
    read_message(data)
    chatbot_message(data)
    assert data == before
