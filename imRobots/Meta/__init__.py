"""The family "IM Robot": what every IM Type is built from.

Meta promises a Type this: hand over each message as an `IncomingMessage` and each click as a `Click`, say with a
`Reply` how a message is answered, and the `Robot` does the rest: it asks the JitAi agent, in order per session and many
at a time, streams the answer at a pace that a platform's limits bear, retries, and never stays silent. Meta knows no
platform and no IM SDK. `Robot.submit` and `Robot.click` never block; `Robot.close` does, and `Robot.status` and
`export_feedback` read a file.

`RobotConfig` and `load_config` are in `imRobots.Meta.config`, which needs pydantic. This module needs nothing but
Python, so that the family can be imported, and can say what is missing, where a package is not installed.
"""

from . import markdown
from .health import Health, one_line
from .host import Manager, find_manager, forget_manager, keep_manager, log, reload_manager
from .models import (
    Action,
    AgentError,
    AuthError,
    Busy,
    Cause,
    Click,
    ClickRefused,
    ConfigError,
    Feedback,
    IMRobotError,
    IncomingMessage,
    Misconfigured,
    RateLimited,
    Rating,
    ReplyRefused,
    TransportError,
    Unconfirmed,
    as_config_error,
)
from .ratings import export_feedback
from .reply import Clicked, Outcome, Reply
from .robot import Robot
from .store import Store, open_store
from .texts import Texts, texts_for, texts_to
from .timing import Deadline, backoff, utc

__all__ = [
    "Action",
    "AgentError",
    "AuthError",
    "Busy",
    "Cause",
    "Click",
    "ClickRefused",
    "Clicked",
    "ConfigError",
    "Deadline",
    "Feedback",
    "Health",
    "IMRobotError",
    "IncomingMessage",
    "Manager",
    "Misconfigured",
    "Outcome",
    "RateLimited",
    "Rating",
    "Reply",
    "ReplyRefused",
    "Robot",
    "Store",
    "Texts",
    "TransportError",
    "Unconfirmed",
    "as_config_error",
    "backoff",
    "export_feedback",
    "find_manager",
    "forget_manager",
    "keep_manager",
    "log",
    "markdown",
    "one_line",
    "open_store",
    "reload_manager",
    "texts_for",
    "texts_to",
    "utc",
]
