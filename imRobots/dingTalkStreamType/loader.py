"""The reference's `Loader`: makes a running client of an instance's config.json.

Owns the wiring: the only file that knows configuration, handler and client manager. Called by JitNode while an app
starts, and by `lifecycle.py`. Needs no installed package itself, so that a missing one is an error in the log.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from imRobots.Meta import ConfigError, as_config_error, find_manager, keep_manager, open_store

from .client_manager import ClientManager

# Two threads that load the same element must not make two connections.
_one_at_a_time = threading.Lock()


class Loader:
    """Loads one instance; `nodes[0]` is its element."""

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes

    def renderTemplateString(self, source: str, **context: Any) -> str:
        """Replace each `{{NAME}}` in `source` by that variable, by nothing if there is none."""
        return re.sub(r"\{\{(\w+)\}\}", lambda match: str(context.get(match.group(1), "")), source)

    def load(self) -> ClientManager:
        """Start the instance's client, or restart it. Never raises for a bad configuration: see `ClientManager.error`.

        The same element gets the same manager again, so whoever holds it goes on working with the new configuration.
        """
        with _one_at_a_time:
            return self._load()

    def _load(self) -> ClientManager:
        element = self.nodes[0]
        try:
            from imRobots.Meta.config import load_config

            from . import handler, stream_client  # noqa: F401 - to learn now whether their packages are there
            from .config import DingTalkConfig

            config, _ = load_config(element, self.renderTemplateString, DingTalkConfig)
        except (ConfigError, ImportError) as error:
            manager = self._manager()
            manager.fail(as_config_error(element.fullName, error))
            return manager
        earlier = find_manager(element.fullName, ClientManager)
        manager = self.start_client(config["clientId"], config["clientSecret"], config)
        if earlier not in (None, manager):  # somebody's start_client makes a manager of its own
            earlier.stop()
        keep_manager(element.fullName, manager, self)
        return manager

    def start_client(self, client_id: str, client_secret: str, config: dict[str, Any]) -> ClientManager:
        """Start a client that answers with a `TextHandler`; a client that runs already for this element is replaced."""
        from .handler import TextHandler

        manager = self._manager()
        handler = TextHandler(self.nodes[0], config, store=open_store(self.nodes[0]))
        manager.restart(handler, client_id, client_secret)
        return manager

    def _manager(self) -> ClientManager:
        full_name = self.nodes[0].fullName
        manager: ClientManager = find_manager(full_name, ClientManager) or ClientManager("", "")
        keep_manager(full_name, manager, self)
        return manager
