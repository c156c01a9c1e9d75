"""The sandbox: a stand-in JitNode, a stand-in chat platform and a demo agent around the real robot, on one desk.

Owns the command line, what is wired to what, and the exit code. The main thread waits for the end, or talks in the
terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import queue
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .desk import Desk, Line, Thing
from .terminal import NobodyReads, Terminal, make_unbreakable

if TYPE_CHECKING:
    from .node import Node
    from .page import Page
    from .platforms import Platform

PACKAGES = ("aiohttp", "certifi", "dingtalk_stream", "pydantic", "python_socks", "urllib3", "websockets")
PAGE_PACKAGES = ("markdown_it",)
DEMO = "imRobots.dingTalkDemo"
CONNECT_SECONDS = 10.0
GREETING = """\
The imRobots sandbox
  Real:       the imRobots code, the frames of the platform's SDK, and HTTP and
              WebSocket over the loopback of this computer.
  Simulated:  JitNode, {platform}, the agent {agent}.
              No account, no language model; nothing leaves this computer.
"""
LIVE_GREETING = """\
The imRobots sandbox, live
  Real:       the imRobots code, and {platform}.
  Simulated:  JitNode, and the agent {agent}.
"""
INVITATION = """
Ask about imRobots in English or Chinese. For example: How do I install it?
Or: 按钮有什么用？    A number and Enter presses a button of the newest card
(输入数字并回车，即可按下按钮).    To end, type exit or press Ctrl-C.
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sandbox",
        description="Talk to the robot on a local page. JitNode, the chat platform and the agent are simulated.",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-browser", action="store_true", help="only print the page's address")
    how.add_argument("--terminal", action="store_true", help="talk in the terminal, without a page")
    how.add_argument("--ask", metavar="QUESTION", help="ask one question in the terminal, show the answer, and end")
    parser.add_argument(
        "--element", metavar="NAME", type=filled, default=DEMO, help=f"the instance to run (default: {DEMO})"
    )
    agents = parser.add_mutually_exclusive_group()
    agents.add_argument(
        "--faq", metavar="DIR", type=filled, help="a folder of Markdown files that the demo agent knows"
    )
    agents.add_argument(
        "--agent", metavar="MODULE:CLASS", type=filled, help="an agent of your own instead of the demo agent"
    )
    card_types = ("ai", "standard", "markdown")
    parser.add_argument("--card-type", choices=card_types, help="the kind of answers to begin with")
    parser.add_argument("--events", action="store_true", help="let the agent's reasoning and tools be seen")
    live = "use the real platform, with the credentials of the environment"
    parser.add_argument("--live", action="store_true", help=live)
    options = parser.parse_args()
    if options.live and in_terminal(options):
        parser.error("--live has a page only: people write on the real platform")
    return options


def filled(value: str) -> str:
    if not value.strip():  # a variable of the shell that is not set, say
        raise argparse.ArgumentTypeError("is empty")
    return value


def in_terminal(options: argparse.Namespace) -> bool:
    return options.terminal or options.ask is not None


def main() -> int:
    make_unbreakable()
    options = arguments()
    packages, extra = (
        (PACKAGES, "-r requirements.txt") if in_terminal(options) else (PACKAGES + PAGE_PACKAGES, "'.[dev]'")
    )
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        print(f"Not installed: {', '.join(missing)}. Run: pip install {extra}", file=sys.stderr)
        return 1
    for name in ("SIGTERM", "SIGHUP"):  # a window that is closed; Windows has none
        if number := getattr(signal, name, None):
            signal.signal(number, signal.default_int_handler)
    terminal = Terminal(sys.stdout, sys.stderr)
    try:
        return run(options, terminal)
    except NobodyReads:
        for stream in (sys.stdout, sys.stderr):  # else Python itself complains at the end about what is left in them
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 1
    except KeyboardInterrupt:
        terminal.say()
        return 0 if options.ask is None else 1


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    # Imported here, because they need the packages.
    from . import platforms
    from .agent import FAQ_FOLDER, FaqAgent, load_agent
    from .node import Node

    desk = Desk()
    chosen = {"events": options.events} | ({"cardType": options.card_type} if options.card_type else {})
    greeting = LIVE_GREETING if options.live else GREETING
    with contextlib.ExitStack() as begun:
        try:
            try:
                agent = load_agent(options.agent) if options.agent else FaqAgent(Path(options.faq or FAQ_FOLDER))
            except ValueError as error:
                raise platforms.Unusable(str(error)) from error
            platform = platforms.find(options.element, desk, live=options.live)
            if in_terminal(options) and "text" not in platform.kinds.get("single", ()):
                raise platforms.Unusable(f"{platform.name} has a page only: nobody can write one-to-one there")
            terminal.say(greeting.format(platform=platform.name, agent=type(agent).__name__))
            node = begun.enter_context(Node(desk, platform, options.element, agent, chosen))
        except platforms.Unusable as error:
            terminal.note(f"[error] {error}")
            return 1
        begun.enter_context(notes_of(desk, terminal))
        if in_terminal(options):
            return talk(options.ask, terminal, desk, platform, node)
        from .page import Page

        page = Page(desk, node, platform, options.element, agent.examples() if isinstance(agent, FaqAgent) else {})
        return show_page(options, terminal, page, platform, node)


@contextlib.contextmanager
def notes_of(desk: Desk, terminal: Terminal) -> Iterator[None]:
    """Warnings and errors of the robot's log are seen in the terminal, too.

    Written on a thread of their own: a terminal that stands still must not hold up the robot.
    """
    lines: queue.Queue[str] = queue.Queue()

    def note(thing: Thing) -> None:
        if isinstance(thing, Line) and thing.level in ("warning", "error"):
            lines.put(f"[{thing.level}] {thing.text.partition(chr(10))[0]}")  # a traceback is on the page

    def write() -> None:
        while True:
            line = lines.get()
            with contextlib.suppress(NobodyReads):  # the main thread will find out
                terminal.note(line)
            lines.task_done()

    threading.Thread(target=write, name="sandbox-notes", daemon=True).start()
    with desk.told_to(note):
        lines.join()  # what the start had to say comes first
        yield


def talk(question: str | None, terminal: Terminal, desk: Desk, platform: Platform, node: Node) -> int:
    if not connected(terminal, platform, node):
        return 1
    from .conversation import Conversation

    with Conversation(terminal, desk, platform, node.status, lambda key: english(key, platform.name)) as conversation:
        if question is not None:
            terminal.say(f"\nYou: {question}")
            return 0 if conversation.ask(question) else 1
        terminal.say(INVITATION)
        conversation.converse()
    return 0


def show_page(options: argparse.Namespace, terminal: Terminal, page: Page, platform: Platform, node: Node) -> int:
    """Until Ctrl-C, also if the robot does not connect: the page shows why not."""
    for line in platform.notice:
        terminal.note(f"[{'info' if line.ok else 'error'}] {line.en}")
    with page:
        connected(terminal, platform, node)
        terminal.say(f"\nThe page:  {page.url}\nTo end, press Ctrl-C.")
        if not options.no_browser and has_screen():
            webbrowser.open(page.url)
        ended = threading.Event()
        while not ended.wait(0.5):  # a wait without an end would hold up Ctrl-C on Windows
            pass
    return 0


def connected(terminal: Terminal, platform: Platform, node: Node) -> bool:
    hopeless = not all(line.ok for line in platform.notice)
    if node.wait_connected(0 if hopeless else CONNECT_SECONDS):
        terminal.note(f"[info] The robot is connected to {platform.name}.")
        return True
    terminal.note(f"[error] The robot is not connected to {platform.name}; its state is {node.robot.state}.")
    return False


def english(key: str, platform: str = "DingTalk") -> str:
    """The page's sentence for a `Trouble`."""
    texts = json.loads((Path(__file__).parent / "web" / "texts.json").read_text(encoding="utf-8"))
    return str(texts["en"].get(key, key)).replace("{platform}", platform)


def has_screen() -> bool:
    """Elsewhere a browser for the terminal would take the terminal over."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    sys.exit(main())
