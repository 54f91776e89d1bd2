"""The two S3 policies in docs/publishing.md are enough, and no more than enough, on a real MinIO."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from waystation.assembly import open_catalog, open_origin
from waystation.config import Settings
from waystation.errors import Denied, UnknownTarget
from waystation.model import TargetPath
from waystation.publish import open_publisher
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.s3 import Bucket

PAGE = Path(__file__).parents[2] / "docs/publishing.md"
IN_PARTS_BYTES = 65 * 1024 * 1024


def policies(bucket: Bucket) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reader's and the publisher's, for this bucket in place of `artifacts`."""
    blocks = re.findall(r"^    \{\n.*?^    \}$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    reader, publisher = (json.loads(block.replace(":::artifacts", f":::{bucket.name}")) for block in blocks)
    return reader, publisher


@pytest.fixture
def settings_of(bucket: Bucket, tmp_path: Path) -> Callable[[dict[str, Any]], Settings]:
    def settings(policy: dict[str, Any]) -> Settings:
        keys = bucket.server.create_user_with(policy)
        return Settings(origin=bucket.settings(keys.write(tmp_path / keys.access)))

    return settings


async def test_the_reader_resolves_what_is_there_and_can_tell_what_is_missing(
    bucket: Bucket, settings_of: Callable[[dict[str, Any]], Settings]
) -> None:
    digest = bucket.put_vouched("app/app-1-x86_64", b"bytes")
    settings, metrics = settings_of(policies(bucket)[0]), Metrics()
    origin = open_origin(settings, metrics)
    catalog = open_catalog(settings, origin, metrics, remember=False)
    try:
        assert (await catalog.resolve(TargetPath("app/app-1-x86_64"))).digest == digest
        with pytest.raises(UnknownTarget):
            await catalog.resolve(TargetPath("app/app-2-x86_64"))
        assert [target async for target in catalog.list("*")] == ["app/app-1-x86_64"]
    finally:
        await catalog.close()
        await origin.close()


async def test_the_reader_cannot_publish(
    bucket: Bucket, tmp_path: Path, settings_of: Callable[[dict[str, Any]], Settings]
) -> None:
    file = tmp_path / "app"
    file.write_bytes(b"bytes")
    async with open_publisher(settings_of(policies(bucket)[0])) as publisher:
        with pytest.raises(Denied):
            await publisher.publish(file, app="app", version="1")
    assert bucket.keys() == []


@pytest.mark.parametrize("size_bytes", [5, IN_PARTS_BYTES])
async def test_the_publisher_publishes_in_one_put_and_in_parts(
    bucket: Bucket, tmp_path: Path, settings_of: Callable[[dict[str, Any]], Settings], size_bytes: int
) -> None:
    file = tmp_path / "app"
    file.write_bytes(bytes(size_bytes))
    async with open_publisher(settings_of(policies(bucket)[1])) as publisher:
        published = await publisher.publish(file, app="app", version="1", arch="x86_64")
    assert published.target == "app/app-1-x86_64"
    assert bucket.keys() == [f"app/app-1-x86_64{ending}" for ending in ("", ".pieces", ".sha256")]


async def test_the_publisher_adopts_what_others_uploaded(
    bucket: Bucket, settings_of: Callable[[dict[str, Any]], Settings]
) -> None:
    bucket.put("tool.bin", b"bytes")
    async with open_publisher(settings_of(policies(bucket)[1])) as publisher:
        assert [adopted.outcome for adopted in await publisher.adopt()] == ["adopted"]
    assert bucket.keys() == ["tool.bin", "tool.bin.pieces", "tool.bin.sha256"]
