"""What the store has no room for: passed through in memory, piece by piece, or refused; and nothing else is touched."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from transfers import MIB, FullDisk, eventually, read, world
from waystation.disk import Disk
from waystation.errors import Denied, DigestMismatch, NoRoom, PieceMismatch, StoreUnusable, TransferError
from waystation.model import CacheResult, Digest, Priority, Span
from waystation.store.memory_spool import STEP_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transfers import World
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Body

WINDOW = 2 * STEP_BYTES
LIMIT = 64 * MIB


@pytest.fixture
async def it(tmp_path: Path, metrics: Metrics) -> AsyncIterator[World]:
    """A store with room for 10 MiB."""
    async with world(tmp_path, metrics, max_size=10 * MIB, pass_through=LIMIT) as running:
        yield running


def files(it: World) -> list[Path]:
    folder = it.root.parent / "store"
    return sorted(path for kind in ("blobs", "spool") for path in (folder / kind).rglob("*") if path.is_file())


async def anything_but_an_end(runs: AsyncIterator[Span]) -> None:
    while True:
        await anext(runs)


def memory_of(body: Body) -> int:
    """How much memory the window takes that a body reads from."""
    return os.fstat(body.fd).st_blocks * 512


async def test_what_has_no_room_is_passed_through_in_a_window_and_stored_nowhere(it: World, metrics: Metrics) -> None:
    kept = await it.artifact(3 * MIB, name="app/kept-1-x86_64", seed=9)
    await it.fetch(kept)
    await eventually(lambda: not it.transfers.flights(), "a blob")
    before = files(it)
    artifact = await it.artifact(60 * MIB + 3)
    it.origin.read_bytes = 0
    most = 0
    digest = sha256()
    async with it.transfers.open(artifact) as body:
        async for run in body.runs(Span(0, artifact.size_bytes)):
            assert it.transfers.flights()[-1].state in ("passing", "done")
            digest.update(os.pread(body.fd, len(run), run.start))
            most = max(most, memory_of(body))
        assert body.cache is CacheResult.PASSED
    assert digest.hexdigest() == artifact.digest
    assert it.origin.read_bytes == artifact.size_bytes
    assert 0 < most <= WINDOW
    await eventually(lambda: not it.transfers.flights(), "it has ended")
    assert it.passing.used_bytes == 0
    assert files(it) == before
    assert metrics.evictions.labels("quota")._value.get() == 0
    async with it.transfers.open(artifact) as body:
        assert body.cache is CacheResult.MISS


async def test_a_client_that_does_not_read_on_holds_its_window_and_no_more_until_it_leaves(it: World) -> None:
    artifact = await it.artifact(60 * MIB)
    async with it.transfers.open(artifact) as body:
        runs = aiter(body.runs(Span(0, artifact.size_bytes)))
        first = await anext(runs)
        await eventually(lambda: it.origin.read_bytes == WINDOW, "the window is full")
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert it.origin.read_bytes == memory_of(body) == it.passing.used_bytes == WINDOW
        assert os.pread(body.fd, len(first), first.start) == it.bytes_of(artifact)[: first.stop]
        while (run := await anext(runs)).stop < 5 * MIB:
            pass
        await eventually(lambda: it.origin.read_bytes == WINDOW + STEP_BYTES, "it moves on by half of itself")
        assert os.pread(body.fd, len(run), run.start) == it.bytes_of(artifact)[run.start : run.stop]
        assert memory_of(body) <= WINDOW
    await eventually(lambda: not it.transfers.flights(), "it has ended")
    assert it.passing.used_bytes == 0
    assert not [fd for fd in os.listdir("/proc/self/fd") if "waystation-passed" in link(fd)]


def link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_a_client_may_leave_while_the_origin_does_not_answer(it: World, how: str) -> None:
    artifact = await it.artifact(60 * MIB)
    it.origin.silent = True

    async def ask() -> None:
        async with it.transfers.open(artifact) as body:
            reading = asyncio.create_task(read(body))
            try:
                await eventually(lambda: it.origin.spans, "a range is asked for")
                if how == "cancel":
                    await asyncio.Event().wait()
            finally:
                reading.cancel()

    asking = asyncio.create_task(ask())
    await eventually(lambda: it.origin.spans, "a range is asked for")
    if how == "cancel":
        asking.cancel()
    await asyncio.wait([asking])
    await eventually(lambda: not it.transfers.flights(), "it has ended")
    assert it.passing.used_bytes == 0


async def test_a_range_costs_its_own_pieces(it: World) -> None:
    artifact = await it.artifact(60 * MIB)
    span = Span(20 * MIB + 7, 41 * MIB + 1)
    assert await it.fetch(artifact, span) == it.bytes_of(artifact)[span.start : span.stop]
    assert it.origin.read_bytes == 22 * MIB


@pytest.mark.parametrize("start", [0, 30 * MIB + 5, 60 * MIB - 1])
async def test_a_range_with_the_last_piece_costs_the_whole_since_its_hash_must_hold(it: World, start: int) -> None:
    artifact = await it.artifact(60 * MIB)
    most = 0
    async with it.transfers.open(artifact) as body:
        parts = []
        async for run in body.runs(Span(start, artifact.size_bytes)):
            parts.append(os.pread(body.fd, len(run), run.start))
            most = max(most, memory_of(body))
    assert b"".join(parts) == it.bytes_of(artifact)[start:]
    assert it.origin.read_bytes == artifact.size_bytes
    assert most <= WINDOW


@pytest.mark.parametrize("size_bytes", [MIB // 2, 10 * MIB - 1, 10 * MIB + 1, 11 * MIB])
async def test_any_size_is_passed_through(tmp_path: Path, metrics: Metrics, size_bytes: int) -> None:
    async with world(tmp_path, metrics, max_size=1000, pass_through=LIMIT) as it:
        artifact = await it.artifact(size_bytes)
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert await it.fetch(artifact, Span(3, 1000)) == it.bytes_of(artifact)[3:1000]


async def test_pieces_all_good_but_the_whole_wrong_never_releases_the_last_piece(it: World) -> None:
    good = await it.artifact(30 * MIB)
    wrong = Digest(sha256(b"something else").hexdigest())
    pieces_file = it.root / (good.key + ".pieces")
    pieces_file.write_bytes(pieces_file.read_bytes().replace(good.digest.encode(), wrong.encode()))
    got: list[Span] = []
    with pytest.raises(DigestMismatch):
        await it.collect(replace(good, digest=wrong), got)
    assert got[-1].stop == 29 * MIB


async def test_no_byte_of_a_piece_leaves_that_does_not_verify(it: World, metrics: Metrics) -> None:
    artifact = await it.artifact(30 * MIB)
    it.origin.rotten = {17 * MIB: 1}
    assert await it.fetch(artifact) == it.bytes_of(artifact), "bad once: asked for once more"
    it.origin.rotten = {17 * MIB: 99}
    got: list[Span] = []
    with pytest.raises(PieceMismatch, match="piece 17 of 30"):
        await it.collect(artifact, got)
    assert got[-1].stop <= 17 * MIB
    assert metrics.verification_failures.labels("origin")._value.get() == 1
    await eventually(lambda: not it.transfers.flights(), "it has ended")
    assert it.passing.used_bytes == 0


async def test_lost_ranges_are_asked_for_again(it: World) -> None:
    artifact = await it.artifact(30 * MIB)
    it.origin.cuts = {4 * MIB: 1, 20 * MIB: 1}
    assert await it.fetch(artifact) == it.bytes_of(artifact)
    assert it.origin.read_bytes == artifact.size_bytes
    it.origin.losses = [Denied("no")] * 2  # one for the range that is asked for ahead of the room
    with pytest.raises(Denied):
        await it.fetch(artifact)


async def test_without_pieces_there_is_no_room_and_nothing_is_asked_for(it: World) -> None:
    artifact = await it.artifact(60 * MIB, pieces=False)
    with pytest.raises(NoRoom):
        await it.fetch(artifact)
    vanished = await it.artifact(60 * MIB, name="b/b-1-x86_64", seed=2)
    (it.root / (vanished.key + ".pieces")).unlink()
    with pytest.raises(NoRoom):
        await it.fetch(vanished)
    assert it.origin.read_bytes == 0


async def test_each_client_has_a_window_of_its_own_up_to_the_limit_and_a_place_once_one_has_left(it: World) -> None:
    artifact = await it.artifact(40 * MIB)
    places = LIMIT // WINDOW
    full = asyncio.Event()
    go_on = asyncio.Event()

    async def ask() -> bytes:
        async with it.transfers.open(artifact) as body:
            parts = []
            async for run in body.runs(Span(0, artifact.size_bytes)):
                if it.passing.used_bytes == LIMIT:
                    full.set()
                await go_on.wait()
                parts.append(os.pread(body.fd, len(run), run.start))
            return b"".join(parts)

    clients = [asyncio.create_task(ask()) for _ in range(places + 2)]
    await full.wait()
    await eventually(lambda: sum(client.done() for client in clients) == 2, "two find no memory either")
    refused = [client for client in clients if client.done()]
    for client in refused:
        assert isinstance(client.exception(), NoRoom)
        assert "pass_through_memory" in getattr(client.exception(), "advice", "")
    with pytest.raises(NoRoom, match="67108864 are in use"):
        await it.fetch(artifact)
    leaving = next(client for client in clients if not client.done())
    leaving.cancel()
    await eventually(lambda: it.passing.used_bytes < LIMIT, "its window is free")
    go_on.set()
    assert await it.fetch(artifact) == it.bytes_of(artifact)
    for client in clients:
        if client not in refused and client is not leaving:
            assert await client == it.bytes_of(artifact)


async def test_slow_clients_that_are_passed_through_keep_nobody_waiting_for_a_slot(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics, max_size=10 * MIB, pass_through=LIMIT, max_flights=1) as it:
        large, small = await it.artifact(40 * MIB), await it.artifact(3 * MIB, name="b/b-1-x86_64", seed=2)
        async with it.transfers.open(large) as body:
            await anext(aiter(body.runs(Span(0, large.size_bytes))))
            async with asyncio.timeout(10):
                assert await it.fetch(small) == it.bytes_of(small)


async def test_who_prefetches_is_told_that_there_is_no_room_and_costs_nothing(it: World) -> None:
    artifact = await it.artifact(40 * MIB)
    async with it.transfers.open(artifact, Priority.PREFETCH) as body:
        with pytest.raises(NoRoom):
            await body.stored()
    assert it.origin.read_bytes == it.passing.used_bytes == 0


async def test_closing_ends_what_is_passed_through(it: World) -> None:
    artifact = await it.artifact(40 * MIB)
    async with it.transfers.open(artifact) as body:
        runs = aiter(body.runs(Span(0, artifact.size_bytes)))
        await anext(runs)
        await it.transfers.close()
        assert it.passing.used_bytes == 0
        with pytest.raises(TransferError, match="given up"):
            await anything_but_an_end(runs)


async def test_a_disk_that_refuses_costs_no_client_what_can_be_passed_through(tmp_path: Path, metrics: Metrics) -> None:
    class ReadOnly(Disk):
        """One that the system no longer writes to, as it does behind an error of the device."""

        refuses = False

        def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
            if self.refuses and flags & (os.O_WRONLY | os.O_RDWR):
                raise OSError(errno.EROFS, "Read-only file system")
            return super().open(path, flags, mode)

        def rename(self, old: Path, new: Path) -> None:
            if self.refuses:
                raise OSError(errno.EROFS, "Read-only file system")
            super().rename(old, new)

    disk = ReadOnly()
    async with world(tmp_path, metrics, disk=disk, pass_through=LIMIT) as it:
        stored = await it.artifact(3 * MIB, name="app/stored-1-x86_64", seed=9)
        await it.fetch(stored)
        await eventually(lambda: not it.transfers.flights(), "a blob")
        disk.refuses = True
        with pytest.raises(StoreUnusable, match="Read-only"):
            await it.store.distrust(stored.digest, "a test says so")
        for artifact in (stored, await it.artifact(20 * MIB)):
            async with it.transfers.open(artifact) as body:
                assert await read(body) == it.bytes_of(artifact)
                assert body.cache is CacheResult.PASSED
        whole = await it.artifact(MIB, pieces=False, name="app/whole-1-x86_64", seed=8)
        with pytest.raises(StoreUnusable, match="Read-only"):
            await it.fetch(whole)
        disk.refuses = False
        assert await it.fetch(stored) == it.bytes_of(stored)
        await eventually(lambda: not it.transfers.flights(), "a blob again")
        async with it.transfers.open(stored) as body:
            assert body.cache is CacheResult.HIT


async def test_a_disk_that_fills_up_in_mid_flight_cuts_off_who_was_served_and_passes_through_who_was_not(
    tmp_path: Path, metrics: Metrics
) -> None:
    full = FullDisk()
    async with world(tmp_path, metrics, disk=full, pass_through=LIMIT) as it:
        artifact = await it.artifact(40 * MIB)
        it.origin.hold_at(4 * MIB)
        async with it.transfers.open(artifact) as served, it.transfers.open(artifact) as waiting:
            runs = aiter(served.runs(Span(0, artifact.size_bytes)))
            await anext(runs)
            tail = asyncio.create_task(read(waiting, Span(30 * MIB, 31 * MIB)))
            await eventually(lambda: it.transfers.flights()[0].held_bytes == 4 * MIB, "four pieces")
            full.writes_left = 0
            it.origin.release()
            with pytest.raises(NoRoom, match="filled up"):
                await anything_but_an_end(runs)
            assert await tail == it.bytes_of(artifact)[30 * MIB : 31 * MIB]
            with pytest.raises(NoRoom, match="filled up"):  # it has a descriptor of what is gone
                await read(served, Span(5 * MIB, 6 * MIB))
            assert (served.cache, waiting.cache) == (CacheResult.MISS, CacheResult.PASSED)
        await eventually(lambda: it.store.status().stored_bytes == 0, "its room is given back")
        assert not files(it)
        assert await it.fetch(artifact) == it.bytes_of(artifact), "the next one passes through"
        full.writes_left = 1000
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        await eventually(lambda: not it.transfers.flights(), "it is stored")
        async with it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.HIT
