"""An answer as an AI card: which calls it takes, in which order, and what people see when one of them goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dingtalk_stream import CallbackMessage

from imRobots.dingTalkStreamType import TextHandler
from imRobots.dingTalkStreamType.ai_card import AiCard, first_card_of, is_ai_card
from imRobots.dingTalkStreamType.config import CardVariables
from imRobots.dingTalkStreamType.messages import chatbot_message
from imRobots.dingTalkStreamType.reply import DingTalkReply
from imRobots.dingTalkStreamType.template import Template as OurTemplate
from imRobots.Meta import RateLimited, ReplyRefused, TransportError, Unconfirmed, texts_for
from tests.dingtalk.helpers import CLIENT_ID, Log, payload
from tests.fakes.gateway import (
    AI_TEMPLATE,
    CREATE_CARD,
    SEND_CARD,
    STREAM_CARD,
    TOKEN,
    UPDATE_INSTANCE,
    WEBHOOK,
    Gateway,
    Template,
)

TEXTS = texts_for("en-US", "")
RATINGS = [TEXTS.very_helpful, TEXTS.helpful, TEXTS.somewhat_helpful, TEXTS.not_helpful]
ALL_BUTTONS = [*RATINGS, TEXTS.regenerate, TEXTS.keep_asking]
PERMISSION = {"status": 403, "code": "Forbidden.AccessDenied.AccessTokenPermissionDenied"}
OWN = {"content": "content", "title": "title", "note": "note", "buttons": "buttons", "status": "flowStatus"}
OWN_KINDS = {"title": "text", "content": "markdown", "note": "text", "buttons": "buttonGroup", "flowStatus": "status"}

Receive = Callable[..., CallbackMessage]
MakeHandler = Callable[..., TextHandler]
ReplyTo = Callable[..., DingTalkReply]


@pytest.fixture
def handler(gateway: Gateway, make_handler: MakeHandler) -> TextHandler:
    return make_handler(language="en-US", cardType="ai")


@pytest.fixture
def ask(handler: TextHandler, receive: Receive) -> ReplyTo:
    """Somebody asks; returns the reply of a real handler."""

    def ask(text: str = "why?", *, by: TextHandler | None = None, **options: Any) -> DingTalkReply:
        message = chatbot_message(receive(text, **options).data)
        return DingTalkReply(by or handler, message, text, TEXTS)

    return ask


def calls(gateway: Gateway) -> list[str]:
    """The calls about cards and messages, in order."""
    names = {CREATE_CARD: "open", STREAM_CARD: "stream", UPDATE_INSTANCE: "update", SEND_CARD: "standard"}
    return [names.get(call.path, call.path) for call in gateway.calls if call.path in (*names, WEBHOOK)]


def bodies(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    return [call.body for call in gateway.calls if call.path == path]


def send(reply: DingTalkReply, handle: str | None, text: str, outcome: Any = "answered") -> None:
    """As the outbox does: as often as there is more, and where the card is refused, without it."""
    while True:
        try:
            if not reply.finish(handle, text, outcome):
                return
        except ReplyRefused:
            assert handle is not None, "nothing is left to try"
            handle = None


def only_card(gateway: Gateway) -> Any:
    [card] = gateway.cards.values()
    return card


def paragraphs(*letters: str, size: int = 8000) -> str:
    return "\n\n".join(letter * size for letter in letters)


# ---- opened


def test_a_question_is_a_card_with_its_title_and_a_way_to_stop(gateway: Gateway, ask: ReplyTo) -> None:
    handle = ask("why?").open("why?")
    card = only_card(gateway)
    assert card.id == handle
    assert (card.title, card.text, card.labels) == ("why?", TEXTS.thinking, [TEXTS.stop])
    assert (card.callback_type, card.flow_status, card.state) == ("STREAM", "2", "thinking")
    assert calls(gateway) == ["open"]


def test_a_card_in_a_group_goes_there_and_tells_the_one_who_asked(gateway: Gateway, ask: ReplyTo) -> None:
    ask(sender="Bob", conversation="cid-7").open("why?")
    card, body = only_card(gateway), only_card(gateway).send_body
    assert (card.conversation, card.mentions) == ("cid-7", ["staff-Bob"])
    assert body["openSpaceId"] == "dtv1.card//IM_GROUP.cid-7"
    assert body["imGroupOpenDeliverModel"] == {"robotCode": CLIENT_ID, "atUserIds": {"staff-Bob": "Bob"}}
    assert "imRobotOpenDeliverModel" not in body


def test_a_card_one_to_one_goes_to_the_person(gateway: Gateway, ask: ReplyTo) -> None:
    ask(sender="Bob", group=False).open("why?")
    card, body = only_card(gateway), only_card(gateway).send_body
    assert card.conversation == next(iter(gateway._asked.values()))["conversationId"]
    assert body["openSpaceId"] == "dtv1.card//IM_ROBOT.staff-Bob"
    assert body["imRobotOpenDeliverModel"] == {"spaceType": "IM_ROBOT", "robotCode": CLIENT_ID}
    assert "imGroupOpenDeliverModel" not in body


def test_somebody_without_a_name_is_told_by_the_staff_id(gateway: Gateway, ask: ReplyTo) -> None:
    ask(sender="Bob", senderNick=None).open("why?")
    assert only_card(gateway).send_body["imGroupOpenDeliverModel"]["atUserIds"] == {"staff-Bob": "staff-Bob"}


def test_an_outsider_in_a_group_gets_a_card_that_tells_nobody(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(staff=False)
    send(reply, reply.open("why?"), "Because.")
    assert (only_card(gateway).text, only_card(gateway).mentions) == ("Because.", [])


def test_an_outsider_one_to_one_gets_a_message(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(staff=False, group=False)
    handle = reply.open("why?")
    assert handle is None
    send(reply, handle, "Because.")
    assert calls(gateway) == [WEBHOOK]
    assert [message.text for message in gateway.said()] == ["Because."]


@pytest.mark.parametrize("repeated", ["refuse", "accept"])
def test_an_opening_that_seemed_to_fail_is_no_second_card(gateway: Gateway, ask: ReplyTo, repeated: Any) -> None:
    gateway.repeated_card = repeated
    reply = ask()
    gateway.trouble(CREATE_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    handle = reply.open("why?")
    assert only_card(gateway).id == handle
    send(reply, handle, "Because.")
    assert (only_card(gateway).text, only_card(gateway).labels) == ("Because.", ALL_BUTTONS)
    assert gateway.said() == []


def test_the_same_message_has_the_same_card_and_another_one_another() -> None:
    def handle(**changes: Any) -> str:
        template, message = OurTemplate("t", CardVariables()), chatbot_message(payload(**changes))
        return AiCard(CLIENT_ID, None, template, message, "?", TEXTS).handle  # type: ignore[arg-type]

    assert handle() == handle(text={"content": "else"}, sessionWebhook="https://else.example")
    others = [{"msgId": "msg-2"}, {"conversationId": "cid-2"}, {"senderId": "$:LWCP_v1:$else"}]
    assert len({handle(), *(handle(**changes) for changes in others)}) == 4
    assert is_ai_card(handle()) and len(handle()) < 64


@pytest.mark.parametrize(
    ("card_id", "first"),
    [("ai-1", "ai-1"), ("ai-1.1", "ai-1"), ("ai-1.12", "ai-1"), ("3f.a", "3f.a"), ("3fa", "3fa")],
)
def test_a_further_card_belongs_to_the_first(card_id: str, first: str) -> None:
    assert first_card_of(card_id) == first


@pytest.mark.parametrize("trouble", ["unknown", "unpublished"])
def test_a_template_that_is_refused_is_named_and_closes_the_rung(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo, trouble: str
) -> None:
    gateway.templates = {} if trouble == "unknown" else {AI_TEMPLATE: Template({"msgContent": "markdown"}, False)}
    with pytest.raises(ReplyRefused) as caught:
        ask().open("why?")
    assert caught.value.cause == "template"
    assert AI_TEMPLATE in str(caught.value) and "cardTemplateId" in str(caught.value)
    assert list(handler.ladder.closed()) == ["ai"]
    after = ask()
    handle = after.open("why?")
    assert handle is None
    send(after, handle, "Because.")
    assert calls(gateway) == ["open", WEBHOOK]


def test_a_card_that_was_accepted_and_not_delivered_is_refused_for_this_message_only(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    gateway.hidden_failure = "the robot is not in the group"
    with pytest.raises(ReplyRefused, match="not in the group"):
        ask().open("why?")
    gateway.hidden_failure = None
    assert handler.ladder.closed() == {}
    assert ask().open("why?")


def test_where_a_standard_card_is_refused_an_ai_card_is_opened_at_once(
    gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo
) -> None:
    reply = ask(by=make_handler(language="en-US", cardType="standard"))
    gateway.refuse(SEND_CARD, **PERMISSION)
    handle = reply.open("why?")
    assert calls(gateway) == ["standard", "open"]
    assert only_card(gateway).id == handle
    send(reply, handle, "Because.")
    assert (only_card(gateway).text, only_card(gateway).labels) == ("Because.", ALL_BUTTONS)


def test_no_ai_card_is_opened_beside_a_standard_one_that_may_be_there(
    gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo
) -> None:
    reply = ask(by=make_handler(language="en-US", cardType="standard"))
    gateway.trouble(SEND_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    gateway.refuse(SEND_CARD, **PERMISSION)
    with pytest.raises(ReplyRefused):
        reply.open("why?")
    send(reply, None, "Because.")
    assert "open" not in calls(gateway)
    assert (only_card(gateway).text, gateway.said()) == ("Because.", [])


# ---- growing


def test_a_growing_answer_is_streamed_whole_each_time(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    handle = reply.open("why?")
    for text in ("Be", "Because", "Because."):
        reply.progress(handle, text)
        assert only_card(gateway).text == text
    assert calls(gateway) == ["open", "stream", "stream", "stream"]
    assert (only_card(gateway).state, only_card(gateway).labels) == ("growing", [TEXTS.stop])
    streamed = bodies(gateway, STREAM_CARD)
    assert len({body.pop("guid") for body in streamed}) == 3
    assert streamed[0] == {
        "outTrackId": handle,
        "key": "msgContent",
        "content": "Be",
        "isFull": True,
        "isFinalize": False,
        "isError": False,
    }


def test_of_a_long_answer_the_end_is_shown_while_it_grows(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, paragraphs("a", "b", "c"))
    assert only_card(gateway).text == f"…\n\n{'c' * 8000}"
    assert len(gateway.cards) == 1


def test_the_end_that_is_shown_of_a_long_answer_is_complete_markdown(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "```python\n" + "print(1)  # and so on\n" * 900)
    shown = only_card(gateway).text
    assert shown.startswith("…\n\n```python\nprint(1)") and shown.rstrip().endswith("\n```")


@pytest.mark.parametrize("size", [11_960, 12_000, 24_000])
def test_what_is_shown_is_never_longer_than_a_card_may_be(gateway: Gateway, ask: ReplyTo, size: int) -> None:
    gateway.stream_limit = 12_000
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "a" * 12_000 + "\n\n" + "b" * size)
    assert only_card(gateway).text[-1] == "b"


def test_a_text_that_is_too_large_makes_smaller_parts_from_then_on(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    gateway.stream_limit = 7000
    reply = ask()
    handle = reply.open("why?")
    with pytest.raises(ReplyRefused):
        reply.progress(handle, "a" * 8000)
    reply.progress(handle, "a" * 8000)
    assert handler.template.max_bytes == 4000
    assert only_card(gateway).text.startswith("…\n\na")
    other = ask()
    send(other, other.open("why?"), "b" * 8000)
    assert gateway.refused(STREAM_CARD) == 1
    assert handler.ladder.closed() == {}


def test_answers_that_were_too_large_at_once_teach_the_same(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    gateway.stream_limit = 7000
    answers = [(ask(), "a" * size) for size in (11_000, 11_900, 11_000)]
    opened = [(reply, reply.open("why?"), text) for reply, text in answers]
    gateway.trouble(STREAM_CARD, "reset", times=len(opened))
    for reply, handle, text in opened:
        with pytest.raises(TransportError):
            reply.finish(handle, text, "answered")
    for reply, handle, text in opened:
        send(reply, handle, text)
    assert handler.template.max_bytes == 5500
    assert max(len(card.text) for card in gateway.cards.values()) <= 5500


def test_parts_do_not_become_too_small(gateway: Gateway, handler: TextHandler, ask: ReplyTo) -> None:
    gateway.stream_limit = 10
    reply = ask()
    handle = reply.open("why?")
    for _ in range(9):
        with pytest.raises(ReplyRefused):
            reply.progress(handle, "a" * 8000)
    assert handler.template.max_bytes == 500


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (PERMISSION, ReplyRefused),
        ({"status": 403, "code": "x.QpsLimit"}, RateLimited),
        ({"status": 500, "code": "system.error"}, Unconfirmed),
    ],
    ids=["permission", "pace", "busy"],
)
def test_what_progress_is_refused_for_closes_nothing(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo, refusal: dict[str, Any], error: type[Exception]
) -> None:
    reply = ask()
    handle = reply.open("why?")
    gateway.refuse(STREAM_CARD, **refusal)
    with pytest.raises(error):
        reply.progress(handle, "so far")
    assert handler.ladder.closed() == {}
    assert handler.template.max_bytes == 12_000
    reply.progress(handle, "so far so good")
    assert only_card(gateway).text == "so far so good"


@pytest.mark.parametrize("code", ["param.stream.keyInvalid", "unknownError", "param.invalid"])
@pytest.mark.parametrize("step", ["progress", "finish"])
def test_a_variable_that_the_template_does_not_have_is_named_and_closes_the_rung(
    gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo, step: str, code: str
) -> None:
    handler = make_handler(language="en-US", cardType="ai", cardVariables={"content": "mistyped"})
    reply = ask(by=handler, group=False)
    handle = reply.open("why?")
    gateway.refuse(STREAM_CARD, status=400, code=code)
    with pytest.raises(ReplyRefused) as caught:
        if step == "progress":
            reply.progress(handle, "so far")
        else:
            reply.finish(handle, "Because.", "answered")
    assert caught.value.cause == "template"
    for part in (AI_TEMPLATE, "mistyped", "markdown", "cardTemplateId", "cardVariables"):
        assert part in str(caught.value)
    assert list(handler.ladder.closed()) == ["ai"]
    send(reply, None, "Because.")
    assert [message.text for message in gateway.said()] == ["Because."]
    assert ask(by=handler).open("why?") is None


def test_a_template_that_has_once_taken_a_text_is_not_suspected(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "so far")
    gateway.refuse(STREAM_CARD, status=400, code="param.stream.somethingElse")
    with pytest.raises(ReplyRefused) as caught:
        reply.progress(handle, "so far")
    assert caught.value.cause == "message"
    gateway.refuse(STREAM_CARD, status=400, code="param.stream.somethingElse")
    send(reply, handle, "Because.")
    other = ask()
    handle = other.open("why?")
    gateway.refuse(STREAM_CARD, status=400, code="unknownError")
    send(other, handle, "Because.")
    assert [(card.text, card.state) for card in gateway.cards.values()] == [("Because.", "final")] * 2
    assert handler.ladder.closed() == {}


def test_a_card_of_a_killed_process_says_nothing_about_the_template(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    first = ask()
    handle = first.open("why?")
    send(first, handle, "Because.")
    handler.template.is_proven = False  # a new process does not know
    message = first._message
    after = DingTalkReply(handler, message, "why?", TEXTS)
    send(after, handle, "Because of this.")  # its streaming has ended
    assert (only_card(gateway).text, only_card(gateway).state) == ("Because of this.", "final")
    assert handler.ladder.closed() == {}
    assert gateway.said() == []


# ---- ended


@pytest.mark.parametrize("switches", [True, False])
def test_an_answer_ends_with_one_call_for_its_text_and_one_for_its_buttons(
    gateway: Gateway, ask: ReplyTo, switches: bool
) -> None:
    gateway.streaming_switches_state = switches
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "Be")
    assert reply.finish(handle, "Because.", "answered") is True
    assert calls(gateway) == ["open", "stream", "stream"]
    card = only_card(gateway)
    assert (card.text, card.finalized) == ("Because.", True)
    assert reply.finish(handle, "Because.", "answered") is False
    assert calls(gateway) == ["open", "stream", "stream", "update"]
    assert (card.title, card.text, card.state, card.labels) == ("why?", "Because.", "final", ALL_BUTTONS)
    last = bodies(gateway, UPDATE_INSTANCE)[0]
    assert "msgContent" not in last["cardData"]["cardParamMap"], "the text is there already"
    assert last["cardUpdateOptions"] == {"updateCardDataByKey": True, "updatePrivateDataByKey": True}


@pytest.mark.parametrize(
    ("outcome", "state", "flow_status", "flags"),
    [
        ("answered", "final", "3", (True, False)),
        ("stopped", "final", "3", (True, False)),
        ("interrupted", "final", "3", (True, False)),
        ("failed", "failed", "5", (False, True)),
    ],
)
@pytest.mark.parametrize("switches", [True, False])
def test_a_card_says_how_it_ended(
    gateway: Gateway, ask: ReplyTo, switches: bool, outcome: Any, state: str, flow_status: str, flags: tuple[bool, bool]
) -> None:
    gateway.streaming_switches_state = switches
    reply = ask()
    handle = reply.open("why?")
    send(reply, handle, "The end.", outcome)
    card = only_card(gateway)
    assert (card.text, card.state, card.flow_status) == ("The end.", state, flow_status)
    assert card.labels == (ALL_BUTTONS if outcome == "answered" else [TEXTS.regenerate])
    [streamed] = bodies(gateway, STREAM_CARD)
    assert (streamed["isFinalize"], streamed["isError"]) == flags


def test_an_end_without_any_text_is_no_empty_card(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    send(reply, reply.open("why?"), " \n", "stopped")
    assert (only_card(gateway).text, only_card(gateway).state) == ("…", "final")


def test_a_template_of_ones_own_is_filled_in_by_its_own_names(
    gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo
) -> None:
    gateway.templates["own.schema"] = Template(OWN_KINDS)
    handler = make_handler(language="en-US", cardType="ai", cardTemplateId="own.schema", cardVariables=OWN)
    reply = ask(by=handler)
    handle = reply.open("why?")
    card = only_card(gateway)
    assert (card.title, card.text, card.labels) == ("why?", TEXTS.thinking, [TEXTS.stop])
    reply.progress(handle, "Be")
    assert card.text == "Be"
    send(reply, handle, "Because.")
    assert (card.title, card.text, card.state, card.labels) == ("why?", "Because.", "final", ALL_BUTTONS)
    assert set(card.states[-1].data) <= set(OWN_KINDS)
    assert {body["key"] for body in bodies(gateway, STREAM_CARD)} == {"content"}


def test_a_template_that_has_only_a_text_is_enough(gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo) -> None:
    gateway.templates["own.schema"] = Template({"content": "markdown"})
    names = {"content": "content", "title": "", "note": "", "buttons": "", "status": ""}
    reply = ask(by=make_handler(language="en-US", cardType="ai", cardTemplateId="own.schema", cardVariables=names))
    handle = reply.open("why?")
    send(reply, handle, "Because.")
    assert only_card(gateway).states[-1].data == {"content": "Because."}
    assert (only_card(gateway).text, only_card(gateway).state) == ("Because.", "final")


def test_without_feedback_buttons_there_are_only_the_others(
    gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo
) -> None:
    reply = ask(by=make_handler(language="en-US", cardType="ai", feedbackButtons=False))
    send(reply, reply.open("why?"), "Because.")
    assert only_card(gateway).labels == [TEXTS.regenerate, TEXTS.keep_asking]


def test_where_streaming_is_not_permitted_an_update_brings_the_last_word(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo, log: Log
) -> None:
    reply = ask()
    handle = reply.open("why?")
    gateway.refuse(STREAM_CARD, **PERMISSION, times=9)
    assert reply.finish(handle, "Because.", "answered") is True
    assert reply.finish(handle, "Because.", "answered") is False
    assert calls(gateway) == ["open", "stream", "update"]
    card = only_card(gateway)
    assert (card.text, card.state, card.labels) == ("Because.", "final", ALL_BUTTONS)
    [warning] = log.lines("warning")
    assert "was not streamed" in warning and "PermissionDenied" in warning
    assert gateway.said() == [] and handler.ladder.closed() == {}


def test_where_neither_is_permitted_a_message_brings_the_last_word(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    reply = ask(group=False)
    handle = reply.open("why?")
    for path in (STREAM_CARD, UPDATE_INSTANCE):
        gateway.refuse(path, **PERMISSION, times=9)
    send(reply, handle, "Because.")
    assert calls(gateway) == ["open", "stream", "update", WEBHOOK]
    assert [message.text for message in gateway.said()] == ["Because."]
    assert handler.ladder.closed() == {}


def test_an_update_that_is_refused_after_the_text_is_out_makes_no_second_copy(
    gateway: Gateway, ask: ReplyTo, log: Log
) -> None:
    reply = ask()
    handle = reply.open("why?")
    gateway.refuse(UPDATE_INSTANCE, **PERMISSION, times=9)
    assert reply.finish(handle, "Because.", "answered") is True
    assert reply.finish(handle, "Because.", "answered") is False
    assert only_card(gateway).text == "Because."
    assert gateway.said() == []
    [warning] = log.lines("warning")
    assert "of a growing one" in warning and "PermissionDenied" in warning


def test_a_long_last_word_that_no_card_takes_is_whole_as_messages(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(group=False)
    handle = reply.open("why?")
    for path in (STREAM_CARD, UPDATE_INSTANCE):
        gateway.refuse(path, **PERMISSION, times=9)
    send(reply, handle, "```python\n" + "print(1)  # and so on\n" * 1700 + "```")
    texts = [message.text for message in gateway.said()]
    assert sum(text.count("print(1)") for text in texts) == 1700
    assert {text.count("```") for text in texts} == {2}
    assert len(texts) == 3, "cut as messages: as cards, it would be four"


@pytest.mark.parametrize("kind", ["reset", "lost"])
def test_an_update_that_does_not_come_through_is_made_again(gateway: Gateway, ask: ReplyTo, kind: Any) -> None:
    reply = ask()
    handle = reply.open("why?")
    gateway.trouble(UPDATE_INSTANCE, kind)
    assert reply.finish(handle, "Because.", "answered") is True
    with pytest.raises(TransportError):
        reply.finish(handle, "Because.", "answered")
    assert reply.finish(handle, "Because.", "answered") is False
    assert calls(gateway) == ["open", "stream", "update", "update"]
    assert (only_card(gateway).text, only_card(gateway).labels) == ("Because.", ALL_BUTTONS)


@pytest.mark.parametrize("kind", ["reset", "lost"])
@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("after_end", ["refuse", "accept"])
def test_a_last_word_that_does_not_come_through_is_streamed_again(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo, kind: Any, proven: bool, after_end: Any
) -> None:
    gateway.streaming_after_end = after_end
    reply = ask()
    handle = reply.open("why?")
    if proven:
        reply.progress(handle, "Be")
    gateway.trouble(STREAM_CARD, kind)
    with pytest.raises(TransportError):
        reply.finish(handle, "Because.", "answered")
    send(reply, handle, "Because.")
    assert (only_card(gateway).text, only_card(gateway).labels) == ("Because.", ALL_BUTTONS)
    assert gateway.said() == [], "nobody reads it twice"
    assert handler.ladder.closed() == {}, "and nothing is wrong with the template"


def test_a_last_word_that_may_be_there_is_not_said_again_where_no_update_is_permitted(
    gateway: Gateway, ask: ReplyTo
) -> None:
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "Be")
    gateway.trouble(STREAM_CARD, "lost")
    gateway.refuse(UPDATE_INSTANCE, **PERMISSION, times=9)
    with pytest.raises(TransportError):
        reply.finish(handle, "Because.", "answered")
    send(reply, handle, "Because.")
    assert (only_card(gateway).text, gateway.said()) == ("Because.", [])


def test_a_last_word_that_never_came_through_is_in_the_update(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "Be")
    gateway.trouble(STREAM_CARD, "reset")
    with pytest.raises(Unconfirmed):
        reply.finish(handle, "Because.", "answered")
    gateway.refuse(STREAM_CARD, status=400, code="param.stream.somethingElse")
    send(reply, handle, "Because.")
    assert (only_card(gateway).text, only_card(gateway).labels, gateway.said()) == ("Because.", ALL_BUTTONS, [])


def test_a_card_that_is_gone_says_nothing_about_the_template(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    reply = ask(group=False)
    handle = reply.open("why?")
    gateway.refuse(STREAM_CARD, status=400, code="param.stream.outTrackId")
    gateway.refuse(UPDATE_INSTANCE, status=400, code="param.cardNotExist")
    send(reply, handle, "Because.")
    assert [message.text for message in gateway.said()] == ["Because."]
    assert handler.ladder.closed() == {}


def test_finished_once_more_a_card_is_shown_again(gateway: Gateway, ask: ReplyTo) -> None:
    """An older update may land after the last word."""
    reply = ask()
    handle = reply.open("why?")
    send(reply, handle, "Because.")
    before = len(calls(gateway))
    reply._ai_card._api.update_instance(  # so to say: it was on its way for a while
        {"outTrackId": handle, "cardData": {"cardParamMap": {"msgContent": "Be"}}}
    )
    assert only_card(gateway).text == "Be"
    assert reply.finish(handle, "Because.", "answered") is False
    assert calls(gateway)[before + 1 :] == ["update"]
    card = only_card(gateway)
    assert (card.title, card.text, card.state, card.labels) == ("why?", "Because.", "final", ALL_BUTTONS)


# ---- an answer for more than one card


def test_a_long_answer_goes_on_in_further_cards(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(sender="Bob")
    handle = reply.open("why?")
    text = paragraphs("a", "b", "c")
    more = [reply.finish(handle, text, "answered") for _ in range(4)]
    assert more == [True, True, True, False]
    assert calls(gateway) == ["open", "stream", "update", "open", "open"]
    assert list(gateway.cards) == [handle, f"{handle}.1", f"{handle}.2"]
    cards = list(gateway.cards.values())
    assert [card.text for card in cards] == ["a" * 8000, "b" * 8000, "c" * 8000]
    assert [card.title for card in cards] == ["why?", "", ""]
    assert [card.labels for card in cards] == [[], [], ALL_BUTTONS]
    assert [card.state for card in cards] == ["final"] * 3
    assert [card.mentions for card in cards] == [["staff-Bob"], [], []]
    assert {card.conversation for card in cards} == {cards[0].conversation}


def test_finished_once_more_a_long_answer_shows_its_first_card_again(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    handle = reply.open("why?")
    text = paragraphs("a", "b")
    send(reply, handle, text)
    assert reply.finish(handle, text, "answered") is False
    assert calls(gateway) == ["open", "stream", "update", "open", "update"]
    first, again = (body["cardData"]["cardParamMap"] for body in bodies(gateway, UPDATE_INSTANCE))
    assert again == {**first, "msgContent": "a" * 8000}, "an older text may be there by now"
    assert [card.labels for card in gateway.cards.values()] == [[], ALL_BUTTONS]


def test_a_failed_long_answer_is_red_to_the_end(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    send(reply, reply.open("why?"), paragraphs("a", "b"), "failed")
    assert [(card.state, card.labels) for card in gateway.cards.values()] == [
        ("failed", []),
        ("failed", [TEXTS.regenerate]),
    ]


def test_a_long_answer_in_chinese_is_counted_in_bytes(gateway: Gateway, ask: ReplyTo) -> None:
    gateway.stream_limit = 12_000
    reply = ask()
    lines = [f"第 {number} 行：瑞利散射 😄" for number in range(1200)]
    send(reply, reply.open("why?"), "\n".join(lines))
    texts = [card.text for card in gateway.cards.values()]
    assert len(texts) > 2 and max(len(text.encode()) for text in texts) <= 12_000
    assert "\n".join(texts).split("\n") == lines
    assert gateway.refused() == 0


def test_half_of_an_emoji_does_no_harm(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    handle = reply.open("why?")
    reply.progress(handle, "so far \ud83d")
    send(reply, handle, "Because \ud83d")
    assert only_card(gateway).text == "Because �"


def test_every_card_of_a_long_answer_is_complete_markdown(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(group=False)
    send(reply, reply.open("why?"), "```python\n" + "print(1)  # and so on\n" * 900 + "```\nThat was it.")
    texts = [card.text for card in gateway.cards.values()]
    assert len(texts) == 2
    for text in texts:
        assert text.startswith("```python\n") and text.count("```") == 2
    assert texts[-1].endswith("That was it.")


def test_a_last_word_that_is_too_large_goes_out_in_smaller_parts(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    gateway.stream_limit = 4000
    reply = ask()
    handle = reply.open("why?")
    lines = [f"line {number:04}" for number in range(1000)]
    assert reply.finish(handle, "\n".join(lines), "answered") is True
    assert calls(gateway) == ["open", "stream"], "one call each"
    send(reply, handle, "\n".join(lines))
    assert calls(gateway)[:5] == ["open", "stream", "stream", "stream", "update"]
    assert set(calls(gateway)[5:]) == {"open"}
    assert 2000 <= handler.template.max_bytes <= 4000
    assert "\n".join(card.text for card in gateway.cards.values()).split("\n") == lines
    assert handler.ladder.closed() == {} and gateway.said() == []


def test_a_last_word_that_is_too_large_however_small_is_tried_as_an_update(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    gateway.stream_limit = 10
    reply = ask()
    send(reply, reply.open("why?"), "\n\n".join(["The answer is in the book."] * 40))
    texts = [card.text for card in gateway.cards.values()]
    assert handler.template.max_bytes == 500
    assert "\n\n".join(texts).split("\n\n") == ["The answer is in the book."] * 40
    assert gateway.said() == []


@pytest.mark.parametrize("repeated", ["refuse", "accept"])
def test_a_further_card_that_seemed_to_fail_does_not_come_twice(gateway: Gateway, ask: ReplyTo, repeated: Any) -> None:
    gateway.repeated_card = repeated
    reply = ask()
    handle = reply.open("why?")
    text = paragraphs("a", "b", "c")
    assert [reply.finish(handle, text, "answered") for _ in range(2)] == [True, True]
    gateway.trouble(CREATE_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.finish(handle, text, "answered")
    assert [reply.finish(handle, text, "answered") for _ in range(2)] == [True, False]
    assert [card.text[:1] for card in gateway.cards.values()] == ["a", "b", "c"]


def test_where_a_further_card_is_refused_only_the_rest_is_a_message(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(group=False)
    handle = reply.open("why?")
    text = paragraphs("a", "b", "c", "d", "e")
    assert [reply.finish(handle, text, "answered") for _ in range(3)] == [True] * 3
    gateway.refuse(CREATE_CARD, status=400, code="param.error", times=9)
    with pytest.raises(ReplyRefused):
        reply.finish(handle, text, "answered")
    assert [card.text[:1] for card in gateway.cards.values()] == ["a", "b"]
    more = [reply.finish(None, text, "answered") for _ in range(3)]
    assert more == [True, True, False]
    assert [message.text for message in gateway.said()] == [letter * 8000 for letter in "cde"]
    assert (
        len(
            {message.conversation for message in gateway.said()}
            | {only.conversation for only in gateway.cards.values()}
        )
        == 1
    )


# ---- a card of which nobody knows whether it arrived


@pytest.mark.parametrize("then", ["nothing", "refused"])
def test_the_last_word_goes_to_the_card_that_may_be_there(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo, then: str
) -> None:
    reply = ask()
    gateway.trouble(CREATE_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    if then == "refused":
        gateway.refuse(CREATE_CARD, **PERMISSION)
        with pytest.raises(ReplyRefused):
            reply.open("why?")
    assert [reply.finish(None, "Because.", "answered") for _ in range(2)] == [True, False]
    card = only_card(gateway)
    assert (card.text, card.state, card.labels) == ("Because.", "final", ALL_BUTTONS)
    assert gateway.said() == []


def test_the_last_word_is_a_message_where_that_card_is_not_there(
    gateway: Gateway, handler: TextHandler, ask: ReplyTo
) -> None:
    reply = ask(group=False)
    gateway.refuse(CREATE_CARD, status=504, code="system.busy")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    send(reply, None, "Because.")
    assert [message.text for message in gateway.said()] == ["Because."]
    assert gateway.cards == {} and handler.ladder.closed() == {}


def test_the_last_word_waits_until_dingtalk_says_whether_that_card_is_there(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    gateway.trouble(CREATE_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    for path in (STREAM_CARD, UPDATE_INSTANCE):
        gateway.refuse(path, status=500, code="system.error")
        with pytest.raises(TransportError):
            while reply.finish(None, "Because.", "answered"):
                continue
        assert gateway.said() == []
    send(reply, None, "Because.")
    assert (only_card(gateway).text, gateway.said()) == ("Because.", [])


def test_a_card_that_surely_did_not_go_out_is_not_looked_for(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(group=False)
    gateway.refuse(CREATE_CARD, status=403, code="x.QpsLimit")
    with pytest.raises(RateLimited):
        reply.open("why?")
    send(reply, None, "Because.")
    assert calls(gateway) == ["open", WEBHOOK]


def test_no_secret_stands_in_what_is_sent(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    send(reply, reply.open("why?"), "Because.")
    sent = json.dumps(
        [call.body for call in gateway.calls if call.path not in (TOKEN, "/v1.0/gateway/connections/open")]
    )
    assert "demo-secret" not in sent and "session=" not in sent


# ---- cards that the answer does not reach


def test_a_card_of_another_template_is_not_written_into(
    gateway: Gateway, handler: TextHandler, make_handler: MakeHandler, receive: Receive
) -> None:
    """A killed process has opened it, and the configuration has changed since: DingTalk ignores unknown variables."""
    message = receive("why?")
    gateway.templates["own.schema"] = Template(OWN_KINDS)
    own = make_handler(language="en-US", cardType="ai", cardTemplateId="own.schema", cardVariables=OWN)
    before = DingTalkReply(own, chatbot_message(message.data), "why?", TEXTS)
    handle = before.open("why?")
    after = DingTalkReply(handler, chatbot_message(message.data), "why?", TEXTS)
    send(after, handle, "Because.")
    assert calls(gateway) == ["open", WEBHOOK]
    assert gateway.webhooks[-1].text.endswith("Because.")


def test_a_card_that_is_given_up_keeps_no_stop_button(
    gateway: Gateway, make_handler: MakeHandler, ask: ReplyTo
) -> None:
    handler = make_handler(language="en-US", cardType="ai", cardVariables={"content": "mistyped"})
    reply = ask(by=handler)
    send(reply, reply.open("why?"), "Because.")
    assert calls(gateway) == ["open", "stream", "update", WEBHOOK]
    assert (only_card(gateway).labels, only_card(gateway).state) == ([], "final")


@pytest.mark.parametrize("outcome", ["answered", "failed"])
def test_who_cannot_be_known_again_by_a_click_has_no_buttons_for_the_asker(
    gateway: Gateway, ask: ReplyTo, outcome: str
) -> None:
    reply = ask(staff=False)
    handle = reply.open("why?")
    assert only_card(gateway).labels == []
    send(reply, handle, "Because.", outcome)
    assert only_card(gateway).labels == (RATINGS if outcome == "answered" else [])
