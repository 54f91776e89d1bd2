"""What the suites that run on every origin ask for: a folder, a bucket of MinIO, and one of the Versity gateway."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from peers.places import BucketPlace, FolderPlace
from waystation.config import Settings
from waystation.publish import Publisher, open_publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from peers.places import Place
    from peers.s3 import S3Server


_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=["minio", "versitygw"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(params=["folder", "minio", "versitygw"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        (tmp_path / "origin").mkdir()
        return FolderPlace(tmp_path / "origin")
    server: S3Server = request.getfixturevalue(request.param)
    bucket = server.create_bucket(f"place-{next(_numbers)}")
    return BucketPlace(bucket, Settings(origin=bucket.settings(server.keys.write(tmp_path / "place-keys"))))


@pytest.fixture
async def publisher(place: Place) -> AsyncIterator[Publisher]:
    async with open_publisher(place.settings) as opened:
        yield opened
