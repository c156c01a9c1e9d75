"""Which refusals close a way of answering, for how long, and what of that is still known tomorrow."""

from __future__ import annotations

import calendar
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imRobots.dingTalkStreamType import ladder as ladder_module
from imRobots.dingTalkStreamType.ladder import Ladder
from imRobots.Meta import ReplyRefused, Store
from tests.dingtalk.helpers import CONFIG, ELEMENT, Log

RUNG = "standard"
NOON = float(calendar.timegm((2026, 11, 20, 12, 0, 0)))
MONTH_ENDS = float(calendar.timegm((2026, 11, 30, 16, 0, 0)))  # midnight in China

MakeLadder = Callable[..., Ladder]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=NOON)
    monkeypatch.setattr(ladder_module, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture
def store(clock: SimpleNamespace, tmp_path: Path) -> Store:
    return Store(tmp_path / "robot.sqlite3", clock=lambda: clock.now)


@pytest.fixture
def make(store: Store) -> MakeLadder:
    """What a restart makes: a new ladder on the same store. `options` are keys of config.json."""
    return lambda **options: Ladder(ELEMENT, {**CONFIG, **options}, store)


def refuse(ladder: Ladder, cause: Any, conversation: str = "cid-1", code: str = "some.code", rung: str = RUNG) -> None:
    ladder.note_refusal(rung, ReplyRefused(f"no: {code}", code, cause), conversation)


def refuse_for_good(ladder: Ladder) -> None:
    for conversation in ("cid-1", "cid-2"):
        refuse(ladder, "unknown", conversation)


def test_in_the_beginning_every_rung_is_open(make: MakeLadder) -> None:
    assert make().is_open(RUNG)
    assert make().closed() == {}


def test_what_is_wrong_with_one_message_closes_nothing(make: MakeLadder, log: Log) -> None:
    ladder = make()
    for conversation in ("cid-1", "cid-2", "cid-3"):
        refuse(ladder, "message", conversation)
    assert ladder.is_open(RUNG)
    assert log.records == []


@pytest.mark.parametrize(
    ("cause", "how_long"),
    [
        *(("permission", "ten minutes"), ("template", "ten minutes"), ("address", "ten minutes")),
        *(("quota", "month"), ("unknown", "configuration")),
    ],
)
def test_a_closed_rung_says_what_it_lacks_and_the_log_for_how_long(
    make: MakeLadder, log: Log, cause: str, how_long: str
) -> None:
    ladder = make()
    for conversation in ("cid-1", "cid-2"):
        refuse(ladder, cause, conversation)
    assert not ladder.is_open(RUNG)
    assert ladder.closed() == {RUNG: "no: some.code"}
    assert ladder.is_open("another card")
    for part in (ELEMENT, f"without {RUNG} cards", how_long, "no: some.code"):
        assert part in log.lines("error")[0]


@pytest.mark.parametrize("cause", ["permission", "template", "address"])
def test_what_somebody_may_mend_is_tried_again_after_ten_minutes(
    make: MakeLadder, clock: SimpleNamespace, cause: str
) -> None:
    ladder = make()
    refuse(ladder, cause)
    clock.now += 599
    assert not ladder.is_open(RUNG)
    clock.now += 2
    assert ladder.is_open(RUNG)
    assert ladder.closed() == {}
    refuse(ladder, cause)
    assert not ladder.is_open(RUNG), "and closes anew"


@pytest.mark.parametrize("cause", ["permission", "template", "address"])
def test_what_somebody_may_mend_is_tried_again_after_a_restart(make: MakeLadder, cause: str) -> None:
    refuse(make(), cause)
    assert make().is_open(RUNG)


def test_a_quota_that_is_used_up_is_used_up_until_the_month_ends(make: MakeLadder, clock: SimpleNamespace) -> None:
    refuse(make(), "quota")
    for ladder in (make(), make(language="zh-CN")):
        for now, is_open in ((NOON, False), (MONTH_ENDS - 1, False), (MONTH_ENDS, True), (NOON, False)):
            clock.now = now
            assert ladder.is_open(RUNG) is is_open
    clock.now = MONTH_ENDS + 1
    assert make().is_open(RUNG)


def test_a_refusal_for_good_outlives_a_restart_but_no_change_of_the_configuration(
    make: MakeLadder, clock: SimpleNamespace
) -> None:
    refuse_for_good(make())
    clock.now += 365 * 24 * 3600
    assert make().closed() == {RUNG: "no: some.code"}
    assert make(clientId="another").is_open(RUNG)
    assert not make().is_open(RUNG), "the old configuration again"


def test_the_order_of_the_keys_is_no_change_of_the_configuration(store: Store) -> None:
    refuse_for_good(Ladder(ELEMENT, CONFIG, store))
    assert not Ladder(ELEMENT, dict(reversed(CONFIG.items())), store).is_open(RUNG)


def test_the_file_holds_no_configuration(make: MakeLadder, tmp_path: Path) -> None:
    refuse_for_good(make())
    for path in tmp_path.iterdir():
        assert CONFIG["clientSecret"].encode() not in path.read_bytes()


def test_a_robot_without_a_file_still_remembers_while_it_lives(clock: SimpleNamespace) -> None:
    ladder = Ladder(ELEMENT, CONFIG, Store(clock=lambda: clock.now))
    refuse_for_good(ladder)
    assert not ladder.is_open(RUNG)


@pytest.mark.parametrize(
    ("refusals", "closes"),
    [
        ([("cid-1", "a"), ("cid-2", "a")], True),
        ([("cid-1", "a"), ("cid-1", "a")], False),
        ([("cid-1", "a"), ("cid-1", "a"), ("cid-2", "a")], True),
        ([("cid-1", "a"), ("cid-2", "b")], False),
        ([("cid-1", "a"), ("cid-2", "b"), ("cid-3", "a")], False),
        ([("cid-1", "a"), ("cid-2", "b"), ("cid-1", "b")], True),
        ([("cid-1", "a"), ("success", ""), ("cid-2", "a")], False),
        ([("cid-1", "a"), ("success", ""), ("cid-2", "a"), ("cid-3", "a")], True),
        ([("cid-1", "a")] * 9, False),
    ],
)
def test_an_unknown_refusal_closes_when_two_conversations_in_a_row_hear_the_same(
    make: MakeLadder, refusals: list[tuple[str, str]], closes: bool
) -> None:
    ladder = make()
    for conversation, code in refusals:
        assert ladder.is_open(RUNG)
        if conversation == "success":
            ladder.note_success(RUNG)
        else:
            refuse(ladder, "unknown", conversation, code)
    assert ladder.is_open(RUNG) is not closes


def test_one_refusal_without_a_code_closes_nothing(make: MakeLadder) -> None:
    ladder = make()
    refuse(ladder, "unknown", code="")
    assert ladder.is_open(RUNG)


def test_suspicions_are_of_one_rung_each(make: MakeLadder) -> None:
    ladder = make()
    refuse(ladder, "unknown", "cid-1", rung=RUNG)
    refuse(ladder, "unknown", "cid-2", rung="another card")
    assert ladder.is_open(RUNG) and ladder.is_open("another card")


def test_a_success_of_another_rung_clears_nothing(make: MakeLadder) -> None:
    ladder = make()
    refuse(ladder, "unknown", "cid-1")
    ladder.note_success("another card")
    refuse(ladder, "unknown", "cid-2")
    assert not ladder.is_open(RUNG)


def test_two_rungs_are_remembered_side_by_side(make: MakeLadder) -> None:
    ladder = make()
    refuse_for_good(ladder)
    refuse(ladder, "quota", rung="another card")
    assert set(make().closed()) == {RUNG, "another card"}


def test_a_longer_closing_is_not_shortened_by_a_later_refusal(make: MakeLadder, clock: SimpleNamespace) -> None:
    """Cards that were on their way when the rung was closed are refused later, and perhaps for something else."""
    ladder = make()
    refuse_for_good(ladder)
    refuse(ladder, "permission")
    clock.now += 601
    assert not ladder.is_open(RUNG)


def test_many_refusals_at_once_are_one_line_in_the_log(make: MakeLadder, log: Log) -> None:
    """Twenty cards may be on their way when the first refusal comes."""
    ladder, together = make(), threading.Barrier(20)

    def hear() -> None:
        together.wait(10)
        refuse(ladder, "permission")

    threads = [threading.Thread(target=hear) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not ladder.is_open(RUNG)
    assert len(log.lines("error")) == 1
