"""Keeps what is prefetched below a bandwidth; from the moment that somebody waits for it, it goes at full speed."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from waystation.model import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from waystation.model import Span
    from waystation.origin.interface import Reader, Source
    from waystation.transfer.precedence import Ticket

PORTION_S = 0.25
"""At most so much of a second's bytes is read at once, so that the bytes flow and don't come in gusts."""
LOOK_S = 0.05
"""How often a waiting thread looks whether its flight was lifted."""


class Pace:
    """One bandwidth for all that is prefetched, counted in worker threads."""

    def __init__(self, bytes_per_s: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._paid_until = monotonic()
        """When all bytes read so far are paid for."""

    @property
    def portion_bytes(self) -> int:
        return max(1, int(self._bytes_per_s * PORTION_S))

    def spend(self, count: int) -> float:
        """Count bytes that were read, and say how long to wait before the next."""
        with self._lock:
            now = self._monotonic()
            self._paid_until = max(self._paid_until, now) + count / self._bytes_per_s
            return self._paid_until - now


class PacedSource:
    """A source whose readers keep the pace as long as their flight is only prefetched."""

    def __init__(self, inner: Source, pace: Pace, ticket: Ticket) -> None:
        self._inner = inner
        self._pace = pace
        self._ticket = ticket

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        with self._inner.read(span) as reader:
            yield _PacedReader(reader, self._pace, self._ticket)

    def close(self) -> None:
        self._inner.close()


class _PacedReader:
    def __init__(self, inner: Reader, pace: Pace, ticket: Ticket) -> None:
        self._inner = inner
        self._pace = pace
        self._ticket = ticket
        self._aborted = threading.Event()

    def readinto(self, buffer: memoryview) -> int:
        if not self._is_prefetched():
            return self._inner.readinto(buffer)
        count = self._inner.readinto(buffer[: self._pace.portion_bytes])
        wait_s = self._pace.spend(count)
        while wait_s > 0 and self._is_prefetched() and not self._aborted.wait(min(wait_s, LOOK_S)):
            wait_s -= LOOK_S
        return count

    def abort(self) -> None:
        self._aborted.set()
        self._inner.abort()

    def _is_prefetched(self) -> bool:
        return self._ticket.priority is Priority.PREFETCH
