"""Settings become a publisher: an origin to look at and its writer, closed together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from waystation.disk import Disk
from waystation.origin.opening import open_origin
from waystation.origin.write_directory import DirectoryWriter
from waystation.origin.write_s3 import S3Writer
from waystation.publish.publisher import Publisher
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.config import Settings
    from waystation.origin.interface import OriginWriter


@asynccontextmanager
async def open_publisher(settings: Settings) -> AsyncIterator[Publisher]:
    """Open the way in for builders: what they publish through.

    Raises:
        ConfigError: the settings can't be used.
    """
    folder = settings.origin.folder
    writer: OriginWriter = S3Writer(settings.origin) if folder is None else DirectoryWriter(folder, disk=Disk())
    origin = open_origin(settings, Metrics())
    try:
        yield Publisher(origin, writer)
    finally:
        await origin.close()
        await writer.close()
