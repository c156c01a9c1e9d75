"""What whoever runs the robot can learn of it: in code, in the log, in the chat."""

from __future__ import annotations

import json
import threading

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import SEND_CARD
from tests.scenarios.conftest import Scene

KEYS = {
    "state", "since", "last_frame_age", "last_pong_age", "reconnects", "received", "answered", "failed", "declined",
    "duplicate", "in_flight", "queued", "abandoned", "unsent", "calls", "month", "closed", "clicks",
    "rated",
}  # fmt: skip


def test_the_status_tells_what_happened(scene: Scene) -> None:
    gate = threading.Event()
    scene.boot(maxConcurrency=1)
    scene.card("Answered?") if scene.say("Answered?") else None
    scene.agent(ReferenceAgent("", error=RuntimeError("no")))
    scene.answer(scene.say("Failed?"))
    repeated = scene.say("", text=None, msgtype="picture", content={"downloadCode": "code"})
    scene.gateway.redeliver(repeated)
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.say("Running?")
    scene.say("Queued?", sender="Bob")
    scene.gateway.card_for("Queued?")
    eventually(lambda: scene.manager.status()["duplicate"] == 1 and scene.manager.status()["in_flight"] == 1)
    eventually(lambda: scene.manager.status()["calls"][SEND_CARD]["made"] == 4, "four cards")
    status = scene.manager.status()
    gate.set()
    assert set(status) >= KEYS
    assert status["state"] == "connected" and status["since"].endswith("Z")
    counted = ("received", "answered", "failed", "declined", "duplicate", "in_flight", "queued", "abandoned")
    assert [status[name] for name in counted] == [6, 1, 1, 1, 1, 1, 1, 0]
    assert status["calls"][SEND_CARD]["refused"] == 0
    assert status["month"]["pushes"] == 6
    for name in ("ack_ms", "first_card_ms", "answer_ms"):
        assert 0 < status[name]["p50"] <= status[name]["p95"]
    assert json.loads(json.dumps(status)) == status


def test_one_line_in_the_log_at_each_change_of_state(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.stream_client.backoff", lambda first, limit: iter([0.01] * 100))

    def states() -> list[str]:
        lines = [record.message for record in scene.host.logged("info", "state=")]
        return [part.partition("=")[2] for line in lines for part in line.split() if part.startswith("state=")]

    scene.boot()
    eventually(lambda: "connected" in states())
    scene.drop()
    eventually(lambda: states().count("connected") == 2)
    scene.manager.stop()
    expected = ["connecting", "connected", "reconnecting", "connected", "stopping", "stopped"]
    eventually(lambda: len(states()) >= 6, "a line for each state")
    assert sorted(states()) == sorted(expected)


def test_one_line_an_hour(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.dingTalkStreamType.client_manager._REPORT_SECONDS", 0.1)
    scene.boot().say("Counted?")
    scene.card("Counted?")
    line = scene.wait_logged("info", "answered=1").message
    assert f"client_id={scene.gateway.client_id}" in line and "state=connected" in line and "month.calls=" in line


@pytest.mark.parametrize(("question", "language"), [("/status", "en-US"), (" /Status ", "en-US"), ("/status", "zh-CN")])
def test_an_administrator_is_told_in_the_chat(scene: Scene, question: str, language: str) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot(language=language).say("Before?")
    scene.card("Before?")
    eventually(lambda: scene.manager.status()["answered"] == 1)
    scene.say(question, isAdmin=True)
    assert {"en-US": "Answered 1", "zh-CN": "已回答 1"}[language] in scene.sentence()
    assert "connected" in scene.sentence()
    assert [call.text for call in agent.calls] == ["Before?"]


def test_to_anybody_else_it_is_a_question(scene: Scene) -> None:
    agent = scene.agent(ReferenceAgent("Hello!"))
    scene.boot().say("/status")
    assert scene.card("/status").text == "Hello!"
    assert [call.text for call in agent.calls] == ["/status"]
