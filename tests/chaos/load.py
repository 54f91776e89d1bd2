"""The mixed load: whole fetches, ranges, evictions, verifications and publishing, each compared with what must come."""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from chaos.asking import fetch
from chaos.ground import MOST_TARGETS
from waystation.admin.client import AdminClient
from waystation.errors import CallRefused, DaemonError, OriginError

if TYPE_CHECKING:
    import random

    from chaos.ground import Ground, Target
    from chaos.tally import Tally

CLIENTS = 6
TIMEOUT_S = 30.0


class Ledger:
    """Which blobs a daemon has reported as stored and not said to have given up since; its log is what it says."""

    def __init__(self, ground: Ground) -> None:
        self._log = ground.station.process.log
        self._admin = AdminClient(ground.station.folder / "admin.sock")
        self._reported: dict[str, int] = {}
        """By digest: how long the log was before it was asked for."""

    async def ask(self) -> None:
        offset = self._log.stat().st_size
        for blob in await self._admin.blobs():
            if blob["state"] == "stored":
                self._reported[blob["sha256"]] = offset

    def owed(self) -> set[str]:
        """What must be on the disk of a daemon that was just killed."""
        if not self._reported:
            return set()
        first = min(self._reported.values())
        with self._log.open("rb") as log:
            log.seek(first)
            for line in log:
                if line.endswith(b"\n") and b'"digest"' in line:
                    said = json.loads(line)
                    digest = said["digest"]
                    if said["event"] in {"evicted", "blob_distrusted"} and first >= self._reported.get(
                        digest, first + 1
                    ):
                        del self._reported[digest]
                first += len(line)
        owed, self._reported = set(self._reported), {}
        return owed


class Load:
    """Clients of one daemon, until they are cancelled or it is gone."""

    def __init__(self, ground: Ground, tally: Tally, ledger: Ledger) -> None:
        self._ground = ground
        self._tally = tally
        self._ledger = ledger
        self._admin = AdminClient(ground.station.folder / "admin.sock")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client())
            clients.create_task(self._watch())

    async def _client(self) -> None:
        chance = self._ground.chance
        with suppress(DaemonError, OSError, http.client.HTTPException):
            while True:
                # The newest are asked for most, as a rollout does; the others now and then.
                targets = self._ground.targets
                target = targets[-1 - min(len(targets) - 1, int(chance.expovariate(0.15)))]
                match chance.choices(("fetch", "range", "evict", "verify", "publish"), (10, 6, 3, 3, 1))[0]:
                    case "fetch":
                        await asyncio.to_thread(self._fetch, target, 0, len(target.body))
                    case "range":
                        start, stop = sorted(chance.choices(range(len(target.body) + 1), k=2))
                        if start < stop:
                            await asyncio.to_thread(self._fetch, target, start, stop)
                    case "evict":
                        await self._evict(target)
                    case "verify":
                        await self._verify(target)
                    case "publish" if len(self._ground.pieces) < MOST_TARGETS:
                        with suppress(OriginError):
                            await self._ground.publish()
                            self._tally.asked["published"] += 1

    async def _watch(self) -> None:
        scrubbed_bytes = 0
        with suppress(DaemonError, OSError, http.client.HTTPException):
            while True:
                await self._ledger.ask()
                now_bytes = await asyncio.to_thread(self._ground.station.metric, "waystation_scrubbed_bytes_total")
                self._tally.scrubbed_bytes += int(now_bytes) - scrubbed_bytes
                scrubbed_bytes = int(now_bytes)
                await asyncio.sleep(0.05)

    async def _evict(self, target: Target) -> None:
        with suppress(CallRefused):  # it is not here, or somebody reads it
            await self._admin.evict(target.digest)
            self._tally.asked["evicted by an operator"] += 1

    async def _verify(self, target: Target) -> None:
        outcome = (await self._admin.verify(target.digest))["outcome"]
        self._tally.asked["verified"] += outcome == "good"
        if outcome == "bad" and target.digest not in self._ground.rotten:
            self._tally.wrong.append(f"round {self._tally.rounds}: {target.name} was found bad")

    def _fetch(self, target: Target, start: int, stop: int) -> None:
        fetch(self._ground.station.port, target, start, stop, self._tally, timeout_s=TIMEOUT_S)


def moment(chance: random.Random) -> float:
    """How long a daemon works until it is killed, in seconds."""
    return min(3.0, chance.expovariate(1.5))
