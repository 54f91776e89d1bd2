"""Sending a body: headers once the first bytes may leave, then each run by sendfile as it is released."""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from typing import TYPE_CHECKING

from waystation.errors import RottenBlob
from waystation.mirror.answers import representation_head
from waystation.mirror.connection import ClientGone
from waystation.model import Span

if TYPE_CHECKING:
    from waystation.mirror.answers import Representation
    from waystation.mirror.ranges import Choice
    from waystation.mirror.turn import Turn
    from waystation.transfer.interface import Body


async def send_body(body: Body, shown: Representation, choice: Choice, turn: Turn) -> None:
    """Send the head, then the chosen span of the body, as its runs are released.

    Nothing is sent before the first run is there, so that until then an error can still be a reply.

    Raises:
        OriginError, TransferError, StoreError: as `Body.runs` says; behind the first byte the caller must cut off.
        RottenBlob: the file no longer has what was released from it.
        ClientGone: nobody is there to read it.
    """
    connection, exchange = turn.connection, turn.exchange
    acked_bytes = connection.acked_bytes()
    try:
        await _send_runs(body, shown, choice, turn)
    except (ClientGone, asyncio.CancelledError):
        # A sendfile that is broken off doesn't tell how far it came; what TLS and headers add is none of the body.
        taken_bytes = min(connection.acked_bytes() - acked_bytes, len(choice.span))
        exchange.sent_bytes = max(exchange.sent_bytes, taken_bytes)
        raise


async def _send_runs(body: Body, shown: Representation, choice: Choice, turn: Turn) -> None:
    connection, exchange = turn.connection, turn.exchange
    async for run in body.runs(choice.span):
        connection.cork()
        if not exchange.has_begun:
            turn.begin(choice.code, representation_head(shown, choice, keep_alive=turn.keep_alive))
        try:
            sent_bytes = await connection.send_file(body.fd, run)
        except OSError as error:
            raise _unreadable(error) from error
        connection.uncork()
        exchange.sent_bytes += sent_bytes
        if sent_bytes < len(run):
            raise RottenBlob(f"the stored file ends at byte {run.start + sent_bytes}, inside what was released")


async def read_small(body: Body) -> bytes:
    """Wait for the whole of a small artifact and read it, to be answered with and kept.

    Raises:
        OriginError, TransferError, StoreError: as `Body.runs` says.
        RottenBlob: the disk no longer has what was stored.
    """
    artifact = body.artifact
    parts: list[bytes] = []
    async for run in body.runs(Span(0, artifact.size_bytes)):
        try:
            parts.append(await asyncio.to_thread(os.pread, body.fd, len(run), run.start))
        except OSError as error:
            raise _unreadable(error) from error
    data = b"".join(parts)
    if sha256(data).hexdigest() != artifact.digest:
        raise RottenBlob(f"the stored blob of {artifact.target} is not what was stored")
    return data


def _unreadable(error: OSError) -> RottenBlob:
    return RottenBlob(f"the stored file can't be read: {error.strerror}")
