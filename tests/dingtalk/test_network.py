"""The way to DingTalk as its servers and the proxies see it: how long a call takes, what it trusts, who is asked."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import dingtalk_stream.utils
import pytest

from imRobots.dingTalkStreamType import ClientManager, TextHandler, network
from imRobots.dingTalkStreamType.network import Network
from imRobots.Meta import Misconfigured, TransportError, Unconfirmed
from tests.dingtalk.conftest import end_robots
from tests.dingtalk.helpers import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONFIG,
    ELEMENT,
    Line,
    Log,
    Server,
    eventually,
    http,
    in_time,
    text_of,
)
from tests.fakes.certificates import PrivateCA
from tests.fakes.gateway import Gateway
from tests.fakes.host import FakeHost
from tests.fakes.proxies import HttpProxy, Socks5Proxy

NAME = "dingtalk.test"  # only proxies know where it is
USER, PASSWORD = "ann", "p@ss:w/rd 100%"
HARMLESS = http(b'{"ok": 1}').replace(b"Connection: close\r\n", b"")  # the connection stays
AnyProxy = HttpProxy | Socks5Proxy


def post(net: Network, url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    return net.request("POST", url, b"{}", headers or {})


def failure(net: Network, url: str, limit: float = 10) -> TransportError:
    """The error of a call, which must come in time."""

    def attempt() -> TransportError:
        with pytest.raises(TransportError) as caught:
            post(net, url)
        return caught.value

    return in_time(attempt, limit)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long a call may take here."""
    monkeypatch.setattr(network, "_SECONDS", 0.2)
    return 0.2


@pytest.fixture
def more_seconds(monkeypatch: pytest.MonkeyPatch) -> float:
    """The same, for what must not be too late on a busy machine."""
    monkeypatch.setattr(network, "_SECONDS", 0.5)
    return 0.5


@pytest.fixture
def net(seconds: float) -> Iterator[Network]:
    net = Network()
    yield net
    net.close()


@pytest.fixture
def patient(more_seconds: float) -> Iterator[Network]:
    net = Network()
    yield net
    net.close()


# ---- in time


def test_a_call_returns_status_and_body(net: Network) -> None:
    def serve(line: Line) -> None:
        line.read()
        line.send(http(b"\x00\xff any bytes", "418 Teapot"))

    with Server(serve) as server:
        assert net.request("PUT", f"{server.url}/a/path?x=1", b"body", {"X-Token": "t"}) == (418, b"\x00\xff any bytes")
    [(_, request)] = server.requests
    assert request.startswith(b"PUT /a/path?x=1 HTTP/1.1\r\n") and request.endswith(b"\r\n\r\nbody")
    assert b"X-Token: t\r\n" in request


def test_a_request_without_a_body_is_one_too(net: Network) -> None:
    def serve(line: Line) -> None:
        while line.read():
            line.send(HARMLESS)

    with Server(serve) as server:
        assert net.request("GET", f"{server.url}/path", b"", {}) == (200, b'{"ok": 1}')
        assert net.request("POST", f"{server.url}/path", b"{}", {}) == (200, b'{"ok": 1}')
    assert [request.split()[0] for _, request in server.requests] == [b"GET", b"POST"]


def test_a_long_body_arrives_as_it_was(patient: Network) -> None:
    def serve(line: Line) -> None:
        while line.read():
            line.send(HARMLESS)

    body = bytes(range(256)) * 4000
    with Server(serve) as server:
        for _ in range(2):
            assert patient.request("POST", server.url, body, {}) == (200, b'{"ok": 1}')
    assert [request.partition(b"\r\n\r\n")[2] == body for _, request in server.requests] == [True, True]


def test_after_a_call_that_failed_the_next_is_a_whole_one(net: Network) -> None:
    def serve(line: Line) -> None:
        line.read()
        if line.number == 0:
            line.reset()
        else:
            line.send(HARMLESS)

    with Server(serve) as server:
        assert type(failure(net, server.url)) is Unconfirmed
        assert net.request("POST", server.url, b"again", {}) == (200, b'{"ok": 1}')
    requests = [request for _, request in server.requests]
    assert requests[1].startswith(b"POST / HTTP/1.1\r\n") and requests[1].endswith(b"\r\n\r\nagain")
    assert requests[1].count(b"HTTP/1.1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse what does not fit into the backlog")
def test_a_peer_that_does_not_accept_is_given_up_and_nothing_was_sent(net: Network) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = server.getsockname()
        for _ in range(3):  # fills the backlog
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        error = failure(net, f"http://127.0.0.1:{address[1]}/path", 3)
    assert type(error) is TransportError
    assert "POST /path" in str(error) and "Timeout" in str(error)


def silence(line: Line) -> None:
    line.wait(30)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b'{"a": "' + b"x" * 500
SLOW = 0.02  # between two bytes: each comes in time, all of them take 10 s


@pytest.mark.parametrize(
    "slowly",
    [
        pytest.param(silence, id="nothing"),
        pytest.param(lambda line: line.send(http(ENDLESS), pause=SLOW), id="headers by the byte"),
        pytest.param(
            lambda line: (line.send(http(ENDLESS)[: -len(ENDLESS)]), line.send(ENDLESS, pause=SLOW)), id="body"
        ),
        pytest.param(
            lambda line: (line.send(HARMLESS.replace(b" 9\r\n", b" 507\r\n")), line.send(ENDLESS, pause=SLOW)),
            id="body of a connection that stays",
        ),
        pytest.param(
            lambda line: (line.send(CHUNKED), line.send(b"1\r\nx\r\n" * 200, pause=SLOW)), id="chunks by the byte"
        ),
        pytest.param(lambda line: (line.send(CHUNKED + b"1f4\r\n"), line.send(ENDLESS, pause=SLOW)), id="one chunk"),
        pytest.param(
            lambda line: (line.send(b"HTTP/1.0 200 OK\r\n\r\n"), line.send(ENDLESS, pause=SLOW)), id="until it closes"
        ),
        pytest.param(
            lambda line: line.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, pause=SLOW), id="a hundred times go on"
        ),
        pytest.param(lambda line: (line.send(http(ENDLESS)[:-1]), line.wait(30)), id="all but the last byte"),
    ],
)
def test_an_answer_that_does_not_end_in_time_is_given_up_and_nobody_knows_what_came_of_the_call(
    net: Network, seconds: float, slowly: Callable[[Line], Any]
) -> None:
    def serve(line: Line) -> None:
        line.read()
        slowly(line)

    with Server(serve) as server:
        began = time.monotonic()
        error = failure(net, f"{server.url}/path", 5)
        took = time.monotonic() - began
        eventually(lambda: server.ended == 1, "the end of the connection", timeout=5)
    assert type(error) is Unconfirmed
    assert seconds * 0.9 < took < seconds + 2
    assert "POST /path" in str(error) and "Timeout" in str(error)


@pytest.mark.parametrize("head", [HARMLESS, http(b'{"ok": 1}'), CHUNKED + b'9\r\n{"ok": 1}\r\n0\r\n\r\n'])
def test_an_answer_in_pieces_that_is_there_in_time_is_an_answer(
    patient: Network, more_seconds: float, head: bytes
) -> None:
    def serve(line: Line) -> None:
        while line.read():
            for at in range(0, len(head), len(head) // 3):
                line.send(head[at : at + len(head) // 3])
                line.wait(more_seconds / 20)

    with Server(serve) as server:
        assert post(patient, server.url) == (200, b'{"ok": 1}')


@pytest.mark.parametrize("head", [HARMLESS, CHUNKED + b'9\r\n{"ok": 1}\r\n0\r\n\r\n'], ids=["length", "chunked"])
def test_after_a_slow_answer_the_connection_and_all_of_the_time_are_there_for_the_next_call(
    patient: Network, more_seconds: float, head: bytes
) -> None:
    def serve(line: Line) -> None:
        while line.read():
            line.wait(more_seconds * 0.55)
            line.send(head)

    with Server(serve) as server:
        for _ in range(2):  # together they take longer than one call may
            assert post(patient, server.url) == (200, b'{"ok": 1}')
    assert [number for number, _ in server.requests] == [0, 0], "both on one connection"


def test_a_connection_is_not_used_after_its_answer_came_too_late(net: Network) -> None:
    late = http(b"late").replace(b"Connection: close\r\n", b"")

    def serve(line: Line) -> None:
        while line.read():
            if line.number == 0:
                line.wait(30)
                line.send(late)
            line.send(HARMLESS)

    with Server(serve) as server:
        assert type(failure(net, server.url)) is Unconfirmed
        assert post(net, server.url) == (200, b'{"ok": 1}')
    assert [number for number, _ in server.requests] == [0, 1]


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(net: Network) -> None:
    def serve(line: Line) -> None:
        line.read()
        line.send(HARMLESS)

    with Server(serve) as server:
        for number in range(1, 4):
            assert post(net, server.url) == (200, b'{"ok": 1}')
            eventually(lambda ended=number: server.ended == ended, "the end of the connection")
    assert [number for number, _ in server.requests] == [0, 1, 2]


def test_closing_leaves_no_connection_and_the_next_call_opens_one(net: Network) -> None:
    def serve(line: Line) -> None:
        while line.read():
            line.send(HARMLESS)

    with Server(serve) as server:
        post(net, server.url)
        assert server.ended == 0
        net.close()
        eventually(lambda: server.ended == 1, "the end of the connection")
        assert post(net, server.url) == (200, b'{"ok": 1}')
    assert [number for number, _ in server.requests] == [0, 1]


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (lambda line: (line.read(), line.reset()), Unconfirmed),
        (lambda line: line.read(), Unconfirmed),
        (lambda line: (line.read(), line.send(b"HTTP/1.1 200 OK\r\nContent-Le"), line.reset()), Unconfirmed),
        (lambda line: (line.read(), line.send(http(b"{")[:-1])), Unconfirmed),
        (lambda line: (line.read(), line.send(b"what is HTTP?\r\n\r\n")), Unconfirmed),
        (lambda line: (line.read(), line.send(CHUNKED + b"nonsense\r\n")), Unconfirmed),
        (lambda line: (line.read(), line.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200)), Unconfirmed),
    ],
    ids=["reset", "closed", "half a head", "half a body", "no HTTP", "no chunk", "headers"],
)
def test_an_answer_that_is_none_leaves_open_what_came_of_the_call(
    net: Network, serve: Callable[[Line], Any], kind: type[TransportError]
) -> None:
    with Server(serve) as server:
        error = failure(net, f"{server.url}/path?session=s3cr3t", 3)
    assert type(error) is kind
    assert str(error).startswith("POST /path: ") and "s3cr3t" not in text_of(error)


def test_a_connection_that_is_reset_at_once_is_worth_another_try(net: Network) -> None:
    with Server(lambda line: line.reset()) as server:  # before the request, within it or after it
        error = failure(net, f"{server.url}/path?session=s3cr3t", 3)
    assert type(error) in (TransportError, Unconfirmed)
    assert str(error).startswith("POST /path: ") and "s3cr3t" not in text_of(error)


def unused_port(of: range | None = None) -> int:
    for port in of or [0]:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as server:
            return int(server.getsockname()[1])
    raise AssertionError("no free port")


def test_where_nobody_listens_nothing_was_sent(net: Network) -> None:
    error = failure(net, f"http://127.0.0.1:{unused_port(range(20000, 20100))}/path?session=s3cr3t", 3)
    assert type(error) is TransportError
    assert "refused" in str(error) and "s3cr3t" not in text_of(error)


@pytest.mark.parametrize("answers", [True, False], ids=["no answer", "nobody"])
def test_a_407_in_an_address_is_no_answer_of_a_proxy(net: Network, answers: bool) -> None:
    port = unused_port(range(40700, 40799))
    with contextlib.ExitStack() as stack:
        if answers:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        error = failure(net, f"http://127.0.0.1:{port}/path", 3)
    assert type(error) is (Unconfirmed if answers else TransportError)


def test_no_answer_sends_a_call_and_its_token_elsewhere(net: Network) -> None:
    def answer(line: Line) -> None:
        line.read()
        line.send(HARMLESS)

    with Server(answer) as elsewhere:

        def redirect(line: Line) -> None:
            line.read()
            line.send(f"HTTP/1.1 307 Go\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n".encode())

        with Server(redirect) as server:
            assert post(net, server.url, {"x-acs-dingtalk-access-token": "s3cr3t"}) == (307, b"")
    assert elsewhere.requests == []


# ---- certificates


@pytest.fixture(scope="module")
def ca() -> PrivateCA:
    return PrivateCA()


@pytest.fixture
def bundle(ca: PrivateCA, tmp_path: Path) -> str:
    """The file with the certificate that the gateway here must be trusted by."""
    return str(ca.write_bundle(tmp_path))


@pytest.fixture
def other_bundle(tmp_path: Path) -> str:
    folder = tmp_path / "other"
    folder.mkdir()
    return str(PrivateCA().write_bundle(folder))


@pytest.fixture
def secure(ca: PrivateCA, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """DingTalk behind TLS."""
    with Gateway(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, tls=ca.server_context()) as gateway:
        monkeypatch.setattr(dingtalk_stream.utils, "DINGTALK_OPENAPI_ENDPOINT", gateway.url)
        yield gateway
        end_robots()
        assert gateway.protocol_errors == []


def reaches(net: Network, gateway: Gateway) -> bool:
    return post(net, f"{gateway.url}/nothing")[0] == 404


def test_a_server_that_nobody_vouches_for_is_not_talked_to(secure: Gateway) -> None:
    error = failure(Network(), f"{secure.url}/path?session=s3cr3t")
    assert type(error) is Misconfigured
    for part in ("POST /path", "certificate", "not trusted", "caFile"):
        assert part in str(error)
    assert "s3cr3t" not in text_of(error)
    assert secure.calls == []


def test_a_certificate_for_another_name_is_not_taken(secure: Gateway, bundle: str) -> None:
    with HttpProxy(resolve={"other.test": ("127.0.0.1", urlsplit(secure.url).port or 0)}) as proxy:
        error = failure(Network(proxy.url, bundle), "https://other.test/path")
    assert type(error) is Misconfigured
    assert "other.test" in str(error) and "certificate" in str(error)
    assert secure.calls == []


class OneReceive:
    """Answers each request when the first thing of it has come, and remembers what that was."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.received: list[tuple[int, bytes]] = []  # with the number of its connection
        self._context = context

    def __call__(self, line: Line) -> None:
        if self._context:  # there a receive gives what was one write, and no more
            line.socket = self._context.wrap_socket(line.socket, server_side=True)
        while data := line.socket.recv(2**20):
            self.received.append((line.number, data))
            line.send(HARMLESS)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_head_and_body_of_a_request_arrive_together(ca: PrivateCA, bundle: str, tls: bool) -> None:
    serve = OneReceive(ca.server_context() if tls else None)
    net = Network(ca_file=bundle)
    bodies = [b'{"first": 1}', b'{"second": "%s"}' % (b"x" * 3000), b'{"third": 3}']
    with Server(serve) as server:
        url = f"{'https' if tls else 'http'}://{server.address}/path"
        for body in bodies:
            assert net.request("PUT", url, body, {"X-Token": "t"}) == (200, b'{"ok": 1}')
        net.close()
    assert [number for number, _ in serve.received] == [0, 0, 0], "all on one connection"
    for body, (_, request) in zip(bodies, serve.received, strict=True):
        head, _, rest = request.partition(b"\r\n\r\n")
        assert head.startswith(b"PUT /path HTTP/1.1\r\n") and b"X-Token: t" in head
        assert rest == body


RIGHT, WRONG, NONE = "right", "wrong", ""


@pytest.mark.parametrize(
    ("key", "requests_bundle", "ssl_file", "trusted"),
    [
        (RIGHT, NONE, NONE, True),
        (NONE, RIGHT, NONE, True),
        (NONE, NONE, RIGHT, True),
        (RIGHT, WRONG, WRONG, True),
        (NONE, RIGHT, WRONG, True),
        (WRONG, RIGHT, RIGHT, False),
        (NONE, WRONG, RIGHT, False),
        (NONE, NONE, WRONG, False),
        (NONE, NONE, NONE, False),
    ],
)
def test_the_key_decides_whom_to_trust_then_the_one_variable_then_the_other(
    secure: Gateway,
    bundle: str,
    other_bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    requests_bundle: str,
    ssl_file: str,
    trusted: bool,
) -> None:
    files = {RIGHT: bundle, WRONG: other_bundle, NONE: ""}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", files[requests_bundle])
    monkeypatch.setenv("SSL_CERT_FILE", files[ssl_file])
    net = Network(ca_file=files[key])
    if trusted:
        assert reaches(net, secure)
    else:
        assert type(failure(net, secure.url)) is Misconfigured
    net.close()


def test_without_any_of_them_the_usual_authorities_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    context = Network().tls
    assert context.cert_store_stats()["x509_ca"] > 100
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_private_authority_is_the_only_one(bundle: str) -> None:
    assert Network(ca_file=bundle).tls.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("where", ["key", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\x00"], ids=["missing", "empty", "text", "x"])
def test_certificates_that_cannot_be_read_are_named_and_read_as_soon_as_they_can(
    secure: Gateway,
    ca: PrivateCA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    content: bytes | None,
) -> None:
    path = tmp_path / "private-ca.pem"
    if content is not None:
        path.write_bytes(content)
    if where == "key":
        net = Network(ca_file=str(path))
    else:
        monkeypatch.setenv(where, str(path))
        net = Network()
    error = failure(net, secure.url)
    assert type(error) is Misconfigured
    for part in (str(path), "caFile", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        assert part in str(error)
    ca.write_bundle(tmp_path)
    assert reaches(net, secure)
    net.close()


# ---- proxies


def proxy_of(kind: str, gateway: Gateway, user: str = "", password: str = "") -> AnyProxy:
    there = {NAME: ("127.0.0.1", urlsplit(gateway.url).port or 0)}
    return (HttpProxy if kind == "http" else Socks5Proxy)(user, password, there)


def address_of(kind: str, proxy: AnyProxy) -> str:
    return proxy.url_with(proxy.user, proxy.password, kind) if proxy.user else proxy.url.replace(proxy.scheme, kind)


KINDS = ["http", "socks5", "socks5h"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("user", ["", USER], ids=["open", "with password"])
def test_a_robot_answers_through_a_proxy(
    secure: Gateway, host: FakeHost, manage: Callable[..., ClientManager], bundle: str, kind: str, user: str
) -> None:
    with proxy_of(kind, secure, user, PASSWORD if user else "") as proxy:
        config = {**CONFIG, "proxy": address_of(kind, proxy), "caFile": bundle}
        manager = manage()
        manager.start(TextHandler(host.element(ELEMENT), config))
        assert manager.wait_ready(10)
        assert proxy.tunnels >= 1, "the connection"
        secure.say("why?", group=False)
        assert secure.card_for("why?", state="final").text == "Press reset."
        manager.stop(timeout=5)
        proxy.wait_tunnels(0)
    assert {request.user for request in proxy.requests} == {user}
    assert {(request.host, request.port) for request in proxy.requests} == {("127.0.0.1", urlsplit(secure.url).port)}
    assert proxy.refused == proxy.protocol_errors == []


@every_kind
def test_who_looks_up_a_name(secure: Gateway, bundle: str, kind: str) -> None:
    name = "localhost" if kind == "socks5" else NAME
    with proxy_of(kind, secure) as proxy:
        net = Network(address_of(kind, proxy), bundle)
        assert post(net, f"https://{name}:{urlsplit(secure.url).port}/nothing")[0] == 404
        net.close()
    [request] = proxy.requests
    assert request.by_name is (kind != "socks5")


@every_kind
def test_plain_http_goes_through_a_proxy_as_well(gateway: Gateway, kind: str) -> None:
    with proxy_of(kind, gateway, USER, PASSWORD) as proxy:
        net = Network(address_of(kind, proxy))
        assert reaches(net, gateway) and reaches(net, gateway)
        net.close()
    assert proxy.refused == []
    assert {request.user for request in proxy.requests} == {USER}


@every_kind
def test_a_password_that_the_libraries_cannot_send_is_explained(kind: str) -> None:
    with pytest.raises(Misconfigured, match="not ASCII") as caught:
        Network(f"{kind}://an:s3cr%C3%A9t@127.0.0.1:9").request("POST", "http://127.0.0.1:9/", b"", {})
    assert "s3cr" not in str(caught.value)


@every_kind
def test_a_proxy_keeps_the_connection_for_the_next_call(secure: Gateway, bundle: str, kind: str) -> None:
    with proxy_of(kind, secure) as proxy:
        net = Network(address_of(kind, proxy), bundle)
        assert [reaches(net, secure) for _ in range(3)] == [True] * 3
        assert len(proxy.requests) == 1
        net.close()
        proxy.wait_tunnels(0)


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "https://api.dingtalk.com/x", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.dingtalk.com/x", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://api.dingtalk.com/x", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "wss://gateway.dingtalk.com/connect", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://api.dingtalk.com/x", None),
        ({"HTTP_PROXY": "http://p:1"}, "https://api.dingtalk.com/x", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://api.dingtalk.com/x", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "ws://api.dingtalk.com/x", "http://p:1"),
        ({"ALL_PROXY": "socks5h://p:1"}, "https://api.dingtalk.com/x", "socks5h://p:1"),
        ({"ALL_PROXY": "socks5h://p:1"}, "ws://api.dingtalk.com/x", "socks5h://p:1"),
        ({"ALL_PROXY": "socks5://a:1", "HTTPS_PROXY": "http://p:1"}, "https://api.dingtalk.com/x", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://api.dingtalk.com/x", "http://p:1"),
        ({"HTTPS_PROXY": "socks://p:1"}, "https://api.dingtalk.com/x", "socks5://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "dingtalk.com"}, "https://api.dingtalk.com/x", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".dingtalk.com"}, "wss://g.dingtalk.com:443/x", None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, "https://api.dingtalk.com/x", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "dingtalk.cn"}, "https://api.dingtalk.com/x", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "api.dingtalk.com"}, "https://oapi.dingtalk.com/x", "http://p:1"),
        ({"HTTPS_PROXY": ""}, "https://api.dingtalk.com/x", None),
        ({"HTTPS_PROXY": "ftp://p:1", "NO_PROXY": "*"}, "https://api.dingtalk.com/x", None),
    ],
)
def test_the_environment_names_a_proxy_as_everywhere(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, expected: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Network().proxy_for(url) == expected
    assert Network("socks5h://key:2").proxy_for(url) == "socks5h://key:2", "the key decides, whatever else is said"


def test_the_environment_is_looked_at_again_and_again(secure: Gateway, bundle: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(network, "_LOOK_AGAIN_SECONDS", 0.0)
    net = Network(ca_file=bundle)
    with proxy_of("http", secure) as proxy:
        assert reaches(net, secure) and proxy.requests == []
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert reaches(net, secure) and len(proxy.requests) == 1
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert reaches(net, secure) and len(proxy.requests) == 1
        net.close()


def test_what_the_environment_says_holds_for_some_seconds(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = SimpleNamespace(now=1000.0), []
    getproxies = urllib.request.getproxies
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(urllib.request, "getproxies", lambda: looks.append(clock.now) or getproxies())
    net = Network()
    with proxy_of("http", gateway) as proxy:
        for seconds in (0.0, 0.0, 4.0, 0.9):
            clock.now += seconds
            assert reaches(net, gateway)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert reaches(net, gateway)
        assert (looks, proxy.requests) == ([1000.0], [])
        clock.now += 0.1
        assert reaches(net, gateway) and reaches(net, gateway)
        assert len(looks) == 2 and len(proxy.requests) == 1
        monkeypatch.delenv("HTTP_PROXY")
        clock.now += 5.0
        assert reaches(net, gateway)
        assert len(looks) == 3 and len(proxy.requests) == 1
        net.close()


def test_the_key_beats_the_environment(secure: Gateway, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_of("http", secure) as key, proxy_of("http", secure) as variable:
        monkeypatch.setenv("HTTPS_PROXY", variable.url)
        monkeypatch.setenv("NO_PROXY", "*")
        net = Network(key.url, bundle)
        assert reaches(net, secure)
        net.close()
    assert (len(key.requests), variable.requests) == (1, [])


@pytest.mark.parametrize("kind", ["https", "socks4", "ftp", "quic"])
def test_a_proxy_of_the_environment_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{kind}://ann:s3cr3t@proxy:1")
    error = failure(Network(), "https://api.dingtalk.com/x")
    assert type(error) is Misconfigured
    assert f" {kind};" in str(error) and "NO_PROXY" in str(error)
    assert "s3cr3t" not in text_of(error)


def test_a_password_with_an_address_in_it_is_not_shown_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:s3cr3t://x@proxy:1")
    with contextlib.suppress(TransportError):
        assert Network().proxy_for("https://api.dingtalk.com/x") == "http://ann:s3cr3t://x@proxy:1"
        return
    assert "s3cr3t" not in str(failure(Network(), "https://api.dingtalk.com/x"))


@every_kind
def test_without_a_port_calls_and_connection_go_to_the_usual_one(
    secure: Gateway,
    host: FakeHost,
    manage: Callable[..., ClientManager],
    bundle: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert network._DEFAULT_PORTS == {"http": 8080, "socks5": 1080, "socks5h": 1080}
    with proxy_of(kind, secure) as proxy:
        monkeypatch.setitem(network._DEFAULT_PORTS, kind, urlsplit(proxy.url).port)
        manager = manage()
        manager.start(TextHandler(host.element(ELEMENT), {**CONFIG, "proxy": f"{kind}://127.0.0.1", "caFile": bundle}))
        assert manager.wait_ready(10)
        manager.stop(timeout=5)
    assert len(proxy.requests) >= 2


# ---- what goes wrong with a proxy


def robot_in_trouble(host: FakeHost, manage: Callable[..., ClientManager], log: Log, **config: Any) -> str:
    """What the log says of a robot that cannot connect."""
    manager = manage()
    manager.start(TextHandler(host.element(ELEMENT), {**CONFIG, **config}))
    line = eventually(lambda: log.lines("error"), "a line in the log")[0]
    assert not manager.wait_ready(0.01)
    manager.stop(timeout=5)
    return line


SECRET = re.compile("s3cr3t|czNjcjN0")  # also as Basic authentication has it


@every_kind
@pytest.mark.parametrize("credentials", ["ann:s3cr3t-wrong@", ""], ids=["wrong", "none"])
def test_a_proxy_that_does_not_let_us_in_is_an_error_that_says_what_to_do(
    secure: Gateway,
    host: FakeHost,
    manage: Callable[..., ClientManager],
    log: Log,
    bundle: str,
    kind: str,
    credentials: str,
) -> None:
    with proxy_of(kind, secure, USER, "right") as proxy:
        address = proxy.url.replace(f"{proxy.scheme}://", f"{kind}://{credentials}")
        error = failure(Network(address, bundle), f"{secure.url}/path")
        line = robot_in_trouble(host, manage, log, proxy=address, caFile=bundle)
    assert type(error) is Misconfigured
    for text in (str(error), line):
        assert "user" in text and "password" in text and "`proxy`" in text and "HTTPS_PROXY" in text
    assert not SECRET.search(text_of(error) + repr(log.records))
    assert secure.calls == []


def test_the_connection_that_a_proxy_does_not_let_through_is_told_of_too(
    secure: Gateway, host: FakeHost, manage: Callable[..., ClientManager], log: Log, bundle: str
) -> None:
    """Where the proxy lets the calls pass but not the connection."""
    with proxy_of("http", secure, USER, "s3cr3t") as proxy:
        address = proxy.url_with(USER, "s3cr3t")
        net = Network(address, bundle)
        assert reaches(net, secure)
        proxy.password = "changed"  # the calls' tunnel stays
        manager = manage()
        handler = TextHandler(host.element(ELEMENT), {**CONFIG, "caFile": bundle})
        handler._network = net
        handler._fetch_token = lambda: None  # it would take that tunnel
        manager.start(handler)
        line = eventually(lambda: log.lines("error"), "a line in the log")[0]
        manager.stop(timeout=5)
    assert "Misconfigured" in line and "`proxy`" in line and "connecting to" in line
    assert not SECRET.search(repr(log.records))


@every_kind
@pytest.mark.parametrize("trouble", ["nobody", "unknown name", "closes", "garbage"])
def test_a_proxy_in_trouble_is_an_outage_without_a_secret(seconds: float, kind: str, trouble: str) -> None:
    url = f"https://{NAME}/path?session=s3cr3t"
    with contextlib.ExitStack() as stack:
        if trouble == "nobody":
            address = f"127.0.0.1:{unused_port(range(20100, 20200))}"
        elif trouble == "unknown name":
            proxy = stack.enter_context((HttpProxy if kind == "http" else Socks5Proxy)("ann", "s3cr3t"))
            address = urlsplit(proxy.url).netloc
            url = url.replace(NAME, "localhost:1" if kind == "socks5" else "nowhere.test")
        else:
            send = b"" if trouble == "closes" else b"what?\r\n\r\n"
            server = Server(lambda line: (line.socket.recv(1), line.send(send)))
            address = stack.enter_context(server).address
        error = failure(Network(f"{kind}://ann:s3cr3t@{address}"), url, 5)
    assert isinstance(error, TransportError) and not isinstance(error, Misconfigured)
    assert str(error).startswith("POST /path: ")
    assert not SECRET.search(text_of(error))


@every_kind
def test_a_proxy_that_says_nothing_is_given_up_in_time(seconds: float, kind: str) -> None:
    with Server(silence) as server:
        error = failure(Network(f"{kind}://ann:s3cr3t@{server.address}"), "https://127.0.0.1:1/path", 3)
    assert isinstance(error, TransportError)
    assert not SECRET.search(text_of(error))
