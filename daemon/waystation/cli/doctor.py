"""`waystation doctor`: is this machine fit for a daemon, and what to do where it is not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.findings import tell_findings
from waystation.cli.options import AsJson, ConfigFile, Overrides
from waystation.cli.running import run_verb
from waystation.doctor import Finding, examine_configuration, examine_machine, examine_needs
from waystation.model import TargetPath, parse_target

app = typer.Typer(**PLAIN)


@app.command()
def doctor(
    *,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help="Also write to the origin as publishers do: 16 race for a scratch key, which is then removed.",
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option("--for", metavar="TARGET", help="Only check whether this machine has what TARGET needs to run."),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check clock, disk, store, ports, the daemon here, and the origin with these credentials; change nothing.

    Ends with status 1 where something fails; warnings alone end with 0.
    """
    wanted = None if target is None else parse_target(target)
    tell_findings(run_verb(_examine(config, tuple(overrides or ()), wanted, publish=publish)), as_json=as_json)


async def _examine(
    config: Path | None, overrides: Sequence[str], target: TargetPath | None, *, publish: bool
) -> list[Finding]:
    settings, findings = await examine_configuration(config, overrides)
    if settings is None:
        return findings
    if target is not None:
        return findings + await examine_needs(settings, target)
    return findings + await examine_machine(settings, publish=publish)
