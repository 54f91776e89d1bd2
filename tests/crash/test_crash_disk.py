"""The disk that loses its power does lose what was not synced, and nothing else."""

from __future__ import annotations

import errno
import inspect
import os
import random
from typing import TYPE_CHECKING

import pytest

from crash_disk import BLOCK_BYTES, CrashDisk, Fault, PowerCut
from waystation.disk import Disk, replace_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def crashing(memory_folder: Path) -> CrashDisk:
    root = memory_folder / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    return CrashDisk(root)


def tree(path: Path) -> dict[str, bytes]:
    return {str(entry.relative_to(path)): entry.read_bytes() for entry in path.rglob("*") if entry.is_file()}


def write(disk: CrashDisk, name: str, data: bytes, *, sync: bool) -> None:
    fd = disk.open(disk.root / name, os.O_WRONLY | os.O_CREAT)
    disk.write_at(fd, memoryview(data), 0)
    if sync:
        disk.sync(fd)
    disk.close(fd)


def left(disk: CrashDisk, keep: random.Random | None = None) -> dict[str, bytes]:
    target = disk.root.parent / "left"
    disk.survive(target, keep=keep or "synced")
    found = tree(target)
    for entry in sorted(target.rglob("*"), reverse=True):
        entry.rmdir() if entry.is_dir() else entry.unlink()
    target.rmdir()
    return found


def test_it_stands_in_for_every_call_of_the_real_disk() -> None:
    real = {name for name, _ in inspect.getmembers(Disk, inspect.isfunction) if not name.startswith("_")}
    assert real <= vars(CrashDisk).keys()


def test_a_name_lasts_once_its_folder_is_synced_and_bytes_once_their_file_is(crashing: CrashDisk) -> None:
    write(crashing, "unnamed", b"x", sync=True)
    assert left(crashing) == {"old": b"old"}
    write(crashing, "empty", b"x", sync=False)
    crashing.sync_folder(crashing.root)
    assert left(crashing) == {"old": b"old", "unnamed": b"x", "empty": b""}
    crashing.unlink(crashing.root / "unnamed")
    assert "unnamed" in left(crashing)


def test_a_folder_is_lost_with_all_that_is_in_it(crashing: CrashDisk) -> None:
    crashing.make_folder(crashing.root / "new")
    write(crashing, "new/file", b"x", sync=True)
    crashing.sync_folder(crashing.root / "new")
    assert left(crashing) == {"old": b"old"}
    crashing.sync_folder(crashing.root)
    assert left(crashing) == {"old": b"old", "new/file": b"x"}


def test_a_rename_is_there_whole_or_not_at_all(crashing: CrashDisk) -> None:
    crashing.make_folder(crashing.root / "a")
    write(crashing, "a/file", b"x", sync=True)
    for folder in ("", "a"):
        crashing.sync_folder(crashing.root / folder)
    crashing.rename(crashing.root / "a/file", crashing.root / "file")
    ends = {tuple(sorted(left(crashing, random.Random(seed)))) for seed in range(20)}
    assert ends == {("a/file", "old"), ("file", "old")}
    crashing.sync_folder(crashing.root)
    assert left(crashing) == {"file": b"x", "old": b"old"}


def test_a_random_part_of_what_is_not_synced_survives(crashing: CrashDisk) -> None:
    data = random.Random(1).randbytes(4 * BLOCK_BYTES)
    write(crashing, "old", data, sync=False)
    seen = {left(crashing, random.Random(seed))["old"] for seed in range(20)}
    assert len(seen) > 5
    assert any(len(body) == len(data) and body != data for body in seen), "later blocks without earlier ones"


def test_what_a_failed_sync_was_to_write_is_lost_whatever_later_syncs_say(crashing: CrashDisk) -> None:
    fd = crashing.open(crashing.root / "old", os.O_WRONLY)
    crashing.write_at(fd, memoryview(b"new"), 0)
    crashing.arm(Fault.BROKEN)
    with pytest.raises(OSError, match="Input/output error"):
        crashing.sync(fd)
    crashing.sync(fd)
    crashing.close(fd)
    assert left(crashing) == {"old": b"old"}
    assert tree(crashing.root) == {"old": b"new"}


def test_the_chosen_call_fails_once_and_a_short_write_leaves_its_half(crashing: CrashDisk) -> None:
    crashing.arm(Fault.SHORT, at=1)
    write(crashing, "first", b"1234", sync=False)
    with pytest.raises(OSError, match="No space left") as failed:
        write(crashing, "second", b"1234", sync=False)
    assert failed.value.errno == errno.ENOSPC
    write(crashing, "third", b"1234", sync=False)
    assert tree(crashing.root) == {"old": b"old", "first": b"1234", "second": b"12", "third": b"1234"}


def test_without_power_no_call_is_made_any_more(crashing: CrashDisk) -> None:
    crashing.arm(Fault.POWER, at=2)
    with pytest.raises(PowerCut):
        replace_file(crashing, crashing.root / "old", b"new")
    assert crashing.struck == "sync"
    with pytest.raises(PowerCut):
        crashing.scan(crashing.root)
    assert tree(crashing.root)["old"] == b"old"
    crashing.end_process()
    assert not crashing.open_files
