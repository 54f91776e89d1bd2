"""Takes clients off the listening sockets while there is room; the others wait in the system's queue, not refused."""

from __future__ import annotations

import asyncio
import functools
import select
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from waystation.mirror.listeners import Listener

log = structlog.get_logger()

REFUSED_PAUSE_S = 0.5
"""After the system refused to accept: most likely too many files are open."""
STOP_S = 0.2
"""How long `stop` lets a client that waits for room wait on."""


class Acceptor:
    """Accepts on all sockets, with one limit on the connections of all."""

    def __init__(
        self, limit: int, *, connect: Callable[[Listener], asyncio.Protocol], crowded: Callable[[], None]
    ) -> None:
        self._limit = limit
        self._taken = 0
        self._released = asyncio.Event()
        self._connect = connect
        self._crowded = crowded
        self._lent = False
        self._stopping = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, listeners: Sequence[Listener], *, lent: bool = False) -> None:
        """Begin to accept; the sockets are closed by `stop`. `lent`: somebody keeps them open, for the next daemon."""
        self._lent = lent
        self._tasks = [asyncio.create_task(self._accept(listener)) for listener in listeners]

    def allow(self, limit: int) -> None:
        """Let so many connect at once from now on; those who are too many then may stay."""
        self._limit = limit
        self._released.set()

    async def stop(self) -> None:
        """Close the sockets, and first take those who are in the queue already; a lent socket's wait for the next."""
        self._stopping = True
        for waiting in self._waiting:
            _settle(waiting)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def release(self) -> None:
        """A connection has ended."""
        self._taken -= 1
        self._released.set()

    async def _accept(self, listener: Listener) -> None:
        queue = select.poll()
        queue.register(listener.socket, select.POLLIN)
        with listener.socket:
            while not self._stopping:
                await self._until_readable(listener.socket)
                while queue.poll(0) and not self._leaves_them():
                    await self._welcome(listener)

    def _leaves_them(self) -> bool:
        """Whether who is in the queue is the next daemon's."""
        return self._stopping and self._lent

    async def _welcome(self, listener: Listener) -> None:
        """Take the next in the queue once there is room; until then nobody has been taken who could be let down."""
        if self._taken >= self._limit:
            self._crowded()
        while self._taken >= self._limit:
            self._released.clear()
            await self._released.wait()
        self._taken += 1
        client = None if self._leaves_them() else await self._next(listener.socket)
        if client is None:
            self.release()
            return
        client.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self._connect(listener), client)
        except OSError as error:  # it was gone before its connection began
            log.info("client_gone_at_once", detail=error.strerror)
            client.close()
            self.release()

    async def _next(self, listener: socket.socket) -> socket.socket | None:
        """Accept without waiting; cancelled never between having a client and returning it."""
        try:
            return listener.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:
            log.warning("accept_refused", detail=error.strerror, advice="Raise the limit of open files (LimitNOFILE).")
            await asyncio.sleep(REFUSED_PAUSE_S)
            return None

    async def _until_readable(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        self._waiting.add(readable)
        loop.add_reader(listener, functools.partial(_settle, readable))
        try:
            await readable
        finally:
            loop.remove_reader(listener)
            self._waiting.discard(readable)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
