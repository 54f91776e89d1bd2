"""The daemon on this machine, as its admin socket shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from waystation.doctor.finding import Finding, Level
from waystation.errors import NoDaemon
from waystation.takeover.redirect import Answering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from waystation.errors import DaemonError


@dataclass(frozen=True, slots=True)
class DaemonHere:
    """What other checks must know of it; all None where it can't be asked."""

    trouble: DaemonError | None = None
    pid: int | None = None
    version: str | None = None
    listen: tuple[str, ...] = ()
    store: str | None = None
    """The path of the store that it holds."""
    not_ready_because: tuple[str, ...] = ()
    sockets_of: str = "waystation"
    answering: Answering | None = None
    """What a takeover must know of it."""

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> Self:
        """Read a `StationStatus` as JSON has it."""
        return cls(
            None,
            int(status["pid"]),
            str(status["version"]),
            tuple(status["listen"]),
            str(status["store"]["path"]),
            tuple(status["not_ready_because"]),
            str(status["sockets_of"]),
            Answering.of(status),
        )


class Daemon:
    """Whether one runs and is ready; that none runs is no fault."""

    name = "daemon"

    def __init__(self, here: DaemonHere) -> None:
        self._here = here

    async def look(self) -> DaemonHere:
        return self._here

    def judge(self, seen: DaemonHere) -> Iterator[Finding]:
        if seen.trouble is not None:
            absent = isinstance(seen.trouble, NoDaemon)
            level, advice = (Level.OK, "") if absent else (Level.WARNING, seen.trouble.advice)
            yield Finding(self.name, level, str(seen.trouble), advice)
        elif seen.not_ready_because:
            says = f"process {seen.pid} is not ready: {'; '.join(seen.not_ready_because)}"
            yield Finding(self.name, Level.WARNING, says, "Look at `waystation status` and at its log.")
        else:
            yield Finding(self.name, Level.OK, f"process {seen.pid} is ready")
