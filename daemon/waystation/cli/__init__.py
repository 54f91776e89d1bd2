"""The command line: each verb is a file of its own, loaded when it is called; whatever goes wrong becomes one line."""

from waystation.cli.entry import main

__all__ = ["main"]
