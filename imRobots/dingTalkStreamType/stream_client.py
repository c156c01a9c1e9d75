"""The Stream connection: open, read, acknowledge on the same socket, keep alive, connect again.

Owns the connection of one client, on the loop that `start` runs on. Keeps the SDK's frames, handlers and credential.
Replaces its connect loop: in SDK 0.24.2 and 0.24.3 that one blocks the event loop and cannot be stopped, and 0.24.4b1
cancels the handlers whenever it reconnects. Does not know what the handlers do.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import quote_plus

import websockets.exceptions  # the SDK uses this submodule without importing it
from dingtalk_stream import (
    AckMessage,
    CallbackMessage,
    Credential,
    DingTalkStreamClient,
    EventMessage,
    SystemMessage,
)
from dingtalk_stream.version import VERSION_STRING
from websockets.asyncio.client import ClientConnection, connect

from imRobots.Meta import AuthError, Health, Misconfigured, ReplyRefused, TransportError, backoff, log, utc

from .api import Api
from .frames import Frame, headers_of, parse_frame, plain_ack, topic_of
from .logs import library_log
from .network import reaching

T = TypeVar("T")

# Seconds between pings, and until a missing pong counts: a dead peer is noticed within 35 s.
_PING_SECONDS = 15
_PONG_SECONDS = 20
# What somebody has to mend is tried again so many seconds later.
_SLOW_SECONDS = 60
# Bytes of a WebSocket message. A longer one costs the connection.
_MAX_MESSAGE = 2**24
# A connection that has lived so long was a good one: the next is opened without delay, and delays start anew.
_STABLE_SECONDS = 10
# After `disconnect` DingTalk closes the socket within 10 s (developerpedia, stream protocol).
_LEFT_BEHIND_SECONDS = 15


class StreamClient(DingTalkStreamClient):
    """A `DingTalkStreamClient` whose `start` runs until it is cancelled, and then leaves no socket behind."""

    def __init__(
        self,
        credential: Credential,
        on_state: Callable[[Literal["connected", "reconnecting"]], None] = lambda state: None,
    ) -> None:
        """`on_state` is called on the loop."""
        super().__init__(credential, logger=library_log)
        self.event_handler.logger = self.system_handler.logger = library_log
        self.websocket: ClientConnection | None = None
        self.api = Api(credential)
        self._on_state = on_state
        self._health = Health("reconnects")
        self._state, self._since = "connecting", time.time()
        self._frame_at: float | None = None
        self._pong_at: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left_behind: set[ClientConnection] = set()

    async def start(self) -> None:
        """Stay connected. Ends only by cancellation."""
        self.pre_start()
        delays = backoff(1, 60)
        trouble = ""
        try:
            while True:
                try:
                    websocket = await self._connect()
                except Exception as error:  # whatever it is, the robot must come back by itself
                    to_be_mended = isinstance(error, (AuthError, Misconfigured, ReplyRefused))
                    # Reported once: an outage, however it shows itself, and each thing that somebody has to mend.
                    earlier, trouble = trouble, _kind_of(error) if to_be_mended else "outage"
                    say = log.debug if trouble == earlier else log.error
                    say(f"No connection to DingTalk for client id {self.credential.client_id}, trying again: {error!r}")
                    await asyncio.sleep(_SLOW_SECONDS if to_be_mended else next(delays))
                    continue
                trouble = ""
                self.websocket = websocket
                self._report("connected")
                log.info(f"Connected to DingTalk: the long connection of client id {self.credential.client_id} stands")
                since = time.monotonic()
                keep_alive = asyncio.ensure_future(self._keep_alive(websocket))
                try:
                    await self._read(websocket)
                finally:
                    keep_alive.cancel()
                self._health.count("reconnects")
                self._report("reconnecting")
                self._start_task(self._leave_behind(websocket))
                if time.monotonic() - since >= _STABLE_SECONDS:
                    delays = backoff(1, 60)
                else:
                    await asyncio.sleep(next(delays))
        finally:
            for left_behind in self._left_behind:
                left_behind.transport.abort()
            if self.websocket is not None:
                await self.websocket.close()
                self.websocket.transport.abort()  # Python 3.10 leaves a TLS transport open that its peer has closed
                self.websocket = None
            self.api.close()

    def status(self) -> dict[str, Any]:
        """State and since when, seconds since the last frame and the last pong, reconnects, times to acknowledge."""
        now = time.monotonic()
        ages = {"last_frame_age": self._frame_at, "last_pong_age": self._pong_at}
        return {
            "state": self._state,
            "since": utc(self._since),
            **{name: None if at is None else round(now - at, 1) for name, at in ages.items()},
            **self._health.status(),
        }

    def open_connection(self) -> dict[str, Any]:
        """Ask the gateway for an endpoint and a ticket. Blocks; raises `TransportError` or `AuthError`."""
        topics = [{"type": "EVENT", "topic": "*"}] if self._is_event_required else []
        topics += [{"type": "CALLBACK", "topic": topic} for topic in self.callback_handler_map]
        return self.api.open_connection(
            {
                "clientId": self.credential.client_id,
                "clientSecret": self.credential.client_secret,
                "subscriptions": topics,
                "ua": f"dingtalk-sdk-python/v{VERSION_STRING}",
                "localIp": self.get_host_ip(),
            }
        )

    def _report(self, state: Literal["connected", "reconnecting"]) -> None:
        self._state, self._since = state, time.time()
        self._on_state(state)

    async def _connect(self) -> ClientConnection:
        connection = await _in_thread(self.open_connection)
        try:
            uri = f"{connection['endpoint']}?ticket={quote_plus(connection['ticket'])}"
        except (KeyError, TypeError) as error:
            raise TransportError("the gateway named no endpoint to connect to") from error
        network = self.api.network
        tunnel = await _in_thread(functools.partial(network.tunnel_to, uri))
        with contextlib.ExitStack() as unused, reaching("connecting to the gateway's endpoint"):
            if tunnel is not None:
                unused.enter_context(tunnel)
            websocket = await connect(
                uri,
                sock=tunnel,
                proxy=None,
                ssl=network.tls if uri.startswith("wss:") else None,
                open_timeout=10,
                close_timeout=2,
                ping_interval=None,
                max_size=_MAX_MESSAGE,
                logger=library_log,
            )
            unused.pop_all()
            return websocket

    async def _keep_alive(self, websocket: ClientConnection) -> None:
        """Ping, and give the connection up when no pong comes: a peer that is gone sends no word of it."""
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                try:
                    await asyncio.wait_for(await websocket.ping(), _PONG_SECONDS)
                except asyncio.TimeoutError:
                    log.warning(f"DingTalk has not answered a ping for {_PONG_SECONDS} s; connecting anew")
                    websocket.transport.abort()
                    return
                self._pong_at = time.monotonic()

    async def _read(self, websocket: ClientConnection) -> None:
        """Hand out frames until the connection is closed or DingTalk asks to leave it."""
        try:
            async for raw in websocket:
                self._frame_at = time.monotonic()
                frame = parse_frame(raw)
                if frame is None:
                    continue
                if frame.get("type") == SystemMessage.TYPE and topic_of(frame) == SystemMessage.TOPIC_DISCONNECT:
                    return  # no acknowledgement is wanted
                self._start_task(self._acknowledge(websocket, frame, self._frame_at))
        except websockets.exceptions.ConnectionClosedError as error:
            log.warning(f"The connection to DingTalk broke: {error}")

    async def _acknowledge(self, websocket: ClientConnection, frame: Frame, came_at: float) -> None:
        try:
            ack = await self._dispatch(frame)
            if ack is None:  # a handler of somebody's own that does not acknowledge
                return
            text = json.dumps(ack.to_dict())
        except Exception:
            log.exception(f"A frame of topic {topic_of(frame)} could not be processed")
            text = json.dumps(plain_ack(frame, AckMessage.STATUS_SYSTEM_EXCEPTION, "internal error").to_dict())
        if headers_of(frame).get("messageId") is None:
            return  # nothing that an acknowledgement could be for
        try:
            await websocket.send(text)
            self._health.took("ack", time.monotonic() - came_at)
        except websockets.exceptions.ConnectionClosed:
            log.warning(f"A frame of topic {topic_of(frame)} was not acknowledged: its connection is closed")

    async def _dispatch(self, frame: Frame) -> AckMessage | None:
        kind = frame.get("type")
        if kind == SystemMessage.TYPE:  # the SDK's handler does the same, and warns at each ping
            ack = plain_ack(frame, AckMessage.STATUS_OK, "OK")
            ack.data = SystemMessage.from_dict(frame).data  # with a ping's `opaque`
            return ack
        if kind == EventMessage.TYPE:
            return await self.event_handler.raw_process(EventMessage.from_dict(frame))
        if kind == CallbackMessage.TYPE and topic_of(frame) in self.callback_handler_map:
            try:
                message = CallbackMessage.from_dict(frame)
            except (AttributeError, RecursionError, TypeError, ValueError) as error:
                log.warning(f"A frame of topic {topic_of(frame)} was refused: it cannot be read ({error})")
                return plain_ack(frame, AckMessage.STATUS_BAD_REQUEST, "not readable")
            return await self.callback_handler_map[topic_of(frame)].raw_process(message)
        log.warning(f"A frame of the unknown type {kind} and topic {topic_of(frame)} was ignored")
        return plain_ack(frame, AckMessage.STATUS_NOT_IMPLEMENT, "unknown topic")

    async def _leave_behind(self, websocket: ClientConnection) -> None:
        """Keep a connection that delivers no more, for acknowledgements that are still due on it."""
        self._left_behind.add(websocket)
        await asyncio.wait({asyncio.ensure_future(websocket.wait_closed())}, timeout=_LEFT_BEHIND_SECONDS)
        self._left_behind.discard(websocket)
        websocket.transport.abort()

    def _start_task(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)


def _kind_of(error: Exception) -> str:
    if isinstance(error, ReplyRefused):
        return f"refused {error.code}"  # its text has the number of the request in it
    return str(error) if isinstance(error, Misconfigured) else type(error).__name__


def _in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking function on a daemon thread. Unlike the loop's executor, nobody waits for it at the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            log.debug("The client was stopped while it asked for a connection")

    threading.Thread(target=work, name="imRobots-open", daemon=True).start()
    return future
