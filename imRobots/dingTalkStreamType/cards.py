"""The standard cards ("互动卡片普通版"), as the JSON that DingTalk takes.

Pure: no clock, no I/O, any thread. `stamp` is a time in milliseconds that makes element ids differ from update to
update, as in the tutorial. Fields: dingtalk "robots-send-interactive-cards" and the SDK's interactive_card.py.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from imRobots.Meta import Rating, Texts

Card = dict[str, Any]

# A button carries the question and the answer that it rates. Four times any length would be most of the request.
_MAX_RESPONSE = 1000
# The tutorial's type of feedback for each rating: it knows only two.
RATING_TYPES: dict[Rating, str] = {
    "very_helpful": "helpful",
    "helpful": "helpful",
    "somewhat_helpful": "unhelpful",
    "not_helpful": "unhelpful",
}


def thinking_card(question: str, texts: Texts) -> Card:
    """The first card: the question as its title, and that it is being worked on.

    The same for the same question, so that it is known again when it is sent a second time.
    """
    return _card(question, [{"type": "markdown", "text": texts.thinking, "id": "thinking"}])


def answer_card(question: str, answer: str, stamp: int) -> Card:
    """The question and an answer, growing or ended, without buttons."""
    return _card(question, [_markdown(answer, stamp)])


def final_card(question: str, answer: str, message_id: str, texts: Texts, stamp: int) -> Card:
    """The question, its whole answer and the four buttons to rate it."""
    buttons = []
    for rating, kind in RATING_TYPES.items():
        value = {
            "action": "feedback",
            "type": kind,
            "rating": rating,
            "message_id": message_id,
            "original_text": question[:_MAX_RESPONSE],
            "response": answer[:_MAX_RESPONSE],
        }
        buttons.append(
            {
                "type": "button",
                "label": {"type": "text", "text": getattr(texts, rating), "id": f"text_{rating}_{stamp}"},
                "actionType": "request",
                "status": "normal",
                "size": "small",
                "id": f"button_{rating}_{stamp}",
                "value": to_json(value),
            }
        )
    return _card(
        question,
        [
            _markdown(answer, stamp),
            {"type": "divider", "id": f"divider_{stamp}"},
            {"type": "action", "actions": buttons, "id": f"action_{stamp}"},
        ],
    )


def card_id(message_key: list[str], card: Card) -> str:
    """The `cardBizId` of a card in answer to a message: the same for the same, so that it cannot come twice."""
    return hashlib.sha256(to_json([message_key, card]).encode("utf-8", "replace")).hexdigest()


def to_json(value: Any) -> str:
    """JSON with its Chinese characters as they are: escaped, they take six bytes each, and twelve when nested."""
    return json.dumps(value, ensure_ascii=False)


def _card(question: str, contents: list[Card]) -> Card:
    return {
        "config": {"autoLayout": True, "enableForward": True},
        "header": {"title": {"type": "text", "text": question}},
        "contents": contents,
    }


def _markdown(text: str, stamp: int) -> Card:
    return {"type": "markdown", "text": text, "id": f"answer_{stamp}"}
