"""What a publisher does where the origin knows no conditional writes: read back, and say so; or be the only one."""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import pytest

from peers.careless_s3 import CarelessS3
from waystation.config import Settings
from waystation.errors import AlreadyExists, Conflict, Overwritten, Unconditional
from waystation.model import Digest
from waystation.origin.write_s3 import PARTS_FROM_BYTES, S3Writer
from waystation.pieces import parse_pieces
from waystation.publish import Published, Publisher, open_publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket

TARGET = "app/app-1-x86_64"
ANNOUNCED = [TARGET, f"{TARGET}.pieces", f"{TARGET}.sha256"]
OURS, THEIRS = b"our bytes\n" * 5000, b"their bytes\n" * 5000


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[CarelessS3]:
    with CarelessS3(bucket.server, manner="forgets") as proxy:
        yield proxy


def through(
    proxy: CarelessS3, bucket: Bucket, folder: Path, writes: Literal["conditional", "single"] = "conditional"
) -> Settings:
    keys = bucket.server.keys.write(folder / "keys")
    return Settings(origin=bucket.settings(keys, endpoint_url=proxy.endpoint_url, writes=writes))


def write(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


async def publish_as_1(publisher: Publisher, file: Path) -> Published:
    return await publisher.publish(file, app="app", version="1", arch="x86_64")


def checksum_of(body: bytes) -> bytes:
    return f"{sha256(body).hexdigest()}  {TARGET.rpartition('/')[2]}\n".encode()


def is_there(bucket: Bucket, key: str) -> bool:
    return key in set(bucket.keys())


def check_announced(bucket: Bucket, body: bytes) -> None:
    assert bucket.get(TARGET) == body
    assert bucket.get(f"{TARGET}.sha256") == checksum_of(body)
    line, _ = parse_pieces(bucket.get(f"{TARGET}.pieces"))
    assert line.sha256 == sha256(body).hexdigest()


# --- an origin that forgets the condition --------------------------------------------------------


async def test_of_racing_publishers_none_takes_for_done_what_another_one_wrote_over(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    """All of them see that the name is free before the first one writes."""
    settings, arrived, all_there = through(proxy, bucket, tmp_path), 0, asyncio.Event()
    bodies = [b"bundle %d\n" % number * 3000 for number in range(8)]
    loop = asyncio.get_running_loop()

    def together(method: str, path: str) -> None:
        def arrive() -> None:
            nonlocal arrived
            arrived += 1
            if arrived == len(bodies):
                all_there.set()

        async def wait() -> None:
            arrive()
            await all_there.wait()

        if method == "PUT" and path.endswith(TARGET):
            asyncio.run_coroutine_threadsafe(wait(), loop).result(60)

    proxy.before = together

    async def publish(number: int) -> bytes | None:
        file = write(tmp_path / f"bundle-{number}", bodies[number])
        async with open_publisher(settings) as publisher:
            try:
                await publish_as_1(publisher, file)
            except Conflict as conflict:
                assert '[origin] writes = "single"' in conflict.advice  # noqa: PT017 - of all that raise
                return None
        return bodies[number]

    winners = [won for won in await asyncio.gather(*map(publish, range(len(bodies)))) if won]
    assert arrived == len(bodies)
    assert len(winners) <= 1
    for winner in winners:
        check_announced(bucket, winner)


async def test_a_publisher_whose_object_replaced_one_that_was_just_announced_is_told(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    settings = through(proxy, bucket, tmp_path)
    async with open_publisher(settings) as ours, open_publisher(settings) as theirs:
        loop, file = asyncio.get_running_loop(), write(tmp_path / "theirs", THEIRS)

        def be_faster(method: str, path: str) -> None:
            if method == "PUT" and path.endswith(TARGET):
                proxy.before = lambda _method, _path: None
                asyncio.run_coroutine_threadsafe(publish_as_1(theirs, file), loop).result(60)

        proxy.before = be_faster
        with pytest.raises(Overwritten, match=r"announced with other bytes.*created under the name just now"):
            await publish_as_1(ours, write(tmp_path / "ours", OURS))


@pytest.mark.parametrize("key", ANNOUNCED)
async def test_a_publisher_that_is_written_over_at_any_step_is_told(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path, key: str
) -> None:
    async with open_publisher(through(proxy, bucket, tmp_path)) as publisher:
        await publisher.publish(write(tmp_path / "theirs", THEIRS), app="app", version="2", arch="x86_64")
        theirs = bucket.get(key.replace("-1-", "-2-"))

        def write_over(method: str, path: str) -> None:
            if method == "PUT" and path.endswith(key):
                bucket.put(key, theirs)

        proxy.after = write_over
        with pytest.raises(Overwritten) as told:
            await publish_as_1(publisher, write(tmp_path / "ours", OURS))
    assert key in str(told.value)
    assert '[origin] writes = "single"' in told.value.advice


@pytest.mark.parametrize("key", ANNOUNCED[:2])
async def test_a_publisher_that_is_written_over_once_it_has_announced_is_told(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path, key: str
) -> None:
    async with open_publisher(through(proxy, bucket, tmp_path)) as publisher:
        await publisher.publish(write(tmp_path / "theirs", THEIRS), app="app", version="2", arch="x86_64")
        theirs = bucket.get(key.replace("-1-", "-2-"))

        def write_over(method: str, path: str) -> None:
            if method == "PUT" and path.endswith(f"{TARGET}.sha256"):
                bucket.put(key, theirs)

        proxy.after = write_over
        with pytest.raises(Overwritten, match=key):
            await publish_as_1(publisher, write(tmp_path / "ours", OURS))


async def test_the_same_bytes_by_another_publisher_at_the_same_time_are_no_error(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    file = write(tmp_path / "ours", OURS)

    async def publish() -> None:
        async with open_publisher(through(proxy, bucket, tmp_path)) as publisher:
            await publish_as_1(publisher, file)

    await asyncio.gather(*(publish() for _ in range(6)))
    check_announced(bucket, OURS)


async def test_a_large_file_that_is_written_over_is_told_too(bucket: Bucket, proxy: CarelessS3, tmp_path: Path) -> None:
    def write_over(method: str, path: str) -> None:
        if method == "POST" and path.endswith(TARGET) and is_there(bucket, TARGET):
            bucket.put(TARGET, THEIRS)

    proxy.after = write_over
    async with open_publisher(through(proxy, bucket, tmp_path)) as publisher:
        with pytest.raises(Overwritten, match="not what is there any more"):
            await publish_as_1(publisher, large_file(tmp_path / "large")[0])
    assert bucket.keys() == [TARGET]


@pytest.mark.parametrize("ending", [".pieces", ".sha256"])
async def test_what_adopt_announces_is_read_back_too(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path, ending: str
) -> None:
    async with open_publisher(through(proxy, bucket, tmp_path)) as publisher:
        bucket.put("model", THEIRS)
        await publisher.adopt()
        theirs = bucket.get(f"model{ending}")
        bucket.put("one", OURS)

        def write_over(method: str, path: str) -> None:
            if method == "PUT" and path.endswith(f"one{ending}"):
                bucket.put(f"one{ending}", theirs)

        proxy.after = write_over
        results = {result.key: result for result in await publisher.adopt()}
    assert results["one"].outcome == "failed"
    assert f"one{ending}" in (results["one"].why or "")


# --- an origin that refuses the condition --------------------------------------------------------


def large_file(path: Path) -> tuple[Path, Digest]:
    body = os.urandom(1024 * 1024) * (PARTS_FROM_BYTES // 1024**2)
    return write(path, body), Digest(sha256(body).hexdigest())


async def test_an_origin_without_conditional_writes_is_said_so_with_the_setting_that_helps(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    proxy.manner = "refuses"
    async with open_publisher(through(proxy, bucket, tmp_path)) as publisher:
        with pytest.raises(Unconditional, match="501") as told:
            await publish_as_1(publisher, write(tmp_path / "ours", OURS))
        assert '[origin] writes = "single"' in told.value.advice
        with pytest.raises(Unconditional):
            await publish_as_1(publisher, large_file(tmp_path / "large")[0])
        bucket.put("one", OURS)
        (result,) = await publisher.adopt()
        assert result.outcome == "failed"
    assert bucket.keys() == ["one"]
    assert bucket.unfinished_uploads(TARGET) == 0


async def test_a_single_writer_publishes_and_adopts_there_and_replaces_nothing(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    proxy.manner = "refuses"
    ours = write(tmp_path / "ours", OURS)
    async with open_publisher(through(proxy, bucket, tmp_path, "single")) as publisher:
        assert not (await publish_as_1(publisher, ours)).already
        check_announced(bucket, OURS)
        assert (await publish_as_1(publisher, ours)).already
        with pytest.raises(Conflict):
            await publish_as_1(publisher, write(tmp_path / "theirs", THEIRS))
        bucket.put("one", OURS)
        assert {result.key: result.outcome for result in await publisher.adopt()} == {
            TARGET: "already",
            "one": "adopted",
        }
    check_announced(bucket, OURS)


async def test_a_single_writer_looks_before_it_writes_also_before_it_completes_a_large_file(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    proxy.manner = "refuses"
    writer = S3Writer(through(proxy, bucket, tmp_path, "single").origin)
    file, digest = large_file(tmp_path / "large")
    await writer.create("large", file, sha256=digest)
    assert sha256(bucket.get("large")).hexdigest() == digest
    bucket.put("small", THEIRS)
    with pytest.raises(AlreadyExists):
        await writer.create("small", OURS, sha256=Digest(sha256(OURS).hexdigest()))

    def be_faster(_: int) -> None:
        bucket.put("late", THEIRS)

    with pytest.raises(AlreadyExists):
        await writer.create("late", file, sha256=digest, progress=be_faster)
    assert bucket.get("late") == bucket.get("small") == THEIRS
    assert bucket.unfinished_uploads("late") == 0
    await writer.close()


async def test_two_single_writers_at_once_are_told_by_what_they_read_back(
    bucket: Bucket, proxy: CarelessS3, tmp_path: Path
) -> None:
    async def publish(body: bytes) -> bytes | None:
        file = write(tmp_path / sha256(body).hexdigest(), body)
        async with open_publisher(through(proxy, bucket, tmp_path, "single")) as publisher:
            try:
                await publish_as_1(publisher, file)
            except Conflict:
                return None
        return body

    winners = [won for won in await asyncio.gather(publish(OURS), publish(THEIRS)) if won]
    assert len(winners) <= 1
