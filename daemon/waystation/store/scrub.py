"""Reads every blob again within an interval, suspects first, and steps back for whoever uses the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waystation.errors import StoreUnusable
from waystation.store.idle import yield_the_disk
from waystation.store.pace import Pace, is_due
from waystation.store.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.store.index import Held, Index
    from waystation.store.trust import Trust
    from waystation.telemetry.metrics import Metrics

LOOK_PAUSE_S = 60.0
"""How long nothing is due before it is looked again: clocks jump, and blobs come."""
STEP_S = 1.0
"""The longest sleep in mid-blob: whether the store is busy changes."""

log = structlog.get_logger()


class Scrub:
    """The scrub of one store; `run` is its task."""

    def __init__(
        self,
        index: Index,
        trust: Trust,
        *,
        interval_s: float,
        metrics: Metrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._index = index
        self._trust = trust
        self._interval_s = interval_s
        self._scrubbed_bytes = metrics.scrubbed_bytes
        self._sleep = sleep

    async def run(self) -> None:
        """Go on until cancelled."""
        threads = Threads(1, "scrub", prepare=yield_the_disk)
        try:
            while True:
                held = self._next()
                if held is None:
                    await self._sleep(LOOK_PAUSE_S)
                    continue
                try:
                    await self._scrub(held, threads)
                except (OSError, StoreUnusable) as error:
                    log.warning("blob_not_scrubbed", digest=held.digest, error=str(error))
                    await self._sleep(LOOK_PAUSE_S)
        finally:
            threads.close()

    def _next(self) -> Held | None:
        now_ns = self._trust.now_ns()
        held = self._index.next_to_verify(now_ns)
        if held is None or held.trust == "suspect" or is_due(held.verified_ns, now_ns, self._interval_s):
            return held
        return None

    async def _scrub(self, held: Held, threads: Threads) -> None:
        """Read one blob and act on what was found, then wait until the next one has its turn.

        Raises:
            OSError, StoreUnusable: the system lacks something, or a bad blob can't be moved.
        """
        suspect, waited_s = held.trust == "suspect", 0.0
        check = self._trust.check(held)
        try:
            await threads.run(check.begin)
            while count := await threads.run(check.read):
                self._scrubbed_bytes.inc(count)
                waited_s += await self._step_back(count, suspect=suspect)
            verdict = await threads.run(check.verdict)
        finally:
            # Cancelled, the thread may still be reading: its file is closed behind that, in the same thread.
            await asyncio.shield(threads.run(check.close))
        await self._trust.settle(held, verdict)
        if not suspect:
            await self._rest(held.total_bytes, waited_s)

    async def _step_back(self, size_bytes: int, *, suspect: bool) -> float:
        """Wait as long as so many bytes take at the rate of the moment; return how long that was, in seconds."""
        left, waited_s = float(size_bytes), 0.0
        while left > 0:
            rate = self._pace.rate(suspect=suspect, busy=self._index.busy)
            pause_s = min(STEP_S, left / rate)
            await self._sleep(pause_s)
            waited_s += pause_s
            left -= rate * pause_s
        return waited_s

    async def _rest(self, size_bytes: int, waited_s: float) -> None:
        """Wait until a blob of this size had its share of the interval, or a suspect comes."""
        while (left_s := size_bytes / self._pace.lasting - waited_s) > 0:
            pause_s = min(LOOK_PAUSE_S, left_s)
            await self._sleep(pause_s)
            waited_s += pause_s
            first = self._index.next_to_verify(self._trust.now_ns())
            if first is not None and first.trust == "suspect":
                return

    @property
    def _pace(self) -> Pace:
        return Pace(self._index.blob_bytes, self._interval_s)
