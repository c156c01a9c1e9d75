"""What the libraries say goes into JitNode's log, and no secret goes anywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from dingtalk_stream import Credential

from imRobots.dingTalkStreamType import ClientManager
from imRobots.dingTalkStreamType.api import Api
from imRobots.dingTalkStreamType.logs import library_log, mask
from imRobots.dingTalkStreamType.stream_client import StreamClient
from tests.dingtalk.helpers import CLIENT_ID, CLIENT_SECRET, Log, Mailbox, Peer, http
from tests.fakes.gateway import WEBHOOK, Gateway

OTHERS = [
    "dingtalk_stream.client",
    "dingtalk_stream.handler",
    "dingtalk_stream.card_replier",
    "urllib3.connectionpool",
]
THE_SDKS = [name for name in OTHERS if name.startswith("dingtalk_stream")]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("wss://host/connect?ticket=s3cr3t", "wss://host/connect?ticket=***"),
        ("/robot/sendBySession?session=s3cr3t&x=1", "/robot/sendBySession?session=***&x=1"),
        ("{'endpoint': 'wss://h', 'ticket': 's3cr3t'}", "{'endpoint': 'wss://h', 'ticket': '***'}"),
        ('{"accessToken": "s3cr3t", "expireIn": 7200}', '{"accessToken": "***", "expireIn": 7200}'),
        ('{"appSecret":"s3cr3t"}', '{"appSecret":"***"}'),
        ("clientSecret=s3cr3t, clientId=ding", "clientSecret=***, clientId=ding"),
        ("x-acs-dingtalk-access-token: s3cr3t", "x-acs-dingtalk-access-token: ***"),
        ("TICKET=s3cr3t and Ticket = s3cr3t", "TICKET=*** and Ticket = ***"),
        ("(ticket=s3cr3t)", "(ticket=***)"),
        ("ticket=s3cr3t\nticket=s3cr3t", "ticket=***\nticket=***"),
        ("http://ann:s3cr3t@proxy:8080/x", "http://***@proxy:8080/x"),
        ("socks5h://s3cr3t@proxy", "socks5h://***@proxy"),
        ("no ticket, no session", "no ticket, no session"),
        ("mail ann@example.com at https://example.com", "mail ann@example.com at https://example.com"),
        ("a line without anything", "a line without anything"),
        ("", ""),
        pytest.param(
            "http://ann:s3c@r3t@proxy:8080",
            "http://***@proxy:8080",
        ),
        pytest.param(
            r'"{\"accessToken\": \"s3cr3t\"}"',
            r'"{\"accessToken\": \"***\"}"',
        ),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask(text) == masked


# ---- the libraries' own loggers, however the app has set them up


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What an app with all its logging at DEBUG gets to see."""
    for name in ("", "urllib3", "websockets", "websockets.client", "asyncio", "imRobots", *OTHERS):
        caplog.set_level(logging.DEBUG, name)
    return caplog


@pytest.mark.parametrize("name", THE_SDKS)
def test_a_line_of_a_library_shows_no_secret_and_is_whole_otherwise(
    everything: pytest.LogCaptureFixture, name: str
) -> None:
    logging.getLogger(name).warning("endpoint is %s, %d tries", {"ticket": "s3cr3t"}, 5)
    [record] = everything.records
    assert (record.name, record.levelname, record.getMessage()) == (
        name,
        "WARNING",
        "endpoint is {'ticket': '***'}, 5 tries",
    )


@pytest.mark.parametrize("name", THE_SDKS)
def test_a_traceback_shows_no_secret_either(everything: pytest.LogCaptureFixture, name: str) -> None:
    try:
        raise RuntimeError("cannot reach wss://host/connect?ticket=s3cr3t")
    except RuntimeError:
        logging.getLogger(name).exception("trouble")
    assert "s3cr3t" not in everything.text
    assert "trouble\nTraceback" in everything.text
    assert "RuntimeError: cannot reach wss://host/connect?ticket=***" in everything.text


def test_the_address_of_a_webhook_is_not_shown_by_urllib3(everything: pytest.LogCaptureFixture) -> None:
    with Peer.answering(http(b'{"errcode": 0}')) as peer:
        api = Api(Credential(CLIENT_ID, CLIENT_SECRET))
        api.post_to_webhook(f"http://{peer.address}{WEBHOOK}?session=s3cr3t", {"msgtype": "text"})
    assert b"s3cr3t" in peer.requests[0]
    assert f"{WEBHOOK}?session=***" in everything.text, "urllib3 does say it"
    assert "s3cr3t" not in everything.text


def test_no_log_at_all_shows_the_ticket_of_a_connection(
    gateway: Gateway,
    connected: Callable[..., ClientManager],
    everything: pytest.LogCaptureFixture,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tickets: list[str] = []
    ask = StreamClient.open_connection

    def remember(self: StreamClient) -> dict[str, Any]:
        answer = ask(self)
        tickets.append(answer["ticket"])
        return answer

    monkeypatch.setattr(StreamClient, "open_connection", remember)
    mailbox = Mailbox()
    manager = connected(mailbox)
    message_id = gateway.say("hello")
    gateway.wait_for(lambda: gateway.acks)
    manager.stop()
    [ticket] = tickets
    shown = everything.text + repr([vars(record) for record in everything.records]) + repr(log.records)
    assert "/v1.0/gateway/connections/open" in shown, "the logs were on"
    assert ticket not in shown
    assert message_id not in shown, "nor is any frame"
    assert mailbox.callbacks[0].data["sessionWebhook"] not in shown
    assert CLIENT_SECRET not in shown


# ---- somebody else's


def test_lines_of_others_are_left_as_they_are(everything: pytest.LogCaptureFixture) -> None:
    for name in ("myapp", "urllib3", "urllib3.util.retry", "dingtalk_stream", "websockets.client", "imRobots"):
        logging.getLogger(name).info("ticket=%s session=%s", "a", "b", stack_info=True)
        record = everything.records[-1]
        assert (record.msg, record.args) == ("ticket=%s session=%s", ("a", "b"))
        assert record.getMessage() == "ticket=a session=b" and record.stack_info


def test_a_line_of_a_library_without_a_secret_reads_as_ever(everything: pytest.LogCaptureFixture) -> None:
    logging.getLogger("urllib3.connectionpool").debug(
        '%s://%s:%s "%s %s %s" %s %s', *["https", "h", "443", "GET", "/x", "H", "200", "5"]
    )
    assert everything.records[-1].getMessage() == 'https://h:443 "GET /x H" 200 5'


@pytest.mark.parametrize("name", ["urllib3", "urllib3.connectionpool", "websockets", "websockets.client"])
def test_nobodys_level_or_handlers_are_changed(name: str) -> None:
    logger = logging.getLogger(name)
    assert (logger.level, logger.propagate) == (logging.NOTSET, True)
    assert [handler for handler in logger.handlers if not isinstance(handler, logging.NullHandler)] == []


@pytest.mark.parametrize("name", THE_SDKS)
def test_a_line_that_cannot_be_formatted_breaks_nobodys_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK has such a line, in its own connect loop: `logger.exception('unknown exception', e)`."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.getLogger(name)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler()])
    logger.error("unknown exception", RuntimeError("x"))  # noqa: PLE1205 - as the SDK has it


# ---- into JitNode's log


@pytest.mark.parametrize(
    ("level", "jitnodes"),
    [
        (logging.INFO, "info"),
        (logging.WARNING, "warning"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "error"),
        (35, "error"),
    ],
)
def test_a_librarys_line_is_one_argument_of_jitnodes_log(log: Log, level: int, jitnodes: str) -> None:
    library_log.log(level, "%s of %d: ticket=%s", "first", 2, "s3cr3t")
    assert log.records == [(jitnodes, "first of 2: ticket=***")]


def test_a_traceback_goes_into_jitnodes_log_without_its_secrets(log: Log) -> None:
    try:
        raise RuntimeError("session=s3cr3t")
    except RuntimeError:
        library_log.exception("trouble")
    [(level, line)] = log.records
    assert level == "error"
    assert line.startswith("trouble\nTraceback") and line.endswith("RuntimeError: session=***")


def test_nothing_is_said_at_debug_whatever_the_app_has_set(log: Log, everything: pytest.LogCaptureFixture) -> None:
    library_log.debug("a frame")
    assert not library_log.isEnabledFor(logging.DEBUG)
    assert (log.records, everything.records) == ([], [])


def test_a_line_for_jitnodes_log_that_cannot_be_formatted_breaks_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    library_log.error("unknown exception", RuntimeError("x"))
