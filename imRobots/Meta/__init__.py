"""The family "IM Robot": what every IM Type is built from.

Meta promises a Type this: hand over each message as an `IncomingMessage`, say with a `Reply` how a message is answered,
and the `Robot` does the rest: it asks the JitAi agent, in order per session and many at a time, streams the answer at a
pace that a platform's limits bear, retries, and never stays silent. Meta knows no platform and no IM SDK; no method
that a Type calls blocks, except `Robot.close`.

`RobotConfig` and `load_config` are in `imRobots.Meta.config`, which needs pydantic. This module needs nothing but
Python, so that the family can be imported, and can say what is missing, where a package is not installed.
"""

from .health import Health, one_line
from .host import Manager, find_manager, forget_manager, keep_manager, log, reload_manager
from .models import (
    AgentError,
    AuthError,
    Busy,
    Cause,
    ConfigError,
    IMRobotError,
    IncomingMessage,
    Misconfigured,
    RateLimited,
    ReplyRefused,
    TransportError,
    Unconfirmed,
    as_config_error,
)
from .reply import Outcome, Reply
from .robot import Robot
from .store import Store, open_store
from .texts import Texts, texts_for
from .timing import Deadline, backoff, utc

__all__ = [
    "AgentError",
    "AuthError",
    "Busy",
    "Cause",
    "ConfigError",
    "Deadline",
    "Health",
    "IMRobotError",
    "IncomingMessage",
    "Manager",
    "Misconfigured",
    "Outcome",
    "RateLimited",
    "Reply",
    "ReplyRefused",
    "Robot",
    "Store",
    "Texts",
    "TransportError",
    "Unconfirmed",
    "as_config_error",
    "backoff",
    "find_manager",
    "forget_manager",
    "keep_manager",
    "log",
    "one_line",
    "open_store",
    "reload_manager",
    "texts_for",
    "utc",
]
