"""The app that these tests run in, and the check that they leave none of our threads behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imRobots.Meta import host as meta_host
from tests.fakes import host as fakes
from tests.fakes.host import FakeHost

from .helpers import ROBOT, WAIT, Clock
from .stage import Stage

MakeHost = Callable[..., FakeHost]


@pytest.fixture(autouse=True)
def no_thread_left(only_loopback: None) -> Iterator[None]:
    """Requested before every other fixture, so it looks after all of them are gone."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("imRobots-"):
            thread.join(WAIT)
            assert not thread.is_alive(), f"{thread.name} is still running"


@pytest.fixture
def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHost]:
    """An app with the element of one robot in it; what the family logs is in `host.logged()`."""
    monkeypatch.setattr(meta_host, "log", fakes.log)
    hosts: list[FakeHost] = []

    def make(**options: Any) -> FakeHost:
        folder = tmp_path.joinpath(*ROBOT.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "e.json").write_text(json.dumps({"title": "HR", "type": ""}), encoding="utf-8")
        host = FakeHost(tmp_path, **options)
        host.install()
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.uninstall()


@pytest.fixture
def host(make_host: MakeHost) -> FakeHost:
    return make_host()


@pytest.fixture
def stage(host: FakeHost) -> Iterator[Stage]:
    stage = Stage(host)
    yield stage
    stage.end()


@pytest.fixture
def shared_user_stage(make_host: MakeHost) -> Iterator[Stage]:
    stage = Stage(make_host(isolated=False))
    yield stage
    stage.end()


@pytest.fixture
def clock() -> Clock:
    return Clock()
