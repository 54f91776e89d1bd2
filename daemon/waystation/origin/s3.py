"""An origin that is an S3 bucket, or a part of one: small calls through aiobotocore, bulk through a presigned URL."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

from waystation.errors import Short, TooLarge
from waystation.origin.http_range import HttpSource
from waystation.origin.interface import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import ModuleType

    from waystation.config import OriginSettings
    from waystation.origin.interface import Source
    from waystation.origin.s3_connection import S3Connection

PRESIGNED_FOR_S = 24 * 3600


class S3Origin:
    """Reads the keys below the settings' prefix; connects, and imports botocore, with its first call."""

    def __init__(self, settings: OriginSettings, *, stall_timeout_s: float) -> None:
        self._settings = settings
        self._stall_timeout_s = stall_timeout_s
        self._opening = asyncio.Lock()
        self._connection: S3Connection | None = None

    async def head(self, key: str) -> ObjectInfo:
        return await (await self._connected()).head(key)

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        s3 = await self._connected()
        with s3.explaining(key):
            response = await s3.client.get_object(Bucket=s3.bucket, Key=s3.full_key(key), ChecksumMode="ENABLED")
            async with response["Body"] as stream:
                info = s3.describe(key, response)
                if info.size_bytes > limit_bytes:
                    raise TooLarge(f"'{key}' has {info.size_bytes} bytes, expected at most {limit_bytes}")
                body: bytes = await stream.read()
        if len(body) != info.size_bytes:
            raise Short(f"{len(body)} bytes of '{key}' came, expected {info.size_bytes}")
        return info, body

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        s3 = await self._connected()
        start = {"StartAfter": s3.full_key(after)} if after else {}
        paginator = s3.client.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=s3.bucket, Prefix=s3.full_key(prefix), **start)
        following = aiter(pages)
        while True:
            with s3.explaining(prefix):
                page = await anext(following, None)
                if page is None:
                    return
                found = _listed(page, s3.prefix)
            for info in found:
                yield info

    async def source(self, key: str, *, if_match: str | None) -> Source:
        s3 = await self._connected()
        with s3.explaining(key):
            url = await s3.presigned(key, PRESIGNED_FOR_S)
        return HttpSource(
            url,
            key=key,
            if_match=if_match,
            connect_timeout_s=self._settings.connect_timeout,
            stall_timeout_s=self._stall_timeout_s,
            tls=s3.tls,
        )

    @asynccontextmanager
    async def changes(self, prefix: str) -> AsyncIterator[AsyncIterator[str]]:
        s3 = await self._connected()
        events = await asyncio.to_thread(_import_events)
        async with events.listen(s3, prefix, connect_timeout_s=self._settings.connect_timeout) as keys:
            yield keys

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()

    async def _connected(self) -> S3Connection:
        async with self._opening:
            if self._connection is None:
                connect = await asyncio.to_thread(_import_connection)
                self._connection = await connect.open(self._settings)
            return self._connection


def _listed(page: Mapping[str, Any], prefix: str) -> list[ObjectInfo]:
    """Read a page; what has no word on whether it is the last one is none, whatever botocore made of it."""
    _ = page["IsTruncated"]
    return [
        ObjectInfo(
            key=item["Key"].removeprefix(prefix),
            size_bytes=int(item["Size"]),
            etag=str(item["ETag"]),
            modified=item["LastModified"].astimezone(UTC),
            sha256=None,
            served_at=None,
        )
        for item in page.get("Contents", ())
    ]


def _import_events() -> ModuleType:
    from waystation.origin import s3_events  # noqa: PLC0415 - as below

    return s3_events


def _import_connection() -> type[S3Connection]:
    """Import botocore, which takes a third of a second, once it is needed and beside the loop."""
    from waystation.origin.s3_connection import S3Connection  # noqa: PLC0415

    return S3Connection
