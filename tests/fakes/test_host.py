"""The stand-in host and its agents, tried on a tiny app: they must be strict, or they would prove nothing."""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.agents import SIDE_EVENTS, DocumentedAgent, HiddenAgent, ReferenceAgent, split
from tests.fakes.host import APP_ID, ElementNotFound, FakeHost

LOADER = """
from jit.commons.utils.logger import log

class Robot:
    def __init__(self, element, config):
        self.element, self.config = element, config

class Loader(object):
    def __init__(self, nodes):
        self.nodes = nodes

    def load(self):
        element = self.nodes[0]
        log.info("loading " + element.fullName)
        return Robot(element, element.getFile("config.json").replace("{{NAME}}", app.envVars["NAME"]))
"""
LIFECYCLE = """
seen = []

def onUpdate(fullName: str):
    seen.append(("onUpdate", fullName, app.getElement(fullName)))
    return {"status": "success"}

def onDelete(fullName: str):
    seen.append(("onDelete", fullName, app.getElement(fullName)))
"""


@pytest.fixture(autouse=True)
def forget_app_modules() -> Iterator[None]:
    """The apps below share their module names, with each other and with the real robots."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "imRobots"}
    for name in before:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "imRobots"]:
        del sys.modules[name]
    sys.modules.update(before)


def put(root: Path, full_name: str, define: dict[str, Any], **files: str) -> None:
    """Writes one element; `loader_py` stands for the file loader.py."""
    folder = root.joinpath(*full_name.split("."))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "e.json").write_text(json.dumps(define), encoding="utf-8")
    for name, text in {"__init___py": "", **files}.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "imRobots.Meta", {"title": "Robots", "type": ""})
    put(
        tmp_path,
        "imRobots.echoType",
        {"title": "Echo", "type": "imRobots.Meta"},
        __init___py='from .loader import Loader\n\n__all__ = ["Loader"]\n',
        loader_py=LOADER,
        lifecycle_py=LIFECYCLE,
    )
    put(
        tmp_path,
        "imRobots.demo",
        {"title": "机器人", "type": "imRobots.echoType", "backendLoadTime": "afterAppInit"},
        config_json='{"name": "{{NAME}}"}',
    )
    return tmp_path


@pytest.fixture
def host(root: Path) -> Iterator[FakeHost]:
    with FakeHost(root, env_vars={"NAME": "Ada"}) as host:
        yield host


def on_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns or raises on a thread of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    return outcome[0]


def the_app() -> Any:
    return builtins.app  # type: ignore[attr-defined]


# Elements


def test_boot_loads_what_asks_for_it_once(host: FakeHost) -> None:
    host.boot()
    robot = host.get_element("imRobots.demo")
    assert robot.config == '{"name": "Ada"}'
    assert [record.message for record in host.logged("info", "loading")] == ["loading imRobots.demo"]
    with host.context():
        assert the_app().getElement("imRobots.demo") is robot


def test_an_element_without_load_time_waits_for_its_first_use(root: Path) -> None:
    put(root, "imRobots.lazy", {"title": "Lazy", "type": "imRobots.echoType"}, config_json="{}")
    with FakeHost(root, env_vars={"NAME": "Ada"}) as host:
        host.boot()
        assert not host.logged(containing="imRobots.lazy")
        host.get_element("imRobots.lazy")
        assert host.logged(containing="imRobots.lazy")


def test_two_threads_that_ask_first_get_the_same_object(root: Path) -> None:
    slow = LOADER.replace("return Robot", "import time; time.sleep(0.05)\n        return Robot")
    put(root, "imRobots.slowType", {"type": "imRobots.Meta"}, loader_py=slow)
    put(root, "imRobots.slow", {"type": "imRobots.slowType"}, config_json="{}")
    found: list[Any] = []
    with FakeHost(root, env_vars={"NAME": "Ada"}) as host:
        threads = [threading.Thread(target=lambda: found.append(host.get_element("imRobots.slow"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert len(found) == 4
        assert len({id(thing) for thing in found}) == 1
        assert len(host.logged(containing="loading")) == 1


def test_the_element_object(host: FakeHost) -> None:
    element = host.get_element("imRobots.demo").element
    assert element is host.element("imRobots.demo")
    assert (element.fullName, element.name, element.title) == ("imRobots.demo", "demo", "机器人")
    assert (element.type, element.define["backendLoadTime"]) == ("imRobots.echoType", "afterAppInit")
    assert element.getFile("config.json", isBinary=True) == b'{"name": "{{NAME}}"}'
    with pytest.raises(FileNotFoundError):
        element.getFile("prompt.md")
    with element.env.getReqContext(element.appId):
        assert the_app().appId == element.appId == APP_ID


def test_an_element_may_know_its_environment_only_through_the_app(root: Path) -> None:
    with FakeHost(root, element_has_env=False) as host:
        element = host.element("imRobots.demo")
        assert not hasattr(element, "env")
        with element.app.env.getReqContext(element.appId):
            assert the_app().env is element.app.env


def test_an_unknown_element_is_named(host: FakeHost) -> None:
    with pytest.raises(ElementNotFound, match=r"aiagents\.nobody"):
        host.get_element("aiagents.nobody")


def test_the_loader_is_searched_up_the_types_and_may_be_missing(root: Path) -> None:
    put(root, "imRobots.subType", {"type": "imRobots.echoType"})
    put(root, "imRobots.sub", {"type": "imRobots.subType"}, config_json="{}")
    put(root, "imRobots.bareType", {"type": "imRobots.Meta"}, loader_py="class Loader:\n    load = lambda self: self")
    put(root, "imRobots.bare", {"type": "imRobots.bareType"})
    with FakeHost(root, env_vars={"NAME": "Ada"}) as host:
        assert type(host.get_element("imRobots.sub")).__name__ == "Robot"
        assert host.get_element("imRobots.echoType") is host.element("imRobots.echoType")
        bare = host.get_element("imRobots.bare")  # neither exported by its package nor with a constructor
        assert bare.nodes == [host.element("imRobots.bare")]


@pytest.mark.parametrize("broken", ["imRobots.Meta", "imRobots.echoType"])
def test_a_family_that_cannot_be_imported_takes_the_app_down(root: Path, broken: str) -> None:
    root.joinpath(*broken.split("."), "__init__.py").write_text("import no_such_package\n", encoding="utf-8")
    with FakeHost(root) as host, pytest.raises(ModuleNotFoundError, match="no_such_package"):
        host.boot()


def test_a_failed_load_is_tried_again(host: FakeHost) -> None:
    name = host.env_vars.pop("NAME")
    with pytest.raises(KeyError):
        host.get_element("imRobots.demo")
    host.env_vars["NAME"] = name
    assert host.get_element("imRobots.demo").config == '{"name": "Ada"}'


def test_several_roots_share_the_family_and_the_first_one_wins(root: Path, tmp_path_factory: Any) -> None:
    child = tmp_path_factory.mktemp("child")
    put(child, "imRobots.demo", {"title": "Child", "type": "imRobots.echoType"}, config_json="child")
    put(child, "imRobots.other", {"type": "imRobots.echoType"}, config_json="other", lifecycle_py="def onLoad(): 1 / 0")
    put(child, "node_modules.imRobots.hidden", {"type": "imRobots.echoType"})
    with FakeHost(child, root, env_vars={"NAME": "Ada"}) as host:
        assert host.get_element("imRobots.demo").config == "child"
        with pytest.raises(ZeroDivisionError):
            host.get_element("imRobots.other")
        with pytest.raises(ElementNotFound):
            host.element("node_modules.imRobots.hidden")


# Saving and deleting


def test_saving_changes_memory_only_and_tells_the_type(host: FakeHost, root: Path) -> None:
    robot = host.get_element("imRobots.demo")
    host.save("imRobots.demo", "config.json", "new")
    assert host.element("imRobots.demo").getFile("config.json") == "new"
    assert "{{NAME}}" in (root / "imRobots" / "demo" / "config.json").read_text(encoding="utf-8")
    lifecycle = importlib.import_module("imRobots.echoType.lifecycle")
    assert lifecycle.seen == [("onUpdate", "imRobots.demo", robot)]

    host.delete("imRobots.demo")
    assert lifecycle.seen[1:] == [("onDelete", "imRobots.demo", robot)]
    with pytest.raises(ElementNotFound):
        host.get_element("imRobots.demo")


def test_writing_tells_nobody(host: FakeHost) -> None:
    host.write("imRobots.demo", "config.json", "new")
    assert importlib.import_module("imRobots.echoType.lifecycle").seen == []


@pytest.mark.parametrize(("drop", "hook_sees", "afterwards"), [("before", "new", "new"), ("after", "old", "new")])
def test_a_saved_element_may_be_dropped(root: Path, drop: str, hook_sees: str, afterwards: str) -> None:
    with FakeHost(root, env_vars={"NAME": "Ada"}, drop_on_save=drop) as host:
        host.write("imRobots.demo", "config.json", "old")
        host.boot()
        host.save("imRobots.demo", "config.json", "new")
        seen = importlib.import_module("imRobots.echoType.lifecycle").seen
        assert seen[0][2].config == hook_sees
        assert host.get_element("imRobots.demo").config == afterwards


def test_a_type_without_hooks_is_left_alone(root: Path) -> None:
    (root / "imRobots" / "echoType" / "lifecycle.py").unlink()
    with FakeHost(root) as host:
        host.save("imRobots.demo", "config.json", "new")
        host.delete("imRobots.demo")


# app and its contexts


def test_app_is_out_of_reach_outside_a_context(host: FakeHost) -> None:
    def assign() -> None:
        the_app().currentUser = "Ada"

    for use in (lambda: the_app().envVars, lambda: hasattr(the_app(), "event"), assign):
        with pytest.raises(RuntimeError, match="app is bound to a request context"):
            use()
    with host.context():
        assert the_app().envVars is host.env_vars
        assert isinstance(on_thread(lambda: the_app().envVars), RuntimeError)
    with pytest.raises(RuntimeError):
        the_app().envVars  # noqa: B018


def test_app_has_nothing_undocumented(host: FakeHost) -> None:
    with host.context():
        assert not hasattr(the_app(), "event")
        with pytest.raises(AttributeError):
            the_app().envVars = {}
        with pytest.raises(AttributeError):
            the_app().anything = 1


@pytest.mark.parametrize("app_path", ["absolute", "relative"])
def test_the_app_says_where_it_is(root: Path, app_path: Any) -> None:
    with FakeHost(root, app_folder=root / "imRobots" / "..", app_path=app_path) as host, host.context():
        env = the_app().env
        assert type(env.rootPath) is type(env.getAppPath(APP_ID)) is str
        assert Path(env.rootPath, env.getAppPath(APP_ID)) == root.resolve()
        assert Path(env.getAppPath(APP_ID)).is_absolute() == (app_path == "absolute")
        if app_path == "relative":
            assert env.getAppPath(APP_ID) == root.name
        with pytest.raises(ValueError, match="elsewhere"):
            env.getAppPath("org.elsewhere")


@pytest.mark.parametrize(("with_folder", "app_path"), [(False, "absolute"), (False, "relative"), (True, "missing")])
def test_the_app_may_be_nowhere(root: Path, with_folder: bool, app_path: Any) -> None:
    with FakeHost(root, app_folder=root if with_folder else None, app_path=app_path) as host, host.context():
        env = the_app().env
        assert not Path(env.rootPath, env.getAppPath(APP_ID)).exists()
        assert not Path(env.getAppPath(APP_ID)).exists()
        assert (env.rootPath == str(root.parent)) == with_folder
    with pytest.raises(ValueError, match="somewhere"):
        FakeHost(root, app_path="somewhere")  # type: ignore[arg-type]


def test_contexts_nest_and_are_counted(host: FakeHost) -> None:
    with host.context():
        the_app().currentUser = "outer"
        with host.context():
            assert the_app().currentUser is None
            the_app().currentUser = "inner"
        assert the_app().currentUser == "outer"
    assert host.contexts_entered == 2
    with host.context():
        assert the_app().currentUser is None


def test_a_context_is_for_this_app_and_this_thread(host: FakeHost) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        the_env = host.element("imRobots.demo").env
        the_env.getReqContext("org.elsewhere")
    context = host.context()
    context.__enter__()
    assert isinstance(on_thread(lambda: context.__exit__(None, None, None)), RuntimeError)


@pytest.mark.parametrize("isolated", [True, False])
def test_the_current_user_of_two_threads(root: Path, isolated: bool) -> None:
    with FakeHost(root, isolated=isolated) as host:

        def other() -> Any:
            with host.context():
                seen = the_app().currentUser
                the_app().currentUser = "Bob"
                return seen

        with host.context():
            the_app().currentUser = "Ada"
            assert on_thread(other) == (None if isolated else "Ada")
            assert the_app().currentUser == ("Ada" if isolated else "Bob")


def test_the_member_table_is_there(host: FakeHost) -> None:
    with host.context():
        CorpMember = the_app().getElement("corps.models.CorpMember")
        the_app().currentUser = CorpMember()
        assert type(the_app().currentUser) is CorpMember


# What the host installs


def test_uninstalling_leaves_nothing_but_the_singletons(root: Path) -> None:
    path = list(sys.path)
    with FakeHost(root) as host:
        with pytest.raises(RuntimeError, match="installed already"):
            FakeHost().install()
        log = importlib.import_module("jit.commons.utils.logger").log
        with pytest.raises(ModuleNotFoundError, match=r"jit\.commons\.consts"):
            importlib.import_module("jit.commons.consts")
        log.info("one")
    host.uninstall()
    assert sys.path == path
    assert not hasattr(builtins, "app")
    assert not [name for name in sys.modules if name.split(".")[0] == "jit"]
    log.info("nobody listens")
    with FakeHost() as second:
        log.info("two")
        assert [record.message for record in second.records] == ["two"]
    assert [record.message for record in host.records] == ["one"]


def test_log_takes_one_message(root: Path) -> None:
    heard: list[tuple[str, str]] = []
    with FakeHost(root, log_to=lambda level, message: heard.append((level, message))) as host:
        log = importlib.import_module("jit.commons.utils.logger").log
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(f"a {level}")
        try:
            raise OSError("the wire broke")
        except OSError as error:
            log.exception(error)
        assert heard == [(record.level, record.message) for record in host.records]
        assert [record.level for record in host.logged(containing="a ")] == ["debug", "info", "warning", "error"]
        (record,) = host.logged("exception")
        assert record.message == "the wire broke"
        assert "OSError: the wire broke" in record.traceback
        for call in (lambda: log.info("%s", 1), lambda: log.error("x", exc_info=True), lambda: log.info()):
            with pytest.raises(TypeError):
                call()
        with pytest.raises(AttributeError):
            log.critical("not in the documents")


def test_code_is_an_exception_with_a_template(host: FakeHost) -> None:
    Code = importlib.import_module("jit.errcode").Code
    with pytest.raises(Code, match="no such city") as caught:
        raise Code(code=9000001, reason="failed: {message}").formatReason(message="no such city")
    assert (caught.value.code, caught.value.reason) == (9000001, "failed: no such city")


# Agents


def ask(host: FakeHost, agent: Any, **question: Any) -> tuple[Any, list[Any]]:
    chunks: list[Any] = []
    with host.context():
        the_app().currentUser = "Ada"
        return agent.run(**question, chatId="c1", stream_callback=lambda chunk: chunks.append(chunk)), chunks


TEXT = "TEXT_MESSAGE_CONTENT"


def test_the_three_call_forms(host: FakeHost) -> None:
    answer = "It rains today."
    agents = ReferenceAgent(answer), DocumentedAgent(answer), HiddenAgent(answer)
    old, new = {"params": {"input_data": "Rain?"}}, {"user_input": "Rain?"}
    result, chunks = ask(host, agents[0], **old)
    assert result == answer
    assert "".join(chunk["data"]["content"] for chunk in chunks) == answer
    assert {chunk["type"] for chunk in chunks} == {TEXT}
    result, _ = ask(host, agents[1], **new, variables={})
    assert result.value == [{"type": "human", "content": "Rain?"}, {"type": "ai", "content": answer}]
    assert ask(host, agents[2], **old)[0] == answer
    assert agents[2].form == "params"
    assert ask(host, agents[2], **new)[0] == answer
    assert agents[2].form == "user_input"
    for agent, wrong in [(agents[0], new), (agents[1], old), (agents[2], {}), (agents[2], {**old, **new})]:
        with pytest.raises(TypeError):
            ask(host, agent, **wrong)
    call = agents[0].calls[0]
    assert (call.text, call.chatId, call.user, call.user_at_end) == ("Rain?", "c1", "Ada", "Ada")
    assert call.thread == threading.current_thread().name
    assert call.ended is not None and call.ended >= call.started


def test_an_agent_refuses_what_nobody_promised(host: FakeHost) -> None:
    agent = DocumentedAgent()
    with host.context():
        for wrong in (
            {"chatId": ""},
            {"chatId": None},
            {"user_input": ""},
            {"stream_callback": functools.partial(print)},
        ):
            with pytest.raises(TypeError):
                agent.run(**{"user_input": "Hi", "chatId": "c1", **wrong})
    with pytest.raises(RuntimeError, match="request context"):
        agent.run("Hi", chatId="c1")
    assert agent.calls == []


def test_what_an_agent_can_be_told_to_do(host: FakeHost) -> None:
    result, chunks = ask(host, DocumentedAgent("ab", chunks=2, events=SIDE_EVENTS, result=None), user_input="Hi")
    assert result is None
    assert [chunk["type"] for chunk in chunks] == [event["type"] for event in SIDE_EVENTS] + [TEXT, TEXT]
    seen: list[str] = []
    agent = DocumentedAgent("", error=OSError("gone"), before=lambda call: seen.append(call.text))
    with pytest.raises(OSError, match="gone"):
        ask(host, agent, user_input="Hi")
    assert seen == ["Hi"]
    assert agent.running == []
    assert agent.calls[0].ended is not None


@pytest.mark.parametrize("answer", ["", "a", "two words ", "  多行\n文字  ", "没有空格", "x" * 50])
@pytest.mark.parametrize("chunks", [None, 1, 3, 7])
def test_the_pieces_are_the_answer(answer: str, chunks: int | None) -> None:
    pieces = split(answer, chunks)
    assert "".join(pieces) == answer
    assert all(pieces)
    if chunks is not None:
        assert len(pieces) == min(chunks, len(answer))


def test_a_gate_holds_answers_open_and_overlap_is_seen(host: FakeHost) -> None:
    gate, first_piece = threading.Event(), threading.Semaphore(0)
    agent = DocumentedAgent("one two", gate=gate)

    def run(chat_id: str) -> None:
        with host.context():
            agent.run("Hi", chatId=chat_id, stream_callback=lambda chunk: first_piece.release())

    threads = [threading.Thread(target=run, args=(chat_id,)) for chat_id in ("c1", "c2")]
    for thread in threads:
        thread.start()
    assert first_piece.acquire(timeout=5) and first_piece.acquire(timeout=5)
    assert sorted(agent.running) == ["c1", "c2"]
    assert all(call.ended is None for call in agent.calls)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert agent.running == []
    assert agent.max_running == 2
