"""How one DingTalk message is answered: down the ladder, by a standard card, an AI card, or in markdown.

Owns the choice between them. Called on the outbox's threads, one call at a time. How each of them looks and is sent
is the business of `standard_card.py`, `ai_card.py` and `plain.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import Outcome, ReplyRefused, Texts, Unconfirmed, markdown

from .ai_card import AiCard, is_ai_card
from .api import Api
from .ladder import Ladder
from .messages import is_group
from .plain import MAX_MARKDOWN, PlainMessages, size_of
from .standard_card import CardSender, StandardCard
from .template import Template


class ReplySender(CardSender, Protocol):
    """What a reply needs of the handler: the reference's methods, and what else to reach DingTalk by."""

    @property
    def api(self) -> Api: ...
    @property
    def ladder(self) -> Ladder: ...
    @property
    def template(self) -> Template: ...
    @property
    def rungs(self) -> Sequence[str]: ...


class DingTalkReply:
    """The `Reply` of `imRobots.Meta`. Its handle is the id of the card."""

    def __init__(self, sender: ReplySender, incoming_message: ChatbotMessage, question: str, texts: Texts) -> None:
        self.texts = texts
        self._message = incoming_message
        self._ladder = sender.ladder
        self._rungs = sender.rungs
        self._standard_card = StandardCard(sender, incoming_message, question)
        full_name, api = sender.ladder.full_name, sender.api
        self._ai_card = AiCard(full_name, api, sender.template, incoming_message, question, texts)
        self._plain = PlainMessages(full_name, api, incoming_message)
        self.card = self._ai_card.handle
        self._refused: set[str] = set()  # rungs, for this message
        self._perhaps_sent: str | None = None  # the handle of a card whose send was not confirmed
        self._parts_sent = 0

    def open(self, question: str) -> str | None:
        if not self._message.sender_staff_id and not is_group(self._message):
            return None  # a card to one person is addressed by staff id
        refused: ReplyRefused | None = None
        for card in (self._standard_card, self._ai_card):
            if card.name not in self._rungs or card.name in self._refused or not self._ladder.is_open(card.name):
                continue
            if self._perhaps_sent and self._perhaps_sent != card.handle:  # no second card beside one that may be there
                continue
            try:
                handle = card.open()
            except Unconfirmed:
                self._perhaps_sent = card.handle
                raise
            except ReplyRefused as refusal:
                self._note(card.name, refusal)
                self._refused.add(card.name)
                refused = refusal
            else:
                self._ladder.note_success(card.name)
                return handle
        if refused:
            raise refused
        return None

    def progress(self, handle: str, text: str) -> None:
        try:
            self._card(handle).progress(handle, text)
        except ReplyRefused as refusal:
            self._note_template(refusal)
            raise

    def finish(self, handle: str | None, text: str, outcome: Outcome) -> bool:
        if handle is None and self._perhaps_sent:
            try:
                return self.finish(self._perhaps_sent, text, outcome)
            except ReplyRefused:
                self._perhaps_sent = None  # so it was not
        if handle is None:
            return self._finish_in_markdown(text)
        try:
            return self._card(handle).finish(handle, text, outcome)
        except ReplyRefused as refusal:
            self._note_template(refusal)
            raise

    def say(self, sentence: str) -> None:
        self._plain.send("text", sentence, mention=True)

    def _card(self, handle: str) -> StandardCard | AiCard:
        return self._ai_card if is_ai_card(handle) else self._standard_card

    def _finish_in_markdown(self, text: str) -> bool:
        """What people cannot read in cards already, a part for each call."""
        rest = text if self._ai_card.rest is None else self._ai_card.rest
        parts = markdown.split(rest, MAX_MARKDOWN, size_of)
        if not self._parts_sent:
            self._ai_card.leave()
        if not parts:
            return False
        self._plain.send("markdown", parts[self._parts_sent], mention=self._parts_sent == 0)
        self._parts_sent += 1
        return self._parts_sent < len(parts)

    def _note_template(self, refusal: ReplyRefused) -> None:
        """Of what an update can be refused for, only this says something about the next card."""
        if refusal.cause == "template":
            self._note(self._ai_card.name, refusal)

    def _note(self, rung: str, refusal: ReplyRefused) -> None:
        self._ladder.note_refusal(rung, refusal, str(self._message.conversation_id))
