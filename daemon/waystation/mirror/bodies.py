"""Sending a body: headers once the first bytes may leave, then each run by sendfile as it is released."""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from typing import TYPE_CHECKING

from waystation.errors import DigestMismatch
from waystation.mirror.memory import MAX_BLOB_BYTES
from waystation.model import CacheResult

if TYPE_CHECKING:
    from waystation.mirror.ranges import Choice
    from waystation.mirror.turn import Turn
    from waystation.model import Artifact
    from waystation.transfer.interface import Body

_DISK_ADVICE = "The store's disk has changed the bytes: check the disk, and evict the blob."


async def send_body(body: Body, choice: Choice, head: bytes, turn: Turn) -> None:
    """Send `head`, then the chosen span of the body, as its runs are released.

    Nothing is sent before the first run is there, so that until then an error can still be a reply.

    Raises:
        OriginError, TransferError, StoreError: as `Body.runs` says; behind the first byte the caller must cut off.
        ClientGone: nobody is there to read it.
    """
    connection, exchange = turn.connection, turn.exchange
    async for run in body.runs(choice.span):
        connection.cork()
        if not exchange.has_begun:
            turn.begin(choice.code, head)
        sent_bytes = await connection.send_file(body.fd, run)
        connection.uncork()
        exchange.sent_bytes += sent_bytes
        if sent_bytes < len(run):
            raise DigestMismatch(
                f"the stored file ends at byte {run.start + sent_bytes}, inside what was released", advice=_DISK_ADVICE
            )
    if not exchange.has_begun:  # an empty artifact: nothing was waited for
        turn.begin(choice.code, head)


async def read_small(body: Body, artifact: Artifact) -> bytes | None:
    """Read a small blob that is here whole, to be kept in memory; None where it is not one.

    Raises:
        DigestMismatch: the disk no longer has what was stored.
    """
    if body.cache is not CacheResult.HIT or not 0 < artifact.size_bytes <= MAX_BLOB_BYTES:
        return None
    data = await asyncio.to_thread(_read_verified, body.fd, artifact)
    if data is None:
        raise DigestMismatch(
            f"the stored blob of {artifact.target} is no longer what was stored",
            advice=_DISK_ADVICE,
        )
    return data


def _read_verified(fd: int, artifact: Artifact) -> bytes | None:
    data = os.pread(fd, artifact.size_bytes, 0)
    return data if sha256(data).hexdigest() == artifact.digest else None
