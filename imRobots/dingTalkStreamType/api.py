"""Calls to DingTalk's OpenAPI and to session webhooks: address, token, timeouts, errors.

Owns one pool of connections and one access token. Blocking; any thread but an event loop. The only place where an HTTP
status becomes a typed error. Knows no cards and no retries.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import certifi
import urllib3
from dingtalk_stream import Credential, utils

from imRobots.Meta import AuthError, RateLimited, ReplyRefused, TransportError

# Seconds for connecting and for answering, and together.
_TIMEOUT = urllib3.Timeout(connect=10, read=10, total=10)
_MAX_CONNECTIONS = 64
# Seconds before the end of a token's life at which a new one is fetched, as in the SDK.
_TOKEN_MARGIN = 300.0

_TOKEN_CODES = {"InvalidAuthentication", "40014", "42001"}
_CREDENTIAL_CODES = {"invalidClientIdOrSecret", "authFailed"}
_WEBHOOK_BUSY = "-1"


class Api:
    """The OpenAPI as one application sees it. Every method raises `TransportError`, `AuthError` or `ReplyRefused`."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        # The certificates that `requests` uses, and with it the SDK.
        self._http = urllib3.PoolManager(
            maxsize=_MAX_CONNECTIONS, retries=False, timeout=_TIMEOUT, ca_certs=certifi.where()
        )
        self._token_lock = threading.Lock()
        self._token = ""
        self._token_ends = 0.0
        self._token_error: Exception | None = None
        self._token_failed_at = 0.0

    def close(self) -> None:
        """Close the connections that nobody uses. The next call opens a new one."""
        self._http.clear()

    def open_connection(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the gateway for a Stream connection: `{"endpoint", "ticket"}`. The ticket is for one use within 90 s."""
        return self._call("POST", _url("/v1.0/gateway/connections/open"), body)

    def send_card(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a standard card (dingtalk "robots-send-interactive-cards")."""
        return self._call_with_token("POST", "/v1.0/im/v1.0/robot/interactiveCards/send", body)

    def update_card(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Update a standard card (dingtalk "update-the-robot-to-send-interactive-cards")."""
        return self._call_with_token("PUT", "/v1.0/im/robots/interactiveCards", body)

    def post_to_webhook(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post to a `sessionWebhook`. Its errors come with HTTP status 200 and an `errcode`."""
        answer = self._call("POST", url, body)
        code = str(answer.get("errcode", 0))
        if code == _WEBHOOK_BUSY:
            raise TransportError(f"the session webhook is busy: {answer.get('errmsg')}")
        if code != "0":
            raise ReplyRefused(f"the session webhook answered {code}: {answer.get('errmsg')}")
        return answer

    def token(self) -> str:
        """The access token, fetched when none is valid. Who needs it meanwhile waits for that one call."""
        asked_at = time.monotonic()
        with self._token_lock:
            if self._token_error and self._token_failed_at >= asked_at:  # the call that this one waited for
                raise type(self._token_error)(str(self._token_error))
            if time.monotonic() >= self._token_ends:
                credential = self.credential
                body = {"appKey": credential.client_id, "appSecret": credential.client_secret}
                try:
                    answer = self._call("POST", _url("/v1.0/oauth2/accessToken"), body)
                except (AuthError, ReplyRefused, TransportError) as error:
                    self._token_error, self._token_failed_at = error, time.monotonic()
                    raise
                token, seconds = answer.get("accessToken"), answer.get("expireIn")
                if not isinstance(token, str) or not token or not isinstance(seconds, (int, float)):
                    raise TransportError("the answer to the request for an access token holds none")
                self._token = token
                self._token_ends = time.monotonic() + seconds - _TOKEN_MARGIN
            return self._token

    def _forget_token(self, token: str) -> None:
        with self._token_lock:
            if self._token == token:  # else another thread has a new one already
                self._token_ends = 0.0

    def _call_with_token(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        token = self.token()
        try:
            return self._call(method, _url(path), body, token)
        except _TokenExpired:
            self._forget_token(token)
            return self._call(method, _url(path), body, self.token())

    def _call(self, method: str, url: str, body: Mapping[str, Any], token: str = "") -> dict[str, Any]:
        # Without this Accept header the gateway answers in XML.
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["x-acs-dingtalk-access-token"] = token
        path = "a webhook"  # whose query is a secret
        try:
            path = urllib3.util.parse_url(url).path or "/"
            response = self._http.request(method, url, body=_encode(body), headers=headers)
        except urllib3.exceptions.LocationValueError:
            raise ReplyRefused(f"{method} {path}: the address is not valid") from None
        except urllib3.exceptions.HTTPError as error:
            raise TransportError(f"{method} {path}: {type(error).__name__}") from error
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        if response.status == 200 and isinstance(answer, dict):
            return answer
        if response.status == 200:
            raise TransportError(f"{method} {path}: the answer is no JSON object")
        refusal = _error(f"{method} {path}", response.status, answer if isinstance(answer, dict) else {})
        if isinstance(refusal, _TokenExpired) and not token:
            raise AuthError(f"{refusal}; check clientId and clientSecret")
        raise refusal


class _TokenExpired(ReplyRefused):
    """A call refused because of its token, to be made again with a new one."""


def _error(call: str, status: int, answer: Mapping[str, Any]) -> AuthError | ReplyRefused | TransportError:
    """What a refusal means (dingtalk "openapi error codes"; the codes are stable, the messages are not)."""
    code = str(answer.get("code", ""))
    text = f"{call}: HTTP {status} {code} {answer.get('message', '')} (request {answer.get('requestid', 'unknown')})"
    detail = answer.get("accessdenieddetail")
    if isinstance(detail, Mapping) and detail.get("requiredScopes"):
        text += f"; grant the permission {detail['requiredScopes']} in the developer console"
    if code in _CREDENTIAL_CODES:
        return AuthError(f"{text}; check clientId and clientSecret")
    if status == 401 or code in _TOKEN_CODES:
        return _TokenExpired(text)
    if status == 429 or "QpsLimit" in code or "QpmLimit" in code or code.startswith(("send.too.fast", "send.byToken")):
        return RateLimited(text)
    if status >= 500:
        return TransportError(text)
    return ReplyRefused(text, code)


def _url(path: str) -> str:
    # The SDK reads DINGTALK_OPENAPI_ENDPOINT once, when it is imported; this is what it has read.
    return str(utils.DINGTALK_OPENAPI_ENDPOINT) + path


def _encode(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half of an emoji: a model's chunk may end within one
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")
