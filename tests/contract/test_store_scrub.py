"""The scrub: what it reads when, for whom it steps back, and what becomes of what it finds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from stores import BootDisk, artifact_of, content, digest_of, put, random_bytes, reserve, running_store
from waystation.disk import Disk
from waystation.store.pace import IDLE_BYTES_PER_S, MOST_BYTES_PER_S, Pace
from waystation.store.scrub import LOOK_PAUSE_S, STEP_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from waystation.model import Digest
    from waystation.store.disk_store import DiskStore
    from waystation.telemetry.metrics import Metrics

DAY = 86400.0
HOUR = 3600.0
START = 1_700_000_000.0
MIB = 1024 * 1024


@dataclass
class Clock:
    """A time of its own, which sleeping moves on and nothing else."""

    now: float = START
    until: float = float("inf")
    sleeps: list[float] = field(default_factory=list)
    look: Callable[[], None] = lambda: None
    """Called before every sleep."""

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if self.now >= self.until:
            raise asyncio.CancelledError
        self.look()
        self.sleeps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def run(self, store: DiskStore, seconds: float) -> None:
        """Let the scrub run for so long."""
        self.until = self.now + seconds
        with suppress(asyncio.CancelledError):
            await store.scrub(sleep=self.sleep)


class WatchedDisk(BootDisk):
    """Takes down which blobs are read from the disk."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
        if not offset:
            self.reads.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        return super().read_once(fd, buffer, offset)


@asynccontextmanager
async def scrubbed_store(
    path: Path, clock: Clock, *, interval: float = DAY, disk: Disk | None = None, metrics: Metrics | None = None
) -> AsyncIterator[DiskStore]:
    async with running_store(path, disk=disk, metrics=metrics, wall=clock.wall, scrub_interval=interval) as store:
        yield store


def sample(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"waystation_{name}") or 0.0


def blob_path(path: Path, digest: Digest) -> Path:
    return path / "blobs/sha256" / digest[:2] / digest


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


async def test_every_blob_is_read_again_within_the_interval_day_after_day(tmp_path: Path, metrics: Metrics) -> None:
    clock, disk = Clock(), WatchedDisk()
    bodies = [random_bytes(50_000 * (1 + seed % 3), seed) for seed in range(8)]
    async with scrubbed_store(tmp_path, clock, disk=disk, metrics=metrics) as store:
        for data in bodies:
            await put(store, data)
        ages: list[float] = []
        clock.look = lambda: ages.append(sample(metrics, "scrub_oldest_verification_seconds"))
        await clock.run(store, 4 * DAY)
        assert 0.4 * DAY < max(ages) < 0.95 * DAY
        reads = [disk.reads.count(digest_of(data)) for data in bodies]
        assert all(4 <= count <= 8 for count in reads), reads
        assert sample(metrics, "scrubbed_bytes_total") == sum(map(int.__mul__, reads, map(len, bodies)))
        assert store.status().blobs == len(bodies)
        assert all(blob.verified > clock.now - DAY for blob in store.blobs())
        times = [blob_path(tmp_path, digest_of(data)).stat().st_mtime for data in bodies]
        assert min(times) > clock.now - DAY


async def test_it_is_spread_over_the_interval(tmp_path: Path) -> None:
    clock, disk = Clock(), WatchedDisk()
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        for seed in range(10):
            await put(store, random_bytes(100_000, seed), pieces=False)
        hours: list[int] = []
        clock.look = lambda: hours.extend([int((clock.now - START) / HOUR)] * (len(disk.reads) - len(hours)))
        await clock.run(store, 23 * HOUR)
        assert hours[0] == 12, "nothing is due before half the interval"
        assert len(set(disk.reads)) == len(hours) == 10
        assert max(hours.count(hour) for hour in hours) <= 2


async def test_a_short_interval_is_kept_too(tmp_path: Path, metrics: Metrics) -> None:
    clock = Clock()
    async with scrubbed_store(tmp_path, clock, interval=10, metrics=metrics) as store:
        await put(store, random_bytes(40_000))
        ages: list[float] = []
        clock.look = lambda: ages.append(sample(metrics, "scrub_oldest_verification_seconds"))
        await clock.run(store, 600)
        assert max(ages) < 10


async def test_the_oldest_verified_is_read_first(tmp_path: Path) -> None:
    clock, disk = Clock(), WatchedDisk()
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        digests = []
        for seed in (3, 1, 2):
            digests.append(await put(store, random_bytes(40_000, seed)))
            clock.now += 60
        assert content(store, digests[0]) is not None
        await clock.run(store, DAY)
        assert disk.reads[:3] == digests


async def test_suspects_are_read_at_once_and_the_rest_waits(tmp_path: Path) -> None:
    clock, disk = Clock(), WatchedDisk()
    async with running_store(tmp_path, disk=disk, wall=clock.wall, kill=True) as store:
        suspects = {await put(store, random_bytes(40_000, seed)) for seed in (1, 2)}
    disk.boot = "second"
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        trusted = await put(store, random_bytes(40_000, 3))
        listener = store.changes()
        await clock.run(store, 60)
        assert set(disk.reads) == suspects
        assert trusted not in disk.reads
        assert store.status().suspect_blobs == 0
        assert {(await anext(listener)).digest for _ in suspects} == suspects
        assert all(content(store, digest) is not None for digest in suspects)


async def test_a_suspect_that_a_flight_gives_back_is_not_kept_waiting(tmp_path: Path, metrics: Metrics) -> None:
    clock, disk, data = Clock(), WatchedDisk(), random_bytes(40_000, 1)
    async with running_store(tmp_path, disk=disk, wall=clock.wall, kill=True) as store:
        await put(store, data)
    disk.boot = "second"
    async with scrubbed_store(tmp_path, clock, disk=disk, metrics=metrics) as store:
        await put(store, random_bytes(3 * MIB, 2), pieces=False)
        spool = await reserve(store, data)
        clock.now += DAY
        scrub = asyncio.ensure_future(store.scrub(sleep=clock.sleep))
        while not sample(metrics, "scrubbed_bytes_total"):
            await asyncio.sleep(0)
        spool.close(keep=True)
        given_back = clock.now
        while store.status().suspect_blobs:
            await asyncio.sleep(0)
        assert clock.now - given_back <= 3 * LOOK_PAUSE_S
        scrub.cancel()
        with suppress(asyncio.CancelledError):
            await scrub


@pytest.mark.parametrize("pieces", [True, False])
async def test_a_flipped_bit_is_found_within_the_interval_and_never_served_again(
    tmp_path: Path, metrics: Metrics, pieces: bool
) -> None:
    clock, data = Clock(), random_bytes(60_000)
    async with scrubbed_store(tmp_path, clock, metrics=metrics) as store:
        digest = await put(store, data, pieces=pieces)
        good = await put(store, random_bytes(60_000, 2))
        flip(blob_path(tmp_path, digest), 31_000)
        await clock.run(store, DAY)
        assert store.open(digest) is None
        assert content(store, good) is not None
        assert metrics.registry.get_sample_value("waystation_verification_failures_total", {"where": "store"}) == 1
        assert sample(metrics, "quarantined_blobs") == (0 if pieces else 1)
        spool = await reserve(store, data, pieces=pieces)
        assert bool(spool.suspect) == pieces
        spool.close(keep=True)


async def test_a_flipped_bit_in_the_pieces_is_found_and_put_right(tmp_path: Path) -> None:
    clock, data = Clock(), random_bytes(60_000)
    async with scrubbed_store(tmp_path, clock) as store:
        digest = await put(store, data)
        pieces = blob_path(tmp_path, digest).with_name(f"{digest}.pieces")
        flip(pieces, pieces.stat().st_size - 1)
        await clock.run(store, DAY)
        assert pieces.read_bytes() == artifact_of(data)[1]
        assert content(store, digest) == data


async def test_a_read_error_is_as_good_as_a_flipped_bit(tmp_path: Path) -> None:
    class Failing(Disk):
        def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
            if os.readlink(f"/proc/self/fd/{fd}").endswith(bad):
                raise OSError(5, "Input/output error")
            return super().read_once(fd, buffer, offset)

    clock, bad = Clock(), digest_of(random_bytes(60_000))
    async with scrubbed_store(tmp_path, clock, disk=Failing()) as store:
        await put(store, random_bytes(60_000))
        good = await put(store, random_bytes(60_000, 2))
        await clock.run(store, DAY)
        assert [blob.digest for blob in store.blobs()] == [good]


async def test_a_lack_of_descriptors_is_waited_out(tmp_path: Path) -> None:
    class Exhausted(WatchedDisk):
        refusals = 3

        def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
            if flags & os.O_NONBLOCK and self.refusals:
                self.refusals -= 1
                raise OSError(24, "Too many open files")
            return super().open(path, flags, mode)

    clock, disk = Clock(), Exhausted()
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        digest = await put(store, random_bytes(60_000))
        await clock.run(store, DAY)
        assert disk.reads == [digest]
        assert content(store, digest) is not None


@pytest.mark.parametrize("busy", ["a client", "a flight", "nobody"])
async def test_it_steps_back_while_the_store_is_used_and_keeps_the_interval_all_the_same(
    tmp_path: Path, busy: str
) -> None:
    clock = Clock()
    interval = 12 * HOUR
    async with scrubbed_store(tmp_path, clock, interval=interval) as store:
        digest = await put(store, random_bytes(3 * MIB), pieces=False)
        clock.now += 1
        other = await put(store, random_bytes(1000), pieces=False)
        blob = store.open(other) if busy == "a client" else None
        spool = await reserve(store, random_bytes(10, 9)) if busy == "a flight" else None
        clock.now += 0.5 * interval - 1
        before = clock.now
        clock.until = before + interval
        scrub = asyncio.ensure_future(store.scrub(sleep=clock.sleep))
        while next(one for one in store.blobs() if one.digest == digest).verified == START:
            await asyncio.sleep(0)
        took = clock.now - before
        scrub.cancel()
        with suppress(asyncio.CancelledError):
            await scrub
        pace = Pace(3 * MIB + 1000, interval)
        if busy == "nobody":
            assert took == pytest.approx(3 * MIB / IDLE_BYTES_PER_S, rel=0.01)
        else:
            assert took == pytest.approx(3 * MIB / pace.lasting, rel=0.01)
            assert took < 0.45 * interval
        if blob:
            blob.close()
        if spool:
            spool.close(keep=False)


@pytest.mark.parametrize("interval", [0.2, 0.25, 0.3, 1000])
async def test_nothing_is_slept_for_that_rounding_left_of_a_time(tmp_path: Path, interval: float) -> None:
    clock = Clock()
    async with scrubbed_store(tmp_path, clock, interval=interval) as store:
        await put(store, random_bytes(3 * MIB + 17), pieces=False)
        for seed in range(10, 13):
            await put(store, random_bytes(1000, seed), pieces=False)
            clock.now += interval
            await clock.run(store, 1)
        assert min(clock.sleeps) > 0.5 / MOST_BYTES_PER_S


async def test_it_never_sleeps_longer_than_it_may_be_needed(tmp_path: Path) -> None:
    clock = Clock()
    async with scrubbed_store(tmp_path, clock, interval=30 * DAY) as store:
        await put(store, random_bytes(2 * MIB))
        await clock.run(store, 20 * DAY)
        assert max(clock.sleeps) <= LOOK_PAUSE_S
        assert STEP_S < LOOK_PAUSE_S
        assert min(MOST_BYTES_PER_S, IDLE_BYTES_PER_S) == IDLE_BYTES_PER_S


async def test_a_clock_that_jumps_costs_checks_too_many_and_never_leaves_a_blob_unchecked(
    tmp_path: Path, metrics: Metrics
) -> None:
    clock, disk = Clock(), WatchedDisk()
    async with scrubbed_store(tmp_path, clock, disk=disk, metrics=metrics) as store:
        for seed in range(3):
            await put(store, random_bytes(40_000, seed))
        for jump in (-3650 * DAY, 7300 * DAY, -3650 * DAY):
            clock.now += jump
            disk.reads.clear()
            await clock.run(store, DAY)
            assert len(set(disk.reads)) == 3
            assert len(disk.reads) <= 6
            assert 0 <= sample(metrics, "scrub_oldest_verification_seconds") <= DAY


async def test_a_verification_that_an_earlier_clock_dated_in_the_future_is_done_again(tmp_path: Path) -> None:
    clock, disk = Clock(), WatchedDisk()
    clock.now += 3650 * DAY
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        digest = await put(store, random_bytes(40_000))
    clock.now -= 3650 * DAY
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        await clock.run(store, HOUR)
        assert disk.reads == [digest]
    async with scrubbed_store(tmp_path, clock, disk=disk) as store:
        await clock.run(store, HOUR)
        assert disk.reads == [digest]


async def test_cancelled_in_mid_blob_it_leaves_nothing_open(tmp_path: Path) -> None:
    clock = Clock()
    async with scrubbed_store(tmp_path, clock) as store:
        digest = await put(store, random_bytes(5 * MIB), pieces=False)
        clock.now += DAY
        clock.until = clock.now + STEP_S / 4
        with pytest.raises(asyncio.CancelledError):
            await store.scrub(sleep=clock.sleep)
        assert next(blob.verified for blob in store.blobs()) == START
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        assert not [link for link in links if os.path.lexists(link) and os.readlink(link).endswith(digest)]


async def test_what_is_evicted_while_it_is_read_is_no_trouble(tmp_path: Path) -> None:
    class Evicting(Clock):
        async def sleep(self, seconds: float) -> None:
            if store.blobs():
                await store.evict(digest)
            await super().sleep(seconds)

    clock = Evicting()
    async with scrubbed_store(tmp_path, clock) as store:
        digest = await put(store, random_bytes(3 * MIB), pieces=False)
        clock.now += DAY
        clock.until = clock.now + HOUR
        with suppress(asyncio.CancelledError):
            await store.scrub(sleep=clock.sleep)
        assert store.status().blobs == 0
        assert store.status().quarantined_blobs == 0


IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31}
COMMON, IDLE = 2, 3


@pytest.mark.skipif(os.uname().machine not in IOPRIO_GET, reason="no number of ioprio_get for this machine")
async def test_it_waits_for_an_idle_disk_until_a_blob_is_late(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    class Looking(Disk):
        def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
            priority = ctypes.CDLL(None).syscall(IOPRIO_GET[os.uname().machine], 1, 0)
            seen.append((threading.current_thread().name.rpartition("_")[0], priority >> 13))
            return super().read_once(fd, buffer, offset)

    clock = Clock()
    async with scrubbed_store(tmp_path, clock, disk=Looking()) as store:
        digest = await put(store, random_bytes(1000))
        await clock.run(store, 0.9 * DAY)
        clock.now += 0.2 * DAY
        await clock.run(store, HOUR)
        await store.verify(digest)
    assert seen[:2] == [("scrub", IDLE), ("scrub", COMMON)]
    assert seen[2][0] == "verify"
    assert seen[2][1] != IDLE
