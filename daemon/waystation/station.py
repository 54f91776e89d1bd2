"""The daemon's life, from top to bottom: recover, listen, ready, serve, reload, drain."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import time
from contextlib import suppress
from importlib.metadata import version
from random import uniform
from typing import TYPE_CHECKING, Literal

import structlog

from waystation.admin.catalog_verbs import catalog_verbs
from waystation.admin.origin_verbs import origin_verbs
from waystation.admin.prefetch_verbs import prefetch_verbs
from waystation.admin.server import AdminServer
from waystation.admin.station_verbs import station_verbs
from waystation.admin.store_verbs import StoreVerbs
from waystation.assembly import open_parts
from waystation.errors import ConfigError, NoCredentials, NotListable, OriginError
from waystation.explain.explainer import Explainer, Surroundings
from waystation.mirror.listeners import Listener
from waystation.mirror.replies import status_code
from waystation.mirror.server import Mirror
from waystation.origin.opening import check_access
from waystation.origin.probing import probe
from waystation.reload import LogLevel, Reload
from waystation.status import StationStatus
from waystation.systemd.activation import take_sockets
from waystation.systemd.notify import Notifier
from waystation.systemd.words import in_words
from waystation.telemetry.going_on import keep_going
from waystation.telemetry.logs import configure_logs, log_level
from waystation.telemetry.metrics import Metrics
from waystation.transfer.layer import fetch_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.assembly import Parts
    from waystation.config import Settings
    from waystation.model import Artifact

log = structlog.get_logger()

PROBE_PAUSE_S = 5.0
HTTPS = "https"
"""What a socket unit calls its sockets (``FileDescriptorName=``) at which TLS is spoken."""
TELL_PAUSE_S = 5.0
"""How often systemd is told in words how the daemon is, at the least."""


async def serve(read: Callable[[], Settings]) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP has it read its settings again.

    Raises:
        WaystationError: it can't start as it is configured.
    """
    settings = read()
    configure_logs(settings.log.level, settings.log.format)
    stop, again = _on_signals()
    systemd = Notifier.of(os.environ)
    lent = [Listener(passed.socket, passed.name == HTTPS) for passed in take_sockets(os.environ)]
    began = time.monotonic()
    metrics = Metrics()
    metrics.build_info.info({"version": version("waystation"), "python": platform.python_version()})
    async with systemd.watched(), open_parts(settings, metrics) as parts:
        metrics.recovery_seconds.set(time.monotonic() - began)
        station = _Station(parts, systemd, read, "systemd" if lent else "waystation")
        await station.mirror.start(lent)
        try:
            await station.admin.start()
            log.info(
                "listening",
                urls=list(station.mirror.urls),
                sockets_of=station.sockets_of,
                origin=settings.origin.url,
                pid=os.getpid(),
            )
            await _serve_until(stop, again, station)
        finally:
            log.info("draining")
            await systemd.stopping("finishing the downloads that run")
            await station.mirror.drain()
            await station.admin.close()
    log.info("stopped")


async def _serve_until(stop: asyncio.Event, again: asyncio.Event, station: _Station) -> None:
    async with asyncio.TaskGroup() as group:
        parts = (station.probe, station.scrub, station.prefetch, station.tell_systemd)
        life = [group.create_task(part()) for part in parts]
        life.append(group.create_task(station.reload_on(again)))
        await stop.wait()
        for task in life:
            task.cancel()


class _Station:
    """The two faces over one set of parts, and the snapshot that both show."""

    def __init__(
        self,
        parts: Parts,
        systemd: Notifier,
        read: Callable[[], Settings],
        sockets_of: Literal["waystation", "systemd"] = "waystation",
    ) -> None:
        self._parts = parts
        self.sockets_of = sockets_of
        self._systemd = systemd
        self._started = time.time()
        self._trouble: str | None = "the origin has not answered yet"
        """Why the origin is of no use so far; None once it has answered well."""
        self._news = asyncio.Event()
        """Whether there may be something else to tell systemd than the last time."""
        origin = parts.settings.origin
        self.mirror = Mirror(
            parts.settings.mirror,
            origin_path=origin.own_path,
            origin_host=origin.own_host,
            certified_host=origin.own_host if origin.own_scheme == "https" else None,
            admission=parts.admission,
            catalog=parts.catalog,
            refresh_s=parts.settings.catalog.refresh,
            hops=parts.hops,
            transfers=parts.transfers,
            store=parts.store,
            metrics=parts.metrics,
            status=self.status,
            pieces_of=self._pieces_of,
        )
        self._reload = Reload(
            parts.settings,
            read,
            (*parts.reloadable, self.mirror, LogLevel(parts.settings.log.level)),
            check=self._check,
            metrics=parts.metrics,
        )
        explainer = Explainer(
            parts.admission,
            parts.origin,
            named=self.mirror.name_in,
            meaning=status_code,
            daemon=Surroundings(parts.store, parts.transfers, self.mirror.refusals),
        )
        self.admin = AdminServer(
            parts.settings.admin.socket,
            (
                *station_verbs(self.status, explainer),
                *catalog_verbs(parts.catalog),
                *origin_verbs(parts.origin, over_http=origin.http_base is not None),
                *StoreVerbs(parts.store, parts.catalog, parts.admission, pins_changed=parts.prefetch.look).verbs(),
                *prefetch_verbs(parts.admission, parts.prefetch.fetcher, parts.transfers),
            ),
            metrics=parts.metrics,
        )

    async def probe(self) -> None:
        """Ask the origin until it answers well once: says early what is wrong with address, bucket or credentials.

        Raises:
            NoCredentials: there is nothing to ask it with, and nothing known from before that could be served.
            ConfigError: it can't be listed, and the subscriptions need that; also only where nothing is known.
        """
        parts = self._parts
        while True:
            try:
                unlisted = await probe(parts.origin)
            except OriginError as error:
                self._trouble = str(error)
                self._news.set()
                if isinstance(error, NoCredentials) and not parts.catalog.status().targets:
                    raise
                log.warning("origin_not_usable", reason=error.reason, detail=str(error), advice=error.advice)
                await asyncio.sleep(uniform(PROBE_PAUSE_S / 2, PROBE_PAUSE_S))  # noqa: S311 - jitter, no secret
            else:
                if unlisted:
                    self._check_subscriptions(unlisted)
                self._trouble = None
                self._news.set()
                log.info("ready")
                return

    def _check_subscriptions(self, unlisted: NotListable) -> None:
        """Refuse to start on subscriptions that can never be kept; what is known from before is served all the same."""
        if not (at := self._parts.settings.unlistable()):
            return
        error = ConfigError(f"{at} has wildcards: {unlisted}", advice=NotListable.advice)
        if not self._parts.catalog.status().targets:
            raise error
        log.error("subscriptions_not_possible", detail=str(error), advice=error.advice)

    async def scrub(self) -> None:
        """Check what is stored, as long as the daemon runs."""
        await keep_going("scrub", self._parts.store.scrub, self._parts.metrics)

    async def prefetch(self) -> None:
        """Fetch and pin what should be here before it is asked for; see `waystation.prefetch`."""
        await keep_going("prefetch", self._parts.prefetch.run, self._parts.metrics)

    async def reload_on(self, again: asyncio.Event) -> None:
        """Read the settings again whenever somebody asks for it; see `waystation.reload`."""
        while True:
            await again.wait()
            again.clear()
            async with self._systemd.reloading():
                await self._reload.reload()

    async def tell_systemd(self) -> None:
        """Say that it is ready once it can serve, and at any time in words how it is."""
        announced = False
        while True:
            self._news.clear()
            status = self.status()
            if status.ready and not announced:
                announced = True
                await self._systemd.ready(in_words(status))
            await self._systemd.status(in_words(status))
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_PAUSE_S):
                    await self._news.wait()

    def status(self) -> StationStatus:
        """A snapshot; never waits."""
        parts = self._parts
        origin, catalog = parts.origin.status(), parts.catalog.status()
        missing = [self._trouble] if self._trouble and not catalog.targets else []
        return StationStatus(
            version=version("waystation"),
            pid=os.getpid(),
            started=self._started,
            ready=not missing,
            not_ready_because=tuple(missing),
            log_level=log_level(),
            listen=tuple(self.mirror.urls),
            origin=origin,
            catalog=catalog,
            store=parts.store.status(),
            flights=parts.transfers.flights(),
            prefetch=parts.prefetch.status(),
            refusals=tuple(self.mirror.refusals()),
            reload=self._reload.status,
            certificate=self.mirror.certificate,
            sockets_of=self.sockets_of,
        )

    async def _check(self, settings: Settings) -> None:
        """Read all files that these settings name, so that taking them up can't fail."""
        await check_access(settings)
        await self.mirror.prepare(settings)

    async def _pieces_of(self, artifact: Artifact) -> bytes:
        return (await fetch_pieces(self._parts.origin, artifact)).body


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Give what is set when the daemon is to stop, and when it is to read its settings again."""
    loop, stop, again = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Of a daemon in a terminal SIGHUP says that the terminal is gone.
    loop.add_signal_handler(signal.SIGHUP, (stop if os.isatty(0) else again).set)
    return stop, again
