"""Data models for the stand-in host: rows can be added, and a test can read them.

Does not do: queries, changes, types of fields, events, a database.

Simulated: a real model may be more forgiving. This one refuses fields that it has not, and everything outside a request
context, because the documents promise nothing for those.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any

# The host keeps these for itself: they cannot be names of fields.
FORBIDDEN_NAMES = frozenset(
    {"app", "model", "service", "default", "create", "save", "update", "delete", "date"}
    | {"count", "value", "cache", "url", "type", "class"}
)


class FakeModel:
    """What `app.getElement("models.X")` gives, once it is registered with `host.add`."""

    def __init__(self, fields: Iterable[str], *, error: Exception | None = None) -> None:
        self.fields = frozenset(fields)
        self.error = error  # raised instead of adding a row; a test may change it at any time
        self.rows: list[dict[str, Any]] = []
        forbidden = sorted(self.fields & FORBIDDEN_NAMES)
        if forbidden:
            raise ValueError(f"the host does not allow fields of these names: {', '.join(forbidden)}")

    def create(self, rowData: dict[str, Any], triggerEvent: int = 1) -> dict[str, Any]:
        _ = builtins.app.currentUser  # type: ignore[attr-defined]  # raises outside a request context
        if not isinstance(rowData, dict):
            raise TypeError(f"rowData must be a dict, not {rowData!r}")
        unknown = sorted(map(str, set(rowData) - self.fields))
        if unknown:
            raise ValueError(f"the model has no fields {', '.join(unknown)}")
        if self.error is not None:
            raise self.error
        self.rows.append(dict(rowData))
        return dict(rowData)
