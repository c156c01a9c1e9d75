"""What is a command, and what is for the agent."""

from __future__ import annotations

import re

import pytest

from imRobots.Meta import Texts, texts_for
from imRobots.Meta.commands import read_command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        *(
            ("/new", "new"),
            ("／new", "new"),
            ("／新会话", "new"),
            ("/新会话", "new"),
            ("/stop", "stop"),
            ("/停止", "stop"),
            ("/good", "good"),
        ),
        *(("/有帮助", "good"), ("/bad", "bad"), ("/没帮助", "bad"), ("/help", "help"), ("/帮助", "help")),
        *(("/NEW", "new"), ("  /Stop \n", "stop")),
    ],
)
def test_a_command_is_understood_in_both_languages(text: str, command: str) -> None:
    assert read_command(text, from_admin=False) == command
    assert read_command(text, from_admin=True) == command


def test_only_an_administrator_may_ask_for_the_status() -> None:
    assert read_command("/status", from_admin=True) == "status"
    assert read_command("/status", from_admin=False) is None


@pytest.mark.parametrize(
    "text", ["", "/", "new", "/newer", "/new one", "please /stop", "/etc/hosts", "//help", "/ help"]
)
def test_anything_else_is_for_the_agent(text: str) -> None:
    assert read_command(text, from_admin=True) is None


@pytest.mark.parametrize("texts", [texts_for("en-US", ""), texts_for("zh-CN", "")], ids=["English", "Chinese"])
def test_what_the_help_names_is_a_command(texts: Texts) -> None:
    named = re.findall(r"/\w+", texts.help)
    assert {read_command(text, from_admin=False) for text in named} == {"new", "stop", "good", "bad", "help"}
