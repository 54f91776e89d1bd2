"""A large file becomes one S3 object: in parts, some of them at once, read and hashed once from start to end."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import asynccontextmanager
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from waystation.errors import AlreadyExists, Denied, Missing, OriginError, SourceChanged, Unconditional, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from waystation.model import Digest
    from waystation.origin.s3_connection import S3Connection

MIB = 1024**2
SMALLEST_PART_BYTES = 16 * MIB
MOST_PARTS = 10_000  # S3's own limit
IN_FLIGHT_BYTES = 64 * MIB
PATIENCE_S = 60.0  # S3 may need a while to put many parts together
SLOWEST_BYTES_PER_S = 64 * 1024  # an upload slower than this counts as stalled
PART_ATTEMPTS = 7
LONGEST_BACKOFF_S = 10.0  # all pauses together last half a minute at the most: S3 is started anew meanwhile
WRITER_ADVICE = (
    "Check the publisher's credentials and policy: it needs s3:PutObject, s3:GetObject and s3:AbortMultipartUpload on "
    "the keys, and s3:ListBucket on the bucket."
)

_log = structlog.get_logger()


class PartsUpload:
    """The upload of one file to one key; `headers` go with the object."""

    def __init__(self, s3: S3Connection, key: str, *, headers: dict[str, Any], conditional: bool) -> None:
        self._s3 = s3
        self._key = key
        self._headers = headers
        self._conditional = conditional
        self._names = {"Bucket": s3.bucket, "Key": s3.full_key(key)}

    async def run(self, file: Path, size_bytes: int, digest: Digest, told: Callable[[int], None]) -> str:
        """Upload the whole file, or leave nothing behind; returns its ETag; `told` hears how many bytes were sent.

        Raises:
            AlreadyExists: the key is there, before or when all parts were sent.
            SourceChanged: the file is no longer what was hashed before.
        """
        await refuse_existing(self._s3, self._key)
        beginning = asyncio.create_task(self._begin())
        try:
            await asyncio.shield(beginning)
            parts = await self._send_all(file, size_bytes, digest, told)
            return await self._complete(parts)
        except BaseException:
            await asyncio.wait([beginning])  # given up just now, it may still have begun
            if "UploadId" in self._names:
                await self._abort()
            raise

    async def _begin(self) -> None:
        async with creating(self._s3, self._key):
            begun = await self._s3.client.create_multipart_upload(**self._names, **self._headers)
        self._names["UploadId"] = begun["UploadId"]

    async def _send_all(
        self, file: Path, size_bytes: int, digest: Digest, told: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        part_bytes = part_size(size_bytes)
        places = asyncio.Semaphore(max(1, IN_FLIGHT_BYTES // part_bytes))
        hasher, sent, sent_bytes = sha256(), dict[int, str](), 0

        async def send(number: int, part: bytes) -> None:
            nonlocal sent_bytes
            sent[number] = await self._send(number, part)
            places.release()
            sent_bytes += len(part)
            told(sent_bytes)

        try:
            with await asyncio.to_thread(file.open, "rb") as source:
                async with asyncio.TaskGroup() as tasks:
                    for number in itertools.count(1):
                        await places.acquire()
                        part = await asyncio.to_thread(source.read, part_bytes)
                        if not part or number > MOST_PARTS:
                            break
                        await asyncio.to_thread(hasher.update, part)
                        tasks.create_task(send(number, part))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        except OSError as error:
            raise SourceChanged(f"{file} can't be read any more: {error.strerror}") from error
        if hasher.hexdigest() != digest:
            raise SourceChanged(f"{file} is not what was hashed: now sha256 {hasher.hexdigest()}")
        return [{"PartNumber": number, "ETag": sent[number]} for number in sorted(sent)]

    async def _send(self, number: int, part: bytes) -> str:
        """Send one part, again where that may help: neither a lost connection nor a restart may cost a large upload."""
        attempt = 1
        while True:
            try:
                async with creating(self._s3, self._key, size_bytes=len(part)):
                    answer = await self._s3.client.upload_part(**self._names, PartNumber=number, Body=part)
                return str(answer["ETag"])
            except OriginError as error:
                if not error.transient or attempt == PART_ATTEMPTS:
                    raise
            await asyncio.sleep(min(2 ** (attempt - 1), LONGEST_BACKOFF_S) * random.uniform(0.5, 1))  # noqa: S311 - not a secret
            attempt += 1

    async def _complete(self, parts: list[dict[str, Any]]) -> str:
        if not self._conditional:
            await refuse_existing(self._s3, self._key)
        async with creating(self._s3, self._key, conditional=self._conditional):
            answer = await self._s3.client.complete_multipart_upload(
                **self._names,
                MultipartUpload={"Parts": parts},
                **({"IfNoneMatch": "*"} if self._conditional else {}),
            )
        return str(answer["ETag"])

    async def _abort(self) -> None:
        try:
            async with creating(self._s3, self._key):
                await self._s3.client.abort_multipart_upload(**self._names)
        except Missing:
            pass  # S3 knows of no such upload: nothing is left
        except OriginError as error:
            _log.warning("upload_left_behind", key=self._key, upload=self._names["UploadId"], error=str(error))


def part_size(size_bytes: int) -> int:
    """Choose whole MiB, so that the file has at most `MOST_PARTS` parts."""
    return max(SMALLEST_PART_BYTES, -(-size_bytes // (MOST_PARTS * MIB)) * MIB)


async def refuse_existing(s3: S3Connection, key: str) -> None:
    """Look before writing, where only that prevents a replacement or spares an upload that is refused at its end."""
    try:
        await s3.head(key)
    except Missing:
        return
    raise AlreadyExists(f"'{key}' is already in the origin")


@asynccontextmanager
async def creating(
    s3: S3Connection, key: str, *, size_bytes: int = 0, conditional: bool = False
) -> AsyncIterator[None]:
    """Explain what S3 says to a writer, and give it the time that a body of `size_bytes` may take.

    `conditional`: the request carries ``If-None-Match``, so a 501 is about that.
    """
    try:
        with s3.explaining(key):
            try:
                async with asyncio.timeout(PATIENCE_S + size_bytes / SLOWEST_BYTES_PER_S):
                    yield
            except TimeoutError as error:
                raise Unreachable(f"the upload of '{key}' made no progress") from error
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT):
                    raise AlreadyExists(f"'{key}' is already in the origin") from error
                if conditional and status == HTTPStatus.NOT_IMPLEMENTED:
                    raise Unconditional(
                        f"the origin can't create '{key}' only where it is not there yet (501)"
                    ) from error
                raise
    except Denied as error:
        if error.advice == Denied.advice:
            error.advice = WRITER_ADVICE
        raise
