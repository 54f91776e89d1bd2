"""A proxy that makes an S3 server one without conditional writes: it answers them with 501, or forgets the condition.

The first is what Backblaze does, the second in effect what SeaweedFS 4.16 does. As the condition is a part of what
the client signed, a request without it is signed anew.
"""

from __future__ import annotations

import http.client
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from peers.http_proxy import HttpProxy
from peers.s3 import REGION

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from peers.s3 import S3Server

Manner = Literal["forgets", "refuses", "honest"]
_CONDITION = "If-None-Match"
_NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code></Error>"
_OWN_HEADERS = ("connection", "transfer-encoding", "content-length")


class CarelessS3(HttpProxy):
    """Listens on 127.0.0.1:`port`; a context manager."""

    def __init__(self, server: S3Server, *, manner: Manner) -> None:
        super().__init__()
        self.server = server
        self.manner: Manner = manner
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        """Called with each request's method and path before it is passed on, in its own thread."""
        self.after: Callable[[str, str], None] = lambda _method, _path: None
        """Called when it was answered, before the client hears of it."""
        self.answer_headers: dict[str, str] = {}
        """Replace those of the server."""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass it on in this server's manner."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        path = handler.path.partition("?")[0]
        self.before(handler.command, path)
        if handler.headers.get(_CONDITION) and self.manner == "refuses":
            self._send(handler, HTTPStatus.NOT_IMPLEMENTED, {"Content-Type": "application/xml"}, _NOT_IMPLEMENTED)
            return
        headers: dict[str, str] = dict(handler.headers.items())
        if self.manner == "forgets" and _CONDITION in headers:
            del headers[_CONDITION]
            headers = self._signed_anew(handler, headers, body)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(handler.command, handler.path, body=body, headers=headers)
            response = connection.getresponse()
            answer_body = response.read()
        finally:
            connection.close()
        self.after(handler.command, path)
        self._send(handler, response.status, dict(response.getheaders()) | self.answer_headers, answer_body)

    def _signed_anew(self, handler: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> dict[str, str]:
        del headers["Authorization"]
        request = AWSRequest(handler.command, self.endpoint_url + handler.path, headers, body)
        keys = self.server.keys
        S3SigV4Auth(Credentials(keys.access, keys.secret), "s3", REGION).add_auth(request)
        return dict(request.headers.items())

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _OWN_HEADERS:
                handler.send_header(name, value)
        length = headers.get("Content-Length", len(body)) if handler.command == "HEAD" else len(body)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
