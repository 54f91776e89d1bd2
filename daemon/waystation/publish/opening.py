"""Settings become a publisher: an origin to look at and its writer, closed together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from waystation.disk import Disk
from waystation.errors import OriginError, ReadOnlyOrigin
from waystation.origin.opening import open_origin
from waystation.origin.write_directory import DirectoryWriter
from waystation.publish.publisher import Publisher
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.config import OriginSettings, Settings
    from waystation.origin.interface import OriginWriter

_RUN_AGAIN = (
    "Check that the origin is up and that [origin] url and endpoint_url are right, and run it again: what it began is "
    "finished then."
)


def open_writer(origin: OriginSettings) -> OriginWriter:
    """Open the write side of the origin that ``[origin] url`` names; nothing is asked of it yet.

    Raises:
        ReadOnlyOrigin: it has none.
    """
    if origin.http_base is not None:
        raise ReadOnlyOrigin(f"{origin.url} can only be read: nothing is published through it")
    if (folder := origin.folder) is not None:
        return DirectoryWriter(folder, disk=Disk())
    from waystation.origin.write_s3 import S3Writer  # noqa: PLC0415 - imports botocore, and only S3 needs it

    return S3Writer(origin)


@asynccontextmanager
async def open_publisher(settings: Settings) -> AsyncIterator[Publisher]:
    """Open the way in for builders: what they publish through.

    Of an origin that went away it says what a publisher must do: by itself nothing is asked again.

    Raises:
        ConfigError: the settings can't be used.
        ReadOnlyOrigin: the origin is read over HTTP.
    """
    writer = open_writer(settings.origin)
    origin = open_origin(settings, Metrics())
    try:
        yield Publisher(origin, writer)
    except OriginError as error:
        if error.transient:
            error.advice = _RUN_AGAIN
        raise
    finally:
        await origin.close()
        await writer.close()
