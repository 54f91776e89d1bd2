"""What was once seen for each name, by name and by digest; a digest is on disk before anyone acts on it.

Names that are learned at the same time are written together, in a worker thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waystation.catalog.journal import Journal
from waystation.errors import StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from waystation.catalog.remembered import Remembered
    from waystation.disk import Disk
    from waystation.model import Digest, TargetPath

log = structlog.get_logger()


class Memory:
    """The catalog's memory; without a path it lasts as long as the process."""

    def __init__(self, path: Path | None, *, disk: Disk) -> None:
        self._path = path
        self._journal = Journal(path, disk=disk) if path else None
        self._by_name: dict[TargetPath, Remembered] = {}
        self._by_digest: dict[Digest, dict[TargetPath, None]] = {}
        self._unwritten: dict[TargetPath, Remembered | None] = {}
        self._next_write: asyncio.Task[OSError | None] | None = None
        self._writing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._by_name)

    async def load(self) -> None:
        """Recall what the file says; once, before anything else."""
        if self._journal:
            self._apply(await asyncio.to_thread(self._journal.read))

    def get(self, name: TargetPath) -> Remembered | None:
        return self._by_name.get(name)

    def with_digest(self, digest: Digest) -> tuple[Remembered, ...]:
        """All names that were seen with this digest."""
        return tuple(self._by_name[name] for name in self._by_digest.get(digest, ()))

    async def keep(self, remembered: Remembered) -> None:
        """Remember, durably where the digest is new; from then on `get` says so.

        Raises:
            StoreUnusable: the disk refuses, and the digest was not on it yet: nothing is remembered.
        """
        name = remembered.artifact.target
        failure = await self._write(name, remembered)
        if failure is not None and not self._holds(remembered):
            raise StoreUnusable(f"what '{name}' must be can't be remembered in {self._path}: {failure.strerror}")

    async def forget(self, name: TargetPath) -> bool:
        """Drop a name, durably; False where nothing was remembered.

        Raises:
            StoreUnusable: the disk refuses; the name stays.
        """
        before = self._by_name.get(name)
        if before is None:
            return False
        # At once, so that nobody remembers anew on the strength of what is being forgotten.
        self._apply({name: None})
        failure = await self._write(name, None)
        if failure is not None:
            if name not in self._by_name:
                self._apply({name: before})
            raise StoreUnusable(f"'{name}' can't be forgotten in {self._path}: {failure.strerror}")
        return True

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._next_write:
            await asyncio.wait({self._next_write})
        async with self._writing:
            return

    async def _write(self, name: TargetPath, change: Remembered | None) -> OSError | None:
        self._unwritten[name] = change
        if self._next_write is None:
            self._next_write = asyncio.create_task(self._write_all())
        # A caller that leaves must not take the write with it: others wait for it too.
        return await asyncio.shield(self._next_write)

    async def _write_all(self) -> OSError | None:
        async with self._writing:
            changes, self._unwritten, self._next_write = self._unwritten, {}, None
            try:
                await self._to_disk(changes)
            except OSError as error:
                # What changes no digest may be lost: it is learned again, and the next write is a whole one.
                log.warning("catalog_memory_not_written", path=str(self._path), error=error.strerror)
                self._apply({name: one for name, one in changes.items() if one and self._holds(one)})
                return error
            self._apply(changes)
            return None

    async def _to_disk(self, changes: Mapping[TargetPath, Remembered | None]) -> None:
        if self._journal is None:
            return
        if not self._journal.needs_rewrite(len(self._by_name)):
            try:
                await asyncio.to_thread(self._journal.append, changes)
            except OSError as error:
                log.info("catalog_memory_written_anew", path=str(self._path), reason=error.strerror)
            else:
                return
        merged = {name: one for name, one in {**self._by_name, **changes}.items() if one}
        await asyncio.to_thread(self._journal.rewrite, merged)

    def _holds(self, remembered: Remembered) -> bool:
        held = self._by_name.get(remembered.artifact.target)
        return held is not None and held.artifact.digest == remembered.artifact.digest

    def _apply(self, changes: Mapping[TargetPath, Remembered | None]) -> None:
        for name, change in changes.items():
            before = self._by_name.pop(name, None)
            if before:
                names = self._by_digest[before.artifact.digest]
                del names[name]
                if not names:
                    del self._by_digest[before.artifact.digest]
            if change:
                self._by_name[name] = change
                self._by_digest.setdefault(change.artifact.digest, {})[name] = None
