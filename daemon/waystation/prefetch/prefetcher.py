"""Prefetching as a whole: which tasks run, what makes them look again, and what they tell of themselves."""

from __future__ import annotations

import asyncio
import platform
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import structlog

from waystation.errors import ChangesMissed, StoreError
from waystation.model import ARCH_ALIASES, TargetPath
from waystation.prefetch.fetcher import Fetcher
from waystation.prefetch.poller import Poller
from waystation.prefetch.queue import Queue
from waystation.prefetch.reconcile import Reconciler
from waystation.prefetch.subscriptions import Ranking, Subscriptions
from waystation.prefetch.watcher import Watcher
from waystation.status import MissingTarget, PrefetchStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from waystation.catalog.interface import Catalog
    from waystation.config import Settings
    from waystation.origin.interface import Watchable
    from waystation.store.interface import Store, StoreChange
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Transfers

log = structlog.get_logger()

OWNER = "prefetch"
LOOK_S = 300.0
"""How often the whole state is looked at, whatever was or was not told."""


class Prefetcher:
    """Keeps here what ``[[prefetch]]`` asks for, and what anyone has pinned."""

    reloads: ClassVar[frozenset[str]] = frozenset({"prefetch", "catalog.refresh", "origin.notifications"})

    def __init__(
        self,
        settings: Settings,
        origin: Watchable,
        catalog: Catalog,
        store: Store,
        transfers: Transfers,
        *,
        metrics: Metrics,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        randomly: Callable[[], float] = random.random,
        arch: str | None = None,
    ) -> None:
        machine = arch or platform.machine()
        self._arch = ARCH_ALIASES.get(machine, machine)
        self._origin = origin
        self._catalog = catalog
        self._store = store
        self._metrics = metrics
        self._wall = wall
        self._randomly = randomly
        self._look = asyncio.Event()
        self._settling = asyncio.Lock()
        self._queue = Queue(randomly=randomly)
        self._reconciler = Reconciler(catalog, store, self._queue, wall=wall)
        self.fetcher = Fetcher(
            self._queue,
            catalog,
            store,
            transfers,
            at_once=settings.transfer.prefetch_flights,
            resolved=self._settle,
            metrics=metrics,
            monotonic=monotonic,
        )
        self._renewed = asyncio.Event()
        self._subscribe(settings)

    def reload(self, settings: Settings) -> None:
        """Want what these subscribe to, and ask at once what is published; what is wanted no more is let go."""
        if _of(settings) != _of(self._settings):
            self._subscribe(settings)
            self._renewed.set()
        self.look()  # there may be more room than before

    def _subscribe(self, settings: Settings) -> None:
        self._settings = settings
        self._subscribed = len(settings.prefetch)
        self._subscriptions = Subscriptions(settings.prefetch, arch=self._arch)
        self._ranked = frozenset[TargetPath]()
        """What `_ranking` is of."""
        self._ranking = Ranking(())
        self._poller = Poller(
            self._catalog,
            self._subscriptions,
            refresh_s=settings.catalog.refresh,
            held=lambda: self._reconciler.held(OWNER),
            news=self._take_news,
            wall=self._wall,
            randomly=self._randomly,
        )
        self._watcher = Watcher(
            self._origin,
            self._subscriptions.prefixes,
            hear=self._poller.hear,
            listening=self._poller.poll_soon,
            randomly=self._randomly,
        )
        self._watched = settings.origin.notifications and self._subscribed > 0

    async def run(self) -> None:
        """Prefetch, for ever."""
        changes = self._store.changes()  # from before the first look on, so that nothing falls between
        self._look.set()
        self._declare_metrics()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(changes), name="prefetch: the store's changes")
                group.create_task(self._keep(), name="prefetch: wants and pins")
                group.create_task(self.fetcher.run(), name="prefetch: flights")
                group.create_task(self._follow(), name="prefetch: what is published")
        finally:
            await self.fetcher.close()

    def look(self) -> None:
        """Something may have changed that nobody tells of by itself, such as what somebody has pinned."""
        self._queue.forgive_for_room()
        self._look.set()

    def status(self) -> PrefetchStatus:
        """A snapshot; never waits."""
        wanted = self._reconciler.wanted()
        running = self._queue.running
        missing = [MissingTarget(target, "fetching", None, None) for target in sorted(running)]
        for item in self._queue.waiting():
            if error := item.error:
                missing.append(MissingTarget(item.target, "failed", error.reason, str(error)))
            else:
                missing.append(MissingTarget(item.target, "queued", None, None))
        return PrefetchStatus(
            subscriptions=self._subscribed,
            wanted=len(wanted),
            ready=sum(1 for target in wanted if target not in self._queue),
            missing=tuple(missing),
            lag_s=self._lag_s(),
            paused_because="the disk has less than [store] min_free" if self.fetcher.short_of_room else None,
            last_poll=self._poller.last_poll,
            poll_trouble=self._poller.trouble,
            notifications=self._watcher.state if self._watched else "off",
        )

    # --- what makes it look again ----------------------------------------------------------------

    async def _listen(self, changes: AsyncIterator[StoreChange]) -> None:
        while True:
            try:
                async for change in changes:
                    if change.kind == "evicted":
                        self._queue.forgive_for_room()
                    self._look.set()
            except ChangesMissed:
                self.look()
            else:
                return

    def _take_news(self, target: TargetPath | None) -> None:
        if target:
            self._queue.forgive([target])
        self._look.set()

    async def _follow(self) -> None:
        """Find out what is published, each time that the subscriptions change from the beginning."""
        while True:
            self._renewed.clear()
            async with asyncio.TaskGroup() as group:
                following = []
                if self._subscribed:
                    following.append(group.create_task(self._poller.run(), name="prefetch: polls"))
                if self._watched:
                    following.append(group.create_task(self._watcher.run(), name="prefetch: notifications"))
                self._look.set()
                await self._renewed.wait()
                for task in following:
                    task.cancel()

    async def _keep(self) -> None:
        """Bring wants, pins and queue in step whenever anything has changed."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            self._look.clear()
            await self._settle()

    async def _settle(self) -> None:
        async with self._settling:
            await self._decide()
        self.fetcher.look()

    async def _decide(self) -> None:
        published = self._poller.published if self._subscribed else frozenset[TargetPath]()
        try:
            if published is None:
                await self._reconciler.settle()
            else:
                if published != self._ranked:
                    subscriptions = self._subscriptions
                    ranking = await asyncio.to_thread(subscriptions.rank, published)
                    if subscriptions is not self._subscriptions:
                        return  # there are others now, and their first poll looks again
                    self._ranking, self._ranked = ranking, published
                wants = self._ranking.choose(self._reconciler.is_here, self._reconciler.lacks_room)
                await self._reconciler.want(OWNER, wants)
        except StoreError as error:
            log.warning("pins_not_written", reason=error.reason, detail=str(error), advice=error.advice)

    # --- what it tells -------------------------------------------------------------------------

    def _lag_s(self) -> float:
        since = self._reconciler.oldest_missing()
        return 0.0 if since is None else max(0.0, self._wall() - since)

    def _declare_metrics(self) -> None:
        metrics, queue, wanted = self._metrics, self._queue, self._reconciler.wanted
        metrics.prefetch_queue_length.set_function(lambda: len(queue))
        metrics.prefetch_lag_seconds.set_function(self._lag_s)
        states = metrics.wanted_targets
        states.labels("fetching").set_function(lambda: len(queue.running))
        states.labels("missing").set_function(lambda: len(queue))
        states.labels("ready").set_function(lambda: sum(1 for target in wanted() if target not in queue))


def _of(settings: Settings) -> tuple[object, ...]:
    """What of the settings decides what is published and wanted."""
    return settings.prefetch, settings.catalog.refresh, settings.origin.notifications
