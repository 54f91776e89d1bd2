"""Reading one revision of an object whole, in order, in a worker thread, for those who only must know its bytes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from waystation.errors import Short, Unreachable
from waystation.model import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.origin.interface import Origin, Reader, Source

_BUFFER_BYTES = 1024 * 1024
_ATTEMPTS = 4
"""So many breaks in a row, without a byte between them, end the reading."""
_PAUSE_S = 0.2


async def read_whole(
    origin: Origin, key: str, *, etag: str, size_bytes: int, take: Callable[[memoryview], None]
) -> None:
    """Hand every byte of a revision to `take`, which the worker thread calls; a broken connection is taken up again.

    Raises:
        RevisionChanged: the key now holds another revision.
        OriginError: it could not be read to its end.
    """
    source = await origin.source(key, if_match=etag)
    reading = _Reading(source, size_bytes, take)
    try:
        await asyncio.to_thread(reading.run)
    finally:
        reading.stop()
        source.close()


class _Reading:
    """One thread's work, which `stop` ends from outside."""

    def __init__(self, source: Source, size_bytes: int, take: Callable[[memoryview], None]) -> None:
        self._source = source
        self._size_bytes = size_bytes
        self._take = take
        self._done_bytes = 0
        self._stopped = threading.Event()
        self._reader: Reader | None = None

    def run(self) -> None:
        breaks = 0
        while self._done_bytes < self._size_bytes:
            before = self._done_bytes
            try:
                self._read_on()
            except (Short, Unreachable):
                # A broken connection costs only what had not arrived.
                breaks = breaks + 1 if self._done_bytes == before else 1
                if breaks == _ATTEMPTS or self._stopped.wait(_PAUSE_S * breaks):
                    raise

    def stop(self) -> None:
        self._stopped.set()
        if reader := self._reader:
            reader.abort()

    def _read_on(self) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        with self._source.read(Span(self._done_bytes, self._size_bytes)) as reader:
            self._reader = reader
            while count := reader.readinto(buffer):
                if self._stopped.is_set():
                    raise Unreachable("the reading was given up")
                self._take(buffer[:count])
                self._done_bytes += count
        if self._done_bytes < self._size_bytes:
            raise Short(f"{self._done_bytes} of {self._size_bytes} bytes came")
