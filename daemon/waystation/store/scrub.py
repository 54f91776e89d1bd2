"""Reads every blob again within an interval, suspects first, and steps back for whoever uses the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waystation.errors import StoreUnusable
from waystation.store.blob_check import begun
from waystation.store.pace import DUE_AFTER, Pace, due_in_s, is_urgent
from waystation.store.priority import step_back
from waystation.store.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.store.blob_check import BlobCheck
    from waystation.store.held import Held
    from waystation.store.index import Index
    from waystation.store.trust import Trust
    from waystation.telemetry.metrics import Metrics

LOOK_PAUSE_S = 60.0
"""How long nothing is due before it is looked again: clocks jump, and blobs come."""
MOMENT_S = 0.001
"""No sleep is shorter, so that what rounding leaves of a time is not slept for."""
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
        interval_s: Callable[[], float],
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
        threads = Threads(1, "scrub")
        try:
            while True:
                now_ns = self._trust.now_ns()
                held = self._index.next_to_verify(now_ns)
                wait_s = self._due_in_s(held, now_ns)
                if held is None or wait_s > 0:
                    await self._sleep(max(MOMENT_S, min(LOOK_PAUSE_S, wait_s)))
                    continue
                try:
                    await self._scrub(held, threads)
                except (OSError, StoreUnusable) as error:
                    log.warning("blob_not_scrubbed", digest=held.digest, error=str(error))
                    await self._sleep(LOOK_PAUSE_S)
        finally:
            threads.close()

    def _due_in_s(self, held: Held | None, now_ns: int) -> float:
        if held is None:  # what comes meanwhile is not due before
            return self._interval_s() * DUE_AFTER
        return 0.0 if held.trust == "suspect" else due_in_s(held.verified_ns, now_ns, self._interval_s())

    async def _scrub(self, held: Held, threads: Threads) -> None:
        """Read one blob and act on what was found, then wait until the next one has its turn.

        Raises:
            OSError, StoreUnusable: the system lacks something, or a bad blob can't be moved.
        """
        suspect, waited_s = held.trust == "suspect", 0.0
        check = self._trust.check(held)
        async with begun(check, threads):
            while count := await threads.run(_read, check, urgent=suspect or self._is_urgent(held)):
                self._scrubbed_bytes.inc(count)
                waited_s += await self._wait_for(count, suspect=suspect)
            verdict = await threads.run(check.verdict)
        await self._trust.settle(held, verdict)
        if not suspect:
            await self._rest(held.total_bytes, waited_s)

    def _is_urgent(self, held: Held) -> bool:
        return is_urgent(held.verified_ns, self._trust.now_ns(), self._interval_s())

    async def _wait_for(self, size_bytes: int, *, suspect: bool) -> float:
        """Wait as long as so many bytes take at the rate of the moment; return how long that was, in seconds."""
        left, waited_s = float(size_bytes), 0.0
        while left >= 1:  # a byte: what rounding leaves of it never comes to nothing
            rate = self._pace(size_bytes).rate(suspect=suspect, busy=self._index.busy)
            pause_s = min(STEP_S, left / rate)
            await self._sleep(pause_s)
            waited_s += pause_s
            left -= rate * pause_s
        return waited_s

    async def _rest(self, size_bytes: int, waited_s: float) -> None:
        """Wait until a blob of this size had its share of the interval, or a suspect comes."""
        while (left_s := size_bytes / self._pace(size_bytes).lasting - waited_s) > MOMENT_S:
            pause_s = min(LOOK_PAUSE_S, left_s)
            await self._sleep(pause_s)
            waited_s += pause_s
            first = self._index.next_to_verify(self._trust.now_ns())
            if first is not None and first.trust == "suspect":
                return

    def _pace(self, size_bytes: int) -> Pace:
        """The rates for a store that holds at least so much: what is read may have left it."""
        return Pace(max(self._index.blob_bytes, size_bytes), self._interval_s())


def _read(check: BlobCheck, *, urgent: bool) -> int:
    step_back(urgent=urgent)
    return check.read()
