"""The frames of the Stream connection, as JSON: what comes in, and a plain acknowledgement of it.

Pure, any thread. Any header may be missing (developerpedia, stream protocol), so nothing here raises.
"""

from __future__ import annotations

import json
from typing import Any

from dingtalk_stream import AckMessage

from imRobots.Meta import log

Frame = dict[str, Any]

_MAX_CHARACTERS = 2**20


def parse_frame(raw: str | bytes) -> Frame | None:
    """The frame; None, and a line in the log, for what is none."""
    try:
        frame = json.loads(raw) if len(raw) <= _MAX_CHARACTERS else None
    except (ValueError, RecursionError):
        frame = None
    if not isinstance(frame, dict):
        log.warning(f"A frame of {len(raw)} characters that is no JSON object, or too long, was ignored")
        return None
    return frame


def headers_of(frame: Frame) -> dict[str, Any]:
    headers = frame.get("headers")
    return headers if isinstance(headers, dict) else {}


def topic_of(frame: Frame) -> str:
    return str(headers_of(frame).get("topic", ""))


def plain_ack(frame: Frame, code: int, message: str) -> AckMessage:
    """An acknowledgement without data."""
    ack = AckMessage()
    ack.code = code
    ack.message = message
    ack.headers.message_id = headers_of(frame).get("messageId")
    ack.headers.content_type = ack.headers.CONTENT_TYPE_APPLICATION_JSON
    return ack
