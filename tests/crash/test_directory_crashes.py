"""A folder as origin, its writer interrupted at every file call: a key is whole or absent, and stays once reported."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from crash_disk import CrashDisk, Fault
from crash_points import at_every_call
from stores import digest_of, random_bytes
from waystation.disk import Disk
from waystation.errors import AlreadyExists, Missing, OriginError
from waystation.model import Span
from waystation.origin.directory import DirectoryOrigin
from waystation.origin.write_directory import ABANDONED_AFTER_S, TEMPORARY_PREFIX, DirectoryWriter

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = random_bytes(100_000)
BODIES = {"app/app-1-x86_64": BUNDLE, "app/app-1-x86_64.sha256": b"x" * 80, "other/deep/name": BUNDLE[:50_000]}


class DirectoryScene:
    """A publisher's three keys, one of them in a new folder of its own, one from a file."""

    def __init__(self, disk: CrashDisk) -> None:
        self.disk = disk
        self.root = disk.root / "origin"
        self.source = disk.root.parent / "bundle"
        self.source.write_bytes(BUNDLE)
        self.reported: set[str] = set()

    async def create(self, root: Path, key: str, disk: Disk, *, later_s: float = 0) -> None:
        body = BODIES[key]
        writer = DirectoryWriter(root, disk=disk, wall=lambda: time.time() + later_s)
        with suppress(AlreadyExists):
            await writer.create(key, self.source if body is BUNDLE else body, sha256=digest_of(body))
        self.reported.add(key)

    async def prepare(self) -> None:
        self.disk.make_folder(self.root)
        self.disk.sync_folder(self.disk.root)

    async def act(self) -> None:
        for key in BODIES:
            with suppress(OriginError):
                await self.create(self.root, key, self.disk)
        for key in BODIES:
            with suppress(OriginError):
                await self.read(key)

    async def read(self, key: str) -> None:
        origin = DirectoryOrigin(self.root, disk=self.disk)
        body = BODIES[key]
        assert (await origin.get(key, limit_bytes=len(body)))[1] == body
        assert key in [info.key async for info in origin.list("")]
        source = await origin.source(key, if_match=None)
        buffer = bytearray(len(body))
        with source.read(Span(0, len(body))) as reader:
            assert reader.readinto(memoryview(buffer)) == len(body)
        source.close()
        assert buffer == body

    async def go_on(self) -> None:
        for key in BODIES:
            await self.create(self.root, key, self.disk)
            await self.read(key)

    async def leave(self) -> None:
        """Nothing runs."""

    async def check(self, root: Path, *, same_boot: bool) -> None:  # noqa: ARG002 - it is the same under another
        folder, reported = root / "origin", set(self.reported)
        if not folder.exists():
            assert not reported
            return
        origin = DirectoryOrigin(folder, disk=Disk())
        for key, body in BODIES.items():
            try:
                _, found = await origin.get(key, limit_bytes=len(body))
            except Missing:
                assert key not in reported, "a reported key is lost"
            else:
                assert found == body, "a key has other bytes than it was created with"
        for key in BODIES:
            await self.create(folder, key, Disk(), later_s=2 * ABANDONED_AFTER_S)
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == set(BODIES), f"{TEMPORARY_PREFIX}… is left over"
        self.reported = reported


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
async def test_a_key_is_whole_or_absent_wherever_its_writer_is_interrupted(memory_folder: Path, fault: Fault) -> None:
    assert await at_every_call(memory_folder, DirectoryScene, fault) > 2
