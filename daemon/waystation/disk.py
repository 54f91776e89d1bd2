"""The file calls that store, catalog and directory origin make, one method each, so that crash tests can replace them.

All calls block; async rooms make them in worker threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from waystation.model import Span

if TYPE_CHECKING:
    from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
SAYS_NOTHING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
"""Errors for want of something, which say nothing about the file that was asked for."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Disk:
    """The operating system's own files. Every method raises `OSError` as the system does."""

    # --- files ---------------------------------------------------------------------------------

    def open(self, path: Path, flags: int, mode: int = FILE_MODE) -> int:
        """Open a file, never following a link in the last part, and return its descriptor."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset` on, or less at the file's end; return how many bytes came."""
        done = 0
        while done < len(buffer):
            count = os.preadv(fd, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def read_once(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Read into the buffer in one call, as `O_DIRECT` needs it: all of it, or less; 0 at the file's end."""
        return os.preadv(fd, [buffer], offset)

    def forget(self, fd: int, span: Span) -> None:
        """Let the system drop these bytes of a file from its memory (posix_fadvise, POSIX_FADV_DONTNEED)."""
        os.posix_fadvise(fd, span.start, len(span), os.POSIX_FADV_DONTNEED)

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        """Write all of the data at `offset`."""
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)

    def allocate(self, fd: int, size_bytes: int) -> None:
        """Give the file its whole size on disk now, so that later writes can't run out of room."""
        if size_bytes:
            os.posix_fallocate(fd, 0, size_bytes)

    def data_spans(self, fd: int, size_bytes: int) -> list[Span]:
        """Where a file holds data, in order; the rest was never written. Filesystems that can't tell say: all of it."""
        spans: list[Span] = []
        start = 0
        while start < size_bytes:
            try:
                start = os.lseek(fd, start, os.SEEK_DATA)
                stop = os.lseek(fd, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                return [Span(0, size_bytes)]
            spans.append(Span(start, min(stop, size_bytes)))
            start = stop
        return spans

    def truncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def sync(self, fd: int) -> None:
        """Make what was written to the file last."""
        os.fsync(fd)

    def sync_folder(self, path: Path) -> None:
        """Make the folder's entries last: what was created, renamed or removed in it."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def touch(self, path: Path, *, accessed_ns: int, modified_ns: int) -> None:
        """Set a file's times, in nanoseconds since the epoch."""
        os.utime(path, ns=(accessed_ns, modified_ns), follow_symlinks=False)

    def stat(self, path: Path) -> os.stat_result:
        """Describe what stands at the path itself, not where a link leads."""
        return os.lstat(path)

    def stat_fd(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def resolve(self, path: Path) -> Path:
        """Where the path leads with every link followed; `FileNotFoundError` where that is nothing."""
        return type(path)(os.path.realpath(path, strict=True))

    def lock(self, fd: int) -> bool:
        """Take the file's exclusive lock (flock(2)); False where another process holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def boot_id(self) -> str:
        """The name of this boot of the machine (random(4)); empty where the system does not tell."""
        try:
            with open(BOOT_ID, encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    # --- names ---------------------------------------------------------------------------------

    def rename(self, old: Path, new: Path) -> None:
        """Move a file within one filesystem, replacing what is there, in one step."""
        os.rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name; `FileExistsError` where that name is taken."""
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_folder(self, path: Path, mode: int = FOLDER_MODE) -> None:
        """Create a folder; it may exist already, its parent must."""
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not path.is_dir():
                raise

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def scan(self, path: Path) -> list[os.DirEntry[str]]:
        """List a folder's entries, in no order."""
        with os.scandir(path) as entries:
            return list(entries)

    # --- room ----------------------------------------------------------------------------------

    def free_bytes(self, path: Path) -> int:
        """How much of the path's filesystem an ordinary user may still take."""
        usage = os.statvfs(path)
        return usage.f_bavail * usage.f_frsize


def read_file(disk: Disk, path: Path, *, limit_bytes: int) -> bytes:
    """Read a small file whole; `OSError` (EFBIG) where it is larger than `limit_bytes`."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        size_bytes = disk.stat_fd(fd).st_size
        if size_bytes > limit_bytes:
            raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", str(path))
        buffer = bytearray(size_bytes)
        count = disk.read_into(fd, memoryview(buffer), 0)
        return bytes(buffer[:count])
    finally:
        disk.close(fd)


def replace_file(disk: Disk, path: Path, body: bytes) -> None:
    """Write a small file so that after a crash either the old or the new body is there, whole.

    Temporary file beside it, sync, rename, sync of the folder.
    """
    temporary = path.with_name(f".{path.name}.new")
    fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        try:
            disk.write_at(fd, memoryview(body), 0)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
    except OSError:
        discard(disk, temporary)
        raise
    disk.sync_folder(path.parent)


def discard(disk: Disk, path: Path) -> None:
    """Remove a file, if that can be done, while another error is on its way."""
    try:
        disk.unlink(path)
    except OSError:
        return


def exists(disk: Disk, path: Path) -> bool:
    """Whether something stands at the path itself, be it a link that leads nowhere."""
    try:
        disk.stat(path)
    except FileNotFoundError:
        return False
    return True
