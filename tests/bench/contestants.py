"""Who answers, in a process of its own: `python -m tests.bench.contestants JSON`, started by rounds.py.

The robot is the unmodified demo in a stand-in JitNode; beside it the SDK's pattern, the floor, and the agents alone.
The process prints lines of JSON: first `{"connected_after": seconds}` (null where somebody else sees it), then for each
line on stdin what it has come to: `{"cpu": seconds, "runs": [[question, started, ended], ...]}`. It ends when stdin
does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.bench.agent import SleepingAgent
from tests.fakes.host import FakeHost

PROJECT = Path(__file__).resolve().parents[2]
DEMO = "imRobots.dingTalkDemo"
AGENT = "aiagents.ragTest"


def robot(agent: SleepingAgent, client_id: str, client_secret: str, folder: str, config: dict[str, Any]) -> float:
    """Start the demo; returns how long it took until it was connected. All modules are imported before."""
    from dingtalk_stream import DingTalkStreamClient

    # The SDK's way to learn its own address asks for the route to a public one.
    DingTalkStreamClient.get_host_ip = lambda self: "127.0.0.1"
    env_vars = {"DINGTALK_CLIENT_ID": client_id, "DINGTALK_CLIENT_SECRET": client_secret}
    host = FakeHost(PROJECT, env_vars=env_vars, app_folder=Path(folder))
    host.install()
    host.add(AGENT, agent)
    demo = json.loads(host.element(DEMO).getFile("config.json"))
    host.write(DEMO, "config.json", json.dumps({**demo, **config}))
    import imRobots.dingTalkStreamType.handler
    import imRobots.dingTalkStreamType.stream_client
    import imRobots.Meta.config  # noqa: F401 - what `load()` imports

    began = time.monotonic()
    host.boot()
    assert host.get_element(DEMO).wait_ready(10)
    return time.monotonic() - began


def sdk(agent: SleepingAgent, client_id: str, client_secret: str) -> None:
    from dingtalk_stream import DingTalkStreamClient

    from tests.bench import sdk_pattern

    DingTalkStreamClient.get_host_ip = lambda self: "127.0.0.1"
    _in_background(sdk_pattern.run, agent, client_id, client_secret)


def floor(agent: SleepingAgent, client_id: str, client_secret: str, url: str, updates: float) -> None:
    from tests.bench.floor import Floor

    _in_background(Floor(agent, url, client_id, client_secret, updates).run)


def alone(agent: SleepingAgent, at_once: int) -> None:
    """No chat and no cards: only the agents, all at once."""

    def ask(number: int) -> None:
        start.wait()
        agent.run({"input_data": str(number)}, "", lambda chunk: None)

    start = threading.Barrier(at_once)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _in_background(work: Any, *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def main() -> None:
    options = json.loads(sys.argv[1])
    agent = SleepingAgent(**options.pop("agent"))
    start = {"robot": robot, "sdk": sdk, "floor": floor, "alone": alone}[options.pop("who")]
    connected_after = start(agent, **options)
    print(json.dumps({"connected_after": connected_after}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"cpu": time.process_time(), "runs": agent.runs}), flush=True)
    os._exit(0)  # whatever still runs


if __name__ == "__main__":
    main()
