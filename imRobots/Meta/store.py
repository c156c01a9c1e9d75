"""What a robot remembers from one message to the next: which ones it has had.

Owns the memory of one robot, kept in the process and bounded. Any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_DAY = 24 * 60 * 60.0
_MOST = 100_000


class Store:
    """Remembers keys for a day."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}  # in order of time

    def accept(self, message_id: str) -> bool:
        """Whether this message is a new one. DingTalk and others may deliver a message twice."""
        return self._is_new(f"message {message_id}")

    def once_a_day(self, what: str) -> bool:
        """True the first time in 24 hours that it is asked for `what`."""
        return self._is_new(f"once {what}")

    def _is_new(self, key: str) -> bool:
        with self._lock:
            now = self._clock()
            while self._seen:
                oldest, at = next(iter(self._seen.items()))
                if now - at < _DAY and len(self._seen) < _MOST:
                    break
                del self._seen[oldest]
            if key in self._seen:
                return False
            self._seen[key] = now
            return True
