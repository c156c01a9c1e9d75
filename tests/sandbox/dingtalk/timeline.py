"""When an answer was asked for, acknowledged, first seen, how it grew and ended: read from frames and calls.

Owns which question waits where and which card is whose. `mark` is told of each moment, at most once each of received,
acknowledged and first. An answer may end several times, the last one counts: each further card of a long one ends it,
and each markdown message. The last word of a standard card without buttons looks like one more update: what is told of
it, `Desk.settle` sets right. Any thread; knows no desk and no clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from imRobots.dingTalkStreamType.ai_card import first_card_of
from imRobots.dingTalkStreamType.clicks import read_click
from imRobots.dingTalkStreamType.frames import headers_of, topic_of
from imRobots.dingTalkStreamType.messages import read_message
from imRobots.Meta import ClickRefused, texts_for
from tests.fakes.gateway import (
    CARD_TOPIC,
    CREATE_CARD,
    MESSAGE_TOPIC,
    SEND_CARD,
    SEND_TO_GROUP,
    SEND_TO_PEOPLE,
    STREAM_CARD,
    UPDATE_CARD,
    UPDATE_INSTANCE,
)
from tests.fakes.records import Json, json_or_nothing

from ..desk import Mark

T = TypeVar("T")

_KEPT = 300  # answers; what is older is over
_MAX_TITLE = 200  # of an AI card's characters: see `template.py`
# A send that seemed to fail is refused when it is tried again, and the card is there.
_THERE_ALREADY = ("param.cardAlreadyExist", "invalid.bizId")
_THINKING = tuple(texts_for(language, "").thinking for language in ("en-US", "zh-CN"))


@dataclass(eq=False)
class _Answer:
    id: str
    question: str
    place: str  # as in `openSpaceId`
    person: str
    webhook: str
    received: float
    acknowledged: float | None = None
    is_begun: bool = False
    is_shown: bool = False
    is_over: bool = False
    card: str = ""
    ended: set[str] = field(default_factory=set)  # cards
    again: _Answer | None = None  # asked for by the last click on Regenerate


class Timeline:
    def __init__(self, mark: Callable[[str, Mark, float, str], None]) -> None:
        """`mark` is given the answer's id, what has happened, when, and the question."""
        self._mark = mark
        self._lock = threading.Lock()
        self._answers: dict[str, _Answer] = {}
        self._cards: dict[str, _Answer] = {}  # first cards
        self._unacknowledged: dict[str, _Answer] = {}  # by `headers.messageId`
        self._calls: dict[tuple[str, str], Callable[[Json, float], None]] = {
            ("POST", CREATE_CARD): self._delivered,
            ("POST", SEND_CARD): self._sent,
            ("PUT", STREAM_CARD): lambda body, at: self._updated(body.get("outTrackId"), at, is_last=False),
            # Of what everybody sees, the robot makes no such update but to end a card.
            ("PUT", UPDATE_INSTANCE): lambda body, at: (
                self._updated(body.get("outTrackId"), at, is_last=True) if body.get("cardData") else None
            ),
            ("PUT", UPDATE_CARD): lambda body, at: self._updated(
                body.get("cardBizId"), at, is_last=_has_buttons(json_or_nothing(body.get("cardData")))
            ),
            ("POST", SEND_TO_GROUP): self._wrote,
            ("POST", SEND_TO_PEOPLE): self._wrote,
        }

    def came(self, frame: Json, at: float) -> None:
        """A frame, its `data` parsed."""
        data, frame_id = frame.get("data"), str(headers_of(frame).get("messageId") or "")
        if not isinstance(data, dict):
            return
        with self._lock:
            if topic_of(frame) == MESSAGE_TOPIC:
                self._asked(data, frame_id, at)
            elif topic_of(frame) == CARD_TOPIC and frame_id:
                self._clicked(data, frame_id, at)

    def went(self, ack: Json, at: float) -> None:
        """The acknowledgement of a frame."""
        with self._lock:
            answer = self._unacknowledged.pop(str(headers_of(ack).get("messageId")), None)
            if answer and answer.acknowledged is None:
                answer.acknowledged = at
                if answer.is_begun:
                    self._tell(answer, "acknowledged", at)

    def called(self, method: str, path: str, url: str, body: Json, at: float, *, refused: bool, code: str) -> None:
        """A call that was answered; the `code` of a refusal."""
        carried_out = self._calls.get((method, path))
        with self._lock:
            if refused and (code not in _THERE_ALREADY or method != "POST"):
                return
            if carried_out:
                carried_out(body, at)
            elif theirs := [answer for answer in self._answers.values() if answer.webhook == url]:
                kind = body.get("msgtype")
                self._said(theirs, body.get(str(kind)), at, is_answer=kind == "markdown")

    # ---- what people do

    def _asked(self, data: Json, frame_id: str, at: float) -> None:
        message = read_message(data, frame_id)
        answer = self._answers.get(message.message_id)
        if answer is None:
            person = str(data.get("senderStaffId") or "")
            in_group = str(data.get("conversationType")) == "2"
            place = f"IM_GROUP.{data.get('conversationId')}" if in_group else f"IM_ROBOT.{person}"
            webhook = str(data.get("sessionWebhook") or "")
            answer = _Answer(message.message_id, message.text, place, person, webhook, at)
            self._begin(answer)
        if frame_id:
            _keep(self._unacknowledged, frame_id, answer, 2 * _KEPT)

    def _clicked(self, data: Json, frame_id: str, at: float) -> None:
        try:
            click = read_click(data)
        except ClickRefused:
            return
        answer = self._cards.get(first_card_of(click.card))
        if answer and click.action == "regenerate":
            answer.again = _Answer(frame_id, answer.question, answer.place, answer.person, answer.webhook, at)
            _keep(self._unacknowledged, frame_id, answer.again, 2 * _KEPT)

    def _begin(self, answer: _Answer) -> None:
        answer.is_begun = True
        _keep(self._answers, answer.id, answer, _KEPT)
        self._tell(answer, "received", answer.received)
        if answer.acknowledged is not None:
            self._tell(answer, "acknowledged", answer.acknowledged)

    def _begin_again(self, answers: Iterable[_Answer]) -> _Answer | None:
        """The one of these that was last asked for once more, if any was."""
        clicked = [(answer.again.received, answer) for answer in answers if answer.again]
        if not clicked:
            return None
        _, answer = max(clicked, key=lambda one: one[0])
        again, answer.again = answer.again, None
        assert again is not None
        self._begin(again)
        return again

    # ---- cards

    def _delivered(self, body: Json, at: float) -> None:
        """An AI card. What its title is called, only the configuration knows."""
        variables = _part(_part(body, "cardData"), "cardParamMap").values()
        told = _part(_part(body, "imGroupOpenDeliverModel"), "atUserIds")
        place = str(body.get("openSpaceId")).removeprefix("dtv1.card//")
        self._opened(body.get("outTrackId"), place, [one for one in variables if isinstance(one, str)], told, at)

    def _sent(self, body: Json, at: float) -> None:
        """A standard card."""
        title = _part(_part(json_or_nothing(body.get("cardData")), "header"), "title").get("text")
        people = json_or_nothing(f'{{"people": {_part(body, "sendOptions").get("atUserListJson")}}}').get("people")
        told = [one.get("userId") for one in people if isinstance(one, dict)] if isinstance(people, list) else []
        self._opened(body.get("cardBizId"), _place(body), [str(title)], told, at)

    def _opened(self, card: Any, place: str, titles: list[str], told: Iterable[Any], at: float) -> None:
        first = first_card_of(str(card))
        if first in self._cards:
            if card != first:
                self._updated(card, at, is_last=True)
            return
        here = [answer for answer in self._answers.values() if answer.place == place]
        asked = [answer for answer in here if any(_is_title(title, answer.question) for title in titles)]
        waiting = [answer for answer in asked if not answer.card and not answer.is_over]
        people = set(map(str, told))
        # The oldest one; of the person who is told, if several ask the same.
        found = min(waiting, key=lambda one: one.person not in people, default=None) or self._begin_again(asked)
        if found:
            found.card = first
            _keep(self._cards, first, found, 2 * _KEPT)
            self._show(found, at)

    def _updated(self, card: Any, at: float, *, is_last: bool) -> None:
        answer = self._cards.get(first_card_of(str(card)))
        if answer is None or str(card) in answer.ended:  # a last word may be sent twice
            return
        if is_last:
            answer.ended.add(str(card))
            answer.is_over = True
            self._tell(answer, "final", at)
        elif not answer.is_over:
            self._tell(answer, "update", at)

    # ---- messages

    def _wrote(self, body: Json, at: float) -> None:
        """A message of the robot's own: the session webhook was refused."""
        place = _place(body)
        theirs = [answer for answer in self._answers.values() if answer.place == place]
        is_answer = body.get("msgKey") == "sampleMarkdown"
        self._said(theirs, json_or_nothing(body.get("msgParam")), at, is_answer=is_answer)

    def _said(self, theirs: list[_Answer], content: Any, at: float, *, is_answer: bool) -> None:
        """Markdown is an answer or a part of it. A text is all that there is to say, or that it is thought about."""
        waiting = [answer for answer in theirs if not answer.is_over]
        answer = min(waiting, key=lambda one: bool(one.card), default=None)
        if answer is None and is_answer:
            answer = self._begin_again(theirs) or next(reversed(theirs), None)
        if answer is None:
            return
        self._show(answer, at)
        text = str(content.get("content")) if isinstance(content, dict) else ""
        if is_answer or not text.endswith(_THINKING):
            answer.is_over = True
            self._tell(answer, "final", at)

    def _show(self, answer: _Answer, at: float) -> None:
        if not answer.is_shown:
            answer.is_shown = True
            self._tell(answer, "first", at)

    def _tell(self, answer: _Answer, what: Mark, at: float) -> None:
        self._mark(answer.id, what, at, answer.question)


def _keep(things: dict[str, T], key: str, thing: T, most: int) -> None:
    things[key] = thing
    while len(things) > most:
        del things[next(iter(things))]


def _is_title(title: str, question: str) -> bool:
    return title == question or (len(question) > _MAX_TITLE and title == f"{question[: _MAX_TITLE - 1]}…")


def _place(body: Json) -> str:
    """Where a standard card or a message goes, in the words of an AI card."""
    if group := body.get("openConversationId"):
        return f"IM_GROUP.{group}"
    people = body.get("userIds")
    person = people[0] if isinstance(people, list) and people else None
    return f"IM_ROBOT.{person or json_or_nothing(body.get('singleChatReceiver')).get('userId')}"


def _has_buttons(card: Json) -> bool:
    contents = card.get("contents")
    return isinstance(contents, list) and any(isinstance(one, dict) and one.get("type") == "action" for one in contents)


def _part(value: Any, name: str) -> Json:
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}
