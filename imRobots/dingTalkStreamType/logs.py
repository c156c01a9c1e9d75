"""What the libraries write: into JitNode's log, and never with a secret in it.

Owns the rules for masking and the logger for the SDK and for websockets. Any thread. Importing this module also masks
the lines that the SDK and urllib3 write to loggers of their own.
"""

from __future__ import annotations

import logging
import re

from imRobots.Meta import log

# A ticket, a session webhook's session, a token; the user and password of a proxy.
_SECRETS = (
    (
        re.compile(r"""((?:ticket|session|token|secret)["'\\]*\s*[=:]\s*["'\\]*)[^\s"'\\&,)}]+""", re.IGNORECASE),
        r"\1***",
    ),
    (re.compile(r"://[^/\s]+@"), "://***@"),
)
# Loggers of others, and what a line has in it that may hold a secret of ours.
_OTHERS = {
    "dingtalk_stream.client": "",
    "dingtalk_stream.handler": "",
    "dingtalk_stream.card_replier": "",
    "urllib3.connectionpool": "/robot/sendBySession",  # at DEBUG it writes the address of every call of the whole app
}


def mask(text: str) -> str:
    """The text without what looks like a secret of ours."""
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text


class _Masked(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class _ToJitNode(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            # JitNode's log takes one argument, the message.
            getattr(log, record.levelname.lower(), log.error)(self.format(record))
        except Exception:  # the SDK gives arguments that do not fit its message
            self.handleError(record)


class _Mask(logging.Filter):
    """Leaves a line as it is, unless it has a secret in it."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = logging.Formatter().format(record)
        except Exception:  # as above
            text, record.args = f"{record.msg} {record.args}", ()
            record.msg = text.replace("%", "%%")
        if self._part in text and mask(text) != text:
            record.msg, record.args = mask(text), ()
            record.exc_info = record.exc_text = record.stack_info = None  # they are in the message now
        return True


_formatter = _Masked()
# Never at DEBUG, where websockets writes every frame and the ticket. Outside of `logging`'s tree, so that nobody's
# configuration makes it so.
library_log = logging.Logger("imRobots", logging.INFO)
_handler = _ToJitNode()
_handler.setFormatter(_formatter)
library_log.addHandler(_handler)
for _name, _part in _OTHERS.items():
    logging.getLogger(_name).addFilter(_Mask(_part))
