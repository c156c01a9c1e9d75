"""What is to be reached, as ratios within one run: each figure with its limit."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench.plan import CARDS, FLOOR, Results
from tests.bench.rounds import PER_SECOND, ROUND_TRIP, Round, percentile


class Target(NamedTuple):
    """`measured` must not be greater than `limit`."""

    what: str
    measured: float
    limit: float

    @property
    def is_reached(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        mark = "ok    " if self.is_reached else "BROKEN"
        return f"{mark} {self.what}: {self.measured:.4g}, at most {self.limit:.4g}"


def targets(results: Results) -> list[Target]:
    """Those whose rounds were played."""
    return [target for who in CARDS for target in _of(who, results)] + [
        Target("import of the element beyond the SDK's own, seconds", results.import_seconds, 0.5)
    ]


def _of(who: str, results: Results) -> Iterator[Target]:
    for number, alone in results.alone.items():
        one, paced = results.find(who, number), results.find(who, number, paced=True)
        floor = results.find(FLOOR, number)
        name = f"{who}, {number} at once"
        yield Target(f"{name}: questions without a final card", number - one.answered, 0)
        yield Target(f"{name}, paced: questions without a final card", number - paced.answered, 0)
        yield Target(f"{name}: CPU of an answer, in floors", one.cpu / floor.cpu, 3)
        yield Target(
            f"{name}: start to connected, in round trips", one.connected_after / ROUND_TRIP, 3 + 0.05 / ROUND_TRIP
        )
        if number <= 200:
            yield Target(f"{name}: agents slower, percent", slower(one, alone), 1)
        if number == 20:
            yield Target(f"{name}: acknowledgement p50, ms", 1000 * percentile(one.ack, 50), 5)
        if number == 100:
            yield Target(f"{name}, paced: refused calls, percent", 100 * paced.refused / paced.calls, 1)
            yield Target(
                f"{name}, paced: total, in (sends + finals) / 20", paced.total / (2 * number / PER_SECOND), 1.2
            )
        if number == 200:
            final = percentile(one.final, 99)
            yield Target(f"{name}: final p99, in agent + 2 round trips", final / (alone + 2 * ROUND_TRIP), 1.15)
            yield Target(f"{name}: final p99, in floors", final / percentile(floor.final, 99), 1.10)
        if number == 500:
            yield Target(f"{name}: acknowledgement p99, ms", 1000 * percentile(one.ack, 99), 100)
            yield Target(f"{name}, paced: RSS of a question that waits, KB", _rss_each(paced) / 1000, 100)
    warm = next(one for one in results.warm if one.who == who)
    before, after = warm.before, warm.after.result()
    name = f"{who}, half a minute after {warm.at_once} at once"
    yield Target(f"{name}: threads, of those before", after.threads / before.threads, 1)
    yield Target(f"{name}: memory, of that before", after.rss / before.rss, 1.05)
    for seconds, calls in ((10, 8), (120, 21)):
        one = next(one for one in results.long[seconds] if one.who == who)
        yield Target(f"{who}, an answer of {seconds} s: without a final card", one.at_once - one.answered, 0)
        yield Target(f"{who}, an answer of {seconds} s: calls", one.calls, calls)
        yield Target(f"{who}, an answer of {seconds} s: longest standstill, seconds", one.still, 15)
    if 20 in results.alone and 500 in results.alone:
        few, many = results.find(who, 20), results.find(who, 500)
        for what, times in growth(few, many).items():
            yield Target(f"{who}, from 20 to 500 at once (25 times as many): {what}, times", times, 25)


def slower(one: Round, alone: float) -> float:
    """Percent, of the agents' median against the same agents alone."""
    return 100 * (statistics.median(one.runs) / alone - 1)


def growth(few: Round, many: Round) -> dict[str, float]:
    """How many times as much, from few to many at once."""
    return {
        "CPU": many.cpu / few.cpu,
        "calls": many.calls / few.calls,
        "memory at the peak": (many.peak.rss - many.before.rss) / (few.peak.rss - few.before.rss),
    }


def _rss_each(one: Round) -> float:
    return (one.peak.rss - one.before.rss) / one.at_once
