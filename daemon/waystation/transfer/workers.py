"""What worker threads do for a flight: move a range from origin to spool, recheck pieces, hash the whole.

Threads move and hash bytes; they report each piece to the loop, where `Plan` decides.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol

from waystation.errors import Short
from waystation.model import Digest, Span
from waystation.pieces import PieceHasher

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.model import Artifact
    from waystation.origin.interface import Reader, Source
    from waystation.pieces import PieceLayer
    from waystation.store.interface import Spool
    from waystation.telemetry.metrics import Metrics

BUFFER_BYTES = 1024 * 1024
FIRST_PORTION_BYTES = 128 * 1024
"""A range's first piece is checked and written in such portions while it arrives: a client may wait for it."""

Where = Literal["origin", "store"]
"""Where bytes come from that are checked."""


class Landing(Protocol):
    """Where a worker thread reports a piece."""

    def __call__(self, index: int, *, good: bool) -> None: ...


class Workers:
    """The bulk threads, each with one buffer of its own, 1 MiB."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="bulk")
        self._local = threading.local()

    async def run(self, work: Callable[[memoryview], None], abort: Callable[[], None]) -> None:
        """Run blocking work with its thread's buffer; cancelled, abort it and wait until the thread has let go."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._with_buffer, work)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            abort()
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # the flight is ending anyway: taken note of, not raised
            raise

    def close(self) -> None:
        """End the threads; nothing may be running any more."""
        self._pool.shutdown(wait=True)

    def _with_buffer(self, work: Callable[[memoryview], None]) -> None:
        buffer: memoryview | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = memoryview(bytearray(BUFFER_BYTES))
        work(buffer)


class PieceChecks:
    """How a flight's pieces are checked; an artifact without pieces has no layer, and each slice passes."""

    def __init__(self, artifact: Artifact, layer: PieceLayer | None, metrics: Metrics, *, where: Where) -> None:
        self._artifact = artifact
        self._layer = layer
        self._bytes = metrics.verified_bytes.labels(where)
        self._seconds = metrics.verify_seconds.labels(where)

    def begin(self) -> PieceCheck:
        """Start checking consecutive pieces, in one thread."""
        return PieceCheck(self)

    def hasher(self) -> PieceHasher | None:
        """Give the hasher for this artifact's pieces, where it has pieces."""
        pieces = self._artifact.pieces
        return PieceHasher(self._artifact.size_bytes, pieces.piece_length) if pieces and self._layer else None

    def matches(self, index: int, piece_hash: bytes) -> bool:
        """Say whether this is the piece's hash."""
        return self._layer is not None and self._layer[index] == piece_hash

    def spent(self, size_bytes: int, seconds: float) -> None:
        """Count what checking cost."""
        self._bytes.inc(size_bytes)
        self._seconds.inc(seconds)


class PieceCheck:
    """Checks consecutive pieces, one after another, in one thread."""

    def __init__(self, checks: PieceChecks) -> None:
        self._checks = checks
        self._hasher = checks.hasher()
        self._bytes = 0
        self._seconds = 0.0

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the piece."""
        if self._hasher:
            began = perf_counter()
            self._hasher.update(data)
            self._seconds += perf_counter() - began
            self._bytes += len(data)

    def finish(self, index: int) -> bool:
        """Say whether the piece that ends here is what the layer says."""
        if not self._hasher:
            return True
        good = self._checks.matches(index, self._hasher.finish())
        self._checks.spent(self._bytes, self._seconds)
        self._bytes, self._seconds = 0, 0.0
        return good


class RangeJob:
    """One ranged read: each piece is hashed while it is in the cache, written to the spool, and reported.

    A bad piece ends the job and its connection, so that it is asked for again on another one.
    """

    def __init__(
        self, source: Source, spool: Spool, checks: PieceChecks, pieces: list[tuple[int, Span]], landed: Landing
    ) -> None:
        self._source = source
        self._spool = spool
        self._checks = checks
        self._pieces = pieces
        self._landed = landed
        self._reader: Reader | None = None
        self._ending = threading.Event()

    def run(self, buffer: memoryview) -> None:
        """Do it, in a worker thread.

        Raises:
            OriginError: the range did not arrive whole.
            OSError: the spool's disk refuses.
        """
        check = self._checks.begin()
        first = self._pieces[0][0]
        with self._source.read(Span(self._pieces[0][1].start, self._pieces[-1][1].stop)) as reader:
            self._reader = reader
            for index, span in self._pieces:
                if self._ending.is_set():
                    break
                self._move(reader, span, check, buffer[:FIRST_PORTION_BYTES] if index == first else buffer)
                good = check.finish(index)
                self._landed(index, good=good)
                if not good:
                    break
            else:
                return
            reader.abort()

    def end_early(self) -> None:
        """Stop behind the piece that is under way; from the loop."""
        self._ending.set()

    def abort(self) -> None:
        """Stop at once, also where the origin has not answered yet; from the loop, when the whole flight ends."""
        self._ending.set()
        if self._reader:
            self._reader.abort()
        self._source.close()

    def _move(self, reader: Reader, span: Span, check: PieceCheck, buffer: memoryview) -> None:
        for at in range(span.start, span.stop, len(buffer)):
            portion = buffer[: min(len(buffer), span.stop - at)]
            filled = 0
            while filled < len(portion):
                count = reader.readinto(portion[filled:])
                if not count:
                    raise Short(f"the origin's body ended {span.stop - at - filled} bytes before the end of its piece")
                filled += count
            check.update(portion)
            self._spool.write(at, portion)


class RecheckJob:
    """Reads suspect pieces back from the spool; what can't be read is bad."""

    def __init__(self, spool: Spool, checks: PieceChecks, pieces: list[tuple[int, Span]], landed: Landing) -> None:
        self._spool = spool
        self._checks = checks
        self._pieces = pieces
        self._landed = landed
        self._ending = threading.Event()

    def run(self, buffer: memoryview) -> None:
        """Do it, in a worker thread."""
        for index, span in self._pieces:
            if self._ending.is_set():
                return
            check = self._checks.begin()
            self._landed(index, good=self._read(span, check, buffer) and check.finish(index))

    def abort(self) -> None:
        """Stop behind the piece that is under way; from the loop."""
        self._ending.set()

    def _read(self, span: Span, check: PieceCheck, buffer: memoryview) -> bool:
        for at in range(span.start, span.stop, len(buffer)):
            portion = buffer[: min(len(buffer), span.stop - at)]
            try:
                if self._spool.read(at, portion) < len(portion):
                    return False
            except OSError:
                return False
            check.update(portion)
        return True


class WholeHash:
    """The sha256 of the whole file, taken in order behind the watermark."""

    def __init__(self, spool: Spool, metrics: Metrics, *, where: Where) -> None:
        self._spool = spool
        self._hash = sha256()
        self._ending = threading.Event()
        self._bytes = metrics.verified_bytes.labels(where)
        self._seconds = metrics.verify_seconds.labels(where)
        self.hashed_bytes = 0

    def run(self, stop: int, buffer: memoryview) -> None:
        """Hash on to byte `stop`, in a worker thread.

        Raises:
            OSError: the spool can't be read back.
        """
        began, first = perf_counter(), self.hashed_bytes
        while self.hashed_bytes < stop and not self._ending.is_set():
            portion = buffer[: min(len(buffer), stop - self.hashed_bytes)]
            count = self._spool.read(self.hashed_bytes, portion)
            if not count:
                raise OSError(errno.EIO, "the spool ends before its watermark")
            self._hash.update(portion[:count])
            self.hashed_bytes += count
        self._bytes.inc(self.hashed_bytes - first)
        self._seconds.inc(perf_counter() - began)

    def abort(self) -> None:
        """Stop at once; from the loop."""
        self._ending.set()

    def digest(self) -> Digest:
        """Say what was hashed."""
        return Digest(self._hash.hexdigest())
