"""What the stand-in DingTalk remembers: acknowledgements, calls, messages, cards with every state they had.

Pure data, times in seconds of `time.monotonic()`. Any thread may read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass
class Ack:
    code: int
    message: str
    data: str  # as it came: a JSON string
    at: float
    connection: str


@dataclass
class Call:
    """Any HTTP call but the WebSocket upgrade; the order of `calls` is that of arrival."""

    method: str
    path: str
    body: Json
    headers: Mapping[str, str]
    at: float
    status: int = 0  # until DingTalk has decided; the robot need not have heard of it
    code: str = ""
    refused: bool = False  # also by an error that comes with HTTP 200


@dataclass
class SentMessage:
    """What one conversation got to see by the robot's own message API."""

    conversation: str
    body: Json
    at: float
    kind: str
    text: str

    @property
    def mentions(self) -> list[str]:
        return []  # that API mentions nobody


@dataclass
class WebhookMessage(SentMessage):
    """The same by a session webhook."""

    @property
    def mentions(self) -> list[str]:
        """Who is told: only those that are asked for in `at` and stand in the text."""
        asked = (self.body.get("at") or {}).get("atUserIds") or []
        return [person for person in asked if re.search(rf"@{re.escape(person)}(?![A-Za-z0-9_-])", self.text)]


@dataclass
class CardState:
    """What a card looked like from `at` on."""

    at: float
    data: Json

    @property
    def text(self) -> str:
        return "\n".join(str(element.get("text", "")) for element in self._elements("markdown"))

    @property
    def buttons(self) -> list[Json]:
        return [button for element in self._elements("action") for button in element.get("actions") or []]

    def _elements(self, kind: str) -> list[Json]:
        return [element for element in self.data["contents"] if element.get("type") == kind]


@dataclass(eq=False)
class Card:
    id: str
    conversation: str
    send_body: Json
    states: list[CardState]

    @property
    def created_at(self) -> float:
        return self.states[0].at

    @property
    def title(self) -> str:
        return str(self.states[-1].data["header"].get("title", {}).get("text", ""))

    @property
    def text(self) -> str:
        return self.states[-1].text

    @property
    def buttons(self) -> list[Json]:
        return self.states[-1].buttons

    @property
    def state(self) -> str:
        """thinking, growing or final; an answer that ended without buttons cannot be told from a growing one."""
        if self.buttons:
            return "final"
        return "thinking" if len(self.states) == 1 else "growing"
