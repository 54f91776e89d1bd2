"""Bytes of a file through a connection that must see them: read a portion at a time, the next once that one is gone."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.model import Span

PORTION_BYTES = 256 * 1024
"""So much of a body is in memory for each client; then the others on the loop have their turn."""
_NOT_AT_ONCE = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})


async def send_portions(
    write: Callable[[memoryview], None], drain: Callable[[], Awaitable[None]], fd: int, span: Span
) -> int:
    """Read bytes of a file and write them; return how many there were before the file's end.

    Raises:
        OSError: the file can't be read.
    """
    at, portion = span.start, memoryview(bytearray(min(PORTION_BYTES, len(span))))
    while at < span.stop:
        wanted = portion[: span.stop - at]
        count = _read_at_once(fd, wanted, at)
        if count is None:
            count = await asyncio.to_thread(os.preadv, fd, [wanted], at)
        if not count:
            break
        write(wanted[:count])
        at += count
        await asyncio.sleep(0)
        await drain()
    return at - span.start


def _read_at_once(fd: int, into: memoryview, at: int) -> int | None:
    """Read what is in the page cache, or say None where the disk would be waited for (preadv2(2), RWF_NOWAIT)."""
    try:
        return os.preadv(fd, [into], at, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in _NOT_AT_ONCE:
            return None
        raise
