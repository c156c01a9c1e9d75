"""A stand-in for DingTalk: Stream gateway, OpenAPI and session webhooks on one loopback port.

It remembers all that happened, so that a test can ask what a person would have seen. It is strict: what the platform
refuses is refused here. It offers only what the robot uses: standard cards, cards of templates, and messages of the
kinds text and markdown. It delivers clicks on cards of templates, and none on standard cards, because DingTalk pushes
none of those over Stream; it pushes nothing twice by itself.

This file owns the server, tickets, connections and pushes; openapi.py what is called over HTTP, template_cards.py cards
of templates, clicks.py what a click says, trouble.py what goes wrong on purpose.

Threads: HTTP, WebSocket, `on_change` and `on_message` run on one daemon thread with its own event loop, and what
happens is recorded there, so those two must be quick and call nothing here that waits. All other threads use the public
methods, which return when the thing is done. `acks`, `pushed`, `cards` and `clicks` are replaced, never changed in
place: a test may go through them while the robot works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web

from tests.fakes.clicks import CARD_TOPIC, ClickVariant, click_data, find_button, is_pushed
from tests.fakes.openapi import (
    SEND_CARD,
    SEND_TO_GROUP,
    SEND_TO_PEOPLE,
    TOKEN,
    UPDATE_CARD,
    WEBHOOK,
    OpenApi,
)
from tests.fakes.records import Ack, AnyCard, Call, Card, Click, Json, Template, json_object, json_or_nothing
from tests.fakes.template_cards import (
    AI_TEMPLATE,
    CREATE_CARD,
    CREATE_INSTANCE,
    DELIVER_CARD,
    STREAM_CARD,
    UPDATE_INSTANCE,
    TemplateCards,
    response_of,
)
from tests.fakes.trouble import Fault, Refused, Troubles

__all__ = [
    "AI_TEMPLATE",
    "CARD_TOPIC",
    "CREATE_CARD",
    "CREATE_INSTANCE",
    "DELIVER_CARD",
    "MESSAGE_TOPIC",
    "OPEN",
    "SEND_CARD",
    "SEND_TO_GROUP",
    "SEND_TO_PEOPLE",
    "STREAM_CARD",
    "TOKEN",
    "UPDATE_CARD",
    "UPDATE_INSTANCE",
    "WEBHOOK",
    "Gateway",
    "Template",
]

T = TypeVar("T")
Topics = frozenset[tuple[str, str]]

MESSAGE_TOPIC = "/v1.0/im/bot/messages/get"
OPEN = "/v1.0/gateway/connections/open"
TICKET_SECONDS = 90
CLICK_SECONDS = 2.0  # an answer to a click that comes later is not heard


class NobodyListens(AssertionError):
    """DingTalk has no connection for what is to be pushed."""


@dataclass(eq=False)
class _Connection:
    id: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport
    topics: Topics
    silent: bool = False  # told to disconnect: still open, but gets nothing more
    unacknowledged: set[str] = field(default_factory=set)


class Gateway(Troubles, OpenApi, TemplateCards):
    """DingTalk with one robot; a context manager, or `start()` and `stop()`."""

    url = ""

    def __init__(
        self,
        *,
        client_id: str = "ding-demo",
        client_secret: str = "demo-secret",
        latency: float = 0.0,
        on_change: Callable[[AnyCard], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        Troubles.__init__(self)
        OpenApi.__init__(self, client_id, client_secret, on_change)
        TemplateCards.__init__(self)
        # How it behaves; a test may change these at any time.
        self.latency = latency
        self.published = True
        self.close_at_once = False  # a WebSocket is accepted, and closed in good order
        self.disconnect_grace = 10.0
        self.webhook_lifetime = 5400.0
        # What happened.
        self.acks: dict[str, Ack] = {}
        self.pushed: dict[str, float] = {}
        self.calls: list[Call] = []
        self.clicks: list[Click] = []
        self.protocol_errors: list[str] = []
        self._id = uuid.uuid4().hex
        self._tls = tls
        self._connections: list[_Connection] = []
        self._frozen: list[_Connection] = []
        self._tickets: dict[str, tuple[float, Topics]] = {}
        self._asked: dict[str, Json] = {}  # msgId -> what was pushed
        self._clicked: dict[str, Json] = {}  # headers.messageId -> what was pushed
        self._endpoints["POST", OPEN] = self._open
        self._changes = 0
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._runner: web.AppRunner

    # ---- life

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-dingtalk", daemon=True)
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        if self._loop is None:
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    async def _listen(self) -> None:
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_get("/connect", self._connect)
        app.router.add_get(f"/{self._id}", self._answer_myself)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # Calls that hang on purpose must not hold up the end of a test.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024, ssl_context=self._tls).start()
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        # Connections are accepted in order: once this one is served, `cleanup` knows of all that came before it.
        trusting = ssl._create_unverified_context() if self._tls else None
        reader, writer = await asyncio.open_connection(*self._runner.addresses[0], ssl=trusting)
        writer.write(f"GET /{self._id} HTTP/1.0\r\n\r\n".encode())
        await reader.read()
        writer.close()
        for connection in self._connections + self._frozen:
            connection.transport.abort()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # calls that hang on purpose
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the gateway is not started"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # ---- waiting

    def wait_for(self, condition: Callable[[], T], timeout: float = 10, what: str = "") -> T:
        """The first truthy value of `condition`, which is asked again whenever something happened here."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self._changes  # read before the look, so that a change during the look is not missed
            value = condition()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"waited {timeout:g} s in vain for {what or 'a condition'}; {self._situation()}")
            with self._changed:
                if self._changes == seen:
                    self._changed.wait(left)

    def wait_connected(self, count: int = 1, timeout: float = 10) -> None:
        """Until at least `count` connections are open that get messages."""
        self.wait_for(lambda: len(self._listening()) >= count, timeout, f"{count} connection(s) that get messages")

    def card_for(self, message_id_or_question: str, timeout: float = 10, state: str | None = None) -> AnyCard:
        """The newest card with this question as its title, or (a standard one) this message's id in its buttons."""

        def belongs(card: AnyCard) -> bool:
            if not isinstance(card, Card):
                return card.title == message_id_or_question
            values = [json_or_nothing(button.get("value")) for button in card.buttons]
            return card.title == message_id_or_question or any(
                value.get("message_id") == message_id_or_question for value in values
            )

        def find() -> list[AnyCard]:
            newest = next((card for card in reversed(list(self.cards.values())) if belongs(card)), None)
            return [newest] if newest and state in (None, newest.state) else []

        return self.wait_for(find, timeout, f"a card ({state or 'any state'}) for {message_id_or_question!r}")[0]

    def _situation(self) -> str:
        calls = [f"{call.method} {call.path} {call.status} {call.code}".rstrip() for call in self.calls[-5:]]
        cards = [f"{card.title!r} {card.state}" for card in list(self.cards.values())[-5:]]
        return (
            f"{self.connections()} connection(s), {len(self.acks)} ack(s), {len(self.webhooks)} webhook message(s), "
            f"{len(self.sent)} sent message(s), "
            f"last cards {cards}, last calls {calls}, protocol errors {self.protocol_errors}"
        )

    def _notify(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    # ---- talking to the robot

    @property
    def group(self) -> str:
        """The conversation of the group that people write in unless another one is named."""
        return f"cid-{self._id}"

    def one_to_one(self, person: str) -> str:
        """This person's conversation with the robot."""
        return f"cid-{self._id}-{person}"

    def connections(self) -> int:
        """Open connections, those that were told to disconnect included, but not the half-open ones."""
        return len(self._connections)

    def say(
        self,
        text: str,
        /,  # so that `text=None` can be an override
        *,
        sender: str = "Ann",
        group: bool = True,
        staff: bool = True,
        conversation: str | None = None,
        message_id: str | None = None,
        **overrides: Any,
    ) -> str:
        """A person writes to the robot; returns the msgId. `overrides` are payload fields, None takes a field out."""
        private = self.one_to_one(sender)
        staff_id = f"staff-{sender}" if staff and self.published else None
        session, now = uuid.uuid4().hex, time.time()
        fields: Json = {
            "senderPlatform": "Mac",
            "conversationId": conversation or (self.group if group else private),
            "conversationType": "2" if group else "1",
            "conversationTitle": "Test group" if group else None,
            "isInAtList": True if group else None,
            "atUsers": [{"dingtalkId": "$:LWCP_v1:$robot"}] if group else None,
            "chatbotCorpId": "ding-corp",
            "chatbotUserId": "$:LWCP_v1:$robot",
            "msgId": message_id or f"msg{uuid.uuid4().hex}",
            "senderNick": sender,
            "isAdmin": False if staff_id else None,
            "senderStaffId": staff_id,
            "senderId": f"$:LWCP_v1:${sender}",
            "senderCorpId": "ding-corp" if staff else "ding-other-corp",
            "createAt": int(now * 1000),
            "sessionWebhook": f"{self.url}{WEBHOOK}?session={session}",
            "sessionWebhookExpiredTime": int((now + self.webhook_lifetime) * 1000),
            "robotCode": self.client_id,
            "msgtype": "text",
            "text": {"content": f" {text}" if group else text},
        }
        payload = {name: value for name, value in (fields | overrides).items() if value is not None}
        # The robot may use all of these from the moment it has the message.
        place = payload.get("conversationId", "")
        in_group = payload.get("conversationType") == "2"
        if in_group:
            self._groups.add(place)
        for known, person in ((self._staff, "senderStaffId"), (self._unions, "senderUnionId")):
            if payload.get(person):
                known[payload[person]] = private if in_group else place
        self._sessions[session] = (time.monotonic() + self.webhook_lifetime, place)
        msg_id = str(payload.get("msgId", ""))
        self._asked[msg_id] = payload
        self.callback(payload)
        return msg_id

    def redeliver(self, message_id: str) -> str:
        """Push once more what a person said: same payload, new frame; returns its headers.messageId."""
        return self.callback(self._asked[message_id])

    def callback(self, data: Json, topic: str = MESSAGE_TOPIC) -> str:
        """Push any callback; returns its headers.messageId."""
        return self._push("CALLBACK", topic, data)

    def system(self, topic: str, data: Json | None = None) -> str:
        """Push a SYSTEM frame; returns its headers.messageId: "" for `disconnect`, which has none and wants no ack."""
        defaults = {"ping": {"opaque": uuid.uuid4().hex}, "disconnect": {"reason": "connection is expired"}}
        return self._push("SYSTEM", topic, defaults.get(topic, {}) if data is None else data)

    def push(self, frame: Json | str | bytes) -> None:
        """Push a frame as it is: a dict with a topic to those who subscribed to it, text and bytes to anybody."""
        parsed = frame if isinstance(frame, dict) else json_or_nothing(frame)
        headers, subscription, content = parsed.get("headers"), None, frame
        headers = headers if isinstance(headers, dict) else {}
        if isinstance(frame, dict):
            content = json.dumps(frame, ensure_ascii=False)
            if "topic" in headers and frame.get("type") in ("CALLBACK", "EVENT"):
                subscription = (frame["type"], "*" if frame["type"] == "EVENT" else headers["topic"])

        async def send() -> None:
            await self._send(self._choose(subscription), content, headers.get("messageId"))

        self._run(send())

    def drop_connections(self, code: int | None = None) -> None:
        """Lose every connection: without a close frame, or closed with this code. Half-open ones are always aborted."""

        async def drop() -> None:
            dropped, self._connections = self._connections, []
            for connection in self._frozen if code is not None else dropped + self._frozen:
                connection.transport.abort()
            if code is not None:
                await asyncio.gather(*(connection.socket.close(code=code) for connection in dropped))
            self._notify()

        self._run(drop())

    def freeze(self, frozen: bool = True) -> None:
        """Let the connections of this moment go half open: TCP stays, but nothing is read, answered or delivered there.

        Later connections are healthy. What is dead stays dead: `freeze(False)` revives nothing.
        """

        async def die() -> None:
            for connection in self._connections:
                connection.transport.pause_reading()
            self._frozen, self._connections = self._frozen + self._connections, []
            self._notify()

        if frozen:
            self._run(die())

    def click(
        self, card: AnyCard, label_or_button_id: str, person: str = "Ann", variant: ClickVariant = "official"
    ) -> str:
        """A person clicks a button that this person sees; returns headers.messageId, "" if nothing was pushed.

        Nothing is pushed of standard cards, of cards without callbackType STREAM, of buttons that do not ask the robot,
        and if no connection subscribed to clicks.
        """
        staff_id = f"staff-{person}"
        button = find_button(card, label_or_button_id, staff_id)
        frame_id, data = "", {}
        if is_pushed(card, button):
            self._staff.setdefault(staff_id, self.one_to_one(person))
            data = click_data(card, button, staff_id, variant)
            with contextlib.suppress(NobodyListens):
                frame_id = self.click_raw(data)
        self.clicks = [*self.clicks, Click(card, button, person, bool(frame_id), frame_id, data)]
        self._notify()
        return frame_id

    def click_raw(self, data: Json) -> str:
        """Push any data as a click; returns headers.messageId. With the `data` of a Click, that click comes twice."""
        return self.callback(data, CARD_TOPIC)

    def _push(self, kind: str, topic: str, data: Json) -> str:
        leaving = (kind, topic) == ("SYSTEM", "disconnect")
        frame_id = "" if leaving else uuid.uuid4().hex
        if (kind, topic) == ("CALLBACK", CARD_TOPIC):
            self._clicked[frame_id] = data

        async def send() -> None:
            connection = self._choose((kind, topic) if kind == "CALLBACK" else None)
            headers = {
                "appId": self._id,
                "connectionId": connection.id,
                "contentType": "application/json",
                "topic": topic,
            }
            if not leaving:
                headers |= {"messageId": frame_id, "time": str(int(time.time() * 1000))}
            frame: Json = {"type": kind, "headers": headers, "data": json.dumps(data, ensure_ascii=False)}
            if kind != "SYSTEM":  # those are documented without a version
                frame = {"specVersion": "1.0", **frame}
            if leaving:
                connection.silent = True
                asyncio.get_running_loop().call_later(self.disconnect_grace, connection.transport.close)
            await self._send(connection, json.dumps(frame, ensure_ascii=False), frame_id, data.get("msgId"))

        self._run(send())
        return frame_id

    def _listening(self) -> list[_Connection]:
        return [connection for connection in self._connections if not connection.silent]

    def _choose(self, subscription: tuple[str, str] | None) -> _Connection:
        candidates = self._listening() or self._frozen  # to the sender, a dead peer looks alive
        if not candidates:
            raise NobodyListens(f"no open connection that gets messages; {self._situation()}")
        if subscription:
            candidates = [connection for connection in candidates if subscription in connection.topics]
            if not candidates:
                raise NobodyListens(f"nobody subscribed {subscription}, so DingTalk would not push it")
        return random.choice(candidates)

    async def _send(self, connection: _Connection, content: Any, frame_id: Any, msg_id: Any = None) -> None:
        if frame_id:
            connection.unacknowledged.add(frame_id)
        self.pushed = self.pushed | {name: time.monotonic() for name in (frame_id, msg_id) if name}
        try:
            if connection in self._frozen:
                pass  # lost, and nobody knows
            elif isinstance(content, bytes):
                await connection.socket.send_bytes(content)
            else:
                await connection.socket.send_str(content)
        except ConnectionError as exc:
            raise AssertionError(f"the connection went away during the push; {self._situation()}") from exc
        self._notify()

    # ---- WebSocket

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        expires, topics = self._tickets.pop(request.query.get("ticket", ""), (0.0, frozenset()))
        if time.monotonic() >= expires:
            return web.json_response({"code": "authFailed", "message": "ticket unknown, used or expired"}, status=401)
        websocket = web.WebSocketResponse(timeout=1, autoping=False)  # a half-open connection sends no pong
        await websocket.prepare(request)
        if self.close_at_once:
            await websocket.close(code=WSCloseCode.OK)
            return websocket
        assert request.transport is not None
        connection = _Connection(uuid.uuid4().hex, websocket, request.transport, topics)
        self._connections.append(connection)
        self._notify()
        try:
            async for frame in websocket:
                if frame.type is WSMsgType.ERROR:
                    break
                if connection in self._frozen or frame.type is WSMsgType.PONG:
                    continue
                if frame.type is WSMsgType.PING:
                    await websocket.pong(frame.data)
                    continue
                problem = self._read_ack(connection, frame.data)
                if problem:
                    self.protocol_errors.append(f"{problem}: {frame.data[:200]!r}")
                self._notify()
        finally:
            for connections in (self._connections, self._frozen):
                if connection in connections:
                    connections.remove(connection)
            self._notify()
        return websocket

    def _read_ack(self, connection: _Connection, text: str | bytes) -> str:
        """Record an acknowledgement, or say what is wrong with it."""
        try:
            ack = json_object(text)
            code, data, frame_id = ack["code"], ack.get("data") or "", str(ack["headers"]["messageId"])
            if data:
                json.loads(data)
        except (ValueError, TypeError, KeyError) as exc:
            return f"not an acknowledgement as JSON text ({exc!r})"
        if type(code) is not int:
            return "an acknowledgement without a numeric code"
        if frame_id not in connection.unacknowledged:
            return "nothing on this connection waits for this acknowledgement"
        connection.unacknowledged.remove(frame_id)
        record = Ack(code, str(ack.get("message", "")), data, time.monotonic(), connection.id)
        self.acks = self.acks | {frame_id: record}
        return self._hear_answer(frame_id, record) if frame_id in self._clicked else ""

    def _hear_answer(self, frame_id: str, ack: Ack) -> str:
        """Let the answer to a click take effect, or say what is wrong with it."""
        took = ack.at - self.pushed[frame_id]
        if took > CLICK_SECONDS:
            return f"a click was answered after {took:.1f} s"
        if ack.code != 200:
            return ""
        clicked = self._clicked[frame_id]
        try:
            self._apply_answer(response_of(ack.data), clicked.get("outTrackId"), str(clicked.get("userId", "")))
        except ValueError as exc:
            return f"not an answer to a click ({exc})"
        except Refused as refused:
            return f"not an answer to a click ({refused.body['message']})"
        return ""

    # ---- HTTP

    def count(self, path: str) -> int:
        """Calls that arrived at exactly this path."""
        return sum(call.path == path for call in self.calls)

    def refused(self, path: str | None = None) -> int:
        """Calls that were answered with an error, at exactly this path or at any."""
        return sum(call.refused and path in (None, call.path) for call in self.calls)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        call = Call(request.method, request.path, json_or_nothing(raw), request.headers.copy(), time.monotonic())
        self.calls.append(call)
        self._notify()
        # Limits look at the arrival. Everything else happens when the call is answered.
        fault = self._fault_for(call.path, call.at, throttled=call.path != WEBHOOK)  # that one is no OpenAPI
        await asyncio.sleep(self.latency + fault.delay)
        if fault.kind == "reset":
            return _abort(request)
        answer = self._decide(call, request, raw, fault)
        self._notify()
        if fault.kind == "lost":
            return _abort(request)
        if fault.kind == "garbage":
            return web.Response(text="<html>It works!", content_type="text/html")
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="application/xml")
        if fault.kind == "trickle":
            return await _trickle(request, call.status, answer, fault.pause)
        return web.json_response(answer, status=call.status)

    def _decide(self, call: Call, request: web.Request, raw: bytes, fault: Fault) -> Json | str:
        """The call takes effect, or is refused."""
        try:
            if fault.error:
                raise fault.error.with_traceback(None)  # the same object for many calls; it must not grow
            answer = self._answer(request, raw)
            call.status = 200
            return answer
        except Refused as refused:
            call.status, call.code, call.refused = refused.status, refused.code, True
            return refused.body

    async def _answer_myself(self, _: web.Request) -> web.Response:
        return web.Response()

    def _open(self, request: web.Request, body: Json) -> Json | str:
        if "application/json" not in request.headers.get("Accept", ""):
            return "<response/>"  # as DingTalk: without this header its answers are XML
        if (body.get("clientId"), body.get("clientSecret")) != (self.client_id, self.client_secret):
            raise Refused(401, "authFailed", "鉴权失败")
        try:
            topics = frozenset((item["type"], item["topic"]) for item in body["subscriptions"])
        except (KeyError, TypeError) as exc:
            raise Refused(400, "param.error", "subscriptions") from exc
        if any(kind == "EVENT" and topic != "*" for kind, topic in topics):
            raise Refused(400, "param.error", "events are subscribed as a whole")
        ticket = str(uuid.uuid4())
        self._tickets[ticket] = (time.monotonic() + TICKET_SECONDS, topics)
        return {"endpoint": self.url.replace("http", "ws", 1) + "/connect", "ticket": ticket}


def _abort(request: web.Request) -> web.Response:
    """Reset the connection: an orderly end would look like a complete answer to a careless client."""
    if request.transport is not None:
        tcp = request.transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()  # goes nowhere


async def _trickle(request: web.Request, status: int, answer: Json, pause: float) -> web.StreamResponse:
    body = json.dumps(answer).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(body))}
    response = web.StreamResponse(status=status, headers=headers)
    with contextlib.suppress(ConnectionError):  # the robot need not wait for the end
        await response.prepare(request)
        for at in range(len(body)):
            await asyncio.sleep(pause if at else 0)
            await response.write(body[at : at + 1])
        await response.write_eof()
    return response
