"""Makes a running client of an instance's config.json. Called by JitNode; the only file that knows all the others."""

import re

from imRobots.Meta import ConfigError, as_config_error, find_manager, keep_manager, open_store

from .client_manager import ClientManager


class Loader:
    def __init__(self, nodes):
        self.nodes = nodes

    def renderTemplateString(self, source, **context):
        return re.sub(r"\{\{(\w+)\}\}", lambda match: str(context.get(match.group(1), "")), source)

    def load(self):
        element = self.nodes[0]
        manager = find_manager(element.fullName, ClientManager) or ClientManager()
        keep_manager(element.fullName, manager, self)
        try:
            from imRobots.Meta.config import load_config

            from .handler import EchoConfig, EchoHandler

            _, config = load_config(element, self.renderTemplateString, EchoConfig)
            manager.restart(EchoHandler(element, config, open_store(element), manager.send), config.port)
        except (ConfigError, ImportError) as error:
            manager.fail(as_config_error(element.fullName, error))
        return manager
