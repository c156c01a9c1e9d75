"""The Stream connection as DingTalk sees it: what is acknowledged where, and what becomes of a lost connection."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dingtalk_stream import AckMessage, CallbackMessage, Credential, EventHandler, EventMessage
from dingtalk_stream.version import VERSION_STRING
from websockets.asyncio.client import ClientConnection

from imRobots.dingTalkStreamType import ClientManager, frames, stream_client
from imRobots.dingTalkStreamType.stream_client import StreamClient
from imRobots.Meta import AuthError, TransportError
from tests.dingtalk.helpers import CLIENT_ID, CLIENT_SECRET, Log, Mailbox, eventually, soon
from tests.fakes.gateway import MESSAGE_TOPIC, OPEN, Gateway

Connect = Callable[[Any], ClientManager]
Manage = Callable[..., ClientManager]


def opened(gateway: Gateway) -> int:
    """How often a connection was asked for."""
    return len([call for call in list(gateway.calls) if call.path == OPEN])


def frame(topic: str = MESSAGE_TOPIC, message_id: str = "frame-1", kind: str = "CALLBACK", data: str = "{}") -> str:
    headers = {"topic": topic, "messageId": message_id, "contentType": "application/json"}
    return json.dumps({"specVersion": "1.0", "type": kind, "headers": headers, "data": data})


def write_and_wait(gateway: Gateway, mailbox: Mailbox, text: str) -> CallbackMessage:
    gateway.say(text)
    gateway.wait_for(lambda: text in mailbox.texts(), what=f"the message {text!r}")
    callback = mailbox.callbacks[mailbox.texts().index(text)]
    gateway.wait_for(lambda: callback.headers.message_id in gateway.acks, what=f"the acknowledgement of {text!r}")
    return callback


# ---- opening


def test_a_connection_is_asked_for_as_documented(gateway: Gateway, connected: Connect) -> None:
    connected(Mailbox())
    [call] = gateway.calls
    assert (call.method, call.path) == ("POST", "/v1.0/gateway/connections/open")
    assert call.body == {
        "clientId": CLIENT_ID,
        "clientSecret": CLIENT_SECRET,
        "subscriptions": [{"type": "CALLBACK", "topic": "/v1.0/im/bot/messages/get"}],
        "ua": f"dingtalk-sdk-python/v{VERSION_STRING}",
        "localIp": "127.0.0.1",
    }
    assert call.headers["Accept"] == "application/json", "without it DingTalk answers in XML"


def test_every_registered_topic_is_subscribed(gateway: Gateway) -> None:
    client = StreamClient(Credential(CLIENT_ID, CLIENT_SECRET))
    client.register_callback_handler("/one", Mailbox())
    client.register_callback_handler("/two", Mailbox())
    client.register_all_event_handler(EventHandler())
    client.open_connection()
    assert gateway.calls[0].body["subscriptions"] == [
        {"type": "EVENT", "topic": "*"},
        {"type": "CALLBACK", "topic": "/one"},
        {"type": "CALLBACK", "topic": "/two"},
    ]


def test_opening_fails_with_errors_of_the_family(gateway: Gateway) -> None:
    with pytest.raises(AuthError):
        StreamClient(Credential(CLIENT_ID, "wrong")).open_connection()
    gateway.refuse(OPEN, status=503, code="system.busy")
    with pytest.raises(TransportError):
        StreamClient(Credential(CLIENT_ID, CLIENT_SECRET)).open_connection()


# ---- acknowledging


def test_an_acknowledgement_goes_out_on_the_connection_that_the_frame_came_from(
    gateway: Gateway, connected: Connect, quick_reconnect: None
) -> None:
    go_on = threading.Event()

    class Slow(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            self.callbacks.append(callback)
            await asyncio.to_thread(go_on.wait, 30)
            return AckMessage.STATUS_OK, "late"

    slow = Slow()
    connected(slow)
    gateway.say("first")
    eventually(lambda: slow.callbacks, "the message")
    gateway.system("disconnect")
    gateway.wait_for(lambda: gateway.connections() == 2, what="a second connection next to the first")
    gateway.wait_connected()
    gateway.say("second")
    eventually(lambda: len(slow.callbacks) == 2, "the message on the second connection")
    go_on.set()
    gateway.wait_for(lambda: len(gateway.acks) == 2, what="both acknowledgements")
    first, second = (callback.headers for callback in slow.callbacks)
    assert first.connection_id != second.connection_id
    assert gateway.acks[first.message_id].connection == first.connection_id
    assert gateway.acks[second.message_id].connection == second.connection_id


def test_a_ping_is_echoed(gateway: Gateway, connected: Connect, log: Log) -> None:
    connected(Mailbox())
    frame_id = gateway.system("ping", {"opaque": "123-dsfs"})
    ack = gateway.wait_for(lambda: gateway.acks.get(frame_id), what="the pong")
    assert (ack.code, json.loads(ack.data)) == (200, {"opaque": "123-dsfs"})
    assert log.lines("warning", "error", "exception") == [], "pings are nothing to talk about"


@pytest.mark.parametrize("topic", ["CONNECTED", "REGISTERED", "KEEPALIVE"])
def test_other_system_frames_are_acknowledged(gateway: Gateway, connected: Connect, topic: str) -> None:
    connected(Mailbox())
    frame_id = gateway.system(topic)
    assert gateway.wait_for(lambda: gateway.acks.get(frame_id)).code == 200


@pytest.mark.parametrize(
    "pushed",
    [frame("/v1.0/card/instances/callback"), frame(kind="SURPRISE"), frame(topic="")],
    ids=["topic", "type", "none"],
)
def test_what_nobody_handles_is_answered_by_404(gateway: Gateway, connected: Connect, pushed: str) -> None:
    mailbox = Mailbox()
    connected(mailbox)
    gateway.push(pushed)
    ack = gateway.wait_for(lambda: gateway.acks.get("frame-1"), what="an acknowledgement")
    assert ack.code == 404
    assert mailbox.callbacks == []


def test_a_handler_that_fails_is_answered_by_500_and_logged(gateway: Gateway, connected: Connect, log: Log) -> None:
    class Broken(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            raise RuntimeError("a mistake of mine")

    connected(Broken())
    gateway.say("hello")
    [ack] = gateway.wait_for(lambda: list(gateway.acks.values()), what="an acknowledgement")
    assert ack.code == 500
    assert "a mistake of mine" not in ack.message + ack.data
    assert "a mistake of mine" in log.lines("exception")[0]


@pytest.mark.parametrize("topic", ["CONNECTED", "KEEPALIVE", "SOMETHING_NEW"])
def test_a_system_frame_is_acknowledged_with_what_it_brought(
    gateway: Gateway, connected: Connect, log: Log, topic: str
) -> None:
    connected(Mailbox())
    frame_id = gateway.system(topic, {"opaque": topic})
    ack = gateway.wait_for(lambda: gateway.acks.get(frame_id))
    assert (ack.code, json.loads(ack.data)) == (200, {"opaque": topic})
    assert log.lines("warning", "error", "exception") == []


def of_length(length: int, message_id: str) -> str:
    short = frame(message_id=message_id, data=json.dumps({"text": {"content": ""}, "msgId": message_id}))
    return short.replace('\\"content\\": \\"', '\\"content\\": \\"' + "x" * (length - len(short)))


def test_a_frame_that_is_too_long_is_not_read_and_costs_nothing(gateway: Gateway, connected: Connect, log: Log) -> None:
    mailbox = Mailbox()
    connected(mailbox)
    limit = frames._MAX_CHARACTERS
    for length in (limit + 1, 3 * limit):
        gateway.push(of_length(length, "too-long"))
    gateway.push(of_length(limit, "long"))
    assert gateway.wait_for(lambda: gateway.acks.get("long")).code == 200
    assert [callback.data["msgId"] for callback in mailbox.callbacks] == ["long"]
    assert len(log.lines("warning", containing=str(limit + 1))) == 1
    assert "too-long" not in gateway.acks
    assert not [line for _, line in log.records if len(line) > 1000]
    assert opened(gateway) == 1


def test_a_message_that_nobody_could_take_costs_the_connection_only(
    gateway: Gateway, connected: Connect, quick_reconnect: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "_MAX_MESSAGE", 10_000)
    mailbox = Mailbox()
    connected(mailbox)
    gateway.push(of_length(10_001, "too-long"))
    gateway.wait_for(lambda: opened(gateway) == 2, what="a new connection")
    gateway.wait_connected()
    write_and_wait(gateway, mailbox, "still there?")
    assert mailbox.texts() == ["still there?"]


GARBAGE: list[Any] = [
    "not json",
    "",
    "[]",
    "5",
    "null",
    '"text"',
    "{}",
    "{",
    "[" * 100_000,
    b"\xff\xfe",
    b"",
    '{"type": null}',
    '{"type": ["CALLBACK"]}',
    '{"type": "CALLBACK"}',
    '{"type": "CALLBACK", "headers": null}',
    '{"type": "CALLBACK", "headers": []}',
    '{"type": "SYSTEM"}',
    '{"type": "EVENT"}',
    json.dumps({"type": "CALLBACK", "headers": {"topic": MESSAGE_TOPIC}, "data": "not json"}),
    json.dumps({"type": "CALLBACK", "headers": {"topic": MESSAGE_TOPIC, "time": "yesterday"}, "data": "{}"}),
    json.dumps({"type": "CALLBACK", "headers": {"topic": ["x"], "messageId": None}, "data": 5}),
]


def test_garbage_is_survived_on_the_same_connection(gateway: Gateway, connected: Connect, log: Log) -> None:
    mailbox = Mailbox()
    connected(mailbox)
    for garbage in GARBAGE:
        gateway.push(garbage)
    gateway.push(frame(message_id="bad-data", data="not json"))
    assert gateway.wait_for(lambda: gateway.acks.get("bad-data")).code == 400
    line = log.lines("warning")[-1]
    assert MESSAGE_TOPIC in line and "refused" in line and "not json" not in line
    write_and_wait(gateway, mailbox, "still there?")
    assert (opened(gateway), gateway.connections()) == (1, 1)


@pytest.mark.parametrize("garbage", GARBAGE[:10], ids=repr)
def test_a_frame_that_is_no_json_object_is_noted_without_its_content(
    gateway: Gateway, connected: Connect, log: Log, garbage: Any
) -> None:
    connected(Mailbox())
    gateway.push(garbage)
    eventually(lambda: log.lines("warning"), "a warning")
    [line] = log.lines("warning")
    assert "not json" not in line and "text" not in line


# ---- losing a connection


def test_a_server_that_disconnects_gets_a_new_connection_and_the_old_one_is_left(
    gateway: Gateway, connected: Connect, quick_reconnect: None
) -> None:
    gateway.disconnect_grace = 0.3
    mailbox = Mailbox()
    connected(mailbox)
    before = write_and_wait(gateway, mailbox, "before").headers.connection_id
    gateway.system("disconnect")
    gateway.wait_connected()
    after = write_and_wait(gateway, mailbox, "after").headers.connection_id
    assert after != before
    gateway.wait_for(lambda: gateway.connections() == 1, what="the end of the old connection")
    assert write_and_wait(gateway, mailbox, "later").headers.connection_id == after
    assert opened(gateway) == 2
    assert len(gateway.acks) == 3, "one for each message, none for `disconnect`"


@pytest.mark.parametrize("code", [None, 1000, 1001, 1011, 4000])
def test_a_lost_connection_is_opened_again(
    gateway: Gateway, connected: Connect, quick_reconnect: None, code: int | None
) -> None:
    mailbox = Mailbox()
    manager = connected(mailbox)
    before = write_and_wait(gateway, mailbox, "before").headers.connection_id
    gateway.drop_connections(code)
    gateway.wait_connected()
    assert write_and_wait(gateway, mailbox, "after").headers.connection_id != before
    assert manager.wait_ready(10)
    assert gateway.connections() == 1


class Delays:
    """Takes the place of `backoff`: notes what was asked for and makes every delay a short one."""

    def __init__(self) -> None:
        self.made: list[tuple[float, float]] = []
        self.taken: list[int] = []  # for each of the generators, how often

    def __call__(self, first: float, limit: float) -> Iterator[float]:
        self.made.append((first, limit))
        self.taken.append(0)
        return self._delays(len(self.made) - 1)

    def _delays(self, number: int) -> Iterator[float]:
        for _ in itertools.count():
            self.taken[number] += 1
            yield 0.01


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> Delays:
    delays = Delays()
    monkeypatch.setattr(stream_client, "backoff", delays)
    return delays


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds until what somebody has to mend is tried again."""
    monkeypatch.setattr(stream_client, "_SLOW_SECONDS", 0.15)
    return 0.15


def test_connections_that_do_not_last_are_reopened_more_and_more_slowly(
    gateway: Gateway, connected: Connect, delays: Delays
) -> None:
    mailbox = Mailbox()
    connected(mailbox)
    for number in range(1, 5):
        write_and_wait(gateway, mailbox, f"message {number}")  # a frame does not make a connection a good one
        gateway.drop_connections()
        gateway.wait_for(lambda expected=number + 1: opened(gateway) == expected, what="a new connection")
        gateway.wait_connected()
    assert delays.made == [(1, 60)], "one series of delays, from a second to a minute"
    assert delays.taken == [4]


def test_a_connection_that_lasted_is_reopened_at_once(
    gateway: Gateway, connected: Connect, delays: Delays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "_STABLE_SECONDS", 0)
    connected(Mailbox())
    gateway.drop_connections()
    gateway.wait_for(lambda: opened(gateway) == 2, what="a new connection")
    gateway.wait_connected()
    assert delays.taken[0] == 0
    assert delays.made[1:] == [(1, 60)], "and later delays start anew"


def test_an_outage_is_reported_once_and_outlived(gateway: Gateway, manage: Manage, delays: Delays, log: Log) -> None:
    gateway.refuse(OPEN, status=503, code="system.busy", times=4)
    manager = manage()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    assert (opened(gateway), delays.taken) == (5, [4])
    [line] = log.lines("error")
    assert CLIENT_ID in line and "503" in line
    assert log.lines("info", containing=CLIENT_ID), "that it is connected is said too"
    gateway.refuse(OPEN, status=503, code="system.busy", times=2)
    gateway.wait_connected()
    gateway.drop_connections()
    gateway.wait_for(lambda: opened(gateway) == 8, what="a new connection")
    assert len(log.lines("error")) == 2, "the next outage is another one"


def test_an_endpoint_that_is_none_shows_no_ticket(
    gateway: Gateway, manage: Manage, delays: Delays, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"endpoint": "http://127.0.0.1:9/connect", "ticket": "the-ticket"}])
    ask = StreamClient.open_connection
    monkeypatch.setattr(StreamClient, "open_connection", lambda self: next(answers, None) or ask(self))
    manager = manage()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    assert "endpoint" in log.lines("error")[0] and "InvalidURI" in log.lines("error")[0]
    assert not log.lines(containing="the-ticket")


def test_a_handler_whose_answer_is_no_json_is_answered_by_500(gateway: Gateway, connected: Connect, log: Log) -> None:
    class Odd(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, Any]:
            return 200, object()

    connected(Odd())
    gateway.say("hello")
    [ack] = gateway.wait_for(lambda: list(gateway.acks.values()), what="an acknowledgement")
    assert ack.code == 500
    assert log.lines("exception", containing=MESSAGE_TOPIC)


def test_an_answer_without_an_endpoint_is_an_outage_too(
    gateway: Gateway, manage: Manage, delays: Delays, log: Log
) -> None:
    gateway.refuse(OPEN, status=200, code="", body={})
    manager = manage()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    assert "endpoint" in log.lines("error")[0]


def test_wrong_credentials_are_reported_once_and_tried_on(
    gateway: Gateway, manage: Manage, delays: Delays, slow: float, log: Log
) -> None:
    manager = manage(client_secret="wrong-secret")
    manager.start(Mailbox())
    gateway.wait_for(lambda: opened(gateway) >= 3, what="three attempts")
    assert manager.state == "connecting"
    [line] = log.lines("error")
    assert "clientId and clientSecret" in line and CLIENT_ID in line
    gateway.client_secret = "wrong-secret"  # now it is the right one
    assert manager.wait_ready(10)


@pytest.mark.parametrize(
    ("trouble", "somebody_must_act"),
    [
        ({"status": 401, "code": "authFailed"}, True),
        ({"status": 403, "code": "Forbidden.AccessDenied.IpNotInWhiteList"}, True),
        ({"status": 400, "code": "whatever"}, True),
        ({"status": 407, "code": ""}, True),
        ({"status": 503, "code": "system.busy"}, False),
        ({"status": 429, "code": "system.busy"}, False),
        ({"status": 200, "code": "", "body": {"endpoint": "wss://x"}}, False),
        ("reset", False),
        ("garbage", False),
    ],
    ids=str,
)
def test_what_somebody_must_mend_is_tried_again_slowly_and_all_else_quickly_and_then_slower(
    gateway: Gateway, manage: Manage, delays: Delays, slow: float, log: Log, trouble: Any, somebody_must_act: bool
) -> None:
    if isinstance(trouble, str):
        gateway.trouble(OPEN, trouble, times=2)
    else:
        gateway.refuse(OPEN, times=2, **trouble)
    manager = manage()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    times = [call.at for call in gateway.calls if call.path == OPEN]
    assert len(times) == 3
    assert delays.taken == [0 if somebody_must_act else 2]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(gap >= slow for gap in gaps) if somebody_must_act else min(gaps) < slow
    assert len(log.lines("error")) == 1


def test_what_somebody_must_mend_is_tried_again_within_minutes() -> None:
    assert 30 <= stream_client._SLOW_SECONDS <= 300


def test_a_ticket_that_is_not_taken_is_an_outage_and_not_shown(
    gateway: Gateway, manage: Manage, delays: Delays, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"endpoint": gateway.url.replace("http", "ws") + "/connect", "ticket": "the-ticket"}
    answers, ask = iter([used, used]), StreamClient.open_connection
    monkeypatch.setattr(StreamClient, "open_connection", lambda self: next(answers, None) or ask(self))
    manager = manage()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    [line] = log.lines("error")
    assert "endpoint" in line and "InvalidStatus" in line
    assert not log.lines(containing="the-ticket")


def test_the_log_holds_no_secret_and_no_ticket(
    gateway: Gateway, connected: Connect, quick_reconnect: None, log: Log
) -> None:
    mailbox = Mailbox()
    gateway.refuse(OPEN, status=401, code="authFailed")
    connected(mailbox)
    write_and_wait(gateway, mailbox, "hello")
    gateway.push("not json")
    gateway.drop_connections(1011)
    gateway.wait_for(lambda: opened(gateway) == 3, what="a new connection")
    gateway.wait_connected()
    assert len(log.records) >= 4
    ticket = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-")
    for _, line in log.records:
        assert CLIENT_SECRET not in line
        assert not ticket.search(line)
        assert "session=" not in line


# ---- keeping alive


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "_PING_SECONDS", 0.02)
    monkeypatch.setattr(stream_client, "_PONG_SECONDS", 0.5)


def test_a_dead_peer_is_noticed_and_left(
    gateway: Gateway, connected: Connect, quick_reconnect: None, quick_pings: None, log: Log
) -> None:
    mailbox = Mailbox()
    manager = connected(mailbox)
    write_and_wait(gateway, mailbox, "before")
    gateway.freeze()
    gateway.say("lost")
    gateway.wait_connected()
    write_and_wait(gateway, mailbox, "after")
    assert mailbox.texts() == ["before", "after"]
    assert (opened(gateway), manager.status()["reconnects"]) == (2, 1)
    assert log.lines("warning", containing="ping")


def test_a_peer_that_lives_is_pinged_and_kept(
    gateway: Gateway, connected: Connect, quick_pings: None, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    pinged: list[Any] = []
    ping = ClientConnection.ping

    async def counted(self: ClientConnection, *data: Any) -> Any:
        pinged.append(self)
        return await ping(self, *data)

    monkeypatch.setattr(ClientConnection, "ping", counted)
    manager = connected(Mailbox())
    eventually(lambda: len(pinged) >= 5, "five pings")
    assert len(set(map(id, pinged))) == 1
    assert manager.status()["last_pong_age"] < 1
    assert (opened(gateway), manager.state) == (1, "connected")
    assert log.lines("warning") == []


def test_a_dead_peer_is_noticed_within_a_minute() -> None:
    assert stream_client._PING_SECONDS + stream_client._PONG_SECONDS < 60


# ---- the status


def test_the_status_says_how_the_connection_does(gateway: Gateway, connected: Connect, quick_reconnect: None) -> None:
    class Slow(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            await asyncio.sleep(0.05)
            return await super().process(callback)

    mailbox = Slow()
    manager = connected(mailbox)
    assert manager.client is not None
    status = manager.client.status()
    assert (status["state"], status["last_frame_age"], status["last_pong_age"]) == ("connected", None, None)
    assert status["reconnects"] == 0 and "ack_ms" not in status
    write_and_wait(gateway, mailbox, "hello")
    status = eventually(lambda: "ack_ms" in manager.client.status() and manager.client.status(), "the measure")
    assert set(status["ack_ms"]) == {"p50", "p95"} and 50 <= status["ack_ms"]["p50"] < 5000
    age = status["last_frame_age"]
    assert 0 <= age < 5
    assert eventually(lambda: manager.client.status()["last_frame_age"] > age, "time")
    for number in (1, 2):
        gateway.drop_connections()
        gateway.wait_for(lambda expected=number + 1: opened(gateway) == expected, what="a new connection")
        gateway.wait_connected()
        eventually(lambda expected=number: manager.client.status()["reconnects"] == expected, "the count")


# ---- start, on a loop of one's own


async def test_start_runs_until_it_is_cancelled_and_leaves_no_connection(gateway: Gateway) -> None:
    states: list[str] = []
    client = StreamClient(Credential(CLIENT_ID, CLIENT_SECRET), on_state=states.append)
    mailbox = Mailbox()
    client.register_callback_handler(MESSAGE_TOPIC, mailbox)
    running = asyncio.ensure_future(client.start())
    await asyncio.to_thread(gateway.wait_connected)
    await asyncio.to_thread(gateway.say, "hello")
    await asyncio.to_thread(gateway.wait_for, lambda: gateway.acks)
    assert (mailbox.texts(), states) == (["hello"], ["connected"])
    assert client.websocket is not None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 10)
    await asyncio.to_thread(gateway.wait_for, lambda: gateway.connections() == 0)
    assert client.websocket is None


async def test_a_client_that_is_cancelled_while_it_waits_to_reconnect_ends_at_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "backoff", lambda first, limit: itertools.repeat(3600))
    states: list[str] = []
    client = StreamClient(Credential(CLIENT_ID, CLIENT_SECRET), on_state=states.append)
    running = asyncio.ensure_future(client.start())
    await asyncio.to_thread(gateway.wait_connected)
    await soon(lambda: states == ["connected"], "the connection")
    await asyncio.to_thread(gateway.drop_connections)
    await soon(lambda: states == ["connected", "reconnecting"], "the loss of the connection")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 10)


async def test_events_go_to_the_event_handler(gateway: Gateway) -> None:
    events: list[Any] = []

    class Events(EventHandler):
        async def process(self, event: EventMessage) -> tuple[int, str]:
            events.append((event.headers.event_type, event.data))
            return AckMessage.STATUS_OK, "OK"

    client = StreamClient(Credential(CLIENT_ID, CLIENT_SECRET))
    client.register_all_event_handler(Events())
    running = asyncio.ensure_future(client.start())
    await asyncio.to_thread(gateway.wait_connected)
    headers = {"topic": "*", "messageId": "event-1", "eventType": "bpms_task_change"}
    await asyncio.to_thread(gateway.push, {"type": "EVENT", "headers": headers, "data": '{"staff": "Ann"}'})
    await asyncio.to_thread(gateway.wait_for, lambda: gateway.acks)
    assert events == [("bpms_task_change", {"staff": "Ann"})]
    assert gateway.acks["event-1"].code == 200
    running.cancel()
    await asyncio.wait({running}, timeout=10)
    assert running.cancelled()
