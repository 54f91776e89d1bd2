"""The mirror: listens, keeps its connections within their limits, and drains without refusing anybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import structlog

from waystation.errors import ChangesMissed, ConfigError
from waystation.mirror.acceptor import Acceptor
from waystation.mirror.connection import DRAINED, Connection, Limits
from waystation.mirror.conversations import Conversations
from waystation.mirror.identity import Identity
from waystation.mirror.journal import Journal
from waystation.mirror.listeners import bind_all, close_all, refuse_unfit
from waystation.mirror.memory import SmallBlobs
from waystation.mirror.paths import Directions, Hosts, Paths
from waystation.mirror.targets import TargetPages
from waystation.mirror.tls import LEFT, OK, TlsTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from waystation.admission import Admission
    from waystation.catalog.interface import Catalog
    from waystation.config import MirrorSettings, Settings
    from waystation.mirror.listeners import Listener
    from waystation.mirror.tls import Handshake
    from waystation.model import Artifact
    from waystation.origin.hops import Hops
    from waystation.status import CertificateStatus, Refusal, StationStatus
    from waystation.store.interface import Store
    from waystation.telemetry.metrics import Metrics
    from waystation.transfer.interface import Transfers

log = structlog.get_logger()

CHECK_PAUSE_S = 0.5
"""How often every connection is held against its limits, at the most; shorter limits are checked more often."""
FIRST_REQUEST_GRACE_S = 1.0
"""While draining: for a client that has connected and not yet spoken."""


class Mirror:
    """The HTTP face; started and drained once, on one loop."""

    reloads: ClassVar[frozenset[str]] = frozenset(
        {
            "mirror.tls_cert",
            "mirror.tls_key",
            "mirror.hosts",
            "mirror.drain_timeout",
            "mirror.max_connections",
            "mirror.max_connections_per_peer",
            "mirror.max_header_size",
            "mirror.header_timeout",
            "mirror.idle_timeout",
            "mirror.send_timeout",
            "mirror.request_timeout",
            "mirror.access_log",
            "catalog.refresh",
        }
    )

    def __init__(
        self,
        settings: MirrorSettings,
        *,
        origin_path: str | None,
        admission: Admission,
        catalog: Catalog,
        refresh_s: float,
        hops: Hops,
        transfers: Transfers,
        store: Store,
        metrics: Metrics,
        status: Callable[[], StationStatus],
        pieces_of: Callable[[Artifact], Awaitable[bytes]],
        origin_host: str | None = None,
        certified_host: str | None = None,
    ) -> None:
        self._settings = settings
        self._limits = Limits.of(settings)
        self._identity = Identity(certified_host, metrics=metrics)
        self._handshakes = metrics.tls_handshakes
        self._store = store
        self._memory = SmallBlobs()
        self._journal = Journal(metrics, access_log=settings.access_log)
        self._pages = TargetPages(catalog, refresh_s=refresh_s)
        paths, hosts = Paths(origin_path), Hosts(settings.hosts, origin_host)
        self._hosts = hosts
        self._directions = Directions(paths, hosts)
        self._conversations = Conversations(
            paths=paths,
            hosts=hosts,
            admission=admission,
            transfers=transfers,
            store=store,
            memory=self._memory,
            journal=self._journal,
            metrics=metrics,
            status=status,
            pieces_of=pieces_of,
            pages=self._pages,
            hops=hops,
        )
        self._acceptor = Acceptor(settings.max_connections, connect=self._connect, crowded=self._make_room)
        self._connections: set[Connection] = set()
        self._of_host: Counter[str] = Counter()
        self._unused = metrics.connections_unused
        self._waits = metrics.connection_waits
        metrics.connections.set_function(lambda: len(self._connections))
        self._empty = asyncio.Event()
        self._urls: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []

    async def prepare(self, settings: Settings) -> None:
        """See whether a new certificate can be used, before `reload` shows it.

        Raises:
            ConfigError: it can't, or there is none any more and TLS is spoken.
        """
        if settings.mirror.tls_files is None and any(url.startswith("https:") for url in self._urls):
            raise ConfigError(
                "[mirror] tls_cert and tls_key are gone, and the mirror speaks TLS",
                advice="Set both again; to listen without TLS, change [mirror] listen as well and restart the daemon.",
            )
        await self._identity.prepare(settings.mirror)

    def reload(self, settings: Settings) -> None:
        """Hold to these from now on: names and log at once, limits and certificate with the next connection."""
        self._identity.take_up()
        self._settings = settings.mirror
        self._pages.refresh_s = settings.catalog.refresh
        self._limits = Limits.of(settings.mirror)
        self._hosts.allow(settings.mirror.hosts)
        self._journal.access_log = settings.mirror.access_log
        self._acceptor.allow(settings.mirror.max_connections)

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens, once it has started."""
        return self._urls

    @property
    def certificate(self) -> CertificateStatus | None:
        """What https clients are shown."""
        return self._identity.status

    def name_in(self, asked: str) -> str:
        """Find the target in a name, a path or a URL; see `Directions.name_in`."""
        return self._directions.name_in(asked)

    def refusals(self) -> tuple[Refusal, ...]:
        """The last requests that were not answered with their bytes, the latest first."""
        return self._journal.refusals()

    async def start(self, lent: Sequence[Listener] = ()) -> None:
        """Listen, on these sockets if there are any, else where the settings say.

        Raises:
            DaemonError: an address can't be had.
            ConfigError: the certificate can't be used, or is missing, or others are spoken to without TLS.
        """
        await self._identity.prepare(self._settings)
        self._identity.take_up()
        listeners = lent or await asyncio.to_thread(bind_all, self._settings.listen)
        try:
            refuse_unfit(
                listeners, allow_insecure=self._settings.allow_insecure, has_certificate=bool(self._identity.context)
            )
        except ConfigError:
            close_all(listeners)
            raise
        self._urls = tuple(listener.url for listener in listeners)
        self._acceptor.start(listeners, lent=bool(lent))
        self._tasks = [asyncio.create_task(self._check_limits()), asyncio.create_task(self._follow_store())]

    async def drain(self) -> None:
        """Stop listening at once; running answers finish, up to `drain_timeout`, and idle connections end."""
        for connection in self._connections:
            connection.closing = True
        await self._acceptor.stop()  # meanwhile the loop reads what has arrived, so that it counts as running
        for connection in tuple(self._connections):
            connection.retire(FIRST_REQUEST_GRACE_S)
        try:
            async with asyncio.timeout(self._settings.drain_timeout):
                await self._until_empty()
        except TimeoutError:
            log.warning("drain_timeout_passed", connections=len(self._connections))
            for connection in tuple(self._connections):
                connection.abort(DRAINED)
            await self._until_empty()
        await self._pages.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- connections ---------------------------------------------------------------------------

    def _connect(self, listener: Listener) -> asyncio.Protocol:
        connection = Connection(
            self._converse,
            self._limits,
            loop=asyncio.get_running_loop(),
            began=self._began,
            ended=self._ended,
            unused=lambda limit: self._unused.labels(limit).inc(),
        )
        if not listener.secure or self._identity.context is None:
            return connection
        return TlsTransport(self._identity.context, connection, shaken=self._shaken)

    def _shaken(self, peer: str, handshake: Handshake) -> None:
        self._handshakes.labels(handshake.outcome).inc()
        if handshake.outcome != OK:
            say = log.info if handshake is LEFT else log.warning  # a probe of the port is no trouble
            say(
                "tls_handshake_failed",
                peer=peer,
                reason=handshake.outcome,
                detail=handshake.detail,
                advice=handshake.advice,
            )

    def _began(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._of_host[connection.host] += 1

    async def _converse(self, connection: Connection) -> None:
        allowed = self._settings.max_connections_per_peer
        crowded = bool(connection.host) and self._of_host[connection.host] > allowed
        await self._conversations.hold(connection, crowded=crowded)

    def _ended(self, connection: Connection) -> None:
        self._of_host[connection.host] -= 1
        if not self._of_host[connection.host]:
            del self._of_host[connection.host]
        self._connections.discard(connection)
        self._acceptor.release()
        if not self._connections:
            self._empty.set()

    def _make_room(self) -> None:
        """Somebody waits for room: who has been idle the longest goes."""
        self._waits.inc()
        idle = ((connection.idle_until, connection) for connection in self._connections)
        longest = min(
            ((until, one) for until, one in idle if until is not None), key=lambda pair: pair[0], default=None
        )
        if longest:
            self._unused.labels("max_connections").inc()
            longest[1].retire()

    async def _until_empty(self) -> None:
        while self._connections:
            self._empty.clear()
            await self._empty.wait()

    # --- tasks ---------------------------------------------------------------------------------

    async def _check_limits(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(CHECK_PAUSE_S, *(limit_s / 4 for limit_s in self._limits.phase_s)))
            now = loop.time()
            for connection in tuple(self._connections):
                connection.check(now)

    async def _follow_store(self) -> None:
        """Keep in memory nothing that the store gave up."""
        while True:
            self._memory.clear()
            try:
                async for change in self._store.changes():
                    if change.kind != "stored":
                        self._memory.drop(change.digest)
            except ChangesMissed:
                continue
            return
