"""Keeps the store within its quota and the filesystem's free space above the reserve.

Whatever takes room or gives it back does so under one lock, so that each sees what the one before
it left. Decisions are the index's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waystation.errors import NoRoom, StoreUnusable
from waystation.store.finish import to_the_end
from waystation.store.interface import StoreChange
from waystation.store.layout import unusable
from waystation.store.quarantine import set_aside_at

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from waystation.store.changes import Changes
    from waystation.store.eviction import Eviction
    from waystation.store.files import StoreFiles
    from waystation.store.index import Index
    from waystation.store.threads import Threads
    from waystation.telemetry.metrics import Metrics

LOOK_INTERVAL_S = 5.0
"""How often the free space is looked at: another program that writes 200 MB/s takes 1 GB meanwhile."""
TIDY_INTERVAL_S = 60.0

log = structlog.get_logger()


class Room:
    """The room of one store. What is async here is called with `lock` held, but for `keep_house`."""

    def __init__(
        self,
        index: Index,
        files: StoreFiles,
        *,
        threads: Threads,
        metrics: Metrics,
        changes: Changes,
        quarantine_keep_s: float,
        wall: Callable[[], float],
    ) -> None:
        self.lock = asyncio.Lock()
        self.free_bytes = 0
        """As last measured."""
        self._index = index
        self._files = files
        self._threads = threads
        self._metrics = metrics
        self._changes = changes
        self._quarantine_keep_s = quarantine_keep_s
        self._wall = wall
        self._untidy = asyncio.Event()
        self._limits_changed = False

    def give_up(self) -> None:
        """Something is leaving: have it taken off the disk soon."""
        self._untidy.set()

    def keep_limits(self, *, quarantine_keep_s: float) -> None:
        """The limits have changed, the index's too: tidy soon."""
        self._quarantine_keep_s = quarantine_keep_s
        self._limits_changed = True
        self._untidy.set()

    async def measure(self) -> None:
        """Ask the system what is free.

        Raises:
            StoreUnusable: it does not say.
        """
        try:
            self.free_bytes = await self._threads.run(self._files.free_bytes)
        except OSError as error:
            raise unusable("ask for the free space of the store", error) from error

    async def make(self, need_bytes: int, free_bytes: int, what: str) -> None:
        """Evict until `need_bytes` more may be taken.

        Raises:
            NoRoom: not even eviction makes enough; nothing was evicted.
            StoreUnusable: what was evicted can't be removed.
        """
        eviction = self._index.make_room(need_bytes, free_bytes)
        if eviction.short_bytes:
            raise NoRoom(f"no room for {what}: {self._short(need_bytes, eviction.short_bytes, free_bytes)}")
        if not await self.evict(eviction):
            raise StoreUnusable(f"no room for {what}: what was evicted can't be removed")

    async def evict(self, eviction: Eviction) -> bool:
        """Take off the disk what the index chose; False where that can't be done."""
        leaving = [("partial", self._index.remove_partial(digest)) for digest in eviction.partials]
        for digest in eviction.blobs:
            leaving.append((eviction.reason, self._index.remove_blob(digest)))
            self._changes.tell(StoreChange("evicted", digest))
        for reason, one in leaving:
            self._metrics.evictions.labels(reason).inc()
            self._metrics.evicted_bytes.inc(one.total_bytes)
            log.info("evicted", place=one.place, digest=one.digest, bytes=one.total_bytes, reason=reason)
        cleared = await self._clear(eviction.quarantined)
        await self.sweep()
        still_there = self._index.leaving
        return cleared and not any(one in still_there for _, one in leaving)

    async def sweep(self) -> None:
        """Take off the disk what nobody may use any more; what can't be removed is tried again later."""
        self._untidy.clear()
        if leaving := self._index.leaving:
            for gone in await self._threads.run(self._files.remove, leaving):
                self._index.gone(gone.leaving)
                if gone.aside and gone.aside.removable:
                    self._index.set_aside(gone.aside.name, gone.aside.size_bytes)

    async def tidy(self) -> None:
        """Remove what was given up and what was in quarantine for long enough, and evict down to the limits.

        Raises:
            StoreUnusable: the system does not say what is free.
        """
        await self.sweep()
        now = self._wall()
        await self._clear(name for name in self._index.quarantined if self._kept_long_enough(name, now))
        await self.measure()
        await self._meet_limits()

    async def look(self) -> None:
        """Evict where other programs took of the reserve.

        Raises:
            StoreUnusable: the system does not say what is free.
        """
        await self.measure()
        if self.free_bytes < self._index.min_free_bytes:
            await self._meet_limits()

    async def keep_house(self, tidy: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do all this whenever it is due, until cancelled; `tidy` is the whole store's."""
        loop = asyncio.get_running_loop()
        tidied = looked = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(looked + LOOK_INTERVAL_S):
                    await self._untidy.wait()
            except TimeoutError:
                looked = loop.time()
            else:
                if not self._limits_changed:
                    async with self.lock:
                        await to_the_end(self.sweep())
                    continue
            try:
                async with self.lock:
                    if looked - tidied < TIDY_INTERVAL_S and not self._limits_changed:
                        await to_the_end(self.look())
                    else:
                        tidied, self._limits_changed = looked, False
                        await to_the_end(tidy())
            except StoreUnusable as error:
                log.warning("store_not_tidied", error=str(error))

    async def _meet_limits(self) -> None:
        eviction = self._index.make_room(0, self.free_bytes)
        await self.evict(eviction)
        if eviction.short_bytes:
            log.warning("store_over_its_limits", limit=eviction.reason, over_bytes=eviction.short_bytes)

    async def _clear(self, names: Iterable[str]) -> bool:
        """Remove these from the quarantine; False where one of them can't be removed."""
        wanted = tuple(names)
        if not wanted:
            return True
        cleared = await self._threads.run(self._files.clear, wanted)
        for name in cleared:
            self._index.cleared(name)
        return len(cleared) == len(wanted)

    def _kept_long_enough(self, name: str, now: float) -> bool:
        at = set_aside_at(name)
        return at is not None and now - at >= self._quarantine_keep_s

    def _short(self, need_bytes: int, short_bytes: int, free_bytes: int) -> str:
        index = self._index
        return (
            f"it needs {need_bytes} bytes, {short_bytes} more than eviction can give; max_size is"
            f" {index.max_size_bytes}, used {index.used_bytes} ({index.pinned_bytes} pinned, {index.leased_bytes} being"
            f" served, {index.spool_bytes} arriving); min_free is {index.min_free_bytes}, free {free_bytes}"
        )
