"""An origin that is a folder: the embedded default, for a first look and for machines without S3.

A key is a file's path below the folder. What begins with a dot is no key (the writer's temporary files, and
whatever a person keeps there), nor is anything behind a symbolic link: no key leads out of the folder.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from waystation.errors import Denied, Missing, NotWatchable, OriginError, RevisionChanged, Short, TooLarge, Unreachable
from waystation.origin.interface import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Span
    from waystation.origin.interface import Reader, Source

ROOT_ADVICE = "Create the folder or mount its filesystem, or correct [origin] url."

_NO_SUCH_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EINVAL})


class DirectoryOrigin:
    """Reads the keys below `root`."""

    def __init__(self, root: Path, *, disk: Disk) -> None:
        self._folder = Folder(root, disk)

    async def head(self, key: str) -> ObjectInfo:
        return await asyncio.to_thread(self._folder.describe, key)

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        return await asyncio.to_thread(self._folder.read, key, limit_bytes)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        await asyncio.to_thread(self._folder.check_root)
        waiting: list[tuple[str, ObjectInfo | None]] = [
            ("", None)
        ]  # the next one last: keys, described, and folders still to be looked into
        while waiting:
            name, info = waiting.pop()
            if info:
                yield info
                continue
            found = await asyncio.to_thread(self._folder.look_into, name)
            found.sort(key=lambda each: each[0].encode(), reverse=True)
            waiting += [each for each in found if _may_lead_to(each[0], prefix) and _may_follow(each[0], after)]

    async def source(self, key: str, *, if_match: str | None) -> Source:
        info = await self.head(key)
        return _FileSource(self._folder, key, if_match or info.etag)

    @asynccontextmanager
    async def changes(self, prefix: str) -> AsyncIterator[AsyncIterator[str]]:
        raise NotWatchable(f"a folder does not tell what is new below '{prefix}'")
        yield  # type: ignore[unreachable]  # what makes it a generator

    async def close(self) -> None:
        """A folder holds nothing open."""


def _may_lead_to(name: str, prefix: str) -> bool:
    return name.startswith(prefix) or (name.endswith("/") and prefix.startswith(name))


def _may_follow(name: str, after: str) -> bool:
    return name > after or (name.endswith("/") and after.startswith(name))


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder's file calls, blocking, each with its errors in the origin's own words."""

    root: Path
    disk: Disk

    def path_of(self, key: str) -> Path:
        """Where the key lies, if it can be one.

        Raises:
            Missing: it is none: an empty part, one that begins with a dot, a NUL.
        """
        if "\0" in key or not _is_utf8(key) or any(not part or part.startswith(".") for part in key.split("/")):
            raise Missing(f"'{key}' can't be a key of a folder")
        return self.root / key

    def check_root(self) -> Path:
        """The folder's real path.

        Raises:
            Unreachable: it is not there. That says nothing about its keys.
        """
        try:
            root = self.disk.resolve(self.root)
            is_folder = stat.S_ISDIR(self.disk.stat(root).st_mode)
        except OSError as error:
            raise self._away(error.strerror or "unknown") from error
        if not is_folder:
            raise self._away("not a folder")
        return root

    def look_into(self, folder: str) -> list[tuple[str, ObjectInfo | None]]:
        """A folder's keys, described, and its folders, with a slash at their end; all named from the root on."""
        found: list[tuple[str, ObjectInfo | None]] = []
        try:
            for entry in self.disk.scan(self.root / folder):
                if entry.name.startswith(".") or not _is_utf8(entry.name):
                    continue
                name = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    found.append((f"{name}/", None))
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # removed meanwhile
                        found.append((name, _describe(name, entry.stat(follow_symlinks=False))))
        except OSError as error:
            if folder and isinstance(error, FileNotFoundError | NotADirectoryError):
                return []  # removed since its parent was read
            raise self.explain(error, folder) from error
        return found

    def open(self, key: str) -> int:
        """Open a key's file for reading and return its descriptor.

        Raises:
            Missing: there is no such file, or it is something else than a file.
            Denied, Unreachable: it can't be opened.
        """
        path = self.path_of(key)
        root = self.check_root()
        try:
            if self.disk.resolve(path) != root / key:
                raise Missing(f"'{key}' lies behind a symbolic link, which this origin does not follow")
            fd = self.disk.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not block
        except OSError as error:
            raise self.explain(error, key) from error
        try:
            if not stat.S_ISREG(self._stat(fd, key).st_mode):
                raise Missing(f"'{key}' is not a file")
        except OriginError:
            self.disk.close(fd)
            raise
        return fd

    def describe_fd(self, fd: int, key: str) -> ObjectInfo:
        """Describe an open file."""
        return _describe(key, self._stat(fd, key))

    def describe(self, key: str) -> ObjectInfo:
        fd = self.open(key)
        try:
            return self.describe_fd(fd, key)
        finally:
            self.disk.close(fd)

    def read(self, key: str, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        fd = self.open(key)
        try:
            info = self.describe_fd(fd, key)
            if info.size_bytes > limit_bytes:
                raise TooLarge(f"'{key}' has {info.size_bytes} bytes, expected at most {limit_bytes}")
            body = bytearray(info.size_bytes)
            count = self.disk.read_into(fd, memoryview(body), 0)
            if count < info.size_bytes or self.describe_fd(fd, key) != info:
                raise RevisionChanged(f"'{key}' changed while it was being read")
            return info, bytes(body)
        except OSError as error:
            raise self.explain(error, key) from error
        finally:
            self.disk.close(fd)

    def _stat(self, fd: int, key: str) -> os.stat_result:
        try:
            return self.disk.stat_fd(fd)
        except OSError as error:
            raise self.explain(error, key) from error

    def explain(self, error: OSError, key: str) -> OriginError:
        """Say in the origin's words what the operating system said about a key."""
        if (
            isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
            or error.errno in _NO_SUCH_NAME
        ):
            return Missing(f"{self.root} has no '{key}'")
        if isinstance(error, PermissionError):
            return Denied(
                f"{self.root} denies '{key}': {error.strerror}",
                advice="Let the daemon's user read the folder of [origin] url and its files.",
            )
        return Unreachable(f"{self.root} can't be read at '{key}': {error.strerror}", advice=ROOT_ADVICE)

    def _away(self, why: str) -> Unreachable:
        return Unreachable(f"the origin's folder {self.root} is not there: {why}", advice=ROOT_ADVICE)


class _FileSource:
    """One revision of one file."""

    def __init__(self, folder: Folder, key: str, etag: str) -> None:
        self._folder = folder
        self._key = key
        self._etag = etag
        self._lock = threading.Lock()
        self._readers: set[_FileReader] = set()
        self._closed = False

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        fd = self._folder.open(self._key)
        try:
            reader = _FileReader(self._folder, fd, self._key, self._etag, span)
            with self._lock:
                if self._closed:
                    raise Unreachable(f"the source of '{self._key}' is closed")
                self._readers.add(reader)
            try:
                yield reader
            finally:
                with self._lock:
                    self._readers.discard(reader)
        finally:
            self._folder.disk.close(fd)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for reader in self._readers:
                reader.abort()


class _FileReader:
    """The bytes of one span; looks before the first byte and behind the last whether it is still the same revision."""

    def __init__(self, folder: Folder, fd: int, key: str, etag: str, span: Span) -> None:
        self._folder = folder
        self._fd = fd
        self._key = key
        self._etag = etag
        self._at = span.start
        self._stop = span.stop
        self._aborted = False
        size_bytes = self._check_revision().size_bytes
        if span.stop > size_bytes:
            raise Short(f"'{key}' has {size_bytes} bytes, expected at least {span.stop}")

    def readinto(self, buffer: memoryview) -> int:
        if self._aborted:
            raise Unreachable(f"reading '{self._key}' was given up")
        wanted = min(len(buffer), self._stop - self._at)
        try:
            count = self._folder.disk.read_into(self._fd, buffer[:wanted], self._at)
        except OSError as error:
            raise self._folder.explain(error, self._key) from error
        self._at += count
        if count < wanted or self._at == self._stop:
            self._check_revision()
        if count < wanted:
            raise Short(f"'{self._key}' ended {self._stop - self._at} bytes before its size")
        return count

    def abort(self) -> None:
        self._aborted = True

    def _check_revision(self) -> ObjectInfo:
        info = self._folder.describe_fd(self._fd, self._key)
        if info.etag != self._etag:
            raise RevisionChanged(f"'{self._key}' was replaced in {self._folder.root}")
        return info


def _describe(key: str, status: os.stat_result) -> ObjectInfo:
    """One revision: its ETag changes with its size, its time, and whenever another file takes the name."""
    return ObjectInfo(
        key=key,
        size_bytes=status.st_size,
        etag=f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"',
        modified=datetime.fromtimestamp(status.st_mtime_ns // 1_000_000_000, UTC),
        sha256=None,
        served_at=None,
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
