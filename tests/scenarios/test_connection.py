"""What people see while the Stream connection has trouble, and what the log tells whoever has to mend it."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from tests.fakes.gateway import OPEN
from tests.scenarios.conftest import Scene

CLIENT = "imRobots.dingTalkStreamType.stream_client"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CLIENT}.backoff", lambda first, limit: iter([0.05] * 1000))


def test_a_dead_peer_is_noticed_and_replaced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CLIENT}._PING_SECONDS", 0.1)
    monkeypatch.setattr(f"{CLIENT}._PONG_SECONDS", 0.2)
    scene.boot().gateway.freeze()
    scene.gateway.wait_connected()
    scene.say("Alive again?")
    assert scene.card("Alive again?").text == "Hello!"
    assert scene.host.logged("warning", "has not answered a ping")
    assert scene.manager.status()["reconnects"] == 1


def test_a_gateway_that_closes_at_once_is_asked_ever_less_often(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from imRobots.Meta.timing import backoff

    monkeypatch.setattr(f"{CLIENT}.backoff", lambda first, limit: backoff(0.1, limit))  # ten times as fast as in life
    scene.gateway.close_at_once = True
    scene.host.boot()
    scene.gateway.wait_for(lambda: scene.gateway.count(OPEN) == 5)
    times = [call.at for call in scene.gateway.calls if call.path == OPEN]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(later > earlier * 1.2 for earlier, later in itertools.pairwise(pauses)), pauses
    scene.gateway.close_at_once = False
    scene.gateway.wait_connected()
    scene.say("Open now?")
    assert scene.card("Open now?").text == "Hello!"


def test_strange_frames_are_survived_on_the_same_connection(scene: Scene) -> None:
    gateway = scene.boot().gateway
    huge = json.dumps({"type": "CALLBACK", "headers": {"messageId": "huge"}, "data": "x" * 2**21})
    for frame in ("not json", b"\x00\xff binary", "[1, 2]", "null", "{}", '"' * 1000, "[" * 100_000, huge):
        gateway.push(frame)
    for topic in ("KEEPALIVE", "REGISTERED", "something new"):
        gateway.system(topic)
    gateway.push({"type": "CALLBACK", "headers": {"messageId": "new"}, "data": "{}"})
    scene.say("Still there?")
    assert scene.card("Still there?").text == "Hello!"
    assert gateway.wait_for(lambda: gateway.acks.get("new")).code == 404
    assert gateway.count(OPEN) == 1
    assert len(scene.host.logged("warning", "was ignored")) >= 8


def test_a_frame_beyond_every_limit_costs_a_connection_and_no_message(scene: Scene) -> None:
    scene.boot().gateway.push("x" * (2**24 + 1))
    scene.gateway.wait_for(lambda: scene.gateway.count(OPEN) == 2)
    scene.say("Still there?")
    assert scene.card("Still there?").text == "Hello!"


def test_a_ping_is_echoed(scene: Scene) -> None:
    gateway = scene.boot().gateway
    ping = gateway.system("ping", {"opaque": "123-dsfs"})
    ack = gateway.wait_for(lambda: gateway.acks.get(ping))
    assert (ack.code, json.loads(ack.data)) == (200, {"opaque": "123-dsfs"})
    assert not scene.warnings()


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (401, "authFailed", "check clientId and clientSecret"),
        (401, "", "check clientId and clientSecret"),
        (400, "someCode", "the application is published"),
        (403, "Forbidden.AccessDenied.IpNotInWhiteList", "this machine's address"),
    ],
)
def test_what_somebody_has_to_mend_is_said_once_and_tried_again_slowly(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int, code: str, advice: str
) -> None:
    monkeypatch.setattr(f"{CLIENT}._SLOW_SECONDS", 0.3)
    scene.gateway.refuse(OPEN, status=status, code=code, times=3)
    started = time.monotonic()
    scene.host.boot()
    scene.gateway.wait_connected()
    assert time.monotonic() - started > 3 * 0.3 * 0.7
    assert len(scene.host.logged("error")) == 1
    assert advice in scene.host.logged("error")[0].message
    scene.say("Mended?")
    assert scene.card("Mended?").text == "Hello!"


def test_an_outage_is_reported_once_and_ended_by_itself(scene: Scene) -> None:
    scene.gateway.trouble(OPEN, "reset", times=4)
    scene.host.boot()
    scene.gateway.wait_connected()
    assert len(scene.host.logged("error", "No connection to DingTalk")) == 1
    scene.say("Back?")
    assert scene.card("Back?").text == "Hello!"


def test_messages_of_before_and_after_a_disconnect_are_answered_and_acknowledged_where_they_came(scene: Scene) -> None:
    gateway = scene.boot().gateway
    for number in range(5):
        scene.say(f"Before {number}?", sender=f"Person{number}")
        gateway.system("disconnect")
        gateway.wait_connected()
        scene.say(f"After {number}?", sender=f"Person{number}")
    for number in range(5):
        assert scene.card(f"Before {number}?").text == scene.card(f"After {number}?").text == "Hello!"
    gateway.wait_for(lambda: len(gateway.acks) == 10)
