"""A day of one daemon, simulated: its real parts on a real folder and disk, and a clock that runs ahead."""

from __future__ import annotations

import asyncio
import platform
import random
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from virtual_time import run_in_virtual_time
from waystation.assembly import Clock, Parts, open_parts
from waystation.config import Settings
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600.0
MIB = 1024 * 1024
REFRESH_S = 300.0
SCRUB_S = 6 * HOUR
KEEP_S = 8 * HOUR
MIDNIGHT = 1_800_000_000.0
ARCH = platform.machine()


def name(version: str) -> str:
    return f"app/app-{version}-{ARCH}"


@dataclass
class Day:
    """One daemon's day, and what was seen of it."""

    folder: Path
    parts: Parts = field(init=False)
    polls: list[float] = field(default_factory=list)
    """When a poll had been answered, to the minute."""

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def until(self, hour: float) -> None:
        await asyncio.sleep(hour * HOUR - self.now)

    def publish(self, version: str, *, pieces: bool = True) -> str:
        data = random.Random(version).randbytes(3 * MIB)
        digest = sha256(data).hexdigest()
        path = self.folder / "origin" / name(version)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        if pieces:
            hasher = TreeHasher(len(data), MIB)
            hasher.update(data)
            tree, layer = hasher.finish()
            path.with_name(f"{path.name}.pieces").write_bytes(dump_pieces(PiecesLine(digest, len(data), tree), layer))
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
        return digest

    def stored(self) -> dict[str, float]:
        """What is here, and how long ago it was checked whole, in seconds."""
        return {blob.digest: MIDNIGHT + self.now - blob.verified for blob in self.parts.store.blobs()}

    def metric(self, sample: str) -> float:
        for line in generate_latest(self.parts.metrics.registry).decode().splitlines():
            if line.startswith(f"waystation_{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    async def comes(self, digest: str) -> float:
        """Wait for a blob; return how long that took, in seconds."""
        began = self.now
        while digest not in self.stored():
            assert self.now < began + 2 * HOUR, "it does not come"
            await asyncio.sleep(1)
        return self.now - began

    async def rots(self, digest: str) -> float:
        """Flip a byte of a blob; return after how long the scrub found it, in seconds."""
        blob = self.folder / "store/blobs/sha256" / digest[:2] / digest
        with blob.open("r+b") as file:
            file.seek(MIB + 7)
            byte = file.read(1)
            file.seek(MIB + 7)
            file.write(bytes([byte[0] ^ 1]))
        failures, began = self.metric('verification_failures_total{where="store"}'), self.now
        while self.metric('verification_failures_total{where="store"}') == failures:
            assert self.now < began + 2 * SCRUB_S, "nobody found it"
            await asyncio.sleep(1)
        return self.now - began

    async def watch(self) -> None:
        """Note each minute what must hold all day."""
        answered = None
        while True:
            if (latest := self.parts.catalog.status().last_refresh) != answered and latest is not None:
                answered = latest
                self.polls.append(latest - MIDNIGHT)
            oldest = self.metric("scrub_oldest_verification_seconds")
            assert oldest <= SCRUB_S + 15 * 60, (
                f"a blob was not checked for {oldest / HOUR:.1f} h, at {self.now / HOUR:.1f} h"
            )
            await asyncio.sleep(60)

    async def pass_by(self) -> None:
        (self.folder / "origin").mkdir()
        loop = asyncio.get_running_loop()
        settings = Settings.model_validate(
            {
                "origin": {"url": (self.folder / "origin").as_uri()},
                "catalog": {"refresh": REFRESH_S},
                "store": {
                    "path": self.folder / "store",
                    "min_free": 0,
                    "scrub_interval": SCRUB_S,
                    "quarantine_keep": KEEP_S,
                },
                "prefetch": [{"match": "app/*", "newest": 2}],
            }
        )
        clock = Clock(lambda: MIDNIGHT + loop.time(), loop.time)
        async with open_parts(settings, clock=clock) as self.parts, asyncio.TaskGroup() as group:
            parts = (self.parts.prefetch.run(), self.parts.store.scrub(), self.watch())
            life = [group.create_task(part) for part in parts]
            await self.events()
            for task in life:
                task.cancel()

    async def events(self) -> None:
        quarantine = self.folder / "store/quarantine"

        await self.until(1)
        one = self.publish("1.0")
        assert await self.comes(one) <= REFRESH_S

        await self.until(3)
        two = self.publish("2.0", pieces=False)
        assert await self.comes(two) <= REFRESH_S

        await self.until(5)
        assert await self.rots(one) <= SCRUB_S
        assert await self.comes(one) <= 60, "what is pinned is fetched again unasked"

        await self.until(12)
        assert await self.rots(two) <= SCRUB_S
        found = self.now
        assert await self.comes(two) <= 60
        assert any(quarantine.rglob(f"*{two[:12]}*")), "without pieces, the rotten file was set aside"
        await asyncio.sleep(KEEP_S - 300)
        assert any(quarantine.rglob(f"*{two[:12]}*"))
        await asyncio.sleep(600)
        assert not any(quarantine.rglob(f"*{two[:12]}*")), "and is kept as long as it was to be"
        assert self.now - found < KEEP_S + HOUR

        await self.until(max(21.5, self.now / HOUR))
        asked = self.origin_asked()
        (self.folder / "origin").rename(self.folder / "gone")
        await asyncio.sleep(HOUR)
        refused = self.origin_asked() - asked
        assert 20 <= refused <= 200, f"{refused:.0f} requests in an hour without an origin"
        assert set(self.stored()) == {one, two}
        (self.folder / "gone").rename(self.folder / "origin")
        three = self.publish("3.0")
        assert await self.comes(three) <= REFRESH_S, "no later than any other"

        await self.until(24)
        assert set(self.stored()) == {one, two, three}
        assert self.parts.store.pins()["prefetch"] == {two, three}

    def origin_asked(self) -> float:
        lines = generate_latest(self.parts.metrics.registry).decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith("waystation_origin_requests_total")
        )


def test_polls_scrubs_repairs_and_expiries_happen_through_a_day_when_they_should(tmp_path: Path) -> None:
    day = Day(tmp_path)
    run_in_virtual_time(day.pass_by())
    gaps = [later - earlier for earlier, later in zip(day.polls, day.polls[1:], strict=False)]
    usual = [gap for gap in gaps if gap < HOUR]
    assert len(usual) >= len(gaps) - 1, "but for the hour without an origin"
    assert max(usual) <= REFRESH_S + 1
    assert 23 * HOUR / REFRESH_S <= len(day.polls) <= 24 * HOUR / (0.9 * REFRESH_S) + 20
