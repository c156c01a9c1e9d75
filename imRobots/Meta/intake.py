"""Messages that come in: all that are there by then are accepted together, and each that is new is answered.

Owns the line of messages in front of the robot's thread. `put` and `is_full` may be used on an event loop, the rest
runs on the robot's thread.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from . import host
from .commands import read_command
from .health import Health
from .models import IncomingMessage
from .one_thread import Batch, OneThread
from .reply import Reply
from .sessions import Sessions
from .store import Store


@dataclass
class _Arrival:
    message: IncomingMessage
    done: Future[bool]
    is_command: bool = False
    reply: Reply | None = None
    is_new: bool | None = None  # not known yet


class Intake:
    """The messages of one robot, until they are begun to be answered."""

    def __init__(
        self,
        full_name: str,
        thread: OneThread,
        store: Store,
        sessions: Sessions,
        health: Health,
        reply_to: Callable[[IncomingMessage], Reply],
        answer: Callable[[IncomingMessage, Reply, Future[bool]], None],
    ) -> None:
        """`answer` is called for each message that is new, with its reply and the future to be resolved."""
        self._full_name = full_name
        self._store = store
        self._sessions = sessions
        self._health = health
        self._reply_to = reply_to
        self._answer = answer
        self._arrivals = Batch(thread, self._take)

    @property
    def is_full(self) -> bool:
        return self._arrivals.is_full

    def put(self, message: IncomingMessage, done: Future[bool]) -> None:
        """`done` resolves to False if a mistake, in a Type's reply say, keeps the message from being answered."""
        self._arrivals.put(_Arrival(message, done))

    def _take(self, arrivals: list[_Arrival]) -> None:
        for arrival in arrivals:
            self._health.count("received")
            self._store.count("pushes")
            self._try(self._read, arrival)
        while arrivals:  # up to a command, which may mean that the next message is for another session
            length = next((place for place, one in enumerate(arrivals, 1) if one.is_command), len(arrivals))
            self._answer_together(arrivals[:length])
            arrivals = arrivals[length:]

    def _answer_together(self, arrivals: list[_Arrival]) -> None:
        accepts = [functools.partial(self._accept, arrival) for arrival in arrivals if arrival.reply is not None]
        try:
            self._store.together(accepts, on_error=self._log_mistake)
        except BaseException:
            self._log_mistake()
        for arrival in arrivals:
            self._try(self._begin, arrival)

    def _try(self, step: Callable[[_Arrival], None], arrival: _Arrival) -> None:
        """A mistake costs this message its answer, and no other."""
        try:
            step(arrival)
        except BaseException:
            if not arrival.done.done():
                arrival.done.set_result(False)
            self._log_mistake()

    def _read(self, arrival: _Arrival) -> None:
        message = arrival.message
        arrival.is_command = read_command(message.text, from_admin=message.from_admin) is not None
        arrival.reply = self._reply_to(message)

    def _accept(self, arrival: _Arrival) -> None:
        arrival.message = replace(arrival.message, session=self._sessions.of(arrival.message))
        arrival.is_new = self._store.accept(arrival.message)

    def _begin(self, arrival: _Arrival) -> None:
        message, done = arrival.message, arrival.done
        if arrival.reply is None or arrival.is_new is None:
            self._health.count("failed")
            if not done.done():
                done.set_result(False)
        elif arrival.is_new:
            self._answer(message, arrival.reply, done)
        else:
            self._health.count("duplicate")
            host.log.info(f"{self._full_name}: message {message.message_id} was delivered again; ignored")
            done.set_result(True)

    def _log_mistake(self) -> None:
        with contextlib.suppress(Exception):  # the others want their answer, even if not even that can be said
            host.log.exception(f"{self._full_name}: a message could not be taken in")
