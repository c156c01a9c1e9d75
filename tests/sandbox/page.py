"""The page's server: on this computer's loopback only, below an address that nobody can guess.

Owns the server, its thread, and what goes over the page's WebSocket: to the page the desk's things as JSON
(`changes.py`), from the page what a person does, which is done on threads of the loop's executor. What the page looks
like is in `web/`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from .changes import change
from .desk import Desk, Message, Thing, sendable
from .node import Node
from .platforms import Platform, Trouble, mention_of

WEB = Path(__file__).parent / "web"
FILES = {"": "index.html"} | {file.name: file.name for file in WEB.iterdir()}
# The switches in this order, then those of a platform that has others.
SWITCHES = (
    *("drop", "disconnect", "slow", "throttle", "expire", "refuse"),
    *("agentError", "agentHang", "redeliver", "restart"),
)
_STATUS_SECONDS = 1.0
_MOST_REASON = 300  # characters
_HEADERS = {
    # Some browsers do not take a WebSocket of the same host for 'self'.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self' ws://127.0.0.1:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address is the key
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """A context manager; `url` is where the page is meanwhile. Any number of windows may look at it."""

    def __init__(
        self, desk: Desk, node: Node, platform: Platform, element: str, examples: dict[str, list[str]]
    ) -> None:
        """`examples`: questions to begin with, by language."""
        self._desk = desk
        self._node = node
        self._platform = platform
        self._element = element
        self._examples = examples
        self._pushes: dict[str, Callable[[], None]] = {**platform.pushes, "restart": node.restart}
        self._toggles: dict[str, Callable[[bool], None]] = {
            **platform.toggles,
            "agentError": lambda on: setattr(node.agent, "fails", on),
            "agentHang": lambda on: setattr(node.agent, "hangs", on),
        }
        self._on = dict.fromkeys(self._toggles, False)
        self._token = secrets.token_urlsafe(16)
        self._windows: set[asyncio.Queue[Any]] = set()  # what is to be sent to each
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sandbox-page", daemon=True)
        self.url = ""

    def __enter__(self) -> Page:
        self._thread.start()
        self._listens.wait()
        if not self.url:
            raise OSError("the page's server could not be started; the traceback is above")
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _serve(self) -> None:
        try:
            asyncio.run(self._live())
        finally:
            self._listens.set()

    async def _live(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/{token}/live", self._talk)
        app.router.add_get("/{token}/wire/{number:[0-9]{1,9}}", self._give_item)
        app.router.add_get("/{token}/{file:[a-z.]*}", self._give_file)
        # What strangers on this computer send is not worth a traceback in the terminal.
        silent = logging.Logger("sandbox", logging.CRITICAL)
        runner = web.AppRunner(app, access_log=None, logger=silent, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{self._token}/"
        self._listens.set()
        await self._ended.wait()
        self._tell_windows(None)
        await runner.cleanup()

    # ---- files

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Only for those who were given the address, and no other name of it: any page could call itself this host."""
        own = self.url.removeprefix("http://").partition("/")[0]
        token = request.match_info.get("token", "")
        if request.host != own or not secrets.compare_digest(token.encode(), self._token.encode()):
            raise web.HTTPNotFound
        if request.headers.get("Origin") not in (None, f"http://{own}"):
            raise web.HTTPForbidden
        return await handler(request)

    async def _give_file(self, request: web.Request) -> web.StreamResponse:
        file = FILES.get(request.match_info["file"])
        if file is None:
            raise web.HTTPNotFound
        return web.FileResponse(WEB / file, headers=_HEADERS)

    async def _give_item(self, request: web.Request) -> web.StreamResponse:
        item = self._desk.item(int(request.match_info["number"]))
        if item is None:
            raise web.HTTPNotFound
        return web.json_response(item.detail, dumps=_to_json, headers=_HEADERS)

    # ---- the WebSocket

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=20)
        await socket.prepare(request)
        window: asyncio.Queue[Any] = asyncio.Queue()
        tasks = [asyncio.ensure_future(work) for work in (self._send(socket, window), self._ask_status(window))]
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT and (notice := await asyncio.to_thread(self._act, frame.data)):
                    window.put_nowait({"type": "notice", **notice})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return socket

    async def _send(self, socket: web.WebSocketResponse, window: asyncio.Queue[Any]) -> None:
        def tell(thing: Thing) -> None:
            self._loop.call_soon_threadsafe(window.put_nowait, thing)

        self._windows.add(window)
        try:
            window.put_nowait(self._hello())
            with self._desk.told_to(tell):
                while (thing := await window.get()) is not None:
                    told = thing if isinstance(thing, dict) else change(thing, self._desk)
                    await socket.send_str(_to_json(told))
            await socket.close()
        except ConnectionError:
            return  # the window was closed
        except Exception as error:
            self._desk.log("error", f"The page could not be told: {error!r}")
            await socket.close()  # it will come again
        finally:
            self._windows.discard(window)

    async def _ask_status(self, window: asyncio.Queue[Any]) -> None:
        while True:
            try:
                status = await asyncio.to_thread(self._node.status)
            except Exception as error:
                self._desk.log("error", f"The robot's status() failed: {error!r}")
                status = {}
            if not any(status.get(name, True) for name in ("unsent", "in_flight", "queued")):
                self._desk.settle()
            window.put_nowait({"type": "status", "status": status})
            await asyncio.sleep(_STATUS_SECONDS)

    def _tell_windows(self, thing: Any) -> None:
        for window in self._windows:
            window.put_nowait(thing)

    def _hello(self) -> dict[str, Any]:
        platform = self._platform
        titles = {"group": platform.robot, "single": ""}
        return {
            "type": "hello",
            "platform": platform.name,
            "element": self._element,
            "robot": platform.robot,
            "live": not platform.kinds,
            "notice": [{"ok": line.ok, "en": line.en, "zh": line.zh} for line in platform.notice],
            "people": [{"id": person, "title": title} for person, title in platform.people.items()],
            "chats": [{"id": kind, "kind": kind, "title": titles[kind]} for kind in platform.kinds],
            "kinds": platform.kinds,
            "quotes": platform.quotes,
            "examples": self._examples,
            "switches": self._switches(),
            "settings": self._settings(),
        }

    def _switches(self) -> list[dict[str, Any]]:
        names = [*self._pushes, *self._toggles]
        known = [name for name in SWITCHES if name in names]
        others = [name for name in names if name not in known]
        return [{"name": name} | ({"on": self._on[name]} if name in self._on else {}) for name in known + others]

    def _settings(self) -> list[dict[str, Any]]:
        node = self._node
        return [{"name": name, "value": node.settings[name], "choices": node.choices[name]} for name in node.choices]

    # ---- what a person does, on any thread

    def _act(self, text: str) -> dict[str, Any] | None:
        """Do it; returns what the person is to be told if nothing comes of it."""
        command: Any = {}
        try:
            command = json.loads(text)
            act = {"say": self._say, "click": self._click, "switch": self._switch, "set": self._set}[command["do"]]
            act(command)
            return None
        except Trouble as trouble:
            return {"key": str(trouble), "entry": command.get("entry")}
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:_MOST_REASON]
            self._desk.log("error", f"The page's wish could not be done: {reason}")
            return {"key": "failed", "reason": reason, "entry": None}

    def _say(self, command: dict[str, Any]) -> None:
        chat, person, kind, text = (sendable(str(command[name])) for name in ("chat", "person", "kind", "text"))
        if kind not in self._platform.kinds[chat] or person not in self._platform.people:
            raise ValueError(f"{person} cannot send {kind} in {chat}")
        robot = self._platform.robot
        heard = chat != "group" or not robot or bool(mention_of(robot).search(text))
        command["entry"] = f"msg{uuid.uuid4().hex}"  # below which it is said if nothing comes of it
        self._platform.say(Message(command["entry"], chat, person, kind, text, str(command.get("quote") or ""), heard))

    def _click(self, command: dict[str, Any]) -> None:
        self._platform.click(str(command["entry"]), str(command["button"]), str(command["person"]))

    def _switch(self, command: dict[str, Any]) -> None:
        name = command["name"]
        if name in self._pushes:
            self._pushes[name]()
            return
        if not isinstance(on := command["on"], bool):
            raise TypeError(f"{name} is on or off, not {on!r}")
        self._toggles[name](on)
        self._on[name] = on
        self._loop.call_soon_threadsafe(self._tell_windows, {"type": "switches", "switches": self._switches()})

    def _set(self, command: dict[str, Any]) -> None:
        self._node.set(command["name"], command["value"])
        self._loop.call_soon_threadsafe(self._tell_windows, {"type": "settings", "settings": self._settings()})


def _to_json(value: Any) -> str:
    """Whatever came over the wire: half an emoji cannot be sent as UTF-8."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode("utf-8")
