"""A store on a disk with faults, one operation on it, and what must hold whatever becomes of that."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from crash_disk import CrashDisk, PowerCut
from stores import PIECE_BYTES, artifact_of, content, digest_of, random_bytes
from waystation.config import StoreSettings
from waystation.disk import Disk, replace_file
from waystation.errors import NoRoom, NotStored, StoreError
from waystation.model import Digest
from waystation.store.disk_store import DiskStore
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.store.disk_spool import DiskSpool

QUOTA = 300_000
ONE, TWO, THREE = (random_bytes(2 * PIECE_BYTES + size, seed) for seed, size in ((1, 5000), (2, 0), (3, 70_000)))
BODIES = {digest_of(data): data for data in (ONE, TWO, THREE)}


Operation = Callable[["StoreScene"], "AsyncIterator[None]"]
"""One thing that is done to a store: what precedes it, a yield, and the thing itself."""


class UnsyncedDisk(Disk):
    """For looking at what was left: quick, since nobody cuts the power of it."""

    def __init__(self, boot: str) -> None:
        self.boot = boot

    def boot_id(self) -> str:
        return self.boot

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


class StoreScene:
    """A store on a disk with faults, and what it reported."""

    def __init__(self, disk: CrashDisk, operation: Operation) -> None:
        self.disk = disk
        self.path = disk.root / "var" / "store"
        self.quota = QUOTA
        self.must: set[Digest] = set()
        """Reported as stored, and not asked to go."""
        self.pins: set[frozenset[Digest]] = {frozenset()}
        """What the owner's set may be now: the last one reported, and the one being written."""
        self.rotten: set[Digest] = set()
        """Flipped a bit of, and not yet reported as distrusted."""
        self.pieced: set[Digest] = set()
        """Last reserved with pieces: if they are blobs, their pieces are beside them."""
        self.at_rest = False
        """Whether it was stopped in order, and not started since."""
        self.was_down = False
        """Whether the operation itself begins behind a power cut, with every blob suspect."""
        self.now = time.time()
        self.sets_aside = False
        """Whether the operation itself quarantines something."""
        self.store: DiskStore | None = None
        self._operation = operation(self)

    @property
    def running(self) -> DiskStore:
        assert self.store is not None
        return self.store

    # --- what operations are made of -----------------------------------------------------------

    async def start(self) -> DiskStore:
        settings = StoreSettings(path=self.path, max_size=self.quota, min_free=0)
        self.at_rest = False
        self.store = DiskStore(settings, disk=self.disk, metrics=Metrics(), wall=lambda: self.now)
        try:
            await self.store.recover()
        except StoreError:
            await self.stop()
            raise
        return self.store

    async def stop(self) -> None:
        store, self.store = self.store, None
        if store is not None:
            await store.close()
            self.at_rest = True

    async def reserve(self, data: bytes, *, pieces: bool = True) -> DiskSpool:
        (self.pieced.add if pieces else self.pieced.discard)(digest_of(data))
        return await self.running.reserve(*artifact_of(data, pieces=pieces))

    async def commit(self, spool: DiskSpool, data: bytes) -> None:
        await spool.commit()
        self.must.add(digest_of(data))
        self.rotten.discard(digest_of(data))

    async def put(self, data: bytes, *, pieces: bool = True) -> None:
        """As a flight does: what is suspect is checked, what is missing written, then it is committed."""
        spool = await self.reserve(data, pieces=pieces)
        try:
            if await self.write(spool, data, unit_bytes=artifact_of(data, pieces=pieces)[0].unit_bytes):
                await self.commit(spool, data)
        finally:
            spool.close(keep=True)

    async def write(self, spool: DiskSpool, data: bytes, *, unit_bytes: int = PIECE_BYTES) -> bool:
        """Put all bytes in their place; False where the disk refuses."""
        for start in range(0, len(data), PIECE_BYTES):
            piece = memoryview(data)[start : start + PIECE_BYTES]
            try:
                if start // unit_bytes not in spool.suspect or read(spool, start, len(piece)) != piece:
                    await asyncio.to_thread(spool.write, start, piece)
            except OSError:
                return False
        return True

    async def pin(self, digests: frozenset[Digest]) -> None:
        before = set(self.pins)
        self.pins.add(digests)
        await self.running.pin("me", digests)
        self.pins -= before - {digests}

    def rot(self, data: bytes) -> None:
        """Flip a bit of a stored blob, lastingly."""
        digest = digest_of(data)
        self.disk.rot(self.running._layout.blob(digest), 20_000)
        self.must.discard(digest)
        self.rotten.add(digest)

    async def stop_without_marking_it(self) -> None:
        """End as a machine does that loses its power; all had been synced."""
        layout = self.running._layout
        await self.stop()
        self.was_down = True
        replace_file(self.disk, layout.running, b"the boot before\n")

    # --- the scene -----------------------------------------------------------------------------

    async def prepare(self) -> None:
        await anext(self._operation)

    async def act(self) -> None:
        with suppress(StoreError):
            async for _ in self._operation:
                pytest.fail("an operation has two parts")

    async def go_on(self) -> None:
        store = self.store or await self.start()
        await store.tidy()
        for digest in self.rotten:
            with suppress(NotStored):
                assert not await store.verify(digest)
        self.rotten.clear()
        for blob in store.blobs():
            if blob.suspect:
                assert await store.verify(Digest(blob.digest))
        for digest, data in BODIES.items():
            assert content(store, digest) in (None, data), "wrong bytes are served"
            if content(store, digest) is None and digest in self.must:
                assert is_set_aside(self.path, digest), "a reported commit is lost"
        await store.tidy()
        unseen_bytes = 0 if not self.disk.struck_reading else bytes_below(self.path / "quarantine")  # until a restart
        assert store.status().stored_bytes in {bytes_on_disk(self.path), bytes_on_disk(self.path) - unseen_bytes}
        assert store.status().stored_bytes <= self.quota
        for digest, data in BODIES.items():
            if content(store, digest) is None:
                try:
                    await self.put(data)
                except NoRoom:
                    assert self.quota < QUOTA
        self.must = {digest for digest, data in BODIES.items() if content(store, digest) == data}
        assert len(self.must) == len(BODIES) or self.quota < QUOTA
        await self.pin(frozenset({digest_of(ONE)}))
        await self.stop()

    async def leave(self) -> None:
        with suppress(PowerCut):
            await self.stop()

    async def check(self, root: Path, *, same_boot: bool) -> None:
        path = root / self.path.relative_to(self.disk.root)
        for _ in range(2):
            await self._look(path, same_boot=same_boot)

    async def _look(self, path: Path, *, same_boot: bool) -> None:
        settings = StoreSettings(path=path, max_size=self.quota, min_free=0)
        disk = UnsyncedDisk(self.disk.boot if same_boot else "the second boot")
        store = DiskStore(settings, disk=disk, metrics=Metrics())
        await store.recover()
        try:
            for blob in store.blobs():
                if (same_boot or blob.digest in self.must) and not self.disk.struck_reading:
                    assert blob.pieces_bytes or blob.digest not in self.pieced, "a blob has lost its pieces"
                if blob.suspect:
                    assert self.was_down or self.disk.struck or not self.at_rest, (
                        "what was stopped in order is in doubt"
                    )
                    assert self.was_down or not same_boot
                    assert content(store, Digest(blob.digest)) is None, "a suspect is served"
                    assert await store.verify(Digest(blob.digest)) or blob.digest in self.rotten
            await store.tidy()
            for digest, data in BODIES.items():
                if digest not in self.rotten or self.was_down or not same_boot:
                    assert content(store, digest) in (None, data), "wrong bytes are served"
                    assert await store.pieces_file(digest) in (None, artifact_of(data)[1])
                # Where the store was full, what it evicted is back after a power cut, and it must choose again.
                if digest in self.must and (same_boot or self.quota == QUOTA):
                    assert content(store, digest) == data, "a reported commit is lost"
            assert names_below(path) <= allowed_names(store), "something is left over"
            assert self.sets_aside or self.disk.struck_reading or not any((path / "quarantine").iterdir())
            assert bytes_on_disk(path) == store.status().stored_bytes <= self.quota
            assert store._pins.get("me", frozenset()) in self.pins
        finally:
            await store.close()
        assert not open_below(path), "descriptors are left open"


def read(spool: DiskSpool, offset: int, size_bytes: int) -> bytes:
    buffer = bytearray(size_bytes)
    return bytes(buffer[: spool.read(offset, memoryview(buffer))])


def bytes_on_disk(path: Path) -> int:
    return sum(bytes_below(path / name) for name in ("blobs", "spool", "quarantine"))


def bytes_below(path: Path) -> int:
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def is_set_aside(path: Path, digest: Digest) -> bool:
    """A disk that can't be read at the start costs what lies there its place, not its bytes."""
    return any(digest_of(entry.read_bytes()) == digest for entry in (path / "quarantine").rglob(f"*{digest}"))


def names_below(path: Path) -> set[str]:
    """Every file but what was set aside for a person to look at."""
    names = {str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file()}
    return {name for name in names if not name.startswith("quarantine/")}


def allowed_names(store: DiskStore) -> set[str]:
    layout = store._layout
    paths = [layout.format, layout.lock, layout.running, layout.pins_of("me")]
    for held in store._index:
        paths.append(layout.blob(held.digest))
        if held.pieces_bytes:
            paths.append(layout.blob_pieces(held.digest))
    for digest in store._index._partials:
        paths += [layout.spool(digest), layout.spool_pieces(digest)]
    return {str(path.relative_to(layout.root)) for path in paths}


def open_below(path: Path) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [name for name in found if name.startswith(str(path))]
