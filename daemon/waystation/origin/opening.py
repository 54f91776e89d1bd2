"""Settings become the read side of an origin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from waystation.disk import Disk
from waystation.origin.directory import DirectoryOrigin
from waystation.origin.resilient import ResilientOrigin
from waystation.origin.s3 import S3Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.config import Settings
    from waystation.origin.interface import Watchable
    from waystation.telemetry.metrics import Metrics


def open_origin(
    settings: Settings, metrics: Metrics, *, monotonic: Callable[[], float] = time.monotonic
) -> ResilientOrigin:
    """Open the origin that ``[origin] url`` names; nothing is asked of it yet.

    Raises:
        ConfigError: the settings can't be used.
    """
    folder = settings.origin.folder
    inner: Watchable = (
        S3Origin(settings.origin, stall_timeout_s=settings.transfer.stall_timeout)
        if folder is None
        else DirectoryOrigin(folder, disk=Disk())
    )
    return ResilientOrigin(
        inner, url=settings.origin.url, settings=settings.origin, metrics=metrics, monotonic=monotonic
    )
