"""What a face needs of a transfer: one body, whether it was here, is arriving, or has yet to be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from waystation.model import Priority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from waystation.model import Artifact, CacheResult, Span
    from waystation.status import FlightStatus, MemoryStatus


class Body(Protocol):
    """What a face serves. Hit, join, miss and what is passed through look alike."""

    artifact: Artifact
    cache: CacheResult
    """Right from the first run on: only then is it known whether there is room."""

    @property
    def fd(self) -> int:
        """Readable by sendfile at the artifact's own offsets, within the last run that was released.

        What is passed through is gone from there once the next run is asked for.
        """
        ...

    def runs(self, span: Span) -> AsyncIterator[Span]:
        """Releasable runs of `span`, in order, waiting for each; a hit is one run.

        Raises:
            OriginError, TransferError, StoreError: the flight ended without the artifact.
        """
        ...

    async def stored(self) -> None:
        """Wait until the artifact is a blob in the store; for those who want no byte of it now.

        Raises:
            OriginError, TransferError, StoreError: as `runs` says.
        """
        ...


class Transfers(Protocol):
    """One flight a digest, each in its own task group: queued → fetching → sealing → done | failed | abandoned."""

    def open(self, artifact: Artifact, priority: Priority = Priority.CLIENT) -> AbstractAsyncContextManager[Body]:
        """Hit, join or start; past the store, alone, where it has no room. Leaving the block gives up the ride.

        What a client asks for goes before what is prefetched: it has slots of its own, prefetching asks the origin
        for nothing while a client's range is under way, and a client that joins a prefetching flight lifts it.
        The last rider out abandons a queued or fetching flight, its spool kept; sealing always
        finishes. A newcomer to a flight that is ending awaits that end, then looks again.

        Raises:
            DigestMismatch: the artifact's size can't be that of its digest.
        """
        ...

    def flights(self) -> tuple[FlightStatus, ...]:
        """A snapshot of what is running; never waits."""
        ...

    def memory_for(self, artifact: Artifact) -> MemoryStatus | None:
        """Say whether it could be passed through now where the store has no room; None: never, it has no pieces."""
        ...

    async def close(self) -> None:
        """Abandon what is running, keeping the spools, and wait for its end."""
        ...
