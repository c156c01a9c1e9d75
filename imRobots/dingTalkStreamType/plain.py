"""Messages without a card, in answer to one message: through its session webhook, or as the robot's own.

Owns the choice between the two, and how long one may be. Called on the outbox's threads, one call at a time.
"""

from __future__ import annotations

from typing import Literal

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import ReplyRefused, TransportError, Unconfirmed, log

from .api import Api
from .cards import to_json
from .messages import is_group

Kind = Literal["text", "markdown"]

# What the chat list shows of a markdown message.
_TITLE_LENGTH = 30
_MAX_FAILURES = 3
# Bytes of JSON. Refused are a webhook message of more than 20 000 (errcode 460101) and a robot's message whose msgParam
# has more than 15 000 (dingtalk "the-robot-sends-a-group-message"); a part has to fit through either, with its title.
MAX_MARKDOWN = 14_000


class PlainMessages:
    """The messages in answer to one message."""

    def __init__(self, full_name: str, api: Api, message: ChatbotMessage) -> None:
        """`full_name`: the element's, for the log."""
        self._full_name = full_name
        self._api = api
        self._message = message
        self._webhook_refusal: ReplyRefused | None = None
        self._failures = 0  # of the webhook, in a row

    def send(self, kind: Kind, text: str, *, mention: bool) -> None:
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
                    what = "a message was sent twice, and it is not known whether it has come"
                    log.warning(f"{self._full_name}: {what}: {error}")
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

    def _post(self, kind: Kind, text: str, mention: bool) -> None:
        webhook, person = self._message.session_webhook, self._message.sender_staff_id
        if not webhook or not isinstance(webhook, str):
            raise ReplyRefused("the message carries no session webhook to answer through")
        content, at = _content(kind, text), {}
        if mention and person and is_group(self._message):  # both in the list and in the text, or nobody is mentioned
            at = {"at": {"atUserIds": [person]}}
            field, gap = ("content", " ") if kind == "text" else ("text", "  \n")
            content[field] = f"@{person}{gap}{text}"
        self._api.post_to_webhook(webhook, {"msgtype": kind, kind: content, **at})

    def _send_as_robot(self, kind: Kind, text: str) -> None:
        # This API mentions nobody.
        api, person = self._api, self._message.sender_staff_id
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


def _content(kind: Kind, text: str) -> dict[str, str]:
    if kind == "text":
        return {"content": text}
    return {"title": text.strip().split("\n")[0][:_TITLE_LENGTH], "text": text}


def size_of(text: str) -> int:
    """Bytes of a text in a request."""
    return len(to_json(text).encode("utf-8", "replace"))
