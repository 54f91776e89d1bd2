"""`fetch -o`, interrupted at every file call: the old file or the new one is there, whole; the new one once told."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from crash_disk import CrashDisk, Fault
from crash_points import at_every_call
from stores import artifact_of, random_bytes
from waystation.errors import StoreError
from waystation.store.single_file import SingleFile

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = random_bytes(30_000, 1), random_bytes(40_000, 2)


class SingleFileScene:
    """A file in the place of which another one is fetched."""

    def __init__(self, disk: CrashDisk) -> None:
        self.disk = disk
        self.path = disk.root / "bundle"
        self.told = False

    async def fetch(self, data: bytes) -> None:
        spool = await SingleFile(self.path, disk=self.disk).reserve(*artifact_of(data))
        try:
            spool.write(0, memoryview(data))
            await spool.commit()
        finally:
            spool.close(keep=False)

    async def prepare(self) -> None:
        await self.fetch(OLD)

    async def act(self) -> None:
        with suppress(StoreError, OSError):  # a spool's writes fail as the disk does
            await self.fetch(NEW)
            self.told = True

    async def go_on(self) -> None:
        assert self.path.read_bytes() in {OLD, NEW}
        await self.fetch(NEW)
        self.told = True

    async def leave(self) -> None:
        """Nothing runs."""

    async def check(self, root: Path, *, same_boot: bool) -> None:  # noqa: ARG002 - it is the same under another
        found = (root / self.path.name).read_bytes()
        assert found == NEW or (found == OLD and not self.told)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
async def test_the_old_file_or_the_new_one_is_there_wherever_fetching_it_is_interrupted(
    memory_folder: Path, fault: Fault
) -> None:
    assert await at_every_call(memory_folder, SingleFileScene, fault) > 1
