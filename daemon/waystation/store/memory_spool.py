"""Passing an artifact through without storing it: a window of its pieces in memory, at the artifact's own offsets."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from waystation.disk import Disk
from waystation.errors import NoRoom
from waystation.status import MemoryStatus
from waystation.store.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.model import Artifact

STEP_BYTES = 4 * 1024 * 1024
"""A window moves by so much (one piece, where pieces are larger): half of it leaves while the other half arrives."""
FREED_AT_ONCE_BYTES = 2 * 1024 * 1024
"""Memory is given back in units that no page is larger than: the network may still be sending from what a rider has
left behind, and a page given back whole keeps its bytes until that is done, while one cut in two is zeroed."""


class PassThrough:
    """The memory that all artifacts on their way past the store share."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0
        """What the windows that are open may take."""

    @property
    def windows(self) -> int:
        """How many windows there can be at once, of the size that they have for pieces of the usual length."""
        return self._limit_bytes // (2 * STEP_BYTES)

    def memory_for(self, size_bytes: int, piece_bytes: int) -> MemoryStatus:
        """Say whether all of something could be passed through now."""
        window_bytes = min(_steps(piece_bytes) * piece_bytes, size_bytes)
        return MemoryStatus(window_bytes, self.used_bytes, self._limit_bytes)

    def reserve(self, artifact: Artifact, wanted: range) -> MemorySpool:
        """Open a window that `wanted`, these pieces of the artifact, can be passed through.

        Raises:
            NoRoom: the other windows leave no room for it.
            ValueError: the artifact has no pieces; it can be released only as a whole.
        """
        if artifact.pieces is None:
            raise ValueError(f"{artifact.target} has no pieces")
        piece_bytes = artifact.pieces.piece_length
        window = min(len(wanted), _steps(piece_bytes))
        window_bytes = min(window * piece_bytes, artifact.size_bytes)
        if self.used_bytes + window_bytes > self._limit_bytes:
            raise NoRoom(
                f"no room for {artifact.target}, and none to pass it through: that takes {window_bytes} bytes of"
                f" memory, and of the {self._limit_bytes} that are set aside {self.used_bytes} are in use",
                advice="Raise [store] max_size or pass_through_memory, free disk space, or unpin targets.",
            )
        self.used_bytes += window_bytes

        def closed() -> None:
            self.used_bytes -= window_bytes

        return MemorySpool(artifact.size_bytes, piece_bytes, window, closed)


def _steps(piece_bytes: int) -> int:
    """The pieces of a window that nothing makes shorter."""
    return 2 * max(1, STEP_BYTES // piece_bytes)


class MemorySpool:
    """One window; see `Spool`. It is never a blob: a commit changes nothing."""

    def __init__(self, size_bytes: int, piece_bytes: int, window: int, closed: Callable[[], None]) -> None:
        self.fd = os.memfd_create("waystation-passed", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size_bytes)  # takes no memory: only what is written does
        self.suspect: frozenset[int] = frozenset()
        self.stored = False
        self.window: int | None = window
        self._file = SpoolFile(Disk(), self.fd, size_bytes)
        self._piece_bytes = piece_bytes
        self._freed_bytes = 0
        self._closed: Callable[[], None] | None = closed

    def write(self, offset: int, data: memoryview) -> None:
        self._file.write(offset, data)

    def read(self, offset: int, buffer: memoryview) -> int:
        return self._file.read(offset, buffer)

    def free(self, below: int) -> None:
        stop = min(below * self._piece_bytes, self._file.size_bytes) // FREED_AT_ONCE_BYTES * FREED_AT_ONCE_BYTES
        if stop <= self._freed_bytes or not self._closed:
            return
        with mmap.mmap(self.fd, stop - self._freed_bytes, offset=self._freed_bytes) as behind:
            behind.madvise(mmap.MADV_REMOVE)
        self._freed_bytes = stop

    async def commit(self) -> None:
        """Nothing is stored."""

    def close(self, *, keep: bool) -> None:  # noqa: ARG002 - there is nothing to keep it in
        if self._closed:
            closed, self._closed = self._closed, None
            self._file.close()
            closed()
