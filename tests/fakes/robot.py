"""The least that can talk to the stand-in DingTalk: for tests that look at the stand-in itself, not at a robot."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from tests.fakes.gateway import MESSAGE_TOPIC, OPEN, SEND_CARD, TOKEN, UPDATE_CARD, Gateway

SECRETS = {"clientId": "ding-demo", "clientSecret": "demo-secret"}
MESSAGES = {"type": "CALLBACK", "topic": MESSAGE_TOPIC}


class Robot:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.http = requests.Session()
        self.http.trust_env = False
        self.sockets = ExitStack()
        self.token = ""

    def close(self) -> None:
        self.sockets.close()
        self.http.close()

    def call(self, method: str, path: str, body: Any, timeout: float = 5, **headers: str) -> requests.Response:
        headers = {"x-acs-dingtalk-access-token": self.token, "Accept": "application/json"} | headers
        url = path if path.startswith("http") else self.gateway.url + path
        return self.http.request(method, url, json=body, headers=headers, timeout=timeout)

    def open(self, *subscriptions: dict[str, str]) -> str:
        answer = self.call("POST", OPEN, {**SECRETS, "subscriptions": subscriptions or [MESSAGES]}).json()
        return f"{answer['endpoint']}?ticket={answer['ticket']}"

    def connect(self, *subscriptions: dict[str, str]) -> ClientConnection:
        count = self.gateway.connections() + 1
        socket = self.enter(self.open(*subscriptions))
        self.gateway.wait_for(lambda: self.gateway.connections() == count)
        return socket

    def enter(self, uri: str, **options: Any) -> ClientConnection:
        # Without a limit of the queue: frames that nobody reads must not hold up the closing.
        return self.sockets.enter_context(connect(uri, proxy=None, max_queue=None, **options))

    def log_in(self) -> None:
        self.token = self.call("POST", TOKEN, {"appKey": "ding-demo", "appSecret": "demo-secret"}).json()["accessToken"]

    def send(self, **changes: Any) -> requests.Response:
        body = {
            "cardTemplateId": "StandardCard",
            "robotCode": "ding-demo",
            "cardBizId": "card-1",
            "cardData": card_data("thinking"),
            **changes,
        }
        return self.call("POST", SEND_CARD, {name: value for name, value in body.items() if value is not None})

    def write(self, path: str, msg_key: str, msg_param: Any, **where: Any) -> requests.Response:
        param = msg_param if isinstance(msg_param, str) else json.dumps(msg_param)
        body = {"robotCode": "ding-demo", "msgKey": msg_key, "msgParam": param, **where}
        return self.call("POST", path, {name: value for name, value in body.items() if value is not None})

    def update(self, card_id: str, data: str) -> requests.Response:
        return self.call("PUT", UPDATE_CARD, {"cardBizId": card_id, "cardData": data})


def card_data(text: str, *buttons: dict[str, Any], title: str = "why?") -> str:
    contents: list[dict[str, Any]] = [{"type": "markdown", "text": text, "id": "m"}]
    if buttons:
        contents.append({"type": "action", "actions": list(buttons), "id": "a"})
    return json.dumps({"config": {}, "header": {"title": {"type": "text", "text": title}}, "contents": contents})


def ack(frame: dict[str, Any], **changes: Any) -> str:
    headers = {"contentType": "application/json", "messageId": frame["headers"].get("messageId")}
    return json.dumps({"code": 200, "message": "OK", "headers": headers, "data": '{"response": null}', **changes})


def receive(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(socket.recv(timeout=5))
    return frame


def message(socket: ClientConnection) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(receive(socket)["data"])
    return data


def code(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]
