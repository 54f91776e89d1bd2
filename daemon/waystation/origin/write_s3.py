"""Creates keys in an S3 bucket: whole or not at all, and never in place of what is there.

``If-None-Match: *`` has the server see to that. Some servers don't know it (501), others let several racing
writers win all the same: so those who publish read back what they created. With ``[origin] writes = "single"`` the
writer looks before it writes, which holds as long as nobody else writes at the same time.
"""

from __future__ import annotations

import asyncio
import base64
from hashlib import sha256 as sha256_hash
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waystation.errors import SourceChanged, Unreachable
from waystation.origin.s3_connection import S3Connection
from waystation.origin.write_s3_parts import MIB, PATIENCE_S, PartsUpload, creating, refuse_existing

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.config import OriginSettings
    from waystation.model import Digest

PARTS_FROM_BYTES = 64 * MIB


class S3Writer:
    """Writes below the settings' prefix; connects with its first call."""

    def __init__(self, settings: OriginSettings) -> None:
        self._settings = settings.model_copy(
            update={"request_timeout": max(settings.request_timeout, PATIENCE_S)},
        )
        self._conditional = settings.writes == "conditional"
        self._opening = asyncio.Lock()
        self._connection: S3Connection | None = None

    async def create(
        self, key: str, body: Path | bytes, *, sha256: Digest, progress: Callable[[int], None] | None = None
    ) -> str:
        s3 = await self._connected()
        told = progress or _nobody
        headers = {"Metadata": {"sha256": sha256}, "ContentType": "application/octet-stream"}
        size_bytes = len(body) if isinstance(body, bytes) else await asyncio.to_thread(_size_of, body)
        if isinstance(body, Path) and size_bytes >= PARTS_FROM_BYTES:
            upload = PartsUpload(s3, key, headers=headers, conditional=self._conditional)
            return await upload.run(body, size_bytes, sha256, told)
        checked = await asyncio.to_thread(_checked, body, sha256)
        etag = await self._put(s3, key, checked, sha256, headers)
        told(len(checked))
        return etag

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()

    async def _put(self, s3: S3Connection, key: str, body: bytes, sha256: Digest, headers: dict[str, Any]) -> str:
        if not self._conditional:
            await refuse_existing(s3, key)
        try:
            async with creating(s3, key, size_bytes=len(body), conditional=self._conditional):
                answer = await s3.client.put_object(
                    Bucket=s3.bucket,
                    Key=s3.full_key(key),
                    Body=body,
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                    **headers,
                    **({"IfNoneMatch": "*"} if self._conditional else {}),
                )
        except Unreachable:
            # The Versity gateway refuses before it has read a body, and resets the connection behind its answer,
            # which is lost then. So look: it is there by another writer, or by us.
            await refuse_existing(s3, key)
            raise
        return str(answer["ETag"])

    async def _connected(self) -> S3Connection:
        async with self._opening:
            if self._connection is None:
                self._connection = await S3Connection.open(self._settings)
            return self._connection


def _nobody(_: int) -> None:
    """Hear of progress, and tell nobody."""


# --- blocking, in a worker thread ----------------------------------------------------------------


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise SourceChanged(f"{file} can't be read any more: {error.strerror}") from error


def _checked(body: Path | bytes, sha256: Digest) -> bytes:
    """Take the bytes that are sent, after a look whether they are those that were hashed before."""
    if isinstance(body, Path):
        file = body
        try:
            body = file.read_bytes()
        except OSError as error:
            raise SourceChanged(f"{file} can't be read any more: {error.strerror}") from error
    found = sha256_hash(body).hexdigest()
    if found != sha256:
        raise SourceChanged(f"the bytes are not those that were hashed: now sha256 {found}")
    return body
