"""The catalog's memory, interrupted at every file call: a digest that was reported as remembered stays the one."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from crash_disk import CrashDisk, Fault, PowerCut
from crash_points import at_every_call
from waystation.catalog import journal
from waystation.catalog.memory import Memory
from waystation.catalog.remembered import Remembered
from waystation.catalog.vouching import VouchedBy
from waystation.disk import Disk
from waystation.errors import StoreUnusable
from waystation.model import Artifact, Digest, TargetPath

if TYPE_CHECKING:
    from pathlib import Path

NAMES = tuple(TargetPath(f"app/app-{number}-x86_64") for number in range(3))
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def seen(name: TargetPath, digest: str, etag: str) -> Remembered:
    return Remembered(
        Artifact(name, Digest(digest * 64), 5, NOW, name, etag, None), seen=100.0, vouched_by=VouchedBy.CHECKSUM
    )


class MemoryScene:
    """Names learned, seen again, forgotten and learned anew, with a rewrite of the whole file among it."""

    def __init__(self, disk: CrashDisk) -> None:
        self.disk = disk
        self.file = disk.root / "catalog.json"
        self.may: dict[TargetPath, set[str | None]] = {name: {None} for name in NAMES}
        """The digests that a name may have: the one reported, and one that is being written."""
        self.memory: Memory | None = None

    async def prepare(self) -> None:
        """Nothing is there."""

    async def act(self) -> None:
        self.memory = Memory(self.file, disk=self.disk)
        await self.memory.load()
        for name in NAMES:
            await self.learn(name, "1", "a")
        for etag in ("b", "c", "d", "e"):
            await self.learn(NAMES[0], "1", etag)
        await self.learn(NAMES[1], None)
        await self.learn(NAMES[1], "2", "f")

    async def learn(self, name: TargetPath, digest: str | None, etag: str = "") -> None:
        assert self.memory is not None
        self.may[name] = self.may[name] | {digest}
        with suppress(StoreUnusable):
            await (self.memory.keep(seen(name, digest, etag)) if digest else self.memory.forget(name))
            self.may[name] = {digest}

    async def go_on(self) -> None:
        assert self.memory is not None
        for name in NAMES:
            one = self.memory.get(name)
            assert (one.artifact.digest[0] if one else None) in self.may[name]
            await self.learn(name, None)
            await self.learn(name, "3", "g")

    async def leave(self) -> None:
        with suppress(PowerCut):
            if self.memory:
                await self.memory.close()

    async def check(self, root: Path, *, same_boot: bool) -> None:  # noqa: ARG002 - it is the same under another
        may = dict(self.may)
        for digest in ("4", "5"):  # what is learned behind a torn line lasts too
            memory = Memory(root / self.file.name, disk=Disk())
            await memory.load()
            for name in NAMES:
                one = memory.get(name)
                assert (one.artifact.digest[0] if one else None) in may[name], "what was reported is not remembered"
            await memory.keep(seen(NAMES[0], digest, "h"))
            may[NAMES[0]] = {digest}
            await memory.close()
        assert {path.name for path in root.iterdir()} <= {self.file.name, f"{self.file.name}.bad"}


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
async def test_what_was_remembered_stays_wherever_the_journal_is_interrupted(
    memory_folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(journal, "_OUTDATED_LINES", 0)
    assert await at_every_call(memory_folder, MemoryScene, fault) > 2
