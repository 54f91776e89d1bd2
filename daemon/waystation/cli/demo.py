"""`waystation demo`: the whole story, once, on this machine alone."""

from pathlib import Path
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson
from waystation.cli.running import run_verb
from waystation.demo import run as run_demo

app = typer.Typer(**PLAIN)


@app.command()
def demo(
    *,
    bundle: Annotated[
        Path | None, typer.Option("--app", metavar="FILE", help="The executable to tell it with; else a small script.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish, serve, fetch cold and warm, take the origin away and fetch again; nothing is left behind.

    It brings its own configuration: yours is neither read nor needed.
    """
    run_verb(run_demo(bundle, as_json=as_json))
