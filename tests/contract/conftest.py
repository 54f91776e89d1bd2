"""What the suites that run on every origin ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peers.places import BucketPlace, FolderPlace
from waystation.config import Settings
from waystation.publish import Publisher, open_publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from peers.places import Place


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        (tmp_path / "origin").mkdir()
        return FolderPlace(tmp_path / "origin")
    return BucketPlace(request.getfixturevalue("bucket"), Settings(origin=request.getfixturevalue("bucket_settings")))


@pytest.fixture
async def publisher(place: Place) -> AsyncIterator[Publisher]:
    async with open_publisher(place.settings) as opened:
        yield opened
