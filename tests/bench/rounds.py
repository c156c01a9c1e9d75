"""One round: so many people ask at once, and everything that they and the platform see is timed.

Owns the stand-in DingTalk, the process that answers, and the figures. Runs on the caller's thread; what a process
comes to half a minute after a round is learnt on a thread of its own, while the next round runs.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.bench.agent import Run, SleepingAgent
from tests.bench.contestants import PROJECT
from tests.fakes.gateway import OPEN, TOKEN, Gateway
from tests.fakes.records import AnyCard, Card

AGENT_SECONDS, CHUNKS = 2.0, 40
ROUND_TRIP = 0.05
PER_SECOND = 20  # calls of each API that the paced gateway takes, in any second
REST_SECONDS = 30.0
SILENCE_SECONDS = 30.0  # without a call, an answer that is not there does not come any more
SAMPLE_SECONDS = 0.05


@dataclass
class Usage:
    """Of the process that answers, at one moment."""

    rss: int  # bytes
    threads: int


@dataclass
class Round:
    """Times in seconds, from the moment a question was pushed. `first` and `final` are of cards."""

    who: str
    paced: bool
    at_once: int
    answered: int
    ack: list[float]
    first: list[float]
    final: list[float]
    runs: list[float]  # how long the agents took
    total: float  # from the first question to the last final card
    calls: int
    refused: int
    still: float  # the longest that a card did not change while its agent ran
    cpu: float
    connected_after: float | None
    before: Usage
    peak: Usage
    after: Future[Usage] = field(default_factory=Future)


class Contestant:
    """The process that answers; a context manager."""

    def __init__(self, gateway_url: str, **options: Any) -> None:
        # The SDK reads its address once, when it is imported. A proxy would not find this computer.
        address = {"DINGTALK_OPENAPI_ENDPOINT": gateway_url, "no_proxy": "*"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.contestants", json.dumps(options)],
            cwd=PROJECT,
            env={**os.environ, **address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the SDK's log
            encoding="utf-8",
            bufsize=1,
        )
        self._seen = psutil.Process(self._process.pid)

    def __enter__(self) -> Contestant:
        self.connected_after: float | None = self._read()["connected_after"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def usage(self) -> Usage:
        return Usage(self._seen.memory_info().rss, self._seen.num_threads())

    def measure(self) -> tuple[float, list[Run]]:
        """Seconds of CPU so far, and the agents' runs."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        measured = self._read()
        return measured["cpu"], [Run(*run) for run in measured["runs"]]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process that answers has ended"
        said: dict[str, Any] = json.loads(line)
        return said


def run_alone(at_once: int) -> float:
    """How long the agents take with nothing beside them: the median."""
    agent = {"seconds": AGENT_SECONDS, "chunks": CHUNKS}
    with Contestant("", who="alone", agent=agent, at_once=at_once) as contestant:
        return statistics.median(run.ended - run.started for run in contestant.measure()[1])


def run_round(
    who: str,
    at_once: int,
    *,
    named: str = "",
    paced: bool = False,
    seconds: float = AGENT_SECONDS,
    chunks: int = CHUNKS,
    warm: bool = False,
    timeout: float = 900.0,
    **options: Any,
) -> Round:
    """`options` are those of the contestant.

    `paced`: the gateway takes 20 calls of an API in any second. `warm`: the process has had such a round before.
    """
    with _Stage(who, at_once, paced, seconds, chunks, options) as stage:
        if warm:
            stage.play("", timeout)
            time.sleep(REST_SECONDS)
        return stage.play(named or who, timeout)


class _Stage:
    def __init__(
        self, who: str, at_once: int, paced: bool, seconds: float, chunks: int, options: dict[str, Any]
    ) -> None:
        self._who, self._at_once, self._paced = who, at_once, paced
        self._answer = SleepingAgent(seconds, chunks).answer
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._gateway = Gateway(latency=ROUND_TRIP)
        self._options = {"who": who, "agent": {"seconds": seconds, "chunks": chunks}, **options}
        self._after: Future[Usage] = Future()
        self._contestant: Contestant
        self._number = 0  # of the next question

    def __enter__(self) -> _Stage:
        self._gateway.start()
        if self._paced:
            self._gateway.throttle = PER_SECOND
        options = {"client_id": self._gateway.client_id, "client_secret": self._gateway.client_secret}
        if self._who == "robot":
            options["folder"] = self._folder.name
        elif self._who == "floor":
            options["url"] = self._gateway.url
        self._contestant = Contestant(self._gateway.url, **self._options, **options).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        threading.Thread(target=self._rest).start()

    def _rest(self) -> None:
        time.sleep(REST_SECONDS)
        self._after.set_result(self._contestant.usage())
        self._contestant.__exit__()
        self._gateway.stop()
        self._folder.cleanup()

    def play(self, name: str, timeout: float) -> Round:
        gateway, contestant = self._gateway, self._contestant
        gateway.wait_connected()
        time.sleep(0.5)  # what a start leaves to be done, such as fetching a token
        before, (cpu_before, _) = contestant.usage(), contestant.measure()
        peak = _Peak(contestant)
        began = time.monotonic()
        asked = {f"group-{number}": self._ask(number) for number in range(self._number, self._number + self._at_once)}
        self._number += self._at_once
        self._wait(began + timeout)
        peaked = peak.stop()
        cpu, runs = contestant.measure()
        started = {run.question: run.started for run in runs if run.started >= began}
        opened = [card for card in gateway.cards.values() if card.conversation in asked]
        cards = [card for card in opened if self._is_final(card)]
        calls = [call for call in gateway.calls if call.at >= began and call.path not in (OPEN, TOKEN)]
        return Round(
            who=name,
            paced=self._paced,
            at_once=self._at_once,
            answered=len(cards),
            ack=sorted(ack.at - gateway.pushed[frame] for frame, ack in gateway.acks.items() if ack.at >= began),
            first=sorted(card.created_at - asked[card.conversation] for card in opened),
            final=sorted(card.states[-1].at - asked[card.conversation] for card in cards),
            runs=[run.ended - run.started for run in runs if run.started >= began],
            total=max((card.states[-1].at for card in cards), default=began) - began,
            calls=len(calls),
            refused=sum(call.refused for call in calls),
            still=max((_still(card, started.get(card.title, began)) for card in cards), default=0.0),
            cpu=cpu - cpu_before,
            connected_after=contestant.connected_after,
            before=before,
            peak=peaked,
            after=self._after,
        )

    def _ask(self, number: int) -> float:
        message = self._gateway.say(f"Question {number}?", sender=f"Person {number}", conversation=f"group-{number}")
        return self._gateway.pushed[message]

    def _wait(self, deadline: float) -> None:
        """Until all cards are final, or nothing comes any more. `Gateway.wait_for` would look at every change."""
        gateway, final = self._gateway, set[str]()
        while time.monotonic() < deadline:
            final |= {id for id, card in gateway.cards.items() if id not in final and self._is_final(card)}
            if len(final) >= self._number:
                return
            newest = max(gateway.pushed.values()) if not gateway.calls else gateway.calls[-1].at
            if time.monotonic() - newest > SILENCE_SECONDS:
                return
            time.sleep(SAMPLE_SECONDS)

    def _is_final(self, card: AnyCard) -> bool:
        if card.state != "final" or card.text != self._answer:
            return False
        return isinstance(card, Card) or any(button["id"] != "stop" for button in card.buttons)


class _Peak:
    """Looks at a process from outside, so that looking costs it nothing."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._peak = contestant.usage()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> Usage:
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            now, peak = self._contestant.usage(), self._peak
            self._peak = Usage(max(now.rss, peak.rss), max(now.threads, peak.threads))


def _still(card: AnyCard, started: float) -> float:
    times = [max(started, card.created_at), *(state.at for state in card.states if state.at > started)]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def percentile(ordered: Sequence[float], percent: float) -> float:
    return ordered[round((len(ordered) - 1) * percent / 100)] if ordered else float("nan")
