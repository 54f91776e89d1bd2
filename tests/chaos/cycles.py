"""Fetches and evicts the same few targets, thousands of times, and watches what the daemon holds on to."""

from __future__ import annotations

import asyncio
import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.ground import prepared
from chaos.held import Held, settled
from waystation.admin.client import AdminClient
from waystation.errors import CallRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.ground import Ground, Target

KB = 1000
CLIENTS = 4
SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """What a daemon holds after so many cycles, with nothing going on."""

    cycles: int
    held: Held


async def run(cycles: int, *, seed: int, say: Callable[[str], None]) -> list[Sample]:
    """Go through so many cycles; ten samples on the way, the first behind a tenth of them."""
    samples: list[Sample] = []
    async with prepared(seed) as ground:
        ground.station.start()
        for number in range(1, SAMPLES + 1):
            each = cycles // SAMPLES // CLIENTS
            async with asyncio.TaskGroup() as clients:
                for target in ground.targets[:CLIENTS]:
                    clients.create_task(_cycle(ground, target, each))
            samples.append(await _settled(ground, number * each * CLIENTS))
            say(f"{samples[-1].cycles} cycles, {samples[-1].held.resident_bytes // KB} kB resident")
    return samples


def table(samples: list[Sample]) -> str:
    """Write it for a person."""
    rows = [
        f"{each.cycles:>8}  {each.held.resident_bytes / KB:>11.0f}  {each.held.descriptors:>11}  {each.held.threads:>7}"
        for each in samples
    ]
    return "\n".join([f"{'cycles':>8}  {'resident kB':>11}  {'descriptors':>11}  {'threads':>7}", *rows])


async def _cycle(ground: Ground, target: Target, times: int) -> None:
    admin = AdminClient(ground.station.folder / "admin.sock")
    connection = http.client.HTTPConnection("127.0.0.1", ground.station.port, timeout=30)
    for _ in range(times):
        body = await asyncio.to_thread(_fetch, connection, target)
        if body != target.body:
            raise AssertionError(f"{target.name} was served wrong")
        await _evict(admin, target)
    connection.close()


def _fetch(connection: http.client.HTTPConnection, target: Target) -> bytes:
    connection.request("GET", f"/artifacts/{target.name}")
    return connection.getresponse().read()


async def _evict(admin: AdminClient, target: Target) -> None:
    """As soon as that can be done: the last byte leaves before the blob is on the disk."""
    while True:
        try:
            await admin.evict(target.digest)
        except CallRefused:
            await asyncio.sleep(0.001)
        else:
            return


async def _settled(ground: Ground, cycles: int) -> Sample:
    held = await asyncio.to_thread(settled, ground.station)
    return Sample(cycles, held)
