"""DingTalk's message payloads, read into `IncomingMessage`.

Pure: no I/O, any thread. Every field may be missing and any may be unknown (dingtalk "receive-message"), so nothing
here raises. Does not decide what is answered.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from dingtalk_stream import ChatbotMessage

from imRobots.Meta import IncomingMessage

_GROUP = "2"  # conversationType; "1" is one-to-one
# errorCode of a push whose text is withheld, because the organization's monthly quota is used up (dingtalk
# "receive-message"; the events' documentation spells it errCode)
_QUOTA_EXHAUSTED = "20001"
_MAX_QUOTE = 4000  # characters
# Without these the SDK's reading of a message cannot fail, and with them a reply can still be addressed.
_ADDRESS = (
    "msgId",
    "conversationId",
    "conversationType",
    "conversationTitle",
    "robotCode",
    "sessionWebhook",
    "senderId",
    "senderStaffId",
    "senderNick",
    "senderCorpId",
)


def read_message(data: Mapping[str, Any], fallback_id: str = "") -> IncomingMessage:
    """Read a bot message. `fallback_id` identifies it if the payload has no `msgId`."""
    text, understood = _read_text(data)
    quota = _QUOTA_EXHAUSTED in (str(data.get("errorCode")), str(data.get("errCode")))
    message_id = _string(data, "msgId") or fallback_id or uuid.uuid4().hex
    conversation_id = _string(data, "conversationId")
    return IncomingMessage(
        message_id=message_id,
        conversation_id=conversation_id,
        # People outside of the organization have no staff id, and nobody has one before the robot is published.
        sender_id=_string(data, "senderStaffId") or _string(data, "senderId") or conversation_id or message_id,
        sender_name=_string(data, "senderNick"),
        text=text,
        problem="quota" if quota else "" if text else "empty" if understood else "unsupported",
        source=data,
        from_admin=data.get("isAdmin") is True,
        quote=_read_quote(data),
    )


def chatbot_message(data: Mapping[str, Any]) -> ChatbotMessage:
    """The SDK's view of the same payload, for `reply_card` and for whoever overrides it.

    The SDK raises on a payload without `text` or with a half-filled `hostingContext` (0.24.2 to 0.24.4b1); then this
    has what is needed to address a reply, and no content.
    """
    try:
        return ChatbotMessage.from_dict(dict(data))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ChatbotMessage.from_dict({name: _string(data, name) for name in _ADDRESS if _string(data, name)})


def key_of(message: ChatbotMessage) -> list[str]:
    """What tells a message from all others."""
    return [str(message.sender_id), str(message.conversation_id), str(message.message_id)]


def is_group(message: ChatbotMessage) -> bool:
    return str(message.conversation_type) == _GROUP


def _read_text(data: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of a message, and whether its type is one that has a text at all."""
    kind = data.get("msgtype")
    text, content = data.get("text"), data.get("content")
    if kind == "text":
        return _string(text, "content"), True
    if kind == "richText":
        parts = content.get("richText") if isinstance(content, Mapping) else None
        texts = [_string(part, "text") for part in parts] if isinstance(parts, list) else []
        # Nothing but pictures is a message that we cannot read, not an empty one.
        return "\n".join(filter(None, texts)), not parts
    if kind == "audio":
        return _string(content, "recognition"), False
    return "", False


def _read_quote(data: Mapping[str, Any]) -> str:
    """What the message answers to. Nothing of this is documented: the shapes are those that other projects have met."""
    for place in (data.get("text"), data.get("content")):  # the latter for rich text
        replied = place.get("repliedMsg") if isinstance(place, Mapping) else None
        if isinstance(replied, Mapping):
            content = replied.get("content")
            if isinstance(content, str):
                with contextlib.suppress(ValueError, RecursionError):
                    content = json.loads(content)
            return _quoted_text(content)[:_MAX_QUOTE]
    return ""


def _quoted_text(content: Any) -> str:
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, Mapping) and isinstance(parts := content.get("richText"), list):
        texts = (_string(part, "text") or _string(part, "content") for part in parts)
        return "\n".join(filter(None, texts))
    names = ("text", "recognition", "summary", "title", "fileName")  # a card has no content
    return next((text for name in names if (text := _string(content, name))), "")


def _string(data: Any, name: str) -> str:
    value = data.get(name) if isinstance(data, Mapping) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""
