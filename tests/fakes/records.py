"""What the stand-in DingTalk remembers: acknowledgements, calls, messages, cards with every state they had.

Pure data, times in seconds of `time.monotonic()`. Any thread may read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]
# A template names its variables as it likes; these names are the usual ones, the first that it has counts.
TITLES = ("msgTitle", "title")
TEXTS = ("msgContent", "content")
NOTES = ("staticMsgContent", "note")


def json_object(text: Any) -> Json:
    """Strict: one object, and none of the constants that only Python knows."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    value = json.loads(text, parse_constant=refuse) if isinstance(text, str) else None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def json_or_nothing(text: Any) -> Json:
    try:
        return json_object(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):
        return {}


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
    def labels(self) -> list[str]:
        return [button["label"]["text"] for button in self.buttons]

    @property
    def state(self) -> str:
        """thinking, growing or final; an answer that ended without buttons cannot be told from a growing one."""
        if self.buttons:
            return "final"
        return "thinking" if len(self.states) == 1 else "growing"


@dataclass
class Template:
    """What a card of this template can show; all else that it is given is kept and never shown."""

    variables: dict[str, str]  # name -> markdown, text, status, buttonGroup or json
    published: bool = True
    title: str = ""  # the variables that are these, if they have no usual names
    note: str = ""


@dataclass(frozen=True)
class TemplateCardState:
    """What a template card looked like from `at` on: to everybody, or to one person if it comes from `view`."""

    at: float
    template: Template
    data: dict[str, str]
    private: dict[str, dict[str, str]] = field(default_factory=dict)  # userId -> what only this person sees
    flow_status: str = ""
    streamed: str = ""  # the variable that was streamed first
    finalized: bool = False  # a streaming call said so, with or without an effect on flow_status
    failed: bool = False  # the same

    @property
    def title(self) -> str:
        return self._first([self.template.title, *TITLES])

    @property
    def text(self) -> str:
        variables = self.template.variables
        notes = (self.template.note, *NOTES)
        others = [name for name, kind in variables.items() if kind == "markdown" and name not in notes]
        return self._first([self.streamed, *TEXTS, *others])

    @property
    def note(self) -> str:
        return self._first([self.template.note, *NOTES])

    @property
    def buttons(self) -> list[Json]:
        """Each as it was given, and with `id`, `text`, `request` (does a click ask the robot?) and `params`."""
        buttons: list[Json] = []
        for name, kind in self.template.variables.items():
            if kind == "buttonGroup":
                buttons += _group_buttons(self.data.get(name))
            elif kind == "json":
                buttons += _message_buttons(self.data.get(name))
        return buttons

    @property
    def labels(self) -> list[str]:
        return [button["text"] for button in self.buttons]

    @property
    def outcome(self) -> str:
        """final or failed, "" before the end. What streaming calls said counts only where no flow status could."""
        if self.flow_status or "flowStatus" in self.template.variables:
            return {"3": "final", "5": "failed"}.get(self.flow_status, "")
        return "failed" if self.failed else "final" if self.finalized else ""

    def _first(self, names: Any) -> str:
        return next((self.data.get(name, "") for name in names if name in self.template.variables), "")


@dataclass(eq=False)
class TemplateCard:
    """A card of a template; it reads like a standard one, and more can be asked."""

    id: str
    conversation: str
    send_body: Json
    states: list[TemplateCardState]

    @property
    def callback_type(self) -> str:
        return str(self.send_body.get("callbackType", ""))

    @property
    def mentions(self) -> list[str]:
        return list((self.send_body.get("imGroupOpenDeliverModel") or {}).get("atUserIds") or {})

    @property
    def created_at(self) -> float:
        return self.states[0].at

    @property
    def title(self) -> str:
        return self.states[-1].title

    @property
    def text(self) -> str:
        return self.states[-1].text

    @property
    def note(self) -> str:
        return self.states[-1].note

    @property
    def buttons(self) -> list[Json]:
        return self.states[-1].buttons

    @property
    def labels(self) -> list[str]:
        return self.states[-1].labels

    @property
    def flow_status(self) -> str:
        return self.states[-1].flow_status

    @property
    def finalized(self) -> bool:
        return self.states[-1].finalized

    @property
    def state(self) -> str:
        """thinking, growing, final or failed."""
        return self.states[-1].outcome or ("thinking" if len(self.states) == 1 else "growing")

    def view(self, person_staff_id: str) -> TemplateCardState:
        """What this person sees: the private data lies over the public data."""
        state = self.states[-1]
        return replace(state, data=state.data | state.private.get(person_staff_id, {}))


AnyCard = Card | TemplateCard


@dataclass(frozen=True)
class Click:
    card: AnyCard
    button: Json
    person: str
    delivered: bool  # DingTalk pushed it
    frame_id: str
    data: Json = field(default_factory=dict)  # what it pushed


def _message_buttons(text: Any) -> list[Json]:
    """Those of the SDK's template. An `order` that does not name them hides them."""
    parts = json_or_nothing(text)
    items = parts.get("msgButtons")
    if not isinstance(items, list) or "msgButtons" not in (parts.get("order") or ["msgButtons"]):
        return []
    return [
        {"params": {}, **item, "request": item.get("request") is True}
        for item in items
        if isinstance(item, dict) and isinstance(item.get("id"), str) and isinstance(item.get("text"), str)
    ]


def _group_buttons(text: Any) -> list[Json]:
    """Those of a variable of the kind buttonGroup; a link is a button, too, but the robot hears nothing of it."""
    items = json_or_nothing(f'{{"items": {text}}}').get("items")
    buttons: list[Json] = []
    for item in items if isinstance(items, list) else []:
        event = item.get("event") if isinstance(item, dict) else None
        if not isinstance(event, dict) or not isinstance(item.get("text"), str):
            continue
        given = event.get("params")
        given = given if isinstance(given, dict) else {}
        action, params = given.get("actionId"), given.get("params")
        asks = event.get("type") == "sendCardRequest" and isinstance(action, str)
        button = {"id": action if asks else "", "request": asks, "params": params if isinstance(params, dict) else {}}
        buttons.append(item | button)
    return buttons
