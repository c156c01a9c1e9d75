"""What a Type has to write so that its robot can answer: the `Reply` protocol. And what it gets for a click.

Owns no code. The outbox calls a reply; a Type's `handler.py` makes one for every message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .models import Rating
from .texts import Texts

Outcome = Literal["answered", "failed", "stopped", "interrupted"]


@dataclass(frozen=True)
class Clicked:
    """What to show to a person who pressed a button, and to nobody else: a `note` ("": nothing), in `texts`' language.

    `rating`: how this person rates the answer now, None if the click was about something else.
    """

    texts: Texts
    note: str = ""
    rating: Rating | None = None


class Reply(Protocol):
    """How one message is answered on a platform.

    Called on the outbox's threads, which it may block, one call at a time: `say`, or `open`, any number of `progress`,
    `finish`.

    Every method raises `TransportError` (or its `RateLimited`) where trying again may help, and another `IMRobotError`,
    such as `ReplyRefused`, where it cannot; anything else it raises is logged and counts as refused. After a
    `TransportError` the same method of the same object is called again: `open` for half a minute, `finish` and `say`
    for five. `progress` is not, the next one replaces it. So a reply that sends in parts remembers which are out.
    """

    texts: Texts
    """The sentences in the language of the message."""

    card: Any
    """The handle of a card with buttons, if it is known before `open` has returned; else None."""

    def open(self, question: str) -> Any:
        """Show that the question has arrived. Returns the card's handle, something that goes through JSON and back.

        None: there is no card, so nothing was shown, and `progress` is not called.
        """

    def progress(self, handle: Any, text: str) -> None:
        """Show `text`, the answer so far, in the card."""

    def finish(self, handle: Any, text: str, outcome: Outcome) -> bool | None:
        """Show `text`, the last word. `handle` is None where there is no card, or none that can be updated.

        A platform that limits the length gets it in parts: one for each call, and True as long as there are more. It
        may be called once more after that, to show the last word again where an older update may have landed.
        """

    def say(self, sentence: str) -> None:
        """Say something that is not an answer."""
