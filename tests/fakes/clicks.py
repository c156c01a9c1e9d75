"""What a click on a button of a card tells the robot: the official data, and the variants that were seen elsewhere."""

from __future__ import annotations

import json
from typing import Literal, get_args

from tests.fakes.records import AnyCard, Card, Json, TemplateCard

CARD_TOPIC = "/v1.0/card/instances/callback"
ClickVariant = Literal["official", "value", "params_beside", "top_level", "node", "http", "broken"]


def find_button(card: AnyCard, label_or_id: str, staff_id: str) -> Json:
    """The button as this person sees it."""
    seen = card if isinstance(card, Card) else card.view(staff_id)
    for wanted in (seen.labels, [button.get("id") for button in seen.buttons]):
        if label_or_id in wanted:
            return seen.buttons[wanted.index(label_or_id)]
    raise AssertionError(f"the card {card.title!r} has no button {label_or_id!r}, only {seen.labels}")


def is_pushed(card: AnyCard, button: Json) -> bool:
    """A Stream robot is told of no click on a standard card, and of others only if the card was created so."""
    if not isinstance(card, TemplateCard) or card.callback_type != "STREAM":
        return False
    return bool(button["request"]) and button.get("status") != "disabled"


def click_data(card: AnyCard, button: Json, staff_id: str, variant: ClickVariant) -> Json:
    if variant not in get_args(ClickVariant):
        raise ValueError(f"variant is one of {get_args(ClickVariant)}, not {variant!r}")
    action, params = button["id"], button["params"]
    content: Json = {"cardPrivateData": {"actionIds": [action], "params": params}}
    if variant == "params_beside":
        content = {"cardPrivateData": {"actionIds": [action]}, "params": params}
    elif variant == "top_level":
        content = {"cardPrivateData": {"params": params}}
    elif variant == "node":  # as a project reports of the SDK's template: the button's own id is a parameter
        content = {"cardPrivateData": {"actionIds": ["node_ocmf1x"], "params": {"id": action, **params}}}
    text = "{broken" if variant == "broken" else json.dumps(content, ensure_ascii=False)
    data: Json = {
        "extension": "{}",
        "corpId": "ding-corp",
        "spaceType": "im",
        "userIdType": 1,
        "type": "actionCallback",
        "userId": staff_id,
        "content": text,
        "spaceId": card.conversation,
        "outTrackId": card.id,
        "value": text,
    }
    if variant == "value":
        del data["content"]
    elif variant == "top_level":
        data["actionId"] = action
    elif variant == "http":
        data = {name: data[name] for name in ("type", "outTrackId", "corpId", "userId", "content")}
    return data
