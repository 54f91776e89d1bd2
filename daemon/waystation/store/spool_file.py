"""An open spool file that worker threads read and write, and that may be closed while they do."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from waystation.disk import Disk


class SpoolFile:
    """The bytes of one artifact on their way in.

    A descriptor's number is given out again as soon as it is closed, so a thread that is late would
    write into another file. Here a closed file refuses, and is really closed once no thread is in it.
    """

    def __init__(self, disk: Disk, fd: int, size_bytes: int, *, leave: Callable[[], None] | None = None) -> None:
        """`leave`: takes the file out of its place before the first write; it is a suspect blob until then."""
        self.fd = fd
        self.size_bytes = size_bytes
        self._disk = disk
        self._lock = Lock()
        self._users = 1
        """The owner until it closes, and each thread that is reading or writing."""
        self._closed = False
        self._leave_place = leave
        self._leaving = Lock()

    @property
    def in_place(self) -> bool:
        """Whether it is a suspect blob still, unchanged."""
        return self._leave_place is not None

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes at their offset, within the size that was reserved.

        Raises:
            OSError: the disk refuses, or the file is closed (EBADF).
            ValueError: they would reach beyond the size.
        """
        if offset < 0 or offset + len(data) > self.size_bytes:
            raise ValueError(f"{len(data)} bytes at {offset} don't lie within {self.size_bytes}")
        with self._in_use():
            with self._leaving:
                if self._leave_place is not None:
                    self._leave_place()
                    self._leave_place = None
            self._disk.write_at(self.fd, data, offset)

    def read(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset` on, or less at the file's end.

        Raises:
            OSError: the disk refuses, or the file is closed (EBADF).
        """
        with self._in_use():
            return self._disk.read_into(self.fd, buffer, offset)

    def sync(self) -> None:
        """Make the bytes last.

        Raises:
            OSError: the disk refuses, or the file is closed (EBADF).
        """
        with self._in_use():
            self._disk.sync(self.fd)

    def close(self) -> None:
        """Close it, now or as the last thread leaves it."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._leave()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self._disk.close(self.fd)
