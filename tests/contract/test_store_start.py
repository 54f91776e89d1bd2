"""What a store makes of the folder that it finds at its start."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from stores import PIECE_BYTES, artifact_of, content, digest_of, put, random_bytes, reserve, running_store
from waystation.config import StoreSettings
from waystation.disk import Disk
from waystation.errors import StoreFormat, StoreLocked, StoreUnusable
from waystation.store.disk_store import DiskStore
from waystation.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

ONE, TWO, THREE = (random_bytes(40_000, seed) for seed in (1, 2, 3))


async def fill(path: Path, *bodies: bytes) -> None:
    async with running_store(path) as store:
        for data in bodies:
            await put(store, data)


def blob_path(path: Path, data: bytes) -> Path:
    digest = digest_of(data)
    return path / "blobs/sha256" / digest[:2] / digest


async def refuse(path: Path, error: type[Exception], match: str, disk: Disk | None = None) -> None:
    store = DiskStore(StoreSettings(path=path, min_free=0), disk=disk or Disk(), metrics=Metrics())
    with pytest.raises(error, match=match):
        await store.recover()


# --- whose folder it is --------------------------------------------------------------------------------


async def test_its_content_is_known_from_the_disk_alone(tmp_path: Path) -> None:
    await fill(tmp_path, ONE, TWO)
    async with running_store(tmp_path) as store:
        assert store.status().blobs == 2
        assert content(store, digest_of(ONE)) == ONE
        assert content(store, digest_of(TWO)) == TWO
        assert await store.pieces_file(digest_of(ONE)) is not None


HOLDER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stores import running_store

async def main():
    async with running_store(Path(sys.argv[1])):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


async def test_a_second_daemon_is_refused_and_told_who_holds_the_store(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    tests = str(Path(__file__).parents[1])
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path), tests, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        while (line := await holder.stdout.readline()) != b"held\n":
            assert line
        await refuse(tmp_path, StoreLocked, f"in use by process {holder.pid}$")
    finally:
        holder.stdin.close()
        await holder.wait()
    async with running_store(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


async def test_a_second_store_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    async with running_store(tmp_path):
        await refuse(tmp_path, StoreLocked, f"in use by process {os.getpid()}$")


@pytest.mark.parametrize(
    ("format_", "match"),
    [
        ("3\n", "store format '3'; this version knows formats 1 to 2"),
        ("0\n", "store format '0'"),
        ("", "store format ''"),
        ("1" * 99, "larger than 64 bytes"),
    ],
)
async def test_another_version_s_store_is_refused_in_words_and_left_alone(
    tmp_path: Path, format_: str, match: str
) -> None:
    await fill(tmp_path, ONE)
    (tmp_path / "format").write_text(format_)
    await refuse(tmp_path, StoreFormat, match)
    assert blob_path(tmp_path, ONE).read_bytes() == ONE
    (tmp_path / "format").write_text("2\n")
    async with running_store(tmp_path) as store:
        assert content(store, digest_of(ONE)) == ONE


def store_of_format_1(path: Path, *bodies: bytes) -> None:
    """Lay out by hand what a daemon of format 1 left: no marker tells how it ended."""
    for name in ("blobs/sha256", "spool", "quarantine", "pins"):
        (path / name).mkdir(parents=True)
    (path / "format").write_text("1\n")
    (path / "lock").write_text("4711\n")
    for data in bodies:
        blob = blob_path(path, data)
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(data)
        blob.with_name(f"{blob.name}.pieces").write_bytes(artifact_of(data)[1] or b"")
        os.utime(blob, (1_600_000_000, 1_600_000_000))
    (path / "pins" / "me.json").write_text(f'{{"format": 1, "digests": ["{digest_of(bodies[0])}"]}}')
    spool = path / "spool" / digest_of(THREE)
    spool.write_bytes(THREE)
    spool.with_name(f"{spool.name}.pieces").write_bytes(artifact_of(THREE)[1] or b"")


async def test_a_store_of_format_1_is_migrated_and_each_blob_is_checked_once_before_it_is_served(
    tmp_path: Path,
) -> None:
    store_of_format_1(tmp_path, ONE, TWO)
    with capture_logs() as logs:
        async with running_store(tmp_path) as store:
            assert (tmp_path / "format").read_text() == "2\n"
            assert [content(store, digest_of(data)) for data in (ONE, TWO)] == [None, None]
            assert store.pins() == {"me": frozenset({digest_of(ONE)})}
            for data in (ONE, TWO):
                assert await store.verify(digest_of(data))
                assert content(store, digest_of(data)) == data
            assert (await reserve(store, THREE)).suspect == {0, 1, 2}
    assert [entry["event"] for entry in logs][:2] == ["store_migrated", "store_recovered"]
    with capture_logs() as logs:
        async with running_store(tmp_path) as store:
            assert content(store, digest_of(ONE)) == ONE
    assert "store_migrated" not in [entry["event"] for entry in logs]


async def test_a_migration_that_is_interrupted_is_done_again(tmp_path: Path) -> None:
    class Interrupted(Disk):
        left = 0

        def rename(self, old: Path, new: Path) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError(5, "Input/output error")
            super().rename(old, new)

    store_of_format_1(tmp_path, ONE)
    disk = Interrupted()
    for disk.left in (0, 1, 2, 0, 1):  # before the marker, the format, the suspicion, it again, this boot's marker
        await refuse(tmp_path, StoreUnusable, "Input/output error", disk)
    async with running_store(tmp_path) as store:
        assert content(store, digest_of(ONE)) is None
        assert await store.verify(digest_of(ONE))


async def test_a_folder_full_of_something_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    await refuse(tmp_path, StoreFormat, "holds 'thesis.txt': not a store")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


async def test_a_start_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    for name in ("lock", ".format.new"):
        (tmp_path / name).write_text("")
    (tmp_path / "lost+found").mkdir()
    await fill(tmp_path, ONE)


async def test_a_path_that_is_no_folder_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    await refuse(tmp_path / "file", StoreUnusable, "Not a directory")
    await refuse(tmp_path / "file" / "below", StoreUnusable, "Not a directory")


async def test_a_failed_start_lets_the_store_go(tmp_path: Path) -> None:
    class BrokenDisk(Disk):
        def free_bytes(self, path: Path) -> int:  # noqa: ARG002
            raise OSError(5, "Input/output error")

    await refuse(tmp_path, StoreUnusable, "Input/output error", BrokenDisk())
    await fill(tmp_path, ONE)


# --- what is in it -----------------------------------------------------------------------------------------


async def test_strange_things_are_set_aside_with_a_warning_and_never_served(tmp_path: Path) -> None:
    await fill(tmp_path, ONE)
    sha = tmp_path / "blobs/sha256"
    (sha / "00").mkdir(exist_ok=True)
    hexes = [f"{number:064x}" for number in range(20)]
    (tmp_path / "secret").write_bytes(TWO)
    strange: list[Callable[[], object]] = [
        (tmp_path / "blobs" / "md5").mkdir,
        (sha / "readme.txt").touch,
        (sha / "zz").mkdir,
        lambda: (sha / "ff").symlink_to(tmp_path),
        lambda: (sha / "00" / hexes[1]).symlink_to(tmp_path / "secret"),
        lambda: os.mkfifo(sha / "00" / hexes[2]),
        (sha / "00" / hexes[3]).mkdir,
        lambda: (sha / "00" / hexes[4]).write_bytes(b""),
        lambda: (sha / "00" / f"{hexes[5]}.tmp").write_bytes(b"x"),
        lambda: (sha / "00" / ("ff" + hexes[6][2:])).write_bytes(b"in the wrong folder"),
        lambda: (sha / "00" / hexes[7].replace("0", "A")).write_bytes(b"x"),
        lambda: open(os.fsencode(sha / "00") + b"/\xff\n\x1b[31m", "wb").close(),
        (tmp_path / "spool" / hexes[8]).mkdir,
        lambda: (tmp_path / "spool" / hexes[9]).symlink_to(tmp_path / "secret"),
        (tmp_path / "spool" / "notes").touch,
        (tmp_path / "pins" / "me.json").mkdir,
        lambda: (tmp_path / "pins" / "you.json").write_text("[1, 2"),
        lambda: (tmp_path / "pins" / "they.json").write_text('{"format": 1, "digests": ["../../x"]}'),
        (tmp_path / "pins" / "No Owner.json").touch,
        (tmp_path / "pins" / "plain").touch,
    ]
    for place in strange:
        place()
    with capture_logs() as logs:
        async with running_store(tmp_path) as store:
            assert store.status().blobs == 1
            assert content(store, digest_of(ONE)) == ONE
            for name in hexes:
                assert store.open(digest_of(name.encode())) is None
    warnings = [entry for entry in logs if entry["event"] == "strange_thing_set_aside"]
    assert len(warnings) == len(strange)
    assert all(entry["path"].isprintable() and entry["moved_to"].isprintable() for entry in warnings)
    assert len(list((tmp_path / "quarantine").iterdir())) == len(strange)
    assert (tmp_path / "secret").read_bytes() == TWO
    with capture_logs() as logs:
        async with running_store(tmp_path) as store:
            assert store.status().blobs == 1
    assert [entry["event"] for entry in logs] == ["store_recovered"]


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "spool", "pins", "quarantine"])
@pytest.mark.parametrize("what", ["file", "link"])
async def test_a_file_or_link_in_a_folder_s_place_is_set_aside(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / "store"
    async with running_store(path):
        pass
    for folder in sorted((path / name).rglob("*"), reverse=True):
        folder.rmdir()
    (path / name).rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "file":
        (path / name).write_text("strange")
    else:
        (path / name).symlink_to(elsewhere)
    await fill(path, ONE)
    assert blob_path(path, ONE).read_bytes() == ONE
    assert list(elsewhere.iterdir()) == []
    aside = [p.name for p in [*path.iterdir(), *(path / "quarantine").iterdir()] if p.name.startswith("strange-")]
    assert len(aside) == 1


async def test_what_can_t_be_read_or_set_aside_is_not_fatal(tmp_path: Path) -> None:
    class Unreadable(Disk):
        def scan(self, path: Path) -> list[os.DirEntry[str]]:
            if path.name == digest_of(ONE)[:2]:
                raise OSError(13, "Permission denied")
            return super().scan(path)

        def rename(self, old: Path, new: Path) -> None:
            if old.name == digest_of(ONE)[:2]:
                raise OSError(13, "Permission denied")
            super().rename(old, new)

    await fill(tmp_path, ONE, TWO)
    assert digest_of(ONE)[:2] != digest_of(TWO)[:2]
    with capture_logs() as logs:
        async with running_store(tmp_path, disk=Unreadable()) as store:
            assert content(store, digest_of(ONE)) is None
            assert content(store, digest_of(TWO)) == TWO
    assert "strange_thing_not_set_aside" in [entry["event"] for entry in logs]


async def test_a_blob_of_another_size_than_its_pieces_say_is_not_served_behind_a_restart(tmp_path: Path) -> None:
    await fill(tmp_path, ONE, TWO)
    os.truncate(blob_path(tmp_path, ONE), 39_999)
    async with running_store(tmp_path) as store:
        assert store.open(digest_of(ONE)) is None
        assert content(store, digest_of(TWO)) == TWO
        await put(store, ONE)
        assert content(store, digest_of(ONE)) == ONE
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


async def test_an_empty_artifact_survives_a_restart(tmp_path: Path) -> None:
    await fill(tmp_path, b"")
    async with running_store(tmp_path) as store:
        assert content(store, digest_of(b"")) == b""


# --- what a crash leaves -------------------------------------------------------------------------------------


async def test_a_spool_with_its_pieces_is_resumed_behind_a_restart_and_believed_in_nothing(tmp_path: Path) -> None:
    data = random_bytes(4 * PIECE_BYTES)
    async with running_store(tmp_path) as store:
        spool = await reserve(store, data)
        spool.write(PIECE_BYTES, memoryview(data)[PIECE_BYTES : 2 * PIECE_BYTES])
        os.fsync(spool.fd)
        used = store.status().stored_bytes
        spool.close(keep=True)
    async with running_store(tmp_path) as store:
        assert store.open(digest_of(data)) is None
        assert store.status().stored_bytes == used
        again = await reserve(store, data)
        assert 1 in again.suspect
        again.close(keep=False)


async def test_a_spool_that_can_t_be_checked_again_is_removed_with_every_other_leftover(tmp_path: Path) -> None:
    await fill(tmp_path, ONE)
    spool = tmp_path / "spool"
    (spool / digest_of(TWO)).write_bytes(TWO)
    (spool / f"{digest_of(THREE)}.pieces").write_bytes(b"x")
    (spool / digest_of(ONE)).write_bytes(ONE)
    (spool / f"{digest_of(ONE)}.pieces").write_bytes(b"x")
    orphan = blob_path(tmp_path, TWO).parent
    orphan.mkdir(exist_ok=True)
    (orphan / f"{digest_of(TWO)}.pieces.new").unlink(missing_ok=True)
    (tmp_path / "pins" / ".me.json.new").write_bytes(b"x")
    async with running_store(tmp_path) as store:
        assert list(spool.iterdir()) == []
        assert list((tmp_path / "pins").iterdir()) == []
        assert list((tmp_path / "quarantine").iterdir()) == []
        assert content(store, digest_of(ONE)) == ONE


async def test_a_commit_that_died_between_its_two_renames_can_be_resumed(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        spool = await reserve(store, ONE)
        spool.write(0, memoryview(ONE))
        spool.close(keep=True)
    pieces = tmp_path / "spool" / f"{digest_of(ONE)}.pieces"
    body = pieces.read_bytes()
    blob_path(tmp_path, ONE).parent.mkdir()
    pieces.rename(blob_path(tmp_path, ONE).parent / pieces.name)
    async with running_store(tmp_path) as store:
        assert pieces.read_bytes() == body
        again = await reserve(store, ONE)
        assert again.suspect == {0, 1, 2}
        again.close(keep=True)


async def test_pieces_without_their_blob_are_removed(tmp_path: Path) -> None:
    await fill(tmp_path, ONE)
    blob_path(tmp_path, ONE).unlink()
    async with running_store(tmp_path) as store:
        assert store.status().stored_bytes == 0
        assert list(blob_path(tmp_path, ONE).parent.iterdir()) == []


# --- order and limits ------------------------------------------------------------------------------------------


async def test_the_order_of_use_survives_a_restart_and_a_clock_set_back(tmp_path: Path) -> None:
    now = 2_000_000_000.0
    async with running_store(tmp_path, wall=lambda: now) as store:
        for data in (ONE, TWO, THREE):
            await put(store, data, pieces=False)
        now = 1_000_000_000.0
        assert content(store, digest_of(ONE)) == ONE
    now = 1_500_000_000.0
    async with running_store(tmp_path, max_size=130_000, wall=lambda: now) as store:
        await put(store, random_bytes(45_000, 9), pieces=False)
        await put(store, random_bytes(30_000, 8), pieces=False)
        assert [content(store, digest_of(data)) is not None for data in (ONE, TWO, THREE)] == [True, False, False]


async def test_the_last_use_is_the_file_s_access_time_and_its_verification_the_other(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    async with running_store(tmp_path, wall=lambda: now) as store:
        await put(store, ONE, pieces=False)
        now += 5000
        assert content(store, digest_of(ONE)) == ONE
        await store.tidy()
        there = blob_path(tmp_path, ONE).stat()
        assert (round(there.st_atime), round(there.st_mtime)) == (1_000_005_000, 1_000_000_000)


async def test_a_smaller_quota_is_met_at_the_start_by_evicting_the_least_recently_used(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        for data in (ONE, TWO, THREE):
            await put(store, data, pieces=False)
        (await reserve(store, random_bytes(1000, 9))).close(keep=True)
        await store.pin("me", frozenset({digest_of(ONE)}))
    async with running_store(tmp_path, max_size=90_000) as store:
        assert [content(store, digest_of(data)) is not None for data in (ONE, TWO, THREE)] == [True, False, True]
        assert store.status().stored_bytes == 80_000
    with capture_logs() as logs:
        async with running_store(tmp_path, max_size=30_000) as store:
            assert content(store, digest_of(ONE)) == ONE
            assert store.status().blobs == 1
    assert "store_over_its_limits" in [entry["event"] for entry in logs]


async def test_a_hundred_thousand_blobs_are_known_within_two_seconds(tmp_path: Path) -> None:
    folders = [tmp_path / "blobs/sha256" / f"{number:02x}" for number in range(256)]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in range(100_000):
        digest = digest_of(number.to_bytes(4, "big"))
        fd = os.open(folders[int(digest[:2], 16)] / digest, os.O_CREAT | os.O_WRONLY)
        os.ftruncate(fd, 1)
        os.close(fd)
    (tmp_path / "format").write_text("2\n")
    seconds = []
    for _ in range(3):  # the best of three, and its own time: the machine may have other work
        began = time.process_time()
        async with running_store(tmp_path) as store:
            seconds.append(time.process_time() - began)
            assert store.status().blobs == 100_000
    assert min(seconds) < 2.0
