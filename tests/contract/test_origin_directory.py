"""What only a folder can do: links, dots, pipes, a root that is away, writers that died."""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from waystation.disk import Disk
from waystation.errors import AlreadyExists, Denied, Missing, OriginError, RevisionChanged, Short, Unreachable
from waystation.model import Digest, Span
from waystation.origin.directory import DirectoryOrigin
from waystation.origin.write_directory import ABANDONED_AFTER_S, DirectoryWriter

BODY = b"some bytes" * 1000
DIGEST = Digest(sha256(BODY).hexdigest())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def origin(root: Path, disk: Disk) -> DirectoryOrigin:
    return DirectoryOrigin(root, disk=disk)


async def keys_of(origin: DirectoryOrigin, prefix: str = "") -> list[str]:
    return [info.key async for info in origin.list(prefix)]


# --- nothing leads out of the folder -------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        *("../outside", "app/../../outside", "app/../file", "./file", "/etc/passwd", "//file"),
        *("", "app/", "a\0b", ".hidden", "app/.hidden", "\ud800"),
    ],
)
async def test_a_key_that_is_no_path_below_the_root_is_missing(root: Path, origin: DirectoryOrigin, key: str) -> None:
    (root.parent / "outside").write_bytes(BODY)
    (root / "app").mkdir()
    for name in ("file", ".hidden", "app/.hidden"):
        (root / name).write_bytes(BODY)
    with pytest.raises(Missing):
        await origin.head(key)
    with pytest.raises(Missing):
        await origin.get(key, limit_bytes=100_000)


@pytest.mark.parametrize("link", ["to-file", "to-folder/secret", "inside", "dangling", "loop"])
async def test_links_are_not_followed(root: Path, origin: DirectoryOrigin, link: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(BODY)
    (root / "file").write_bytes(BODY)
    (root / "to-file").symlink_to(outside / "secret")
    (root / "to-folder").symlink_to(outside)
    (root / "inside").symlink_to(root / "file")
    (root / "dangling").symlink_to(root / "nothing")
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(Missing):
        await origin.head(link)
    assert await keys_of(origin) == ["file"]


async def test_the_root_itself_may_be_a_link(root: Path, disk: Disk) -> None:
    (root / "file").write_bytes(BODY)
    (root.parent / "link").symlink_to(root)
    origin = DirectoryOrigin(root.parent / "link", disk=disk)
    assert (await origin.head("file")).size_bytes == len(BODY)
    assert await keys_of(origin) == ["file"]


async def test_what_is_no_file_is_missing_and_does_not_block(root: Path, origin: DirectoryOrigin) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for key in ("pipe", "folder"):
        with pytest.raises(Missing):
            await origin.head(key)
    assert await keys_of(origin) == []


async def test_names_that_are_no_text_are_not_listed(root: Path, origin: DirectoryOrigin) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(BODY)
    (root / "text").write_bytes(BODY)
    assert await keys_of(origin) == ["text"]


# --- the folder is away --------------------------------------------------------------------------


async def test_a_missing_root_is_unreachable_not_a_missing_key(root: Path, origin: DirectoryOrigin) -> None:
    (root / "file").write_bytes(BODY)
    root.rename(root.parent / "away")
    for call in (origin.head("file"), origin.get("file", limit_bytes=1), origin.source("file", if_match=None)):
        with pytest.raises(Unreachable, match="is not there") as away:
            await call
        assert "[origin] url" in away.value.advice
    with pytest.raises(Unreachable):
        await keys_of(origin)
    (root.parent / "away").rename(root)
    assert (await origin.head("file")).size_bytes == len(BODY)


async def test_a_root_that_is_a_file_is_unreachable(root: Path, disk: Disk) -> None:
    (root / "file").write_bytes(BODY)
    with pytest.raises(Unreachable, match="not a folder"):
        await DirectoryOrigin(root / "file", disk=disk).head("key")


class RefusingDisk(Disk):
    """A disk that refuses to open files, with the error of a test's choice."""

    def __init__(self, error: type[OSError], number: int) -> None:
        self.error = error
        self.number = number

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        raise self.error(self.number, os.strerror(self.number), f"{path} {flags} {mode}")


async def test_a_file_that_may_not_be_read_is_denied_with_advice(root: Path) -> None:
    (root / "file").write_bytes(BODY)
    origin = DirectoryOrigin(root, disk=RefusingDisk(PermissionError, 13))
    with pytest.raises(Denied, match="Permission denied") as denied:
        await origin.get("file", limit_bytes=100_000)
    assert "daemon's user" in denied.value.advice


async def test_a_file_that_can_not_be_read_is_unreachable(root: Path) -> None:
    (root / "file").write_bytes(BODY)
    origin = DirectoryOrigin(root, disk=RefusingDisk(OSError, 5))
    with pytest.raises(Unreachable, match="Input/output error"):
        await origin.head("file")


# --- files that change while they are read -------------------------------------------------------


async def test_a_file_written_in_place_while_it_is_read_is_noticed_at_the_latest_behind_its_last_byte(
    root: Path, origin: DirectoryOrigin
) -> None:
    file = root / "file"
    file.write_bytes(BODY)
    source = await origin.source("file", if_match=None)
    buffer = memoryview(bytearray(len(BODY) // 2))
    with source.read(Span(0, len(BODY))) as reader:
        reader.readinto(buffer)
        file.write_bytes(BODY.upper())
        os.utime(file, ns=(1, 1))
        with pytest.raises(RevisionChanged):
            reader.readinto(buffer)


async def test_a_file_cut_off_while_it_is_read_is_noticed(root: Path, origin: DirectoryOrigin) -> None:
    file = root / "file"
    file.write_bytes(BODY)
    source = await origin.source("file", if_match=None)
    buffer = memoryview(bytearray(len(BODY) // 2))
    with source.read(Span(0, len(BODY))) as reader:
        reader.readinto(buffer)
        os.truncate(file, len(BODY) // 2)
        with pytest.raises((RevisionChanged, Short)):
            reader.readinto(buffer)


# --- the writer ----------------------------------------------------------------------------------


async def test_created_files_are_for_others_to_read(root: Path, disk: Disk) -> None:
    writer = DirectoryWriter(root, disk=disk)
    before = os.umask(0o022)
    try:
        await writer.create("app/deep/file", BODY, sha256=DIGEST)
    finally:
        os.umask(before)
    assert (root / "app/deep/file").stat().st_mode & 0o777 == 0o644
    assert (root / "app/deep").stat().st_mode & 0o777 == 0o755


async def test_what_a_writer_has_in_hand_is_no_key(root: Path, origin: DirectoryOrigin, disk: Disk) -> None:
    writer = DirectoryWriter(root, disk=disk)
    seen: list[str] = []

    def look(_: int) -> None:
        seen.extend(entry.name for entry in os.scandir(root))

    await writer.create("file", BODY, sha256=DIGEST, progress=look)
    (temporary,) = seen
    (root / temporary).write_bytes(BODY)
    assert await keys_of(origin) == ["file"]
    with pytest.raises(Missing):
        await origin.head(temporary)


async def test_what_dead_writers_left_is_removed_after_a_day_and_not_before(root: Path, disk: Disk) -> None:
    for name in (".waystation-old", ".waystation-new", ".others"):
        (root / name).write_bytes(BODY)
    now = (root / ".waystation-old").stat().st_mtime
    os.utime(root / ".waystation-old", (now - 2 * ABANDONED_AFTER_S,) * 2)
    os.utime(root / ".others", (now - 2 * ABANDONED_AFTER_S,) * 2)
    await DirectoryWriter(root, disk=disk, wall=lambda: now).create("file", BODY, sha256=DIGEST)
    assert sorted(os.listdir(root)) == [".others", ".waystation-new", "file"]


async def test_a_key_is_not_created_through_a_link(root: Path, disk: Disk) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "app").symlink_to(outside)
    with pytest.raises(OriginError, match="a file or a link"):
        await DirectoryWriter(root, disk=disk).create("app/file", BODY, sha256=DIGEST)
    assert os.listdir(outside) == []


@pytest.mark.parametrize("key", ["../outside", ".hidden", "a//b", "/etc/x", "x" * 300])
async def test_a_name_that_the_folder_can_not_hold_is_refused(root: Path, disk: Disk, key: str) -> None:
    with pytest.raises(OriginError) as refused:
        await DirectoryWriter(root, disk=disk).create(key, BODY, sha256=DIGEST)
    assert not isinstance(refused.value, Missing | AlreadyExists)
    assert os.listdir(root) == []


async def test_a_writer_does_not_make_up_a_root_that_is_away(root: Path, disk: Disk) -> None:
    root.rmdir()
    with pytest.raises(Unreachable):
        await DirectoryWriter(root, disk=disk).create("file", BODY, sha256=DIGEST)
    assert not root.exists()


class FailingDisk(Disk):
    """A disk whose calls are counted, and fail from the k-th on, as one that is full or gone."""

    def __init__(self, fail_at: int) -> None:
        self.calls = 0
        self.fail_at = fail_at
        self._lock = threading.Lock()

    def _count(self) -> None:
        with self._lock:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(28, os.strerror(28))

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._count()
        return super().open(path, flags, mode)

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        self._count()
        super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def link(self, old: Path, new: Path) -> None:
        self._count()
        super().link(old, new)


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
async def test_a_disk_that_fails_at_any_step_leaves_nothing(root: Path, fail_at: int) -> None:
    writer = DirectoryWriter(root, disk=FailingDisk(fail_at))
    with pytest.raises(OriginError, match=r"can't be created in .*: No space left") as refused:
        await writer.create("file", BODY, sha256=DIGEST)
    assert "free space" in refused.value.advice
    assert os.listdir(root) == []


@pytest.mark.parametrize(("error", "number"), [(PermissionError, 13), (OSError, 30)])
async def test_a_folder_that_may_not_be_written_to_is_denied_with_advice(
    root: Path, error: type[OSError], number: int
) -> None:
    with pytest.raises(Denied, match="can't be created") as denied:
        await DirectoryWriter(root, disk=RefusingDisk(error, number)).create("file", BODY, sha256=DIGEST)
    assert "publisher's user" in denied.value.advice
