"""Bytes of a file into a socket that a transport owns, without them passing through here.

asyncio's `loop.sendfile` takes the socket's descriptor away from its transport meanwhile, and registers it with the
selector anew for every chunk. Here a duplicate is waited for, registered once: nothing of it outlives the call, whoever
closes the socket, and a byte costs less.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from waystation.errors import DaemonError

if TYPE_CHECKING:
    from waystation.model import Span

CHUNK_BYTES = 2 * 1024 * 1024
"""So much goes at once, then the others on the loop have their turn."""


async def send_file(its_socket: int, fd: int, span: Span) -> int:
    """Send bytes of a file through a non-blocking socket; return how many went before the file's end.

    Raises:
        OSError: the socket is gone, or the file can't be read.
        DaemonError: too many files are open.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    at = span.start

    def step() -> None:
        nonlocal at
        if over.done():
            return
        try:
            count = os.sendfile(its_socket, fd, at, min(CHUNK_BYTES, span.stop - at))
        except BlockingIOError:
            return
        except OSError as error:
            over.set_exception(error)
            return
        at += count
        if not count or at == span.stop:
            over.set_result(None)

    step()
    if over.done():
        await over
        return at - span.start
    watched = _duplicate(its_socket)
    try:
        loop.add_writer(watched, step)
        await over
    finally:
        loop.remove_writer(watched)
        os.close(watched)
    return at - span.start


def _duplicate(its_socket: int) -> int:
    try:
        return os.dup(its_socket)
    except OSError as error:
        raise DaemonError(
            f"no descriptor to send by: {error.strerror}", advice="Raise the limit of open files (LimitNOFILE)."
        ) from error
