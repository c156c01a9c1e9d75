"""The month's budget of calls: what the robot may still spend them on.

Owns the two thresholds and their warnings. Any thread but an event loop.
"""

from __future__ import annotations

from typing import NamedTuple

from . import host
from .store import Store

_FRUGAL = 0.8  # what is left is for first and last words


class Left(NamedTuple):
    """`frugal`: no progress is to be shown any more. `spent`: no cards at all."""

    frugal: bool
    spent: bool


class Budget:
    """The configuration's `monthlyApiBudget`, against what the store has counted."""

    def __init__(self, full_name: str, calls: int | None, store: Store) -> None:
        """`calls`: in a month; None for no limit."""
        self._full_name = full_name
        self._calls = calls
        self._store = store

    def look(self) -> Left:
        """What is left now. Warns once a day while it is little or nothing."""
        if self._calls is None:
            return Left(False, False)
        used = self._store.counted("calls")
        left = Left(used >= _FRUGAL * self._calls, used >= self._calls)
        if left.frugal and self._store.once_a_day(f"budget {left.spent}"):
            what = "answers come as markdown" if left.spent else "cards show no progress any more"
            host.log.warning(
                f"{self._full_name}: {used} of {self._calls} calls (monthlyApiBudget) are used up this month; {what}"
            )
        return left
