"""The agent, called as its signature says and as nobody else, and the managers that outlive a reload."""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib.util
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from imRobots.Meta import AgentError, find_manager, forget_manager, keep_manager, reload_manager
from imRobots.Meta import host as meta_host
from imRobots.Meta.host import data_folder, env_vars, warn_once
from tests.fakes import host as fakes
from tests.fakes.agents import Agent, DocumentedAgent, HiddenAgent, JitList, ReferenceAgent
from tests.fakes.host import CorpMember, FakeHost

from .conftest import MakeHost
from .helpers import WAIT, pass_through, the_element

AGENT = "aiagents.hr"


def no_chunks(chunk: object) -> None:
    pytest.fail(f"nobody expected {chunk}")


def app_with(host: FakeHost, agent: Any) -> meta_host.JitApp:
    host.add(AGENT, agent)
    return meta_host.JitApp(the_element(host))


def ask(host: FakeHost, agent: Any, call: str = "auto", text: str = "Rain?") -> str:
    return app_with(host, agent).run_agent(AGENT, call, text, "session 1", lambda chunk: None)


# Asking the agent


@pytest.mark.parametrize("element_has_env", [True, False])
def test_the_agent_runs_in_the_request_context_as_an_empty_member(make_host: MakeHost, element_has_env: bool) -> None:
    host = make_host(element_has_env=element_has_env)
    agent = DocumentedAgent("It rains.")
    assert ask(host, agent) == "It rains."
    (call,) = agent.calls
    assert (call.text, call.chatId) == ("Rain?", "session 1")
    assert type(call.user) is CorpMember
    assert vars(call.user) == {}
    assert call.user_at_end is call.user
    assert host.contexts_entered == 1


def test_each_question_has_a_context_and_a_member_of_its_own(host: FakeHost) -> None:
    agent = DocumentedAgent()
    asked = app_with(host, agent)
    for _ in range(3):
        asked.run_agent(AGENT, "auto", "Rain?", "session 1", lambda chunk: None)
    assert host.contexts_entered == 3
    assert len({id(call.user) for call in agent.calls}) == 3


def test_the_context_is_left_when_an_agent_fails(host: FakeHost) -> None:
    with pytest.raises(OSError, match="gone"):
        ask(host, ReferenceAgent(error=OSError("gone")))
    with pytest.raises(RuntimeError, match="request context"):
        builtins.app.currentUser  # type: ignore[attr-defined] # noqa: B018
    assert ask(host, ReferenceAgent("It rains.")) == "It rains."


def test_the_agent_streams_to_the_callback_on_its_own_thread(host: FakeHost) -> None:
    chunks: list[Any] = []
    asked = app_with(host, ReferenceAgent("It rains today."))
    asked.run_agent(
        AGENT,
        "auto",
        "Rain?",
        "session 1",
        lambda chunk: chunks.append((chunk["data"]["content"], threading.current_thread())),
    )
    assert chunks == [(word, threading.current_thread()) for word in ("It", " rains", " today.")]


def test_an_agent_is_looked_up_for_every_question(host: FakeHost) -> None:
    asked = app_with(host, ReferenceAgent("old"))
    assert asked.run_agent(AGENT, "auto", "Rain?", "session 1", lambda chunk: None) == "old"
    host.add(AGENT, ReferenceAgent("new"))
    assert asked.run_agent(AGENT, "auto", "Rain?", "session 1", lambda chunk: None) == "new"


def test_an_agent_that_does_not_exist_is_named(host: FakeHost) -> None:
    asked = meta_host.JitApp(the_element(host))
    with pytest.raises(AgentError, match=r"robots\.hr: .*aiagents\.nobody.*`agent`") as caught:
        asked.run_agent("aiagents.nobody", "auto", "Rain?", "session 1", no_chunks)
    assert "ElementNotFound" in repr(caught.value.__cause__)


def test_an_element_that_is_no_agent_is_named(host: FakeHost) -> None:
    with pytest.raises(AgentError, match=r"aiagents\.hr"):
        ask(host, object())


@pytest.mark.parametrize("error", [OSError("gone"), AttributeError("in a tool"), TypeError("in a tool"), SystemExit(3)])
def test_what_an_agent_raises_comes_through_and_nothing_is_asked_twice(host: FakeHost, error: Any) -> None:
    agent = ReferenceAgent("", error=error)
    with pytest.raises(type(error)) as caught:
        ask(host, agent)
    assert caught.value is error
    assert len(agent.calls) == 1


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("It rains.", "It rains."),
        ({"output": "It rains."}, "It rains."),
        (JitList([{"type": "ai", "content": "It rains."}]), "It rains."),
        (None, ""),
        (JitList(), ""),
    ],
)
def test_the_text_of_the_result_comes_back(host: FakeHost, result: Any, text: str) -> None:
    assert ask(host, ReferenceAgent(result=result)) == text


# The form of the call


class KeywordsOnly(Agent):
    def run(self, *, user_input: str, variables: dict[str, Any], chatId: str, stream_callback: Any) -> Any:
        return self._run("user_input", f"{user_input} {variables}", chatId, stream_callback)


class BothForms(Agent):
    def run(self, user_input: Any = None, params: Any = None, **kwargs: Any) -> Any:
        form = "user_input" if user_input else "params"
        return self._run(form, user_input or params["input_data"], kwargs["chatId"], kwargs["stream_callback"])


class ParamsAndMore(Agent):
    def run(self, params: dict[str, Any], **kwargs: Any) -> Any:
        return self._run("params", params["input_data"], kwargs["chatId"], kwargs["stream_callback"])


class Wrapped(DocumentedAgent):
    """An agent behind a decorator that does as it should."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        inner = self.run

        @functools.wraps(inner)
        def run(*args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        self.run = run  # type: ignore[method-assign]


@pytest.mark.parametrize("call", ["auto", "documented", "reference"])
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (ReferenceAgent, "params"),
        (ParamsAndMore, "params"),
        (DocumentedAgent, "user_input"),
        (BothForms, "user_input"),
        (Wrapped, "user_input"),
    ],
)
def test_the_agents_signature_decides_the_form(host: FakeHost, kind: type[Agent], form: str, call: str) -> None:
    agent = kind("It rains.")
    assert ask(host, agent, call) == "It rains."
    assert [(call.form, call.text) for call in agent.calls] == [(form, "Rain?")]


def test_the_documented_form_passes_the_question_as_a_variable_too(host: FakeHost) -> None:
    agent = KeywordsOnly("It rains.")
    ask(host, agent)
    assert agent.calls[0].text == "Rain? {'input_data': 'Rain?'}"


class Unreadable:
    """Something callable that has no signature to read."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    @property
    def __signature__(self) -> Any:
        raise ValueError("no signature")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)


class UnreadableAgent(HiddenAgent):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.run = Unreadable(super().run)  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("kind", [HiddenAgent, UnreadableAgent])
@pytest.mark.parametrize(("call", "form"), [("auto", "params"), ("reference", "params"), ("documented", "user_input")])
def test_where_the_signature_says_nothing_the_configuration_decides(
    host: FakeHost, kind: type[HiddenAgent], call: str, form: str
) -> None:
    agent = kind("It rains.")
    assert ask(host, agent, call) == "It rains."
    assert [call.form for call in agent.calls] == [form]


def test_the_unreadable_agent_is_one() -> None:
    with pytest.raises((TypeError, ValueError)):
        inspect.signature(UnreadableAgent().run)


# Whose agent it is


def test_agents_run_side_by_side_where_each_thread_has_its_own_user(host: FakeHost) -> None:
    together = threading.Barrier(2)
    agent = ReferenceAgent("It rains.", before=lambda call: together.wait(WAIT))
    asked = app_with(host, agent)
    assert asked.may_run_side_by_side()
    assert run_two(asked) == ["It rains.", "It rains."]
    assert host.records == []


def test_agents_run_one_at_a_time_where_threads_share_the_user(make_host: MakeHost) -> None:
    host = make_host(isolated=False)
    entered = threading.Semaphore(0)

    def hesitate(call: object) -> None:
        entered.release()
        threading.Event().wait(0.02)  # long enough for another one to come in

    agent = ReferenceAgent("It rains.", before=hesitate)
    asked = app_with(host, agent)
    assert not asked.may_run_side_by_side()
    assert run_two(asked) == ["It rains.", "It rains."]
    assert agent.max_running == 1
    assert all(call.user is call.user_at_end for call in agent.calls)
    (record,) = host.records
    assert record.level == "warning"
    for part in ("robots.hr", "currentUser", "one at a time"):
        assert part in record.message


def test_robots_share_one_lane_where_threads_share_the_user(make_host: MakeHost) -> None:
    host = make_host(isolated=False)
    agent = ReferenceAgent("It rains.", before=lambda call: threading.Event().wait(0.02))
    first, second = app_with(host, agent), app_with(host, agent)
    for asked in (first, second):
        assert not asked.may_run_side_by_side()
    assert run_two(first, second) == ["It rains.", "It rains."]
    assert agent.max_running == 1


def test_a_trial_never_touches_the_user_of_another_robots_agent(make_host: MakeHost) -> None:
    host = make_host(isolated=False)
    inside, leave, tried = threading.Event(), threading.Event(), threading.Event()

    def stay(call: object) -> None:
        inside.set()
        pass_through(leave)

    agent = ReferenceAgent("It rains.", before=stay)
    first, second = app_with(host, agent), app_with(host, agent)
    assert not first.may_run_side_by_side()
    asking = threading.Thread(target=first.run_agent, args=(AGENT, "auto", "Rain?", "s1", lambda chunk: None))
    asking.start()
    assert inside.wait(WAIT)
    trying = threading.Thread(target=lambda: second.may_run_side_by_side() or tried.set())
    trying.start()
    assert not tried.wait(0.1), "it waits until the agent is done"
    leave.set()
    assert tried.wait(WAIT)
    for thread in (asking, trying):
        thread.join(WAIT)
    (call,) = agent.calls
    assert type(call.user) is CorpMember
    assert call.user is call.user_at_end


def test_until_it_was_tried_agents_run_one_at_a_time(host: FakeHost) -> None:
    agent = ReferenceAgent("It rains.", before=lambda call: threading.Event().wait(0.02))
    assert run_two(app_with(host, agent)) == ["It rains.", "It rains."]
    assert agent.max_running == 1


def test_contexts_that_only_one_thread_can_enter_are_not_side_by_side(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = threading.Lock()
    enter = host._request

    @contextlib.contextmanager
    def enter_alone() -> Iterator[None]:
        with one, enter():
            yield

    barrier = threading.Barrier
    monkeypatch.setattr(host, "_request", enter_alone)
    monkeypatch.setattr(threading, "Barrier", lambda parties, timeout: barrier(parties, timeout=0.1))
    asked = app_with(host, ReferenceAgent("It rains."))
    assert not asked.may_run_side_by_side()
    assert len(host.logged("warning", "one at a time")) == 1


def test_what_goes_wrong_while_trying_is_told_at_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ConnectionError("no context today")

    asked = app_with(host, ReferenceAgent("It rains."))
    with monkeypatch.context() as patch:
        patch.setattr(host, "_request", broken)
        with pytest.raises(ConnectionError, match="no context today"):
            asked.may_run_side_by_side()
    assert asked.may_run_side_by_side()


def run_two(first: meta_host.Agent, second: meta_host.Agent | None = None) -> list[str]:
    texts: list[str] = []

    def run(asked: meta_host.Agent, chat: str) -> None:
        texts.append(asked.run_agent(AGENT, "auto", "Rain?", chat, lambda chunk: None))

    threads = [
        threading.Thread(target=run, args=(asked, chat)) for chat, asked in (("s1", first), ("s2", second or first))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    return texts


# The managers that run


class Manager:
    def __init__(self) -> None:
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


class OtherManager(Manager):
    pass


class Loader:
    def __init__(self) -> None:
        self.loaded = 0

    def load(self) -> None:
        self.loaded += 1


def test_a_manager_is_found_again() -> None:
    manager = Manager()
    assert find_manager("robots.hr", Manager) is None
    keep_manager("robots.hr", manager, Loader())
    assert find_manager("robots.hr", Manager) is manager
    assert find_manager("robots.sales", Manager) is None
    assert manager.stopped == 0


def test_a_manager_of_older_code_is_stopped_and_forgotten() -> None:
    manager = OtherManager()
    keep_manager("robots.hr", manager, Loader())
    assert find_manager("robots.hr", Loader) is None
    assert manager.stopped == 1
    assert find_manager("robots.hr", OtherManager) is None
    assert manager.stopped == 1


def test_a_forgotten_manager_is_stopped_once() -> None:
    manager, other = Manager(), Manager()
    keep_manager("robots.hr", manager, Loader())
    keep_manager("robots.sales", other, Loader())
    forget_manager("robots.hr")
    forget_manager("robots.hr")
    assert (manager.stopped, other.stopped) == (1, 0)
    assert find_manager("robots.hr", Manager) is None
    assert find_manager("robots.sales", Manager) is other


def test_an_element_is_loaded_anew_by_the_loader_that_came_last() -> None:
    first, second = Loader(), Loader()
    keep_manager("robots.hr", Manager(), first)
    keep_manager("robots.hr", Manager(), second)
    reload_manager("robots.hr")
    assert (first.loaded, second.loaded) == (0, 1)


def test_what_does_not_run_is_left_alone() -> None:
    loader = Loader()
    keep_manager("robots.hr", Manager(), loader)
    reload_manager("robots.nobody")
    forget_manager("robots.nobody")
    forget_manager("robots.hr")
    reload_manager("robots.hr")
    assert loader.loaded == 0


# The host's own things


def fresh_copy() -> ModuleType:
    """The module as another import of it would be, after a hot reload say."""
    spec = importlib.util.spec_from_file_location("imRobots.Meta.host_again", meta_host.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_manager_outlives_a_reload_of_the_code() -> None:
    manager = Manager()
    keep_manager("robots.hr", manager, Loader())
    again = fresh_copy()
    assert again.find_manager("robots.hr", Manager) is manager
    again.forget_manager("robots.hr")
    assert find_manager("robots.hr", Manager) is None


def test_in_the_host_its_log_is_used(host: FakeHost) -> None:
    assert fresh_copy().log is fakes.log


def test_outside_of_the_host_there_is_a_log_too() -> None:
    assert "jit" not in sys.modules
    assert fresh_copy().log is logging.getLogger("imRobots")


def test_the_apps_variables_are_a_copy(make_host: MakeHost) -> None:
    host = make_host(env_vars={"NAME": "Ada"})
    with host.context():
        found = env_vars()
    found["NAME"] = "Bob"
    assert host.env_vars == {"NAME": "Ada"}


def test_a_warning_is_given_once(host: FakeHost) -> None:
    for _ in range(3):
        warn_once("first")
        warn_once("second")
    assert [(record.level, record.message) for record in host.records] == [("warning", "first"), ("warning", "second")]


# The app's data directory


@pytest.mark.parametrize("element_has_env", [True, False])
@pytest.mark.parametrize("app_path", ["absolute", "relative"])
def test_files_are_kept_in_the_apps_data_directory(
    make_host: MakeHost, tmp_path: Path, app_path: Any, element_has_env: bool
) -> None:
    folder = tmp_path / "apps" / "demoApp"
    folder.mkdir(parents=True)
    host = make_host(app_folder=folder, app_path=app_path, element_has_env=element_has_env)
    assert data_folder(the_element(host)) == folder / "appData" / "imRobots"
    assert list(folder.iterdir()) == [], "it is made when it is needed"


def test_where_the_app_is_not_where_it_is_said_to_be_there_is_no_data_directory(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host(app_folder=tmp_path, app_path="missing")
    assert data_folder(the_element(host)) is None
    assert list(tmp_path.parent.glob("*-missing")) == []


def test_a_host_without_a_folder_for_the_app_has_no_data_directory(host: FakeHost) -> None:
    assert data_folder(the_element(host)) is None


@pytest.mark.parametrize("name", ["rootPath", "getAppPath"])
@pytest.mark.parametrize("value", [None, 7, "\0"])
def test_a_host_that_says_something_else_has_no_data_directory(
    make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    host = make_host(app_folder=tmp_path, app_path="relative")
    element = the_element(host)
    assert data_folder(element) is not None
    monkeypatch.setattr(element.env, name, value)
    assert data_folder(element) is None


def test_an_older_host_that_says_nothing_of_folders_has_no_data_directory(
    make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(app_folder=tmp_path)
    element = the_element(host)
    monkeypatch.delattr(element.env, "rootPath")
    assert data_folder(element) is None
    (record,) = host.logged("debug")
    for part in (element.fullName, "data directory", "rootPath"):
        assert part in record.message
