"""The handler: acknowledges first, returns when the answer is out, and can be overridden as the tutorial's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dingtalk_stream import AckMessage, CallbackMessage, ChatbotHandler, Credential

from imRobots.dingTalkStreamType import ClientManager, TextHandler
from imRobots.dingTalkStreamType.messages import chatbot_message
from imRobots.dingTalkStreamType.stream_client import StreamClient
from imRobots.Meta import AuthError, Deadline, ReplyRefused, Store, TransportError, Unconfirmed
from tests.dingtalk.helpers import (
    AGENT,
    CLIENT_ID,
    CLIENT_SECRET,
    CONFIG,
    ELEMENT,
    Log,
    callback,
    eventually,
    payload,
    soon,
)
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import CREATE_CARD, SEND_CARD, SEND_TO_GROUP, TOKEN, UPDATE_CARD, WEBHOOK, Gateway
from tests.fakes.host import FakeHost

MakeHandler = Callable[..., TextHandler]
Receive = Callable[..., CallbackMessage]
Connect = Callable[[Any], ClientManager]


class Cards(TextHandler):
    """Overrides both sending methods as the tutorial's reader would, with the SDK's parameters; keeps the cards."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sent: list[dict[str, Any]] = []
        self.updates: list[tuple[str, dict[str, Any]]] = []

    def reply_card(self, card_data, incoming_message, at_sender=False, at_all=False, **kwargs):
        self.sent.append({"card": card_data, "message": incoming_message, "at_sender": at_sender, "at_all": at_all})
        return "card-1"

    def update_card(self, card_biz_id, card_data):
        self.updates.append((card_biz_id, card_data))
        return {"processQueryKey": "q"}

    @property
    def last_text(self) -> str:
        return str(self.updates[-1][1]["contents"][0]["text"])

    @property
    def last_labels(self) -> list[str]:
        actions = [part["actions"] for part in self.updates[-1][1]["contents"] if part["type"] == "action"]
        return [button["label"]["text"] for row in actions for button in row]


async def process(handler: TextHandler, message: CallbackMessage) -> tuple[int, str]:
    return await asyncio.wait_for(handler.process(message), 15)


# ---- process


async def test_process_returns_ok_when_the_final_card_is_out(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive, agent: ReferenceAgent
) -> None:
    gateway.latency = 0.05
    result = await process(make_handler(), receive("How do I reset it?", sender="Ann"))
    card = gateway.cards[next(iter(gateway.cards))]
    assert (card.title, card.state, card.text) == ("How do I reset it?", "final", "Press reset.")
    assert [button["label"]["text"] for button in card.buttons] == [
        "😄 Very Helpful",
        "😊 Helpful",
        "🙂 Somewhat Helpful",
        "😅 Not Helpful",
    ]
    assert card.states[0].text == "[Thinking] Analyzing your question, please wait..."
    assert result == (AckMessage.STATUS_OK, "OK")
    assert type(result) is tuple
    assert [(call.text, call.chatId) for call in agent.calls] == [("How do I reset it?", "staff-Ann")]


async def test_process_says_so_when_no_answer_could_be_sent(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive
) -> None:
    message = receive()
    for path in (SEND_CARD, CREATE_CARD):
        gateway.refuse(path, status=400, code="param.error", times=99)
    gateway.refuse(WEBHOOK, status=200, code="300001", times=99)
    gateway.refuse(SEND_TO_GROUP, status=400, code="bot.stopped", times=99)
    code, _ = await process(make_handler(), message)
    assert code == AckMessage.STATUS_SYSTEM_EXCEPTION


@pytest.mark.parametrize("data", [None, 5, [], "text"])
async def test_process_refuses_what_is_no_message(make_handler: MakeHandler, data: Any) -> None:
    message = callback({})
    message.data = data
    code, _ = await process(make_handler(Cards), message)
    assert code == AckMessage.STATUS_BAD_REQUEST


async def test_an_agent_that_fails_still_leaves_a_last_word(make_handler: MakeHandler, agent: ReferenceAgent) -> None:
    agent.answer, agent.error = "", RuntimeError("no model")
    handler = make_handler(Cards)
    assert await process(handler, callback(payload(text={"content": "why?"}))) == (200, "OK")
    assert handler.last_text == "Sorry, something went wrong while answering. Please ask again in a moment."
    assert handler.last_labels == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"msgtype": "picture", "content": {}},
            "Sorry, I can only read text so far. Please write your question to me.",
        ),
        ({"text": {"content": " "}}, "I found no text in your message. Please write your question to me."),
    ],
)
async def test_what_is_no_question_is_answered_by_a_sentence(
    gateway: Gateway,
    make_handler: MakeHandler,
    receive: Receive,
    agent: ReferenceAgent,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    assert await process(make_handler(), receive(**changes)) == (200, "OK")
    assert [hook.text for hook in gateway.webhooks] == [f"@staff-Ann {sentence}"]
    assert gateway.webhooks[0].mentions == ["staff-Ann"]
    assert gateway.cards == {}
    assert agent.calls == []


@pytest.mark.parametrize(
    ("language", "question", "thinking", "rating"),
    [
        ("auto", "how?", "[Thinking] Analyzing your question, please wait...", "😄 Very Helpful"),
        ("auto", "怎么办", "[思考]正在分析您的问题，请稍候...", "😄 非常有帮助"),
        ("zh-CN", "how?", "[思考]正在分析您的问题，请稍候...", "😄 非常有帮助"),
        ("en-US", "怎么办", "[Thinking] Analyzing your question, please wait...", "😄 Very Helpful"),
    ],
)
async def test_cards_speak_the_language_of_the_question_or_of_the_configuration(
    make_handler: MakeHandler, language: str, question: str, thinking: str, rating: str
) -> None:
    handler = make_handler(Cards, language=language)
    await process(handler, callback(payload(text={"content": question})))
    assert handler.sent[0]["card"]["contents"][0]["text"] == thinking
    assert handler.last_labels[0] == rating


async def test_a_message_that_is_delivered_twice_is_answered_once(
    make_handler: MakeHandler, agent: ReferenceAgent
) -> None:
    handler = make_handler(Cards)
    assert await process(handler, callback(payload(), "frame-1")) == (200, "OK")
    assert await process(handler, callback(payload(), "frame-2")) == (200, "OK")
    assert (len(agent.calls), len(handler.sent)) == (1, 1)


async def test_a_new_handler_knows_the_messages_of_the_one_before_it(
    make_handler: MakeHandler, agent: ReferenceAgent
) -> None:
    store = Store()
    await process(make_handler(Cards, store=store), callback(payload()))
    after = make_handler(Cards, store=store)
    await process(after, callback(payload()))
    assert (len(agent.calls), after.sent) == (1, [])


# ---- raw_process


async def test_a_message_is_acknowledged_before_it_is_answered(
    make_handler: MakeHandler, agent: ReferenceAgent
) -> None:
    agent.gate = threading.Event()
    handler = make_handler(Cards)
    ack = await asyncio.wait_for(handler.raw_process(callback(payload(), "frame-9")), 10)
    try:
        assert ack.to_dict() == {
            "code": 200,
            "message": "OK",
            "headers": {"contentType": "application/json", "messageId": "frame-9"},
            "data": json.dumps({"response": "OK"}),
        }
        assert handler.updates == []
    finally:
        agent.gate.set()
    await soon(lambda: handler.updates, "the answer")
    assert handler.last_text == "Press reset."


def test_dingtalk_gets_its_acknowledgement_while_the_agent_still_works(
    gateway: Gateway, host: FakeHost, connected: Connect, agent: ReferenceAgent
) -> None:
    agent.gate = threading.Event()
    connected(TextHandler(host.element(ELEMENT), CONFIG))
    gateway.say("why?")
    [ack] = gateway.wait_for(lambda: list(gateway.acks.values()))
    assert (ack.code, json.loads(ack.data)) == (200, {"response": "OK"})
    assert gateway.card_for("why?").state == "thinking"
    agent.gate.set()
    assert gateway.card_for("why?", state="final").text == "Press reset."


async def test_a_subclass_that_overrides_process_is_acknowledged_first_and_honoured(
    gateway: Gateway, host: FakeHost, connected: Connect, agent: ReferenceAgent
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Echo(TextHandler):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            entered.set()
            await asyncio.to_thread(go_on.wait, 30)
            self.reply_card({"config": {}, "header": {}, "contents": []}, chatbot_message(callback.data))
            return AckMessage.STATUS_OK, "OK"

    connected(Echo(host.element(ELEMENT), CONFIG))
    gateway.say("why?")
    assert entered.wait(10)
    [ack] = gateway.wait_for(lambda: list(gateway.acks.values()))
    assert ack.code == 200
    assert gateway.cards == {}
    go_on.set()
    gateway.wait_for(lambda: gateway.cards, what="the card of the subclass")
    assert agent.calls == []


async def test_a_subclass_whose_process_fails_is_logged(make_handler: MakeHandler, log: Log) -> None:
    class Broken(TextHandler):
        async def process(self, callback: CallbackMessage) -> tuple[int, str]:
            raise RuntimeError("a mistake of mine")

    ack = await make_handler(Broken).raw_process(callback(payload()))
    assert ack.code == 200
    await soon(lambda: log.lines("exception"), "a line in the log")
    [line] = log.lines("exception")
    assert ELEMENT in line and "a mistake of mine" in line


# ---- overriding as the tutorial's reader would


async def test_overridden_sending_methods_get_every_card(gateway: Gateway, make_handler: MakeHandler) -> None:
    handler = make_handler(Cards)
    await process(handler, callback(payload(text={"content": "why?"})))
    [sent] = handler.sent
    assert sent["card"]["contents"][0]["text"] == "[Thinking] Analyzing your question, please wait..."
    assert (sent["message"].message_id, sent["at_sender"], sent["at_all"]) == ("msgrK2xxxxU+riw==", True, False)
    assert {card_id for card_id, _ in handler.updates} == {"card-1"}
    assert (handler.last_text, len(handler.last_labels)) == ("Press reset.", 4)
    assert [call.path for call in gateway.calls if call.path != TOKEN] == []


@pytest.mark.parametrize("failure", ["", None, 500], ids=repr)
async def test_a_first_card_that_an_override_could_not_send_is_tried_again(
    make_handler: MakeHandler, quick_retries: None, failure: Any
) -> None:
    class Sometimes(Cards):
        def reply_card(self, card_data, incoming_message, at_sender=False, at_all=False, **kwargs):
            card_id = super().reply_card(card_data, incoming_message, at_sender, at_all, **kwargs)
            return failure if len(self.sent) < 3 else card_id

    handler = make_handler(Sometimes)
    assert await process(handler, callback(payload())) == (200, "OK")
    assert len(handler.sent) == 3
    assert (handler.last_text, len(handler.last_labels)) == ("Press reset.", 4)


@pytest.mark.parametrize("failure", ["", None, 500], ids=repr)
async def test_a_final_card_that_an_override_could_not_send_is_tried_again(
    make_handler: MakeHandler, quick_retries: None, failure: Any
) -> None:
    class Sometimes(Cards):
        def update_card(self, card_biz_id, card_data):
            answer = super().update_card(card_biz_id, card_data)
            return failure if len(self.updates) < 3 else answer

    handler = make_handler(Sometimes)
    assert await process(handler, callback(payload())) == (200, "OK")
    assert len(handler.updates) == 3
    assert (handler.last_text, len(handler.last_labels)) == ("Press reset.", 4)


async def test_overridden_cards_are_the_ones_that_are_sent(host: FakeHost, make_handler: MakeHandler) -> None:
    class Own(Cards):
        def _create_initial_card(self, question):
            return {"own": "first", "question": question}

        def _create_streaming_card(self, content, question):
            shown.set()
            return {"own": "progress", "content": content, "question": question}

        def _create_final_card(self, response, incoming_message, text):
            return {"own": "last", "response": response, "id": incoming_message.message_id, "text": text}

    class Watched(ReferenceAgent):
        """Ends only when somebody has seen a part of its answer."""

        def _default_result(self, text: str) -> str:
            assert shown.wait(10)
            return "All of it."

    shown = threading.Event()
    host.add(AGENT, Watched("01234", chunks=5))
    handler = make_handler(Own)
    assert await process(handler, callback(payload(text={"content": "why?"}))) == (200, "OK")
    assert [sent["card"] for sent in handler.sent] == [{"own": "first", "question": "why?"}]
    assert handler.updates == [
        ("card-1", {"own": "progress", "content": "01234", "question": "why?"}),
        ("card-1", {"own": "last", "response": "All of it.", "id": "msgrK2xxxxU+riw==", "text": "why?"}),
    ]


# ---- sending


def group_message(**changes: Any) -> Any:
    return chatbot_message(payload(**changes))


def test_a_card_to_a_group_mentions_the_sender(gateway: Gateway, make_handler: MakeHandler, receive: Receive) -> None:
    message = receive("why?", sender="小钉")
    handler = make_handler()
    card_id = handler.reply_card(handler._create_initial_card("why?"), chatbot_message(message.data), at_sender=True)
    card = gateway.card_for("why?")
    assert card.id == card_id and 0 < len(card_id) <= 64
    body = dict(card.send_body)
    assert json.loads(body.pop("cardData")) == card.states[0].data
    assert json.loads(body["sendOptions"].pop("atUserListJson")) == [{"nickName": "小钉", "userId": "staff-小钉"}]
    assert body == {
        "cardTemplateId": "StandardCard",
        "robotCode": CLIENT_ID,
        "sendOptions": {"atAll": False},
        "cardBizId": card_id,
        "openConversationId": message.data["conversationId"],
    }


def test_a_card_in_a_private_chat_goes_to_the_person(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive
) -> None:
    message = receive("why?", sender="Bob", group=False)
    handler = make_handler()
    handler.reply_card(handler._create_initial_card("why?"), chatbot_message(message.data))
    card = gateway.card_for("why?")
    assert card.conversation == message.data["conversationId"]
    assert json.loads(card.send_body["singleChatReceiver"]) == {"userId": "staff-Bob"}
    assert "openConversationId" not in card.send_body
    assert "atUserListJson" not in card.send_body["sendOptions"]


def test_further_arguments_of_reply_card_are_fields_of_the_request(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive
) -> None:
    message = chatbot_message(receive("why?").data)
    handler = make_handler()
    handler.reply_card(
        handler._create_initial_card("why?"), message, False, True, callbackUrl="https://a.example", pullStrategy=False
    )
    body = gateway.card_for("why?").send_body
    assert (body["callbackUrl"], body["pullStrategy"]) == ("https://a.example", False)
    assert body["sendOptions"]["atAll"] is True


def test_two_cards_to_one_message_have_two_ids(gateway: Gateway, make_handler: MakeHandler, receive: Receive) -> None:
    message, handler = chatbot_message(receive().data), make_handler()
    ids = {handler.reply_card(handler._create_initial_card(title), message) for title in ("why?", "how?")}
    assert len(ids) == 2 == len(gateway.cards)


def test_the_same_card_to_two_messages_has_two_ids(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive
) -> None:
    handler = make_handler()
    card = handler._create_initial_card("why?")
    ids = {handler.reply_card(card, chatbot_message(receive(sender=sender).data)) for sender in ("Ann", "Ann", "Bob")}
    assert len(ids) == 3 == len(gateway.cards)


@pytest.mark.parametrize("repeated", ["refuse", "accept"])
def test_a_card_that_is_sent_once_more_is_one_card_to_people(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive, repeated: Any
) -> None:
    gateway.repeated_card = repeated
    message, handler = chatbot_message(receive().data), make_handler()
    gateway.trouble(SEND_CARD, "lost")
    with pytest.raises(Unconfirmed):
        handler.reply_card(handler._create_initial_card("why?"), message)
    card_id = handler.reply_card(handler._create_initial_card("why?"), message)
    assert list(gateway.cards) == [card_id]


def test_a_card_is_updated_and_dingtalks_answer_returned(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive
) -> None:
    handler = make_handler()
    card_id = handler.reply_card(handler._create_initial_card("why?"), chatbot_message(receive().data))
    answer = handler.update_card(card_id, handler._create_streaming_card("so far", "why?"))
    assert set(answer) == {"processQueryKey"}
    assert gateway.card_for("why?").text == "so far"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "system.error", TransportError),
        (400, "param.error", ReplyRefused),
        (400, "invalidClientIdOrSecret", AuthError),
    ],
)
def test_a_card_that_cannot_be_sent_or_updated_raises(
    gateway: Gateway, make_handler: MakeHandler, receive: Receive, status: int, code: str, kind: type[Exception]
) -> None:
    message = chatbot_message(receive().data)
    handler = make_handler()
    for path in (SEND_CARD, UPDATE_CARD):
        gateway.refuse(path, status=status, code=code)
    with pytest.raises(kind):
        handler.reply_card({}, message)
    with pytest.raises(kind):
        handler.update_card("card-1", {})


# ---- life


def test_it_is_the_sdks_kind_of_handler_and_keeps_its_configuration(host: FakeHost) -> None:
    element, config = host.element(ELEMENT), {**CONFIG, "colour": "blue"}
    handler = TextHandler(element, config)
    assert isinstance(handler, ChatbotHandler)
    assert handler.element is element
    assert handler.config == {**CONFIG, "colour": "blue"}


def test_a_token_is_fetched_before_the_first_message(gateway: Gateway, make_handler: MakeHandler) -> None:
    make_handler().pre_start()
    gateway.wait_for(lambda: [call for call in gateway.calls if call.path == TOKEN and call.status == 200])


def test_wrong_credentials_do_not_keep_the_client_from_starting(
    gateway: Gateway, make_handler: MakeHandler, log: Log
) -> None:
    handler = make_handler(cardType="ai")
    handler.dingtalk_client = StreamClient(Credential(CLIENT_ID, "wrong-secret"))
    handler.pre_start()
    eventually(lambda: log.lines(containing="token"), "a line in the log")
    assert log.lines("warning", "error", "exception") == [], "the connection, which fails too, is what tells"
    assert log.lines(containing="wrong-secret") == []


@pytest.mark.parametrize(
    ("config", "warned"),
    [({}, True), ({"cardType": "ai"}, False), ({"cardType": "markdown"}, False), ({"feedbackButtons": False}, False)],
)
def test_buttons_that_nobody_hears_of_are_warned_about_at_each_start(
    gateway: Gateway, make_handler: MakeHandler, log: Log, config: dict[str, Any], warned: bool
) -> None:
    make_handler(**config).pre_start()
    lines = log.lines("warning")
    assert len(lines) == warned
    assert all(part in line for line in lines for part in (ELEMENT, "cardType", "feedbackButtons", "/good"))


def test_the_api_has_the_credentials_of_the_client_that_the_handler_belongs_to(make_handler: MakeHandler) -> None:
    handler = make_handler()
    first = handler.api
    assert first.credential.client_secret == CLIENT_SECRET
    assert handler.api is first, "with its token and its connections"
    handler.dingtalk_client = StreamClient(Credential(CLIENT_ID, "renewed"))
    assert handler.api.credential.client_secret == "renewed"


async def test_the_status_counts_what_goes_on(make_handler: MakeHandler, agent: ReferenceAgent) -> None:
    handler = make_handler(Cards)
    assert handler.status() == {"calls": {}, "closed": {}}
    assert await process(handler, callback(payload(msgId="before"))) == (200, "OK")
    await soon(lambda: handler.status()["answered"] == 1, "the count")
    agent.gate = threading.Event()
    first = asyncio.ensure_future(process(handler, callback(payload())))
    await soon(lambda: agent.running, "the agent's run")
    second = asyncio.ensure_future(process(handler, callback(payload(msgId="another"))))
    await soon(lambda: handler.status()["unsent"] == 2, "the second question")
    status = handler.status()
    assert (status["in_flight"], status["queued"], status["unsent"]) == (1, 1, 2), "one person's questions take turns"
    assert (status["received"], status["answered"], status["failed"]) == (3, 1, 0)
    agent.gate.set()
    assert await first == await second == (200, "OK")
    await soon(lambda: handler.status()["answered"] == 3 and handler.status()["unsent"] == 0, "the end")
    status = handler.status()
    assert (status["in_flight"], status["queued"], status["received"], status["answered"]) == (0, 0, 3, 3)
    handler.close(Deadline(5))
    assert handler.status()["answered"] == 3


async def test_a_closed_handler_answers_nothing_until_it_is_started_again(
    gateway: Gateway, make_handler: MakeHandler, log: Log
) -> None:
    handler = make_handler(Cards)
    assert await process(handler, callback(payload())) == (200, "OK")
    handler.close(Deadline(5))
    handler.close(Deadline(5))
    code, _ = await process(handler, callback(payload(msgId="meanwhile")))
    assert (code, len(handler.sent)) == (AckMessage.STATUS_SYSTEM_EXCEPTION, 1)
    assert log.lines("warning", containing="meanwhile"), "what was not answered is in the log"
    handler.pre_start()
    assert await process(handler, callback(payload(msgId="after"))) == (200, "OK")
    assert len(handler.sent) == 2


async def test_closing_tells_those_whose_answer_is_not_ready(make_handler: MakeHandler, agent: ReferenceAgent) -> None:
    agent.answer, agent.chunks, agent.gate = "Half of it", 1, threading.Event()
    handler = make_handler(Cards)
    result = asyncio.ensure_future(process(handler, callback(payload(text={"content": "why?"}))))
    await soon(lambda: agent.running and handler.sent, "the agent's run and the first card")
    await asyncio.to_thread(handler.close, Deadline(0.5))
    assert await result == (200, "OK")
    assert handler.last_text == "Half of it\n\nSorry, this answer was interrupted. Please ask again."
    assert handler.last_labels == []
    agent.gate.set()
