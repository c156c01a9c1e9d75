"""JitNode's hooks of a Type: an instance's configuration was saved, or the instance was deleted.

Owns nothing. Called by JitNode; both do nothing where the instance does not run in this process.
"""

from __future__ import annotations

from imRobots.Meta import forget_manager, reload_manager


def onUpdate(fullName: str) -> dict[str, str]:
    """Restart the instance's client with its new configuration."""
    reload_manager(fullName)
    return {"status": "success"}


def onDelete(fullName: str) -> dict[str, str]:
    """Stop the instance's client."""
    forget_manager(fullName)
    return {"status": "success"}
