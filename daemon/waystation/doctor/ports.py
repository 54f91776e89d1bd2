"""The mirror's ports: free, held by the daemon here, or by systemd for it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from waystation.doctor.finding import Finding, Level
from waystation.errors import DaemonError
from waystation.mirror.listeners import bind_all, close_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.doctor.daemon import DaemonHere

SOCKET_UNITS = ("waystation.socket", "waystation-https.socket")
_PATIENCE_S = 10
_LISTENS = re.compile(r"(?:Listen=)?(\S+:\d+) \(Stream\)")


@dataclass(frozen=True, slots=True)
class PortSeen:
    """One address of ``[mirror] listen``."""

    address: str
    trouble: DaemonError | None
    """Why it can't be listened on."""
    systemd_has: bool = False
    """Whether that is because a socket unit of ours listens there."""


class Ports:
    """Listens on each address for a moment, but for those of the daemon here; sockets of systemd's count instead."""

    name = "ports"

    def __init__(self, listen: tuple[str, ...], here: DaemonHere) -> None:
        self._listen = listen
        self._here = here

    async def look(self) -> list[PortSeen]:
        if self._here.sockets_of == "systemd":
            return []
        others = [address for address in self._listen if address not in self._here.listen]
        return await asyncio.to_thread(lambda: [_try(address) for address in others])

    def judge(self, seen: list[PortSeen]) -> Iterator[Finding]:
        if self._here.sockets_of == "systemd":
            for url in self._here.listen:
                yield Finding(self.name, Level.OK, f"{url} is held by systemd, for the daemon here, {self._here.pid}")
            return
        tried = {port.address: port for port in seen}
        for address in self._listen:
            if address not in tried:
                yield Finding(self.name, Level.OK, f"{address} is held by the daemon here, process {self._here.pid}")
            elif tried[address].systemd_has:
                yield Finding(self.name, Level.OK, f"{address} is held by systemd, for the daemon that it will start")
            elif trouble := tried[address].trouble:
                yield Finding(self.name, Level.FAILURE, str(trouble), trouble.advice)
            else:
                yield Finding(self.name, Level.OK, f"{address} is free")


def _try(address: str) -> PortSeen:
    try:
        listeners = bind_all((address,))
    except DaemonError as error:
        return PortSeen(address, error, urlsplit(address).netloc in _held_by_systemd())
    close_all(listeners)
    return PortSeen(address, None)


def _held_by_systemd() -> frozenset[str]:
    """Ask systemd where our socket units listen, those that do; nothing where there is no systemd."""
    command = ["systemctl", "show", "--property=ActiveState,Listen", *SOCKET_UNITS]
    try:
        shown = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    units = [unit for unit in shown.split("\n\n") if "ActiveState=active" in unit.splitlines()]
    return frozenset(match for unit in units for match in _LISTENS.findall(unit))
