"""A DingTalk on the desk: people and chats, messages as DingTalk words them, cards as it draws them, and its troubles.

Owns the stand-in gateway. What happens there comes to the desk on the gateway's thread; people and switches act on any.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from dingtalk_stream import utils

from tests.fakes.clicks import find_button, is_pushed
from tests.fakes.gateway import CREATE_CARD, SEND_CARD, Gateway, NobodyListens, Template
from tests.fakes.records import AnyCard, Json, SentMessage, TemplateCard, TemplateCardState

from ..changes import PICTURE_LINE, VOICE_SECONDS
from ..desk import Button, Desk, Message, Shown, View
from ..platforms import Trouble, config_text, mention_of, rendered, variable_of, variables_in
from .wire import Wire

GROUP, SINGLE = "group", "single"
_LATENCY, _SLOW = 0.05, 1.5  # seconds of a call
_THROTTLE = 2  # calls of an API in a second
_CODE = "sandboxDownloadCode"
_VOICE = {"duration": VOICE_SECONDS * 1000, "downloadCode": _CODE}
_PICTURE = {"pictureDownloadCode": _CODE, "downloadCode": _CODE}
_CLICK_SECONDS = 3.0
_CREDENTIALS = {"DINGTALK_CLIENT_ID": "ding-demo", "DINGTALK_CLIENT_SECRET": "demo-secret"}
# What `cardVariables` in config.json are without more.
_VARIABLES = {
    "content": "msgContent",
    "title": "msgTitle",
    "note": "staticMsgContent",
    "buttons": "sys_full_json_obj",
    "status": "flowStatus",
}


class DingTalk:
    name = "DingTalk"
    robot = "imRobots"
    quotes = True
    notice = ()

    def __init__(self, desk: Desk, element: str) -> None:
        self.people = {"Ann": "admin", "Ben": "", "王芳": "", "Eva": "outside"}
        # DingTalk hands a robot voice messages one-to-one only (dingtalk "receive-message").
        self.kinds = {GROUP: ("text", "rich", "picture"), SINGLE: ("text", "rich", "voice", "picture")}
        self.settings = {"cardType": ("ai", "standard", "markdown")}
        self._desk = desk
        self.config = _without_network(config_text(element))
        self._env_vars = {name: _CREDENTIALS.get(name, os.environ.get(name)) for name in variables_in(self.config)}
        for key, value in zip(("clientId", "clientSecret"), _CREDENTIALS.values(), strict=True):
            if name := variable_of(key, self.config):
                self._env_vars[name] = value
        self.gateway = _gateway_for(rendered(self.config, self._env_vars))
        self._chats = {self.gateway.group: (GROUP, "")}
        self._chats |= {self.gateway.one_to_one(person): (SINGLE, person) for person in self.people}
        self._ended = ExitStack()
        self._last = ""
        self.pushes: dict[str, Callable[[], None]] = {
            "drop": self.gateway.drop_connections,
            "disconnect": lambda: self._heard(lambda: self.gateway.system("disconnect")),
            "expire": self.gateway.expire_tokens,
            "redeliver": self._redeliver,
        }
        self.toggles: dict[str, Callable[[bool], None]] = {
            "slow": self._slow_down,
            "throttle": self._throttle,
            "refuse": self._refuse_cards,
        }

    def __enter__(self) -> DingTalk:
        self.gateway.on_change, self.gateway.on_message = self._show_card, self._show_message
        self._ended.enter_context(self.gateway)
        self._ended.enter_context(mock.patch.object(utils, "DINGTALK_OPENAPI_ENDPOINT", self.gateway.url))
        self._ended.enter_context(mock.patch.dict(os.environ, no_proxy="*"))  # none of them would find this computer
        self._ended.enter_context(Wire(self._desk, [self.gateway.client_secret]))
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.close()

    def env_vars(self) -> dict[str, Any]:
        """The credentials are the sandbox's own; all else is of the environment, if it is there."""
        return {name: value for name, value in self._env_vars.items() if value is not None}

    # ---- people

    def say(self, message: Message) -> None:
        self._desk.show(message)
        if not message.heard:
            return
        in_group = message.chat == GROUP
        text = mention_of(self.robot).sub("", message.text).strip()
        self._last = message.id
        is_outside = self.people[message.person] == "outside"
        self._heard(
            lambda: self.gateway.say(
                text,
                sender=message.person,
                group=in_group,
                staff=not is_outside,
                message_id=message.id,
                conversationTitle=self.robot if in_group else None,
                isAdmin=None if is_outside else self.people[message.person] == "admin",
                **self._payload(message, f" {text}" if in_group else text),
            )
        )

    def click(self, entry_id: str, button: str, person: str) -> None:
        if person not in self.people:
            raise Trouble("notPushed")
        card = self.gateway.cards.get(entry_id)
        if card is not None and not isinstance(card, TemplateCard):
            raise Trouble("nothingComes")
        try:
            frame_id = self.gateway.click(card, button, person) if card else ""
        except AssertionError:  # the button is gone in this very moment
            raise Trouble("notPushed") from None
        if not frame_id:  # nobody to push it to, or the button asks nobody
            is_asking = card and is_pushed(card, find_button(card, button, f"staff-{person}"))
            raise Trouble("nobodyListens" if is_asking else "notPushed")
        try:
            self.gateway.wait_for(lambda: frame_id in self.gateway.acks, _CLICK_SECONDS)
        except AssertionError:
            raise Trouble("robotSilent") from None

    def _payload(self, message: Message, text: str) -> Json:
        """What tells this kind of message from a text, and what it answers to (dingtalk "receive-message")."""
        quote = self._quote(message.quote)
        if message.kind == "rich":
            return {"msgtype": "richText", "text": None, "content": {"richText": _rich_text(text), **quote}}
        if message.kind == "voice":
            return {"msgtype": "audio", "text": None, "content": {**_VOICE, "recognition": text.strip()}}
        if message.kind == "picture":
            return {"msgtype": "picture", "text": None, "content": _PICTURE}
        return {"text": {"content": text, **quote}} if quote else {}

    def _quote(self, entry_id: str) -> Json:
        """As other projects have met it: nothing of it is documented."""
        entry = self._desk.entry(entry_id)
        if entry is None:
            return {}
        content: Json | None
        if isinstance(entry, Shown):  # of a robot's card DingTalk tells no content
            kind, content = ("interactiveCard", None) if entry.kind == "card" else ("text", {"text": entry.view.text})
        elif entry.kind == "rich":
            texts = [{"msgType": "text", "content": line} for line in entry.text.split("\n") if line != PICTURE_LINE]
            kind, content = "richText", {"richText": texts}
        elif entry.kind == "voice":
            kind, content = "audio", {**_VOICE, "recognition": entry.text}
        elif entry.kind == "picture":
            kind, content = "picture", {"downloadCode": _CODE}
        else:
            kind, content = "text", {"text": entry.text}
        sender = entry.person if isinstance(entry, Message) else "robot"
        replied = {"msgType": kind, "msgId": entry_id, "senderId": f"$:LWCP_v1:${sender}"}
        return {"isReplyMsg": True, "repliedMsg": replied | ({} if content is None else {"content": content})}

    # ---- what the robot shows

    def _show_card(self, card: AnyCard) -> None:
        chat, person = self._chats.get(card.conversation, (GROUP, ""))
        views, mentions = {}, []
        if isinstance(card, TemplateCard):
            private, mentions = card.states[-1].private, card.mentions
            views = {one: _view(card.view(f"staff-{one}")) for one in self.people if f"staff-{one}" in private}
        else:
            mentions = _mentioned(card.send_body)
        self._desk.show(
            Shown(
                card.id,
                chat,
                person,
                "card",
                _view(card.states[-1] if isinstance(card, TemplateCard) else card),
                views,
                look="ai" if isinstance(card, TemplateCard) else "standard",
                state=card.state,  # type: ignore[arg-type]
                mentions=_names(mentions),
                at=time.time() - (time.monotonic() - card.created_at),
            )
        )

    def _show_message(self, message: SentMessage) -> None:
        chat, person = self._chats.get(message.conversation, (GROUP, ""))
        # Who is mentioned stands in the text; DingTalk puts the name in the place of the id.
        view = View(message.text.replace("@staff-", "@"), is_markdown=message.kind == "markdown")
        self._desk.show(Shown(uuid.uuid4().hex, chat, person, "message", view))

    # ---- troubles

    def _heard(self, push: Callable[[], object]) -> None:
        try:
            push()
        except NobodyListens:
            raise Trouble("nobodyListens") from None

    def _redeliver(self) -> None:
        if not self._last:
            raise Trouble("noMessageYet")
        self._heard(lambda: self.gateway.redeliver(self._last))

    def _slow_down(self, on: bool) -> None:
        self.gateway.latency = _SLOW if on else _LATENCY

    def _throttle(self, on: bool) -> None:
        self.gateway.throttle = _THROTTLE if on else None

    def _refuse_cards(self, on: bool) -> None:
        self.gateway.calm()
        for path in (SEND_CARD, CREATE_CARD) if on else ():
            code = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
            self.gateway.refuse(path, status=403, code=code, times=float("inf"), message="the sandbox's switch")


def _without_network(config: str) -> str:
    """A proxy would not find this computer."""
    try:
        keys = json.loads(config)
        kept = {key: value for key, value in keys.items() if key not in ("proxy", "caFile")}
    except (ValueError, AttributeError):  # no JSON, or no object: the robot says so
        return config
    return config if kept == keys else json.dumps(kept, ensure_ascii=False, indent=2)


def _gateway_for(config: Json) -> Gateway:
    """One that knows this instance's credentials and template."""
    client_id, secret = (str(config.get(key, "")) for key in ("clientId", "clientSecret"))
    gateway = Gateway(client_id=client_id.strip(), client_secret=secret.strip(), latency=_LATENCY)
    given = config.get("cardVariables")
    names = _VARIABLES | (given if isinstance(given, dict) else {})
    template = config.get("cardTemplateId")
    if isinstance(template, str) and template not in gateway.templates:
        buttons = "json" if names["buttons"] == _VARIABLES["buttons"] else "buttonGroup"
        kinds = {"content": "markdown", "title": "text", "note": "text", "buttons": buttons, "status": "status"}
        variables = {names[key]: kind for key, kind in kinds.items() if names[key]}
        gateway.templates[template] = Template(variables, title=names["title"], note=names["note"])
    return gateway


def _rich_text(text: str) -> list[Json]:
    lines = [line for line in text.split("\n") if line.strip()]
    return [{"type": "picture", **_PICTURE} if line.strip() == PICTURE_LINE else {"text": line} for line in lines]


def _view(seen: Any) -> View:
    """Of a standard card, or of a template card's state."""
    note = seen.note if isinstance(seen, TemplateCardState) else ""
    ids = [str(button.get("id", "")) for button in seen.buttons]
    buttons = tuple(Button(button_id, label) for button_id, label in zip(ids, seen.labels, strict=True))
    return View(seen.text, seen.title, note, buttons)


def _names(staff_ids: list[str]) -> tuple[str, ...]:
    return tuple(staff_id.removeprefix("staff-") for staff_id in staff_ids)


def _mentioned(send_body: Json) -> list[str]:
    people = json.loads((send_body.get("sendOptions") or {}).get("atUserListJson", "[]"))
    return [person["userId"] for person in people]
