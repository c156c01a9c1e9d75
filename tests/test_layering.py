"""Imports point one way, and a few things happen in one place only. Read from the source, so that none is forgotten."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parent.parent
FAMILY = PROJECT / "imRobots"
META, TYPE = FAMILY / "Meta", FAMILY / "dingTalkStreamType"
SOURCES = sorted(path for path in FAMILY.rglob("*.py"))
TESTS = sorted(path for path in (PROJECT / "tests").rglob("*.py"))

# Who may import whom, inside an element. Imports inside functions count too.
META_IMPORTS: dict[str, set[str]] = {
    "models": set(),
    "texts": {"commands"},
    "timing": set(),
    "health": set(),
    "limiter": set(),
    "lock": set(),
    "answer": set(),
    "commands": set(),
    "markdown": set(),
    "reply": {"models", "texts"},
    "pool": {"timing"},
    "one_thread": {"timing"},
    "host": {"answer", "models"},
    "database": {"host", "lock", "timing"},
    "store": {"database", "host", "models", "reply"},
    "sessions": {"models", "store"},
    "ratings": {"host", "models", "one_thread", "store", "timing"},
    "budget": {"host", "store"},
    "config": {"host", "models"},
    "delivery": {"answer", "reply"},
    "worker": {"host", "models", "pool", "timing"},
    "outbox": {"delivery", "host", "limiter", "models", "pool", "reply", "timing"},
    "intake": {"commands", "health", "host", "models", "one_thread", "reply", "sessions", "store"},
    "questions": {
        "answer",
        "delivery",
        "host",
        "markdown",
        "models",
        "one_thread",
        "reply",
        "store",
        "timing",
        "worker",
    },
    "robot": {
        "budget",
        "commands",
        "delivery",
        "health",
        "host",
        "intake",
        "limiter",
        "models",
        "one_thread",
        "outbox",
        "questions",
        "ratings",
        "reply",
        "sessions",
        "store",
        "texts",
        "timing",
    },
    "__init__": {
        "health",
        "host",
        "markdown",
        "models",
        "ratings",
        "reply",
        "robot",
        "store",
        "texts",
        "timing",
    },
}
TYPE_IMPORTS: dict[str, set[str]] = {
    "cards": set(),
    "frames": set(),
    "messages": set(),
    "config": set(),
    "network": set(),
    "ladder": set(),
    "logs": set(),
    "lifecycle": set(),
    "api": {"network"},
    "clicks": {"cards"},
    "template": {"cards"},
    "standard_card": {"cards", "messages"},
    "ai_card": {"api", "messages", "template"},
    "plain": {"api", "cards", "messages"},
    "reply": {"ai_card", "api", "ladder", "messages", "plain", "standard_card", "template"},
    "card_handler": {"ai_card", "api", "clicks", "logs", "template"},
    "handler": {
        "api",
        "card_handler",
        "cards",
        "config",
        "ladder",
        "logs",
        "messages",
        "network",
        "reply",
        "template",
    },
    "stream_client": {"api", "frames", "logs", "network"},
    "client_manager": {"api", "stream_client"},
    "loader": {"client_manager", "config", "handler", "stream_client"},
    "__init__": {"client_manager", "handler", "loader"},
}
# What is imported for the type checker only, and makes no arrow.
META_HINTS = {"questions": {"config"}, "ratings": {"config"}, "robot": {"config"}, "texts": {"models"}}
TYPE_HINTS = {"__init__": {"handler"}, "client_manager": {"stream_client"}, "template": {"config"}}
# Packages that are not Python's own. `jit` is JitNode's.
META_PACKAGES = {"config": {"pydantic"}, "host": {"jit"}}
TYPE_PACKAGES = {
    "ai_card": {"dingtalk_stream"},
    "api": {"dingtalk_stream"},
    "card_handler": {"dingtalk_stream"},
    "client_manager": {"dingtalk_stream"},
    "config": {"pydantic"},
    "frames": {"dingtalk_stream"},
    "handler": {"dingtalk_stream"},
    "messages": {"dingtalk_stream"},
    "network": {"certifi", "python_socks", "urllib3"},
    "plain": {"dingtalk_stream"},
    "reply": {"dingtalk_stream"},
    "standard_card": {"dingtalk_stream"},
    "stream_client": {"dingtalk_stream", "websockets"},
}
ASYNCHRONOUS = {"handler.py", "card_handler.py", "stream_client.py", "client_manager.py"}
POSIX_MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
    "termios", "tty", "uvloop",
}  # fmt: skip
POSIX_NAMES = {
    "AF_UNIX", "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2",
    "add_signal_handler", "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getuid", "killpg", "mkfifo",
    "open_unix_connection", "setsid", "setuid", "start_unix_server", "tzset", "uname", "wait4",
}  # fmt: skip


class Import(NamedTuple):
    level: int  # dots
    module: str
    names: tuple[str, ...]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def imports_in(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))


def imports_of(path: Path) -> Iterator[Import]:
    return imports_in(tree_of(path))


def neighbours_of(path: Path, hints: bool) -> set[str]:
    """The modules of its own folder that a file imports, for the type checker only (`hints`) or when it runs."""
    tree = tree_of(path)
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    tree.body = checked if hints else [node for node in tree.body if node not in checked]
    found: set[str] = set()
    for item in imports_in(tree):
        assert item.level < 2, f"{name_of(path)} reaches out of its element by dots"
        if item.level == 1:
            found |= {item.module} if item.module else set(item.names)
    return found


def packages_of(path: Path) -> set[str]:
    """The packages that a file imports, but for Python's own and the family itself."""
    roots = {item.module.partition(".")[0] for item in imports_of(path) if item.level == 0}
    return roots - set(sys.stdlib_module_names) - {"imRobots"}


def family_imports_of(path: Path) -> set[str]:
    return {item.module for item in imports_of(path) if item.level == 0 and item.module.split(".")[0] == "imRobots"}


def places(path: Path, kinds: tuple[type[ast.AST], ...]) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, kinds):
            yield f"{name_of(path)}:{getattr(node, 'lineno', 0)}", node


def by_name(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.py")}


@pytest.mark.parametrize(("folder", "allowed"), [(META, META_IMPORTS), (TYPE, TYPE_IMPORTS)], ids=["Meta", "Type"])
def test_a_module_imports_only_those_below_it(folder: Path, allowed: dict[str, set[str]]) -> None:
    assert {name: neighbours_of(path, hints=False) for name, path in by_name(folder).items()} == allowed


@pytest.mark.parametrize(("folder", "allowed"), [(META, META_HINTS), (TYPE, TYPE_HINTS)], ids=["Meta", "Type"])
def test_other_imports_serve_the_type_checker_only(folder: Path, allowed: dict[str, set[str]]) -> None:
    found = {name: neighbours_of(path, hints=True) for name, path in by_name(folder).items()}
    assert {name: neighbours for name, neighbours in found.items() if neighbours} == allowed


@pytest.mark.parametrize("allowed", [META_IMPORTS, TYPE_IMPORTS], ids=["Meta", "Type"])
def test_the_arrows_make_no_circle(allowed: dict[str, set[str]]) -> None:
    left = dict(allowed)
    while left:
        free = [name for name, below in left.items() if not below & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_only_the_loader_introduces_the_parts_to_each_other() -> None:
    parts = {"config", "handler", "client_manager"}
    assert [name for name, below in TYPE_IMPORTS.items() if parts <= below] == ["loader"]
    assert "client_manager" not in TYPE_IMPORTS["handler"]
    assert "handler" not in TYPE_IMPORTS["client_manager"]


@pytest.mark.parametrize(("folder", "allowed"), [(META, META_PACKAGES), (TYPE, TYPE_PACKAGES)], ids=["Meta", "Type"])
def test_a_package_is_imported_in_the_modules_that_own_it_only(folder: Path, allowed: dict[str, set[str]]) -> None:
    found = {name: packages_of(path) for name, path in by_name(folder).items()}
    assert {name: packages for name, packages in found.items() if packages} == allowed


def test_meta_knows_no_type() -> None:
    assert {name_of(path): family_imports_of(path) for path in META.rglob("*.py") if family_imports_of(path)} == {}


def test_a_type_sees_of_meta_its_two_public_modules_and_no_other_type() -> None:
    for path in TYPE.rglob("*.py"):
        assert family_imports_of(path) <= {"imRobots.Meta", "imRobots.Meta.config"}, name_of(path)


def test_what_a_type_takes_from_meta_is_exported_there() -> None:
    exported = {
        name.value
        for node in ast.walk(tree_of(META / "__init__.py"))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
        for name in ast.walk(node.value)
        if isinstance(name, ast.Constant)
    }
    taken = {
        name
        for path in TYPE.rglob("*.py")
        for item in imports_of(path)
        if item.level == 0 and item.module == "imRobots.Meta"
        for name in item.names
    }
    assert taken
    assert taken - exported == set()


def test_an_instance_is_configuration_only() -> None:
    [path] = (FAMILY / "dingTalkDemo").rglob("*.py")
    assert [type(node) for node in tree_of(path).body] == [ast.Expr], "its docstring"


def test_only_host_touches_the_app() -> None:
    found = set()
    for path in SOURCES:
        for _, node in places(path, (ast.Name, ast.Attribute, ast.arg)):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
            if name == "app":
                found.add(name_of(path))
    assert found == {"imRobots/Meta/host.py"}


def test_coroutines_are_in_four_files_only() -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = {path for path in SOURCES for _ in places(path, kinds)}
    assert {path.name for path in found} == ASYNCHRONOUS
    assert {path.parent for path in found} == {TYPE}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert (ast.get_docstring(tree_of(path)) or "").strip()


def test_nothing_needs_posix() -> None:
    found = []
    for path in SOURCES:
        found += [f"{name_of(path)} imports {item.module}" for item in imports_of(path) if item.module in POSIX_MODULES]
        for place, node in places(path, (ast.Name, ast.Attribute, ast.ImportFrom)):
            names = {getattr(node, "id", None), getattr(node, "attr", None)}
            names |= {alias.name for alias in getattr(node, "names", [])}
            found += [f"{place} uses {name}" for name in names & POSIX_NAMES]
    assert found == []


def opens_without_encoding(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg for keyword in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            modes = [item.value for item in ast.walk(node) if isinstance(item, ast.Constant)]
            binary = any(isinstance(mode, str) and "b" in mode and set(mode) <= set("rwxab+") for mode in modes)
            if "encoding" not in keywords and not binary:
                yield node.lineno
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            positional = 0 if node.func.attr == "read_text" else 1
            if "encoding" not in keywords and len(node.args) <= positional:
                yield node.lineno


def test_every_text_file_is_opened_with_an_encoding() -> None:
    assert [
        f"{name_of(path)}:{line}" for path in SOURCES + TESTS for line in opens_without_encoding(tree_of(path))
    ] == []


def silent_handlers(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and all(
            isinstance(statement, ast.Pass)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        ):
            yield node.lineno


def test_no_error_is_passed_over_in_silence() -> None:
    assert [f"{name_of(path)}:{line}" for path in SOURCES for line in silent_handlers(tree_of(path))] == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("open('a')", [1]),
        ("open('a', 'w')", [1]),
        ("open('a', 'rb')", []),
        ("open('a', encoding='utf-8')", []),
        ("robot.open('a')", []),
        ("path.read_text()", [1]),
        ("path.read_text('utf-8')", []),
        ("path.write_text('x')", [1]),
        ("path.write_text('x', encoding='utf-8')", []),
    ],
)
def test_the_check_of_encodings_finds_what_it_should(source: str, lines: list[int]) -> None:
    assert list(opens_without_encoding(ast.parse(source))) == lines


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("try:\n x()\nexcept:\n pass", [3]),
        ("try:\n x()\nexcept ValueError:\n ...", [3]),
        ("try:\n x()\nexcept ValueError:\n 'why not'", [3]),
        ("try:\n x()\nexcept ValueError:\n y()", []),
    ],
)
def test_the_check_of_silence_finds_what_it_should(source: str, lines: list[int]) -> None:
    assert list(silent_handlers(ast.parse(source))) == lines
