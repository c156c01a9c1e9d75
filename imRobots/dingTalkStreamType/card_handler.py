"""Clicks on cards: taken off the Stream connection, carried out by the robot, acknowledged with what the person sees.

Owns the time that this may take. Its `async` methods run on the Stream connection's loop and never block it.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from dingtalk_stream import AckMessage, CallbackHandler, CallbackMessage

from imRobots.Meta import Click, Clicked, ClickRefused, IMRobotError, log

from .ai_card import first_card_of, is_ai_card
from .api import Api
from .clicks import read_click
from .logs import library_log
from .template import Json, Template, response, update_for

# DingTalk waits for 2 s (dingtalk "event-callback-card"). The way there and back takes some of them.
_SECONDS = 1.5


class CardHandler(CallbackHandler):
    """Registered for the topic of card callbacks, beside the `TextHandler`, which makes it."""

    def __init__(
        self, full_name: str, template: Template, api: Callable[[], Api], click: Callable[[Click], Future[Clicked]]
    ) -> None:
        """`full_name`: the element's. `click` is the robot's; it raises `ClickRefused` if there is none."""
        super().__init__()
        self.logger = library_log
        self._full_name = full_name
        self._template = template
        self._api = api
        self._click = click
        self._one_at_a_time = threading.Lock()

    async def raw_process(self, callback_message: CallbackMessage) -> AckMessage:
        ack: AckMessage = await super().raw_process(callback_message)
        ack.message = "OK" if ack.code == AckMessage.STATUS_OK else "refused"
        return ack

    async def process(self, message: CallbackMessage) -> tuple[int, Json]:
        """Carry out a click; returns the status and what the acknowledgement's `response` says.

        `(AckMessage.STATUS_BAD_REQUEST, {})` for a click that is refused. Never raises.
        """
        try:
            click = read_click(message.data)
            future = self._click(replace(click, card=first_card_of(click.card)))
            try:
                clicked = await asyncio.wait_for(asyncio.wrap_future(future), _SECONDS)
            except asyncio.TimeoutError:
                future.add_done_callback(functools.partial(self._show_late, click))
                return AckMessage.STATUS_OK, {}
        except ClickRefused as refusal:
            log.warning(f"{self._full_name}: a click was refused: {refusal}")
            return AckMessage.STATUS_BAD_REQUEST, {}
        return AckMessage.STATUS_OK, response(self._view(click, clicked))

    def _view(self, click: Click, clicked: Clicked) -> dict[str, str]:
        if not is_ai_card(click.card):  # a standard card has nothing that only one person sees
            return {}
        return self._template.view(clicked.texts, clicked.note, clicked.rating)

    def _show_late(self, click: Click, future: Future[Clicked]) -> None:
        """The acknowledgement is out, so it takes a call of its own. On a thread that must not block."""
        if error := future.exception():
            log.warning(f"{self._full_name}: a click was refused: {error}")
        elif view := self._view(click, future.result()):
            body = update_for(click.card, click.person, view)
            threading.Thread(target=self._update, args=(body,), name="imRobots-click", daemon=True).start()

    def _update(self, body: Json) -> None:
        try:
            with self._one_at_a_time:  # clicks are late by the crowd, and this is not paced by the outbox
                self._api().update_instance(body)
        except IMRobotError as error:
            log.info(f"{self._full_name}: what a click came to was not shown: {error}")
