"""How one DingTalk message is answered: by a standard card, or, where no card can be sent, through its webhook.

Owns the choice between the two. Called on the outbox's threads. Does not build cards (`cards.py`) and does not send
them: cards go out through the handler's `reply_card` and `update_card`, so that a subclass can override both.
"""

from __future__ import annotations

from typing import Any, Protocol

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import Outcome, ReplyRefused, Texts, TransportError

from .api import Api
from .cards import split_markdown
from .messages import is_group

# What the chat list shows of a markdown message.
_TITLE_LENGTH = 30


class CardSender(Protocol):
    """What a reply needs of the handler: the reference's methods."""

    api: Api

    def reply_card(
        self, card_data: dict[str, Any], incoming_message: ChatbotMessage, at_sender: bool = False
    ) -> str | None: ...
    def update_card(self, card_biz_id: str, card_data: dict[str, Any]) -> Any: ...
    def _create_initial_card(self, question: str) -> dict[str, Any]: ...
    def _create_streaming_card(self, content: str, question: str) -> dict[str, Any]: ...
    def _create_final_card(self, response: str, incoming_message: ChatbotMessage, text: str) -> dict[str, Any]: ...


class DingTalkReply:
    """The `Reply` of `imRobots.Meta`. Its handle is the card's `cardBizId`."""

    def __init__(self, sender: CardSender, incoming_message: ChatbotMessage, question: str, texts: Texts) -> None:
        self.texts = texts
        self._sender = sender
        self._message = incoming_message
        self._question = question
        self._first_card: dict[str, Any] = {}
        self._parts_sent = 0

    def open(self, question: str) -> str | None:
        has_staff_id = bool(self._message.sender_staff_id)
        if not has_staff_id and not is_group(self._message):
            return None  # a card to one person is addressed by staff id
        self._first_card = self._first_card or self._sender._create_initial_card(question)
        # Somebody without a staff id cannot be @-mentioned: the send would be refused.
        card_biz_id = self._sender.reply_card(
            card_data=self._first_card,
            incoming_message=self._message,
            at_sender=has_staff_id,
        )
        if not isinstance(card_biz_id, str) or not card_biz_id:
            raise TransportError(f"reply_card returned {card_biz_id!r}, which is how the SDK says that it failed")
        return card_biz_id

    def progress(self, handle: str, text: str) -> None:
        self._update(handle, self._sender._create_streaming_card(text, self._question))

    def finish(self, handle: str | None, text: str, outcome: Outcome) -> None:
        if handle is None:
            parts = split_markdown(text)
            for part in parts[self._parts_sent :]:  # when it is tried again, what was sent already is not
                self._post("markdown", {"title": part.strip().split("\n")[0][:_TITLE_LENGTH], "text": part})
                self._parts_sent += 1
        elif outcome == "answered":
            self._update(handle, self._sender._create_final_card(text, self._message, self._question))
        else:
            self._update(handle, self._sender._create_streaming_card(text, self._question))

    def say(self, sentence: str) -> None:
        self._post("text", {"content": sentence})

    def _update(self, card_biz_id: str, card_data: dict[str, Any]) -> None:
        answer = self._sender.update_card(card_biz_id, card_data)
        if answer is None or answer == "" or isinstance(answer, int):
            raise TransportError(f"update_card returned {answer!r}, which is how the SDK says that it failed")

    def _post(self, kind: str, content: dict[str, str]) -> None:
        webhook = self._message.session_webhook
        if not webhook or not isinstance(webhook, str):
            raise ReplyRefused("the message carries no session webhook to answer through")
        body: dict[str, Any] = {"msgtype": kind, kind: content}
        if self._message.sender_staff_id:
            body["at"] = {"atUserIds": [self._message.sender_staff_id]}
        self._sender.api.post_to_webhook(webhook, body)
