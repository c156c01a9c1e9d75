"""Who shares a context with the agent, and who begins afresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imRobots.Meta import Store
from imRobots.Meta.sessions import Sessions

from .helpers import message

ADA = message(1, sender_id="ada", conversation_id="c1")
ADA_ELSEWHERE = message(2, sender_id="ada", conversation_id="c2")
BOB = message(3, sender_id="bob", conversation_id="c1")
SCOPES: list[Any] = ["user", "conversation", "userInConversation"]


@pytest.mark.parametrize(("scope", "session"), [*zip(SCOPES, ["ada", "c1", "c1:ada"], strict=True)])
def test_the_configuration_says_who_shares_a_context(scope: Any, session: str) -> None:
    assert Sessions(scope, Store()).of(ADA) == session


@pytest.mark.parametrize("scope", SCOPES)
def test_where_there_is_no_conversation_everybody_has_a_context_of_their_own(scope: Any) -> None:
    assert Sessions(scope, Store()).of(message(1, sender_id="ada", conversation_id="")) == "ada"


@pytest.mark.parametrize(
    ("scope", "who"), [*zip(SCOPES, [[ADA, ADA_ELSEWHERE], [ADA, BOB], [ADA]], strict=True)], ids=SCOPES
)
def test_a_fresh_start_is_one_for_those_who_share_the_context_and_nobody_else(scope: Any, who: list[Any]) -> None:
    sessions = Sessions(scope, Store())
    everybody = [ADA, ADA_ELSEWHERE, BOB]
    before = [sessions.of(one) for one in everybody]
    sessions.begin_anew(ADA)
    after = [sessions.of(one) for one in everybody]
    assert [one for one, old, new in zip(everybody, before, after, strict=True) if old != new] == who
    assert len({sessions.of(one) for one in who}) == 1


def test_each_fresh_start_is_another_one_and_lasts_until_the_next() -> None:
    sessions = Sessions("user", Store())
    seen = {sessions.of(ADA)}
    for number in range(2, 5):
        sessions.begin_anew(ADA)
        seen |= {sessions.of(ADA), sessions.of(ADA)}
        assert len(seen) == number
    assert sessions.scope_of(ADA) == "ada", "their questions still take turns"


def test_a_fresh_start_outlives_a_restart(tmp_path: Path) -> None:
    before = Sessions("user", Store(tmp_path / "robot.sqlite3"))
    before.begin_anew(ADA)
    assert Sessions("user", Store(tmp_path / "robot.sqlite3")).of(ADA) == before.of(ADA) != "ada"
