"""TLS between a socket and its connection: the handshake, then a client's bytes, opened and sealed in memory.

asyncio's own TLS sets 256 KiB aside for every client, and waits for half a minute for its goodbye. Here nothing is kept
but what the socket has not taken yet, and a connection ends as one without TLS does: what a cut-off body ends with is
no goodbye (RFC 8446 §6.1), so that no client takes it for a whole one.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waystation.errors import PlainHttp
from waystation.mirror.answers import reply_head
from waystation.mirror.replies import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

OK = "ok"
_OPENED_BYTES = 64 * 1024
"""So much is opened at once; a record has at most 16 KiB."""
_SEALED_BYTES = 64 * 1024
"""So much is sealed at once: OpenSSL keeps the room that it once took for it as long as the connection lives."""
_OLD = frozenset({"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_SHARED_CIPHER", "NO_PROTOCOLS_AVAILABLE"})


@dataclass(frozen=True, slots=True)
class Handshake:
    """How one ended."""

    outcome: str
    """A bounded label; ``ok``: the client speaks TLS now."""
    detail: str = ""
    advice: str = ""


LEFT = Handshake("client_gone", "the client left before the TLS handshake was over")
UNFINISHED = Handshake(
    "unfinished",
    "the client did not finish the TLS handshake in time",
    "Look at the client; where it is that slow, raise [mirror] header_timeout.",
)
PLAIN = Handshake(PlainHttp.reason, "plain HTTP came to a port that speaks TLS", PlainHttp.advice)
TOO_OLD = Handshake(
    "unsupported",
    "the client knows no version or cipher of TLS that is spoken here",
    "Give it TLS 1.2 or 1.3: what is older is broken.",
)
MALFORMED = Handshake("malformed", "what came is no TLS handshake", "Look at what connects from there.")


def told_by(error: ssl.SSLError) -> Handshake:
    """Say in words what OpenSSL found."""
    reason = error.reason or ""
    if reason == "HTTP_REQUEST":
        return PLAIN
    if reason in _OLD:
        return TOO_OLD
    if "_ALERT_" in reason:
        alert = reason.partition("_ALERT_")[2].lower().replace("_", " ")
        return Handshake(
            "refused_by_client",
            f"the client ended the TLS handshake: {alert}",
            "Does it trust who signed [mirror] tls_cert, and call the mirror by a name of it? Ask `waystation doctor`.",
        )
    return MALFORMED


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """To the socket's transport a protocol, to the connection a transport; the connection begins before the handshake.

    So its limits hold for the handshake too. `shaken` is called once, however the handshake ends.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connection: asyncio.Protocol,
        *,
        shaken: Callable[[str, Handshake], None],
    ) -> None:
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._connection = connection
        self._shaken = shaken
        self._peer = ""
        self._handshake: Handshake | None = None
        """None: it still runs."""

    # --- asyncio's calls, from the socket's side ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"not a stream: {transport!r}")
        self._raw = transport
        host, port = (transport.get_extra_info("peername") or ("gone", 0))[:2]
        self._peer = f"{host}:{port}"
        self._connection.connection_made(self)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._handshake is None:
            self._shake_hands()
        if self._is_up:
            self._open()

    def eof_received(self) -> None:
        """Without a goodbye: the client is gone all the same, and the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake is None:
            self._end_handshake(LEFT)
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    # --- for the connection --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left[:_SEALED_BYTES]) :]
            self._flush()

    def close(self) -> None:
        """Say goodbye behind what was written, and wait for none."""
        if self._raw.is_closing():
            return
        if self._is_up:
            self._say_goodbye()
            self._raw.close()
        else:
            self._end_handshake(UNFINISHED)
            self._raw.abort()

    def abort(self) -> None:
        """End without a goodbye."""
        if self._handshake is None:
            self._end_handshake(UNFINISHED)
        self._raw.abort()

    def can_write_eof(self) -> bool:
        return self._is_up

    def write_eof(self) -> None:
        self._say_goodbye()
        self._raw.write_eof()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    # --- within --------------------------------------------------------------------------------

    @property
    def _is_up(self) -> bool:
        return self._handshake is not None and self._handshake.outcome == OK

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            told = told_by(error)
            self._end_handshake(told)
            if told is PLAIN:
                reply = refusal(PlainHttp(PLAIN.detail))
                self._raw.write(reply_head(reply, keep_alive=False) + reply.body)
            else:
                self._flush()  # the alert that says why
            self._raw.close()
        else:
            self._flush()
            self._end_handshake(Handshake(OK))

    def _end_handshake(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._shaken(self._peer, handshake)

    def _open(self) -> None:
        """Hand on what a client's records hold, and answer what is TLS' own among them."""
        while not self._raw.is_closing():
            try:
                data = self._tls.read(_OPENED_BYTES)
            except ssl.SSLWantReadError:
                self._flush()
                return
            except ssl.SSLError:  # a record that is none, or what is left of a client that said goodbye
                self._raw.abort()
                return
            if not data:
                self.close()
                return
            self._connection.data_received(data)

    def _say_goodbye(self) -> None:
        with suppress(ssl.SSLError):  # its own goodbye is not here yet
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())
