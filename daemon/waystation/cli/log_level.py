"""`waystation log-level`: how much the daemon here logs, changed while it runs."""

from typing import Annotated

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, print_note
from waystation.cli.running import run_verb
from waystation.config import LogLevel

app = typer.Typer(**PLAIN)


@app.command()
def log_level(
    *,
    level: Annotated[LogLevel, typer.Argument(metavar="LEVEL", help="debug, info, warning or error.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Let the daemon here log from LEVEL on; once it is started again, [log] level counts."""
    before = run_verb(AdminClient(read_settings(config, overrides).admin.socket).change_log_level(level))
    if as_json:
        print_json({"level": level, "before": before})
    else:
        print_note(f"The daemon logs from {level} on, until it ends; before it was {before}.")
