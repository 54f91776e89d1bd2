"""A proxy in front of MinIO that lies about the bodies of ranges: what a broken or evil origin does."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass
class Exchange:
    """One ranged GET on its way through: what is asked of MinIO, and what the client gets."""

    headers: dict[str, str]
    """Of the request; change them before `forward`."""
    offset: int
    status: int = 0
    answer_headers: dict[str, str] | None = None
    body: bytearray = field(default_factory=bytearray)
    sent_bytes: int | None = None
    """How much of the body is sent before the connection is closed; None: all of it."""


Lie = tuple["Callable[[Exchange], None] | None", "Callable[[Exchange], None] | None"]
"""What happens before a range is asked of MinIO, and to MinIO's answer."""


class LyingS3:
    """Listens on 127.0.0.1:`port`; a context manager. Requests without Range pass unchanged."""

    def __init__(self, target_port: int) -> None:
        self.lie: Lie = (None, None)
        self.ranges = 0
        self.range_bytes = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._answer(self, target_port)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server calls it
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler, target_port: int) -> None:
        exchange = Exchange(dict(handler.headers.items()), 0)
        ranged = exchange.headers.get("Range")
        before, after = self.lie if ranged else (None, None)
        if ranged:
            self.ranges += 1
            exchange.offset = int(ranged.removeprefix("bytes=").split("-")[0])
        if before:
            before(exchange)
        connection = http.client.HTTPConnection("127.0.0.1", target_port, timeout=20)
        try:
            connection.request(handler.command, handler.path, headers=exchange.headers)
            response = connection.getresponse()
            exchange.status, exchange.answer_headers = response.status, dict(response.getheaders())
            exchange.body = bytearray(response.read())
        finally:
            connection.close()
        if after and exchange.status < http.client.MULTIPLE_CHOICES:
            after(exchange)
        handler.send_response_only(exchange.status)
        for name, value in exchange.answer_headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.end_headers()
        body = exchange.body if exchange.sent_bytes is None else exchange.body[: exchange.sent_bytes]
        if ranged:
            self.range_bytes += len(body)
        try:
            handler.wfile.write(body)
        except OSError:
            handler.close_connection = True
        if exchange.sent_bytes is not None:
            handler.close_connection = True
