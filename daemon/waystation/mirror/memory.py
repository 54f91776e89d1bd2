"""Small blobs answered from memory: a few MiB of verified bytes by digest, the least recently used dropped first."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.model import Digest

MAX_BLOB_BYTES = 64 * 1024
LIMIT_BYTES = 4 * 1024 * 1024
TRUSTED_S = 30.0
"""How long a blob is answered from here before one request goes to the store again, which so learns that it is used."""


@dataclass(frozen=True, slots=True)
class _Kept:
    data: bytes
    until: float


class SmallBlobs:
    """What it holds was hashed when it came in; the owner drops what the store no longer has."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit_bytes = limit_bytes
        self._monotonic = monotonic
        self._kept: OrderedDict[Digest, _Kept] = OrderedDict()
        self._held_bytes = 0

    def get(self, digest: Digest) -> bytes | None:
        """Return a blob's bytes, or None where the store is to be asked."""
        kept = self._kept.get(digest)
        if kept is None:
            return None
        if kept.until < self._monotonic():
            self.drop(digest)
            return None
        self._kept.move_to_end(digest)
        return kept.data

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep verified bytes of at most `MAX_BLOB_BYTES`."""
        self.drop(digest)
        self._kept[digest] = _Kept(data, self._monotonic() + TRUSTED_S)
        self._held_bytes += len(data)
        while self._held_bytes > self._limit_bytes:
            self.drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._held_bytes = 0

    def drop(self, digest: Digest) -> None:
        """Forget a blob; it may be unknown."""
        if kept := self._kept.pop(digest, None):
            self._held_bytes -= len(kept.data)
