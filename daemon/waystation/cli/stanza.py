"""`waystation stanza`: the Nomad block that uses a target."""

from contextlib import suppress
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.looking import look_up
from waystation.cli.options import AsJson, ConfigFile, Overrides, Target, read_settings
from waystation.cli.output import print_json
from waystation.cli.running import run_verb
from waystation.config import Settings
from waystation.errors import TakeoverError
from waystation.publish.stanza import artifact_stanza, mirror_base
from waystation.takeover.nft import Nft

app = typer.Typer(**PLAIN)


@app.command()
def stanza(
    *,
    target: Target,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="URL",
            help="Where targets lie; else the bucket's own URL where it is taken over here, or the mirror's.",
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print the artifact block for TARGET, with its sha256 as the catalog says it."""
    settings = read_settings(config, overrides)
    artifact = run_verb(look_up(settings, target))
    block = artifact_stanza(artifact.target, artifact.digest, base=base or run_verb(_base(settings)))
    if as_json:
        print_json({"target": artifact.target, "sha256": artifact.digest, "stanza": block})
    else:
        print(block, end="")


async def _base(settings: Settings) -> str:
    """Find where this machine's jobs are to ask; who may not see whether the bucket is taken over gets the mirror."""
    if settings.origin.own_base:
        with suppress(TakeoverError):
            if await Nft().standing():
                return settings.origin.own_base
    return mirror_base(*settings.mirror.listen)
