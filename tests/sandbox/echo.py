"""The echo platform on the desk, and what a new platform's stand-in needs at least to be seen in the sandbox.

Owns the platform. What the robot sends comes to the desk on a thread of the platform; people act on any thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.echo.echo_platform import EchoPlatform

from .desk import Desk, Message, Shown, State, View
from .platforms import Trouble, config_text


class Echo:
    name = "Echo"
    robot = ""  # there is nobody else to speak to
    quotes = False
    notice = ()

    def __init__(self, desk: Desk, element: str) -> None:
        self.people = {"Ann": "", "Ben": "", "王芳": ""}
        self.kinds = {"single": ("text", "picture")}
        self.config = config_text(element)
        self._desk = desk
        self._platform = EchoPlatform()
        self._platform.on_line = self._show
        self._asked: dict[str, Message] = {}
        self._last = ""
        self.settings: dict[str, Any] = {}
        self.pushes: dict[str, Callable[[], None]] = {"drop": self._platform.drop, "redeliver": self._redeliver}
        self.toggles: dict[str, Callable[[bool], None]] = {}

    def __enter__(self) -> Echo:
        self._platform.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._platform.__exit__()

    def env_vars(self) -> dict[str, Any]:
        return {"ECHO_PORT": self._platform.port}

    def say(self, message: Message) -> None:
        self._desk.show(message)
        self._asked[message.id] = message
        self._last = message.id
        self._send(message)

    def click(self, entry_id: str, button: str, person: str) -> None:
        raise Trouble("notPushed")  # this platform has no buttons

    def _redeliver(self) -> None:
        if not self._last:
            raise Trouble("noMessageYet")
        self._send(self._asked[self._last])

    def _send(self, message: Message) -> None:
        if not self._platform.connections():
            raise Trouble("nobodyListens")
        text = None if message.kind == "picture" else message.text
        self._platform.say(text, message.person, message.id)

    def _show(self, sender: str, line: str) -> None:
        now, data = time.monotonic(), json.loads(line)
        if sender == "person":
            self._desk.frame("in", "message", data, now)
            self._desk.mark(data["id"], "received", now, str(data.get("text", "")))
            return
        self._desk.frame("out", "answer", data, now)
        if data["to"] not in self._asked:
            return  # of an earlier sandbox
        answer_id, person = f"to-{data['to']}", self._asked[data["to"]].person
        is_first, is_final = self._desk.entry(answer_id) is None, data["final"]
        if is_first:
            self._desk.mark(data["to"], "first", now)
        if is_final or not is_first:
            self._desk.mark(data["to"], "final" if is_final else "update", now)
        state: State = "final" if is_final else "thinking" if is_first else "growing"
        self._desk.show(Shown(answer_id, "single", person, "card", View(data["text"]), state=state))
