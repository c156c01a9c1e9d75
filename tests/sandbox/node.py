"""The stand-in JitNode, with one instance of a robot and its agent in it: start, settings, restart, status.

Owns the host, the order in which all begins and ends, and what of the instance's config.json is changed for the
sandbox. Knows no particular platform and shows nothing.
Any thread may call; what changes the robot, one at a time.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.host import FakeHost

from .agent import Trouble as TroubledAgent
from .desk import Desk
from .platforms import ROOTS, Platform, Unusable, rendered

_AGENT = "aiagents.ragTest"
_STOP_SECONDS = 2.0
_LEAVE_SECONDS = 0.5  # at the end: nobody waits for an answer any more
_CONNECT_SECONDS = 3.0


class Node:
    def __init__(self, desk: Desk, platform: Platform, element: str, agent: Any, chosen: Mapping[str, Any]) -> None:
        """`chosen`: settings that are not to begin as the sandbox or the instance has it."""
        self.agent = TroubledAgent(agent)
        self._desk = desk
        self._platform = platform
        self._element = element
        self._source = platform.config
        self.choices: dict[str, list[Any]] = {
            **{name: list(choices) for name, choices in platform.settings.items()},
            "agentTimeout": [300, 10],
            "events": [False, True],
        }
        self.settings = {name: choices[0] for name, choices in self.choices.items()} | self._own() | dict(chosen)
        if unknown := set(chosen) - set(self.choices):
            raise Unusable(f"{element} has no setting {', '.join(sorted(unknown))}; it has {', '.join(self.choices)}")
        self._turn = threading.Lock()

    def __enter__(self) -> Node:
        with contextlib.ExitStack() as begun:
            # Windows keeps files that are open.
            folder = begun.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            try:
                self._host = FakeHost(*ROOTS, log_to=self._log, app_folder=Path(folder))
            except ValueError as error:  # some element's e.json
                raise Unusable(str(error)) from error
            begun.callback(self._forget)
            # The host first: a module of the family that is imported without it has another log for ever.
            begun.enter_context(self._host)
            begun.enter_context(self._platform)
            self._host.env_vars |= self._platform.env_vars()
            agent = rendered(self._source, self._host.env_vars).get("agent")
            self._host.add(agent if isinstance(agent, str) else _AGENT, self.agent)
            self._configure()
            self._host.boot(self._element)
            begun.callback(self._stop, _LEAVE_SECONDS)
            self._ended = begun.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.agent.hangs = False
        self._ended.close()

    def _stop(self, seconds: float) -> None:
        """A Type's `stop` need not take a time limit."""
        robot = self.robot
        if robot.is_running():
            limit = {"timeout": seconds} if "timeout" in inspect.signature(robot.stop).parameters else {}
            robot.stop(**limit)

    def _forget(self) -> None:
        from imRobots.Meta import forget_manager

        forget_manager(self._element)

    @property
    def robot(self) -> Any:
        """What the Type's `load()` returned."""
        return self._host.get_element(self._element)

    def set(self, name: str, value: Any) -> None:
        """Change a setting and save the instance, as in JitAi's editor. Raises ValueError for what is no choice."""
        choices = self.choices.get(name, [])
        if not any(type(value) is type(choice) and value == choice for choice in choices):  # 1 is not True
            raise ValueError(f"{name}: {value!r} is not one of {choices}")
        with self._turn:
            self.settings[name] = value
            self._configure()
            self._load_anew()

    def restart(self) -> None:
        """As a process that ends in good order, and another one that starts."""
        with self._turn:
            self._stop(_STOP_SECONDS)
            self._load_anew()

    def wait_connected(self, seconds: float) -> bool:
        """Whether the robot is connected by then; at once, if it is not going to be."""
        until = time.monotonic() + seconds
        while self.robot.state in ("new", "connecting", "reconnecting") and time.monotonic() < until:
            time.sleep(0.02)
        return bool(self.robot.state == "connected")

    def status(self) -> dict[str, Any]:
        """The robot's own, if its Type has one; reads a file."""
        robot = self.robot
        status = getattr(robot, "status", None)
        return dict(status()) if status else {"state": robot.state}

    def _load_anew(self) -> None:
        """What is asked meanwhile would be lost, so who waits for this may ask at once."""
        self._host.save(self._element, "config.json", self._text())
        self.wait_connected(_CONNECT_SECONDS)

    def _own(self) -> dict[str, Any]:
        """The settings that the instance has in its config.json. Of one that is no JSON yet, none are looked for."""
        try:
            config = json.loads(self._source)
        except ValueError:
            return {}
        known = set(self.choices) - {"events"}  # that one is the sandbox's word
        own = {name: config[name] for name in known & set(config)} if isinstance(config, dict) else {}
        for name, value in own.items():
            if value not in self.choices[name]:
                self.choices[name].append(value)
        return own

    def _configure(self) -> None:
        self.agent.events = self.settings["events"]
        self._host.write(self._element, "config.json", self._text())

    def _text(self) -> str:
        """config.json with the settings. They are put in as text, because it need not be JSON before it is rendered."""
        keys = {name: value for name, value in self.settings.items() if name != "events"}
        if self.settings["events"]:
            keys |= {"showReasoning": True, "showTools": True}
        more = ",".join(f"\n  {json.dumps(name)}: {json.dumps(value)}" for name, value in keys.items())
        return re.sub(r"(\{?)\s*\}\s*$", lambda end: f"{end[1] or ','}{more}\n}}\n", self._source)

    def _log(self, level: str, message: str) -> None:
        if level == "exception":
            level, message = "error", f"{message}: {sys.exc_info()[1]!r}\n{traceback.format_exc()}"
        self._desk.log(level, message)
