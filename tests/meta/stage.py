"""A robot on its stage: the host around it, and a reply that remembers what it was asked to send."""

from __future__ import annotations

import threading
from typing import Any

from imRobots.Meta import Deadline, IncomingMessage, Robot, Store, texts_for
from imRobots.Meta.config import RobotConfig
from tests.fakes.agents import Agent, AgentCall, ReferenceAgent
from tests.fakes.host import FakeHost

from .helpers import WAIT, RecordingReply, eventually, pass_through, the_element

AGENT = "aiagents.hr"
ENGLISH, CHINESE = texts_for("en-US", ""), texts_for("zh-CN", "")


class Stage:
    """A robot with its host, and the reply to every message."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.store = Store()
        self.status: dict[str, Any] = {"state": "connected", "since": "09:00", "closed": {"card": "no permission"}}
        self.replies: dict[str, RecordingReply] = {}
        self.gates: list[threading.Event] = []
        self.robots: list[Robot] = []
        self._changed = threading.Condition()

    def start(self, agent: Any = None, /, **config: Any) -> Robot:
        if agent is not None:
            self.host.add(AGENT, agent)
        settings = RobotConfig(**{"agent": AGENT, "apiQps": 0, **config})
        robot = Robot(
            the_element(self.host),
            settings,
            self.reply_to,
            self.store,
            status=lambda: {**self.status, **robot.status()},
        )
        self.robots.append(robot)
        return robot

    def gate(self) -> threading.Event:
        self.gates.append(threading.Event())
        return self.gates[-1]

    def stuck(self, answer: str = "It rains.", **options: Any) -> tuple[ReferenceAgent, threading.Event]:
        """An agent that says nothing until its gate is open."""
        gate = self.gate()
        return ReferenceAgent(answer, before=lambda call: pass_through(gate), **options), gate

    def reply_to(self, message: IncomingMessage) -> RecordingReply:
        with self._changed:
            reply = self.replies.setdefault(message.message_id, RecordingReply(message.text))
            self._changed.notify_all()
            return reply

    def reply(self, number: int | str) -> RecordingReply:
        """The reply to a message that the robot has taken in."""
        with self._changed:
            assert self._changed.wait_for(lambda: f"m{number}" in self.replies, WAIT)
            return self.replies[f"m{number}"]

    def prepare(self, number: int | str, **options: Any) -> RecordingReply:
        self.replies[f"m{number}"] = RecordingReply(**options)
        return self.replies[f"m{number}"]

    def end(self) -> None:
        for gate in self.gates:
            gate.set()
        for robot in self.robots:
            robot.close(Deadline(WAIT))


def text_chunk(content: str, kind: str = "TEXT_MESSAGE_CONTENT") -> dict[str, Any]:
    return {"type": kind, "data": {"content": content}}


def wait_for_calls(agent: Agent, number: int) -> list[AgentCall]:
    eventually(lambda: len(agent.calls) >= number)
    return agent.calls
