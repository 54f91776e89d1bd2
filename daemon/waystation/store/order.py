"""Which blob was verified longest ago: suspects first, then by time; pure, and quick among 100,000 of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from waystation.model import Digest

_Entry = tuple[bool, int, "Digest"]


_OUTDATED = 1000
"""A heap may always hold that many entries that no longer count."""


@dataclass(slots=True)
class VerificationOrder:
    """A heap of what is current; entries that are no longer are dropped when they come up, or become the most."""

    _current: dict[Digest, _Entry] = field(default_factory=dict)
    _heap: list[_Entry] = field(default_factory=list)

    def fill(self, blobs: Iterable[tuple[Digest, int, bool]]) -> None:
        """Begin anew with these: digest, when it was verified (nanoseconds since the epoch), whether it is suspect."""
        self._current = {digest: (not suspect, verified_ns, digest) for digest, verified_ns, suspect in blobs}
        self._drop_outdated()

    def put(self, digest: Digest, verified_ns: int, *, suspect: bool) -> None:
        """Take one in, or move it to where it belongs now."""
        entry = self._current[digest] = (not suspect, verified_ns, digest)
        heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._current) + _OUTDATED:
            self._drop_outdated()

    def remove(self, digest: Digest) -> None:
        self._current.pop(digest, None)

    def first(self) -> Digest | None:
        """The one to be verified next."""
        while self._heap and self._current.get(self._heap[0][2]) is not self._heap[0]:
            heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def _drop_outdated(self) -> None:
        self._heap = list(self._current.values())
        heapify(self._heap)
