"""`waystation status`: what the daemon here is doing, on one screen."""

import time

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json
from waystation.cli.running import run_verb
from waystation.cli.screen import status_screen

app = typer.Typer(**PLAIN)


@app.command()
def status(*, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show the daemon here: its origin, store, running flights and last refusals."""
    settings = read_settings(config, overrides)
    station = run_verb(AdminClient(settings.admin.socket).status())
    if as_json:
        print_json(station)
    else:
        print(status_screen(station, now=time.time()))
