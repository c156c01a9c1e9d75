"""When a message is answered by a card, when through its webhook, when as the robot, and what counts as a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dingtalk_stream import CallbackMessage, Credential

from imRobots.dingTalkStreamType import TextHandler, cards
from imRobots.dingTalkStreamType.ai_card import is_ai_card
from imRobots.dingTalkStreamType.api import Api
from imRobots.dingTalkStreamType.config import CardVariables
from imRobots.dingTalkStreamType.ladder import Ladder
from imRobots.dingTalkStreamType.messages import chatbot_message
from imRobots.dingTalkStreamType.reply import DingTalkReply
from imRobots.dingTalkStreamType.template import Template
from imRobots.Meta import RateLimited, ReplyRefused, Store, TransportError, Unconfirmed, texts_for
from tests.dingtalk.helpers import CLIENT_ID, CLIENT_SECRET, ELEMENT, payload
from tests.fakes.gateway import (
    CREATE_CARD,
    SEND_CARD,
    SEND_TO_GROUP,
    SEND_TO_PEOPLE,
    UPDATE_CARD,
    WEBHOOK,
    Gateway,
)

TEXTS = texts_for("en-US", "")
OUTSIDER = {"senderStaffId": None}
ALONE = {"conversationType": "1", "conversationTitle": None}
DONE = {"processQueryKey": "q"}
URL = "http://127.0.0.1:9/robot/sendBySession?session=66d7"

Receive = Callable[..., CallbackMessage]
MakeHandler = Callable[..., TextHandler]
ReplyTo = Callable[..., DingTalkReply]


class Webhook:
    """Takes the place of the API: keeps what is posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []

    def post_to_webhook(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        self.posts.append((url, body))
        return {"errcode": 0}


class Sender:
    """The handler as a reply sees it, without AI cards. `sent` and `updated` are what a subclass may answer with."""

    def __init__(self, sent: Any = "card-1", updated: Any = DONE, api: Any = None) -> None:
        self._sent, self._updated = sent, updated
        self.api = api or Webhook()
        self.ladder = Ladder(ELEMENT, {}, Store())
        self.template = Template("a-template", CardVariables())
        self.rungs = ("standard",)
        self.cards: list[dict[str, Any]] = []
        self.updates: list[tuple[str, dict[str, Any]]] = []

    def reply_card(self, **arguments: Any) -> Any:
        self.cards.append(arguments)
        if isinstance(self._sent, Exception):
            raise self._sent
        return self._sent

    def update_card(self, card_biz_id: str, card_data: dict[str, Any]) -> Any:
        self.updates.append((card_biz_id, card_data))
        if isinstance(self._updated, Exception):
            raise self._updated
        return self._updated

    def _create_initial_card(self, question: str) -> dict[str, Any]:
        return cards.thinking_card(question, TEXTS)

    def _create_streaming_card(self, content: str, question: str) -> dict[str, Any]:
        return cards.answer_card(question, content, 1)

    def _create_final_card(self, response: str, incoming_message: Any, text: str) -> dict[str, Any]:
        return cards.final_card(text, response, incoming_message.message_id, TEXTS, 1)


def reply_to(sender: Sender, **changes: Any) -> DingTalkReply:
    return DingTalkReply(sender, chatbot_message(payload(**changes)), "why?", TEXTS)


@pytest.mark.parametrize(
    ("changes", "mentioned"),
    [({}, True), (ALONE, True), (OUTSIDER, False)],
    ids=["group", "one-to-one", "outsider in a group"],
)
def test_a_question_is_answered_by_a_card_that_mentions_only_who_can_be_mentioned(
    changes: dict[str, Any], mentioned: bool
) -> None:
    sender = Sender()
    assert reply_to(sender, **changes).open("why?") == "card-1"
    [arguments] = sender.cards
    assert arguments["card_data"] == cards.thinking_card("why?", TEXTS)
    assert arguments["incoming_message"].message_id == "msgrK2xxxxU+riw=="
    assert arguments["at_sender"] is mentioned


def test_an_outsider_in_a_private_chat_gets_no_card_but_a_message_in_the_end() -> None:
    sender = Sender()
    reply = reply_to(sender, **OUTSIDER, **ALONE)
    handle = reply.open("why?")
    assert handle is None
    reply.finish(handle, "Because.", "answered")
    assert sender.cards == sender.updates == []
    assert sender.api.posts == [
        (URL, {"msgtype": "markdown", "markdown": {"title": "Because.", "text": "Because."}}),
    ]


def test_progress_is_shown_without_buttons() -> None:
    sender = Sender()
    reply_to(sender).progress("card-7", "so far")
    assert sender.updates == [("card-7", cards.answer_card("why?", "so far", 1))]


def test_an_answer_ends_with_buttons() -> None:
    sender = Sender()
    reply_to(sender).finish("card-7", "all of it", "answered")
    assert sender.updates == [("card-7", cards.final_card("why?", "all of it", "msgrK2xxxxU+riw==", TEXTS, 1))]


@pytest.mark.parametrize("outcome", ["failed", "interrupted"])
def test_what_is_no_whole_answer_cannot_be_rated(outcome: Any) -> None:
    sender = Sender()
    reply_to(sender).finish("card-7", "sorry", outcome)
    assert sender.updates == [("card-7", cards.answer_card("why?", "sorry", 1))]


@pytest.mark.parametrize("sent", ["", None, 400, 0, False, {}], ids=repr)
def test_an_override_of_reply_card_that_returns_no_card_id_has_failed(sent: Any) -> None:
    with pytest.raises(TransportError, match="reply_card"):
        reply_to(Sender(sent=sent)).open("why?")


@pytest.mark.parametrize("updated", ["", None, 200, 500, 0], ids=repr)
def test_an_override_of_update_card_that_returns_nothing_or_a_status_has_failed(updated: Any) -> None:
    reply = reply_to(Sender(updated=updated))
    with pytest.raises(TransportError, match="update_card"):
        reply.progress("card-7", "so far")
    with pytest.raises(TransportError, match="update_card"):
        reply.finish("card-7", "all of it", "answered")


@pytest.mark.parametrize("error", [TransportError("later"), ReplyRefused("never")], ids=["later", "never"])
def test_what_the_sending_methods_raise_comes_through(error: Exception) -> None:
    reply = reply_to(Sender(sent=error, updated=error))
    for action in (
        lambda: reply.open("why?"),
        lambda: reply.progress("card-7", "so far"),
        lambda: reply.finish("card-7", "all of it", "answered"),
    ):
        with pytest.raises(type(error)) as caught:
            action()
        assert caught.value is error


# ---- who is mentioned, and what the chat list shows


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {},
            id="group",
        ),
        pytest.param(ALONE, id="one-to-one"),
    ],
)
@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("one\ntwo", "one"),
        ("\n  one\ntwo", "one"),
        ("0123456789" * 4, "012345678901234567890123456789"),
        ("瑞利散射" * 10, "瑞利散射瑞利散射瑞利散射瑞利散射瑞利散射瑞利散射瑞利散射瑞利"),
    ],
    ids=["two lines", "blank line", "long", "Chinese"],
)
def test_the_chat_list_shows_the_beginning_of_an_answer_without_card(
    changes: dict[str, Any], text: str, title: str
) -> None:
    sender = Sender()
    reply_to(sender, **changes).finish(None, text, "answered")
    assert sender.api.posts[0][1]["markdown"]["title"] == title
    assert text in sender.api.posts[0][1]["markdown"]["text"]


@pytest.mark.parametrize(
    ("changes", "mentioned"),
    [
        ({}, "0147xxxx8602"),
        (OUTSIDER, None),
        (ALONE, None),
        ({**OUTSIDER, **ALONE}, None),
    ],
    ids=["group", "outsider in a group", "one-to-one", "outsider one-to-one"],
)
@pytest.mark.parametrize(
    ("send", "kind", "field"),
    [
        (lambda reply: reply.say("Because."), "text", "content"),
        (lambda reply: reply.finish(None, "Because.", "answered"), "markdown", "text"),
    ],
    ids=["sentence", "answer"],
)
def test_in_a_group_the_one_who_asked_is_mentioned_in_the_list_and_in_the_text(
    changes: dict[str, Any], mentioned: str | None, send: Callable[[DingTalkReply], None], kind: str, field: str
) -> None:
    sender = Sender()
    send(reply_to(sender, **changes))
    [(url, body)] = sender.api.posts
    assert (url, body["msgtype"]) == (URL, kind)
    text = body[kind][field]
    assert text.endswith("Because.")
    if mentioned:
        assert body["at"] == {"atUserIds": [mentioned]}
        assert text.startswith(f"@{mentioned}") and text[len(mentioned) + 1] == " "
    else:
        assert "at" not in body and text == "Because."


def test_of_an_answer_in_parts_only_the_first_mentions_somebody() -> None:
    sender = Sender()
    text = "\n\n".join(letter * 9000 for letter in "abc")
    finish_all(reply_to(sender), text)
    bodies = [body for _, body in sender.api.posts]
    assert [("at" in body, "@0147xxxx8602" in body["markdown"]["text"]) for body in bodies] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    assert [body["markdown"]["text"][-1] for body in bodies] == ["a", "b", "c"]


def finish_all(reply: DingTalkReply, text: str) -> None:
    """As the outbox does: as often as there is more."""
    while reply.finish(None, text, "answered"):
        continue


# ---- with DingTalk


@pytest.fixture
def ask(gateway: Gateway, make_handler: MakeHandler, receive: Receive) -> ReplyTo:
    """Somebody asks; returns the reply of a real handler."""
    handler = make_handler(language="en-US")

    def ask(text: str = "why?", **options: Any) -> DingTalkReply:
        return DingTalkReply(handler, chatbot_message(receive(text, **options).data), text, TEXTS)

    return ask


def test_people_see_sentences_and_answers_in_the_conversation_in_which_they_asked(
    gateway: Gateway, receive: Receive
) -> None:
    callback = receive("why?", group=False, staff=False)
    api = Api(Credential(CLIENT_ID, CLIENT_SECRET))
    reply = DingTalkReply(Sender(api=api), chatbot_message(callback.data), "why?", TEXTS)
    reply.say("Please wait.")
    reply.finish(None, "**Because.**", "answered")
    place = callback.data["conversationId"]
    assert [(hook.kind, hook.text, hook.conversation) for hook in gateway.webhooks] == [
        ("text", "Please wait.", place),
        ("markdown", "**Because.**", place),
    ]


def test_dingtalk_tells_the_one_who_asked_in_a_group(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(sender="Bob")
    reply.say("Please wait.")
    reply.finish(None, "Because.", "answered")
    assert [hook.mentions for hook in gateway.webhooks] == [["staff-Bob"], ["staff-Bob"]]


def test_an_answer_of_any_length_arrives_whole_and_in_order(gateway: Gateway, ask: ReplyTo) -> None:
    lines = [f'line {number}: 瑞利散射 "quoted" \\ 😄' for number in range(1500)]
    finish_all(ask(group=False), "\n".join(lines))
    said = [message.text for message in gateway.said()]
    assert len(said) > 2
    assert "\n".join(said).split("\n") == lines


def test_an_answer_in_parts_goes_on_where_it_was_broken_off(gateway: Gateway, ask: ReplyTo) -> None:
    reply, text = ask(), "\n\n".join(letter * 9000 for letter in "abc")
    gateway.refuse(WEBHOOK, status=200, code="0", times=1, body={"errcode": 0})  # the first goes nowhere, and well
    gateway.trouble(WEBHOOK, "reset")
    with pytest.raises(TransportError):
        finish_all(reply, text)
    finish_all(reply, text)
    assert [message.text[-1] for message in gateway.said()] == ["b", "c"]


@pytest.mark.parametrize("webhook", ["refused", "none", "no address"])
@pytest.mark.parametrize("group", [True, False], ids=["group", "one-to-one"])
def test_where_the_webhook_is_no_use_the_robot_says_it(
    gateway: Gateway, ask: ReplyTo, group: bool, webhook: str
) -> None:
    if webhook == "refused":
        gateway.webhook_lifetime = 0
    options = {"none": {"sessionWebhook": None}, "no address": {"sessionWebhook": "robot"}}.get(webhook, {})
    reply = ask(sender="Bob", group=group, **options)
    reply.say("Please wait.")
    reply.finish(None, "# Because\nof *this*.", "answered")
    path = SEND_TO_GROUP if group else SEND_TO_PEOPLE
    assert gateway.webhooks == []
    assert [(message.kind, message.text) for message in gateway.sent] == [
        ("text", "Please wait."),
        ("markdown", "# Because\nof *this*."),
    ]
    sent = [call.body for call in gateway.calls if call.path == path]
    assert [body["msgKey"] for body in sent] == ["sampleText", "sampleMarkdown"]
    assert json.loads(sent[1]["msgParam"])["title"] == "# Because"
    message = next(iter(gateway._asked.values()))
    assert {message.conversation for message in gateway.sent} == {message["conversationId"]}


def test_a_message_that_is_never_confirmed_is_sent_twice_and_no_more(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    gateway.trouble(WEBHOOK, "lost", times=9)
    with pytest.raises(Unconfirmed):
        reply.say("Please wait.")
    reply.say("Please wait.")
    assert len(gateway.webhooks) == 2 and gateway.sent == []


def test_where_the_webhook_cannot_be_reached_again_and_again_the_robot_says_it(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    gateway.refuse(WEBHOOK, status=200, code="410100", times=9)
    for _ in range(2):
        with pytest.raises(TransportError):
            reply.say("Please wait.")
        assert gateway.sent == []
    reply.say("Please wait.")
    assert [message.text for message in gateway.sent] == ["Please wait."]


@pytest.mark.parametrize("group", [True, False], ids=["group", "one-to-one"])
def test_what_both_ways_refuse_names_both_reasons(gateway: Gateway, ask: ReplyTo, group: bool) -> None:
    gateway.webhook_lifetime = 0
    path = SEND_TO_GROUP if group else SEND_TO_PEOPLE
    gateway.refuse(path, status=403, code="Forbidden.AccessDenied.IpNotInWhiteList")
    with pytest.raises(ReplyRefused) as caught:
        ask(group=group).say("hello")
    assert "300001" in str(caught.value) and "IpNotInWhiteList" in str(caught.value)
    assert (caught.value.code, caught.value.cause) == ("Forbidden.AccessDenied.IpNotInWhiteList", "address")
    assert "session=" not in str(caught.value)


@pytest.mark.parametrize("webhook", [None, ""])
def test_an_outsider_alone_without_a_webhook_cannot_be_answered(webhook: Any) -> None:
    api = Api(Credential(CLIENT_ID, CLIENT_SECRET))
    reply = reply_to(Sender(api=api), sessionWebhook=webhook, **OUTSIDER, **ALONE)
    for action in (lambda: reply.say("hello"), lambda: reply.finish(None, "hello", "answered")):
        with pytest.raises(ReplyRefused, match=r"webhook.* staff id"):
            action()


def test_a_message_to_somebody_unknown_was_accepted_and_still_failed(gateway: Gateway, ask: ReplyTo) -> None:
    gateway.webhook_lifetime = 0
    reply = ask(sender="Bob", group=False)
    gateway._staff.clear()
    with pytest.raises(ReplyRefused, match="not delivered"):
        reply.say("hello")


def test_a_message_that_was_held_back_is_worth_another_try(gateway: Gateway, ask: ReplyTo) -> None:
    gateway.webhook_lifetime = 0
    gateway.flow_controlled = {"staff-Bob"}
    reply = ask(sender="Bob", group=False)
    with pytest.raises(RateLimited):
        reply.say("hello")
    gateway.flow_controlled = set()
    reply.say("hello")
    assert [message.text for message in gateway.sent] == ["hello"]


# ---- a first card of which nobody knows whether it arrived


def test_the_answer_goes_to_the_card_that_had_arrived_after_all(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    gateway.trouble(SEND_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    reply.finish(None, "Because.", "answered")
    [card] = gateway.cards.values()
    assert (card.text, card.state) == ("Because.", "final")
    assert gateway.said() == [], "and nobody reads it twice"


def test_the_answer_comes_as_markdown_where_the_card_had_not_arrived(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(group=False)
    gateway.refuse(SEND_CARD, status=504, code="system.busy")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    reply.finish(None, "Because.", "answered")
    assert gateway.cards == {}
    assert [message.text for message in gateway.said()] == ["Because."]


def test_the_answer_waits_for_dingtalk_to_say_whether_the_card_is_there(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    gateway.trouble(SEND_CARD, "lost")
    with pytest.raises(Unconfirmed):
        reply.open("why?")
    gateway.refuse(UPDATE_CARD, status=500, code="system.error")
    with pytest.raises(TransportError):
        reply.finish(None, "Because.", "answered")
    assert gateway.said() == []
    reply.finish(None, "Because.", "answered")
    assert [card.text for card in gateway.cards.values()] == ["Because."]
    assert gateway.said() == []


def test_a_card_that_surely_did_not_go_out_is_not_looked_for(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask(group=False)
    gateway.refuse(SEND_CARD, status=403, code="x.QpsLimit")
    with pytest.raises(RateLimited):
        reply.open("why?")
    reply.finish(None, "Because.", "answered")
    assert gateway.count(UPDATE_CARD) == 0
    assert [message.text for message in gateway.said()] == ["Because."]


# ---- down the ladder, and closed rungs


def refuse_cards(gateway: Gateway, status: int, code: str, times: int = 1) -> None:
    """Refuse the first cards of both kinds."""
    for path in (SEND_CARD, CREATE_CARD):
        gateway.refuse(path, status=status, code=code, times=times)


def sent_cards(gateway: Gateway) -> tuple[int, int]:
    """How many first cards of each kind were tried."""
    return gateway.count(SEND_CARD), gateway.count(CREATE_CARD)


def test_where_a_standard_card_is_refused_an_ai_card_takes_its_place(gateway: Gateway, ask: ReplyTo) -> None:
    reply = ask()
    gateway.refuse(SEND_CARD, status=400, code="param.error")
    handle = reply.open("why?")
    [card] = gateway.cards.values()
    assert is_ai_card(str(handle)) and card.id == handle
    while reply.finish(handle, "Because.", "answered"):
        continue
    assert (card.text, card.state) == ("Because.", "final")
    assert gateway.said() == []


@pytest.mark.parametrize(
    ("card_type", "tried"), [("standard", (1, 1)), ("ai", (0, 1)), ("markdown", (0, 0))], ids=["standard", "ai", "none"]
)
def test_the_configuration_says_where_the_ladder_begins(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive, card_type: str, tried: tuple[int, int]
) -> None:
    refuse_cards(gateway, 403, "Forbidden.AccessDenied.AccessTokenPermissionDenied")
    handler = make_handler(cardType=card_type)
    for number in range(2):
        reply = DingTalkReply(handler, chatbot_message(receive("why?").data), "why?", TEXTS)
        if number == 0 and card_type != "markdown":
            with pytest.raises(ReplyRefused):
                reply.open("why?")
        else:
            assert reply.open("why?") is None
    assert sent_cards(gateway) == tried


def test_cards_that_are_refused_for_the_application_are_not_tried_again(gateway: Gateway, ask: ReplyTo) -> None:
    refuse_cards(gateway, 403, "Forbidden.AccessDenied.AccessTokenPermissionDenied")
    with pytest.raises(ReplyRefused):
        ask().open("why?")
    assert ask().open("why?") is None
    assert sent_cards(gateway) == (1, 1)


def test_an_unknown_refusal_closes_the_cards_when_a_second_conversation_hears_it(
    gateway: Gateway, ask: ReplyTo
) -> None:
    refuse_cards(gateway, 400, "app.tooNew", times=9)
    for conversation in ("cid-1", "cid-1", "cid-2"):
        with pytest.raises(ReplyRefused):
            ask(conversation=conversation).open("why?")
    assert ask(conversation="cid-1").open("why?") is None
    assert sent_cards(gateway) == (3, 3)


def test_a_card_that_arrived_clears_the_suspicion(gateway: Gateway, ask: ReplyTo) -> None:
    for conversation in ("cid-1", "cid-2", "cid-1"):
        gateway.refuse(SEND_CARD, status=400, code="app.tooNew")
        assert is_ai_card(str(ask(conversation=conversation).open("why?")))
        assert not is_ai_card(str(ask(conversation="cid-3").open("why?")))


def test_no_refusal_of_an_update_closes_the_cards(gateway: Gateway) -> None:
    for cause in ("permission", "address", "quota", "unknown"):
        refusal = ReplyRefused("no", "some.code", cause)
        sender = Sender(updated=refusal)
        for conversation in ("cid-1", "cid-2"):
            reply = reply_to(sender, conversationId=conversation)
            for update in (
                lambda reply=reply: reply.progress("card-7", "so far"),
                lambda reply=reply: reply.finish("card-7", "all", "answered"),
            ):
                with pytest.raises(ReplyRefused):
                    update()
        assert sender.ladder.closed() == {}
