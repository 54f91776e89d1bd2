"""The options of the verbs, and the order that comes of those of a build."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BundlerName(StrEnum):
    """Which bundler, or the one that fits."""

    AUTO = "auto"
    COMMAND = "command"


Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="The project's folder.")]
Bundler = Annotated[BundlerName, typer.Option("--bundler", help="How to build it; auto: by what is in the folder.")]
Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the executable is put.")]
App = Annotated[str | None, typer.Option("--app", metavar="APP", help="Its name; the project's own where not given.")]
Version = Annotated[
    str | None, typer.Option("--version", metavar="VERSION", help="Its version; the project's own where not given.")
]
Arch = Annotated[
    str | None, typer.Option("--arch", metavar="ARCH", help="x86_64, aarch64, …; this machine's where not given.")
]
CommandLine = Annotated[
    str | None,
    typer.Option("--command", metavar="COMMAND", help="Build with this shell command, which fills the folder $OUT."),
]
Executable = Annotated[
    str | None,
    typer.Option("--executable", metavar="NAME", help="Which one to take, where the build leaves several."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME[=VALUE]", help="Pass a variable on to the build; repeatable."),
]
Twice = Annotated[bool, typer.Option("--check", help="Build twice, and refuse what differs.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what the build writes, on standard error.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Waystation's configuration; else WAYSTATION_CONFIG, else its own."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, such as origin.url=…; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, and errors as JSON.")]
