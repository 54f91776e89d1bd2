"""What every spool promises a flight: the store's, and the one of ``fetch -o``."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from stores import artifact_of, content, digest_of, put, random_bytes, reserve, running_store
from waystation.disk import Disk
from waystation.errors import NoRoom, StoreUnusable
from waystation.store.single_file import SingleFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from waystation.store.interface import Shelf

DATA = random_bytes(100_000)


class TroubledDisk(Disk):
    """A real disk that refuses, or waits, where a test says so."""

    def __init__(self) -> None:
        self.refuse: dict[str, OSError] = {}
        self.gates: dict[str, threading.Event] = {}
        self.reached: dict[str, threading.Event] = {}

    def hold(self, call: str) -> None:
        self.gates[call], self.reached[call] = threading.Event(), threading.Event()

    def _pass(self, call: str) -> None:
        if call in self.gates:
            self.reached[call].set()
            assert self.gates[call].wait(30)
        if call in self.refuse:
            raise self.refuse[call]

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        if len(data) > 1000:  # the spool's bytes, not the small files beside it
            self._pass("write_at")
        super().write_at(fd, data, offset)

    def allocate(self, fd: int, size_bytes: int) -> None:
        self._pass("allocate")
        super().allocate(fd, size_bytes)

    def sync(self, fd: int) -> None:
        self._pass("sync")
        super().sync(fd)

    def rename(self, old: Path, new: Path) -> None:
        self._pass("rename")
        super().rename(old, new)


@dataclass
class Place:
    shelf: Shelf
    disk: TroubledDisk
    folder: Path
    result: Callable[[], bytes | None]
    """What was committed, read from where its user finds it."""

    def leftovers(self) -> list[Path]:
        return sorted(
            path for path in self.folder.rglob("*") if path.is_file() and path.name not in ("format", "lock", "running")
        )


@pytest.fixture(params=["store", "single file"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    disk = TroubledDisk()
    if request.param == "store":
        folder = tmp_path / "store"
        async with running_store(folder, disk=disk) as store:
            yield Place(store, disk, folder, lambda: content(store, digest_of(DATA)))
    else:
        path = tmp_path / "out" / "app"
        path.parent.mkdir()
        shelf = SingleFile(path, disk=disk)
        yield Place(shelf, disk, path.parent, lambda: path.read_bytes() if path.exists() else None)


async def test_pieces_written_in_any_order_become_the_blob(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    view = memoryview(DATA)
    for start in (70_000, 0, 30_000):
        await asyncio.to_thread(spool.write, start, view[start : start + 40_000])
    assert place.result() is None
    await spool.commit()
    assert place.result() == DATA
    spool.close(keep=True)
    assert place.result() == DATA


async def test_what_was_written_can_be_read_back_and_sent_from_its_descriptor(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    await asyncio.to_thread(spool.write, 50_000, memoryview(DATA)[50_000:])
    buffer = bytearray(60_000)
    assert await asyncio.to_thread(spool.read, 90_000, memoryview(buffer)) == 10_000
    assert buffer[:10_000] == DATA[90_000:]
    assert os.pread(spool.fd, 10, 60_000) == DATA[60_000:60_010]
    spool.close(keep=False)


async def test_its_descriptor_stays_good_behind_the_commit_until_it_is_closed(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    await spool.commit()
    assert os.pread(spool.fd, len(DATA), 0) == DATA
    spool.close(keep=True)


async def test_a_new_spool_suspects_nothing_and_holds_everything(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    assert spool.suspect == frozenset()
    assert spool.window is None
    assert os.fstat(spool.fd).st_blocks * 512 >= len(DATA)
    spool.free(1)
    spool.close(keep=False)


async def test_a_spool_given_up_leaves_nothing(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    spool.close(keep=False)
    spool.close(keep=False)
    if hasattr(place.shelf, "tidy"):
        await place.shelf.tidy()
    assert place.leftovers() == []
    assert place.result() is None


async def test_a_late_thread_never_writes_into_the_file_that_got_its_descriptor(place: Place, tmp_path: Path) -> None:
    spool = await reserve(place.shelf, DATA)
    spool.close(keep=False)
    heir = os.open(tmp_path / "another file", os.O_RDWR | os.O_CREAT)
    os.dup2(heir, spool.fd)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            await asyncio.to_thread(spool.write, 0, memoryview(DATA))
        with pytest.raises(OSError, match="Bad file descriptor"):
            await asyncio.to_thread(spool.read, 0, memoryview(bytearray(1)))
        assert (tmp_path / "another file").stat().st_size == 0
    finally:
        for fd in {heir, spool.fd}:
            os.close(fd)


async def test_its_descriptor_is_not_given_away_under_a_thread_that_still_writes(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    place.disk.hold("write_at")
    writing = asyncio.ensure_future(asyncio.to_thread(spool.write, 0, memoryview(DATA)))
    assert await asyncio.to_thread(place.disk.reached["write_at"].wait, 30)
    fd = spool.fd
    spool.close(keep=False)
    os.fstat(fd)
    place.disk.gates["write_at"].set()
    await writing
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_nothing_is_written_beyond_the_reserved_size(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    with pytest.raises(ValueError, match="don't lie within"):
        await asyncio.to_thread(spool.write, 1, memoryview(DATA))
    with pytest.raises(ValueError, match="don't lie within"):
        await asyncio.to_thread(spool.write, -1, memoryview(b"x"))
    spool.close(keep=False)


async def test_a_spool_is_committed_once(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    await spool.commit()
    with pytest.raises(ValueError, match="committed once"):
        await spool.commit()
    spool.close(keep=True)


async def test_a_commit_whose_waiter_is_cancelled_is_finished_all_the_same(place: Place) -> None:
    spool = await reserve(place.shelf, DATA)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    place.disk.hold("sync")
    commit = asyncio.ensure_future(spool.commit())
    assert await asyncio.to_thread(place.disk.reached["sync"].wait, 30)
    commit.cancel()
    place.disk.gates["sync"].set()
    with pytest.raises(asyncio.CancelledError):
        await commit
    spool.close(keep=False)
    assert place.result() == DATA


@pytest.mark.parametrize("call", ["sync", "rename"])
async def test_a_commit_that_the_disk_refuses_leaves_nothing_behind(place: Place, call: str) -> None:
    spool = await reserve(place.shelf, DATA)
    await asyncio.to_thread(spool.write, 0, memoryview(DATA))
    place.disk.refuse[call] = OSError(5, "Input/output error")
    with pytest.raises(StoreUnusable, match="Input/output error"):
        await spool.commit()
    place.disk.refuse.clear()
    spool.close(keep=True)
    if hasattr(place.shelf, "tidy"):
        await place.shelf.tidy()
    assert place.leftovers() == []
    assert place.result() is None


async def test_a_full_disk_is_no_room_and_leaves_nothing(place: Place) -> None:
    place.disk.refuse["allocate"] = OSError(28, "No space left on device")
    with pytest.raises(NoRoom):
        await reserve(place.shelf, DATA)
    assert place.leftovers() == []
    place.disk.refuse.clear()
    (await reserve(place.shelf, DATA)).close(keep=False)


async def test_a_disk_that_refuses_the_file_is_unusable_and_leaves_nothing(place: Place) -> None:
    place.disk.refuse["allocate"] = OSError(5, "Input/output error")
    with pytest.raises(StoreUnusable, match="Input/output error"):
        await reserve(place.shelf, DATA)
    assert place.leftovers() == []


async def test_a_reservation_that_is_cancelled_leaves_no_file_without_an_owner(place: Place) -> None:
    place.disk.hold("allocate")
    reserving = asyncio.ensure_future(reserve(place.shelf, DATA, pieces=False))
    assert await asyncio.to_thread(place.disk.reached["allocate"].wait, 30)
    reserving.cancel()
    place.disk.gates["allocate"].set()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    if hasattr(place.shelf, "tidy"):
        await place.shelf.tidy()
    assert place.leftovers() == []
    (await reserve(place.shelf, DATA)).close(keep=False)


async def test_an_empty_artifact_is_a_blob_too(place: Place) -> None:
    assert await put(place.shelf, b"") == digest_of(b"")


async def test_what_it_reserves_is_one_artifact_s_own_size(place: Place) -> None:
    artifact, pieces_file = artifact_of(DATA)
    spool = await place.shelf.reserve(artifact, pieces_file)
    assert os.fstat(spool.fd).st_size == artifact.size_bytes
    spool.close(keep=False)
