"""The mirror's ports: free, or held by the daemon here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level
from waystation.errors import DaemonError
from waystation.mirror.listeners import bind_all, close_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.doctor.daemon import DaemonHere


@dataclass(frozen=True, slots=True)
class PortSeen:
    """One address of ``[mirror] listen``."""

    address: str
    trouble: DaemonError | None
    """Why it can't be listened on."""


class Ports:
    """Listens on each address for a moment, but for those of the daemon here."""

    name = "ports"

    def __init__(self, listen: tuple[str, ...], here: DaemonHere) -> None:
        self._listen = listen
        self._here = here

    async def look(self) -> list[PortSeen]:
        others = [address for address in self._listen if address not in self._here.listen]
        return await asyncio.to_thread(lambda: [_try(address) for address in others])

    def judge(self, seen: list[PortSeen]) -> Iterator[Finding]:
        tried = {port.address: port.trouble for port in seen}
        for address in self._listen:
            if address not in tried:
                yield Finding(self.name, Level.OK, f"{address} is held by the daemon here, process {self._here.pid}")
            elif trouble := tried[address]:
                yield Finding(self.name, Level.FAILURE, str(trouble), trouble.advice)
            else:
                yield Finding(self.name, Level.OK, f"{address} is free")


def _try(address: str) -> PortSeen:
    try:
        listeners = bind_all((address,))
    except DaemonError as error:
        return PortSeen(address, error)
    close_all(listeners)
    return PortSeen(address, None)
