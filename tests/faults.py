"""An origin with faults on demand around a real one: gates, losses, rotten bytes, and a count of what was asked."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from waystation.errors import OriginError, Short, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from waystation.model import Span
    from waystation.origin.interface import ObjectInfo, Origin, Reader, Source


class FaultyOrigin:
    """Passes everything on to `inner`, but for what a test sets."""

    def __init__(self, inner: Origin) -> None:
        self.inner = inner
        self.spans: list[Span] = []
        """Every range asked for, in order."""
        self.read_bytes = 0
        self.rotten: dict[int, int] = {}
        """At these offsets a byte comes flipped, so many times more."""
        self.cuts: dict[int, int] = {}
        """At these offsets a body ends, so many times."""
        self.losses: list[OriginError] = []
        """Raised by the next reads, one each, where their range would begin."""
        self.silent = False
        """Reads get no answer until their source is closed."""
        self.away: OriginError | None = None
        self.small = asyncio.Event()
        """Small bodies come while this is set."""
        self.small.set()
        self.open_answers = 0
        """Ranges that somebody could read from now."""
        self._open_to: int | None = None
        self._moved = threading.Condition()

    def hold_at(self, offset: int) -> None:
        """Let no byte behind this offset pass, until `release`."""
        self._open_to = offset

    def release(self, to: int | None = None) -> None:
        """Let bytes pass, up to an offset, or all of them."""
        with self._moved:
            self._open_to = to
            self._moved.notify_all()

    def pass_gate(self, offset: int, aborted: threading.Event) -> None:
        """Wait until the byte at the offset may pass; for readers."""
        with self._moved:
            while self._open_to is not None and offset >= self._open_to and not aborted.is_set():
                self._moved.wait(0.01)
        if aborted.is_set():
            raise Unreachable("aborted")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count an answer while it is open; for sources."""
        with self._moved:
            self.open_answers += 1
        try:
            yield
        finally:
            with self._moved:
                self.open_answers -= 1

    async def head(self, key: str) -> ObjectInfo:
        self._check()
        return await self.inner.head(key)

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        self._check()
        await self.small.wait()
        return await self.inner.get(key, limit_bytes=limit_bytes)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        self._check()
        async for info in self.inner.list(prefix, after=after):
            yield info

    async def source(self, key: str, *, if_match: str | None) -> Source:
        self._check()
        return _FaultySource(self, await self.inner.source(key, if_match=if_match))

    async def close(self) -> None:
        await self.inner.close()

    def _check(self) -> None:
        if self.away:
            raise self.away


class _FaultySource:
    def __init__(self, origin: FaultyOrigin, inner: Source) -> None:
        self._origin = origin
        self._inner = inner
        self._closed = threading.Event()

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        self._origin.spans.append(span)
        if self._origin.silent:
            self._closed.wait(20)
            raise Unreachable("closed")
        if self._origin.losses:
            raise self._origin.losses.pop(0)
        with self._inner.read(span) as reader, self._origin.counted():
            yield _FaultyReader(self._origin, reader, span.start)

    def close(self) -> None:
        self._closed.set()
        self._inner.close()


class _FaultyReader:
    def __init__(self, origin: FaultyOrigin, inner: Reader, at: int) -> None:
        self._origin = origin
        self._inner = inner
        self._at = at
        self._aborted = threading.Event()

    def readinto(self, buffer: memoryview) -> int:
        self._origin.pass_gate(self._at, self._aborted)
        for offset, times in self._origin.cuts.items():
            if times and self._at <= offset < self._at + len(buffer):
                self._origin.cuts[offset] = times - 1
                raise Short(f"cut at {offset}")
        count = self._inner.readinto(buffer)
        for offset, times in list(self._origin.rotten.items()):
            if times and self._at <= offset < self._at + count:
                buffer[offset - self._at] ^= 0xFF
                self._origin.rotten[offset] = times - 1
        self._at += count
        self._origin.read_bytes += count
        return count

    def abort(self) -> None:
        self._aborted.set()
        self._inner.abort()
