"""Everything of JitNode that the family touches: the log, `app`, request contexts, agents, models, the live managers.

The only file that names `app` or `jit`. `JitApp` is used on threads of ours and enters the request context there; the
rest is called where JitNode calls us (`load`, the lifecycle hooks) or needs no context.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from .answer import read_result
from .models import AgentError

app: Any  # JitNode puts it into the builtins
try:
    from jit.commons.utils.logger import log as _log
except ImportError:  # outside of JitNode, in a test of one module say
    _log = logging.getLogger("imRobots")
log: Any = _log
"""JitNode's log. Its methods are documented with one argument, the message."""


class Manager(Protocol):
    """What `load()` returns and `app.getElement` gives out: a Type's client manager.

    Meta calls `stop` only. The rest is what people and the contract tests look at; how it is started is the Type's own.
    """

    error: Exception | None
    """Why it failed."""

    @property
    def state(self) -> str:
        """`new`, `connecting`, `connected`, `reconnecting`, `stopping`, `stopped` or `failed`."""

    def is_running(self) -> bool:
        """Whether it is connected or on the way to it."""

    def stop(self) -> None:
        """First take no more messages, then close the `Robot`, then close what its answers went out through."""


class Loader(Protocol):
    """A Type's loader."""

    def load(self) -> Any: ...


# fullName -> (client manager, the loader that made it). Kept in the builtins, where it outlives a hot reload of our
# modules: a forgotten manager would keep its connection and take away half of the messages.
_managers: dict[str, tuple[Any, Loader]] = builtins.__dict__.setdefault("__imRobots__", {})

# Held while an agent runs on a JitNode that shares `app.currentUser`; all robots of the process share it too.
_one_at_a_time = threading.Lock()


def keep_manager(full_name: str, manager: Manager, loader: Loader) -> None:
    """Remember the manager that runs for an element, so that a second `load()` and the lifecycle hooks find it."""
    _managers[full_name] = (manager, loader)


def find_manager(full_name: str, kind: type) -> Any:
    """The element's manager if it is a `kind`, else None; one of another kind (older code) is stopped and forgotten."""
    manager, _ = _managers.get(full_name, (None, None))
    if manager is not None and not isinstance(manager, kind):
        forget_manager(full_name)
        return None
    return manager


def reload_manager(full_name: str) -> None:
    """For a Type's `onUpdate`: load the element anew. Nothing happens where it does not run."""
    _, loader = _managers.get(full_name, (None, None))
    if loader is not None:
        loader.load()


def forget_manager(full_name: str) -> None:
    """For a Type's `onDelete`: stop the element's manager. Nothing happens where it does not run."""
    manager, _ = _managers.pop(full_name, (None, None))
    if manager is not None:
        manager.stop()


def env_vars() -> dict[str, Any]:
    """The app's environment variables. Only where JitNode calls us."""
    return dict(app.envVars or {})


def data_folder(element: Any) -> Path | None:
    """Where the family keeps its files in the app's data directory, None if that cannot be found.

    Only where JitNode calls us. `rootPath` and `getAppPath` are documented (Environ reference), `appData` is where an
    app's databases and files lie (JitNode directory reference); whether the path is absolute is not said.
    """
    try:
        env = _env(element)
        app_folder = Path(env.rootPath, env.getAppPath(element.appId))
        return app_folder / "appData" / "imRobots" if app_folder.is_dir() else None
    except Exception as error:  # whatever another version of JitNode does
        log.debug(f"{element.fullName}: JitNode does not say where the app's data directory is: {error!r}")
        return None


@functools.lru_cache(maxsize=1000)
def warn_once(message: str) -> None:
    """Log a warning, once in the life of the process."""
    log.warning(message)


class JitApp:
    """The app, as a robot uses it: always as an empty CorpMember, like the tutorial.

    Every call enters the request context on the calling thread, which it may block.
    """

    def __init__(self, element: Any) -> None:
        self._element = element
        self._isolated: bool | None = None  # not tried yet

    def run_agent(
        self, full_name: str, call: str, text: str, chat_id: str, stream_callback: Callable[[Any], None]
    ) -> str:
        """Ask an agent; returns the text of the result, "" if there is none.

        `full_name` and `call` are the configuration's `agent` and `agentCall`. Whatever the agent raises comes through;
        `AgentError` if there is no such agent.
        """
        with self._entered():
            try:
                run = app.getElement(full_name).run
            except Exception as error:
                raise AgentError(
                    f"{self._element.fullName}: there is no agent {full_name}; correct the key `agent`"
                ) from error
            if _takes_user_input(run, call):
                result = run(
                    user_input=text, variables={"input_data": text}, chatId=chat_id, stream_callback=stream_callback
                )
            else:
                result = run(params={"input_data": text}, chatId=chat_id, stream_callback=stream_callback)
            return read_result(result)

    def create_row(self, model: str, row: Mapping[str, Any]) -> None:
        """Add a row to a data model of the app, named by its fullName. Whatever JitNode raises comes through."""
        if self._isolated is None:
            self.may_run_side_by_side()
        with _request_context(self._element):  # not one at a time: no agent is to wait for the app's database
            if self._isolated:  # else an agent may be running as that user
                app.currentUser = app.getElement("corps.models.CorpMember")()
            app.getElement(model).create(dict(row))

    def may_run_side_by_side(self) -> bool:
        """Try whether two threads inside the request context each keep their own `app.currentUser`.

        JitNode does not document it. Where one sees the other's user, agents must run one at a time: nobody's agent
        may ever run as somebody else. To be called, once, before the first `run`.
        """
        with _one_at_a_time:  # where users are shared, the trial would change the one that another robot's agent has
            self._isolated = _two_contexts_keep_their_users(self._element)
        if not self._isolated:
            log.warning(
                f"{self._element.fullName}: this JitNode shares app.currentUser between threads, so agents run one at "
                "a time: nobody's agent may run as somebody else."
            )
        return self._isolated

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        with nullcontext() if self._isolated else _one_at_a_time, _request_context(self._element):
            app.currentUser = app.getElement("corps.models.CorpMember")()
            yield


def _two_contexts_keep_their_users(element: Any) -> bool:
    both = threading.Barrier(2, timeout=10)
    kept: list[bool] = []
    errors: list[Exception] = []

    def enter_and_look() -> None:
        try:
            with _request_context(element):
                member = app.getElement("corps.models.CorpMember")()
                both.wait()
                app.currentUser = member
                both.wait()
                kept.append(app.currentUser is member)
                both.wait()  # nobody leaves, and perhaps clears the user, while the other still looks
        except threading.BrokenBarrierError:
            log.debug(f"{element.fullName}: no two threads were inside the request context at once")
        except Exception as error:
            errors.append(error)
            both.abort()

    threads = [threading.Thread(target=enter_and_look, name="imRobots-try", daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return kept == [True, True]


def _request_context(element: Any) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = _env(element).getReqContext(element.appId)
    return context


def _env(element: Any) -> Any:
    # The Element reference does not list `env`, the tutorial uses it; `app` is listed.
    return getattr(element, "env", None) or element.app.env


def _takes_user_input(run: Callable[..., Any], call: str) -> bool:
    """The documented form (AIAgent reference) or the tutorial's `params=`; decided before the call, never by trying."""
    try:
        parameters = inspect.signature(run).parameters
    except (TypeError, ValueError):
        return call == "documented"
    if "user_input" in parameters or "params" in parameters:
        return "user_input" in parameters
    hidden = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return hidden and call == "documented"
