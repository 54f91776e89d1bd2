"""Fetches what the queue says, a few at once: name to artifact, pins, then a ride on a flight."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from waystation.errors import CallRefused, TransferError, WaystationError
from waystation.model import CacheResult, Priority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.catalog.interface import Catalog
    from waystation.model import Artifact, Digest, TargetPath
    from waystation.prefetch.queue import Queue
    from waystation.store.interface import Store
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Transfers

log = structlog.get_logger()

LOW_DISK_LOOK_S = 10.0
"""How often a disk without room is looked at again."""
REMEMBERED_ASKS = 100
FETCHED, HERE = "fetched", "here"


@dataclass(slots=True)
class Asked:
    """What somebody asked for by hand, and what came of it."""

    artifact: Artifact
    outcome: str | None = None
    """None: it is under way; "fetched", "here" (it was already), or an error's reason."""
    error: WaystationError | None = None


class Fetcher:
    """Takes from the queue as long as it runs."""

    def __init__(
        self,
        queue: Queue,
        catalog: Catalog,
        store: Store,
        transfers: Transfers,
        *,
        at_once: int,
        resolved: Callable[[], Awaitable[None]],
        metrics: Metrics,
        monotonic: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._catalog = catalog
        self._store = store
        self._transfers = transfers
        self._at_once = at_once
        self._resolved = resolved
        self._outcomes = metrics.prefetch
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._asked: dict[Digest, Asked] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Fetch, for ever; what is under way is given up when this is cancelled."""
        self._queue.give_back_all()
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                while not self.short_of_room and len(self._queue.running) < self._at_once:
                    if (target := self._queue.next(self._monotonic())) is None:
                        break
                    group.create_task(self._fetch(target), name=f"prefetch {target}")
                wait_s = LOW_DISK_LOOK_S if self.short_of_room else self._queue.wait_s(self._monotonic())
                try:
                    async with asyncio.timeout(None if len(self._queue.running) >= self._at_once else wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def look(self) -> None:
        """The queue has changed."""
        self._wake.set()

    @property
    def short_of_room(self) -> bool:
        """Whether the disk has less than `min_free`: then prefetching is the first to stop."""
        store = self._store.status()
        return store.free_bytes < store.min_free_bytes

    async def _fetch(self, target: TargetPath) -> None:
        try:
            artifact = self._catalog.standing(target) or await self._catalog.resolve(target)
            await self._resolved()
            outcome = await self._ride(artifact, Priority.PREFETCH)
        except Exception as caught:  # noqa: BLE001 - a fault of our own must not end all prefetching
            error = _explained(caught)
            self._queue.failed(target, error, self._monotonic())
            self._outcomes.labels(error.reason).inc()
            log.warning("prefetch_failed", target=target, reason=error.reason, detail=str(error), advice=error.advice)
        else:
            self._queue.done(target)
            self._outcomes.labels(outcome).inc()
            log.info("prefetched", target=target, digest=artifact.digest, outcome=outcome)
        self._wake.set()

    async def _ride(self, artifact: Artifact, priority: Priority) -> str:
        async with self._transfers.open(artifact, priority) as body:
            await body.stored()
            return HERE if body.cache is CacheResult.HIT else FETCHED

    # --- by hand -------------------------------------------------------------------------------

    def ask(self, artifact: Artifact) -> Asked:
        """Fetch an artifact now, as for a client: not queueing, and not sparing the disk as prefetching does.

        Raises:
            CallRefused: so many are being fetched by hand already.
        """
        asked = self._asked.pop(artifact.digest, None)
        if asked is None or asked.outcome is not None:
            if len(self._asking) >= REMEMBERED_ASKS:
                raise CallRefused(
                    f"{REMEMBERED_ASKS} targets are being fetched by hand already", advice="Wait for them."
                )
            asked = Asked(artifact)
            task = asyncio.create_task(self._fetch_asked(asked), name=f"prefetch {artifact.target} by hand")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        self._asked[artifact.digest] = asked
        while len(self._asked) > REMEMBERED_ASKS:
            del self._asked[next(iter(self._asked))]
        return asked

    def asked(self, digest: Digest) -> Asked | None:
        """What was asked for lately."""
        return self._asked.get(digest)

    async def close(self) -> None:
        """Give up what was asked for by hand."""
        asking = tuple(self._asking)
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    async def _fetch_asked(self, asked: Asked) -> None:
        try:
            asked.outcome = await self._ride(asked.artifact, Priority.CLIENT)
        except Exception as caught:  # noqa: BLE001 - told to whoever asked
            asked.error = _explained(caught)
            asked.outcome = asked.error.reason
        self._outcomes.labels(asked.outcome).inc()


def _explained(error: Exception) -> WaystationError:
    if isinstance(error, WaystationError):
        return error
    log.error("prefetch_broke", exc_info=error)
    return TransferError("prefetching broke on a fault of its own", advice="Report the log line `prefetch_broke`.")
