"""What only a bucket can say of its keys: checksums on record, denials, and being away and back, on a real MinIO."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from waystation.catalog.plain import PlainCatalog
from waystation.config import CatalogSettings, OriginSettings, Settings
from waystation.disk import Disk
from waystation.errors import Denied, NoChecksum, TargetChanged, Unreachable
from waystation.model import TargetPath
from waystation.origin.opening import open_origin
from waystation.origin.s3_connection import S3Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.s3 import Bucket
    from waystation.telemetry.metrics import Metrics

TARGET = TargetPath("app/app-0.1.0-x86_64")
BODY, OTHER_BODY = b"the bytes\n" * 1000, b"other bytes\n" * 1000
DIGEST = sha256(BODY).hexdigest()


@asynccontextmanager
async def opened(
    origin: OriginSettings, metrics: Metrics, memory: Path | None = None, **settings: Any
) -> AsyncIterator[PlainCatalog]:
    reader = open_origin(Settings(origin=origin), metrics)
    catalog = PlainCatalog(
        reader, memory=memory, disk=Disk(), settings=CatalogSettings(refresh=0, **settings), metrics=metrics
    )
    await catalog.load()
    try:
        yield catalog
    finally:
        await catalog.close()
        await reader.close()


async def test_the_sha256_in_an_objects_metadata_vouches_for_it(
    bucket: Bucket, bucket_settings: OriginSettings, metrics: Metrics
) -> None:
    bucket.put(TARGET, BODY, metadata={"sha256": DIGEST})
    async with opened(bucket_settings, metrics) as catalog:
        artifact = await catalog.resolve(TARGET)
    assert (artifact.digest, artifact.pieces) == (DIGEST, None)


async def test_the_sha256_that_the_bucket_keeps_of_the_whole_object_vouches_for_it(
    bucket: Bucket, bucket_settings: OriginSettings, metrics: Metrics
) -> None:
    bucket.put(TARGET, BODY, stored_sha256=True)
    async with opened(bucket_settings, metrics) as catalog:
        assert (await catalog.resolve(TARGET)).digest == DIGEST


async def test_a_checksum_composed_of_the_parts_checksums_does_not_count(
    bucket: Bucket, bucket_settings: OriginSettings, metrics: Metrics
) -> None:
    parts = [b"1" * 5 * 1024 * 1024, b"2" * 1000]
    await upload_in_parts(bucket_settings, bucket.name, TARGET, parts)
    async with opened(bucket_settings, metrics) as catalog:
        with pytest.raises(NoChecksum):
            await catalog.resolve(TARGET)
    async with opened(bucket_settings, metrics, missing_checksum="pin-first") as catalog:
        assert (await catalog.resolve(TARGET)).digest == sha256(b"".join(parts)).hexdigest()


async def test_the_same_bytes_in_another_revision_go_on_and_other_metadata_is_a_change(
    bucket: Bucket, bucket_settings: OriginSettings, metrics: Metrics
) -> None:
    body = b"1" * 6 * 1024 * 1024
    digest = sha256(body).hexdigest()
    etag = bucket.put(TARGET, body, metadata={"sha256": digest})
    async with opened(bucket_settings, metrics) as catalog:
        assert (await catalog.resolve(TARGET)).etag == etag
        bucket.put(f"{TARGET}.sha256", f"{digest}\n".encode())
        await upload_in_parts(bucket_settings, bucket.name, TARGET, [body])
        artifact = await catalog.resolve(TARGET)
        assert artifact.digest == digest
        assert artifact.etag != etag
        bucket.remove(f"{TARGET}.sha256")
        bucket.put(TARGET, OTHER_BODY, metadata={"sha256": sha256(OTHER_BODY).hexdigest()})
        with pytest.raises(TargetChanged):
            await catalog.resolve(TARGET)


async def test_a_reader_whom_the_bucket_denies_a_key_is_told_so_and_never_that_it_is_missing(
    bucket: Bucket, metrics: Metrics, tmp_path: Path
) -> None:
    allowed = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{bucket.name}/other/*"]}
    keys = bucket.server.create_user_with({"Version": "2012-10-17", "Statement": [allowed]})
    async with opened(bucket.settings(keys.write(tmp_path / "reader")), metrics) as catalog:
        for _ in ("missing", "there"):
            with pytest.raises(Denied) as refusal:
                await catalog.resolve(TARGET)
            assert "s3:ListBucket" in refusal.value.advice
            bucket.put_vouched(TARGET, BODY)
        with pytest.raises(Denied):
            _ = [name async for name in catalog.list("*")]


async def test_while_the_server_is_down_what_is_known_resolves_also_after_a_restart_and_all_once_it_is_back(
    minio_alone: MinioServer, metrics: Metrics, tmp_path: Path
) -> None:
    bucket = minio_alone.create_bucket("artifacts")
    settings = bucket.settings(minio_alone.keys.write(tmp_path / "keys"), connect_timeout=1, request_timeout=2)
    memory, later = tmp_path / "catalog.json", TargetPath("app/later")
    bucket.put_vouched(TARGET, BODY)
    bucket.put_vouched(later, OTHER_BODY)
    async with opened(settings, metrics, memory) as catalog:
        artifact = await catalog.resolve(TARGET)
        minio_alone.stop()
        assert await catalog.resolve(TARGET) == artifact
    async with opened(settings, metrics, memory) as catalog:
        assert await catalog.resolve(TARGET) == artifact
        while True:  # until the circuit is open
            with pytest.raises(Unreachable) as refusal:
                await catalog.resolve(later)
            if wait_s := refusal.value.retry_after_s:
                break
        assert wait_s > 0
        minio_alone.start()
        refusals: list[Unreachable] = []
        while True:  # until the circuit lets a question through: that one must not be refused
            try:
                artifact = await catalog.resolve(later)
                break
            except Unreachable as error:
                refusals.append(error)
        assert artifact.digest == sha256(OTHER_BODY).hexdigest()
        assert all(refusal.retry_after_s for refusal in refusals)


async def upload_in_parts(settings: OriginSettings, bucket: str, key: str, parts: list[bytes]) -> None:
    """Upload as S3 clients do with large files: each part with its own sha256, the whole with a composite one."""
    connection = await S3Connection.open(settings)
    try:
        client = connection.client
        upload = await client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")
        place = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
        done = []
        for number, part in enumerate(parts, start=1):
            checksum = base64.b64encode(sha256(part).digest()).decode()
            sent = await client.upload_part(**place, PartNumber=number, Body=part, ChecksumSHA256=checksum)
            done.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})
        await client.complete_multipart_upload(**place, MultipartUpload={"Parts": done})
    finally:
        await connection.close()
