"""Creates keys in a folder: whole or not at all, and never in place of what is there.

The bytes go to a temporary file beside the key's own name, which then gets that name by link(2): the one
call that gives a name in one step and refuses a name that is taken.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
import threading
import time
from contextlib import suppress
from hashlib import sha256 as sha256_hash
from typing import TYPE_CHECKING

from waystation.errors import AlreadyExists, Denied, Missing, OriginError, SourceChanged
from waystation.origin.directory import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Digest

CHUNK_BYTES = 1024 * 1024
FILE_MODE, FOLDER_MODE = 0o644, 0o755  # the daemon's user reads them, as far as the umask allows
TEMPORARY_PREFIX = ".waystation-"
ABANDONED_AFTER_S = 24 * 3600.0


class DirectoryWriter:
    """Writes below `root`, which must be there."""

    def __init__(self, root: Path, *, disk: Disk, wall: Callable[[], float] = time.time) -> None:
        self._folder = Folder(root, disk)
        self._disk = disk
        self._wall = wall

    async def create(
        self, key: str, body: Path | bytes, *, sha256: Digest, progress: Callable[[int], None] | None = None
    ) -> str:
        given_up = threading.Event()

        def told(count: int) -> None:
            if given_up.is_set():
                raise _GivenUp
            if progress:
                progress(count)

        writing = asyncio.ensure_future(asyncio.to_thread(self._create, key, body, sha256, told))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait([writing])
            if not writing.cancelled():
                writing.exception()  # the caller gave up: taken note of, not raised
            raise

    async def close(self) -> None:
        """A folder holds nothing open."""

    # --- blocking, in a worker thread ----------------------------------------------------------

    def _create(self, key: str, body: Path | bytes, sha256: Digest, told: Callable[[int], None]) -> str:
        name = self._place_for(key)
        temporary = name.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        try:
            self._fill(temporary, body, sha256, told)
            self._disk.link(temporary, name)
            self._make_last(name)
        except FileExistsError:
            raise AlreadyExists(f"'{key}' is already in {self._folder.root}") from None
        except OSError as error:
            raise self._refused(error, key) from error
        finally:
            with suppress(OSError):  # what stays is swept a day later
                self._disk.unlink(temporary)
        return self._folder.describe(key).etag

    def _make_last(self, name: Path) -> None:
        """Sync the new name; where that fails it is taken back, or publishing again would find it and believe it."""
        try:
            self._disk.sync_folder(name.parent)
        except OSError:
            with suppress(OSError):
                self._disk.unlink(name)
            raise

    def _place_for(self, key: str) -> Path:
        """The key's path, its folders made, and what writers that died left there removed.

        Raises:
            AlreadyExists: spares the copying where the key is plainly there.
        """
        try:
            path = self._folder.path_of(key)
        except Missing as error:
            raise OriginError(str(error), advice="Parts of a key are not empty and begin with no dot.") from None
        self._folder.check_root()
        try:
            parent = self._folder.root
            for part in key.split("/")[:-1]:
                self._make_folder(parent / part, parent)
                parent /= part
            self._sweep(parent)
            self._disk.stat(path)
        except FileNotFoundError:
            return path
        except OSError as error:
            raise self._refused(error, key) from error
        raise AlreadyExists(f"'{key}' is already in {self._folder.root}")

    def _make_folder(self, path: Path, parent: Path) -> None:
        try:
            is_folder = stat.S_ISDIR(self._disk.stat(path).st_mode)
        except FileNotFoundError:
            self._disk.make_folder(path, FOLDER_MODE)
        else:
            if not is_folder:
                raise NotADirectoryError(f"{path} is a file or a link, expected a folder")
        # Also of a folder that is there: whoever made it may have been interrupted before this.
        self._disk.sync_folder(parent)

    def _sweep(self, folder: Path) -> None:
        for entry in self._disk.scan(folder):
            if entry.name.startswith(TEMPORARY_PREFIX):
                with suppress(FileNotFoundError):  # another writer's, finished meanwhile
                    if entry.stat(follow_symlinks=False).st_mtime < self._wall() - ABANDONED_AFTER_S:
                        self._disk.unlink(folder / entry.name)

    def _fill(self, temporary: Path, body: Path | bytes, sha256: Digest, told: Callable[[int], None]) -> None:
        """Copy the body durably, hashing what is written.

        Raises:
            SourceChanged: it is not what was hashed before.
        """
        hasher = sha256_hash()
        fd = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            count = 0
            for chunk in _chunks(body):
                hasher.update(chunk)
                self._disk.write_at(fd, chunk, count)
                count += len(chunk)
                told(count)
            if hasher.hexdigest() != sha256:
                raise SourceChanged(f"the bytes are not those that were hashed: now sha256 {hasher.hexdigest()}")
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)

    def _refused(self, error: OSError, key: str) -> OriginError:
        read = self._folder.explain(error, key)  # in a reader's words
        what = f"'{key}' can't be created in {self._folder.root}: {error.strerror or error}"
        if isinstance(read, Missing):  # of a name to be created, that says only that it can't be one
            return OriginError(what, advice="Publish under a name that the folder's filesystem can hold.")
        if isinstance(read, Denied) or error.errno == errno.EROFS:
            return Denied(what, advice="Let the publisher's user write to the folder of [origin] url.")
        return OriginError(what, advice="Check that folder's filesystem and its free space.")


class _GivenUp(Exception):
    """The caller no longer wants it."""


def _chunks(body: Path | bytes) -> Iterator[memoryview]:
    if isinstance(body, bytes):
        yield memoryview(body)
        return
    try:
        with body.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield memoryview(chunk)
    except OSError as error:
        raise SourceChanged(f"{body} can't be read any more: {error.strerror}") from error
