"""What a transfer needs of a place to put bytes, and what a store offers beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from waystation.model import Artifact, Digest
    from waystation.status import StoreStatus


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
    window: int | None
    """How many pieces it can hold ahead of the slowest rider; None: all of them."""

    def write(self, offset: int, data: memoryview) -> None:
        """Put arriving bytes at their offset; from a worker thread.

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
        """Lease a blob, or None where it is not here. Never waits.

        Raises:
            StoreUnusable: the system refuses to open its file.
        """
        ...

    async def reserve(self, artifact: Artifact, pieces_file: bytes | None) -> Spool:
        """Make room (evicting what was used least recently), then give a spool that has it.

        The ``.pieces`` file, checked by the caller against the artifact's root, is kept beside the bytes as it is.

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

    async def pieces_file(self, digest: Digest) -> bytes | None:
        """The ``.pieces`` file kept beside a blob, where it has pieces."""
        ...

    def changes(self) -> AsyncIterator[StoreChange]:
        """What is stored and evicted from now on, for those above who must know; ends when the store is closed.

        Raises:
            ChangesMissed: whoever listens was too slow and must look at the whole state; what follows is complete.
        """
        ...

    def status(self) -> StoreStatus:
        """A snapshot; never waits."""
        ...
