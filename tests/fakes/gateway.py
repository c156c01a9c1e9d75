"""A stand-in for DingTalk: Stream gateway, OpenAPI and session webhooks on one loopback port.

It owns what DingTalk owns (connections, tickets, tokens, conversations, cards, webhook sessions) and remembers all that
happened, so that a test can ask what a person would have seen. It is strict: what the platform refuses is refused here.
It offers only what the robot uses: standard cards, and webhook messages of the kinds text and markdown. It delivers no
button click, because DingTalk pushes none of standard cards over Stream; it pushes nothing twice by itself.

Threads: HTTP, WebSocket and `on_change` run on one daemon thread with its own event loop, and what happens is recorded
there, so `on_change` must be quick and call nothing here that waits. All other threads use the public methods, which
return when the thing is done. `acks`, `pushed` and `cards` are replaced, never changed in place: a test may go through
them while the robot works.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import WSMsgType, web

from tests.fakes.records import Ack, Call, Card, CardState, Json, WebhookMessage

T = TypeVar("T")
Topics = frozenset[tuple[str, str]]

MESSAGE_TOPIC = "/v1.0/im/bot/messages/get"
OPEN = "/v1.0/gateway/connections/open"
TOKEN = "/v1.0/oauth2/accessToken"
SEND_CARD = "/v1.0/im/v1.0/robot/interactiveCards/send"
UPDATE_CARD = "/v1.0/im/robots/interactiveCards"
WEBHOOK = "/robot/sendBySession"
TICKET_SECONDS = 90
TOKEN_SECONDS = 7200
WEBHOOK_BYTES = 20_000
CARD_ID_CHARS = 100


@dataclass(eq=False)
class _Connection:
    id: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport
    topics: Topics
    silent: bool = False  # told to disconnect: still open, but gets nothing more
    unacknowledged: set[str] = field(default_factory=set)


class _Refused(Exception):
    """An error as the answer. With HTTP 200 it has the old API's shape: a number in the body tells."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code
        self.body: Json = {"code": code, "requestid": uuid.uuid4().hex, "message": message}
        if status == 200:
            self.body = {"errcode": int(code), "errmsg": message}


@dataclass
class _Refusal:
    path_part: str
    error: _Refused
    delay: float
    times: int


class Gateway:
    """DingTalk with one robot; a context manager, or `start()` and `stop()`."""

    url = ""

    def __init__(
        self,
        *,
        client_id: str = "ding-demo",
        client_secret: str = "demo-secret",
        latency: float = 0.0,
        on_change: Callable[[Card], None] | None = None,
    ) -> None:
        self.client_id, self.client_secret, self.on_change = client_id, client_secret, on_change
        # How it behaves; a test may change these at any time.
        self.latency = latency
        self.throttle: int | None = None
        self.published = True
        self.disconnect_grace = 10.0
        self.webhook_lifetime = 5400.0
        # What happened.
        self.acks: dict[str, Ack] = {}
        self.pushed: dict[str, float] = {}
        self.cards: dict[str, Card] = {}
        self.webhooks: list[WebhookMessage] = []
        self.calls: list[Call] = []
        self.clicks: list[tuple[Card, Json]] = []
        self.protocol_errors: list[str] = []
        # What DingTalk knows.
        self._id = uuid.uuid4().hex
        self._connections: list[_Connection] = []
        self._tickets: dict[str, tuple[float, Topics]] = {}
        self._token = ("", 0.0)
        self._groups: set[str] = set()
        self._people: dict[str, str] = {}  # userId or unionId -> one-to-one conversation
        self._sessions: dict[str, tuple[float, str]] = {}  # -> end of life, conversation
        self._refusals: list[_Refusal] = []
        self._arrivals: dict[str, deque[float]] = {}
        self._endpoints: dict[tuple[str, str], Callable[[web.Request, Json], Json | str]] = {
            ("POST", OPEN): self._open,
            ("POST", TOKEN): self._give_token,
            ("POST", SEND_CARD): self._send_card,
            ("PUT", UPDATE_CARD): self._update_card,
            ("POST", WEBHOOK): self._receive_webhook,
        }
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
        app.router.add_route("*", "/{path:.*}", self._serve)
        # Calls that hang on purpose must not hold up the end of a test.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        self.latency = 0.0
        # Connections are accepted in order: once this one is served, `cleanup` knows of all that came before it.
        reader, writer = await asyncio.open_connection(*self._runner.addresses[0])
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.read()
        writer.close()
        for connection in self._connections:
            connection.transport.abort()
        await self._runner.cleanup()

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

    def card_for(self, message_id_or_question: str, timeout: float = 10, state: str | None = None) -> Card:
        """The newest card with this question as its title, or with this message's id in its buttons."""

        def belongs(card: Card) -> bool:
            values = [_json_or_nothing(button.get("value")) for button in card.buttons]
            return card.title == message_id_or_question or any(
                value.get("message_id") == message_id_or_question for value in values
            )

        def find() -> list[Card]:
            newest = next((card for card in reversed(list(self.cards.values())) if belongs(card)), None)
            return [newest] if newest and state in (None, newest.state) else []

        return self.wait_for(find, timeout, f"a card ({state or 'any state'}) for {message_id_or_question!r}")[0]

    def _situation(self) -> str:
        calls = [f"{call.method} {call.path} {call.status} {call.code}".rstrip() for call in self.calls[-5:]]
        cards = [f"{card.title!r} {card.state}" for card in list(self.cards.values())[-5:]]
        return (
            f"{self.connections()} connection(s), {len(self.acks)} ack(s), {len(self.webhooks)} webhook message(s), "
            f"last cards {cards}, last calls {calls}, protocol errors {self.protocol_errors}"
        )

    def _notify(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    # ---- talking to the robot

    def connections(self) -> int:
        """Open connections, those that were told to disconnect included."""
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
        private = f"cid-{self._id}-{sender}"
        staff_id = f"staff-{sender}" if staff and self.published else None
        session, now = uuid.uuid4().hex, time.time()
        fields: Json = {
            "senderPlatform": "Mac",
            "conversationId": conversation or (f"cid-{self._id}" if group else private),
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
        for person in (payload.get("senderStaffId"), payload.get("senderUnionId")):
            if person:
                self._people[person] = private if in_group else place
        self._sessions[session] = (time.monotonic() + self.webhook_lifetime, place)
        self.callback(payload)
        return str(payload.get("msgId", ""))

    def callback(self, data: Json, topic: str = MESSAGE_TOPIC) -> str:
        """Push any callback; returns its headers.messageId."""
        return self._push("CALLBACK", topic, data)

    def system(self, topic: str, data: Json | None = None) -> str:
        """Push a SYSTEM frame; returns its headers.messageId: "" for `disconnect`, which has none and wants no ack."""
        defaults = {"ping": {"opaque": uuid.uuid4().hex}, "disconnect": {"reason": "connection is expired"}}
        return self._push("SYSTEM", topic, defaults.get(topic, {}) if data is None else data)

    def push(self, frame: Json | str | bytes) -> None:
        """Push a frame as it is: a dict with a topic to those who subscribed to it, text and bytes to anybody."""
        parsed = frame if isinstance(frame, dict) else _json_or_nothing(frame)
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
        """Lose every connection: without a close frame, or closed with this code."""

        async def drop() -> None:
            dropped, self._connections = self._connections, []
            for connection in dropped:
                if code is None:
                    connection.transport.abort()
            if code is not None:
                await asyncio.gather(*(connection.socket.close(code=code) for connection in dropped))
            self._notify()

        self._run(drop())

    def click(self, card: Card, rating_label: str) -> bool:
        """A person clicks a button. A Stream robot is told nothing of it, so this only takes a note: always False."""
        for button in card.buttons:
            if button["label"]["text"] == rating_label:
                self.clicks.append((card, button))
                self._notify()
                return False
        labels = [button["label"]["text"] for button in card.buttons]
        raise AssertionError(f"the card {card.title!r} has no button {rating_label!r}, only {labels}")

    def _push(self, kind: str, topic: str, data: Json) -> str:
        leaving = (kind, topic) == ("SYSTEM", "disconnect")
        frame_id = "" if leaving else uuid.uuid4().hex

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
        candidates = self._listening()
        if not candidates:
            raise AssertionError(f"no open connection that gets messages; {self._situation()}")
        if subscription:
            candidates = [connection for connection in candidates if subscription in connection.topics]
            if not candidates:
                raise AssertionError(f"nobody subscribed {subscription}, so DingTalk would not push it")
        return random.choice(candidates)

    async def _send(self, connection: _Connection, content: Any, frame_id: Any, msg_id: Any = None) -> None:
        if frame_id:
            connection.unacknowledged.add(frame_id)
        self.pushed = self.pushed | {name: time.monotonic() for name in (frame_id, msg_id) if name}
        try:
            if isinstance(content, bytes):
                await connection.socket.send_bytes(content)
            else:
                await connection.socket.send_str(content)
        except ConnectionError as exc:
            raise AssertionError(f"the connection went away during the push; {self._situation()}") from exc
        self._notify()

    # ---- trouble

    def expire_tokens(self) -> None:
        self._token = ("", 0.0)

    def refuse(
        self, path_part: str, *, status: int, code: str, times: int = 1, message: str = "refused", delay: float = 0.0
    ) -> None:
        """Answer the next `times` calls on such paths with this error; with status 200 `code` is an errcode."""
        self._refusals.append(_Refusal(path_part, _Refused(status, code, message), delay, times))

    def _trouble(self, path: str, at: float) -> tuple[_Refused | None, float]:
        for refusal in self._refusals:
            if refusal.times > 0 and refusal.path_part in path:
                refusal.times -= 1
                return refusal.error, refusal.delay
        if self.throttle is not None and path != WEBHOOK:  # that one is no OpenAPI
            recent = self._arrivals.setdefault(path, deque())
            while recent and recent[0] <= at - 1:
                recent.popleft()
            if len(recent) >= self.throttle:  # a throttled call does not count itself
                return _Refused(403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", "too many calls"), 0.0
            recent.append(at)
        return None, 0.0

    # ---- WebSocket

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        expires, topics = self._tickets.pop(request.query.get("ticket", ""), (0.0, frozenset()))
        if time.monotonic() >= expires:
            return web.json_response({"code": "authFailed", "message": "ticket unknown, used or expired"}, status=401)
        socket = web.WebSocketResponse(timeout=1)
        await socket.prepare(request)
        assert request.transport is not None
        connection = _Connection(uuid.uuid4().hex, socket, request.transport, topics)
        self._connections.append(connection)
        self._notify()
        try:
            async for frame in socket:
                if frame.type is WSMsgType.ERROR:
                    break
                problem = self._read_ack(connection, frame.data)
                if problem:
                    self.protocol_errors.append(f"{problem}: {frame.data[:200]!r}")
                self._notify()
        finally:
            if connection in self._connections:
                self._connections.remove(connection)
            self._notify()
        return socket

    def _read_ack(self, connection: _Connection, text: str | bytes) -> str:
        """Record an acknowledgement, or say what is wrong with it."""
        try:
            ack = _json_object(text)
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
        return ""

    # ---- HTTP

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        at = time.monotonic()
        raw = await request.read()
        body = _json_or_nothing(raw)
        call = Call(request.method, request.path, body, request.headers.copy(), at)
        self.calls.append(call)
        self._notify()
        # Limits look at the arrival. Everything else happens when the call is answered.
        error, delay = self._trouble(request.path, at)
        await asyncio.sleep(self.latency + delay)
        try:
            if error:
                raise error
            call.status, answer = 200, self._answer(request, raw)
        except _Refused as refused:
            call.status, call.code, answer = refused.status, refused.code, refused.body
        self._notify()
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="application/xml")
        return web.json_response(answer, status=call.status)

    def _answer(self, request: web.Request, raw: bytes) -> Json | str:
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is None:
            raise _Refused(404, "InvalidAction.NotFound", "there is no such API")
        if request.path in (SEND_CARD, UPDATE_CARD):
            token, expires = self._token
            given = request.headers.get("x-acs-dingtalk-access-token")
            if not given or given != token or time.monotonic() >= expires:
                raise _Refused(400, "InvalidAuthentication", "不合法的access_token")
        try:
            body = _json_object(raw.decode())
        except ValueError as exc:
            raise _Refused(400, "param.isNotJson", f"the body is not a JSON object in UTF-8: {exc}") from exc
        if request.content_type != "application/json":
            raise _Refused(400, "param.isNotJson", "the body is not declared as application/json")
        if request.path == WEBHOOK and len(raw) > WEBHOOK_BYTES:
            raise _Refused(200, "460101", f"message too long, exceed {WEBHOOK_BYTES} bytes")
        return endpoint(request, body)

    def _open(self, request: web.Request, body: Json) -> Json | str:
        if "application/json" not in request.headers.get("Accept", ""):
            return "<response/>"  # as DingTalk: without this header its answers are XML
        if (body.get("clientId"), body.get("clientSecret")) != (self.client_id, self.client_secret):
            raise _Refused(401, "authFailed", "鉴权失败")
        try:
            topics = frozenset((item["type"], item["topic"]) for item in body["subscriptions"])
        except (KeyError, TypeError) as exc:
            raise _Refused(400, "param.error", "subscriptions") from exc
        if any(kind == "EVENT" and topic != "*" for kind, topic in topics):
            raise _Refused(400, "param.error", "events are subscribed as a whole")
        ticket = str(uuid.uuid4())
        self._tickets[ticket] = (time.monotonic() + TICKET_SECONDS, topics)
        return {"endpoint": self.url.replace("http", "ws", 1) + "/connect", "ticket": ticket}

    def _give_token(self, _: web.Request, body: Json) -> Json:
        if (body.get("appKey"), body.get("appSecret")) != (self.client_id, self.client_secret):
            raise _Refused(400, "invalidClientIdOrSecret", "无效的clientId或者clientSecret")
        token, expires = self._token
        if time.monotonic() >= expires:
            token = uuid.uuid4().hex
        self._token = (token, time.monotonic() + TOKEN_SECONDS)
        return {"accessToken": token, "expireIn": TOKEN_SECONDS}

    def _send_card(self, _: web.Request, body: Json) -> Json:
        if body.get("cardTemplateId") != "StandardCard":
            raise _Refused(400, "template.isNotExist", "cardTemplateId")
        if body.get("robotCode") != self.client_id:
            raise _Refused(400, "invalid.robotCode", "robotCode")
        state = _card_state(body)
        card_id = body.get("cardBizId")
        if not isinstance(card_id, str) or not 0 < len(card_id) <= CARD_ID_CHARS or card_id in self.cards:
            raise _Refused(400, "invalid.bizId", "cardBizId is missing, too long or used")
        card = Card(card_id, self._receiver(body), body, [state])
        try:
            people = json.loads((body.get("sendOptions") or {}).get("atUserListJson", "[]"))
            valid = isinstance(people, list) and all(isinstance(one["userId"], str) and one["userId"] for one in people)
        except (ValueError, TypeError, KeyError, AttributeError):
            valid = False
        if not valid:
            raise _Refused(400, "param.error", "sendOptions.atUserListJson")
        self.cards = self.cards | {card_id: card}
        return self._accept(card)

    def _receiver(self, body: Json) -> str:
        """The conversation that a card goes to."""
        group, single = body.get("openConversationId"), body.get("singleChatReceiver")
        if (group is None) == (single is None):
            raise _Refused(400, "param.error", "either openConversationId or singleChatReceiver")
        if single is None:
            if not isinstance(group, str) or group not in self._groups:
                raise _Refused(400, "invalid.openConversationId", "openConversationId")
            return group
        person = _json_or_nothing(single)
        conversation = self._people.get(str(person.get("userId") or person.get("unionId")))
        if conversation is None:
            raise _Refused(400, "invalid.user", "singleChatReceiver")
        return conversation

    def _update_card(self, _: web.Request, body: Json) -> Json:
        card = self.cards.get(str(body.get("cardBizId")))
        if card is None:
            raise _Refused(400, "cardInstance.notExist", "cardBizId")
        card.states.append(_card_state(body))
        return self._accept(card)

    def _accept(self, card: Card) -> Json:
        if self.on_change:
            self.on_change(card)
        return {"processQueryKey": uuid.uuid4().hex}

    def _receive_webhook(self, request: web.Request, body: Json) -> Json:
        expires, conversation = self._sessions.get(request.query.get("session", ""), (0.0, ""))
        if time.monotonic() >= expires:
            raise _Refused(200, "300001", "session 不存在")
        kind = body.get("msgtype")
        needed = {"text": ["content"], "markdown": ["text", "title"]}.get(str(kind), [])
        parts = body.get(str(kind))
        if not needed or not isinstance(parts, dict) or any(not str(parts.get(name) or "").strip() for name in needed):
            raise _Refused(200, "40035", "不合法的参数")
        self.webhooks.append(WebhookMessage(conversation, body, time.monotonic(), str(kind), parts[needed[0]]))
        return {"errcode": 0, "errmsg": "ok"}


def _json_object(text: Any) -> Json:
    """Strict: one object, and none of the constants that only Python knows."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    value = json.loads(text, parse_constant=refuse) if isinstance(text, str) else None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _json_or_nothing(text: Any) -> Json:
    try:
        return _json_object(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):
        return {}


def _card_state(body: Json) -> CardState:
    data = _json_or_nothing(body.get("cardData"))
    contents = data.get("contents")
    shaped = isinstance(data.get("config"), dict) and isinstance(data.get("header"), dict)
    if not shaped or not isinstance(contents, list) or not all(isinstance(element, dict) for element in contents):
        raise _Refused(400, "param.isNotJson", "cardData is not a JSON string with config, header and contents")
    return CardState(time.monotonic(), data)
