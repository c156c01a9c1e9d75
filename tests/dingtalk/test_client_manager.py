"""Starting, stopping and changing over, in every state and from every thread."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dingtalk_stream.utils
import pytest
from dingtalk_stream import AckMessage, AsyncChatbotHandler, CallbackHandler, CallbackMessage

from imRobots.dingTalkStreamType import ClientManager, TextHandler, client_manager, stream_client
from imRobots.dingTalkStreamType.stream_client import StreamClient
from imRobots.Meta import ConfigError, Deadline, ReplyRefused
from tests.dingtalk.helpers import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONFIG,
    ELEMENT,
    Log,
    Mailbox,
    Peer,
    assert_no_thread_is_left,
    eventually,
    in_time,
    robot_threads,
)
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import OPEN, SEND_CARD, Gateway
from tests.fakes.host import FakeHost

Manage = Callable[..., ClientManager]
Connect = Callable[[Any], ClientManager]


class Blocking(Mailbox):
    """A handler that holds up the client's own thread, which it should not."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    async def process(self, callback: CallbackMessage) -> tuple[int, str]:
        self.callbacks.append(callback)
        self.go_on.wait(30)
        return AckMessage.STATUS_OK, "OK"


class Closing(Mailbox):
    """A handler that takes its time to close."""

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.go_on = threading.Event(), threading.Event()

    def close(self, deadline: Deadline) -> None:
        self.closing.set()
        self.go_on.wait(min(deadline.left, 30))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """Instead of DingTalk, a server that takes every request and never answers."""
    with Peer.answering(None) as peer:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", f"http://{peer.address}")
        yield peer


def opened(gateway: Gateway) -> int:
    return len([call for call in list(gateway.calls) if call.path == OPEN])


def stop_in_time(manager: ClientManager, **options: float) -> None:
    in_time(lambda: manager.stop(**options) or True)


def is_gone(gateway: Gateway, manager: ClientManager) -> None:
    """What holds after every stop."""
    assert manager.state == "stopped"
    assert not manager.is_running()
    assert not manager.wait_ready(5)
    assert_no_thread_is_left()
    gateway.wait_for(lambda: gateway.connections() == 0, what="no connection")


# ---- a reader of the tutorial starts a client of their own


def test_a_plain_handler_gets_messages_and_its_answer_is_the_acknowledgement(
    gateway: Gateway, connected: Connect
) -> None:
    mailbox = Mailbox()
    manager = connected(mailbox)
    gateway.say("hello")
    [ack] = gateway.wait_for(lambda: list(gateway.acks.values()))
    assert (ack.code, json.loads(ack.data)) == (200, {"response": "OK"})
    assert mailbox.texts() == ["hello"]
    assert mailbox.dingtalk_client is manager.client
    assert manager.handler is mailbox
    manager.stop()
    is_gone(gateway, manager)


def test_the_sdks_handler_for_blocking_code_works_too(gateway: Gateway, connected: Connect) -> None:
    class Sync(AsyncChatbotHandler):
        texts: list[str]

        def process(self, callback: CallbackMessage) -> tuple[int, str]:
            self.texts.append(callback.data["text"]["content"].strip())
            return AckMessage.STATUS_OK, "OK"

    handler = Sync()
    handler.texts = []
    connected(handler)
    gateway.say("hello")
    gateway.wait_for(lambda: [ack for ack in gateway.acks.values() if ack.code == 200])
    eventually(lambda: handler.texts == ["hello"], "the message")
    handler.async_executor.shutdown()


def test_messages_are_processed_on_a_thread_of_the_client(gateway: Gateway, connected: Connect) -> None:
    class Where(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            names.append((threading.current_thread().name, threading.current_thread().daemon))
            return AckMessage.STATUS_OK, "OK"

    names: list[tuple[str, bool]] = []
    connected(Where())
    gateway.say("hello")
    gateway.wait_for(lambda: gateway.acks)
    assert names == [("imRobots-stream", True)]


def test_a_handler_for_card_clicks_is_registered_next_to_the_message_handler(
    gateway: Gateway, connected: Connect
) -> None:
    class Clicks(CallbackHandler):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            return AckMessage.STATUS_OK, callback.data["outTrackId"]

    mailbox = Mailbox()
    mailbox.card_handler = Clicks()
    connected(mailbox)
    frame_id = gateway.callback({"outTrackId": "card-1"}, topic="/v1.0/card/instances/callback")
    ack = gateway.wait_for(lambda: gateway.acks.get(frame_id))
    assert json.loads(ack.data) == {"response": "card-1"}
    assert mailbox.callbacks == []


# ---- states


def test_the_state_goes_from_new_to_stopped_and_waits_can_tell(
    gateway: Gateway, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "backoff", lambda first, limit: itertools.repeat(3600))
    manager, handler = manage(), Closing()
    seen = [(manager.state, manager.is_running())]
    assert not manager.wait_ready(10), "nobody has started it"
    gateway.latency = 0.2
    manager.start(handler)
    seen.append((manager.state, manager.is_running()))
    assert not manager.wait_ready(0.01)
    assert manager.wait_ready(10)
    assert manager.wait_ready()
    seen.append((manager.state, manager.is_running()))
    gateway.wait_connected()
    gateway.drop_connections()
    eventually(lambda: manager.state != "connected", "the loss of the connection")
    seen.append((manager.state, manager.is_running()))
    assert not manager.wait_ready(0.01)
    stopping = threading.Thread(target=manager.stop, kwargs={"timeout": 60})
    stopping.start()
    assert handler.closing.wait(10)
    seen.append((manager.state, manager.is_running()))
    assert in_time(lambda: manager.wait_ready(60)) is False
    handler.go_on.set()
    stopping.join(10)
    seen.append((manager.state, manager.is_running()))
    assert seen == [
        ("new", False),
        ("connecting", True),
        ("connected", True),
        ("reconnecting", True),
        ("stopping", False),
        ("stopped", False),
    ]


def test_after_a_lost_connection_the_state_is_connected_again(
    gateway: Gateway, connected: Connect, quick_reconnect: None
) -> None:
    manager = connected(Mailbox())
    gateway.wait_connected()
    gateway.drop_connections()
    eventually(lambda: manager.state != "connected" or opened(gateway) > 1, "the loss of the connection")
    assert manager.wait_ready(10)
    assert manager.is_running()


def test_who_waits_for_a_connection_is_told_when_it_is_stopped(silent: Peer, manage: Manage) -> None:
    manager = manage()
    manager.start(Mailbox())
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(manager.wait_ready(60)))
    waiting.start()
    manager.stop(timeout=1)
    waiting.join(10)
    assert answers == [False]


def test_the_status_is_the_state_the_connections_and_the_handlers_counters(
    gateway: Gateway, host: FakeHost, manage: Manage, agent: ReferenceAgent
) -> None:
    manager = manage()
    status = manager.status()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status.pop("since"))
    assert status == {"state": "new"}
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    status = manager.status()
    assert (status["state"], status["reconnects"]) == ("connected", 0)
    assert set(status) == {"state", "since", "last_frame_age", "last_pong_age", "reconnects"}
    manager.stop()
    assert manager.status()["state"] == "stopped"

    agent.gate = threading.Event()
    manager.start(TextHandler(host.element(ELEMENT), CONFIG))
    assert manager.wait_ready(10)
    gateway.say("why?")
    eventually(lambda: agent.running, "the agent's run")
    status = manager.status()
    assert (status["state"], status["in_flight"], status["queued"], status["unsent"]) == ("connected", 1, 0, 1)
    assert status["last_frame_age"] >= 0 and status["ack_ms"]["p50"] >= 0
    agent.gate.set()
    gateway.card_for("why?", state="final")
    eventually(lambda: manager.status()["answered"] == 1 and manager.status()["unsent"] == 0, "the end")
    status = manager.status()
    assert (status["state"], status["in_flight"], status["answered"]) == ("connected", 0, 1)
    assert status["calls"][SEND_CARD] == {"made": 1, "refused": 0}
    assert status["closed"] == {}
    assert status["month"]["calls"] == 2, "a card and its last update"


def reports(log: Log) -> list[dict[str, str]]:
    """The lines about a client, read as a program would."""
    lines = [line for line in log.lines("info") if line.startswith("client_id=")]
    return [dict(word.split("=", 1) for word in shlex.split(line)) for line in lines]


def test_every_change_of_state_is_one_line_that_a_program_can_read(
    gateway: Gateway, host: FakeHost, manage: Manage, quick_reconnect: None, log: Log
) -> None:
    manager = manage()
    handler = TextHandler(host.element(ELEMENT), CONFIG)
    manager.start(handler)
    assert manager.wait_ready(10)
    gateway.wait_connected()
    gateway.say("why?")
    gateway.card_for("why?", state="final")
    eventually(lambda: manager.status()["answered"] == 1, "the count")
    gateway.drop_connections()
    gateway.wait_for(lambda: opened(gateway) == 2, what="a new connection")
    gateway.wait_connected()
    eventually(lambda: manager.state == "connected", "the new connection")
    manager.stop()
    eventually(lambda: not robot_threads(), "the end of all threads")
    assert sorted(report["state"] for report in reports(log)) == sorted(
        ["connecting", "connected", "reconnecting", "connected", "stopping", "stopped"]
    )
    last = next(report for report in reports(log) if report["state"] == "reconnecting")
    assert (last["client_id"], last["answered"], last["reconnects"]) == (CLIENT_ID, "1", "1")
    assert last["calls./v1.0/oauth2/accessToken.made"] == "1"
    assert last["month.calls"] == "2"
    assert not log.lines(containing=CLIENT_SECRET) and not log.lines(containing="session=")
    assert not [line for line in log.lines("info", containing="client_id=") if "\n" in line]


def test_once_an_hour_the_log_says_how_it_goes(
    gateway: Gateway, manage: Manage, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client_manager._REPORT_SECONDS == 3600
    monkeypatch.setattr(client_manager, "_REPORT_SECONDS", 0.02)
    manager = manage()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    eventually(lambda: [report["state"] for report in reports(log)].count("connected") >= 4, "four reports")
    manager.stop()
    eventually(lambda: not robot_threads(), "the end of all threads")
    assert [report["state"] for report in reports(log)].count("stopped") == 1
    assert not log.lines(containing=CLIENT_SECRET)


def test_what_is_closed_is_in_the_line_and_a_program_can_read_it(host: FakeHost, manage: Manage, log: Log) -> None:
    manager = manage()
    manager.handler = TextHandler(host.element(ELEMENT), CONFIG)
    refusal = ReplyRefused('no, "not" this', "c", "permission")
    manager.handler.ladder.note_refusal("standard", refusal, "cid")
    manager.report()
    [report] = reports(log)
    assert 'no, "not" this' in report.values()


@pytest.mark.parametrize("attribute", ["api", "status"])
def test_a_handler_may_have_attributes_of_its_own(gateway: Gateway, manage: Manage, attribute: str) -> None:
    manager, mailbox = manage(), Mailbox()
    setattr(mailbox, attribute, "something of mine")
    manager.start(mailbox)
    assert manager.wait_ready(0.5)
    assert manager.status()["state"] == "connected"


# ---- start


def test_starting_twice_warns_and_changes_nothing(gateway: Gateway, connected: Connect, log: Log) -> None:
    mailbox = Mailbox()
    manager = connected(mailbox)
    client = manager.client
    second = Mailbox()
    manager.start(second)
    assert log.lines("warning") == ["Client is already running"]
    assert (manager.client, manager.handler, manager.state) == (client, mailbox, "connected")
    gateway.say("hello")
    gateway.wait_for(lambda: gateway.acks)
    assert (mailbox.texts(), second.texts()) == (["hello"], [])
    assert (opened(gateway), gateway.connections()) == (1, 1)


def test_starting_again_after_a_stop_answers_again(
    gateway: Gateway, host: FakeHost, manage: Manage, agent: ReferenceAgent
) -> None:
    manager, handler = manage(), TextHandler(host.element(ELEMENT), CONFIG)
    for question in ("first?", "second?"):
        manager.start(handler)
        assert manager.wait_ready(10)
        gateway.wait_connected()
        gateway.say(question)
        assert gateway.card_for(question, state="final").text == "Press reset."
        manager.stop()
        is_gone(gateway, manager)
    assert len(agent.calls) == 2


# ---- stop


def test_stopping_what_never_ran_only_warns(manage: Manage, log: Log) -> None:
    manager = manage()
    stop_in_time(manager)
    assert log.lines("warning") == ["Client is not running"]
    assert (manager.state, manager.is_running()) == ("new", False)


def test_stopping_a_connected_client_closes_its_connection(gateway: Gateway, connected: Connect) -> None:
    manager = connected(Mailbox())
    stop_in_time(manager)
    is_gone(gateway, manager)


def test_stopping_twice_only_warns(gateway: Gateway, connected: Connect, log: Log) -> None:
    manager = connected(Mailbox())
    manager.stop()
    stop_in_time(manager)
    assert log.lines("warning") == ["Client is not running"]
    is_gone(gateway, manager)


def test_stopping_does_not_wait_for_a_gateway_that_hangs(silent: Peer, manage: Manage) -> None:
    manager = manage()
    manager.start(Mailbox())
    eventually(lambda: silent.requests, "the call")
    assert manager.state == "connecting"
    stop_in_time(manager, timeout=1)
    assert (manager.state, manager.is_running()) == ("stopped", False)
    assert set(robot_threads()) <= {"imRobots-open", "imRobots-background"}, "only the call itself still waits"


def test_stopping_does_not_wait_for_a_handshake_that_hangs(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer.answering(None) as peer:
        connection = {"endpoint": f"ws://{peer.address}/connect", "ticket": "t/1"}
        monkeypatch.setattr(StreamClient, "open_connection", lambda self: connection)
        manager = manage()
        manager.start(Mailbox())
        eventually(lambda: peer.requests, "the handshake")
        assert peer.requests[0].startswith(b"GET /connect?ticket=t%2F1 HTTP/1.1\r\n")
        stop_in_time(manager, timeout=1)
        assert manager.state == "stopped"
        assert_no_thread_is_left()


def test_stopping_does_not_wait_for_the_next_attempt_to_connect(
    gateway: Gateway, connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_client, "backoff", lambda first, limit: itertools.repeat(3600))
    manager = connected(Mailbox())
    gateway.wait_connected()
    gateway.drop_connections()
    eventually(lambda: manager.state == "reconnecting", "the loss of the connection")
    stop_in_time(manager)
    is_gone(gateway, manager)


def test_stopping_while_every_attempt_fails_ends_the_attempts(
    gateway: Gateway, manage: Manage, quick_reconnect: None
) -> None:
    manager = manage(client_secret="wrong")
    manager.start(Mailbox())
    gateway.wait_for(lambda: opened(gateway) >= 2)
    stop_in_time(manager)
    eventually(lambda: not robot_threads(), "the end of the last attempt")
    is_gone(gateway, manager)


def test_stopping_a_failed_client_leaves_its_error_to_be_seen(manage: Manage, log: Log) -> None:
    manager, error = manage(), ConfigError("bots.helpdesk: agent: the key is missing")
    manager.fail(error)
    stop_in_time(manager)
    assert (manager.state, manager.error) == ("failed", error)


def test_a_message_handler_may_stop_its_own_client(gateway: Gateway, connected: Connect) -> None:
    class Quits(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            manager.stop()
            return AckMessage.STATUS_OK, "bye"

    manager = connected(Quits())
    gateway.say("quit")
    eventually(lambda: manager.state == "stopped", "the stop")
    eventually(lambda: not robot_threads(), "the end of the threads")
    is_gone(gateway, manager)


def test_an_agent_may_stop_the_client_that_asks_it(
    gateway: Gateway, host: FakeHost, connected: Connect, agent: ReferenceAgent
) -> None:
    states: list[str] = []
    go_on = threading.Event()

    def stop(_: object) -> None:
        manager.stop(timeout=1)
        states.append(manager.state)
        go_on.wait(30)

    agent.before = stop
    manager = connected(TextHandler(host.element(ELEMENT), CONFIG))
    gateway.say("quit?")
    eventually(lambda: states, "the return of stop()")
    assert states == ["stopped"]
    card = gateway.card_for("quit?")
    assert card.text == "Sorry, this answer was interrupted. Please ask again."
    go_on.set()
    eventually(lambda: not robot_threads(), "the end of the agent's thread")
    is_gone(gateway, manager)
    assert card.text == "Sorry, this answer was interrupted. Please ask again.", "a late answer changes nothing"


def test_stopping_lets_a_running_answer_finish(
    gateway: Gateway, host: FakeHost, connected: Connect, agent: ReferenceAgent
) -> None:
    agent.gate = threading.Event()
    manager = connected(TextHandler(host.element(ELEMENT), CONFIG))
    gateway.say("why?")
    gateway.card_for("why?")
    stopping = threading.Thread(target=manager.stop)
    stopping.start()
    gateway.wait_for(lambda: gateway.connections() == 0, what="the end of the connection")
    assert manager.state == "stopping"
    agent.gate.set()
    stopping.join(10)
    card = gateway.card_for("why?")
    assert (card.state, card.text) == ("final", "Press reset.")
    is_gone(gateway, manager)


def test_stopping_is_over_in_time_although_an_agent_hangs(
    gateway: Gateway, host: FakeHost, connected: Connect, agent: ReferenceAgent, log: Log
) -> None:
    agent.gate = threading.Event()
    manager = connected(TextHandler(host.element(ELEMENT), CONFIG))
    gateway.say("why?")
    eventually(lambda: agent.running and gateway.card_for("why?"), "the agent's run")
    stop_in_time(manager, timeout=0.5)
    assert manager.state == "stopped"
    assert agent.running, "nobody can end it"
    assert "interrupted" in gateway.card_for("why?").text
    assert [line for line in log.lines("warning") if "1 agents still running" in line]
    agent.gate.set()
    eventually(lambda: not robot_threads(), "the end of the agent's thread")
    is_gone(gateway, manager)


def test_stopping_is_over_in_time_although_a_handler_blocks_the_client(
    gateway: Gateway, connected: Connect, log: Log
) -> None:
    handler = Blocking()
    manager = connected(handler)
    gateway.say("hello")
    eventually(lambda: handler.callbacks, "the message")
    stop_in_time(manager, timeout=0.3)
    assert manager.state == "stopped"
    assert len(log.lines("warning", containing="blocks")) == 1
    handler.go_on.set()
    eventually(lambda: not robot_threads(), "the end of the thread")
    is_gone(gateway, manager)


def test_stopping_cancels_what_a_plain_handler_still_waits_for(gateway: Gateway, connected: Connect) -> None:
    class Patient(Mailbox):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            self.callbacks.append(callback)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return AckMessage.STATUS_OK, "OK"

    cancelled, handler = threading.Event(), Patient()
    manager = connected(handler)
    gateway.say("hello")
    eventually(lambda: handler.callbacks, "the message")
    stop_in_time(manager)
    assert cancelled.is_set()
    is_gone(gateway, manager)


def test_stopping_from_several_threads_returns_in_all_of_them(gateway: Gateway, connected: Connect, log: Log) -> None:
    handler = Closing()
    manager = connected(handler)
    first = threading.Thread(target=manager.stop)
    first.start()
    assert handler.closing.wait(10)
    others = [threading.Thread(target=manager.stop) for _ in range(3)]
    for thread in others:
        thread.start()
    handler.go_on.set()
    for thread in (first, *others):
        thread.join(10)
        assert not thread.is_alive()
    assert log.lines("warning") == ["Client is not running"] * 3
    is_gone(gateway, manager)


def test_a_stop_closes_the_connections_that_were_left_behind(
    gateway: Gateway, connected: Connect, quick_reconnect: None
) -> None:
    manager = connected(Mailbox())
    gateway.wait_connected()
    gateway.system("disconnect")
    gateway.wait_for(lambda: gateway.connections() == 2, what="a second connection next to the first")
    stop_in_time(manager)
    is_gone(gateway, manager)


# ---- fail


def test_a_running_client_that_fails_is_stopped_and_says_why(gateway: Gateway, connected: Connect, log: Log) -> None:
    manager, error = connected(Mailbox()), ConfigError("bots.helpdesk: agent: the key is missing")
    manager.fail(error)
    assert (manager.state, manager.error) == ("failed", error)
    assert not manager.is_running()
    assert not manager.wait_ready(10)
    assert manager.status()["state"] == "failed"
    assert log.lines("error") == [str(error)]
    eventually(lambda: not robot_threads(), "the end of all threads, in the background")
    gateway.wait_for(lambda: gateway.connections() == 0)


def test_a_failed_client_can_be_started(gateway: Gateway, connected: Connect) -> None:
    manager = connected(Mailbox())
    manager.fail(ConfigError("wrong"))
    mailbox = Mailbox()
    manager.start(mailbox)
    assert manager.wait_ready(10)
    assert manager.error is None
    gateway.wait_for(lambda: gateway.connections() == 1)
    gateway.say("hello")
    gateway.wait_for(lambda: mailbox.texts() == ["hello"] and gateway.acks)


def test_a_handler_that_cannot_start_fails_the_client_and_nothing_else(
    gateway: Gateway, manage: Manage, log: Log
) -> None:
    class Broken(Mailbox):
        def pre_start(self) -> None:
            raise RuntimeError("a mistake of mine")

    manager = manage()
    manager.start(Broken())
    eventually(lambda: manager.state == "failed", "the failure")
    assert not manager.is_running()
    assert not manager.wait_ready(10)
    assert "a mistake of mine" in log.lines("exception")[0]
    assert "a mistake of mine" in str(manager.error)
    stop_in_time(manager)
    assert_no_thread_is_left()
    manager.start(Mailbox())
    assert manager.wait_ready(10)


def test_what_a_crashed_client_left_is_cleared_away_by_the_next_start(
    gateway: Gateway, manage: Manage, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(self: StreamClient, websocket: Any) -> None:
        raise RuntimeError("a mistake of ours")

    handler = TextHandler(host.element(ELEMENT), CONFIG)
    manager = manage()
    with monkeypatch.context() as patch:
        patch.setattr(StreamClient, "_read", crash)
        manager.start(handler)
        handler._running_robot()
        eventually(lambda: manager.state == "failed", "the crash")
    assert "imRobots-intake" in robot_threads()
    manager.start(Mailbox())
    assert manager.wait_ready(10)
    eventually(lambda: "imRobots-intake" not in robot_threads(), "the end of the old handler")


def test_a_handler_that_cannot_be_closed_is_stopped_all_the_same(
    gateway: Gateway, connected: Connect, log: Log
) -> None:
    class Unclosable(Mailbox):
        def close(self) -> None:
            """Takes no deadline, although it should."""

    manager = connected(Unclosable())
    stop_in_time(manager)
    is_gone(gateway, manager)
    assert log.lines("exception", containing="could not be closed")


def test_a_stop_does_not_wait_longer_than_asked_for_another_one(gateway: Gateway, connected: Connect, log: Log) -> None:
    handler = Closing()
    manager = connected(handler)
    first = threading.Thread(target=manager.stop)
    first.start()
    assert handler.closing.wait(10)
    stop_in_time(manager, timeout=0.05)
    assert manager.state == "stopping"
    assert log.lines("warning", containing="another thread")
    handler.go_on.set()
    first.join(10)
    is_gone(gateway, manager)


# ---- restart


@pytest.mark.parametrize("state", ["new", "connected", "stopped", "failed"])
def test_a_restart_leaves_one_connection_and_one_handler(gateway: Gateway, manage: Manage, state: str) -> None:
    manager, old, new = manage("old-id", "old-secret"), Mailbox(), Mailbox()
    if state != "new":
        gateway.client_id, gateway.client_secret = "old-id", "old-secret"
        manager.start(old)
        assert manager.wait_ready(10)
        gateway.wait_connected()
    if state == "stopped":
        manager.stop()
    if state == "failed":
        manager.fail(ConfigError("wrong"))
    assert manager.state == state
    gateway.client_id, gateway.client_secret = CLIENT_ID, CLIENT_SECRET
    gateway.latency = 0.2
    manager.restart(new, CLIENT_ID, CLIENT_SECRET)
    gateway.wait_for(lambda: gateway.connections() == 0, what="the end of the old connection")
    assert manager.wait_ready(10)
    assert manager.error is None
    gateway.wait_for(lambda: gateway.connections() == 1, what="the new connection")
    for number in range(5):
        gateway.say(f"message {number}")
    gateway.wait_for(lambda: len(gateway.acks) == 5)
    assert sorted(new.texts()) == [f"message {number}" for number in range(5)]
    assert old.texts() == []
    assert (manager.client_id, manager.client_secret) == (CLIENT_ID, CLIENT_SECRET)
    assert (manager.handler, manager.client.credential.client_secret) == (new, CLIENT_SECRET)


def test_a_restart_with_credentials_that_are_refused_leaves_no_old_connection(
    gateway: Gateway, connected: Connect, quick_reconnect: None
) -> None:
    manager = connected(Mailbox())
    gateway.wait_connected()
    manager.restart(Mailbox(), CLIENT_ID, "wrong")
    gateway.wait_for(lambda: opened(gateway) >= 3, what="attempts with the new credentials")
    assert (manager.state, gateway.connections()) == ("connecting", 0)
    manager.restart(Mailbox(), CLIENT_ID, CLIENT_SECRET)
    assert manager.wait_ready(10)
    gateway.wait_for(lambda: gateway.connections() == 1)


def test_a_restart_while_the_gateway_hangs_connects_elsewhere(
    silent: Peer, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manage()
    manager.start(Mailbox())
    eventually(lambda: silent.requests, "the call")
    with Gateway(client_id=CLIENT_ID, client_secret=CLIENT_SECRET) as gateway:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
        manager.restart(Mailbox(), CLIENT_ID, CLIENT_SECRET)
        assert manager.wait_ready(10)
        gateway.wait_for(lambda: gateway.connections() == 1)
        manager.stop()


def test_answers_of_the_old_handler_go_out_while_the_new_one_works(
    gateway: Gateway, host: FakeHost, connected: Connect, agent: ReferenceAgent
) -> None:
    agent.gate = threading.Event()
    manager = connected(TextHandler(host.element(ELEMENT), CONFIG))
    gateway.say("old question?", sender="Ann")
    eventually(lambda: agent.running, "the agent's run")
    host.add("aiagents.second", ReferenceAgent("From the second."))
    manager.restart(
        TextHandler(host.element(ELEMENT), {**CONFIG, "agent": "aiagents.second"}), CLIENT_ID, CLIENT_SECRET
    )
    assert manager.wait_ready(10)
    gateway.wait_for(lambda: gateway.connections() == 1)
    gateway.say("new question?", sender="Bob")
    assert gateway.card_for("new question?", state="final").text == "From the second."
    assert gateway.card_for("old question?").state == "thinking"
    agent.gate.set()
    assert gateway.card_for("old question?", state="final").text == "Press reset."
    eventually(lambda: robot_threads().count("imRobots-stream") == 1, "the end of the old client's thread")


def test_a_client_that_was_replaced_has_no_say_any_more(
    gateway: Gateway, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Mailbox):
        def pre_start(self) -> None:
            stuck.set()
            go_on.wait(30)
            raise RuntimeError("too late to matter")

    monkeypatch.setattr(client_manager, "Deadline", lambda seconds: Deadline(min(seconds, 0.2)))
    stuck, go_on, mailbox, manager = threading.Event(), threading.Event(), Mailbox(), manage()
    manager.start(Stuck())
    assert stuck.wait(10)
    manager.restart(mailbox, CLIENT_ID, CLIENT_SECRET)
    assert manager.wait_ready(10)
    go_on.set()
    eventually(lambda: robot_threads() == ["imRobots-stream"], "the end of the old client")
    assert (manager.state, manager.handler) == ("connected", mailbox)


def test_many_restarts_at_once_leave_one_connection(gateway: Gateway, manage: Manage) -> None:
    manager, mailboxes = manage(), [Mailbox() for _ in range(5)]
    together = threading.Barrier(len(mailboxes))

    def restart(mailbox: Mailbox) -> None:
        together.wait()
        manager.restart(mailbox, CLIENT_ID, CLIENT_SECRET)

    threads = [threading.Thread(target=restart, args=(mailbox,)) for mailbox in mailboxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert manager.wait_ready(10)
    eventually(lambda: robot_threads() == ["imRobots-stream"], "the end of all other clients")
    gateway.wait_for(lambda: gateway.connections() == 1)
    gateway.say("who is it?")
    gateway.wait_for(lambda: gateway.acks)
    assert [mailbox for mailbox in mailboxes if mailbox.texts()] == [manager.handler]
