"""What a face needs of a transfer: one body, whether it was here, is arriving, or has yet to be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from waystation.model import Artifact, CacheResult, Span
    from waystation.status import FlightStatus


class Body(Protocol):
    """What a face serves. Hit, join and miss look alike."""

    artifact: Artifact
    cache: CacheResult

    @property
    def fd(self) -> int:
        """Readable by sendfile at the artifact's own offsets, within the runs released so far (one or more)."""
        ...

    def runs(self, span: Span) -> AsyncIterator[Span]:
        """Releasable runs of `span`, in order, waiting for each; a hit is one run.

        Raises:
            OriginError, TransferError, StoreError: the flight ended without the artifact.
        """
        ...


class Transfers(Protocol):
    """One flight a digest, each in its own task group: queued → fetching → sealing → done | failed | abandoned."""

    def open(self, artifact: Artifact) -> AbstractAsyncContextManager[Body]:
        """Hit, join or start. Leaving the block gives up the ride.

        The last rider out abandons a queued or fetching flight, its spool kept; sealing always
        finishes. A newcomer to a flight that is ending awaits that end, then looks again.

        Raises:
            NoRoom: the store can't make room.
        """
        ...

    def flights(self) -> tuple[FlightStatus, ...]:
        """A snapshot of what is running; never waits."""
        ...

    async def close(self) -> None:
        """Abandon what is running, keeping the spools, and wait for its end."""
        ...
