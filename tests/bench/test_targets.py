"""The targets, measured: minutes on a machine that does nothing else (`pytest -m bench`)."""

from __future__ import annotations

import pytest

from tests.bench.plan import play
from tests.bench.report import table
from tests.bench.targets import targets


@pytest.mark.bench
def test_every_target_is_reached() -> None:
    """One test, because rounds that are played at the same time disturb each other."""
    results = play(with_sdk=False, say=print)
    print(table(results))
    assert not [str(target) for target in targets(results) if not target.is_reached]
