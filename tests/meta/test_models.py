"""What a message is, what can go wrong with it, and that the family can be imported anywhere."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from imRobots import Meta
from imRobots.Meta import (
    AgentError,
    AuthError,
    Busy,
    ConfigError,
    IMRobotError,
    IncomingMessage,
    RateLimited,
    ReplyRefused,
    TransportError,
    as_config_error,
)


def test_a_message_goes_through_json_and_back() -> None:
    message = IncomingMessage("m1", "c1", "s1", "Ada", "几天假？", "quota", {"senderNick": "Ada", "at": [{"id": "1"}]})
    again = IncomingMessage(**json.loads(json.dumps(dataclasses.asdict(message))))
    assert again == message


def test_a_message_is_a_question_unless_something_else_is_said() -> None:
    message = IncomingMessage("m1", "c1", "s1", "Ada", "Hello")
    assert message.problem == ""
    assert message.source == {}


def test_a_message_cannot_be_changed_on_its_way() -> None:
    message = IncomingMessage("m1", "c1", "s1", "Ada", "Hello")
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.text = "Good bye"  # type: ignore[misc]


def test_a_logged_message_does_not_show_the_platforms_payload() -> None:
    message = IncomingMessage("m1", "c1", "s1", "Ada", "Hello", source={"webhook": "https://im.example/?token=s3cret"})
    assert "s3cret" not in f"{message} {message!r}"


@pytest.mark.parametrize("kind", [AgentError, AuthError, Busy, ConfigError, RateLimited, ReplyRefused, TransportError])
def test_everything_that_goes_wrong_can_be_caught_as_one_error(kind: type[Exception]) -> None:
    assert issubclass(kind, IMRobotError)


def test_only_errors_that_may_pass_are_worth_another_try() -> None:
    hopeful = {kind for kind in (AgentError, AuthError, RateLimited, ReplyRefused) if issubclass(kind, TransportError)}
    assert hopeful == {RateLimited}


def test_busy_says_whose_queue_is_full() -> None:
    mine, all_of_them = Busy(one_session=True), Busy(one_session=False)
    assert (mine.one_session, all_of_them.one_session) == (True, False)
    assert "session" in str(mine)
    assert "session" not in str(all_of_them)


def test_a_package_that_is_not_installed_is_an_error_of_configuration() -> None:
    missing = ModuleNotFoundError("No module named 'pydantic'", name="pydantic")
    error = as_config_error("robots.hr", missing)
    assert isinstance(error, ConfigError)
    for part in ("robots.hr", "pydantic", "requirements.txt", "restart"):
        assert part in str(error)


def test_an_error_of_configuration_stays_as_it_is() -> None:
    error = ConfigError("robots.hr: agent: the key is missing; add it")
    assert as_config_error("robots.hr", error) is error


def test_all_that_the_family_offers_is_there() -> None:
    missing = [name for name in Meta.__all__ if not hasattr(Meta, name)]
    assert missing == []


def test_the_family_can_be_imported_where_no_package_is_installed() -> None:
    root = Path(__file__).parents[2]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import imRobots.Meta; print(imRobots.Meta.Robot.__name__)"
    command = [sys.executable, "-I", "-S", "-B", "-c", code, str(root)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout.strip(), run.stderr) == ("Robot", "")
