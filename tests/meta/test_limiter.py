"""How many calls go out in any second, by a clock that the tests move."""

from __future__ import annotations

import itertools
import threading

import pytest

from imRobots.Meta.limiter import Limiter, limiter_for


def flood(limiter: Limiter, seconds: float, api: str = "update", start: float = 0.0) -> list[float]:
    """When the calls of somebody go out who always has one more, and asks again when told to."""
    now, times = start, []
    while now < start + seconds:
        if again := limiter.take(api, now):
            assert again > now, "it would be asked again and again"
            now = again
        else:
            times.append(now)
    return times


def most_in_a_second(times: list[float]) -> int:
    return max(sum(first <= other < first + 1.0 for other in times) for first in times)


@pytest.mark.parametrize("per_second", [1, 2, 3, 20])
def test_no_second_has_more_calls_than_allowed_and_none_is_wasted(per_second: int) -> None:
    times = flood(Limiter(per_second), 20.0)
    assert most_in_a_second(times) == per_second
    assert len(times) >= 0.9 * 20 * per_second


def test_a_platform_that_counts_arrivals_gets_a_little_more_than_a_second() -> None:
    times = flood(Limiter(5), 20.0)
    late, early = 0.0, 0.04  # on their way, calls take a little more or less time
    arrivals = sorted(at + late if number % 2 else at + early for number, at in enumerate(times))
    assert most_in_a_second(arrivals) <= 5


def test_a_burst_goes_out_at_once_and_the_next_call_is_told_when() -> None:
    limiter = Limiter(3)
    assert [limiter.take("update", 10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    again = limiter.take("update", 10.5)
    assert 11.0 < again <= 11.2
    assert limiter.take("update", again - 0.01) == again, "asking takes no place"
    assert limiter.take("update", again) == 0.0


@pytest.mark.parametrize("per_second", [2, 5, 20])
def test_after_its_first_burst_a_rush_goes_out_evenly(per_second: int) -> None:
    times = flood(Limiter(per_second), 10.0)
    assert times[:per_second] == [0.0] * per_second
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[per_second:])]
    assert 0.99 / per_second < min(gaps) <= max(gaps) < 1.1 / per_second


def test_after_a_quiet_time_a_burst_goes_out_at_once_again() -> None:
    limiter = Limiter(5)
    end = flood(limiter, 10.0)[-1]
    later = end + 2.5
    assert [limiter.take("update", later) for _ in range(5)] == [0.0] * 5
    assert limiter.take("update", later) > later


def test_who_asks_for_less_than_allowed_never_waits() -> None:
    limiter = Limiter(5)
    flood(limiter, 3.0)
    assert {limiter.take("update", 10.0 + 0.25 * number) for number in range(100)} == {0.0}


def test_each_api_is_counted_by_itself() -> None:
    limiter = Limiter(1)
    assert [limiter.take(api, 0.0) for api in ("open", "update", "say")] == [0.0, 0.0, 0.0]
    assert limiter.take("open", 0.5) > 0.5


def test_without_a_limit_everything_goes_out() -> None:
    limiter = Limiter(0)
    limiter.slow_down("update", 0.0)
    assert {limiter.take("update", 0.0) for _ in range(1000)} == {0.0}


@pytest.mark.parametrize(("per_second", "slow"), [(20, 10), (5, 2), (2, 1), (1, 1)])
def test_after_a_refusal_the_pace_is_half_for_a_minute(per_second: int, slow: int) -> None:
    limiter = Limiter(per_second)
    flood(limiter, 2.0)
    limiter.slow_down("update", 100.0)
    times = flood(limiter, 59.0, start=100.0)
    assert most_in_a_second(times) == slow
    assert len(times) >= 0.9 * 59 * slow
    assert most_in_a_second(flood(limiter, 5.0, start=161.0)) == per_second


def test_another_refusal_begins_the_minute_anew_and_slows_nothing_else() -> None:
    limiter = Limiter(4)
    limiter.slow_down("update", 0.0)
    limiter.slow_down("update", 50.0)
    assert most_in_a_second(flood(limiter, 5.0, start=100.0)) == 2
    assert most_in_a_second(flood(limiter, 5.0, api="open", start=100.0)) == 4


def test_a_refusal_may_come_before_the_first_call_that_was_counted() -> None:
    limiter = Limiter(1)
    limiter.slow_down("update", 0.0)
    assert most_in_a_second(flood(limiter, 5.0)) == 1


def test_a_refusal_in_the_middle_of_a_second_counts_what_went_out_before() -> None:
    limiter = Limiter(4)
    assert [limiter.take("update", now) for now in (0.0, 0.1, 0.2)] == [0.0] * 3
    limiter.slow_down("update", 0.3)
    assert 1.1 < limiter.take("update", 0.4) <= 1.2, "two of the three are still in the second"


def test_many_threads_get_no_more_than_allowed() -> None:
    limiter = Limiter(50)
    start = threading.Barrier(8)
    granted: list[float] = []

    def ask() -> None:
        start.wait()
        granted.extend(again for again in (limiter.take("update", 5.0) for _ in range(100)) if not again)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 50


def test_robots_of_one_application_share_one_pace() -> None:
    first, again = limiter_for("ding1", 2), limiter_for("ding1", 2)
    assert [limiter.take("update", 0.0) for limiter in (first, again)] == [0.0, 0.0]
    assert first.take("update", 0.1) > 0
    assert limiter_for("ding2", 2).take("update", 0.1) == 0.0
    pairs = itertools.combinations([limiter_for("ding1", 2), limiter_for("ding2", 2), limiter_for("ding1", 3)], 2)
    assert all(one is not other for one, other in pairs)


def test_what_is_in_less_of_a_hurry_leaves_places_to_others() -> None:
    limiter = Limiter(4)
    assert [limiter.take("update", 0.0, leave=2) for _ in range(2)] == [0.0, 0.0]
    assert limiter.take("update", 0.0, leave=2) == pytest.approx(1.05)
    assert [limiter.take("update", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert limiter.take("update", 0.5, leave=4) > 0.5
    assert limiter.take("update", 2.2, leave=3) == 0.0
