"""What a bundler is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from waystation_builder.identity import Identity
    from waystation_builder.workshop import Workshop


class Bundler(Protocol):
    """One way from a project's folder to an executable."""

    name: ClassVar[str]
    tool: ClassVar[str | None]
    """The program without which it can do nothing."""

    def claim(self, folder: Path) -> str | None:
        """Say what in the folder makes this the bundler for it; None where nothing does."""
        ...

    def identify(self, workshop: Workshop) -> Identity:
        """Read the project's name and version; what it does not say is None.

        Raises:
            BuildError: what should say so can't be read.
        """
        ...

    def build(self, workshop: Workshop, name: str, version: str) -> None:
        """Leave in `workshop.out` the executable, and beside it nothing that is executable; `name`: the app's.

        `version`: as it is published, for what would ask git: the copy that is built has no history.

        Raises:
            BuildError: it can't be built.
        """
        ...
