"""A TCP relay in front of a peer: it counts every byte, and can cut, stall and slow down all connections together.

It runs in a thread of its own, so that a blocked test can't slow it. Its limit is one token bucket for
all connections: toxiproxy's is per connection, so parallel ranges would falsely outrun it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CHUNK_BYTES = 256 * 1024
SAVED_S = 0.05


class TokenBucket:
    """Bytes that may pass, `bytes_per_s` of them, at most `saved_s` worth saved up while nobody asked; None: all."""

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None
        self.saved_s = SAVED_S
        self._balance = 0.0
        self._seen = time.monotonic()

    def take(self, count: int) -> float:
        """Take `count` bytes now, and say how long to wait before sending them."""
        if self.bytes_per_s is None:
            return 0.0
        now = time.monotonic()
        earned = (now - self._seen) * self.bytes_per_s
        self._balance = min(self._balance + earned, self.bytes_per_s * self.saved_s) - count
        self._seen = now
        return max(0.0, -self._balance / self.bytes_per_s)


class Relay:
    """Forwards `host`:`port` to 127.0.0.1:`target_port`; a context manager. Port 0: one that is free."""

    def __init__(self, target_port: int, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target_port = target_port
        self.host = host
        self.port = port
        self.sent_bytes = 0
        """To the peer: requests."""
        self.received_bytes = 0
        """From the peer: answers."""
        self.connections = 0
        """Accepted so far."""
        self._cut_at: int | None = None
        self._bucket = TokenBucket()
        self._open: set[socket.socket] = set()
        self._thread: threading.Thread | None = None
        self._started = threading.Event()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}"

    def reset_counts(self) -> None:
        self.sent_bytes = self.received_bytes = self.connections = 0

    # --- faults --------------------------------------------------------------------------------

    def limit(self, bytes_per_s: float | None, *, saved_s: float = SAVED_S) -> None:
        """Slow the answers of all connections together down to `bytes_per_s`; None: as fast as it goes."""

        def change() -> None:
            self._bucket.bytes_per_s, self._bucket.saved_s = bytes_per_s, saved_s

        self._on_loop(change)

    def cut(self) -> None:
        """Reset every connection that is open now; new ones work."""
        self._on_loop(self._reset_all)

    def cut_after(self, answer_bytes: int) -> None:
        """Once, reset every connection after so many more bytes of answers."""
        self._on_loop(lambda: setattr(self, "_cut_at", self.received_bytes + answer_bytes))

    def stall(self) -> None:
        """Pass nothing on any more, in either direction; new connections are accepted and stay silent."""
        self._on_loop(self._flowing.clear)

    def resume(self) -> None:
        self._on_loop(self._flowing.set)

    # --- its life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise TimeoutError("the relay did not start within 10 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on, and reset those that are open; for good."""
        if self._thread is not None and self._thread.is_alive():
            self._on_loop(self._stopping.set)
            self._thread.join(10)

    def _on_loop(self, call: Callable[[], object]) -> None:
        """Do it in the relay's thread, and wait until it is done."""
        done = threading.Event()

        def run() -> None:
            call()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(10):
            raise TimeoutError("the relay did not answer within 10 s")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.create_server((self.host, self.port), family=family, backlog=256) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self._started.set()
            try:
                async with asyncio.TaskGroup() as tasks:
                    accepting = tasks.create_task(self._accept(listener, tasks))
                    await self._stopping.wait()
                    accepting.cancel()
                    self._flowing.set()
                    self._reset_all()
            finally:
                self._reset_all()

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self.connections += 1
            tasks.create_task(self._relay(client))

    async def _relay(self, client: socket.socket) -> None:
        with client, socket.socket() as peer:
            client.setblocking(False)
            peer.setblocking(False)
            for end in (client, peer):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {client, peer}
            try:
                await self._flowing.wait()
                await self._loop.sock_connect(peer, ("127.0.0.1", self.target_port))
                async with asyncio.TaskGroup() as directions:
                    directions.create_task(self._pump(client, peer, self._count_sent))
                    directions.create_task(self._pump(peer, client, self._count_received))
            except* OSError:
                pass  # either side went away, or we cut it: both sockets close
            finally:
                self._open -= {client, peer}

    async def _pump(self, source: socket.socket, sink: socket.socket, count: Callable[[int], float]) -> None:
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        while got := await self._loop.sock_recv_into(source, buffer):
            if wait_s := count(got):
                await asyncio.sleep(wait_s)
            await self._flowing.wait()
            await self._loop.sock_sendall(sink, view[:got])
        sink.shutdown(socket.SHUT_WR)

    def _count_sent(self, count: int) -> float:
        self.sent_bytes += count
        return 0.0

    def _count_received(self, count: int) -> float:
        self.received_bytes += count
        if self._cut_at is not None and self.received_bytes >= self._cut_at:
            self._cut_at = None
            self._reset_all()
        return self._bucket.take(count)

    def _reset_all(self) -> None:
        for end in self._open:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
                end.shutdown(socket.SHUT_RDWR)
