"""Which blobs a store believes: after a crash of the machine, after a bad check, and who puts it right."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from stores import (
    PIECE_BYTES,
    BootDisk,
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
from waystation.errors import NoRoom, NotEvictable, NotStored, StoreUnusable
from waystation.model import SLICE_BYTES
from waystation.store.blob_check import PORTION_BYTES
from waystation.store.interface import StoreChange

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.model import Span
    from waystation.store.interface import Spool
    from waystation.telemetry.metrics import Metrics

ONE, TWO, THREE = (random_bytes(40_000, seed) for seed in (1, 2, 3))
NOW = 1_700_000_000.0


def blob_path(path: Path, data: bytes) -> Path:
    digest = digest_of(data)
    return path / "blobs/sha256" / digest[:2] / digest


def pieces_path(path: Path, data: bytes) -> Path:
    return blob_path(path, data).with_name(f"{digest_of(data)}.pieces")


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def failures(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("waystation_verification_failures_total", {"where": "store"}) or 0.0


def on_disk(path: Path) -> int:
    names = ("blobs", "spool", "quarantine")
    return sum(e.stat().st_size for name in names for e in (path / name).rglob("*") if e.is_file())


async def after_a_crash_of_the_machine(path: Path, *bodies: bytes, pieces: bool = True) -> BootDisk:
    """Leave a store that holds these and whose machine went down under it."""
    disk = BootDisk()
    async with running_store(path, disk=disk, kill=True) as store:
        for data in bodies:
            await put(store, data, pieces=pieces)
    disk.boot = "second"
    return disk


async def as_a_flight(spool: Spool, data: bytes) -> int:
    """Check what is suspect against the right bytes, write what is not, commit; return how much was written."""
    written = 0
    for start in range(0, len(data), PIECE_BYTES):
        piece = memoryview(data)[start : start + PIECE_BYTES]
        buffer = bytearray(len(piece))
        suspect = start // PIECE_BYTES in spool.suspect
        if not suspect or spool.read(start, memoryview(buffer)) != len(piece) or buffer != piece:
            await asyncio.to_thread(spool.write, start, piece)
            written += len(piece)
    await spool.commit()
    spool.close(keep=True)
    return written


# --- after a stop --------------------------------------------------------------------------------------


async def test_a_clean_stop_and_another_boot_make_nothing_suspect(tmp_path: Path) -> None:
    disk = BootDisk()
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE)
        assert (tmp_path / "running").read_text() == "first\n"
    assert not (tmp_path / "running").exists()
    disk.boot = "second"
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) == ONE


async def test_a_kill_in_the_same_boot_makes_nothing_suspect(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE)
    disk.boot = "first"
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) == ONE
        assert store.status().suspect_blobs == 0


async def test_after_a_crash_of_the_machine_no_blob_is_served_unchecked(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, TWO)
    async with running_store(tmp_path, disk=disk) as store:
        assert [content(store, digest_of(data)) for data in (ONE, TWO)] == [None, None]
        assert [blob.suspect for blob in store.blobs()] == [True, True]
        assert (store.status().blobs, store.status().suspect_blobs) == (2, 2)
        await put(store, THREE)
        assert content(store, digest_of(THREE)) == THREE


async def test_where_the_system_tells_no_boot_every_stop_that_was_not_clean_counts_as_a_crash(tmp_path: Path) -> None:
    disk = BootDisk()
    disk.boot = ""
    for kill in (False, True):
        async with running_store(tmp_path, disk=disk, kill=kill) as store:
            if not kill:
                await put(store, ONE)
            assert content(store, digest_of(ONE)) == ONE
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) is None


@pytest.mark.parametrize("unreadable", ["running", "suspect-before"])
async def test_a_marker_that_can_t_be_read_means_the_worst(tmp_path: Path, unreadable: str) -> None:
    disk = BootDisk()
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE)
    (tmp_path / unreadable).write_bytes(b"\xff" * 100)
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) is None


async def test_suspicion_survives_every_restart_until_a_blob_is_verified(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, TWO)
    async with running_store(tmp_path, disk=disk) as store:
        assert await store.verify(digest_of(ONE))
        assert content(store, digest_of(ONE)) == ONE
    for kill in (True, False, False):
        async with running_store(tmp_path, disk=disk, kill=kill) as store:
            assert content(store, digest_of(ONE)) == ONE
            assert content(store, digest_of(TWO)) is None
    async with running_store(tmp_path, disk=disk) as store:
        assert await store.verify(digest_of(TWO))
        assert (tmp_path / "suspect-before").exists()
        await store.tidy()
        assert not (tmp_path / "suspect-before").exists()
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(TWO)) == TWO


@pytest.mark.parametrize("jump_s", [-1e9, -10.0, 1e9])
async def test_no_jump_of_the_clock_makes_a_blob_trusted_that_was_not_verified(tmp_path: Path, jump_s: float) -> None:
    now = NOW
    disk = BootDisk()
    async with running_store(tmp_path, disk=disk, wall=lambda: now, kill=True) as store:
        await put(store, ONE)
        await put(store, TWO)
    disk.boot = "second"
    now += jump_s
    async with running_store(tmp_path, disk=disk, wall=lambda: now) as store:
        assert content(store, digest_of(ONE)) is None
        now += jump_s
        assert await store.verify(digest_of(ONE))
    now -= 2 * jump_s
    async with running_store(tmp_path, disk=disk, wall=lambda: now) as store:
        assert content(store, digest_of(ONE)) == ONE
        assert content(store, digest_of(TWO)) is None


async def test_two_crashes_in_a_row_leave_what_was_verified_between_them_suspect(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE)
    async with running_store(tmp_path, disk=disk, kill=True) as store:
        assert await store.verify(digest_of(ONE))
    disk.boot = "third"
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) is None


async def test_the_new_suspicion_lasts_before_the_boot_is_taken_note_of(tmp_path: Path) -> None:
    await after_a_crash_of_the_machine(tmp_path, ONE)
    disk = RecordingDisk(tmp_path)
    async with running_store(tmp_path, disk=disk):
        renames = [call for call in disk.calls if call[0] == "rename"]
        assert renames == [
            ("rename", ".suspect-before.new", "suspect-before"),
            ("rename", ".running.new", "running"),
        ]
        first = disk.calls.index(renames[0])
        assert disk.calls[first + 1] == ("sync_folder", ".")


async def test_a_refused_second_daemon_leaves_the_first_one_s_marker(tmp_path: Path) -> None:
    async with running_store(tmp_path):
        with pytest.raises(Exception, match="in use"):
            async with running_store(tmp_path):
                pass
        assert (tmp_path / "running").exists()


# --- a suspect blob and a flight -----------------------------------------------------------------------


async def test_a_suspect_blob_is_offered_where_it_is_with_every_piece_to_be_checked(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE)
    async with running_store(tmp_path, disk=disk, wall=lambda: NOW) as store:
        listener = store.changes()
        assert await store.pieces_file(digest_of(ONE)) == artifact_of(ONE)[1]
        spool = await reserve(store, ONE)
        assert spool.suspect == {0, 1, 2}
        assert spool.stored
        assert await store.pieces_file(digest_of(ONE)) == artifact_of(ONE)[1]
        assert await as_a_flight(spool, ONE) == 0
        assert content(store, digest_of(ONE)) == ONE
        assert store.status().stored_bytes == on_disk(tmp_path)
        assert list((tmp_path / "spool").iterdir()) == []
    assert [change async for change in listener] == [StoreChange("stored", digest_of(ONE))]
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) == ONE


async def test_without_pieces_every_slice_is_suspect(tmp_path: Path) -> None:
    data = bytes(SLICE_BYTES) + b"and a little more"
    disk = await after_a_crash_of_the_machine(tmp_path, data, pieces=False)
    async with running_store(tmp_path, disk=disk) as store:
        spool = await reserve(store, data, pieces=False)
        assert spool.suspect == {0, 1}
        await spool.commit()
        spool.close(keep=True)
        assert content(store, digest_of(data)) == data


async def test_a_torn_blob_is_repaired_for_the_cost_of_what_was_torn(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE)
    flip(blob_path(tmp_path, ONE), PIECE_BYTES + 5)
    async with running_store(tmp_path, disk=disk) as store:
        spool = await reserve(store, ONE)
        assert await as_a_flight(spool, ONE) == PIECE_BYTES
        assert content(store, digest_of(ONE)) == ONE
        assert await store.pieces_file(digest_of(ONE)) == artifact_of(ONE)[1]
        assert store.status().stored_bytes == on_disk(tmp_path)
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) == ONE


async def test_what_is_written_into_leaves_the_blobs_before_it_changes(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE)
    async with running_store(tmp_path, disk=disk, kill=True) as store:
        spool = await reserve(store, ONE)
        assert blob_path(tmp_path, ONE).exists()
        await asyncio.to_thread(spool.write, 0, memoryview(TWO)[:10])
        assert not blob_path(tmp_path, ONE).exists()
        assert not pieces_path(tmp_path, ONE).exists()
        assert {p.name for p in (tmp_path / "spool").iterdir()} == {digest_of(ONE), f"{digest_of(ONE)}.pieces"}
        os.close(spool.fd)
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) is None
        spool = await reserve(store, ONE)
        assert await as_a_flight(spool, ONE) == PIECE_BYTES


async def test_a_suspect_that_nothing_can_mend_is_given_up_by_a_write_of_nothing(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, pieces=False)
    async with running_store(tmp_path, disk=disk) as store:
        spool = await reserve(store, ONE, pieces=False)
        await asyncio.to_thread(spool.write, 0, memoryview(b""))
        spool.close(keep=True)
        await store.tidy()
        assert on_disk(tmp_path) == store.status().stored_bytes == store.status().suspect_blobs == 0


@pytest.mark.parametrize("pieces", [True, False])
@pytest.mark.parametrize("keep", [True, False])
async def test_a_suspect_that_a_flight_only_read_is_still_there_and_still_suspect(
    tmp_path: Path, keep: bool, pieces: bool
) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, pieces=pieces)
    async with running_store(tmp_path, disk=disk) as store:
        (await reserve(store, ONE, pieces=pieces)).close(keep=keep)
        assert blob_path(tmp_path, ONE).read_bytes() == ONE
        assert store.status().suspect_blobs == 1
        assert content(store, digest_of(ONE)) is None
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(ONE)) is None
        assert await store.verify(digest_of(ONE))


async def test_a_suspect_whose_size_is_wrong_is_set_aside_and_fetched_anew(tmp_path: Path, metrics: Metrics) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE)
    os.truncate(blob_path(tmp_path, ONE), 39_000)
    async with running_store(tmp_path, disk=disk, metrics=metrics) as store:
        spool = await reserve(store, ONE)
        assert spool.suspect == frozenset()
        await as_a_flight(spool, ONE)
        assert content(store, digest_of(ONE)) == ONE
        assert store.status().quarantined_blobs == 1
        assert store.status().stored_bytes == on_disk(tmp_path)
    assert failures(metrics) == 1


async def test_a_suspect_gets_the_pieces_that_its_flight_brings(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, pieces=False)
    async with running_store(tmp_path, disk=disk) as store:
        spool = await reserve(store, ONE)
        assert spool.suspect == {0, 1, 2}
        assert await as_a_flight(spool, ONE) == 0
        assert await store.pieces_file(digest_of(ONE)) == artifact_of(ONE)[1]
        assert store.status().stored_bytes == on_disk(tmp_path)


async def test_pieces_that_find_no_room_leave_the_suspect_as_it_was(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, pieces=False)
    async with running_store(tmp_path, disk=disk, max_size=len(ONE)) as store:
        with pytest.raises(NoRoom):
            await reserve(store, ONE)
        assert store.status().suspect_blobs == 1
        assert store.status().stored_bytes == on_disk(tmp_path) == len(ONE)
        assert await store.verify(digest_of(ONE))


async def test_a_suspect_s_room_is_taken_when_it_is_needed(tmp_path: Path) -> None:
    disk = await after_a_crash_of_the_machine(tmp_path, ONE, pieces=False)
    async with running_store(tmp_path, disk=disk, max_size=60_000) as store:
        await put(store, TWO)
        assert [blob.digest for blob in store.blobs()] == [digest_of(TWO)]


# --- distrust --------------------------------------------------------------------------------------------


async def test_a_distrusted_blob_becomes_a_partial_that_no_restart_believes(tmp_path: Path, metrics: Metrics) -> None:
    async with running_store(tmp_path, metrics=metrics, kill=True) as store:
        await put(store, ONE)
        listener = store.changes()
        blob = store.open(digest_of(ONE))
        assert blob is not None
        await store.distrust(digest_of(ONE), "a test says so")
        assert await anext(listener) == StoreChange("distrusted", digest_of(ONE))
        assert store.open(digest_of(ONE)) is None
        assert store.blobs() == ()
        assert os.pread(blob.fd, len(ONE), 0) == ONE, "a lease stays good"
        assert await store.pieces_file(digest_of(ONE)) == artifact_of(ONE)[1]
        blob.close()
        await store.distrust(digest_of(ONE), "again")
        await store.distrust(digest_of(TWO), "not here")
    assert failures(metrics) == 1
    async with running_store(tmp_path) as store:
        assert content(store, digest_of(ONE)) is None
        spool = await reserve(store, ONE)
        assert spool.suspect == {0, 1, 2}
        assert await as_a_flight(spool, ONE) == 0
        assert content(store, digest_of(ONE)) == ONE


async def test_distrusted_without_pieces_it_is_quarantined(tmp_path: Path) -> None:
    async with running_store(tmp_path, kill=True) as store:
        await put(store, ONE, pieces=False)
        await store.distrust(digest_of(ONE), "a test says so")
        assert store.open(digest_of(ONE)) is None
        assert store.status().quarantined_blobs == 1
    async with running_store(tmp_path) as store:
        assert content(store, digest_of(ONE)) is None
        assert store.status().quarantined_blobs == 1
        await put(store, ONE, pieces=False)


async def test_distrust_moves_the_blob_before_its_pieces_and_both_last(tmp_path: Path) -> None:
    disk = RecordingDisk(tmp_path)
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE)
        disk.calls.clear()
        await store.distrust(digest_of(ONE), "a test says so")
        digest = digest_of(ONE)
        folder = f"blobs/sha256/{digest[:2]}"
        assert disk.calls == [
            ("rename", f"{folder}/{digest}", f"spool/{digest}"),
            ("rename", f"{folder}/{digest}.pieces", f"spool/{digest}.pieces"),
            ("sync_folder", "spool"),
            ("sync_folder", folder),
        ]


async def test_what_is_quarantined_lasts_there(tmp_path: Path) -> None:
    disk = RecordingDisk(tmp_path)
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE, pieces=False)
        disk.calls.clear()
        await store.distrust(digest_of(ONE), "a test says so")
        assert [call[0] for call in disk.calls] == ["rename", "sync_folder", "sync_folder"]
        assert [call[1] for call in disk.calls[1:]] == ["quarantine", f"blobs/sha256/{digest_of(ONE)[:2]}"]


async def test_a_blob_that_can_t_be_moved_is_not_served_and_moved_when_it_can_be(tmp_path: Path) -> None:
    class StickyDisk(Disk):
        sticky = False

        def rename(self, old: Path, new: Path) -> None:
            if self.sticky and new.parent.name == "spool":
                raise OSError(30, "Read-only file system")
            super().rename(old, new)

    disk = StickyDisk()
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE)
        disk.sticky = True
        with pytest.raises(StoreUnusable, match="Read-only"):
            await store.distrust(digest_of(ONE), "a test says so")
        assert store.open(digest_of(ONE)) is None
        with pytest.raises(StoreUnusable, match="Read-only"):
            await reserve(store, ONE)
        await store.tidy()
        assert store.open(digest_of(ONE)) is None
        with pytest.raises(StoreUnusable, match="Read-only"):
            await store.verify(digest_of(ONE))
        disk.sticky = False
        await store.tidy()
        assert (tmp_path / "spool" / digest_of(ONE)).exists()
        spool = await reserve(store, ONE)
        assert await as_a_flight(spool, ONE) == 0
        disk.sticky = True
        with pytest.raises(StoreUnusable, match="Read-only"):
            await store.distrust(digest_of(ONE), "a test says so")
        disk.sticky = False
        assert not await store.verify(digest_of(ONE)), "what is distrusted is not trusted again by looking"
        assert (tmp_path / "spool" / digest_of(ONE)).exists()


@pytest.mark.parametrize("pieces", [True, False], ids=["pieces", "no pieces"])
async def test_no_restart_believes_a_bad_blob_that_can_t_be_moved(tmp_path: Path, *, pieces: bool) -> None:
    class StickyDisk(Disk):
        sticky = True

        def rename(self, old: Path, new: Path) -> None:
            if self.sticky and new.parent.name in {"spool", "quarantine"}:
                raise OSError(1, "Operation not permitted")
            super().rename(old, new)

    disk = StickyDisk()
    async with running_store(tmp_path, disk=disk, kill=True) as store:
        await put(store, ONE, pieces=pieces)
        await put(store, TWO)
        flip(blob_path(tmp_path, ONE), 17_000)
        with pytest.raises(StoreUnusable, match="out of service"):
            await store.verify(digest_of(ONE))
        await store.tidy()
    async with running_store(tmp_path, disk=disk, kill=True) as store:
        assert content(store, digest_of(ONE)) is None
        with pytest.raises(StoreUnusable, match="out of service"):
            await store.verify(digest_of(ONE))
        assert await store.verify(digest_of(TWO))
    disk.sticky = False
    async with running_store(tmp_path, disk=disk) as store:
        assert content(store, digest_of(TWO)) == TWO, "it was verified since"
        assert not await store.verify(digest_of(ONE))
        await store.tidy()
    assert not (tmp_path / "suspect-before").exists()


async def test_a_blob_is_out_of_service_at_once_whatever_waits_for_room(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await put(store, ONE)
        async with store._room.lock:
            distrusting = asyncio.ensure_future(store.distrust(digest_of(ONE), "a test says so"))
            await asyncio.sleep(0)
            assert store.open(digest_of(ONE)) is None
        await distrusting


# --- verify -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [True, False])
async def test_verify_finds_a_flipped_bit_and_takes_the_blob_out_of_service(
    tmp_path: Path, metrics: Metrics, pieces: bool
) -> None:
    async with running_store(tmp_path, metrics=metrics) as store:
        await put(store, ONE, pieces=pieces)
        await put(store, TWO, pieces=pieces)
        flip(blob_path(tmp_path, ONE), 39_999)
        assert not await store.verify(digest_of(ONE))
        assert await store.verify(digest_of(TWO))
        assert content(store, digest_of(ONE)) is None
        assert content(store, digest_of(TWO)) == TWO
        assert store.status().quarantined_blobs == (0 if pieces else 1)
        assert store.status().stored_bytes == on_disk(tmp_path)
        if pieces:
            spool = await reserve(store, ONE)
            assert await as_a_flight(spool, ONE) == 40_000 - 2 * PIECE_BYTES
    assert failures(metrics) == 1


@pytest.mark.parametrize("what", ["gone", "short", "long", "link", "folder", "fifo", "mode"])
async def test_verify_takes_what_is_no_such_file_for_wrong(tmp_path: Path, what: str) -> None:
    async with running_store(tmp_path) as store:
        await put(store, ONE)
        path = blob_path(tmp_path, ONE)
        if what in ("short", "long"):
            os.truncate(path, 39_999 if what == "short" else 40_001)
        elif what == "mode" and os.geteuid():
            path.chmod(0)
        elif what != "mode":
            path.unlink()
        if what == "link":
            (tmp_path / "elsewhere").write_bytes(ONE)
            path.symlink_to(tmp_path / "elsewhere")
        elif what == "folder":
            path.mkdir()
        elif what == "fifo":
            os.mkfifo(path)
        assert await store.verify(digest_of(ONE)) == (what == "mode" and not os.geteuid())
        if what != "mode":
            assert content(store, digest_of(ONE)) is None
            await put(store, ONE)
        assert content(store, digest_of(ONE)) == ONE


async def test_a_read_error_of_the_disk_makes_a_blob_wrong_and_a_lack_of_descriptors_does_not(tmp_path: Path) -> None:
    class Failing(Disk):
        error: OSError | None = None

        def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
            if self.error:
                raise self.error
            return super().read_once(fd, buffer, offset)

    disk = Failing()
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE)
        disk.error = OSError(23, "Too many open files in system")
        with pytest.raises(StoreUnusable, match="Too many open files"):
            await store.verify(digest_of(ONE))
        assert content(store, digest_of(ONE)) == ONE
        disk.error = OSError(5, "Input/output error")
        assert not await store.verify(digest_of(ONE))
        assert content(store, digest_of(ONE)) is None


async def test_blobs_that_are_verified_keep_nobody_waiting_and_stop_when_nobody_waits_for_them(tmp_path: Path) -> None:
    class Slow(Disk):
        reads = 0

        def __init__(self) -> None:
            self.go_on = threading.Event()

        def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
            self.reads += 1
            assert self.go_on.wait(20)
            return super().read_once(fd, buffer, offset)

    disk = Slow()
    async with running_store(tmp_path, disk=disk) as store:
        digests = [await put(store, random_bytes(3 * PORTION_BYTES, seed), pieces=False) for seed in range(8)]
        verifying = [asyncio.create_task(store.verify(digest)) for digest in digests]
        while not disk.reads:
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert content(store, await put(store, ONE)) == ONE
            await store.pin("me", frozenset(digests))
        for task in verifying[1:]:
            task.cancel()
        disk.go_on.set()
        assert await verifying[0]
        await asyncio.wait(verifying)
    assert disk.reads < 3 + len(digests)


async def test_a_filesystem_that_can_t_read_past_its_cache_is_read_the_old_way(tmp_path: Path) -> None:
    class NoDirect(Disk):
        forgotten = 0

        def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
            if flags & os.O_DIRECT and self.refuse == "open":
                raise OSError(22, "Invalid argument")
            fd = super().open(path, flags & ~os.O_DIRECT, mode)
            if flags & os.O_DIRECT:
                self.direct = fd
            return fd

        def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
            if fd == self.direct:
                self.direct = -1
                raise OSError(22, "Invalid argument")
            return super().read_once(fd, buffer, offset)

        def forget(self, fd: int, span: Span) -> None:  # noqa: ARG002
            self.forgotten += 1

        refuse = ""
        direct = -1

    disk = NoDirect()
    async with running_store(tmp_path, disk=disk) as store:
        await put(store, ONE)
        for disk.refuse in ("open", "read"):
            assert await store.verify(digest_of(ONE))
        assert disk.forgotten == 2
    assert not [
        fd
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path))
    ]


async def test_every_flipped_bit_of_the_layer_is_found_and_put_right(tmp_path: Path, metrics: Metrics) -> None:
    async with running_store(tmp_path, metrics=metrics) as store:
        await put(store, ONE)
        path, right = pieces_path(tmp_path, ONE), artifact_of(ONE)[1]
        assert right is not None
        for offset in range(right.index(b"\n") + 1, len(right), 7):
            flip(path, offset)
            assert await store.pieces_file(digest_of(ONE)) is None
            assert await store.verify(digest_of(ONE))
            assert path.read_bytes() == right
            assert failures(metrics) == (offset - right.index(b"\n") - 1) / 7 + 1
        assert content(store, digest_of(ONE)) == ONE


async def test_a_flipped_bit_of_the_line_drops_the_pieces_and_keeps_the_blob(tmp_path: Path) -> None:
    right = artifact_of(ONE)[1]
    assert right is not None
    needs = right.index(b'"sh"')
    async with running_store(tmp_path) as store:
        for offset in range(0, right.index(b"\n") + 1, 3):
            await put(store, ONE)
            flip(pieces_path(tmp_path, ONE), offset)
            assert await store.verify(digest_of(ONE))
            assert content(store, digest_of(ONE)) == ONE
            if not needs < offset < needs + 3:  # what it needs is vouched for by nothing else
                assert not pieces_path(tmp_path, ONE).exists()
            assert store.status().stored_bytes == on_disk(tmp_path)
            await store.evict(digest_of(ONE))


@pytest.mark.parametrize("damage", ["gone", "torn", "longer", "another's"])
async def test_pieces_that_are_not_the_blob_s_are_dropped(tmp_path: Path, damage: str) -> None:
    async with running_store(tmp_path) as store:
        await put(store, ONE)
        path = pieces_path(tmp_path, ONE)
        body = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(
                {"torn": body[:-1], "longer": body + b"x", "another's": artifact_of(TWO)[1] or b""}[damage]
            )
        assert await store.verify(digest_of(ONE))
        assert not path.exists()
        assert content(store, digest_of(ONE)) == ONE
        assert store.status().stored_bytes == len(ONE)


async def test_verify_says_when_and_what_is_not_here(tmp_path: Path) -> None:
    now = NOW
    async with running_store(tmp_path, wall=lambda: now) as store:
        await put(store, ONE)
        now += 500
        assert await store.verify(digest_of(ONE))
        assert [blob.verified for blob in store.blobs()] == [now]
        assert blob_path(tmp_path, ONE).stat().st_mtime == now
        with pytest.raises(NotStored):
            await store.verify(digest_of(TWO))
        spool = await reserve(store, TWO)
        with pytest.raises(NotStored, match="arriving"):
            await store.verify(digest_of(TWO))
        spool.close(keep=False)


async def test_a_flight_that_takes_a_blob_up_while_it_is_verified_decides_itself(tmp_path: Path) -> None:
    class GatedDisk(BootDisk):
        gate: asyncio.Event | None = None

        def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
            count = super().read_once(fd, buffer, offset)
            if self.gate is not None:
                loop.call_soon_threadsafe(self.gate.set)
                assert asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
            return count

    loop, go_on = asyncio.get_running_loop(), asyncio.Event()
    disk = GatedDisk()
    async with running_store(tmp_path, disk=disk, kill=True) as store:
        await put(store, ONE)
    flip(blob_path(tmp_path, ONE), 5)
    disk.boot = "second"
    async with running_store(tmp_path, disk=disk) as store:
        disk.gate = asyncio.Event()
        verifying = asyncio.ensure_future(store.verify(digest_of(ONE)))
        await disk.gate.wait()
        disk.gate = None
        spool = await reserve(store, ONE)
        go_on.set()
        with pytest.raises(NotStored, match="left the store"):
            await verifying
        assert await as_a_flight(spool, ONE) == PIECE_BYTES
        assert content(store, digest_of(ONE)) == ONE


# --- evict, and what is shown ------------------------------------------------------------------------------


async def test_an_operator_s_eviction_refuses_in_words_what_it_may_not_do(tmp_path: Path, metrics: Metrics) -> None:
    async with running_store(tmp_path, metrics=metrics) as store:
        for data in (ONE, TWO):
            await put(store, data)
        await store.pin("me", frozenset({digest_of(ONE)}))
        await store.pin("prefetch", frozenset({digest_of(ONE)}))
        with pytest.raises(NotEvictable, match="pinned by me, prefetch"):
            await store.evict(digest_of(ONE))
        blob = store.open(digest_of(TWO))
        assert blob is not None
        with pytest.raises(NotEvictable, match="leases: 1"):
            await store.evict(digest_of(TWO))
        blob.close()
        await store.evict(digest_of(TWO))
        with pytest.raises(NotStored):
            await store.evict(digest_of(TWO))
        spool = await reserve(store, THREE)
        with pytest.raises(NotEvictable, match="arriving"):
            await store.evict(digest_of(THREE))
        spool.close(keep=True)
        await store.evict(digest_of(THREE))
        assert [blob.digest for blob in store.blobs()] == [digest_of(ONE)]
        assert store.status().stored_bytes == on_disk(tmp_path)
    assert metrics.registry.get_sample_value("waystation_evictions_total", {"reason": "operator"}) == 1


async def test_every_blob_is_shown_with_who_holds_it(tmp_path: Path) -> None:
    now = NOW
    async with running_store(tmp_path, wall=lambda: now) as store:
        await put(store, ONE)
        now += 10
        await put(store, TWO, pieces=False)
        await store.pin("me", frozenset({digest_of(TWO)}))
        assert store.pins() == {"me": frozenset({digest_of(TWO)})}
        with store.open(digest_of(ONE)) or pytest.fail("it is here"):
            two, one = store.blobs()
        assert (one.digest, one.size_bytes, one.leases, one.pinned_by) == (digest_of(ONE), 40_000, 1, ())
        assert one.pieces_bytes == len(artifact_of(ONE)[1] or b"")
        assert (two.pieces_bytes, two.leases, two.pinned_by, two.suspect) == (0, 0, ("me",), False)
        assert one.used == pytest.approx(now)
        assert one.verified == NOW


# --- quarantine ----------------------------------------------------------------------------------------------


async def test_quarantine_counts_gives_way_first_and_is_removed_in_time(tmp_path: Path, metrics: Metrics) -> None:
    now = NOW
    async with running_store(
        tmp_path, metrics=metrics, wall=lambda: now, max_size=100_000, quarantine_keep=3600.0
    ) as store:
        for data in (ONE, TWO):
            await put(store, data, pieces=False)
        await store.distrust(digest_of(ONE), "a test says so")
        assert store.status().stored_bytes == 80_000
        assert metrics.registry.get_sample_value("waystation_quarantined_blobs") == 1
        await put(store, THREE, pieces=False)
        assert store.status().quarantined_blobs == 0
        assert content(store, digest_of(TWO)) == TWO
        await store.distrust(digest_of(TWO), "a test says so")
        now += 3599
        await store.tidy()
        assert store.status().quarantined_blobs == 1
    async with running_store(tmp_path, wall=lambda: now, max_size=100_000, quarantine_keep=3600.0) as store:
        assert store.status().quarantined_blobs == 1
        now += 2
        with capture_logs() as logs:
            await store.tidy()
        assert [entry["event"] for entry in logs] == ["quarantined_file_removed"]
        assert store.status().stored_bytes == on_disk(tmp_path) == 40_000
        assert list((tmp_path / "quarantine").iterdir()) == []


async def test_what_a_person_put_into_the_quarantine_and_folders_of_others_stay(tmp_path: Path) -> None:
    now = NOW
    (tmp_path / "store").mkdir()
    async with running_store(tmp_path / "store", wall=lambda: now, quarantine_keep=0) as store:
        quarantine = tmp_path / "store/quarantine"
        (quarantine / "notes").write_text("mine")
        (quarantine / "strange-20200101T000000Z-1-things").mkdir()
        (quarantine / "strange-20200101T000000Z-1-things" / "thesis").write_text("mine")
        (quarantine / "strange-20200101T000000Z-1-ab").mkdir()
        (quarantine / "strange-20200101T000000Z-1-ab" / "blob").write_bytes(ONE)
        assert store.status().quarantined_blobs == 0
    async with running_store(tmp_path / "store", wall=lambda: now, quarantine_keep=0):
        assert {path.name for path in quarantine.iterdir()} == {"notes", "strange-20200101T000000Z-1-things"}


async def test_what_the_store_finds_strange_when_it_opens_it_is_counted(tmp_path: Path, metrics: Metrics) -> None:
    async with running_store(tmp_path, metrics=metrics) as store:
        await put(store, ONE)
        listener = store.changes()
        os.truncate(blob_path(tmp_path, ONE), 5)
        assert store.open(digest_of(ONE)) is None
        assert await anext(listener) == StoreChange("distrusted", digest_of(ONE))
    assert failures(metrics) == 1
