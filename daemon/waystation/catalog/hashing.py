"""Reading an object once, only to know its sha256: what `missing_checksum = "pin-first"` rests on."""

from __future__ import annotations

from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

from waystation.model import Digest
from waystation.origin.reading import read_whole

if TYPE_CHECKING:
    from waystation.origin.interface import Origin
    from waystation.telemetry.metrics import Metrics


async def digest_of(origin: Origin, key: str, *, etag: str, size_bytes: int, metrics: Metrics) -> Digest:
    """Read one revision whole, in a worker thread, and hash it; nothing is stored.

    Raises:
        RevisionChanged: the key now holds another revision.
        OriginError: it could not be read to its end.
    """
    whole = sha256()

    def take(data: memoryview) -> None:
        started = perf_counter()
        whole.update(data)
        metrics.verify_seconds.labels("catalog").inc(perf_counter() - started)
        metrics.verified_bytes.labels("catalog").inc(len(data))
        metrics.origin_bytes.inc(len(data))

    await read_whole(origin, key, etag=etag, size_bytes=size_bytes, take=take)
    return Digest(whole.hexdigest())
