"""Which ways of answering DingTalk has closed to this application, and until when.

Owns that memory: a rung is a kind of card, and below the last one is markdown through the session webhook, which is
always tried. Any thread but an event loop.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from imRobots.Meta import ReplyRefused, Store, log

# Somebody may grant a permission, or allow an address, at any time; a restart tries at once.
_TRY_AGAIN_SECONDS = 600.0
_KEY = "closed rungs"


class _Closed(NamedTuple):
    lack: str
    until: float  # seconds since the epoch; 0: until the configuration changes


class Ladder:
    """What stands in the way of each rung."""

    def __init__(self, full_name: str, config: Mapping[str, Any], store: Store) -> None:
        """`config` is the rendered config.json."""
        self.full_name = full_name
        self._configuration = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()
        self._store = store
        self._lock = threading.Lock()
        self._rungs: dict[str, _Closed] = {}
        self._suspected: dict[str, tuple[str, str]] = {}  # rung -> code and conversation of the last unknown refusal
        for rung, known in (store.recall(_KEY) or {}).items():
            if known["until"] or known["configuration"] == self._configuration:
                self._rungs[rung] = _Closed(known["lack"], known["until"])

    def is_open(self, rung: str) -> bool:
        with self._lock:
            return self._is_open(rung)

    def closed(self) -> dict[str, str]:
        """The closed rungs, and what they lack."""
        with self._lock:
            return {rung: known.lack for rung, known in self._rungs.items() if not self._is_open(rung)}

    def note_success(self, rung: str) -> None:
        """A first card of this kind was sent."""
        with self._lock:
            self._suspected.pop(rung, None)

    def note_refusal(self, rung: str, refusal: ReplyRefused, conversation_id: str) -> None:
        """A card of this kind was refused: close the rung, unless it was for this one message."""
        if refusal.cause == "message":
            return
        if refusal.cause == "unknown":
            # How DingTalk refuses standard cards to new applications is not documented. One refusal may be about one
            # message; the same from two conversations, with no success between, is not.
            with self._lock:
                code, conversation = self._suspected.get(rung, ("", conversation_id))
                self._suspected[rung] = (refusal.code, conversation_id)
            if code == refusal.code and conversation != conversation_id:
                self._close(rung, refusal, 0.0, "until the configuration changes")
        elif refusal.cause == "quota":
            self._close(rung, refusal, self._store.month_ends(), "until the month ends")
        else:
            until = time.time() + _TRY_AGAIN_SECONDS
            self._close(rung, refusal, until, "for ten minutes, or until a restart", remember=False)

    def _is_open(self, rung: str) -> bool:
        known = self._rungs.get(rung)
        return known is None or (known.until > 0 and time.time() >= known.until)

    def _close(self, rung: str, refusal: ReplyRefused, until: float, how_long: str, remember: bool = True) -> None:
        with self._lock:
            if not self._is_open(rung):  # more of a crowd, all refused at once
                return
            self._rungs[rung] = _Closed(str(refusal), until)
        if remember:
            known = self._store.recall(_KEY) or {}
            known[rung] = {"lack": str(refusal), "until": until, "configuration": self._configuration}
            self._store.remember(_KEY, known)
        log.error(f"{self.full_name}: answers come without {rung} cards {how_long}: {refusal}")
