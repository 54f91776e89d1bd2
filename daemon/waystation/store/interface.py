"""What a transfer needs of a place to put bytes, and what a store offers beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from waystation.model import Artifact, Digest
    from waystation.status import BlobStatus, RoomStatus, StoreStatus


@dataclass(frozen=True, slots=True)
class StoreChange:
    """Something that those above may want to know."""

    kind: Literal["stored", "evicted", "distrusted"]
    digest: Digest


class Blob(Protocol):
    """A lease on trusted bytes: not evicted until closed."""

    digest: Digest
    fd: int
    size_bytes: int

    def close(self) -> None:
        """End the lease; a second time does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Spool(Protocol):
    """Where arriving bytes wait until they are a blob, each piece at its own offset of one file."""

    fd: int
    """Always readable by sendfile, at the artifact's own offsets."""
    suspect: frozenset[int]
    """Pieces that may lie here since before a restart: to be checked before use."""
    stored: bool
    """These bytes were a blob that nobody has doubted yet: what is bad among the suspect pieces has rotted."""
    window: int | None
    """How many pieces it can hold ahead of the slowest rider; None: all of them."""

    def write(self, offset: int, data: memoryview) -> None:
        """Put arriving bytes at their offset; from a worker thread.

        The first one, be it of nothing, takes a suspect blob out of its place: from then on it is a spool like others.

        Raises:
            OSError: the disk refuses (ENOSPC where someone else took the room).
        """
        ...

    def read(self, offset: int, buffer: memoryview) -> int:
        """Read back what was written, for rechecks and the whole hash; from a worker thread."""
        ...

    def free(self, below: int) -> None:
        """Every rider and the whole hash are past this piece; a spool with a window gives its room back."""
        ...

    async def commit(self) -> None:
        """Make it a blob: sync, rename, sync the folder. From now on `Shelf.open` finds it.

        Cancelled, it is finished first; whoever is told so may take it as done or failed only from `Shelf.open`.

        Raises:
            StoreUnusable: the disk refuses; nothing was committed.
        """
        ...

    def close(self, *, keep: bool) -> None:
        """End the spool, also behind a commit. keep: what arrived stays as an evictable partial."""
        ...


class Shelf(Protocol):
    """What a transfer needs of a store: the daemon's `DiskStore`, or `SingleFile` for ``fetch -o``."""

    def open(self, digest: Digest) -> Blob | None:
        """Lease a blob, or None where it is not here or not trusted. Never waits.

        Raises:
            StoreUnusable: the system refuses to open its file.
        """
        ...

    async def verify(self, digest: Digest) -> bool:
        """Read a blob again now, whole and by pieces; one that is not right is distrusted, and the answer False.

        Raises:
            NotStored: there is no such blob, or a flight is at it.
            StoreUnusable: the system can't read it now, which says nothing about the blob.
        """
        ...

    async def pieces_file(self, digest: Digest) -> bytes | None:
        """The ``.pieces`` file kept beside a blob (a suspect one too) or a partial, where it can be read as one.

        Its layer leads to its root; whether that is the artifact's root is for the caller to check.
        """
        ...

    async def reserve(self, artifact: Artifact, pieces_file: bytes | None) -> Spool:
        """Make room (evicting what was used least recently), then give a spool that has it.

        What lies here of the digest already is offered, with every piece (or slice) that it may hold suspect: a
        partial, or a blob that is not trusted. The ``.pieces`` file, checked by the caller against the artifact's
        root, is kept beside the bytes as it is.

        Raises:
            NoRoom: not even eviction makes enough; nothing was evicted.
            StoreUnusable: the disk refuses.
            ValueError: the digest is here already or has a spool: it has one flight at a time.
        """
        ...


class Store(Shelf, Protocol):
    """Blobs by digest. Never calls up, never fetches."""

    async def pin(self, owner: str, digests: frozenset[Digest]) -> None:
        """Replace that owner's whole set of digests that are never evicted, durably."""
        ...

    def pins(self) -> Mapping[str, frozenset[Digest]]:
        """Every owner's set; a snapshot."""
        ...

    async def distrust(self, digest: Digest, why: str) -> None:
        """Take a blob that is not what it should be out of service, lastingly; leases that it has stay good.

        With pieces it becomes a partial that the next flight repairs piece by piece; without, it is quarantined.
        Nothing happens where there is no such blob.

        Raises:
            StoreUnusable: the disk refuses; it is out of service all the same, until the daemon ends.
        """
        ...

    async def evict(self, digest: Digest) -> None:
        """Remove a blob or partial because an operator says so.

        Raises:
            NotEvictable: it is pinned, or in use.
            NotStored: it is not here.
            StoreUnusable: it can't be taken off the disk now; it is out of service, and tried again later.
        """
        ...

    def blobs(self) -> tuple[BlobStatus, ...]:
        """Every blob, least recently used first; a snapshot."""
        ...

    def digests(self) -> tuple[Digest, ...]:
        """Every blob's digest, least recently used first: cheap, where `blobs` of a large store is not."""
        ...

    def blob(self, digest: Digest) -> BlobStatus | None:
        """One blob, where it is here; a snapshot, and no use of it."""
        ...

    def has_partial(self, digest: Digest) -> bool:
        """Whether something of an earlier transfer of it is kept, and nobody is at it."""
        ...

    def room_for(self, size_bytes: int) -> RoomStatus:
        """Say whether so much would fit now, and what would go for it; nothing is evicted, and nothing waits."""
        ...

    def changes(self) -> AsyncIterator[StoreChange]:
        """What is stored, evicted and distrusted from now on, for those above; ends when the store closes.

        Raises:
            ChangesMissed: whoever listens was too slow and must look at the whole state; what follows is complete.
        """
        ...

    def status(self) -> StoreStatus:
        """A snapshot; never waits."""
        ...
