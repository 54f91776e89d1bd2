"""`waystation serve`: the daemon, until it is told to stop."""

import asyncio

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.station import serve as serve_station
from waystation.systemd.privacy import keep_memory_private

app = typer.Typer(**PLAIN)


@app.command()
def serve(*, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Run the daemon here until SIGTERM or Ctrl-C; SIGHUP has it read its configuration again.

    It logs to standard error, with --json always as JSON.
    """
    keep_memory_private()
    log_format = ["log.format=json"] if as_json else []
    asyncio.run(serve_station(lambda: read_settings(config, [*(overrides or ()), *log_format])))
