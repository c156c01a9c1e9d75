"""What a robot has done so far, in numbers: for `status()`, for the log and for an administrator in the chat.

Owns counters and durations since the robot was made. Any thread.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict, deque
from typing import Any

_SAMPLES = 1000  # the newest so many durations


class Health:
    """Counters by name, and durations by name."""

    def __init__(self, *counters: str) -> None:
        """`counters` are shown from the beginning, as 0."""
        self._lock = threading.Lock()
        self._counters = Counter(dict.fromkeys(counters, 0))
        self._seconds: dict[str, deque[float]] = {}

    def count(self, name: str) -> None:
        with self._lock:
            self._counters[name] += 1

    def took(self, name: str, seconds: float) -> None:
        with self._lock:
            self._seconds.setdefault(name, deque(maxlen=_SAMPLES)).append(seconds)

    def status(self) -> dict[str, Any]:
        """The counters, and `name_ms` with the 50th and 95th percentile of each duration in milliseconds."""
        with self._lock:
            counters = dict(self._counters)
            samples = {name: sorted(seconds) for name, seconds in self._seconds.items()}
        return {**counters, **{f"{name}_ms": _percentiles(ordered) for name, ordered in samples.items()}}


def one_line(status: dict[str, Any]) -> str:
    """A status as `key=value key.inner=value`, for the log."""
    return " ".join(f"{key}={value}" for key, value in _flat("", status))


def in_words(template: str, status: dict[str, Any]) -> str:
    """A status for people: the sentence filled in, with a dash for what is not known."""
    medians = {name: status.get(f"{name}_ms", {}).get("p50", "-") for name in ("first_card", "answer")}
    known = defaultdict(lambda: "-", {**status, **status.get("month", {}), **medians})
    known["closed"] = "; ".join(f"{rung} ({lack})" for rung, lack in status.get("closed", {}).items()) or "-"
    return template.format_map(known)


def _percentiles(ordered: list[float]) -> dict[str, float]:
    last = len(ordered) - 1
    return {f"p{percent}": round(1000 * ordered[round(last * percent / 100)], 1) for percent in (50, 95)}


def _flat(prefix: str, status: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in status.items():
        if isinstance(value, dict):
            pairs += _flat(f"{prefix}{key}.", value)
        else:
            text = str(value)
            pairs.append(
                (f"{prefix}{key}", text if text.isprintable() and not set(text) & set(' "') else json.dumps(text))
            )
    return pairs
