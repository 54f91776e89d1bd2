"""A proxy in front of MinIO that lies about the bodies of ranges: what a broken or evil origin does."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from peers.http_proxy import HttpProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler


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


class LyingS3(HttpProxy):
    """Listens on 127.0.0.1:`port`; a context manager. Requests without Range pass unchanged."""

    def __init__(self, target_port: int) -> None:
        super().__init__()
        self.lie: Lie = (None, None)
        self.ranges = 0
        self.range_bytes = 0
        self._target_port = target_port

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass it on, with the lie where it is a range."""
        exchange = Exchange(dict(handler.headers.items()), 0)
        ranged = exchange.headers.get("Range")
        before, after = self.lie if ranged else (None, None)
        if ranged:
            self.ranges += 1
            exchange.offset = int(ranged.removeprefix("bytes=").split("-")[0])
        if before:
            before(exchange)
        connection = http.client.HTTPConnection("127.0.0.1", self._target_port, timeout=20)
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
