"""How a rating is kept, becomes a row of the app's data model, and is given out again."""

from __future__ import annotations

import builtins
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from imRobots.Meta import Deadline, Store, export_feedback
from imRobots.Meta.config import RobotConfig
from imRobots.Meta.host import JitApp
from imRobots.Meta.ratings import Ratings
from imRobots.Meta.store import KeptAnswer
from tests.fakes.host import CorpMember, FakeHost
from tests.fakes.models import FakeModel

from .helpers import ROBOT, WAIT, Clock, eventually, message, pass_through, the_element

AGENT, MODEL = "aiagents.hr", "models.RobotFeedback"
FIELDS = ["messageId", "rating", "person", "conversation", "agent", "question", "answer", "ratedAt"]
ANSWER = KeptAnswer(message(1, "How many days?"), "30 days.", AGENT)
NOON = 1_769_860_800.0  # 2026-01-31T12:00:00Z


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock=clock)


@pytest.fixture
def make_ratings(host: FakeHost, store: Store) -> Iterator[Callable[..., Ratings]]:
    made: list[Ratings] = []

    def make(model: Any = None, **options: Any) -> Ratings:
        if model is not None:
            host.add(MODEL, model)
            options["feedbackModel"] = MODEL
        config = RobotConfig(agent=AGENT, **options)
        made.append(Ratings(ROBOT, config, store, JitApp(the_element(host))))
        return made[-1]

    yield make
    for ratings in made:
        ratings.close(Deadline(WAIT))


def exported(store: Store, since: Any = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_feedback(store, since).splitlines()]


# ---- in the robot's own file


def test_a_person_has_one_vote_and_may_change_it(
    make_ratings: Callable[..., Ratings], store: Store, host: FakeHost
) -> None:
    ratings = make_ratings()
    assert ratings.rate(ANSWER, "ada", "helpful") is True
    assert ratings.rate(ANSWER, "ada", "helpful") is False
    assert ratings.rate(ANSWER, "bob", "helpful") is True
    assert ratings.rate(ANSWER, "ada", "not_helpful") is True
    assert {one["person"]: one["rating"] for one in exported(store)} == {"ada": "not_helpful", "bob": "helpful"}
    assert [record.message for record in host.logged("info")] == [
        f"{ROBOT}: the answer to message m1 was rated {rating}" for rating in ("helpful", "helpful", "not_helpful")
    ]


def test_without_a_model_there_is_neither_a_row_nor_a_thread(make_ratings: Callable[..., Ratings]) -> None:
    ratings = make_ratings()
    assert ratings.rate(ANSWER, "ada", "helpful") is True
    assert "imRobots-feedback" not in [thread.name for thread in threading.enumerate()]
    ratings.close(Deadline(WAIT))


# ---- in the app's model


def test_each_vote_is_a_row_and_a_changed_one_another(make_ratings: Callable[..., Ratings], clock: Clock) -> None:
    model = FakeModel(FIELDS)
    ratings = make_ratings(model)
    ratings.rate(ANSWER, "ada", "helpful")
    ratings.rate(ANSWER, "ada", "helpful")
    clock.now += 60
    ratings.rate(ANSWER, "ada", "not_helpful")
    ratings.close(Deadline(WAIT))
    first = {
        "messageId": "m1",
        "rating": "helpful",
        "person": "ada",
        "conversation": "c1",
        "agent": AGENT,
        "question": "How many days?",
        "answer": "30 days.",
        "ratedAt": "2026-01-31T12:00:00Z",
    }
    assert model.rows == [first, {**first, "rating": "not_helpful", "ratedAt": "2026-01-31T12:01:00Z"}]


def test_rows_are_created_as_the_apps_member_on_a_thread_of_their_own(make_ratings: Callable[..., Ratings]) -> None:
    seen: list[tuple[str, type]] = []

    class Watched(FakeModel):
        def create(self, rowData: dict[str, Any], triggerEvent: int = 1) -> dict[str, Any]:
            user = builtins.app.currentUser  # type: ignore[attr-defined]
            seen.append((threading.current_thread().name, type(user)))
            return super().create(rowData, triggerEvent)

    ratings = make_ratings(Watched(FIELDS))
    ratings.rate(ANSWER, "ada", "helpful")
    ratings.close(Deadline(WAIT))
    assert seen == [("imRobots-feedback", CorpMember)]


def test_a_slow_database_holds_nobody_up_and_no_row_is_lost_at_the_end(make_ratings: Callable[..., Ratings]) -> None:
    gate = threading.Event()

    class Slow(FakeModel):
        def create(self, rowData: dict[str, Any], triggerEvent: int = 1) -> dict[str, Any]:
            pass_through(gate)
            return super().create(rowData, triggerEvent)

    model = Slow(FIELDS)
    ratings = make_ratings(model)
    try:
        for person in ("ada", "bob", "cy"):
            assert ratings.rate(ANSWER, person, "helpful") is True
        assert model.rows == []
    finally:
        gate.set()
    ratings.close(Deadline(WAIT))
    assert [row["person"] for row in model.rows] == ["ada", "bob", "cy"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (FakeModel(FIELDS, error=OSError("the database is gone")), "the database is gone"),
        (FakeModel(["messageId", "rating"]), "the model has no fields agent, answer"),
        (object(), "no attribute 'create'"),
        (None, MODEL),
    ],
    ids=["fails", "other fields", "no model", "no element"],
)
def test_a_model_that_takes_no_row_is_named_and_the_rating_kept(
    make_ratings: Callable[..., Ratings], store: Store, host: FakeHost, model: Any, reason: str
) -> None:
    ratings = make_ratings(model) if model is not None else make_ratings(feedbackModel=MODEL)
    assert ratings.rate(ANSWER, "ada", "helpful") is True
    ratings.close(Deadline(WAIT))
    [record] = host.logged("exception")
    for part in (ROBOT, MODEL, "feedbackModel"):
        assert part in record.message
    assert reason in record.traceback
    assert [one["person"] for one in exported(store)] == ["ada"]


def test_after_a_failure_rows_are_created_again(make_ratings: Callable[..., Ratings], host: FakeHost) -> None:
    model = FakeModel(FIELDS, error=OSError("gone"))
    ratings = make_ratings(model)
    ratings.rate(ANSWER, "ada", "helpful")
    eventually(lambda: host.logged("exception"))
    model.error = None
    ratings.rate(ANSWER, "bob", "helpful")
    ratings.close(Deadline(WAIT))
    assert [row["person"] for row in model.rows] == ["bob"]


def test_the_model_in_the_readme_has_the_fields_of_a_row() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    model = readme[readme.index("class RobotFeedback") :].partition("class Meta")[0]
    assert re.findall(r"(\w+) = datatypes\.", model) == ["id", *FIELDS]


# ---- given out


@pytest.fixture
def rated(store: Store, clock: Clock) -> Store:
    """Three ratings, an hour apart, the second one at noon."""
    for person, at in (("ada", NOON - 3600), ("bob", NOON), ("cy", NOON + 3600)):
        clock.now = at
        store.rate(ANSWER, person, "helpful")
    return store


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time that names no zone is meant in UTC, wherever the machine stands."""
    if not hasattr(time, "tzset"):  # Windows
        yield
        return
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST5")
        time.tzset()
        yield
    time.tzset()


ALL, FROM_NOON, LATER, NONE = ["ada", "bob", "cy"], ["bob", "cy"], ["cy"], []
IN_BEIJING = timezone(timedelta(hours=8))


@pytest.mark.parametrize(
    ("since", "people"),
    [
        (None, ALL),
        (0, ALL),
        (NOON, FROM_NOON),
        (int(NOON), FROM_NOON),
        (NOON + 0.5, LATER),
        (NOON + 3601, NONE),
        (date(2026, 1, 31), ALL),
        (date(2026, 2, 1), NONE),
        ("2026-01-31", ALL),
        ("2026-02-01", NONE),
        ("2026-01-31T12:00:00", FROM_NOON),
        ("2026-01-31 12:00", FROM_NOON),
        ("2026-01-31T12:00:01", LATER),
        ("2026-01-31T12:00:00Z", FROM_NOON),
        ("2026-01-31T12:00:01Z", LATER),
        ("2026-01-31T12:00:00.500Z", LATER),
        ("2026-01-31T20:00:00+08:00", FROM_NOON),
        ("2026-01-31T20:00:01+08:00", LATER),
        (datetime(2026, 1, 31), ALL),
        (datetime(2026, 1, 31, 12), FROM_NOON),
        (datetime(2026, 1, 31, 12, 0, 1), LATER),
        (datetime(2026, 1, 31, 12, tzinfo=timezone.utc), FROM_NOON),
        (datetime(2026, 1, 31, 20, tzinfo=IN_BEIJING), FROM_NOON),
        (datetime(2026, 1, 31, 20, 0, 1, tzinfo=IN_BEIJING), LATER),
        (datetime.min, ALL),
        (datetime.max.replace(tzinfo=timezone.utc), NONE),
    ],
    ids=repr,
)
def test_the_ratings_since_then(rated: Store, in_new_york: None, since: Any, people: list[str]) -> None:
    assert [one["person"] for one in exported(rated, since)] == people


@pytest.mark.parametrize(
    "since",
    [
        "",
        "yesterday",
        "Z",
        "31.01.2026",
        "2026-13-01",
        "2026-01-31T25:00",
        float("nan"),
        10**400,
        float("inf"),
        NOON * 1000,
        [],
    ],
    ids=lambda one: repr(one)[:30],
)
def test_what_is_no_time_is_an_error(rated: Store, since: Any) -> None:
    with pytest.raises(ValueError):
        export_feedback(rated, since)


def test_a_rating_is_a_line_for_people_and_programs(store: Store) -> None:
    answer = KeptAnswer(message(1, '几天"假"？\n急'), "三十天。\n\n😄\u2028", AGENT)
    store.rate(answer, "小钉", "very_helpful")
    store.rate(ANSWER, "ada", "helpful")
    text = export_feedback(store)
    assert text.endswith("\n") and text.count("\n") == 2
    line = text.split("\n")[0]
    for part in ("几天", "三十天。", "小钉", "😄"):
        assert part in line
    assert json.loads(line) == {
        "messageId": "m1",
        "rating": "very_helpful",
        "person": "小钉",
        "conversation": "c1",
        "agent": AGENT,
        "question": '几天"假"？\n急',
        "answer": "三十天。\n\n😄\u2028",
        "ratedAt": "2026-01-31T12:00:00Z",
    }


def test_where_nobody_has_rated_there_is_nothing(store: Store) -> None:
    assert export_feedback(store) == ""
