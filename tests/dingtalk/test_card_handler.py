"""Clicks as they come off the connection: carried out by the robot, and answered in time with what the person sees."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from dingtalk_stream import AckMessage, CallbackMessage

from imRobots.dingTalkStreamType import TextHandler, card_handler
from imRobots.dingTalkStreamType.card_handler import CardHandler
from imRobots.dingTalkStreamType.config import CardVariables
from imRobots.dingTalkStreamType.logs import library_log
from imRobots.dingTalkStreamType.template import Template
from imRobots.Meta import Click, Clicked, ClickRefused, Deadline, ReplyRefused, texts_for
from tests.dingtalk.helpers import ELEMENT, Log, callback, robot_threads, soon
from tests.fakes.agents import ReferenceAgent
from tests.fakes.clicks import click_data, find_button
from tests.fakes.gateway import UPDATE_INSTANCE, Gateway

TEXTS = texts_for("en-US", "")
BY_KEY = {"updateCardDataByKey": True, "updatePrivateDataByKey": True}

MakeHandler = Callable[..., TextHandler]
Receive = Callable[..., CallbackMessage]


class Robot:
    """Takes clicks; answers with what `answer` holds, or (None) when the test says so."""

    def __init__(self, answer: Clicked | Exception | None = None) -> None:
        self.answer = answer
        self.clicks: list[Click] = []
        self.futures: list[Future[Clicked]] = []

    def click(self, click: Click) -> Future[Clicked]:
        self.clicks.append(click)
        future: Future[Clicked] = Future()
        future.set_running_or_notify_cancel()
        self.futures.append(future)
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer is not None:
            future.set_result(self.answer)
        return future


class Api:
    """Keeps what is updated, and on which thread."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.updates: list[dict[str, Any]] = []
        self.threads: set[str] = set()

    def update_instance(self, body: dict[str, Any]) -> dict[str, Any]:
        self.updates.append(body)
        self.threads.add(threading.current_thread().name)
        if self.error:
            raise self.error
        return {}


def handler_for(robot: Robot, api: Any = None) -> CardHandler:
    template = Template("t.schema", CardVariables(content="content", title="", note="note", buttons="buttons"))
    return CardHandler(ELEMENT, template, lambda: api, robot.click)


def clicked(button: str = "helpful", card: str = "ai-1", **changes: Any) -> CallbackMessage:
    content = {"cardPrivateData": {"actionIds": [button], "params": {}}}
    data = {"outTrackId": card, "userId": "staff-Ann", "type": "actionCallback", "content": json.dumps(content)}
    return callback(data | changes, "frame-9")


async def process(handler: CardHandler, message: CallbackMessage) -> tuple[int, Any]:
    return await asyncio.wait_for(handler.process(message), 10)


# ---- in time


async def test_the_acknowledgement_says_what_the_person_sees() -> None:
    robot = Robot(Clicked(TEXTS, "Thanks!", "helpful"))
    ack = await handler_for(robot).raw_process(clicked("helpful"))
    answer = ack.to_dict()
    response = json.loads(answer.pop("data"))["response"]
    assert answer == {
        "code": 200,
        "message": "OK",
        "headers": {"contentType": "application/json", "messageId": "frame-9"},
    }
    seen = response["userPrivateData"]["cardParamMap"]
    assert seen.pop("note") == "Thanks!"
    assert [button["text"] for button in json.loads(seen.pop("buttons"))][1] == "✅ 😊 Helpful"
    assert seen == {}
    assert response == {"cardUpdateOptions": BY_KEY, "userPrivateData": {"cardParamMap": {}}}
    assert robot.clicks == [Click("ai-1", "staff-Ann", "rate", "helpful")]


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (Clicked(TEXTS, "Only Ann can do this."), {"note": "Only Ann can do this."}),
        (Clicked(TEXTS), None),
    ],
    ids=["a note", "nothing"],
)
async def test_there_need_not_be_much_to_see(answer: Clicked, seen: dict[str, str] | None) -> None:
    ack = await handler_for(Robot(answer)).raw_process(clicked("stop"))
    expected = {"cardUpdateOptions": BY_KEY, "userPrivateData": {"cardParamMap": seen}} if seen else {}
    assert (ack.code, ack.data) == (200, {"response": expected})


async def test_of_a_standard_card_nobody_sees_something_else() -> None:
    robot = Robot(Clicked(TEXTS, "Thanks!", "helpful"))
    ack = await handler_for(robot).raw_process(clicked("button_helpful_17", card="3fa9"))
    assert (ack.code, ack.message, ack.data) == (200, "OK", {"response": {}})
    assert robot.clicks == [Click("3fa9", "staff-Ann", "rate", "helpful")]


async def test_a_further_card_of_an_answer_stands_for_the_first() -> None:
    robot = Robot(Clicked(TEXTS, "Thanks!", "helpful"))
    code, response = await process(handler_for(robot), clicked(card="ai-1.2"))
    assert (code, response["userPrivateData"]["cardParamMap"]["note"]) == (200, "Thanks!")
    assert [click.card for click in robot.clicks] == ["ai-1"]


async def test_a_click_that_waits_does_not_hold_up_another() -> None:
    slow, quick = Robot(), Robot(Clicked(TEXTS, "Thanks!"))
    waiting = asyncio.ensure_future(handler_for(slow).process(clicked()))
    assert (await process(handler_for(quick), clicked()))[0] == 200
    assert not waiting.done()
    slow.futures[0].set_result(Clicked(TEXTS))
    assert await asyncio.wait_for(waiting, 10) == (200, {})


# ---- refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "its data is no JSON object"),
        ("{}", "its data is no JSON object"),
        ({}, "it names no card"),
        ({"outTrackId": "ai-1"}, "it names nobody"),
        ({"outTrackId": "ai-1", "userId": "staff-Ann", "content": "{broken"}, "its content is no JSON object"),
    ],
    ids=repr,
)
async def test_what_is_no_click_is_refused_and_logged(data: Any, reason: str, log: Log) -> None:
    message, robot = clicked(), Robot()
    message.data = data
    ack = await handler_for(robot).raw_process(message)
    assert (ack.code, ack.message, ack.data) == (400, "refused", {"response": {}})
    assert ack.headers.message_id == "frame-9"
    [warning] = log.lines("warning")
    assert ELEMENT in warning and reason in warning
    assert robot.clicks == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_the_robot_refuses_is_refused_and_logged(at_once: bool, log: Log) -> None:
    def refuse(click: Click) -> Future[Clicked]:
        raise ClickRefused("the card ai-1 is not known")

    robot = Robot(ClickRefused("the card ai-1 is not known"))
    handler = handler_for(robot)
    if at_once:
        handler._click = refuse
    ack = await handler.raw_process(clicked())
    assert (ack.code, ack.message, ack.data) == (400, "refused", {"response": {}})
    [warning] = log.lines("warning")
    assert warning == f"{ELEMENT}: a click was refused: the card ai-1 is not known"


# ---- too late


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_handler, "_SECONDS", 0.01)


async def test_what_a_person_sees_late_takes_a_call_of_its_own(impatient: None) -> None:
    robot, api = Robot(), Api()
    assert await process(handler_for(robot, api), clicked(card="ai-1.2")) == (200, {})
    assert api.updates == [] and not robot.futures[0].cancelled()
    robot.futures[0].set_result(Clicked(TEXTS, "Thanks!"))
    [body] = await soon(lambda: api.updates, "the update")
    assert body == {
        "outTrackId": "ai-1.2",
        "privateData": {"staff-Ann": {"cardParamMap": {"note": "Thanks!"}}},
        "cardUpdateOptions": BY_KEY,
    }
    assert api.threads == {"imRobots-click"}, "the robot's thread must not block"


@pytest.mark.parametrize(
    ("card", "answer"),
    [("ai-1", Clicked(TEXTS)), ("3fa9", Clicked(TEXTS, "Thanks!", "helpful"))],
    ids=["nothing", "standard"],
)
async def test_where_there_is_nothing_to_see_late_no_call_is_made(impatient: None, card: str, answer: Clicked) -> None:
    robot, api = Robot(), Api()
    assert await process(handler_for(robot, api), clicked(card=card)) == (200, {})
    robot.futures[0].set_result(answer)
    assert "imRobots-click" not in robot_threads() and api.updates == []


async def test_what_is_refused_late_is_logged(impatient: None, log: Log) -> None:
    robot, api = Robot(), Api()
    assert await process(handler_for(robot, api), clicked()) == (200, {})
    robot.futures[0].set_exception(ClickRefused("the card ai-1 is not known"))
    [warning] = log.lines("warning")
    assert ELEMENT in warning and "not known" in warning
    assert api.updates == []


async def test_what_cannot_be_shown_late_is_logged(impatient: None, log: Log) -> None:
    robot, api = Robot(), Api(ReplyRefused("no permission"))
    assert await process(handler_for(robot, api), clicked()) == (200, {})
    robot.futures[0].set_result(Clicked(TEXTS, "Thanks!"))
    [line] = await soon(lambda: log.lines("info"), "a line in the log")
    assert ELEMENT in line and "no permission" in line


def test_dingtalks_patience_is_kept() -> None:
    assert 0.5 <= card_handler._SECONDS <= 1.9, "DingTalk waits for 2 s, and the way there and back takes its time"


# ---- with a robot


@pytest.fixture
def robots_handler(gateway: Gateway, make_handler: MakeHandler) -> TextHandler:
    return make_handler(language="en-US", cardType="ai")


@pytest.fixture
def answered(gateway: Gateway, robots_handler: TextHandler, receive: Receive) -> Callable[..., Any]:
    """Somebody asks, and has an answer; returns its card."""

    async def answered() -> Any:
        assert await asyncio.wait_for(robots_handler.process(receive("why?")), 15) == (200, "OK")
        return gateway.card_for("why?", state="final")

    return answered


def click_on(card: Any, label: str, person: str = "staff-Ann") -> CallbackMessage:
    return callback(click_data(card, find_button(card, label, person), person, "official"), "frame-9")


async def test_a_rating_is_kept_and_shown_to_who_gave_it(
    answered: Callable[..., Any], robots_handler: TextHandler
) -> None:
    card = await answered()
    code, response = await process(robots_handler.card_handler, click_on(card, TEXTS.helpful))
    seen = response["userPrivateData"]["cardParamMap"]
    assert (code, seen["staticMsgContent"]) == (200, f"{TEXTS.thanks} {TEXTS.helpful}")
    assert "✅ 😊 Helpful" in seen["sys_full_json_obj"]
    rated = json.loads(robots_handler.exportFeedback())
    assert (rated["rating"], rated["person"]) == ("helpful", "staff-Ann")
    assert (rated["question"], rated["answer"]) == ("why?", "Press reset.")


async def test_a_rating_that_was_acknowledged_too_early_is_shown_all_the_same(
    gateway: Gateway, answered: Callable[..., Any], robots_handler: TextHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await answered()
    monkeypatch.setattr(card_handler, "_SECONDS", 0)
    assert await process(robots_handler.card_handler, click_on(card, TEXTS.not_helpful, "staff-Ann")) == (200, {})
    await soon(lambda: card.view("staff-Ann").note, "the private update")
    assert card.view("staff-Ann").note == f"{TEXTS.thanks} {TEXTS.not_helpful}"
    assert f"✅ {TEXTS.not_helpful}" in card.view("staff-Ann").labels
    assert (card.note, card.text) == ("", "Press reset."), "everybody else sees what was there"
    assert f"✅ {TEXTS.not_helpful}" not in card.labels
    update = [call for call in gateway.calls if call.path == UPDATE_INSTANCE][-1]
    assert (update.method, set(update.body)) == ("PUT", {"outTrackId", "privateData", "cardUpdateOptions"})


async def test_of_a_forged_button_nothing_comes(
    answered: Callable[..., Any], robots_handler: TextHandler, log: Log
) -> None:
    card = await answered()
    value = {"action": "feedback", "type": "helpful", "message_id": "msg-else", "original_text": "why?"}
    message = click_on(card, TEXTS.helpful)
    message.data["content"] = json.dumps({"params": {"value": value}})
    assert await process(robots_handler.card_handler, message) == (400, {})
    assert robots_handler.exportFeedback() == ""
    [warning] = log.lines("warning", containing="refused")
    assert ELEMENT in warning and "another message" in warning


async def test_a_stopped_handler_takes_no_clicks(
    answered: Callable[..., Any], robots_handler: TextHandler, log: Log
) -> None:
    card = await answered()
    message = click_on(card, TEXTS.helpful)
    robots_handler.close(Deadline(2))
    assert await process(robots_handler.card_handler, message) == (AckMessage.STATUS_BAD_REQUEST, {})
    assert log.lines("warning", containing="refused") == [f"{ELEMENT}: a click was refused: the client was stopped"]
    robots_handler.pre_start()
    code, response = await process(robots_handler.card_handler, message)
    assert code == AckMessage.STATUS_OK and response


async def test_a_click_while_the_agent_works_stops_it(
    gateway: Gateway, robots_handler: TextHandler, receive: Receive, agent: ReferenceAgent
) -> None:
    agent.gate = threading.Event()
    answering = asyncio.ensure_future(robots_handler.process(receive("why?")))
    try:
        card = await soon(lambda: gateway.card_for("why?"), "the card")
        message = click_on(card, TEXTS.stop)
        assert await soon_known(robots_handler, message) == (200, {})
        assert await asyncio.wait_for(answering, 15) == (200, "OK")
        assert (card.state, card.labels) == ("final", [TEXTS.regenerate])
        assert card.text.endswith(TEXTS.stopped)
    finally:
        agent.gate.set()


async def soon_known(handler: TextHandler, message: CallbackMessage) -> tuple[int, Any]:
    """A click on a card that has just arrived: until the robot has heard so, it does not know the card."""
    while True:
        result = await process(handler.card_handler, message)
        if result[0] == 200:
            return result


def test_the_sdks_methods_write_into_our_log_only() -> None:
    assert handler_for(Robot()).logger is library_log
