"""The echo platform: one JSON object per line over a plain socket on loopback. Owns its threads; any thread may ask.

A message goes out as `{"id", "from", "text"}` to one connection; the robot shows its answer with any number of
`{"to", "text", "final"}`. Lines that are anything else are kept as `errors`.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any


class EchoPlatform:
    """A context manager; `port` is where it listens."""

    def __init__(self) -> None:
        self.shown: dict[str, list[dict[str, Any]]] = {}  # message id -> what the robot showed, in order
        self.errors: list[str] = []
        self.on_line: Callable[[str, str], None] = lambda sender, line: None  # sender: person or robot; must be quick
        self._connections: list[socket.socket] = []
        self._changed = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def __enter__(self) -> EchoPlatform:
        threading.Thread(target=self._accept, name="echo-platform", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in [self._server, *self._connections]:
            with contextlib.suppress(OSError):  # gone already
                connection.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.wait_for(lambda: not self._connections)

    def say(self, text: str | None, sender: str = "Ann", message_id: str | None = None) -> str:
        """Send a message as a person; `None`: a picture. Returns its id."""
        message_id = message_id or uuid.uuid4().hex
        message = {"id": message_id, "from": sender} | ({} if text is None else {"text": text})
        self.send(json.dumps(message))
        return message_id

    def send(self, line: str) -> None:
        (connection,) = self.wait_for(lambda: [one for one in self._connections if _is_open(one)])
        self.on_line("person", line)
        connection.sendall(line.encode("utf-8") + b"\n")

    def drop(self) -> None:
        """Break every connection, and wait until they are gone."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the robot was quicker
                connection.shutdown(socket.SHUT_RDWR)
        self.wait_for(lambda: not self._connections)

    def connections(self) -> int:
        return len(self._connections)

    def wait_for(self, condition: Callable[[], Any], timeout: float = 10) -> Any:
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"not within {timeout} s; shown: {self.shown}"
            return condition()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # the test is over
            with self._changed:
                self._connections.append(connection)
                self._changed.notify_all()
            threading.Thread(target=self._read, args=(connection,), name="echo-platform", daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile(encoding="utf-8") as lines:
                for line in lines:
                    self.on_line("robot", line)
                    self._note(line)
        except OSError as error:
            self.errors.append(f"a connection broke: {error}")
        finally:
            with self._changed:
                self._connections.remove(connection)
                self._changed.notify_all()

    def _note(self, line: str) -> None:
        answer = json.loads(line)
        with self._changed:
            if set(answer) != {"to", "text", "final"} or not answer["text"]:
                self.errors.append(line)
            else:
                self.shown.setdefault(answer["to"], []).append(answer)
            self._changed.notify_all()


def _is_open(connection: socket.socket) -> bool:
    """Whether the robot has not closed its end: what it closes is noticed by another thread, a moment later."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return not readable or connection.recv(1, socket.MSG_PEEK) != b""
    except (OSError, ValueError):
        return False
