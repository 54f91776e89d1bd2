"""Reading an object once, only to know its sha256: what `missing_checksum = "pin-first"` rests on."""

from __future__ import annotations

import asyncio
import threading
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

from waystation.errors import Short, Unreachable
from waystation.model import Digest, Span

if TYPE_CHECKING:
    from waystation.origin.interface import Origin, Reader, Source
    from waystation.telemetry.metrics import Metrics

_BUFFER_BYTES = 1024 * 1024
_ATTEMPTS = 4
"""So many breaks in a row, without a byte between them, end the reading."""
_PAUSE_S = 0.2


async def digest_of(origin: Origin, key: str, *, etag: str, size_bytes: int, metrics: Metrics) -> Digest:
    """Read one revision whole, in a worker thread, and hash it; nothing is stored.

    Raises:
        RevisionChanged: the key now holds another revision.
        OriginError: it could not be read to its end.
    """
    source = await origin.source(key, if_match=etag)
    reading = _Reading(source, size_bytes)
    try:
        return await asyncio.to_thread(reading.run)
    finally:
        reading.stop()
        source.close()
        metrics.origin_bytes.inc(reading.done_bytes)
        metrics.verified_bytes.labels("catalog").inc(reading.done_bytes)
        metrics.verify_seconds.labels("catalog").inc(reading.hashing_s)


class _Reading:
    """One thread's work, which `stop` ends from outside."""

    def __init__(self, source: Source, size_bytes: int) -> None:
        self._source = source
        self._size_bytes = size_bytes
        self.done_bytes = 0
        self.hashing_s = 0.0
        self._hasher = sha256()
        self._stopped = threading.Event()
        self._reader: Reader | None = None

    def run(self) -> Digest:
        breaks = 0
        while self.done_bytes < self._size_bytes:
            before = self.done_bytes
            try:
                self._read_on()
            except (Short, Unreachable):
                # A broken connection costs only what had not arrived.
                breaks = breaks + 1 if self.done_bytes == before else 1
                if breaks == _ATTEMPTS or self._stopped.wait(_PAUSE_S * breaks):
                    raise
        return Digest(self._hasher.hexdigest())

    def stop(self) -> None:
        self._stopped.set()
        if reader := self._reader:
            reader.abort()

    def _read_on(self) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        with self._source.read(Span(self.done_bytes, self._size_bytes)) as reader:
            self._reader = reader
            while count := reader.readinto(buffer):
                if self._stopped.is_set():
                    raise Unreachable("the reading was given up")
                started = perf_counter()
                self._hasher.update(buffer[:count])
                self.hashing_s += perf_counter() - started
                self.done_bytes += count
        if self.done_bytes < self._size_bytes:
            raise Short(f"{self.done_bytes} of {self._size_bytes} bytes came")
