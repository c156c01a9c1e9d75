"""An option of the tests in a browser."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="put pictures of the sandbox's page into this folder")
