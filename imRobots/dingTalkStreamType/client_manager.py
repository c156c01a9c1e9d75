"""The reference's `ClientManager`: a Stream client on a thread and a loop of its own, to be started and stopped.

Owns that thread, the loop and the state. Knows no configuration and nothing of answers: any `ChatbotHandler` will do,
and what else a handler has is used: `card_handler`, `api`, `status`, `exportFeedback`, `close`. Methods may be called
from any thread. Needs no installed package until `start`, so that it can stand for an instance that cannot run.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from imRobots.Meta import Deadline, IMRobotError, log, one_line, utc

if TYPE_CHECKING:
    from .stream_client import StreamClient

_REPORT_SECONDS = 60 * 60
# For the answers of a client that is replaced: the process goes on, so they have the time that they need.
_LEFT_BEHIND_SECONDS = 15 * 60

State: TypeAlias = Literal["new", "connecting", "connected", "reconnecting", "stopping", "stopped", "failed"]


class ClientManager:
    """Keeps one client connected. What `load()` returns and `app.getElement` gives out."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.client: StreamClient | None = None
        self.handler: Any = None
        self.error: Exception | None = None
        self._state: State = "new"
        self._since = time.time()
        self._run: _Run | None = None
        self._left_behind: list[_Run] = []  # disconnected, with answers that still go out
        self._turn = threading.Lock()  # held while it is started or stopped, so never on the client's own thread
        self._changed = threading.Condition()

    @property
    def state(self) -> State:
        return self._state

    def start(self, message_handler: Any) -> None:
        """Connect and stay connected, in the background. A manager that runs already only warns."""
        with self._turn:
            if self.is_running():
                log.warning("Client is already running")
                return
            if crashed := self._take_run():
                crashed.end(Deadline(1))
            self._begin(message_handler)

    def restart(self, message_handler: Any, client_id: str, client_secret: str) -> None:
        """Change over to another handler and other credentials, running or not.

        The old connection is closed first. Answers of the old handler still go out while the new one works.
        """
        with self._turn:
            self._leave_behind()
            self.client_id, self.client_secret = client_id, client_secret
            self._begin(message_handler)

    def stop(self, *, timeout: float = 10.0) -> None:
        """Close the connection, let running answers finish, end the threads: all within `timeout` seconds.

        Blocks until then, except on the client's own thread, where the rest happens in the background.
        """
        run = self._run
        if run is not None and threading.current_thread() is run.thread:
            stop = functools.partial(self.stop, timeout=timeout)
            _in_background(stop)
            return
        deadline = Deadline(timeout)
        if not self._turn.acquire(timeout=timeout):
            log.warning("Client is still being started or stopped by another thread")
            return
        try:
            run = self._take_run()
            for left in self._left_behind:
                _in_background(functools.partial(left.end, deadline))
            if run is None:
                log.warning("Client is not running")
                return
            self._set("stopping")
            run.disconnect(deadline)
            run.end(deadline)
            for left in self._left_behind:
                left.thread.join(deadline.left)
            self.handler = None
            self._set("stopped")
            log.info("Client stopped")
        finally:
            self._turn.release()

    def fail(self, error: IMRobotError) -> None:
        """Log the error; stop, if it runs, and stand for an instance that cannot run."""
        log.error(str(error))
        with self._turn:
            self._leave_behind()
            self.handler, self.error = None, error
            self._set("failed")

    def is_running(self) -> bool:
        """Whether the client is connected or on the way to it."""
        return self._state in ("connecting", "connected", "reconnecting")

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the client is connected; False after `timeout` seconds, or if it is not going to be."""
        with self._changed:
            self._changed.wait_for(lambda: self._state not in ("connecting", "reconnecting"), timeout)
            return self._state == "connected"

    def status(self) -> dict[str, Any]:
        """The state and since when, and what the connection and the handler tell of themselves. Reads a file."""
        client: Any = self.client
        status: dict[str, Any] = client.status() if client is not None else {}
        if callable(of_handler := getattr(self.handler, "status", None)):
            status |= of_handler()
        return {**status, "state": self._state, "since": utc(self._since)}

    def exportFeedback(self, since: Any = None) -> str:
        """How people rated answers since then, as JSON lines: see `TextHandler.exportFeedback`. Reads a file.

        Raises `IMRobotError` while there is no handler that keeps ratings: the client must have been started.
        """
        export = getattr(self.handler, "exportFeedback", None)
        if export is None:
            what = "start the client with a handler that keeps them"
            raise IMRobotError(f"client id {self.client_id}: no ratings to export, it is {self._state}; {what}")
        return str(export(since))

    def report(self, state: State | None = None) -> None:
        """Write one line about it all to the log, as `key=value`; `state` if that is not the present one any more."""
        log.info(f"client_id={self.client_id} {one_line({**self.status(), 'state': state or self._state})}")

    def _begin(self, handler: Any) -> None:
        from dingtalk_stream import CallbackHandler, ChatbotMessage, Credential

        from .api import Api
        from .stream_client import StreamClient

        def report(state: State) -> None:
            if self._run is run:  # a client that was replaced has no say any more
                self._set(state)

        def crashed(error: Exception) -> None:
            if self._run is run:
                self.error = error
                self._set("failed")

        client = StreamClient(Credential(self.client_id, self.client_secret), on_state=report)
        client.register_callback_handler(ChatbotMessage.TOPIC, handler)
        if card_handler := getattr(handler, "card_handler", None):
            client.register_callback_handler(CallbackHandler.TOPIC_CARD_CALLBACK, card_handler)
        if isinstance(api := getattr(handler, "api", None), Api):
            client.api = api  # one for all calls, with the handler's proxy and counts
        self.client, self.handler, self.error = client, handler, None
        self._set("connecting")
        self._run = run = _Run(client, handler, on_crash=crashed, on_hour=self.report)
        run.thread.start()

    def _leave_behind(self) -> None:
        """Disconnect what runs; its answers still go out, in the background."""
        old = self._take_run()
        if old is not None:
            old.disconnect(Deadline(5))
            _in_background(functools.partial(old.end, Deadline(_LEFT_BEHIND_SECONDS)))
            self._left_behind = [run for run in (*self._left_behind, old) if run.thread.is_alive()]

    def _take_run(self) -> _Run | None:
        run, self._run = self._run, None
        return run

    def _set(self, state: State) -> None:
        with self._changed:
            if state != self._state:
                self._since = time.time()
            self._state = state
            self._changed.notify_all()
        _in_background(functools.partial(self.report, state))  # it reads a file, and this may be an event loop


class _Run:
    """One client on one thread, from its start to its end."""

    def __init__(
        self,
        client: StreamClient,
        handler: Any,
        on_crash: Callable[[Exception], None],
        on_hour: Callable[[], None],
    ) -> None:
        self._client = client
        self._handler = handler
        self._on_crash = on_crash
        self._on_hour = on_hour
        self._loop = asyncio.new_event_loop()
        self._leave = asyncio.Event()
        self._finish = asyncio.Event()
        self._disconnected = threading.Event()
        self.thread = threading.Thread(target=self._main, name="imRobots-stream", daemon=True)

    def disconnect(self, deadline: Deadline) -> None:
        """Close the connection: no more messages come."""
        self._signal(self._leave)
        if threading.current_thread() is not self.thread:
            self._disconnected.wait(deadline.left)

    def end(self, deadline: Deadline) -> None:
        """Let the handler finish what it has, then end the loop and its thread."""
        close = getattr(self._handler, "close", None)
        if close is not None:
            try:
                close(Deadline(deadline.left * 0.95))
            except Exception:
                log.exception("The handler could not be closed")
        self._signal(self._finish)
        self.thread.join(deadline.left)
        if self.thread.is_alive():
            log.warning("The handler still blocks the client's thread, which ends when the handler returns")

    def _signal(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            log.debug("The client's loop has ended already")

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        except Exception as error:
            log.exception("The Stream client ended unexpectedly")
            self._on_crash(error)
        finally:
            self._disconnected.set()
            self._loop.close()

    async def _live(self) -> None:
        connection = self._loop.create_task(self._client.start())
        leave = self._loop.create_task(self._leave.wait())
        every_hour = self._loop.create_task(self._report())
        await asyncio.wait({connection, leave}, return_when=asyncio.FIRST_COMPLETED)
        connection.cancel()
        try:
            await connection
        except asyncio.CancelledError:
            log.debug("The connection to DingTalk is closed")
        finally:
            leave.cancel()
            every_hour.cancel()
            self._disconnected.set()
        await self._finish.wait()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=1)
            for task in rest:
                task.cancel()
            await asyncio.wait(rest, timeout=1)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            _in_background(self._on_hour)


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="imRobots-background", daemon=True).start()
