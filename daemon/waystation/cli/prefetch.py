"""`waystation prefetch`: have the daemon here fetch a target before a job asks for it."""

import asyncio
from typing import Annotated, Any

import typer

from waystation.admin.client import AdminClient
from waystation.cli.entry import PLAIN
from waystation.cli.options import AsJson, ConfigFile, Overrides, Target, read_settings
from waystation.cli.output import print_json, print_note
from waystation.cli.progress import progress_bars
from waystation.cli.running import run_verb
from waystation.config import human_size
from waystation.errors import CallRefused

LOOK_S = 0.2

app = typer.Typer(**PLAIN)


@app.command()
def prefetch(
    *,
    target: Target,
    wait: Annotated[
        bool, typer.Option(help="Wait until it is here, or return once the daemon has set about it.")
    ] = True,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Have the daemon here fetch TARGET now, as a client's request would; it is stored, and not pinned."""
    client = AdminClient(read_settings(config, overrides).admin.socket)
    told = run_verb(_fetch(client, target, wait=wait, bars=not as_json))
    if error := told["error"]:
        raise CallRefused(f"{told['target']} could not be fetched: {error['message']}", advice=error["advice"])
    if as_json:
        print_json(told)
        return
    what = f"{told['target']} ({human_size(told['size_bytes'])}, sha256 {told['sha256']})"
    said = {"fetched": "was fetched", "here": "was here already"}.get(told["outcome"], "is being fetched")
    print_note(f"{what} {said}.")


async def _fetch(client: AdminClient, target: str, *, wait: bool, bars: bool) -> dict[str, Any]:
    told = await client.prefetch(target)
    with progress_bars(wanted=bars) as show:
        while wait and told["outcome"] is None:
            show(told["target"], told["held_bytes"], max(told["size_bytes"], told["held_bytes"] + 1))
            await asyncio.sleep(LOOK_S)
            told = await client.prefetch_progress(told["sha256"])
        show(told["target"], told["size_bytes"], told["size_bytes"])
    return told
