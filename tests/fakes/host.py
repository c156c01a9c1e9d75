"""A stand-in for JitNode, the closed application host that the robots run in.

Owns: finding elements, loaders and lifecycle hooks; the builtin `app` with its request contexts; the modules
`jit.commons.utils.logger` (log) and `jit.errcode` (Code). One host can be installed at a time in a process.

Does not do: HTTP and requestHandle, permissions, packaging and `dist`, requirements, caches, models, events, cacheLevel
(each element is loaded once per process), composite elements (`backendBundleEntry` below the element's folder), and the
hooks onCalled, onAppExit, onCreate and onException.

Simulated, that is, our own guess or choice:
- `app` refuses to work outside a request context, and a context belongs to the thread that entered it. The real host is
  not documented here; the strict reading keeps a robot correct under every other one. Contexts nest, and each has its
  own current user. `isolated=False` plays a host whose current user leaks between threads.
- `element_has_env=False` plays the host of the reference pages, where an element knows its `app` but no `env`.
- `app_path` plays the two readings of `env.getAppPath`: a whole path, or one below `env.rootPath`; "missing", and no
  `app_folder`, play a host where nothing is at that place.
- `drop_on_save` plays the three answers to "is a loaded element thrown away when its configuration is saved?": never
  (the default), "before" or "after" the Type's onUpdate.
- Hooks run in the calling thread, in the process of the caller, and hooks are looked up on the element's own Type only.
- If two roots hold an element of the same name, the first root is the child app that overrides the later one.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, NamedTuple, get_args

AppPath = Literal["absolute", "relative", "missing"]

APP_ID = "demoOrg.demoApp"
ENV_ID = "JRE_standin"
NO_FOLDER = Path(__file__).resolve() / "apps" / "demoApp"  # below a file: it cannot even be made
# JitNode's builder drops these. `tests` and `.venv` are ours: this repository's root stands in for an app's folder.
SKIPPED_FOLDERS = {"node_modules", ".git", "dist", "test", "__pycache__", "tests", ".venv"}
JIT_MODULES = ["jit", "jit.commons", "jit.commons.utils", "jit.commons.utils.logger", "jit.errcode"]

_MISSING: Any = object()
_installed: FakeHost | None = None


class ElementNotFound(Exception):
    """No element of this name in the app."""


class Code(Exception):
    """The host's error class: a number, and a reason that may have {placeholders}."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def formatReason(self, **kw: Any) -> Code:
        return type(self)(self.code, self.reason.format(**kw))


class LogRecord(NamedTuple):
    level: str
    message: str
    traceback: str = ""


def _log_method(level: str) -> Callable[..., None]:
    def write(self: _Log, msg: object, /) -> None:
        host = _installed
        if host is not None:  # a thread that outlives its host may still log; nobody is there to read it
            host._record(LogRecord(level, str(msg), traceback.format_exc() if level == "exception" else ""))

    return write


class _Log:
    """`log` as documented: five levels, one message each and nothing else (no %-arguments, no exc_info)."""

    debug, info, warning, error, exception = map(_log_method, ("debug", "info", "warning", "error", "exception"))


class _StrictApp:
    """What the name `app` means in product code: the installed host's app, inside a request context only."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checked(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._checked(name), name, value)

    @staticmethod
    def _checked(name: str) -> FakeApp:
        host = _installed
        if host is None or not host._frames():
            raise RuntimeError(
                f"app is bound to a request context; app.{name} was used on thread "
                f"{threading.current_thread().name!r}, which is not inside env.getReqContext(appId)"
            )
        return host.app


# Singletons, because product modules keep the `log` that they imported under an earlier host of the same process.
log = _Log()
app = _StrictApp()


class FakeEnv:
    def __init__(self, host: FakeHost) -> None:
        self.envId = ENV_ID
        self.rootPath = str(host.app_folder.parent)
        self._host = host

    def getReqContext(self, appId: str) -> AbstractContextManager[None]:
        self._check(appId)
        return self._host._request()

    def getAppPath(self, appId: str) -> str:
        self._check(appId)
        folder = self._host.app_folder
        if self._host.app_path == "missing":
            folder = folder.with_name(f"{folder.name}-missing")
        return folder.name if self._host.app_path == "relative" else str(folder)

    @staticmethod
    def _check(app_id: str) -> None:
        if app_id != APP_ID:
            raise ValueError(f"no app {app_id!r} in this environment")


class FakeApp:
    """The app itself, without the check for a context. It has nothing that the robots should not rely on."""

    _host: FakeHost
    appId: str
    env: FakeEnv

    def __init__(self, host: FakeHost) -> None:
        self.__dict__.update(_host=host, appId=APP_ID, env=FakeEnv(host))

    @property
    def envVars(self) -> dict[str, Any]:
        return self._host.env_vars

    @property
    def currentUser(self) -> Any:
        return self._host._user_holder().user

    @currentUser.setter
    def currentUser(self, user: Any) -> None:
        self._host._user_holder().user = user

    def getElement(self, fullName: str) -> Any:
        return self._host.get_element(fullName)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "currentUser":
            raise AttributeError(f"app.{name} cannot be set")
        super().__setattr__(name, value)


class FakeElement:
    """One element folder, as a Loader sees it in `nodes`."""

    env: FakeEnv  # absent, not None, on a host without `element.env`

    def __init__(self, host: FakeHost, full_name: str, folder: Path) -> None:
        self.fullName = full_name
        self.name = full_name.rpartition(".")[2]
        try:
            self.define: dict[str, Any] = json.loads((folder / "e.json").read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{folder / 'e.json'} is no JSON: {error}") from error
        self.title: str = self.define.get("title", "")
        self.type: str = self.define.get("type", "")
        self.app = host.app
        self.appId = APP_ID
        self.envId = ENV_ID
        if host.element_has_env:
            self.env = host.app.env
        self._folder = folder
        self._changed: dict[str, str] = {}
        self._loading = threading.RLock()

    def getFile(self, filename: str, isBinary: bool = False) -> str | bytes:
        if filename in self._changed:
            text = self._changed[filename]
            return text.encode("utf-8") if isBinary else text
        path = self._folder / filename
        return path.read_bytes() if isBinary else path.read_text(encoding="utf-8")


class CorpMember:
    """A row of the host's member table; an empty one is nobody in particular."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class FakeHost:
    def __init__(
        self,
        *roots: Path,
        env_vars: dict[str, Any] | None = None,
        isolated: bool = True,
        log_to: Callable[[str, str], None] | None = None,
        element_has_env: bool = True,
        drop_on_save: str = "never",
        app_folder: Path | None = None,
        app_path: AppPath = "absolute",
    ) -> None:
        if app_path not in get_args(AppPath):
            raise ValueError(f"app_path is one of {get_args(AppPath)}, not {app_path!r}")
        if drop_on_save not in ("never", "before", "after"):
            raise ValueError(f"drop_on_save is never, before or after, not {drop_on_save!r}")
        self.env_vars: dict[str, Any] = {} if env_vars is None else env_vars
        self.element_has_env = element_has_env
        self.records: list[LogRecord] = []
        self.contexts_entered = 0
        self.app_folder = NO_FOLDER if app_folder is None else app_folder.resolve()
        self.app_path = app_path
        self.app = FakeApp(self)
        self._roots = [str(Path(root).resolve()) for root in roots]
        self._isolated = isolated
        self._log_to = log_to
        self._drop_on_save = drop_on_save
        self._shared = SimpleNamespace(user=None)
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._loaded: dict[str, Any] = {}
        self._nodes: dict[str, list[FakeElement]] = {}
        for root in self._roots:
            self._discover(root)
        self.add("corps.models.CorpMember", CorpMember)

    def install(self) -> None:
        global _installed
        if _installed is not None:
            raise RuntimeError("a FakeHost is installed already")
        sys.modules.update(jit_modules())
        sys.path[:0] = self._roots
        importlib.invalidate_caches()  # the app's files may be younger than the import system's last look
        builtins.app = app  # type: ignore[attr-defined]
        _installed = self

    def uninstall(self) -> None:
        global _installed
        if _installed is not self:
            return
        _installed = None
        del builtins.app  # type: ignore[attr-defined]
        for name in JIT_MODULES:
            sys.modules.pop(name, None)
        for root in self._roots:
            with contextlib.suppress(ValueError):
                sys.path.remove(root)

    def __enter__(self) -> FakeHost:
        self.install()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.uninstall()

    def add(self, full_name: str, thing: Any) -> None:
        """Registers a ready-made execution object: an agent, a model class."""
        self._loaded[full_name] = thing

    def boot(self, *only: str) -> None:
        """App initialisation is over: load what wants to be loaded then, or of that only these elements."""
        for full_name in sorted(only or self._nodes):
            if self.element(full_name).define.get("backendLoadTime") == "afterAppInit":
                self.get_element(full_name)

    def element(self, full_name: str) -> FakeElement:
        nodes = self._nodes.get(full_name)
        if not nodes:
            raise ElementNotFound(f"element not found: {full_name}")
        return nodes[0]

    def get_element(self, full_name: str) -> Any:
        thing = self._loaded.get(full_name, _MISSING)
        if thing is _MISSING:
            with self.element(full_name)._loading:  # two threads may ask first at the same time
                thing = self._loaded.get(full_name, _MISSING)
                if thing is _MISSING:
                    thing = self._loaded[full_name] = self._load(full_name)
        return thing

    def write(self, full_name: str, filename: str, text: str) -> None:
        """Changes a file as the host's editor does: in memory. The folder on disk stays as it is."""
        self.element(full_name)._changed[filename] = text

    def save(self, full_name: str, filename: str, text: str) -> None:
        self.write(full_name, filename, text)
        if self._drop_on_save == "before":
            self._loaded.pop(full_name, None)
        self._call_hook(self.element(full_name).type, "onUpdate", full_name)
        if self._drop_on_save == "after":
            self._loaded.pop(full_name, None)

    def delete(self, full_name: str) -> None:
        self._call_hook(self.element(full_name).type, "onDelete", full_name)
        self._loaded.pop(full_name, None)
        del self._nodes[full_name]

    def _discover(self, root: str) -> None:
        for folder, subfolders, files in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
            full_name = ".".join(Path(folder).relative_to(root).parts)
            if "e.json" in files and full_name:
                self._nodes.setdefault(full_name, []).append(FakeElement(self, full_name, Path(folder)))

    def _load(self, full_name: str) -> Any:
        nodes = list(self._nodes[full_name])
        with self._inside():
            loader_class = self._find_loader(nodes[0].type)
            if loader_class is None:
                thing = nodes[0]
            else:
                # A Loader without a constructor is documented too; it only gets its nodes from outside.
                loader = loader_class() if loader_class.__init__ is object.__init__ else loader_class(nodes)
                loader.nodes = nodes
                thing = loader.load()
            self._call_hook(full_name, "onLoad")
        return thing

    def _find_loader(self, type_name: str) -> Any:
        chain = []
        while type_name:
            chain.append(type_name)
            type_name = self.element(type_name).type
        for name in reversed(chain):  # Meta first, and all of them: one that cannot be imported takes the app down
            importlib.import_module(name)
        for name in chain:
            loader_class = getattr(sys.modules[name], "Loader", None) or self._part(name, "loader", "Loader")
            if loader_class is not None:
                return loader_class
        return None  # the kernel's default loader: the element is its own execution object

    def _call_hook(self, owner: str, hook: str, *args: str) -> None:
        function = self._part(owner, "lifecycle", hook) if owner else None
        if function is not None:
            with self._inside():
                function(*args)

    def _part(self, full_name: str, module: str, attribute: str) -> Any:
        """What the element's loader.py or lifecycle.py defines, None without such a file."""
        if not (self.element(full_name)._folder / f"{module}.py").is_file():
            return None
        return getattr(importlib.import_module(f"{full_name}.{module}"), attribute, None)

    def context(self) -> AbstractContextManager[None]:
        return self.app.env.getReqContext(APP_ID)

    @contextlib.contextmanager
    def _request(self) -> Iterator[None]:
        frame = SimpleNamespace(user=None)
        self._frames().append(frame)
        with self._lock:
            self.contexts_entered += 1
        try:
            yield
        finally:
            frames = self._frames()
            if not frames or frames.pop() is not frame:
                raise RuntimeError("a request context must be left on the thread that entered it, innermost first")

    def _inside(self) -> AbstractContextManager[None]:
        """The host's own work joins the request that caused it."""
        return contextlib.nullcontext() if self._frames() else self.context()

    def _frames(self) -> list[SimpleNamespace]:
        frames: list[SimpleNamespace] = self._thread.__dict__.setdefault("frames", [])
        return frames

    def _user_holder(self) -> SimpleNamespace:
        if not self._frames():
            raise RuntimeError("app is bound to a request context; there is no current user outside of one")
        return self._frames()[-1] if self._isolated else self._shared

    def logged(self, level: str | None = None, containing: str = "") -> list[LogRecord]:
        with self._lock:
            records = list(self.records)
        return [record for record in records if level in (None, record.level) and containing in record.message]

    def _record(self, record: LogRecord) -> None:
        with self._lock:
            self.records.append(record)
        if self._log_to is not None:
            self._log_to(record.level, record.message)


def jit_modules() -> dict[str, ModuleType]:
    modules = {name: ModuleType(name) for name in JIT_MODULES}
    for name, module in modules.items():
        module.__path__ = []  # packages, so that importing an unknown part says which one is missing
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(modules[parent], leaf, module)
    modules["jit.commons.utils.logger"].log = log  # type: ignore[attr-defined]
    modules["jit.errcode"].Code = Code  # type: ignore[attr-defined]
    return modules
