"""The answer to one message as an AI card: opened, streamed, ended with buttons, gone on with in further cards.

Owns what of it is out already. Called on the outbox's threads, one call at a time. The JSON is `template.py`'s.
"""

from __future__ import annotations

import hashlib
import json
import uuid

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import IMRobotError, Outcome, ReplyRefused, Texts, Unconfirmed, log, markdown

from .api import Api
from .messages import is_group, key_of
from .template import (
    FAILED,
    FINISHED,
    GROWING,
    Template,
    delivery,
    delivery_to_person,
    stop_button,
    update,
)

_PREFIX = "ai-"
_LEAST_BYTES = 500  # below, DingTalk's own advice of 1 KB would have to be wrong
_EARLIER = "…\n\n"
# Codes of DingTalk's card APIs (dingtalk "create-and-deliver-cards", "api-streamingupdate").
_TOO_LARGE = "param.stream.content"
_GONE = "param.stream.outTrackId"
_THERE_ALREADY = "param.cardAlreadyExist"


def is_ai_card(handle: str) -> bool:
    return handle.startswith(_PREFIX)


def first_card_of(card_id: str) -> str:
    """The handle of the answer that this card belongs to: a long one goes on in further cards."""
    return card_id.partition(".")[0] if is_ai_card(card_id) else card_id


class AiCard:
    """A card of DingTalk's public AI template, or of one like it. Its handle is the first card's `outTrackId`."""

    name = "ai"

    def __init__(
        self,
        full_name: str,
        api: Api,
        template: Template,
        message: ChatbotMessage,
        question: str,
        texts: Texts,
    ) -> None:
        """`full_name`: the element's, for the log."""
        self._full_name = full_name
        self._api = api
        self._template = template
        self._message = message
        self._question = question
        self._texts = texts
        self._is_mine = False  # opened here, and not by a process that was killed
        self._parts: list[str] = []  # of the last word, a card for each
        self._is_unsure = False  # a streaming call went out unconfirmed
        self._is_perhaps_streamed = False  # the first part
        self._is_streamed = False  # the same for certain, or it cannot be
        self._is_text_missing = False  # or may be
        self._is_ended = False  # the first card
        self._out = 0  # parts that people can read

    @property
    def handle(self) -> str:
        """The same for the same message and template, so that a card which is sent again does not come twice."""
        key = json.dumps([key_of(self._message), self._template.id, repr(self._template.names)], ensure_ascii=False)
        return _PREFIX + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:40]

    @property
    def rest(self) -> str | None:
        """What people cannot read yet of the last word; None as long as they can read nothing of it."""
        return "\n\n".join(self._parts[self._out :]) if self._out else None

    def open(self) -> str:
        # Whoever has no staff id here, has one in a click, and would not be known as the asker.
        buttons = [stop_button(self._texts)] if self._message.sender_staff_id else []
        variables = self._template.variables(GROWING, buttons, title=self._question, content=self._texts.thinking)
        self._deliver(self.handle, variables, mention=True)
        self._is_mine = True
        return self.handle

    def progress(self, handle: str, text: str) -> None:
        self._check(handle)
        parts = self._split(text, less=_bytes(_EARLIER))
        # Of a long answer, the end grows. All of it is shown when it has ended, in several cards.
        self._stream(handle, (_EARLIER if len(parts) > 1 else "") + parts[-1], is_finalize=False, is_error=False)

    def finish(self, handle: str, text: str, outcome: Outcome) -> bool:
        """One call's worth of the last word; True as long as there is more. Then, it shows the first card anew."""
        self._check(handle)
        if not self._parts:
            self._parts = self._split(text)
        if not self._is_streamed:
            self._finish_streaming(handle, text, outcome)
            return True
        if not self._is_ended or self._out == len(self._parts):
            self._end(handle, outcome)
        else:
            self._go_on(handle, outcome)
        return self._out < len(self._parts)

    def _check(self, handle: str) -> None:
        if handle != self.handle:  # its variables have other names, and DingTalk would not say that they are wrong
            raise ReplyRefused("the card was opened with another template, before the configuration changed")

    def leave(self) -> None:
        """The answer goes out in another way: take the Stop button off a card that is there, if that can be done."""
        if self._is_mine and not self._is_streamed:
            try:
                self._api.update_instance(update(self.handle, self._template.variables(FINISHED, [])))
            except IMRobotError as error:
                log.debug(f"{self._full_name}: a card was left as it was: {error}")

    def _finish_streaming(self, handle: str, text: str, outcome: Outcome) -> None:
        failed = outcome == "failed"
        try:
            self._stream(handle, self._parts[0], is_finalize=not failed, is_error=failed)
        except Unconfirmed:
            self._is_perhaps_streamed = True
            raise
        except ReplyRefused as refusal:
            if refusal.code == _TOO_LARGE and _bytes(self._parts[0]) > self._template.max_bytes:
                self._parts = self._split(text)
                return
            if refusal.cause == "template":
                raise
            # Without the permission to stream, and where the streaming has ended already, an update does it.
            log.warning(f"{self._full_name}: a last word was not streamed, and goes out as an update: {refusal}")
            self._is_text_missing = True
            self._out = int(self._is_perhaps_streamed and refusal.cause == "message")  # the first try was carried out
        else:
            self._out = 1
        self._is_streamed = True

    def _end(self, handle: str, outcome: Outcome) -> None:
        """State and buttons of the first card. Its text too, where it was not streamed, or an older one came later."""
        text = None if self._out and not self._is_text_missing and not self._is_ended else self._parts[0]
        variables = self._variables(text, outcome, self._question, is_last=len(self._parts) == 1)
        try:
            self._api.update_instance(update(handle, variables))
        except ReplyRefused as refusal:
            if not self._out:
                raise
            what = "a card has its last word, and the buttons below it are those of a growing one"
            log.warning(f"{self._full_name}: {what}: {refusal}")
        self._is_ended, self._out = True, max(1, self._out)

    def _go_on(self, handle: str, outcome: Outcome) -> None:
        """The next part, in a card of its own."""
        is_last = self._out + 1 == len(self._parts)
        variables = self._variables(self._parts[self._out], outcome, "", is_last)
        self._deliver(f"{handle}.{self._out}", variables, mention=False)
        self._out += 1

    def _variables(self, text: str | None, outcome: Outcome, title: str, is_last: bool) -> dict[str, str]:
        is_known = bool(self._message.sender_staff_id)
        buttons = self._template.end_buttons(self._texts, outcome, for_asker=is_known) if is_last else []
        return self._template.variables(FAILED if outcome == "failed" else FINISHED, buttons, title=title, content=text)

    def _split(self, text: str, less: int = 0) -> list[str]:
        return markdown.split(text, self._template.max_bytes - less, _bytes) or ["…"]

    def _stream(self, handle: str, text: str, *, is_finalize: bool, is_error: bool) -> None:
        content = self._template.names.content
        body = {
            "outTrackId": handle,
            "guid": uuid.uuid4().hex,
            "key": content,
            "content": text,
            "isFull": True,
            "isFinalize": is_finalize,
            "isError": is_error,
        }
        try:
            self._api.stream_card(body)
        except Unconfirmed:
            self._is_unsure = True
            raise
        except ReplyRefused as refusal:
            is_new = self._is_mine and not self._is_unsure and not self._template.is_proven
            if refusal.code == _TOO_LARGE:
                smaller = max(_LEAST_BYTES, _bytes(text) // 2)
                self._template.max_bytes = min(self._template.max_bytes, smaller)
            elif refusal.cause in ("message", "unknown") and refusal.code != _GONE and is_new:
                # How a variable that the template does not have is refused is not documented. A card that has just been
                # opened can be refused a text for hardly anything else.
                what = f"see that the template {self._template.id} has a variable {content} of the type markdown"
                keys = "cardTemplateId and cardVariables"
                raise ReplyRefused(f"{refusal}; {what}, or correct {keys}", refusal.code, "template") from None
            raise
        self._template.is_proven = True

    def _deliver(self, card_id: str, variables: dict[str, str], *, mention: bool) -> None:
        robot_code, person = self._api.credential.client_id, self._message.sender_staff_id
        if is_group(self._message):
            told = {str(person): str(self._message.sender_nick or person)} if mention and person else {}
            place = self._message.conversation_id
            body = delivery(self._template.id, card_id, variables, robot_code, str(place), told)
        else:
            body = delivery_to_person(self._template.id, card_id, variables, robot_code, str(person))
        try:
            self._api.deliver_card(body)
        except ReplyRefused as refusal:
            if refusal.code == _THERE_ALREADY:
                log.info(f"{self._full_name}: a card was there already: its send had seemed to fail")
                return
            if refusal.cause == "template":
                what = f"see that the template {self._template.id} exists and is published, or correct cardTemplateId"
                raise ReplyRefused(f"{refusal}; {what}", refusal.code, "template") from None
            raise


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
