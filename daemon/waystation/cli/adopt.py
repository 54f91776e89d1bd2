"""`waystation adopt`: what others uploaded gets the checksums and pieces that make it a target."""

import sys
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, print_note, print_table, tab_separated
from waystation.cli.progress import progress_bars
from waystation.cli.running import run_verb
from waystation.config import Settings
from waystation.publish import Adopted, open_publisher

app = typer.Typer(**PLAIN)


@app.command()
def adopt(
    *,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only keys that begin with it.", show_default=False)
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
        if sys.stdout.isatty():  # a pipe has heard of each as it was done
            print_table(("outcome", "key", "why"), [_row(result) for result in results if _is_news(result)])
        print_note(
            f"{count['adopted']} adopted, {count['already']} already announced, "
            f"{count['skipped']} skipped, {count['failed']} failed."
        )
    if count["failed"]:
        raise typer.Exit(1)


def _is_news(result: Adopted) -> bool:
    return result.outcome != "already"


def _row(result: Adopted) -> tuple[str, str, str]:
    return result.outcome, result.key, result.why or ""


async def _adopt(settings: Settings, prefix: str, *, as_json: bool) -> list[Adopted]:
    def tell(result: Adopted) -> None:
        if not as_json and not sys.stdout.isatty() and _is_news(result):
            print(tab_separated(_row(result)), flush=True)

    with progress_bars(wanted=not as_json) as progress:
        async with open_publisher(settings) as publisher:
            return await publisher.adopt(prefix, report=tell, progress=progress)
