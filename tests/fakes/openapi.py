"""The HTTP side of the stand-in DingTalk: access tokens, standard cards, the robot's messages, session webhooks.

It owns who and what DingTalk knows (people, groups, webhook sessions, cards) and decides about every call; those about
cards of templates it leaves to template_cards.py. How calls arrive and what goes wrong on the way is not its business.
Calls are decided on the gateway's own thread, one after the other; any thread may read what happened and change how it
behaves.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from aiohttp import web

from tests.fakes.records import (
    AnyCard,
    Card,
    CardState,
    Json,
    SentMessage,
    WebhookMessage,
    json_object,
    json_or_nothing,
)
from tests.fakes.template_cards import CREATE_CARD, DELIVER_CARD, STREAM_CARD, UPDATE_INSTANCE
from tests.fakes.trouble import Refused

TOKEN = "/v1.0/oauth2/accessToken"
SEND_CARD = "/v1.0/im/v1.0/robot/interactiveCards/send"
UPDATE_CARD = "/v1.0/im/robots/interactiveCards"
SEND_TO_GROUP = "/v1.0/robot/groupMessages/send"
SEND_TO_PEOPLE = "/v1.0/robot/oToMessages/batchSend"
WEBHOOK = "/robot/sendBySession"
# These use up the month, too.
WITH_TOKEN = frozenset(
    {SEND_CARD, UPDATE_CARD, SEND_TO_GROUP, SEND_TO_PEOPLE, CREATE_CARD, DELIVER_CARD, UPDATE_INSTANCE, STREAM_CARD}
)
TOKEN_SECONDS = 7200
WEBHOOK_BYTES = 20_000
MSG_PARAM_BYTES = 15_000
CARD_ID_CHARS = 100
USERS_PER_SEND = 20
MSG_KINDS = {"sampleText": "text", "sampleMarkdown": "markdown"}
# The first one is what the message says.
MESSAGE_FIELDS = {"text": ["content"], "markdown": ["text", "title"]}


class OpenApi:
    def __init__(self, client_id: str, client_secret: str, on_change: Callable[[AnyCard], None] | None) -> None:
        self.client_id, self.client_secret, self.on_change = client_id, client_secret, on_change
        # How it behaves; a test may change these at any time.
        self.month_limit: int | None = None
        self.token_refusal: tuple[int, str] = (400, "InvalidAuthentication")
        self.repeated_card: Literal["refuse", "accept"] = "refuse"  # nobody knows what DingTalk does
        self.flow_controlled: set[str] = set()
        self.on_message: Callable[[SentMessage], None] | None = None  # what the robot wrote, by either way
        # What happened.
        self.cards: dict[str, AnyCard] = {}
        self.webhooks: list[WebhookMessage] = []
        self.sent: list[SentMessage] = []
        self.month_calls = 0
        # What DingTalk knows.
        self._token = ("", 0.0)
        self._groups: set[str] = set()
        self._staff: dict[str, str] = {}  # userId -> one-to-one conversation
        self._unions: dict[str, str] = {}  # unionId -> the same
        self._sessions: dict[str, tuple[float, str]] = {}  # -> end of life, conversation
        self._endpoints: dict[tuple[str, str], Callable[[web.Request, Json], Json | str]] = {
            ("POST", TOKEN): self._give_token,
            ("POST", SEND_CARD): self._send_card,
            ("PUT", UPDATE_CARD): self._update_card,
            ("POST", SEND_TO_GROUP): self._send_to_group,
            ("POST", SEND_TO_PEOPLE): self._send_to_people,
            ("POST", WEBHOOK): self._receive_webhook,
        }

    def expire_tokens(self) -> None:
        self._token = ("", 0.0)

    def said(self, conversation: str | None = None) -> list[SentMessage]:
        """What the robot wrote, there or anywhere, by whichever way but cards; the oldest first."""
        messages = [*self.webhooks, *self.sent]
        chosen = [message for message in messages if conversation in (None, message.conversation)]
        return sorted(chosen, key=lambda message: message.at)

    def _answer(self, request: web.Request, raw: bytes) -> Json | str:
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is None:
            raise Refused(404, "InvalidAction.NotFound", "there is no such API")
        if request.path in WITH_TOKEN:
            self._check_access(request.headers.get("x-acs-dingtalk-access-token"))
        try:
            body = json_object(raw.decode())
        except ValueError as exc:
            raise Refused(400, "param.isNotJson", f"the body is not a JSON object in UTF-8: {exc}") from exc
        if request.content_type != "application/json":
            raise Refused(400, "param.isNotJson", "the body is not declared as application/json")
        if request.path == WEBHOOK and len(raw) > WEBHOOK_BYTES:
            raise Refused(200, "460101", f"message too long, exceed {WEBHOOK_BYTES} bytes")
        answer = endpoint(request, body)
        if request.path in WITH_TOKEN:
            self.month_calls += 1
        return answer

    def _check_access(self, given: str | None) -> None:
        token, expires = self._token
        if not given or given != token or time.monotonic() >= expires:
            raise Refused(*self.token_refusal, "不合法的access_token")
        if self.month_limit is not None and self.month_calls >= self.month_limit:
            raise Refused(403, "Forbidden.AccessDenied.ApiCountLimitForOrg", "the organisation's month is used up")

    def _give_token(self, _: web.Request, body: Json) -> Json:
        if (body.get("appKey"), body.get("appSecret")) != (self.client_id, self.client_secret):
            raise Refused(400, "invalidClientIdOrSecret", "无效的clientId或者clientSecret")
        token, expires = self._token
        if time.monotonic() >= expires:
            token = uuid.uuid4().hex
        self._token = (token, time.monotonic() + TOKEN_SECONDS)
        return {"accessToken": token, "expireIn": TOKEN_SECONDS}

    # ---- cards

    def _send_card(self, _: web.Request, body: Json) -> Json:
        if body.get("cardTemplateId") != "StandardCard":
            raise Refused(400, "template.isNotExist", "cardTemplateId")
        if body.get("robotCode") != self.client_id:
            raise Refused(400, "invalid.robotCode", "robotCode")
        state = _card_state(body)
        card_id = body.get("cardBizId")
        if not isinstance(card_id, str) or not 0 < len(card_id) <= CARD_ID_CHARS:
            raise Refused(400, "invalid.bizId", "cardBizId is missing or too long")
        if card_id in self.cards and self.repeated_card == "refuse":
            raise Refused(400, "invalid.bizId", "cardBizId is used")
        card = Card(card_id, self._receiver(body), body, [state])
        try:
            people = json.loads((body.get("sendOptions") or {}).get("atUserListJson", "[]"))
            valid = isinstance(people, list) and all(isinstance(one["userId"], str) and one["userId"] for one in people)
        except (ValueError, TypeError, KeyError, AttributeError):
            valid = False
        if not valid:
            raise Refused(400, "param.error", "sendOptions.atUserListJson")
        if card_id in self.cards:
            return {"processQueryKey": uuid.uuid4().hex}
        self.cards = self.cards | {card_id: card}
        return self._accept(card)

    def _receiver(self, body: Json) -> str:
        """The conversation that a card goes to."""
        group, single = body.get("openConversationId"), body.get("singleChatReceiver")
        if (group is None) == (single is None):
            raise Refused(400, "param.error", "either openConversationId or singleChatReceiver")
        if single is None:
            return self._group(group)
        person = json_or_nothing(single)
        by_staff, by_union = person.get("userId"), person.get("unionId")
        conversation = self._staff.get(str(by_staff)) if by_staff else self._unions.get(str(by_union))
        if conversation is None:
            raise Refused(400, "invalid.user", "singleChatReceiver")
        return conversation

    def _group(self, group: Any) -> str:
        if not isinstance(group, str) or group not in self._groups:
            raise Refused(400, "invalid.openConversationId", "openConversationId")
        return group

    def _update_card(self, _: web.Request, body: Json) -> Json:
        card = self.cards.get(str(body.get("cardBizId")))
        if not isinstance(card, Card):
            raise Refused(400, "cardInstance.notExist", "cardBizId")
        card.states.append(_card_state(body))
        return self._accept(card)

    def _accept(self, card: Card) -> Json:
        if self.on_change:
            self.on_change(card)
        return {"processQueryKey": uuid.uuid4().hex}

    # ---- messages

    def _send_to_group(self, _: web.Request, body: Json) -> Json:
        kind, text = self._message(body)
        group = self._group(body.get("openConversationId"))
        self._keep(self.sent, SentMessage(group, body, time.monotonic(), kind, text))
        return {"processQueryKey": uuid.uuid4().hex}

    def _send_to_people(self, _: web.Request, body: Json) -> Json:
        kind, text = self._message(body)
        people = body.get("userIds")
        if not isinstance(people, list) or not people or not all(isinstance(one, str) and one for one in people):
            raise Refused(400, "invalidParameter.userIds.empty", "userIds")
        if len(people) > USERS_PER_SEND:
            raise Refused(400, "invalidParameter.userIds.overMax", "userIds")
        unknown = [person for person in people if person not in self._staff]
        slowed = [person for person in people if person in self.flow_controlled and person not in unknown]
        for person in people:
            if person not in unknown and person not in slowed:
                self._keep(self.sent, SentMessage(self._staff[person], body, time.monotonic(), kind, text))
        return {
            "processQueryKey": uuid.uuid4().hex,
            "invalidStaffIdList": unknown,
            "flowControlledStaffIdList": slowed,
        }

    def _message(self, body: Json) -> tuple[str, str]:
        """Kind and text of a message of the robot's own API."""
        if not body.get("robotCode"):
            raise Refused(400, "invalidParameter.robotCode.empty", "robotCode")
        if body["robotCode"] != self.client_id:
            raise Refused(400, "invalidParameter.robotCode.invalid", "robotCode")
        kind, param = MSG_KINDS.get(str(body.get("msgKey"))), body.get("msgParam")
        if kind is None:
            raise Refused(400, "invalidParameter.msgKey.invalid", "msgKey")
        if isinstance(param, str) and len(param.encode("utf-8", "surrogatepass")) > MSG_PARAM_BYTES:
            raise Refused(400, "invalidParameter.msgParam.tooLong", "msgParam")
        text = _text(kind, json_or_nothing(param))
        if text is None:
            raise Refused(400, "invalidParameter.msgParam.invalid", "msgParam")
        return kind, text

    def _receive_webhook(self, request: web.Request, body: Json) -> Json:
        expires, conversation = self._sessions.get(request.query.get("session", ""), (0.0, ""))
        if time.monotonic() >= expires:
            raise Refused(200, "300001", "session 不存在")
        kind = str(body.get("msgtype"))
        text, mentioned = _text(kind, body.get(kind)), body.get("at") or {}
        people = (mentioned.get("atUserIds") or []) if isinstance(mentioned, dict) else None
        if text is None or not isinstance(people, list) or not all(isinstance(person, str) for person in people):
            raise Refused(200, "40035", "不合法的参数")
        self._keep(self.webhooks, WebhookMessage(conversation, body, time.monotonic(), kind, text))
        return {"errcode": 0, "errmsg": "ok"}

    def _keep(self, messages: list[Any], message: SentMessage) -> None:
        messages.append(message)
        if self.on_message:
            self.on_message(message)


def _text(kind: str, parts: Any) -> str | None:
    """What a message says, None if it is not whole."""
    needed = MESSAGE_FIELDS.get(kind)
    if not needed or not isinstance(parts, dict):
        return None
    values = [parts.get(name) for name in needed]
    whole = all(isinstance(value, str) and value.strip() for value in values)
    return str(values[0]) if whole else None


def _card_state(body: Json) -> CardState:
    data = json_or_nothing(body.get("cardData"))
    contents = data.get("contents")
    shaped = isinstance(data.get("config"), dict) and isinstance(data.get("header"), dict)
    if not shaped or not isinstance(contents, list) or not all(isinstance(element, dict) for element in contents):
        raise Refused(400, "param.isNotJson", "cardData is not a JSON string with config, header and contents")
    return CardState(time.monotonic(), data)
