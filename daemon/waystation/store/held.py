"""What the index accounts for: a blob that is held, and what is leaving the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from waystation.model import Digest

Place = Literal["blob", "spool"]
Trust = Literal["trusted", "suspect", "distrusted"]


@dataclass(slots=True)
class Held:
    """One blob in the store."""

    digest: Digest
    size_bytes: int
    pieces_bytes: int
    """The length of the ``.pieces`` file beside it; 0: there is none."""
    used_ns: int
    """Last use, in nanoseconds since the epoch, but never going backward; the order of eviction."""
    verified_ns: int
    """When its bytes were last checked whole; 0: nobody knows."""
    trust: Trust = "trusted"
    leases: int = 0
    size_confirmed: bool = False
    """Whether its size was compared with what its ``.pieces`` file says."""
    fd: int | None = None
    """Open while it is leased, shared by its leases."""

    @property
    def total_bytes(self) -> int:
        return self.size_bytes + self.pieces_bytes


@dataclass(frozen=True, slots=True)
class Leaving:
    """A blob or spool to be taken off the disk; where `strange` says why, it is set aside instead of removed."""

    place: Place
    digest: Digest
    total_bytes: int
    strange: str | None = None
