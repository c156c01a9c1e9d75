"""What JitNode's hooks do: an instance was saved, an instance was deleted."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest

from imRobots.dingTalkStreamType import ClientManager, Loader
from imRobots.dingTalkStreamType.lifecycle import onDelete, onUpdate
from tests.dingtalk.helpers import CONFIG, ELEMENT, Log, assert_no_thread_is_left, robot_threads
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import OPEN, Gateway
from tests.fakes.host import FakeHost

DONE = {"status": "success"}


class Editor:
    """Saves and deletes the element as JitNode does."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def load(self, **changes: Any) -> ClientManager:
        self.write({**CONFIG, **changes})
        with self._host.context():
            return Loader([self._host.element(ELEMENT)]).load()

    def write(self, config: Any) -> None:
        self._host.write(ELEMENT, "config.json", json.dumps(config))

    def save(self, **changes: Any) -> dict[str, str]:
        self.write({**CONFIG, **changes})
        with self._host.context():
            return onUpdate(ELEMENT)

    def delete(self) -> dict[str, str]:
        with self._host.context():
            return onDelete(ELEMENT)


@pytest.fixture
def editor(host: FakeHost) -> Editor:
    return Editor(host)


def opened(gateway: Gateway) -> int:
    return len([call for call in list(gateway.calls) if call.path == OPEN])


def test_an_update_restarts_the_same_manager_with_the_new_configuration(
    gateway: Gateway, host: FakeHost, editor: Editor, agent: ReferenceAgent
) -> None:
    host.add("aiagents.second", ReferenceAgent("From the second."))
    manager = editor.load()
    assert manager.wait_ready(10)
    gateway.wait_connected()
    assert editor.save(agent="aiagents.second") == DONE
    assert manager.wait_ready(10)
    gateway.wait_for(lambda: opened(gateway) == 2 and gateway.connections() == 1, what="one connection")
    gateway.say("why?")
    assert gateway.card_for("why?", state="final").text == "From the second."
    assert agent.calls == []


def test_an_update_that_breaks_the_configuration_stops_the_client(gateway: Gateway, editor: Editor, log: Log) -> None:
    manager = editor.load()
    assert manager.wait_ready(10)
    assert editor.save(agent="") == DONE
    assert manager.state == "failed"
    assert len(log.lines("error")) == 1
    gateway.wait_for(lambda: gateway.connections() == 0)


def test_an_update_after_a_failed_load_tries_again(gateway: Gateway, editor: Editor) -> None:
    manager = editor.load(clientId="")
    assert manager.state == "failed"
    assert editor.save() == DONE
    assert manager.wait_ready(10)
    assert manager.error is None
    gateway.wait_for(lambda: gateway.connections() == 1)


def test_an_update_after_a_stop_starts_again(gateway: Gateway, editor: Editor) -> None:
    manager = editor.load()
    manager.stop()
    assert editor.save() == DONE
    assert manager.wait_ready(10)


def test_a_deletion_stops_the_client_and_forgets_it(gateway: Gateway, editor: Editor) -> None:
    manager = editor.load()
    assert manager.wait_ready(10)
    assert editor.delete() == DONE
    assert manager.state == "stopped"
    assert_no_thread_is_left()
    gateway.wait_for(lambda: gateway.connections() == 0)
    assert ELEMENT not in builtins.__dict__["__imRobots__"]
    assert editor.save() == DONE
    assert (manager.state, opened(gateway)) == ("stopped", 1), "what was deleted is not brought back"
    assert editor.load() is not manager


def test_a_deletion_after_a_failed_load_forgets_it(editor: Editor) -> None:
    manager = editor.load(clientId="")
    assert editor.delete() == DONE
    assert not manager.is_running()
    assert ELEMENT not in builtins.__dict__["__imRobots__"]


@pytest.mark.parametrize("hook", [onUpdate, onDelete])
def test_where_nothing_runs_nothing_happens(gateway: Gateway, host: FakeHost, log: Log, hook: Any) -> None:
    with host.context():
        assert hook("bots.unknown") == DONE
        assert hook(fullName=ELEMENT) == DONE
    assert (log.records, gateway.calls, robot_threads()) == ([], [], [])


def test_one_element_is_updated_and_deleted_without_the_others(
    gateway: Gateway, editor: Editor, host: FakeHost
) -> None:
    manager = editor.load()
    assert manager.wait_ready(10)
    with host.context():
        assert onUpdate("bots.other") == onDelete("bots.other") == DONE
    assert (manager.state, opened(gateway)) == ("connected", 1)
