"""Who shares a context with the agent, who may use the robot at all, and what the agent is told besides questions."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.scenarios.conftest import DEMO, Scene

NOT_ALLOWED = "Sorry, I am not open to you here. Please ask whoever runs this robot for access."
NOT_ALLOWED_CHINESE = "抱歉，您在这里还不能使用我，请联系机器人的管理员开通。"


def chats(scene: Scene, *questions: tuple[str, str]) -> list[str]:
    """Ask, each as a person and in a conversation; the chatIds that the agent got."""
    agent = scene.host.get_element("aiagents.ragTest")
    before = len(agent.calls)
    for number, (person, place) in enumerate(questions, start=before + 1):
        scene.say(f"Question {number}?", sender=person, conversation=place)
        eventually(lambda number=number: len(agent.calls) == number)
    return [call.chatId for call in agent.calls[before:]]


# ---- the agent's chatId


@pytest.mark.parametrize("scope", [None, "user"])
def test_by_default_a_person_has_one_session_everywhere(scene: Scene, scope: str | None) -> None:
    scene.boot(**({"sessionScope": scope} if scope else {}))
    here, there, other = chats(scene, ("Ann", "one"), ("Ann", "two"), ("Bob", "one"))
    assert (here, there, other) == ("staff-Ann", "staff-Ann", "staff-Bob")


def test_a_conversation_can_have_one_session(scene: Scene) -> None:
    scene.boot(sessionScope="conversation")
    here, there, other = chats(scene, ("Ann", "one"), ("Ann", "two"), ("Bob", "one"))
    assert here == other != there
    assert here == "one"


def test_a_person_can_have_a_session_for_each_conversation(scene: Scene) -> None:
    scene.boot(sessionScope="userInConversation")
    asked = [("Ann", "one"), ("Ann", "two"), ("Bob", "one"), ("Ann", "one")]
    here, there, other, again = chats(scene, *asked)
    assert here == again and len({here, there, other}) == 3


@pytest.mark.parametrize(
    ("scope", "renewed"),
    [
        ("user", [("Ann", "one"), ("Ann", "two")]),
        ("conversation", [("Ann", "one"), ("Bob", "one")]),
        ("userInConversation", [("Ann", "one")]),
    ],
)
def test_a_fresh_start_is_for_those_who_share_the_session(
    scene: Scene, scope: str, renewed: list[tuple[str, str]]
) -> None:
    scene.boot(sessionScope=scope)
    places = [(person, place) for person in ("Ann", "Bob") for place in ("one", "two")]
    before = dict(zip(places, chats(scene, *places), strict=True))
    scene.say("/new", sender="Ann", conversation="one")
    assert "fresh start" in scene.sentence()
    after = dict(zip(places, chats(scene, *places), strict=True))
    assert [place for place in places if before[place] != after[place]] == renewed
    assert len({after[place] for place in renewed}) == 1
    assert not {after[place] for place in renewed} & set(before.values())


def test_questions_of_one_session_are_answered_one_after_the_other(scene: Scene) -> None:
    gate = threading.Event()
    agent = scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot(sessionScope="conversation")
    scene.say("Anns?", sender="Ann", conversation="one")
    eventually(lambda: agent.calls)
    scene.say("Bobs?", sender="Bob", conversation="one")
    scene.gateway.card_for("Bobs?")
    scene.say("Elsewhere?", sender="Bob", conversation="two")
    eventually(lambda: len(agent.calls) == 2)
    gate.set()
    assert scene.card("Bobs?").text == "Hello!"
    assert [call.text for call in agent.calls] == ["Anns?", "Elsewhere?", "Bobs?"]


def test_in_a_shared_session_another_person_can_neither_stop_nor_regenerate(scene: Scene) -> None:
    gate = threading.Event()
    agent = scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot(sessionScope="conversation", cardType="ai").say("Anns?", sender="Ann")
    eventually(lambda: agent.calls)
    scene.say("/stop", sender="Bob")
    assert "nothing to stop" in scene.sentence()
    gate.set()
    eventually(lambda: scene.manager.status()["answered"] == 1)
    card = scene.gateway.card_for("Anns?")
    frame = scene.gateway.click(card, "regenerate", person="Bob")
    assert scene.gateway.wait_for(lambda: scene.gateway.acks.get(frame)).code == 200
    assert "Only the person who asked" in card.view("staff-Bob").note
    assert len(agent.calls) == 1


def test_a_fresh_start_outlives_a_new_configuration(scene: Scene) -> None:
    scene.boot()
    scene.say("/new")
    scene.sentence()
    (before,) = chats(scene, ("Ann", "one"))
    demo = json.loads(scene.host.element(DEMO).getFile("config.json"))
    scene.host.save(DEMO, "config.json", json.dumps({**demo, "cardType": "ai"}))
    scene.connections()
    (after,) = chats(scene, ("Ann", "one"))
    assert before == after != "staff-Ann"


# ---- who may use it


@pytest.mark.parametrize(
    ("config", "person", "place", "allowed"),
    [
        ({"allowUsers": ["staff-Ann"]}, "Ann", "one", True),
        ({"allowUsers": ["staff-Ann"]}, "Bob", "one", False),
        ({"allowUsers": ["Ann"]}, "Ann", "one", False),  # a name is no id
        ({"allowConversations": ["one"]}, "Bob", "one", True),
        ({"allowConversations": ["one"]}, "Bob", "two", False),
        ({"allowUsers": ["staff-Ann"], "allowConversations": ["one"]}, "Ann", "one", True),
        ({"allowUsers": ["staff-Ann"], "allowConversations": ["one"]}, "Ann", "two", False),
        ({"allowUsers": ["staff-Ann"], "allowConversations": ["one"]}, "Bob", "one", False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_those_who_may_not_use_it_get_a_polite_sentence(
    scene: Scene, config: dict[str, Any], person: str, place: str, allowed: bool
) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot(**config).say("May I?", sender=person, conversation=place)
    if allowed:
        assert scene.card("May I?").text == "Hello!"
        return
    assert NOT_ALLOWED in scene.sentence()
    assert not agent.calls and not scene.gateway.cards
    record = scene.host.logged("info", "turned away")[0]
    assert f"staff-{person}" in record.message and place in record.message


def test_they_are_turned_away_in_their_language_and_with_commands_and_pictures_too(scene: Scene) -> None:
    scene.boot(allowUsers=["staff-Bob"])
    scene.say("可以吗？")
    assert NOT_ALLOWED_CHINESE in scene.sentence(1)
    for number, text in enumerate(("/help", "/new", "/good", None), start=2):
        scene.say(text)
        assert NOT_ALLOWED in scene.sentence(number)


def test_outsiders_are_known_by_the_id_that_they_have(scene: Scene) -> None:
    scene.boot(allowUsers=["$:LWCP_v1:$Ann"]).say("May I?", staff=False)
    assert scene.card("May I?").text == "Hello!"


# ---- quotes


def text(said: str, quote: Any, **replied: Any) -> dict[str, Any]:
    """A text message that answers to another one."""
    message = {"msgType": "text", "msgId": "earlier", "senderId": "$:LWCP_v1:$Bob", "content": quote, **replied}
    return {"text": {"content": said, "isReplyMsg": True, "repliedMsg": message}}


RICH = {"richText": [{"msgType": "text", "content": "One."}, {"msgType": "picture", "downloadCode": "code"}]}
RICH_BY_TEXT = {"richText": [{"text": "One."}, {"type": "picture", "downloadCode": "code"}, {"text": "Two."}]}

QUOTES: dict[str, tuple[Any, str]] = {
    "text": ({"text": "It is green."}, "> It is green."),
    "several lines": ({"text": "One.\n\nTwo.  \nThree."}, "> One.\n>\n> Two.\n> Three."),
    "JSON": (json.dumps({"text": "It is green."}), "> It is green."),
    "Chinese JSON": (json.dumps({"text": "天是绿的。"}, ensure_ascii=False), "> 天是绿的。"),
    "a plain string": ("It is green.", "> It is green."),
    "rich text": (RICH, "> One."),
    "rich text of another form": (RICH_BY_TEXT, "> One.\n> Two."),
    "rich text as JSON": (json.dumps(RICH_BY_TEXT), "> One.\n> Two."),
    "a voice message": ({"recognition": "It is green.", "duration": 4000}, "> It is green."),
    "a quote within a quote": ({"text": "> Who?\n\nMe."}, "> > Who?\n>\n> Me."),
}


def told(scene: Scene, agent: ReferenceAgent, **payload: Any) -> str:
    """What the agent is asked when somebody sends this."""
    before = len(agent.calls)
    scene.say("", **payload)
    eventually(lambda: len(agent.calls) > before)
    return agent.calls[before].text


def test_what_a_question_quotes_stands_above_it(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot()
    for kind, (quote, quoted) in QUOTES.items():
        assert told(scene, agent, **text("Is it true?", quote)) == f"{quoted}\n\nIs it true?", kind
    assert scene.card("Is it true?").title == "Is it true?"


def test_a_rich_text_message_has_its_quote_elsewhere(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot()
    for quote in ({"text": "It is green."}, json.dumps({"text": "It is green."})):
        block = {"isReplyMsg": True, "repliedMsg": {"msgType": "text", "content": quote}}
        content = {"richText": [{"text": "Is it"}, {"text": "true?"}], **block}
        asked = told(scene, agent, msgtype="richText", text=None, content=content)
        assert asked == "> It is green.\n\nIs it\ntrue?", quote


def test_a_quote_that_says_nothing_costs_nothing(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot()
    for quote in (None, 5, [], {}, "", {"text": None}, {"text": " "}, {"richText": None}, {"richText": [1, None, {}]}):
        assert told(scene, agent, **text("Is it true?", quote)) == "Is it true?", quote
    for quote in ("[" * 100_000, "{"):
        assert told(scene, agent, **text("Is it true?", quote)).endswith("\n\nIs it true?")
    for replied in (None, 5, [], "text", {}):
        reply = {"content": "Is it true?", "isReplyMsg": True, "repliedMsg": replied}
        assert told(scene, agent, text=reply) == "Is it true?", replied
    assert not scene.host.logged("exception") and not scene.host.logged("error")


def test_quotes_can_be_left_out(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot(quoteContext=False).say("", **text("Is it true?", {"text": "It is green."}))
    assert scene.card("Is it true?").text == "Hello!"
    assert agent.calls[0].text == "Is it true?"


def test_the_language_is_the_questions_not_the_quotes(scene: Scene) -> None:
    scene.boot(cardType="ai").say("", **text("Is it true?", {"text": "天是绿的。"}))
    eventually(lambda: scene.manager.status()["answered"] == 1)
    assert "🔄 Regenerate" in scene.gateway.card_for("Is it true?").labels


def test_a_command_may_answer_to_a_message(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot().say("", **text("/help", {"text": "It is green."}))
    assert "/new" in scene.sentence()
    assert not agent.calls
