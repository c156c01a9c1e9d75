"""What people see when an agent does not come back."""

from __future__ import annotations

import threading

import pytest

from imRobots.Meta.texts import ENGLISH
from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import Gateway
from tests.scenarios.conftest import Scene, staged


def test_the_card_says_so_the_slot_is_free_and_the_late_result_is_dropped(scene: Scene) -> None:
    gate = threading.Event()
    scene.agent(ReferenceAgent("one two", gate=gate, chunks=2))
    question = scene.boot(maxConcurrency=2, agentTimeout=0.2).say("Ever?")
    said, _, sorry = scene.answer(question).partition("\n\n")
    assert (said.strip(), sorry) == ("one", ENGLISH.timed_out)
    status = scene.manager.status()
    assert (status["in_flight"], status["abandoned"]) == (0, 1)
    assert "agentTimeout" in scene.wait_logged("error", "aiagents.ragTest has run for").message
    gate.set()
    scene.wait_logged("warning", "late answer")
    assert scene.card("Ever?", "growing").text.endswith(ENGLISH.timed_out)
    assert scene.manager.status()["abandoned"] == 0


def test_the_next_question_of_the_session_waits_for_the_old_run(scene: Scene) -> None:
    gate = threading.Event()
    agent = scene.agent(ReferenceAgent("one two", gate=gate, chunks=2))
    question = scene.boot(maxConcurrency=4, agentTimeout=0.2).say("First?")
    scene.answer(question)
    scene.say("Second?")
    scene.gateway.card_for("Second?")
    scene.say("Of somebody else?", sender="Bob")
    eventually(lambda: len(agent.calls) == 2)
    gate.set()
    assert scene.card("Second?").text == "one two"
    assert [call.text for call in agent.calls] == ["First?", "Of somebody else?", "Second?"]
    assert agent.calls[0].ended <= agent.calls[2].started


def test_it_waits_no_longer_than_it_may(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.questions._RELEASE_SECONDS", 0.2)
    gate = threading.Event()
    scene.agent(ReferenceAgent("never", gate=gate))
    scene.boot(maxConcurrency=4, agentTimeout=0.2)
    scene.answer(scene.say("First?"))
    scene.agent(ReferenceAgent("Hello!"))
    scene.say("Second?")
    assert scene.card("Second?").text == "Hello!"
    gate.set()


@pytest.mark.parametrize("isolated", [True, False], ids=["users of their own", "one user for all"])
def test_with_all_slots_hanging_people_hear_busy_until_one_is_free(gateway: Gateway, isolated: bool) -> None:
    for scene in staged(gateway, isolated=isolated):
        slots = 2 if isolated else 1
        gate = threading.Event()
        agent = scene.agent(ReferenceAgent("Hello!", gate=gate))
        scene.boot(maxConcurrency=slots, agentTimeout=1.5)
        for number in range(slots):
            scene.say(f"Hang {number}?", sender=f"Person{number}")
        eventually(lambda agent=agent, slots=slots: len(agent.calls) == slots)
        scene.say("Waiting?", sender="Wu")  # gets a slot, where there is another, when the first is given up
        last_word = ENGLISH.timed_out if isolated else ENGLISH.busy
        gateway.wait_for(lambda last_word=last_word: gateway.card_for("Waiting?").text.endswith(last_word))
        scene.say("Too many?", sender="Bob")
        assert scene.sentence() == f"@staff-Bob {ENGLISH.busy}"
        assert "as many as may run at a time" in scene.wait_logged("error", "hang").message
        gate.set()
        scene.wait_logged("warning", "late answer")
        eventually(lambda scene=scene: scene.manager.status()["abandoned"] == 0)
        scene.say("Better now?", sender="Bob")
        assert scene.card("Better now?").text == "Hello!"
