"""Which versions are at work: of Waystation here and in the daemon, of Python, of the kernel."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.doctor.daemon import DaemonHere


@dataclass(frozen=True, slots=True)
class VersionsSeen:
    """Versions, as each names its own."""

    waystation: str
    python: str
    kernel: str


class Versions:
    """The command's own version, and whether the daemon's is another one."""

    name = "versions"

    def __init__(self, here: DaemonHere) -> None:
        self._here = here

    async def look(self) -> VersionsSeen:
        return VersionsSeen(
            version("waystation"), platform.python_version(), f"{platform.system()} {platform.release()}"
        )

    def judge(self, seen: VersionsSeen) -> Iterator[Finding]:
        if self._here.version not in (None, seen.waystation):
            says = f"the daemon here is {self._here.version}, this command {seen.waystation}"
            yield Finding(self.name, Level.WARNING, says, "Restart the daemon, so that both are of one version.")
            return
        yield Finding(self.name, Level.OK, f"waystation {seen.waystation}, Python {seen.python}, {seen.kernel}")
