"""The answer to one message as a standard card, sent through the handler's methods of the reference.

Owns nothing of it. Called on the outbox's threads, one call at a time. The JSON is `cards.py`'s.
"""

from __future__ import annotations

from typing import Any, Protocol

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import Outcome, TransportError

from .cards import card_id
from .messages import key_of


class CardSender(Protocol):
    """The reference's methods, which a subclass of the handler may override."""

    def reply_card(
        self, card_data: dict[str, Any], incoming_message: ChatbotMessage, at_sender: bool = False
    ) -> str | None: ...
    def update_card(self, card_biz_id: str, card_data: dict[str, Any]) -> Any: ...
    def _create_initial_card(self, question: str) -> dict[str, Any]: ...
    def _create_streaming_card(self, content: str, question: str) -> dict[str, Any]: ...
    def _create_final_card(self, response: str, incoming_message: ChatbotMessage, text: str) -> dict[str, Any]: ...


class StandardCard:
    """Its handle is the `cardBizId`."""

    name = "standard"

    def __init__(self, sender: CardSender, message: ChatbotMessage, question: str) -> None:
        self._sender = sender
        self._message = message
        self._question = question

    @property
    def handle(self) -> str:
        """That the card has if the handler's own `reply_card` sends it."""
        return card_id(key_of(self._message), self._sender._create_initial_card(self._question))

    def open(self) -> str:
        card = self._sender._create_initial_card(self._question)
        # Somebody without a staff id cannot be @-mentioned: the send would be refused.
        mention = bool(self._message.sender_staff_id)
        sent = self._sender.reply_card(card_data=card, incoming_message=self._message, at_sender=mention)
        if not isinstance(sent, str) or not sent:
            raise TransportError(f"reply_card returned {sent!r}, which is how the SDK says that it failed")
        return sent

    def progress(self, handle: str, text: str) -> None:
        self._update(handle, self._sender._create_streaming_card(text, self._question))

    def finish(self, handle: str, text: str, outcome: Outcome) -> bool:
        if outcome == "answered":
            self._update(handle, self._sender._create_final_card(text, self._message, self._question))
        else:
            self._update(handle, self._sender._create_streaming_card(text, self._question))
        return False

    def _update(self, handle: str, card_data: dict[str, Any]) -> None:
        answer = self._sender.update_card(handle, card_data)
        if answer is None or answer == "" or isinstance(answer, int):
            raise TransportError(f"update_card returned {answer!r}, which is how the SDK says that it failed")
