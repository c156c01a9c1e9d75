"""What people see while calls to DingTalk fail: one card each, in one final state."""

from __future__ import annotations

import math
import threading

import pytest

from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import SEND_CARD, TOKEN, UPDATE_CARD
from tests.scenarios.conftest import Scene

THROTTLED = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox.backoff", lambda first, limit: iter([0.02] * 1000))
    monkeypatch.setattr("imRobots.dingTalkStreamType.network._SECONDS", 0.25)


@pytest.mark.parametrize("kind", ["reset", "lost", "hang", "late", "trickle", "garbage"])
@pytest.mark.parametrize(
    ("path", "repeated"), [(TOKEN, "refuse"), (UPDATE_CARD, "refuse"), (SEND_CARD, "refuse"), (SEND_CARD, "accept")]
)
def test_a_question_ends_in_one_final_card_whatever_happens_to_a_call(
    scene: Scene, path: str, repeated: str, kind: str
) -> None:
    scene.gateway.repeated_card = repeated  # type: ignore[assignment]
    scene.gateway.trouble(path, kind, times=2, seconds=0.4)  # type: ignore[arg-type]
    scene.boot().say("What is it?")
    assert scene.card("What is it?").text == "Hello!"
    assert len(scene.gateway.cards) == 1
    assert not scene.gateway.webhooks


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, THROTTLED),
        (403, "Forbidden.AccessDenied.QpsLimitForApi"),
        (403, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"),
        (429, "system.busy"),
        (400, "send.too.fast"),
        (500, "system.error"),
        (400, "system.error"),
        (504, "system.busy"),
    ],
)
def test_a_call_that_may_succeed_later_is_made_again(scene: Scene, status: int, code: str) -> None:
    for path in (SEND_CARD, UPDATE_CARD):
        scene.gateway.refuse(path, status=status, code=code, times=3)
    scene.boot().say("What is it?")
    assert scene.card("What is it?").text == "Hello!"
    assert len(scene.gateway.cards) == 1


@pytest.mark.parametrize("status", [200, 403])
def test_a_flood_ban_without_any_code_is_waited_for(scene: Scene, status: int) -> None:
    ban = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "xxx"}
    scene.gateway.refuse(SEND_CARD, status=status, code="0", body=ban, times=2)
    scene.boot().say("What is it?")
    assert scene.card("What is it?").text == "Hello!"


@pytest.mark.parametrize(
    "refusal", [(400, "InvalidAuthentication"), (401, "Unauthorized"), (400, "40014"), (400, "42001")]
)
def test_a_token_that_is_refused_is_renewed_once_for_all(scene: Scene, refusal: tuple[int, str]) -> None:
    everybody = [f"Person{number}" for number in range(12)]
    asked = threading.Barrier(len(everybody))
    scene.agent(ReferenceAgent("Hello!", before=lambda call: asked.wait(10)))
    scene.boot(apiQps=0)
    scene.gateway.wait_for(lambda: scene.gateway.count(TOKEN) == 1 and scene.gateway.calls[-1].status, what="a token")
    scene.gateway.token_refusal = refusal
    scene.gateway.expire_tokens()
    for person in everybody:
        scene.say(f"Who am I, {person}?", sender=person)
    for person in everybody:
        assert scene.card(f"Who am I, {person}?").text == "Hello!"
    assert scene.gateway.count(TOKEN) == 2
    assert not scene.gateway.webhooks


def test_an_update_that_lands_late_is_replaced_by_the_final_card(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox._UNSURE_SECONDS", 0.6)
    gate = threading.Event()
    scene.agent(ReferenceAgent("one two three four five six", gate=gate, chunks=6))
    scene.gateway.trouble(UPDATE_CARD, "late", seconds=0.5)
    monkeypatch.setattr("imRobots.Meta.answer._FIRST_PIECES", 1)
    scene.boot().say("Stale?")
    scene.gateway.wait_for(lambda: scene.gateway.count(UPDATE_CARD) == 1, what="the update that will be late")
    gate.set()
    card = scene.card("Stale?")
    final = len(card.states)
    scene.gateway.wait_for(lambda: len(card.states) >= final + 2, what="the late update, and the final card again")
    assert card.states[-2].text == "one " and not card.states[-2].buttons
    assert card.text == "one two three four five six" and card.state == "final"


def test_the_final_card_is_tried_for_minutes_not_only_a_few_times(scene: Scene) -> None:
    scene.gateway.refuse(UPDATE_CARD, status=500, code="system.error", times=30)
    scene.boot(apiQps=0).say("Patient?")
    assert scene.card("Patient?").text == "Hello!"
    assert scene.gateway.count(UPDATE_CARD) == 31


def test_a_first_card_that_may_have_been_sent_gets_the_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox._OPEN_SECONDS", 0.3)
    scene.gateway.trouble(SEND_CARD, "lost", times=math.inf)
    scene.boot().say("In doubt?")
    assert scene.card("In doubt?").text == "Hello!"
    assert not scene.gateway.webhooks


def test_a_first_card_that_cannot_be_sent_becomes_markdown(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox._OPEN_SECONDS", 0.3)
    scene.gateway.trouble(SEND_CARD, "reset", times=math.inf)
    scene.boot().say("No card?")
    assert scene.sentence() == "@staff-Ann  \nHello!"
    assert not scene.gateway.cards
