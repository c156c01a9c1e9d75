"""The agents of the sandbox: the offline FAQ agent, one's own agent by its name, and trouble at the flick of a switch.

Owns how an agent speaks: the call form, the pace, the chunks. What is answered: `lookup.py`. `run` works on the thread
that calls it, the callback too; the switches may be set on any thread.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import math
import operator
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .lookup import Faq, is_chinese

FAQ_FOLDER = Path(__file__).parent / "faq"

_THINKING_SECONDS = 0.6
_TOOL_SECONDS = 2.0  # a card that grows is updated every two seconds or so: a quicker tool would not be seen on it
_ANSWER_SECONDS = 4.0  # for a long answer; a short one takes less
_PIECE_SECONDS = 0.1  # at most
_MOST_PIECES = 200  # no clock can wait for less than some milliseconds
_LONGEST_HANG = 600.0
_EXPECTED = "expected is module:Class, such as my_agents:Helper"

# One Chinese character or one word, with the white space before it.
_PIECE = re.compile(r"\s*(?:[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+)")

Send = Callable[[dict[str, Any]], object]


class FaqAgent:
    """An agent in the documented call form: chunks to `stream_callback`, then a list of messages."""

    def __init__(self, folder: Path = FAQ_FOLDER) -> None:
        """Raises ValueError, with a sentence for the person who named the folder, where there is nothing to answer."""
        self.events = False
        """Whether it also tells of its reasoning and of the tool that it uses."""
        self._faq = Faq(folder)

    def examples(self) -> dict[str, list[str]]:
        """A few questions that it can answer, by language: `en`, `zh`."""
        return self._faq.examples()

    def run(
        self,
        user_input: str,
        variables: dict[str, Any] | None = None,
        chatId: str | None = None,
        stream_callback: Send | None = None,
    ) -> list[dict[str, str]]:
        send = stream_callback or (lambda chunk: None)
        if self.events:
            answer = self._think_aloud(user_input, send)
        else:
            time.sleep(_THINKING_SECONDS)
            answer = self._faq.answer(user_input)
        pieces = _pieces(answer)
        for piece in pieces:
            time.sleep(min(_PIECE_SECONDS, _ANSWER_SECONDS / len(pieces)))
            send({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": piece}})
        return [{"type": "human", "content": user_input}, {"type": "ai", "content": answer}]

    def _think_aloud(self, question: str, send: Send) -> str:
        thought = "What is this question about? I will look it up in the FAQ."
        pieces = _pieces("这个问题问的是什么？我到常见问题里找一找。" if is_chinese(question) else thought)
        for piece in pieces:
            time.sleep(_THINKING_SECONDS / len(pieces))
            send({"type": "REASONING_CONTENT", "data": {"content": piece}})
        variable = {"name": "toolName", "title": "Tool", "dataType": "Stext"}
        call = {"toolName": "Faq.find", "toolType": "service", "stage": "preEvent", "args": {"question": question}}
        arguments = {"dataType": "JitDict", "variableList": [variable], "value": call}
        send({"type": "TOOL_CALL_START", "data": {"eventType": "callTool", "outputArgs": arguments}})
        time.sleep(_TOOL_SECONDS)
        answer = self._faq.answer(question)
        send({"type": "TOOL_CALL_END", "data": {}})
        return answer


class Trouble:
    """Any agent, with two switches for what agents do to robots; attributes that it has not are the agent's.

    `run` shows the signature of the agent's own, because the robot reads from it how an agent wants to be called.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.fails = False
        """The next runs end with an error."""
        self._goes_on = threading.Event()
        self._goes_on.set()

    @property
    def run(self) -> Callable[..., Any]:
        agents = self.agent.run

        @functools.wraps(agents)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._goes_on.wait(_LONGEST_HANG)
            if self.fails:
                time.sleep(_THINKING_SECONDS)
                raise RuntimeError("the sandbox's switch: agent error")
            return agents(*args, **kwargs)

        return run

    @property
    def hangs(self) -> bool:
        """Runs that begin now say nothing and do not return, until this is off again or ten minutes have passed.

        As with a real agent that hangs, a robot that stops such a run or gives it up cannot tell it.
        """
        return not self._goes_on.is_set()

    @hangs.setter
    def hangs(self, is_on: bool) -> None:
        (self._goes_on.clear if is_on else self._goes_on.set)()

    @property
    def events(self) -> bool:
        """The agent's own switch of this name, if it has one."""
        return getattr(self.agent, "events", False) is True

    @events.setter
    def events(self, is_on: bool) -> None:
        if isinstance(getattr(self.agent, "events", None), bool):
            with contextlib.suppress(AttributeError):  # it is for reading only
                self.agent.events = is_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)


def load_agent(spec: str) -> Any:
    """The agent that `module:Class` (or `module:agent`) names; modules of the current directory come first.

    Runs that module's code. Raises ValueError with a sentence that says what is wrong.
    """
    module_name, _, name = spec.rpartition(":")
    if not module_name or not name:
        raise ValueError(f"{spec!r} names no agent; {_EXPECTED}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = _import(module_name)
    try:
        agent = operator.attrgetter(name)(module)
    except AttributeError:
        raise ValueError(f"{module.__name__} ({_origin(module)}) has no {name}; {_EXPECTED}") from None
    if inspect.isclass(agent):
        try:
            agent = agent()
        except (Exception, SystemExit) as error:
            raise ValueError(f"{spec} cannot be made; expected is that {name}() works: {_cause(error)}") from error
    run = getattr(agent, "run", None)
    if not callable(run) or not _can_be_called(run):
        raise ValueError(
            f"{spec} is no agent; expected is a method run(user_input, variables, chatId, stream_callback), or "
            "run(params, chatId, stream_callback), that returns its answer and is neither async nor a generator"
        )
    return agent


def _can_be_called(run: Callable[..., Any]) -> bool:
    """Whether a robot can: it gives all by name, in one of the two documented forms."""
    if inspect.iscoroutinefunction(run) or inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        return False
    try:
        signature = inspect.signature(run)
    except (TypeError, ValueError):  # it tells nothing of itself
        return True
    for names in (("user_input", "variables", "chatId", "stream_callback"), ("params", "chatId", "stream_callback")):
        with contextlib.suppress(TypeError):
            signature.bind(**dict.fromkeys(names))
            return True
    return False


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a script may end itself
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            where = f"neither in {os.getcwd()} nor among the installed packages"
            raise ValueError(f"there is no module {name}, {where}; {_EXPECTED}") from error
        raise ValueError(f"the module {name} cannot be imported: {_cause(error)}") from error


def _origin(module: Any) -> str:
    return str(getattr(module, "__file__", None) or "no file")


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _pieces(text: str) -> list[str]:
    words = _PIECE.findall(text)
    step = math.ceil(len(words) / _MOST_PIECES)
    return ["".join(words[at : at + step]) for at in range(0, len(words), step)]
