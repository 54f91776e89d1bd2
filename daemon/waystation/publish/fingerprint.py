"""What a file or an object is, learned in one read: its sha256 and its piece tree."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from waystation.catalog.checksums import format_checksum
from waystation.errors import BadBundle, SourceChanged
from waystation.model import Digest
from waystation.origin.reading import read_whole
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.model import TargetPath
    from waystation.origin.interface import ObjectInfo, Origin
    from waystation.pieces import PieceLayer, PieceTree

_BUFFER_BYTES = 1024 * 1024


class Progress(Protocol):
    """Told what is under way; called from any thread."""

    def __call__(self, what: str, done_bytes: int, total_bytes: int, /) -> None: ...


def silent(_what: str, _done_bytes: int, _total_bytes: int, /) -> None:
    """The progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything about some bytes that a publisher announces."""

    digest: Digest
    size_bytes: int
    pieces: tuple[PieceTree, PieceLayer] | None
    """None for an empty file, which has no tree."""
    needs: tuple[str, ...] = ()
    """What these bytes need of the machine that runs them, as whoever made them found out."""

    def checksum_file(self, target: TargetPath) -> bytes:
        """Write the body of ``<target>.sha256``."""
        return format_checksum(self.digest, target)

    def pieces_file(self) -> bytes | None:
        """Write the body of ``<target>.pieces``, where there is one."""
        if self.pieces is None:
            return None
        tree, layer = self.pieces
        return dump_pieces(PiecesLine(self.digest, self.size_bytes, tree, self.needs), layer)


async def fingerprint_file(file: Path, progress: Progress = silent) -> Fingerprint:
    """Read a local file that is to be published.

    Raises:
        BadBundle: it is not a regular, readable, non-empty file.
        SourceChanged: its size or its time changed while it was being read.
    """
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_read_file, file, progress, stop)
    finally:
        stop.set()


async def fingerprint_object(origin: Origin, info: ObjectInfo, progress: Progress = silent) -> Fingerprint:
    """Read one revision of an object once.

    Raises:
        RevisionChanged: the key now holds another revision.
        OriginError: it could not be read to its end.
    """
    taken = _Fingerprinter(f"reading {info.key}", info.size_bytes, progress)
    await read_whole(origin, info.key, etag=info.etag, size_bytes=info.size_bytes, take=taken.update)
    return taken.finish()


class _GivenUp(Exception):
    """Ends the worker thread whose result nobody awaits any more."""


class _Fingerprinter:
    """Takes the bytes of a file in order."""

    def __init__(self, what: str, size_bytes: int, progress: Progress) -> None:
        self.seen_bytes = 0
        self._what = what
        self._size_bytes = size_bytes
        self._progress = progress
        self._whole = sha256()
        self._tree = TreeHasher(size_bytes) if size_bytes else None
        progress(what, 0, size_bytes)

    def update(self, data: memoryview) -> None:
        self._whole.update(data)
        if self._tree is not None:
            self._tree.update(data)
        self.seen_bytes += len(data)
        self._progress(self._what, self.seen_bytes, self._size_bytes)

    def finish(self) -> Fingerprint:
        pieces = self._tree.finish() if self._tree is not None else None
        return Fingerprint(Digest(self._whole.hexdigest()), self._size_bytes, pieces)


def _read_file(file: Path, progress: Progress, stop: threading.Event) -> Fingerprint:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # asked before opening: a pipe would block
            raise BadBundle(f"{file} is not a regular file")
        with file.open("rb", buffering=0) as opened:
            before = os.fstat(opened.fileno())
            if not before.st_size:
                raise BadBundle(f"{file} is empty")
            taken = _Fingerprinter(f"hashing {file.name}", before.st_size, progress)
            buffer = memoryview(bytearray(_BUFFER_BYTES))
            while taken.seen_bytes < before.st_size:
                count = opened.readinto(buffer[: before.st_size - taken.seen_bytes])
                if not count:
                    break
                if stop.is_set():
                    raise _GivenUp
                taken.update(buffer[:count])
            after = os.fstat(opened.fileno())
    except OSError as error:
        raise BadBundle(f"{file} can't be read: {error.strerror}") from error
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SourceChanged(f"{file} changed while it was being read")
    return taken.finish()
