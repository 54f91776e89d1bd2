"""Publishing what was built: exactly the bytes that were checked, with what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.publish import Digest, open_publisher

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.publish import Progress, Published, Settings
    from waystation_builder.record import Record


async def publish_built(settings: Settings, file: Path, record: Record, progress: Progress) -> Published:
    """Publish an executable under the name in its record; run again, it finishes what died.

    Raises:
        WaystationError: as `Publisher.publish` says; where the file is no longer what the record says, SourceChanged.
    """
    async with open_publisher(settings) as publisher:
        return await publisher.publish(
            file,
            app=record.app,
            version=record.version,
            arch=record.arch,
            needs=record.needs,
            digest=Digest(record.sha256),
            progress=progress,
        )
