"""The life of one client's connection: heads in, answers out, one at a time, and never longer than allowed."""

from __future__ import annotations

import asyncio
import io
import math
import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from waystation.errors import HeaderTooLarge, MalformedRequest, SlowRequest
from waystation.mirror.heads import END

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from waystation.config import MirrorSettings
    from waystation.errors import RequestError
    from waystation.model import Span

LINGER_S = 2.0
"""How long a refused client's rest is read and dropped, so that it sees the answer and no reset."""

_TCP_INFO_BYTES_ACKED = struct.Struct("=120xQ")  # struct tcp_info of linux/tcp.h
_BLANK = b"\r\n"


class ClientGone(Exception):
    """The client no longer listens."""


class Phase(Enum):
    """What the connection is about; each phase has its own limit."""

    IDLE = auto()
    READING = auto()
    WORKING = auto()
    SENDING = auto()
    LINGERING = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take: bytes of headers, and seconds in each phase that waits for it."""

    header_bytes: int
    phase_s: Mapping[Phase, float]

    @classmethod
    def of(cls, settings: MirrorSettings) -> Limits:
        """Read them from the settings."""
        return cls(
            settings.max_header_size,
            {
                Phase.IDLE: settings.idle_timeout,
                Phase.READING: settings.header_timeout,
                Phase.WORKING: math.inf,
                Phase.SENDING: settings.send_timeout,
                Phase.LINGERING: LINGER_S,
            },
        )


class Connection(asyncio.Protocol):
    """One connection and the task that converses on it; when the client leaves, the task is cancelled."""

    def __init__(
        self,
        converse: Callable[[Connection], Coroutine[None, None, None]],
        limits: Limits,
        *,
        loop: asyncio.AbstractEventLoop,
        ended: Callable[[Connection], None],
    ) -> None:
        self.peer = ""
        self.end_reason = "client_gone"
        """Why an answer was cut off, where it was."""
        self.closing = False
        """Set: no further request is taken."""
        self._converse = converse
        self._limits = limits
        self._loop = loop
        self._ended = ended
        self._buffer = bytearray()
        self._scanned = 0
        self._head_end = -1
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._lost = False
        self._acked_bytes = -1
        self._phase = Phase.READING
        self._deadline = 0.0

    # --- asyncio's calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"not a stream: {transport!r}")
        self._transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        host, port = (transport.get_extra_info("peername") or ("gone", 0))[:2]
        self.peer = f"{host}:{port}"
        self._enter(Phase.READING)
        self._task = self._loop.create_task(self._converse(self))
        self._task.add_done_callback(self._conversed)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.LINGERING:
            return
        self._buffer += data
        if self._phase is Phase.IDLE:
            self._enter(Phase.READING)
        if self._waiter is not None:
            if self._head_is_decided():
                self._wake()
        elif len(self._buffer) > self._limits.header_bytes and not self._reading_paused:
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
            self._task.cancel()

    # --- for the conversation ------------------------------------------------------------------

    async def next_head(self) -> bytes | None:
        """Wait for a whole head; None once no further one is to be taken.

        Raises:
            HeaderTooLarge, SlowRequest, MalformedRequest: what comes is no head; the connection is to be closed.
        """
        while not self._head_is_decided():
            if self.closing:
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        end = self._head_end + len(END)
        if not self._begins_like_a_method():
            raise MalformedRequest("what came is not HTTP")
        if not len(END) <= end <= self._limits.header_bytes:
            raise HeaderTooLarge(f"the headers are longer than {self._limits.header_bytes} bytes")
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._scanned, self._head_end = 0, -1
        self._enter(Phase.WORKING)
        if self._reading_paused and len(self._buffer) <= self._limits.header_bytes:
            self._reading_paused = False
            self._transport.resume_reading()
        return head

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket; what it does not take at once waits in memory.

        Raises:
            ClientGone: nobody is there to read it.
        """
        if self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until little of what was written waits in memory."""
        if self._writable is not None:
            self._enter(Phase.SENDING)
            await self._writable

    async def send_file(self, fd: int, span: Span) -> int:
        """Send bytes of a file without them passing through here; return how many went before its end.

        Raises:
            ClientGone: nobody is there to read them.
        """
        self._enter(Phase.SENDING)
        try:
            with io.FileIO(fd, closefd=False) as file:
                return await self._loop.sendfile(self._transport, file, span.start, len(span), fallback=False)
        except (ConnectionError, asyncio.SendfileNotAvailableError) as error:
            # the latter is asyncio's word for any refusal at the first byte; of a file it means that the socket is gone
            raise ClientGone from error
        except RuntimeError as error:
            if self._transport.is_closing():
                raise ClientGone from error
            raise
        finally:
            self._enter(Phase.WORKING)

    def cork(self) -> None:
        """Hold back segments that are not full, until `uncork`."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def uncork(self) -> None:
        """Let go of what is held back."""
        if not self._transport.is_closing():
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def rest(self) -> None:
        """An answer is out: the next request may come."""
        self._enter(Phase.READING if self._buffer else Phase.IDLE)

    def finish(self, *, linger: bool = False) -> None:
        """Close behind what was written; `linger`: drop what the client still sends for a moment first."""
        self.closing = True
        if linger and self._transport.can_write_eof() and not self._transport.is_closing():
            self._enter(Phase.LINGERING)
            self._transport.write_eof()
            if self._reading_paused:
                self._transport.resume_reading()
        else:
            self._enter(Phase.SENDING)
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Cut the connection off, so that a client sees an unfinished body as one."""
        self.end_reason = reason
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
            self._wake()
        elif self._phase is Phase.READING:
            self._deadline = min(self._deadline, self._loop.time() + grace_s)

    def check(self, now: float) -> None:
        """Act on a limit that has passed; called about once a second."""
        if self._phase is Phase.SENDING and self._progressed():
            self._enter(Phase.SENDING)
        if now < self._deadline:
            return
        if self._phase is Phase.IDLE or (self._phase is Phase.READING and not self._buffer):
            self.closing = True
            self._wake()
        elif self._phase is Phase.READING:
            self._fail(SlowRequest("the headers did not arrive in time"))
        else:
            self.abort("send_timeout")

    # --- within --------------------------------------------------------------------------------

    def _head_is_decided(self) -> bool:
        """Whether the buffer begins with a whole head, or with what can't become one."""
        if self._head_end < 0:
            while self._buffer.startswith(_BLANK):  # RFC 9112 §2.2: an empty line before a request is ignored
                del self._buffer[: len(_BLANK)]
                self._scanned = 0
            self._head_end = self._buffer.find(END, max(0, self._scanned - len(END) + 1))
            self._scanned = len(self._buffer)
        return self._head_end >= 0 or len(self._buffer) > self._limits.header_bytes or not self._begins_like_a_method()

    def _begins_like_a_method(self) -> bool:
        first = self._buffer[:1]
        return not first or first.isalpha() or first == b"\r"

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._deadline = self._loop.time() + self._limits.phase_s[phase]

    def _progressed(self) -> bool:
        """Whether the client has taken bytes since the last look; a peer that reads nothing acknowledges nothing."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES_ACKED.size)
        except OSError:
            return False
        (acked_bytes,) = _TCP_INFO_BYTES_ACKED.unpack(info)
        before, self._acked_bytes = self._acked_bytes, acked_bytes
        return bool(acked_bytes != before)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: RequestError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _conversed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._loop.call_exception_handler({"message": "a conversation failed", "exception": error, "task": task})
            self._transport.abort()
        if self._lost:
            self._ended(self)
