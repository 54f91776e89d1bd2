"""`catalog.json`: what was once seen is on disk before anyone acts on it, and a damaged file is never fatal."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from waystation.catalog.memory import Memory
from waystation.catalog.remembered import Remembered
from waystation.catalog.vouching import VouchedBy
from waystation.disk import Disk
from waystation.errors import StoreUnusable
from waystation.model import Artifact, Digest, TargetPath

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def seen(name: str, digest: str = "1", etag: str = "a") -> Remembered:
    target = TargetPath(name)
    return Remembered(
        Artifact(target, Digest(digest * 64), 5, NOW, target, etag, None), seen=100.0, vouched_by=VouchedBy.CHECKSUM
    )


async def recalled(file: Path) -> dict[str, Remembered]:
    """What a new process finds."""
    memory = Memory(file, disk=Disk())
    await memory.load()
    await memory.close()
    return {str(name): one for name, one in memory._by_name.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.json"


class CountingDisk(Disk):
    """Counts syncs, and holds the first one until it is let go."""

    def __init__(self) -> None:
        self.syncs = 0
        self.go = threading.Event()

    def sync(self, fd: int) -> None:
        self.syncs += 1
        assert self.go.wait(10)
        super().sync(fd)


class FailingDisk(Disk):
    """Refuses the calls that change anything: the one numbered `at`, or from then on all."""

    def __init__(self, at: int | None = None, *, for_good: bool = False) -> None:
        self.at = at
        self.for_good = for_good
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.at is not None and (self.calls > self.at if self.for_good else self.calls == self.at + 1):
            raise OSError(errno.ENOSPC, "No space left on device")

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        self._call()
        return super().open(path, flags, mode)

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        try:
            self._call()
        except OSError:
            super().write_at(fd, data[: len(data) // 2], offset)  # a disk that fills up takes what still fits
            raise
        super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._call()
        super().sync(fd)

    def rename(self, old: Path, new: Path) -> None:
        self._call()
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self._call()
        super().sync_folder(path)


async def test_what_was_kept_is_recalled_by_a_new_process(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    await memory.load()
    await memory.keep(seen("app/a"))
    await memory.keep(seen("app/b", "2"))
    await memory.keep(seen("app/b", "2", etag="new"))
    assert await recalled(file) == {"app/a": seen("app/a"), "app/b": seen("app/b", "2", etag="new")}


async def test_every_line_of_the_file_is_json(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    await memory.keep(seen("app/a"))
    await memory.keep(seen("app/b"))
    header, *lines = map(json.loads, file.read_text().splitlines())
    assert header == {"waystation": "catalog", "format": 1}
    assert [line["target"] for line in lines] == ["app/a", "app/b"]


async def test_a_name_that_was_forgotten_stays_forgotten(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    await memory.keep(seen("app/a"))
    assert await memory.forget(TargetPath("app/a"))
    assert not await memory.forget(TargetPath("app/a"))
    assert memory.get(TargetPath("app/a")) is None
    assert memory.with_digest(Digest("1" * 64)) == ()
    assert await recalled(file) == {}


async def test_a_name_can_be_learned_anew_after_it_was_forgotten(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    await memory.keep(seen("app/a", "1"))
    await memory.forget(TargetPath("app/a"))
    await memory.keep(seen("app/a", "2"))
    assert await recalled(file) == {"app/a": seen("app/a", "2")}


async def test_all_names_with_a_digest_are_known_by_it() -> None:
    memory = Memory(None, disk=Disk())
    for name in ("app/a", "app/b", "app/c"):
        await memory.keep(seen(name))
    await memory.forget(TargetPath("app/b"))
    await memory.keep(seen("app/c", etag="new"))
    assert [one.artifact.target for one in memory.with_digest(Digest("1" * 64))] == ["app/a", "app/c"]


async def test_without_a_file_it_remembers_while_it_runs(tmp_path: Path) -> None:
    memory = Memory(None, disk=Disk())
    await memory.load()
    await memory.keep(seen("app/a"))
    assert memory.get(TargetPath("app/a")) == seen("app/a")
    assert list(tmp_path.iterdir()) == []


async def test_names_learned_at_the_same_time_are_synced_together(file: Path) -> None:
    disk = CountingDisk()
    memory = Memory(file, disk=disk)
    async with asyncio.TaskGroup() as group:
        for index in range(100):
            group.create_task(memory.keep(seen(f"app/{index}")))
            if index == 0:
                await asyncio.sleep(0)  # its write has begun
                await asyncio.sleep(0)
        disk.go.set()
    assert disk.syncs == 2
    assert len(await recalled(file)) == 100


async def test_nothing_is_known_before_it_is_on_disk(file: Path) -> None:
    disk = CountingDisk()
    memory = Memory(file, disk=disk)
    keeping = asyncio.create_task(memory.keep(seen("app/a")))
    while not disk.syncs:
        await asyncio.sleep(0.001)
    assert memory.get(TargetPath("app/a")) is None
    assert not keeping.done()
    disk.go.set()
    await keeping
    assert memory.get(TargetPath("app/a")) == seen("app/a")


async def test_what_is_being_forgotten_counts_no_more(file: Path) -> None:
    disk = CountingDisk()
    disk.go.set()
    memory = Memory(file, disk=disk)
    await memory.keep(seen("app/a", "1"))
    disk.go.clear()
    disk.syncs = 0
    forgetting = asyncio.create_task(memory.forget(TargetPath("app/a")))
    while not disk.syncs:
        await asyncio.sleep(0.001)
    assert memory.get(TargetPath("app/a")) is None
    anew = asyncio.create_task(memory.keep(seen("app/a", "2")))
    disk.go.set()
    assert await forgetting
    await anew
    assert memory.get(TargetPath("app/a")) == seen("app/a", "2")
    assert await recalled(file) == {"app/a": seen("app/a", "2")}


async def test_a_caller_that_leaves_does_not_take_the_write_with_it(file: Path) -> None:
    disk = CountingDisk()
    memory = Memory(file, disk=disk)
    leaving = asyncio.create_task(memory.keep(seen("app/a")))
    staying = asyncio.create_task(memory.keep(seen("app/b")))
    while not disk.syncs:
        await asyncio.sleep(0.001)
    leaving.cancel()
    disk.go.set()
    await staying
    assert set(await recalled(file)) == {"app/a", "app/b"}


async def test_closing_waits_for_what_is_being_written(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    keeping = asyncio.create_task(memory.keep(seen("app/a")))
    await asyncio.sleep(0)
    keeping.cancel()
    await memory.close()
    assert set(await recalled(file)) == {"app/a"}


async def test_a_disk_that_fails_at_any_call_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    call = 0
    while True:
        disk = FailingDisk(call)
        file = tmp_path / f"catalog-{call}.json"
        memory = Memory(file, disk=disk)
        promised: dict[str, Remembered] = {}
        for name in ("app/a", "app/b", "app/c"):
            try:
                await memory.keep(seen(name))
                promised[name] = seen(name)
            except StoreUnusable:
                assert memory.get(TargetPath(name)) is None
            found = await recalled(file)
            assert {known: found[known] for known in promised} == promised
        if disk.calls <= call:
            break
        call += 1
    assert call > 10


async def test_a_disk_that_stays_full_refuses_new_digests_and_keeps_the_known_ones(file: Path) -> None:
    disk = FailingDisk()
    memory = Memory(file, disk=disk)
    await memory.keep(seen("app/a", etag="old"))
    disk.at, disk.for_good = disk.calls, True
    with pytest.raises(StoreUnusable, match=r"'app/b' must be can't be remembered in .*catalog\.json: No space left"):
        await memory.keep(seen("app/b"))
    with pytest.raises(StoreUnusable, match="can't be forgotten"):
        await memory.forget(TargetPath("app/a"))
    await memory.keep(seen("app/a", etag="new"))  # no digest is at stake
    assert memory.get(TargetPath("app/a")) == seen("app/a", etag="new")
    disk.at = None
    await memory.keep(seen("app/c"))
    assert await recalled(file) == {"app/a": seen("app/a", etag="new"), "app/c": seen("app/c")}


async def test_a_line_that_was_being_written_when_the_machine_stopped_is_dropped(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    await memory.keep(seen("app/a"))
    whole = file.read_bytes()
    for cut in (b"{", b'{"target":"app/b","digest":"222', b"\0" * 300):
        file.write_bytes(whole + cut)
        with capture_logs() as logs:
            assert set(await recalled(file)) == {"app/a"}
        assert logs == []
        again = Memory(file, disk=Disk())
        await again.load()
        await again.keep(seen("app/c"))
        assert set(await recalled(file)) == {"app/a", "app/c"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"rubbish",
        b"\xff\x00\n",
        b"[]\n",
        b'{"waystation":"catalog","format":2}\n',
        b"[" * 100_000 + b"\n",
        b'{"format":1}\n',
    ],
)
async def test_a_file_that_is_no_catalog_of_ours_is_set_aside_with_a_warning(file: Path, body: bytes) -> None:
    file.write_bytes(body)
    memory = Memory(file, disk=Disk())
    with capture_logs() as logs:
        await memory.load()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("catalog_memory_set_aside", "warning")]
    assert file.with_name("catalog.json.bad").read_bytes() == body
    await memory.keep(seen("app/a"))
    assert set(await recalled(file)) == {"app/a"}


async def test_damaged_lines_are_set_aside_and_the_others_still_count(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    for name in ("app/a", "app/b", "app/c"):
        await memory.keep(seen(name))
    damaged = file.read_bytes().replace(b'"app/b"', b'"../b"')
    file.write_bytes(damaged)
    with capture_logs() as logs:
        assert set(await recalled(file)) == {"app/a", "app/c"}
    assert [entry["event"] for entry in logs] == ["catalog_memory_set_aside"]
    assert "1 of its 3 lines" in logs[0]["reason"]
    assert file.with_name("catalog.json.bad").read_bytes() == damaged
    assert set(await recalled(file)) == {"app/a", "app/c"}


async def test_a_folder_or_a_link_in_the_files_place_is_set_aside(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not ours")
    kinds: tuple[Callable[[Path], None], ...] = (lambda path: path.mkdir(), lambda path: path.symlink_to(elsewhere))
    for number, strange in enumerate(kinds):
        file = tmp_path / f"{number}.json"
        strange(file)
        memory = Memory(file, disk=Disk())
        with capture_logs() as logs:
            await memory.load()
        assert [entry["event"] for entry in logs] == ["catalog_memory_set_aside"]
        await memory.keep(seen("app/a"))
        assert set(await recalled(file)) == {"app/a"}
    assert elsewhere.read_text() == "not ours"


async def test_a_file_that_someone_removed_or_changed_meanwhile_is_written_anew(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    await memory.keep(seen("app/a"))
    file.unlink()
    await memory.keep(seen("app/b"))
    assert set(await recalled(file)) == {"app/a", "app/b"}
    file.write_text("rubbish")
    await memory.keep(seen("app/c"))
    assert set(await recalled(file)) == {"app/a", "app/b", "app/c"}


async def test_a_name_that_changes_all_the_time_does_not_make_the_file_grow_for_ever(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    for index in range(2500):
        await memory.keep(seen("app/a", etag=str(index)))
    assert len(file.read_text().splitlines()) < 1100
    assert (await recalled(file))["app/a"].artifact.etag == "2499"


async def test_with_many_targets_a_new_name_still_costs_one_line(file: Path) -> None:
    memory = Memory(file, disk=Disk())
    memory._apply({TargetPath(f"app/{index}"): seen(f"app/{index}") for index in range(20_000)})
    await memory.keep(seen("app/first"))  # writes all of them
    before = file.stat()
    for name in ("app/second", "app/third", "app/fourth"):
        await memory.keep(seen(name))
    after = file.stat()
    assert after.st_ino == before.st_ino
    assert after.st_size - before.st_size < 3000
    assert len(await recalled(file)) == 20_004
