"""The real DingTalk: people write there, and the desk shows what reaches the robot, the wire and the timelines.

Owns what is asked before: whether the credentials of the environment are good (`preflight.py`). What comes from
DingTalk comes to the desk on the robot's threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ..desk import Desk, Item, Message, Thing
from ..platforms import Trouble, Unusable, config_text, variable_of, variables_in
from .preflight import Line, preflight
from .wire import Wire

_CHAT = "live"


class LiveDingTalk:
    name = "DingTalk"
    robot = ""
    quotes = False

    def __init__(self, desk: Desk, element: str) -> None:
        self.config = config_text(element)
        self.people: dict[str, str] = {}
        self.kinds: dict[str, Sequence[str]] = {}
        self.settings = {"cardType": ("standard", "ai", "markdown")}
        self.pushes: dict[str, Callable[[], None]] = {}
        self.toggles: dict[str, Callable[[bool], None]] = {}
        self.notice: list[Line] = []
        self._desk = desk
        self._element = element
        self._ended = ExitStack()

    def __enter__(self) -> LiveDingTalk:
        names, config, checked = self._read_config()
        self._ended.enter_context(Wire(self._desk, [config["clientSecret"]]))
        self._ended.enter_context(self._desk.told_to(self._show_question))
        self.notice = preflight(config["clientId"], config["clientSecret"], checked, names)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.close()

    def env_vars(self) -> dict[str, Any]:
        """Those of the environment that the instance names."""
        return {name: os.environ[name] for name in variables_in(self.config) if name in os.environ}

    def say(self, message: Message) -> None:
        raise Trouble("notPushed")  # people write in DingTalk itself

    def click(self, entry_id: str, button: str, person: str) -> None:
        raise Trouble("notPushed")

    def _read_config(self) -> tuple[tuple[str, str], dict[str, Any], Any]:
        """Where the credentials stand, and the configuration as the robot will read it. Raises `Unusable`."""
        from imRobots.dingTalkStreamType import Loader
        from imRobots.dingTalkStreamType.config import DingTalkConfig
        from imRobots.Meta import ConfigError
        from imRobots.Meta.config import read_config

        missing = sorted(name for name in variables_in(self.config) if not os.environ.get(name, "").strip())
        if missing:
            raise Unusable(
                f"--live: {', '.join(missing)} must be set in the environment, because {self._element} names it; the "
                "credentials are in the developer console under Basic Information > Credentials and Basic Information"
            )
        render = Loader([]).renderTemplateString
        try:
            config, checked = read_config(self._element, self.config, self.env_vars(), render, DingTalkConfig)
        except ConfigError as error:
            raise Unusable(str(error)) from error
        client_id, secret = (variable_of(key, self.config) or key for key in ("clientId", "clientSecret"))
        return (client_id, secret), config, checked

    def _show_question(self, thing: Thing) -> None:
        if isinstance(thing, Item) and thing.direction == "in" and thing.title.endswith("/im/bot/messages/get"):
            from imRobots.dingTalkStreamType.messages import read_message

            data = thing.detail.get("data") if isinstance(thing.detail, dict) else None
            message = read_message(data if isinstance(data, dict) else {})
            self._desk.show(Message(message.message_id, _CHAT, message.sender_name, "text", message.text))
