"""Sending a body: headers once the first bytes may leave, then each run by sendfile as it is released."""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from typing import TYPE_CHECKING

from waystation.errors import DigestMismatch
from waystation.mirror.answers import representation_head
from waystation.model import Span

if TYPE_CHECKING:
    from waystation.mirror.answers import Representation
    from waystation.mirror.ranges import Choice
    from waystation.mirror.turn import Turn
    from waystation.transfer.interface import Body

_DISK_ADVICE = "The store's disk has changed the bytes: check the disk, and evict the blob."


async def send_body(body: Body, shown: Representation, choice: Choice, turn: Turn) -> None:
    """Send the head, then the chosen span of the body, as its runs are released.

    Nothing is sent before the first run is there, so that until then an error can still be a reply.

    Raises:
        OriginError, TransferError, StoreError: as `Body.runs` says; behind the first byte the caller must cut off.
        ClientGone: nobody is there to read it.
    """
    connection, exchange = turn.connection, turn.exchange
    async for run in body.runs(choice.span):
        connection.cork()
        if not exchange.has_begun:
            turn.begin(choice.code, representation_head(shown, choice, keep_alive=turn.keep_alive))
        sent_bytes = await connection.send_file(body.fd, run)
        connection.uncork()
        exchange.sent_bytes += sent_bytes
        if sent_bytes < len(run):
            raise DigestMismatch(
                f"the stored file ends at byte {run.start + sent_bytes}, inside what was released", advice=_DISK_ADVICE
            )


async def read_small(body: Body) -> bytes:
    """Wait for the whole of a small artifact and read it, to be answered with and kept.

    Raises:
        OriginError, TransferError, StoreError: as `Body.runs` says.
        DigestMismatch: the disk no longer has what was stored.
    """
    artifact = body.artifact
    async for _ in body.runs(Span(0, artifact.size_bytes)):
        pass
    data = await asyncio.to_thread(os.pread, body.fd, artifact.size_bytes, 0) if artifact.size_bytes else b""
    if sha256(data).hexdigest() != artifact.digest:
        raise DigestMismatch(f"the stored blob of {artifact.target} is not what was stored", advice=_DISK_ADVICE)
    return data
