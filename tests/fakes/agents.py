"""Agents for the stand-in host: every call form and result shape that the host's documents and samples show.

Owns: streaming an answer in pieces, and remembering who called, as which user, and how many calls ran at once.

Does not do: thinking, memory per chatId, tools, interrupts.

Simulated: real agents are more forgiving. These refuse a missing chatId, an empty question, and a callback that is not
a plain Python function, because the documents promise nothing for those. `run` works in the caller's thread, the
callback too, and what the callback raises ends the run.
"""

from __future__ import annotations

import builtins
import inspect
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

DEFAULT_RESULT: Any = object()
GATE_TIMEOUT = 30.0

# For `events`: the documented chunks that are not part of the answer, and one that nobody has documented.
SIDE_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "REASONING_CONTENT", "data": {"content": "Let me think."}},
    {
        "type": "TOOL_CALL_START",
        "data": {
            "eventType": "callTool",
            "outputArgs": {
                "dataType": "JitDict",
                "variableList": [{"name": "toolName", "title": "Tool", "dataType": "Stext"}],
                "value": {"toolName": "Orders.find", "toolType": "service", "stage": "preEvent", "args": {"no": 1}},
            },
        },
    },
    {"type": "TOOL_CALL_END", "data": {}},
    {"type": "SOMETHING_NEW", "data": {"content": "not part of the answer"}},
)
# Only older documents have it, and they do not say whether the run goes on.
ERROR_EVENT: dict[str, Any] = {"type": "ERROR", "data": {"error": "the model gave up"}}


class JitList(list):  # type: ignore[type-arg]
    """The host's list type: a list whose plain data is also in `value`."""

    @property
    def value(self) -> list[Any]:
        return list(self)


@dataclass
class AgentCall:
    text: str
    chatId: str
    form: str  # "params" or "user_input"
    thread: str
    started: float  # time.monotonic()
    user: Any = None  # app.currentUser when the run began ...
    user_at_end: Any = None  # ... and when it ended, however it ended
    ended: float | None = None


def split(answer: str, chunks: int | None) -> list[str]:
    """The answer in nearly equal parts; by default in words, or in characters if it has no spaces."""
    if chunks is not None:
        parts = [answer[len(answer) * n // chunks : len(answer) * (n + 1) // chunks] for n in range(chunks)]
        return [part for part in parts if part]
    return re.findall(r"\s*\S+|\s+$", answer) if re.search(r"\s", answer) else list(answer)


class Agent:
    def __init__(
        self,
        answer: str = "Here is an answer.",
        *,
        chunks: int | None = None,  # 0: nothing is streamed, the answer is only in the result
        delay: float = 0.0,  # seconds between two parts of the text
        result: Any = DEFAULT_RESULT,  # returned instead of what this kind of agent returns
        events: Iterable[dict[str, Any]] = (),  # chunks sent before the text
        error: Exception | None = None,  # raised after the text; with answer="" nothing was said before
        before: Callable[[AgentCall], object] | None = None,  # called first, where tools would run
        gate: threading.Event | None = None,  # waited for after the first part of the text
    ) -> None:
        self.answer = answer
        self.chunks = chunks
        self.delay = delay
        self.result = result
        self.events = list(events)
        self.error = error
        self.before = before
        self.gate = gate
        self.calls: list[AgentCall] = []
        self.running: list[str] = []  # the chatIds being answered now
        self.max_running = 0
        self._lock = threading.Lock()

    def _default_result(self, text: str) -> Any:
        return self.answer

    def _run(self, form: str, text: Any, chat_id: Any, stream_callback: Any) -> Any:
        for name, value in (("the question", text), ("chatId", chat_id)):
            if not isinstance(value, str) or not value:
                raise TypeError(f"{name} must be a non-empty str, not {value!r}")
        if stream_callback is not None and not (
            inspect.isfunction(stream_callback) or inspect.ismethod(stream_callback)
        ):
            raise TypeError(f"stream_callback must be a Python function, not {stream_callback!r}")
        # The builtin `app`, as agents and their tools use it: outside a request context this raises.
        user = builtins.app.currentUser  # type: ignore[attr-defined]
        call = AgentCall(text, chat_id, form, threading.current_thread().name, time.monotonic(), user)
        with self._lock:
            self.calls.append(call)
            self.running.append(chat_id)
            self.max_running = max(self.max_running, len(self.running))
        try:
            if self.before is not None:
                self.before(call)
            self._stream(stream_callback or (lambda chunk: None))
            if self.error is not None:
                raise self.error
            return self._default_result(text) if self.result is DEFAULT_RESULT else self.result
        finally:
            with self._lock:
                self.running.remove(chat_id)
            call.ended = time.monotonic()
            call.user_at_end = builtins.app.currentUser  # type: ignore[attr-defined]

    def _stream(self, send: Callable[[dict[str, Any]], object]) -> None:
        for event in self.events:
            send(event)
        # At least one round, so that an agent without streamed text stops at its gate too.
        for number, piece in enumerate(split(self.answer, self.chunks) or [""]):
            if number:
                time.sleep(self.delay)
            if piece:
                send({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": piece}})
            if number == 0 and self.gate is not None and not self.gate.wait(GATE_TIMEOUT):
                raise TimeoutError("the test never opened the agent's gate")


def _question(params: Any) -> Any:
    if not isinstance(params, dict) or "input_data" not in params:
        raise TypeError(f"params must be a dict with input_data, not {params!r}")
    return params["input_data"]


class ReferenceAgent(Agent):
    """The call form of the robot tutorial; the answer is a string."""

    def run(
        self, params: dict[str, Any], chatId: str | None = None, stream_callback: Callable[..., Any] | None = None
    ) -> Any:
        return self._run("params", _question(params), chatId, stream_callback)


class DocumentedAgent(Agent):
    """The call form of the agent reference; the answer is a list of messages."""

    def run(
        self,
        user_input: str,
        variables: dict[str, Any] | None = None,
        chatId: str | None = None,
        stream_callback: Callable[..., Any] | None = None,
    ) -> Any:
        return self._run("user_input", user_input, chatId, stream_callback)

    def _default_result(self, text: str) -> Any:
        return JitList([{"type": "human", "content": text}, {"type": "ai", "content": self.answer}])


class HiddenAgent(Agent):
    """An agent behind a proxy that hides its signature; it takes either form, by keyword."""

    form: str | None = None  # the form of the last call

    def run(self, *args: Any, **kwargs: Any) -> Any:
        chat_id, callback = kwargs.pop("chatId", None), kwargs.pop("stream_callback", None)
        kwargs.pop("variables", None)
        if args or list(kwargs) not in (["params"], ["user_input"]):
            raise TypeError(f"run() takes params= or user_input=, not {args!r} and {kwargs!r}")
        self.form, value = kwargs.popitem()
        return self._run(self.form, _question(value) if self.form == "params" else value, chat_id, callback)
