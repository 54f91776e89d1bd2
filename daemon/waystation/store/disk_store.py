"""The daemon's store: blobs by digest, in one folder, within a quota.

Decisions are made on the event loop, in `Index`; `StoreFiles` and `SpoolFiles` act on them in the
store's own threads. Nothing here waits for whoever uses the store.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import structlog

from waystation.errors import NotEvictable, NotStored, StoreUnusable
from waystation.pieces import MalformedPieces
from waystation.status import BlobStatus, RoomStatus, StoreStatus
from waystation.store.arriving import Arriving
from waystation.store.changes import Changes
from waystation.store.eviction import Eviction
from waystation.store.files import StoreFiles, Strange
from waystation.store.finish import to_the_end
from waystation.store.index import Index
from waystation.store.layout import Layout, unusable
from waystation.store.pins import write_pins
from waystation.store.quarantine import Quarantine
from waystation.store.room import Room
from waystation.store.scrub import Scrub
from waystation.store.spool_files import SpoolFiles
from waystation.store.stored_blob import StoredBlob
from waystation.store.threads import Threads
from waystation.store.trust import Trust
from waystation.telemetry.going_on import keep_going

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from waystation.config import Settings, StoreSettings
    from waystation.disk import Disk
    from waystation.model import Artifact, Digest
    from waystation.store.disk_spool import DiskSpool
    from waystation.store.held import Held, Place
    from waystation.store.interface import StoreChange
    from waystation.telemetry.metrics import Metrics

THREADS = 4
_PLACES: tuple[Place, ...] = ("blob", "spool")

log = structlog.get_logger()


class DiskStore:
    """Blobs on disk; see `Store`. `recover` comes first, `close` last, when no flight or lease is left."""

    reloads: ClassVar[frozenset[str]] = frozenset(
        {"store.max_size", "store.min_free", "store.scrub_interval", "store.quarantine_keep"}
    )

    def __init__(
        self, settings: StoreSettings, *, disk: Disk, metrics: Metrics, wall: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._wall = wall
        self._disk = disk
        self._scrub_interval_s = settings.scrub_interval
        self._layout = layout = Layout(settings.path)
        quarantine = Quarantine(layout.quarantine, disk=disk, wall=wall)
        self._files = files = StoreFiles(layout, disk=disk, quarantine=quarantine)
        self._index = index = Index(settings.max_size, settings.min_free)
        self._pins: dict[str, frozenset[Digest]] = {}
        self._changes = changes = Changes()
        self._threads = threads = Threads(THREADS, "store")
        self._reader = Threads(1, "verify")
        self._room = room = Room(
            index,
            files,
            threads=threads,
            metrics=metrics,
            changes=changes,
            quarantine_keep_s=settings.quarantine_keep,
            wall=wall,
        )
        self._trust = trust = Trust(
            index,
            files,
            room,
            threads=threads,
            reader=self._reader,
            layout=layout,
            disk=disk,
            metrics=metrics,
            changes=changes,
            wall=wall,
        )
        spool_files = SpoolFiles(layout, disk=disk, quarantine=quarantine, files=files)
        self._arriving = Arriving(
            index, spool_files, room, trust, threads=threads, changes=changes, release=self._release
        )
        self._pinning = asyncio.Lock()
        self._housekeeper: asyncio.Task[None] | None = None

    # --- life ----------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take the folder, learn from the disk what it holds, and evict down to the limits.

        Raises:
            StoreLocked: another process uses the folder.
            StoreFormat: it is not a store, or a newer version's.
            StoreUnusable: the disk refuses.
        """
        try:
            found = await self._threads.run(self._files.recover, self._trust.now_ns())
        except OSError as error:
            raise unusable(f"use {self._layout.root}", error) from error
        quarantined = ((aside.name, aside.size_bytes) for aside in found.quarantined)
        self._index.recovered(found.blobs, found.partials, quarantined)
        self._pins = found.pins
        self._index.pin(frozenset().union(*self._pins.values()))
        try:
            await self.tidy()
        except StoreUnusable:
            self._files.unlock()
            raise
        self._declare_metrics()
        self._housekeeper = asyncio.create_task(
            keep_going("housekeeping", partial(self._room.keep_house, self._tidy), self._metrics),
            name="store housekeeping",
        )
        log.info(
            "store_recovered",
            blobs=len(self._index),
            suspect=self._index.suspects,
            partials=len(found.partials),
            bytes=self._index.used_bytes,
        )

    async def close(self) -> None:
        """Write down what is only remembered, and let the folder go."""
        housekeeper, self._housekeeper = self._housekeeper, None
        try:
            if housekeeper is not None:
                housekeeper.cancel()
                await asyncio.wait((housekeeper,))
                await self.tidy()
        finally:
            self._changes.end()
            await self._threads.run(self._files.stop)
            self._reader.close()
            self._threads.close()

    async def tidy(self) -> None:
        """Keep house: remove what was given up, evict down to the limits, write down when blobs were last used."""
        async with self._room.lock:
            await to_the_end(self._tidy())

    async def _tidy(self) -> None:
        await self._trust.take_out_the_doubted()
        await self._room.tidy()
        await self._trust.record(self._index.take_unrecorded())
        await self._trust.forget_suspicion()

    def reload(self, settings: Settings) -> None:
        """Keep these limits from now on; what is over them is evicted soon."""
        self._scrub_interval_s = settings.store.scrub_interval
        self._index.max_size_bytes = settings.store.max_size
        self._index.min_free_bytes = settings.store.min_free
        self._metrics.store_limit_bytes.set(settings.store.max_size)
        self._room.keep_limits(quarantine_keep_s=settings.store.quarantine_keep)

    async def scrub(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Read every blob again within `[store] scrub_interval`, until cancelled."""
        await Scrub(
            self._index, self._trust, interval_s=lambda: self._scrub_interval_s, metrics=self._metrics, sleep=sleep
        ).run()

    # --- blobs ---------------------------------------------------------------------------------

    def open(self, digest: Digest) -> StoredBlob | None:
        """Lease a blob, or None where it is not here or not trusted. Never waits.

        Raises:
            StoreUnusable: the system refuses to open its file.
        """
        held = self._index.lease(digest, self._trust.now_ns())
        if held is None:
            return None
        fd = held.fd
        if fd is None:
            try:
                fd = held.fd = self._files.open_blob(held)
            except Strange as strange:
                self._release(held)
                self._drop(held, str(strange))
                return None
            except OSError as error:
                self._release(held)
                raise unusable(f"open the blob {digest}", error) from error
        return StoredBlob(held, fd, self._release)

    async def pieces_file(self, digest: Digest) -> bytes | None:
        """The ``.pieces`` file kept beside a blob or partial; see `Shelf.pieces_file`."""
        if not self._index.has_any_of(digest):
            return None  # a client waits for a first byte: no two looks at the disk
        for place in _PLACES:
            try:
                return await self._threads.run(self._files.read_pieces, digest, place)
            except FileNotFoundError:
                continue
            except (OSError, MalformedPieces) as error:
                log.warning("pieces_file_unreadable", digest=digest, error=str(error))
                return None
        return None

    def _release(self, held: Held) -> None:
        self._index.release(held, self._trust.now_ns())
        if not held.leases and held.fd is not None:
            self._disk.close(held.fd)
            held.fd = None

    def _drop(self, held: Held, why: str) -> None:
        """Stop serving what is not even a file of the right size."""
        self._trust.doubt(held, why)
        self._index.remove_blob(held.digest, strange=why)
        self._room.give_up()

    async def reserve(self, artifact: Artifact, pieces_file: bytes | None) -> DiskSpool:
        """Make room, then give a spool that has it; see `Shelf.reserve`."""
        async with self._room.lock:
            work = self._arriving.reserve(artifact, pieces_file)
            return await to_the_end(work, undo=lambda spool: spool.close(keep=True))

    async def distrust(self, digest: Digest, why: str) -> None:
        """Take a blob out of service, lastingly; see `Store.distrust`."""
        await self._trust.distrust(digest, why)

    async def verify(self, digest: Digest) -> bool:
        """Read a blob again now; see `Shelf.verify`."""
        return await self._trust.verify(digest)

    async def evict(self, digest: Digest) -> None:
        """Remove a blob or partial because an operator says so; see `Store.evict`."""
        async with self._room.lock:
            await to_the_end(self._evict(digest))

    async def _evict(self, digest: Digest) -> None:
        held = self._index.blob(digest)
        if self._index.has_spool(digest):
            raise NotEvictable(f"{digest} is arriving, or being checked by a transfer")
        if held is None and not self._index.has_partial(digest):
            raise NotStored(f"{digest} is not in the store")
        if owners := self._pinned_by(digest):
            raise NotEvictable(f"{digest} is pinned by {', '.join(owners)}")
        if held is not None and held.leases:
            raise NotEvictable(f"{digest} is being read; leases: {held.leases}")
        eviction = Eviction(partials=() if held else (digest,), blobs=(digest,) if held else (), reason="operator")
        if not await self._room.evict(eviction):
            raise StoreUnusable(f"can't evict {digest}: its file can't be removed")

    # --- pins, and what the store says of itself -------------------------------------------------

    async def pin(self, owner: str, digests: frozenset[Digest]) -> None:
        """Replace an owner's whole set of digests that are never evicted, durably.

        Raises:
            ValueError: the owner's name is not one.
            StoreUnusable: the disk refuses; the old set stays.
        """
        path = self._layout.pins_of(owner)
        async with self._pinning:
            await to_the_end(self._pin(owner, path, digests))

    async def _pin(self, owner: str, path: Path, digests: frozenset[Digest]) -> None:
        try:
            await self._threads.run(write_pins, self._disk, path, digests)
        except OSError as error:
            raise unusable(f"write {path}", error) from error
        self._pins[owner] = digests
        self._index.pin(frozenset().union(*self._pins.values()))

    def pins(self) -> Mapping[str, frozenset[Digest]]:
        """Every owner's set; a snapshot."""
        return dict(self._pins)

    def _pinned_by(self, digest: Digest) -> tuple[str, ...]:
        return tuple(sorted(owner for owner, digests in self._pins.items() if digest in digests))

    def blobs(self) -> tuple[BlobStatus, ...]:
        """Every blob, least recently used first; a snapshot."""
        return tuple(self._shown(held) for held in self._index)

    def digests(self) -> tuple[Digest, ...]:
        """Every blob's digest, least recently used first."""
        return tuple(held.digest for held in self._index)

    def blob(self, digest: Digest) -> BlobStatus | None:
        """One blob, where it is here; a snapshot, and no use of it."""
        held = self._index.blob(digest)
        return self._shown(held) if held else None

    def _shown(self, held: Held) -> BlobStatus:
        return BlobStatus(
            held.digest,
            held.size_bytes,
            held.pieces_bytes,
            held.used_ns / 1e9,
            held.verified_ns / 1e9,
            self._pinned_by(held.digest),
            held.leases,
            suspect=held.trust != "trusted",
        )

    def has_partial(self, digest: Digest) -> bool:
        """Whether something of an earlier transfer of it is kept, and nobody is at it."""
        return self._index.has_partial(digest)

    def room_for(self, size_bytes: int) -> RoomStatus:
        """Say whether so much would fit, as the disk was last measured; nothing is evicted."""
        eviction = self._index.make_room(size_bytes, self._room.free_bytes)
        evicted = len(eviction.quarantined) + len(eviction.partials) + len(eviction.blobs)
        return RoomStatus(size_bytes, evicted, eviction.short_bytes)

    def changes(self) -> AsyncIterator[StoreChange]:
        """What is stored, evicted and distrusted from now on; ends when the store is closed.

        Raises:
            ChangesMissed: whoever listens was too slow; what follows is complete again.
        """
        return self._changes.listen()

    def status(self) -> StoreStatus:
        index = self._index
        return StoreStatus(
            path=str(self._layout.root),
            blobs=len(index),
            stored_bytes=index.used_bytes,
            limit_bytes=index.max_size_bytes,
            free_bytes=self._room.free_bytes,
            min_free_bytes=index.min_free_bytes,
            pinned_bytes=index.pinned_bytes,
            suspect_blobs=index.suspects,
            quarantined_blobs=len(index.quarantined),
            oldest_idle_s=self._oldest_idle_s(),
        )

    def _declare_metrics(self) -> None:
        metrics, index = self._metrics, self._index
        metrics.store_limit_bytes.set(index.max_size_bytes)
        metrics.store_bytes.set_function(lambda: index.used_bytes)
        metrics.store_blobs.set_function(lambda: len(index))
        metrics.store_pinned_bytes.set_function(lambda: index.pinned_bytes)
        metrics.store_free_bytes.set_function(lambda: self._room.free_bytes)
        metrics.quarantined_blobs.set_function(lambda: len(index.quarantined))
        metrics.scrub_oldest_verification_seconds.set_function(self._oldest_verification_s)
        metrics.store_oldest_idle_seconds.set_function(lambda: self._oldest_idle_s() or 0.0)

    def _oldest_idle_s(self) -> float | None:
        used_ns = self._index.oldest_used_ns()
        return None if used_ns is None else max(0.0, self._wall() - used_ns / 1e9)

    def _oldest_verification_s(self) -> float:
        now_ns = self._trust.now_ns()
        held = self._index.next_to_verify(now_ns)
        return (now_ns - held.verified_ns) / 1e9 if held else 0.0
