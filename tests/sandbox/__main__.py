"""The sandbox: a stand-in JitNode, a stand-in DingTalk and a demo agent, wired together around the real robot.

Owns the wiring, the conversation, what a typed line means and the exit code. The main thread reads, asks, clicks and
draws; the stand-in DingTalk's thread only puts on a queue what the person sees of a card. Does not know how a card is
drawn (`terminal.py`), how lines are read (`keyboard.py`), nor what is answered (`agent.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .agent import FaqAgent
from .keyboard import Keyboard
from .terminal import Terminal, make_unbreakable

if TYPE_CHECKING:
    from tests.fakes.gateway import Gateway
    from tests.fakes.records import AnyCard

APP = Path(__file__).resolve().parents[2]
PACKAGES = ("aiohttp", "certifi", "dingtalk_stream", "pydantic", "python_socks", "urllib3", "websockets")
DEMO = "imRobots.dingTalkDemo"
PERSON = "You"
ANSWER_SECONDS = 60.0
GREETING = """\
The imRobots sandbox
  Real:       the imRobots code, the frames of DingTalk's SDK, and HTTP and
              WebSocket over the loopback of this computer.
  Simulated:  JitNode, DingTalk, the agent aiagents.ragTest and its FAQ.
              No account, no language model; nothing leaves this computer.
"""
INVITATION = """
Ask about imRobots in English or Chinese. For example: How do I install it?
Or: 按钮有什么用？    A number and Enter presses a button of the newest card
(输入数字并回车，即可按下按钮).    To end, type exit or press Ctrl-C.
"""
NOT_DELIVERED = (
    "(Not delivered. DingTalk delivers no click on a standard card to Stream robots: the buttons are only shown.)"
)
NOTHING_NEW = "(The robot has heard of it, and nothing changes.)"


class Face(NamedTuple):
    """A card, and what the person sees of it."""

    card: AnyCard
    text: str
    labels: list[str]
    note: str
    is_final: bool


def face_of(card: AnyCard) -> Face:
    from tests.fakes.records import TemplateCard

    if not isinstance(card, TemplateCard):
        return Face(card, card.text, card.labels, "", card.state == "final")
    seen = card.view(f"staff-{PERSON}")
    is_final = bool(seen.outcome) and all(button["id"] != "stop" for button in seen.buttons)
    return Face(card, seen.text, seen.labels, seen.note, is_final)


@dataclass
class Sandbox:
    """A one-to-one chat with the robot."""

    terminal: Terminal
    gateway: Gateway
    robot: Any
    changes: queue.SimpleQueue[Face]
    keyboard: Keyboard
    newest: Face | None = None
    messages_shown: int = 0

    def ask(self, question: str, *, may_type: bool = False) -> bool:
        """Ask, and show what comes until the last word; returns whether that was an answer."""
        self.gateway.say(question, sender=PERSON, group=False)
        return self._watch(may_type=may_type)

    def press(self, label: str) -> None:
        """Press a button of the newest card, and show what comes of it."""
        frame_id = self._click(label)
        if frame_id:
            self._watch(frame_id, may_type=True)
        else:
            self.terminal.say(NOT_DELIVERED)

    def converse(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives `input` its arrow keys
        while True:
            try:
                line = self.keyboard.ask("You: ", self.terminal.say).strip()
            except EOFError:
                self.terminal.say()
                return
            if line.lower() == "exit":
                return
            if label := self._button(line):
                self.press(label)
            elif line:
                self.ask(line, may_type=True)
            if line:
                self.terminal.say()

    def _watch(self, frame_id: str = "", *, may_type: bool) -> bool:
        """Show what comes until nothing more is to come: of a message, or of the click that went out as this frame."""
        came = ""  # last
        until = time.monotonic() + ANSWER_SECONDS
        with self.keyboard.quiet():
            while time.monotonic() < until:
                is_over = (came or frame_id in self.gateway.acks) and not self.robot.status().get("unsent")
                for message in self.gateway.webhooks[self.messages_shown :]:
                    self.messages_shown += 1
                    self.terminal.show_message(message.text)
                    came = message.kind
                if may_type and came and (line := self.keyboard.typed()) is not None:
                    self._heed(line.strip())
                try:
                    face = self.changes.get(timeout=0.1)  # a longer wait would hold up Ctrl-C on Windows
                except queue.Empty:
                    if is_over:
                        if not came:
                            self.terminal.say(NOTHING_NEW)
                        return came in ("final", "markdown")
                    continue
                if self._show(face):
                    came = face.card.state
        self.terminal.note(f"[error] No complete answer came within {ANSWER_SECONDS:g} seconds.")
        return False

    def _show(self, face: Face) -> bool:
        """False: it is of an older card, looks as before, or its last buttons will follow at once."""
        before, title = self.newest, face.card.title
        if before and (face.card.created_at < before.card.created_at or face == before):
            return False
        if not face.is_final and face.card.state in ("final", "failed"):
            return False
        self.newest = face
        if before and before.card is face.card and before.is_final:
            self.terminal.show_change(title, face.labels, face.note)
        else:
            self.terminal.show_card(title, face.text, face.labels, face.note, is_final=face.is_final)
        return True

    def _heed(self, line: str) -> None:
        """What is typed while an answer grows: a button, a command, or the next question, which waits."""
        if label := self._button(line):
            self._click(label)
        elif line.startswith("/"):
            self.gateway.say(line, sender=PERSON, group=False)
        elif line:
            self.keyboard.keep(line)

    def _button(self, line: str) -> str:
        """The label of the newest card's button with this number, "" if there is none."""
        labels = self.newest.labels if self.newest else []
        return {str(number): label for number, label in enumerate(labels, 1)}.get(line, "")

    def _click(self, label: str) -> str:
        assert self.newest is not None
        try:
            return self.gateway.click(self.newest.card, label, PERSON)
        except AssertionError:  # the button is gone in this very moment
            return ""


@contextlib.contextmanager
def running(terminal: Terminal, card_type: str) -> Iterator[Sandbox | None]:
    """Start everything, stop everything. None: the robot did not connect, and stderr says why."""
    from tests.fakes.gateway import Gateway
    from tests.fakes.host import FakeHost

    stands = threading.Event()
    changes: queue.SimpleQueue[Face] = queue.SimpleQueue()

    def log(level: str, message: str) -> None:
        if level == "exception":
            level, message = "error", f"{message}: {sys.exc_info()[1]!r}"
        if level in ("warning", "error"):
            terminal.note(f"[{level}] {message}")
        elif "the long connection" in message:
            terminal.note(f"[{level}] {message}")
            stands.set()

    with Gateway(latency=0.05, on_change=lambda card: changes.put(face_of(card))) as gateway:
        # The SDK reads its address once, when the host causes its import. A proxy would not find this computer.
        os.environ.update(DINGTALK_OPENAPI_ENDPOINT=gateway.url, no_proxy="*")
        env_vars = {"DINGTALK_CLIENT_ID": gateway.client_id, "DINGTALK_CLIENT_SECRET": gateway.client_secret}
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,  # Windows keeps files that are open
            FakeHost(APP, env_vars=env_vars, log_to=log, app_folder=Path(folder)) as host,
        ):
            host.add("aiagents.ragTest", FaqAgent())
            config = json.loads(host.element(DEMO).getFile("config.json"))
            host.write(DEMO, "config.json", json.dumps({**config, "cardType": card_type}))
            host.boot()
            robot = host.get_element(DEMO)
            try:
                if robot.wait_ready(10):
                    stands.wait(1)  # its line in the log comes a moment later, and belongs above the first prompt
                    yield Sandbox(terminal, gateway, robot, changes, Keyboard())
                else:
                    terminal.note(f"[error] The robot did not connect; its state is {robot.state}.")  # why: see the log
                    yield None
            finally:
                if robot.is_running():
                    robot.stop(timeout=2)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sandbox",
        description="Talk to the robot in a terminal. JitNode, DingTalk and the agent are simulated.",
    )
    parser.add_argument("--ask", metavar="QUESTION", help="ask one question, show the answer, and end")
    card_types = ("ai", "standard", "markdown")
    parser.add_argument("--card-type", choices=card_types, default="ai", help="the kind of answers (default: ai)")
    options = parser.parse_args()
    question = options.ask
    make_unbreakable()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(f"Not installed: {', '.join(missing)}. Run: pip install -r requirements.txt", file=sys.stderr)
        return 1
    terminal = Terminal(sys.stdout, sys.stderr)
    terminal.say(GREETING)
    try:
        with running(terminal, options.card_type) as sandbox:
            if sandbox is None:
                return 1
            if question is not None:
                terminal.say(f"\nYou: {question}")
                return 0 if sandbox.ask(question) else 1
            terminal.say(INVITATION)
            sandbox.converse()
    except KeyboardInterrupt:
        terminal.say()
        return 0 if question is None else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
