"""What a message, a click and a rating are, and what can go wrong with them.

Owns the platform-neutral records and the family's tree of errors. Pure data: no I/O, any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Problem = Literal["", "unsupported", "empty", "quota"]
Cause = Literal["message", "permission", "template", "address", "quota", "unknown"]
Rating = Literal["very_helpful", "helpful", "somewhat_helpful", "not_helpful"]
Action = Literal["rate", "regenerate", "continue", "stop"]


@dataclass(frozen=True)
class IncomingMessage:
    """One message from a person, as a Type's `messages.py` read it. Every field can go through JSON and back.

    `message_id` is the platform's own id of the message: the same message delivered twice has the same id. (A question
    that is asked again has an id of ours. So a reply is addressed by `source`, and not by this id.) `sender_id` tells a
    person from all others, `sender_name` is for eyes only. `quote`: the text of the message that this one answers to,
    if any. `problem` is empty for a question. Otherwise there is nothing to ask the agent: `unsupported` (a picture, a
    file ...), `empty` (no text), `quota` (the platform withheld the text because a quota is used up). `source` is the
    platform's payload, untouched, for whatever only the Type understands. `from_admin`: the platform vouches that the
    sender administrates the organization.

    `session` is the agent's `chatId`. The robot fills it in, a Type does not.
    """

    message_id: str
    conversation_id: str
    sender_id: str
    sender_name: str
    text: str
    problem: Problem = ""
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)
    from_admin: bool = False
    session: str = ""
    quote: str = ""


@dataclass(frozen=True)
class Click:
    """A person pressed a button of a card, as a Type read it.

    `card` is the handle of the card, as `Reply.open` returned it. `person` is a `sender_id`. `rating` belongs to the
    action `rate`. `message_id` and `question` (or its beginning) are what the button says that it belongs to, "" if it
    says nothing: a button that says something else than what is known of its card is forged.
    """

    card: Any
    person: str
    action: Action
    rating: Rating | None = None
    message_id: str = ""
    question: str = ""


@dataclass(frozen=True)
class Feedback:
    """How a person rated an answer. `at`: seconds since the epoch; `question` and `answer` as far as they are kept."""

    message_id: str
    rating: Rating
    person: str
    conversation_id: str
    agent: str
    question: str
    answer: str
    at: float


class IMRobotError(Exception):
    """The root of every error that this family raises. Its text is for the log and never holds a secret."""


class ConfigError(IMRobotError):
    """The instance cannot run as configured. Names the element, the key, what was expected and what to do."""


def as_config_error(full_name: str, error: ConfigError | ImportError) -> ConfigError:
    """What went wrong in a Type's `load()`: a Python package that is not installed is an error of configuration too."""
    if isinstance(error, ConfigError):
        return error
    return ConfigError(
        f"{full_name}: the Python package {error.name} cannot be imported ({error}). Add the lines of imRobots' "
        "requirements.txt to the app's requirements.txt, then restart the app."
    )


class AuthError(IMRobotError):
    """The platform does not know these credentials. Trying again with the same ones cannot help."""


class TransportError(IMRobotError):
    """The platform could not be reached or could not answer now. Trying again later may help."""


class Unconfirmed(TransportError):
    """The call went out and no answer came back, so it may have been carried out, or may still be."""


class Misconfigured(TransportError):
    """The platform cannot be reached as this machine is set up: a certificate, a proxy. Says what to do.

    Trying again helps once somebody has mended it.
    """


class RateLimited(TransportError):
    """The platform refused the call because there were too many."""


class ReplyRefused(IMRobotError):
    """The platform understood the call and refused it, with this `code`. Trying the same again cannot help.

    `cause` says what stands in the way: this one `message`; a `permission` that the application lacks; the `template`
    of a card, which is missing or is another than was thought; the `address` of this machine, which is not on the
    organization's list; a `quota` that is used up; or `unknown`.
    """

    def __init__(self, text: str, code: str = "", cause: Cause = "message") -> None:
        super().__init__(text)
        self.code = code
        self.cause = cause


class AgentError(IMRobotError):
    """The agent does not exist, or it ended without an answer."""


class Busy(IMRobotError):
    """There is no room for another waiting question: of this session (`one_session`), or at all."""

    def __init__(self, *, one_session: bool) -> None:
        super().__init__("this session has too many waiting questions" if one_session else "too many waiting questions")
        self.one_session = one_session


class ClickRefused(IMRobotError):
    """A click that means nothing here: an unknown card or action, or a button that was tampered with."""
