"""Reading an answer: what a chunk means, what a result says, and when a growing answer is worth an update.

Owns no thread, no clock and no I/O: the caller brings the time. `GrowingAnswer` may be fed from any thread, because
nobody documents on which thread an agent calls its `stream_callback`.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# The tutorial's limit: an answer is one card and at most 20 updates of it, the final one included.
MAX_UPDATES = 20
# The first progress comes as early as the tutorial's: with the fifth piece of text, or after 2 seconds.
_FIRST_PIECES = 5
_FIRST_SECONDS = 2.0
# Seconds between one progress and the next. Four within the first ten seconds after the first one, never more than
# 15 s apart in the first two minutes, and the last ones are spread over the next two.
_GAPS = (1.6, 2, 2.5, 3.5, 4, 5, 6, 8, 10, 12, 13, 14, 14, 14, 14, 20, 40, 80)

# JitAi's AIAgent reference documents these chunk types; the others that it names only in prose are unknown.
_TEXT = "TEXT_MESSAGE_CONTENT"
_REASONING = "REASONING"
_TOOL_BEGINS, _TOOL_ENDS = "TOOL_CALL_START", "TOOL_CALL_END"
# An agent that waits for somebody's consent says so in a chunk whose type is named in prose only.
_INTERRUPT = "INTERRUPT"
_NOT_TEXT = (_REASONING, "TOOL", "ERROR")
# Chunks of these types (the AG-UI protocol's, as far as JitAi documents them) tell of words and of the run itself. Any
# other may tell of an act: a tool's call, a step, an interrupt.
_NO_ACT = ("TEXT", "REASONING", "THINKING", "RUN", "ERROR")
# In a list of messages these are not the agent's words.
_THE_ASKER = ("human", "user")
_NOT_THE_AGENT = ("system", "tool", "reasoning", "thinking")
_THE_AGENT = ("ai", "assistant")
_MOST_REASONING = 200  # characters, the newest


class GrowingAnswer:
    """The text of an answer while its agent streams it. All times are seconds of one monotonic clock."""

    def __init__(
        self,
        started: float,
        on_unknown_type: Callable[[str], None] = lambda _: None,
        *,
        show_reasoning: bool = False,
        using_tool: str = "",
    ) -> None:
        """While it grows, reasoning stands above the text, if wanted, and the sentence `using_tool` while one works."""
        self._lock = threading.Lock()
        self._pieces: list[str] = []
        self._reasoning = ""
        self._tools = 0  # at work
        self._new_pieces = 0
        self._due = started + _FIRST_SECONDS  # when the next update may be shown
        self._shown = False
        self._gaps = iter(_GAPS)
        self._on_unknown_type = on_unknown_type
        self._show_reasoning = show_reasoning
        self._using_tool = using_tool
        self.is_interrupted = False
        """Whether the agent waits for a confirmation that can only be given in the app."""

    @property
    def text(self) -> str:
        """All the text that has come so far."""
        with self._lock:
            return "".join(self._pieces)

    def add(self, chunk: object, now: float) -> float | None:
        """Take a chunk of `stream_callback`; returns when it is to be shown, None if that was said already."""
        piece, unknown_type = read_chunk(chunk)
        if unknown_type:
            self._on_unknown_type(unknown_type)
        with self._lock:
            if piece:
                self._pieces.append(piece)
            elif not self._take_other(chunk):
                return None
            self._new_pieces += 1
            if not self._shown and self._new_pieces == _FIRST_PIECES:
                self._due = min(self._due, now)
                return self._due
            return self._due if self._new_pieces == 1 and self._due < math.inf else None

    def show(self, now: float) -> str:
        """What to show now; the next update is due one gap later."""
        with self._lock:
            self._shown = True
            self._new_pieces = 0
            self._due = now + next(self._gaps, math.inf)
            above = [f"> 💭 {self._reasoning}"] if self._reasoning else []
            above += [f"> {self._using_tool}"] if self._tools else []
            return "\n\n".join(part for part in (*above, "".join(self._pieces)) if part)

    def _take_other(self, chunk: object) -> bool:
        """A chunk that is not text; returns whether it changes what is shown. The lock is held."""
        kind, content = _read(chunk)
        if _INTERRUPT in kind.upper():
            self.is_interrupted = True
        elif self._show_reasoning and kind.startswith(_REASONING) and content:
            said = f"{self._reasoning}{content}".replace("\n", " ")
            self._reasoning = said if len(said) <= _MOST_REASONING else f"…{said[-_MOST_REASONING:]}"
            return True
        elif self._using_tool and kind in (_TOOL_BEGINS, _TOOL_ENDS):
            before, self._tools = self._tools, max(0, self._tools + (1 if kind == _TOOL_BEGINS else -1))
            return bool(before) != bool(self._tools)
        return False


def read_chunk(chunk: object) -> tuple[str, str]:
    """The answer text in a chunk (or an empty string), and the chunk's type if that type is not a known one."""
    kind, piece = _read(chunk)
    if not piece or kind.startswith(_NOT_TEXT) or _INTERRUPT in kind.upper():
        return "", ""
    return piece, "" if kind in ("", _TEXT) else kind


def tells_of_an_act(chunk: object) -> bool:
    """Whether the agent has begun to do something, or may have, besides thinking and speaking."""
    kind = chunk.get("type") if isinstance(chunk, Mapping) else None
    return bool(kind) and not str(kind).startswith(_NO_ACT)


def _read(chunk: object) -> tuple[str, str]:
    """Type and content of a chunk, "" for what it has not."""
    if not isinstance(chunk, Mapping):
        return "", ""
    data = chunk.get("data")
    content = data.get("content") if isinstance(data, Mapping) else None
    return str(chunk.get("type") or ""), content if isinstance(content, str) else ""


def read_result(result: Any) -> str:
    """The text of what `agent.run` returned: a string, a list of messages, a dict with `output`, JitAi datatypes.

    JitAi documents three shapes (AIAgent reference: a list of messages; agent guides: `{"output": "..."}`; the
    tutorial: a string), so all are read. Nothing to read is an empty string.
    """
    if result is None or isinstance(result, str):
        return result or ""
    if isinstance(result, Mapping):
        for key in ("output", "content", "text"):
            if key in result:
                return read_result(result[key])
        is_message = _kind(result) in _THE_AGENT  # one that only calls a tool
        return json.dumps(result, ensure_ascii=False, indent=2, default=str) if result and not is_message else ""
    if _is_list(result):
        return _read_list(result)
    for name in ("value", "content"):  # a JitAi datatype (JitDict, JitList, Ltext ...), a message object
        if hasattr(result, name) and not callable(getattr(result, name)):
            return read_result(getattr(result, name))
    return str(result) if isinstance(result, (int, float)) else ""  # a coroutine, say, is no answer


def _read_list(items: Sequence[Any]) -> str:
    """Parts of one text, which belong together, or messages: then the agent's last words since it was asked."""
    if any(isinstance(item, str) or _kind(item) == "text" for item in items):
        return "".join(read_result(item) for item in items if _kind(item) in ("", "text"))
    for message in reversed(items):
        if _kind(message) in _THE_ASKER:
            break
        text = "" if _kind(message).startswith(_NOT_THE_AGENT) else read_result(message)
        if text:
            return text
    return ""


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _kind(message: Any) -> str:
    if isinstance(message, Mapping):
        return str(message.get("role") or message.get("type") or "")
    return str(getattr(message, "role", None) or getattr(message, "type", None) or "")
