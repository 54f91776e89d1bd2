"""How slowly an HTTP answer may come, and how long its head may be: for reads that block in a worker thread.

A socket's own timeout bounds only the wait for the next byte; who sends one now and then could hold a thread for ever.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer

SLOWEST_BYTES_PER_S = 1024
"""A body that comes more slowly, over the stall timeout, counts as stalled."""
MAX_HEAD_BYTES = 128 * 1024
"""A head, with all informational ones before it."""


class TooSlow(TimeoutError):
    """Bytes come, but so few that it would take for ever."""


class PacedResponse(http.client.HTTPResponse):
    """An answer that must have begun within `patience_s`, and whose body must come at a bearable pace."""

    def __init__(self, sock: socket.socket, *options: Any, patience_s: float, **more_options: Any) -> None:
        super().__init__(sock, *options, **more_options)
        self._pace = _Pace(sock, self.fp.detach(), patience_s)  # of a BufferedReader
        self.fp = io.BufferedReader(self._pace)

    def expect_body(self, *, stall_timeout_s: float) -> None:
        """Take the body from now on."""
        self._pace.take_body(stall_timeout_s)


class _Pace(io.RawIOBase):
    """What comes from a socket."""

    def __init__(self, its_socket: socket.socket, inner: io.RawIOBase, patience_s: float) -> None:
        self._socket = its_socket
        self._inner = inner
        self._head_until = time.monotonic() + patience_s
        self._head_bytes = 0
        self._stall_timeout_s: float | None = None
        self._waited_s = 0.0
        self._came_bytes = 0

    def take_body(self, stall_timeout_s: float) -> None:
        self._socket.settimeout(stall_timeout_s)
        self._stall_timeout_s = stall_timeout_s

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._inner.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self._stall_timeout_s is None:
            return self._read_head(buffer)
        # Only waiting counts: who reads may pause, for the sake of others or of its bandwidth.
        began = time.monotonic()
        count = self._inner.readinto(buffer)
        self._waited_s += time.monotonic() - began
        self._came_bytes += count or 0
        if self._waited_s >= self._stall_timeout_s:
            if count and self._came_bytes < SLOWEST_BYTES_PER_S * self._stall_timeout_s:
                raise TooSlow(f"{self._came_bytes} bytes in {self._waited_s:.1f} s")
            self._waited_s, self._came_bytes = 0.0, 0
        return count

    def _read_head(self, buffer: WriteableBuffer) -> int | None:
        left_s = self._head_until - time.monotonic()
        if left_s <= 0:
            raise TooSlow("the head did not end in time")
        self._socket.settimeout(left_s)
        count: int | None = self._inner.readinto(buffer)
        self._head_bytes += count or 0
        if self._head_bytes > MAX_HEAD_BYTES:
            raise http.client.LineTooLong("head")
        return count
