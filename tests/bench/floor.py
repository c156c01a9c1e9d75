"""The least that the machine and the language ask for: the same agents on threads, and as many calls.

Only for the bench. It acknowledges, opens a card, updates it so many times while the agent runs, and ends it with two
calls, through the HTTP client that the robot uses too. It keeps no order, no pace and no memory, and recovers from
nothing.
"""

from __future__ import annotations

import functools
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote_plus

import urllib3
from websockets.sync.client import connect

from tests.bench.agent import SleepingAgent
from tests.fakes.gateway import AI_TEMPLATE, CREATE_CARD, MESSAGE_TOPIC, OPEN, STREAM_CARD, TOKEN, UPDATE_INSTANCE

BUTTONS = json.dumps({"order": ["msgButtons"], "msgButtons": [{"text": "👍", "id": "helpful", "request": True}]})
MAX_CALLS_AT_ONCE = 64


class Floor:
    def __init__(self, agent: SleepingAgent, url: str, client_id: str, client_secret: str, updates: float) -> None:
        """`updates`: for each answer while it grows, on average."""
        self._agent = agent
        self._url = url
        self._client_id = client_id
        self._updates = updates
        self._http = urllib3.PoolManager(maxsize=MAX_CALLS_AT_ONCE, retries=False)
        self._senders = ThreadPoolExecutor(MAX_CALLS_AT_ONCE)
        self._token = ""
        self._token = self._call("POST", TOKEN, appKey=client_id, appSecret=client_secret)["accessToken"]
        topics = [{"type": "CALLBACK", "topic": MESSAGE_TOPIC}]
        place = self._call("POST", OPEN, clientId=client_id, clientSecret=client_secret, subscriptions=topics)
        self._socket = connect(f"{place['endpoint']}?ticket={quote_plus(place['ticket'])}", proxy=None, max_queue=None)

    def run(self) -> None:
        for number, raw in enumerate(self._socket):
            frame = json.loads(raw)
            headers = {"messageId": frame["headers"]["messageId"], "contentType": "application/json"}
            self._socket.send(json.dumps({"code": 200, "message": "OK", "headers": headers, "data": ""}))
            updates = int((number + 1) * self._updates) - int(number * self._updates)
            answer = functools.partial(self._answer, json.loads(frame["data"]), updates)
            threading.Thread(target=answer, daemon=True).start()

    def _answer(self, message: dict[str, Any], updates: int) -> None:
        question, card = message["text"]["content"].strip(), uuid.uuid4().hex
        one_call_at_a_time = threading.Lock()
        text, pieces = "", 0
        due = {len(self._agent.answer) * number // (updates + 1) for number in range(1, updates + 1)}

        def send(*calls: functools.partial[Any]) -> None:
            with one_call_at_a_time:
                for call in calls:
                    call()

        def stream(chunk: dict[str, Any]) -> None:
            nonlocal text, pieces
            text += chunk["data"]["content"]
            if sum(length <= len(text) for length in due) > pieces:
                pieces += 1
                self._senders.submit(send, functools.partial(self._stream, card, text, False))

        self._senders.submit(send, functools.partial(self._open, card, question, message["conversationId"]))
        answer = self._agent.run({"input_data": question}, message["senderStaffId"], stream)
        ending = {"flowStatus": "3", "sys_full_json_obj": BUTTONS}
        self._senders.submit(
            send, functools.partial(self._stream, card, answer, True), functools.partial(self._update, card, ending)
        )

    def _open(self, card: str, question: str, conversation: str) -> None:
        self._call(
            "POST",
            CREATE_CARD,
            cardTemplateId=AI_TEMPLATE,
            outTrackId=card,
            callbackType="STREAM",
            userIdType=1,
            cardData={"cardParamMap": {"msgTitle": question, "msgContent": "…", "flowStatus": "2"}},
            openSpaceId=f"dtv1.card//IM_GROUP.{conversation}",
            imGroupOpenSpaceModel={"supportForward": True},
            imGroupOpenDeliverModel={"robotCode": self._client_id},
        )

    def _stream(self, card: str, text: str, ends: bool) -> None:
        guid = uuid.uuid4().hex
        self._call(
            "PUT",
            STREAM_CARD,
            outTrackId=card,
            guid=guid,
            key="msgContent",
            content=text,
            isFull=True,
            isFinalize=ends,
            isError=False,
        )

    def _update(self, card: str, variables: dict[str, str]) -> None:
        by_key = {"updateCardDataByKey": True}
        self._call(
            "PUT", UPDATE_INSTANCE, outTrackId=card, cardData={"cardParamMap": variables}, cardUpdateOptions=by_key
        )

    def _call(self, method: str, path: str, **body: Any) -> Any:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "x-acs-dingtalk-access-token": self._token,
        }
        answer = self._http.request(method, self._url + path, body=json.dumps(body).encode(), headers=headers)
        assert answer.status == 200, answer.data
        return json.loads(answer.data)
