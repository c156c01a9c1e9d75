"""JitNode leaves some things undocumented. The robot behaves well either way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import Gateway
from tests.scenarios.conftest import DEMO, Scene, staged


@pytest.fixture
def shared_user_scene(gateway: Gateway) -> Iterator[Scene]:
    yield from staged(gateway, isolated=False)


def test_where_threads_share_the_user_agents_run_one_at_a_time(shared_user_scene: Scene) -> None:
    scene = shared_user_scene
    agent = scene.agent(ReferenceAgent("Hello!", delay=0.01, chunks=3))
    scene.boot()
    people = ["Ann", "Bob", "Cem", "Dan", "Eve"]
    for name in people:
        scene.say(f"Who am I, {name}?", sender=name)
    for name in people:
        assert scene.card(f"Who am I, {name}?").text == "Hello!"
    assert agent.max_running == 1
    assert all(call.user is call.user_at_end for call in agent.calls)
    assert len({id(call.user) for call in agent.calls}) == len(people)
    assert len(scene.host.logged("warning", "one at a time")) == 1


def test_where_threads_have_users_of_their_own_agents_run_side_by_side(scene: Scene) -> None:
    together = threading.Barrier(3)
    agent = scene.agent(ReferenceAgent("Hello!", before=lambda call: together.wait(10)))
    scene.boot()
    for name in ("Ann", "Bob", "Cem"):
        scene.say(f"Who am I, {name}?", sender=name)
    for name in ("Ann", "Bob", "Cem"):
        assert scene.card(f"Who am I, {name}?").text == "Hello!"
    assert all(call.user is call.user_at_end for call in agent.calls)
    assert not scene.warnings()


@pytest.mark.parametrize("options", [{"element_has_env": False}, {"element_has_env": True}])
def test_the_context_is_found_on_the_element_or_on_its_app(gateway: Gateway, options: dict) -> None:
    for scene in staged(gateway, **options):
        scene.boot().say("Hello?")
        assert scene.card("Hello?").text == "Hello!"


@pytest.mark.parametrize("drop", ["never", "before", "after"])
def test_a_save_leaves_one_connection_whether_or_not_the_host_drops_the_object(gateway: Gateway, drop: str) -> None:
    for scene in staged(gateway, drop_on_save=drop):
        manager = scene.boot().manager
        scene.host.save(DEMO, "config.json", scene.host.element(DEMO).getFile("config.json"))
        assert scene.manager is manager
        assert scene.connections() == 1
        scene.say("Still there?")
        assert scene.card("Still there?").text == "Hello!"
        assert scene.manager.is_running()


def test_saving_the_configuration_cuts_nobody_off(scene: Scene) -> None:
    gate = threading.Event()
    scene.agent(ReferenceAgent("one two", gate=gate, chunks=2))
    scene.boot().say("Long?")
    scene.gateway.card_for("Long?")
    scene.host.save(DEMO, "config.json", scene.host.element(DEMO).getFile("config.json"))
    assert scene.connections() == 1
    scene.agent(ReferenceAgent("Hello!"))
    scene.say("Meanwhile?", sender="Bob")
    assert scene.card("Meanwhile?").text == "Hello!"
    gate.set()
    assert scene.card("Long?").text == "one two"
