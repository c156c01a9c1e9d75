"""What goes between the robot and DingTalk, as the robot sees it: frames of its connection, HTTP calls, what fails.

Owns the two places where the robot is watched, from `__enter__` to `__exit__`, and the hiding of secrets: none gets to
the desk. Does not know what an answer is (`timeline.py`), and alters nothing: a mistake in here costs a line on the
desk. Runs on the robot's threads, its event loop among them, while the robot waits.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from unittest import mock
from urllib.parse import quote, quote_plus

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from ..desk import Desk, Item, Mark

F = TypeVar("F", bound=Callable[..., Any])

_MOST_READ = 2**20  # characters or bytes; the robot itself reads no longer frame
_MOST_SHOWN = 200_000  # characters of a detail
_MOST_TITLE = 200
_DEPTH = 40
_PARSED = " (parsed)"
_HIDDEN = "***"
_SECRET_KEYS = frozenset(
    [
        "accesstoken",
        "appsecret",
        "authorization",
        "clientsecret",
        "password",
        "proxyauthorization",
        "secret",
        "session",
        "ticket",
        "token",
        "xacsdingtalkaccesstoken",
    ]
)
_LEARNT_KEYS = frozenset(("accesstoken", "ticket"))  # their values are hidden from then on wherever they occur
_MOST_LEARNT = 20


@dataclass
class _Call:
    title: str
    method: str
    path: str
    url: str
    body: Any
    detail: dict[str, Any]
    at: float
    item: Item


def _harmless(observe: F) -> F:
    """Whatever goes wrong in here, the robot goes on."""

    @functools.wraps(observe)
    def observed(self: Wire, *args: Any) -> Any:
        try:
            return observe(self, *args) if self._is_on else None
        except Exception as error:
            with contextlib.suppress(Exception):
                self._desk.log("warning", self.masked(f"The wire could not show something: {error!r}"))
            return None

    return observed  # type: ignore[return-value]


class Wire:
    """A context manager. What the robot connects to while it lasts is on the desk; and nothing any more when it ends.

    The robot's modules are imported when it is entered: by then the SDK's environment and JitNode have to be there.
    """

    def __init__(self, desk: Desk, secrets: Iterable[str] = ()) -> None:
        """`secrets` are hidden wherever they occur, besides all that looks like one."""
        self._desk = desk
        written = {form for secret in secrets if secret.strip() for form in _ways_to_write(secret.strip())}
        self._secrets = sorted(written, key=len, reverse=True)
        self._learnt: tuple[str, ...] = ()
        self._is_on = False
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Wire:
        from imRobots.dingTalkStreamType import api, frames, network, stream_client

        from .timeline import Timeline

        self._read_answer, self._topic_of, self._path_of = api._read, frames.topic_of, network.path_of
        self._timeline = Timeline(self._mark)
        connect = functools.partial(stream_client.connect, create_connection=self._connection_class())
        request = self._watching(network.Network.request)
        self._undo.enter_context(mock.patch.object(network.Network, "request", request))
        self._undo.enter_context(mock.patch.object(stream_client, "connect", connect))
        self._is_on = True
        return self

    def __exit__(self, *error: object) -> None:
        self._is_on = False
        self._undo.close()

    def masked(self, value: Any) -> Any:
        """The same without secrets, and fit for JSON."""
        return self._masked(value, _DEPTH)

    # ---- where the robot is watched

    def _watching(self, request: Callable[..., tuple[int, bytes]]) -> Callable[..., tuple[int, bytes]]:
        @functools.wraps(request)
        def watched(network: Any, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
            call = self._begun(method, url, body, headers)
            try:
                status, content = request(network, method, url, body, headers)
            except BaseException as error:
                self._failed(call, error)
                raise
            self._answered(call, status, content)
            return status, content

        return watched

    def _connection_class(self) -> type[ClientConnection]:
        wire = self

        class Watched(ClientConnection):
            async def recv(self, *args: Any, **options: Any) -> Any:  # iterating goes through it, too
                try:
                    message = await super().recv(*args, **options)
                except ConnectionClosed as closed:
                    wire._closed(closed)
                    raise
                wire._frame("in", message)
                return message

            async def send(self, message: Any, *args: Any, **options: Any) -> None:
                try:
                    await super().send(message, *args, **options)
                except ConnectionClosed as closed:
                    wire._frame("out", message, f", not sent: {closed}")
                    raise
                wire._frame("out", message)

        return Watched

    # ---- frames

    @_harmless
    def _frame(self, direction: Literal["in", "out"], raw: Any, problem: str = "") -> None:
        at = time.monotonic()
        frame = _read(raw)
        if isinstance(frame, dict) and isinstance(frame.get("data"), str):
            frame["data"] = _read(frame["data"])
        self._desk.frame(direction, self._title(self._words_for(frame) + problem), self._detail(frame), at)
        if not isinstance(frame, dict) or problem:
            return
        if direction == "in":
            self._timeline.came(frame, at)
        else:
            self._timeline.went(frame, at)

    @_harmless
    def _closed(self, closed: ConnectionClosed) -> None:
        self._desk.frame("in", self._title(f"closed: {closed}"), self.masked({"closed": str(closed)}), time.monotonic())

    def _words_for(self, frame: Any) -> str:
        if not isinstance(frame, dict):
            return "not a JSON object"
        if "type" not in frame:
            return f"ack {frame.get('code')}"
        headers = frame.get("headers")
        event = headers.get("eventType") if isinstance(headers, dict) else None
        return f"{frame['type']} {event or self._topic_of(frame)}"

    # ---- calls

    @_harmless
    def _begun(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> _Call:
        at = time.monotonic()
        path, read = self._path_of(url), _read(body)
        title = self._title(f"{method} {path}")
        address, query, _ = url.partition("?")
        request = {"method": method, "url": address + (f"?{_HIDDEN}" if query else ""), "headers": dict(headers)}
        detail = self._detail({**request, "body": read})
        return _Call(title, method, path, url, read, detail, at, self._desk.call(title, detail, at))

    @_harmless
    def _answered(self, call: _Call | None, status: int, content: bytes) -> None:
        if call is None:
            return
        at = time.monotonic()
        summary, code, refused = str(status), "", False
        name = f"{call.method} {call.path}"
        try:
            answer = self._read_answer(name, status, content)
            if answer.get("invalidStaffIdList") or answer.get("flowControlledStaffIdList"):
                summary, refused = f"{status}, and not delivered", True
        except Exception as error:  # all that the robot makes of an answer that is none
            summary, code, refused = str(error).removeprefix(f"{name}: HTTP "), str(getattr(error, "code", "")), True
        outcome = {"status": status, "answer": _read(content)}
        # The request's detail is hidden already, and may be cut.
        detail = {**call.detail, **self._detail(outcome), "ms": round((at - call.at) * 1000, 1)}
        self._desk.ended(call.item, not refused, self._title(summary), detail, at)
        if isinstance(call.body, dict):
            self._timeline.called(call.method, call.path, call.url, call.body, at, refused=refused, code=code)

    @_harmless
    def _failed(self, call: _Call | None, error: BaseException) -> None:
        if call is None:
            return
        at = time.monotonic()
        text = str(error).removeprefix(f"{call.method} {call.path}: ") or type(error).__name__
        outcome = {"error": f"{type(error).__name__}: {error}", "ms": round((at - call.at) * 1000, 1)}
        self._desk.ended(call.item, False, self._title(text), {**call.detail, **self.masked(outcome)}, at)

    def _mark(self, answer: str, what: Mark, at: float, question: str) -> None:
        self._desk.mark(self.masked(answer), what, at, self._title(question))

    # ---- what is shown

    def _title(self, text: str) -> str:
        title = self._text(text)
        return title if len(title) <= _MOST_TITLE else f"{title[: _MOST_TITLE - 1]}…"

    def _detail(self, value: Any) -> Any:
        """Without secrets, with a parsed copy of JSON in strings, and not endlessly long."""
        detail = self.masked(_with_copies(value, _DEPTH))
        text = json.dumps(detail, ensure_ascii=False)
        if len(text) <= _MOST_SHOWN:
            return detail
        return {"note": f"the first {_MOST_SHOWN} of {len(text)} characters", "text": text[:_MOST_SHOWN]}

    def _masked(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)  # JSON has no other numbers
        if not isinstance(value, (Mapping, list, tuple)):
            return self._text(str(value))
        if not depth:
            return "…"
        if not isinstance(value, Mapping):
            return [self._masked(one, depth - 1) for one in value]
        shown = {}
        for key, inner in value.items():
            name = re.sub(r"[-_ ]", "", str(key).removesuffix(_PARSED)).lower()
            if name in _LEARNT_KEYS and isinstance(inner, str) and len(inner) >= 8 and inner not in self._learnt:
                self._learnt = (*self._learnt, inner)[-_MOST_LEARNT:]
            is_secret = name in _SECRET_KEYS and inner not in ("", None)
            shown[self._text(str(key))] = _HIDDEN if is_secret else self._masked(inner, depth - 1)
        return shown

    def _text(self, text: str) -> str:
        from imRobots.dingTalkStreamType.logs import mask

        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")  # half of an emoji
        for secret in (*self._secrets, *self._learnt):
            text = text.replace(secret, _HIDDEN)
        return mask(text)


def _read(raw: Any) -> Any:
    """Parsed where it is JSON, else as text."""
    if not isinstance(raw, (str, bytes)):
        raw = bytes(raw) if isinstance(raw, (bytearray, memoryview)) else str(raw)
    if len(raw) > _MOST_READ:
        return f"({len(raw)} {'bytes' if isinstance(raw, bytes) else 'characters'}, too long to be shown)"
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


def _with_copies(value: Any, depth: int) -> Any:
    if not depth or not isinstance(value, (dict, list)):
        return value
    if isinstance(value, list):
        return [_with_copies(one, depth - 1) for one in value]
    opened: dict[str, Any] = {}
    for key, inner in value.items():
        opened[key] = _with_copies(inner, depth - 1)
        if isinstance(inner, str) and inner.startswith(("{", "[")) and not isinstance(read := _read(inner), str):
            opened[f"{key}{_PARSED}"] = _with_copies(read, depth - 1)
    return opened


def _ways_to_write(secret: str) -> set[str]:
    """As it is, in JSON, in an address."""
    in_json = {json.dumps(secret, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    return {secret, *in_json, quote(secret), quote(secret, safe=""), quote_plus(secret)}
