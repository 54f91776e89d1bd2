"""The command line: `build`, `publish`, and `run`, which is both; whatever goes wrong becomes one line."""

from waystation_builder.cli.entry import main

__all__ = ["main"]
