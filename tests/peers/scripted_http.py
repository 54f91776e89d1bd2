"""An HTTP server that answers exactly what a test says, right or wrong, byte for byte."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent for one request, and what becomes of the connection."""

    head: str
    """Status line and headers, without the empty line; "" sends only the body."""
    body: bytes = b""
    then: Literal["keep", "close", "hang"] = "keep"
    stream: Iterable[bytes] = ()
    """Sent behind the body, portion by portion, for as long as the client takes them."""

    def portions(self) -> Iterator[bytes]:
        """What is sent, in order."""
        head = "\r\n".join([*self.head.strip().splitlines(), "", ""]).encode() if self.head else b""
        yield head + self.body
        yield from self.stream


class ScriptedHttp:
    """Listens on 127.0.0.1:`port`; `script` turns each request's head into its answer. A context manager."""

    def __init__(self, script: Callable[[str], Answer], *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.heads: list[str] = []
        """Every request's head, in the order of arrival."""
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for end in (self._listener, *self._open):
            with suppress(OSError):
                socket.socket.shutdown(end, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            self.connections += 1
            self._spawn(lambda connected=connected: self._serve(connected))  # type: ignore[misc]

    def _serve(self, connected: socket.socket) -> None:
        with suppress(OSError), connected:
            end = self._tls.wrap_socket(connected, server_side=True) if self._tls else connected
            self._open.append(end)
            with end:
                while head := _read_head(end):
                    self.heads.append(head)
                    answer = self.script(head)
                    for portion in answer.portions():
                        end.sendall(portion)
                    if answer.then == "hang":
                        self._ended.wait()
                    if answer.then != "keep":
                        return


def _read_head(connected: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        received = connected.recv(4096)
        if not received or len(head) > MAX_HEAD_BYTES:
            return ""
        head += received
    return head.decode("latin-1")
