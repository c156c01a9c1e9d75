"""How people rate answers: kept in the store, and, where the configuration names one, in a data model of the app.

Owns both ways. `rate` may be called from any thread but an event loop; rows are created on a thread of their own,
because the app's database may take its time.
"""

from __future__ import annotations

import functools
import json
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

from . import host
from .host import JitApp
from .models import Feedback, Rating
from .one_thread import OneThread
from .store import KeptAnswer, Store
from .timing import Deadline, utc

if TYPE_CHECKING:
    from .config import RobotConfig


class Ratings:
    """The ratings of one robot."""

    def __init__(self, full_name: str, config: RobotConfig, store: Store, jit_app: JitApp) -> None:
        """`full_name`: the element's, for the log."""
        self._full_name = full_name
        self._model = config.feedbackModel
        self._store = store
        self._app = jit_app
        self._has_failed = False
        self._rows = OneThread("imRobots-feedback", self._log_failure) if self._model else None

    def rate(self, answer: KeptAnswer, person: str, rating: Rating) -> bool:
        """Keep a rating. A person has one for each answer, and may change it; False if it is the same already."""
        feedback = self._store.rate(answer, person, rating)
        if feedback is None:
            return False
        host.log.info(f"{self._full_name}: the answer to message {feedback.message_id} was rated {rating}")
        if self._rows is not None:
            self._rows.do(functools.partial(self._create_row, feedback))
        return True

    def close(self, deadline: Deadline) -> None:
        """Create the rows that are still to be created."""
        if self._rows is not None:
            self._rows.end(deadline)

    def _create_row(self, feedback: Feedback) -> None:
        assert self._model is not None
        self._app.create_row(self._model, _readable(feedback))

    def _log_failure(self) -> None:
        say = host.log.error if self._has_failed else host.log.exception  # the traceback once
        self._has_failed = True
        say(
            f"{self._full_name}: {self._model} (feedbackModel) took no row for a rating, which is in the robot's own "
            "file all the same; see that there is such a model, with the fields that the README names"
        )


def export_feedback(store: Store, since: str | float | date | None = None) -> str:
    """The ratings since then, the oldest first, as JSON lines. Reads a file.

    `since`: seconds since the epoch, a date or datetime, also as text in ISO 8601, in UTC if it does not say; None for
    all. Raises `ValueError` for what is none of these.
    """
    return "".join(
        json.dumps(_readable(feedback), ensure_ascii=False) + "\n" for feedback in store.feedback_since(_seconds(since))
    )


def _readable(feedback: Feedback) -> dict[str, Any]:
    """For people and for the app: the names of the fields are those of the README's model."""
    return {
        "messageId": feedback.message_id,
        "rating": feedback.rating,
        "person": feedback.person,
        "conversation": feedback.conversation_id,
        "agent": feedback.agent,
        "question": feedback.question,
        "answer": feedback.answer,
        "ratedAt": utc(feedback.at),
    }


def _seconds(since: str | float | date | None) -> float:
    if since is None:
        return 0.0
    try:
        if isinstance(since, (int, float)):
            return datetime.fromtimestamp(since, timezone.utc).timestamp()
        # Python 3.10 does not know the Z.
        at = since if isinstance(since, datetime) else datetime.fromisoformat(str(since).replace("Z", "+00:00"))
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (OSError, OverflowError, ValueError):
        raise ValueError(f"since: {since!r} is no time; give a date, a time or seconds since the epoch") from None
