"""Decides which blobs are believed: checks them again, and takes out of service what is not right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from waystation.errors import NotStored, StoreUnusable
from waystation.store.blob_check import BlobCheck, begun
from waystation.store.finish import to_the_end
from waystation.store.interface import StoreChange
from waystation.store.layout import unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from waystation.disk import Disk
    from waystation.model import Digest
    from waystation.store.blob_check import Verdict
    from waystation.store.changes import Changes
    from waystation.store.files import StoreFiles
    from waystation.store.held import Held
    from waystation.store.index import Index
    from waystation.store.layout import Layout
    from waystation.store.room import Room
    from waystation.store.threads import Threads
    from waystation.telemetry.metrics import Metrics

log = structlog.get_logger()


class Trust:
    """The verdicts on one store's blobs, and what follows from them."""

    def __init__(
        self,
        index: Index,
        files: StoreFiles,
        room: Room,
        *,
        threads: Threads,
        reader: Threads,
        layout: Layout,
        disk: Disk,
        metrics: Metrics,
        changes: Changes,
        wall: Callable[[], float],
    ) -> None:
        self._index = index
        self._files = files
        self._room = room
        self._threads = threads
        self._reader = reader
        """One thread for whoever has blobs verified, a portion of each in turn: nothing else waits for it."""
        self._layout = layout
        self._disk = disk
        self._metrics = metrics
        self._changes = changes
        self._wall = wall

    # --- when a blob was verified --------------------------------------------------------------

    def now_ns(self) -> int:
        """Now, in nanoseconds since the epoch."""
        return int(self._wall() * 1e9)

    def lasting_ns(self, verified_ns: int) -> int:
        """The time to be written for a trusted blob: a clock that was set back must not make it suspect again."""
        return max(verified_ns, self._files.suspect_before_ns)

    async def record(self, blobs: Iterable[Held]) -> None:
        """Write down when these were last used and verified."""
        times = [
            (
                held.digest,
                held.used_ns,
                self.lasting_ns(held.verified_ns) if held.trust == "trusted" else held.verified_ns,
            )
            for held in blobs
        ]
        try:
            await self._threads.run(self._files.record_times, times)
        except OSError as error:
            log.warning("last_uses_not_written", error=error.strerror)

    async def forget_suspicion(self) -> None:
        """Write down that no suspect is left, where that is so."""
        unchecked = self._index.suspects or self._index.doubted or self._index.leaving
        if self._files.suspect_before_ns and not unchecked:
            try:
                await self._threads.run(self._files.trust_all)
            except OSError as error:
                log.warning("end_of_suspicion_not_written", error=error.strerror)

    # --- checking ------------------------------------------------------------------------------

    def check(self, held: Held) -> BlobCheck:
        """Begin to read a blob again; `settle` takes the verdict."""
        return BlobCheck(
            held.digest,
            held.size_bytes,
            has_pieces=bool(held.pieces_bytes),
            layout=self._layout,
            disk=self._disk,
            metrics=self._metrics,
        )

    async def verify(self, digest: Digest) -> bool:
        """Read a blob again now; see `Store.verify`."""
        held = self._index.blob(digest)
        if held is None:
            raise NotStored(f"{digest} is not in the store, or still arriving")
        if held.trust == "distrusted":
            await self.distrust(digest, "distrusted before")
            return False
        check = self.check(held)
        try:
            async with begun(check, self._reader):
                while await self._reader.run(check.read):
                    pass
                verdict = await self._reader.run(check.verdict)
        except OSError as error:
            raise unusable(f"read the blob {digest}", error) from error
        if not await self.settle(held, verdict):
            raise NotStored(f"{digest} left the store while it was read")
        return verdict.blob is None

    async def settle(self, held: Held, verdict: Verdict) -> bool:
        """Act on what a check found; False where the blob is no longer the one that was checked."""
        if not self._is_here(held):
            return False
        if verdict.blob is not None:
            await self.distrust(held.digest, verdict.blob)
            return True
        was_suspect = held.trust == "suspect"
        if verdict.pieces != "right":
            async with self._room.lock:
                await to_the_end(self._mend(held, verdict))
        if not self._is_here(held):
            return False
        self._index.verified(held, self.now_ns())
        if was_suspect:
            self._changes.tell(StoreChange("stored", held.digest))
        await self.record((held,))
        return True

    async def _mend(self, held: Held, verdict: Verdict) -> None:
        """Put right, or remove, the pieces beside a blob that is right itself."""
        if not self._is_here(held):
            return
        self._metrics.verification_failures.labels("store").inc()
        log.warning("pieces_wrong", digest=held.digest, wrong=verdict.pieces)
        try:
            if verdict.layer is not None:
                await self._threads.run(self._files.mend_pieces, held.digest, verdict.layer, verdict.layer_at)
                return
            await self._threads.run(self._files.drop_pieces, held.digest)
        except OSError as error:
            # They are checked by whoever reads them; the blob is right, and found so again at the next check.
            log.warning("pieces_not_mended", digest=held.digest, error=error.strerror)
            return
        self._index.pieces_dropped(held)

    def _is_here(self, held: Held) -> bool:
        return self._index.blob(held.digest) is held and held.trust != "distrusted"

    # --- out of service ------------------------------------------------------------------------

    async def distrust(self, digest: Digest, why: str) -> None:
        """Take a blob out of service, lastingly; see `Store.distrust`."""
        held = self._index.blob(digest)
        if held is None:
            return
        self.doubt(held, why)
        async with self._room.lock:
            await to_the_end(self.take_out(held, why))

    def doubt(self, held: Held, why: str) -> None:
        """Give a blob to nobody any more, at once; `take_out`, or the index's `remove_blob`, follows."""
        if held.trust == "distrusted":
            return
        self._index.doubt(held)
        self._metrics.verification_failures.labels("store").inc()
        log.warning("blob_distrusted", digest=held.digest, why=why, repairable=bool(held.pieces_bytes))
        self._changes.tell(StoreChange("distrusted", held.digest))

    async def take_out(self, held: Held, why: str) -> None:
        """Take a blob that is in doubt out of its place; with the room's lock held.

        Raises:
            StoreUnusable: the disk refuses; the store tries again while it keeps house.
        """
        digest = held.digest
        if self._index.blob(digest) is not held:
            return
        if held.pieces_bytes:
            try:
                await self._threads.run(self._files.take_out, digest, has_pieces=True)
            except FileNotFoundError:
                pass  # somebody removed it: nothing is left to be repaired
            except OSError as error:
                await self._suspect_all(held)
                raise unusable(f"take the blob {digest} out of service", error) from error
            else:
                self._index.distrusted(held)
                return
        leaving = self._index.remove_blob(digest, strange=why)
        await self._room.sweep()
        if leaving in self._index.leaving:
            await self._suspect_all(held)
            raise StoreUnusable(f"can't take the blob {digest} out of service: its file can't be moved")

    async def _suspect_all(self, held: Held) -> None:
        """Write down, in a place of its own, that a restart must not believe a blob that is wrong and can't be moved.

        Its neighbours are suspect then too, until one tidying after it was moved.
        """
        if held.verified_ns < self._files.suspect_before_ns:
            return
        try:
            await self._threads.run(self._files.suspect_all, max(held.verified_ns, self.now_ns()) + 1)
        except OSError as error:
            log.warning("distrust_not_written", digest=held.digest, error=error.strerror)

    async def take_out_the_doubted(self) -> None:
        """Try again where the disk refused before; with the room's lock held."""
        for held in self._index.doubted:
            try:
                await self.take_out(held, "distrusted")
            except StoreUnusable as error:
                log.warning("distrusted_blob_in_its_place", digest=held.digest, error=str(error))
