"""The life of one client's connection: heads in, answers out, one at a time, and never longer than allowed."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from waystation.config import is_loopback
from waystation.errors import RequestError, SlowRequest
from waystation.mirror.inbox import Inbox
from waystation.mirror.portions import send_portions
from waystation.mirror.sendfile import send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from waystation.config import MirrorSettings
    from waystation.model import Span

LINGER_S = 2.0
"""How long a refused client's rest is read and dropped, so that it sees the answer and no reset."""

_KEEP_ALIVE = (
    # finds out about a machine that vanished while its request waits for a miss
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
_DISK_ERRORS = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EINVAL})
"""What sendfile says of the file and not of the socket; EINVAL: nothing can be sent out of such a file."""
_TCP_INFO_BYTES_ACKED = struct.Struct("=120xQ")  # struct tcp_info of linux/tcp.h


class ClientGone(Exception):
    """The client no longer listens."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a connection ended before its answer did."""

    reason: str
    detail: str = ""
    advice: str = ""


CLIENT_LEFT = End("client_gone")
STOPPED_READING = End(
    "send_timeout",
    "the client took no byte of the answer for [mirror] send_timeout",
    "Look at the client; where it may pause for longer, raise [mirror] send_timeout.",
)
TOOK_TOO_LONG = End(
    "request_timeout",
    "the answer was not complete [mirror] request_timeout after the request",
    "Look at the client and at the way to it, or raise [mirror] request_timeout.",
)
DRAINED = End(
    "drain_timeout",
    "the daemon was stopped, and the client had not taken the whole answer after [mirror] drain_timeout",
    "Ask again once the daemon is back; where stopping may take longer, raise [mirror] drain_timeout.",
)


class Phase(IntEnum):
    """What the connection is about; each phase has its own limit."""

    IDLE = 0
    READING = 1
    WORKING = 2
    SENDING = 3
    LINGERING = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take: bytes of headers, seconds in each phase, in their order, and seconds for one answer."""

    header_bytes: int
    phase_s: tuple[float, ...]
    answer_s: float

    @classmethod
    def of(cls, settings: MirrorSettings) -> Limits:
        """Read them from the settings."""
        idle, reading, sending = settings.idle_timeout, settings.header_timeout, settings.send_timeout
        phase_s = (idle, reading, math.inf, sending, LINGER_S)
        return cls(settings.max_header_size, phase_s, settings.request_timeout)


class Connection(asyncio.Protocol):
    """One connection and the task that converses on it; when the client leaves, the task is cancelled."""

    def __init__(
        self,
        converse: Callable[[Connection], Coroutine[None, None, None]],
        limits: Limits,
        *,
        loop: asyncio.AbstractEventLoop,
        began: Callable[[Connection], None],
        ended: Callable[[Connection], None],
        unused: Callable[[str], None],
    ) -> None:
        self.peer = ""
        self.host = ""
        """The peer's address alone; empty where it is this machine's own."""
        self.end = CLIENT_LEFT
        """Why an answer was cut off, where it was."""
        self.closing = False
        """Set: no further request is taken."""
        self._converse = converse
        self._limits = limits
        self._loop = loop
        self._began = began
        self._ended = ended
        self._unused = unused
        self._inbox = Inbox(limits.header_bytes)
        self._next: asyncio.Future[bytes | None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._lost = False
        self._acked_bytes = -1
        self._phase = Phase.READING
        self._deadline = math.inf
        self._answer_until = math.inf

    # --- asyncio's calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"not a stream: {transport!r}")
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._seals = transport.get_extra_info("ssl_object") is not None
        transport.set_write_buffer_limits(high=0)  # a sendfile must not begin behind what still waits in memory
        for level, option, value in _KEEP_ALIVE:
            self._socket.setsockopt(level, option, value)
        host, port = (transport.get_extra_info("peername") or ("gone", 0))[:2]
        self.peer = f"{host}:{port}"
        to_loopback = is_loopback((transport.get_extra_info("sockname") or ("127.0.0.1",))[0])
        self.host = "" if to_loopback else host
        self._enter(Phase.READING)
        self._began(self)
        self._task = self._loop.create_task(self._converse(self))
        self._task.add_done_callback(self._conversed)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.LINGERING:
            return
        self._inbox.feed(data)
        if self._next is not None:
            self._deliver(self._next)
        elif self._inbox.is_full and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closing = True
        self._lost = True
        if self._task.done():
            self._ended(self)
        else:
            self._give_up()

    # --- for the conversation ------------------------------------------------------------------

    async def next_head(self) -> bytes | None:
        """Wait for a whole head; None once no further one is to be taken.

        Raises:
            HeaderTooLarge, SlowRequest, MalformedRequest: what comes is no head; the connection is to be closed.
        """
        head = self._inbox.take()
        if self._reading_paused and not self._inbox.is_full:
            self._reading_paused = False
            self._transport.resume_reading()
        if head is not None:
            await asyncio.sleep(0)  # who sends many requests ahead waits for the others' turns
        elif not (self.closing and self._phase is Phase.IDLE):
            self._next = self._loop.create_future()
            try:
                head = await self._next
            finally:
                self._next = None
        self._phase = Phase.WORKING
        self._answer_until = self._loop.time() + self._limits.answer_s
        return head

    def write(self, data: bytes | memoryview) -> None:
        """Hand bytes to the socket; what it does not take at once waits in memory.

        Raises:
            ClientGone: nobody is there to read it.
        """
        if self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until nothing of what was written waits in memory."""
        if self._writable is not None:
            self._enter(Phase.SENDING)
            await self._writable

    async def send_file(self, fd: int, span: Span) -> int:
        """Send bytes of a file; return how many went before its end. Only where they are sealed they pass through here.

        Raises:
            ClientGone: nobody is there to read them.
            OSError: the file's disk can't read them.
            DaemonError: too many files are open.
        """
        await self.drain()
        if self._transport.is_closing():
            raise ClientGone
        self._enter(Phase.SENDING)
        self._transport.pause_reading()  # so that the end of what a client has to say doesn't end what it is told
        try:
            if self._seals:
                return await send_portions(self.write, self.drain, fd, span)
            return await self._send_unsealed(fd, span)
        finally:
            self._phase = Phase.WORKING
            if not self._reading_paused:
                self._transport.resume_reading()

    def acked_bytes(self) -> int:
        """How many bytes the client's machine has taken since the connection began; 0 once that can't be told."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES_ACKED.size)
        except OSError:
            return 0
        return int(_TCP_INFO_BYTES_ACKED.unpack(info)[0])

    def cork(self) -> None:
        """Hold back segments that are not full, until `uncork`."""
        if not self._transport.is_closing():
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def uncork(self) -> None:
        """Let go of what is held back."""
        if not self._transport.is_closing():
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def rest(self) -> None:
        """An answer is out: the next request may come."""
        self._answer_until = math.inf
        self._enter(Phase.IDLE if self._inbox.is_empty else Phase.READING)

    def finish(self, *, linger: bool = False) -> None:
        """Close behind what was written; `linger`: drop what the client still sends for a moment first.

        So it is for who has sent more already: closing over that would reset the connection, and the answer with it.
        """
        self.closing = True
        if (
            (linger or not self._inbox.is_empty)
            and self._transport.can_write_eof()
            and not self._transport.is_closing()
        ):
            self._enter(Phase.LINGERING)
            with suppress(OSError):  # reset by the client, which the transport is yet to be told
                self._transport.write_eof()
            if self._reading_paused:
                self._transport.resume_reading()
        else:
            self._enter(Phase.SENDING)
            self._transport.close()

    def abort(self, end: End) -> None:
        """Cut the connection off, so that a client sees an unfinished body as one."""
        self.end = end
        self._give_up()
        self._transport.abort()

    # --- for the mirror ------------------------------------------------------------------------

    @property
    def idle_until(self) -> float | None:
        """When its time between two requests is over; None where the client waits for something."""
        return self._deadline if self._phase is Phase.IDLE else None

    def retire(self, grace_s: float = 0.0) -> None:
        """Take no further request: between two it ends now, before the first one it may still send that."""
        self.closing = True
        if self._phase is Phase.IDLE:
            self._settle(None)
        elif self._phase is Phase.READING:
            self._deadline = min(self._deadline, self._loop.time() + grace_s)

    def check(self, now: float) -> None:
        """Act on a limit that has passed; called again and again."""
        if now >= self._answer_until:
            self.abort(TOOK_TOO_LONG)
            return
        if self._phase is Phase.SENDING and self._progressed():
            self._enter(Phase.SENDING)
        if self._phase is Phase.WORKING or now < self._deadline:
            return
        if self._phase in (Phase.SENDING, Phase.LINGERING):
            self.abort(STOPPED_READING)
        elif self._inbox.is_empty:
            self.closing = True
            self._unused("idle_timeout" if self._phase is Phase.IDLE else "header_timeout")
            self._settle(None)
        else:
            self._settle(SlowRequest("the headers did not arrive in time"))

    # --- within --------------------------------------------------------------------------------

    async def _send_unsealed(self, fd: int, span: Span) -> int:
        try:
            return await send_file(self._socket.fileno(), fd, span)
        except OSError as error:
            if error.errno in _DISK_ERRORS:
                raise
            raise ClientGone from error

    def _deliver(self, waiting: asyncio.Future[bytes | None]) -> None:
        """Something came while a head is waited for."""
        if waiting.done():
            return
        try:
            head = self._inbox.take()
        except RequestError as error:
            waiting.set_exception(error)
            return
        if head is not None:
            waiting.set_result(head)
        elif self._phase is Phase.IDLE and not self._inbox.is_empty:
            self._enter(Phase.READING)

    def _settle(self, outcome: RequestError | None) -> None:
        """No head will come: end the wait for it."""
        if self._next is None or self._next.done():
            return
        if outcome:
            self._next.set_exception(outcome)
        else:
            self._next.set_result(None)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._deadline = self._loop.time() + self._limits.phase_s[phase]

    def _progressed(self) -> bool:
        """Whether the client has taken bytes since the last look; a peer that reads nothing acknowledges nothing."""
        acked_bytes = self.acked_bytes()
        before, self._acked_bytes = self._acked_bytes, acked_bytes
        return acked_bytes not in (0, before)

    def _give_up(self) -> None:
        """End the conversation, once."""
        if self._task is not asyncio.current_task(self._loop) and not self._task.cancelling():
            self._task.cancel()

    def _conversed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._loop.call_exception_handler({"message": "a conversation failed", "exception": error, "task": task})
            self._transport.abort()
        if self._lost:
            self._ended(self)
