"""Frozen snapshots of each part, as the faces show them; times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CircuitState = Literal["closed", "open", "half-open"]
Notifications = Literal["off", "connecting", "on", "unavailable"]
FlightState = Literal["queued", "fetching", "sealing", "passing", "done", "failed", "abandoned"]


@dataclass(frozen=True, slots=True)
class OriginStatus:
    """The origin as seen from here."""

    url: str
    up: bool | None
    """None: not asked yet."""
    circuit: CircuitState
    retry_after_s: float | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class CatalogStatus:
    """What the catalog knows."""

    mode: str
    targets: int
    last_refresh: float | None


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the store holds."""

    path: str
    blobs: int
    stored_bytes: int
    """Blobs and spool, with the room that running flights have reserved."""
    limit_bytes: int
    free_bytes: int
    min_free_bytes: int
    pinned_bytes: int
    suspect_blobs: int
    """Not served before they were checked again."""
    quarantined_blobs: int
    oldest_idle_s: float | None


@dataclass(frozen=True, slots=True)
class BlobStatus:
    """One blob in the store."""

    digest: str
    size_bytes: int
    pieces_bytes: int
    """The length of the ``.pieces`` file beside it; 0: there is none."""
    used: float
    verified: float
    """When its bytes were last checked whole."""
    pinned_by: tuple[str, ...]
    leases: int
    suspect: bool
    """Not served before it was checked again."""


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """Whether something would fit, as the disk was last measured."""

    need_bytes: int
    evicts: int
    """So many blobs and partials would go for it."""
    short_bytes: int
    """What is missing even then; 0: it fits."""


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """Whether something could be passed through memory just now, by a client of all of it."""

    need_bytes: int
    used_bytes: int
    """What others that are passed through may take."""
    limit_bytes: int

    @property
    def fits(self) -> bool:
        return self.used_bytes + self.need_bytes <= self.limit_bytes


@dataclass(frozen=True, slots=True)
class FlightStatus:
    """One running transfer."""

    target: str
    digest: str
    state: FlightState
    size_bytes: int
    held_bytes: int
    riders: int
    started: float


@dataclass(frozen=True, slots=True)
class MissingTarget:
    """One target that should be here and is not."""

    target: str
    state: Literal["queued", "fetching", "failed"]
    reason: str | None
    """Why it could not be fetched the last time."""
    detail: str | None


@dataclass(frozen=True, slots=True)
class PrefetchStatus:
    """What should be here before it is asked for."""

    subscriptions: int
    wanted: int
    ready: int
    missing: tuple[MissingTarget, ...]
    """In the order in which they are fetched, those under way first."""
    lag_s: float
    """For how long the oldest of them has been published, or lost; 0: all are here."""
    paused_because: str | None
    last_poll: float | None
    """When the origin last listed what is published."""
    poll_trouble: str | None
    notifications: Notifications


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not answered with its bytes."""

    at: float
    target: str
    code: int
    reason: str
    detail: str
    advice: str


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """What came of reading the configuration again."""

    at: float
    taken_up: tuple[str, ...]
    """Keys whose new values hold from then on."""
    needs_restart: tuple[str, ...]
    """Keys that the configuration changes, and that keep their old values until a restart."""
    refused_because: str | None
    """Why all stayed as it was."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """The certificate that https clients are shown."""

    names: tuple[str, ...]
    """DNS names and addresses."""
    issuer: str
    not_before: float
    not_after: float
    covers_origin: bool | None
    """Whether the origin's own name is among them; None: the origin has none."""


@dataclass(frozen=True, slots=True)
class StationStatus:
    """The whole daemon, as `waystation status` shows it."""

    version: str
    pid: int
    started: float
    ready: bool
    not_ready_because: tuple[str, ...]
    log_level: str
    listen: tuple[str, ...]
    """URLs."""
    origin: OriginStatus
    catalog: CatalogStatus
    store: StoreStatus
    flights: tuple[FlightStatus, ...]
    prefetch: PrefetchStatus
    refusals: tuple[Refusal, ...]
    """The latest first."""
    reload: ReloadStatus | None = None
    """None: the configuration was read once, at the start."""
    certificate: CertificateStatus | None = None
    """None: TLS is not spoken."""
    sockets_of: Literal["waystation", "systemd"] = "waystation"
    """Who opened the mirror's sockets; systemd's count in the place of ``[mirror] listen``."""
