"""The bench itself: small rounds of everybody who can answer, and what is made of their figures."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

import pytest

from tests.bench import rounds
from tests.bench.plan import AI, CARDS, FLOOR, Results
from tests.bench.report import as_json, table
from tests.bench.rounds import Round, Usage, percentile, run_alone, run_round
from tests.bench.targets import Target, targets

MB = 2**20


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "REST_SECONDS", 0.0)
    monkeypatch.setattr(rounds, "SILENCE_SECONDS", 1.0)


@pytest.mark.parametrize(
    ("who", "options", "calls"),
    [
        ("robot", {"config": {"cardType": "ai"}}, 4),
        ("robot", {"config": {"cardType": "standard"}}, 3),
        ("floor", {"updates": 1.5}, 4.5),
        ("sdk", {}, 8),  # create and deliver, once to "inputting", four texts, finish
    ],
)
def test_a_small_round(who: str, options: dict[str, Any], calls: float) -> None:
    played = run_round(who, 2, seconds=0.4, chunks=8, timeout=20, **options)
    assert (played.answered, len(played.ack), len(played.first), len(played.final), len(played.runs)) == (2,) * 5
    assert (played.calls, played.refused) == (2 * calls, 0)
    assert all(0.4 <= seconds < final for seconds, final in zip(sorted(played.runs), played.final, strict=True))
    assert all(first > rounds.ROUND_TRIP for first in played.first)
    assert 0 < played.still < played.final[-1] <= played.total
    assert played.peak.rss >= played.before.rss > 0
    assert min(played.cpu, played.after.result(20).threads) > 0


def test_a_paced_gateway_refuses_who_knows_no_pace() -> None:
    played = run_round("floor", 21, paced=True, seconds=0.2, chunks=4, timeout=20, updates=0)
    assert played.refused > 0
    assert played.answered < 21


def test_a_warm_round_has_its_own_figures_only() -> None:
    played = run_round("robot", 2, warm=True, seconds=0.2, chunks=4, timeout=20, config={"cardType": "standard"})
    assert (played.answered, len(played.ack), len(played.first), len(played.runs), played.calls) == (2, 2, 2, 2, 4)


def test_agents_alone_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "AGENT_SECONDS", 0.2)
    assert 0.2 <= run_alone(3) < 2


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 51), (99, 100), (100, 101)])
def test_percentiles(percent: float, expected: float) -> None:
    assert percentile(range(1, 102), percent) == expected


def a_round(who: str, at_once: int = 200, **changes: Any) -> Round:
    after: Future[Usage] = Future()
    after.set_result(Usage(60 * MB, 4))
    figures = {
        "who": who, "paced": False, "at_once": at_once, "answered": at_once, "ack": [0.001], "first": [0.1],
        "final": [2.2], "runs": [2.0], "total": 2.3, "calls": 4 * at_once, "refused": 0, "still": 1.0, "cpu": 1.0,
        "connected_after": 0.1, "before": Usage(60 * MB, 4), "peak": Usage(70 * MB, 300), "after": after,
    }  # fmt: skip
    return Round(**{**figures, **changes})


def results(at_once: int = 200, **changes: Any) -> Results:
    """`changes` are of the robot's rounds."""
    found = Results(alone={at_once: 2.0}, rounds=[a_round(FLOOR, at_once)], import_seconds=0.1)
    for who in CARDS:
        found.rounds += [a_round(who, at_once, paced=paced, **changes) for paced in (False, True)]
        found.warm.append(a_round(who, 500, **changes))
        for seconds in (10, 120):
            found.long.setdefault(seconds, []).append(a_round(who, 1, **{"calls": 8, **changes}))
    return found


def broken(of: Results) -> set[str]:
    return {target.what.partition(": ")[2] for target in targets(of) if not target.is_reached}


def test_good_figures_reach_every_target() -> None:
    assert broken(results()) == set()
    assert broken(results(20)) == set()
    assert broken(results(100, total=10.0)) == set()
    assert broken(results(500)) == set()


@pytest.mark.parametrize(
    ("at_once", "changes", "expected"),
    [
        (200, {"answered": 0}, "without a final card"),
        (200, {"cpu": 3.1}, "CPU of an answer, in floors"),
        (200, {"connected_after": 0.21}, "start to connected, in round trips"),
        (200, {"runs": [2.021]}, "agents slower, percent"),
        (200, {"final": [2.42]}, "final p99, in agent + 2 round trips"),
        (20, {"ack": [0.006]}, "acknowledgement p50, ms"),
        (500, {"ack": [0.11]}, "acknowledgement p99, ms"),
        (500, {"peak": Usage(120 * MB, 9)}, "RSS of a question that waits, KB"),
        (100, {"total": 12.1}, "total, in (sends + finals) / 20"),
        (100, {"total": 10.0, "refused": 5}, "refused calls, percent"),
        (200, {"before": Usage(60 * MB, 3)}, "threads, of those before"),
        (200, {"before": Usage(57 * MB, 4)}, "memory, of that before"),
        (200, {"calls": 22}, "calls"),
        (200, {"still": 15.1}, "longest standstill, seconds"),
    ],
)
def test_a_figure_beyond_its_limit_breaks_its_target(at_once: int, changes: dict[str, Any], expected: str) -> None:
    assert {what.removeprefix("questions ") for what in broken(results(at_once, **changes))} == {expected}


def test_what_grows_faster_than_the_number_of_people_breaks_its_target() -> None:
    few, many = results(20), results(500, cpu=26.0)
    many.alone |= few.alone
    many.rounds = [*few.rounds, *many.rounds[1:], a_round(FLOOR, 500, cpu=26.0)]
    assert {what for what in broken(many) if "times" in what} == {"CPU, times"}


def test_a_target_says_what_was_measured() -> None:
    assert str(Target("calls", 9, 8)) == "BROKEN calls: 9, at most 8"
    assert str(Target("calls", 8, 8)) == "ok     calls: 8, at most 8"


def test_the_report_has_every_round_and_every_target() -> None:
    some = results()
    whole = json.loads(as_json(some))
    assert [one["who"] for one in whole["rounds"]] == [one.who for one in some.rounds]
    assert len(whole["targets"]) == len(targets(some))
    lines = table(some).splitlines()
    assert sum(AI in line and " 1.05/1.05 " in line for line in lines) == 2, "free and paced: 2.2 of 2.1 seconds"
    assert all(str(target) in lines for target in targets(some))
