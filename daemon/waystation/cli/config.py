"""`waystation config check`: can the daemon use this configuration; nothing but files is asked."""

import typer

from waystation.cli.entry import PLAIN
from waystation.cli.findings import tell_findings
from waystation.cli.options import AsJson, ConfigFile, Overrides
from waystation.cli.running import run_verb
from waystation.doctor import examine_configuration

app = typer.Typer(**PLAIN)


@app.callback()
def config() -> None:
    """Look at the configuration."""


@app.command()
def check(*, config: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Read the configuration as the daemon would, and the files that it names; status 1 where that fails."""
    _, findings = run_verb(examine_configuration(config, tuple(overrides or ())))
    tell_findings(findings, as_json=as_json)
