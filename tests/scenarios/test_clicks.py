"""Clicks on AI cards: each is acknowledged in time, whatever is in it and whatever else happens."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.clicks import ClickVariant, click_data, find_button
from tests.fakes.gateway import CARD_TOPIC, CREATE_CARD, STREAM_CARD, TOKEN, UPDATE_INSTANCE, WEBHOOK, Template
from tests.fakes.records import Ack, TemplateCard
from tests.scenarios.conftest import DEMO, Scene

HELPFUL = "😊 Helpful"
STOP = "⏹ Stop"
REFUSED = "a click was refused"
OWN = "own.schema"
OWN_NAMES = {"content": "body", "title": "title", "note": "note", "buttons": "actions", "status": "flowStatus"}
OWN_TEMPLATE = Template(
    {"body": "markdown", "title": "text", "note": "text", "actions": "buttonGroup", "flowStatus": "status"}
)


def asked(scene: Scene, question: str = "What is it?", **options: Any) -> TemplateCard:
    """Ask; the card with its last buttons."""
    scene.say(question, **options)
    card = scene.gateway.card_for(question)
    scene.gateway.wait_for(lambda: card.labels not in ([], [STOP]), what="the last buttons")
    assert isinstance(card, TemplateCard)
    return card


def own_template(scene: Scene) -> dict[str, Any]:
    """The configuration for a template whose buttons carry parameters."""
    scene.gateway.templates[OWN] = OWN_TEMPLATE
    return {"cardType": "ai", "cardTemplateId": OWN, "cardVariables": OWN_NAMES}


def save(scene: Scene, **config: Any) -> None:
    """Change the configuration while the robot runs."""
    demo = json.loads(scene.host.element(DEMO).getFile("config.json"))
    scene.host.save(DEMO, "config.json", json.dumps({**demo, **config}))
    scene.connections()


def ack_of(scene: Scene, frame_id: str) -> Ack:
    return scene.gateway.wait_for(lambda: scene.gateway.acks.get(frame_id), what="the answer to a click")


def votes(scene: Scene) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in scene.manager.exportFeedback().splitlines()]
    return [(row["person"], row["rating"]) for row in rows]


def data_of_click(scene: Scene, card: TemplateCard, button: str = HELPFUL, person: str = "Ann") -> dict[str, Any]:
    """What DingTalk would push, before it does."""
    return click_data(card, find_button(card, button, f"staff-{person}"), f"staff-{person}", "official")


# ---- what is understood


@pytest.mark.parametrize("own", [False, True], ids=["public template", "one of ones own"])
def test_a_click_is_understood_in_every_documented_form(scene: Scene, own: bool) -> None:
    card = asked(scene.boot(**(own_template(scene) if own else {"cardType": "ai"})))
    people = [variant for variant in get_args(ClickVariant) if variant != "broken"]
    for variant in people:
        ack = ack_of(scene, scene.gateway.click(card, HELPFUL, person=f"with-{variant}", variant=variant))
        assert ack.code == 200, variant
        assert "response" in json.loads(ack.data), variant
        assert card.view(f"staff-with-{variant}").note == "Thank you for your feedback! 😊 Helpful", variant
    assert votes(scene) == [(f"staff-with-{variant}", "helpful") for variant in people]


def test_fixed_buttons_of_a_template_work_by_their_parameters(scene: Scene) -> None:
    """Their ids are whatever the author of the template has called them."""
    card = asked(scene.boot(cardType="ai"))
    data = data_of_click(scene, card)
    content = {"cardPrivateData": {"actionIds": ["btn_7"], "params": {"action": "feedback", "rating": "not_helpful"}}}
    assert ack_of(scene, scene.gateway.click_raw({**data, "content": json.dumps(content)})).code == 200
    assert votes(scene) == [("staff-Ann", "not_helpful")]


def test_the_tutorials_value_is_understood_if_it_fits_its_card(scene: Scene) -> None:
    """DingTalk delivers no clicks on standard cards, as far as anybody knows."""
    scene.boot()
    message_id = scene.say("What is it?")
    card = scene.card("What is it?")
    value = card.buttons[2]["value"]
    data = {
        "type": "actionCallback",
        "outTrackId": card.id,
        "userId": "staff-Ann",
        "content": json.dumps({"cardPrivateData": {"actionIds": [card.buttons[2]["id"]], "params": {"value": value}}}),
    }
    assert json.loads(value)["message_id"] == message_id
    assert ack_of(scene, scene.gateway.click_raw(data)).code == 200
    assert votes(scene) == [("staff-Ann", "somewhat_helpful")]


# ---- what is refused


def content(**private: Any) -> str:
    return json.dumps({"cardPrivateData": private})


def value(**fields: Any) -> str:
    whole = {"action": "feedback", "type": "helpful", "message_id": "THE MESSAGE", "original_text": "What is it?"}
    fields = {name: field for name, field in {**whole, **fields}.items() if field is not None}
    return content(actionIds=["helpful"], params={"value": json.dumps(fields)})


FORGED: dict[str, dict[str, Any]] = {
    "an unknown action": {"content": content(actionIds=["x"], params={"action": "delete"})},
    "an unknown button": {"content": content(actionIds=["x"], params={})},
    "no button": {"content": content(actionIds=[])},
    "nothing at all": {"content": "{}"},
    "no card": {"outTrackId": None},
    "a card that is no text": {"outTrackId": ["ai-1"]},
    "nobody": {"userId": None},
    "a person that is no text": {"userId": {"id": 5}},
    "a card that nobody knows": {"outTrackId": "ai-of-somebody-else"},
    "broken content": {"content": "{broken", "value": "{broken"},
    "content that is a list": {"content": "[1, 2]", "value": "[]"},
    "content that is a number": {"content": 5, "value": 5},
    "content that is null": {"content": "null", "value": "null"},
    "deep content": {"content": "[" * 100_000, "value": ""},
    "private data that is a list": {"content": json.dumps({"cardPrivateData": [1]})},
    "ids that are numbers": {"content": content(actionIds=[1, None], params=[])},
    "ids that are no list": {"content": content(actionIds=5, params=None)},
    "an action that is no text": {"content": content(actionIds=["helpful"], params={"action": {"a": 1}})},
    "another rating than its button's": {
        "content": content(actionIds=["helpful"], params={"action": "feedback", "rating": "not_helpful"})
    },
    "another action than its button's": {"content": content(actionIds=["helpful"], params={"action": "regenerate"})},
    "an unknown rating": {"content": content(actionIds=["x"], params={"action": "feedback", "rating": "marvellous"})},
    "no rating": {"content": content(actionIds=["x"], params={"action": "feedback"})},
    "a rating that is a list": {
        "content": content(actionIds=["x"], params={"action": "feedback", "rating": ["helpful"]})
    },
    "a value of another message": {"content": value(message_id="msg-of-somebody-else")},
    "a value without a message": {"content": value(message_id=None)},
    "a value without an action": {"content": value(action=None)},
    "a value of another question": {"content": value(original_text="Is it true?")},
    "a value of a longer question": {"content": value(original_text="What is it? And how?")},
    "a value with another rating": {"content": value(rating="not_helpful")},
    "a value whose type and rating contradict each other": {"content": value(rating="helpful", type="unhelpful")},
    "a value with an unknown type": {"content": value(type="wonderful")},
    "a value to regenerate without a question": {"content": value(action="regenerate", original_text=None)},
    "a value that is broken": {"content": content(actionIds=["helpful"], params={"value": "{broken"})},
    "a value that is a number": {"content": content(actionIds=["helpful"], params={"value": 5})},
}


# Only so many in one test, to see which.
KINDS = [list(FORGED)[at : at + 6] for at in range(0, len(FORGED), 6)]


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: f"{kinds[0]} to {kinds[-1]}")
def test_what_is_no_click_is_refused_with_a_reason_and_does_no_harm(scene: Scene, kinds: list[str]) -> None:
    scene.boot(cardType="ai")
    card = asked(scene)
    (message_id,) = scene._questions
    for number, kind in enumerate(kinds, start=1):
        data = {**data_of_click(scene, card), **FORGED[kind]}
        if isinstance(data["content"], str):
            data["content"] = data["content"].replace("THE MESSAGE", message_id)
        data = {name: field for name, field in data.items() if field is not None}
        assert ack_of(scene, scene.gateway.click_raw(data)).code == 400, kind
        reasons = [record.message.partition(REFUSED)[2] for record in scene.host.logged("warning", REFUSED)]
        assert len(reasons) == number and len(reasons[-1]) > 10, kind
    assert votes(scene) == []
    assert ack_of(scene, scene.gateway.click(card, HELPFUL)).code == 200  # the real one still works
    assert votes(scene) == [("staff-Ann", "helpful")]
    assert not scene.host.logged("exception") and not scene.host.logged("error")


NO_OBJECTS = ["not json", "[1]", "5", "null", '"text"', "", "{"]


@pytest.mark.parametrize("data", [NO_OBJECTS, ["[" * 100_000]], ids=["others", "deep JSON"])
def test_data_that_is_no_object_is_refused(scene: Scene, data: list[str]) -> None:
    scene.boot(cardType="ai")
    for number, one in enumerate(data, start=1):
        headers = {"topic": CARD_TOPIC, "messageId": f"frame-{number}", "contentType": "application/json"}
        scene.gateway.push({"specVersion": "1.0", "type": "CALLBACK", "headers": headers, "data": one})
        assert ack_of(scene, f"frame-{number}").code == 400, one[:20]
        assert len(scene.host.logged("warning", "refused")) == number, one[:20]
    assert not scene.host.logged("exception") and not scene.host.logged("error")


def test_a_rating_before_there_is_an_answer_is_refused(scene: Scene) -> None:
    gate = threading.Event()
    scene.agent(ReferenceAgent("one two", gate=gate))
    scene.boot(cardType="ai").say("What is it?")
    card = scene.gateway.card_for("What is it?")
    scene.gateway.wait_for(lambda: card.labels == [STOP])
    data = data_of_click(scene, card, STOP)
    early = {**data, "content": content(actionIds=["helpful"], params={})}
    eventually(lambda: scene.manager.status()["in_flight"] == 1)
    assert ack_of(scene, scene.gateway.click_raw(early)).code == 400
    assert votes(scene) == []
    gate.set()


# ---- in time


@contextlib.contextmanager
def lock(store: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def test_a_click_is_acknowledged_while_another_process_keeps_the_robots_file(scene: Scene) -> None:
    """It cannot say what the person sees: that is shown later. `protocol_errors` tells of a late acknowledgement."""
    card = asked(scene.boot(cardType="ai"))
    eventually(lambda: scene.manager.status()["answered"] == 1)
    (store,) = scene.host.app_folder.rglob("*.sqlite3")
    with lock(store):
        frame = scene.gateway.click(card, HELPFUL)
        assert ack_of(scene, frame).code == 200
        scene.gateway.wait_for(lambda: card.view("staff-Ann").note.startswith("Thank you"))
    assert not card.note and not card.view("staff-Bob").note
    assert votes(scene) == [("staff-Ann", "helpful")]


def test_a_click_is_acknowledged_when_the_store_is_slow(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.card_handler._SECONDS", 0.05)
    card = asked(scene.boot(cardType="ai"))
    eventually(lambda: scene.manager.status()["answered"] == 1)
    store, gate = scene.manager.handler.store, threading.Event()
    find_answer = store.find_answer
    monkeypatch.setattr(store, "find_answer", lambda handle: gate.wait(10) and find_answer(handle))
    frame = scene.gateway.click(card, HELPFUL)
    assert ack_of(scene, frame).code == 200
    assert not card.view("staff-Ann").note
    gate.set()
    scene.gateway.wait_for(lambda: card.view("staff-Ann").note.startswith("Thank you"))
    assert [label for label in card.view("staff-Ann").labels if "✅" in label] == ["✅ 😊 Helpful"]
    assert not any("✅" in label for label in card.labels)


def test_a_late_refusal_is_logged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.card_handler._SECONDS", 0.05)
    card = asked(scene.boot(cardType="ai"))
    store, gate = scene.manager.handler.store, threading.Event()
    monkeypatch.setattr(store, "find_answer", lambda handle: gate.wait(10) and None)
    assert ack_of(scene, scene.gateway.click(card, HELPFUL)).code == 200
    gate.set()
    scene.wait_logged("warning", REFUSED)


def test_a_click_is_acknowledged_while_an_agent_hangs(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai", maxConcurrency=1))
    gate = threading.Event()
    agent = scene.agent(ReferenceAgent("one two", gate=gate))
    scene.say("Does it hang?")
    eventually(lambda: agent.calls)
    assert ack_of(scene, scene.gateway.click(card, HELPFUL)).code == 200
    assert card.view("staff-Ann").note.startswith("Thank you")
    gate.set()


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_a_click_is_acknowledged_while_no_call_gets_through(scene: Scene, kind: Any) -> None:
    """What the person sees is in the acknowledgement: it takes no call."""
    card = asked(scene.boot(cardType="ai"))
    for path in (CREATE_CARD, STREAM_CARD, UPDATE_INSTANCE, TOKEN, WEBHOOK):
        scene.gateway.trouble(path, kind, times=10**6, seconds=0.5)
    assert ack_of(scene, scene.gateway.click(card, HELPFUL)).code == 200
    assert card.view("staff-Ann").note.startswith("Thank you")
    for button in ("🔄 Regenerate", "[Question] Keep Asking"):
        assert ack_of(scene, scene.gateway.click(card, button)).code == 200
    assert votes(scene) == [("staff-Ann", "helpful")]
    scene.gateway.calm()


def test_a_crowd_of_clicks_is_acknowledged_and_counted_once_each(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    people = [f"Person{number}" for number in range(40)]
    frames = [scene.gateway.click(card, "helpful", person=person) for person in people for _ in range(2)]
    assert {ack_of(scene, frame).code for frame in frames} == {200}
    assert sorted(votes(scene)) == sorted((f"staff-{person}", "helpful") for person in people)


# ---- whoever answers


def test_clicks_are_wanted_from_the_start_and_after_a_reload(scene: Scene) -> None:
    scene.boot()  # with standard cards, too: their answers may come in others
    assert scene.gateway.click_raw({"outTrackId": "unknown", "userId": "staff-Ann"})
    save(scene, cardType="ai")
    card = asked(scene, "And now?")
    save(scene, cardType="ai", apiQps=19)
    assert ack_of(scene, scene.gateway.click(card, HELPFUL)).code == 200
    assert card.view("staff-Ann").note.startswith("Thank you")
    assert votes(scene) == [("staff-Ann", "helpful")]


def test_a_click_after_a_lost_connection_is_heard(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.stream_client.backoff", lambda first, limit: iter([0.01] * 100))
    card = asked(scene.boot(cardType="ai"))
    scene.gateway.drop_connections()
    scene.gateway.wait_connected()
    assert ack_of(scene, scene.gateway.click(card, HELPFUL)).code == 200
    assert votes(scene) == [("staff-Ann", "helpful")]


def test_only_those_who_may_use_the_robot_may_click(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai", allowUsers=["staff-Ann"]))
    assert ack_of(scene, scene.gateway.click(card, HELPFUL, person="Eve")).code == 200
    assert "not open to you" in card.view("staff-Eve").note
    assert votes(scene) == []
    assert not any("✅" in label for label in card.view("staff-Eve").labels)
