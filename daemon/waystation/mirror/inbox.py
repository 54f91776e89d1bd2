"""What a client has sent, cut into heads; holds no more than it must to decide about the next one."""

from __future__ import annotations

from waystation.errors import HeaderTooLarge, MalformedRequest
from waystation.mirror.heads import END

_BLANK = b"\r\n"
_TLS = 22
"""The first byte of a handshake (RFC 8446 §5.1)."""


class Inbox:
    """Bytes in, whole heads out, in order."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = b""
        self._searched = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a next request is here."""
        return not self._data

    @property
    def is_full(self) -> bool:
        """Whether more than any single head waits here."""
        return len(self._data) > self._limit_bytes

    def feed(self, data: bytes) -> None:
        """Put what came behind what is here."""
        self._data = self._data + data if self._data else data

    def take(self) -> bytes | None:
        """Take the next head out, its ending included; None while it is not whole.

        Raises:
            MalformedRequest: what came is not HTTP.
            HeaderTooLarge: the head is longer than allowed.
        """
        data = self._data
        if not data:
            return None
        if data.startswith(_BLANK):  # RFC 9112 §2.2: empty lines before a request are ignored
            data = self._data = _without_blank_lines(data)
            self._searched = 0
        if data and not data[:1].isalpha() and data != b"\r":
            raise MalformedRequest(
                "TLS came, and this port speaks HTTP" if data[0] == _TLS else "what came is not HTTP"
            )
        end = data.find(END, self._searched) + len(END)
        if end < len(END):
            if self.is_full:
                raise HeaderTooLarge(f"the headers are longer than {self._limit_bytes} bytes")
            self._searched = max(0, len(data) - len(END) + 1)
            return None
        if end > self._limit_bytes:
            raise HeaderTooLarge(f"the headers are longer than {self._limit_bytes} bytes")
        self._data = data[end:]
        self._searched = 0
        return data[:end]


def _without_blank_lines(data: bytes) -> bytes:
    at = 0
    while data.startswith(_BLANK, at):
        at += len(_BLANK)
    return data[at:]
