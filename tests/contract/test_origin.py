"""What every origin promises: the same suite on a folder, on buckets, and over HTTP on what nginx, a public bucket
and a hub give of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from mirrors import running_mirror
from peers.nginx import running_nginx
from peers.places import BucketPlace, FolderPlace, HubPlace, Place, ServedPlace
from waystation.config import Settings
from waystation.disk import Disk
from waystation.errors import (
    AlreadyExists,
    Missing,
    NotListable,
    OriginError,
    RevisionChanged,
    Short,
    SourceChanged,
    TooLarge,
    Unreachable,
)
from waystation.model import Digest, Span
from waystation.origin.directory import DirectoryOrigin
from waystation.origin.hops import Hops
from waystation.origin.http_origin import HttpOrigin
from waystation.origin.s3 import S3Origin
from waystation.origin.write_directory import DirectoryWriter
from waystation.origin.write_s3 import S3Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from peers.s3 import S3Server
    from waystation.origin.interface import ObjectInfo, Origin, OriginWriter, Source

_numbers = itertools.count(1)

ODD_KEYS = [
    "app/app-0.1.0-x86_64",
    "with space",
    "üñí/çødé-日本.tar.gz",
    "plus+and%20percent%",
    "quo'te\"s",
    "a&b=c?d#e;f",
    "~tilde!(paren)*star",
    "deep/er/and/deep/er/file",
]


WRITABLE = ["folder", "minio", "versitygw"]
SERVED = ["nginx", "nginx-without-etags", "public-bucket"]
NO_LIST = SERVED
"""Nobody can list these over HTTP."""


@pytest.fixture(params=[*WRITABLE, *SERVED, "hub"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    kind = request.param
    folder = FolderPlace(tmp_path / "origin")
    folder.root.mkdir()
    async with AsyncExitStack() as stack:
        if kind == "folder":
            yield folder
        elif kind in ("minio", "versitygw", "public-bucket"):
            server: S3Server = request.getfixturevalue("minio" if kind == "public-bucket" else kind)
            bucket = server.create_bucket(f"origin-{next(_numbers)}")
            own = BucketPlace(bucket, Settings(origin=bucket.settings(server.keys.write(tmp_path / "place-keys"))))
            if kind == "public-bucket":
                bucket.make_public(listing=True)
            yield ServedPlace(f"{server.endpoint_url}/{bucket.name}", own) if kind == "public-bucket" else own
        elif kind == "hub":
            hub = await stack.enter_async_context(running_mirror(tmp_path))
            yield HubPlace(f"{hub.mirror.urls[0]}/artifacts", folder)
        else:
            nginx = running_nginx(tmp_path / "nginx", tmp_path, etag=kind == "nginx")
            yield ServedPlace(f"{stack.enter_context(nginx).url}/origin/", folder)


@pytest.fixture
async def origin(place: Place) -> AsyncIterator[Origin]:
    settings = place.settings.origin
    opened: Origin
    if settings.http_base:
        opened = HttpOrigin(settings, stall_timeout_s=5.0, hops=Hops())
    elif settings.folder:
        opened = DirectoryOrigin(settings.folder, disk=Disk())
    else:
        opened = S3Origin(settings, stall_timeout_s=5.0)
    yield opened
    await opened.close()


@pytest.fixture
async def writer(place: Place) -> AsyncIterator[OriginWriter]:
    folder = place.settings.origin.folder
    opened: OriginWriter = S3Writer(place.settings.origin) if folder is None else DirectoryWriter(folder, disk=Disk())
    yield opened
    await opened.close()


only_writable = pytest.mark.parametrize("place", WRITABLE, indirect=True)
only_replaceable = pytest.mark.parametrize("place", [*WRITABLE, *SERVED], indirect=True)
"""Behind a hub a name never changes its bytes."""
only_listable = pytest.mark.parametrize("place", [*WRITABLE, "hub"], indirect=True)


def digest_of(body: bytes) -> Digest:
    return Digest(sha256(body).hexdigest())


def timeless(info: ObjectInfo) -> ObjectInfo:
    """All but the moment when it was asked for."""
    return replace(info, served_at=None)


def read_span(source: Source, span: Span, buffer_bytes: int = 64 * 1024) -> bytes:
    """Read as a worker thread does: one buffer, filled again and again."""
    buffer, body = memoryview(bytearray(buffer_bytes)), b""
    with source.read(span) as reader:
        while count := reader.readinto(buffer):
            body += buffer[:count]
    return body


# --- head and get --------------------------------------------------------------------------------


async def test_head_describes_what_is_there(place: Place, origin: Origin) -> None:
    place.put("app/file", b"twelve bytes")
    info = await origin.head("app/file")
    assert (info.key, info.size_bytes) == ("app/file", 12)
    assert info.etag
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)


@only_replaceable
async def test_the_etag_stays_until_the_object_is_replaced(place: Place, origin: Origin) -> None:
    place.put("file", b"first")
    first = await origin.head("file")
    assert (await origin.head("file")).etag == first.etag
    place.put("file", b"other")
    assert (await origin.head("file")).etag != first.etag


@pytest.mark.parametrize("key", ["nothing", "app", "app/nothing", "app/file/below", "x" * 800])
async def test_what_is_not_there_is_missing(place: Place, origin: Origin, key: str) -> None:
    place.put("app/file", b"body")
    with pytest.raises(Missing):
        await origin.head(key)
    with pytest.raises(Missing):
        await origin.get(key, limit_bytes=100)
    with pytest.raises(Missing):  # noqa: PT012 - where it is noticed is the origin's choice
        source = await origin.source(key, if_match=None)
        await asyncio.to_thread(read_span, source, Span(0, 1))


async def test_get_reads_a_small_body_whole(place: Place, origin: Origin) -> None:
    place.put("file", b"x" * 1000)
    info, body = await origin.get("file", limit_bytes=1000)
    assert body == b"x" * 1000
    assert info.etag == (await origin.head("file")).etag


async def test_get_reads_an_empty_body(place: Place, origin: Origin) -> None:
    place.put("file", b"")
    assert (await origin.get("file", limit_bytes=0))[1] == b""


async def test_a_body_beyond_the_limit_is_too_large(place: Place, origin: Origin) -> None:
    place.put("file", b"x" * 1001)
    with pytest.raises(TooLarge, match="1001 bytes, expected at most 1000"):
        await origin.get("file", limit_bytes=1000)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_odd_keys_are_keys_like_any_other(place: Place, origin: Origin, key: str) -> None:
    body = key.encode() * 10
    place.put(key, body)
    etag = (await origin.head(key)).etag
    assert (await origin.get(key, limit_bytes=1000))[1] == body
    if not isinstance(place, ServedPlace):
        assert [info.key async for info in origin.list("") if info.key in place.all_keys()] == [key]
    source = await origin.source(key, if_match=etag)
    assert await asyncio.to_thread(read_span, source, Span(1, 20)) == body[1:20]
    source.close()


# --- list ----------------------------------------------------------------------------------------


@only_listable
async def test_list_gives_keys_in_the_order_of_their_bytes(place: Place, origin: Origin) -> None:
    keys = ["a-b", "a/x", "a/y/z", "a.b", "a0", "B", "é", "z", "a/x-sha256"]
    for key in keys:
        place.put(key, key.encode())
        await origin.head(key)
    found = [info async for info in origin.list("")]
    assert [info.key for info in found] == sorted(keys, key=str.encode)
    assert [info.size_bytes for info in found] == [len(info.key.encode()) for info in found]
    assert found[0].etag == (await origin.head(found[0].key)).etag


@only_listable
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("app/", ["app/one", "app/two/three"]),
        ("app", ["app/one", "app/two/three", "apple"]),
        ("app/t", ["app/two/three"]),
        ("app/two/three", ["app/two/three"]),
        ("nothing", []),
        ("app/one/", []),
    ],
)
async def test_list_keeps_to_its_prefix(place: Place, origin: Origin, prefix: str, expected: list[str]) -> None:
    for key in ["app/one", "app/two/three", "apple", "b"]:
        place.put(key, b"body")
    assert [info.key async for info in origin.list(prefix)] == expected


@only_listable
async def test_an_empty_origin_lists_nothing(origin: Origin) -> None:
    assert [info async for info in origin.list("")] == []


@only_listable
async def test_a_list_goes_on_behind_any_name(place: Place, origin: Origin) -> None:
    keys = ["B", "a-b", "a.b", "a/x", "a/x-1", "a/y/z", "a0", "z", "é"]
    for key in keys:
        place.put(key, b"body")
    for after in ("a/x", "a/x-", "a", "a-b", "a/y", "a/y/z", "B", "é", "z", "zz"):
        for prefix in ("", "a/"):
            found = [info.key async for info in origin.list(prefix, after=after)]
            assert found == [key for key in keys if key > after and key.startswith(prefix)]


@pytest.mark.parametrize("place", NO_LIST, indirect=True)
async def test_what_cannot_be_listed_says_so(place: Place, origin: Origin) -> None:
    place.put("app/file", b"body")
    with pytest.raises(NotListable, match="can't be listed"):
        _ = [info async for info in origin.list("")]


# --- ranges --------------------------------------------------------------------------------------


async def test_ranges_give_exactly_their_bytes(place: Place, origin: Origin) -> None:
    body = os.urandom(3_000_001)
    place.put("file", body)
    info = await origin.head("file")
    source = await origin.source("file", if_match=info.etag)
    spans = [(0, 1), (0, len(body)), (1, 2), (len(body) - 1, len(body)), (1_000_000, 2_000_001), (5, 5)]
    for start, stop in spans:
        assert await asyncio.to_thread(read_span, source, Span(start, stop)) == body[start:stop]
    source.close()


async def test_the_buffer_is_filled_until_the_span_ends(place: Place, origin: Origin) -> None:
    body = os.urandom(250_000)
    place.put("file", body)
    source = await origin.source("file", if_match=None)

    def counts() -> list[int]:
        buffer = memoryview(bytearray(100_000))
        with source.read(Span(0, 250_000)) as reader:
            return [reader.readinto(buffer) for _ in range(4)]

    assert await asyncio.to_thread(counts) == [100_000, 100_000, 50_000, 0]
    source.close()


async def test_one_source_serves_many_threads_at_once(place: Place, origin: Origin) -> None:
    body = os.urandom(4_000_000)
    place.put("file", body)
    source = await origin.source("file", if_match=(await origin.head("file")).etag)
    spans = [Span(at, at + 500_000) for at in range(0, len(body), 500_000)]
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(16) as pool:  # not the loop's own threads, which a hub in this process needs
        parts = await asyncio.gather(*(loop.run_in_executor(pool, read_span, source, span) for span in spans * 2))
    assert b"".join(parts) == body * 2
    source.close()


@only_replaceable
async def test_a_replaced_object_is_noticed_by_every_read_of_the_old_revision(place: Place, origin: Origin) -> None:
    place.put("file", b"first" * 100)
    info = await origin.head("file")
    source = await origin.source("file", if_match=info.etag)
    assert await asyncio.to_thread(read_span, source, Span(0, 5)) == b"first"
    place.put("file", b"other" * 100)
    with pytest.raises(RevisionChanged):
        await asyncio.to_thread(read_span, source, Span(0, 5))
    source.close()


@only_replaceable
async def test_a_source_without_a_revision_keeps_to_the_first_one_it_saw(place: Place, origin: Origin) -> None:
    place.put("file", b"first" * 100)
    source = await origin.source("file", if_match=None)
    assert await asyncio.to_thread(read_span, source, Span(0, 5)) == b"first"
    place.put("file", b"other" * 100)
    with pytest.raises(RevisionChanged):
        await asyncio.to_thread(read_span, source, Span(5, 10))
    source.close()


async def test_a_span_beyond_the_end_is_short(place: Place, origin: Origin) -> None:
    place.put("file", b"x" * 100)
    source = await origin.source("file", if_match=None)
    for span in (Span(50, 101), Span(100, 101), Span(500, 600)):
        with pytest.raises(Short):
            await asyncio.to_thread(read_span, source, span)
    source.close()


async def test_a_reader_left_early_does_not_disturb_the_next(place: Place, origin: Origin) -> None:
    body = os.urandom(5_000_000)
    place.put("file", body)
    source = await origin.source("file", if_match=None)

    def leave_early() -> None:
        with source.read(Span(0, len(body))) as reader:
            reader.readinto(memoryview(bytearray(1000)))

    await asyncio.to_thread(leave_early)
    assert await asyncio.to_thread(read_span, source, Span(1000, 3000)) == body[1000:3000]
    source.close()


async def test_an_aborted_reader_ends_with_an_error(place: Place, origin: Origin) -> None:
    place.put("file", bytes(100_000_000))
    source = await origin.source("file", if_match=None)
    begun = threading.Event()
    readers = []

    def read_all() -> None:
        buffer = memoryview(bytearray(64 * 1024))
        with source.read(Span(0, 100_000_000)) as reader:
            readers.append(reader)
            begun.set()
            while reader.readinto(buffer):
                pass

    reading = asyncio.create_task(asyncio.to_thread(read_all))
    await asyncio.to_thread(begun.wait)
    readers[0].abort()
    readers[0].abort()
    with pytest.raises(Unreachable, match="given up"):
        await asyncio.wait_for(reading, 5)
    source.close()


async def test_closing_the_source_fails_its_readers_and_further_reads(place: Place, origin: Origin) -> None:
    place.put("file", bytes(20_000_000))
    source = await origin.source("file", if_match=None)

    def close_in_the_middle() -> None:
        buffer = memoryview(bytearray(64 * 1024))
        with source.read(Span(0, 20_000_000)) as reader:
            reader.readinto(buffer)
            source.close()
            while reader.readinto(buffer):
                pass

    with pytest.raises(OriginError):
        await asyncio.to_thread(close_in_the_middle)
    with pytest.raises(Unreachable):
        await asyncio.to_thread(read_span, source, Span(0, 1))


# --- create --------------------------------------------------------------------------------------


@only_writable
async def test_created_from_bytes_or_a_file_it_is_there_whole(
    origin: Origin, writer: OriginWriter, tmp_path: Path
) -> None:
    body = os.urandom(300_000)
    (tmp_path / "body").write_bytes(body)
    for key, given in (("from/bytes", body), ("from/file", tmp_path / "body")):
        heard: list[int] = []
        etag = await writer.create(key, given, sha256=digest_of(body), progress=heard.append)
        assert (await origin.head(key)).etag == etag
        assert (await origin.get(key, limit_bytes=len(body)))[1] == body
        assert heard[-1] == len(body)


@only_writable
async def test_what_is_there_is_never_replaced(place: Place, writer: OriginWriter) -> None:
    place.put("file", b"first")
    with pytest.raises(AlreadyExists):
        await writer.create("file", b"other", sha256=digest_of(b"other"))
    assert place.get("file") == b"first"
    assert place.all_keys() == ["file"]


@only_writable
async def test_a_create_that_is_refused_before_its_body_was_read_is_told_why(
    place: Place, writer: OriginWriter
) -> None:
    """The Versity gateway resets such a connection, and its answer is lost with it."""
    place.put("file", b"first")
    bodies = [os.urandom(4_000_000) for _ in range(4)]
    outcomes = await asyncio.gather(
        *(writer.create("file", body, sha256=digest_of(body)) for body in bodies), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [AlreadyExists] * 4


@only_writable
async def test_of_sixteen_racing_creates_exactly_one_wins(place: Place, writer: OriginWriter) -> None:
    bodies = [f"body of writer {number}".encode() * 5000 for number in range(16)]

    async def create(body: bytes) -> bool:
        try:
            await writer.create("app/file", body, sha256=digest_of(body))
        except AlreadyExists:
            return False
        return True

    won = await asyncio.gather(*(create(body) for body in bodies))
    assert won.count(True) == 1
    assert place.get("app/file") == bodies[won.index(True)]
    assert place.all_keys() == ["app/file"]


@only_writable
async def test_a_body_that_is_not_what_was_hashed_creates_nothing(
    place: Place, writer: OriginWriter, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(b"now something else")
    for given in (b"now something else", tmp_path / "body"):
        with pytest.raises(SourceChanged):
            await writer.create("file", given, sha256=digest_of(b"what it was"))
    assert place.all_keys() == []


@only_writable
async def test_a_file_that_is_gone_creates_nothing(place: Place, writer: OriginWriter, tmp_path: Path) -> None:
    with pytest.raises(SourceChanged):
        await writer.create("file", tmp_path / "gone", sha256=digest_of(b""))
    assert place.all_keys() == []


@only_writable
async def test_a_create_that_is_cancelled_leaves_nothing(place: Place, writer: OriginWriter, tmp_path: Path) -> None:
    big, size_bytes = tmp_path / "big", 200_000_000
    with big.open("wb") as file:
        file.truncate(size_bytes)
    digest = digest_of(bytes(size_bytes))
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def hear(_: int) -> None:
        loop.call_soon_threadsafe(begun.set)

    creating = asyncio.create_task(writer.create("file", big, sha256=digest, progress=hear))
    await begun.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert place.all_keys() == []
