"""The rounds: start, look at what the last kill left, work, kill, look at the disk."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from chaos.disk import check_blobs, flip_a_bit, look
from chaos.ground import QUOTA_BYTES, prepared
from chaos.load import Ledger, Load, moment
from chaos.tally import Tally
from waystation.admin.client import AdminClient
from waystation.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.ground import Ground
    from peers.station import Station

KILLED_WHILE_STARTING = 0.15
BEHIND_A_POWER_CUT = 0.15
SETTLED_WITHIN_S = 5.0
TOLD_EVERY = 20


async def run(*, seed: int, seconds: float, rounds: int | None, say: Callable[[str], None]) -> Tally:
    """Go on for so long, or for so many rounds; then start once more, to look behind the last kill."""
    tally = Tally()
    async with prepared(seed) as ground:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (rounds is None or tally.rounds < rounds):
            await _round(ground, tally)
            if tally.rounds % TOLD_EVERY == 0:
                say(f"{tally.rounds} rounds" + (f", {len(tally.faults)} faults" if tally.faults else ""))
        ground.station.start()
        await _look_behind(ground, tally)
    return tally


async def _round(ground: Ground, tally: Tally) -> None:
    station, ledger = ground.station, Ledger(ground)
    tally.rounds += 1
    logged = log_bytes(station)
    if tally.rounds > 1 and ground.chance.random() < BEHIND_A_POWER_CUT:
        _lose_power(ground, tally)
    if ground.chance.random() < KILLED_WHILE_STARTING:
        tally.kills_while_starting += 1
        station.process.start()
        await asyncio.sleep(ground.chance.uniform(0, 1))
        _kill(station, tally)
    else:
        station.start()
        await _look_behind(ground, tally)
        load = asyncio.create_task(Load(ground, tally, ledger).run())
        await asyncio.sleep(moment(ground.chance))
        _kill(station, tally)
        with suppress(asyncio.CancelledError):
            load.cancel()
            await load
    tally.broken += [f"round {tally.rounds}: {line}" for line in errors_since(station, logged)]
    owed = ledger.owed()
    seen = check_blobs(station.store, ground.pieces, ground.rotten, tally)
    tally.commits += len(owed)
    tally.lost += [f"round {tally.rounds}: {digest} was stored and is gone" for digest in owed - seen.blobs.keys()]


def log_bytes(station: Station) -> int:
    return station.process.log.stat().st_size if station.process.log.exists() else 0


def errors_since(station: Station, offset: int) -> list[str]:
    """What the daemon logged as a fault of its own, and what no logger wrote: tracebacks."""
    lines = station.process.log.read_bytes()[offset:].decode(errors="replace").splitlines()
    return [line for line in lines if not line.startswith("{") or json.loads(line)["level"] in {"error", "critical"}]


def _lose_power(ground: Ground, tally: Tally) -> None:
    """Let the kill look like one of the whole machine, and let it have cost one of the blobs a bit."""
    store = ground.station.store
    (store / "running").write_text("another boot\n")
    tally.power_cuts += 1
    repairable = sorted(digest for digest in look(store).blobs if ground.pieces[digest])
    if repairable:
        digest = ground.chance.choice(repairable)
        flip_a_bit(look(store).blobs[digest], ground.chance)
        ground.rotten.add(digest)


def _kill(station: Station, tally: Tally) -> None:
    if not station.process.running:
        tally.fallen.append(f"round {tally.rounds}: exit status {station.process.exit_status}")
    station.process.kill()


async def _look_behind(ground: Ground, tally: Tally) -> None:
    """A daemon that has just started holds nothing unknown, and all that it holds is accounted for."""
    admin = AdminClient(ground.station.folder / "admin.sock")
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while fault := await _leftover(ground, admin):
        if time.monotonic() > deadline:
            tally.leftovers.append(f"round {tally.rounds}: {fault}")
            return
        await asyncio.sleep(0.05)


async def _leftover(ground: Ground, admin: AdminClient) -> str | None:
    """What is not as it must be just now; the store may still be tidying."""
    try:
        stored_bytes = (await admin.status())["store"]["stored_bytes"]
    except DaemonError as error:  # it listens there last
        return str(error)
    seen = look(ground.station.store)
    if seen.strange:
        return ", ".join(seen.strange)
    if not stored_bytes == seen.counted_bytes <= QUOTA_BYTES:
        return f"{stored_bytes} bytes are accounted for, {seen.counted_bytes} are there, {QUOTA_BYTES} allowed"
    return None
