"""What people tell the robot besides asking: stop, ask again, go on, a fresh start, help. By buttons and by words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import SEND_CARD, Gateway
from tests.fakes.records import TemplateCard
from tests.scenarios.conftest import DEMO, Scene
from tests.scenarios.robot_process import RobotProcess

REGENERATE, KEEP_ASKING, STOP = "🔄 Regenerate", "[Question] Keep Asking", "⏹ Stop"
GO_ON = "Please go on with your question, and I will go on answering."
GO_ON_CHINESE = "请继续输入您的问题，我会继续为您解答。"
ONLY_THE_ASKER = "Only the person who asked can do this."
NOTHING_TO_STOP = "There is nothing to stop: I am not working on a question of yours here."
STOPPED = "(Stopped.)"


class Gate(threading.Event):
    """What an agent waits for in the middle of its answer, and tells when it does."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Open at the end of a test."""
    gate = Gate()
    yield gate
    gate.set()


def click(gateway: Gateway, card: Any, button: str, person: str = "Ann") -> None:
    """Click, and wait until it is acknowledged."""
    frame = gateway.click(card, button, person=person)
    assert gateway.wait_for(lambda: gateway.acks.get(frame)).code == 200


def asked(scene: Scene, question: str = "What is it?", **options: Any) -> TemplateCard:
    """Ask; the card with its last buttons, after the robot knows that they are there."""
    answered = scene.manager.status().get("answered", 0)
    scene.say(question, **options)
    eventually(lambda: scene.manager.status()["answered"] > answered, "an answer")
    return scene.gateway.card_for(question)  # type: ignore[return-value]


def known(scene: Scene, question: str) -> TemplateCard:
    """The card of this question, once the robot has heard that it is there."""
    card = scene.gateway.card_for(question)
    eventually(lambda: scene.manager.handler.store.find_answer(card.id), "a card that the robot knows")
    return card  # type: ignore[return-value]


def running(scene: Scene, question: str = "How long?", **options: Any) -> TemplateCard:
    """Ask; the card while the agent, which stops at its gate, is in the middle of its answer."""
    scene.say(question, **options)
    agent = scene.host.get_element("aiagents.ragTest")
    eventually(lambda: any(call.text == question for call in agent.calls) and agent.gate.reached.is_set())
    return known(scene, question)


def all_done(scene: Scene) -> bool:
    status = scene.manager.status()
    return not (status["in_flight"] or status["queued"] or status["abandoned"] or status["unsent"])


def cards(scene: Scene, question: str) -> list[TemplateCard]:
    return [card for card in scene.gateway.cards.values() if card.title == question]  # type: ignore[misc]


def save(scene: Scene, **config: Any) -> None:
    """Change the configuration while the robot runs."""
    demo = json.loads(scene.host.element(DEMO).getFile("config.json"))
    scene.host.save(DEMO, "config.json", json.dumps({**demo, **config}))
    scene.connections()


# ---- Regenerate


def test_regenerate_asks_again_in_a_new_card(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("The first."))
    card = asked(scene.boot(cardType="ai"))
    agent.answer = "The second."
    click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 2)
    first, second = cards(scene, "What is it?")
    assert (first.text, second.text) == ("The first.", "The second.")
    assert second.labels == first.labels
    assert second.conversation == first.conversation
    assert second.mentions == ["staff-Ann"]
    assert [(call.text, call.chatId) for call in agent.calls] == [("What is it?", "staff-Ann")] * 2


def test_a_double_click_regenerates_once_and_the_new_answer_can_be_regenerated(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    card = asked(scene.boot(cardType="ai"))
    for _ in range(3):
        click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 2)
    click(scene.gateway, cards(scene, "What is it?")[1], REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 3)
    assert len(agent.calls) == len(cards(scene, "What is it?")) == 3


def test_only_the_asker_may_regenerate(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, REGENERATE, person="Bob")
    assert card.view("staff-Bob").note == ONLY_THE_ASKER
    assert not card.note and not card.view("staff-Ann").note
    click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 2)
    assert len(agent.calls) == 2


def test_regenerate_waits_for_what_the_session_is_still_doing(scene: Scene, gate: Gate) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    card = asked(scene.boot(cardType="ai"))
    agent.gate = gate
    running(scene)
    click(scene.gateway, card, REGENERATE)
    scene.gateway.wait_for(lambda: len(cards(scene, "What is it?")) == 2)
    assert len(agent.calls) == 2
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 3)
    assert [call.text for call in agent.calls] == ["What is it?", "How long?", "What is it?"]
    assert agent.max_running == 1


def test_regenerate_repeats_the_quote_as_well(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    replied = {"msgType": "text", "content": {"text": "The sky is green."}}
    scene.boot(cardType="ai")
    scene.say("", text={"content": "Is it?", "isReplyMsg": True, "repliedMsg": replied})
    eventually(lambda: scene.manager.status()["answered"] == 1)
    click(scene.gateway, scene.gateway.card_for("Is it?"), REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 2)
    assert [call.text for call in agent.calls] == ["> The sky is green.\n\nIs it?"] * 2


def test_a_failed_answer_can_be_asked_for_again(scene: Scene) -> None:
    scene.agent(ReferenceAgent("", error=RuntimeError("inner secret")))
    scene.boot(cardType="ai").say("What is it?")
    card = scene.gateway.card_for("What is it?")
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE])
    eventually(lambda: all_done(scene))
    scene.agent(ReferenceAgent("Hello!"))
    click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 1)
    assert cards(scene, "What is it?")[1].text == "Hello!"


def test_regenerate_can_be_tried_again_after_it_was_turned_away(scene: Scene, gate: Gate) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    card = asked(scene.boot(cardType="ai"))
    agent.gate = gate
    running(scene)
    for number in range(5):
        scene.say(f"Question {number}?")
        scene.gateway.card_for(f"Question {number}?")
    click(scene.gateway, card, REGENERATE)
    assert "One at a time" in scene.sentence()
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 7)
    click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 8)
    assert len(cards(scene, "What is it?")) == 2


def test_an_answer_of_a_killed_process_can_be_regenerated(gateway: Gateway, tmp_path: Path) -> None:
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}) as robot:
        robot.wait_ready()
        gateway.say("What is it?")
        robot.wait_status(answered=1)
    gateway.wait_for(lambda: gateway.connections() == 0)
    card = gateway.card_for("What is it?")
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}, answer="Anew.") as robot:
        robot.wait_ready()
        click(gateway, card, REGENERATE)
        robot.wait_status(answered=1)
        assert [(call.text, call.chatId) for call in robot.agent_calls] == [("What is it?", "staff-Ann")]
        gateway.say("/good")
        gateway.wait_for(lambda: gateway.webhooks)
    assert [one.text for one in gateway.cards.values()] == ["Hello!", "Anew."]


# ---- Keep Asking


@pytest.mark.parametrize(
    ("question", "button", "sentence"),
    [("What is it?", KEEP_ASKING, GO_ON), ("这是什么？", "[疑问] 继续追问", GO_ON_CHINESE)],
    ids=["English", "Chinese"],
)
def test_keep_asking_invites_to_go_on(scene: Scene, question: str, button: str, sentence: str) -> None:
    card = asked(scene.boot(cardType="ai"), question)
    for _ in range(2):  # a double click invites once
        click(scene.gateway, card, button)
    assert sentence in scene.sentence()
    scene.say("/help")
    scene.sentence(2)
    assert [sentence in message.text for message in scene.gateway.webhooks] == [True, False]


def test_keep_asking_works_when_the_webhook_has_expired(scene: Scene) -> None:
    scene.gateway.webhook_lifetime = 0.0
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, KEEP_ASKING)
    (message,) = scene.gateway.wait_for(lambda: scene.gateway.sent)
    assert GO_ON in message.text
    assert message.conversation == card.conversation


def test_only_the_asker_is_invited(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, KEEP_ASKING, person="Bob")
    assert card.view("staff-Bob").note == ONLY_THE_ASKER
    assert not scene.gateway.said()


# ---- Stop


def test_the_stop_button_ends_a_card_with_what_it_has(scene: Scene, gate: Gate) -> None:
    agent = scene.agent(ReferenceAgent("one two three", gate=gate))
    card = running(scene.boot(cardType="ai"))
    click(scene.gateway, card, STOP)
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE])
    assert (card.text, card.state) == (f"one\n\n{STOPPED}", "final")
    gate.set()
    eventually(lambda: all_done(scene))
    scene.say("Next?")
    eventually(lambda: scene.manager.status()["answered"] == 1)
    assert card.text == f"one\n\n{STOPPED}"
    assert scene.gateway.card_for("Next?").text == "one two three"
    assert [call.text for call in agent.calls] == ["How long?", "Next?"]
    assert not scene.gateway.said()
    assert not scene.host.logged("exception")


@pytest.mark.parametrize(
    ("rung", "command"), [("standard", "/stop"), ("ai", " /STOP "), ("markdown", "/stop"), ("markdown", "/停止")]
)
def test_words_stop_an_answer_on_every_rung(scene: Scene, gate: Gate, rung: str, command: str) -> None:
    scene.agent(ReferenceAgent("one two three", gate=gate))
    scene.boot(cardType=rung).say("How long?")
    eventually(gate.reached.is_set)
    scene.say(command)
    end = f"one\n\n{STOPPED}"

    def seen() -> list[str]:
        return [one.text for one in (*scene.gateway.cards.values(), *scene.gateway.webhooks) if end in one.text]

    scene.gateway.wait_for(seen)
    gate.set()
    scene.say("Next?")
    eventually(lambda: scene.manager.status()["answered"] == 1)
    eventually(lambda: all_done(scene))
    assert len(seen()) == 1
    texts = [one.text for one in (*scene.gateway.cards.values(), *scene.gateway.webhooks)]
    assert len([text for text in texts if "three" in text]) == 1  # of the next question
    assert len(texts) == 2


def test_a_stopped_answer_leaves_room_for_the_next_even_if_its_agent_does_not_notice(
    scene: Scene, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imRobots.Meta.questions._STOP_SECONDS", 0.1)
    scene.agent(ReferenceAgent("one two three", gate=gate))
    card = running(scene.boot(cardType="ai"))
    click(scene.gateway, card, STOP)
    scene.agent(ReferenceAgent("Hello!"))
    assert asked(scene, "Next?").text == "Hello!"


def test_an_agent_that_is_stopped_works_no_longer_than_to_its_next_chunk(scene: Scene, gate: Gate) -> None:
    scene.agent(ReferenceAgent("word " * 1000, delay=0.1, gate=gate))
    card = running(scene.boot(cardType="ai"))
    click(scene.gateway, card, STOP)
    gate.set()
    eventually(lambda: all_done(scene))
    assert card.text == f"word\n\n{STOPPED}"
    assert not scene.host.logged("exception")


def test_only_the_asker_may_stop(scene: Scene, gate: Gate) -> None:
    scene.agent(ReferenceAgent("one two three", gate=gate))
    card = running(scene.boot(cardType="ai"))
    click(scene.gateway, card, STOP, person="Bob")
    assert card.view("staff-Bob").note == ONLY_THE_ASKER
    scene.say("/stop", sender="Bob")
    assert NOTHING_TO_STOP in scene.sentence()
    assert card.labels == [STOP]
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 1)
    assert card.text == "one two three"


def test_a_question_that_waits_can_be_stopped_too(scene: Scene, gate: Gate) -> None:
    agent = scene.agent(ReferenceAgent("Hello!", gate=gate))
    running(scene.boot(cardType="ai", maxConcurrency=1), "Bobs?", sender="Bob")
    scene.say("Anns?")
    card = known(scene, "Anns?")
    click(scene.gateway, card, STOP)
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE])
    assert (card.text, card.state) == (STOPPED, "final")
    scene.say("Anns next?")
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 2)
    assert [call.text for call in agent.calls] == ["Bobs?", "Anns next?"]
    assert scene.gateway.card_for("Bobs?").text == "Hello!"


def test_the_word_stops_all_ones_questions_here_and_no_others(scene: Scene, gate: Gate) -> None:
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    running(scene.boot(cardType="ai"), "First?")
    for question, options in (
        ("Second?", {}),
        ("Third?", {}),
        ("Elsewhere?", {"conversation": "cid-elsewhere"}),
        ("Bobs?", {"sender": "Bob"}),
    ):
        scene.say(question, **options)
        scene.gateway.card_for(question)
    scene.say("/stop")
    for question in ("First?", "Second?", "Third?"):
        card = scene.gateway.card_for(question)
        scene.gateway.wait_for(lambda card=card: card.labels == [REGENERATE])
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 2)
    assert {scene.gateway.card_for(question).text for question in ("Elsewhere?", "Bobs?")} == {"Hello!"}


def test_after_a_full_queue_was_stopped_there_is_room_again(scene: Scene, gate: Gate) -> None:
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    running(scene.boot(cardType="ai"), "First?")
    for number in range(5):
        scene.say(f"Question {number}?")
        scene.gateway.card_for(f"Question {number}?")
    scene.say("/stop")
    for number in range(5):
        card = scene.gateway.card_for(f"Question {number}?")
        scene.gateway.wait_for(lambda card=card: card.labels == [REGENERATE])
    scene.say("And now?")
    scene.gateway.wait_for(lambda: cards(scene, "And now?") or scene.gateway.said())
    assert not scene.gateway.said()
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 1)


def test_where_nothing_runs_there_is_nothing_to_stop(scene: Scene) -> None:
    asked(scene.boot(cardType="ai"))
    scene.say("/stop")
    assert NOTHING_TO_STOP in scene.sentence()
    scene.say("/停止")
    assert "没有正在处理的问题，不需要停止。" in scene.sentence(2)


def test_a_double_click_on_stop_ends_the_card_once(scene: Scene, gate: Gate) -> None:
    scene.agent(ReferenceAgent("one two three", gate=gate))
    card = running(scene.boot(cardType="ai"))
    frames = [scene.gateway.click(card, STOP)]
    frames.append(scene.gateway.click_raw(scene.gateway.clicks[0].data))
    assert {scene.gateway.wait_for(lambda frame=frame: scene.gateway.acks.get(frame)).code for frame in frames} == {200}
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE])
    assert card.text.count(STOPPED) == 1


def test_a_card_can_be_stopped_before_the_robot_has_heard_that_it_is_there(scene: Scene, gate: Gate) -> None:
    """The answer to the call that makes the card takes its time; people see the card already."""
    scene.gateway.trouble("createAndDeliver", "trickle", seconds=0.005)
    scene.agent(ReferenceAgent("one two three", gate=gate))
    scene.boot(cardType="ai").say("How long?")
    eventually(gate.reached.is_set)
    card = scene.gateway.card_for("How long?")
    click(scene.gateway, card, STOP)
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE])
    assert card.text == f"one\n\n{STOPPED}"


def test_a_stopped_answer_can_be_asked_for_again(scene: Scene, gate: Gate) -> None:
    scene.agent(ReferenceAgent("one two three", gate=gate))
    card = running(scene.boot(cardType="ai"))
    click(scene.gateway, card, STOP)
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE])
    gate.set()
    eventually(lambda: all_done(scene))
    click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 1)
    assert [card.text for card in cards(scene, "How long?")] == [f"one\n\n{STOPPED}", "one two three"]


@pytest.mark.parametrize("how", ["button", "word"])
def test_an_answer_that_outlives_a_new_configuration_can_be_stopped(scene: Scene, gate: Gate, how: str) -> None:
    scene.agent(ReferenceAgent("one two three", gate=gate))
    card = running(scene.boot(cardType="ai"))
    save(scene, cardType="ai", showTools=True)
    assert card.labels == [STOP]
    if how == "button":
        click(scene.gateway, card, STOP)
    else:
        scene.say("/stop")
    scene.gateway.wait_for(lambda: card.labels == [REGENERATE] or card.view("staff-Ann").note or scene.gateway.said())
    assert not card.view("staff-Ann").note and not scene.gateway.said()
    assert card.text.endswith(STOPPED)


def test_an_answer_that_was_stopped_is_not_asked_again_after_a_kill(gateway: Gateway, tmp_path: Path) -> None:
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}, answer="one two three", hold=True) as robot:
        robot.wait_ready()
        gateway.say("How long?")
        robot.wait_for(lambda: robot.agent_calls)
        card = gateway.card_for("How long?")
        eventually(lambda: "first_card_ms" in robot.measure()["status"], "a card that the robot knows")
        click(gateway, card, STOP)
        gateway.wait_for(lambda: card.labels == [REGENERATE])
        robot.wait_status(unsent=0)
    gateway.wait_for(lambda: gateway.connections() == 0)
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}) as robot:
        robot.wait_ready()
        gateway.say("Next?")
        robot.wait_status(answered=1)
        assert robot.asked() == ["Next?"]
    assert card.text.endswith(STOPPED)


# ---- a fresh start


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("/new", "A fresh start: I no longer refer to what was said before."),
        ("/新会话", "已开始新会话，之前聊过的内容不再参考。"),
        ("  /NEW \n", "A fresh start: I no longer refer to what was said before."),
    ],
)
def test_new_begins_a_fresh_session_for_this_person(scene: Scene, command: str, sentence: str) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    asked(scene.boot(cardType="ai"), "Before?")
    scene.say(command)
    assert sentence in scene.sentence()
    asked(scene, "After?")
    asked(scene, "And again?")
    asked(scene, "Bobs?", sender="Bob")
    before, after, again, bobs = (call.chatId for call in agent.calls)
    assert before == "staff-Ann" and bobs == "staff-Bob"
    assert after == again != before
    scene.say(command)
    scene.sentence(2)
    asked(scene, "Anew?")
    assert agent.calls[-1].chatId not in (before, after)


def test_regenerate_stays_in_the_session_of_its_answer(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    card = asked(scene.boot(cardType="ai"))
    scene.say("/new")
    scene.sentence()
    click(scene.gateway, card, REGENERATE)
    eventually(lambda: scene.manager.status()["answered"] == 2)
    assert [call.chatId for call in agent.calls] == ["staff-Ann"] * 2


def test_new_is_not_kept_waiting_and_changes_nothing_of_what_was_asked_before(scene: Scene, gate: Gate) -> None:
    agent = scene.agent(ReferenceAgent("Hello!", gate=gate))
    running(scene.boot(cardType="ai"), "First?")
    scene.say("Second?")
    scene.gateway.card_for("Second?")
    scene.say("/new")
    assert "fresh start" in scene.sentence()
    scene.say("Third?")
    scene.gateway.card_for("Third?")
    assert len(agent.calls) == 1
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 3)
    chats = {call.text: call.chatId for call in agent.calls}
    assert chats["First?"] == chats["Second?"] == "staff-Ann" != chats["Third?"]
    assert agent.max_running == 1


def test_a_fresh_session_is_remembered_by_the_next_process(gateway: Gateway, tmp_path: Path) -> None:
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}) as robot:
        robot.wait_ready()
        gateway.say("/new")
        gateway.wait_for(lambda: gateway.webhooks)
        gateway.say("Before?")
        robot.wait_status(answered=1)
    gateway.wait_for(lambda: gateway.connections() == 0)
    before = robot.agent_calls[0].chatId
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}) as robot:
        robot.wait_ready()
        gateway.say("After?")
        robot.wait_status(answered=1)
    assert robot.agent_calls[0].chatId == before != "staff-Ann"


# ---- help, and what is no command


@pytest.mark.parametrize(
    ("command", "sender", "words"),
    [
        ("/help", "Ann", ["/new", "/stop", "/good", "/bad", "/help"]),
        ("/帮助", "Ann", ["/新会话", "/停止", "/有帮助", "/没帮助", "/帮助"]),
        ("/help", "王芳", ["/新会话", "/停止", "/有帮助", "/没帮助", "/帮助"]),
    ],
)
def test_help_lists_the_commands(scene: Scene, command: str, sender: str, words: list[str]) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot(cardType="ai").say(command, sender=sender)
    text = scene.sentence()
    assert all(word in text for word in words)
    assert not scene.gateway.cards and not agent.calls


def test_the_configured_language_holds_for_commands(scene: Scene) -> None:
    scene.boot(cardType="ai", language="en-US").say("/帮助", sender="王芳")
    assert "/stop" in scene.sentence()


def test_other_texts_with_a_slash_are_questions(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot(cardType="ai")
    texts = [
        "/newer",
        "/stop it",
        "/help me",
        "/goodbye",
        "/",
        "//new",
        "new",
        "please /stop",
        "/停止吧",
        "/etc/hosts?",
    ]
    for text in texts:
        asked(scene, text)
    assert [call.text for call in agent.calls] == texts
    assert not scene.gateway.said()


def test_a_question_that_begins_with_a_slash_is_served_in_its_own_language(scene: Scene) -> None:
    scene.boot(cardType="ai")
    card = asked(scene, "/var/log is full, why?", sender="王芳")
    assert REGENERATE in card.labels


def test_commands_are_no_questions_for_the_agent_wherever_they_come_from(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot()
    scene.say("", msgtype="richText", text=None, content={"richText": [{"text": "/help"}]})
    assert "/new" in scene.sentence(1)
    scene.say("/help", group=False)
    assert "/new" in scene.sentence(2)
    scene.say("/help", staff=False)
    assert "/new" in scene.sentence(3)
    assert not agent.calls


def test_a_command_that_is_delivered_twice_is_carried_out_once(scene: Scene) -> None:
    scene.boot(cardType="ai")
    message_id = scene.say("/new")
    scene.sentence()
    scene.gateway.redeliver(message_id)
    eventually(lambda: scene.manager.status()["duplicate"] == 1)
    assert len(scene.gateway.webhooks) == 1


def test_commands_work_where_cards_are_refused(scene: Scene, gate: Gate) -> None:
    for path in (SEND_CARD, "createAndDeliver"):
        scene.gateway.refuse(path, status=403, code="Forbidden.Closed", times=10**6)
    scene.agent(ReferenceAgent("one two three", gate=gate))
    scene.boot().say("How long?")
    eventually(gate.reached.is_set)
    scene.say("/stop")
    assert f"one\n\n{STOPPED}" in scene.sentence()
