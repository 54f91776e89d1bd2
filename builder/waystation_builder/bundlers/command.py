"""The bundler for whatever builds itself: a shell command that leaves one executable in the folder ``$OUT``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from waystation_builder.errors import NothingToBuild
from waystation_builder.identity import Identity, read_identity

if TYPE_CHECKING:
    from pathlib import Path

    from waystation_builder.bundlers.wishes import Wishes
    from waystation_builder.workshop import Workshop

_KNOWN = {
    "go.mod": 'CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o "$OUT/" .',
    "Cargo.toml": (
        'cargo build --release --locked --target-dir "$SCRATCH/target" && '
        'find "$SCRATCH/target/release" -maxdepth 1 -type f -perm -u+x ! -name "*.so" -exec cp {} "$OUT/" ";"'
    ),
}
"""Where no command is given: what builds a project with such a file, static and without traces of place and time."""


class Command:
    """Runs a command in the project's folder; without one, the usual one of its language."""

    name: ClassVar[str] = "command"
    tool: ClassVar[str | None] = None

    def __init__(self, wishes: Wishes) -> None:
        self._command = wishes.command

    def claim(self, folder: Path) -> str | None:
        return next((f"there is a {file}" for file in _KNOWN if (folder / file).is_file()), None)

    def identify(self, workshop: Workshop) -> Identity:
        return read_identity(workshop.project)

    def build(self, workshop: Workshop, name: str, version: str) -> None:
        usual = (line for file, line in _KNOWN.items() if (workshop.folder / file).is_file())
        command = self._command or next(usual, None)
        if command is None:
            raise NothingToBuild(
                "the command bundler does not know how this folder is built",
                advice="Say so with --command, such as --command 'make && cp app \"$OUT/\"'.",
            )
        extra = {"OUT": str(workshop.out), "SCRATCH": str(workshop.scratch), "APP": name, "VERSION": version}
        workshop.run(["sh", "-euc", command], extra=extra)
