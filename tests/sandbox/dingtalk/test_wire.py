"""The wire, between the real robot and the stand-in DingTalk: all is seen once, no secret gets out, nothing breaks."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import dingtalk_stream.utils
import pytest
import websockets.asyncio.client
from websockets.asyncio.server import ServerConnection, serve

import imRobots.Meta.outbox
from imRobots.dingTalkStreamType import stream_client
from imRobots.dingTalkStreamType.network import Network
from imRobots.Meta import TransportError
from tests.dingtalk.helpers import Peer, eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import (
    CREATE_CARD,
    MESSAGE_TOPIC,
    OPEN,
    SEND_CARD,
    STREAM_CARD,
    TOKEN,
    UPDATE_CARD,
    UPDATE_INSTANCE,
    WEBHOOK,
    Gateway,
)
from tests.fakes.trouble import TroubleKind
from tests.sandbox.dingtalk.wire import Wire
from tests.scenarios.conftest import Scene, staged

SECRET = 'planted "secret"/äé'
PERMISSION = "Forbidden.AccessDenied.AccessTokenPermissionDenied"


class Recorder:
    """A desk that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.marks: list[tuple[str, str, float, str]] = []
        self.lines: list[tuple[str, str]] = []
        self.is_broken = False

    def frame(self, direction: str, title: str, detail: Any, at: float) -> None:
        self._check()
        self.frames.append((direction, title, detail))

    def call(self, title: str, detail: Any, at: float) -> dict[str, Any]:
        self._check()
        self.calls.append({"title": title, "detail": detail, "ok": None})
        return self.calls[-1]

    def ended(self, item: dict[str, Any], ok: bool, summary: str, detail: Any, at: float) -> None:
        self._check()
        item.update(ok=ok, summary=summary, detail=detail)

    def mark(self, answer: str, what: str, at: float, question: str = "") -> None:
        self._check()
        self.marks.append((answer, what, at, question))

    def log(self, level: str, text: str) -> None:
        self._check()
        self.lines.append((level, text))

    def _check(self) -> None:
        if self.is_broken:
            raise RuntimeError("the desk is broken")

    def of(self, path: str) -> list[dict[str, Any]]:
        """Ended calls."""
        return [call for call in self.calls if call["title"].endswith(path) and call["ok"] is not None]

    def what(self, answer: str) -> list[str]:
        return [what for one, what, _, _ in self.marks if one == answer]

    def ended_with(self, answer: str, last: str = "final") -> list[str]:
        return eventually(lambda: self.what(answer) if last in self.what(answer) else None, f"{last} of {answer}")

    def everything(self) -> str:
        return json.dumps([self.frames, self.calls, self.marks, self.lines], ensure_ascii=False, allow_nan=False)


@pytest.fixture
def desk() -> Recorder:
    return Recorder()


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with Gateway(client_secret=SECRET) as gateway:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
        monkeypatch.setattr(dingtalk_stream.DingTalkStreamClient, "get_host_ip", lambda self: "127.0.0.1")
        monkeypatch.setenv("no_proxy", "*")
        for module in (stream_client, imRobots.Meta.outbox):
            monkeypatch.setattr(module, "backoff", lambda first, limit: itertools.repeat(0.01))
        yield gateway


@pytest.fixture
def scene(gateway: Gateway, desk: Recorder) -> Iterator[Scene]:
    """The demo, watched."""
    with Wire(desk, [SECRET]):  # type: ignore[arg-type]
        for scene in staged(gateway):
            scene.agent(ReferenceAgent("Hello!", chunks=0))  # whose card is updated by its last word only
            yield scene


@pytest.fixture
def wire(desk: Recorder) -> Iterator[Wire]:
    with Wire(desk, [SECRET]) as wire:  # type: ignore[arg-type]
        yield wire


# ---- the journeys of answers


def test_an_ai_card_from_its_message_to_its_last_word(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    message = scene.say("Why?")
    assert desk.ended_with(message) == ["received", "acknowledged", "first", "update", "final"]
    assert {question for _, _, _, question in desk.marks} == {"Why?"}
    times = [at for _, _, at, _ in desk.marks]
    assert times == sorted(times)
    titles = [f"{direction} {title}" for direction, title, _ in desk.frames]
    assert titles == [f"in CALLBACK {MESSAGE_TOPIC}", "out ack 200"]
    seen = [call["title"] for call in desk.calls if TOKEN not in call["title"]]
    paths = [f"POST {OPEN}", f"POST {CREATE_CARD}", f"PUT {STREAM_CARD}", f"PUT {UPDATE_INSTANCE}"]
    assert seen == paths
    assert {(call["ok"], call["summary"]) for call in desk.calls} == {(True, "200")}
    assert desk.lines == []


def test_details_have_what_is_on_the_wire_and_its_json_parsed(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    desk.ended_with(scene.say("Why?"))
    pushed, ack = (detail for _, _, detail in desk.frames)
    assert pushed["headers"]["topic"] == MESSAGE_TOPIC
    assert pushed["data"]["text"] == {"content": " Why?"}
    assert ack["data"] == {"response": "OK"}
    [call] = desk.of(CREATE_CARD)
    detail = call["detail"]
    assert (detail["method"], detail["url"], detail["status"]) == ("POST", scene.gateway.url + CREATE_CARD, 200)
    assert detail["headers"]["Content-Type"] == "application/json"
    variables = detail["body"]["cardData"]["cardParamMap"]
    assert isinstance(variables["sys_full_json_obj"], str)
    assert variables["sys_full_json_obj (parsed)"]["msgButtons"][0]["id"] == "stop"
    assert detail["answer"]["success"] is True
    assert detail["ms"] > 0


def test_a_standard_card_ends_with_its_buttons(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="standard")
    assert desk.ended_with(scene.say("Why?"))[-2:] == ["first", "final"]
    [sent], [*_, final] = desk.of(SEND_CARD), desk.of(UPDATE_CARD)
    assert sent["detail"]["body"]["cardData (parsed)"]["header"]["title"]["text"] == "Why?"
    [action] = [part for part in final["detail"]["body"]["cardData (parsed)"]["contents"] if part["type"] == "action"]
    assert action["actions"][0]["value (parsed)"]["action"] == "feedback"


def test_markdown_and_commands_go_through_the_webhook_of_their_message(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="markdown")
    command, question = scene.say("/help"), scene.say("Why?")
    whole = ["acknowledged", "final", "first", "received"]
    assert sorted(desk.ended_with(command)) == sorted(desk.ended_with(question)) == whole
    assert {call["title"] for call in desk.of(WEBHOOK)} == {f"POST {WEBHOOK}"}
    assert {call["detail"]["url"] for call in desk.of(WEBHOOK)} == {f"{scene.gateway.url}{WEBHOOK}?***"}


def test_where_the_webhook_has_expired_a_message_of_the_robots_own_counts(scene: Scene, desk: Recorder) -> None:
    scene.gateway.webhook_lifetime = -1
    scene.boot(cardType="markdown")
    in_group, between_us = scene.say("Why?"), scene.say("How?", group=False)
    assert desk.ended_with(in_group)[-2:] == desk.ended_with(between_us)[-2:] == ["first", "final"]
    assert {call["summary"].partition(" (")[0] for call in desk.of(WEBHOOK)} == {"200 300001 session 不存在"}


def test_regenerate_counts_from_its_click(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    message = scene.say("Why?")
    desk.ended_with(message)
    first = scene.gateway.card_for("Why?", state="final")
    frame = scene.gateway.click(first, "regenerate")
    whole = ["received", "acknowledged", "first", "update", "final"]
    assert sorted(desk.ended_with(frame)) == sorted(whole)
    assert desk.what(message) == whole
    at = {what: at for one, what, at, _ in desk.marks if one == frame}
    assert at["received"] < at["acknowledged"]
    assert at["received"] < at["first"] < at["final"]


def test_a_redelivered_message_is_received_once(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    message = scene.say("Why?")
    frame = scene.gateway.redeliver(message)
    scene.gateway.wait_for(lambda: frame in scene.gateway.acks)
    desk.ended_with(message)
    eventually(lambda: len(desk.frames) == 4)
    assert sorted(desk.what(message)) == ["acknowledged", "final", "first", "received", "update"]


def test_a_crowd_that_asks_the_same_has_its_own_answers(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    messages = [scene.say("Why?", sender=sender) for sender in ("Ann", "Ben", "Eva")]
    for message in messages:
        assert sorted(set(desk.ended_with(message))) == ["acknowledged", "final", "first", "received", "update"]
    assert len(desk.marks) == 15


def test_a_long_answer_ends_with_its_last_card(scene: Scene, desk: Recorder) -> None:
    scene.agent(ReferenceAgent("word " * 5000, chunks=0))
    scene.boot(cardType="ai")
    message = scene.say("Why?")
    eventually(lambda: desk.what(message).count("final") == 3, "the end of three cards")
    assert [call["detail"]["body"]["outTrackId"].partition(".")[2] for call in desk.of(CREATE_CARD)] == ["", "1", "2"]


# ---- trouble


@pytest.mark.parametrize("kind", ["reset", "lost", "garbage"])
def test_a_call_that_fails_is_shown_as_the_robot_saw_it(scene: Scene, desk: Recorder, kind: TroubleKind) -> None:
    scene.boot(cardType="ai")
    scene.gateway.trouble(CREATE_CARD, kind)
    message = scene.say("Why?")
    desk.ended_with(message)
    failed, *_, repeated = desk.of(CREATE_CARD)
    assert failed["ok"] is False
    if kind == "garbage":
        assert failed["summary"] == "200, and the answer is no JSON object"
        assert failed["detail"]["answer"] == "<html>It works!"
    else:
        assert "Error" in failed["summary"]
        assert failed["detail"]["error"].startswith("Unconfirmed: ")
        assert "status" not in failed["detail"]
    if kind == "reset":
        assert repeated["ok"] is True
    else:  # it was there already, as the second try was told
        assert repeated["summary"].startswith("400 param.cardAlreadyExist")
    assert desk.what(message).count("first") == 1


def test_a_refusal_is_shown_with_what_it_means(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    scene.gateway.refuse(CREATE_CARD, status=403, code=PERMISSION)
    message = scene.say("Why?")
    assert sorted(desk.ended_with(message)) == ["acknowledged", "final", "first", "received"]
    [call] = desk.of(CREATE_CARD)
    assert call["ok"] is False
    assert call["summary"].startswith(f"403 {PERMISSION} refused (request ")


def test_a_timeout_and_nobody_there(wire: Wire, desk: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("imRobots.dingTalkStreamType.network._SECONDS", 0.05)
    with Peer.answering(None) as peer, pytest.raises(TransportError):
        Network().request("POST", f"http://{peer.address}/silent?session=abc", b"{}", {})
    with pytest.raises(TransportError):
        Network().request("POST", "http://127.0.0.1:1/nobody", b"{}", {})
    silent, nobody = desk.calls
    assert (silent["title"], silent["ok"]) == ("POST /silent", False)
    assert "TimeoutError" in silent["summary"]
    assert nobody["summary"].startswith("NewConnectionError")


def test_the_end_of_a_connection_is_shown(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    scene.gateway.system("ping")
    eventually(lambda: len(desk.frames) == 2)
    scene.gateway.drop_connections()
    eventually(lambda: len(desk.frames) == 3)
    assert [title for _, title, _ in desk.frames[:2]] == ["SYSTEM ping", "ack 200"]
    assert desk.frames[2][1] == "closed: no close frame received or sent"
    scene.gateway.wait_connected()
    assert sum(call["title"] == f"POST {OPEN}" for call in desk.calls) == 2


FRAMES: list[Any] = [
    b"\x00\xff",
    b'{"type": "CALLBACK"}',
    "not json",
    "[]",
    '{"type": 5, "headers": 7, "data": "{"}',
    '{"type": "CALLBACK", "headers": {"topic": "/v1.0/im/bot/messages/get"}, "data": "[NaN, 1e999]"}',
    {"type": "CALLBACK", "headers": {"topic": MESSAGE_TOPIC, "messageId": "f1"}, "data": '{"msgId": {}, "text": 3}'},
    {
        "type": "CALLBACK",
        "headers": {"topic": "/v1.0/card/instances/callback", "messageId": "f2"},
        "data": '{"outTrackId": [], "userId": 5, "content": "{"}',
    },
    '{"data": "' + "x" * 300_000 + '"}',
    "[" * 5000 + "]" * 5000,
    '{"a":' * 300 + "1" + "}" * 300,
    '{"a": "' + "x" * 2**20 + '"}',
    '{"half": "\\ud83d"}',
]


def test_no_frame_breaks_it_and_each_is_seen_once(scene: Scene, desk: Recorder) -> None:
    scene.boot(cardType="ai")
    for frame in FRAMES:
        scene.gateway.push(frame)
    desk.ended_with(scene.say("Why?"))
    assert sum(direction == "in" for direction, _, _ in desk.frames) == len(FRAMES) + 1
    text = desk.everything()
    text.encode()
    assert desk.lines == []
    notes = [detail["note"] for _, _, detail in desk.frames if isinstance(detail, dict) and "note" in detail]
    assert notes == ["the first 200000 of 300012 characters"]
    assert "too long to be shown" in text


def test_a_broken_desk_does_not_break_the_robot(scene: Scene, desk: Recorder) -> None:
    desk.is_broken = True
    scene.boot(cardType="ai")
    scene.say("Why?")
    assert scene.card("Why?").text == "Hello!"
    desk.is_broken = False
    scene.say("And now?")
    eventually(lambda: any(what == "final" for _, what, _, _ in desk.marks))


def test_what_cannot_be_shown_is_said_in_the_log(wire: Wire, desk: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError(f"with {SECRET} in it")

    monkeypatch.setattr(desk, "frame", fail)
    wire._frame("in", "{}")
    assert desk.lines == [("warning", "The wire could not show something: ValueError('with *** in it')")]


# ---- life


def test_all_is_as_before_when_it_ends_also_by_an_error(desk: Recorder) -> None:
    request, connect = Network.request, stream_client.connect
    with pytest.raises(ZeroDivisionError), Wire(desk):  # type: ignore[arg-type]
        assert Network.request is not request
        assert stream_client.connect is not connect
        raise ZeroDivisionError
    assert Network.request is request
    assert stream_client.connect is connect is websockets.asyncio.client.connect


def test_what_runs_on_when_it_has_ended_is_shown_no_more(gateway: Gateway, desk: Recorder) -> None:
    for scene in staged(gateway):
        with Wire(desk, [SECRET]):  # type: ignore[arg-type]
            scene.boot(cardType="ai")
        seen = desk.everything()
        scene.say("Why?")
        assert scene.card("Why?").text == "Hello!"
        assert desk.everything() == seen


async def test_a_frame_that_cannot_be_sent_is_shown_so(wire: Wire, desk: Recorder) -> None:
    async def hang_up(connection: ServerConnection) -> None:
        await connection.close()

    async with serve(hang_up, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = await stream_client.connect(f"ws://127.0.0.1:{port}", proxy=None)
        await asyncio.wait_for(connection.wait_closed(), 5)
        with pytest.raises(stream_client.websockets.exceptions.ConnectionClosed):
            await connection.send('{"code": 200, "headers": {"messageId": "f1"}}')
    [(direction, title, _)] = desk.frames
    assert (direction, title.partition(":")[0]) == ("out", "ack 200, not sent")


# ---- secrets


def test_no_secret_gets_to_the_desk(scene: Scene, desk: Recorder) -> None:
    given: list[bytes] = []
    request = Network.request

    def listening(*call: Any) -> tuple[int, bytes]:
        answer = request(*call)
        given.append(answer[1])
        return answer

    with mock.patch.object(Network, "request", listening):
        scene.boot(cardType="ai")
        tokens = eventually(lambda: [json.loads(one)["accessToken"] for one in given if b"accessToken" in one])
    gateway = scene.gateway
    [ticket] = [json.loads(one)["ticket"] for one in given if b"ticket" in one]
    gateway.refuse("/refused", status=400, code=f"code {SECRET}", message=f"bad {tokens[0]} and {SECRET}")
    Network().request("POST", f"{gateway.url}/refused/{SECRET}?key={SECRET}", SECRET.encode(), {"Key": SECRET})
    message = scene.say(f"Is it {SECRET}?", token="abcdefgh-1", nested=json.dumps({"clientSecret": SECRET}))
    desk.ended_with(message)
    words = f"{SECRET} {ticket} http://me:pass1word@proxy"
    gateway.push({"type": "EVENT", "headers": {"eventType": words}, "data": "{}"})
    eventually(lambda: any(title == "EVENT *** *** http://***@proxy" for _, title, _ in desk.frames))
    session = gateway._asked[message]["sessionWebhook"].partition("session=")[2]
    text = desk.everything()
    assert "?session=***" in text
    as_json = json.dumps(SECRET, ensure_ascii=False)[1:-1]
    for secret in (
        SECRET,
        as_json,
        as_json.replace("\\", "\\\\"),
        tokens[0],
        ticket,
        session,
        "abcdefgh-1",
        "pass1word",
    ):
        assert secret not in text
    assert desk.lines == []


def test_masked_hides_by_key_by_value_and_by_look(desk: Recorder) -> None:
    wire = Wire(desk, ["s3cret/x", " ", ""])  # type: ignore[arg-type]
    value = {
        "clientSecret": "a",
        "appSecret": 5,
        "access_token": ["b"],
        "x-acs-dingtalk-access-token": "c",
        "ticket (parsed)": {"d": 1},
        "token": "",
        "fine": ["s3cret/x", "s3cret%2Fx", 'secret="e"', None, True, 1.5, float("nan"), b"f"],
        "s3cret/x": {"sessionWebhook": "https://host/robot?session=g&h=i"},
    }
    assert wire.masked(value) == {
        "clientSecret": "***",
        "appSecret": "***",
        "access_token": "***",
        "x-acs-dingtalk-access-token": "***",
        "ticket (parsed)": "***",
        "token": "",
        "fine": ["***", "***", 'secret="***"', None, True, 1.5, "nan", "b'f'"],
        "***": {"sessionWebhook": "https://host/robot?session=***&h=i"},
    }
    assert wire.masked("https://user:password@host") == "https://***@host"


def test_calls_of_many_threads_are_not_mixed_up(wire: Wire, desk: Recorder, gateway: Gateway) -> None:
    def call(number: int) -> None:
        Network().request("POST", f"{gateway.url}/{number}", json.dumps({"number": number}).encode(), {})

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["detail"]["body"]["number"] for one in desk.of("")) == list(range(20))
    for one in desk.calls:
        assert one["title"] == f"POST /{one['detail']['body']['number']}"
        assert one["summary"].startswith("404 InvalidAction.NotFound")
