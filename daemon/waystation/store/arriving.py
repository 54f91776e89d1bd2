"""Gives each flight a spool that has its room, offering what lies here of the digest already."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

import structlog

from waystation.errors import NoRoom, StoreUnusable
from waystation.pieces import piece_count
from waystation.store.disk_spool import DiskSpool
from waystation.store.finish import to_the_end
from waystation.store.interface import StoreChange
from waystation.store.layout import unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from waystation.model import Artifact, Digest
    from waystation.store.changes import Changes
    from waystation.store.held import Held
    from waystation.store.index import Index
    from waystation.store.room import Room
    from waystation.store.spool_file import SpoolFile
    from waystation.store.spool_files import SpoolFiles
    from waystation.store.threads import Threads
    from waystation.store.trust import Trust

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.get_logger()


class Arriving:
    """The spools of one store. All of it is called with the room's lock held, but for a spool's own methods."""

    def __init__(
        self,
        index: Index,
        files: SpoolFiles,
        room: Room,
        trust: Trust,
        *,
        threads: Threads,
        changes: Changes,
        release: Callable[[Held], None],
    ) -> None:
        self._index = index
        self._files = files
        self._room = room
        self._trust = trust
        self._threads = threads
        self._changes = changes
        self._release = release

    async def reserve(self, artifact: Artifact, pieces_file: bytes | None) -> DiskSpool:
        """Make room, then give a spool that has it; see `Shelf.reserve`."""
        digest, pieces = artifact.digest, pieces_file or b""
        held = self._index.blob(digest)
        if (held is not None and held.trust == "trusted") or self._index.has_spool(digest):
            raise ValueError(f"{digest} is here already, or arriving: a digest has one flight at a time")
        if held is not None and held.trust == "distrusted":
            await self._trust.take_out(held, "distrusted")
        elif held is not None and (borrowed := await self._borrow(artifact, held, pieces)) is not None:
            return borrowed
        if self._index.has_partial(digest) and (resumed := await self._resume(artifact, pieces)) is not None:
            return resumed
        await self._room.sweep()
        if self._index.is_leaving(digest):
            raise StoreUnusable(f"can't store {artifact.target}: what lies in its place can't be removed")
        return self._spool(artifact, await self._create(artifact, pieces), suspect=())

    # --- what lies here already ----------------------------------------------------------------

    async def _borrow(self, artifact: Artifact, held: Held, pieces: bytes) -> DiskSpool | None:
        """Offer a suspect blob, all of it to be checked; None (and it is out of the way) where it can't be this one."""
        digest = artifact.digest
        self._index.borrow(held)
        try:
            await self._make_room_for_pieces(artifact, held.pieces_bytes, pieces)
            file = await self._threads.run(self._files.borrow, held, artifact.size_bytes, pieces)
        except BaseException as error:
            self._index.give_back(digest, self._trust.now_ns())
            if isinstance(error, OSError):
                raise self._refused(artifact, error) from error
            raise
        if file is None:
            self._index.give_back(digest, self._trust.now_ns())
            why = f"not a file of {artifact.size_bytes} bytes that can be read and written"
            self._trust.doubt(held, why)
            self._index.remove_blob(digest, strange=why)
            return None
        if pieces:
            self._index.resize(digest, artifact.size_bytes + len(pieces))
        everything = range(piece_count(artifact.size_bytes, artifact.unit_bytes))
        return self._spool(artifact, file, suspect=everything, stored=True)

    async def _resume(self, artifact: Artifact, pieces: bytes) -> DiskSpool | None:
        """Offer what an abandoned flight, a blob that rotted or another life of the daemon left.

        None (and it is leaving) where nothing of it could be checked, or it can't be this artifact's.
        """
        digest = artifact.digest
        kept_bytes = self._index.resume(digest)
        resumed = None
        if pieces and kept_bytes >= artifact.size_bytes:
            try:
                await self._make_room_for_pieces(artifact, kept_bytes - artifact.size_bytes, pieces)
                resumed = await self._threads.run(self._files.resume, digest, artifact.size_bytes, pieces)
            except BaseException:
                self._index.keep(digest)
                raise
        if resumed is None:
            self._index.discard(digest)
            return None
        file, written = resumed
        self._index.resize(digest, artifact.size_bytes + len(pieces))
        unit_bytes = artifact.unit_bytes
        suspect = (
            index for span in written for index in range(span.start // unit_bytes, piece_count(span.stop, unit_bytes))
        )
        return self._spool(artifact, file, suspect=suspect)

    async def _make_room_for_pieces(self, artifact: Artifact, there_bytes: int, pieces: bytes) -> None:
        if len(pieces) > there_bytes:
            await self._room.measure()
            await self._room.make(len(pieces) - there_bytes, self._room.free_bytes, artifact.target)

    # --- what is new ---------------------------------------------------------------------------

    async def _create(self, artifact: Artifact, pieces: bytes) -> SpoolFile:
        await self._room.measure()
        file = await self._try_create(artifact, pieces, self._room.free_bytes)
        if file is None:
            # The figures promised what the system does not give (a user's quota, or another program was faster):
            # believe that nothing is free, and make the room out of what the store itself holds.
            file = await self._try_create(artifact, pieces, self._index.min_free_bytes)
        if file is None:
            raise NoRoom(f"no room for {artifact.target}: the system says that the disk is full")
        return file

    async def _try_create(self, artifact: Artifact, pieces: bytes, free_bytes: int) -> SpoolFile | None:
        digest, total_bytes = artifact.digest, artifact.size_bytes + len(pieces)
        await self._room.make(total_bytes, free_bytes, artifact.target)
        self._index.reserve(digest, total_bytes)
        try:
            return await self._threads.run(self._files.create, digest, artifact.size_bytes, pieces)
        except OSError as error:
            self._index.unreserve(digest)
            if error.errno in _NO_SPACE:
                return None
            raise self._refused(artifact, error) from error

    def _refused(self, artifact: Artifact, error: OSError) -> NoRoom | StoreUnusable:
        if error.errno in _NO_SPACE:
            return NoRoom(f"no room for {artifact.target}: the system says that the disk is full")
        return unusable(f"store {artifact.target}", error)

    # --- how it ends ---------------------------------------------------------------------------

    def _spool(self, artifact: Artifact, file: SpoolFile, *, suspect: Iterable[int], stored: bool = False) -> DiskSpool:
        digest = artifact.digest

        async def seal() -> None:
            await to_the_end(self._commit(spool, digest, file))

        def keep() -> None:
            if file.in_place:
                self._index.give_back(digest, self._trust.now_ns())
            elif self._index.spool_pieces_bytes(digest, file.size_bytes):
                self._index.taken_out(digest)
                self._index.keep(digest)
            else:
                # Without pieces nothing of it could be checked again, so nothing of it is worth keeping.
                discard()

        def discard() -> None:
            if file.in_place:
                # No byte of it was changed, and it is as suspect as before: the scrub, or another flight, decides.
                self._index.give_back(digest, self._trust.now_ns())
                return
            self._index.taken_out(digest)
            self._index.discard(digest)
            self._room.give_up()

        spool = DiskSpool(file, suspect=frozenset(suspect), stored=stored, seal=seal, keep=keep, discard=discard)
        return spool

    async def _commit(self, spool: DiskSpool, digest: Digest, file: SpoolFile) -> None:
        now_ns = self._trust.now_ns()
        has_pieces = bool(self._index.spool_pieces_bytes(digest, file.size_bytes))
        try:
            await self._threads.run(
                self._files.promote,
                digest,
                file,
                has_pieces=has_pieces,
                used_ns=now_ns,
                verified_ns=self._trust.lasting_ns(now_ns),
            )
        except OSError as error:
            spool.sealed(None)
            raise unusable(f"make {digest} a blob", error) from error
        held = self._index.stored(digest, size_bytes=file.size_bytes, now_ns=now_ns)
        spool.sealed(partial(self._release, held))
        self._changes.tell(StoreChange("stored", digest))
