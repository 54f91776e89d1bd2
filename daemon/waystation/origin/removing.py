"""Removes one key: what the doctor wrote to try the origin. Nothing else here ever removes anything from an origin."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from waystation.disk import Disk
from waystation.origin.directory import Folder
from waystation.origin.s3_connection import S3Connection

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.config import OriginSettings


async def remove_key(settings: OriginSettings, key: str) -> None:
    """Remove a key; that it is not there is no error.

    Raises:
        Denied: these credentials may not.
        OriginError: it could not be done.
    """
    if settings.folder is not None:
        await asyncio.to_thread(_unlink, settings.folder, key)
        return
    s3 = await S3Connection.open(settings)
    try:
        with s3.explaining(key):
            await s3.client.delete_object(Bucket=s3.bucket, Key=s3.full_key(key))
    finally:
        await s3.close()


def _unlink(root: Path, key: str) -> None:
    folder = Folder(root, Disk())
    path = folder.path_of(key)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise folder.explain(error, key) from error
    with suppress(OSError):  # those that are not empty stay
        for parent in path.parents[: len(path.relative_to(root).parts) - 1]:
            parent.rmdir()
