"""Does what a flight's plan says: starts ranges and rechecks, lets pieces land, hashes the whole behind them."""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from random import uniform
from typing import TYPE_CHECKING

from waystation.errors import NoRoom, OriginError, StoreError, StoreUnusable
from waystation.transfer.plan import Recheck, RiderId
from waystation.transfer.workers import PieceChecks, RangeJob, RecheckJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.model import Artifact
    from waystation.origin.interface import Source
    from waystation.pieces import PieceLayer
    from waystation.store.interface import Spool
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.on_demand import SourceOnDemand
    from waystation.transfer.plan import Ask, Plan
    from waystation.transfer.precedence import Ticket
    from waystation.transfer.waiting import Waiting
    from waystation.transfer.workers import Landing, WholeHash, Workers

HASH = RiderId(-1)
"""In a window, the whole hash is a rider like any other, set down at byte 0: pieces stay until it is past them."""
HASH_STEP_BYTES = 16 * 1024 * 1024
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0


class Fetching:
    """Brings every piece of one plan into one spool. All methods are the loop's."""

    def __init__(
        self,
        artifact: Artifact,
        plan: Plan,
        source: SourceOnDemand,
        spool: Spool,
        *,
        layer: PieceLayer | None,
        waiting: Waiting,
        ticket: Ticket,
        workers: Workers,
        metrics: Metrics,
        monotonic: Callable[[], float],
    ) -> None:
        self._size_bytes = artifact.size_bytes
        self._plan = plan
        self._source = source
        self._spool = spool
        self._checks = PieceChecks(artifact, layer, metrics, where="origin")
        self._rechecks = PieceChecks(artifact, layer, metrics, where="store")
        self._waiting = waiting
        self._ticket = ticket
        self._workers = workers
        self._metrics = metrics
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._resume_at = 0.0

    def seek(self, rider: RiderId, at: int) -> None:
        """Tell the plan at which byte a rider stands, and a spool with a window what nobody needs any more."""
        self._plan.seek(rider, at // self._plan.unit_bytes)
        if self._spool.window is not None:
            self._spool.free(self._plan.slowest)
        self.look_again()

    def look_again(self) -> None:
        """Something changed that may let the plan go on."""
        self._wake.set()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Start what the plan says, as tasks of `group`, until every piece is held.

        The group ends with an error where the flight has to.

        Raises:
            OriginError: there is something to ask for, and no way to ask.
        """
        plan = self._plan
        while not plan.complete:
            self._wake.clear()
            if (pause := self._resume_at - self._monotonic()) > 0:
                await asyncio.sleep(pause)
            if self._ticket.must_yield():
                self._ticket.hold_back(self._wake)
            else:
                while job := plan.next():
                    if isinstance(job, Recheck):
                        group.create_task(self._recheck(job))
                    else:
                        group.create_task(self._ask(job, await self._source.open()))
                plan.make_way()
            self._ticket.asks(anything=plan.asks)
            await self._wake.wait()
        self._ticket.asks(anything=False)

    async def hash(self, whole: WholeHash) -> None:
        """Follow the watermark to the end.

        Raises:
            StoreError: the spool can't be read back.
        """
        plan = self._plan
        while whole.hashed_bytes < self._size_bytes:
            ready = min(plan.watermark * plan.unit_bytes, self._size_bytes)
            if ready == whole.hashed_bytes:
                await self._waiting.until(ready)
                continue
            try:
                await self._workers.run(
                    partial(whole.run, min(ready, whole.hashed_bytes + HASH_STEP_BYTES)), whole.abort
                )
            except OSError as error:
                raise disk_refused(error) from error
            if self._spool.window is not None:
                self.seek(HASH, whole.hashed_bytes)

    async def _ask(self, ask: Ask, source: Source) -> None:
        plan = self._plan

        def land(index: int, *, good: bool) -> None:
            self._metrics.origin_bytes.inc(plan.size_of(index))
            if not good:
                self._metrics.flight_retries.labels("bad_piece").inc()
            self._land(index, good=good)
            if plan.yielding(index) or self._ticket.must_yield():
                job.end_early()

        landings = _Landings(land)
        job = RangeJob(source, self._spool, self._checks, plan.pieces_of(ask), landings.report)
        try:
            await self._workers.run(job.run, job.abort)
            landings.check()
            plan.returned(ask)
        except OriginError as error:
            landings.check()
            self._metrics.flight_retries.labels(error.reason).inc()
            plan.lost(ask, error)
            self._pause(plan.losses)
        except OSError as error:
            raise disk_refused(error) from error
        self._wake.set()

    async def _recheck(self, recheck: Recheck) -> None:
        def land(index: int, *, good: bool) -> None:
            if not good and self._spool.stored:
                self._metrics.verification_failures.labels("store").inc()
            self._land(index, good=good)

        landings = _Landings(land)
        job = RecheckJob(self._spool, self._rechecks, self._plan.pieces_of(recheck), landings.report)
        await self._workers.run(job.run, job.abort)
        landings.check()
        self._wake.set()

    def _land(self, index: int, *, good: bool) -> None:
        self._plan.landed(index, good=good)
        self._waiting.landed(self._plan.span(index, index + 1))  # first those who wait, then what to ask for next
        self._wake.set()

    def _pause(self, losses: int) -> None:
        """After a loss, ask nothing for a moment that grows and is never the same for two daemons."""
        if losses:
            longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**losses)
            self._resume_at = self._monotonic() + uniform(longest / 2, longest)  # noqa: S311 - jitter, no secret


class _Landings:
    """Carries a worker thread's reports to the loop, and what the plan makes of them back to the job's task."""

    def __init__(self, land: Landing) -> None:
        self._loop = asyncio.get_running_loop()
        self._land = land
        self._error: Exception | None = None

    def report(self, index: int, *, good: bool) -> None:
        """Report a piece; from the thread."""
        self._loop.call_soon_threadsafe(self._deliver, index, good)

    def check(self) -> None:
        """Raise what the plan raised; behind the job's end all of its reports have been delivered."""
        if self._error:
            raise self._error

    def _deliver(self, index: int, good: bool) -> None:  # noqa: FBT001 - call_soon takes no keywords
        try:
            self._land(index, good=good)
        except Exception as error:  # noqa: BLE001 - raised again by `check`: a callback of the loop would swallow it
            self._error = error


def disk_refused(error: OSError) -> StoreError:
    """Say what it means for a flight that the disk under its spool refuses."""
    detail = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(f"the store's disk filled up in mid-transfer: {detail}")
    return StoreUnusable(f"the store's disk refuses: {detail}")
