"""The stand-in proxies and the private CA, driven by the clients that the product uses."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import urllib3
from aiohttp import WSMsgType, web
from python_socks import ProxyError, ProxyType
from python_socks.sync import Proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError, InvalidProxyStatus
from websockets.exceptions import ProxyError as WebSocketProxyError
from websockets.sync.client import connect

from tests.fakes import proxies
from tests.fakes.certificates import PrivateCA
from tests.fakes.proxies import HttpProxy, Request, Socks5Proxy

NAME = "dingtalk.test"  # no computer has it
USER, PASSWORD = "ann", "secret"
EVERY_BYTE = bytes(range(256))
FOUR_MEGABYTES = EVERY_BYTE * 16_384
TIMEOUT = urllib3.Timeout(total=5)

AnyProxy = Socks5Proxy | HttpProxy
both = pytest.mark.parametrize("kind", [Socks5Proxy, HttpProxy])


class Site:
    """A server for HTTP and WebSocket that sends back what it gets. It runs on a loop and thread of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[web.Request] = []
        self.transports: list[asyncio.Transport | None] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.listen(tls), self.loop).result(5)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def end(self) -> None:
        await self.runner.cleanup()
        for transport in self.transports:
            if transport:
                transport.close()  # Python 3.10 warns of a TLS connection that only its client has closed
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # of connections that nobody closed in time
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def listen(self, tls: ssl.SSLContext | None) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self.serve)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.address: tuple[str, int] = ("127.0.0.1", self.runner.addresses[0][1])

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.heads.append(request)
        self.transports.append(request.transport)
        if request.headers.get("Upgrade") == "websocket":
            websocket = web.WebSocketResponse(timeout=0.1)
            await websocket.prepare(request)
            async for message in websocket:
                if message.type is WSMsgType.TEXT:
                    await websocket.send_str(message.data)
            return websocket
        if request.path == "/nothing":
            return web.Response(status=204)
        body = await request.read()
        if request.path != "/pieces":
            return web.Response(body=body)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(body), 100_000):
            await response.write(body[start : start + 100_000])
        return response


@pytest.fixture(scope="module")
def ca() -> PrivateCA:
    return PrivateCA(NAME)


@pytest.fixture(scope="module")
def bundle(ca: PrivateCA, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(ca.write_bundle(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def secure_site(ca: PrivateCA) -> Iterator[Site]:
    site = Site(ca.server_context())
    yield site
    site.close()


@pytest.fixture
def asked_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that this computer was asked to resolve."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def recorded(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", recorded)
    return asked


@contextmanager
def peer(talk: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """A server for one connection, which `talk` gets on a thread of its own."""
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                talk(connection)
        except Exception as exc:
            failures.append(exc)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[:2]
        thread.join(10)
    assert not failures, failures


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def receive(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def manager(proxy: str, bundle: str | None = None) -> urllib3.PoolManager:
    """How urllib3 gets to the net through a proxy."""
    url = urlsplit(proxy)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    options: dict[str, Any] = {"ca_certs": bundle, "retries": False, "timeout": TIMEOUT, "maxsize": 1}
    if url.scheme == "http":
        headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)

    def open_socket(self: HTTPConnection) -> socket.socket:
        return open_tunnel(proxy, self.host, self.port)

    pools = {
        "http": type("Pool", (urllib3.HTTPConnectionPool,), {}),
        "https": type("Pool", (urllib3.HTTPSConnectionPool,), {}),
    }
    pools["http"].ConnectionCls = type("Connection", (HTTPConnection,), {"_new_conn": open_socket})
    pools["https"].ConnectionCls = type("Connection", (HTTPSConnection,), {"_new_conn": open_socket})
    made = urllib3.PoolManager(**options)
    made.pool_classes_by_scheme = pools
    return made


def open_tunnel(proxy: str, host: str, port: int) -> socket.socket:
    """A socket through a proxy, with python_socks."""
    url = urlsplit(proxy)
    assert url.hostname and url.port
    kind = ProxyType.HTTP if url.scheme == "http" else ProxyType.SOCKS5
    credentials = (unquote(url.username or ""), unquote(url.password or ""))
    return Proxy(kind, url.hostname, url.port, *credentials, rdns=url.scheme != "socks5").connect(host, port, timeout=5)


def dial(proxy: AnyProxy, room: int = 0) -> socket.socket:
    """A bare connection to a proxy, with this much room for what is not read yet."""
    connection = socket.socket()
    if room:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.settimeout(5)
    try:
        connection.connect(("127.0.0.1", urlsplit(proxy.url).port))
    except OSError:
        connection.close()
        raise
    return connection


def ask(text: str, uri: str, proxy: str, tls: ssl.SSLContext | None = None) -> str:
    """What the server says to this over WebSocket. Not with websockets' client for threads: over TLS it may hang."""

    async def talk() -> str:
        async with connect_async(uri, proxy=proxy, ssl=tls) as websocket:
            await websocket.send(text)
            answer = str(await websocket.recv())
        websocket.transport.close()  # else Python 3.10 warns of a TLS connection that its server has closed
        return answer

    return asyncio.run(talk())


def by_name(proxy: AnyProxy, password: str = PASSWORD) -> str:
    """The URL for a client that leaves names to the proxy."""
    return proxy.url_with(USER, password, "socks5h" if isinstance(proxy, Socks5Proxy) else None)


# ---- addresses and credentials


@pytest.mark.parametrize(
    ("host", "listens_on", "named"),
    [("127.0.0.1", "127.0.0.1", False), ("::1", "::1", False), ("localhost", "127.0.0.1", True)],
)
@both
def test_kinds_of_addresses(kind: type[AnyProxy], host: str, listens_on: str, named: bool) -> None:
    with kind() as proxy, peer(echo, listens_on) as (_, port):
        target = f"[{host}]" if kind is HttpProxy and ":" in host else host  # python_socks adds no brackets
        with open_tunnel(proxy.url.replace("socks5", "socks5h"), target, port) as tunnel:
            tunnel.sendall(EVERY_BYTE)
            tunnel.shutdown(socket.SHUT_WR)
            assert receive(tunnel) == EVERY_BYTE
        assert proxy.requests == [Request("CONNECT", host, port, named, "")]
        assert proxy.protocol_errors == []


def test_a_socks_proxy_that_gets_an_address_instead_of_a_name() -> None:
    with Socks5Proxy() as proxy, peer(echo) as (_, port):
        open_tunnel(proxy.url, "localhost", port).close()
        [request] = proxy.requests
        assert (request.host, request.by_name) == ("127.0.0.1", False)


@both
def test_names_that_only_the_proxy_knows(
    kind: type[AnyProxy], secure_site: Site, bundle: str, asked_names: list[str]
) -> None:
    with kind(USER, PASSWORD, {NAME: secure_site.address}) as proxy:
        with manager(by_name(proxy), bundle) as http:
            answer = http.request("POST", f"https://{NAME}/x", body=EVERY_BYTE)
        assert ask("你好", f"wss://{NAME}", by_name(proxy), ssl.create_default_context(cafile=bundle)) == "你好"
    assert (answer.status, answer.data) == (200, EVERY_BYTE)
    assert proxy.requests == [Request("CONNECT", NAME, 443, True, USER)] * 2
    assert set(asked_names) == {"127.0.0.1"}  # the proxy itself


@both
@pytest.mark.parametrize("host", ["nowhere.test", "192.0.2.1"])
def test_nothing_beyond_this_computer_is_reached(kind: type[AnyProxy], host: str, asked_names: list[str]) -> None:
    with kind() as proxy:
        with pytest.raises(ProxyError, match=r"Host unreachable|502 Bad Gateway"):
            open_tunnel(proxy.url.replace("socks5", "socks5h"), host, 80)
        assert [request.host for request in proxy.requests] == [host]
    assert set(asked_names) == {"127.0.0.1"}


@both
def test_a_destination_that_refuses(kind: type[AnyProxy]) -> None:
    with kind() as proxy, pytest.raises(ProxyError, match=r"Connection refused by destination host|502 Bad Gateway"):
        open_tunnel(proxy.url, "127.0.0.1", free_port())
    assert proxy.tunnels == 0


@pytest.mark.parametrize(
    ("user", "password", "text", "refused"),
    [
        (USER, "wrong", "Username and password authentication failure", USER),
        ("bob", PASSWORD, "Username and password authentication failure", "bob"),
        ("", "", "No acceptable authentication methods were offered", ""),
    ],
)
def test_socks_credentials(user: str, password: str, text: str, refused: str, site: Site) -> None:
    with Socks5Proxy(USER, PASSWORD) as proxy:
        with pytest.raises(ProxyError, match=text), manager(proxy.url_with(user, password)) as http:
            http.request("GET", "http://{}:{}/".format(*site.address))
        with pytest.raises(WebSocketProxyError) as caught:
            connect("ws://{}:{}/".format(*site.address), proxy=proxy.url_with(user, password))
        assert str(caught.value.__cause__) == text
        assert (proxy.refused, proxy.requests) == ([refused] * 2, [])


def test_a_socks_proxy_without_users_does_not_ask_for_one(site: Site) -> None:
    with Socks5Proxy() as proxy, manager(proxy.url_with(USER, PASSWORD)) as http:
        assert http.request("POST", "http://{}:{}/".format(*site.address), body=b"x").data == b"x"
        assert [request.user for request in proxy.requests] == [""]


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("bob", PASSWORD), ("", "")])
def test_http_credentials(user: str, password: str, site: Site, secure_site: Site) -> None:
    with HttpProxy(USER, PASSWORD) as proxy:
        url = proxy.url_with(user, password) if user else proxy.url
        with manager(url) as http:
            seen = len(site.heads)
            answer = http.request("POST", "http://{}:{}/".format(*site.address), body=FOUR_MEGABYTES)
            assert (answer.status, answer.headers["Proxy-Authenticate"]) == (407, 'Basic realm="loopback"')
            with pytest.raises(urllib3.exceptions.ProxyError, match="407 Proxy Authentication Required"):
                http.request("GET", "https://{}:{}/".format(*secure_site.address))
        with pytest.raises(InvalidProxyStatus, match="proxy rejected connection: HTTP 407"):
            connect("ws://{}:{}/".format(*site.address), proxy=url)
        assert (proxy.refused, proxy.requests, len(site.heads)) == ([user] * 3, [], seen)


@both
def test_credentials_in_a_url(kind: type[AnyProxy], site: Site) -> None:
    user, password = "a@b", "c:/%d e"  # websockets decodes such ones from 17 on only
    with kind(user, password) as proxy:
        address = proxy.url.partition("://")[2]
        assert proxy.url_with(user, password) == f"{kind.scheme}://a%40b:c%3A%2F%25d%20e@{address}"
        assert proxy.url_with("a", "b", "https") == f"https://a:b@{address}"
        with manager(proxy.url_with(user, password)) as http:
            assert http.request("POST", "http://{}:{}/".format(*site.address), body=b"x").data == b"x"
        assert [request.user for request in proxy.requests] == [user]


# ---- plain requests


def test_plain_requests_on_one_kept_connection(site: Site, asked_names: list[str]) -> None:
    paths = ["/a?b=%20c&d", "/pieces", "", "/nothing"]
    with HttpProxy(USER, PASSWORD, {NAME: site.address}) as proxy, manager(by_name(proxy)) as http:
        seen = len(site.heads)
        answers = [http.request("POST", f"http://{NAME}:8080{path}", body=FOUR_MEGABYTES) for path in paths]
        # Of unknown length both ways, without a body, to nobody, and after that.
        answers.append(http.request("PUT", f"http://{NAME}/pieces", body=iter([b"one ", b"two"]), chunked=True))
        answers.append(http.request("HEAD", f"http://{NAME}/"))
        answers.append(http.request("POST", f"http://127.0.0.1:{free_port()}/", body=FOUR_MEGABYTES))
        answers.append(http.request("POST", f"http://{NAME}/", body=b"last"))
        assert [answer.status for answer in answers] == [200, 200, 200, 204, 200, 200, 502, 200]
        bodies = [answer.data for answer in answers]
        assert bodies[:3] == [FOUR_MEGABYTES] * 3
        assert bodies[3:6] + bodies[7:] == [b"", b"one two", b"", b"last"]
        assert asked_names == ["127.0.0.1"]  # one connection to the proxy
        assert [(one.method, one.port, one.user) for one in proxy.requests[:6]] == [
            *[("POST", 8080, USER)] * 4,
            ("PUT", 80, USER),
            ("HEAD", 80, USER),
        ]
        assert (proxy.requests[6].host, proxy.requests[7].host) == ("127.0.0.1", NAME)
        assert proxy.tunnels == 0
    heads = site.heads[seen:]
    assert [head.raw_path for head in heads] == ["/a?b=%20c&d", "/pieces", "/", "/nothing", "/pieces", "/", "/"]
    assert [head.headers["Host"] for head in heads] == [f"{NAME}:8080"] * 4 + [NAME] * 3
    assert {head.headers["Connection"] for head in heads} == {"close"}
    assert not any("Proxy-Authorization" in head.headers for head in heads)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"", b"the proxy says: Bad Gateway\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", None),
    ],
)
def test_plain_answers_of_odd_servers(sent: bytes, received: bytes | None) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(sent)

    with HttpProxy() as proxy, manager(proxy.url) as http, peer(talk) as (host, port):
        if received is None:
            with pytest.raises(urllib3.exceptions.ProtocolError):
                http.request("GET", f"http://{host}:{port}/")
        else:
            answer = http.request("GET", f"http://{host}:{port}/")
            assert (answer.status, answer.data) == (200 if sent else 502, received)


# ---- WebSocket and TLS


@both
def test_websockets(kind: type[AnyProxy], site: Site, secure_site: Site, bundle: str) -> None:
    trust = ssl.create_default_context(cafile=bundle)
    for server, scheme, tls in ((site, "ws", None), (secure_site, "wss", trust)):
        port, text = server.address[1], scheme * 300_000
        with kind(USER, PASSWORD) as proxy:
            assert ask(text, f"{scheme}://localhost:{port}", by_name(proxy), tls) == text
            proxy.wait_tunnels(0)
            assert proxy.requests == [Request("CONNECT", "localhost", port, True, USER)]


@both
def test_certificates(kind: type[AnyProxy], secure_site: Site, bundle: str, tmp_path: Path) -> None:
    other = str(PrivateCA().write_bundle(tmp_path))
    with kind(USER, PASSWORD, {NAME: secure_site.address, "other.test": secure_site.address}) as proxy:
        for name, trusted, problem in (
            (NAME, bundle, ""),
            ("localhost", bundle, ""),
            ("127.0.0.1", bundle, ""),
            (NAME, other, "unable to get local issuer|certificate signature failure|self.signed"),
            ("other.test", bundle, "Hostname mismatch"),
        ):
            address = name if name in proxy.resolve else f"{name}:{secure_site.address[1]}"
            trust = ssl.create_default_context(cafile=trusted)
            with manager(by_name(proxy), trusted) as http:
                if not problem:
                    assert http.request("POST", f"https://{address}", body=b"x").data == b"x"
                    assert ask("x", f"wss://{address}", by_name(proxy), trust) == "x"
                    continue
                with pytest.raises(urllib3.exceptions.SSLError, match=problem):
                    http.request("GET", f"https://{address}")
            with pytest.raises(ssl.SSLCertVerificationError, match=problem):
                connect(f"wss://{address}", proxy=by_name(proxy), ssl=trust)


# ---- tunnels


@both
def test_cut(kind: type[AnyProxy], site: Site) -> None:
    uri = "ws://{}:{}".format(*site.address)
    with kind() as proxy:
        with connect(uri, proxy=proxy.url) as one, connect(uri, proxy=proxy.url) as two:
            assert proxy.tunnels == 2
            proxy.cut()
            assert proxy.tunnels == 0
            for websocket in (one, two):
                with pytest.raises(ConnectionClosedError, match="no close frame received or sent"):
                    websocket.recv(timeout=5)
        with connect(uri, proxy=proxy.url) as three:
            three.send("again")
            assert three.recv() == "again"


@both
def test_cut_is_seen_by_the_server_too(kind: type[AnyProxy]) -> None:
    arrived, cut = threading.Event(), threading.Event()

    def talk(connection: socket.socket) -> None:
        assert connection.recv(5) == b"hello"
        arrived.set()
        assert connection.recv(1) == b""
        assert cut.wait(5)  # which does not wait for this side

    with kind() as proxy, peer(talk) as address, open_tunnel(proxy.url, *address) as tunnel:
        tunnel.sendall(b"hello")
        assert arrived.wait(5)
        proxy.cut()
        cut.set()
        assert tunnel.recv(1) == b""


@both
def test_one_side_may_end_before_the_other(kind: type[AnyProxy]) -> None:
    asked: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        asked.append(receive(connection))
        connection.sendall(FOUR_MEGABYTES)

    with kind() as proxy, peer(talk) as address, open_tunnel(proxy.url, *address) as tunnel:
        tunnel.sendall(FOUR_MEGABYTES)
        assert proxy.tunnels == 1
        tunnel.shutdown(socket.SHUT_WR)
        assert receive(tunnel) == FOUR_MEGABYTES
        assert asked == [FOUR_MEGABYTES]
        proxy.wait_tunnels(0)


@both
def test_the_server_may_end_first(kind: type[AnyProxy]) -> None:
    def talk(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection) == EVERY_BYTE

    with kind() as proxy, peer(talk) as address, open_tunnel(proxy.url, *address) as tunnel:
        assert tunnel.recv(1) == b""
        tunnel.sendall(EVERY_BYTE)


@pytest.mark.parametrize(
    ("kind", "opening"),
    [
        (Socks5Proxy, "\x05\x01\x00\x05\x01\x00\x03\x09localhost{high}{low}"),
        (HttpProxy, "CONNECT localhost:{port} HTTP/1.1\r\n\r\n"),
        (HttpProxy, ""),
    ],
    ids=["socks", "connect", "plain"],
)
def test_the_end_of_a_transfer_is_not_lost(kind: type[AnyProxy], opening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    accept, size = proxies._Proxy._accept, 110_000

    def accept_with_little_room(proxy: AnyProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        accept(proxy, reader, writer)

    def talk(connection: socket.socket) -> None:
        assert connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(size))

    monkeypatch.setattr(proxies._Proxy, "_accept", accept_with_little_room)
    with kind() as proxy, dial(proxy, room=4096) as client:
        with peer(talk) as (_, port):
            hello = opening.format(port=port, high=chr(port >> 8), low=chr(port & 255)).encode("latin-1")
            client.sendall(hello + f"GET http://localhost:{port}/ HTTP/1.1\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
        time.sleep(0.03)  # the server has gone, and now the proxy learns of it
        assert len(receive(client).rpartition(b"\r\n\r\n")[2]) == size


@both
def test_a_slow_receiver_slows_down_the_sender(kind: type[AnyProxy]) -> None:
    stalled, digests = threading.Event(), [hashlib.sha256(), hashlib.sha256()]

    def talk(connection: socket.socket) -> None:
        assert stalled.wait(5)
        while data := connection.recv(2**20):
            digests[0].update(data)

    with kind() as proxy, peer(talk) as address, open_tunnel(proxy.url, *address) as tunnel:
        tunnel.settimeout(0.1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 2**28:
                count = tunnel.send(FOUR_MEGABYTES)
                digests[1].update(FOUR_MEGABYTES[:count])
                sent += count
        assert sent > 2**16
        stalled.set()
    assert digests[0].digest() == digests[1].digest()


@both
def test_stopping_with_open_tunnels(kind: type[AnyProxy], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    ended: list[bool] = []

    def talk(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            connection.sendall(b"x" * 2**20)
            receive(connection)
        ended.append(True)

    with peer(talk) as address:
        with kind() as proxy:
            tunnel = open_tunnel(proxy.url, *address)
            # One that does not finish its request, one that is only just connected.
            idle = dial(proxy)
            idle.sendall(b"\x05" if kind is Socks5Proxy else b"GET / HT")
            late = dial(proxy)
        for connection in (tunnel, idle, late):
            with connection, suppress(ConnectionError):
                receive(connection)  # until its end
    assert (ended, proxy.tunnels) == ([True], 0)
    assert f"fake-{kind.scheme}-proxy" not in [thread.name for thread in threading.enumerate()]
    gc.collect()  # what is forgotten unclosed warns, and a warning fails the test
    assert caplog.records == []
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)


def test_stopping_while_a_server_is_silent() -> None:
    arrived = threading.Event()

    def talk(connection: socket.socket) -> None:
        assert connection.recv(65536).startswith(b"GET / HTTP/1.1\r\n")
        arrived.set()
        assert connection.recv(1) == b""

    with peer(talk) as (host, port), HttpProxy() as proxy, dial(proxy) as client:
        client.sendall(f"GET http://{host}:{port}/ HTTP/1.1\r\n\r\n".encode())
        assert arrived.wait(5)
        proxy.stop()
        assert client.recv(1) == b""


# ---- what is no proxy client


@pytest.mark.parametrize(
    ("kind", "sent", "received", "problem"),
    [
        (HttpProxy, b"\x16\x03\x01\x02\x00", b"HTTP/1.1 400 ", r"not HTTP: the first byte is b'\x16'"),
        (HttpProxy, b"GET /path HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 ", "not a request to a proxy: GET /path HTTP/1.1"),
        (HttpProxy, b"CONNECT name HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 ", "not a request to a proxy: CONNECT name"),
        (HttpProxy, b"GET https://a/ HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 ", "not a request to a proxy: GET https://a/"),
        (Socks5Proxy, b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"", "version 67 where 5 is due"),
        (Socks5Proxy, b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07", ""),  # BIND
        (Socks5Proxy, b"\x05\x01\x00\x05\x01\x00\x09", b"\x05\x00\x05\x08", ""),
    ],
)
def test_who_speaks_something_else(kind: type[AnyProxy], sent: bytes, received: bytes, problem: str) -> None:
    with kind() as proxy, dial(proxy) as client:
        client.sendall(sent)
        try:
            answer = receive(client)
        except ConnectionResetError:  # with the answer unread, or what the client sent
            answer = b""
        assert answer.startswith(received) and bool(answer) == bool(received)
    assert [error[: len(problem)] for error in proxy.protocol_errors] == ([problem] if problem else [])
    assert proxy.requests == []


@both
def test_a_fault_of_the_proxy_itself_is_no_secret(kind: type[AnyProxy], monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(proxies._Proxy, "_connect", break_down)
    proxy = kind()
    proxy.start()
    with pytest.raises(ProxyError):
        open_tunnel(proxy.url, "127.0.0.1", 80)
    with pytest.raises(RuntimeError, match="a bug"):
        proxy.stop()
