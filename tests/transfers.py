"""Transfers between a real folder, with faults on demand, and a real store whose disk can be slow or full."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from faults import FaultyOrigin
from waystation.config import StoreSettings, TransferSettings
from waystation.disk import Disk
from waystation.model import Artifact, Digest, Span, TargetPath
from waystation.origin.directory import DirectoryOrigin
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces
from waystation.store.disk_store import DiskStore
from waystation.store.memory_spool import PassThrough
from waystation.transfer.flights import Flights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from waystation.origin.just_read import JustRead
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Body

MIB = 1024 * 1024


@dataclass
class World:
    """An origin with faults on demand, a store, and the transfers between them."""

    root: Path
    origin: FaultyOrigin
    store: DiskStore
    transfers: Flights
    metrics: Metrics
    passing: PassThrough

    async def artifact(
        self, size_bytes: int, *, pieces: bool = True, name: str = "app/app-1-x86_64", seed: int = 1
    ) -> Artifact:
        """Put random bytes into the origin, and say what they must be."""
        data = random.Random(seed).randbytes(size_bytes)
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        info = await self.origin.head(name)
        digest, tree = Digest(sha256(data).hexdigest()), None
        if pieces:
            hasher = TreeHasher(size_bytes, MIB)
            hasher.update(data)
            tree, layer = hasher.finish()
            path.with_name(path.name + ".pieces").write_bytes(dump_pieces(PiecesLine(digest, size_bytes, tree), layer))
        return Artifact(TargetPath(name), digest, size_bytes, datetime.now(UTC), name, info.etag, tree)

    def bytes_of(self, artifact: Artifact) -> bytes:
        return (self.root / artifact.key).read_bytes()

    async def collect(self, artifact: Artifact, got: list[Span]) -> None:
        """Take down each run as it is released."""
        async with self.transfers.open(artifact) as body:
            async for run in body.runs(Span(0, artifact.size_bytes)):
                got.append(run)  # noqa: PERF401 - each as it comes

    async def fetch(self, artifact: Artifact, span: Span | None = None) -> bytes:
        async with self.transfers.open(artifact) as body:
            return await read(body, span)


async def read(body: Body, span: Span | None = None) -> bytes:
    parts = []
    async for run in body.runs(span or Span(0, body.artifact.size_bytes)):
        parts.append(os.pread(body.fd, len(run), run.start))
        assert len(parts[-1]) == len(run)
    return b"".join(parts)


@asynccontextmanager
async def world(
    tmp_path: Path,
    metrics: Metrics,
    *,
    disk: Disk | None = None,
    max_size: int = 1024 * MIB,
    pass_through: int = 0,
    just_read: JustRead | None = None,
    store_path: Path | None = None,
    **transfer: object,
) -> AsyncIterator[World]:
    root = tmp_path / "origin"
    root.mkdir(exist_ok=True)
    origin = FaultyOrigin(DirectoryOrigin(root, disk=Disk()))
    store = DiskStore(
        StoreSettings(path=store_path or tmp_path / "store", max_size=max_size, min_free=0),
        disk=disk or Disk(),
        metrics=metrics,
    )
    await store.recover()
    settings = TransferSettings.model_validate({"stall_timeout": 5, **transfer})
    passing = PassThrough(pass_through)
    transfers = Flights(origin, store, settings=settings, metrics=metrics, just_read=just_read, pass_through=passing)
    try:
        yield World(root, origin, store, transfers, metrics, passing)
    finally:
        origin.release()
        await transfers.close()
        await store.close()
        await origin.close()


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Look until something holds; a flight tells nobody but its riders what it is doing."""
    began = asyncio.get_running_loop().time()
    while not condition():
        assert asyncio.get_running_loop().time() < began + 10, f"not within 10 s: {what}"
        await asyncio.sleep(0.001)


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "store/blobs/sha256").rglob("*") if path.is_file()]


class FullDisk(Disk):
    """A disk with room for so many more writes."""

    writes_left = 1000

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        if not self.writes_left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.writes_left -= 1
        super().write_at(fd, data, offset)


class Gate:
    """Holds threads back, and tells that one has come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def through(self) -> None:
        if not self._open.is_set():
            self.reached.set()
            self._open.wait(20)


class SlowDisk(Disk):
    """A disk whose reads and syncs wait, to look at a flight that is sealing."""

    def __init__(self) -> None:
        self.reads = Gate()
        self.syncs = Gate()

    def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        self.reads.through()
        return super().read_into(fd, buffer, offset)

    def sync(self, fd: int) -> None:
        self.syncs.through()
        super().sync(fd)
