"""How this machine reaches DingTalk: through which proxy, trusting which certificates, and how long a call may take.

Owns the HTTP connections. Blocking, but for `proxy_for` and `tls`; any thread but an event loop. Knows nothing of
DingTalk: an answer is a status and bytes.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import python_socks
import urllib3
from python_socks.sync import Proxy

from imRobots.Meta import Deadline, Misconfigured, TransportError, Unconfirmed

# Seconds for connecting, for each answer, and for both together. Looking up a name is the operating system's affair.
_SECONDS = 10.0
# From one look for a proxy in the environment (on Windows and macOS the system's settings as well) to the next.
_LOOK_AGAIN_SECONDS = 5.0
_MAX_CONNECTIONS = 96  # as many as the outbox has threads
_MAX_BYTES = 2**23  # of an answer; DingTalk's have a few hundred
_DEFAULT_PORTS = {"http": 8080, "socks5": 1080, "socks5h": 1080}  # of the kinds of proxies there are


class Network:
    """The way out of this machine. Every call raises `TransportError`, with a text that holds no secret."""

    def __init__(self, proxy: str = "", ca_file: str = "") -> None:
        """The configuration's `proxy` and `caFile`; without them, what the environment says."""
        self._proxy = proxy
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self._found: dict[str, tuple[float, urllib3.PoolManager]] = {}  # by scheme and host, and until when

    def request(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Make one call; returns the answer's status and body."""
        with reaching(f"{method} {path_of(url)}"):
            answer = self._pool_for(url).request(method, url, body=body, headers=headers, preload_content=False)
            content = answer.read(_MAX_BYTES)
            if len(content) == _MAX_BYTES:
                answer.close()
                raise TransportError(f"{method} {path_of(url)}: the answer is too long")
            answer.release_conn()
            return answer.status, content

    def close(self) -> None:
        """Close the connections that nobody uses. The next call opens a new one."""
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.clear()

    def proxy_for(self, url: str) -> str | None:
        """The proxy to reach `url` through: the configured one, else the environment's, else None."""
        if self._proxy:
            return self._proxy
        address = urlsplit(url)
        if urllib.request.proxy_bypass(address.netloc.rpartition("@")[2]):
            return None
        found = urllib.request.getproxies()
        proxy = found.get("https" if address.scheme in ("https", "wss") else "http") or found.get("all")
        if not proxy:
            return None
        kind, _, rest = proxy.partition("://") if "://" in proxy else ("http", "", proxy)
        kind = {"socks": "socks5"}.get(kind.lower(), kind.lower())
        if kind not in _DEFAULT_PORTS:
            raise Misconfigured(
                f"the environment (HTTPS_PROXY, ALL_PROXY) names a proxy of the kind {kind}; only "
                f"{', '.join(_DEFAULT_PORTS)} can be used. Change the variable, set the key `proxy`, or except "
                "DingTalk's hosts in NO_PROXY."
            )
        return f"{kind}://{rest}"

    @functools.cached_property
    def tls(self) -> ssl.SSLContext:
        """What is trusted: `caFile`, else REQUESTS_CA_BUNDLE or SSL_CERT_FILE, else the system's and certifi's."""
        trusted = self._ca_file or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        try:
            if trusted and os.path.isdir(trusted):
                return ssl.create_default_context(capath=trusted)
            context = ssl.create_default_context(cafile=trusted or None)
        except OSError as error:
            raise Misconfigured(
                f"the certificates in {trusted} cannot be read ({error.strerror}); correct caFile, REQUESTS_CA_BUNDLE "
                "or SSL_CERT_FILE"
            ) from None
        if not trusted:
            context.load_verify_locations(certifi.where())  # a Python that JitNode brings may find no system's
        return context

    def tunnel_to(self, url: str) -> socket.socket | None:
        """A socket that a proxy has connected with a URL's host, None where there is no proxy on the way."""
        proxy, address = _proxy(self.proxy_for(url)), urlsplit(url)
        if proxy is None or address.hostname is None:
            return None
        port = address.port or (443 if address.scheme in ("https", "wss") else 80)
        with reaching(f"connecting to {address.hostname} through the proxy"):
            connected: socket.socket = proxy.connect(address.hostname, port, timeout=_SECONDS)
            return connected

    def _pool_for(self, url: str) -> urllib3.PoolManager:
        """What the environment says holds for some seconds: to look for it costs half as much as a call."""
        host, now = "/".join(url.split("/", 3)[:3]), time.monotonic()
        until, pool = self._found.get(host, (0.0, None))
        if pool is None or now >= until:
            pool = self._pool_through(self.proxy_for(url), url.startswith("https:"))
            self._found[host] = now + _LOOK_AGAIN_SECONDS, pool
        return pool

    def _pool_through(self, proxy: str | None, secure: bool) -> urllib3.PoolManager:
        with self._lock:
            if (proxy, secure) not in self._pools:
                pool = urllib3.PoolManager(
                    maxsize=_MAX_CONNECTIONS,
                    retries=False,
                    timeout=urllib3.Timeout(connect=_SECONDS, read=_SECONDS, total=_SECONDS),
                    ssl_context=self.tls if secure else None,
                )
                through = _proxy(proxy)
                pool.pool_classes_by_scheme = {
                    "http": _pool_class(urllib3.HTTPConnectionPool, urllib3.connection.HTTPConnection, through),
                    "https": _pool_class(urllib3.HTTPSConnectionPool, urllib3.connection.HTTPSConnection, through),
                }
                self._pools[proxy, secure] = pool
            return self._pools[proxy, secure]


def path_of(url: str) -> str:
    """A URL's path, for logs: the query of a webhook's is a secret."""
    return urlsplit(url).path or "/"


@contextlib.contextmanager
def reaching(what: str) -> Iterator[None]:
    """Raise a `TransportError` for whatever goes wrong on the way, also in websockets' connect."""
    try:
        yield
    except TransportError:
        raise
    except Exception as error:
        raise _explained(what, error) from None  # the libraries' texts have addresses in them, and so secrets


def _explained(what: str, error: Exception) -> TransportError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Misconfigured(
                f"{what}: the server's certificate is not trusted ({cause.verify_message}). If a proxy of your "
                "organization re-encrypts, set `caFile` to the file of its certificate."
            )
    if any(_wants_a_password(cause) for cause in causes):
        return Misconfigured(
            f"{what}: the proxy wants a user and a password, or others. Set the key `proxy`, or HTTPS_PROXY, to "
            "http://user:password@host:port or socks5h://user:password@host:port."
        )
    names = ", ".join(dict.fromkeys(type(cause).__name__ for cause in causes))
    # What these say comes from the operating system, or from the proxy.
    reasons = (cause.strerror if isinstance(cause, OSError) else str(cause) for cause in causes if _speaks(cause))
    reason = next(filter(None, reasons), "")
    text = f"{what}: {names}{f' ({reason})' if reason else ''}"
    if isinstance(error, (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError)):
        return Unconfirmed(text)
    return TransportError(text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it wraps, by whichever of the ways that urllib3, python-socks and websockets have."""
    yield error
    wrapped = [*error.args, getattr(error, "reason", None), getattr(error, "original_error", None), error.__cause__]
    for inner in wrapped:
        if isinstance(inner, BaseException) and inner is not error:
            yield from _causes(inner)


def _wants_a_password(cause: BaseException) -> bool:
    """Only python-socks speaks with proxies, and its error has a number for HTTP and a text for SOCKS."""
    return isinstance(cause, python_socks.ProxyError) and (
        cause.error_code == 407 or "authentication" in str(cause).lower()
    )


def _speaks(cause: BaseException) -> bool:
    return isinstance(cause, (OSError, python_socks.ProxyError))


def _proxy(url: str | None) -> Proxy | None:
    """python-socks speaks both kinds; urllib3 and websockets each have their own idea of what a password may hold."""
    if not url:
        return None
    address = urlsplit(url)
    if not unquote(address.netloc).isascii():
        raise Misconfigured("the user or the password of the proxy has a character that is not ASCII; change it there")
    return Proxy(
        python_socks.ProxyType.HTTP if address.scheme == "http" else python_socks.ProxyType.SOCKS5,
        address.hostname or "",
        address.port or _DEFAULT_PORTS[address.scheme],
        unquote(address.username) if address.username else None,
        unquote(address.password) if address.password else None,
        rdns=address.scheme != "socks5",
    )


def _pool_class(pool: type, connection: type, through: Proxy | None) -> type:
    """urllib3's pool, with connections that answer in time, and that go through a proxy if there is one."""

    def connect(self: Any) -> socket.socket:
        assert through is not None
        try:
            connected: socket.socket = through.connect(self.host.strip("[]"), self.port, timeout=_SECONDS)
        except (OSError, python_socks.ProxyError) as error:  # so that urllib3 knows that nothing was sent yet
            raise urllib3.exceptions.NewConnectionError(self, "not through the proxy") from error
        return connected

    methods: dict[str, Any] = {"response_class": _Answer}
    if through is not None:
        methods["_new_conn"] = connect
    connection = type(connection.__name__, (_InOneWrite, connection), methods)
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _InOneWrite:
    """Of a connection: the head of a request waits for the body, so that both are one write, and one packet.

    When hundreds of answers end at once, what they wait for is this process, and after each write they wait again.
    """

    _head: bytes | None = None
    _is_head = False

    def request(self, method: str, url: str, body: Any = None, *args: Any, **options: Any) -> None:
        self._is_head = bool(body)
        super().request(method, url, body, *args, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self._is_head:
            self._head, self._is_head = data, False
            return
        head, self._head = self._head, None
        super().send(data if head is None else head + data)  # type: ignore[misc]


class _Answer(http.client.HTTPResponse):
    """An answer that has the socket's timeout for the whole of it. A socket by itself has it anew for every byte."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_InTime(self.fp.detach(), sock))


class _InTime(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._socket = sock
        self._timeout = sock.gettimeout()
        self._deadline = Deadline(self._timeout or _SECONDS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline.left
        if not left:
            raise TimeoutError("the answer is not complete in time")
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.settimeout(self._timeout)  # for the next call
        self._raw.close()
        super().close()
