"""The demo in a process of its own, to be killed: `python -m tests.scenarios.robot_process JSON`, or `RobotProcess`.

The child runs the unmodified demo in a stand-in JitNode, against a stand-in DingTalk of another process. It prints what
happens as lines of JSON, each with an `event`: `ready` (connected), `asked` (the agent: `text`, `chatId`), `answered`
(`text`, and `at` on the monotonic clock, which all processes share), `logged` (warnings and above), `stopped`
(`seconds`), `measured` (`rss` in bytes, `threads`, `status`). It obeys lines on stdin: `go` lets held agents go
on, `stop SECONDS`, `measure`, `exit`; it also exits when stdin ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from tests.fakes.agents import split
from tests.fakes.host import FakeHost

T = TypeVar("T")
Json = dict[str, Any]

PROJECT = Path(__file__).resolve().parents[2]
DEMO = "imRobots.dingTalkDemo"
AGENT = "aiagents.ragTest"
SECONDS = 15.0  # for whatever a child has to do


class AgentCall(NamedTuple):
    text: str
    chatId: str


class LogLine(NamedTuple):
    level: str
    message: str


class RobotProcess:
    """A child process with the demo in it; a context manager that leaves no process behind. Any thread."""

    def __init__(
        self,
        gateway: Any,
        folder: Path | None,
        *,
        config: Json | None = None,
        answer: str = "Hello!",  # `{question}` in it stands for what was asked
        chunks: int | None = None,
        delay: float = 0.0,  # seconds between two chunks
        slow: float = 0.0,  # the same where "slow" is in the question
        events: tuple[Json, ...] = (),  # chunks before the text
        hold: bool = False,  # stop in the middle of the text until `go`
    ) -> None:
        """`folder` is the app's, with its data directory; None: the host does not tell it."""
        self.agent_calls: list[AgentCall] = []
        self.answered_at: dict[str, float] = {}
        self.logs: list[LogLine] = []
        self._options = {
            "client_id": gateway.client_id,
            "client_secret": gateway.client_secret,
            "folder": folder and str(folder),
            "config": config or {},
            "agent": {"answer": answer, "chunks": chunks, "delay": delay, "slow": slow, "events": events, "hold": hold},
        }
        # The SDK reads its address once, when it is imported. A proxy would not find this computer.
        self._address = {"DINGTALK_OPENAPI_ENDPOINT": gateway.url, "no_proxy": "*"}
        self._events: dict[str, list[Json]] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._process: subprocess.Popen[str]
        self._reader: threading.Thread

    def __enter__(self) -> RobotProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> RobotProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.robot_process", json.dumps(self._options)],
            cwd=PROJECT,
            env={**os.environ, **self._address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, name="robot-process", daemon=True)
        self._reader.start()
        return self

    def wait_ready(self) -> RobotProcess:
        self.wait_event("ready")
        return self

    def wait_event(self, event: str, number: int = 1) -> Json:
        """The so-manieth line of this kind."""
        self.wait_for(lambda: len(self._events.get(event, ())) >= number, f"{number} lines of {event!r}")
        return self._events[event][number - 1]

    def wait_for(self, condition: Callable[[], T], what: str = "a condition", timeout: float = SECONDS) -> T:
        """The first truthy value of `condition`, which is asked again with every line of the child."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or condition(), timeout)
            value = condition()
            if not value:
                why = "the robot's process has ended" if self._ended else f"waited {timeout:g} s in vain"
                raise AssertionError(f"{why}: {what}; it was asked {self.agent_calls[-5:]}; it logged {self.logs[-5:]}")
            return value

    def asked(self) -> list[str]:
        """What the agent was asked until now, in order; every line that the child has printed by now is read."""
        if self._process.poll() is None:
            self.measure()
        return [call.text for call in self.agent_calls]

    def go(self) -> None:
        """Let held agents go on."""
        self._tell("go")

    def stop(self, seconds: float) -> float:
        """`manager.stop(timeout=seconds)`; returns how long it took."""
        self._tell(f"stop {seconds}")
        return float(self.wait_event("stopped")["seconds"])

    def measure(self) -> Json:
        number = len(self._events.get("measured", ())) + 1
        self._tell("measure")
        return self.wait_event("measured", number)

    def wait_status(self, **expected: Any) -> None:
        """Until `manager.status()` has these values."""
        until = time.monotonic() + SECONDS
        while expected != {name: self._status().get(name) for name in expected}:
            assert time.monotonic() < until, f"waited {SECONDS:g} s in vain for {expected}: {self._status()}"
            time.sleep(0.01)

    def _status(self) -> Json:
        status: Json = self.measure()["status"]
        return status

    def exit(self) -> None:
        """End the process in good order, whatever still runs in it."""
        self._tell("exit")
        assert self._process.wait(SECONDS) == 0
        self.kill()

    def kill(self) -> None:
        """End the process at once, as the operating system does it: nothing in it gets to know."""
        self._process.kill()
        self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert self._process.stdin and self._process.stdout
        self._process.stdout.close()
        with contextlib.suppress(OSError):  # what was told and not read any more
            self._process.stdin.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.endswith("\n"):  # it was killed while it wrote
                break
            said = json.loads(line)
            with self._changed:
                event = said.pop("event")
                self._events.setdefault(event, []).append(said)
                if event == "asked":
                    self.agent_calls.append(AgentCall(**said))
                elif event == "answered":
                    self.answered_at[said["text"]] = said["at"]
                elif event == "logged":
                    self.logs.append(LogLine(**said))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


# ---- in the child


class _Agent:
    """Answers as it was told to, by the tutorial's call."""

    def __init__(
        self, answer: str, chunks: int | None, delay: float, slow: float, events: list[Json], hold: bool
    ) -> None:
        self.gate = threading.Event()
        if not hold:
            self.gate.set()
        self._answer, self._chunks, self._delay, self._slow, self._events = answer, chunks, delay, slow, events

    def run(self, params: Json, chatId: str, stream_callback: Callable[[Json], None]) -> str:
        question = params["input_data"]
        _say("asked", text=question, chatId=chatId)
        for event in self._events:
            stream_callback(event)
        answer = self._answer.replace("{question}", question)
        pieces = split(answer, self._chunks)
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(self._slow if "slow" in question else self._delay)
            if number == len(pieces) // 2:
                self.gate.wait()
            stream_callback({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": piece}})
        _say("answered", text=question, at=time.monotonic())
        return answer


_output = threading.Lock()


def _say(event: str, **fields: Any) -> None:
    line = json.dumps({"event": event, **fields})
    with _output:
        print(line, flush=True)


def _log(level: str, message: str) -> None:
    if level not in ("debug", "info"):
        _say("logged", level=level, message=f"{message}\n{traceback.format_exc()}" if level == "exception" else message)


def _tell_when_ready(manager: Any) -> None:
    if manager.wait_ready():
        _say("ready")


def main() -> None:
    options = json.loads(sys.argv[1])
    env_vars = {"DINGTALK_CLIENT_ID": options["client_id"], "DINGTALK_CLIENT_SECRET": options["client_secret"]}
    folder = options["folder"] and Path(options["folder"])
    agent = _Agent(**options["agent"])
    with FakeHost(PROJECT, env_vars=env_vars, log_to=_log, app_folder=folder) as host:
        import dingtalk_stream

        # The SDK's way to learn its own address asks for the route to a public one.
        dingtalk_stream.DingTalkStreamClient.get_host_ip = lambda self: "127.0.0.1"
        host.add(AGENT, agent)
        if options["config"]:
            demo = json.loads(host.element(DEMO).getFile("config.json"))
            host.write(DEMO, "config.json", json.dumps({**demo, **options["config"]}))
        host.boot()
        manager = host.get_element(DEMO)
        threading.Thread(target=_tell_when_ready, args=(manager,), daemon=True).start()
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "go":
                agent.gate.set()
            elif command == "measure":
                rss = psutil.Process().memory_info().rss
                _say("measured", rss=rss, threads=threading.active_count(), status=manager.status())
            elif command == "stop":
                began = time.monotonic()
                manager.stop(timeout=float(arguments[0]))
                _say("stopped", seconds=time.monotonic() - began)
            elif command == "exit":
                return


if __name__ == "__main__":
    main()
