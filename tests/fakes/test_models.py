"""The stand-in for a data model."""

from __future__ import annotations

import pytest

from tests.fakes.host import FakeHost
from tests.fakes.models import FakeModel


def test_rows_are_added_inside_a_request_context() -> None:
    with FakeHost() as host:
        model = FakeModel(["rating", "answer"])
        host.add("models.Feedback", model)
        with host.context():
            row = {"rating": "good"}
            assert host.app.getElement("models.Feedback").create(row) == row
            row["rating"] = "bad"
            model.create(rowData=row, triggerEvent=0)
            with pytest.raises(ValueError, match="no fields comment, mood"):
                model.create({"mood": 1, "comment": 2, "rating": ""})
            with pytest.raises(TypeError, match="a dict"):
                model.create([row])  # type: ignore[arg-type]
            model.error = OSError("the database is gone")
            with pytest.raises(OSError, match="gone"):
                model.create(row)
        model.error = None
        with pytest.raises(RuntimeError, match="request context"):
            model.create(row)
    assert model.rows == [{"rating": "good"}, {"rating": "bad"}]


def test_some_names_are_the_hosts() -> None:
    with pytest.raises(ValueError, match="names: date, url"):
        FakeModel(["url", "answer", "date"])
