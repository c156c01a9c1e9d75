"""Stand-in proxies on loopback: SOCKS 5 (RFC 1928 CONNECT, RFC 1929 passwords), HTTP (CONNECT, and plain http:// URLs).

A proxy owns what happens on the way: who may use it, what a name means, tunnels and their end. It remembers what it was
asked and does not look into what it carries. It reaches this computer only and asks no name server: a name that is
neither `localhost` nor in `resolve` does not exist. It offers no UDP, no BIND and no TLS to itself; it forwards each
plain request on a connection of its own, so that only the client's side of it is kept alive.

Threads: each proxy runs on one daemon thread with its own event loop, and `requests`, `refused` and `protocol_errors`
grow there. All other threads may read these and use the public methods, which return when the thing is done.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import quote

T = TypeVar("T")
P = TypeVar("P", bound="_Proxy")

_PIECE = 65536
_SOCKS, _PASSWORDS = 5, 1  # versions of the protocol and of its negotiation of passwords
_NO_AUTHENTICATION, _USER_AND_PASSWORD, _NO_METHOD = 0x00, 0x02, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
# Headers for the next computer only (RFC 9110, 7.6.1). Transfer-Encoding stays: bodies are passed on as framed.
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"}


@dataclass(frozen=True)
class Request:
    """What a client with sufficient credentials asked for, also when it could not be had."""

    method: str  # CONNECT, unless it is a plain request
    host: str  # as the client sent it; an IPv6 address without brackets
    port: int
    by_name: bool
    user: str  # as the client said, "" if it did not


class _Stream(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Tunnel(NamedTuple):
    client: _Stream
    server: _Stream
    task: asyncio.Task[None]


class _Proxy:
    """A context manager, or `start()` and `stop()`."""

    scheme: ClassVar[str]
    url = ""  # without credentials

    def __init__(self, user: str = "", password: str = "", resolve: Mapping[str, tuple[str, int]] = {}) -> None:
        """`resolve`: where a host name really leads, whatever port the client says."""
        self.user, self.password, self.resolve = user, password, resolve
        self.requests: list[Request] = []
        self.refused: list[str] = []  # the user, or "", of each request for which the credentials did not suffice
        self.protocol_errors: list[str] = []
        self._crashes: list[BaseException] = []
        self._clients: dict[asyncio.Task[None], _Stream] = {}
        self._tunnels: list[_Tunnel] = []
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._server: asyncio.Server

    # ---- life

    def __enter__(self: P) -> P:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"fake-{self.scheme}-proxy", daemon=True)
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """Break what is open and refuse connections. Raises what went wrong within the proxy itself."""
        if self._loop is None:
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None
        if self._crashes:
            raise self._crashes[0]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.url = f"{self.scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        # The server is closed last, and its own tasks are only waited for: each is accepting a connection and hands it
        # to a task of ours, but would leave it open if the server was closed by then.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task, client in self._clients.items():
                _abort(client)  # here, because a task that is cancelled before it began does nothing at all
                task.cancel()
            await asyncio.wait(tasks)
        self._server.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the proxy is not started"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # ---- use

    def url_with(self, user: str, password: str, scheme: str | None = None) -> str:
        """The address with these credentials, percent-encoded, and possibly another scheme such as `socks5h`."""
        address = self.url.partition("://")[2]
        return f"{scheme or self.scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{address}"

    @property
    def tunnels(self) -> int:
        """How many are open. One counts before its client is told, and until both of its sides have ended."""
        return len(self._tunnels)

    def wait_tunnels(self, count: int, timeout: float = 5) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.tunnels == count, timeout):
                raise AssertionError(f"waited {timeout:g} s in vain for {count} open tunnel(s); {self.tunnels} are")

    def cut(self) -> None:
        """Break all tunnels, both sides of them, as the death of the proxy would. It stays there for new ones."""

        async def cut() -> None:
            tunnels = list(self._tunnels)
            for tunnel in tunnels:
                _abort(tunnel.client, tunnel.server)
            if tunnels:
                await asyncio.wait([tunnel.task for tunnel in tunnels])

        self._run(cut())

    # ---- work

    async def _serve(self, client: _Stream) -> None:
        """Talk to one client. What it raises as an OSError or EOFError is a lost connection."""
        raise NotImplementedError

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Stream(reader, writer)
        task = asyncio.get_running_loop().create_task(self._handle(client))
        self._clients[task] = client
        task.add_done_callback(self._clients.pop)

    async def _handle(self, client: _Stream) -> None:
        try:
            await self._serve(client)
            await _flush(client)
        except (OSError, EOFError):
            pass  # a lost connection
        except (ValueError, asyncio.LimitOverrunError) as exc:
            self.protocol_errors.append(str(exc))
        except Exception as exc:
            self._crashes.append(exc)
        finally:
            _abort(client)

    async def _connect(self, request: Request) -> _Stream:
        host, port = self.resolve.get(request.host, (request.host, request.port))
        host = "127.0.0.1" if host == "localhost" else host
        if not _is_address(host) or not ipaddress.ip_address(host).is_loopback:
            raise OSError(errno.EHOSTUNREACH, f"{host} is not on this computer")
        return _Stream(*await asyncio.open_connection(host, port))

    async def _tunnel(self, client: _Stream, server: _Stream, announcement: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        tunnel = _Tunnel(client, server, task)
        self._change_tunnels(self._tunnels.append, tunnel)
        pumps: list[asyncio.Task[None]] = []
        try:
            await _send(client.writer, announcement)
            ways = (client.reader, server.writer), (server.reader, client.writer)
            pumps = [asyncio.create_task(_pump(*way)) for way in ways]
            await asyncio.gather(*pumps)
            await _flush(server)
            await _flush(client)
        finally:
            _abort(client, server)  # which ends a pump whose companion failed
            await asyncio.gather(*pumps, return_exceptions=True)
            self._change_tunnels(self._tunnels.remove, tunnel)

    def _change_tunnels(self, change: Callable[[_Tunnel], None], tunnel: _Tunnel) -> None:
        with self._changed:
            change(tunnel)
            self._changed.notify_all()


class Socks5Proxy(_Proxy):
    """With a `user` it takes clients with that password only, else only those that can do without one."""

    scheme = "socks5"

    async def _serve(self, client: _Stream) -> None:
        user = await self._authenticate(client)
        if user is None:
            return
        request = await self._read_request(client, user)
        if isinstance(request, int):
            await _send(client.writer, _socks_reply(request))
            return
        self.requests.append(request)
        try:
            server = await self._connect(request)
        except OSError as exc:
            codes = {errno.ECONNREFUSED: 5, errno.EHOSTUNREACH: 4, errno.ENETUNREACH: 3}
            await _send(client.writer, _socks_reply(codes.get(exc.errno or 0, 1)))
            return
        host, port = server.writer.get_extra_info("sockname")[:2]
        await self._tunnel(client, server, _socks_reply(0, host, port))

    async def _authenticate(self, client: _Stream) -> str | None:
        """The user, "" where none is asked for; None if the client was turned away."""
        reader, writer = client
        _check_version(_SOCKS, (await reader.readexactly(1))[0])
        methods = await _read_string(reader)
        method = _USER_AND_PASSWORD if self.user else _NO_AUTHENTICATION
        if method not in methods:
            self.refused.append("")
            await _send(writer, bytes([_SOCKS, _NO_METHOD]))
            return None
        await _send(writer, bytes([_SOCKS, method]))
        if method == _NO_AUTHENTICATION:
            return ""
        _check_version(_PASSWORDS, (await reader.readexactly(1))[0])
        user, password = await _read_string(reader), await _read_string(reader)
        right = (user, password) == (self.user.encode(), self.password.encode())
        name = user.decode(errors="replace")
        if not right:
            self.refused.append(name)
        await _send(writer, bytes([_PASSWORDS, 0 if right else 1]))
        return name if right else None

    async def _read_request(self, client: _Stream, user: str) -> Request | int:
        """The request, or the reply code that refuses it."""
        version, command, _, kind = await client.reader.readexactly(4)
        _check_version(_SOCKS, version)
        if kind == _NAME:
            host = (await _read_string(client.reader)).decode(errors="backslashreplace")
        elif kind in (_IPV4, _IPV6):
            host = str(ipaddress.ip_address(await client.reader.readexactly(4 if kind == _IPV4 else 16)))
        else:
            return 8
        port = int.from_bytes(await client.reader.readexactly(2), "big")
        return Request("CONNECT", host, port, kind == _NAME, user) if command == 1 else 7


class _NoHttp(Exception):
    """Not what a client says to an HTTP proxy."""


@dataclass
class _Head:
    """The head of an HTTP message. Names of headers are lower case."""

    first: list[str]  # three parts, of which a status line's last may be empty
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key == name)

    def encode(self, *more: tuple[str, str]) -> bytes:
        lines = [" ".join(self.first), *(f"{name}: {value}" for name, value in [*self.headers, *more])]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")

    def for_next_hop(self, first: list[str], *without: str) -> _Head:
        named = {name.strip().lower() for name in self.get("connection").split(",")}
        dropped = _HOP_BY_HOP | named | set(without)
        return _Head(first, [(name, value) for name, value in self.headers if name not in dropped])

    @property
    def is_chunked(self) -> bool:
        return self.get("transfer-encoding").lower().endswith("chunked")

    @property
    def is_last(self) -> bool:
        closing = "close" in f"{self.get('connection')} {self.get('proxy-connection')}".lower()
        return closing or self.first[2] == "HTTP/1.0"


class HttpProxy(_Proxy):
    """With a `user` it answers 407 to whoever does not send that one and the password with each request."""

    scheme = "http"

    async def _serve(self, client: _Stream) -> None:
        try:
            while head := await _read_head(client.reader):
                if not await self._answer(client, head) or head.is_last:
                    return
        except _NoHttp as exc:
            self.protocol_errors.append(str(exc))
            await _answer_error(client, None, 400, "Bad Request")

    async def _answer(self, client: _Stream, head: _Head) -> bool:
        """Serve one request. False if the connection is over with it."""
        method, host, port, path = _parse_target(*head.first)
        user, right = self._check_credentials(head.get("proxy-authorization"))
        if not right:
            self.refused.append(user)
            challenge = ("Proxy-Authenticate", 'Basic realm="loopback"')
            return await _answer_error(client, head, 407, "Proxy Authentication Required", challenge)
        request = Request(method, host, port, not _is_address(host), user)
        self.requests.append(request)
        try:
            server = await self._connect(request)
        except OSError:
            return await _answer_error(client, head, 502, "Bad Gateway")
        if method == "CONNECT":
            await self._tunnel(client, server, b"HTTP/1.1 200 Connection established\r\n\r\n")
            return False
        try:
            return await self._forward(client, server, head, path)
        finally:
            _abort(server)

    async def _forward(self, client: _Stream, server: _Stream, head: _Head, path: str) -> bool:
        method, url, _ = head.first
        request = head.for_next_hop([method, path, "HTTP/1.1"], "host")
        authority = url.split("/", 3)[2].rpartition("@")[2]
        try:
            await _send(server.writer, request.encode(("host", authority), ("connection", "close")))
            await _pass_body(head, client.reader, server.writer)
            answer = await _read_head(server.reader)
            while answer and answer.first[1].startswith("1"):  # "go on" and the like are not for this client
                answer = await _read_head(server.reader)
        except (OSError, EOFError, _NoHttp):
            answer = None
        if answer is None:
            return await _answer_error(client, None, 502, "Bad Gateway")
        status = answer.first[1]
        bodiless = method == "HEAD" or status in ("204", "304")
        delimited = bodiless or answer.is_chunked or bool(answer.get("content-length"))
        last = head.is_last or not delimited
        passed_on = answer.for_next_hop(["HTTP/1.1", *answer.first[1:]])
        await _send(client.writer, passed_on.encode(*[("connection", "close")] * last))
        if not delimited:
            while data := await server.reader.read(_PIECE):
                await _send(client.writer, data)
        elif not bodiless:
            await _pass_body(answer, server.reader, client.writer)
        return not last

    def _check_credentials(self, header: str) -> tuple[str, bool]:
        """The user, and whether he may use this proxy."""
        kind, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True) if kind.lower() == "basic" else b""
        except ValueError:
            given = b""
        right = not self.user or given == f"{self.user}:{self.password}".encode()
        return given.decode(errors="replace").partition(":")[0], right


# ---- connections


def _abort(*streams: _Stream) -> None:
    for stream in streams:
        stream.writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()  # so that a slow receiver slows down the sender


async def _flush(stream: _Stream) -> None:
    """Until all is sent."""
    stream.writer.transport.set_write_buffer_limits(0)
    await stream.writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        await _send(writer, data)
    if not writer.is_closing():
        writer.write_eof()


async def _read_string(reader: asyncio.StreamReader) -> bytes:
    """What SOCKS sends with its length before it."""
    return await reader.readexactly((await reader.readexactly(1))[0])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# ---- messages


def _check_version(wanted: int, version: int) -> None:
    if version != wanted:
        raise ValueError(f"version {version} where {wanted} is due")


def _socks_reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    address = ipaddress.ip_address(host)
    kind = _IPV4 if address.version == 4 else _IPV6
    return bytes([_SOCKS, code, 0, kind]) + address.packed + port.to_bytes(2, "big")


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    """None at the end of the connection."""
    start = await reader.read(1)
    if not start:
        return None
    if not start.isalpha():  # TLS or SOCKS, which would leave both sides waiting
        raise _NoHttp(f"not HTTP: the first byte is {start!r}")
    text = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text[:-4].split("\r\n")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return _Head([*first.split(" ", 2), "", ""][:3], headers)


def _parse_target(method: str, target: str, version: str) -> tuple[str, str, int, str]:
    """Method, host, port, path of a request to a proxy."""
    pattern = "(?P<authority>.*)(?P<path>)" if method == "CONNECT" else "http://(?P<authority>[^/?#]+)(?P<path>.*)"
    url = re.fullmatch(pattern, target)
    authority = url and re.fullmatch(r"(?:.*@)?(\[[^\]]+\]|[^:\[\]]+)(?::(\d+))?", url["authority"])
    if not url or not authority or not version.startswith("HTTP/1.") or (method == "CONNECT" and not authority[2]):
        raise _NoHttp(f"not a request to a proxy: {method} {target} {version}")
    path = url["path"] if url["path"].startswith("/") else f"/{url['path']}"
    return method, authority[1].strip("[]"), int(authority[2] or 80), path


async def _answer_error(client: _Stream, head: _Head | None, status: int, reason: str, *more: tuple[str, str]) -> bool:
    """Answer a request, whose body is read first if the request is known. Tells if the connection goes on."""
    if head:
        await _pass_body(head, client.reader, None)
    last = head is None or head.is_last
    body = f"the proxy says: {reason}\n".encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *more]
    answer = _Head(["HTTP/1.1", str(status), reason], headers + [("Connection", "close")] * last)
    await _send(client.writer, answer.encode() + body)
    return not last


async def _pass_body(head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    """Pass on the body that belongs to the head, byte for byte; without a writer only read it."""
    if not head.is_chunked:
        await _pass_bytes(int(head.get("content-length") or 0), reader, writer)
        return
    size = 1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if writer:
            await _send(writer, line)
        if size:
            await _pass_bytes(size + 2, reader, writer)
    while line != b"\r\n":  # trailers
        line = await reader.readuntil(b"\r\n")
        if writer:
            await _send(writer, line)


async def _pass_bytes(count: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while count:
        data = await reader.read(min(count, _PIECE))
        if not data:
            raise EOFError("the connection ended within a message")
        count -= len(data)
        if writer:
            await _send(writer, data)
