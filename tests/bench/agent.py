"""The agent of the bench: it sleeps, hands over a piece of text, and remembers when it ran. Any thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

PIECE = "A few words more. "  # a model's chunk


class Run(NamedTuple):
    """Times on the monotonic clock, which all processes share."""

    question: str
    started: float
    ended: float


class SleepingAgent:
    def __init__(self, seconds: float, chunks: int) -> None:
        self.answer = (PIECE * chunks).strip()
        self.runs: list[Run] = []
        self._pause = seconds / chunks
        self._chunks = chunks

    def run(self, params: dict[str, Any], chatId: str, stream_callback: Callable[[dict[str, Any]], object]) -> str:
        started = time.monotonic()
        for _ in range(self._chunks):
            time.sleep(self._pause)
            stream_callback({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": PIECE}})
        self.runs.append(Run(params["input_data"], started, time.monotonic()))
        return self.answer
