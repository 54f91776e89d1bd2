"""Piece files that the catalog has just read, until the flight that wants them next: it need not ask again."""

from __future__ import annotations

from collections import OrderedDict

LIMIT_BYTES = 1024 * 1024


class JustRead:
    """A few small bodies by key, the oldest dropped first. None is believed: whoever takes one checks it."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    def put(self, key: str, body: bytes) -> None:
        """Keep what the origin has there now."""
        self.take(key)
        self._bodies[key] = body
        self._held_bytes += len(body)
        while self._held_bytes > self._limit_bytes:
            self.take(next(iter(self._bodies)))

    def take(self, key: str) -> bytes | None:
        """Give it, and keep it no longer: what it is for is in the store from then on."""
        body = self._bodies.pop(key, None)
        if body is not None:
            self._held_bytes -= len(body)
        return body
