"""Answers in AI cards as people see them: growing, ending, going on in further ones. And what comes where they fail."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import SIDE_EVENTS, ReferenceAgent
from tests.fakes.gateway import AI_TEMPLATE, CREATE_CARD, SEND_CARD, STREAM_CARD, UPDATE_INSTANCE, Gateway, Template
from tests.fakes.records import TemplateCard
from tests.scenarios.conftest import Scene
from tests.scenarios.robot_process import RobotProcess

THINKING = "[Thinking] Analyzing your question, please wait..."
RATINGS = ["😄 Very Helpful", "😊 Helpful", "🙂 Somewhat Helpful", "😅 Not Helpful"]
REGENERATE, KEEP_ASKING, STOP = "🔄 Regenerate", "[Question] Keep Asking", "⏹ Stop"
ENDED = [*RATINGS, REGENERATE, KEEP_ASKING]
FAILED = "Sorry, something went wrong while answering. Please ask again in a moment."
CONFIRM = "This needs a confirmation, please go on in the app."
ANSWER = "one two three four five six seven"
OWN = "own.schema"
OWN_NAMES = {"content": "body", "title": "title", "note": "note", "buttons": "actions", "status": "flowStatus"}
OWN_VARIABLES = {"body": "markdown", "title": "text", "note": "text", "actions": "buttonGroup", "flowStatus": "status"}


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece of an answer is shown, as long as updates are left."""
    monkeypatch.setattr("imRobots.Meta.answer._FIRST_SECONDS", 0.0)
    monkeypatch.setattr("imRobots.Meta.answer._GAPS", (0.0,) * 100)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr("imRobots.Meta.outbox.backoff", lambda first, limit: iter([0.01] * 1000))


def ended(scene: Scene, question: str) -> TemplateCard:
    """The card of this question once its last word and its last buttons are out."""
    return ended_card(scene.gateway, question)


def ended_card(gateway: Gateway, question: str) -> TemplateCard:
    def find() -> TemplateCard | None:
        card = gateway.card_for(question)
        return card if card.labels and card.labels != [STOP] else None

    card = gateway.wait_for(find, what=f"a card with its last buttons for {question!r}")
    assert isinstance(card, TemplateCard)
    return card


def bodies(gateway: Gateway, path: str) -> list[dict]:
    """Of the calls that DingTalk has taken."""
    return [call.body for call in gateway.calls if call.path == path and call.status == 200]


# ---- the card itself


def test_a_card_fills_up_with_a_stop_button_and_ends_with_ratings(scene: Scene, restless: None) -> None:
    scene.agent(ReferenceAgent(ANSWER, chunks=7, delay=0.01))
    scene.boot(cardType="ai").say("What is it?")
    card = ended(scene, "What is it?")
    assert (card.title, card.text, card.state, card.labels) == ("What is it?", ANSWER, "final", ENDED)
    first, *later = card.states
    assert (first.text, first.labels) == (THINKING, [STOP])
    growing = [state for state in later if not state.finalized]
    assert growing and all(ANSWER.startswith(state.text.rstrip()) and state.labels == [STOP] for state in growing)
    texts = [state.text for state in later]
    assert texts == sorted(texts, key=len)


def test_every_streamed_text_is_whole_and_new_and_only_the_last_one_ends_the_card(scene: Scene, restless: None) -> None:
    scene.agent(ReferenceAgent(ANSWER, chunks=7, delay=0.01))
    scene.boot(cardType="ai").say("What is it?")
    ended(scene, "What is it?")
    streamed = bodies(scene.gateway, STREAM_CARD)
    assert all(body["isFull"] is True and body["isError"] is False for body in streamed)
    assert len({body["guid"] for body in streamed}) == len(streamed)
    assert [body["isFinalize"] for body in streamed] == [False] * (len(streamed) - 1) + [True]
    updates = bodies(scene.gateway, UPDATE_INSTANCE)
    assert updates and all(body["cardUpdateOptions"]["updateCardDataByKey"] is True for body in updates)


@pytest.mark.parametrize("group", [True, False], ids=["in a group", "one-to-one"])
def test_the_card_comes_where_it_was_asked_for_and_names_the_asker_in_groups(scene: Scene, group: bool) -> None:
    scene.boot(cardType="ai").say("What is it?", group=group)
    card = ended(scene, "What is it?")
    assert card.callback_type == "STREAM"
    assert card.mentions == (["staff-Ann"] if group else [])
    assert card.conversation.endswith("Ann") is not group


def test_an_outsider_in_a_group_gets_a_card_that_names_nobody(scene: Scene) -> None:
    scene.boot(cardType="ai").say("May I ask?", staff=False)
    assert ended(scene, "May I ask?").mentions == []


def test_before_the_robot_is_published_one_to_one_answers_come_as_markdown(scene: Scene) -> None:
    scene.gateway.published = False
    scene.boot(cardType="ai").say("Anybody there?", group=False)
    assert scene.sentence() == "Hello!"
    assert not scene.gateway.cards


def test_a_chinese_question_is_served_in_chinese(scene: Scene) -> None:
    scene.boot(cardType="ai").say("这是什么？")
    card = scene.gateway.card_for("这是什么？")
    assert (card.states[0].text, card.states[0].labels) == ("[思考]正在分析您的问题，请稍候...", ["⏹ 停止"])
    scene.gateway.wait_for(lambda: len(card.labels) == 6)
    assert card.labels == ["😄 非常有帮助", "😊 有帮助", "🙂 帮助不大", "😅 没帮助", "🔄 重新生成", "[疑问] 继续追问"]


def test_rating_buttons_can_be_left_out(scene: Scene) -> None:
    scene.boot(cardType="ai", feedbackButtons=False).say("What is it?")
    assert ended(scene, "What is it?").labels == [REGENERATE, KEEP_ASKING]


@pytest.mark.parametrize("switches", [True, False], ids=["streaming switches the state", "it does not"])
@pytest.mark.parametrize("after_end", ["refuse", "accept"])
@pytest.mark.parametrize("fails", [False, True], ids=["an answer", "a failure"])
def test_a_card_ends_well_whatever_streaming_does_to_its_state(
    scene: Scene, switches: bool, after_end: str, fails: bool
) -> None:
    scene.gateway.streaming_switches_state, scene.gateway.streaming_after_end = switches, after_end
    scene.agent(ReferenceAgent("Half of it", error=RuntimeError("inner secret") if fails else None))
    scene.boot(cardType="ai").say("What is it?")
    card = ended(scene, "What is it?")
    if fails:
        assert (card.state, card.text, card.labels) == ("failed", f"Half of it\n\n{FAILED}", [REGENERATE])
        assert bodies(scene.gateway, STREAM_CARD)[-1]["isError"] is True
    else:
        assert (card.state, card.text, card.labels) == ("final", "Half of it", ENDED)
    assert not scene.gateway.said() and not scene.host.logged("error")


# ---- templates


def test_a_template_of_ones_own_is_filled_in_by_its_names(scene: Scene, restless: None) -> None:
    scene.gateway.templates[OWN] = Template(OWN_VARIABLES)
    scene.agent(ReferenceAgent(ANSWER, chunks=7, delay=0.01))
    scene.boot(cardType="ai", cardTemplateId=OWN, cardVariables=OWN_NAMES).say("What is it?")
    card = ended(scene, "What is it?")
    assert (card.text, card.labels, card.flow_status) == (ANSWER, ENDED, "3")
    assert {body["key"] for body in bodies(scene.gateway, STREAM_CARD)} == {"body"}
    assert set(card.states[-1].data) <= set(OWN_VARIABLES)


def test_a_template_needs_nothing_but_a_text(scene: Scene) -> None:
    scene.gateway.templates[OWN] = Template({"body": "markdown"})
    names = {"content": "body", "title": "", "note": "", "buttons": "", "status": ""}
    scene.boot(cardType="ai", cardTemplateId=OWN, cardVariables=names).say("What is it?")
    scene.gateway.wait_for(lambda: [card for card in scene.gateway.cards.values() if card.text == "Hello!"])
    (card,) = scene.gateway.cards.values()
    scene.gateway.wait_for(lambda: card.state == "final")
    assert set(card.states[-1].data) == {"body"}
    assert not scene.gateway.said()


@pytest.mark.parametrize("template", [None, Template(OWN_VARIABLES, published=False)], ids=["missing", "unpublished"])
def test_a_template_that_cannot_be_used_is_named_and_the_answers_come_all_the_same(
    scene: Scene, template: Template | None
) -> None:
    if template:
        scene.gateway.templates[OWN] = template
    scene.boot(cardType="ai", cardTemplateId=OWN, cardVariables=OWN_NAMES).say("What is it?")
    assert scene.sentence() == "@staff-Ann  \nHello!"
    assert OWN in scene.wait_logged("error", "cardTemplateId").message
    scene.say("And now?")
    assert scene.sentence(2) == "@staff-Ann  \nHello!"
    assert scene.gateway.count(CREATE_CARD) == 1  # nothing is tried in vain for every question
    assert "ai" in scene.manager.status()["closed"]


def test_a_text_variable_that_the_template_lacks_is_named_and_the_answers_come_all_the_same(scene: Scene) -> None:
    scene.gateway.templates[OWN] = Template({**OWN_VARIABLES, "body": "status"})
    scene.boot(cardType="ai", cardTemplateId=OWN, cardVariables=OWN_NAMES).say("What is it?")
    assert scene.sentence().endswith("Hello!")
    message = scene.wait_logged("error", "cardVariables").message
    assert OWN in message and "body" in message
    scene.say("And now?")
    assert scene.sentence(2).endswith("Hello!")
    assert scene.gateway.count(CREATE_CARD) == 1


def test_the_public_template_is_the_default(scene: Scene) -> None:
    scene.boot(cardType="ai").say("What is it?")
    assert ended(scene, "What is it?").send_body["cardTemplateId"] == AI_TEMPLATE


# ---- Markdown


FENCES = (
    "Try:\n\n```python\nprint('**')\n```\n\nor\n\n~~~\nls | wc\n~~~\n\n| a | b |\n|---|---|\n| `1` | **2** |\n\nDone."
)
NESTED = "1. First\n   ````md\n   ```\n   inner\n   ```\n   ````\n2. **Second** `code\n\n|x|\n|-|\n|y|\nend"


class CharacterByCharacter(ReferenceAgent):
    """Streams some of its answer so, each character when the one before has been shown."""

    def __init__(self, answer: str, start: int, end: int, gateway: Gateway) -> None:
        super().__init__(answer)
        self._pieces = [answer[:start], *answer[start:end], answer[end:]]
        self._gateway = gateway

    def _stream(self, send) -> None:  # type: ignore[no-untyped-def]
        for piece in filter(None, self._pieces):
            before = self._gateway.count(STREAM_CARD)
            send({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": piece}})
            self._gateway.wait_for(lambda before=before: self._gateway.count(STREAM_CARD) > before)


@pytest.mark.parametrize("answer", [FENCES, NESTED], ids=["fences and a table", "a fence within a list"])
def test_what_is_shown_is_complete_markdown_at_every_moment(scene: Scene, restless: None, answer: str) -> None:
    """The stand-in looks at every text that it gets, and the fixture at `protocol_errors`."""
    scene.boot(cardType="ai", apiQps=0)
    for start in range(0, len(answer), 15):
        scene.agent(CharacterByCharacter(answer, start, start + 15, scene.gateway))
        scene.say(f"What is it from {start} on?")
        assert ended(scene, f"What is it from {start} on?").text == answer


def words_of(text: str) -> list[str]:
    return re.findall(r"w\d+", text)


def long_answer(words: int) -> str:
    return "\n\n".join(" ".join(f"w{n}" for n in range(at, at + 50)) for at in range(0, words, 50))


def parts_of(scene: Scene) -> list[TemplateCard]:
    """The cards, in the order of their arrival."""
    return [card for card in scene.gateway.cards.values() if isinstance(card, TemplateCard)]


def test_a_long_answer_goes_on_in_further_cards_with_buttons_below_the_last(scene: Scene) -> None:
    answer = long_answer(6000)
    scene.agent(ReferenceAgent(answer, chunks=6))
    scene.boot(cardType="ai").say("Everything?")
    scene.gateway.wait_for(lambda: parts_of(scene) and parts_of(scene)[-1].labels == ENDED)
    cards = parts_of(scene)
    assert len(cards) > 2
    assert words_of(" ".join(card.text for card in cards)) == words_of(answer)
    assert [card.labels for card in cards[:-1]] == [[]] * (len(cards) - 1)
    assert {card.state for card in cards} == {"final"}
    assert {card.conversation for card in cards} == {cards[0].conversation}
    assert [card.mentions for card in cards] == [["staff-Ann"]] + [[]] * (len(cards) - 1)  # told once
    assert not scene.gateway.said()


def test_a_fence_that_is_cut_through_is_one_in_each_card(scene: Scene) -> None:
    code = "\n".join(f"x = {number}  # w{number}" for number in range(1500))
    answer = f"See:\n\n```python\n{code}\n```\n\nThat is all."
    scene.agent(ReferenceAgent(answer, chunks=3))
    scene.boot(cardType="ai").say("Code?")
    scene.gateway.wait_for(lambda: parts_of(scene) and parts_of(scene)[-1].labels == ENDED)
    cards = parts_of(scene)
    assert len(cards) > 1
    assert words_of(" ".join(card.text for card in cards)) == words_of(answer)
    assert all(card.text.startswith("```python\n") for card in cards[1:])


@pytest.mark.parametrize("chunks", [0, 6], ids=["at once", "streamed"])
def test_where_dingtalk_takes_less_smaller_parts_are_tried(scene: Scene, restless: None, chunks: int) -> None:
    scene.gateway.stream_limit = 4000
    answer = long_answer(3000)
    scene.agent(ReferenceAgent(answer, chunks=chunks, delay=0.02))
    scene.boot(cardType="ai").say("Everything?")
    scene.gateway.wait_for(lambda: parts_of(scene) and parts_of(scene)[-1].labels == ENDED)
    assert words_of(" ".join(card.text for card in parts_of(scene))) == words_of(answer)
    assert not scene.gateway.said()
    refused = scene.gateway.refused(STREAM_CARD)
    scene.say("Again?")  # what was learnt is not tried again
    scene.gateway.wait_for(lambda: sum(card.labels == ENDED for card in parts_of(scene)) == 2)
    assert scene.gateway.refused(STREAM_CARD) == refused


def test_an_answer_that_grows_for_long_takes_few_calls(scene: Scene, restless: None) -> None:
    scene.agent(ReferenceAgent("word " * 300, delay=0.001))
    scene.boot(cardType="ai").say("Much?")
    card = ended(scene, "Much?")
    assert card.text == "word " * 300
    calls = [call for call in scene.gateway.calls if call.path.startswith("/v1.0/card/")]
    assert 5 < len(calls) <= 21


def test_an_answer_that_comes_at_once_takes_three_calls(scene: Scene) -> None:
    scene.agent(ReferenceAgent("Hello!", chunks=0))
    scene.boot(cardType="ai").say("What is it?")
    ended(scene, "What is it?")
    calls = [call.path for call in scene.gateway.calls if call.path.startswith("/v1.0/card/")]
    assert calls == [CREATE_CARD, STREAM_CARD, UPDATE_INSTANCE]


# ---- the ladder


def test_a_card_that_was_taken_and_not_delivered_becomes_markdown(scene: Scene) -> None:
    scene.gateway.hidden_failure = "the robot is not in this group"
    scene.boot(cardType="ai").say("What is it?")
    assert scene.sentence() == "@staff-Ann  \nHello!"
    scene.wait_logged("error", "the robot is not in this group")
    scene.gateway.hidden_failure = None
    scene.say("And now?")
    assert ended(scene, "And now?").text == "Hello!"
    assert len(scene.gateway.said()) == 1


def test_where_standard_cards_are_closed_ai_cards_come(scene: Scene) -> None:
    scene.gateway.refuse(SEND_CARD, status=403, code="Forbidden.Closed", times=10**6)
    scene.boot()
    for number, place in enumerate(("one", "two", "three")):
        scene.say(f"Question {number}?", conversation=f"cid-{place}")
        card = ended(scene, f"Question {number}?")
        assert (card.text, card.labels) == ("Hello!", ENDED)
    assert scene.gateway.count(SEND_CARD) == 2  # by then it is known
    assert not scene.gateway.said()


def test_where_no_cards_are_given_answers_come_as_markdown(scene: Scene) -> None:
    denied = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
    scene.gateway.refuse(SEND_CARD, status=403, code=denied, times=10**6)
    scene.gateway.refuse(CREATE_CARD, status=403, code=denied, times=10**6)
    scene.boot()
    for number in (1, 2):
        scene.say(f"Question {number}?")
        assert scene.sentence(number) == "@staff-Ann  \nHello!"
    assert (scene.gateway.count(SEND_CARD), scene.gateway.count(CREATE_CARD)) == (1, 1)
    assert set(scene.manager.status()["closed"]) == {"standard", "ai"}


def test_without_the_permission_to_stream_a_card_still_gets_its_answer(scene: Scene) -> None:
    denied = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
    scene.gateway.refuse(STREAM_CARD, status=403, code=denied, times=10**6)
    scene.boot(cardType="ai").say("What is it?")
    card = ended(scene, "What is it?")
    assert (card.text, card.state, card.labels) == ("Hello!", "final", ENDED)
    assert scene.host.logged(containing="AccessTokenPermissionDenied")
    assert not scene.gateway.said()


def test_markdown_can_be_the_first_choice(scene: Scene) -> None:
    scene.boot(cardType="markdown").say("What is it?")
    assert scene.sentence() == "@staff-Ann  \nHello!"
    assert not any(path in call.path for call in scene.gateway.calls for path in ("/card/", "interactiveCards"))


def test_people_who_run_standard_cards_are_told_once_that_clicks_do_not_arrive(scene: Scene) -> None:
    scene.boot()
    (line,) = (record.message for record in scene.host.logged(containing="deliver clicks"))
    assert '"ai"' in line and "cardType" in line and "feedbackButtons" in line
    scene.gateway.drop_connections(code=1001)
    scene.gateway.wait_connected()
    scene.say("What is it?")
    assert scene.card("What is it?").labels == RATINGS
    assert len(scene.host.logged(containing="deliver clicks")) == 1


@pytest.mark.parametrize("config", [{"cardType": "ai"}, {"cardType": "markdown"}, {"feedbackButtons": False}], ids=str)
def test_others_are_not(scene: Scene, config: dict) -> None:
    scene.boot(**config).say("What is it?")
    eventually(lambda: scene.gateway.said() or any("Hello!" in card.text for card in scene.gateway.cards.values()))
    assert not scene.host.logged(containing="deliver clicks")
    if "feedbackButtons" in config:
        assert not scene.gateway.card_for("What is it?").labels


# ---- trouble on the way


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("path", [CREATE_CARD, STREAM_CARD, UPDATE_INSTANCE])
@pytest.mark.parametrize(("kind", "strict"), [("reset", True), ("lost", True), ("lost", False), ("garbage", True)])
def test_a_call_that_goes_astray_costs_nothing(
    scene: Scene, restless: None, impatient: None, path: str, kind: str, strict: bool, streamed: bool
) -> None:
    scene.gateway.streaming_after_end = scene.gateway.repeated_card = "refuse" if strict else "accept"
    gate = threading.Event()
    scene.agent(ReferenceAgent(ANSWER, chunks=7 if streamed else 0, delay=0.01, gate=gate))
    if path == CREATE_CARD:
        scene.gateway.trouble(path, kind)
    scene.boot(cardType="ai").say("What is it?")
    scene.gateway.card_for("What is it?")
    if path != CREATE_CARD:  # whose address begins like another's
        scene.gateway.trouble(path, kind)
    gate.set()
    card = ended(scene, "What is it?")
    assert (card.text, card.state, card.labels) == (ANSWER, "final", ENDED)
    assert list(scene.gateway.cards.values()) == [card]
    scene.say("And now?")
    assert ended(scene, "And now?").text == ANSWER
    assert not scene.gateway.said()
    assert not scene.host.logged("error")


def test_a_card_that_is_gone_says_nothing_about_its_template(scene: Scene) -> None:
    gone = {"status": 400, "code": "param.stream.outTrackId", "message": "card is not exist"}
    scene.gateway.refuse(STREAM_CARD, **gone, times=2)
    scene.boot(cardType="ai").say("What is it?")
    eventually(lambda: scene.manager.status()["answered"] == 1)
    scene.say("And now?")
    assert ended(scene, "And now?").text == "Hello!"
    assert scene.manager.status()["closed"] == {}


def test_an_update_that_lands_too_late_is_replaced(
    scene: Scene, restless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox._UNSURE_SECONDS", 0.6)
    monkeypatch.setattr("imRobots.dingTalkStreamType.network._SECONDS", 0.3)
    scene.gateway.streaming_after_end = "accept"
    scene.gateway.trouble(STREAM_CARD, "late", seconds=0.6)
    agent = scene.agent(Scripted(text("one"), text(" two")))
    agent.answer = "one two"
    scene.boot(cardType="ai").say("What is it?")
    agent.turns.release()
    scene.gateway.wait_for(lambda: scene.gateway.count(STREAM_CARD) == 1)
    agent.turns.release()
    card = ended(scene, "What is it?")
    scene.gateway.wait_for(lambda: card.text == "one", what="the old text")
    scene.gateway.wait_for(lambda: card.text == "one two", what="the last word once more")
    assert (card.state, card.labels) == ("final", ENDED)


def test_an_ending_that_dingtalk_refuses_for_a_while_comes_in_the_end(scene: Scene, impatient: None) -> None:
    throttled = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
    scene.gateway.refuse(STREAM_CARD, status=403, code=throttled, times=3)
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot(cardType="ai").say("What is it?")
    scene.gateway.card_for("What is it?")
    scene.gateway.refuse(UPDATE_INSTANCE, status=500, code="system.error", times=3)
    gate.set()
    card = ended(scene, "What is it?")
    assert (card.text, card.state) == ("Hello!", "final")


def test_a_card_cut_off_by_a_kill_is_gone_on_with(gateway: Gateway, tmp_path: Path) -> None:
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}, answer=ANSWER, hold=True) as robot:
        robot.wait_ready()
        gateway.say("What is it?")
        card = gateway.card_for("What is it?")
        robot.wait_for(lambda: robot.agent_calls)
    gateway.wait_for(lambda: gateway.connections() == 0)
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}, answer=ANSWER):
        assert ended_card(gateway, "What is it?") is card
    assert (card.text, card.state, card.labels) == (ANSWER, "final", ENDED)
    assert list(gateway.cards.values()) == [card]
    assert not gateway.said()


# ---- what an agent does besides speaking


def text(piece: str) -> dict:
    return {"type": "TEXT_MESSAGE_CONTENT", "data": {"content": piece}}


def thought(piece: str) -> dict:
    return {"type": "REASONING_CONTENT", "data": {"content": piece}}


TOOL_BEGINS, TOOL_ENDS = (next(e for e in SIDE_EVENTS if e["type"] == f"TOOL_CALL_{end}") for end in ("START", "END"))
USING_TOOL = "🔧 Using a tool ..."


class Scripted(ReferenceAgent):
    """Streams these chunks, and stops before each one until the test has seen what it wanted to see."""

    def __init__(self, *chunks: dict, answer: str = "The answer.", error: Exception | None = None) -> None:
        super().__init__(answer, error=error)
        self.chunks_to_send = chunks
        self.turns = threading.Semaphore(0)

    def _stream(self, send) -> None:  # type: ignore[no-untyped-def]
        for chunk in self.chunks_to_send:
            assert self.turns.acquire(timeout=20)
            send(chunk)


def test_reasoning_and_tools_stand_above_the_growing_answer_and_not_in_the_final_one(
    scene: Scene, restless: None
) -> None:
    agent = scene.agent(
        Scripted(thought("I wonder. " * 100), TOOL_BEGINS, text("The"), TOOL_ENDS, text(" answer."), thought("Hm."))
    )
    scene.boot(cardType="ai", showReasoning=True, showTools=True).say("What is it?")
    card = scene.gateway.card_for("What is it?")

    def after_next_chunk(*parts: str, without: str = "\0") -> str:
        agent.turns.release()
        scene.gateway.wait_for(lambda: all(part in card.text for part in parts) and without not in card.text)
        return card.text

    assert len(after_next_chunk("I wonder.")) < 300
    assert "Orders.find" not in after_next_chunk("I wonder.", USING_TOOL)
    assert after_next_chunk("I wonder.", USING_TOOL, "The").endswith("\n\nThe")
    after_next_chunk("I wonder.", "The", without=USING_TOOL)
    assert after_next_chunk("I wonder.", "The answer.").endswith("\n\nThe answer.")
    agent.turns.release()
    assert ended(scene, "What is it?").text == "The answer."


def test_by_default_nobody_sees_them(scene: Scene, restless: None) -> None:
    agent = scene.agent(Scripted(thought("I wonder."), TOOL_BEGINS, text("The"), TOOL_ENDS, text(" answer.")))
    scene.boot(cardType="ai").say("What is it?")
    agent.turns.release(5)
    card = ended(scene, "What is it?")
    assert not any("wonder" in state.text or "tool" in state.text for state in card.states)


@pytest.mark.parametrize(
    ("kind", "chunks", "result", "error", "expected"),
    [
        ("INTERRUPT", ["Half"], "Half", None, f"Half\n\n{CONFIRM}"),
        ("agent_interrupt", ["Half"], None, None, f"Half\n\n{CONFIRM}"),
        ("TOOL_INTERRUPTED", [], None, None, CONFIRM),
        ("INTERRUPT", [], "", None, CONFIRM),
        ("agent_interrupt", [], "", RuntimeError("interrupted"), CONFIRM),
        ("TOOL_INTERRUPTED", ["Half"], "", RuntimeError("interrupted"), f"Half\n\n{CONFIRM}"),
    ],
    ids=["it says it", "returns nothing", "says nothing", "says an empty word", "raises", "says half and raises"],
)
def test_an_agent_that_waits_for_a_confirmation_sends_people_to_the_app(
    scene: Scene, kind: str, chunks: list[str], result: str | None, error: Exception | None, expected: str
) -> None:
    interrupt = {"type": kind, "data": {"content": "Delete 5 orders?"}}
    agent = scene.agent(Scripted(*map(text, chunks), interrupt, error=error))
    agent.result = result
    agent.turns.release(9)
    scene.boot(cardType="ai").say("Delete them?")
    card = ended(scene, "Delete them?")
    assert card.text == expected
    assert not scene.host.logged("exception")


def test_a_chinese_asker_is_sent_to_the_app_in_chinese(scene: Scene) -> None:
    agent = scene.agent(Scripted({"type": "INTERRUPT", "data": {}}))
    agent.result = None
    agent.turns.release()
    scene.boot(cardType="markdown").say("删掉吗？")
    assert scene.sentence().endswith("这一步需要确认，请到应用中继续。")
