"""Calls to DingTalk's OpenAPI and to session webhooks: addresses, the token, what an answer means.

Owns one access token and the counts of calls. Blocking; any thread but an event loop. The only place where an HTTP
status becomes a typed error. Knows no cards and no retries.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from dingtalk_stream import Credential, utils

from imRobots.Meta import AuthError, Cause, RateLimited, ReplyRefused, TransportError, Unconfirmed

from .network import Network, path_of

# Seconds before the end of a token's life at which a new one is fetched, as in the SDK.
_TOKEN_MARGIN = 300.0
_TOKEN = "/v1.0/oauth2/accessToken"
_OPEN = "/v1.0/gateway/connections/open"

# Codes of the OpenAPI, and of the old API, which answers with HTTP 200 and a number (dingtalk "error codes").
_TOKEN_CODES = {"InvalidAuthentication", "40014", "42001"}
_CREDENTIAL_CODES = {"invalidClientIdOrSecret", "authFailed"}
_PERMISSION_CODES = {"88", "60011"}
_ADDRESS_CODES = {"60020"}
_TEMPLATE_CODES = ("param.templateNotExist", "param.templateUnpublished", "param.cardTemplateIdEmpty")
_QUOTA_CODES = {"90020"}
_LIMIT_CODES = {"90018", "90002", "410100"}
_BUSY_CODES = {"-1", "system.error", "system.busy"}
_FLOOD_STATUS = "1111"  # of an address that called too often; comes without a code
# What these say is about one message, one person or one group, and nothing about the next.
_MESSAGE_CODES = ("param.", "invalid", "staffId.", "robot.oto.", "group.", "conversation.", "contain.", "cardInstance.")


class Api:
    """The OpenAPI as one application sees it. Every call raises `TransportError`, `AuthError` or `ReplyRefused`."""

    def __init__(
        self,
        credential: Credential,
        network: Network | None = None,
        on_counted: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_counted` is called for every call that counts against the organization's monthly quota."""
        self.credential = credential
        self.network = network or Network()
        self._on_counted = on_counted
        self._calls: dict[str, dict[str, int]] = {}
        self._calls_lock = threading.Lock()
        self._token_lock = threading.Lock()
        self._token = ""
        self._token_number = 0  # DingTalk may give the same token again
        self._token_ends = 0.0
        self._token_error: Exception | None = None
        self._token_failed_at = 0.0

    def close(self) -> None:
        """Close the connections that nobody uses. The next call opens a new one."""
        self.network.close()

    def status(self) -> dict[str, dict[str, int]]:
        """For each API, how many calls were `made` and how many of those `refused`. Any thread."""
        with self._calls_lock:
            return {path: dict(counts) for path, counts in self._calls.items()}

    def open_connection(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the gateway for a Stream connection: `{"endpoint", "ticket"}`. The ticket is for one use within 90 s."""
        try:
            return self._call("POST", _url(_OPEN), body)
        except ReplyRefused as refusal:
            raise ReplyRefused(
                f"{refusal}; see in the developer console that the application is published, that its robot receives "
                "messages in Stream mode, and that this machine's address is allowed",
                refusal.code,
                refusal.cause,
            ) from None

    def send_card(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a standard card (dingtalk "robots-send-interactive-cards")."""
        return self._call_with_token("POST", "/v1.0/im/v1.0/robot/interactiveCards/send", body)

    def update_card(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Update a standard card (dingtalk "update-the-robot-to-send-interactive-cards")."""
        return self._call_with_token("PUT", "/v1.0/im/robots/interactiveCards", body)

    def deliver_card(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an AI card and deliver it (dingtalk "create-and-deliver-cards")."""
        return self._call_with_token("POST", "/v1.0/card/instances/createAndDeliver", body)

    def update_instance(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Update variables of an AI card (dingtalk "interactive-card-update-interface")."""
        return self._call_with_token("PUT", "/v1.0/card/instances", body)

    def stream_card(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Update the text of an AI card while it grows (dingtalk "api-streamingupdate")."""
        return self._call_with_token("PUT", "/v1.0/card/streaming", body)

    def send_to_group(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a message to a group as the robot (dingtalk "the-robot-sends-a-group-message")."""
        return self._call_with_token("POST", "/v1.0/robot/groupMessages/send", body)

    def send_to_people(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a message one-to-one as the robot (dingtalk "chatbots-send-one-on-one-chat-messages-in-batches")."""
        answer = self._call_with_token("POST", "/v1.0/robot/oToMessages/batchSend", body)
        if answer.get("flowControlledStaffIdList"):
            raise RateLimited("the message to one person was held back: too many of them")
        if answer.get("invalidStaffIdList"):
            raise ReplyRefused("the message to one person was accepted and not delivered: the person is not known")
        return answer

    def post_to_webhook(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post to a `sessionWebhook`. Its errors come with HTTP status 200 and an `errcode`."""
        try:
            address = urlsplit(url)
            valid = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ReplyRefused("the session webhook's address is not valid")
        return self._call("POST", url, body)

    def token(self) -> str:
        """The access token, fetched when none is valid. Who needs it meanwhile waits for that one call."""
        asked_at = time.monotonic()
        with self._token_lock:
            if self._token_error and self._token_failed_at >= asked_at:  # the call that this one waited for
                raise copy.copy(self._token_error)
            if time.monotonic() >= self._token_ends:
                credential = self.credential
                body = {"appKey": credential.client_id, "appSecret": credential.client_secret}
                try:
                    answer = self._call("POST", _url(_TOKEN), body)
                    token, seconds = answer.get("accessToken"), answer.get("expireIn")
                    if not isinstance(token, str) or not token or not isinstance(seconds, (int, float)):
                        raise TransportError("the answer to the request for an access token holds none")
                except (AuthError, ReplyRefused, TransportError) as error:
                    self._token_error, self._token_failed_at = error, time.monotonic()
                    raise
                self._token = token
                self._token_number += 1
                self._token_ends = time.monotonic() + seconds - _TOKEN_MARGIN
            return self._token

    def _call_with_token(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        token, number = self.token(), self._token_number
        try:
            return self._counted_call(method, path, body, token)
        except _TokenExpired:
            with self._token_lock:
                if self._token_number == number:  # else another thread has a new one already
                    self._token_ends = 0.0
        try:
            return self._counted_call(method, path, body, self.token())
        except _TokenExpired as error:
            raise AuthError(f"{error}; a new token is refused as well") from None

    def _counted_call(self, method: str, path: str, body: Mapping[str, Any], token: str) -> dict[str, Any]:
        """Count a call for the month: not a throttled or failed one (dingtalk "api-call-statistics").

        Of refused ones nothing is said. Those without a token (tokens, connections, webhooks) are exempt, or no API's.
        """
        try:
            answer = self._call(method, _url(path), body, token)
        except ReplyRefused as refusal:
            if refusal.cause in ("message", "unknown") and not isinstance(refusal, _TokenExpired):
                self._on_counted()
            raise
        self._on_counted()
        return answer

    def _call(self, method: str, url: str, body: Mapping[str, Any], token: str = "") -> dict[str, Any]:
        # Without this Accept header the gateway answers in XML.
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["x-acs-dingtalk-access-token"] = token
        path = path_of(url)
        refused = True
        try:
            status, content = self.network.request(method, url, _encode(body), headers)
            answer = _read(f"{method} {path}", status, content)
            refused = False
        except _TokenExpired as error:
            if token:
                raise
            raise AuthError(f"{error}; check clientId and clientSecret") from None
        finally:
            self._count(path, refused)
        return answer

    def _count(self, path: str, refused: bool) -> None:
        with self._calls_lock:
            counts = self._calls.setdefault(path, {"made": 0, "refused": 0})
            counts["made"] += 1
            counts["refused"] += refused


class _TokenExpired(ReplyRefused):
    """A call refused because of its token, to be made again with a new one."""


def _read(call: str, status: int, content: bytes) -> dict[str, Any]:
    """The answer, or the error that it is: also one that comes as a success."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):  # of something on the way, a proxy that blocks say
        raise Unconfirmed(f"{call}: HTTP {status}, and the answer is no JSON object")
    code = str(answer.get("errcode") or answer.get("code") or "")
    if code == "88" and answer.get("sub_code"):  # the old API wraps some of its errors
        code = str(answer["sub_code"])
    results = answer.get("result")
    deliveries = results.get("deliverResults") if isinstance(results, dict) else None
    failed = [one for one in deliveries or [] if isinstance(one, dict) and one.get("success") is False]
    flooded = str(answer.get("status")) == _FLOOD_STATUS
    if status == 200 and code in ("", "0") and answer.get("success") is not False and not failed and not flooded:
        return answer
    message = answer.get("message") or answer.get("errmsg") or (failed[0].get("errorMsg") if failed else "")
    text = f"{call}: HTTP {status} {code} {message} (request {answer.get('requestid', 'unknown')})"
    raise RateLimited(text) if flooded else _error(text, status, code, answer)


def _error(text: str, status: int, code: str, answer: Mapping[str, Any]) -> AuthError | ReplyRefused | TransportError:
    """What a refusal means (dingtalk "openapi error codes"; the codes are stable, the messages are not)."""
    if code in _CREDENTIAL_CODES:
        return AuthError(f"{text}; check clientId and clientSecret: both of the same application, without blanks")
    if status == 401 or code in _TOKEN_CODES:
        return _TokenExpired(text, code)
    if "ApiCountLimitForOrg" in code or code in _QUOTA_CODES:
        return ReplyRefused(f"{text}; the organization has used up this month's calls", code, "quota")
    if status == 429 or code in _LIMIT_CODES or "QpsLimit" in code or "QpmLimit" in code:
        return RateLimited(text)
    if code.startswith(("send.too.fast", "send.byToken", "too.many")):
        return RateLimited(text)
    if status >= 500 or code in _BUSY_CODES:
        return Unconfirmed(text)
    if "IpNotInWhiteList" in code or code in _ADDRESS_CODES:
        what = "add this machine's address to the application's list of allowed ones in the developer console"
        return ReplyRefused(f"{text}; {what}", code, "address")
    detail = answer.get("accessdenieddetail")
    scopes = detail.get("requiredScopes") if isinstance(detail, Mapping) else None
    if scopes or "PermissionDenied" in code or code in _PERMISSION_CODES:
        named = ", ".join(map(str, scopes)) if isinstance(scopes, list) else str(scopes or "that it needs")
        return ReplyRefused(f"{text}; grant the permission {named} in the developer console", code, "permission")
    if code in _TEMPLATE_CODES:
        return ReplyRefused(text, code, "template")
    cause: Cause = "message" if status == 200 or code.startswith(_MESSAGE_CODES) else "unknown"
    return ReplyRefused(text, code, cause)


def _url(path: str) -> str:
    # The SDK reads DINGTALK_OPENAPI_ENDPOINT once, when it is imported; this is what it has read.
    return str(utils.DINGTALK_OPENAPI_ENDPOINT) + path


def _encode(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half of an emoji: a model's chunk may end within one
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")
