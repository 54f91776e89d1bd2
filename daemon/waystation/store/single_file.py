"""A place for one verified download, for ``fetch -o``: no lock, no quota, no other blob."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from waystation.errors import NoRoom, NotStored, StoreUnusable
from waystation.store.finish import to_the_end
from waystation.store.spool_file import SpoolFile

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Artifact, Digest
    from waystation.store.interface import Blob

EXECUTABLE_MODE = 0o755
"""Less what the umask takes away: an artifact is made to be run."""
_NAME_BYTES = 200
"""How much of the file's own name the temporary one repeats; a name has 255 bytes at most."""


DESTINATION_ADVICE = "Name another place with -o, one that this user may write to."


class SingleFile:
    """A shelf whose one blob becomes the file at `path`; see `Shelf`."""

    def __init__(self, path: Path, *, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def open(self, digest: Digest) -> Blob | None:  # noqa: ARG002 - what is there already is never trusted
        return None

    async def verify(self, digest: Digest) -> bool:
        raise NotStored(f"{digest} is not stored here")

    async def pieces_file(self, digest: Digest) -> bytes | None:  # noqa: ARG002 - only the file itself is kept
        return None

    async def reserve(self, artifact: Artifact, pieces_file: bytes | None) -> FileSpool:  # noqa: ARG002 - not kept
        """Create a temporary file with all its room beside the destination.

        Raises:
            NoRoom: the filesystem is full.
            StoreUnusable: the destination can't be written, or is no regular file.
        """
        return await to_the_end(self._reserve(artifact), undo=lambda spool: spool.close(keep=False))

    async def _reserve(self, artifact: Artifact) -> FileSpool:
        try:
            return await asyncio.to_thread(self._create, artifact.size_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoom(
                    f"no room for {self._path}: it needs {artifact.size_bytes} bytes",
                    advice="Free disk space, or name another place with -o.",
                ) from error
            raise _refused(self._path, error) from error

    def _create(self, size_bytes: int) -> FileSpool:
        try:
            there = self._disk.stat(self._path)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISREG(there.st_mode):
                raise StoreUnusable(
                    f"{self._path} is there and not a regular file",
                    advice="Name a file with -o, not a folder, link or device.",
                )
        name = os.fsdecode(os.fsencode(self._path.name)[:_NAME_BYTES])
        temporary = self._path.with_name(f".{name}.{secrets.token_hex(4)}.part")
        fd = self._disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, EXECUTABLE_MODE)
        file = SpoolFile(self._disk, fd, size_bytes)
        try:
            self._disk.allocate(fd, size_bytes)
        except OSError:
            file.close()
            self._disk.unlink(temporary)
            raise
        return FileSpool(file, temporary, self._path, self._disk)


class FileSpool:
    """The temporary file beside the destination; see `Spool`."""

    def __init__(self, file: SpoolFile, temporary: Path, path: Path, disk: Disk) -> None:
        self.fd = file.fd
        self.suspect: frozenset[int] = frozenset()
        self.stored = False
        self.window: int | None = None
        self._file = file
        self._temporary = temporary
        self._path = path
        self._disk = disk
        self._committed = False
        self._closed = False

    def write(self, offset: int, data: memoryview) -> None:
        self._file.write(offset, data)

    def read(self, offset: int, buffer: memoryview) -> int:
        return self._file.read(offset, buffer)

    def free(self, below: int) -> None:
        """A file holds all its pieces at once."""

    async def commit(self) -> None:
        """Put the file in its place, lasting, replacing what was there."""
        if self._committed or self._closed:
            raise ValueError("a spool is committed once, while it is open")
        try:
            await to_the_end(asyncio.to_thread(self._promote))
        except OSError as error:
            raise _refused(self._path, error) from error

    def _promote(self) -> None:
        self._file.sync()
        self._disk.rename(self._temporary, self._path)
        self._committed = True
        self._disk.sync_folder(self._path.parent)

    def close(self, *, keep: bool) -> None:  # noqa: ARG002 - a partial file of an unknown name helps nobody
        if self._closed:
            return
        self._closed = True
        self._file.close()
        if not self._committed:
            try:
                self._disk.unlink(self._temporary)
            except FileNotFoundError:
                return


def _refused(path: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(f"can't write {path}: {error.strerror or error}", advice=DESTINATION_ADVICE)
