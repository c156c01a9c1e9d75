"""An IM Type on the echo platform: one JSON object per line over a plain socket. JitNode finds `Loader` here."""

from .client_manager import ClientManager
from .loader import Loader

__all__ = ["ClientManager", "Loader"]
