"""The way that a request has come through hubs, in its Via header (RFC 9110 §7.6.3): nobody asks in a circle.

What a request makes a daemon ask carries the request's own way, and this daemon's mark behind it.
"""

from __future__ import annotations

import secrets
from contextvars import ContextVar

from waystation.errors import OriginLoop

HEADER = "Via"
MOST_HOPS = 8
"""Daemons that one request may pass; a fleet needs two or three."""

_SIGN = "waystation-"
_way: ContextVar[str] = ContextVar("way", default="")
"""Of the request that is being answered; what is begun for it inherits it."""


class Hops:
    """One daemon's place in such a way."""

    def __init__(self, mark: str | None = None) -> None:
        self._mark = f"{_SIGN}{mark or secrets.token_hex(6)}"

    def arrive(self, via: str) -> None:
        """Take note of the way of a request that has arrived; empty: it came straight from a client.

        Raises:
            OriginLoop: it was here before, or has come through too many.
        """
        marks = [mark for mark in via.replace(",", " ").split() if mark.startswith(_SIGN)]
        _way.set(", ".join(f"1.1 {mark}" for mark in marks[:MOST_HOPS]))
        if self._mark in marks:
            raise OriginLoop("this request came back to where it has passed already")
        if len(marks) >= MOST_HOPS:
            raise OriginLoop(f"this request has passed {len(marks)} daemons, at most {MOST_HOPS} may be on the way")

    def onward(self) -> dict[str, str]:
        """Give the header of what is asked now."""
        way = _way.get()
        return {HEADER: f"{way}, 1.1 {self._mark}" if way else f"1.1 {self._mark}"}
