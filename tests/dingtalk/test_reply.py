"""When a message is answered by a card and when through its webhook, and what counts as a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dingtalk_stream import CallbackMessage, Credential

from imRobots.dingTalkStreamType import cards
from imRobots.dingTalkStreamType.api import Api
from imRobots.dingTalkStreamType.messages import chatbot_message
from imRobots.dingTalkStreamType.reply import DingTalkReply
from imRobots.Meta import ReplyRefused, TransportError, texts_for
from tests.dingtalk.helpers import CLIENT_ID, CLIENT_SECRET, payload
from tests.fakes.gateway import Gateway

TEXTS = texts_for("en-US", "")
OUTSIDER = {"senderStaffId": None}
ALONE = {"conversationType": "1", "conversationTitle": None}
DONE = {"processQueryKey": "q"}


class Webhook:
    """Takes the place of the API: keeps what is posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []

    def post_to_webhook(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        self.posts.append((url, body))
        return {"errcode": 0}


class Sender:
    """The handler as a reply sees it. `sent` and `updated` are what a subclass may answer with."""

    def __init__(self, sent: Any = "card-1", updated: Any = DONE, api: Any = None) -> None:
        self._sent, self._updated = sent, updated
        self.api = api or Webhook()
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
        return cards.thinking_card(question, TEXTS, 1)

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
    assert arguments["card_data"] == cards.thinking_card("why?", TEXTS, 1)
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
        (
            "http://127.0.0.1:9/robot/sendBySession?session=66d7",
            {"msgtype": "markdown", "markdown": {"title": "Because.", "text": "Because."}},
        )
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


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("one\ntwo", "one"),
        ("\n  one\ntwo", "one"),
        ("0123456789" * 4, "012345678901234567890123456789"),
        ("瑞利散射" * 10, "瑞利散射瑞利散射瑞利散射瑞利散射瑞利散射瑞利散射瑞利散射瑞利"),
    ],
)
def test_the_chat_list_shows_the_beginning_of_an_answer_without_card(text: str, title: str) -> None:
    sender = Sender()
    reply_to(sender).finish(None, text, "answered")
    assert sender.api.posts[0][1] == {
        "msgtype": "markdown",
        "markdown": {"title": title, "text": text},
        "at": {"atUserIds": ["0147xxxx8602"]},
    }


def test_a_sentence_is_said_to_the_one_who_asked() -> None:
    sender = Sender()
    reply_to(sender).say("One at a time, please.")
    reply_to(sender, **OUTSIDER).say("One at a time, please.")
    url = "http://127.0.0.1:9/robot/sendBySession?session=66d7"
    sentence = {"msgtype": "text", "text": {"content": "One at a time, please."}}
    assert sender.api.posts == [(url, {**sentence, "at": {"atUserIds": ["0147xxxx8602"]}}), (url, sentence)]


@pytest.mark.parametrize("webhook", [None, ""])
def test_a_message_without_a_webhook_cannot_be_answered_without_a_card(webhook: Any) -> None:
    reply = reply_to(Sender(), sessionWebhook=webhook)
    with pytest.raises(ReplyRefused, match="webhook"):
        reply.say("hello")
    with pytest.raises(ReplyRefused, match="webhook"):
        reply.finish(None, "hello", "answered")


def test_people_see_sentences_and_answers_in_the_conversation_in_which_they_asked(
    gateway: Gateway, receive: Callable[..., CallbackMessage]
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
