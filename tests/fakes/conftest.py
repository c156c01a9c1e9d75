from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.gateway import Gateway
from tests.fakes.robot import Robot


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway


@pytest.fixture
def robot(gateway: Gateway) -> Iterator[Robot]:
    robot = Robot(gateway)
    yield robot
    robot.close()
