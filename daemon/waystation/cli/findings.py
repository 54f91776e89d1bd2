"""How an examination is shown, and the exit status that it gives."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from waystation.cli.output import print_json, print_table
from waystation.doctor import Level, worst
from waystation.model import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waystation.doctor import Finding

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "bold red"}


def tell_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print what was found, and end with status 1 where something is a failure."""
    level = worst(findings)
    if as_json:
        print_json({"level": level, "findings": [asdict(finding) for finding in findings]})
    elif sys.stdout.isatty():
        _draw(findings)
    else:
        print_table((), [(f.level, f.check, f.says, f.advice) for f in findings])
    if level is Level.FAILURE:
        raise typer.Exit(1)


def _draw(findings: Sequence[Finding]) -> None:
    """Lay out a line for each, wrapped to the terminal, with its advice below it."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        says = Text(printable(finding.says))
        if finding.advice:
            says.append(f"\n→ {printable(finding.advice)}", style="bold")
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), Text(finding.check), says)
    Console(highlight=False).print(table)
