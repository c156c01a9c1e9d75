"""The loader: fills in config.json as the reference does, and makes of whatever it finds there one client manager."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import imRobots.dingTalkStreamType
from imRobots.dingTalkStreamType import ClientManager, Loader, TextHandler
from imRobots.dingTalkStreamType.config import DingTalkConfig
from imRobots.Meta import ConfigError, find_manager, keep_manager
from tests.dingtalk.helpers import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONFIG,
    ELEMENT,
    Log,
    assert_no_thread_is_left,
    eventually,
    robot_threads,
)
from tests.fakes.certificates import PrivateCA
from tests.fakes.gateway import OPEN, Gateway
from tests.fakes.host import FakeHost

PROJECT = Path(imRobots.dingTalkStreamType.__file__).parent.parent.parent
Load = Callable[..., ClientManager]


@pytest.fixture
def load(host: FakeHost) -> Load:
    """Loads the element as JitNode does, with this text as its config.json."""

    def load(text: Any = None, kind: type[Loader] = Loader, **env_vars: Any) -> ClientManager:
        host.env_vars.update(env_vars)
        if text is not None:
            host.write(ELEMENT, "config.json", text if isinstance(text, str) else json.dumps(text))
        with host.context():
            return kind([host.element(ELEMENT)]).load()

    return load


def opened(gateway: Gateway) -> int:
    return len([call for call in list(gateway.calls) if call.path == OPEN])


# ---- renderTemplateString


@pytest.mark.parametrize(
    ("source", "context", "rendered"),
    [
        ("no variable", {}, "no variable"),
        ("", {"A": "x"}, ""),
        ("{{A}}", {"A": "x"}, "x"),
        ("-{{A}}-{{B}}-{{A}}-", {"A": "x", "B": "y"}, "-x-y-x-"),
        ("-{{UNKNOWN}}-", {"A": "x"}, "--"),
        ("{{N}}", {"N": 5}, "5"),
        ("{{N}}", {"N": None}, "None"),
        ("{{N}}", {"N": True}, "True"),
        ("{{N}}", {"N": [1, "a"]}, "[1, 'a']"),
        ("{{A}}", {"A": "{{B}}", "B": "y"}, "{{B}}"),
        ("{{A}}", {"A": r"\1 \g<0> \\"}, r"\1 \g<0> \\"),
        ("{{A}}", {"A": 'a "quoted"\nline'}, 'a "quoted"\nline'),
        ("{{ A }} {{A-B}} {{}} {A}", {"A": "x"}, "{{ A }} {{A-B}} {{}} {A}"),
        ("{{{A}}}", {"A": "x"}, "{x}"),
        ("{{变量_1}}", {"变量_1": "值"}, "值"),
    ],
)
def test_variables_are_rendered_as_in_the_reference(source: str, context: dict[str, Any], rendered: str) -> None:
    assert Loader([]).renderTemplateString(source, **context) == rendered


# ---- a good configuration


def test_loading_starts_a_client_that_answers(gateway: Gateway, load: Load, host: FakeHost) -> None:
    manager = load()
    assert type(manager) is ClientManager
    assert manager.wait_ready(10)
    assert (manager.error, manager.client_id, manager.client_secret) == (None, CLIENT_ID, CLIENT_SECRET)
    assert type(manager.handler) is TextHandler
    assert manager.handler.element is host.element(ELEMENT)
    assert manager.handler.config == CONFIG
    gateway.say("why?")
    assert gateway.card_for("why?", state="final").text == "Press reset."


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        'say "hi"',
        "C:\\temp\\new",
        "two\nlines\r\n\tand a tab",
        "{{DINGTALK_CLIENT_ID}}",
        "{{",
        '", "agent": "aiagents.other',
        "你好 😄",
        "\\u0041 \\1 \\g<0>",
        "\x00\x1f\u2028",
    ],
)
def test_a_variable_arrives_as_it_is_whatever_its_value(gateway: Gateway, load: Load, value: str) -> None:
    config = {**CONFIG, "note": "{{NOTE}}", "deep": [{"greeting": "Dear {{NOTE}}!"}]}
    manager = load(config, NOTE=value, DINGTALK_CLIENT_ID="not this")
    assert manager.error is None
    assert manager.handler.config == {**CONFIG, "note": value, "deep": [{"greeting": f"Dear {value}!"}]}


def test_variables_may_hold_numbers_and_whole_parts_of_the_file(gateway: Gateway, load: Load) -> None:
    text = json.dumps(CONFIG)[:-1] + ', "maxQueue": {{MAX}}, "greetings": {{GREETINGS}}, "{{NAME}}": "{{MAX}}"}'
    manager = load(text, MAX=7, GREETINGS='["hi", "hello"]', NAME="label")
    assert manager.error is None
    assert manager.handler.config == {**CONFIG, "maxQueue": 7, "greetings": ["hi", "hello"], "label": "7"}


def test_a_file_that_was_saved_by_windows_notepad_is_read(gateway: Gateway, load: Load) -> None:
    manager = load("\ufeff" + json.dumps(CONFIG, indent=2).replace("\n", "\r\n"))
    assert manager.error is None
    assert manager.handler.config == CONFIG


def test_an_overridden_renderTemplateString_is_used(gateway: Gateway, load: Load) -> None:
    class Shouting(Loader):
        def renderTemplateString(self, source, **context):
            return super().renderTemplateString(source.replace("{{VAULT}}", "from the vault"), **context)

    manager = load({**CONFIG, "note": "{{VAULT}} {{NOTE}}"}, Shouting, VAULT="", NOTE="x")
    assert manager.error is None
    assert manager.handler.config["note"] == "from the vault x"


def test_an_unknown_key_is_kept_and_mentioned_once(gateway: Gateway, load: Load, log: Log) -> None:
    config = {**CONFIG, "langauge": "zh-CN", "colour": "demo-colour"}
    for _ in range(2):
        manager = load(config)
    assert manager.handler.config == config
    warnings = log.lines("warning", containing="unknown key")
    assert len(warnings) == 2
    for key in ("langauge", "colour"):
        assert [ELEMENT in line for line in warnings if key in line] == [True]
    assert not [line for line in warnings if "demo-colour" in line]


def test_start_client_is_the_references(gateway: Gateway, host: FakeHost) -> None:
    manager = Loader([host.element(ELEMENT)]).start_client(CLIENT_ID, CLIENT_SECRET, dict(CONFIG))
    assert type(manager) is ClientManager
    assert manager.is_running()
    assert manager.wait_ready(10)
    assert type(manager.handler) is TextHandler


# ---- a bad configuration


SECRET = "s3cr3t-value"
GOOD = {"agent": "aiagents.ragTest", "clientId": "ding-demo", "clientSecret": SECRET}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("config", "env_vars", "named"),
    [
        (without("agent"), {}, ["agent"]),
        (without("clientId"), {}, ["clientId"]),
        (without("clientSecret"), {}, ["clientSecret"]),
        ({"clientSecret": SECRET}, {}, ["agent", "clientId"]),
        ({**GOOD, "clientId": ""}, {}, ["clientId", "empty"]),
        ({**GOOD, "clientId": "  "}, {}, ["clientId", "empty"]),
        ({**GOOD, "clientId": "<clientId>"}, {}, ["clientId", "placeholder"]),
        ({**GOOD, "agent": "<agent fullName>"}, {}, ["agent", "placeholder"]),
        ({**GOOD, "clientSecret": "{{DINGTALK_CLIENT_SECRET}}"}, {}, ["clientSecret", "DINGTALK_CLIENT_SECRET"]),
        (
            {**GOOD, "clientSecret": "{{DINGTALK_CLIENT_SECRET}}"},
            {"DINGTALK_CLIENT_SECRET": " "},
            ["clientSecret", "DINGTALK_CLIENT_SECRET", "empty"],
        ),
        ({**GOOD, "agent": "{{A}}.{{B}}"}, {"A": SECRET}, ["agent", "B"]),
        ({**GOOD, "note": ["{{NOTE}}"]}, {}, ["note", "NOTE"]),
        ({**GOOD, "clientId": 5}, {}, ["clientId"]),
        ({**GOOD, "clientId": [SECRET]}, {}, ["clientId"]),
        ({**GOOD, "clientSecret": {"x": SECRET}}, {}, ["clientSecret"]),
        ({**GOOD, "agent": None}, {}, ["agent"]),
        ({**GOOD, "language": "de"}, {}, ["language"]),
        ({**GOOD, "language": "{{LANGUAGE}}"}, {"LANGUAGE": SECRET}, ["language", "LANGUAGE"]),
        ({**GOOD, "agentCall": "somehow"}, {}, ["agentCall"]),
        ({**GOOD, "maxConcurrency": 0}, {}, ["maxConcurrency"]),
        ({**GOOD, "maxConcurrency": "many"}, {}, ["maxConcurrency"]),
        ({**GOOD, "maxQueue": -1}, {}, ["maxQueue"]),
        ('{"clientSecret": "' + SECRET + '", "maxQueue": {{MAX}}}', {"MAX": SECRET}, ["maxQueue", "MAX"]),
        ('{"clientSecret": "' + SECRET + '", ', {}, ["config.json", "JSON"]),
        ('{"clientSecret": ' + SECRET + "}", {}, ["config.json", "JSON"]),
        ("{{WHOLE}}", {"WHOLE": '"' + SECRET}, ["config.json"]),
        ("{{WHOLE}}", {}, ["config.json", "WHOLE"]),
        ("", {}, ["config.json", "JSON"]),
        ("[]", {}, ["config.json", "object"]),
        (f'"{SECRET}"', {}, ["config.json", "object"]),
        ("null", {}, ["config.json", "object"]),
    ],
)
def test_a_bad_configuration_is_an_error_in_the_log_that_says_what_to_mend(
    gateway: Gateway, load: Load, log: Log, config: Any, env_vars: dict[str, Any], named: list[str]
) -> None:
    manager = load(config, **env_vars)
    assert (type(manager), manager.state, manager.is_running()) == (ClientManager, "failed", False)
    assert type(manager.error) is ConfigError
    for part in (ELEMENT, *named):
        assert part in str(manager.error)
    assert log.lines("error", "exception") == [str(manager.error)]
    for _, line in log.records:
        assert SECRET not in line
    assert gateway.calls == []
    assert_no_thread_is_left()


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        " ",
        "<proxy>",
        SECRET,
        f"ann:{SECRET}@proxy:8080",
        f"https://ann:{SECRET}@proxy:8080",
        f"socks4://ann:{SECRET}@proxy:1080",
        f"http://ann:{SECRET}@",
        f"http://ann:{SECRET}@proxy:0",
        f"http://ann:{SECRET}@proxy:99999",
        f"http://ann:{SECRET}@proxy:port",
        f"http://ann:{SECRET}@[::1",
        5,
        True,
        None,
        ["http://proxy:8080", SECRET],
    ],
    ids=repr,
)
def test_a_proxy_that_cannot_be_used_is_an_error_that_does_not_show_it(load: Load, log: Log, proxy: Any) -> None:
    manager = load({**GOOD, "proxy": proxy})
    assert (manager.state, type(manager.error)) == ("failed", ConfigError)
    assert "proxy" in str(manager.error)
    assert SECRET not in str(manager.error) + repr(log.records)


@pytest.mark.parametrize("scheme", ["https", "socks4"])
def test_of_a_proxy_the_error_says_what_can_be_used(load: Load, scheme: str) -> None:
    error = str(load({**GOOD, "proxy": f"{scheme}://proxy:1"}).error)
    for usable in ("http://host:port", "socks5://host:port", "socks5h://host:port"):
        assert usable in error


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "socks5://ann:p%40ss@127.0.0.1:9", "socks5h://127.0.0.1:9", "http://[::1]:9/"]
)
def test_a_proxy_that_can_be_used_is_taken(load: Load, proxy: str) -> None:
    manager = load({**GOOD, "proxy": proxy})
    assert (manager.error, manager.state) == (None, "connecting")
    assert manager.handler.config["proxy"] == proxy


@pytest.mark.parametrize("found", ["", " ", "nothing.pem", ".", 5, True, [SECRET]], ids=repr)
def test_a_file_of_certificates_that_is_none_is_an_error(load: Load, log: Log, tmp_path: Path, found: Any) -> None:
    path = str(tmp_path / SECRET / found) if isinstance(found, str) and found.strip() else found
    manager = load({**GOOD, "caFile": path})
    assert (manager.state, type(manager.error)) == ("failed", ConfigError)
    assert "caFile" in str(manager.error)
    assert SECRET not in str(manager.error) + repr(log.records)


def test_a_file_of_certificates_is_taken(gateway: Gateway, load: Load, tmp_path: Path) -> None:
    manager = load({**CONFIG, "caFile": str(PrivateCA().write_bundle(tmp_path))})
    assert manager.error is None
    assert manager.wait_ready(10)


def test_a_configuration_that_is_shown_shows_no_secret(tmp_path: Path) -> None:
    config = DingTalkConfig.model_validate(
        {**GOOD, "proxy": f"http://ann:{SECRET}@proxy:8080", "clientSecert": SECRET, "caFile": __file__}
    )
    for shown in (repr(config), str(config), f"{config}"):
        assert SECRET not in shown
        assert "ding-demo" in shown and "aiagents.ragTest" in shown
    assert (config.proxy, config.clientSecret) == (f"http://ann:{SECRET}@proxy:8080", SECRET)


def test_everything_that_is_wrong_is_said_at_once(load: Load) -> None:
    error = str(load({"clientId": "{{ID}}", "language": "de"}).error)
    for part in ("agent", "clientId", "ID", "clientSecret", "language"):
        assert part in error


def test_a_configuration_that_cannot_be_read_is_named(load: Load, log: Log, host: FakeHost, tmp_path: Path) -> None:
    tmp_path.joinpath(*ELEMENT.split("."), "config.json").unlink()
    manager = load()
    assert manager.state == "failed"
    assert type(manager.error) is ConfigError
    assert ELEMENT in str(manager.error) and "config.json" in str(manager.error)
    assert len(log.lines("error", "exception")) == 1


def test_a_file_that_is_no_text_is_an_error_too(load: Load, tmp_path: Path) -> None:
    tmp_path.joinpath(*ELEMENT.split("."), "config.json").write_bytes(b"\xff\xfe\x00")
    manager = load()
    assert (manager.state, type(manager.error)) == ("failed", ConfigError)


@pytest.mark.parametrize("found", [None, b"{}", 5, ["{}"]])
def test_whatever_the_host_gives_for_the_file_does_not_take_the_app_down(
    load: Load, host: FakeHost, monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    monkeypatch.setattr(type(host.element(ELEMENT)), "getFile", lambda self, name, isBinary=False: found)
    manager = load()
    assert (manager.state, type(manager.error)) == ("failed", ConfigError)


def test_a_render_function_that_raises_does_not_take_the_app_down(load: Load) -> None:
    class Raising(Loader):
        def renderTemplateString(self, source: str, **context: Any) -> str:
            raise KeyError("a secret value")

    manager = load(kind=Raising)
    assert (manager.state, type(manager.error)) == ("failed", ConfigError)
    assert ELEMENT in str(manager.error) and "a secret value" not in str(manager.error)


# ---- loading again


def test_threads_that_load_an_element_for_the_first_time_share_one_connection(gateway: Gateway, host: FakeHost) -> None:
    together, managers = threading.Barrier(8), []

    def load() -> None:
        loader = Loader([host.element(ELEMENT)])
        with host.context():
            together.wait(10)
            managers.append(loader.load())

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(managers) == 8 and len(set(managers)) == 1
    assert managers[0].wait_ready(10)
    gateway.wait_for(lambda: gateway.connections() == 1, what="one connection")


def test_a_start_client_of_the_references_kind_leaves_one_connection_too(gateway: Gateway, load: Load) -> None:
    class Tutorial(Loader):
        def start_client(self, client_id: str, client_secret: str, config: dict[str, Any]) -> ClientManager:
            manager = ClientManager(client_id, client_secret)
            manager.start(TextHandler(self.nodes[0], config))
            return manager

    first = load(kind=Tutorial)
    assert first.wait_ready(10)
    second = load(kind=Tutorial)
    assert second.wait_ready(10)
    assert first.state == "stopped"
    gateway.wait_for(lambda: gateway.connections() == 1, what="one connection")


def test_loading_twice_gives_the_same_manager_with_one_connection(gateway: Gateway, load: Load) -> None:
    manager = load()
    assert manager.wait_ready(10)
    gateway.wait_connected()
    handler = manager.handler
    assert load({**CONFIG, "note": "new"}) is manager
    assert manager.wait_ready(10)
    gateway.wait_for(lambda: opened(gateway) == 2 and gateway.connections() == 1, what="one connection")
    assert manager.handler is not handler
    assert manager.handler.config["note"] == "new"


def test_a_message_that_comes_again_after_a_reload_is_not_answered_again(
    gateway: Gateway, load: Load, agent: Any
) -> None:
    for number in range(2):
        manager = load()
        assert manager.wait_ready(10)
        gateway.wait_for(lambda: gateway.connections() == 1, what="one connection")
        gateway.wait_connected()
        gateway.say("why?", message_id="msg-1")
        gateway.wait_for(lambda expected=number + 1: len(gateway.acks) == expected)
        gateway.card_for("why?", state="final")
    gateway.say("and now?")
    gateway.card_for("and now?", state="final")
    assert [call.text for call in agent.calls] == ["why?", "and now?"]


def test_a_configuration_that_gets_worse_stops_the_client(gateway: Gateway, load: Load) -> None:
    manager = load()
    assert manager.wait_ready(10)
    assert load({**CONFIG, "agent": ""}) is manager
    assert manager.state == "failed"
    gateway.wait_for(lambda: gateway.connections() == 0)
    eventually(lambda: not robot_threads(), "the end of all threads, in the background")


def test_a_configuration_that_was_mended_starts_the_same_manager(gateway: Gateway, load: Load) -> None:
    manager = load({**CONFIG, "agent": ""})
    assert manager.state == "failed"
    assert load(CONFIG) is manager
    assert manager.wait_ready(10)
    assert manager.error is None


def test_each_element_has_a_manager_of_its_own(gateway: Gateway, load: Load, host: FakeHost, tmp_path: Path) -> None:
    first = load()
    second = SimpleNamespace(fullName="bots.other", getFile=host.element(ELEMENT).getFile, app=host.app)
    with host.context():
        other = Loader([second]).load()
    assert other is not first
    assert first.wait_ready(10) and other.wait_ready(10)
    gateway.wait_for(lambda: gateway.connections() == 2)


def test_a_manager_of_older_code_is_stopped_and_replaced(gateway: Gateway, load: Load) -> None:
    stopped: list[bool] = []
    keep_manager(ELEMENT, SimpleNamespace(stop=lambda: stopped.append(True)), Loader([]))
    manager = load()
    assert stopped == [True]
    assert manager.wait_ready(10)
    assert find_manager(ELEMENT, ClientManager) is manager


# ---- where a package is not installed


SCRIPT = """
import builtins, json, sys, types
for name in sys.argv[1:]:
    sys.modules[name] = None
from imRobots.dingTalkStreamType import ClientManager, Loader
import imRobots.dingTalkStreamType.lifecycle
builtins.app = types.SimpleNamespace(envVars={})
config = '{"agent": "a.b", "clientId": "ding-demo", "clientSecret": "s3cr3t-value"}'
element = types.SimpleNamespace(fullName="bots.helpdesk", getFile=lambda name: config)
manager = Loader([element]).load()
same = Loader([element]).load() is manager
manager.stop()
print(json.dumps([isinstance(manager, ClientManager), same, manager.state, type(manager.error).__name__,
                  str(manager.error), imRobots.dingTalkStreamType.lifecycle.onDelete("bots.helpdesk")]))
"""


@pytest.mark.parametrize(
    "missing",
    [
        ["dingtalk_stream"],
        ["pydantic"],
        ["websockets"],
        ["dingtalk_stream", "pydantic", "websockets", "urllib3", "certifi", "requests", "aiohttp"],
    ],
    ids=["sdk", "pydantic", "websockets", "all"],
)
def test_a_missing_package_is_named_and_does_not_take_the_app_down(missing: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", "-c", SCRIPT, *missing],
        cwd=PROJECT,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    is_manager, same, state, kind, error, deleted = json.loads(done.stdout)
    assert (is_manager, same, state, kind) == (True, True, "failed", "ConfigError")
    assert any(f"package {name} cannot be imported" in error for name in missing), error
    assert "bots.helpdesk" in error and "requirements.txt" in error
    assert SECRET not in error + done.stderr
    assert deleted == {"status": "success"}
