"""Long runs; not part of the default one: `python -m pytest -m soak -s`."""
