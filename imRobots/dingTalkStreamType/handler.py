"""The reference's `TextHandler`: takes a bot message off the Stream connection, acknowledges it and hands it over.

Owns the robot that answers (`imRobots.Meta.Robot`), from the first message or `pre_start` to `close`, and the handler
of clicks beside it. The `async` methods run on the Stream connection's loop and never block it; the card methods run
on the outbox's threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import date
from typing import Any

from dingtalk_stream import AckMessage, CallbackMessage, ChatbotHandler, ChatbotMessage
from dingtalk_stream.frames import Headers

from imRobots.Meta import (
    Click,
    Clicked,
    ClickRefused,
    Deadline,
    IMRobotError,
    IncomingMessage,
    ReplyRefused,
    Robot,
    Store,
    export_feedback,
    log,
    texts_for,
    texts_to,
)

from . import cards
from .api import Api
from .card_handler import CardHandler
from .config import AnswerConfig
from .ladder import Ladder
from .logs import library_log
from .messages import chatbot_message, is_group, key_of, read_message
from .network import Network
from .reply import DingTalkReply
from .template import Template

# What is tried for each `cardType`, in this order; markdown comes last in any case.
_RUNGS = {"standard": ("standard", "ai"), "ai": ("ai",), "markdown": ()}


class TextHandler(ChatbotHandler):
    """Answers text messages with an agent's streamed answer."""

    def __init__(self, element: Any, config: dict[str, Any], *, store: Store | None = None) -> None:
        """`config` is the rendered config.json. `store` remembers more than this handler lives; by default not."""
        super().__init__()
        self.logger = library_log  # the SDK's methods write addresses with secrets in them
        self.element = element
        self.config = config
        self.store = store or Store()
        self._settings = AnswerConfig.model_validate(config)
        self.rungs = _RUNGS[self._settings.cardType]
        self.template = Template(
            self._settings.cardTemplateId,
            self._settings.cardVariables,
            with_ratings=self._settings.feedbackButtons,
        )
        self.card_handler = CardHandler(element.fullName, self.template, lambda: self.api, self._click)
        self.ladder = Ladder(element.fullName, config, self.store)
        self._network = Network(config.get("proxy", ""), config.get("caFile", ""))
        self._lock = threading.Lock()
        self._robot: Robot | None = None
        self._closed = False
        self._api: Api | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def api(self) -> Api:
        """The OpenAPI with the credentials of the client that this handler is registered with."""
        with self._lock:
            credential = self.dingtalk_client.credential
            if self._api is None or self._api.credential is not credential:
                self._api = Api(credential, self._network, on_counted=lambda: self.store.count("calls"))
            return self._api

    def pre_start(self) -> None:
        """Called by the client before it connects: go on with what a killed process left, and fetch a token now.

        So the first card is one call only.
        """
        with self._lock:
            if self._closed:
                self._robot, self._closed = None, False
        self._running_robot()
        if self._settings.cardType == "standard" and self._settings.feedbackButtons:
            log.warning(
                f"{self.element.fullName}: DingTalk does not deliver clicks on the buttons of standard cards to Stream "
                'robots. Set cardType to "ai" for buttons that work, or feedbackButtons to false to hide these; the '
                "messages /good and /bad rate an answer in any case"
            )
        threading.Thread(target=self._fetch_token, name="imRobots-token", daemon=True).start()

    async def raw_process(self, callback_message: CallbackMessage) -> AckMessage:
        """Acknowledge at once. The answer takes its time, and DingTalk delivers again what is not acknowledged."""
        task = asyncio.get_running_loop().create_task(self._process_logged(callback_message))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        ack = AckMessage()
        ack.message = "OK"
        ack.headers.message_id = callback_message.headers.message_id
        ack.headers.content_type = Headers.CONTENT_TYPE_APPLICATION_JSON
        ack.data = {"response": "OK"}
        return ack

    async def process(self, callback: CallbackMessage) -> tuple[int, str]:
        """Answer a message; returns when its last word is out: `(AckMessage.STATUS_OK, "OK")`.

        With another status where the message cannot be read or the answer cannot be sent. Runs on an event loop.
        """
        if not isinstance(callback.data, Mapping):
            log.warning(f"{self.element.fullName}: a message whose data is no JSON object was ignored")
            return AckMessage.STATUS_BAD_REQUEST, "not a message"
        message = read_message(callback.data, fallback_id=callback.headers.message_id or "")
        robot = self._running_robot()
        if robot is None:
            log.warning(f"{self.element.fullName}: message {message.message_id} came while the client was stopped")
            return AckMessage.STATUS_SYSTEM_EXCEPTION, "stopped"
        delivered = await asyncio.wrap_future(robot.submit(message))
        return (AckMessage.STATUS_OK, "OK") if delivered else (AckMessage.STATUS_SYSTEM_EXCEPTION, "not delivered")

    def reply_card(
        self,
        card_data: dict[str, Any],
        incoming_message: ChatbotMessage,
        at_sender: bool = False,
        at_all: bool = False,
        **kwargs: Any,
    ) -> str:
        """Send a standard card in answer to a message; returns its `cardBizId`.

        The SDK's method with timeouts; it raises a `TransportError` or another `IMRobotError` where the SDK's returns
        "". `kwargs` are further fields of the request. Blocks.
        """
        # The same card for the same message has the same id, so that a send which is tried again makes no second card.
        card_biz_id = cards.card_id(key_of(incoming_message), card_data)
        options: dict[str, Any] = {"atAll": at_all}
        if at_sender:
            user = {"nickName": incoming_message.sender_nick, "userId": incoming_message.sender_staff_id}
            options["atUserListJson"] = cards.to_json([user])
        body = {
            "cardTemplateId": "StandardCard",
            "robotCode": self.dingtalk_client.credential.client_id,
            "cardData": cards.to_json(card_data),
            "sendOptions": options,
            "cardBizId": card_biz_id,
        }
        if is_group(incoming_message):
            body["openConversationId"] = incoming_message.conversation_id
        else:
            body["singleChatReceiver"] = cards.to_json({"userId": incoming_message.sender_staff_id})
        try:
            self.api.send_card({**body, **kwargs})
        except ReplyRefused as refusal:
            if refusal.code != "invalid.bizId":
                raise
            log.info(f"{self.element.fullName}: a card was there already: its send had seemed to fail")
        return card_biz_id

    def update_card(self, card_biz_id: str, card_data: dict[str, Any]) -> dict[str, Any]:
        """Update a standard card; returns DingTalk's answer.

        The SDK's method with timeouts; it raises a `TransportError` or another `IMRobotError` where the SDK's returns
        a status. Blocks.
        """
        return self.api.update_card({"cardBizId": card_biz_id, "cardData": cards.to_json(card_data)})

    def close(self, deadline: Deadline) -> None:
        """Take no more messages until `pre_start`, let answers finish until the deadline. Any thread; blocks."""
        with self._lock:
            robot, self._closed = self._robot, True
        if robot is not None:
            robot.close(deadline)  # also once more, with less time
        if self._api is not None:
            self._api.close()

    def status(self) -> dict[str, Any]:
        """Counters of what goes on (see `Robot.status`), calls by API, and the closed rungs with what they lack."""
        robot, api = self._robot, self._api
        return {
            **(robot.status() if robot is not None else {}),
            "calls": api.status() if api is not None else {},
            "closed": self.ladder.closed(),
        }

    def exportFeedback(self, since: str | float | date | None = None) -> str:
        """The ratings since then, as JSON lines: see `imRobots.Meta.export_feedback`. Reads a file."""
        return export_feedback(self.store, since)

    def _create_initial_card(self, question: str) -> dict[str, Any]:
        return cards.thinking_card(question, self._texts(question))

    def _create_streaming_card(self, content: str, question: str) -> dict[str, Any]:
        return cards.answer_card(question, content, _stamp())

    def _create_final_card(self, response: str, incoming_message: ChatbotMessage, text: str) -> dict[str, Any]:
        if not self._settings.feedbackButtons:
            return cards.answer_card(text, response, _stamp())
        return cards.final_card(text, response, incoming_message.message_id, self._texts(text), _stamp())

    def _running_robot(self) -> Robot | None:
        with self._lock:
            if self._closed:
                return None
            if self._robot is None:
                self._robot = Robot(
                    self.element,
                    self._settings,
                    self._reply_to,
                    self.store,
                    account=str(self.dingtalk_client.credential.client_id),
                    status=self._whole_status,
                )
            return self._robot

    def _whole_status(self) -> dict[str, Any]:
        of_client = getattr(self.dingtalk_client, "status", dict)
        return {**of_client(), **self.status()}

    def _reply_to(self, message: IncomingMessage) -> DingTalkReply:
        incoming = chatbot_message(message.source)
        incoming.message_id = message.message_id  # another than the payload's where an answer is asked for again
        return DingTalkReply(self, incoming, message.text, texts_to(self._settings.language, message))

    def _click(self, click: Click) -> Future[Clicked]:
        robot = self._running_robot()
        if robot is None:
            raise ClickRefused("the client was stopped")
        return robot.click(click)

    def _texts(self, question: str) -> Any:
        return texts_for(self._settings.language, question)

    async def _process_logged(self, callback: CallbackMessage) -> None:
        try:
            await self.process(callback)
        except Exception:  # of a subclass, say
            log.exception(f"{self.element.fullName}: processing a message failed")

    def _fetch_token(self) -> None:
        try:
            self.api.token()
        except IMRobotError as error:
            log.debug(f"{self.element.fullName}: no access token yet. {error}")


def _stamp() -> int:
    return int(time.time() * 1000)
