"""`waystation stanza`: the Nomad block that uses a target."""

from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.looking import look_up
from waystation.cli.options import AsJson, ConfigFile, Overrides, Target, read_settings
from waystation.cli.output import print_json
from waystation.cli.running import run_verb
from waystation.publish.stanza import artifact_stanza, mirror_base

app = typer.Typer(**PLAIN)


@app.command()
def stanza(
    *,
    target: Target,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="URL", help="Where targets lie; the mirror on this machine where not given."),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print the artifact block for TARGET, with its sha256 as the catalog says it."""
    settings = read_settings(config, overrides)
    artifact = run_verb(look_up(settings, target))
    block = artifact_stanza(artifact.target, artifact.digest, base=base or mirror_base(settings.mirror.listen[0]))
    if as_json:
        print_json({"target": artifact.target, "sha256": artifact.digest, "stanza": block})
    else:
        print(block, end="")
