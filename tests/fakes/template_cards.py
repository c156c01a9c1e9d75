"""Cards of templates ("advanced cards", AI cards) in the stand-in DingTalk: creating, delivering, updating, streaming.

It owns the templates, what is refused, and how public and private data change: by the APIs, or by the answer to a
click. What a card shows is read in records.py; how a click gets to the robot is the business of clicks.py and the
gateway. Everything here runs on the gateway's own thread.

Nobody knows some of what the platform does; `streaming_switches_state`, `streaming_after_end` and `repeated_card` play
it either way. Our own guesses: the code for a variable that a template has not and for a stream that has ended
(param.invalid); that a card that was not delivered takes all updates, which nobody sees; that a second delivery is a
repetition like a second creation; and that a space for which a card was not created fails in the results of HTTP 200.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from aiohttp import web

from tests.fakes.records import AnyCard, Json, Template, TemplateCard, TemplateCardState, json_object
from tests.fakes.trouble import Refused

CREATE_CARD = "/v1.0/card/instances/createAndDeliver"
DELIVER_CARD = "/v1.0/card/instances/deliver"
CREATE_INSTANCE = UPDATE_INSTANCE = "/v1.0/card/instances"  # POST creates, PUT updates
STREAM_CARD = "/v1.0/card/streaming"
AI_TEMPLATE = "382e4302-551d-4880-bf29-a30acfab2e71.schema"  # the SDK's; it is open to everybody
SPACE = re.compile(r"dtv1\.card//(IM_GROUP|IM_ROBOT)\.(.+)", re.DOTALL)
# Space -> its models, the one of the delivery first.
MODELS = {
    "IM_GROUP": ("imGroupOpenDeliverModel", "imGroupOpenSpaceModel"),
    "IM_ROBOT": ("imRobotOpenDeliverModel", "imRobotOpenSpaceModel"),
}


def standard_templates() -> dict[str, Template]:
    variables = {
        "flowStatus": "status",
        "msgTitle": "text",
        "msgContent": "markdown",
        "staticMsgContent": "markdown",
        "logo": "text",
        "sys_full_json_obj": "json",
    }
    return {AI_TEMPLATE: Template(variables)}


class TemplateCards:
    # Of the gateway's other parts.
    client_id: str
    on_change: Callable[[Any], None] | None
    repeated_card: Literal["refuse", "accept"]
    cards: dict[str, AnyCard]
    protocol_errors: list[str]
    _groups: set[str]
    _staff: dict[str, str]
    _endpoints: dict[tuple[str, str], Callable[[web.Request, Json], Json | str]]

    def __init__(self) -> None:
        # How it behaves; a test may change these at any time.
        self.templates = standard_templates()
        self.hidden_failure: str | None = None  # why cards are not delivered, although the answer is HTTP 200
        self.stream_limit: int | None = None  # bytes of one content
        self.streaming_switches_state = True  # or only the variable flowStatus does
        self.streaming_after_end: Literal["refuse", "accept"] = "refuse"
        self._undelivered: dict[str, TemplateCard] = {}  # they exist, and nobody sees them
        self._guids: set[str] = set()
        self._endpoints["POST", CREATE_CARD] = self._create_and_deliver
        self._endpoints["POST", CREATE_INSTANCE] = self._create_instance
        self._endpoints["POST", DELIVER_CARD] = self._deliver_instance
        self._endpoints["PUT", UPDATE_INSTANCE] = self._update_instance
        self._endpoints["PUT", STREAM_CARD] = self._stream_card

    # ---- creating and delivering

    def _create_and_deliver(self, _: web.Request, body: Json) -> Json:
        space, receiver = self._space(body)
        card_id, card = self._create(body)
        if card:
            problem = self._deliver(card, body, space, receiver)
        else:
            problem = "" if card_id in self.cards else "it was not delivered the first time"
        results = [_delivery(space, receiver, problem)]
        return {"success": True, "result": {"outTrackId": card_id, "deliverResults": results}}

    def _create_instance(self, _: web.Request, body: Json) -> Json:
        return {"success": True, "result": self._create(body)[0]}

    def _deliver_instance(self, _: web.Request, body: Json) -> Json:
        card = self._known_card(body)
        space, receiver = self._space(body)
        repeated = card.id in self.cards
        if repeated and self.repeated_card == "refuse":
            raise Refused(400, "param.cardAlreadyExist", "outTrackId")
        problem = "" if repeated else self._deliver(card, body, space, receiver)
        return {"success": True, "result": [_delivery(space, receiver, problem)]}

    def _create(self, body: Json) -> tuple[str, TemplateCard | None]:
        """The card's id, and the card if it is new; nobody sees it yet."""
        card_id = _card_id(body)
        template = self.templates.get(_needed(body, "cardTemplateId", "param.cardTemplateIdEmpty"))
        if template is None:
            raise Refused(400, "param.templateNotExist", "cardTemplateId")
        if not template.published:
            raise Refused(400, "param.templateUnpublished", "cardTemplateId")
        if body.get("callbackType") not in (None, "STREAM", "HTTP"):
            raise Refused(400, "param.invalid", "callbackType")
        if not _section(body, "cardData").get("cardParamMap"):
            raise Refused(400, "param.cardPublicDataEmpty", "cardData.cardParamMap")
        data = _param_map(body["cardData"], "cardData")
        private = self._private_data(body)
        if card_id in self.cards or card_id in self._undelivered:
            if self.repeated_card == "refuse":
                raise Refused(400, "param.cardAlreadyExist", "outTrackId")
            return card_id, None
        flow_status = data.get("flowStatus", "") if "flowStatus" in template.variables else ""
        if self.streaming_switches_state:
            flow_status = flow_status or "1"
        state = TemplateCardState(time.monotonic(), template, data, private, flow_status)
        card = self._undelivered[card_id] = TemplateCard(card_id, "", body, [state])
        self._check_markdown(card, data, *private.values())
        return card_id, card

    def _deliver(self, card: TemplateCard, body: Json, space: str, receiver: str) -> str:
        """Show the card as it is by now; or why not, which only the result tells."""
        conversation = self._staff.get(receiver) if space == "IM_ROBOT" else receiver
        if self.hidden_failure:
            return self.hidden_failure
        if conversation is None or (space == "IM_GROUP" and conversation not in self._groups):
            return "the space does not exist"
        if card.send_body.get(MODELS[space][1]) is None:
            return "the card was not created for this space"
        card.conversation, card.send_body = conversation, card.send_body | body
        card.states = [replace(card.states[-1], at=time.monotonic())]  # nobody saw the earlier ones
        del self._undelivered[card.id]
        self.cards = self.cards | {card.id: card}
        if self.on_change:
            self.on_change(card)
        return ""

    def _space(self, body: Json) -> tuple[str, str]:
        """Where the card is to go; the models of the body must be made for it."""
        found = SPACE.fullmatch(_needed(body, "openSpaceId", "param.openSpaceIdEmpty"))
        if not found:
            raise Refused(400, "param.openSpaceIdInvalid", "openSpaceId")
        space, receiver = found.groups()
        others = [name for other, names in MODELS.items() if other != space for name in names]
        if any(body.get(name) is not None for name in others):
            raise Refused(400, "param.openDeliverModelError", f"{space} is given models of another space")
        name = MODELS[space][0]
        model = body.get(name)
        if not model:
            raise Refused(400, "param.openDeliverModelEmpty", name)
        if not isinstance(model, dict):
            raise Refused(400, "param.openDeliverModelError", name)
        robot = model.get("robotCode")
        if robot != self.client_id and not (space == "IM_ROBOT" and robot is None):
            raise Refused(400, "param.openDeliverModelError", f"{name}.robotCode")
        if space == "IM_ROBOT" and model.get("spaceType") != space:
            raise Refused(400, "param.openDeliverModelError", f"{name}.spaceType")
        if not _strings(model.get("atUserIds", {})):
            raise Refused(400, "param.openDeliverModelError", f"{name}.atUserIds")
        return space, receiver

    # ---- changing

    def _update_instance(self, _: web.Request, body: Json) -> Json:
        card = self._known_card(body)
        if body.get("cardData") is None and body.get("privateData") is None:
            raise Refused(400, "param.cardPublicDataEmpty", "cardData")
        data = None if body.get("cardData") is None else _param_map(body["cardData"], "cardData")
        self._update(card, data, self._private_data(body), _section(body, "cardUpdateOptions"))
        return {"success": True, "result": True}

    def _apply_answer(self, response: Json, card_id: Any, person: str) -> None:
        """What the answer to this person's click wants of the card. Refused if it is not well formed."""
        public, own = response.get("cardData"), response.get("userPrivateData")
        options = _section(response, "cardUpdateOptions")
        data = None if public is None else _param_map(public, "cardData")
        private = {} if own is None else {person: _param_map(own, "userPrivateData")}
        card = self._template_card(card_id)
        if card and (data is not None or private):
            self._update(card, data, private, options)

    def _update(
        self, card: TemplateCard, data: dict[str, str] | None, private: dict[str, dict[str, str]], options: Json
    ) -> None:
        """What is given replaces all public data, or all of this person's, unless it is to be merged by key."""
        state = card.states[-1]
        self._check_markdown(card, data or {}, *private.values())
        changes: Json = {}
        if data is not None:
            changes["data"] = state.data | data if options.get("updateCardDataByKey") is True else data
            if "flowStatus" in state.template.variables:
                changes["flow_status"] = changes["data"].get("flowStatus", "")
        if options.get("updatePrivateDataByKey") is True:
            private = {person: state.private.get(person, {}) | own for person, own in private.items()}
        self._add_state(card, private=state.private | private, **changes)

    def _stream_card(self, _: web.Request, body: Json) -> Json:
        key = _needed(body, "key", "param.stream.keyEmpty")
        content = _needed(body, "content", "param.stream.contentEmpty")
        guid = _needed(body, "guid", "param.stream.guidEmpty")
        card = self._template_card(body.get("outTrackId"))
        if card is None:
            raise Refused(400, "param.stream.outTrackId", "card is not exist")
        state, whole = card.states[-1], body.get("isFull") is True
        kind = state.template.variables.get(key)
        if kind not in ("markdown", "text"):
            raise Refused(400, "param.invalid", f"the template has no variable {key!r} that can be streamed")
        if kind == "markdown" and not whole:
            raise Refused(400, "param.stream.isFull", "a markdown variable needs the whole text")
        if self.stream_limit is not None and len(content.encode("utf-8", "surrogatepass")) > self.stream_limit:
            raise Refused(400, "param.stream.content", "content is too large")
        done = {"success": True, "result": True}
        if guid in self._guids:
            return done
        if (state.finalized or state.failed) and self.streaming_after_end == "refuse":
            raise Refused(400, "param.invalid", "the stream has ended")
        self._guids.add(guid)
        self._check_markdown(card, {key: content})
        fails, ends = body.get("isError") is True, body.get("isFinalize") is True
        changes: Json = {
            "data": state.data | {key: content if whole else state.data.get(key, "") + content},
            "streamed": state.streamed or key,
            "finalized": state.finalized or ends,
            "failed": state.failed or fails,
        }
        switched = "5" if fails else "3" if ends else "" if state.streamed else "2"
        if self.streaming_switches_state and switched:
            changes["flow_status"] = switched
            if "flowStatus" in state.template.variables:
                changes["data"]["flowStatus"] = switched
        self._add_state(card, **changes)
        return done

    def _template_card(self, card_id: Any) -> TemplateCard | None:
        card = (self.cards.get(card_id) or self._undelivered.get(card_id)) if isinstance(card_id, str) else None
        return card if isinstance(card, TemplateCard) else None

    def _known_card(self, body: Json) -> TemplateCard:
        card = self._template_card(_card_id(body))
        if card is None:
            raise Refused(400, "param.cardNotExist", "outTrackId")
        return card

    def _add_state(self, card: TemplateCard, **changes: Any) -> None:
        card.states.append(replace(card.states[-1], at=time.monotonic(), **changes))
        if self.on_change and card.id in self.cards:
            self.on_change(card)

    # ---- looking at bodies

    def _private_data(self, body: Json) -> dict[str, dict[str, str]]:
        private = _section(body, "privateData")
        if "" in private:
            raise Refused(400, "param.userIdEmpty", "privateData")
        if not set(private) <= set(self._staff):
            raise Refused(400, "param.userIdNotExist", "privateData")
        return {person: _param_map(part, f"privateData.{person}") for person, part in private.items()}

    def _check_markdown(self, card: TemplateCard, *maps: dict[str, str]) -> None:
        """The platform demands complete markdown each time, and does not say what it does with other."""
        variables = card.states[-1].template.variables
        for name, text in [item for values in maps for item in values.items()]:
            problem = unfinished(text) if variables.get(name) == "markdown" else ""
            if problem:
                self.protocol_errors.append(f"card {card.id}: {name} {problem}: {text[-100:]!r}")


def unfinished(text: str) -> str:
    """What is missing at the end of this markdown, "" if it is complete."""
    fence = ""
    table: list[str] = []  # the table lines at the end
    for line in text.removesuffix("\n").split("\n"):
        stripped = line.strip()
        marker = re.match(r"`{3,}|~{3,}", stripped)
        if fence:
            if marker and marker[0].startswith(fence) and not stripped.strip(fence[0]):
                fence = ""
            table = []
            continue
        if marker:
            fence = marker[0]
        table = [*table, stripped] if stripped.startswith("|") else []
    if fence:
        return "has a code fence without an end"
    if not table:
        return ""
    if not re.search(r"[^\\]\|$", table[-1]):
        return "has a table line without an end"
    if len(table) == 1:
        return "has the header of a table without its delimiter line"
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table[:2]]
    if len(table) == 2 and re.fullmatch(r"[|:\s-]+", table[1]) and cells[0] != cells[1]:
        return "has a table with a part of its delimiter line"
    return ""


def response_of(data: str) -> Json:
    """What the acknowledgement of a click wants; ValueError if it is no such thing."""
    answer = json_object(data)
    if "response" not in answer:
        raise ValueError("it has no response")
    response = answer["response"]
    return response if isinstance(response, dict) else {}


def _delivery(space: str, receiver: str, problem: str) -> Json:
    return {
        "spaceType": space,
        "spaceId": receiver,
        "success": not problem,
        "carrierId": "" if problem else uuid.uuid4().hex,
        "errorMsg": problem,
    }


def _card_id(body: Json) -> str:
    if body.get("userIdType", 1) != 1:
        raise Refused(400, "param.invalid", "userIdType: only 1 is played here")
    return _needed(body, "outTrackId", "param.outTrackIdEmpty")


def _needed(body: Json, name: str, code: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, code, name)
    return value


def _section(body: Json, name: str) -> Json:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, "param.invalid", name)
    return value


def _param_map(part: Any, name: str) -> dict[str, str]:
    values = part.get("cardParamMap") if isinstance(part, dict) else None
    if not isinstance(values, dict) or not _strings(values):
        raise Refused(400, "param.invalid", f"{name}.cardParamMap is to be an object whose values are strings")
    return dict(values)


def _strings(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())
