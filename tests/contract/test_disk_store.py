"""What the store promises while it runs: its quota, leases, pins and partials, what it writes in which order."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from stores import (
    PIECE_BYTES,
    RecordingDisk,
    artifact_of,
    content,
    digest_of,
    put,
    random_bytes,
    reserve,
    running_store,
)
from waystation.disk import Disk
from waystation.errors import NoRoom, StoreUnusable
from waystation.store.interface import StoreChange

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.store.disk_store import DiskStore
    from waystation.telemetry.metrics import Metrics

ONE, TWO, THREE = (random_bytes(40_000, seed) for seed in (1, 2, 3))


def files_of(path: Path) -> set[str]:
    """What lies in the store, by the last part of its name."""
    return {entry.name for folder in ("blobs", "spool") for entry in (path / folder).rglob("*") if entry.is_file()}


def bytes_on_disk(path: Path) -> int:
    return sum(e.stat().st_size for name in ("blobs", "spool") for e in (path / name).rglob("*") if e.is_file())


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"waystation_{name}", labels) or 0.0


# --- room ------------------------------------------------------------------------------------------


async def test_the_least_recently_used_makes_room(tmp_path: Path, metrics: Metrics) -> None:
    async with running_store(tmp_path, max_size=100_000, metrics=metrics) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        assert content(store, digest_of(ONE)) == ONE
        await put(store, THREE, pieces=False)
        assert content(store, digest_of(TWO)) is None
        assert content(store, digest_of(ONE)) == ONE
        assert files_of(tmp_path) == {digest_of(ONE), digest_of(THREE)}
    assert sample(metrics, "evictions_total", reason="quota") == 1
    assert sample(metrics, "evicted_bytes_total") == len(TWO)


async def test_the_metrics_say_what_is_held(tmp_path: Path, metrics: Metrics) -> None:
    now = 1_000_000.0
    async with running_store(tmp_path, max_size=100_000, metrics=metrics, wall=lambda: now) as store:
        await put(store, ONE, pieces=False)
        await store.pin("me", frozenset({digest_of(ONE)}))
        await put(store, TWO, pieces=False)
        now += 60
        assert sample(metrics, "store_blobs") == 2
        assert sample(metrics, "store_bytes") == 80_000
        assert sample(metrics, "store_limit_bytes") == 100_000
        assert sample(metrics, "store_pinned_bytes") == 40_000
        assert sample(metrics, "store_free_bytes") > 0
        assert sample(metrics, "store_oldest_idle_seconds") == pytest.approx(60, abs=0.01)
        status = store.status()
        assert (status.blobs, status.stored_bytes, status.pinned_bytes, status.limit_bytes) == (
            2,
            80_000,
            40_000,
            100_000,
        )


async def test_what_is_leased_or_pinned_is_never_evicted(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=100_000) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        await store.pin("me", frozenset({digest_of(ONE)}))
        blob = store.open(digest_of(TWO))
        assert blob is not None
        with pytest.raises(NoRoom, match="40000 pinned, 40000 being served"):
            await reserve(store, THREE, pieces=False)
        blob.close()
        blob.close()
        await put(store, THREE, pieces=False)
        assert files_of(tmp_path) == {digest_of(ONE), digest_of(THREE)}


async def test_what_can_t_fit_evicts_nothing(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=100_000) as store:
        await put(store, ONE, pieces=False)
        with pytest.raises(NoRoom, match="max_size is 100000"):
            await reserve(store, random_bytes(100_001), pieces=False)
        assert content(store, digest_of(ONE)) == ONE


async def test_a_leased_blob_shares_one_descriptor_among_its_leases(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        digest = await put(store, ONE)
        first, second = store.open(digest), store.open(digest)
        assert first is not None
        assert second is not None
        assert first.fd == second.fd
        first.close()
        assert os.pread(second.fd, 10, 0) == ONE[:10]
        second.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(second.fd)


class CountingDisk(Disk):
    """Counts what spools and blobs take, at each step that changes it."""

    def __init__(self) -> None:
        self.taken = self.peak = 0
        self._lock = threading.Lock()

    def allocate(self, fd: int, size_bytes: int) -> None:
        super().allocate(fd, size_bytes)
        with self._lock:
            self.taken += size_bytes
            self.peak = max(self.peak, self.taken)

    def unlink(self, path: Path) -> None:
        with self._lock:
            size_bytes = path.lstat().st_size
            super().unlink(path)
            self.taken -= size_bytes


async def test_ten_flights_at_once_that_are_larger_together_stay_within_the_quota(tmp_path: Path) -> None:
    disk, bodies = CountingDisk(), [random_bytes(30_000, seed) for seed in range(10)]

    async def fly(store: DiskStore, data: bytes) -> bool:
        try:
            await put(store, data, pieces=False)
        except NoRoom:
            return False
        return True

    async with running_store(tmp_path, max_size=100_000, disk=disk) as store:
        for _ in range(5):
            landed = await asyncio.gather(
                *(fly(store, data) for data in bodies if content(store, digest_of(data)) is None)
            )
            assert any(landed)
        assert 60_000 < disk.peak <= 100_000
        assert store.status().stored_bytes == bytes_on_disk(tmp_path) == disk.taken


class SmallDisk(Disk):
    """A filesystem of which others have left so much."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes

    def free_bytes(self, path: Path) -> int:  # noqa: ARG002
        return self.size_bytes - bytes_on_disk(self.path)


async def test_min_free_holds_with_what_arrives_counted_once(tmp_path: Path, metrics: Metrics) -> None:
    disk = SmallDisk(tmp_path, 140_000)
    async with running_store(tmp_path, min_free=20_000, disk=disk, metrics=metrics) as store:
        await put(store, ONE, pieces=False)
        arriving = await reserve(store, TWO, pieces=False)
        third = await reserve(store, THREE, pieces=False)
        assert disk.free_bytes(tmp_path) == 20_000
        assert content(store, digest_of(ONE)) == ONE
        third.close(keep=False)
        await put(store, random_bytes(41_000, 9), pieces=False)
        assert disk.free_bytes(tmp_path) >= 20_000
        assert content(store, digest_of(ONE)) is None
        arriving.close(keep=False)
    assert sample(metrics, "evictions_total", reason="min_free") == 1


async def test_space_that_others_take_is_given_back_by_eviction(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 200_000)
    async with running_store(tmp_path, min_free=20_000, disk=disk) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        disk.size_bytes = 80_000
        await store.tidy()
        assert files_of(tmp_path) == {digest_of(TWO)}
        assert store.status().free_bytes == 80_000 - 2 * 40_000
        await store.tidy()
        assert store.status().free_bytes == 40_000


async def test_the_store_looks_for_itself_whether_others_take_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waystation.store.room.LOOK_INTERVAL_S", 0.01)
    disk = SmallDisk(tmp_path, 200_000)
    async with running_store(tmp_path, min_free=20_000, disk=disk) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        listener = store.changes()
        disk.size_bytes = 80_000
        async with asyncio.timeout(30):
            assert await anext(aiter(listener)) == StoreChange("evicted", digest_of(ONE))
        assert content(store, digest_of(TWO)) == TWO


async def test_the_store_keeps_house_also_behind_a_fault_that_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    class FaultyDisk(SmallDisk):
        faults = 0

        def free_bytes(self, path: Path) -> int:
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            return super().free_bytes(path)

    monkeypatch.setattr("waystation.store.room.LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr("waystation.telemetry.going_on.PAUSE_S", 0.01)
    disk = FaultyDisk(tmp_path, 200_000)
    async with running_store(tmp_path, min_free=20_000, disk=disk, metrics=metrics) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        listener = store.changes()
        disk.faults, disk.size_bytes = 2, 80_000
        async with asyncio.timeout(30):
            assert await anext(aiter(listener)) == StoreChange("evicted", digest_of(ONE))
    assert metrics.registry.get_sample_value("waystation_task_failures_total", {"task": "housekeeping"}) == 2


async def test_a_system_that_gives_less_than_it_promised_is_believed_once_more(tmp_path: Path) -> None:
    class QuotaDisk(Disk):
        def allocate(self, fd: int, size_bytes: int) -> None:
            if bytes_on_disk(tmp_path) + size_bytes > 100_000:
                raise OSError(122, "Disk quota exceeded")
            super().allocate(fd, size_bytes)

    async with running_store(tmp_path, disk=QuotaDisk()) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        await put(store, THREE, pieces=False)
        assert files_of(tmp_path) == {digest_of(TWO), digest_of(THREE)}
        with pytest.raises(NoRoom):
            await reserve(store, random_bytes(200_000), pieces=False)
        assert files_of(tmp_path) == {digest_of(TWO), digest_of(THREE)}


async def test_what_can_t_be_removed_stays_counted_and_is_not_served(tmp_path: Path) -> None:
    class StickyDisk(Disk):
        sticky = False

        def unlink(self, path: Path) -> None:
            if self.sticky:
                raise OSError(1, "Operation not permitted")
            super().unlink(path)

    disk = StickyDisk()
    async with running_store(tmp_path, max_size=100_000, disk=disk) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        disk.sticky = True
        with pytest.raises(StoreUnusable, match="can't be removed"):
            await reserve(store, THREE, pieces=False)
        assert store.status().stored_bytes == 80_000
        assert content(store, digest_of(ONE)) is None
        with pytest.raises(StoreUnusable, match="can't be removed"):
            await reserve(store, ONE, pieces=False)
        disk.sticky = False
        await put(store, THREE, pieces=False)
        assert files_of(tmp_path) == {digest_of(TWO), digest_of(THREE)}


# --- one digest, one flight --------------------------------------------------------------------------


async def test_a_digest_has_one_spool_at_a_time(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        spool = await reserve(store, ONE)
        with pytest.raises(ValueError, match="one flight at a time"):
            await reserve(store, ONE)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        await spool.commit()
        spool.close(keep=True)
        with pytest.raises(ValueError, match="one flight at a time"):
            await reserve(store, ONE)


async def test_a_spool_given_up_can_be_asked_for_again_at_once(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=50_000) as store:
        for _ in range(3):
            (await reserve(store, ONE)).close(keep=False)
        (await reserve(store, TWO)).close(keep=False)


async def test_the_room_of_a_spool_given_up_is_given_back_by_itself(tmp_path: Path) -> None:
    class WatchedDisk(Disk):
        removed = threading.Event()

        def unlink(self, path: Path) -> None:
            super().unlink(path)
            self.removed.set()

    disk = WatchedDisk()
    async with running_store(tmp_path, disk=disk) as store:
        spool = await reserve(store, ONE, pieces=False)
        disk.removed.clear()
        spool.close(keep=False)
        assert await asyncio.to_thread(disk.removed.wait, 30)
        assert files_of(tmp_path) == set()


@pytest.mark.parametrize("what", ["file", "folder", "link"])
async def test_what_someone_put_in_a_spool_s_place_is_no_hindrance(tmp_path: Path, what: str) -> None:
    async with running_store(tmp_path / "store") as store:
        place = tmp_path / "store" / "spool" / digest_of(ONE)
        (tmp_path / "elsewhere").write_bytes(TWO)
        if what == "file":
            place.write_bytes(TWO)
        elif what == "folder":
            place.mkdir()
        else:
            place.symlink_to(tmp_path / "elsewhere")
        await put(store, ONE)
        assert content(store, digest_of(ONE)) == ONE
    assert (tmp_path / "elsewhere").read_bytes() == TWO


@pytest.mark.parametrize("fatal", ["rename", "sync_folder"])
async def test_a_commit_that_fails_half_way_takes_all_of_it_back(tmp_path: Path, fatal: str) -> None:
    class BrokenDisk(Disk):
        broken = False

        def rename(self, old: Path, new: Path) -> None:
            if self.broken and fatal == "rename" and old.name == digest_of(ONE):
                raise OSError(5, "Input/output error")
            super().rename(old, new)

        def sync_folder(self, path: Path) -> None:
            if self.broken and fatal == "sync_folder" and path.name == digest_of(ONE)[:2]:
                raise OSError(5, "Input/output error")
            super().sync_folder(path)

    disk = BrokenDisk()
    async with running_store(tmp_path, disk=disk) as store:
        spool = await reserve(store, ONE)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        disk.broken = True
        with pytest.raises(StoreUnusable):
            await spool.commit()
        spool.close(keep=True)
        await store.tidy()
        assert files_of(tmp_path) == set()
        assert store.status().stored_bytes == 0
        disk.broken = False
        await put(store, ONE)


async def test_a_flight_holds_its_blob_until_it_closes_the_spool(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=50_000) as store:
        spool = await reserve(store, ONE, pieces=False)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        await spool.commit()
        with pytest.raises(NoRoom):
            await reserve(store, TWO, pieces=False)
        spool.close(keep=True)
        await put(store, TWO, pieces=False)


# --- partials ----------------------------------------------------------------------------------------


async def test_a_kept_spool_is_resumed_with_what_was_written_suspect(tmp_path: Path) -> None:
    data = random_bytes(10 * PIECE_BYTES)
    async with running_store(tmp_path) as store:
        spool = await reserve(store, data)
        for index in (2, 7):
            at = index * PIECE_BYTES
            await asyncio.to_thread(spool.write, at, memoryview(data)[at : at + PIECE_BYTES])
        spool.close(keep=True)
        used = store.status().stored_bytes
        again = await reserve(store, data)
        assert {2, 7} <= again.suspect <= set(range(10))
        assert os.pread(again.fd, PIECE_BYTES, 2 * PIECE_BYTES) == data[2 * PIECE_BYTES : 3 * PIECE_BYTES]
        assert store.status().stored_bytes == used
        again.close(keep=True)


async def test_only_what_was_written_is_suspect_where_the_filesystem_can_tell(tmp_path: Path) -> None:
    data = random_bytes(64 * PIECE_BYTES)
    async with running_store(tmp_path) as store:
        spool = await reserve(store, data)
        await asyncio.to_thread(spool.write, 0, memoryview(data)[:PIECE_BYTES])
        os.fsync(spool.fd)
        if Disk().data_spans(spool.fd, len(data))[0].stop == len(data):
            pytest.skip("this filesystem does not tell holes from data")
        spool.close(keep=True)
        again = await reserve(store, data)
        assert 0 in again.suspect
        assert 63 not in again.suspect
        again.close(keep=False)


async def test_without_pieces_nothing_is_kept_since_nothing_could_be_checked(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        spool = await reserve(store, ONE, pieces=False)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        spool.close(keep=True)
        await store.tidy()
        assert files_of(tmp_path) == set()
        assert store.status().stored_bytes == 0


async def test_a_partial_is_not_resumed_without_its_layer(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        spool = await reserve(store, ONE)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        spool.close(keep=True)
        again = await reserve(store, ONE, pieces=False)
        assert again.suspect == frozenset()
        assert os.pread(again.fd, len(ONE), 0) == bytes(len(ONE))
        again.close(keep=False)


@pytest.mark.parametrize("damage", ["file short", "file gone", "file a link"])
async def test_a_partial_that_is_not_what_it_was_is_begun_anew(tmp_path: Path, damage: str) -> None:
    async with running_store(tmp_path) as store:
        spool = await reserve(store, ONE)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        spool.close(keep=True)
        file = tmp_path / "spool" / digest_of(ONE)
        if damage == "file short":
            os.truncate(file, 100)
        else:
            file.unlink()
        if damage == "file a link":
            (tmp_path / "elsewhere").write_bytes(ONE)
            file.symlink_to(tmp_path / "elsewhere")
        again = await reserve(store, ONE)
        assert again.suspect == frozenset()
        again.close(keep=False)
        assert await put(store, ONE) == digest_of(ONE)
        assert content(store, digest_of(ONE)) == ONE


@pytest.mark.parametrize("damage", ["torn", "gone", "rotten", "a folder"])
async def test_a_partial_is_offered_whatever_became_of_the_pieces_beside_it(tmp_path: Path, damage: str) -> None:
    async with running_store(tmp_path) as store:
        spool = await reserve(store, ONE)
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        spool.close(keep=True)
        pieces = tmp_path / "spool" / f"{digest_of(ONE)}.pieces"
        body = pieces.read_bytes()
        if damage == "torn":
            pieces.write_bytes(body[:-1])
        elif damage == "rotten":
            pieces.write_bytes(body[:-1] + b"\0")
        else:
            pieces.unlink()
        if damage == "a folder":
            pieces.mkdir()
        again = await reserve(store, ONE)
        assert again.suspect == {0, 1, 2}
        assert pieces.read_bytes() == body
        again.close(keep=True)
        assert store.status().stored_bytes == bytes_on_disk(tmp_path)


async def test_a_pinned_partial_is_not_evicted(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=100_000) as store:
        (await reserve(store, ONE)).close(keep=True)
        (await reserve(store, TWO)).close(keep=True)
        await store.pin("me", frozenset({digest_of(ONE)}))
        await put(store, THREE, pieces=False)
        assert files_of(tmp_path) == {digest_of(ONE), f"{digest_of(ONE)}.pieces", digest_of(THREE)}


async def test_partials_make_room_before_any_blob(tmp_path: Path, metrics: Metrics) -> None:
    async with running_store(tmp_path, max_size=100_000, metrics=metrics) as store:
        await put(store, ONE, pieces=False)
        (await reserve(store, TWO)).close(keep=True)
        await put(store, THREE, pieces=False)
        assert files_of(tmp_path) == {digest_of(ONE), digest_of(THREE)}
    assert sample(metrics, "evictions_total", reason="partial") == 1


# --- pieces, pins, changes -----------------------------------------------------------------------------


async def test_the_pieces_lie_beside_the_blob_and_go_with_it(tmp_path: Path) -> None:
    _, pieces_file = artifact_of(ONE)
    async with running_store(tmp_path, max_size=45_000) as store:
        await put(store, ONE)
        assert await store.pieces_file(digest_of(ONE)) == pieces_file
        await put(store, TWO, pieces=False)
        assert await store.pieces_file(digest_of(ONE)) is None
        assert await store.pieces_file(digest_of(TWO)) is None
        assert files_of(tmp_path) == {digest_of(TWO)}


async def test_rotten_pieces_are_not_given_out(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        digest = await put(store, ONE)
        path = tmp_path / "blobs/sha256" / digest[:2] / f"{digest}.pieces"
        body = bytearray(path.read_bytes())
        body[-1] ^= 1
        path.write_bytes(body)
        assert await store.pieces_file(digest) is None
        other = await put(store, TWO)
        shutil.copy(tmp_path / "blobs/sha256" / other[:2] / f"{other}.pieces", path)
        assert await store.pieces_file(digest) is None
        assert content(store, digest) == ONE


async def test_a_pin_replaces_its_owner_s_whole_set_and_outlives_the_daemon(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=100_000) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        await store.pin("prefetch", frozenset({digest_of(ONE), digest_of(TWO)}))
        await store.pin("me", frozenset({digest_of(THREE)}))
        await store.pin("prefetch", frozenset({digest_of(TWO)}))
        await store.pin("me", frozenset())
    assert [path.name for path in (tmp_path / "pins").iterdir()] == ["prefetch.json"]
    async with running_store(tmp_path, max_size=100_000) as store:
        await put(store, THREE, pieces=False)
        assert files_of(tmp_path) == {digest_of(TWO), digest_of(THREE)}


@pytest.mark.parametrize("owner", ["", "..", "../me", "a/b", "Me", "a" * 65, "a\0"])
async def test_an_owner_s_name_never_leads_elsewhere(tmp_path: Path, owner: str) -> None:
    async with running_store(tmp_path) as store:
        with pytest.raises(ValueError, match="owner"):
            await store.pin(owner, frozenset({digest_of(ONE)}))


async def test_what_is_stored_and_evicted_is_told(tmp_path: Path) -> None:
    async with running_store(tmp_path, max_size=50_000) as store:
        listener = store.changes()
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
    assert [change async for change in listener] == [
        StoreChange("stored", digest_of(ONE)),
        StoreChange("evicted", digest_of(ONE)),
        StoreChange("stored", digest_of(TWO)),
    ]


# --- what someone else does to the files -----------------------------------------------------------------


@pytest.mark.parametrize("damage", ["gone", "short", "long", "a link", "a fifo", "a folder"])
async def test_a_blob_that_is_not_as_it_was_left_is_set_aside_and_fetched_again(tmp_path: Path, damage: str) -> None:
    async with running_store(tmp_path) as store:
        digest = await put(store, ONE)
        path = tmp_path / "blobs/sha256" / digest[:2] / digest
        if damage == "short":
            os.truncate(path, 100)
        elif damage == "long":
            os.truncate(path, 100_000)
        else:
            path.unlink()
        if damage == "a link":
            (tmp_path / "elsewhere").write_bytes(ONE)
            path.symlink_to(tmp_path / "elsewhere")
        elif damage == "a fifo":
            os.mkfifo(path)
        elif damage == "a folder":
            path.mkdir()
        assert store.open(digest) is None
        assert store.open(digest) is None
        await put(store, ONE)
        assert content(store, digest) == ONE
        assert len(list((tmp_path / "quarantine").iterdir())) == (0 if damage == "gone" else 1)


async def test_a_system_without_descriptors_is_no_reason_to_drop_a_blob(tmp_path: Path) -> None:
    class Exhausted(Disk):
        exhausted = False

        def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
            if self.exhausted:
                raise OSError(24, "Too many open files")
            return super().open(path, flags, mode)

    disk = Exhausted()
    async with running_store(tmp_path, max_size=50_000, disk=disk) as store:
        digest = await put(store, ONE)
        disk.exhausted = True
        with pytest.raises(StoreUnusable, match="Too many open files"):
            store.open(digest)
        disk.exhausted = False
        assert content(store, digest) == ONE
        await store.tidy()
        await put(store, TWO)
        assert store.open(digest) is None


async def test_blob_folders_that_someone_removed_are_made_again(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        digest = await put(store, ONE)
        shutil.rmtree(tmp_path / "blobs/sha256" / digest[:2])
        assert store.open(digest) is None
        await put(store, ONE)
        assert content(store, digest) == ONE


# --- what is written in which order ------------------------------------------------------------------------


async def test_a_commit_makes_each_step_last_before_the_next(tmp_path: Path) -> None:
    disk = RecordingDisk(tmp_path)
    async with running_store(tmp_path, disk=disk) as store:
        digest = digest_of(ONE)
        folder = f"blobs/sha256/{digest[:2]}"
        spool = await reserve(store, ONE)
        assert not [call for call in disk.calls if call[0] == "sync" and "spool" in call[1]]
        await asyncio.to_thread(spool.write, 0, memoryview(ONE))
        disk.calls.clear()
        await spool.commit()
        spool.close(keep=True)
        assert disk.calls == [
            ("sync", f"spool/{digest}"),
            ("sync", f"spool/{digest}.pieces"),
            ("make_folder", folder),
            ("sync_folder", "blobs/sha256"),
            ("rename", f"spool/{digest}.pieces", f"{folder}/{digest}.pieces"),
            ("rename", f"spool/{digest}", f"{folder}/{digest}"),
            ("sync_folder", folder),
        ]


async def test_a_pin_and_the_end_of_one_last(tmp_path: Path) -> None:
    disk = RecordingDisk(tmp_path)
    async with running_store(tmp_path, disk=disk) as store:
        for digests in ({digest_of(ONE)}, set()):
            disk.calls.clear()
            await store.pin("me", frozenset(digests))
            assert disk.calls[-1] == ("sync_folder", "pins")


async def test_a_new_store_s_folders_last_before_anything_is_in_them(tmp_path: Path) -> None:
    disk = RecordingDisk(tmp_path)
    async with running_store(tmp_path / "var/lib", disk=disk):
        assert [call for call in disk.calls if not call[1].startswith("..")] == [
            ("make_folder", "var"),
            ("make_folder", "var/lib"),
            ("sync_folder", "var"),
            ("sync_folder", "."),
            ("sync", "var/lib/.format.new"),
            ("rename", "var/lib/.format.new", "var/lib/format"),
            ("sync_folder", "var/lib"),
            *(("make_folder", f"var/lib/{name}") for name in ("quarantine", "blobs", "blobs/sha256", "spool", "pins")),
            ("sync_folder", "var/lib/blobs"),
            ("sync_folder", "var/lib"),
            ("sync", "var/lib/.running.new"),
            ("rename", "var/lib/.running.new", "var/lib/running"),
            ("sync_folder", "var/lib"),
        ]


async def test_blobs_are_the_daemon_s_own_and_its_group_s_to_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with running_store(tmp_path / "store") as store:
            digest = await put(store, ONE)
    finally:
        os.umask(before)
    for path in (tmp_path / "store").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path
    assert (tmp_path / "store/blobs/sha256" / digest[:2] / digest).exists()
