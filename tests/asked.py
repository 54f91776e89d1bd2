"""An origin that counts what it is asked, and answers late, wrongly or not at all when a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from waystation.errors import NotWatchable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.errors import OriginError
    from waystation.origin.interface import ObjectInfo, Origin, Source


class AskedOrigin:
    """Passes everything on to `inner`, but for what a test sets."""

    def __init__(self, inner: Origin) -> None:
        self.inner = inner
        self.asked: Counter[str] = Counter()
        """How often each call was made, as ``"head app/a"``."""
        self.fault: OriginError | None = None
        """Raised instead of any answer."""
        self.faults: dict[str, OriginError] = {}
        """Raised instead of the answer to one call."""
        self.lists_nothing = False
        """A listing is empty, as of a server that has not found its disks."""
        self.silent = asyncio.Event()
        """Set once a call waits because of `hush`."""
        self._open = asyncio.Event()
        self._open.set()

    def hush(self) -> None:
        """Give no answer until `speak`."""
        self._open.clear()
        self.silent.clear()

    def speak(self) -> None:
        self._open.set()

    def total(self) -> int:
        return self.asked.total()

    async def head(self, key: str) -> ObjectInfo:
        await self._pass(f"head {key}")
        return await self.inner.head(key)

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        await self._pass(f"get {key}")
        return await self.inner.get(key, limit_bytes=limit_bytes)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        await self._pass(f"list {prefix}")
        if self.lists_nothing:
            return
        async for info in self.inner.list(prefix, after=after):
            yield info

    async def source(self, key: str, *, if_match: str | None) -> Source:
        await self._pass(f"source {key}")
        return await self.inner.source(key, if_match=if_match)

    @asynccontextmanager
    async def changes(self, prefix: str) -> AsyncIterator[AsyncIterator[str]]:
        await self._pass(f"changes {prefix}")
        raise NotWatchable("this origin does not tell what is new")
        yield  # type: ignore[unreachable]  # what makes it a generator

    async def close(self) -> None:
        await self.inner.close()

    async def _pass(self, call: str) -> None:
        self.asked[call] += 1
        if not self._open.is_set():
            self.silent.set()
            await self._open.wait()
        if fault := self.faults.get(call, self.fault):
            raise fault
