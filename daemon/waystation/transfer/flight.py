"""One running transfer: fetches the pieces that `Plan` asks for, releases what may leave, seals the whole.

Its life: queued → fetching → sealing → done, or failed, or abandoned by its last rider. Once it
seals, nothing stops it.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from waystation.errors import Missing, NoRoom, OriginError, TransferError, WaystationError
from waystation.model import Priority, Span
from waystation.status import FlightStatus
from waystation.transfer.ahead import AskedAhead
from waystation.transfer.ending import cause_of, check_whole, report
from waystation.transfer.fetching import Fetching
from waystation.transfer.layer import fetch_pieces, kept_pieces
from waystation.transfer.on_demand import SourceOnDemand
from waystation.transfer.pace import PacedSource
from waystation.transfer.plan import Plan, RiderId
from waystation.transfer.suspect import hash_suspect
from waystation.transfer.waiting import Waiting
from waystation.transfer.workers import WholeHash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from waystation.config import TransferSettings
    from waystation.model import Artifact
    from waystation.origin.interface import Origin, Source
    from waystation.origin.just_read import JustRead
    from waystation.status import FlightState
    from waystation.store.interface import Blob, Shelf, Spool
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.layer import CheckedPieces
    from waystation.transfer.pace import Pace
    from waystation.transfer.precedence import Ticket
    from waystation.transfer.workers import Workers

log = structlog.get_logger()


class Flight:
    """One transfer of one digest, however many ride on it. All methods are the loop's."""

    def __init__(
        self,
        artifact: Artifact,
        origin: Origin,
        shelf: Shelf,
        *,
        just_read: JustRead,
        settings: TransferSettings,
        metrics: Metrics,
        workers: Workers,
        ticket: Ticket,
        pace: Pace | None,
        ask_ahead: bool,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.artifact = artifact
        self.state: FlightState = "queued"
        self.ended = asyncio.Event()
        self.pieces: CheckedPieces | None = None
        """Once known: with them, what the store has no room for can be passed through."""
        self.had_room: bool | None = None
        """Whether the store had room for it, once that was asked."""
        self._origin = origin
        self._shelf = shelf
        self._just_read = just_read
        self._settings = settings
        self._metrics = metrics
        self._workers = workers
        self._ticket = ticket
        self._pace = pace
        self._may_ask_ahead = ask_ahead
        self._monotonic = monotonic
        self._started = wall()
        self._spool: Spool | None = None
        self._lease: Blob | None = None
        """Once sealed: keeps the blob from being evicted while riders still read it."""
        self._plan: Plan | None = None
        self._fetching: Fetching | None = None
        self._error: WaystationError | None = None
        self.verified = False
        """The whole sha256 holds: every byte may leave, whether the blob is on disk already or not."""
        self._riders: dict[RiderId, int | None] = {}
        """Where each rider stands, in bytes (None: nowhere, it waits for the whole); the plan learns it in pieces."""
        self._next_rider = 0
        self._waiting = Waiting()
        self._task: asyncio.Task[None] | None = None
        self._begun = False

    # --- for riders ----------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        """Whether a newcomer may ride: not on a flight that is ending."""
        return self.state in ("queued", "fetching", "sealing")

    def duplicate_fd(self) -> int:
        """Give a rider a descriptor of its own, behind the first run of `runs`: it may outlive the flight."""
        blob = self._lease or self._spool
        if blob is None:
            raise RuntimeError("a flight without a spool has released nothing")
        return os.dup(blob.fd)

    def board(self, priority: Priority) -> RiderId:
        """Take one more rider: a client stands at the first byte, and who prefetches stands in nobody's way."""
        rider = RiderId(self._next_rider)
        self._next_rider += 1
        self._riders[rider] = 0 if priority is Priority.CLIENT else None
        if priority < self._ticket.priority:
            self._ticket.lift()
            if self._fetching:
                self._fetching.look_again()
        return rider

    def leave(self, rider: RiderId) -> None:
        """Let a rider off; the last one out abandons what is not sealing yet."""
        del self._riders[rider]
        if self._plan:
            self._plan.seek(rider, None)
        if not self._riders:
            self.abandon()
            self._drop_lease()

    async def runs(self, rider: RiderId, span: Span) -> AsyncIterator[Span]:
        """Yield releasable runs of `span` in order, waiting for each.

        Raises:
            OriginError, TransferError, StoreError: the flight ended without the artifact.
        """
        at = span.start
        self._seek(rider, at)
        while at < span.stop or (not self.artifact.size_bytes and not self.verified):
            if self._error:
                raise self._error
            stop = min(self._released_from(at), span.stop)
            if stop > at:
                yield Span(at, stop)
                at = stop
                self._seek(rider, at)
            else:
                await self._waiting.until(at)

    async def stored(self) -> None:
        """Wait until the artifact is a blob in the store.

        Raises:
            OriginError, TransferError, StoreError: the flight ended without it.
        """
        await self.ended.wait()
        if self._error:
            raise self._error

    # --- its life ------------------------------------------------------------------------------

    def start(self, done: Callable[[Flight], None]) -> None:
        """Begin; `done` is called once it has ended and its spool is closed or kept."""
        self._task = asyncio.create_task(self._run(done), name=f"flight {self.artifact.target}")

    def abandon(self) -> None:
        """Give up what is not sealing yet; what arrived is kept where it can be checked again."""
        if self._task and self.state in ("queued", "fetching"):
            self.state = "abandoned"
            if self._begun:  # else `_run` sees it at its first step: a task cancelled before that never runs at all
                self._task.cancel()

    def status(self) -> FlightStatus:
        """A snapshot; never waits."""
        return FlightStatus(
            target=self.artifact.target,
            digest=self.artifact.digest,
            state=self.state,
            size_bytes=self.artifact.size_bytes,
            held_bytes=self._plan.held_bytes if self._plan else 0,
            riders=len(self._riders),
            started=self._started,
        )

    async def _run(self, done: Callable[[Flight], None]) -> None:
        began = self._monotonic()
        keep = False
        try:
            if self.state == "abandoned":
                raise asyncio.CancelledError  # noqa: TRY301 - ends as one that was cancelled a step later
            self._begun = True
            async with self._ticket.turn():
                self.state = "fetching"
                await self._fly()
            self.state = "done"
        except asyncio.CancelledError:
            self.state, keep = "abandoned", True
            self._error = TransferError("the transfer was given up", advice="Ask again.")
        except Exception as error:  # noqa: BLE001 - the flight's own task: whatever ended it, its riders must hear of it
            self.state = "failed"
            self._error = cause_of(error)
            keep = isinstance(self._error, OriginError)
            report(self.artifact, self._error, self._metrics)
        finally:
            self._metrics.flight_seconds.observe(self._monotonic() - began)
            if self._spool:
                self._spool.close(keep=keep)
                self._spool = None
            if not self._riders:
                self._drop_lease()
            self.ended.set()
            done(self)
            self._waiting.all()

    async def _fly(self) -> None:
        source = SourceOnDemand(self._open_source)
        try:
            async with asyncio.TaskGroup() as group:
                self.pieces = pieces = await kept_pieces(self._shelf, self.artifact)
                if self.artifact.pieces and not pieces:
                    if self._may_ask_ahead:
                        await self._ask_ahead(group, source)
                    self.pieces = pieces = await self._fetch_pieces()
                try:
                    self._spool = spool = await self._reserve(pieces)
                except ValueError:
                    if not self._take_what_is_here():
                        raise
                    return
                whole = None
                if spool.suspect and not pieces:
                    whole = await hash_suspect(self.artifact, spool, self._workers, self._metrics)
                whole = whole or await self._fetch(spool, source, pieces)
        finally:
            source.close()
        await self._seal(whole, spool)

    def _take_what_is_here(self) -> bool:
        """A suspect may have been found right, by the scrub or an operator, since this flight began."""
        self._lease = self._shelf.open(self.artifact.digest)
        self.verified = self._lease is not None and self._lease.size_bytes == self.artifact.size_bytes
        return self.verified

    async def _reserve(self, pieces: CheckedPieces | None) -> Spool:
        try:
            spool = await self._shelf.reserve(self.artifact, pieces.body if pieces else None)
        except NoRoom:
            self.had_room = False
            raise
        self.had_room = True
        return spool

    async def _open_source(self) -> Source:
        source = await self._origin.source(self.artifact.key, if_match=self.artifact.etag)
        return PacedSource(source, self._pace, self._ticket) if self._pace else source

    async def _ask_ahead(self, group: asyncio.TaskGroup, source: SourceOnDemand) -> None:
        """Where a client waits and nothing is here yet, ask now for the range that the plan will ask for first."""
        guess = self._new_plan()
        if self._ticket.priority is Priority.CLIENT and (first := guess.next()):
            ahead = AskedAhead(await source.open(), guess.span(first.first, first.stop))
            source.replace(ahead)
            self._ticket.asks(anything=True)
            group.create_task(self._workers.run(ahead.ask, ahead.close))

    def _new_plan(self, suspect: frozenset[int] = frozenset(), window: int | None = None) -> Plan:
        """Plan for the riders as they stand now; by default for a spool with nothing in it and room for all."""
        plan = Plan(self.artifact, suspect, window, width=self._settings.connections, retries=self._settings.retries)
        for rider, at in self._riders.items():
            if at is not None:
                plan.seek(rider, at // plan.unit_bytes)
        return plan

    async def _fetch_pieces(self) -> CheckedPieces | None:
        try:
            return await fetch_pieces(self._origin, self.artifact, self._just_read)
        except Missing:
            self.artifact = replace(self.artifact, pieces=None)
            log.warning("pieces_missing", target=self.artifact.target, advice="run `waystation adopt`")
            return None

    async def _fetch(self, spool: Spool, source: SourceOnDemand, pieces: CheckedPieces | None) -> WholeHash:
        """Bring every piece here, and hash the whole behind them."""
        suspect = spool.suspect if pieces else frozenset()
        self._plan = plan = self._new_plan(suspect, spool.window)
        self._fetching = fetching = Fetching(
            self.artifact,
            plan,
            source,
            spool,
            layer=pieces.layer if pieces else None,
            waiting=self._waiting,
            ticket=self._ticket,
            workers=self._workers,
            metrics=self._metrics,
            monotonic=self._monotonic,
        )
        whole = WholeHash(spool, self._metrics, where="store" if suspect else "origin")
        async with asyncio.TaskGroup() as group:
            group.create_task(fetching.hash(whole))
            await fetching.run(group)
            self.state = "sealing"
        return whole

    async def _seal(self, whole: WholeHash, spool: Spool) -> None:
        self.state = "sealing"
        check_whole(whole, self.artifact)
        self.verified = True
        self._waiting.all()
        await spool.commit()
        self._lease = self._shelf.open(self.artifact.digest)

    def _drop_lease(self) -> None:
        if self._lease:
            self._lease.close()
            self._lease = None

    # --- waiting -------------------------------------------------------------------------------

    def _released_from(self, at: int) -> int:
        """The end of the run of bytes from `at` on that may leave now."""
        if self.verified:
            return self.artifact.size_bytes
        plan = self._plan
        if plan is None or self.artifact.pieces is None:
            return at
        end = min(plan.held_from(at // plan.unit_bytes), plan.count - 1)
        return max(at, end * plan.unit_bytes)

    def _seek(self, rider: RiderId, at: int) -> None:
        self._riders[rider] = at
        if self._fetching:
            self._fetching.seek(rider, at)
