"""How one DingTalk message is answered: by a standard card, else in markdown, through its webhook or as the robot.

Owns the choice between them. Called on the outbox's threads. Does not build cards (`cards.py`) and does not send
them: cards go out through the handler's `reply_card` and `update_card`, so that a subclass can override both.
"""

from __future__ import annotations

from typing import Any, Protocol

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import Outcome, ReplyRefused, Texts, TransportError, Unconfirmed

from .api import Api
from .cards import card_id, split_markdown, to_json
from .ladder import Ladder
from .messages import is_group, key_of

STANDARD_CARD = "standard"
# What the chat list shows of a markdown message.
_TITLE_LENGTH = 30
_MAX_FAILURES = 3


class CardSender(Protocol):
    """What a reply needs of the handler: the reference's methods, and two things to reach DingTalk by."""

    @property
    def api(self) -> Api: ...
    @property
    def ladder(self) -> Ladder: ...
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
        self._perhaps_sent: str | None = None  # the id of a card whose send was not confirmed
        self._parts_sent = 0
        self._webhook_refusal: ReplyRefused | None = None
        self._failures = 0  # of the webhook, in a row

    def open(self, question: str) -> str | None:
        staff_id = self._message.sender_staff_id
        if not staff_id and not is_group(self._message):
            return None  # a card to one person is addressed by staff id
        ladder = self._sender.ladder
        if not ladder.is_open(STANDARD_CARD):
            return None
        card = self._sender._create_initial_card(question)
        try:
            # Somebody without a staff id cannot be @-mentioned: the send would be refused.
            sent = self._sender.reply_card(card_data=card, incoming_message=self._message, at_sender=bool(staff_id))
        except Unconfirmed:
            self._perhaps_sent = card_id(key_of(self._message), card)
            raise
        except ReplyRefused as refusal:
            ladder.note_refusal(STANDARD_CARD, refusal, str(self._message.conversation_id))
            raise
        if not isinstance(sent, str) or not sent:
            raise TransportError(f"reply_card returned {sent!r}, which is how the SDK says that it failed")
        ladder.note_success(STANDARD_CARD)
        return sent

    def progress(self, handle: str, text: str) -> None:
        self._update(handle, self._sender._create_streaming_card(text, self._question))

    def finish(self, handle: str | None, text: str, outcome: Outcome) -> bool:
        if handle is None and self._perhaps_sent:
            try:
                return self.finish(self._perhaps_sent, text, outcome)
            except ReplyRefused:
                self._perhaps_sent = None  # so it was not
        if handle is None:
            parts = split_markdown(text)
            self._send("markdown", parts[self._parts_sent], mention=self._parts_sent == 0)
            self._parts_sent += 1
            return self._parts_sent < len(parts)
        if outcome == "answered":
            self._update(handle, self._sender._create_final_card(text, self._message, self._question))
        else:
            self._update(handle, self._sender._create_streaming_card(text, self._question))
        return False

    def say(self, sentence: str) -> None:
        self._send("text", sentence, mention=True)

    def _update(self, card_biz_id: str, card_data: dict[str, Any]) -> None:
        answer = self._sender.update_card(card_biz_id, card_data)
        if answer is None or answer == "" or isinstance(answer, int):
            raise TransportError(f"update_card returned {answer!r}, which is how the SDK says that it failed")

    def _send(self, kind: str, text: str, mention: bool) -> None:
        """Through the session webhook, which costs nothing; where that is refused, as the robot."""
        if self._webhook_refusal is None:
            try:
                self._post(kind, text, mention)
                self._failures = 0
                return
            except ReplyRefused as refusal:  # it lives for 90 minutes, and an answer may be older
                self._webhook_refusal = refusal
            except TransportError as error:
                self._failures += 1
                if isinstance(error, Unconfirmed) and self._failures > 1:
                    self._failures = 0  # a message has no id: a third try would more likely be a third copy
                    return
                if self._failures < _MAX_FAILURES:
                    raise
                # Its host is another than the API's, and may be blocked where that one is not.
        try:
            self._send_as_robot(kind, text)
        except ReplyRefused as refusal:
            if self._webhook_refusal is None:
                raise TransportError(f"the session webhook cannot be reached; and as the robot: {refusal}") from None
            text = f"{self._webhook_refusal}; and as the robot: {refusal}"
            raise ReplyRefused(text, refusal.code, refusal.cause) from None

    def _post(self, kind: str, text: str, mention: bool) -> None:
        webhook, person = self._message.session_webhook, self._message.sender_staff_id
        if not webhook or not isinstance(webhook, str):
            raise ReplyRefused("the message carries no session webhook to answer through")
        content, at = _content(kind, text), {}
        if mention and person and is_group(self._message):  # both in the list and in the text, or nobody is mentioned
            at = {"at": {"atUserIds": [person]}}
            field, gap = ("content", " ") if kind == "text" else ("text", "  \n")
            content[field] = f"@{person}{gap}{text}"
        self._sender.api.post_to_webhook(webhook, {"msgtype": kind, kind: content, **at})

    def _send_as_robot(self, kind: str, text: str) -> None:
        # This API mentions nobody.
        api, person = self._sender.api, self._message.sender_staff_id
        body = {
            "robotCode": api.credential.client_id,
            "msgKey": {"text": "sampleText", "markdown": "sampleMarkdown"}[kind],
            "msgParam": to_json(_content(kind, text)),
        }
        if is_group(self._message):
            api.send_to_group({**body, "openConversationId": self._message.conversation_id})
        elif person:
            api.send_to_people({**body, "userIds": [person]})
        else:
            raise ReplyRefused("the sender has no staff id to be addressed by")


def _content(kind: str, text: str) -> dict[str, str]:
    if kind == "text":
        return {"content": text}
    return {"title": text.strip().split("\n")[0][:_TITLE_LENGTH], "text": text}
