"""An instance: configuration only (config.json)."""
