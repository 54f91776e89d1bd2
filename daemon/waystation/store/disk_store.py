"""The daemon's store: blobs by digest, in one folder, within a quota.

Decisions are made on the event loop, in `Index`; `StoreFiles` acts on them in the store's own
threads. Whatever takes room or gives it back does so under one lock, so that each sees what the
one before it left. Nothing here waits for whoever uses the store.
"""

from __future__ import annotations

import asyncio
import errno
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import structlog

from waystation.errors import NoRoom, NotEvictable, NotStored, StoreUnusable
from waystation.pieces import MalformedPieces, piece_count
from waystation.status import BlobStatus, RoomStatus, StoreStatus
from waystation.store.changes import Changes
from waystation.store.disk_spool import DiskSpool
from waystation.store.files import StoreFiles, Strange
from waystation.store.finish import to_the_end
from waystation.store.index import Eviction, Index
from waystation.store.interface import StoreChange
from waystation.store.layout import Layout, unusable
from waystation.store.pins import write_pins
from waystation.store.quarantine import Quarantine
from waystation.store.stored_blob import StoredBlob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from waystation.config import StoreSettings
    from waystation.disk import Disk
    from waystation.model import Artifact, Digest, Span
    from waystation.store.index import Held, Place
    from waystation.store.spool_file import SpoolFile
    from waystation.telemetry.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

TIDY_INTERVAL_S = 60.0
THREADS = 4
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.get_logger()


class DiskStore:
    """Blobs on disk; see `Store`. `recover` comes first, `close` last, when no flight or lease is left."""

    def __init__(
        self, settings: StoreSettings, *, disk: Disk, metrics: Metrics, wall: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._wall = wall
        self._disk = disk
        self._layout = Layout(settings.path)
        quarantine = Quarantine(self._layout.quarantine, disk=disk, wall=wall)
        self._files = StoreFiles(self._layout, disk=disk, quarantine=quarantine)
        self._index = Index(settings.max_size, settings.min_free)
        self._pins: dict[str, frozenset[Digest]] = {}
        self._changes = Changes()
        self._free_bytes = 0
        """As last measured."""
        self._room = asyncio.Lock()
        self._pinning = asyncio.Lock()
        self._untidy = asyncio.Event()
        self._housekeeper: asyncio.Task[None] | None = None
        # Threads of its own: flights fill the loop's with reads that wait for the network.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")

    # --- life ----------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take the folder, learn from the disk what it holds, and evict down to the limits.

        Raises:
            StoreLocked: another process uses the folder.
            StoreFormat: it is not a store, or another version's.
            StoreUnusable: the disk refuses.
        """
        try:
            found = await self._in_thread(self._files.recover)
        except OSError as error:
            raise unusable(f"use {self._layout.root}", error) from error
        self._index.recovered(found.blobs, found.partials)
        self._pins = found.pins
        self._index.pin(frozenset().union(*self._pins.values()))
        try:
            await self.tidy()
        except StoreUnusable:
            self._files.unlock()
            raise
        self._declare_metrics()
        self._housekeeper = asyncio.create_task(self._keep_house(), name="store housekeeping")
        log.info("store_recovered", blobs=len(self._index), partials=len(found.partials), bytes=self._index.used_bytes)

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
            self._files.unlock()
            self._threads.shutdown()

    async def tidy(self) -> None:
        """Keep house: remove what was given up, evict down to the limits, write down when blobs were last used."""
        async with self._room:
            await to_the_end(self._tidy())

    # --- blobs ---------------------------------------------------------------------------------

    def open(self, digest: Digest) -> StoredBlob | None:
        """Lease a blob, or None where it is not here. Never waits.

        Raises:
            StoreUnusable: the system refuses to open its file.
        """
        held = self._index.lease(digest, self._now_ns())
        if held is None:
            return None
        fd = held.fd
        if fd is None:
            try:
                fd = held.fd = self._files.open_blob(held)
            except Strange as strange:
                self._drop(digest, str(strange))
                return None
            except OSError as error:
                self._release(held)
                raise unusable(f"open the blob {digest}", error) from error
        return StoredBlob(held, fd, self._release)

    async def pieces_file(self, digest: Digest) -> bytes | None:
        """The ``.pieces`` file kept beside a blob or partial; see `Shelf.pieces_file`."""
        place: Place = "blob" if self._index.has_blob(digest) else "spool"
        try:
            return await self._in_thread(self._files.read_pieces, digest, place)
        except FileNotFoundError:
            return None
        except (OSError, MalformedPieces) as error:
            log.warning("pieces_file_unreadable", digest=digest, error=str(error))
            return None

    def _release(self, held: Held) -> None:
        self._index.release(held, self._now_ns())
        if not held.leases and held.fd is not None:
            self._disk.close(held.fd)
            held.fd = None

    def _drop(self, digest: Digest, why: str) -> None:
        """Stop serving what is not even a file of the right size."""
        self._index.remove_blob(digest, strange=why)
        self._metrics.verification_failures.labels("store").inc()
        self._changes.tell(StoreChange("distrusted", digest))
        self._untidy.set()

    # --- trust ---------------------------------------------------------------------------------

    async def distrust(self, digest: Digest, why: str) -> None:
        """Take a blob out of service, lastingly; see `Store.distrust`."""
        async with self._room:
            await to_the_end(self._distrust(digest, why))

    async def _distrust(self, digest: Digest, why: str) -> None:
        held = self._index.blob(digest)
        if held is None:
            return
        if not held.pieces_bytes:
            self._drop(digest, why)
            await self._sweep()
            return
        self._index.distrust(digest)
        self._metrics.verification_failures.labels("store").inc()
        self._changes.tell(StoreChange("distrusted", digest))
        log.warning("blob_distrusted", digest=digest, why=why)
        try:
            await self._in_thread(self._files.take_out, digest)
        except OSError as error:
            raise unusable(f"take the blob {digest} out of service", error) from error

    async def verify(self, digest: Digest) -> bool:
        """Read a blob again now; see `Shelf.verify`."""
        held = self._index.blob(digest)
        if held is None:
            raise NotStored(f"{digest} is not in the store")
        now_ns = self._now_ns()
        try:
            good = await self._in_thread(self._files.hash_blob, held)
        except OSError as error:
            raise unusable(f"read the blob {digest}", error) from error
        if self._index.blob(digest) is not held:
            raise NotStored(f"{digest} left the store while it was read")
        if not good:
            await self.distrust(digest, "its bytes have another sha256")
            return False
        held.verified_ns = now_ns
        await self._in_thread(self._files.record_uses, [(digest, held.used_ns, now_ns)])
        return True

    async def evict(self, digest: Digest) -> None:
        """Remove a blob or partial because an operator says so; see `Store.evict`."""
        async with self._room:
            await to_the_end(self._evict_one(digest))

    async def _evict_one(self, digest: Digest) -> None:
        held = self._index.blob(digest)
        if held is None and not self._index.has_partial(digest):
            if self._index.has_spool(digest):
                raise NotEvictable(f"{digest} is arriving")
            raise NotStored(f"{digest} is not in the store")
        if owners := self._pinned_by(digest):
            raise NotEvictable(f"{digest} is pinned by {', '.join(owners)}")
        if held is None:
            eviction = Eviction(partials=(digest,), reason="operator")
        elif held.leases:
            raise NotEvictable(f"{digest} is being read by {held.leases} clients")
        else:
            eviction = Eviction(blobs=(digest,), reason="operator")
        if not await self._evict(eviction):
            raise StoreUnusable(f"can't evict {digest}: its file can't be removed")

    # --- arriving ------------------------------------------------------------------------------

    async def reserve(self, artifact: Artifact, pieces_file: bytes | None) -> DiskSpool:
        """Make room, then give a spool that has it; see `Shelf.reserve`."""
        async with self._room:
            return await to_the_end(self._reserve(artifact, pieces_file), undo=lambda spool: spool.close(keep=True))

    async def _reserve(self, artifact: Artifact, pieces_file: bytes | None) -> DiskSpool:
        digest = artifact.digest
        if self._index.has_blob(digest) or self._index.has_spool(digest):
            raise ValueError(f"{digest} is here already, or arriving: a digest has one flight at a time")
        pieces = pieces_file or b""
        if self._index.has_partial(digest):
            if (resumed := await self._resume(artifact, pieces)) is not None:
                return resumed
            self._index.remove_partial(digest)
        await self._sweep()
        if self._index.is_leaving(digest):
            raise StoreUnusable(f"can't store {artifact.target}: what lies in its place can't be removed")
        return self._spool(artifact, await self._create(artifact, pieces), pieces, written=())

    async def _resume(self, artifact: Artifact, pieces: bytes) -> DiskSpool | None:
        """Take up what an abandoned flight or another life of the daemon left; nothing of it is believed."""
        if not pieces:
            return None
        resumed = await self._in_thread(self._files.resume_spool, artifact.digest, artifact.size_bytes, pieces)
        if resumed is None:
            return None
        file, written = resumed
        self._index.resume(artifact.digest)
        return self._spool(artifact, file, pieces, written=written)

    async def _create(self, artifact: Artifact, pieces: bytes) -> SpoolFile:
        await self._measure()
        file = await self._try_create(artifact, pieces, self._free_bytes)
        if file is None:
            # The figures promised what the system does not give (a user's quota, or another program was faster):
            # believe that nothing is free, and make the room out of what the store itself holds.
            file = await self._try_create(artifact, pieces, self._index.min_free_bytes)
        if file is None:
            raise NoRoom(f"no room for {artifact.target}: the system says that the disk is full")
        return file

    async def _try_create(self, artifact: Artifact, pieces: bytes, free_bytes: int) -> SpoolFile | None:
        digest, total_bytes = artifact.digest, artifact.size_bytes + len(pieces)
        eviction = self._index.make_room(total_bytes, free_bytes)
        if eviction.short_bytes:
            raise NoRoom(f"no room for {artifact.target}: {self._short(total_bytes, eviction.short_bytes, free_bytes)}")
        if not await self._evict(eviction):
            raise StoreUnusable(f"no room for {artifact.target}: what was evicted can't be removed")
        self._index.reserve(digest, total_bytes)
        try:
            return await self._in_thread(self._files.create_spool, digest, artifact.size_bytes, pieces)
        except OSError as error:
            self._index.unreserve(digest)
            if error.errno in _NO_SPACE:
                return None
            raise unusable(f"store {artifact.target}", error) from error

    def _spool(self, artifact: Artifact, file: SpoolFile, pieces: bytes, *, written: Iterable[Span]) -> DiskSpool:
        suspect: set[int] = set()
        if artifact.pieces is not None:
            length = artifact.pieces.piece_length
            for span in written:
                suspect.update(range(span.start // length, piece_count(span.stop, length)))

        async def seal() -> None:
            await to_the_end(self._commit(spool, artifact.digest, file, has_pieces=bool(pieces)))

        def discard() -> None:
            self._index.discard(artifact.digest)
            self._untidy.set()

        # Without pieces nothing of it could be checked again, so nothing of it is worth keeping.
        keep = partial(self._index.keep, artifact.digest) if pieces else discard
        spool = DiskSpool(file, suspect=frozenset(suspect), seal=seal, keep=keep, discard=discard)
        return spool

    async def _commit(self, spool: DiskSpool, digest: Digest, file: SpoolFile, *, has_pieces: bool) -> None:
        now_ns = self._now_ns()
        try:
            await self._in_thread(self._files.promote, digest, file, has_pieces=has_pieces, now_ns=now_ns)
        except OSError as error:
            spool.sealed(None)
            raise unusable(f"make {digest} a blob", error) from error
        held = self._index.stored(digest, size_bytes=file.size_bytes, now_ns=now_ns)
        spool.sealed(partial(self._release, held))
        self._changes.tell(StoreChange("stored", digest))

    # --- room ----------------------------------------------------------------------------------

    async def _evict(self, eviction: Eviction) -> bool:
        """Take off the disk what the index chose; False where that can't be done."""
        leaving = [("partial", self._index.remove_partial(digest)) for digest in eviction.partials]
        for digest in eviction.blobs:
            leaving.append((eviction.reason, self._index.remove_blob(digest)))
            self._changes.tell(StoreChange("evicted", digest))
        for reason, one in leaving:
            self._metrics.evictions.labels(reason).inc()
            self._metrics.evicted_bytes.inc(one.total_bytes)
            log.info("evicted", place=one.place, digest=one.digest, bytes=one.total_bytes, reason=reason)
        await self._sweep()
        still_there = self._index.leaving
        return not any(one in still_there for _, one in leaving)

    async def _sweep(self) -> None:
        """Take off the disk what nobody may use any more; what can't be removed is tried again later."""
        self._untidy.clear()
        if leaving := self._index.leaving:
            for one in await self._in_thread(self._files.remove, leaving):
                self._index.gone(one)

    async def _tidy(self) -> None:
        await self._sweep()
        await self._measure()
        eviction = self._index.make_room(0, self._free_bytes)
        await self._evict(eviction)
        if eviction.short_bytes:
            log.warning("store_over_its_limits", limit=eviction.reason, over_bytes=eviction.short_bytes)
        used = [(held.digest, held.used_ns, held.verified_ns) for held in self._index.take_unrecorded()]
        try:
            await self._in_thread(self._files.record_uses, used)
        except OSError as error:
            log.warning("last_uses_not_written", error=error.strerror)

    async def _measure(self) -> None:
        try:
            self._free_bytes = await self._in_thread(self._files.free_bytes)
        except OSError as error:
            raise unusable(f"ask for the free space of {self._layout.root}", error) from error

    async def _keep_house(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + TIDY_INTERVAL_S
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._untidy.wait()
            except TimeoutError:
                due = loop.time() + TIDY_INTERVAL_S
                try:
                    await self.tidy()
                except StoreUnusable as error:
                    log.warning("store_not_tidied", error=str(error))
            else:
                async with self._room:
                    await to_the_end(self._sweep())

    def _short(self, need_bytes: int, short_bytes: int, free_bytes: int) -> str:
        index = self._index
        return (
            f"it needs {need_bytes} bytes, {short_bytes} more than eviction can give; max_size is"
            f" {index.max_size_bytes}, used {index.used_bytes} ({index.pinned_bytes} pinned, {index.leased_bytes} being"
            f" served, {index.spool_bytes} arriving); min_free is {index.min_free_bytes}, free {free_bytes}"
        )

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
            await self._in_thread(write_pins, self._disk, path, digests)
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
            suspect=False,
        )

    def room_for(self, size_bytes: int) -> RoomStatus:
        """Say whether so much would fit, as the disk was last measured; nothing is evicted."""
        eviction = self._index.make_room(size_bytes, self._free_bytes)
        return RoomStatus(size_bytes, len(eviction.blobs) + len(eviction.partials), eviction.short_bytes)

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
            free_bytes=self._free_bytes,
            min_free_bytes=index.min_free_bytes,
            pinned_bytes=index.pinned_bytes,
            oldest_idle_s=self._oldest_idle_s(),
        )

    def _declare_metrics(self) -> None:
        metrics, index = self._metrics, self._index
        metrics.store_limit_bytes.set(index.max_size_bytes)
        metrics.store_bytes.set_function(lambda: index.used_bytes)
        metrics.store_blobs.set_function(lambda: len(index))
        metrics.store_pinned_bytes.set_function(lambda: index.pinned_bytes)
        metrics.store_free_bytes.set_function(lambda: self._free_bytes)
        metrics.store_oldest_idle_seconds.set_function(lambda: self._oldest_idle_s() or 0.0)

    def _oldest_idle_s(self) -> float | None:
        used_ns = self._index.oldest_used_ns()
        return None if used_ns is None else max(0.0, self._wall() - used_ns / 1e9)

    def _now_ns(self) -> int:
        return int(self._wall() * 1e9)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
