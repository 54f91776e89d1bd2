"""`waystation list`: the targets in the catalog."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from waystation.admission import Admission
from waystation.cli.entry import PLAIN
from waystation.cli.looking import open_view
from waystation.cli.options import AsJson, ConfigFile, Overrides, read_settings
from waystation.cli.output import print_json, print_note, print_table
from waystation.cli.running import run_verb
from waystation.config import Settings, human_size
from waystation.errors import CatalogError
from waystation.model import Artifact, TargetPath, short_digest

_AT_ONCE = 8

app = typer.Typer(**PLAIN)


@dataclass(frozen=True, slots=True)
class Listed:
    """A target, and with --long what the catalog says of it: an artifact or a problem."""

    target: TargetPath
    artifact: Artifact | None = None
    problem: CatalogError | None = None

    def row(self, *, whole_digests: bool) -> tuple[str, str, str]:
        """Its cells in the long table; a digest is cut where it is only looked at."""
        if self.artifact:
            digest = self.artifact.digest
            return (
                self.target,
                human_size(self.artifact.size_bytes),
                digest if whole_digests else short_digest(digest),
            )
        return self.target, "-", self.problem.reason if self.problem else "-"

    def record(self) -> dict[str, Any]:
        """Its JSON."""
        record: dict[str, Any] = {"target": self.target}
        if self.artifact:
            record |= {"sha256": self.artifact.digest, "size_bytes": self.artifact.size_bytes}
        if self.problem:
            record["problem"] = {"reason": self.problem.reason, "message": str(self.problem)}
        return record


@app.command(name="list")
def list_targets(
    *,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Shell-style, * crosses slashes: 'pet-taxi/*'.")
    ] = "*",
    long: Annotated[bool, typer.Option("--long", "-l", help="Also say what each must be, or its problem.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the targets that match, one a line."""
    listed = run_verb(_list(read_settings(config, overrides), pattern, long=long))
    if as_json:
        print_json([each.record() for each in listed])
        return
    if long:
        print_table(("target", "size", "sha256"), [each.row(whole_digests=not sys.stdout.isatty()) for each in listed])
    else:
        print_table(("target",), [(each.target,) for each in listed])
    if advice := next((each.problem.advice for each in listed if each.problem), None):
        print_note(advice)


async def _list(settings: Settings, pattern: str, *, long: bool) -> list[Listed]:
    async with open_view(settings) as view:
        names = [name async for name in view.catalog.list(pattern)]
        if not long:
            return [Listed(name) for name in names]
        few = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(_look_up(view.admission, name, few)) for name in names]
        return [look.result() for look in looks]


async def _look_up(admission: Admission, name: TargetPath, few: asyncio.Semaphore) -> Listed:
    async with few:
        try:
            return Listed(name, artifact=await admission.admit(name))
        except CatalogError as problem:
            return Listed(name, problem=problem)
