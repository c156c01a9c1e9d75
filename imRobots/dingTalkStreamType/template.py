"""AI cards (template cards, "高级版"), as the JSON that DingTalk takes: their variables, buttons, and where they go.

Owns what was learnt of the template, too: how much text it takes, and that it takes any. No clock, no I/O; any thread,
and an update that gets lost costs one refused call. Fields: dingtalk "create-and-deliver-cards" and
"interactive-card-update-interface"; the variables of the public template: the SDK's card_instance.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from imRobots.Meta import Outcome, Rating, Texts

from .cards import RATING_TYPES

if TYPE_CHECKING:
    from .config import CardVariables

Json = dict[str, Any]
# Of a card's flow. 1, "processing", is left out: that the first streaming leads from there to 2, "inputting", is
# documented, and yet DingTalk's own connector does it by hand. A card that begins as 2 needs neither.
Status = Literal["2", "3", "5"]
GROWING: Status = "2"
FINISHED: Status = "3"
FAILED: Status = "5"

# The order of a card's parts in the SDK's public template; it shows buttons of any number.
_SDK_BUTTONS = "sys_full_json_obj"
_MAX_TITLE = 200
# DingTalk advises 3 KB in all and names no limit; several projects send much more.
_MAX_BYTES = 12_000
# Else an update would empty all variables that it does not name.
_BY_KEY = {"cardUpdateOptions": {"updateCardDataByKey": True, "updatePrivateDataByKey": True}}


class Button(NamedTuple):
    """`id` comes back with the click."""

    id: str
    text: str


class Template:
    """A template, and how this robot's cards fill it in."""

    def __init__(self, template_id: str, names: CardVariables, *, with_ratings: bool = True) -> None:
        self.id = template_id
        self.names = names
        self.max_bytes = _MAX_BYTES
        """Of an answer in one card. Halved by whoever learns that DingTalk takes less."""
        self.is_proven = False
        """Whether DingTalk has taken a streamed text for it. Set by whoever learns so."""
        self._with_ratings = with_ratings

    def variables(
        self, status: Status, buttons: list[Button], *, title: str | None = None, content: str | None = None
    ) -> dict[str, str]:
        """A `cardParamMap` for everybody. What is None is not in it, and stays as it is in an update by key."""
        values = {
            self.names.status: status,
            self.names.title: None if title is None else _shortened(title),
            self.names.content: content,
            self.names.buttons: self._buttons(buttons),
        }
        return {name: value for name, value in values.items() if name and value is not None}

    def view(self, texts: Texts, note: str, rating: Rating | None) -> dict[str, str]:
        """A `cardParamMap` for one person: a note, and this person's own rating among the buttons."""
        values = {self.names.note: note} if note else {}
        if rating is not None:
            values[self.names.buttons] = self._buttons(self.end_buttons(texts, "answered", rating))
        return {name: value for name, value in values.items() if name}

    def end_buttons(
        self, texts: Texts, outcome: Outcome, mine: Rating | None = None, *, for_asker: bool = True
    ) -> list[Button]:
        """Below an ended answer. `mine` is the rating of the person who sees them.

        `for_asker`: also those that only the person who asked may press.
        """
        again = [Button("regenerate", texts.regenerate)] if for_asker else []
        if outcome != "answered":
            return again
        ratings = []
        for rating in RATING_TYPES if self._with_ratings else ():
            mark = "✅ " if rating == mine else ""
            ratings.append(Button(rating, mark + getattr(texts, rating)))
        return [*ratings, *again, *([Button("continue", texts.keep_asking)] if for_asker else [])]

    def _buttons(self, buttons: list[Button]) -> str:
        """As the template's variable wants them: the SDK's, or one of the type button group."""
        value: Any
        if self.names.buttons == _SDK_BUTTONS:
            parts = [self.names.title, self.names.content, self.names.note, "msgButtons"]
            shown = [{"text": one.text, "color": "gray", "id": one.id, "request": True} for one in buttons]
            value = {"order": [part for part in parts if part], "msgButtons": shown}
        else:
            value = [{"text": one.text, "color": "gray", "status": "normal", "event": _event(one)} for one in buttons]
        # DingTalk documents 1 KB for a variable: no blanks.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _event(button: Button) -> Json:
    return {"type": "sendCardRequest", "params": {"actionId": button.id, "params": {"id": button.id}}}


def stop_button(texts: Texts) -> Button:
    return Button("stop", texts.stop)


def delivery(
    template_id: str, card_id: str, variables: Json, robot_code: str, conversation_id: str, mention: dict[str, str]
) -> Json:
    """The body of `createAndDeliver` for a card in a group; `mention`: staff ids and names of those who are told."""
    return {
        **_card(template_id, card_id, variables),
        "openSpaceId": f"dtv1.card//IM_GROUP.{conversation_id}",
        "imGroupOpenSpaceModel": {"supportForward": True},
        "imGroupOpenDeliverModel": {"robotCode": robot_code, **({"atUserIds": mention} if mention else {})},
    }


def delivery_to_person(template_id: str, card_id: str, variables: Json, robot_code: str, staff_id: str) -> Json:
    """The same for a card one-to-one."""
    return {
        **_card(template_id, card_id, variables),
        # In the documentation also in small letters; the official SDKs write it like this.
        "openSpaceId": f"dtv1.card//IM_ROBOT.{staff_id}",
        "imRobotOpenSpaceModel": {"supportForward": True},
        "imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT", "robotCode": robot_code},
    }


def _card(template_id: str, card_id: str, variables: Json) -> Json:
    return {
        "cardTemplateId": template_id,
        "outTrackId": card_id,
        "callbackType": "STREAM",
        "userIdType": 1,
        "cardData": {"cardParamMap": variables},
    }


def update(card_id: str, variables: Json) -> Json:
    """The body of an update of what everybody sees."""
    return {
        "outTrackId": card_id,
        "cardData": {"cardParamMap": variables},
        **_BY_KEY,
    }


def update_for(card_id: str, person: str, variables: Json) -> Json:
    """The body of an update of what one person sees."""
    return {
        "outTrackId": card_id,
        "privateData": {person: {"cardParamMap": variables}},
        **_BY_KEY,
    }


def response(variables: Json) -> Json:
    """What the acknowledgement of a click says: what the person who clicked sees from now on."""
    if not variables:
        return {}
    return {
        **_BY_KEY,
        "userPrivateData": {"cardParamMap": variables},
    }


def _shortened(title: str) -> str:
    return title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"
