"""What goes wrong on purpose: refusals, broken transport, the throttle. It owns the rules; the gateway acts on them.

Any thread sets a rule, at any time. Rules are asked for and used up on the gateway's own thread.
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

from tests.fakes.records import Json

TroubleKind = Literal["reset", "lost", "hang", "late", "trickle", "garbage"]


class Refused(Exception):
    """An error as the answer. With HTTP 200 it has the old API's shape: a number in the body tells."""

    def __init__(self, status: int, code: str, message: str, body: Json | None = None) -> None:
        super().__init__(code)
        self.status, self.code = status, code
        if body is not None:
            self.body = body
        elif status == 200:
            self.body = {"errcode": int(code), "errmsg": message}
        else:
            self.body = {"code": code, "requestid": uuid.uuid4().hex, "message": message}


@dataclass
class Fault:
    """What happens to one call; without a kind and an error, nothing unusual."""

    path_part: str = ""
    kind: TroubleKind | None = None
    times: float = 1
    delay: float = 0.0  # before the call takes effect or is refused
    pause: float = 0.0  # between the bytes of the answer
    error: Refused | None = None


class Troubles:
    def __init__(self) -> None:
        self.throttle: int | None = None  # calls per path in any second, webhooks not counted
        self._faults: list[Fault] = []
        self._arrivals: dict[str, deque[float]] = {}

    def refuse(
        self,
        path_part: str,
        *,
        status: int,
        code: str,
        times: float = 1,
        message: str = "refused",
        delay: float = 0.0,
        body: Json | None = None,
    ) -> None:
        """Answer the next `times` calls on such paths with this error.

        With status 200 `code` is an errcode. `body` is the whole answer instead; `code` is then only remembered.
        """
        self._faults.append(Fault(path_part, None, times, delay, error=Refused(status, code, message, body)))

    def trouble(self, path_part: str, kind: TroubleKind, times: float = 1, seconds: float = 1.0) -> None:
        """Let the next `times` calls on such paths go wrong below HTTP.

        reset: the TCP connection is aborted, and the call has no effect.
        lost: the call takes effect, then the TCP connection is aborted.
        hang: no answer for `seconds`, then 504, and no effect; `stop` ends the wait.
        late: nothing for `seconds`, then effect and answer, even if nobody waits for it any more.
        trickle: effect at once, but `seconds` between any two bytes of the answer's body.
        garbage: effect, but the answer is HTTP 200 without JSON.
        """
        if kind not in get_args(TroubleKind):
            raise ValueError(f"trouble is one of {get_args(TroubleKind)}, not {kind!r}")
        fault = Fault(path_part, kind, times)
        if kind in ("hang", "late"):
            fault.delay = seconds
        elif kind == "trickle":
            fault.pause = seconds
        if kind == "hang":
            fault.error = Refused(504, "system.busy", "no answer in time")
        self._faults.append(fault)

    def calm(self) -> None:
        """No more refusals and troubles; calls that they hit already are not let off."""
        self._faults = []

    def _fault_for(self, path: str, at: float, *, throttled: bool) -> Fault:
        """The oldest rule that is not used up; behind those comes the throttle, which counts all calls it lets pass."""
        too_many = throttled and self._count_arrival(path, at)
        for fault in self._faults:
            if fault.times > 0 and fault.path_part in path:
                fault.times -= 1
                return fault
        if too_many:
            return Fault(error=Refused(403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", "too many calls"))
        return Fault()

    def _count_arrival(self, path: str, at: float) -> bool:
        recent = self._arrivals.setdefault(path, deque())
        while recent and recent[0] <= at - 1:
            recent.popleft()
        if self.throttle is not None and len(recent) >= self.throttle:
            return True
        recent.append(at)
        return False
