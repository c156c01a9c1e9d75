"""Keeps the connection to the echo platform on a thread of its own. Methods may be called from any thread."""

import contextlib
import json
import socket
import threading

from imRobots.Meta import Deadline, TransportError, backoff, log


class ClientManager:
    def __init__(self):
        self.state, self.error = "new", None
        self._sending, self._socket = threading.Lock(), None

    def restart(self, handler, port):
        self.stop()
        self.state, self.error = "connecting", None
        self._handler, self._ended = handler, threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port,), name="imRobots-echo", daemon=True)
        self._thread.start()

    def stop(self, *, timeout=10.0):
        if self.is_running():
            deadline, self.state = Deadline(timeout), "stopping"
            self._ended.set()  # first no more messages, then the answers, then the connection that carries them
            self._handler.close(deadline)
            with contextlib.suppress(AttributeError, OSError):  # there is none, or none any more
                self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join(deadline.left)
            self.state = "stopped"

    def is_running(self):
        return self.state in ("connecting", "connected", "reconnecting")

    def fail(self, error):
        log.error(str(error))
        self.stop()
        self.state, self.error = "failed", error

    def _run(self, port):
        delays = backoff(1, 60)
        while not self._ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port)) as self._socket:
                    if self._ended.is_set():
                        return
                    self.state, delays = "connected", backoff(1, 60)
                    self._read()
            except OSError as error:
                log.debug(f"No connection to the echo platform: {error}")
            self._socket = None
            if self.is_running():
                self.state = "reconnecting"
            self._ended.wait(next(delays))

    def _read(self):
        with self._socket.makefile(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not self._ended.is_set():
                    self._handler.take(line)

    def send(self, data):
        try:
            with self._sending:
                self._socket.sendall(json.dumps(data, ensure_ascii=False).encode("utf-8") + b"\n")
        except (AttributeError, OSError) as error:
            raise TransportError("the echo platform is not connected") from error
