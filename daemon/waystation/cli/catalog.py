"""`waystation catalog forget`: the one thing that the daemon's memory of targets may be told."""

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, Target, read_settings
from waystation.cli.output import print_json, print_note
from waystation.cli.running import run_verb
from waystation.model import parse_target

app = typer.Typer(**PLAIN)


@app.callback()
def catalog() -> None:
    """Change what the daemon here remembers of targets."""


@app.command()
def forget(*, target: Target, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Forget the digest once seen for TARGET, so that a wanted change of its bytes is accepted."""
    settings = read_settings(config, overrides)
    name = parse_target(target)
    forgotten = run_verb(AdminClient(settings.admin.socket).forget(name))
    if as_json:
        print_json({"target": name, "forgotten": forgotten})
    else:
        print_note(f"{name} is forgotten." if forgotten else f"{name} was not remembered; nothing to do.")
