"""The sandbox: a stand-in JitNode, a stand-in DingTalk and a demo agent, wired together around the real robot.

Owns the wiring, the conversation and the exit code. The main thread asks and draws; the stand-in DingTalk's thread only
puts a card's new state on a queue. Does not know how a card is drawn (`terminal.py`) nor what is answered (`agent.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agent import FaqAgent
from .terminal import Terminal, make_unbreakable, quiet_keyboard

if TYPE_CHECKING:
    from tests.fakes.gateway import Gateway
    from tests.fakes.records import Card, CardState

APP = Path(__file__).resolve().parents[2]
PACKAGES = ("aiohttp", "certifi", "dingtalk_stream", "pydantic", "python_socks", "urllib3", "websockets")
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
Or: 按钮有什么用？    To end, type exit or press Ctrl-C.
"""


@dataclass
class Sandbox:
    """A one-to-one chat with the robot."""

    terminal: Terminal
    gateway: Gateway
    robot: Any
    changes: queue.SimpleQueue[tuple[Card, CardState]]

    @quiet_keyboard()
    def ask(self, question: str) -> bool:
        """Ask, and show what comes until the last word; returns whether that was a card with its buttons."""
        until = time.monotonic() + ANSWER_SECONDS
        earlier_cards, earlier_messages = set(self.gateway.cards), len(self.gateway.webhooks)
        self.gateway.say(question, sender="You", group=False)
        card_is_there = False
        while time.monotonic() < until:
            is_over = card_is_there and not self.robot.status().get("unsent")
            try:
                card, state = self.changes.get(timeout=0.1)  # a longer wait would hold up Ctrl-C on Windows
            except queue.Empty:
                messages = self.gateway.webhooks[earlier_messages:]
                for message in messages:
                    self.terminal.show_message(message.text)
                if messages or is_over:  # no card could be sent, or it ended without buttons: the agent has failed
                    return False
                continue
            if card.id in earlier_cards:
                continue
            card_is_there = True
            labels = [button["label"]["text"] for button in state.buttons]
            self.terminal.show_card(card.title, state.text, labels)
            if labels:
                return True
        self.terminal.note(f"[error] No complete answer came within {ANSWER_SECONDS:g} seconds.")
        return False

    def converse(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives `input` its arrow keys
        while True:
            try:
                question = input("You: ").strip()
            except EOFError:
                self.terminal.say()
                return
            if not sys.stdin.isatty():  # nobody has seen it being typed
                self.terminal.say(question)
            if question.lower() == "exit":
                return
            if question:
                self.ask(question)
                self.terminal.say()


@contextlib.contextmanager
def running(terminal: Terminal) -> Iterator[Sandbox | None]:
    """Start everything, stop everything. None: the robot did not connect, and stderr says why."""
    from tests.fakes.gateway import Gateway
    from tests.fakes.host import FakeHost

    stands = threading.Event()
    changes: queue.SimpleQueue[tuple[Card, CardState]] = queue.SimpleQueue()

    def log(level: str, message: str) -> None:
        if level == "exception":
            level, message = "error", f"{message}: {sys.exc_info()[1]!r}"
        if level in ("warning", "error"):
            terminal.note(f"[{level}] {message}")
        elif "the long connection" in message:
            terminal.note(f"[{level}] {message}")
            stands.set()

    with Gateway(latency=0.05, on_change=lambda card: changes.put((card, card.states[-1]))) as gateway:
        # The SDK reads its address once, when the host causes its import. A proxy would not find this computer.
        os.environ.update(DINGTALK_OPENAPI_ENDPOINT=gateway.url, no_proxy="*")
        env_vars = {"DINGTALK_CLIENT_ID": gateway.client_id, "DINGTALK_CLIENT_SECRET": gateway.client_secret}
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,  # Windows keeps files that are open
            FakeHost(APP, env_vars=env_vars, log_to=log, app_folder=Path(folder)) as host,
        ):
            host.add("aiagents.ragTest", FaqAgent())
            host.boot()
            robot = host.get_element("imRobots.dingTalkDemo")
            try:
                if robot.wait_ready(10):
                    stands.wait(1)  # its line in the log comes a moment later, and belongs above the first prompt
                    yield Sandbox(terminal, gateway, robot, changes)
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
    question = parser.parse_args().ask
    make_unbreakable()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(f"Not installed: {', '.join(missing)}. Run: pip install -r requirements.txt", file=sys.stderr)
        return 1
    terminal = Terminal(sys.stdout, sys.stderr)
    terminal.say(GREETING)
    try:
        with running(terminal) as sandbox:
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
