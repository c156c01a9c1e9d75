"""Fixtures for every test: nothing but loopback is reached, and no robot outlives its test."""

from __future__ import annotations

import builtins
import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.host import jit_modules

# The product asks for JitNode's log when it is imported, which in a test run is before any stand-in host is there.
sys.modules.update(jit_modules())


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to any other computer fails the test that tries it."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
            raise OSError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)


@pytest.fixture(autouse=True)
def no_robot_left() -> Iterator[None]:
    """Stop what a test left running, and forget what is remembered for the life of a process."""
    yield
    from imRobots.Meta import host, limiter, store

    for full_name in list(builtins.__dict__["__imRobots__"]):
        host.forget_manager(full_name)
    host.warn_once.cache_clear()
    store._open_store.cache_clear()
    limiter.limiter_for.cache_clear()
