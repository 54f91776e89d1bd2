"""Artifacts made of given bytes, and stores in a test's own folder."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from waystation.config import StoreSettings
from waystation.disk import Disk
from waystation.model import Artifact, Digest, TargetPath
from waystation.pieces import BLOCK_BYTES, PiecesLine, TreeHasher, dump_pieces
from waystation.store.disk_store import DiskStore
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from waystation.store.interface import Shelf, Spool

PIECE_BYTES = BLOCK_BYTES


def random_bytes(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def digest_of(data: bytes) -> Digest:
    return Digest(sha256(data).hexdigest())


def artifact_of(data: bytes, *, pieces: bool = True) -> tuple[Artifact, bytes | None]:
    """Describe these bytes, with the smallest pieces that there are."""
    digest, tree, pieces_file = digest_of(data), None, None
    if pieces and data:
        hasher = TreeHasher(len(data), PIECE_BYTES)
        hasher.update(data)
        tree, layer = hasher.finish()
        pieces_file = dump_pieces(PiecesLine(digest, len(data), tree, ("sh",)), layer)
    target = TargetPath("app/app-1-x86_64")
    return Artifact(target, digest, len(data), datetime.now(UTC), target, '"1"', tree), pieces_file


async def reserve(shelf: Shelf, data: bytes, *, pieces: bool = True) -> Spool:
    artifact, pieces_file = artifact_of(data, pieces=pieces)
    return await shelf.reserve(artifact, pieces_file)


async def put(shelf: Shelf, data: bytes, *, pieces: bool = True) -> Digest:
    """Bring these bytes in as a flight does."""
    spool = await reserve(shelf, data, pieces=pieces)
    await asyncio.to_thread(spool.write, 0, memoryview(data))
    await spool.commit()
    spool.close(keep=True)
    return digest_of(data)


def content(shelf: Shelf, digest: Digest) -> bytes | None:
    """Read a blob through a lease; None where it is not here."""
    blob = shelf.open(digest)
    if blob is None:
        return None
    with blob:
        data = bytearray(blob.size_bytes)
        assert Disk().read_into(blob.fd, memoryview(data), 0) == blob.size_bytes
        return bytes(data)


@asynccontextmanager
async def running_store(
    path: Path,
    *,
    max_size: int = 1024**3,
    min_free: int = 0,
    disk: Disk | None = None,
    metrics: Metrics | None = None,
    wall: Callable[[], float] | None = None,
    scrub_interval: float = 7 * 86400.0,
    quarantine_keep: float = 7 * 86400.0,
    kill: bool = False,
) -> AsyncIterator[DiskStore]:
    """A store that was recovered, and at the end is closed; kill: ends as its process does, writing nothing."""
    store = DiskStore(
        StoreSettings(
            path=path,
            max_size=max_size,
            min_free=min_free,
            scrub_interval=scrub_interval,
            quarantine_keep=quarantine_keep,
        ),
        disk=disk or Disk(),
        metrics=metrics or Metrics(),
        **({"wall": wall} if wall else {}),
    )
    await store.recover()
    try:
        yield store
    finally:
        if kill:
            await killed(store)
        else:
            await store.close()


async def killed(store: DiskStore) -> None:
    """Let a store's process end without a word: what the kernel does for it, and no more."""
    if store._housekeeper is not None:
        store._housekeeper.cancel()
        await asyncio.wait((store._housekeeper,))
    store._files.unlock()
    store._reader.close()
    store._threads.close()


class BootDisk(Disk):
    """A machine that can be booted again."""

    boot = "first"

    def boot_id(self) -> str:
        return self.boot


class RecordingDisk(Disk):
    """Takes down what changes names, and what is made lasting."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, ...]] = []

    def _note(self, call: str, *paths: Path) -> None:
        self.calls.append((call, *(os.path.relpath(path, self.root) for path in paths)))

    def sync(self, fd: int) -> None:
        self._note("sync", type(self.root)(os.readlink(f"/proc/self/fd/{fd}")))
        super().sync(fd)

    def sync_folder(self, path: Path) -> None:
        self._note("sync_folder", path)
        super().sync_folder(path)

    def rename(self, old: Path, new: Path) -> None:
        self._note("rename", old, new)
        super().rename(old, new)

    def make_folder(self, path: Path, mode: int = 0o750) -> None:
        self._note("make_folder", path)
        super().make_folder(path, mode)
