"""The timeline by itself: what the robot does seldom, or never, and still has to be read right."""

from __future__ import annotations

import json
from typing import Any

from imRobots.dingTalkStreamType.config import CardVariables
from imRobots.dingTalkStreamType.template import Template, delivery
from imRobots.Meta import texts_for
from tests.dingtalk.helpers import payload
from tests.fakes.gateway import (
    CARD_TOPIC,
    CREATE_CARD,
    MESSAGE_TOPIC,
    SEND_CARD,
    SEND_TO_GROUP,
    STREAM_CARD,
    UPDATE_CARD,
    UPDATE_INSTANCE,
    WEBHOOK,
)
from tests.sandbox.dingtalk import timeline as module
from tests.sandbox.dingtalk.timeline import Timeline

GROUP = payload()["conversationId"]
HOOK = "https://oapi.dingtalk.com/robot/sendBySession?session="


class Played:
    """A timeline, and one second between any two things that happen."""

    def __init__(self) -> None:
        self.marks: list[str] = []
        self.timeline = Timeline(lambda answer, what, at, question: self.marks.append(f"{answer} {what} {at:g}"))
        self.now = 0.0

    def said(self, message: str, text: str = "Why?", person: str = "Ann", **changes: Any) -> None:
        data = payload(
            msgId=message, text={"content": text}, senderStaffId=person, sessionWebhook=HOOK + message, **changes
        )
        self._came(MESSAGE_TOPIC, data, f"frame-{message}")

    def clicked(self, card: str, button: str, frame: str) -> None:
        content = json.dumps({"cardPrivateData": {"actionIds": [button], "params": {}}})
        self._came(CARD_TOPIC, {"outTrackId": card, "userId": "Ann", "content": content}, frame)

    def acked(self, frame: str) -> None:
        self.now += 1
        self.timeline.went({"code": 200, "headers": {"messageId": frame}}, self.now)

    def called(self, method: str, path: str, body: Any, refused: str | None = None) -> None:
        self.now += 1
        url = path if path.startswith("http") else f"https://api.dingtalk.com{path}"
        self.timeline.called(method, path, url, body, self.now, refused=refused is not None, code=refused or "")

    def opened(self, card: str, question: str = "Why?", told: str = "Ann", refused: str | None = None) -> None:
        names = CardVariables(title="headline", status="state")
        variables = Template("t.schema", names).variables("2", [], title=question, content="…")
        self.called("POST", CREATE_CARD, delivery("t.schema", card, variables, "bot", GROUP, {told: told}), refused)

    def ended(self, card: str) -> None:
        self.called("PUT", UPDATE_INSTANCE, {"outTrackId": card, "cardData": {"cardParamMap": {"state": "3"}}})

    def wrote(self, message: str, kind: str, text: str) -> None:
        content = {"text": {"content": text}, "markdown": {"title": "x", "text": text}}[kind]
        self.called("POST", HOOK + message, {"msgtype": kind, kind: content})

    def _came(self, topic: str, data: Any, frame: str) -> None:
        self.now += 1
        self.timeline.came(
            {"type": "CALLBACK", "headers": {"topic": topic, "messageId": frame}, "data": data}, self.now
        )


def test_each_moment_has_its_time() -> None:
    played = Played()
    played.said("m1")
    played.acked("frame-m1")
    played.opened("ai-1")
    played.called("PUT", STREAM_CARD, {"outTrackId": "ai-1"})
    played.ended("ai-1")
    played.ended("ai-1")  # the last word once more
    played.called("PUT", STREAM_CARD, {"outTrackId": "ai-1"})
    assert played.marks == ["m1 received 1", "m1 acknowledged 2", "m1 first 3", "m1 update 4", "m1 final 5"]


def test_the_same_question_of_two_is_told_apart_by_who_is_told() -> None:
    played = Played()
    played.said("m1", person="Ann")
    played.said("m2", person="Ben")
    played.opened("ai-2", told="Ben")
    played.opened("ai-1", told="Ann")
    assert played.marks[2:] == ["m2 first 3", "m1 first 4"]


def test_a_long_question_is_cut_in_the_title_of_its_card() -> None:
    played = Played()
    played.said("m1", "w" * 300)
    played.said("m2", "w" * 200)
    played.opened("ai-2", "w" * 200)
    played.opened("ai-1", "w" * 300)
    assert played.marks[2:] == ["m2 first 3", "m1 first 4"]


def test_a_card_that_is_there_already_is_shown_and_any_other_refusal_is_not() -> None:
    played = Played()
    played.said("m1")
    played.opened("ai-1", refused="param.invalid")
    played.opened("ai-1", refused="")
    played.opened("ai-1", refused="param.cardAlreadyExist")
    played.opened("ai-1", refused="param.cardAlreadyExist")
    played.called("PUT", STREAM_CARD, {"outTrackId": "ai-1"}, refused="param.invalid")
    assert played.marks[1:] == ["m1 first 4"]


def test_further_cards_each_end_a_long_answer() -> None:
    played = Played()
    played.said("m1")
    played.opened("ai-1")
    played.ended("ai-1")
    played.opened("ai-1.1", "")
    played.opened("ai-1.2", "")
    played.ended("ai-1")
    assert played.marks[1:] == ["m1 first 2", "m1 final 3", "m1 final 4", "m1 final 5"]


def test_only_a_click_on_regenerate_asks_again_and_the_latest_one_counts() -> None:
    played = Played()
    played.said("m1")
    played.opened("ai-1")
    played.ended("ai-1")
    played.clicked("ai-1", "helpful", "f1")
    played.opened("ai-2")
    played.clicked("ai-1", "regenerate", "f2")
    played.acked("f2")
    played.clicked("ai-unknown", "regenerate", "f3")
    played.clicked("ai-1", "regenerate", "f4")
    played.opened("ai-3")
    played.acked("f4")
    played.ended("ai-3")
    assert played.marks[3:] == ["f4 received 9", "f4 first 10", "f4 acknowledged 11", "f4 final 12"]


def test_what_was_asked_again_may_come_as_markdown() -> None:
    played = Played()
    played.said("m1")
    played.wrote("m1", "markdown", "Because.")
    played.opened("ai-1")
    assert played.marks == ["m1 received 1", "m1 first 2", "m1 final 2"]
    played.said("m2")
    played.opened("ai-2")
    played.ended("ai-2")
    played.clicked("ai-2", "regenerate", "f1")
    played.wrote("m2", "text", "@Ann Ask your next question.")
    played.wrote("m2", "markdown", "Because!")
    assert played.marks[6:] == ["f1 received 7", "f1 first 9", "f1 final 9"]


def test_a_thinking_line_is_seen_first_and_each_markdown_part_ends_it() -> None:
    for language in ("en-US", "zh-CN"):
        played = Played()
        played.said("m1")
        played.wrote("m1", "text", f"@Ann {texts_for(language, '').thinking}")
        played.wrote("m1", "markdown", "One")
        played.wrote("m1", "markdown", "Two")
        assert played.marks[1:] == ["m1 first 2", "m1 final 3", "m1 final 4"]


def test_a_sentence_is_all_that_a_command_gets() -> None:
    played = Played()
    played.said("m1", "/help")
    played.wrote("m1", "text", "This is what I can do")
    played.wrote("elsewhere", "text", "Nobody knows this webhook")
    played.opened("ai-1", "/help")
    assert played.marks[1:] == ["m1 first 2", "m1 final 2"]


def test_a_message_of_the_robots_own_goes_to_who_waits_there_without_a_card() -> None:
    played = Played()
    played.said("m1", "One?")
    played.opened("ai-1", "One?")
    played.said("m2", "Two?")
    content = json.dumps({"title": "x", "text": "Because."})
    played.called("POST", SEND_TO_GROUP, {"openConversationId": GROUP, "msgKey": "sampleMarkdown", "msgParam": content})
    assert played.marks[3:] == ["m2 first 4", "m2 final 4"]


def test_standard_cards_one_to_one() -> None:
    played = Played()
    played.said("m1", conversationType="1", conversationId="cid-between-us")
    card = {"header": {"title": {"text": "Why?"}}, "contents": [{"type": "markdown"}]}
    receiver = json.dumps({"userId": "Ann"})
    body = {"cardBizId": "c1", "cardData": json.dumps(card), "singleChatReceiver": receiver}
    played.called("POST", SEND_CARD, {**body, "singleChatReceiver": json.dumps({"userId": "Ben"})})
    played.called("POST", SEND_CARD, body)
    played.called("PUT", UPDATE_CARD, body)
    card["contents"].append({"type": "action"})  # type: ignore[attr-defined]
    played.called("PUT", UPDATE_CARD, {**body, "cardData": json.dumps(card)})
    played.called("PUT", UPDATE_CARD, {"cardBizId": "of an earlier process", "cardData": "{}"})
    assert played.marks[1:] == ["m1 first 3", "m1 update 4", "m1 final 5"]


def test_what_one_person_sees_is_no_update() -> None:
    played = Played()
    played.said("m1")
    played.opened("ai-1")
    played.called("PUT", UPDATE_INSTANCE, {"outTrackId": "ai-1", "privateData": {"Ann": {"cardParamMap": {}}}})
    assert played.marks[1:] == ["m1 first 2"]


def test_a_message_that_is_delivered_again_keeps_its_beginning() -> None:
    played = Played()
    played.said("m1")
    played.said("m1")
    played.acked("frame-m1")
    played.acked("frame-m1")
    assert played.marks == ["m1 received 1", "m1 acknowledged 3"]


def test_old_answers_are_forgotten() -> None:
    played = Played()
    for number in range(3 * module._KEPT):
        played.said(f"m{number}")
        played.opened(f"ai-{number}")
        played.clicked(f"ai-{number}", "regenerate", f"f{number}")
    kept = played.timeline
    sizes = [len(things) for things in (kept._answers, kept._cards, kept._unacknowledged)]
    assert sizes == [module._KEPT, 2 * module._KEPT, 2 * module._KEPT]
    played.opened("ai-x", "Who?")
    assert played.marks[-1].startswith("m899 first")


def test_bodies_of_any_shape_are_ignored() -> None:
    played = Played()
    played.said("m1")
    for path in (CREATE_CARD, SEND_CARD, SEND_TO_GROUP, STREAM_CARD, UPDATE_CARD, UPDATE_INSTANCE, WEBHOOK):
        for value in (None, 5, "{", [], {}, {"x": 1}):
            names = (
                "openSpaceId",
                "cardData",
                "outTrackId",
                "cardBizId",
                "sendOptions",
                "userIds",
                "msgParam",
                "msgtype",
            )
            for method in ("POST", "PUT"):
                played.called(method, path, dict.fromkeys(names, value))
    for data in (None, 5, [], {}, {"msgId": {}, "text": 3}, {"outTrackId": 5}):
        for topic in (MESSAGE_TOPIC, CARD_TOPIC):
            played._came(topic, data, "")
    assert {mark.split()[0] for mark in played.marks if mark.split()[1] != "received"} == set()
