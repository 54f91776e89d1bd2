"""What an origin tells by itself: MinIO's notifications, and in which words others say that they can't."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from peers.minio import running_minio
from peers.provide import MINIO_THAT_TELLS
from peers.relay import Relay
from waystation.config import Settings
from waystation.errors import NotWatchable, Unreachable
from waystation.origin import s3_events
from waystation.origin.opening import open_origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.versitygw import VersityServer
    from waystation.config import OriginSettings
    from waystation.origin.resilient import ResilientOrigin
    from waystation.telemetry.metrics import Metrics


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with running_minio(tmp_path_factory.mktemp("telling"), pin=MINIO_THAT_TELLS) as server:
        yield server


@pytest.fixture(autouse=True)
def often_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the head of the answer come within a second."""
    monkeypatch.setattr(s3_events, "PING_S", 1)


@asynccontextmanager
async def opened(settings: OriginSettings, metrics: Metrics) -> AsyncIterator[ResilientOrigin]:
    origin = open_origin(Settings(origin=settings), metrics)
    try:
        yield origin
    finally:
        await origin.close()


def watches(metrics: Metrics) -> dict[str, float]:
    samples = next(iter(metrics.origin_requests.collect())).samples
    return {
        sample.labels["outcome"]: sample.value
        for sample in samples
        if sample.name.endswith("_total") and sample.labels["op"] == "watch"
    }


async def told(keys: AsyncIterator[str], count: int) -> list[str]:
    async with asyncio.timeout(20):
        return [await anext(keys) for _ in range(count)]


async def test_every_key_below_the_prefixes_that_is_created_or_removed_is_told_by_its_own_name(
    telling: MinioServer, tmp_path: Path, metrics: Metrics
) -> None:
    bucket = telling.create_bucket("keys-told")
    settings = bucket.settings(telling.keys.write(tmp_path / "credentials"), prefix="live/here")
    async with opened(settings, metrics) as origin, origin.changes("app/") as keys:
        odd = "app/a b+c~é%41-1.0-x86_64"
        for key in ("live/here/other/x", "live/elsewhere/app/x", f"live/here/{odd}", "live/here/app/two.sha256"):
            await asyncio.to_thread(bucket.put, key, b"x")
        await asyncio.to_thread(bucket.remove, "live/here/app/two.sha256")
        assert await told(keys, 3) == [odd, "app/two.sha256", "app/two.sha256"]
        assert watches(metrics) == {"ok": 1}


async def test_a_reader_without_the_right_is_told_which_one_it_lacks(
    telling: MinioServer, tmp_path: Path, metrics: Metrics
) -> None:
    bucket = telling.create_bucket("not-for-all")
    keys = telling.create_user(bucket.name, ["s3:GetObject", "s3:ListBucket"])
    allowed = telling.create_user(bucket.name, ["s3:ListBucket", "s3:ListenBucketNotification"])
    async with opened(bucket.settings(keys.write(tmp_path / "reader")), metrics) as origin:
        with pytest.raises(NotWatchable) as refused:
            async with origin.changes(""):
                pass
        assert "s3:ListenBucketNotification" in refused.value.advice
        assert origin.status().up
    async with opened(bucket.settings(allowed.write(tmp_path / "allowed")), metrics) as origin, origin.changes(""):
        assert watches(metrics) == {"not_watchable": 1, "ok": 1}


async def test_a_stream_that_breaks_says_so(telling: MinioServer, tmp_path: Path, metrics: Metrics) -> None:
    bucket = telling.create_bucket("breaks-off")
    with Relay(telling.port) as relay:
        settings = bucket.settings(telling.keys.write(tmp_path / "keys"), endpoint_url=relay.endpoint_url)
        async with opened(settings, metrics) as origin:

            async def listen_until_it_breaks() -> None:
                async with origin.changes("") as keys:
                    await asyncio.to_thread(relay.cut)
                    await told(keys, 1)

            with pytest.raises(Unreachable):
                await listen_until_it_breaks()
            assert watches(metrics) == {"ok": 1, "origin_unreachable": 1}


async def test_a_server_that_takes_the_question_and_stays_silent_is_not_taken_for_one_that_is_down(
    minio: MinioServer, tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_events, "SILENCE_S", 0.5)  # the newest MinIO holds its events back until they are 4 KiB
    bucket = minio.create_bucket("never-told")
    async with opened(bucket.settings(minio.keys.write(tmp_path / "keys")), metrics) as origin:
        for _ in range(4):
            with pytest.raises(NotWatchable, match="no sign of notifications"):
                async with origin.changes(""):
                    pass
        assert origin.status().circuit == "closed"
        await asyncio.to_thread(bucket.put, "app/a", b"x")
        assert (await origin.head("app/a")).size_bytes == 1


async def test_an_s3_server_of_another_make_is_told_from_minio(
    versitygw: VersityServer, tmp_path: Path, metrics: Metrics
) -> None:
    bucket = versitygw.create_bucket("another-make")
    async with opened(bucket.settings(versitygw.keys.write(tmp_path / "keys")), metrics) as origin:
        with pytest.raises(NotWatchable, match=r"which is MinIO's own"):
            async with origin.changes(""):
                pass


async def test_a_folder_does_not_tell(tmp_path: Path, metrics: Metrics) -> None:
    async with opened(Settings(origin={"url": tmp_path.as_uri()}).origin, metrics) as origin:  # type: ignore[arg-type]
        with pytest.raises(NotWatchable):
            async with origin.changes("app/"):
                pass


async def test_a_server_that_is_not_there_is_unreachable_and_soon_left_in_peace(
    minio: MinioServer, tmp_path: Path, metrics: Metrics
) -> None:
    bucket = minio.create_bucket("not-there")
    settings = bucket.settings(minio.keys.write(tmp_path / "keys"), endpoint_url="http://127.0.0.1:9")
    async with opened(settings, metrics) as origin:
        for _ in range(5):
            with pytest.raises(Unreachable):
                async with origin.changes(""):
                    pass
        assert watches(metrics) == {"origin_unreachable": 3}, "from then on the circuit is open"
