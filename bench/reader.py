"""A client that compares every byte it gets: many connections in one process, each at its own pace.

Run as ``python -m bench.reader URL FILE COUNT``; prints one JSON object: for each connection the seconds until
its first byte and its last one. Hashing what fifty clients get would measure the hash; comparing costs next to nothing.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

BUFFER_BYTES = 256 * 1024
MAX_HEAD_BYTES = 16 * 1024
TIMEOUT_S = 120.0

_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class WrongAnswer(Exception):
    """A client did not get the file."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When one client had its first and its last byte, in seconds behind the common start."""

    first_s: float
    last_s: float


class Original:
    """The file as it must arrive, in memory."""

    def __init__(self, path: Path) -> None:
        self.size_bytes = path.stat().st_size
        with path.open("rb") as file:
            # private and writable, only because ctypes takes no address of what is read-only
            self._map = mmap.mmap(file.fileno(), self.size_bytes, flags=mmap.MAP_PRIVATE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def has(self, at: int, buffer: ctypes.Array[ctypes.c_char], count: int) -> bool:
        """Whether these bytes stand at `at`."""
        return at + count <= self.size_bytes and not _libc.memcmp(self._address + at, buffer, count)


def read(url: str, original: Original, go: threading.Barrier) -> Arrival:
    """Fetch it once, and compare it as it comes.

    Raises:
        WrongAnswer: another status, other bytes, or not all of them.
    """
    parts = urlsplit(url)
    buffer = (ctypes.c_char * BUFFER_BYTES)()
    view = memoryview(buffer).cast("B")
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=TIMEOUT_S) as connection:
        go.wait()
        started = time.perf_counter()
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        early = _skip_head(connection)
        first = time.perf_counter() if early else 0.0
        view[: len(early)] = early
        at, count = 0, len(early)
        while at < original.size_bytes:
            if not count:
                count = connection.recv_into(buffer)
                first = first or time.perf_counter()
            if not count or not original.has(at, buffer, count):
                raise WrongAnswer(f"{url}: byte {at} and what follows is not the file's")
            at, count = at + count, 0
        return Arrival(first - started, time.perf_counter() - started)


def _skip_head(connection: socket.socket) -> bytes:
    """Read the head of the answer; return what came of the body with it."""
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(4096)
        head += received
        if not received or len(head) > MAX_HEAD_BYTES:
            raise WrongAnswer(f"no head of an answer: {head[:100]!r}")
    head, _, early = head.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"200":
        raise WrongAnswer(f"not 200: {head[:100]!r}")
    return early


def main(url: str, file: str, count: str) -> None:
    """Fetch it so often at once, and print when it arrived."""
    original, clients = Original(Path(file)), int(count)
    go = threading.Barrier(clients)
    with ThreadPoolExecutor(clients) as threads:
        arrivals = list(threads.map(lambda _: read(url, original, go), range(clients)))
    json.dump([asdict(arrival) for arrival in arrivals], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
