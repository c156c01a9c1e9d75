"""A DingTalk robot in Stream mode: the Type that turns an instance's config.json into a robot that answers.

JitNode finds `Loader` here. `TextHandler` and `ClientManager` are for those who extend them.
"""

from typing import TYPE_CHECKING, Any

from .client_manager import ClientManager
from .loader import Loader

if TYPE_CHECKING:
    from .handler import TextHandler

__all__ = ["ClientManager", "Loader", "TextHandler"]


def __getattr__(name: str) -> Any:
    # TextHandler is a class of the SDK's. Imported when it is asked for: where the SDK is not installed, the app must
    # still start, and `load()` must be able to say what is missing.
    if name == "TextHandler":
        from .handler import TextHandler

        return TextHandler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
