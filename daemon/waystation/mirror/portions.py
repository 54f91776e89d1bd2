"""Bytes of a file through a connection that must see them: read a portion at a time, the next once that one is gone."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.model import Span

PORTION_BYTES = 128 * 1024
"""So much of a body is in memory for each client; then the others on the loop have their turn."""
_NOT_AT_ONCE = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})


async def send_portions(
    write: Callable[[memoryview], None], drain: Callable[[], Awaitable[None]], fd: int, span: Span
) -> int:
    """Read bytes of a file and write them; return how many there were before the file's end.

    Raises:
        OSError: the file can't be read.
    """
    at = span.start
    while at < span.stop:
        portion = await _read(fd, min(PORTION_BYTES, span.stop - at), at)
        if not portion:
            break
        write(portion)
        at += len(portion)
        del portion  # what the socket has not taken waits sealed: not twice for a client that reads slowly
        await asyncio.sleep(0)
        await drain()
    return at - span.start


async def _read(fd: int, size_bytes: int, at: int) -> memoryview:
    """Read what is in the page cache at once, anything else in a thread (preadv2(2), RWF_NOWAIT)."""
    into = memoryview(bytearray(size_bytes))
    try:
        return into[: os.preadv(fd, [into], at, os.RWF_NOWAIT)]
    except OSError as error:
        if error.errno not in _NOT_AT_ONCE:
            raise
    return into[: await asyncio.to_thread(os.preadv, fd, [into], at)]
