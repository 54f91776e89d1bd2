"""`waystation status`: what the daemon here is doing, on one screen."""

import json
import sys
import time
from contextlib import suppress
from typing import Annotated

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, terminal_width
from waystation.cli.running import run_verb
from waystation.cli.screen import status_screen
from waystation.cli.watching import watch
from waystation.errors import DaemonError

app = typer.Typer(**PLAIN)


@app.command()
def status(
    *,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show the daemon here: ready or why not, its origin, store, flights, prefetch and last refusals.

    With --json and --watch it is one document a line.
    """
    client = AdminClient(read_settings(config, overrides).admin.socket)
    if watched:
        with suppress(KeyboardInterrupt):
            run_verb(watch(lambda: _look(client, as_json=as_json)))
    elif as_json:
        print_json(run_verb(client.status()))
    else:
        print(status_screen(run_verb(client.status()), now=time.time(), width=terminal_width()))


async def _look(client: AdminClient, *, as_json: bool) -> str:
    try:
        station = await client.status()
    except DaemonError as error:
        if as_json or not sys.stdout.isatty():
            raise
        return f"waystation: {error}. {error.advice}"  # who watches a restart goes on watching
    if as_json:
        return json.dumps(station, ensure_ascii=False)
    return status_screen(station, now=time.time(), width=terminal_width())
