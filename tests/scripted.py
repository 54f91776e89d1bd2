"""Transfers that release bytes by a script: for what real ones do too seldom, or never on demand."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from mirrors import World, running_mirror
from stores import random_bytes
from waystation.model import CacheResult, Priority, Span

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from waystation.config import MirrorSettings
    from waystation.model import Artifact
    from waystation.status import FlightStatus

MIB = 1024 * 1024
NAME = "app/app-1-x86_64"
PATH = f"/artifacts/{NAME}"
DATA = random_bytes(4 * MIB + 321)

Step = Span | Exception | asyncio.Event


@dataclass
class Script:
    """Transfers that release what a test says, when it says so: spans, errors, and events to wait for."""

    file: Path
    plays: list[list[Step]]
    opened: list[Artifact] = field(default_factory=list)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a ride waits for an event."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a ride was given up."""
    cache = CacheResult.MISS

    @asynccontextmanager
    async def open(self, artifact: Artifact, priority: Priority = Priority.CLIENT) -> AsyncIterator[Ride]:
        assert priority is Priority.CLIENT, "a mirror's client waits for what it asks for"
        self.opened.append(artifact)
        fd = os.open(self.file, os.O_RDONLY)
        try:
            yield Ride(artifact, fd, self)
        finally:
            os.close(fd)
            self.left.set()

    def flights(self) -> tuple[FlightStatus, ...]:
        return ()

    def memory_for(self, artifact: Artifact) -> None:
        """It passes nothing through."""

    async def close(self) -> None:
        return


@dataclass
class Ride:
    artifact: Artifact
    fd: int
    script: Script
    cache = CacheResult.MISS

    async def stored(self) -> None:
        return

    async def runs(self, span: Span) -> AsyncIterator[Span]:
        for step in self.script.plays.pop(0):
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                self.script.waits.set()
                await step.wait()
                continue
            if step.start < span.stop and step.stop > span.start:
                yield Span(max(step.start, span.start), min(step.stop, span.stop))


def pieces(count: int, size_bytes: int = len(DATA)) -> list[Step]:
    edges = [size_bytes * index // count for index in range(count + 1)]
    return [Span(start, stop) for start, stop in pairwise(edges)]


@asynccontextmanager
async def playing(
    tmp_path: Path,
    *plays: list[Step],
    mirror: MirrorSettings | None = None,
    data: bytes = DATA,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[World, Script]]:
    script = Script(tmp_path / "bytes", list(plays))
    script.file.write_bytes(data)
    async with running_mirror(tmp_path, transfers=lambda _: script, mirror=mirror, tls=tls) as world:
        world.put(NAME, data)
        yield world, script
