"""What several files here need: a log to look into, a plain handler, a peer that answers oddly, payloads."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from dingtalk_stream import AckMessage, CallbackMessage, ChatbotHandler

T = TypeVar("T")

ELEMENT = "bots.helpdesk"
AGENT = "aiagents.ragTest"
CLIENT_ID, CLIENT_SECRET = "ding-demo", "demo-secret"
CONFIG = {"agent": AGENT, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}


def eventually(condition: Callable[[], T], what: str = "a condition", timeout: float = 10) -> T:
    """The first truthy value of a condition that nobody announces."""
    deadline, tick = time.monotonic() + timeout, threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain for {what}"
        tick.wait(0.005)


async def soon(condition: Callable[[], T], what: str = "a condition") -> T:
    """`eventually`, in a test that runs on an event loop."""
    return await asyncio.to_thread(eventually, condition, what)


def in_time(action: Callable[[], T], timeout: float = 10) -> T:
    """Do something that must come to an end by itself; a test does not hang where it does not."""
    result: list[T] = []
    thread = threading.Thread(target=lambda: result.append(action()), name="in-time", daemon=True)
    thread.start()
    thread.join(timeout)
    assert not thread.is_alive(), f"did not end within {timeout:g} s"
    assert result, "ended with an error"
    return result[0]


def robot_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("imRobots-"))


def assert_no_thread_is_left() -> None:
    """For the moment after a stop: only a call on its way may have to come back first, or a line go into the log."""
    assert set(robot_threads()) <= {"imRobots-open", "imRobots-token", "imRobots-background"}
    eventually(lambda: not robot_threads(), "the end of the last call")


def text_of(error: BaseException) -> str:
    """Everything that a log could show of an error."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + str(error) + repr(error)


class Log:
    """JitNode's log as documented: five levels, one message each. Keeps what was said."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str]] = []

    def debug(self, message: object, /) -> None:
        self.records.append(("debug", str(message)))

    def info(self, message: object, /) -> None:
        self.records.append(("info", str(message)))

    def warning(self, message: object, /) -> None:
        self.records.append(("warning", str(message)))

    def error(self, message: object, /) -> None:
        self.records.append(("error", str(message)))

    def exception(self, message: object, /) -> None:
        self.records.append(("exception", f"{message}\n{traceback.format_exc()}"))

    def lines(self, *levels: str, containing: str = "") -> list[str]:
        records = list(self.records)
        return [message for level, message in records if level in (levels or (level,)) and containing in message]


class Mailbox(ChatbotHandler):
    """A handler as the tutorial's reader would write it: `async process`, and nothing of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[CallbackMessage] = []

    async def process(self, callback: CallbackMessage) -> tuple[int, str]:
        self.callbacks.append(callback)
        return AckMessage.STATUS_OK, "OK"

    def texts(self) -> list[str]:
        return [callback.data["text"]["content"].strip() for callback in list(self.callbacks)]


def payload(**changes: Any) -> dict[str, Any]:
    """A text message from a group, as DingTalk documents it; None takes a field out."""
    fields: dict[str, Any] = {
        "senderPlatform": "Mac",
        "conversationId": "cid6EUxxxxsg==",
        "atUsers": [{"dingtalkId": "$:LWCP_v1:$robot", "staffId": "xxx", "unionId": "edxxx34"}],
        "chatbotCorpId": "ding9733d095",
        "chatbotUserId": "$:LWCP_v1:$robot",
        "msgId": "msgrK2xxxxU+riw==",
        "senderNick": "小钉",
        "isAdmin": True,
        "senderStaffId": "0147xxxx8602",
        "sessionWebhookExpiredTime": 1708332604316,
        "createAt": 1708327204136,
        "senderCorpId": "ding9733d095",
        "conversationType": "2",
        "senderId": "$:LWCP_v1:$sender",
        "conversationTitle": "测试群",
        "isInAtList": True,
        "sessionWebhook": "http://127.0.0.1:9/robot/sendBySession?session=66d7",
        "text": {"content": " 你好"},
        "robotCode": "dingoxxxxdm3k",
        "msgtype": "text",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def callback(data: Any, message_id: str = "frame-1") -> CallbackMessage:
    """A bot message as it comes off the connection."""
    headers = {"messageId": message_id, "topic": "/v1.0/im/bot/messages/get", "contentType": "application/json"}
    frame = {"specVersion": "1.0", "type": "CALLBACK", "headers": headers, "data": json.dumps(data)}
    return CallbackMessage.from_dict(frame)


class Peer:
    """A server that answers every request with the same bytes, or (None) takes it and never answers."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        self._sockets: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="odd-peer", daemon=True)

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            self._sockets.append(connection)
            if self._closed:
                return
            self.requests.append(_read_request(connection))
            if self._answer is not None:
                connection.sendall(self._answer)
                connection.close()

    @classmethod
    @contextmanager
    def answering(cls, answer: bytes | None) -> Iterator[Peer]:
        peer = cls(answer)
        peer._thread.start()
        try:
            yield peer
        finally:
            peer._closed = True
            socket.create_connection(peer._server.getsockname()).close()  # wakes the thread that waits for one
            peer._thread.join()
            for connection in (peer._server, *peer._sockets):
                connection.close()


class Line:
    """One connection to a `Server`, seen from there."""

    def __init__(self, sock: socket.socket, number: int, requests: list[tuple[int, bytes]]) -> None:
        self.socket, self.number = sock, number
        self._requests = requests

    def read(self) -> bytes:
        """The next request, b"" if there is none."""
        request = _read_request(self.socket)
        if request:
            self._requests.append((self.number, request))
        return request

    def send(self, data: bytes, pause: float = 0.0) -> None:
        """All at once, or byte by byte."""
        for piece in [data[at : at + 1] for at in range(len(data))] if pause else [data]:
            self.socket.sendall(piece)
            self.wait(pause)

    def wait(self, seconds: float) -> None:
        """Unless the client goes away first."""
        if seconds:
            self.socket.settimeout(seconds)
            with suppress(TimeoutError):
                if not self.socket.recv(1):
                    raise ConnectionError
            self.socket.settimeout(None)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Server:
    """A server on loopback that does with each connection what a test says, on a thread of its own."""

    def __init__(self, serve: Callable[[Line], object]) -> None:
        self._serve = serve
        self.requests: list[tuple[int, bytes]] = []  # with the number of its connection
        self.ended = 0  # connections
        self._lines: list[Line] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> Server:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._accept, name="odd-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        socket.create_connection(self._server.getsockname()).close()  # wakes the thread that waits for one
        self._thread.join()
        for line in self._lines:
            with suppress(OSError):
                line.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._server.accept()
            if self._closed:
                connection.close()
                return
            line = Line(connection, len(self._lines), self.requests)
            self._lines.append(line)
            self._threads.append(threading.Thread(target=self._run, args=(line,), name="odd-server", daemon=True))
            self._threads[-1].start()

    def _run(self, line: Line) -> None:
        try:
            self._serve(line)
        except OSError:
            pass  # the client went away
        finally:
            line.socket.close()
            self.ended += 1


def _read_request(connection: socket.socket) -> bytes:
    """A whole request, or what came of it before the connection was closed."""
    request, wanted = b"", 1
    while len(request) < wanted and (more := connection.recv(65536)):
        request += more
        head, blank, _ = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        wanted = len(head + blank) + int(length[1] if length else 0) if blank else len(request) + 1
    return request


def http(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
