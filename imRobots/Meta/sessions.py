"""Who shares a context with the agent: the agent's `chatId` of a message.

Owns the choice, and which fresh sessions people have begun. Any thread but an event loop.
"""

from __future__ import annotations

import uuid
from typing import Literal

from .models import IncomingMessage
from .store import Store

Scope = Literal["user", "conversation", "userInConversation"]


class Sessions:
    """The sessions of one robot, remembered across restarts."""

    def __init__(self, scope: Scope, store: Store) -> None:
        """`scope` is the configuration's `sessionScope`."""
        self._scope = scope
        self._store = store

    def scope_of(self, message: IncomingMessage) -> str:
        """Whose session it is: a person's, as in the tutorial, a conversation's, or a person's in a conversation."""
        if self._scope == "user" or not message.conversation_id:
            return message.sender_id
        if self._scope == "conversation":
            return message.conversation_id
        return f"{message.conversation_id}:{message.sender_id}"

    def of(self, message: IncomingMessage) -> str:
        """The `chatId` for a new question."""
        scope = self.scope_of(message)
        return str(self._store.recall(_key(scope)) or scope)

    def begin_anew(self, message: IncomingMessage) -> None:
        """From now on, questions like this message have a `chatId` that the agent does not know."""
        scope = self.scope_of(message)
        self._store.remember(_key(scope), f"{scope}:{uuid.uuid4().hex[:8]}")


def _key(scope: str) -> str:
    return f"session {scope}"
