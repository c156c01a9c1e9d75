"""What people in a DingTalk chat see, whatever they write and whoever they are."""

from __future__ import annotations

import json
import threading

import pytest

from tests.contracts.im_type import IMTypeContract
from tests.fakes.agents import ERROR_EVENT, SIDE_EVENTS, DocumentedAgent, HiddenAgent, ReferenceAgent
from tests.fakes.gateway import CREATE_CARD, SEND_CARD, Gateway
from tests.scenarios.conftest import DEMO, Scene

ENGLISH = ["😄 Very Helpful", "😊 Helpful", "🙂 Somewhat Helpful", "😅 Not Helpful"]
CHINESE = ["😄 非常有帮助", "😊 有帮助", "🙂 帮助不大", "😅 没帮助"]


class TestDingTalkType(IMTypeContract):
    @pytest.fixture
    def chat(self, scene: Scene) -> Scene:
        return scene.boot()


def labels(card) -> list[str]:
    return [button["label"]["text"] for button in card.buttons]


def test_a_card_fills_up_and_ends_with_four_ratings(scene: Scene) -> None:
    scene.agent(ReferenceAgent("one two three four five six seven", chunks=7))
    scene.boot().say("What is it?")
    card = scene.card("What is it?")
    assert card.states[0].text == "[Thinking] Analyzing your question, please wait..."
    assert card.text == "one two three four five six seven"
    assert labels(card) == ENGLISH
    values = [json.loads(button["value"]) for button in card.buttons]
    assert [value["type"] for value in values] == ["helpful", "helpful", "unhelpful", "unhelpful"]
    assert len({value["rating"] for value in values}) == 4
    for state in card.states:
        ids = [element["id"] for element in state.data["contents"]]
        ids += [part["id"] for button in state.buttons for part in (button, button["label"])]
        assert len(ids) == len(set(ids))


def test_a_chinese_question_is_served_in_chinese(scene: Scene) -> None:
    scene.boot().say("这是什么？")
    card = scene.card("这是什么？")
    assert card.states[0].text == "[思考]正在分析您的问题，请稍候..."
    assert labels(card) == CHINESE


def test_the_language_can_be_fixed(scene: Scene) -> None:
    scene.boot(language="zh-CN").say("What is it?")
    assert labels(scene.card("What is it?")) == CHINESE


def test_a_click_on_a_standard_card_reaches_nobody(scene: Scene) -> None:
    scene.boot().say("What is it?")
    assert scene.gateway.click(scene.card("What is it?"), ENGLISH[0]) == ""


@pytest.mark.parametrize("group", [True, False])
def test_the_asker_is_addressed(scene: Scene, group: bool) -> None:
    scene.boot().say("What is it?", group=group)
    body = scene.card("What is it?").send_body
    assert ("openConversationId" in body) is group
    assert json.loads(body["sendOptions"]["atUserListJson"]) == [{"nickName": "Ann", "userId": "staff-Ann"}]


def test_an_outsider_in_a_group_gets_a_card_without_an_at(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot().say("May I ask?", staff=False)
    assert "atUserListJson" not in scene.card("May I ask?").send_body["sendOptions"]
    assert agent.calls[0].chatId == "$:LWCP_v1:$Ann"


def test_before_the_robot_is_published_one_to_one_answers_come_as_markdown(scene: Scene) -> None:
    scene.gateway.published = False
    scene.boot().say("Anybody there?", group=False)
    assert scene.sentence() == "Hello!"
    assert scene.gateway.webhooks[0].kind == "markdown"
    assert not scene.gateway.cards


def test_a_long_answer_without_a_card_comes_in_parts_that_fit(scene: Scene) -> None:
    paragraphs = [f"{number}. " + "这是一个很长的段落。" * 60 for number in range(40)]
    scene.agent(ReferenceAgent("\n\n".join(paragraphs), chunks=0))
    scene.boot().say("Much?", group=False, staff=False)
    last = scene.gateway.wait_for(lambda: [m for m in scene.gateway.webhooks if m.text.endswith(paragraphs[-1])])
    parts = scene.gateway.webhooks
    assert parts[-1] is last[0] and len(parts) > 1
    assert "\n\n".join(part.text for part in parts) == "\n\n".join(paragraphs)


def test_two_outsiders_have_sessions_of_their_own(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot()
    scene.say("One?", sender="Ann", staff=False)
    scene.say("Two?", sender="Bob", staff=False)
    scene.card("One?"), scene.card("Two?")
    assert len({call.chatId for call in agent.calls}) == 2


def test_rich_text_is_read_as_its_texts(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    parts = [{"text": "Look at this:"}, {"type": "picture", "downloadCode": "code"}, {"text": "What is it?"}]
    scene.boot().say("", msgtype="richText", text=None, content={"richText": parts})
    scene.gateway.wait_for(lambda: agent.calls)
    assert agent.calls[0].text == "Look at this:\nWhat is it?"


def test_a_voice_message_is_read_as_what_was_understood(scene: Scene) -> None:
    content = {"duration": 4000, "downloadCode": "code", "recognition": "What is it?"}
    scene.boot().say("", msgtype="audio", text=None, content=content, group=False)
    assert scene.card("What is it?").text == "Hello!"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("picture", {"downloadCode": "code"}),
        ("video", {"duration": "5", "videoType": "mp4", "downloadCode": "code"}),
        ("file", {"fileName": "foobar.zip", "downloadCode": "code"}),
        ("audio", {"duration": 4000, "downloadCode": "code"}),
        ("richText", {"richText": [{"type": "picture", "downloadCode": "code"}]}),
        ("unknownMsgType", {"unknownMsgType": "?"}),
        ("interactiveCard", None),
        (None, None),
    ],
)
def test_what_cannot_be_read_gets_a_polite_sentence(scene: Scene, kind: str | None, content: dict | None) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot().say("", msgtype=kind, text=None, content=content)
    assert "only read text" in scene.sentence()
    assert scene.gateway.webhooks[0].kind == "text"
    assert not agent.calls


@pytest.mark.parametrize("text", [{"content": "  \n "}, {}, None])
def test_an_empty_message_gets_a_polite_sentence(scene: Scene, text: dict | None) -> None:
    scene.boot().say("", text=text)
    assert "found no text" in scene.sentence()


@pytest.mark.parametrize("code", [{"errorCode": 20001}, {"errCode": "20001"}])
def test_an_exhausted_quota_is_said_once_per_conversation(scene: Scene, code: dict) -> None:
    scene.boot()
    for conversation in ("one", "one", "two"):
        scene.say("", text=None, msgtype=None, conversation=conversation, **code)
    scene.sentence(2)
    scene.say("Still there?")
    scene.card("Still there?")
    assert sorted(message.conversation for message in scene.gateway.webhooks) == ["one", "two"]
    assert len(scene.host.logged("error", "quota")) == 3
    assert len(scene.gateway.acks) == 4


def test_a_redelivery_has_another_frame_and_runs_once(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot()
    question = scene.say("Once?")
    for _ in range(3):
        scene.say("Once?", message_id=question)
    scene.card("Once?")
    scene.say("Next?")
    scene.card("Next?")
    assert [call.text for call in agent.calls] == ["Once?", "Next?"]
    assert len(scene.gateway.cards) == 2
    scene.gateway.wait_for(lambda: len(scene.gateway.acks) == 5)


@pytest.mark.parametrize("kind", [ReferenceAgent, DocumentedAgent, HiddenAgent])
def test_agents_of_every_documented_form_are_understood(scene: Scene, kind: type) -> None:
    agent = scene.agent(kind("The answer.", events=(*SIDE_EVENTS[:3], ERROR_EVENT)))
    scene.boot().say("What is it?")
    card = scene.card("What is it?")
    assert card.text == "The answer."
    assert not any("think" in state.text for state in card.states[1:])
    assert agent.calls[0].form == ("user_input" if kind is DocumentedAgent else "params")


def test_a_hidden_signature_is_called_as_configured(scene: Scene) -> None:
    agent = scene.agent(HiddenAgent("The answer."))
    scene.boot(agentCall="documented").say("What is it?")
    scene.card("What is it?")
    assert agent.calls[0].form == "user_input"


@pytest.mark.parametrize(
    "result", ["The answer.", {"output": "The answer."}, [{"type": "ai", "content": "The answer."}], None, "", {}]
)
def test_results_of_every_documented_shape_are_read(scene: Scene, result: object) -> None:
    scene.agent(ReferenceAgent("The answer.", result=result))
    scene.boot().say("What is it?")
    assert scene.card("What is it?").text == "The answer."


def test_an_agent_that_says_nothing_is_explained(scene: Scene) -> None:
    scene.agent(ReferenceAgent("", result=None))
    question = scene.boot().say("What is it?")
    assert "went wrong" in scene.answer(question)


def test_an_agent_that_does_not_exist_is_named_in_the_log_only(scene: Scene) -> None:
    question = scene.boot(agent="aiagents.nobody").say("What is it?")
    answer = scene.answer(question)
    assert "went wrong" in answer and "nobody" not in answer
    (record,) = scene.host.logged("exception")
    assert DEMO in record.message and "aiagents.nobody" in record.traceback and "`agent`" in record.traceback


def test_what_an_agent_said_before_it_failed_is_kept(scene: Scene) -> None:
    scene.agent(ReferenceAgent("Half of the", error=RuntimeError("inner secret")))
    question = scene.boot().say("What is it?")
    assert scene.answer(question).startswith("Half of the\n\nSorry, something went wrong")
    (card,) = scene.gateway.cards.values()
    assert not card.buttons


def test_a_waiting_question_shows_its_place(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.questions._PLACE_AFTER", (0.01,))
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot(maxConcurrency=1)
    scene.say("First?", sender="Ann")
    scene.say("Second?", sender="Bob")
    scene.say("Third?", sender="Cem")
    scene.gateway.wait_for(lambda: "number 2 in the queue" in scene.gateway.card_for("Third?").text)
    scene.gateway.wait_for(lambda: "number 1 in the queue" in scene.gateway.card_for("Second?").text)
    gate.set()
    assert scene.card("Third?").text == "Hello!"


def test_too_many_questions_of_one_person_are_told_apart_from_too_many_at_all(scene: Scene) -> None:
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot(maxConcurrency=1, maxQueue=6)
    for number in range(7):  # one runs, five wait, one is too many
        scene.say(f"Question {number}?", sender="Ann")
    assert "One at a time" in scene.sentence(1)
    scene.say("Me too?", sender="Bob")
    scene.say("And me?", sender="Cem")
    assert "Many people are asking" in scene.sentence(2)
    gate.set()
    assert scene.card("Me too?").text == "Hello!"
    assert scene.card("Question 5?").text == "Hello!"


def test_answers_have_at_most_twenty_updates(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.answer._GAPS", (0.0,) * 100)
    scene.agent(ReferenceAgent("word " * 400, delay=0.001))
    scene.boot().say("Much?")
    scene.card("Much?")
    assert len([call for call in scene.gateway.calls if call.method == "PUT"]) <= 20


def test_a_message_after_a_stop_and_a_start_is_answered(scene: Scene) -> None:
    manager = scene.boot().manager
    handler = manager.handler
    scene.say("Before?")
    scene.card("Before?")
    manager.stop()
    assert manager.state == "stopped"
    scene.gateway.wait_for(lambda: scene.gateway.connections() == 0)
    manager.start(handler)
    scene.say("After?")
    assert scene.card("After?").text == "Hello!"


def test_an_agent_that_outlives_the_stop_is_counted_and_its_result_dropped(scene: Scene) -> None:
    gate = threading.Event()
    scene.agent(ReferenceAgent("Too late.", gate=gate))
    manager = scene.boot().manager
    scene.say("Will it end?")
    scene.gateway.wait_for(lambda: scene.manager.status().get("running") == 1 or scene.gateway.cards)
    manager.stop(timeout=0.5)
    assert manager.state == "stopped"
    assert "interrupted" in scene.gateway.card_for("Will it end?").text
    assert scene.host.logged("warning", "1 agents still running")
    gate.set()


def test_a_lost_connection_in_mid_answer_loses_no_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.stream_client.backoff", lambda first, limit: iter([0.01] * 100))
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot().say("Are you there?")
    scene.gateway.card_for("Are you there?")
    scene.gateway.drop_connections()
    scene.gateway.wait_connected()
    gate.set()
    assert scene.card("Are you there?").text == "Hello!"


def test_a_server_that_disconnects_gets_a_new_connection_first(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.stream_client.backoff", lambda first, limit: iter([0.01] * 100))
    scene.boot().gateway.system("disconnect")
    scene.gateway.wait_connected()
    scene.say("Moved?")
    assert scene.card("Moved?").text == "Hello!"


def test_a_card_that_is_refused_becomes_markdown(scene: Scene) -> None:
    for path in (SEND_CARD, CREATE_CARD):
        scene.gateway.refuse(path, status=403, code="Forbidden.AccessDenied.AccessTokenPermissionDenied")
    scene.boot().say("What is it?")
    assert scene.sentence() == "@staff-Ann  \nHello!"
    assert scene.host.logged("error", "AccessTokenPermissionDenied")


def test_a_final_card_is_sent_again_until_it_is_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox.backoff", lambda first, limit: iter([0.01] * 100))
    throttled = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
    scene.gateway.refuse("/im/robots/interactiveCards", status=403, code=throttled, times=3)
    scene.gateway.refuse("interactiveCards/send", status=500, code="system.error", times=2)
    scene.boot().say("What is it?")
    assert scene.card("What is it?").text == "Hello!"


def test_a_send_that_only_seemed_to_fail_makes_no_second_card(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox.backoff", lambda first, limit: iter([0.01] * 100))
    monkeypatch.setattr("imRobots.dingTalkStreamType.network._SECONDS", 1.0)
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot().say("Ready?")
    scene.gateway.card_for("Ready?")
    scene.gateway.latency = 1.5
    scene.say("Twice?")
    scene.gateway.card_for("Twice?")
    scene.gateway.latency = 0.0
    gate.set()
    assert scene.card("Twice?").text == "Hello!"
    assert [card.title for card in scene.gateway.cards.values()].count("Twice?") == 1


def test_an_expired_token_is_renewed_unnoticed(scene: Scene) -> None:
    scene.boot().say("First?")
    scene.card("First?")
    scene.gateway.expire_tokens()
    scene.say("Second?")
    assert scene.card("Second?").text == "Hello!"
    assert not scene.host.logged("error")


def test_wrong_credentials_are_reported_and_the_app_goes_on(gateway: Gateway, scene: Scene) -> None:
    scene.host.env_vars["DINGTALK_CLIENT_SECRET"] = "another"
    scene.host.boot()
    assert "check clientId and clientSecret" in scene.wait_logged("error", "authFailed").message
    assert scene.manager.is_running() and not scene.manager.wait_ready(0)
    scene.manager.stop()
    assert scene.manager.state == "stopped"
