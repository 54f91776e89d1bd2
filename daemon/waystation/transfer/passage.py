"""One artifact on its way to one client, past a store that has no room for it: a window of its pieces in memory.

Its life: passing → done, or failed, or abandoned; it lasts until its client leaves, however fast the origin is.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from waystation.errors import TransferError, WaystationError
from waystation.model import Span
from waystation.pieces import piece_count
from waystation.status import FlightStatus
from waystation.transfer.ending import cause_of, check_whole, report
from waystation.transfer.fetching import HASH, Fetching
from waystation.transfer.on_demand import SourceOnDemand
from waystation.transfer.plan import Plan, RiderId
from waystation.transfer.waiting import Waiting
from waystation.transfer.workers import WholeHash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from waystation.config import TransferSettings
    from waystation.model import Artifact
    from waystation.origin.interface import Origin, Source
    from waystation.pieces import PieceLayer
    from waystation.status import FlightState
    from waystation.store.memory_spool import MemorySpool
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.precedence import Ticket
    from waystation.transfer.workers import Workers

log = structlog.get_logger()

_RIDER = RiderId(0)


def pieces_to_pass(size_bytes: int, piece_bytes: int, span: Span) -> range:
    """Say which pieces a client of this span needs: the last one leaves only behind the hash of them all."""
    count, stop = piece_count(size_bytes, piece_bytes), piece_count(span.stop, piece_bytes)
    return range(span.start // piece_bytes, stop) if stop < count else range(count)


class Passage:
    """One transfer that stores nothing, for one client. All methods are the loop's."""

    def __init__(
        self,
        artifact: Artifact,
        layer: PieceLayer,
        spool: MemorySpool,
        wanted: range,
        origin: Origin,
        *,
        settings: TransferSettings,
        metrics: Metrics,
        workers: Workers,
        ticket: Ticket,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.artifact = artifact
        self.state: FlightState = "passing"
        self.ended = asyncio.Event()
        self._spool = spool
        self._origin = origin
        self._metrics = metrics
        self._ticket = ticket
        self._monotonic = monotonic
        self._began = monotonic()
        self._started = wall()
        self._waiting = Waiting()
        self._left = asyncio.Event()
        self._error: WaystationError | None = None
        self._verified = False
        self._plan = Plan(
            artifact, frozenset(), spool.window, width=settings.connections, retries=settings.retries, wanted=wanted
        )
        self._has_last = wanted.stop == self._plan.count
        self._source = SourceOnDemand(self._open_source)
        self._fetching = Fetching(
            artifact,
            self._plan,
            self._source,
            spool,
            layer=layer,
            waiting=self._waiting,
            ticket=ticket,
            workers=workers,
            metrics=metrics,
            monotonic=monotonic,
        )

    # --- for its client ------------------------------------------------------------------------

    def duplicate_fd(self) -> int:
        """Give the client a descriptor of its own."""
        return os.dup(self._spool.fd)

    async def runs(self, span: Span) -> AsyncIterator[Span]:
        """Yield releasable runs of `span` in order, waiting for each; what one held is gone when the next is asked for.

        Raises:
            OriginError, TransferError: the origin did not give the artifact.
        """
        at = span.start
        while at < span.stop:
            if self._error:
                raise self._error
            stop = min(self._released_from(at), span.stop)
            if stop > at:
                yield Span(at, stop)
                at = stop
                self._fetching.seek(_RIDER, at)
            else:
                await self._waiting.until(at)

    def leave(self) -> None:
        """The client has what it wanted, or goes without."""
        self._left.set()
        if self.state == "passing":
            self.state = "abandoned"
            self._error = TransferError("the transfer was given up", advice="Ask again.")
            self._task.cancel()
        self._waiting.all()

    # --- its life ------------------------------------------------------------------------------

    def start(self, at: int, done: Callable[[Passage], None]) -> None:
        """Begin, for a client that stands at this byte; `done` is called once the memory is given back."""
        log.info("passing_through", target=self.artifact.target, digest=self.artifact.digest)
        self._plan.seek(_RIDER, at // self._plan.unit_bytes)
        if self._has_last:
            self._plan.seek(HASH, 0)
        self._task = asyncio.create_task(self._run(), name=f"passage {self.artifact.target}")
        self._task.add_done_callback(lambda _: self._end(done))

    def status(self) -> FlightStatus:
        """A snapshot; never waits."""
        return FlightStatus(
            target=self.artifact.target,
            digest=self.artifact.digest,
            state=self.state,
            size_bytes=self.artifact.size_bytes,
            held_bytes=self._plan.held_bytes,
            riders=0 if self._left.is_set() else 1,
            started=self._started,
        )

    async def _run(self) -> None:
        try:
            await self._fetch()
        except Exception as error:  # noqa: BLE001 - the passage's own task: whatever ended it, its client must hear of it
            self.state = "failed"
            self._error = cause_of(error)
            report(self.artifact, self._error, self._metrics)
        else:
            self.state = "done"
            self._verified = self._has_last
        self._waiting.all()
        await self._left.wait()

    async def _fetch(self) -> None:
        whole = WholeHash(self._spool, self._metrics, where="origin")
        async with asyncio.TaskGroup() as group:
            if self._has_last:
                group.create_task(self._fetching.hash(whole))
            await self._fetching.run(group)
        if self._has_last:
            check_whole(whole, self.artifact)

    async def _open_source(self) -> Source:
        return await self._origin.source(self.artifact.key, if_match=self.artifact.etag)

    def _end(self, done: Callable[[Passage], None]) -> None:
        self._source.close()
        self._spool.close(keep=False)
        self._ticket.asks(anything=False)
        self._metrics.flight_seconds.observe(self._monotonic() - self._began)
        self.ended.set()
        done(self)

    def _released_from(self, at: int) -> int:
        """The end of the run from `at` on that may leave now: half a window at most, while the other half arrives."""
        plan = self._plan
        step = max(1, (self._spool.window or 0) // 2)
        index = at // plan.unit_bytes
        stop = min(plan.held_from(index), index - index % step + step)
        if not self._verified:
            stop = min(stop, plan.count - 1)
        return max(at, plan.span(0, stop).stop)
