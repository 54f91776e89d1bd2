"""Reads a blob again, whole and by its pieces, and says what is wrong with it; blocking, in portions.

What matters is what the disk has, not what memory remembers of it: blobs are read past the page
cache where the filesystem can (`O_DIRECT`), which also leaves the cache to those who use it.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from waystation.disk import SAYS_NOTHING, read_file
from waystation.model import Span
from waystation.pieces import MAX_PIECES_FILE_BYTES, MalformedPieces, TreeHasher, dump_pieces, parse_pieces_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.disk import Disk
    from waystation.model import Digest
    from waystation.pieces import PieceLayer, PiecesLine
    from waystation.store.layout import Layout
    from waystation.store.threads import Threads
    from waystation.telemetry.metrics import Metrics

PORTION_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found."""

    blob: str | None = None
    """What is wrong with the blob's bytes, in words."""
    pieces: Literal["right", "layer", "line"] = "right"
    """What is wrong with the ``.pieces`` file beside a right blob: its layer, or the line before it."""
    layer: PieceLayer | None = None
    """The right layer, where only that is wrong."""
    layer_at: int = 0
    """Where in the ``.pieces`` file it begins."""


@asynccontextmanager
async def begun(check: BlobCheck, thread: Threads) -> AsyncIterator[None]:
    """Begin a check in a thread that reads for one at a time, and close it whatever becomes of it.

    Raises:
        OSError: the system lacks something, which says nothing about the blob.
    """
    try:
        await thread.run(check.begin)
        yield
    finally:
        # Cancelled, the thread may still be reading: the file is closed behind that, in the same thread.
        await asyncio.shield(thread.run(check.close))


class BlobCheck:
    """One reading of one blob, from `begin` to `close`."""

    def __init__(
        self, digest: Digest, size_bytes: int, *, has_pieces: bool, layout: Layout, disk: Disk, metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._digest = digest
        self._size_bytes = size_bytes
        self._has_pieces = has_pieces
        self._layout = layout
        self._disk = disk
        self._fd: int | None = None
        self._direct = False
        # Page-aligned memory, as O_DIRECT needs it.
        self._memory = mmap.mmap(-1, PORTION_BYTES)
        self._at = 0
        self._wrong: str | None = None
        self._whole = sha256()
        self._pieces: bytes | None = None
        self._line: PiecesLine | None = None
        self._tree: TreeHasher | None = None

    def begin(self) -> None:
        """Open it.

        Raises:
            OSError: the system lacks something, which says nothing about the blob.
        """
        try:
            self._open(direct=True)
        except OSError as error:
            self._blame(error)
        if self._has_pieces:
            self._read_pieces()

    def read(self) -> int:
        """Read the next portion and return its length in bytes; 0: `verdict` knows all.

        Raises:
            OSError: the system lacks something, which says nothing about the blob.
        """
        if self._wrong or self._at >= self._size_bytes or self._fd is None:
            return 0
        try:
            count = self._read_portion(self._fd)
        except OSError as error:
            self._blame(error)
            return 0
        if not count:
            self._wrong = "it ends too early"
            return 0
        began = perf_counter()
        with memoryview(self._memory) as memory, memory[:count] as portion:
            self._whole.update(portion)
            if self._tree:
                self._tree.update(portion)
        self._metrics.verified_bytes.labels("store").inc(count)
        self._metrics.verify_seconds.labels("store").inc(perf_counter() - began)
        self._at += count
        return count

    def verdict(self) -> Verdict:
        """Say what was found, behind the last portion."""
        if self._wrong:
            return Verdict(self._wrong)
        if self._whole.hexdigest() != self._digest:
            return Verdict("its bytes have another sha256")
        return Verdict() if self._pieces is None else self._judge_pieces(self._pieces)

    def close(self) -> None:
        """Let go of the file."""
        self._memory.close()
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None

    # -------------------------------------------------------------------------------------------

    def _open(self, *, direct: bool) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_DIRECT if direct else 0)
        try:
            fd = self._fd = self._disk.open(self._layout.blob(self._digest), flags)
        except OSError as error:
            if not direct or error.errno != errno.EINVAL:
                raise
            return self._open(direct=False)
        self._direct = direct
        there = self._disk.stat_fd(fd)
        if not stat.S_ISREG(there.st_mode):
            self._wrong = "not a regular file"
        elif there.st_size != self._size_bytes:
            self._wrong = f"{there.st_size} bytes long, not {self._size_bytes}"
        return fd

    def _read_portion(self, fd: int) -> int:
        memory = memoryview(self._memory)
        try:
            count = self._disk.read_once(fd, memory, self._at)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
            # A filesystem that takes the flag and not the read: the old way, then.
            self._disk.close(fd)
            self._fd = None
            return self._read_portion(self._open(direct=False))
        finally:
            memory.release()
        if not self._direct and count:
            self._disk.forget(fd, Span(self._at, self._at + count))
        return min(count, self._size_bytes - self._at)

    def _read_pieces(self) -> None:
        path = self._layout.blob_pieces(self._digest)
        try:
            self._pieces = read_file(self._disk, path, limit_bytes=MAX_PIECES_FILE_BYTES)
            line = parse_pieces_line(self._pieces)
        except OSError as error:
            if error.errno in SAYS_NOTHING:
                raise
            self._pieces = self._pieces or b""
        except MalformedPieces:
            pass
        else:
            if (line.sha256, line.size_bytes) == (self._digest, self._size_bytes):
                self._line = line
                self._tree = TreeHasher(self._size_bytes, line.tree.piece_length)

    def _judge_pieces(self, body: bytes) -> Verdict:
        if self._line is None or self._tree is None:
            return Verdict(pieces="line")
        tree, layer = self._tree.finish()
        right = dump_pieces(self._line, layer)
        if tree != self._line.tree or body[: body.index(b"\n")] != right[: right.index(b"\n")]:
            return Verdict(pieces="line")
        if body == right:
            return Verdict()
        if len(body) != len(right):
            return Verdict(pieces="line")
        return Verdict(pieces="layer", layer=layer, layer_at=len(right) - len(layer.hashes))

    def _blame(self, error: OSError) -> None:
        if error.errno in SAYS_NOTHING:
            raise error
        self._wrong = f"it can't be read: {error.strerror or error}"
