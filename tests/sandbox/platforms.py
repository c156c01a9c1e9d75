"""What the sandbox wants of a chat platform, and which stand-in plays the platform of which Type.

A new Type is named here (and its app's folder, if that is another one); what its switches, people and troubles are
called goes into `web/texts.json`. Owns nothing that runs.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from .desk import Desk, Message

PROJECT = Path(__file__).resolve().parents[2]
ECHO = PROJECT / "tests" / "echo"
# Where elements are looked for, the first one first.
ROOTS = (PROJECT, ECHO)
# Type -> module and class of its stand-in.
STAND_INS = {
    "imRobots.dingTalkStreamType": "tests.sandbox.dingtalk.stand_in:DingTalk",
    "imRobots.echoType": "tests.sandbox.echo:Echo",
}
LIVE = {"imRobots.dingTalkStreamType": "tests.sandbox.dingtalk.live:LiveDingTalk"}


class Trouble(Exception):
    """Why what a person wanted did not come about: a key of the page's texts."""


class Unusable(Exception):
    """What was asked for on the command line cannot be; a sentence says why, and what to do."""


class Platform(Protocol):
    """A chat platform with people in it. What happens there, it puts on its desk. Any thread may call.

    Made as `TheClass(desk, full_name)`; all attributes are there then. A context manager, which is entered when the
    stand-in JitNode is there, and the robot is not yet. The robot's `status()` may have `unsent`, `in_flight` and
    `queued`: only then it is known when nothing more is to come of an answer whose end cannot be seen.
    """

    name: str
    robot: str
    """The name by which people mention the robot; "" where nobody mentions it."""
    people: Mapping[str, str]
    """Who can be spoken as, with the key of a text that says what is special about this person, or ""."""
    kinds: Mapping[str, Sequence[str]]
    """For each kind of chat, `group` and `single`, the kinds of messages: `text`, `rich`, `voice`, `picture`.

    Nothing: people write elsewhere. The form in a terminal wants `text` in `single`.
    """
    quotes: bool
    notice: Sequence[Any]
    """What is to be known before anybody asks, once it is entered: lines with `ok`, `en` and `zh`."""
    settings: Mapping[str, Sequence[Any]]
    """Keys of config.json that are of the platform, and their choices; the first one is the sandbox's own."""
    config: str
    """The instance's config.json, without what would reach beyond this computer."""
    pushes: Mapping[str, Callable[[], None]]
    toggles: Mapping[str, Callable[[bool], None]]
    """What goes wrong on purpose: once, or for as long as it is on."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: object) -> None: ...

    def env_vars(self) -> dict[str, Any]:
        """The app's variables, once the platform is there."""

    def say(self, message: Message) -> None:
        """Show the message, and give it to the robot if `heard`. Raises `Trouble`.

        The text is as it was typed: whether the mention of the robot is a part of it, each platform sees differently.
        """

    def click(self, entry_id: str, button: str, person: str) -> None:
        """Returns when the robot has taken notice of it. Raises `Trouble`."""


def find(full_name: str, desk: Desk, *, live: bool) -> Platform:
    """The platform for an instance. Raises `Unusable`."""
    known = LIVE if live else STAND_INS
    own = next((name for name in _types_of(full_name) if name in known), None)
    folder = _folder(full_name)
    if own is None or folder is None or not (folder / "config.json").is_file():
        instances = [name for name in _instances() if set(_types_of(name)) & set(known)]
        raise Unusable(
            f"--element {full_name}: no instance of this name{' can be live' if live else ''}, only "
            f"{', '.join(instances)}. An instance has e.json and config.json, and its Type is named in "
            "tests/sandbox/platforms.py."
        )
    module, _, name = known[own].partition(":")
    platform: Platform = getattr(importlib.import_module(module), name)(desk, full_name)
    return platform


def config_text(full_name: str) -> str:
    """An instance's config.json as it stands there."""
    folder = _folder(full_name)
    return (folder / "config.json").read_text(encoding="utf-8-sig") if folder else ""


def variables_in(config: str) -> set[str]:
    """The names of the app's variables that a config.json names."""
    return set(re.findall(r"\{\{(\w+)\}\}", config))


def variable_of(key: str, config: str) -> str:
    """The name of the variable that a key of config.json stands for, "" if it stands for none."""
    found = re.search(rf'"{key}"\s*:\s*"\{{\{{(\w+)\}}\}}"', config)
    return found[1] if found else ""


def rendered(config: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says. Of one that is none, nothing: what the robot thinks of it, its log says."""
    try:
        filled_in = json.loads(re.sub(r"\{\{(\w+)\}\}", lambda found: str(variables.get(found[1], "")), config))
    except ValueError:
        return {}
    return filled_in if isinstance(filled_in, dict) else {}


def mention_of(robot: str) -> re.Pattern[str]:
    """As a word, and not in an address; Chinese text may follow at once. The page draws it by the same rule."""
    return re.compile(rf"(?<![A-Za-z0-9_.-])@{re.escape(robot)}(?![A-Za-z0-9_])")


def _types_of(full_name: str) -> list[str]:
    """The Type of an instance, and the Types above it."""
    types: list[str] = []
    while folder := _folder(full_name):
        full_name = _define(folder).get("type", "")
        if not full_name or full_name in types:
            break
        types.append(full_name)
    return types


def _define(folder: Path) -> dict[str, Any]:
    file = folder / "e.json"
    try:
        define = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise Unusable(f"{file} is no JSON: {error}") from error
    if not isinstance(define, dict):
        raise Unusable(f"{file} holds no JSON object")
    return define


def _folder(full_name: str) -> Path | None:
    folders = (root.joinpath(*full_name.split(".")) for root in ROOTS)
    return next((folder for folder in folders if (folder / "e.json").is_file()), None)


def _instances() -> list[str]:
    files = (file for root in ROOTS for file in root.glob("imRobots/*/config.json"))
    return sorted(f"imRobots.{file.parent.name}" for file in files)
