"""What only a bucket can do: credentials, checksums that S3 keeps, TLS, prefixes, parts; on a real MinIO."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from peers.minio import running_minio
from peers.processes import free_port
from peers.relay import Relay
from peers.s3 import Keys
from peers.scripted_http import Answer, ScriptedHttp
from waystation.errors import AlreadyExists, Denied, OriginError, SourceChanged, Unreachable
from waystation.model import Digest, Span
from waystation.origin.s3 import S3Origin
from waystation.origin.s3_connection import S3Connection
from waystation.origin.write_s3 import PARTS_FROM_BYTES, S3Writer
from waystation.origin.write_s3_parts import MIB, MOST_PARTS, part_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peers.s3 import Bucket
    from peers.toxiproxy import Toxiproxy
    from waystation.config import OriginSettings
    from waystation.origin.interface import Source

BODY = b"some bytes" * 100
DIGEST = sha256(BODY).hexdigest()


@asynccontextmanager
async def opened(settings: OriginSettings, *, stall_timeout_s: float = 5.0) -> AsyncIterator[S3Origin]:
    origin = S3Origin(settings, stall_timeout_s=stall_timeout_s)
    try:
        yield origin
    finally:
        await origin.close()


@asynccontextmanager
async def opened_writer(settings: OriginSettings) -> AsyncIterator[S3Writer]:
    writer = S3Writer(settings)
    try:
        yield writer
    finally:
        await writer.close()


def read(source: Source, span: Span) -> bytes:
    buffer, body = memoryview(bytearray(1 << 20)), b""
    try:
        with source.read(span) as reader:
            while count := reader.readinto(buffer):
                body += buffer[:count]
    finally:
        source.close()
    return body


async def ask_everything(origin: S3Origin) -> list[OriginError]:
    """Make every kind of call, and return the error that each one ended with."""
    errors: list[OriginError] = []

    async def bulk() -> None:
        source = await origin.source("key", if_match=None)
        await asyncio.to_thread(read, source, Span(0, 1))

    async def small() -> None:
        await origin.get("key", limit_bytes=10)

    async def listing() -> None:
        _ = [info async for info in origin.list("")]

    async def head() -> None:
        await origin.head("key")

    for call in (head, small, listing, bulk):
        with pytest.raises(OriginError) as caught:
            await call()
        errors.append(caught.value)
    return errors


# --- checksums on record -------------------------------------------------------------------------


async def test_the_publishers_metadata_is_the_sha256_on_record(bucket: Bucket, bucket_settings: OriginSettings) -> None:
    bucket.put("lower", BODY, metadata={"sha256": DIGEST})
    bucket.put("upper", BODY, metadata={"SHA256": DIGEST.upper()})
    bucket.put("nonsense", BODY, metadata={"sha256": "as if"})
    async with opened(bucket_settings) as origin:
        assert (await origin.head("lower")).sha256 == DIGEST
        assert (await origin.head("upper")).sha256 == DIGEST
        assert (await origin.head("nonsense")).sha256 is None
        assert (await origin.get("lower", limit_bytes=5000))[0].sha256 == DIGEST


async def test_a_stored_checksum_of_the_whole_object_is_on_record(
    bucket: Bucket, bucket_settings: OriginSettings
) -> None:
    bucket.put("with", BODY, stored_sha256=True)
    bucket.put("without", BODY)
    async with opened(bucket_settings) as origin:
        assert (await origin.head("with")).sha256 == DIGEST
        assert (await origin.head("without")).sha256 is None


async def test_a_composite_checksum_of_parts_is_none(bucket: Bucket, bucket_settings: OriginSettings) -> None:
    connection = await S3Connection.open(bucket_settings)
    names: dict[str, Any] = {"Bucket": bucket.name, "Key": "parts"}
    begun = await connection.client.create_multipart_upload(**names, ChecksumAlgorithm="SHA256")
    names["UploadId"] = begun["UploadId"]
    checksum = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    part = await connection.client.upload_part(**names, PartNumber=1, Body=BODY, ChecksumSHA256=checksum)
    listed = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": checksum}
    await connection.client.complete_multipart_upload(**names, MultipartUpload={"Parts": [listed]})
    answer = await connection.client.head_object(Bucket=bucket.name, Key="parts", ChecksumMode="ENABLED")
    assert answer["ChecksumSHA256"]
    await connection.close()
    async with opened(bucket_settings) as origin:
        assert (await origin.head("parts")).sha256 is None
        assert (await origin.get("parts", limit_bytes=5000))[1] == BODY


@pytest.mark.parametrize(
    ("kind", "expected"),
    [({"ChecksumType": "FULL_OBJECT"}, DIGEST), ({}, DIGEST), ({"ChecksumType": "COMPOSITE"}, None)],
)
def test_only_a_checksum_of_the_full_object_counts(kind: dict[str, str], expected: str | None) -> None:
    answer = {"ContentLength": 1, "ETag": '"e"', "LastModified": datetime.now(UTC)}
    checksum = {"ChecksumSHA256": base64.b64encode(bytes.fromhex(DIGEST)).decode()}
    assert S3Connection.describe("key", {**answer, **checksum, **kind}).sha256 == expected


async def test_the_origins_clock_is_told(bucket: Bucket, bucket_settings: OriginSettings) -> None:
    bucket.put("key", BODY)
    async with opened(bucket_settings) as origin:
        served_at = (await origin.head("key")).served_at
    assert served_at is not None
    assert abs(datetime.now(UTC) - served_at) < timedelta(seconds=60)


# --- who may what --------------------------------------------------------------------------------


async def test_a_reader_without_listbucket_is_denied_not_told_that_it_is_missing(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("there", BODY)
    keys = bucket.server.create_user(bucket.name, ["s3:GetObject"])
    async with opened(bucket.settings(keys.write(tmp_path / "keys"))) as origin:
        assert (await origin.get("there", limit_bytes=5000))[1] == BODY
        with pytest.raises(Denied) as denied:
            await origin.head("nothing")
        assert "s3:ListBucket" in denied.value.advice
        with pytest.raises(Denied):
            _ = [info async for info in origin.list("")]


async def test_a_reader_without_getobject_is_denied(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("key", BODY)
    keys = bucket.server.create_user(bucket.name, ["s3:ListBucket"])
    async with opened(bucket.settings(keys.write(tmp_path / "keys"))) as origin:
        assert [info.key async for info in origin.list("")] == ["key"]
        with pytest.raises(Denied):
            await origin.head("key")


async def test_a_publisher_that_may_only_read_is_denied_with_its_own_advice(bucket: Bucket, tmp_path: Path) -> None:
    keys = bucket.server.create_user(bucket.name, ["s3:ListBucket", "s3:GetObject"])
    async with opened_writer(bucket.settings(keys.write(tmp_path / "keys"))) as writer:
        with pytest.raises(Denied) as denied:
            await writer.create("key", BODY, sha256=Digest(DIGEST))
    assert "s3:PutObject" in denied.value.advice


@pytest.mark.parametrize("wrong", ["access", "secret"])
async def test_wrong_keys_are_denied_with_advice_and_without_the_secret(
    bucket: Bucket, tmp_path: Path, wrong: str
) -> None:
    right = bucket.server.keys
    keys = Keys("nobody-knows", right.secret) if wrong == "access" else Keys(right.access, "not-the-secret")
    async with opened(bucket.settings(keys.write(tmp_path / "keys"))) as origin:
        for error in await ask_everything(origin):
            assert isinstance(error, Denied)
            assert keys.secret not in f"{error} {error.advice} {error.__cause__}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("[other]\naws_access_key_id = a\n", r"no profile \[default\]"),
        ("[default]\naws_access_key_id = a\n", "no aws_secret_access_key"),
        ("not an ini file, but s3cr3t", "is not an AWS credentials file"),
        (b"\xff\xfe", "is not an AWS credentials file"),
    ],
)
async def test_a_credentials_file_that_cannot_be_used_says_why(
    bucket: Bucket, tmp_path: Path, content: str | bytes | None, words: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    async with opened(bucket.settings(file)) as origin:
        with pytest.raises(Denied, match=words) as denied:
            await origin.head("key")
    assert str(file) in str(denied.value)
    assert "credentials_file" in denied.value.advice
    assert "s3cr3t" not in str(denied.value)


async def test_credentials_that_systemd_passes_are_read_in_its_folder_and_outside_in_the_unit_s(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("key", BODY)
    settings = bucket_settings.model_copy(update={"credentials_file": Path("%d/credentials")})
    async with opened(settings) as origin:
        with pytest.raises(Denied, match=r"/run/credentials/waystation\.service/credentials can't be read") as denied:
            await origin.head("key")
    assert "--set origin.credentials_file" in denied.value.advice
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    async with opened(settings) as origin:
        assert (await origin.head("key")).size_bytes == len(BODY)


async def test_the_credentials_file_wins_over_the_environment(
    bucket: Bucket, bucket_settings: OriginSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    bucket.put("key", BODY)
    async with opened(bucket_settings) as origin:
        assert (await origin.head("key")).size_bytes == len(BODY)


async def test_without_a_credentials_file_the_standard_chain_is_used(
    bucket: Bucket, bucket_settings: OriginSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("key", BODY)
    settings = bucket_settings.model_copy(update={"credentials_file": None})
    async with opened(settings) as origin:
        with pytest.raises(Denied, match="no usable credentials") as denied:
            await origin.head("key")
        assert "AWS_ACCESS_KEY_ID" in denied.value.advice
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.keys.secret)
    async with opened(settings) as origin:
        assert (await origin.head("key")).size_bytes == len(BODY)


# --- where it is ---------------------------------------------------------------------------------


async def test_a_bucket_that_does_not_exist_is_unreachable_not_a_missing_key(
    bucket: Bucket, bucket_settings: OriginSettings
) -> None:
    async with opened(bucket_settings.model_copy(update={"url": "s3://no-such-bucket"})) as origin:
        for error in await ask_everything(origin):
            assert isinstance(error, Unreachable)
            assert "bucket" in str(error)
            assert "[origin] url" in error.advice


async def test_nobody_listening_is_unreachable(bucket_settings: OriginSettings) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    async with opened(bucket_settings.model_copy(update={"endpoint_url": endpoint})) as origin:
        for error in await ask_everything(origin):
            assert isinstance(error, Unreachable)
            assert "127.0.0.1" in str(error)
            assert "endpoint_url" in error.advice


async def test_a_failing_origin_is_asked_once_a_call(bucket_settings: OriginSettings) -> None:
    """Retries live in one place, above; botocore's own are off."""
    slow_down = Answer("HTTP/1.1 503 Slow Down\r\nContent-Length: 0")
    with ScriptedHttp(lambda _: slow_down) as server:
        async with opened(bucket_settings.model_copy(update={"endpoint_url": server.url})) as origin:
            for error in await ask_everything(origin):
                assert isinstance(error, Unreachable)
                assert "503" in str(error)
        assert [head.partition(" ")[0] for head in server.heads] == ["HEAD", "GET", "GET", "GET"]


async def test_resets_are_unreachable_and_pass(
    bucket: Bucket, bucket_settings: OriginSettings, toxiproxy: Toxiproxy
) -> None:
    bucket.put("key", BODY)
    proxy = toxiproxy.proxy(bucket.server.port)
    async with opened(bucket_settings.model_copy(update={"endpoint_url": proxy.endpoint_url})) as origin:
        with proxy.toxic("reset_peer", timeout=0):
            for error in await ask_everything(origin):
                assert isinstance(error, Unreachable)
        assert (await origin.head("key")).size_bytes == len(BODY)


async def test_a_silent_origin_ends_a_small_call_at_its_timeout_and_a_read_at_the_stall_timeout(
    bucket: Bucket, bucket_settings: OriginSettings
) -> None:
    bucket.put("key", bytes(1_000_000))
    with Relay(bucket.server.port) as relay:
        settings = bucket_settings.model_copy(update={"endpoint_url": relay.endpoint_url, "request_timeout": 0.5})
        async with opened(settings, stall_timeout_s=0.5) as origin:
            source = await origin.source("key", if_match=None)
            relay.stall()
            began = time.monotonic()
            with pytest.raises(Unreachable):
                await origin.head("key")
            with pytest.raises(Unreachable, match="no byte"):
                await asyncio.to_thread(read, source, Span(0, 1_000_000))
            assert 0.9 < time.monotonic() - began < 5
            relay.resume()
            assert (await origin.head("key")).size_bytes == 1_000_000


async def test_proxies_of_the_environment_are_not_used(
    bucket: Bucket, bucket_settings: OriginSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    bucket.put("key", BODY)
    async with opened(bucket_settings) as origin:
        assert (await origin.head("key")).size_bytes == len(BODY)
        source = await origin.source("key", if_match=None)
        assert await asyncio.to_thread(read, source, Span(0, len(BODY))) == BODY


async def test_a_prefix_stands_before_every_key(bucket: Bucket, tmp_path: Path) -> None:
    settings = bucket.settings(bucket.server.keys.write(tmp_path / "keys"), prefix="team/a/")
    async with opened_writer(settings) as writer, opened(settings) as origin:
        bucket.put("team/b", b"not ours")
        bucket.put("team/ab", b"not ours either")
        await writer.create("app/file", BODY, sha256=Digest(DIGEST))
        assert bucket.get("team/a/app/file") == BODY
        assert [info.key async for info in origin.list("")] == ["app/file"]
        assert (await origin.head("app/file")).sha256 == DIGEST
        source = await origin.source("app/file", if_match=None)
        assert await asyncio.to_thread(read, source, Span(0, len(BODY))) == BODY


async def test_a_listing_longer_than_a_page_is_whole(bucket: Bucket, bucket_settings: OriginSettings) -> None:
    keys = [f"key-{number:04}" for number in range(1005)]
    await asyncio.to_thread(lambda: [bucket.put(key, b"") for key in keys])
    async with opened(bucket_settings) as origin:
        assert [info.key async for info in origin.list("")] == keys


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_bucket(authority: trustme.CA, tmp_path: Path) -> Any:
    folder = tmp_path / "certificates"
    folder.mkdir()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "private.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "public.crt", append=True)
    authority.cert_pem.write_to_path(folder / "public.crt", append=True)
    with running_minio(tmp_path / "minio", certificates=folder) as server:
        yield server.create_bucket("secure")


async def test_the_ca_bundle_alone_decides_whom_to_trust(
    secure_bucket: Bucket, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure_bucket.put("key", BODY)
    right, other = tmp_path / "right.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(right)
    trustme.CA().cert_pem.write_to_path(other)
    settings = secure_bucket.settings(secure_bucket.server.keys.write(tmp_path / "keys"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(other))
    async with opened(settings.model_copy(update={"ca_bundle": right})) as origin:
        assert (await origin.get("key", limit_bytes=5000))[1] == BODY
        source = await origin.source("key", if_match=None)
        assert await asyncio.to_thread(read, source, Span(0, len(BODY))) == BODY
    monkeypatch.setenv("AWS_CA_BUNDLE", str(right))
    for bundle in (other, None):
        async with opened(settings.model_copy(update={"ca_bundle": bundle})) as origin:
            for error in await ask_everything(origin):
                assert isinstance(error, Unreachable)
                assert "no trusted connection" in str(error)
                assert "ca_bundle" in error.advice


async def test_without_a_ca_bundle_the_system_decides_whom_to_trust(
    secure_bucket: Bucket, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure_bucket.put("key", BODY)
    authority.cert_pem.write_to_path(tmp_path / "system.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))  # OpenSSL's own way to say what the system trusts
    async with opened(secure_bucket.settings(secure_bucket.server.keys.write(tmp_path / "keys"))) as origin:
        assert (await origin.head("key")).size_bytes == len(BODY)
        source = await origin.source("key", if_match=None)
        assert await asyncio.to_thread(read, source, Span(0, len(BODY))) == BODY


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("no certificate", "holds no certificate")])
async def test_a_ca_bundle_that_cannot_be_used_says_why(
    bucket_settings: OriginSettings, tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    settings = bucket_settings.model_copy(update={"endpoint_url": "https://127.0.0.1:1", "ca_bundle": file})
    async with opened(settings) as origin:
        with pytest.raises(Unreachable, match=words) as unusable:
            await origin.head("key")
    assert str(file) in str(unusable.value)


# --- large objects -------------------------------------------------------------------------------


def large_file(path: Path, size_bytes: int) -> tuple[Path, Digest]:
    block = os.urandom(MIB)
    hasher = sha256()
    with path.open("wb") as file:
        for at in range(0, size_bytes, MIB):
            part = block[: size_bytes - at]
            file.write(part)
            hasher.update(part)
    return path, Digest(hasher.hexdigest())


async def test_a_large_file_goes_up_in_parts_and_is_the_same(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path
) -> None:
    size_bytes = PARTS_FROM_BYTES + 12_345
    file, digest = large_file(tmp_path / "large", size_bytes)
    heard: list[int] = []
    async with opened_writer(bucket_settings) as writer, opened(bucket_settings) as origin:
        etag = await writer.create("large", file, sha256=digest, progress=heard.append)
        created = await origin.head("large")
        assert (created.etag, created.size_bytes, created.sha256) == (etag, size_bytes, digest)
        assert etag.rstrip('"').endswith("-5")
        assert heard == sorted(heard)
        assert (len(heard), heard[-1]) == (5, size_bytes)
        source = await origin.source("large", if_match=etag)
        assert sha256(await asyncio.to_thread(read, source, Span(0, size_bytes))).hexdigest() == digest
        with pytest.raises(AlreadyExists):
            await writer.create("large", file, sha256=digest)


async def test_a_large_file_that_changed_creates_nothing_and_leaves_no_parts(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path
) -> None:
    file, _ = large_file(tmp_path / "large", PARTS_FROM_BYTES)
    async with opened_writer(bucket_settings) as writer:
        with pytest.raises(SourceChanged):
            await writer.create("large", file, sha256=Digest(DIGEST))
    assert bucket.keys() == []
    assert bucket.unfinished_uploads("large") == 0


async def test_a_large_upload_survives_a_lost_connection(
    bucket: Bucket, bucket_settings: OriginSettings, tmp_path: Path
) -> None:
    file, digest = large_file(tmp_path / "large", PARTS_FROM_BYTES)
    with Relay(bucket.server.port) as relay:
        cut_at = [MIB, 20 * MIB]

        def cut(sent_bytes: int) -> None:
            if cut_at and sent_bytes >= cut_at[0]:
                cut_at.pop(0)
                relay.cut()

        settings = bucket_settings.model_copy(update={"endpoint_url": relay.endpoint_url})
        async with opened_writer(settings) as writer:
            await writer.create("large", file, sha256=digest, progress=cut)
    assert sha256(bucket.get("large")).hexdigest() == digest


@pytest.mark.parametrize("size_bytes", [0, 1, PARTS_FROM_BYTES, 10**10, 160 * 10**9, 5 * 1024**4])
def test_no_file_has_more_parts_than_s3_allows(size_bytes: int) -> None:
    parts = -(-size_bytes // part_size(size_bytes))
    assert parts <= MOST_PARTS
    assert part_size(size_bytes) % MIB == 0
    assert part_size(size_bytes) <= 5 * 1024**3


# --- memory and start ----------------------------------------------------------------------------


def test_nothing_of_botocore_is_imported_before_the_first_call() -> None:
    script = """
import sys
from waystation.config import OriginSettings
from waystation.origin.s3 import S3Origin
S3Origin(OriginSettings(url="s3://bucket"), stall_timeout_s=1.0)
print([name for name in sys.modules if name.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp")])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
