"""What ``fetch -o`` leaves at its destination."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from stores import RecordingDisk, put, random_bytes, reserve
from waystation.errors import StoreUnusable
from waystation.store.single_file import SingleFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from waystation.disk import Disk

DATA = random_bytes(10_000)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


async def test_the_file_can_be_run_as_far_as_the_umask_allows(tmp_path: Path, disk: Disk, umask: None) -> None:
    await put(SingleFile(tmp_path / "app", disk=disk), DATA)
    assert (tmp_path / "app").read_bytes() == DATA
    assert (tmp_path / "app").stat().st_mode & 0o7777 == 0o750


async def test_the_old_file_stays_whole_until_the_new_one_is(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "app").write_bytes(b"old")
    spool = await reserve(SingleFile(tmp_path / "app", disk=disk), DATA)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    assert (tmp_path / "app").read_bytes() == b"old"
    await spool.commit()
    spool.close(keep=True)
    assert (tmp_path / "app").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


async def test_the_file_lasts_once_it_is_said_to_be_there(tmp_path: Path) -> None:
    disk = RecordingDisk(tmp_path)
    spool = await reserve(SingleFile(tmp_path / "app", disk=disk), DATA)
    await spool.commit()
    spool.close(keep=True)
    part = disk.calls[0][1]
    assert disk.calls == [("sync", part), ("rename", part, "app"), ("sync_folder", ".")]


@pytest.mark.parametrize("place", ["folder", "fifo", "link"])
async def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, disk: Disk, place: str) -> None:
    if place == "folder":
        (tmp_path / place).mkdir()
    elif place == "link":
        (tmp_path / place).symlink_to("elsewhere")
    else:
        os.mkfifo(tmp_path / place)
    with pytest.raises(StoreUnusable, match="not a regular file"):
        await reserve(SingleFile(tmp_path / place, disk=disk), DATA)
    assert [path.name for path in tmp_path.iterdir()] == [place]


async def test_a_missing_folder_is_said_in_words(tmp_path: Path, disk: Disk) -> None:
    with pytest.raises(StoreUnusable, match="No such file or directory"):
        await reserve(SingleFile(tmp_path / "none" / "app", disk=disk), DATA)


async def test_the_longest_names_have_room_for_a_temporary_file(tmp_path: Path, disk: Disk) -> None:
    name = "é" * 127
    await put(SingleFile(tmp_path / name, disk=disk), DATA)
    assert (tmp_path / name).read_bytes() == DATA


async def test_what_is_there_already_is_never_trusted(tmp_path: Path, disk: Disk) -> None:
    shelf = SingleFile(tmp_path / "app", disk=disk)
    digest = await put(shelf, DATA)
    assert shelf.open(digest) is None
