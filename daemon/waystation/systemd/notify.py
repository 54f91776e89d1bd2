"""Tells systemd how the daemon is: a few words in a datagram on the socket that NOTIFY_SOCKET names (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

log = structlog.get_logger()

SEND_S = 5.0
"""How long a manager that is busy is waited for."""
FEEDS_A_TIMEOUT = 3
"""How often the watchdog is fed in the time that it grants: one feed that comes late must not end the daemon."""


class Notifier:
    """One daemon's words to systemd; without a socket to tell them on, nothing happens."""

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self._ready = False
        self._told = ""
        self._failed = False

    @classmethod
    def of(cls, environment: Mapping[str, str], *, pid: int | None = None) -> Notifier:
        """Read where systemd listens and how long it waits, from the variables that it set for this process."""
        watched = environment.get("WATCHDOG_PID") in (None, str(pid or os.getpid()))
        usec = environment.get("WATCHDOG_USEC", "")
        return cls(
            environment.get("NOTIFY_SOCKET"),
            watchdog_s=int(usec) / 1e6 if watched and usec.isascii() and usec.isdigit() and int(usec) else None,
        )

    async def ready(self, status: str) -> None:
        """Everything that must be there to serve is there: once is enough."""
        self._ready, self._told = True, status
        await self._tell("READY=1", f"STATUS={status}")

    async def status(self, text: str) -> None:
        """Say in one line how things are; what was said already is not repeated."""
        if text != self._told:
            self._told = text
            await self._tell(f"STATUS={text}")

    @asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """For the time of the block the daemon reads its configuration again; it goes on serving."""
        if not self._ready:
            yield
            return
        await self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            await self._tell("READY=1")

    async def stopping(self, status: str) -> None:
        """The daemon is on its way out."""
        self._told = status
        await self._tell("STOPPING=1", f"STATUS={status}")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Feed the watchdog as long as the block runs, from the event loop itself: one that hangs feeds nothing."""
        if self._watchdog_s is None:
            yield
            return
        feeding = asyncio.create_task(self._feed(self._watchdog_s / FEEDS_A_TIMEOUT), name="systemd's watchdog")
        try:
            yield
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])

    async def _feed(self, pause_s: float) -> None:
        while True:
            await self._tell("WATCHDOG=1")
            await asyncio.sleep(pause_s)

    async def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                # A new connection each time: the manager may have been started anew meanwhile.
                sender.connect(_name(self._address))
                async with asyncio.timeout(SEND_S):
                    await asyncio.get_running_loop().sock_sendall(sender, "\n".join(assignments).encode())
            except OSError as error:  # TimeoutError is one
                if not self._failed:
                    log.warning(
                        "systemd_not_told",
                        error=error.strerror or "it took nothing for so long",
                        advice="The daemon goes on; whoever started it can't see that it is ready.",
                    )
                self._failed = True


def _name(address: str) -> str:
    """A path, or the name of an abstract socket, which systemd writes with ``@`` for its first byte (unix(7))."""
    return "\0" + address[1:] if address.startswith("@") else address
