"""Settings become parts, in one way for station, command line and tests."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.admission import Admission
from waystation.catalog.plain import PlainCatalog
from waystation.disk import Disk
from waystation.origin.hops import Hops
from waystation.origin.just_read import JustRead
from waystation.origin.opening import OriginReload, open_origin
from waystation.prefetch.prefetcher import Prefetcher
from waystation.store.disk_store import DiskStore
from waystation.store.memory_spool import PassThrough
from waystation.telemetry.metrics import Metrics
from waystation.transfer.flights import Flights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from waystation.config import Settings
    from waystation.origin.interface import Origin
    from waystation.origin.resilient import ResilientOrigin
    from waystation.reload import Reloadable

CATALOG_FILE = "catalog.json"

__all__ = ["Clock", "Parts", "open_catalog", "open_origin", "open_parts"]


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is, for every part."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds since some time, never going backward; the event loop's own."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A daemon's parts, wired and recovered."""

    settings: Settings
    metrics: Metrics
    origin: ResilientOrigin
    catalog: PlainCatalog
    store: DiskStore
    transfers: Flights
    admission: Admission
    prefetch: Prefetcher
    hops: Hops

    @property
    def reloadable(self) -> tuple[Reloadable, ...]:
        """Those that take up settings while they run."""
        return (
            OriginReload(self.origin, self.hops),
            self.catalog,
            self.store,
            self.transfers,
            self.admission,
            self.prefetch,
        )


def open_catalog(
    settings: Settings,
    origin: Origin,
    metrics: Metrics,
    *,
    remember: bool,
    just_read: JustRead | None = None,
    clock: Clock = Clock(),
) -> PlainCatalog:
    """Open the catalog; `remember`: in the store, so for the daemon that holds its lock; else in memory only."""
    memory = settings.store.path / CATALOG_FILE if remember else None
    return PlainCatalog(
        origin,
        memory=memory,
        disk=Disk(),
        settings=settings.catalog,
        metrics=metrics,
        just_read=just_read,
        wall=clock.wall,
        monotonic=clock.monotonic,
    )


@asynccontextmanager
async def open_parts(
    settings: Settings, metrics: Metrics | None = None, *, clock: Clock = Clock()
) -> AsyncIterator[Parts]:
    """Open all parts of a daemon, the store's lock first; close them in the other order.

    Raises:
        StoreError: another daemon holds the store, or it can't be used.
        ConfigError: the settings can't be used.
    """
    metrics = metrics or Metrics()
    async with AsyncExitStack() as stack:
        hops = Hops()
        origin = open_origin(settings, metrics, hops=hops, monotonic=clock.monotonic)
        stack.push_async_callback(origin.close)
        store = DiskStore(settings.store, disk=Disk(), metrics=metrics, wall=clock.wall)
        stack.push_async_callback(store.close)
        await store.recover()
        just_read = JustRead()
        catalog = open_catalog(settings, origin, metrics, remember=True, just_read=just_read, clock=clock)
        stack.push_async_callback(catalog.close)
        await catalog.load()
        transfers = Flights(
            origin,
            store,
            settings=settings.transfer,
            metrics=metrics,
            just_read=just_read,
            pass_through=PassThrough(settings.store.pass_through_memory),
            monotonic=clock.monotonic,
            wall=clock.wall,
        )
        stack.push_async_callback(transfers.close)
        yield Parts(
            settings,
            metrics,
            origin,
            catalog,
            store,
            transfers,
            admission=Admission(catalog, refresh_s=settings.catalog.refresh, monotonic=clock.monotonic),
            prefetch=Prefetcher(
                settings,
                origin,
                catalog,
                store,
                transfers,
                metrics=metrics,
                wall=clock.wall,
                monotonic=clock.monotonic,
            ),
            hops=hops,
        )
