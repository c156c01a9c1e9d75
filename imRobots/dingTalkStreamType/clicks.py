"""DingTalk's card callbacks, read into `Click`.

Pure: no I/O, any thread. Nothing that comes is trusted: what is not understood is refused. Where a click carries what
is documented in several ways (dingtalk "event-callback-card", its samples, and reports of other projects).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from imRobots.Meta import Action, Click, ClickRefused, Rating

from .cards import RATING_TYPES

# The ids of our own buttons, on AI cards as they are, on standard cards with more around them.
_ID = re.compile(r"(?:button_)?([a-z_]+?)(?:_\d+)?")
_ACTIONS: dict[str, Action] = {
    "feedback": "rate",
    "regenerate": "regenerate",
    "continue_chat": "continue",
    "continue": "continue",
    "stop": "stop",
}
# A button that knows only the tutorial's two types of feedback.
_RATINGS_OF_TYPES: dict[str, Rating] = {"helpful": "helpful", "unhelpful": "not_helpful"}
_TYPE = "actionCallback"

Meaning = tuple[Action, "Rating | None"]


def read_click(data: Any) -> Click:
    """Read a card callback. `card` is its `outTrackId`. Raises `ClickRefused`, with the reason, and nothing else."""
    if not isinstance(data, Mapping):
        _refuse("its data is no JSON object")
    card, person = _text(data, "outTrackId"), _text(data, "userId")
    if not card:
        _refuse("it names no card (outTrackId)")
    if not person:
        _refuse("it names nobody (userId)")
    if data.get("type") not in (None, _TYPE):
        _refuse("it is of an unknown type")
    ids, parameters = _pressed(data)
    by_id = next((known for known in map(_read_id, ids) if known), None)
    if "value" in parameters:  # a standard card's
        parameters = _read_value(parameters["value"])
        missing = [name for name in ("action", "message_id") if not _text(parameters, name)]
        if missing:
            _refuse(f"its value lacks {' and '.join(missing)}")
        if parameters["action"] == "regenerate" and not _text(parameters, "original_text"):
            _refuse("its value lacks original_text")
    if said := _text(parameters, "action"):
        meant = _read_action(said, parameters, by_id)
        if by_id not in (None, meant):
            _refuse("the button and its parameters contradict each other")
    elif by_id:
        meant = by_id
    else:
        _refuse("neither the button nor its parameters say what to do")
    return Click(card, person, *meant, _text(parameters, "message_id"), _text(parameters, "original_text"))


def _pressed(data: Mapping[str, Any]) -> tuple[list[str], Mapping[str, Any]]:
    """The ids of what was pressed, and its parameters, from wherever they are."""
    contents = [content for name in ("content", "value") if (content := _object(data.get(name))) is not None]
    content = contents[0] if contents else {}
    top = [_text(place, "actionId") for place in (data, content)]
    if not contents and not any(top):
        _refuse("its content is no JSON object")
    private = _object(content.get("cardPrivateData")) or {}
    listed = private.get("actionIds")
    ids = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    parameters = {**(_object(content.get("params")) or {}), **(_object(private.get("params")) or {})}
    # A button of the SDK's public template, as another project has met it, has its id here, and in `actionIds` that of
    # a node of the template.
    return [*ids, *filter(None, [*top, _text(parameters, "id")])], parameters


def _read_id(button_id: str) -> Meaning | None:
    match = _ID.fullmatch(button_id)
    name = match.group(1) if match else ""
    if rating := _rating(name):
        return "rate", rating
    return (_ACTIONS[name], None) if name in _ACTIONS and name != "feedback" else None


def _read_value(value: Any) -> Mapping[str, Any]:
    read = _object(value)
    return read if read is not None else _refuse("its value is no JSON object")


def _read_action(said: str, parameters: Mapping[str, Any], by_id: Meaning | None) -> Meaning:
    if said not in _ACTIONS:
        _refuse(f"its action {said[:40]!r} is unknown")
    if said != "feedback":
        return _ACTIONS[said], None
    kind, named = _text(parameters, "type"), _text(parameters, "rating")
    if kind and kind not in _RATINGS_OF_TYPES:
        _refuse(f"its type of feedback {kind[:40]!r} is unknown")
    rating = _rating(named) if named else by_id[1] if by_id else _RATINGS_OF_TYPES.get(kind)
    if rating is None:
        _refuse("its rating is missing or unknown")
    if kind and RATING_TYPES[rating] != kind:
        _refuse("its rating and its type of feedback contradict each other")
    return "rate", rating


def _rating(name: str) -> Rating | None:
    return next((rating for rating in RATING_TYPES if rating == name), None)


def _object(value: Any) -> Mapping[str, Any] | None:
    """A JSON object, as it is or as a string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        _refuse(f"its {name} is no text")
    return value or ""


def _refuse(reason: str) -> NoReturn:
    raise ClickRefused(reason)
