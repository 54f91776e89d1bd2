"""One flight a digest, however many ask: hit, join or start; and past the store where it has no room."""

from __future__ import annotations

import math
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

from waystation.errors import DigestMismatch, NoRoom, NotStored, StoreUnusable, TransferError
from waystation.model import CacheResult, Priority, Span
from waystation.origin.just_read import JustRead
from waystation.transfer.flight import Flight
from waystation.transfer.pace import Pace
from waystation.transfer.passage import Passage, pieces_to_pass
from waystation.transfer.precedence import Precedence
from waystation.transfer.workers import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from waystation.config import Settings, TransferSettings
    from waystation.errors import StoreError
    from waystation.model import Artifact, Digest
    from waystation.origin.interface import Origin
    from waystation.status import FlightStatus, MemoryStatus
    from waystation.store.interface import Blob, Shelf
    from waystation.store.memory_spool import PassThrough
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Body

THREADS_BESIDE_RANGES = 2
"""A flight's recheck and its whole hash."""


class Flights:
    """All transfers of one daemon, or of one ``waystation fetch``."""

    reloads: ClassVar[frozenset[str]] = frozenset({"transfer.retries", "transfer.prefetch_bandwidth"})

    def __init__(
        self,
        origin: Origin,
        shelf: Shelf,
        *,
        settings: TransferSettings,
        metrics: Metrics,
        just_read: JustRead | None = None,
        pass_through: PassThrough | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._origin = origin
        self._shelf = shelf
        self._just_read = just_read or JustRead()
        self._settings = settings
        self._metrics = metrics
        self._monotonic = monotonic
        self._wall = wall
        at_once = settings.max_flights + settings.prefetch_flights
        at_once += pass_through.windows if pass_through else 0
        self._workers = Workers(at_once * (settings.connections + THREADS_BESIDE_RANGES))
        self._precedence = Precedence(clients=settings.max_flights, prefetches=settings.prefetch_flights)
        self._pace = _pace(settings)
        self._pass_through = pass_through
        self._flights: dict[Digest, Flight] = {}
        self._passages: set[Passage] = set()
        self._true_sizes: dict[Digest, int] = {}
        """Of blobs that were read again since the catalog claimed another size for them."""
        self._no_room_from: float = math.inf
        """What has so many bytes or more found no room the last time, so it asks the origin for nothing ahead of it."""
        self._closing = False

    @asynccontextmanager
    async def open(self, artifact: Artifact, priority: Priority = Priority.CLIENT) -> AsyncIterator[Body]:
        """Hit, join or start a flight; see `waystation.transfer.interface.Transfers`."""
        while True:
            if blob := self._shelf.open(artifact.digest):
                with blob:
                    if blob.size_bytes == artifact.size_bytes:
                        yield Hit(artifact, blob)
                        return
                await self._doubt(artifact, blob.size_bytes)
                continue
            flight = self._flights.get(artifact.digest)
            if flight is None or flight.joinable:
                break
            await flight.ended.wait()
        if flight:
            if flight.artifact.size_bytes != artifact.size_bytes:
                raise _impossible(artifact, flight.artifact.size_bytes)
            cache = CacheResult.HIT if flight.verified else CacheResult.JOINED
        else:
            flight, cache = self._start(artifact, priority), CacheResult.MISS
        ride = Ride(artifact, flight, cache, priority, self._pass)
        try:
            yield ride
        finally:
            ride.leave()

    def reload(self, settings: Settings) -> None:
        """Go by these in every transfer that starts from now on."""
        if settings.transfer.prefetch_bandwidth != self._settings.prefetch_bandwidth:
            self._pace = _pace(settings.transfer)
        self._settings = settings.transfer

    def flights(self) -> tuple[FlightStatus, ...]:
        """A snapshot of what is running; never waits."""
        flights = tuple(flight.status() for flight in self._flights.values())
        return flights + tuple(passage.status() for passage in self._passages)

    def memory_for(self, artifact: Artifact) -> MemoryStatus | None:
        """Say whether it could be passed through now; None: never, it has no pieces."""
        if self._pass_through is None or artifact.pieces is None:
            return None
        return self._pass_through.memory_for(artifact.size_bytes, artifact.pieces.piece_length)

    async def close(self) -> None:
        """Abandon what is running, keeping the spools, and wait for its end; what is sealing finishes."""
        self._closing = True
        for flight in self._flights.values():
            flight.abandon()
        for passage in self._passages:
            passage.leave()
        for ended in [each.ended for each in self._flights.values()] + [each.ended for each in self._passages]:
            await ended.wait()
        self._workers.close()

    async def _doubt(self, artifact: Artifact, stored_bytes: int) -> None:
        """Find out who is wrong where a stored blob and the catalog disagree on a size; a wrong blob is gone then.

        Raises:
            DigestMismatch: the blob is right, so the origin has no object of that sha256 and size.
        """
        if self._true_sizes.get(artifact.digest) != stored_bytes:
            try:
                if not await self._shelf.verify(artifact.digest):
                    return
            except NotStored:
                return
            self._true_sizes[artifact.digest] = stored_bytes
        raise _impossible(artifact, stored_bytes)

    def _start(self, artifact: Artifact, priority: Priority) -> Flight:
        self._check_open()
        flight = Flight(
            artifact,
            self._origin,
            self._shelf,
            just_read=self._just_read,
            settings=self._settings,
            metrics=self._metrics,
            workers=self._workers,
            ticket=self._precedence.ticket(priority),
            pace=self._pace if priority is Priority.PREFETCH else None,
            ask_ahead=artifact.size_bytes < self._no_room_from,
            monotonic=self._monotonic,
            wall=self._wall,
        )
        self._flights[artifact.digest] = flight
        self._metrics.flights.inc()
        flight.start(self._ended)
        return flight

    def _ended(self, flight: Flight) -> None:
        size_bytes = flight.artifact.size_bytes
        if flight.had_room is False:
            self._no_room_from = min(self._no_room_from, size_bytes)
        elif flight.had_room and size_bytes >= self._no_room_from:
            self._no_room_from = math.inf
        del self._flights[flight.artifact.digest]
        self._metrics.flights.dec()

    def _pass(self, flight: Flight, span: Span, refusal: StoreError) -> Passage:
        """Start what needs no room in the store, for one client of a flight that the store did not take.

        Raises:
            StoreError: `refusal`, where the artifact leaves only as a whole.
            NoRoom: there is no memory for it.
            TransferError: nothing is started any more.
        """
        self._check_open()
        artifact = flight.artifact
        if not self._pass_through or not flight.pieces or not artifact.pieces:
            raise refusal
        wanted = pieces_to_pass(artifact.size_bytes, artifact.pieces.piece_length, span)
        passage = Passage(
            artifact,
            flight.pieces.layer,
            self._pass_through.reserve(artifact, wanted),
            wanted,
            self._origin,
            settings=self._settings,
            metrics=self._metrics,
            workers=self._workers,
            ticket=self._precedence.ticket(Priority.CLIENT),
            monotonic=self._monotonic,
            wall=self._wall,
        )
        self._passages.add(passage)
        self._metrics.flights.inc()
        passage.start(span.start, self._passed)
        return passage

    def _check_open(self) -> None:
        """See that nothing is started once all is being ended: whoever waited for a flight's end looks again then."""
        if self._closing:
            raise TransferError("no transfer is started any more", advice="Ask again once the daemon is back.")

    def _passed(self, passage: Passage) -> None:
        self._passages.remove(passage)
        self._metrics.flights.dec()


class Hit:
    """A body that is here already: one run, one sendfile."""

    cache = CacheResult.HIT

    def __init__(self, artifact: Artifact, blob: Blob) -> None:
        self.artifact = artifact
        self._blob = blob

    @property
    def fd(self) -> int:
        return self._blob.fd

    async def runs(self, span: Span) -> AsyncIterator[Span]:
        """Yield the span itself."""
        if len(span):
            yield span

    async def stored(self) -> None:
        """It is."""


class Ride:
    """A body that is arriving; its descriptor is its own, since a slow reader may outlive the flight.

    Where its flight finds no room in the store, or a disk that refuses, it goes on alone in a passage.
    """

    def __init__(
        self,
        artifact: Artifact,
        flight: Flight,
        cache: CacheResult,
        priority: Priority,
        pass_through: Callable[[Flight, Span, StoreError], Passage],
    ) -> None:
        self.artifact = artifact
        self.cache = cache
        self._flight = flight
        self._rider = flight.board(priority)
        self._pass_through = pass_through
        self._passage: Passage | None = None
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        if self._fd is None:
            raise RuntimeError("nothing has been released yet")
        return self._fd

    async def runs(self, span: Span) -> AsyncIterator[Span]:
        """Yield what may leave of the span, as it arrives."""
        runs = self._flight.runs(self._rider, span)
        try:
            run = await anext(runs, None)
        except (NoRoom, StoreUnusable) as refusal:
            if self._fd is not None:
                raise
            self._passage = self._pass_through(self._flight, span, refusal)
            self.cache = CacheResult.PASSED
            runs = self._passage.runs(span)
            run = await anext(runs, None)
        while run:
            if self._fd is None:
                self._fd = (self._passage or self._flight).duplicate_fd()
            yield run
            run = await anext(runs, None)

    async def stored(self) -> None:
        """Wait until the flight has ended well."""
        await self._flight.stored()

    def leave(self) -> None:
        """Give up the ride."""
        self._flight.leave(self._rider)
        if self._passage:
            self._passage.leave()
        if self._fd is not None:
            os.close(self._fd)


def _pace(settings: TransferSettings) -> Pace | None:
    return Pace(settings.prefetch_bandwidth) if settings.prefetch_bandwidth else None


def _impossible(artifact: Artifact, true_bytes: int) -> DigestMismatch:
    """Refuse a name whose object can't have the digest claimed for it: no two sizes have one sha256."""
    return DigestMismatch(
        f"{artifact.target} has {artifact.size_bytes} bytes in the origin,"
        f" but the artifact with its sha256 has {true_bytes}"
    )
