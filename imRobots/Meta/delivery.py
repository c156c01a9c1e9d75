"""What is to be sent for one message: a card that is opened, grows and is finished, or a single sentence.

Owns what is known of that card, and what comes next for it. Sends nothing itself: the outbox does, and its lock guards
every field. The methods return at once and may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from .answer import MAX_UPDATES
from .reply import Outcome, Reply

LAST, FIRST, PROGRESS = range(3)  # the steps, the most urgent first


class Lane(Protocol):
    """The outbox, as far as a delivery needs it."""

    def change(self, delivery: Delivery, **fields: Any) -> None: ...
    def finish(self, delivery: Delivery, final: tuple[str, Outcome]) -> bool: ...


class Delivery:
    """One message's card.

    `done` resolves to True when the last word is out, to False when it was given up.
    """

    def __init__(self, outbox: Lane, reply: Reply, question: str, done: Future[bool]) -> None:
        self._outbox = outbox
        self.reply = reply
        self.question = question
        self.done = done
        self.sentence: str | None = None
        self.opened = False
        self.handle: Any = None
        self.text: Callable[[], str] | None = None
        self.text_due = 0.0
        self.updates = 0
        self.final: tuple[str, Outcome] | None = None
        self.in_flight = False
        self.in_line: tuple[int, float, int] | None = None  # step, not before, number of its place in line
        self.delays: Iterator[float] | None = None
        self.retry_at = 0.0
        self.give_up_at = 0.0

    def open(self) -> None:
        """Send the first card."""
        self._outbox.change(self)

    def say(self, sentence: str) -> None:
        """Instead of a card: one sentence."""
        self._outbox.change(self, sentence=sentence)

    def progress(self, text: Callable[[], str], due: float = 0.0) -> None:
        """Update the card, at `due` on the monotonic clock or later, with what `text` gives then (on a sending thread).

        Nothing comes of it once the card is finished or has had its number of updates.
        """
        self._outbox.change(self, text=text, text_due=due)

    def finish(self, text: str, outcome: Outcome) -> bool:
        """Send the last update. Only the first call counts; returns whether this was it."""
        return self._outbox.finish(self, (text, outcome))

    @property
    def has_progressed(self) -> bool:
        return self.text is not None or self.updates > 0

    @property
    def next_step(self) -> tuple[int, float] | None:
        """What is to be sent next, and not before which time; None if nothing."""
        if self.in_flight or self.done.done():
            return None
        if self.sentence is not None:
            return LAST, self.retry_at
        if not self.opened:
            return FIRST, self.retry_at
        if self.final:
            return LAST, self.retry_at
        if self.text is None or self.handle is None or self.updates >= MAX_UPDATES - 1:
            return None
        return PROGRESS, self.text_due
