"""What is to be sent for one message: a card that is opened, grows and is finished, or a single sentence.

Owns what is known of that card, and what comes next for it. Sends nothing itself: the outbox does, and its lock guards
every field. The methods return at once and may be called from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple, Protocol

from .answer import MAX_UPDATES
from .reply import Outcome, Reply

LAST, FIRST, PROGRESS = range(3)  # the urgency of a step, the most urgent first

# Where there is no card, somebody who has no answer after so many seconds is told that it is being worked on.
_PATIENCE = 3.0

Api = Literal["open", "update", "more", "say"]


class Step(NamedTuple):
    """What is to be sent next, on the monotonic clock not before `due`. Platforms count each `api` by itself.

    `more`: the further parts of a last word, which take other calls than its first.
    """

    urgency: int
    due: float
    api: Api


class Lane(Protocol):
    """The outbox, as far as a delivery needs it."""

    def change(self, delivery: Delivery, **fields: Any) -> None: ...
    def finish(self, delivery: Delivery, final: tuple[str, Outcome]) -> bool: ...


class Delivery:
    """One message's card.

    `done` resolves to True when the last word is out, to False when it was given up.
    """

    def __init__(
        self,
        outbox: Lane,
        reply: Reply,
        question: str,
        done: Future[bool],
        on_open: Callable[[Any], None] = lambda handle: None,
    ) -> None:
        """`on_open` is called on a sending thread with the handle of the card, None if there is none."""
        self._outbox = outbox
        self.reply = reply
        self.question = question
        self.done = done
        self.on_open = on_open
        self.asked_at = time.monotonic()
        self.sentence: str | None = None
        self.opened = False
        self.handle: Any = None
        self.reassured = False
        self.text: Callable[[], str] | None = None
        self.text_due = 0.0
        self.shown_at = self.asked_at  # when the person last saw something new
        self.updates = 0
        self.frugal = False  # set before it is opened: no progress is shown
        self.final: tuple[str, Outcome] | None = None
        self.is_partly_out = False  # the last word
        self.unsure = False  # an update went out unconfirmed, and may still land on the card
        self.repeat_at = 0.0  # when the last word is sent once more, because of that
        self.ended = False
        self.in_flight = False
        self.in_line: tuple[Step, int] | None = None  # and the number of its place in line
        self.delays: Iterator[float] | None = None
        self.retry_at = 0.0
        self.give_up_at = 0.0

    def open(self) -> None:
        """Send the first card."""
        self._outbox.change(self)

    def resume(self, handle: Any) -> None:
        """Go on with a card that is there already; None: without any."""
        self._outbox.change(self, opened=True, handle=handle)

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
    def next_step(self) -> Step | None:
        """None if nothing is to be sent."""
        if self.in_flight:
            return None
        if self.ended:
            return Step(PROGRESS, self.repeat_at, "update") if self.repeat_at else None
        if self.sentence is not None:
            return Step(LAST, self.retry_at, "say")
        if not self.opened:
            return Step(FIRST, self.retry_at, "open")
        if self.final:
            api: Api = "say" if self.handle is None else "more" if self.is_partly_out else "update"
            return Step(LAST, self.retry_at, api)
        if self.handle is None:
            return None if self.reassured else Step(FIRST, self.asked_at + _PATIENCE, "say")
        # The last two are for the last word, and for its repetition.
        if self.text is None or self.frugal or self.updates >= MAX_UPDATES - 2:
            return None
        return Step(PROGRESS, self.text_due, "update")
