"""Settings become the read side of an origin."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar

from waystation.disk import Disk
from waystation.origin.directory import DirectoryOrigin
from waystation.origin.hops import Hops
from waystation.origin.http_origin import HttpOrigin
from waystation.origin.resilient import ResilientOrigin
from waystation.origin.s3 import S3Origin
from waystation.origin.tls import trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.config import OriginSettings, Settings
    from waystation.origin.interface import Watchable
    from waystation.telemetry.metrics import Metrics


def open_origin(
    settings: Settings,
    metrics: Metrics,
    *,
    hops: Hops | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> ResilientOrigin:
    """Open the origin that ``[origin] url`` names; nothing is asked of it yet. `hops`: the daemon's own place.

    Raises:
        ConfigError: the settings can't be used.
    """
    return ResilientOrigin(
        _inner(settings, hops or Hops()),
        url=settings.origin.url,
        settings=settings.origin,
        metrics=metrics,
        monotonic=monotonic,
    )


def _inner(settings: Settings, hops: Hops) -> Watchable:
    folder = settings.origin.folder
    if folder is not None:
        return DirectoryOrigin(folder, disk=Disk())
    if settings.origin.http_base is not None:
        return HttpOrigin(settings.origin, stall_timeout_s=settings.transfer.stall_timeout, hops=hops)
    return S3Origin(settings.origin, stall_timeout_s=settings.transfer.stall_timeout)


async def check_access(settings: Settings) -> None:
    """Make sure that the files can be used which an origin is asked with; it is not asked.

    Raises:
        NoCredentials: the credentials file can't be used.
        Unreachable: the CA bundle can't be used.
    """
    if settings.origin.folder is None:
        await asyncio.to_thread(_check_files, settings.origin)


def _check_files(settings: OriginSettings) -> None:
    if settings.http_base is not None:
        trust(settings.ca_bundle)
        return
    from waystation.origin.s3_access import prepare  # noqa: PLC0415 - imports botocore, and only S3 needs it

    prepare(settings)


class OriginReload:
    """Opens the same origin anew; keys that were replaced in their files count from then on."""

    reloads: ClassVar[frozenset[str]] = frozenset(
        {
            "origin.credentials_file",
            "origin.ca_bundle",
            "origin.max_connections",
            "origin.connect_timeout",
            "origin.request_timeout",
            "origin.attempts",
            "transfer.stall_timeout",
        }
    )

    def __init__(self, origin: ResilientOrigin, hops: Hops) -> None:
        self._origin = origin
        self._hops = hops

    def reload(self, settings: Settings) -> None:
        """Ask through a new connection from now on; what runs is finished through the old one."""
        self._origin.renew(_inner(settings, self._hops), settings.origin)
