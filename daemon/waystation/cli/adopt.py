"""`waystation adopt`: what others uploaded gets the checksums and pieces that make it a target."""

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, print_note, print_table
from waystation.cli.progress import progress_bars
from waystation.cli.running import run_verb
from waystation.config import Settings
from waystation.publish import Adopted, open_publisher

app = typer.Typer(**PLAIN)


@app.command()
def adopt(
    *,
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="Only keys that begin with it.", show_default=False)
    ] = "",
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read each object once and add the .pieces and .sha256 that it lacks; what is there is never replaced."""
    results = run_verb(_adopt(read_settings(config, overrides), prefix, as_json=as_json))
    count = Counter(result.outcome for result in results)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        told = [result for result in results if result.outcome != "already"]
        print_table(("outcome", "key", "why"), [(r.outcome, r.key, r.why or "") for r in told])
        print_note(
            f"{count['adopted']} adopted, {count['already']} already announced, "
            f"{count['skipped']} skipped, {count['failed']} failed."
        )
    if count["failed"]:
        raise typer.Exit(1)


async def _adopt(settings: Settings, prefix: str, *, as_json: bool) -> list[Adopted]:
    with progress_bars(wanted=not as_json) as progress:
        async with open_publisher(settings) as publisher:
            return await publisher.adopt(prefix, progress=progress)
