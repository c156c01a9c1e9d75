"""Which rounds are played: how many at once, against which gateway, and who answers. Plays them one after the other."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import psutil

from tests.bench.contestants import PROJECT
from tests.bench.rounds import Round, percentile, run_alone, run_round

AT_ONCE = (1, 20, 100, 200, 500)
WARM_AT_ONCE = 500
AI, STANDARD, FLOOR, SDK = "imRobots, AI cards", "imRobots, standard cards", "floor", "SDK's pattern"
CARDS = {AI: "ai", STANDARD: "standard"}
LONG_SECONDS = (10, 120)
LONG_CHUNKS = 600  # they are one AI card
TIMES = 3  # an unlimited round is played so often; the median counts, by the p99 of its final cards

_IMPORT = """
import time, dingtalk_stream
began = time.perf_counter()
import imRobots.Meta.config, imRobots.dingTalkStreamType.handler, imRobots.dingTalkStreamType.stream_client
print(time.perf_counter() - began)
"""


@dataclass
class Results:
    alone: dict[int, float] = field(default_factory=dict)  # at once -> what an agent takes, the median in seconds
    rounds: list[Round] = field(default_factory=list)
    warm: list[Round] = field(default_factory=list)  # in processes that have had the same before
    long: dict[int, list[Round]] = field(default_factory=dict)  # an answer of so many seconds, with both kinds of cards
    import_seconds: float = 0.0  # of the element, beyond the SDK's own
    where: str = f"{date.today()}, {psutil.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"

    def find(self, who: str, at_once: int, *, paced: bool = False) -> Round:
        return next(one for one in self.rounds if (one.who, one.at_once, one.paced) == (who, at_once, paced))


def play(at_once: Sequence[int] = AT_ONCE, *, with_sdk: bool, say: Callable[[str], None]) -> Results:
    """`say` is told what is going on."""
    results = Results()
    for number in at_once:
        say(f"{number} at once, an unlimited gateway")
        results.alone[number] = run_alone(number)
        unlimited = {"apiQps": 0, "maxConcurrency": max(32, number)}
        for who, card in CARDS.items():
            config = {"cardType": card, **unlimited}
            results.rounds.append(_median_round("robot", number, named=who, config=config))
        calls = results.find(AI, number).calls / number
        results.rounds.append(_median_round("floor", number, named=FLOOR, updates=calls - 3))
        if with_sdk:
            results.rounds.append(run_round("sdk", number, named=SDK))
    for number in at_once:
        say(f"{number} at once, a gateway that takes 20 calls of each API in a second")
        for who, card in CARDS.items():
            results.rounds.append(run_round("robot", number, named=who, paced=True, config={"cardType": card}))
        if with_sdk:
            results.rounds.append(run_round("sdk", number, named=SDK, paced=True))
    say(f"{WARM_AT_ONCE} at once, twice")
    for who, card in CARDS.items():
        config = {"cardType": card, "apiQps": 0, "maxConcurrency": WARM_AT_ONCE}
        results.warm.append(run_round("robot", WARM_AT_ONCE, named=who, warm=True, config=config))
    for seconds in LONG_SECONDS:
        say(f"an answer of {seconds} seconds")
        results.long[seconds] = [
            run_round("robot", 1, named=who, seconds=seconds, chunks=LONG_CHUNKS, config={"cardType": card})
            for who, card in CARDS.items()
        ]
    results.import_seconds = statistics.median(_import_seconds() for _ in range(5))
    say("what is left half a minute later")
    for one in [*results.rounds, *results.warm]:
        one.after.result()
    return results


def _median_round(who: str, at_once: int, **options: Any) -> Round:
    rounds = [run_round(who, at_once, **options) for _ in range(TIMES)]
    acks = [one.ack for one in rounds]  # these have nothing to do with final cards
    median = sorted(rounds, key=lambda one: percentile(one.final, 99))[TIMES // 2]
    return replace(median, ack=sorted(acks, key=lambda times: percentile(times, 99))[TIMES // 2])


def _import_seconds() -> float:
    done = subprocess.run([sys.executable, "-c", _IMPORT], cwd=PROJECT, capture_output=True, check=True, text=True)
    return float(done.stdout)
