"""How often a platform may be called: so many calls of one API in a second, for all robots of one application.

Owns the pace, and knows nothing of what is called. Any thread; waits for nothing itself: the outbox does.
"""

from __future__ import annotations

import functools
import threading
from collections import deque

# A platform counts arrivals, not departures: windows of exactly one second were refused 4 % and more of the calls by a
# stand-in that is strict about any second, windows of 1.05 s none. A burst that arrives late makes the next one too
# early, so only the first of a rush goes out as one.
_WINDOW_SECONDS = 1.05
_SLOW_SECONDS = 60.0


class Limiter:
    """At most `per_second` calls of each API in any second; 0: as many as there are. Times are monotonic seconds."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._lock = threading.Lock()
        self._starts: dict[str, deque[float]] = {}
        self._rush_until: dict[str, float] = {}
        self._slow_until: dict[str, float] = {}

    def take(self, api: str, now: float, leave: int = 0) -> float:
        """Take a place for one call of `api` and return 0.0; or take none and return when to ask again.

        `leave`: so many places are left to others, who are in a greater hurry.
        """
        if not self.per_second:
            return 0.0
        with self._lock:
            starts = self._starts.setdefault(api, deque(maxlen=self.per_second))
            allowed = max(1, self.per_second // 2) if now < self._slow_until.get(api, 0.0) else self.per_second
            if leave >= allowed:
                return now + _WINDOW_SECONDS
            allowed -= leave
            free_at = starts[-allowed] + _WINDOW_SECONDS if len(starts) >= allowed else now
            if free_at > now and not leave:
                self._rush_until[api] = free_at + _WINDOW_SECONDS
            if starts and now < self._rush_until.get(api, 0.0):
                free_at = max(free_at, starts[-1] + _WINDOW_SECONDS / allowed)
            if free_at > now:
                return free_at
            starts.append(now)
            return 0.0

    def slow_down(self, api: str, now: float) -> None:
        """The platform refused a call of `api` as one too many: half the pace for a minute."""
        with self._lock:
            self._slow_until[api] = now + _SLOW_SECONDS


@functools.cache
def limiter_for(account: str, per_second: int) -> Limiter:
    """The one limiter of this process for an application, also while a reload lets the old robot's answers out."""
    return Limiter(per_second)
