"""Bulk bytes over HTTP for worker threads: a read is exactly one ranged GET on one revision, checked before its body.

Redirects are never followed. What is read of an answer's head, and for how long, is bounded (`http_pace.py`).
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from waystation.errors import OriginError, RevisionChanged, Short, Unreachable
from waystation.origin.http_answers import REASON_HEADER, Refusal, error_of
from waystation.origin.http_pace import PacedResponse, TooSlow
from waystation.origin.http_revisions import conditions, revision_of
from waystation.origin.tls import TLS_ADVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from waystation.model import Span
    from waystation.origin.interface import Reader

MAX_IDLE_CONNECTIONS = 16
MAX_ERROR_BODY_BYTES = 8 * 1024
RANGES_ADVICE = "The server of [origin] url must answer Range requests, as S3, nginx and Caddy do."


class HttpSource:
    """One URL and one of its revisions; `if_match` None takes the one that answers first.

    An answer must begin within `patience_s` (by default the stall timeout). Connections are kept and used again, one
    reader each at a time. Thread-safe.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str,
        if_match: str | None,
        connect_timeout_s: float,
        stall_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        patience_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        self.key = key
        self._revision = if_match
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._patience_s = patience_s or stall_timeout_s
        self._headers = dict(headers or {})
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: dict[http.client.HTTPConnection, socket.socket | None] = {}
        self.closed = False

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        if not len(span):
            yield _NoBytes()
            return
        connection, its_socket, response = self._open(span)
        reader = _BodyReader(self, its_socket, response, len(span))
        try:
            yield reader
        finally:
            reader.finish()
            self._give_back(connection, reusable=reader.complete)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            for busy in self._busy.values():
                if busy:
                    _shut_down(busy)
        for connection in idle:
            connection.close()

    def silence(self, error: TimeoutError, waited_s: float | None = None) -> Unreachable:
        if isinstance(error, TooSlow):
            return Unreachable(f"the origin sends '{self.key}' too slowly: {error}")
        return Unreachable(f"the origin sent no byte of '{self.key}' for {waited_s or self._stall_timeout_s:g} s")

    # --- connections ---------------------------------------------------------------------------

    def _open(self, span: Span) -> tuple[http.client.HTTPConnection, socket.socket, PacedResponse]:
        """Ask for the span, and once more where a connection used again proves to be closed by the origin."""
        while True:
            connection, its_socket, used_again = self._take()
            try:
                its_socket.settimeout(self._patience_s)
                response = self._ask(connection, span)
                response.expect_body(stall_timeout_s=self._stall_timeout_s)
            except BaseException as error:
                self._give_back(connection, reusable=False)
                if not used_again or self.closed or not isinstance(error.__cause__, ConnectionError):
                    raise
            else:
                return connection, its_socket, response

    def _take(self) -> tuple[http.client.HTTPConnection, socket.socket, bool]:
        """An idle connection that seems alive, else a new one; with its socket, and whether it is used again."""
        while True:
            with self._lock:
                if self.closed:
                    raise Unreachable(f"the source of '{self.key}' is closed")
                connection = self._idle.pop() if self._idle else self._new_connection()
                # http.client forgets the socket of an answer that ends its connection; aborting needs it
                its_socket = self._busy[connection] = connection.sock
            if its_socket is None:
                return connection, self._connect(connection), False
            if _is_quiet(its_socket):
                return connection, its_socket, True
            self._give_back(connection, reusable=False)

    def _new_connection(self) -> http.client.HTTPConnection:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=self._connect_timeout_s, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(self._host, self._port, timeout=self._connect_timeout_s)
        )
        connection.response_class = partial(PacedResponse, patience_s=self._patience_s)  # type: ignore[assignment]
        return connection

    def _connect(self, connection: http.client.HTTPConnection) -> socket.socket:
        try:
            connection.connect()
        except OSError as error:
            self._give_back(connection, reusable=False)
            raise self._no_connection(error) from error
        its_socket: socket.socket = connection.sock
        with self._lock:
            self._busy[connection] = its_socket
            if self.closed:
                _shut_down(its_socket)
        return its_socket

    def _no_connection(self, error: OSError) -> Unreachable:
        where = f"{self._host}:{self._port}" if self._port else self._host
        if isinstance(error, ssl.SSLError):
            return Unreachable(f"no trusted connection to {where}: {error.reason or 'TLS failed'}", advice=TLS_ADVICE)
        if isinstance(error, TimeoutError):
            return Unreachable(f"no connection to {where} within {self._connect_timeout_s:g} s")
        return Unreachable(f"no connection to {where}: {error.strerror or type(error).__name__}")

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        with self._lock:
            self._busy.pop(connection, None)
            if reusable and not self.closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    # --- one request ---------------------------------------------------------------------------

    def _ask(self, connection: http.client.HTTPConnection, span: Span) -> PacedResponse:
        headers = {**self._headers, "Range": f"bytes={span.start}-{span.stop - 1}"}
        if self._revision is not None:
            headers |= conditions(self._revision)
        try:
            connection.request("GET", self._target, headers=headers)
            response: PacedResponse = connection.getresponse()  # type: ignore[assignment]  # as set above
            try:
                self._check(response, span)
            except BaseException:
                response.close()
                raise
        except (OSError, http.client.HTTPException) as error:
            if self.closed:
                raise Unreachable(f"asking for '{self.key}' was given up") from error
            if isinstance(error, TimeoutError):
                raise self.silence(error, self._patience_s) from error
            raise Unreachable(f"the connection broke while asking for '{self.key}': {type(error).__name__}") from error
        return response

    def _check(self, response: http.client.HTTPResponse, span: Span) -> None:
        """Make sure that the body that follows is exactly the span, of the right revision."""
        if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise self._refused(response)
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise Short(f"the origin encoded '{self.key}', although it was asked not to")
        ignored = response.status == HTTPStatus.OK and (span.start > 0 or (response.length or 0) > len(span))
        if ignored:
            words = f"the origin ignored the range {span.start}..{span.stop} of '{self.key}'"
            raise Short(words, advice=RANGES_ADVICE)
        if response.length != len(span):
            raise Short(f"the origin announced {response.length} bytes of '{self.key}', expected {len(span)}")
        part, _, whole = response.getheader("Content-Range", "").partition("/")
        if response.status == HTTPStatus.OK:
            whole = str(len(span))
        elif part != f"bytes {span.start}-{span.stop - 1}":
            raise Short(f"the origin answered with another range of '{self.key}' than {span.start}..{span.stop}")
        self._check_revision(
            revision_of(
                etag=response.getheader("ETag"),
                last_modified=response.getheader("Last-Modified"),
                size_bytes=int(whole) if whole.isdecimal() else None,
            )
        )

    def _check_revision(self, revision: str) -> None:
        with self._lock:
            if self._revision is None:
                self._revision = revision
            expected = self._revision
        if revision != expected:
            raise RevisionChanged(f"'{self.key}' was replaced in the origin")

    def _refused(self, response: http.client.HTTPResponse) -> OriginError:
        return error_of(
            self.key,
            Refusal(
                response.status,
                response.read(MAX_ERROR_BODY_BYTES),
                reason=response.getheader(REASON_HEADER),
                retry_after=response.getheader("Retry-After"),
                location=response.getheader("Location"),
                path=self._target.partition("?")[0],
            ),
        )


class _BodyReader:
    """The body of one answer."""

    def __init__(
        self, source: HttpSource, its_socket: socket.socket, response: http.client.HTTPResponse, size_bytes: int
    ) -> None:
        self._source = source
        self._socket = its_socket
        self._response = response
        self._left_bytes = size_bytes
        self._lock = threading.Lock()
        self._aborted = False
        self._finished = False

    @property
    def complete(self) -> bool:
        """All of it was read, and the connection may carry another request."""
        return not self._left_bytes and not self._aborted and not self._response.will_close

    def readinto(self, buffer: memoryview) -> int:
        wanted = min(len(buffer), self._left_bytes)
        if not wanted:
            return 0
        if self._aborted:
            raise self._broken()
        try:
            count = self._response.readinto(buffer[:wanted])
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        self._left_bytes -= count
        if count < wanted:
            raise self._broken()
        return count

    def abort(self) -> None:
        # A socket that is shut down ends a blocked read as if the origin had closed it: that the
        # length is short tells. Under the lock, so that nobody else's socket has its number by then.
        with self._lock:
            self._aborted = True
            if not self._finished:
                _shut_down(self._socket)

    def finish(self) -> None:
        """From now on `abort` leaves the connection alone."""
        with self._lock:
            self._finished = True
        if self._left_bytes:
            self._response.close()

    def _broken(self, error: Exception | None = None) -> OriginError:
        key = self._source.key
        if self._aborted or self._source.closed:
            return Unreachable(f"reading '{key}' was given up")
        if isinstance(error, TimeoutError):
            return self._source.silence(error)
        return Short(f"the connection broke with {self._left_bytes} bytes of '{key}' still to come")


class _NoBytes:
    """What an empty span is answered with."""

    def readinto(self, buffer: memoryview) -> int:  # noqa: ARG002 - there is nothing to put into it
        return 0

    def abort(self) -> None:
        """Nothing ever blocks here."""


def _is_quiet(connected: socket.socket) -> bool:
    """Whether nothing arrived on an idle connection: whatever did, also its end, makes it unusable."""
    waiting = select.poll()
    waiting.register(connected, select.POLLIN)
    return not waiting.poll(0)


def _shut_down(connected: socket.socket) -> None:
    """End what blocks on the socket, in whichever thread.

    The plain socket's own shutdown, also under TLS: `SSLSocket.shutdown` would drop the TLS state, and the
    reading thread would take what is still queued for plain text.
    """
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
