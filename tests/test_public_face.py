"""The frozen public face: what an app that was written for the tutorial relies on, name by name."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dingtalk_stream
import pytest

import imRobots.dingTalkStreamType
from imRobots.dingTalkStreamType import ClientManager, Loader, TextHandler
from imRobots.dingTalkStreamType.lifecycle import onDelete, onUpdate

PROJECT = Path(__file__).parent.parent
FAMILY = PROJECT / "imRobots"
NO_DEFAULT = inspect.Parameter.empty
KEYWORD_ONLY, VAR_KEYWORD = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD


def parameters(function: Callable[..., Any]) -> list[str]:
    """What can be given by position or as `**`: `name`, `name=default` or `**name`."""
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is VAR_KEYWORD:
            shown.append(f"**{parameter.name}")
        elif parameter.kind is not KEYWORD_ONLY:
            default = "" if parameter.default is NO_DEFAULT else f"={parameter.default!r}"
            shown.append(parameter.name + default)
    return shown


REFERENCE: list[tuple[Callable[..., Any], list[str]]] = [
    (Loader.__init__, ["self", "nodes"]),
    (Loader.renderTemplateString, ["self", "source", "**context"]),
    (Loader.load, ["self"]),
    (Loader.start_client, ["self", "client_id", "client_secret", "config"]),
    (TextHandler.__init__, ["self", "element", "config"]),
    (TextHandler.process, ["self", "callback"]),
    (TextHandler.raw_process, ["self", "callback_message"]),
    (TextHandler.pre_start, ["self"]),
    (
        TextHandler.reply_card,
        ["self", "card_data", "incoming_message", "at_sender=False", "at_all=False", "**kwargs"],
    ),
    (TextHandler.update_card, ["self", "card_biz_id", "card_data"]),
    (TextHandler._create_initial_card, ["self", "question"]),
    (TextHandler._create_streaming_card, ["self", "content", "question"]),
    (TextHandler._create_final_card, ["self", "response", "incoming_message", "text"]),
    (ClientManager.__init__, ["self", "client_id", "client_secret"]),
    (ClientManager.start, ["self", "message_handler"]),
    (ClientManager.stop, ["self"]),
    (ClientManager.is_running, ["self"]),
    (onUpdate, ["fullName"]),
    (onDelete, ["fullName"]),
]


@pytest.mark.parametrize(("function", "expected"), REFERENCE, ids=[function.__qualname__ for function, _ in REFERENCE])
def test_parameters_are_the_references(function: Callable[..., Any], expected: list[str]) -> None:
    assert parameters(function) == expected


@pytest.mark.parametrize(
    "function", [function for function, _ in REFERENCE], ids=lambda function: function.__qualname__
)
def test_additional_parameters_may_be_left_out(function: Callable[..., Any]) -> None:
    added = [item for item in inspect.signature(function).parameters.values() if item.kind is KEYWORD_ONLY]
    assert [item.name for item in added if item.default is NO_DEFAULT] == []


@pytest.mark.parametrize("name", ["reply_card", "update_card", "process", "raw_process", "pre_start"])
def test_methods_that_override_the_sdks_have_its_parameters(name: str) -> None:
    # The tutorial calls the message of `process` callback, the SDK calls it message; the SDK gives it by position.
    sdk = [item.replace("message", "callback") if name == "process" else item for item in parameters_of_sdk(name)]
    assert parameters(getattr(TextHandler, name)) == sdk


def parameters_of_sdk(name: str) -> list[str]:
    return parameters(getattr(dingtalk_stream.ChatbotHandler, name))


def test_coroutines_are_where_the_reference_has_them() -> None:
    asynchronous = [function.__qualname__ for function, _ in REFERENCE if inspect.iscoroutinefunction(function)]
    assert asynchronous == ["TextHandler.process", "TextHandler.raw_process"]


# What this project adds to the tutorial's classes, and apps may rely on as well.
ADDED: list[tuple[Callable[..., Any], list[str]]] = [
    (ClientManager.restart, ["self", "message_handler", "client_id", "client_secret"]),
    (ClientManager.fail, ["self", "error"]),
    (ClientManager.wait_ready, ["self", "timeout=None"]),
    (ClientManager.status, ["self"]),
    (ClientManager.report, ["self", "state=None"]),
    (TextHandler.close, ["self", "deadline"]),
    (TextHandler.status, ["self"]),
    (TextHandler.exportFeedback, ["self", "since=None"]),
    (ClientManager.exportFeedback, ["self", "since=None"]),
]


@pytest.mark.parametrize(("function", "expected"), ADDED, ids=[function.__qualname__ for function, _ in ADDED])
def test_parameters_of_what_was_added_stay_as_they_are(function: Callable[..., Any], expected: list[str]) -> None:
    assert parameters(function) == expected


def test_a_new_loader_and_a_new_manager_look_like_the_references() -> None:
    nodes: list[Any] = [object()]
    assert Loader(nodes).nodes is nodes
    manager = ClientManager("an-id", "a-secret")
    assert (manager.client_id, manager.client_secret, manager.client) == ("an-id", "a-secret", None)
    assert manager.is_running() is False
    assert (manager.handler, manager.error, manager.state) == (None, None, "new")


def test_the_text_handler_is_a_handler_of_the_sdk() -> None:
    assert issubclass(TextHandler, dingtalk_stream.ChatbotHandler)


def test_the_text_handler_brings_the_handler_of_clicks() -> None:
    handler = TextHandler(SimpleNamespace(fullName="bots.helpdesk"), {"agent": "aiagents.ragTest"})
    assert isinstance(handler.card_handler, dingtalk_stream.CallbackHandler)


def test_the_modules_of_the_reference_hold_its_classes() -> None:
    for module, name in [("loader", "Loader"), ("handler", "TextHandler"), ("client_manager", "ClientManager")]:
        found = getattr(importlib.import_module(f"imRobots.dingTalkStreamType.{module}"), name)
        assert found is getattr(imRobots.dingTalkStreamType, name)


def test_the_type_exports_three_names() -> None:
    assert imRobots.dingTalkStreamType.__all__ == ["ClientManager", "Loader", "TextHandler"]
    with pytest.raises(AttributeError, match="Nothing"):
        _ = imRobots.dingTalkStreamType.Nothing


def test_every_name_that_is_exported_exists() -> None:
    for module in (importlib.import_module("imRobots.Meta"), imRobots.dingTalkStreamType):
        assert sorted(module.__all__) == module.__all__
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


# ---- the folders


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (
            "Meta",
            {"backendBundleEntry": ".", "description": "IM Robot element family", "title": "IM Robot", "type": ""},
        ),
        (
            "dingTalkStreamType",
            {
                "backendBundleEntry": ".",
                "description": "Encapsulate DingTalk robot integration details, including message sending, receiving, "
                "processing, etc., exposing configuration parameters",
                "title": "DingTalk Robot",
                "type": "imRobots.Meta",
            },
        ),
        (
            "dingTalkDemo",
            {
                "backendBundleEntry": ".",
                "backendLoadTime": "afterAppInit",
                "type": "imRobots.dingTalkStreamType",
                "title": "DingTalk Intelligent Customer Service",
                "description": "JitAi intelligent customer service DingTalk robot instance, configure specific "
                "parameters",
            },
        ),
    ],
)
def test_an_element_is_defined_as_in_the_reference(element: str, expected: dict[str, str]) -> None:
    assert json.loads((FAMILY / element / "e.json").read_text(encoding="utf-8")) == expected


def test_the_demo_has_the_references_three_keys_and_no_secret() -> None:
    assert json.loads((FAMILY / "dingTalkDemo" / "config.json").read_text(encoding="utf-8")) == {
        "agent": "aiagents.ragTest",
        "clientId": "{{DINGTALK_CLIENT_ID}}",
        "clientSecret": "{{DINGTALK_CLIENT_SECRET}}",
    }


def test_the_references_two_requirements_are_pinned() -> None:
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {"dingtalk-stream==0.24.2", "python-socks==2.7.1"} <= set(lines)


def test_the_family_itself_is_a_folder_and_no_package() -> None:
    assert not (FAMILY / "__init__.py").exists()
    elements = [path.parent.name for path in FAMILY.glob("*/e.json")]
    assert sorted(elements) == ["Meta", "dingTalkDemo", "dingTalkStreamType"]
    assert [name for name in elements if not (FAMILY / name / "__init__.py").is_file()] == []


def test_no_folder_has_a_name_that_jitnode_leaves_out() -> None:
    folders = {path.name for path in FAMILY.rglob("*") if path.is_dir()}
    assert folders >= {"Meta", "dingTalkStreamType", "dingTalkDemo"}
    assert folders & {"test", "dist", "node_modules", ".git"} == set()
